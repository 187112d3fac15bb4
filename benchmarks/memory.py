"""A dataset larger than memory: python -m benchmarks.memory SOURCE --variable V [--json].

One state of the variable is repeated until it is `--factor` times as large as the memory that
each command may take.  It is captured, changed and captured again, restored, and all of the
repository is read by a check; every command is a process of its own under that limit (of data, as
the operating system counts it: a process that wants more gets none, and fails).
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import warnings
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from gnomon.storage.values.dtypes import native

MEGABYTE = 2**20


def write_state(path: Path, field: NDArray[Any], nbytes: int, add: int) -> None:
    """Write a field, repeated until it has so many bytes, without holding more than a part."""
    shutil.rmtree(path, ignore_errors=True)
    side = 512
    plane = field.reshape(-1, field.shape[-1]) if field.ndim > 1 else field.reshape(1, -1)
    repeats = [-(-side // n) for n in plane.shape]
    part = np.tile(plane, repeats)[:side, :side]
    count = max(1, round((nbytes / part.nbytes) ** 0.5))
    group = zarr.open_group(path, mode="w")
    array = group.create_array(
        "v",
        shape=(side * count, side * count),
        chunks=(side, side),
        dtype=part.dtype,
        dimension_names=["y", "x"],
    )
    for row in track(range(count), f"state {add}", console=Console(stderr=True)):
        # No two rows of parts are the same, and none is what it was in the state before.
        moved = np.roll(part, row + 7 * add, axis=0)
        array[row * side : (row + 1) * side] = np.tile(moved, (1, count))


def run(limit: int, *arguments: str) -> dict[str, float]:
    """Run a command of Gnomon under a limit of memory; returns its seconds and megabytes."""
    bound = partial(resource.setrlimit, resource.RLIMIT_DATA, (limit, limit))
    # One arena for all threads: an allocator that reserves much and uses little would count.
    environment = os.environ | {"MALLOC_ARENA_MAX": "2", "OPENBLAS_NUM_THREADS": "1"}
    start = perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "gnomon", *arguments],
        preexec_fn=bound,  # noqa: PLW1509  # there are no threads yet
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"gnomon {arguments[0]} failed with exit code {process.returncode}")
    return {"seconds": perf_counter() - start, "peak_mb": usage.ru_maxrss / 1024}


def is_same(first: Path, second: Path) -> bool:
    """Tell whether two stores hold the same bits of the variable."""
    before, after = (zarr.open_array(path / "v", mode="r") for path in (first, second))
    rows = range(0, before.shape[0], 512)
    return before.shape == after.shape and all(
        native(np.asarray(before[r : r + 512])).tobytes()
        == native(np.asarray(after[r : r + 512])).tobytes()
        for r in rows
    )


def measure(field: NDArray[Any], limit_mb: int, factor: float, folder: Path) -> dict[str, Any]:
    """Return what each command took."""
    limit = limit_mb * MEGABYTE
    source, place, target = folder / "source.zarr", folder / "r", folder / "restored.zarr"
    write_state(source, field, int(factor * limit), 0)
    array = zarr.open_array(source / "v", mode="r")
    figures: dict[str, Any] = {"limit_mb": limit_mb, "state_mb": array.nbytes / MEGABYTE}
    figures["init"] = run(limit, "init", str(place), str(source), "--kind", "state")
    figures["first capture"] = run(limit, "update", str(place), "--time", "2000-01-01")
    write_state(source, field, int(factor * limit), 1)
    figures["changed capture"] = run(limit, "update", str(place), "--time", "2000-01-02")
    figures["restore"] = run(
        limit, "restore", str(place), "--at", "2000-01-02", "--to", str(target), "--plain"
    )
    figures["check --read-data"] = run(limit, "check", str(place), "--read-data")
    figures["restored as it was"] = is_same(source, target)
    return figures


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source")
    parser.add_argument("--variable", required=True)
    parser.add_argument("--limit", type=int, default=512, help="megabytes of a process (512)")
    parser.add_argument("--factor", type=float, default=10, help="size of a state in limits (10)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with xr.open_dataset(options.source, decode_cf=False) as dataset:
        array = dataset[options.variable]
        field = native(array[(0,) * max(0, array.ndim - 2)].values)
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        figures = measure(np.atleast_1d(field), options.limit, options.factor, Path(name))
    if options.json:
        print(json.dumps(figures, indent=1))
        return
    print(f"one state of {figures['state_mb']:.0f} MB, processes of {figures['limit_mb']} MB")
    for action, took in figures.items():
        if isinstance(took, dict):
            print(f"{action:20} {took['seconds']:8.1f} s  peak {took['peak_mb']:6.0f} MB")
    print("restored as it was" if figures["restored as it was"] else "RESTORED WRONGLY")


if __name__ == "__main__":
    main()
