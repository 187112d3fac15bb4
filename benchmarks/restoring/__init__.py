"""What restores are worth, each question a module with `add_parser` and `run`."""

from benchmarks.restoring import gap

__all__ = ["gap"]
