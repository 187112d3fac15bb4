"""How honest simulated members are, beside what came.

    python -m benchmarks.restore simulate SOURCE --variable V [--members N] [--origins N]
        [--leads H] [--chunk N N] [--json]

A repository backfills the first half of the record; after that it is updated from one origin to the
next, and at each of them the members of `simulate` are compared with what came at every lead:

spread / stated  root mean square spread of the members, over the standard error that is stated
stated / error   this, over the error of the forecast: the shadow's part, which no member mends
spread / error   the product of both, with the share for the number of members
variogram        of members minus forecast over that of captured minus forecast (the departures, of
                 which no forecast knew), at the same leads and distances
structure        the same with each over its own mean square at the lead: whatever their size is
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
RATIOS = ("variance/stated", "stated/missed", "spread/error")
"""Sums of squares whose roots are compared."""
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
        shadow = repository.dataset(kind="forecast", accept_predicted=True)
        forecast = shadow[options.variable]
        truth = values.values[origin + 1 : origin + 1 + leads].astype(np.float64)
        drawn, mean = members.values.astype(np.float64), forecast.values.astype(np.float64)
        stated = shadow[f"{options.variable}_standard_error"].values.astype(np.float64)
        yield sums_of(drawn, (mean, stated), truth, number) | {"origin": int(origin)}


def sums_of(
    drawn: Floats, predicted: tuple[Floats, Floats], truth: Floats, number: int
) -> dict[str, Any]:
    """Return what is summed up of members (N, H, *dims) beside what came (H, *dims).

    `predicted` are the forecast and its standard error, (H, *dims) each.
    """
    members, (mean, stated) = len(drawn), predicted
    known = np.isfinite(truth) & np.isfinite(drawn).all(axis=0) & np.isfinite(mean)
    cells = known.reshape(len(truth), -1).sum(axis=1).astype(float)

    def total(field: Floats) -> Floats:
        summed = np.where(known, field, 0.0).reshape(-1, *truth.shape).sum(axis=0)
        return np.asarray(summed.reshape(len(truth), -1).sum(axis=1))

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
        "variance": total(drawn.var(axis=0, ddof=1)),
        "stated": total(stated**2),
        "missed": total((mean - truth) ** 2),
        "histogram": histograms[0],
        "among": np.array(histograms[1:]),
        "variogram": np.stack([variograms(came[None]), variograms(simulated)]),
        "square": np.stack([total((truth - mean) ** 2), total((drawn - mean) ** 2) / members]),
    }


def variograms(fields: Floats) -> Floats:
    """Return sums of half squared differences, and their number, by lead, axis and distance."""
    leads, dims = fields.shape[1], fields.ndim - 2
    result = np.zeros((leads, dims, len(DISTANCES), 2))
    for axis in range(dims):
        maps = np.moveaxis(np.moveaxis(fields, axis + 2, -1), 1, 0)
        for place, distance in enumerate(DISTANCES):
            if 2 * distance <= maps.shape[-1]:
                squares = (maps[..., distance:] - maps[..., :-distance]) ** 2 / 2
                squares = squares.reshape(leads, -1)
                result[:, axis, place, 0] = np.nansum(squares, axis=1)
                result[:, axis, place, 1] = np.isfinite(squares).sum(axis=1)
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

    def ratio(s: dict[str, Any], lead: int | slice, over: str = "spread/error") -> float:
        above, below = over.split("/")
        return float(np.sqrt(np.sum(s[above][lead]) / np.sum(s[below][lead])))

    def flatness(histogram: Floats) -> float:
        return float(np.abs(histogram / histogram.sum() - 1.0 / len(histogram)).sum())

    def alike(s: dict[str, Any], where: Any, *, scaled: bool) -> float:
        """Return the mean of the ratios at some leads, axes and distances, as of logarithms."""
        with np.errstate(divide="ignore", invalid="ignore"):
            came, simulated = s["variogram"][..., 0] / s["variogram"][..., 1]
            size = s["square"][1] / s["square"][0] if scaled else np.ones(leads)
            ratios = np.log(simulated / came / size[:, None, None])[where]
        return float(np.exp(np.mean(ratios[np.isfinite(ratios)])))

    figures: dict[str, Any] = {
        "origins": len(trials),
        "members": options.members,
        "block": block,
        **{
            over.replace("/", " / ").replace("variance", "spread").replace("missed", "error"): [
                figure(lambda s, h=h, o=over: ratio(s, h, o)) for h in (slice(None), *range(leads))
            ]
            for over in RATIOS
        },
        "flatness": figure(lambda s: flatness(s["histogram"])),
        "flatness of a member": figure(lambda s: float(np.mean([flatness(h) for h in s["among"]]))),
        "outside": figure(
            lambda s: float((s["histogram"][0] + s["histogram"][-1]) / s["histogram"].sum())
        ),
        "outside, expected": 2.0 / (options.members + 1),
        "histogram": (stacked["histogram"].sum(axis=0) / stacked["histogram"].sum()).tolist(),
    }
    counts = stacked["variogram"][..., 1].sum(axis=(0, 1, 2))
    for scaled, title in ((False, "variogram"), (True, "structure")):
        parts = {"all": (slice(None),)}
        parts |= {f"lead {h + 1}": (h,) for h in range(leads)}
        parts |= {
            f"axis {axis}, {DISTANCES[place]} cells": (slice(None), axis, place)
            for axis, place in np.argwhere(counts > 0)
        }
        figures[title] = {
            name: figure(lambda s, w=where, c=scaled: alike(s, w, scaled=c))
            for name, where in parts.items()
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
    for name in ("flatness", "flatness of a member", "outside"):
        print(f"{name:24s}{_told(figures[name])}")
    print(f"{'outside, expected':24s}{figures['outside, expected']:8.3f}")
    for name in ("spread / stated", "stated / error", "spread / error"):
        print(f"{name:24s}{_told(figures[name][0])}")
        for lead, told in enumerate(figures[name][1:], 1):
            print(f"  lead {lead:<17d}{_told(told)}")
    for title in ("variogram", "structure"):
        print(f"{title} of members over that of departures")
        for name, told in figures[title].items():
            print(f"  {name:22s}{_told(told)}")
    print("rank histogram " + " ".join(f"{share:.3f}" for share in figures["histogram"]))


def _told(figure: list[float]) -> str:
    value, low, high = figure
    return f"{value:8.3f}  ({low:.3f} to {high:.3f})"
