"""What an adaptive schedule saves: python -m benchmarks.adaptive SOURCE --variable V [--json].

A dataset that is overwritten in place goes through the states of a record, and is captured at some
of them: at every so many, or whenever the update before has said that the next one is due.  At each
state that is not captured it is lost, and the error is that of what Gnomon would give back for this
time, which is a forecast; where it is captured the error is none.  The mean over all states is held
against that of fixed schedules with as many captures, and their captures at the same mean.
``--grid T Y X`` makes a record of calm and stormy periods instead.
"""

import argparse
import json
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

if not __package__:  # run as a file: the others are beside it
    sys.path[0] = str(Path(__file__).parents[1])

import gnomon
from benchmarks.scale import parsed, recorded
from gnomon.flows.settings import Settings
from gnomon.storage.values.times import chronological
from gnomon.updating import open_to_update

WAVES = 12
CALM, STORM = 60, 30
"""States of a generated record between changes of the weather."""

Rule = Callable[[int, str, dict[str, Any]], bool]
"""Whether to capture: by the number of the state, its time, and what is due."""


def generated(shape: tuple[int, int, int]) -> Iterator[xr.Dataset]:
    """Yield states (1, Y, X) of waves that are stirred much harder in a storm."""
    count, rows, columns = shape
    rng = np.random.default_rng(0)
    y, x = np.linspace(0, 2 * np.pi, rows), np.linspace(0, 2 * np.pi, columns)
    numbers, phases = rng.integers(1, 4, (2, WAVES)), rng.uniform(0, 2 * np.pi, (2, WAVES))
    along_y = np.cos(np.outer(numbers[0], y) + phases[0, :, None])
    along_x = np.cos(np.outer(numbers[1], x) + phases[1, :, None])
    heights = np.zeros(WAVES)
    for number in range(count):
        stirred = 1.0 if number % (CALM + STORM) >= CALM else 0.1
        heights = 0.97 * heights + stirred * rng.standard_normal(WAVES)
        field = 280 + np.einsum("w,wy,wx->yx", heights, along_y, along_x, optimize=True)
        field += 0.05 * rng.standard_normal(field.shape)
        time = xr.Variable("time", [float(number)], {"units": "hours since 2000-01-01"})
        yield xr.Dataset(
            {"v": (("time", "y", "x"), field.astype(np.float32)[None])}, coords={"time": time}
        )


class Replay:
    """A record, and a repository of a dataset that has gone through the first of its states."""

    def __init__(
        self,
        states: list[xr.Dataset],
        name: str,
        history: int,
        tolerance: float | None,
        folder: Path,
    ) -> None:
        self.states, self.name, self.folder, self.history = states, name, folder, history
        times = xr.decode_cf(xr.concat([s[["time"]] for s in states], "time"), use_cftime=True)
        self.times = [time.isoformat() for time in times.time.values]
        self.source = folder / "now.zarr"
        self._show(0)
        base = gnomon.create(
            folder / "base",
            self.source,
            kind="state",
            variables=[name],
            tolerances={} if tolerance is None else {name: tolerance},
        )
        for k in range(history):
            self._show(k)
            base.update(self.times[k])

    def _show(self, k: int) -> None:
        """Let the dataset be in the k-th state."""
        self.states[k].isel(time=0, drop=True).to_zarr(
            self.source, mode="w", consolidated=False, zarr_format=3
        )

    def run(self, rule: Rule, settings: Settings) -> dict[str, float]:
        """Go through the other states; return captures, and the mean error over all states."""
        place = Path(tempfile.mkdtemp(dir=self.folder)) / "r"
        shutil.copytree(self.folder / "base", place)
        due = gnomon.open(place).status()["due"]
        errors, captures = [], 0
        for k in range(self.history, len(self.states)):
            if rule(k - self.history, self.times[k], due):
                self._show(k)
                open_to_update(place).update(self.times[k], settings=settings)
                due = gnomon.open(place).status()["due"]
                captures += 1
                errors.append(0.0)
            else:
                errors.append(self._error(place, k))
        return {"captures": captures, "mean error": float(np.mean(errors))}

    def _error(self, place: Path, k: int) -> float:
        """Return the RMSE of what is given back for the time of the k-th state."""
        given = gnomon.open(place).dataset(self.times[k], accept_predicted=True)[self.name]
        true = xr.decode_cf(self.states[k])[self.name].isel(time=0).values
        with np.errstate(invalid="ignore"):
            squares = (np.asarray(given.values, float).reshape(true.shape) - true) ** 2
        return float(np.sqrt(np.nanmean(squares)))


def every(steps: int) -> Rule:
    """Return the rule of a fixed schedule."""
    return lambda number, _time, _due: number % steps == steps - 1


def when_due(_number: int, time: str, due: dict[str, Any]) -> bool:
    """Tell whether an update is due."""
    return chronological(time) >= chronological(due["valid_time"])


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return captures and mean errors by schedule, and what an adaptive one saves."""
    source = generated(tuple(options.grid)) if options.grid else None
    states = list(source or recorded(options.source, options.variable))[: options.states]
    replay = Replay(states, options.variable, options.history, options.tolerance, folder)
    fixed = {f"every {n}": replay.run(every(n), Settings()) for n in options.every}
    adaptive = {
        f"target {target}": replay.run(when_due, Settings(target_confidence=target))
        for target in options.target
    }
    captures = np.array([row["captures"] for row in fixed.values()])
    errors = np.array([row["mean error"] for row in fixed.values()])
    order = np.argsort(captures)
    for row in adaptive.values():
        same = np.interp(row["captures"], captures[order], errors[order])
        needed = np.interp(row["mean error"], errors[order[::-1]], captures[order[::-1]])
        row["error / fixed"] = row["mean error"] / float(same) if same else float("nan")
        row["captures / fixed"] = row["captures"] / float(needed)
    return {"states": len(states) - options.history, **fixed, **adaptive}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", nargs="?")
    parser.add_argument("--variable", default="v")
    parser.add_argument("--grid", type=int, nargs=3, metavar=("T", "Y", "X"))
    parser.add_argument("--history", type=int, default=40, help="states captured before (40)")
    parser.add_argument("--states", type=int, help="of the record; default: all")
    parser.add_argument("--tolerance", type=float, help="error to live with; default: found")
    parser.add_argument("--every", type=int, nargs="+", default=[1, 2, 3, 4, 6])
    parser.add_argument("--target", type=float, nargs="+", default=[0.5, 0.7, 0.8, 0.9])
    parser.add_argument("--json", action="store_true")
    options = parsed(parser)
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        figures = measure(options, Path(name))
    if options.json:
        print(json.dumps(figures))
        return
    for key, row in figures.items():
        numbers = row.items() if isinstance(row, dict) else [("", row)]
        print(f"{key:14}" + "  ".join(f"{value:9.4g} {name}" for name, value in numbers))


if __name__ == "__main__":
    main()
