"""How honest simulated members are, beside what came.

    python -m benchmarks.restore simulate SOURCE --variable V [--members N] [--origins N]
        [--leads H] [--chunk N N] [--json]

A repository backfills the first half of the record; after that it is updated from one origin to the
next, and at each of them the members of `simulate` are compared with what came at every lead:

spread / error   root mean square spread of the members, with the share for their number, over that
                 of the error of their mean
variogram        of members minus forecast over that of captured minus forecast, along all axes
structure        the same with each over its own mean square: whatever their size is
rank histogram   of what came among the members. Flatness: sum of the absolute differences from a
                 flat one (0 to 2), beside what one of the members gets among the others

In brackets: 90 % of bootstrap samples of blocks of origins, as long as the forecasts overlap.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

import gnomon

Floats = NDArray[np.float64]

FIRST = 0.5
"""Share of the record before the first origin."""
DISTANCES = (1, 2, 4, 8, 16)
"""Cells along an axis at which variograms are compared, up to half of it."""
DRAWS = 1000
"""Bootstrap samples."""


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Return the parser of this part, added to the others."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "simulate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--members", type=int, default=20)
    parser.add_argument("--origins", type=int, default=24, help="reference times (default 24)")
    parser.add_argument("--leads", type=int, help="default: 24 of hourly data, else 6")
    parser.add_argument("--chunk", type=int, nargs="+", help="cells of a chunk on each axis")
    return parser


def run(options: argparse.Namespace) -> None:
    """Compare members with what came, and print a table or JSON."""
    with xr.open_dataset(options.source) as opened:
        data = opened[[options.variable]].transpose("time", ...).load()
    data = data.drop_vars([name for name in data.coords if name not in data.dims])
    for variable in data.variables.values():
        variable.encoding = {}
    with tempfile.TemporaryDirectory() as folder:
        trials = list(compare(data, options, Path(folder)))
    figures = summarise(trials, options)
    if options.json:
        print(json.dumps(figures))
        return
    show(figures)


def compare(
    data: xr.Dataset, options: argparse.Namespace, folder: Path
) -> Iterator[dict[str, Any]]:
    """Yield the sums of one origin after another."""
    values = data[options.variable]
    shape, count = values.shape[1:], data.sizes["time"]
    chunk = options.chunk or [max(1, -(-size // 2)) for size in shape]
    source = str(folder / "source.zarr")
    data.to_zarr(source, encoding={options.variable: {"chunks": (1, *chunk)}})
    hours = (
        float(np.median(np.diff(data.indexes["time"].values[:50])) / np.timedelta64(1, "h"))
        if (data.indexes["time"].dtype.kind == "M")
        else 1e9
    )
    leads = options.leads or (24 if hours <= 1 else 6)
    sizes = dict(zip(map(str, values.dims[1:]), chunk, strict=True))
    repository = gnomon.create(str(folder / "repository"), source, chunks=sizes, leads=leads)
    first, last = int(FIRST * count), count - 1 - leads
    origins = np.unique(np.linspace(first, last, options.origins).round().astype(int))
    for number, origin in enumerate(origins):
        time = values["time"].values[origin]
        until = time.isoformat() if hasattr(time, "isoformat") else str(time)[:19]
        repository.update(until=until)
        members = repository.simulate(members=options.members, seed=number)[options.variable]
        forecast = repository.dataset(kind="forecast", accept_predicted=True)[options.variable]
        truth = values.values[origin + 1 : origin + 1 + leads].astype(np.float64)
        drawn, mean = members.values.astype(np.float64), forecast.values.astype(np.float64)
        yield sums_of(drawn, mean, truth, number) | {"origin": int(origin)}


def sums_of(drawn: Floats, mean: Floats, truth: Floats, number: int) -> dict[str, Any]:
    """Return what is summed up of members (N, H, *dims) beside what came (H, *dims)."""
    members = len(drawn)
    known = np.isfinite(truth) & np.isfinite(drawn).all(axis=0) & np.isfinite(mean)
    cells = known.reshape(len(truth), -1).sum(axis=1).astype(float)

    def total(field: Floats) -> Floats:
        return np.where(known, field, 0.0).reshape(len(truth), -1).sum(axis=1)

    variance = drawn.var(axis=0, ddof=1) * (1.0 + 1.0 / members)
    error = (drawn.mean(axis=0) - truth) ** 2
    rng = np.random.default_rng(number)
    every = np.concatenate([truth[None], drawn])[:, known]
    every = every + rng.uniform(0, 1e-9, every.shape) * np.maximum(np.abs(every), 1e-30)
    histograms = [
        np.bincount((every < every[k]).sum(axis=0), minlength=members + 1).astype(float)
        for k in range(members + 1)
    ]
    came, simulated = np.where(known, truth - mean, np.nan), np.where(known, drawn - mean, np.nan)
    return {
        "cells": cells,
        "spread": total(variance),
        "error": total(error),
        "histogram": histograms[0],
        "among": np.array(histograms[1:]),
        "variogram": np.stack([variograms(came[None]), variograms(simulated)]),
        "square": np.array([np.nanmean(came**2), np.nanmean(simulated**2)]),
    }


def variograms(fields: Floats) -> Floats:
    """Return the sum of half squared differences, and their number, by axis and distance."""
    dims = fields.ndim - 2
    result = np.zeros((dims, len(DISTANCES), 2))
    for axis in range(dims):
        maps = np.moveaxis(fields, axis + 2, -1)
        for place, distance in enumerate(DISTANCES):
            if 2 * distance <= maps.shape[-1]:
                squares = (maps[..., distance:] - maps[..., :-distance]) ** 2 / 2
                result[axis, place] = np.nansum(squares), np.isfinite(squares).sum()
    return result


def summarise(trials: list[dict[str, Any]], options: argparse.Namespace) -> dict[str, Any]:
    """Return all figures, each as (value, from, to)."""
    origins = np.array([trial["origin"] for trial in trials])
    leads = len(trials[0]["cells"])
    stride = float(np.median(np.diff(origins))) if len(origins) > 1 else 1.0
    block = max(1, min(len(trials) // 3, int(np.ceil(leads / stride))))
    weights = draw_blocks(len(trials), block)
    stacked = {name: np.stack([t[name] for t in trials]) for name in trials[0] if name != "origin"}

    def figure(formula: Any) -> list[float]:
        sums = {n: np.tensordot(weights, v, axes=1) for n, v in stacked.items()}
        values = np.array(
            [formula({n: s[k] for n, s in sums.items()}) for k in range(len(weights))]
        )
        return [float(values[0]), *map(float, np.nanquantile(values[1:], [0.05, 0.95]))]

    def ratio(s: dict[str, Any], lead: int | slice) -> float:
        return float(np.sqrt(np.sum(s["spread"][lead]) / np.sum(s["error"][lead])))

    def flatness(histogram: Floats) -> float:
        return float(np.abs(histogram / histogram.sum() - 1.0 / len(histogram)).sum())

    def alike(s: dict[str, Any], axis: int, place: int, *, scaled: bool) -> float:
        came, simulated = (v[axis, place, 0] / v[axis, place, 1] for v in s["variogram"])
        squares = s["square"] if scaled else (1.0, 1.0)
        return float((simulated / squares[1]) / (came / squares[0]))

    figures: dict[str, Any] = {
        "origins": len(trials),
        "members": options.members,
        "block": block,
        "spread / error": figure(lambda s: ratio(s, slice(None))),
        "spread / error by lead": [figure(lambda s, h=h: ratio(s, h)) for h in range(leads)],
        "flatness": figure(lambda s: flatness(s["histogram"])),
        "flatness of a member": figure(lambda s: float(np.mean([flatness(h) for h in s["among"]]))),
        "outside": figure(
            lambda s: float((s["histogram"][0] + s["histogram"][-1]) / s["histogram"].sum())
        ),
        "outside, expected": 2.0 / (options.members + 1),
        "histogram": (stacked["histogram"].sum(axis=0) / stacked["histogram"].sum()).tolist(),
    }
    counts = stacked["variogram"][..., 1].sum(axis=(0, 1))
    for scaled, title in ((False, "variogram"), (True, "structure")):
        figures[title] = {
            f"axis {axis}, {DISTANCES[place]} cells": figure(
                lambda s, a=axis, p=place, c=scaled: alike(s, a, p, scaled=c)
            )
            for axis, place in np.argwhere(counts > 0)
        }
    return figures


def draw_blocks(count: int, block: int) -> Floats:
    """Return how often each origin counts, (1 + draws, count): first once each, then by blocks."""
    rng = np.random.default_rng(1)
    starts = rng.integers(0, count, (DRAWS, -(-count // block)))
    places = (starts[:, :, None] + np.arange(block)).reshape(DRAWS, -1)[:, :count] % count
    drawn = np.stack([np.bincount(row, minlength=count) for row in places])
    return np.concatenate([np.ones((1, count)), drawn]).astype(np.float64)


def show(figures: dict[str, Any]) -> None:
    """Print the figures."""
    print(
        f"{figures['origins']} origins, {figures['members']} members; blocks of {figures['block']}"
    )
    for name in ("spread / error", "flatness", "flatness of a member", "outside"):
        print(f"{name:24s}{_told(figures[name])}")
    print(f"{'outside, expected':24s}{figures['outside, expected']:8.3f}")
    for lead, told in enumerate(figures["spread / error by lead"], 1):
        print(f"  lead {lead:<17d}{_told(told)}")
    for title in ("variogram", "structure"):
        print(f"{title} of members over that of departures")
        for name, told in figures[title].items():
            print(f"  {name:22s}{_told(told)}")
    print("rank histogram " + " ".join(f"{share:.3f}" for share in figures["histogram"]))


def _told(figure: list[float]) -> str:
    value, low, high = figure
    return f"{value:8.3f}  ({low:.3f} to {high:.3f})"
