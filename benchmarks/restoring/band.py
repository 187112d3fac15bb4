"""A band of a fifth of the cells is lost: `python -m benchmarks.restore band SOURCE --variable V`.

A band of columns of late states arrives damaged, as after an ingest that broke off. It is found by
an update, estimated once, and served. Beside it stand simpler systems with the same captures.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from benchmarks.heal import open_record
from benchmarks.restoring.losing import add_options, measure, peak_memory, show, summarise


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Return the parser of this part, added to the others."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "band", description=__doc__, help="a fifth of the cells is lost"
    )
    add_options(parser, 20)
    parser.add_argument("--parts", type=int, default=5, help="bands of the last axis (5)")
    return parser


def run(options: argparse.Namespace) -> None:
    """Run the trials and print a table or JSON."""
    values = open_record(options.source, options.variable)[options.variable].values
    shape = values.shape[1:]
    width = -(-shape[-1] // options.parts)
    chunk = [*(max(1, -(-size // 4)) for size in shape[:-1]), width]
    rng = np.random.default_rng(20240229)
    first = max(3, int(options.first * len(values)), options.captures or 0)
    steps = np.sort(rng.integers(first, len(values), options.trials))
    # The last band may be narrower: it is no fifth.
    starts = rng.integers(0, shape[-1] // width, options.trials) * width
    whole = tuple(slice(0, size) for size in shape[:-1])
    holes = (
        (int(step), (*whole, slice(int(start), int(start) + width)))
        for step, start in zip(steps, starts, strict=True)
    )
    losses = measure(options, chunk, holes)
    show(summarise(losses, options.trials) | peak_memory(), as_json=options.json)
