"""Healing as users meet it: a late state arrives damaged, is found so, and is healed.

    python -m benchmarks.heal SOURCE --variable V [--captures 9 20 40] [--trials N]
        [--chunk N N] [--block N N] [--json]

Each trial makes a repository of so many captures with `gnomon.create` and `update`, damages a block
of the next state, and asks `points` and `dataset` for that time.  Without ``--block`` one whole
chunk is damaged, with it a block of that extent anywhere, of which every chunk it touches is
estimated.  Beside it stands what a simpler system would do: a damped anomaly about a harmonic
climatology of the same captures, its departures in-painted from the same intact cells.
"""

import argparse
import json
import logging
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

import gnomon
from gnomon.storage.serve.planes import PROVENANCE
from gnomon.tasks.healing.inpainting import inpaint  # for the simpler system alone

Floats = NDArray[np.float64]

WIDTHS = {"50": 0.6744897501960817, "90": 1.6448536269514722, "99": 2.5758293035489004}
"""Half width of the nominal intervals, in standard errors."""
DRAWS = 1000
"""Bootstrap samples of the states that were damaged."""


@dataclass(frozen=True, slots=True)
class DamagedState:
    """One damaged state; errors over its estimated cells, variable's units."""

    state: int
    """Its number in the source: several trials may damage one."""
    truth: Floats
    """(n,) what the source really had."""
    last: Floats
    forecast: Floats
    forecast_error: Floats
    healed: Floats
    healed_error: Floats
    """(n,) standard error, as `forecast_error`."""
    simple: Floats
    """(n,) by the simpler system."""
    confidence: float
    """Mean over the estimated chunks that they are within the tolerance."""
    within: float
    """Share of these chunks that are."""


def run_trials(
    data: xr.Dataset, variable: str, captures: int, options: argparse.Namespace, folder: Path
) -> Iterator[DamagedState | None]:
    """Yield trials with so many captures of history; None where the damage was not found."""
    rng = np.random.default_rng(20240229)
    steps = data.sizes["time"]
    late = np.linspace(max(captures, 0.3 * steps), steps - 1, options.trials).round().astype(int)
    for number, now in enumerate(late):
        truth = data[variable].isel(time=int(now)).values.astype(np.float64)
        hole = place_hole(truth, rng, options)
        place = folder / f"{captures}-{number}"
        part = data.isel(time=slice(int(now) - captures, int(now) + 1))
        yield run_trial(part, variable, options.chunk, hole, place, int(now))


def place_hole(
    truth: Floats, rng: np.random.Generator, options: argparse.Namespace
) -> tuple[slice, ...]:
    """Return a chunk or block that holds at least ten values, and an eighth of its cells."""
    extents = options.block or options.chunk
    for _ in range(1000):
        box = []
        for size, extent, chunk in zip(truth.shape, extents, options.chunk, strict=True):
            if options.block:
                start = int(rng.integers(0, max(1, size - extent + 1)))
            else:
                start = chunk * int(rng.integers(0, -(-size // chunk)))
            box.append(slice(start, min(size, start + extent)))
        hole = tuple(box)
        values = np.isfinite(truth[hole]).sum()
        if values >= max(10, truth[hole].size // 8):
            return hole
    raise SystemExit("no place for the hole: every part of the field is nearly empty")


def run_trial(
    part: xr.Dataset,
    variable: str,
    chunk: list[int],
    hole: tuple[slice, ...],
    place: Path,
    state: int,
) -> DamagedState | None:
    """Capture all states but the last, damage that, heal, and compare with what was there."""
    source = str(place.with_suffix(".zarr"))
    encoding = {variable: {"chunks": (1, *chunk)}}
    part.isel(time=slice(-1)).to_zarr(source, encoding=encoding)
    sizes = dict(zip(map(str, part[variable].dims[1:]), chunk, strict=True))
    repository = gnomon.create(str(place), source, chunks=sizes)
    repository.update()
    damaged = part.isel(time=slice(-1, None)).copy(deep=True)
    cells: tuple[int | slice, ...] = (0, *hole)
    damaged[variable].values[cells] = np.nanmax(part[variable].values) + 9999.0
    damaged.to_zarr(source, append_dim="time")
    repository.update()
    at = str(repository.status()["last"])
    points = {point.kind: point for point in repository.points(at)}
    if "healed" not in points:
        return None
    healed = repository.dataset(at, kind="healed", accept_predicted=True).isel(time=0).load()
    forecast = repository.dataset(at, kind="forecast", accept_predicted=True).isel(time=0).load()
    truth = part[variable].values.astype(np.float64)
    estimated = healed[f"{variable}_provenance"].values != PROVENANCE["captured"]
    simple = heal_simply(part[variable], estimated)
    scored = estimated & np.isfinite(truth[-1]) & np.isfinite(healed[variable].values)
    scored &= np.isfinite(simple) & np.isfinite(truth[-2])
    point = points["healed"]
    status = repository.status()["variables"][variable]
    return DamagedState(
        state,
        truth[-1][scored],
        truth[-2][scored],
        forecast[variable].values[scored].astype(np.float64),
        forecast[f"{variable}_standard_error"].values[scored].astype(np.float64),
        healed[variable].values[scored].astype(np.float64),
        healed[f"{variable}_standard_error"].values[scored].astype(np.float64),
        simple[scored],
        float(np.nan if point.confidence is None else point.confidence),
        share_within(healed[variable].values - truth[-1], scored, chunk, status["tolerance"]),
    )


def share_within(
    error: Floats, scored: NDArray[np.bool_], chunk: list[int], tolerance: float
) -> float:
    """Return the share of chunks with scored cells whose RMSE is within the tolerance."""
    places = [np.arange(size) // extent for size, extent in zip(error.shape, chunk, strict=True)]
    counts = [int(place[-1]) + 1 for place in places]
    whole = np.ravel_multi_index(tuple(np.meshgrid(*places, indexing="ij")), counts)
    chunks = np.asarray(whole)[scored]
    number = np.bincount(chunks)
    squares = np.bincount(chunks, weights=error[scored] ** 2)[number > 0] / number[number > 0]
    return float(np.mean(np.sqrt(squares) <= tolerance))


def heal_simply(values: xr.DataArray, hole: NDArray[np.bool_]) -> Floats:
    """Return the last state by a damped anomaly, in-painted where it is hidden."""
    fields = values.values.astype(np.float64)
    past, now = fields[:-1], np.where(hole, np.nan, fields[-1])
    regressors = build_regressors(values["time"])
    if len(past) < 3 * regressors.shape[1]:
        regressors = regressors[:, :1]
    forecast, error, errors = forecast_next(past, regressors)
    filled = inpaint(now - forecast, error, hole, history=errors[-48:])
    return np.where(hole, forecast + np.nan_to_num(filled.departure), fields[-1])


def build_regressors(time: xr.DataArray) -> Floats:
    """Return a constant and two harmonics of day and year, as resolved, shape (T, regressors)."""
    hours = np.asarray(time.dt.hour, dtype=float)
    days = np.asarray(time.dt.dayofyear, dtype=float)
    columns = [np.ones(time.size)]
    for phase, varied in (((days - 1) / 365.25, np.ptp(days) > 300), (hours / 24, np.ptp(hours))):
        if varied:
            for k in (1, 2):
                columns += [np.cos(2 * np.pi * k * phase), np.sin(2 * np.pi * k * phase)]
    return np.stack(columns, axis=1)


def forecast_next(past: Floats, regressors: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the forecast one step on, its standard error and its past errors about zero.

    `past` is (T, *dims) with NaN, `regressors` (T + 1, k): the last row is the forecast's.
    """
    shape = past.shape[1:]
    flat = past.reshape(len(past), -1)
    usable = np.isfinite(flat).any(axis=0)
    mean = np.nanmean(np.where(usable, flat, 0.0), axis=0)
    filled = np.where(np.isfinite(flat), flat, np.where(usable, mean, np.nan))
    gain, *_ = np.linalg.lstsq(regressors[:-1], filled, rcond=None)
    anomaly = filled - regressors[:-1] @ gain
    damping = (anomaly[1:] * anomaly[:-1]).sum(0) / np.maximum((anomaly[:-1] ** 2).sum(0), 1e-30)
    errors = anomaly[1:] - damping * anomaly[:-1]
    freedom = max(1, len(errors) - regressors.shape[1] - 1)
    error = np.sqrt((errors**2).sum(0) / freedom)
    expected = regressors[-1] @ gain + damping * anomaly[-1]
    return expected.reshape(shape), error.reshape(shape), errors.reshape(-1, *shape)


def draw_states(states: NDArray[np.int_]) -> Floats:
    """Return how often each trial counts (draws, trials) in bootstrap samples of the states."""
    _, number = np.unique(states, return_inverse=True)
    count = int(number.max()) + 1
    drawn = np.random.default_rng(1).multinomial(count, np.full(count, 1 / count), DRAWS)
    return np.asarray(drawn[:, number], np.float64)


def summarise(trials: list[DamagedState], undetected: int) -> dict[str, Any]:
    """Return figures over all trials, each cell counted once, with 90 % bootstrap intervals."""
    if not trials:
        return {"trials": 0, "damage not found": undetected}
    draws = draw_states(np.array([trial.state for trial in trials]))
    cells = np.array([len(t.truth) for t in trials], float)

    def squares(name: str) -> Floats:
        return np.array([np.sum((getattr(t, name) - t.truth) ** 2) for t in trials])

    def ratio(above: Floats, below: Floats, *, root: bool) -> list[float]:
        every = [above.sum() / below.sum(), *((draws @ above) / (draws @ below))]
        values = np.sqrt(every) if root else np.array(every)
        return [float(v) for v in (values[0], *np.quantile(values[1:], [0.05, 0.95]))]

    healed, stated = squares("healed"), np.array([np.sum(t.healed_error**2) for t in trials])
    covered = {
        name: np.array(
            [np.sum(np.abs(t.healed - t.truth) <= width * t.healed_error) for t in trials], float
        )
        for name, width in WIDTHS.items()
    }
    logs = {
        name: [
            0.5 * np.log(np.sum((getattr(t, name) - t.truth) ** 2) / np.sum(bar**2))
            for t in trials
            for bar in [getattr(t, f"{name}_error")]
        ]
        for name in ("healed", "forecast")
    }
    return {
        "trials": len(trials),
        "damage not found": undetected,
        **{
            f"rmse {name}": ratio(squares(name), cells, root=True)
            for name in ("last", "forecast", "simple", "healed")
        },
        "healed / forecast": ratio(healed, squares("forecast"), root=True),
        "healed / simple": ratio(healed, squares("simple"), root=True),
        "stated / actual": ratio(stated, healed, root=True),
        **{f"coverage {name} %": ratio(c, cells, root=False) for name, c in covered.items()},
        "mean confidence": float(np.mean([t.confidence for t in trials])),
        "share within tolerance": float(np.mean([t.within for t in trials])),
        **{f"spread of log error, {name}": float(np.std(v)) for name, v in logs.items()},
    }


def open_record(source: str, variable: str) -> xr.Dataset:
    """Return a variable with time first, and nothing that only its file knows of."""
    with xr.open_dataset(source) as opened:
        data = opened[[variable]].transpose("time", ...).load()
    data = data.drop_vars([name for name in data.coords if name not in data.dims])
    for values in data.variables.values():
        values.encoding = {}
    return data


def main() -> None:
    """Run the trials and print a table or JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", help="anything xarray opens")
    parser.add_argument("--variable", required=True, help="variable with a time dimension")
    parser.add_argument("--captures", type=int, nargs="+", default=[9, 20, 40])
    parser.add_argument("--trials", type=int, default=40, help="damaged states (default 40)")
    parser.add_argument("--chunk", type=int, nargs="+", help="cells of a chunk on each axis")
    parser.add_argument("--block", type=int, nargs="+", help="damage a block of this extent")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    data = open_record(options.source, options.variable)
    shape = data[options.variable].shape[1:]
    options.chunk = options.chunk or [max(1, -(-size // 4)) for size in shape]
    tables: dict[int, dict[str, Any]] = {}
    for captures in options.captures:
        with tempfile.TemporaryDirectory() as folder:
            results = list(run_trials(data, options.variable, captures, options, Path(folder)))
        trials = [trial for trial in results if trial is not None and trial.truth.size]
        tables[captures] = summarise(trials, sum(trial is None for trial in results))
        if not options.json:
            print(f"\n{captures} captures")
            for name, value in tables[captures].items():
                figures = value if isinstance(value, list) else [value]
                print(
                    f"  {name:32s}" + " ".join(f"{figure:9.4g}" for figure in figures), flush=True
                )
    if options.json:
        print(json.dumps(tables))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
    main()
