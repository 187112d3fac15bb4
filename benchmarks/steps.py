"""What an update costs beside the number of steps that a source has: python benchmarks/steps.py.

A Zarr source with minutely steps of a few cells is generated for each count, of which a few
hundred are captured.  Updates that find nothing new, and updates that find one new step, are timed
in turn over all counts, so that the ratios are of one moment.
"""

import argparse
import json
import tempfile
import warnings
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import xarray as xr

import gnomon

CAPTURED = 300


def generate(path: Path, count: int) -> None:
    """Write minutely steps of four cells, 20,000 to a chunk."""
    values = np.random.default_rng(0).random((count, 4)).astype("f4")
    dataset = xr.Dataset(
        {"t": (("time", "y"), values, {"units": "K"})},
        coords={"time": ("time", np.arange(count), {"units": "minutes since 2020-01-01"})},
    )
    chunks = {"time": {"chunks": (count,)}, "t": {"chunks": (min(count, 20_000), 4)}}
    dataset.to_zarr(path, mode="w", encoding=chunks)


def until(steps: int) -> str:
    """Return the time of a step."""
    return str(np.datetime64("2020-01-01T00:00") + np.timedelta64(steps, "m"))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, nargs="+", default=[1_000, 40_000, 400_000])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    times: dict[str, dict[int, list[float]]] = {
        action: {n: [] for n in options.steps} for action in ("nothing new", "one new step")
    }
    with tempfile.TemporaryDirectory() as folder:
        repositories = {}
        for count in options.steps:
            source = Path(folder, f"{count}.zarr")
            generate(source, count)
            repositories[count] = gnomon.create(str(Path(folder, f"{count}.gnomon")), str(source))
            repositories[count].backfill(until(CAPTURED - 1))
        for k in range(options.rounds):
            for count, repository in repositories.items():
                for action, last in (
                    ("nothing new", CAPTURED + k - 1),
                    ("one new step", CAPTURED + k),
                ):
                    start = perf_counter()
                    report = repository.update(until=until(last))
                    times[action][count].append(perf_counter() - start)
                    assert len(report.captured) == (action == "one new step")
    first = options.steps[0]
    figures = {
        action: {
            n: {"seconds": median(t), "ratio": median(t) / median(by[first])} for n, t in by.items()
        }
        for action, by in times.items()
    }
    if options.json:
        print(json.dumps(figures))
        return
    print("steps in the source  " + "".join(f"{n:>12,}" for n in options.steps))
    for action, by in figures.items():
        told = "".join(f"{v['seconds']:7.2f} x{v['ratio']:<4.1f}" for v in by.values())
        print(f"{action:20} {told}")


if __name__ == "__main__":
    main()
