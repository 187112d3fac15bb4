"""The parts of the benchmark of restores, one module each.

A module has `add_parser(subparsers)`, which adds a parser with options of its own and returns it,
and `run(options)`, which measures and prints.  SOURCE, `--variable` and `--json` are added to all.
"""

from benchmarks.restoring import band, beyond, chunk, copy, gap, inplace, renew, simulate

PARTS = (chunk, band, gap, beyond, renew, inplace, copy, simulate)
