"""Captures that are missing: how well what lies between is estimated.

Gaps of one length are cut into a record, and the rest is backfilled. Before a gap is passed, the
forecast of its slots is read, as it would have been had then. At the end the same slots are
estimated from both sides. All of it goes through the public API.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

import gnomon

Floats = NDArray[np.float64]
DRAWS = 2000
WIDTH = 1.6448536269514722
"""Half of a 90 % interval, in standard errors."""
METHODS = ("linear", "climatology", "forecast", "interpolated")


@dataclass
class Trial:
    """One hidden slot: squared errors by method, and what was stated."""

    gap: int
    """Which gap it is in: slots of one gap are not independent."""
    squares: dict[str, float] = field(default_factory=dict)
    """Mean square error over the cells."""
    covered: float = np.nan
    stated: float = np.nan
    """Root mean square of the stated standard errors."""

    @classmethod
    def of(
        cls, gap: int, said: dict[str, Floats], ours: str, error: Floats, truth: Floats
    ) -> Trial:
        """Return what each method is wrong by where all say something, and how wide ours is."""
        known = np.isfinite(truth) & np.all([np.isfinite(field_) for field_ in said.values()], 0)
        inside = np.abs(said[ours] - truth) <= WIDTH * error
        return cls(
            gap,
            {name: float(np.mean((field_ - truth)[known] ** 2)) for name, field_ in said.items()},
            float(np.mean(inside[known])),
            float(np.sqrt(np.mean(error[known] ** 2))),
        )


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Return the parser of this part, added to the others."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "gap", help="estimates between captures", description=__doc__
    )
    parser.add_argument("--gaps", type=int, nargs="+", default=[1, 3, 7, 14], help="captures")
    parser.add_argument("--origins", type=int, default=4, help="gaps of each length (default 4)")
    parser.add_argument("--captures", type=int, help="the last ones of the record; default: all")
    return parser


def run(options: argparse.Namespace) -> None:
    """Cut the gaps, and print a table or JSON."""
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
    data = load(options.source, options.variable)
    data = data.isel(time=slice(-(options.captures or 0), None))
    table = {}
    for length in options.gaps:
        with tempfile.TemporaryDirectory() as folder:
            trials = run_gaps(data, options.variable, length, options.origins, Path(folder))
        table[length] = summarise(trials, METHODS, "interpolated")
        if not options.json:
            gaps = len({trial.gap for trial in trials})
            print(f"{gaps} gaps of {length}, {len(trials)} slots: RMSE over the last capture's")
            for name, figures in table[length].items():
                print(f"  {name:24}" + " ".join(f"{figure:7.3f}" for figure in figures), flush=True)
    if options.json:
        print(json.dumps(table))


def load(source: str, variable: str) -> xr.Dataset:
    """Return a variable with `time` first, in memory, as if nothing had packed it."""
    with xr.open_dataset(source) as opened:
        dims = opened[variable].dims
        time = next(str(d) for d in dims if "time" in str(d))
        data = opened[[variable]].rename({time: "time"} if time != "time" else {})
        data = data.transpose("time", ...).load()
    data = data.drop_vars([name for name in data.coords if name not in data.dims])
    for values in data.variables.values():
        values.encoding = {}
    return data


def places(length: int, count: int, slots: int) -> list[int]:
    """Return the first slots of gaps in the last two thirds of a record, clear of each other."""
    first, last = slots // 3, slots - length - max(4, slots // 20)
    count = max(1, min(count, (last - first) // (length + 3) + 1))
    return sorted({int(k) for k in np.linspace(first, last, count)})


def run_gaps(data: xr.Dataset, variable: str, length: int, count: int, folder: Path) -> list[Trial]:
    """Backfill a record with gaps, and compare what is said of them with what was there."""
    starts = places(length, count, data.time.size)
    hidden = np.concatenate([np.arange(k, k + length) for k in starts])
    kept = np.delete(np.arange(data.time.size), hidden)
    source = folder / "source.zarr"
    data.isel(time=kept).chunk({"time": 1}).to_zarr(source, consolidated=False)
    repository = gnomon.create(str(folder / "repository"), str(source))
    forecasts: dict[int, Floats] = {}
    shown = {k: sorted({k, k + length // 2, k + length - 1}) for k in starts}
    for start in starts:
        repository.backfill(str(time_of(data, start - 1)))
        for slot in shown[start]:
            forecasts[slot] = estimate_at(repository, variable, time_of(data, slot))[0]
    repository.backfill()
    values = np.asarray(data[variable].values, np.float64)
    trials = []
    for number, start in enumerate(starts):
        for slot in shown[start]:
            truth, last = values[slot], values[start - 1]
            share = (slot - start + 1) / (length + 1)
            estimate, error = estimate_at(repository, variable, time_of(data, slot))
            said = {
                "last": last,
                "linear": (1 - share) * last + share * values[start + length],
                "climatology": climatology(data, values, kept, slot),
                "forecast": forecasts[slot],
                "interpolated": estimate,
            }
            trials.append(Trial.of(number, said, "interpolated", error, truth))
    return trials


def time_of(data: xr.Dataset, slot: int) -> str:
    """Return the time of a slot as the product is asked for it."""
    value = data.time.values[slot]
    return str(value)[:26] if isinstance(value, np.datetime64) else value.isoformat()


def estimate_at(repository: Any, variable: str, at: str) -> tuple[Floats, Floats]:
    """Return estimate and standard error of a time: the first listed that states one per cell.

    That of the last capture is the same for all cells, and stands in the list alone.
    """
    best = next(point for point in repository.points(at) if point.kind != "last_capture")
    shown = repository.dataset(at, kind=best.kind, accept_predicted=True).load()
    values = np.asarray(shown[variable].values[0], float)
    return values, np.asarray(shown[f"{variable}_standard_error"].values[0], float)


def climatology(data: xr.Dataset, values: Floats, kept: NDArray[np.int_], slot: int) -> Floats:
    """Return mean and two harmonics of day and year, as resolved, fitted to what is captured."""
    hours = np.asarray(data.time.dt.hour, dtype=float)
    days = np.asarray(data.time.dt.dayofyear, dtype=float)
    columns = [np.ones(data.time.size)]
    for phase, varied in (((days - 1) / 365.25, np.ptp(days) > 300), (hours / 24, np.ptp(hours))):
        if varied:
            for k in (1, 2):
                columns += [np.cos(2 * np.pi * k * phase), np.sin(2 * np.pi * k * phase)]
    regressors = np.stack(columns, axis=1)
    flat = np.nan_to_num(values[kept].reshape(len(kept), -1))
    gain, *_ = np.linalg.lstsq(regressors[kept], flat, rcond=None)
    return np.asarray(regressors[slot] @ gain).reshape(values.shape[1:])


def summarise(trials: list[Trial], methods: tuple[str, ...], ours: str) -> dict[str, list[float]]:
    """Return each figure with its 90 % bootstrap interval over the gaps."""
    gaps = np.array([trial.gap for trial in trials])
    count = int(gaps.max()) + 1
    drawn = np.random.default_rng(1).multinomial(count, np.full(count, 1 / count), DRAWS)
    weight = np.concatenate([np.ones((1, len(trials))), drawn[:, gaps]])

    def interval(values: Floats) -> list[float]:
        return [float(v) for v in (values[0], *np.quantile(values[1:], [0.05, 0.95]))]

    squares = {
        n: np.array([t.squares[n] for t in trials]) for n in dict.fromkeys(("last", *methods))
    }
    last = weight @ squares["last"]
    summary = {n: interval(np.sqrt(weight @ squares[n] / last)) for n in methods}
    best = min((n for n in methods if n != ours), key=lambda n: summary[n][0])
    ratio = np.sqrt(weight @ squares[ours] / (weight @ squares[best]))
    # In pairs: both were wrong about the same gaps.
    summary[f"over {best}, the best"] = interval(ratio)
    stated = np.array([t.stated**2 for t in trials])
    summary["stated / actual error"] = interval(np.sqrt(weight @ stated / (weight @ squares[ours])))
    covered = np.array([t.covered for t in trials])
    summary["90 % interval covers"] = interval(weight @ covered / weight.sum(axis=1))
    return summary
