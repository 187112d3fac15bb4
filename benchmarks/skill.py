"""Skill and calibration of the forecaster on any file that xarray opens, by rolling origins.

    python benchmarks/skill.py FILE --variable NAME [--leads H] [--origins N] [--order P D] [--json]

Forecasts are made at origins in the last 30 % of the record, each from the data up to it; the
specification is identified on the data up to the first. The whole field is one chunk.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import cftime
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from gnomon.tasks import forecasting
from gnomon.tasks.forecasting import climatology, trajectory

type Array = NDArray[np.float64]

YEAR_DAYS = {"360_day": 360.0, "noleap": 365.0, "365_day": 365.0, "all_leap": 366.0}
METHODS = ("shadow", *forecasting.CANDIDATES)
SAMPLE = 400
Z90 = 1.6448536269514722


def load(source: Path, variable: str) -> tuple[Array, Array, float]:
    """Times (T,) in seconds since 1970, values (T, N) of the cells that have any, year in s."""
    with xr.open_dataset(source) as dataset:
        field = dataset[variable]
        dimension = next(
            name for name in field.dims if name == "time" or _is_time(field.coords.get(name))
        )
        field = field.transpose(dimension, ...).load()
    times, year_s = seconds(field[dimension])
    values = field.values.reshape(len(times), -1).astype(np.float64)
    return times, values[:, np.isfinite(values).any(axis=0)], year_s


def _is_time(coordinate: xr.DataArray | None) -> bool:
    return coordinate is not None and coordinate.dtype.kind in "MO"


def seconds(time: xr.DataArray) -> tuple[Array, float]:
    """Seconds since 1970 in the coordinate's calendar, and the length of its year."""
    calendar = time.dt.calendar
    if time.dtype.kind == "M":
        result = time.values.astype("datetime64[ms]").astype(np.float64) / 1000.0
    else:
        numbers = cftime.date2num(time.values, "seconds since 1970-01-01", calendar=calendar)
        result = np.asarray(numbers, dtype=np.float64)
    return result, YEAR_DAYS.get(calendar, 365.2425) * 86400.0


def valid_times(times: Array, origin: int, leads: int) -> Array:
    """Times of the leads after an origin; past the record's end, at its usual interval."""
    known = times[origin + 1 : origin + 1 + leads]
    step = float(np.median(np.diff(times[: origin + 1])))
    last = known[-1] if len(known) else times[origin]
    return np.concatenate([known, last + step * np.arange(1, leads - len(known) + 1)])


def score_origin(
    spec: forecasting.Specification, state: forecasting.State, times: Array, values: Array
) -> tuple[Array, Array, Array]:
    """Squared errors (H, methods), covered share (H,) and (confidence, within) pairs (H, 2).

    NaN past the end of the record; `values` starts at the first lead.
    """
    made = forecasting.forecast(spec, state, times)
    path = trajectory.fitted(spec, state)
    regressors = climatology.features(spec, times)
    squares = np.full((spec.leads, len(METHODS)), np.nan)
    covered, reliability = np.full(spec.leads, np.nan), np.full((spec.leads, 2), np.nan)
    for lead, truth in enumerate(values[: spec.leads]):
        path = trajectory.advance(path, 1)
        single = trajectory.candidates(spec, path, regressors[lead])
        error = np.concatenate([made.mean[lead][None], single]) - truth
        error = error[:, np.isfinite(error).all(axis=0)]
        usable = np.isfinite(truth) & np.isfinite(made.mean[lead])
        if not usable.any():
            continue
        squares[lead] = np.mean(error**2, axis=1)
        covered[lead] = np.mean(np.abs(error[0]) <= Z90 * made.standard_error[lead][usable])
        within = float(np.sqrt(squares[lead, 0]) <= spec.tolerance)
        reliability[lead] = made.confidence[lead], within
    return squares, covered, reliability


def evaluate(
    times: Array, values: Array, year_s: float, options: argparse.Namespace
) -> dict[str, object]:
    """Report on all origins, of plain JSON types."""
    count, first = len(times), int(0.7 * len(times))
    chosen = np.linspace(first, count - 2, min(options.origins, count - 1 - first))
    origins = set(chosen.astype(int).tolist())
    every = max(1, values.shape[1] // SAMPLE)
    spec = forecasting.identify(
        times[:first],
        values[:first, ::every],
        interval_s=float(np.median(np.diff(times))),
        leads=options.leads,
        year_s=year_s,
    )
    if options.order:
        spec = replace(spec, order=tuple(options.order))
    state = forecasting.start(spec, values.shape[1])
    scores = []
    for slot in range(count):
        state = forecasting.roll(spec, state, slot, float(times[slot]), values[slot])
        if slot in origins:
            ahead = valid_times(times, slot, spec.leads)
            scores.append(score_origin(spec, state, ahead, values[slot + 1 :]))
    squares, covered, reliability = (np.stack(part) for part in zip(*scores, strict=True))
    return report(spec, squares, covered, reliability)


def report(
    spec: forecasting.Specification, squares: Array, covered: Array, reliability: Array
) -> dict[str, object]:
    """Figures from (origins, H, ...) scores."""
    by_lead = np.sqrt(np.nanmean(squares, axis=0))
    pooled = np.sqrt(np.nanmean(squares, axis=(0, 1)))
    ratio = pooled / pooled[METHODS.index("persistence")]
    pairs = reliability.reshape(-1, 2)
    pairs = pairs[np.isfinite(pairs).all(axis=1)]
    bins = np.minimum((pairs[:, 0] * 10).astype(int), 9)
    gaps = [abs(float(np.sum(pairs[bins == b, 0] - pairs[bins == b, 1]))) for b in np.unique(bins)]
    return {
        "specification": spec.to_json(),
        "origins": len(squares),
        "rmse": {name: by_lead[:, i].tolist() for i, name in enumerate(METHODS)},
        "ratio_to_persistence": dict(zip(METHODS, ratio.tolist(), strict=True)),
        "coverage_90": float(np.nanmean(covered)),
        "coverage_90_by_lead": np.nanmean(covered, axis=0).tolist(),
        "expected_calibration_error": sum(gaps) / len(pairs),
        "brier_score": float(np.mean((pairs[:, 0] - pairs[:, 1]) ** 2)),
        "within_tolerance": float(pairs[:, 1].mean()),
        "mean_confidence": float(pairs[:, 0].mean()),
    }


def show(figures: dict[str, object]) -> None:
    """The report as a table on standard output."""
    rmse, ratio = figures["rmse"], figures["ratio_to_persistence"]
    coverage = figures["coverage_90_by_lead"]
    assert isinstance(rmse, dict)
    assert isinstance(ratio, dict)
    assert isinstance(coverage, list)
    print("lead " + "".join(f"{name:>16}" for name in METHODS) + f"{'coverage':>16}")
    for lead, share in enumerate(coverage):
        row = "".join(f"{rmse[name][lead]:16.4g}" for name in METHODS)
        print(f"{lead + 1:4} {row}{share:16.3f}")
    print("ratio" + "".join(f"{ratio[name]:16.3f}" for name in METHODS))
    for name, value in figures.items():
        if not isinstance(value, dict | list):
            print(f"{name.replace('_', ' '):28} {value:.4g}")
    print(f"{'specification':28} {figures['specification']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="file or store that xarray opens")
    parser.add_argument("--variable", required=True)
    parser.add_argument("--leads", type=int, default=6, help="slots ahead (default: 6)")
    parser.add_argument("--origins", type=int, default=100, help="at most so many (default: 100)")
    parser.add_argument("--order", type=int, nargs=2, metavar=("P", "D"), help="skip the search")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    figures = evaluate(*load(options.source, options.variable), options)
    if options.json:
        print(json.dumps(figures))
    else:
        show(figures)


if __name__ == "__main__":
    main()
