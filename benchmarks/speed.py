"""How long a refit and an update take: python -m benchmarks.speed SOURCE --variable V [--json].

In a repository of the source, through `GnomonRepository.update`: an update that learns everything
anew (periods, orders, modes, hindcasts, every cell's models), and one that captures one more state
and rolls forward, both with checks and the new shadow, each beside reading what it is made from out
of plain Zarr; bytes of the shadow; peak memory.  ``--grid T Y X`` makes a dataset of that size
instead.  ``--rivals CELLS`` fits AutoARIMA to so many of its cells, one core, in the environment
that ``make rivals`` makes.  ``--growth N`` times updates with 100 and with N captures.
"""

import argparse
import json
import resource
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import xarray as xr
import zarr
from zarr.codecs import ZstdCodec

if not __package__:  # run as a file: the others are beside it
    sys.path[0] = str(Path(__file__).parents[1])

import gnomon
from benchmarks.skill import ENVIRONMENT, run_rivals, season_of
from gnomon.flows.settings import Settings
from gnomon.hindcasting import open_replay
from gnomon.storage.errors import GnomonError
from gnomon.storage.values.times import format_instant

WORKERS = 2
ROLLING = Settings(refit_share=0.0, compare=0)
"""Updates roll forward, unless they are asked to learn anew."""
CHUNK = 100
"""Cells of a chunk of a generated dataset along each dimension."""


def timed[R](function: Callable[..., R], *given: Any) -> tuple[R, float]:
    begun = perf_counter()
    return function(*given), perf_counter() - begun


def generate(path: Path, shape: tuple[int, int, int]) -> Path:
    """A monthly field: a season, waves that travel, and noise; float32, one chunk per step."""
    steps, rows, columns = shape
    rng = np.random.default_rng(0)
    group = zarr.open_group(path, mode="w", zarr_format=3)
    chunks = (1, min(CHUNK, rows), min(CHUNK, columns))
    field = group.create_array(
        "v",
        shape=shape,
        chunks=chunks,
        dtype="f4",
        dimension_names=("time", "y", "x"),
        compressors=ZstdCodec(level=1),
    )
    days = 30.4375 * np.arange(steps)
    time = group.create_array("time", data=days, dimension_names=("time",))
    time.attrs["units"] = "days since 2000-01-01"
    y, x = np.meshgrid(np.linspace(0, 6, rows), np.linspace(0, 6, columns), indexing="ij")
    weather = np.zeros((rows, columns))
    for k, day in enumerate(days):
        weather = 0.8 * weather + 0.5 * rng.standard_normal((rows, columns))
        wave = 2.0 * np.sin(x + 0.3 * k) * np.cos(y)
        season = (10.0 + y) * np.cos(2 * np.pi * day / 365.25)
        field[k] = (280.0 + season + wave + weather).astype("f4")
    return path


def plain_copy(path: Path, source: str, variable: str, chunks: tuple[int, ...]) -> zarr.Array[Any]:
    """The history of a variable as plain Zarr, one state per chunk of time."""
    with xr.open_dataset(source, decode_cf=False) as dataset:
        array = dataset[variable]
        dims = [d for d in array.dims if d != _time(dataset, variable)]
        array = array.transpose(_time(dataset, variable), *dims)
        copy = zarr.create_array(
            path,
            shape=array.shape,
            chunks=(1, *chunks),
            dtype=array.dtype.newbyteorder("<"),
            compressors=ZstdCodec(level=1),
            overwrite=True,
        )
        for k in range(0, array.shape[0], 16):
            copy[k : k + 16] = array[k : k + 16].values
    return copy


def _time(dataset: xr.Dataset, variable: str) -> str:
    return next(
        str(d)
        for d in dataset[variable].dims
        if d in dataset.variables and "since" in str(dataset[d].attrs.get("units"))
    )


def measure(source: str, variable: str, leads: int, repeats: int, folder: Path) -> dict[str, Any]:
    """Seconds of updates, and ratios to reading."""
    times = instants_of(source, variable, leads)
    repository = gnomon.create(str(folder / "r"), source, variables=[variable], leads=leads)
    told = repository.stored.settings.variable(variable)
    copy = plain_copy(folder / "plain", source, variable, told.chunks)
    _, first = timed(lambda: repository.backfill(until=times[-1 - repeats], settings=ROLLING))
    figures: dict[str, list[float]] = {}

    def note(key: str, seconds: float) -> None:
        figures.setdefault(key, []).append(seconds)

    steps = len(times)
    for k in range(repeats):
        note("read last", timed(lambda: copy[-1])[1])
        until = times[k - repeats]
        report, seconds = timed(
            lambda until=until: repository.update(until=until, settings=ROLLING)
        )
        assert len(report.captured) == 1
        note("rolling update", seconds)
    for _ in range(repeats):
        note("read history", timed(_read, copy, slice(max(0, steps - 512), steps))[1])
        note("refit and shadow", timed(lambda: repository.update(refit=True, settings=ROLLING))[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds = {key: median(values) for key, values in figures.items()}
    cells = int(np.prod(told.shape))
    shadow = folder / "r" / "shadows" / repository.stored.shadows[-1].id
    stored = sum(p.stat().st_size for p in shadow.rglob("*") if p.is_file())
    return {
        "cells": cells,
        "captures": steps,
        "chunks": told.grid.size,
        "backfill_seconds": first,
        "seconds": seconds,
        "refit_over_reading": seconds["refit and shadow"] / seconds["read history"],
        "roll_over_reading": seconds["rolling update"] / seconds["read last"],
        "series_per_second": cells / seconds["refit and shadow"],
        "shadow_bytes_per_value": stored / (cells * leads),
        "peak_megabytes": peak,
    }


def instants_of(source: str, variable: str, leads: int) -> list[str]:
    """Valid times of a source, in order."""
    replay = open_replay(source, variable, leads=leads)
    return [format_instant(int(i), replay.calendar) for i in replay.series.instants]


def against_rivals(figures: dict[str, Any], source: str, variable: str, options: Any) -> None:
    """Add the series per second of AutoARIMA on some cells of the same history."""
    replay = open_replay(source, variable, leads=options.leads)
    replay.update(len(replay.series.instants) - 1)
    issued = replay.forecast()
    assert issued is not None
    values = replay.series.values
    cells = np.linspace(0, values.shape[1] - 1, options.rivals).astype(int)
    season = season_of(issued.specification.to_json())
    last = [len(values) - 1]
    runs = run_rivals(
        options.environment, ["AutoARIMA"], values[:, cells], last, options.leads, season
    )
    run = runs["AutoARIMA"][1]
    figures["autoarima_failed"] = run["failed"]
    figures["autoarima_series_per_second"] = run["fits"] / run["seconds"]
    figures["times_autoarima"] = (
        figures["series_per_second"] / figures["autoarima_series_per_second"]
    )
    figures["times_autoarima_per_core"] = figures["times_autoarima"] / WORKERS


def _read(copy: zarr.Array[Any], window: slice) -> float:
    """Read a history piece by piece, as a worker with bounded memory does."""
    total = 0.0
    for k in range(window.start, window.stop, 16):
        total += float(np.nansum(copy[k : min(k + 16, window.stop)][:, :1]))
    return total


def growth(captures: tuple[int, ...], folder: Path) -> dict[int, float]:
    """Median seconds of an update, capture to shadow, by number of captures before it."""
    result = {}
    for count in captures:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        source = folder / "source.zarr"
        generate(source, (count + 8, 64, 64))
        with xr.open_dataset(source, engine="zarr", decode_cf=False, consolidated=False) as whole:
            part = whole.isel(time=slice(0, count)).load()
            rest = whole.isel(time=slice(count, None)).load()
        shutil.rmtree(source)
        part.to_zarr(source, zarr_format=3, consolidated=False)
        opened = gnomon.create(str(folder / "r"), str(source))
        opened.backfill()
        times = []
        for k in range(rest.sizes["time"]):
            rest.isel(time=slice(k, k + 1)).to_zarr(source, append_dim="time", consolidated=False)
            _, seconds = timed(lambda: gnomon.open(str(folder / "r")).update(settings=ROLLING))
            times.append(seconds)
        result[count] = median(times[1:])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", nargs="?")
    parser.add_argument("--variable", default="v")
    parser.add_argument("--leads", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--grid", type=int, nargs=3, metavar=("T", "Y", "X"))
    parser.add_argument("--rivals", type=int, metavar="CELLS")
    parser.add_argument("--environment", type=Path, default=ENVIRONMENT)
    parser.add_argument("--growth", type=int, metavar="N")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if (options.source is None) == (options.grid is None) and not options.growth:
        parser.error("give SOURCE --variable V, --grid T Y X, or --growth N")
    warnings.simplefilter("ignore")
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            if options.growth:
                figures["update_seconds"] = growth((100, options.growth), folder / "g")
            if options.grid:
                options.source = str(generate(folder / "source.zarr", tuple(options.grid)))
            if options.source:
                figures |= measure(
                    options.source, options.variable, options.leads, options.repeats, folder
                )
                if options.rivals:
                    against_rivals(figures, options.source, options.variable, options)
        except GnomonError as error:
            parser.exit(error.exit_code, f"{error}\n")
    if options.json:
        print(json.dumps(figures))
        return
    for key, value in figures.items():
        if isinstance(value, dict):
            print(key.replace("_", " "))
            for inner, number in value.items():
                print(f"  {inner!s:24}{number:12.3f}")
        else:
            print(f"{key.replace('_', ' '):26}{value:12.3f}")


if __name__ == "__main__":
    main()
