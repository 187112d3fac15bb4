"""Times after the last capture: how well a state is estimated there, and how wide the error bar is.

The captures up to several times of a record are taken, in a repository each, with the shadow that
an update makes of them. It is asked for states so many captures later, within the leads and beyond
them, which the rest of the record tells. All of it goes through the public API.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

import gnomon
from benchmarks.restoring.gap import (
    Trial,
    climatology,
    estimate_at,
    load,
    summarise,
    time_of,
)
from gnomon.storage.errors import GnomonError

METHODS = ("last", "climatology", "estimate")


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Return the parser of this part, added to the others."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "beyond", help="estimates after the last capture", description=__doc__
    )
    parser.add_argument(
        "--after", type=int, nargs="+", default=[1, 3, 7, 14, 21], help="captures after the last"
    )
    parser.add_argument("--origins", type=int, default=6, help="last captures (default 6)")
    parser.add_argument("--captures", type=int, help="of history; default: all before")
    return parser


def run(options: argparse.Namespace) -> None:
    """Ask for the states, and print a table or JSON."""
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
    data = load(options.source, options.variable)
    first = options.captures or data.time.size // 3
    most = data.time.size - 1 - max(options.after)
    if first > most:
        raise SystemExit(f"{data.time.size} captures are too few; give another --after")
    trials: dict[int, list[Trial]] = {after: [] for after in options.after}
    for number, last in enumerate(sorted({*np.linspace(first, most, options.origins, dtype=int)})):
        start = max(0, int(last) - options.captures + 1) if options.captures else 0
        with tempfile.TemporaryDirectory() as folder:
            source, place = Path(folder) / "source.zarr", str(Path(folder) / "repository")
            kept = np.arange(start, last + 1)
            data.isel(time=kept).chunk({"time": 1}).to_zarr(source, consolidated=False)
            repository = gnomon.create(place, str(source))
            repository.update()
            values = np.asarray(data[options.variable].values, np.float64)
            for after in options.after:
                slot = int(last) + after
                try:
                    estimate, error = estimate_at(repository, options.variable, time_of(data, slot))
                except GnomonError:  # out of reach: no answer is no error
                    continue
                said = {
                    "last": values[last],
                    "climatology": climatology(data, values, kept, slot),
                    "estimate": estimate,
                }
                trials[after].append(Trial.of(number, said, "estimate", error, values[slot]))
    tables = {a: summarise(t, METHODS, "estimate") for a, t in trials.items() if t}
    if options.json:
        print(json.dumps(tables))
        return
    for after, table in tables.items():
        count = len(trials[after])
        print(f"{after} after the last, {count} of {options.origins} states: RMSE over the last's")
        for name, figures in table.items():
            print(f"  {name:24}" + " ".join(f"{figure:7.3f}" for figure in figures))
