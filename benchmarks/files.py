"""A folder of many files as one source: python benchmarks/files.py [FOLDER --variable V].

Without a folder, small NetCDF files of one step each are generated.  All but the last few are
there at init; then updates find nothing new, and then one new file each.  Counted is how often a
file is opened; the same is done with a hundredth of the files, or at least a few.  With --packed
the generated files hold 16-bit integers, each by a scale and an offset of its own.
"""

import argparse
import json
import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import xarray as xr
from rich.console import Console
from rich.progress import track

import gnomon
from gnomon.storage.source.files import agreement as fileagree
from gnomon.storage.source.files import reading as filereading
from gnomon.storage.source.files.listing import list_files

ACTIONS = ("init", "first update", "update, nothing new", "update, one new file")


def generate(folder: Path, count: int, *, packed: bool) -> None:
    """Write hourly fields of 24 x 32 cells with memory in time, one in each file."""
    rng = np.random.default_rng(0)
    state = rng.normal(0, 1, (24, 32))
    for k in track(range(count), "files", console=Console(stderr=True)):
        state = 0.8 * state + rng.normal(0, 0.6, state.shape)
        dataset = xr.Dataset(
            {"t": (("time", "lat", "lon"), 280 + state[None].astype("f4"), {"units": "K"})},
            coords={
                "time": ("time", [k], {"units": "hours since 2024-01-01"}),
                "lat": np.linspace(50, 60, 24),
                "lon": np.linspace(0, 31, 32),
            },
        )
        low, high = float(dataset["t"].min()), float(dataset["t"].max())
        packing = {
            "dtype": "i2",
            "scale_factor": (high - low) / 65000,
            "add_offset": (low + high) / 2,
        }
        encoding = {"t": {**packing, "_FillValue": -32768}} if packed else {}
        dataset.to_netcdf(folder / f"{k:06d}.nc", encoding=encoding)


class Counter:
    """Counts how often files of a source are opened in this process."""

    def __init__(self) -> None:
        self.count = 0
        real = filereading.open_file

        def counted(*arguments: Any) -> xr.Dataset:
            self.count += 1
            return real(*arguments)

        filereading.open_file = counted
        fileagree.open_file = counted


def measure(
    paths: list[Path], variable: str | None, runs: int, folder: Path, counter: Counter
) -> dict[str, Any]:
    """Return seconds and opened files of each action, of which the last two are repeated."""
    archive = folder / f"archive-{len(paths)}"
    archive.mkdir()
    first, later = paths[:-runs], paths[-runs:]
    for path in first:
        os.symlink(path, archive / path.name)
    figures: dict[str, Any] = {name: {"seconds": [], "opened": []} for name in ACTIONS}

    def take[R](action: str, work: Callable[[], R]) -> R:
        counter.count, start = 0, perf_counter()
        result = work()
        figures[action]["seconds"].append(perf_counter() - start)
        figures[action]["opened"].append(counter.count)
        return result

    names = [] if variable is None else [variable]
    place = str(folder / f"repository-{len(paths)}")
    repository = take("init", lambda: gnomon.create(place, str(archive), variables=names))
    take("first update", repository.update)
    for path in later:
        take("update, nothing new", gnomon.open(place).update)
        os.symlink(path, archive / path.name)
        take("update, one new file", gnomon.open(place).update)
    return {"files": len(paths)} | {
        name: {what: median(values) for what, values in taken.items()}
        for name, taken in figures.items()
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", nargs="?", help="a folder of files; none: they are generated")
    parser.add_argument("--variable")
    parser.add_argument("--files", type=int, default=2000, help="files to generate (2000)")
    parser.add_argument("--packed", action="store_true", help="each file in its own way")
    parser.add_argument("--runs", type=int, default=5, help="updates of each kind (5)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    counter = Counter()
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(name)
        source = Path(options.source or folder / "files").absolute()
        if options.source is None:
            source.mkdir()
            generate(source, options.files, packed=options.packed)
        paths = list(list_files(str(source)).values())
        few = paths[: max(4 * options.runs, len(paths) // 100)]
        measure(few[: 2 * options.runs], options.variable, options.runs, folder, counter)  # imports
        measured = [
            measure(part, options.variable, options.runs, folder, counter) for part in (few, paths)
        ]
    if options.json:
        print(json.dumps(measured, indent=1))
        return
    small, large = measured
    print(f"{'':22} {small['files']:>6} files        {large['files']:>6} files        ratio")
    for action in ACTIONS:
        in_small, in_large = small[action], large[action]
        print(
            f"{action:22} {in_small['seconds']:7.2f} s {in_small['opened']:6.0f} opened "
            f"{in_large['seconds']:7.2f} s {in_large['opened']:6.0f} opened "
            f"{in_large['seconds'] / in_small['seconds']:6.1f}"
        )


if __name__ == "__main__":
    main()
