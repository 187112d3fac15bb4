"""Benchmarks of what is restored, each with a parser and a run for ``benchmarks.restore``."""
