"""Losing a part of a late state, and what it is restored as: shared by `chunk` and `band`."""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

import gnomon
from benchmarks.heal import Floats, build_regressors, forecast_next, open_record
from gnomon.storage.serve.planes import PROVENANCE
from gnomon.tasks.healing.inpainting import inpaint  # for what is compared alone

Mask = NDArray[np.bool_]
Pair = tuple[Path, Path]
"""Where a source and its repository are."""

DRAWS = 2000
"""Bootstrap samples of the trials."""
RIVALS = ("last capture", "anomaly persistence", "damped forecast", "in-painting alone")


@dataclass(slots=True)
class Loss:
    """One trial: squared errors summed over the lost cells, and what it took."""

    cells: int
    squares: dict[str, float]
    """By estimate, variable's units squared."""
    stated: float
    """Sum of the squares of the stated standard errors."""
    covered: int
    """Cells within their 90 % interval."""
    seconds: dict[str, float] = field(default_factory=dict)


def add_options(parser: argparse.ArgumentParser, trials: int) -> None:
    """Add what both benchmarks are told."""
    parser.add_argument("--trials", type=int, default=trials, help=f"states ({trials})")
    parser.add_argument("--first", type=float, default=0.7, help="share of the record before (0.7)")
    parser.add_argument("--captures", type=int, help="captures of history; default: all before")
    parser.add_argument("--kept", help="folder that keeps what was found, for the next run")


def measure(
    options: argparse.Namespace, chunk: list[int], holes: Iterator[tuple[int, tuple[slice, ...]]]
) -> list[Loss]:
    """Return a trial for each hole, (step, cells), the steps increasing.

    One repository captures the record as it is. For each trial a copy of it captures a state that
    has lost the hole, and finds that. It is stopped before it keeps estimates, which the next
    update makes, and is asked for that time. What was found may be kept for the next run.
    """
    data = open_record(options.source, options.variable)
    losses = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(options.kept or name).absolute()
        for trial, (step, hole) in enumerate(holes):
            found = folder / f"found-{trial}"
            start = max(0, step - options.captures) if options.captures else 0
            # Each under a name of its own: a process remembers the log of one that it has opened.
            place, copy = folder / f"repository-{trial}", folder / f"trial-{trial}"
            source = folder / "source.zarr"
            if not found.exists():
                _grow(data, options, chunk, (source, place), (start, step))
                _lose(data.isel(time=[step]), options.variable, hole, (source, place))
                _copy((source, place), (found / "source.zarr", found / "repository"))
                shutil.rmtree(place)
            _copy((found / "source.zarr", found / "repository"), (source, copy))
            loss = _restored(data, options.variable, copy, step, start)
            shutil.rmtree(copy)
            if loss is not None:
                losses.append(loss)
                if not options.json:
                    print(_line(trial, loss), file=sys.stderr, flush=True)
            if not options.kept:
                shutil.rmtree(found)
    return losses


def _copy(there: Pair, here: Pair) -> None:
    """Copy source and repository; the source must lie where the repository looks for it."""
    for old, new in zip(there, here, strict=True):
        shutil.rmtree(new, ignore_errors=True)
        shutil.copytree(old, new)


def _grow(
    data: xr.Dataset,
    options: argparse.Namespace,
    chunk: list[int],
    pair: Pair,
    span: tuple[int, int],
) -> None:
    """Let the states of the record up to one arrive in the source, and capture them."""
    source, place = pair
    grown = source.with_name("grown") / "source.zarr", source.with_name("grown") / "repository"
    start, stop = span
    shutil.rmtree(source, ignore_errors=True)
    if grown[0].exists() and not options.captures:
        _copy(grown, pair)
        with xr.open_zarr(source) as known:
            start += known.sizes["time"]
    if start == stop:
        return
    part = data.isel(time=slice(start, stop))
    if source.exists():
        part.to_zarr(source, append_dim="time")
    else:
        part.to_zarr(source, encoding={options.variable: {"chunks": (1, *chunk)}})
        sizes = dict(zip(map(str, data[options.variable].dims[1:]), chunk, strict=True))
        gnomon.create(str(place), str(source), chunks=sizes)
    gnomon.open(str(place)).update(compare=0)
    _copy(pair, grown)


def _lose(state: xr.Dataset, variable: str, hole: tuple[slice, ...], pair: Pair) -> None:
    """Let a state arrive that has lost the hole, and have that found, and nothing kept of it."""
    damaged = state.copy(deep=True)
    where: tuple[Any, ...] = (0, *hole)
    damaged[variable].values[where] = np.nanmax(damaged[variable]) + 9999
    damaged.to_zarr(pair[0], append_dim="time")
    gnomon.open(str(pair[1])).update(compare=0)
    # As if the update had been killed before it committed what it estimated.
    for records in ("log", "copies/log"):
        for record in sorted((pair[1] / records).iterdir(), reverse=True):
            if json.loads(record.read_bytes())["kind"] != "patch":
                break
            record.unlink()


def _restored(data: xr.Dataset, variable: str, place: Path, step: int, start: int) -> Loss | None:
    """Capture and restore the damaged state; None if the damage was not found."""
    began = perf_counter()
    report = gnomon.open(str(place)).update(compare=0)
    updated = perf_counter() - began
    if not report.healed:
        return None
    repository = gnomon.open(str(place))
    at = str(repository.status()["last"])
    began = perf_counter()
    repository.points(at)
    listed = perf_counter() - began
    began = perf_counter()
    healed = repository.dataset(at, kind="healed", accept_predicted=True)
    opened = perf_counter() - began
    state = healed.isel(time=0).load()
    forecast = repository.dataset(at, kind="forecast", accept_predicted=True).isel(time=0).load()
    fields = data[variable].values[start : step + 1].astype(np.float64)
    lost = state[f"{variable}_provenance"].values != PROVENANCE["captured"]
    estimates = {
        **_rivals(data[variable].isel(time=slice(start, step + 1)), fields, lost),
        "shadow": forecast[variable].values.astype(np.float64),
        "healed": state[variable].values.astype(np.float64),
    }
    scored = lost & np.isfinite(fields[-1])
    scored &= np.all([np.isfinite(e) for e in estimates.values()], axis=0)
    if not scored.any():
        return None
    errors = state[f"{variable}_standard_error"].values[scored].astype(np.float64)
    wrong = {name: (e - fields[-1])[scored] for name, e in estimates.items()}
    return Loss(
        int(scored.sum()),
        {name: float(w @ w) for name, w in wrong.items()},
        float(errors @ errors),
        int(np.sum(np.abs(wrong["healed"]) <= 1.6449 * errors)),
        {"update that heals": updated, "points": listed, "open": opened},
    )


def _rivals(values: xr.DataArray, fields: Floats, lost: Mask) -> dict[str, Floats]:
    """Return what simpler systems would give back for the last state."""
    past, now = fields[:-1], np.where(lost, np.nan, fields[-1])
    regressors = build_regressors(values["time"])
    if len(past) < 3 * regressors.shape[1]:
        regressors = regressors[:, :1]
    damped, _, _ = forecast_next(past, regressors)
    flat = np.nan_to_num(past.reshape(len(past), -1), nan=float(np.nanmean(past)))
    gain, *_ = np.linalg.lstsq(regressors[:-1], flat, rcond=None)
    seasons = (regressors @ gain).reshape(fields.shape)
    anomalies = past - seasons[:-1]
    spread = np.sqrt(np.nanmean(anomalies**2, axis=0))
    filled = inpaint(now - seasons[-1], spread, lost, history=anomalies[-48:])
    return {
        "last capture": past[-1],
        "anomaly persistence": seasons[-1] + anomalies[-1],
        "damped forecast": damped,
        "in-painting alone": seasons[-1] + np.nan_to_num(filled.departure),
    }


def _line(trial: int, loss: Loss) -> str:
    errors = {name: np.sqrt(square / loss.cells) for name, square in loss.squares.items()}
    return f"{trial:3d} {loss.cells:6d} cells " + " ".join(
        f"{n} {e:.3f}" for n, e in errors.items()
    )


def summarise(losses: list[Loss], trials: int) -> dict[str, Any]:
    """Return errors, ratios of them and coverage, with 95 % bootstrap intervals."""
    if not losses:
        return {"trials": 0, "not found": trials}
    rng = np.random.default_rng(1)
    draws = rng.multinomial(len(losses), np.full(len(losses), 1 / len(losses)), DRAWS)
    cells = np.array([loss.cells for loss in losses], float)

    def interval(above: Floats, below: Floats, *, root: bool = True) -> list[float]:
        every = np.array([above.sum() / below.sum(), *((draws @ above) / (draws @ below))])
        every = np.sqrt(every) if root else every
        return [float(v) for v in (every[0], *np.quantile(every[1:], [0.025, 0.975]))]

    squares = {n: np.array([loss.squares[n] for loss in losses]) for n in losses[0].squares}
    last = squares["last capture"]
    covered = np.array([loss.covered for loss in losses], float)
    stated = np.array([loss.stated for loss in losses])
    names = losses[0].seconds
    return {
        "trials": len(losses),
        "not found": trials - len(losses),
        **{f"rmse {name}": interval(s, cells) for name, s in squares.items()},
        **{f"{name} / last capture": interval(s, last) for name, s in squares.items()},
        # In pairs: both were wrong about the same states.
        **{f"healed / {name}": interval(squares["healed"], squares[name]) for name in RIVALS[1:]},
        "stated / actual": interval(stated, squares["healed"]),
        "coverage 90 % intervals": interval(covered, cells, root=False),
        **{f"seconds, {n}": float(np.median([loss.seconds[n] for loss in losses])) for n in names},
    }


def peak_memory() -> dict[str, float]:
    """Return the peak memory of this process, in MB: all of its updates, healing and opening."""
    return {"peak memory, MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def show(table: dict[str, Any], *, as_json: bool) -> None:
    """Print a table or JSON."""
    if as_json:
        print(json.dumps(table))
        return
    for name, value in table.items():
        figures = value if isinstance(value, list) else [value]
        print(f"{name:36s}" + " ".join(f"{figure:9.4g}" for figure in figures), flush=True)
