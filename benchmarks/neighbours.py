"""Which neighbours tell a linear model most: why `ridge` has the mean of the chunk.

    python -m benchmarks.neighbours SOURCE --variable V [--period SLOTS] [--chunk CELLS]
                                    [--leads H ...] [--json]

One ridge regression per lead for all cells, as that of the candidate `ridge`: on the last three
anomalies of the cell, and on the last two of a neighbourhood.  It is fitted to the first 70 % of
the captures and scored on the rest.  Printed is its RMSE over that of the cell's own lags alone.
This is the regression by itself, for choosing its predictors; what it is worth in the blend is
measured by `benchmarks.candidates`.
"""

import argparse
import json
from collections.abc import Callable

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from gnomon.tasks.candidates.ridge import STRENGTH

Floats = NDArray[np.float64]
TRAINED = 0.7
"""Share of the captures that is fitted to."""
OWN, AROUND = 3, 2
"""Lags of the cell, and of its neighbourhood."""
FACING = ((0, 1), (0, -1), (1, 0), (-1, 0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source")
    parser.add_argument("--variable", required=True)
    parser.add_argument("--period", type=int, default=0, help="captures of a season; 0: none")
    parser.add_argument("--chunk", type=int, default=8, help="cells of a chunk along each axis")
    parser.add_argument("--leads", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    opener = xr.open_zarr if options.source.rstrip("/").endswith(".zarr") else xr.open_dataset
    field = opener(options.source)[options.variable].squeeze(drop=True)
    values = field.values.astype(np.float64)
    if values.ndim != 3:
        parser.error(f"{options.variable} has the axes {field.dims}, expected time and two others")
    trained = int(TRAINED * len(values))
    scaled = standardised(values, trained, options.period)
    alone = scores(scaled, [], trained, options.leads)
    rows = {
        name: (scores(scaled, neighbours(scaled), trained, options.leads) / alone).tolist()
        for name, neighbours in neighbourhoods(options.chunk).items()
    }
    if options.json:
        print(json.dumps(rows))
        return
    print(f"{'RMSE over own lags, lead':28}" + "".join(f"{lead:8}" for lead in options.leads))
    for name, ratios in rows.items():
        print(f"{name:28}" + "".join(f"{ratio:8.3f}" for ratio in ratios))


def neighbourhoods(chunk: int) -> dict[str, Callable[[Floats], list[Floats]]]:
    """What is said of the cells around each, as fields (T, Y, X), by name."""
    return {
        "mean of 3 x 3 cells": lambda field: [box_mean(field, 1)],
        "mean of 7 x 7 cells": lambda field: [box_mean(field, 3)],
        "the four that are next to it": lambda field: [shifted(field, *by) for by in FACING],
        "the four at three cells": lambda f: [shifted(f, 3 * y, 3 * x) for y, x in FACING],
        f"mean of chunks {chunk} x {chunk}": lambda field: [chunk_mean(field, chunk)],
    }


def standardised(values: Floats, trained: int, period: int) -> Floats:
    """Anomalies (T, Y, X) of a climatology of the first captures, in units of their changes."""
    turns = 2.0 * np.pi * np.arange(len(values)) / period if period else np.zeros(0)
    waves = [wave(k * turns) for k in (1, 2) for wave in (np.sin, np.cos)] if period else []
    terms = np.stack([np.ones(len(values)), *waves], axis=1)
    flat = values.reshape(len(values), -1)
    seen = np.isfinite(flat).all(axis=0)
    result = np.full(flat.shape, np.nan)
    coefficients = np.linalg.lstsq(terms[:trained], flat[:trained, seen])[0]
    result[:, seen] = flat[:, seen] - terms @ coefficients
    spread = np.std(np.diff(result[:trained], axis=0), axis=0)
    return (result / np.where(spread > 0, spread, np.nan)).reshape(values.shape)


def scores(scaled: Floats, around: list[Floats], trained: int, leads: list[int]) -> Floats:
    """RMSE by lead, in units of each cell's changes, on the captures that were not fitted to."""
    lagged = [delayed(scaled, k) for k in range(OWN)]
    lagged += [delayed(field, k) for field in around for k in range(AROUND)]
    predictors = np.stack(lagged)
    result = []
    for lead in leads:
        past = predictors[:, OWN - 1 : -lead].reshape(len(predictors), -1)
        future = scaled[OWN - 1 + lead :].ravel()
        split = (trained - lead - OWN + 1) * scaled[0].size
        usable = np.isfinite(past).all(axis=0) & np.isfinite(future)
        fit, rest = usable.copy(), usable.copy()
        fit[split:], rest[:split] = False, False
        gram = past[:, fit] @ past[:, fit].T
        gram += STRENGTH * np.trace(gram) / len(gram) * np.eye(len(gram))
        weights = np.linalg.solve(gram, past[:, fit] @ future[fit])
        result.append(np.sqrt(np.mean((future[rest] - weights @ past[:, rest]) ** 2)))
    return np.array(result)


def delayed(field: Floats, slots: int) -> Floats:
    gap = np.full((slots, *field.shape[1:]), np.nan)
    return np.concatenate([gap, field[: len(field) - slots]])


def shifted(field: Floats, rows: int, columns: int) -> Floats:
    """The field at the cells so far away; at the border, of the cell itself."""
    result = field.copy()
    height, width = field.shape[1:]
    to = (
        slice(max(0, -rows), height - max(0, rows)),
        slice(max(0, -columns), width - max(0, columns)),
    )
    by = (
        slice(max(0, rows), height - max(0, -rows)),
        slice(max(0, columns), width - max(0, -columns)),
    )
    result[:, *to] = field[:, *by]
    return np.where(np.isfinite(result), result, field)


def box_mean(field: Floats, radius: int) -> Floats:
    """Mean of the known cells of a square about each."""
    total, count = np.zeros(field.shape), np.zeros(field.shape)
    reach = range(-radius, radius + 1)
    padded = np.pad(field, ((0, 0), (radius, radius), (radius, radius)), constant_values=np.nan)
    height, width = field.shape[1:]
    for row in reach:
        for column in reach:
            first, left = radius + row, radius + column
            part = padded[:, first : first + height, left : left + width]
            total += np.nan_to_num(part)
            count += np.isfinite(part)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def chunk_mean(field: Floats, chunk: int) -> Floats:
    """Mean of the known cells of each one's chunk."""
    result = np.empty(field.shape)
    for row in range(0, field.shape[1], chunk):
        for column in range(0, field.shape[2], chunk):
            cells = slice(None), slice(row, row + chunk), slice(column, column + chunk)
            seen = np.isfinite(field[cells])
            count = np.maximum(seen.sum(axis=(1, 2), keepdims=True), 1)
            total = np.where(seen, field[cells], 0.0).sum(axis=(1, 2), keepdims=True)
            result[cells] = np.where(seen.any(axis=(1, 2), keepdims=True), total / count, np.nan)
    return result


if __name__ == "__main__":
    main()
