"""Measure healing on real data: hide a block of late states and estimate it from the rest.

Usage: python benchmarks/heal.py SOURCE --variable V [--trials N] [--block N N] [--json]

The forecast is a damped anomaly about a harmonic climatology, both from earlier times only.
"""

import argparse
import json
from dataclasses import asdict, dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from gnomon.tasks.inpainting import inpaint

Floats = NDArray[np.float64]
_MOST_HISTORY, _NOMINAL_90 = 60, 1.6449


@dataclass(frozen=True, slots=True)
class Result:
    """Errors in the hidden block, pooled over trials, in data units."""

    trials: int
    last_capture_rmse: float
    forecast_rmse: float
    healed_rmse: float
    healed_to_forecast: float
    healed_to_last_capture: float
    worst_trial_healed_to_forecast: float
    coverage_90_healed: float
    coverage_90_forecast: float
    mean_weight: float


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


def hide_block(
    shape: tuple[int, ...], extents: list[int] | None, generator: np.random.Generator
) -> NDArray[np.bool_]:
    """Return a block somewhere; by default 1/8 of the longest axis by all or half the others."""
    block = np.zeros(shape, dtype=bool)
    longest = int(np.argmax(shape))
    box = []
    for axis, size in enumerate(shape):
        extent = max(1, size // 8 if axis == longest else size // int(generator.integers(1, 3)))
        extent = extents[axis] if extents else extent
        start = int(generator.integers(0, size - extent + 1))
        box.append(slice(start, start + extent))
    block[tuple(box)] = True
    return block


def measure(values: xr.DataArray, trials: int, extents: list[int] | None = None) -> Result:
    """Return the errors over trials spread evenly over the last 30 % of times."""
    regressors = build_regressors(values["time"])
    data = values.values.astype(np.float64).reshape(values.shape)
    cyclic = [_wraps(values[dim]) for dim in values.dims[1:]]
    generator = np.random.default_rng(20240229)
    late = np.linspace(0.7 * len(data), len(data) - 1, trials).astype(int)
    rows = []
    for now in late:
        forecast, error, errors = forecast_next(data[:now], regressors[: now + 1])
        block = hide_block(data.shape[1:], extents, generator)
        truth = data[now] - forecast
        result = inpaint(
            np.where(block, np.nan, truth), error, block,
            cyclic=cyclic, history=errors[-_MOST_HISTORY:],
        )  # fmt: skip
        scored = block & np.isfinite(truth) & np.isfinite(result.departure)
        if not scored.any():
            continue
        wrong = (truth - result.departure)[scored]
        rows.append(
            (
                np.mean((data[now] - data[now - 1])[scored] ** 2),
                np.mean(truth[scored] ** 2),
                np.mean(wrong**2),
                np.mean(np.abs(wrong) <= _NOMINAL_90 * result.standard_error[scored]),
                np.mean(np.abs(truth[scored]) <= _NOMINAL_90 * error[scored]),
                result.weight,
            )
        )
    table = np.array(rows)
    last, expected, healed = np.sqrt(table[:, :3].mean(axis=0))
    return Result(
        trials=len(table),
        last_capture_rmse=float(last),
        forecast_rmse=float(expected),
        healed_rmse=float(healed),
        healed_to_forecast=float(healed / expected),
        healed_to_last_capture=float(healed / last),
        worst_trial_healed_to_forecast=float(np.sqrt((table[:, 2] / table[:, 1]).max())),
        coverage_90_healed=float(table[:, 3].mean()),
        coverage_90_forecast=float(table[:, 4].mean()),
        mean_weight=float(table[:, 5].mean()),
    )


def _wraps(coordinate: xr.DataArray) -> bool:
    """Return whether a coordinate is an evenly spaced longitude that goes round the globe."""
    if "lon" not in str(coordinate.name).lower() or coordinate.size < 3:
        return False
    step = float(np.abs(np.diff(coordinate.values.astype(float))).mean())
    return abs(step * coordinate.size - 360.0) < step / 2


def main() -> None:
    """Run the measurement and print it as a table or as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("source", help="anything xarray opens")
    parser.add_argument("--variable", required=True, help="variable with a time dimension")
    parser.add_argument("--trials", type=int, default=30, help="states to damage (default 30)")
    parser.add_argument("--block", type=int, nargs="+", help="extent of the block on each axis")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    with xr.open_dataset(arguments.source) as dataset:
        variable = dataset[arguments.variable]
        result = measure(variable.transpose("time", ...), arguments.trials, arguments.block)
    if arguments.json:
        print(json.dumps(asdict(result)))
    else:
        for name, value in asdict(result).items():
            print(f"{name:32s} {value:10.4g}")


if __name__ == "__main__":
    main()
