"""Damage that a later capture tells of: `python -m benchmarks.restore renew SOURCE --variable V`.

One or two chunks of every second state arrive damaged, after a backfill, and an update heals them.
The next state arrives intact, and an update renews what is kept. Both are read through the public
API. Beside them stands what the interpolation alone says, and the choice of what states less error.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

import gnomon
from benchmarks.heal import WIDTHS, open_record
from gnomon.repository import GnomonRepository
from gnomon.storage.serve.planes import PROVENANCE
from gnomon.tasks.restoring.between import between  # for that alone

Floats = NDArray[np.float64]
Said = tuple[Floats, Floats]
"""Values and standard errors (n,)."""
DRAWS = 2000


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Return the parser of this part, added to the others."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "renew", description=__doc__, help="damage that a later capture tells of"
    )
    parser.add_argument("--backfill", type=int, default=24, help="captures before (default 24)")
    parser.add_argument("--trials", type=int, default=15, help="damaged states (default 15)")
    parser.add_argument("--skip", type=int, default=0, help="first states that are left out")
    parser.add_argument("--chunk", type=int, nargs="+", help="cells of a chunk on each axis")
    return parser


def run(options: argparse.Namespace) -> None:
    """Run the trials and print a table or JSON."""
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
    data = open_record(options.source, options.variable).isel(time=slice(options.skip, None))
    shape = data[options.variable].shape[1:]
    chunk = options.chunk or [max(1, -(-size // 4)) for size in shape]
    with tempfile.TemporaryDirectory() as folder:
        trials = list(run_trials(data, options, chunk, Path(folder)))
    if not trials:
        raise SystemExit("no damage was found; take more --trials or a longer --backfill")
    table = summarise(trials)
    if options.json:
        print(json.dumps(table))
        return
    print(f"{len(trials)} damaged states: RMSE (90 % interval of its ratio to the choice)")
    for name, figures in table.items():
        print(f"  {name:14}" + " ".join(f"{k} {v:.3f} " for k, v in figures.items()))


def run_trials(
    data: xr.Dataset, options: argparse.Namespace, chunk: list[int], folder: Path
) -> Iterator[tuple[Floats, dict[str, Said]]]:
    """Yield truth (n,) and what is said of it, by method; nothing of damage that is not found."""
    name, rng = options.variable, np.random.default_rng(20240229)
    source, place = str(folder / "source.zarr"), str(folder / "repository")
    start = data.isel(time=slice(options.backfill))
    start.to_zarr(source, encoding={name: {"chunks": (1, *chunk)}})
    sizes = dict(zip(map(str, data[name].dims[1:]), chunk, strict=True))
    gnomon.create(place, source, chunks=sizes).backfill()
    last = min(options.backfill + 2 * options.trials, data.sizes["time"] - 1)
    for now in range(options.backfill, last, 2):
        damaged = data.isel(time=slice(now, now + 1)).copy(deep=True)
        for hole in _holes(data[name].values[now], chunk, rng):
            damaged[name].values[(0, *hole)] = np.nanmax(data[name].values) + 9999.0
        damaged.to_zarr(source, append_dim="time")
        repository = gnomon.open(place)
        repository.update()
        at = str(repository.status()["last"])
        if all(point.kind != "healed" for point in repository.points(at)):
            continue
        healed = _read(repository, name, at)
        data.isel(time=slice(now + 1, now + 2)).to_zarr(source, append_dim="time")
        repository = gnomon.open(place)
        repository.update()
        said = {"healed": healed, "interpolated": _interpolated(repository, name, healed[2])}
        said |= {"renewed": _read(repository, name, at)}
        before, values = data[name].values[now - 1], data[name].values[now].astype(np.float64)
        known = np.isfinite(values) & np.isfinite(before) & healed[2]
        for method in said.values():
            known &= np.isfinite(method[0])
        fields = {n: (v[known], e[known]) for n, (v, e, *_) in said.items()}
        fields["last"] = before[known].astype(np.float64), np.full(known.sum(), np.nan)
        surer = min("healed", "interpolated", key=lambda n: float(np.mean(fields[n][1] ** 2)))
        yield values[known], fields | {"choice": fields[surer]}


def _holes(
    truth: NDArray[np.generic], chunk: list[int], rng: np.random.Generator
) -> list[tuple[slice, ...]]:
    """Return one or two chunks that do not touch, half of which have values."""
    chosen: list[tuple[tuple[int, ...], tuple[slice, ...]]] = []
    for _ in range(1000):
        pairs = list(zip(truth.shape, chunk, strict=True))
        index = tuple(int(rng.integers(0, -(-n // c))) for n, c in pairs)
        hole = tuple(
            slice(i * c, min(n, i * c + c)) for i, (n, c) in zip(index, pairs, strict=True)
        )
        apart = all(max(abs(a - b) for a, b in zip(index, i, strict=True)) > 1 for i, _ in chosen)
        if apart and np.isfinite(truth[hole]).mean() >= 0.5:
            chosen.append((index, hole))
        if len(chosen) == 2:
            break
    return [hole for _, hole in chosen]


def _read(
    repository: GnomonRepository, name: str, at: str
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Return values and standard errors of a healed state, and which cells are estimated."""
    state = repository.dataset(at, kind="healed", accept_predicted=True).isel(time=0).load()
    estimated = state[f"{name}_provenance"].values != PROVENANCE["captured"]
    error = np.asarray(state[f"{name}_standard_error"].values, np.float64)
    return np.asarray(state[name].values, np.float64), error, estimated


def _interpolated(repository: GnomonRepository, name: str, estimated: NDArray[np.bool_]) -> Said:
    """Return values and standard errors of the last state but one, interpolated."""
    stored = repository.stored
    estimator = between(stored, name, stored.timeline[-2].instant)
    assert estimator is not None
    values, error = np.full(estimated.shape, np.nan), np.full(estimated.shape, np.nan)
    grid, captures = stored.settings.variable(name).grid, stored.captures(name)
    for index in grid.indices():
        cells = grid.cells(index)
        if estimated[cells].any():
            chunk = estimator.chunk(captures, index)
            values[cells], error[cells] = chunk.values, chunk.standard_error
    return values, error


def summarise(trials: list[tuple[Floats, dict[str, Said]]]) -> dict[str, dict[str, float]]:
    """Return the figures of each method over all cells, with bootstrap intervals over trials."""
    draws = np.random.default_rng(1).multinomial(
        len(trials), np.full(len(trials), 1 / len(trials)), DRAWS
    )
    count = sum(len(truth) for truth, _ in trials)

    def squares(method: str) -> Floats:
        return np.array([np.sum((said[method][0] - truth) ** 2) for truth, said in trials])

    base, table = squares("choice"), {}
    for method in ("last", "healed", "interpolated", "choice", "renewed"):
        ratio = np.sqrt((draws @ squares(method)) / (draws @ base))
        stated = sum(float(np.sum(said[method][1] ** 2)) for _, said in trials)
        inside = sum(
            int(np.sum(np.abs(said[method][0] - truth) <= WIDTHS["90"] * said[method][1]))
            for truth, said in trials
        )
        table[method] = {
            "rmse": float(np.sqrt(squares(method).sum() / count)),
            "low": float(np.quantile(ratio, 0.05)),
            "high": float(np.quantile(ratio, 0.95)),
            "stated/actual": float(np.sqrt(stated / squares(method).sum())),
            "coverage": inside / count,
        }
    first, second = (
        np.concatenate([said[method][0] - truth for truth, said in trials])
        for method in ("healed", "interpolated")
    )
    shared = np.mean(first * second) / np.sqrt(np.mean(first**2) * np.mean(second**2))
    return table | {"correlation": {"healed, interpolated": float(shared)}}
