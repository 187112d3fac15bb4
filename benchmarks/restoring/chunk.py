"""One chunk is lost: `python -m benchmarks.restore chunk SOURCE --variable V`.

Random chunks of random late states arrive damaged. Each is found by an update, estimated once, and
served. Beside it stand simpler systems with the same captures.
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
        "chunk", description=__doc__, help="one chunk is lost"
    )
    add_options(parser, 20)
    parser.add_argument("--chunk", type=int, nargs="+", help="cells of a chunk on each axis")
    return parser


def run(options: argparse.Namespace) -> None:
    """Run the trials and print a table or JSON."""
    values = open_record(options.source, options.variable)[options.variable].values
    shape = values.shape[1:]
    chunk = options.chunk or [max(1, -(-size // 4)) for size in shape]
    rng = np.random.default_rng(20240229)
    first = max(3, int(options.first * len(values)), options.captures or 0)
    steps = np.sort(rng.integers(first, len(values), options.trials))

    def place(step: int) -> tuple[slice, ...]:
        """Return a chunk of which half has values."""
        for _ in range(1000):
            corner = [
                c * int(rng.integers(0, -(-n // c))) for n, c in zip(shape, chunk, strict=True)
            ]
            hole = tuple(
                slice(a, min(n, a + c)) for a, n, c in zip(corner, shape, chunk, strict=True)
            )
            if np.isfinite(values[step][hole]).mean() >= 0.5:
                return hole
        raise SystemExit("every chunk is nearly empty; give another --chunk")

    losses = measure(options, chunk, ((int(step), place(int(step))) for step in steps))
    show(summarise(losses, options.trials) | peak_memory(), as_json=options.json)
