"""What an update costs as a dataset grows: python -m benchmarks.scale SOURCE --variable V [--json].

A repository has captured and forecast all states of the record but the last ones; these arrive one
by one.  For each, `gnomon update` is a process of its own: its CPU seconds, its peak memory and the
bytes that it writes, by part of the repository, stand beside those of a process that appends the
state to a plain Zarr dataset, and of one that commits it to Icechunk.  So do an update that finds
nothing new, and the commands that only look.  ``--grid T Y X`` makes a dataset of that size instead
(smooth waves, a season, and noise, to a hundredth); ``--variables N`` makes N of the same form.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import xarray as xr
from rich.console import Console
from rich.progress import Progress

if not __package__:  # run as a file: the others are beside it
    sys.path[0] = str(Path(__file__).parents[1])

from benchmarks.storage import size_of
from gnomon.storage.values.dtypes import native

GNOMON = [sys.executable, "-m", "gnomon"]
LOOKING = ("status", "points", "captures", "anomalies", "check")
MEGABYTE = 1e6
WAVES = 12

LAUNCH = """
import json, os, subprocess, sys
process = subprocess.Popen(sys.argv[2:])
os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
account = f"/proc/{process.pid}/io"  # not reaped yet, so that the system still has it
lines = open(account).read().splitlines() if os.path.exists(account) else []
_, status, usage = os.wait4(process.pid, 0)
code = os.waitstatus_to_exitcode(status)
written = dict(line.split(": ") for line in lines).get("wchar", "nan")
spent = [usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, float(written), code]
json.dump(spent, open(sys.argv[1], "w"))
"""
"""Starts a process from a small one: its memory would count as at least that of its parent."""
APPEND = """
import sys, warnings, xarray as xr
warnings.simplefilter("ignore")
state = xr.open_dataset(sys.argv[1], engine="zarr", decode_times=False, consolidated=False)
state.load().to_zarr(sys.argv[2], append_dim="time", consolidated=False)
"""
COMMIT = """
import sys, warnings, icechunk, xarray as xr
from icechunk.xarray import to_icechunk
warnings.simplefilter("ignore")
state = xr.open_dataset(sys.argv[1], engine="zarr", decode_times=False, consolidated=False).load()
storage = icechunk.local_filesystem_storage(sys.argv[2])
session = icechunk.Repository.open_or_create(storage).writable_session("main")
options = {"append_dim": "time"} if sys.argv[3:] == ["more"] else {"mode": "w"}
to_icechunk(state, session, **options)
session.commit("a state")
"""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a process took."""

    seconds: float
    cpu: float
    """Seconds, of all its threads and children."""
    megabytes: float
    """Greatest resident memory of it, or of a child."""
    written: float
    """Bytes that it gave to the operating system to write, to pipes as well."""


def run(*command: str, codes: tuple[int, ...] = (0,)) -> Cost:
    """Run a process; SystemExit with what it said if its exit code is not among `codes`."""
    begun = perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        spent, said = Path(folder) / "spent.json", Path(folder) / "said"
        launch = [sys.executable, "-S", "-E", "-c", LAUNCH, str(spent), *command]
        with said.open("wb") as output:
            subprocess.run(launch, stdout=output, stderr=output, check=True)
        cpu, megabytes, written, code = json.loads(spent.read_text())
        if code not in codes:
            text = said.read_text(errors="replace")[-2000:]
            raise SystemExit(f"{' '.join(command[-4:])}: exit code {code}\n{text}")
    return Cost(perf_counter() - begun, cpu, megabytes, written)


# What is captured --------------------------------------------------------------------------------


def generated(shape: tuple[int, int, int], variables: int) -> Iterator[xr.Dataset]:
    """Yield states (1, Y, X) of smooth waves that decay and are stirred, a season, and noise."""
    count, rows, columns = shape
    rng = np.random.default_rng(0)
    y, x = np.linspace(0, 2 * np.pi, rows)[:, None], np.linspace(0, 2 * np.pi, columns)[None]
    numbers, phases = rng.integers(1, 5, (2, WAVES)), rng.uniform(0, 2 * np.pi, (2, WAVES))
    along_y = np.stack(
        [np.cos(n * y[:, 0] + p) for n, p in zip(numbers[0], phases[0], strict=True)]
    )
    along_x = np.stack([np.cos(n * x[0] + p) for n, p in zip(numbers[1], phases[1], strict=True)])
    heights = np.zeros((variables, WAVES))
    for number in range(count):
        heights = 0.9 * heights + rng.standard_normal((variables, WAVES))
        season = np.cos(2 * np.pi * number / 12.0) * (1.0 + np.cos(y) / 2)
        fields = {}
        for k in range(variables):
            waves = np.einsum("w,wy,wx->yx", heights[k], along_y, along_x, optimize=True)
            noise = 0.1 * rng.standard_normal((rows, columns))
            field = np.round(280.0 + 3.0 * season + waves + noise, 2).astype(np.float32)
            fields[f"v{k}" if variables > 1 else "v"] = (("time", "y", "x"), field[None])
        time = xr.Variable("time", [30.0 * number], {"units": "days since 2000-01-01"})
        yield xr.Dataset(fields, coords={"time": time})


def recorded(source: str, name: str) -> Iterator[xr.Dataset]:
    """Yield the states of a variable of a dataset, as it is stored."""
    with xr.open_dataset(source, decode_cf=False) as dataset:
        times = [
            d
            for d in dataset[name].dims
            if d in dataset.variables and " since " in str(dataset[d].attrs.get("units"))
        ]
        if not times:
            raise SystemExit(f"{name} of {source} has no time dimension")
        array = dataset[name].drop_vars(set(dataset[name].coords) - set(dataset[name].dims))
        ordered = array.transpose(times[0], ...).rename({times[0]: "time"})
        for k in range(ordered.sizes["time"]):
            state = ordered.isel(time=slice(k, k + 1)).load()
            state = state.copy(data=native(state.values))
            made = state.to_dataset()
            for stored in made.variables.values():  # where xarray takes it from when it appends
                if "_FillValue" in stored.attrs:
                    stored.encoding = {"_FillValue": stored.attrs.pop("_FillValue")}
            yield made


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """Return a parser of what is to be captured."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("source", nargs="?")
    parser.add_argument("--variable", default="v")
    parser.add_argument("--grid", type=int, nargs=3, metavar=("T", "Y", "X"))
    parser.add_argument("--variables", type=int, default=1, help="of a generated dataset (1)")
    parser.add_argument("--chunk", type=int, nargs="+", help="cells; default: a state")
    parser.add_argument("--json", action="store_true")
    return parser


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Return the options; the program ends if not one of a dataset and a grid is given."""
    options = parser.parse_args()
    if (options.source is None) == (options.grid is None):
        parser.error("give SOURCE --variable V, or --grid T Y X")
    return options


def states_of(options: argparse.Namespace) -> tuple[Iterator[xr.Dataset], int]:
    """Return the states that options ask for, of a dataset or generated, and how many they are."""
    if options.grid:
        return generated(tuple(options.grid), options.variables), options.grid[0]
    kept = list(recorded(options.source, options.variable))
    return iter(kept), len(kept)


def write(state: xr.Dataset, path: Path, chunks: list[int] | None, *, append: bool) -> None:
    """Write or append a state, one chunk of time."""
    options: dict[str, Any] = {"consolidated": False, "zarr_format": 3}
    if append:
        options = {"append_dim": "time", "consolidated": False}
    else:
        shapes = {n: (1, *(chunks or v.shape[1:])) for n, v in state.data_vars.items()}
        # Chunks of the axis as of one that is appended to, and not of a single step.
        shapes["time"] = (1024,)
        options["encoding"] = {
            n: {"chunks": s, "_FillValue": state[n].encoding.get("_FillValue")}
            for n, s in shapes.items()
        }
    state.to_zarr(path, **options)


# What it costs -----------------------------------------------------------------------------------


def objects(folder: Path) -> dict[Path, int]:
    """Return the sizes of the files below a folder."""
    return {p: p.stat().st_size for p in folder.rglob("*") if p.is_file()}


def by_part(sizes: dict[Path, int], folder: Path) -> dict[str, float]:
    """Return bytes by the first folder of their path."""
    parts: dict[str, float] = {}
    for path, size in sizes.items():
        part = path.relative_to(folder).parts[0]
        parts[part] = parts.get(part, 0) + size
    return parts


@dataclass(slots=True)
class Trial:
    """The places of one run, and what the processes took."""

    folder: Path
    chunk: list[int] | None
    own_chunk: list[int] | None
    costs: dict[str, list[Cost]] = field(default_factory=dict)
    written: list[dict[str, float]] = field(default_factory=list)
    """By update, bytes of its new files by part."""

    @property
    def source(self) -> Path:
        return self.folder / "source.zarr"

    @property
    def repository(self) -> Path:
        return self.folder / "r"

    def gnomon(self, name: str, command: str, *options: str, codes: tuple[int, ...] = (0,)) -> None:
        """Run a command on the repository."""
        line = [*GNOMON, command, str(self.repository), *options, "--json"]
        self.costs.setdefault(name, []).append(run(*line, codes=codes))

    def program(self, name: str, text: str, *arguments: Path | str) -> None:
        """Run a program beside it."""
        cost = run(sys.executable, "-c", text, *map(str, arguments))
        self.costs.setdefault(name, []).append(cost)

    def begin(self, state: xr.Dataset) -> None:
        """Capture and forecast what the source holds; `state` is the last of it."""
        shutil.copytree(self.source, self.folder / "plain.zarr")
        run(sys.executable, "-c", COMMIT, str(self.one(state)), str(self.folder / "ice"))
        dims = next(iter(state.data_vars.values())).dims[1:]
        sizes = zip(dims, self.own_chunk or (), strict=False)
        chunks = [part for dim, size in sizes for part in ("--chunk", f"{dim}={size}")]
        run(*GNOMON, "init", str(self.repository), str(self.source), *chunks, "--json")
        self.gnomon("first update", "update")

    def go_on(self, state: xr.Dataset) -> None:
        """Capture one more state, which the source holds by now."""
        one = self.one(state)
        self.program("plain Zarr append", APPEND, one, self.folder / "plain.zarr")
        self.program("Icechunk commit", COMMIT, one, self.folder / "ice", "more")
        before = objects(self.repository)
        self.gnomon("update, one capture", "update")
        new = {p: n for p, n in objects(self.repository).items() if p not in before}
        self.written.append(by_part(new, self.repository))

    def one(self, state: xr.Dataset) -> Path:
        """Write a state as a dataset of its own."""
        path = self.folder / "state.zarr"
        shutil.rmtree(path, ignore_errors=True)
        write(state, path, self.chunk, append=False)
        return path

    def look(self, updates: int) -> None:
        """Run what finds nothing new, what only looks, and a restore."""
        for _ in range(updates):
            self.gnomon("update, nothing new", "update")
        for name in LOOKING:
            self.gnomon(name, name, codes=(0, 3, 5))
        status = subprocess.check_output([*GNOMON, "status", str(self.repository), "--json"])
        last = json.loads(status)["last"]
        self.gnomon("restore", "restore", "--at", last, "--to", str(self.folder / "restored.zarr"))


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return all figures."""
    states, count = states_of(options)
    history = count - options.updates
    if history < 1:
        raise SystemExit(f"found {count} states, expected more than {options.updates} updates")
    trial = Trial(folder, options.chunk, options.own_chunk)
    cells = 0
    with Progress(console=Console(stderr=True)) as progress:
        for number, state in enumerate(progress.track(states, total=count, description="states")):
            write(state, trial.source, options.chunk, append=number > 0)
            if number == history - 1:
                cells = sum(v.size for v in state.data_vars.values())
                trial.begin(state)
            elif number >= history:
                trial.go_on(state)
    trial.look(options.updates)
    stored = by_part(objects(trial.repository), trial.repository)
    return {
        "captures before": history,
        "cells": cells,
        "costs": {name: summary(each) for name, each in trial.costs.items()},
        "files of an update, MB": files(trial.written),
        "repository, MB": {name: size / MEGABYTE for name, size in sorted(stored.items())},
        "forecaster, bytes per cell": stored.get("forecaster", 0.0) / cells,
        "repository / plain Zarr": sum(stored.values()) / size_of(folder / "plain.zarr"),
        "files": len(objects(trial.repository)),
    }


def summary(costs: list[Cost]) -> dict[str, float]:
    """Return medians of what processes took, and the greatest memory."""
    return {
        "CPU s": median(c.cpu for c in costs),
        "s": median(c.seconds for c in costs),
        "peak MB": max(c.megabytes for c in costs),
        "written MB": median(c.written for c in costs) / MEGABYTE,
    }


def files(written: list[dict[str, float]]) -> dict[str, float]:
    """Return medians of the bytes of new files, by part and of all, and the most."""
    names = sorted({name for part in written for name in part})
    medians = {name: median(part.get(name, 0.0) for part in written) for name in names}
    sums = [sum(part.values()) for part in written]
    every = medians | {"all": median(sums), "most": max(sums)}
    return {name: size / MEGABYTE for name, size in every.items()}


def main() -> None:
    """Print the tables."""
    parser = parser_of(__doc__)
    parser.add_argument("--updates", type=int, default=3, help="states that arrive late (3)")
    parser.add_argument(
        "--own-chunk",
        type=int,
        nargs="+",
        help="cells of the repository's chunks; default: its own",
    )
    parser.add_argument("--folder", type=Path, help="where; default: a temporary folder")
    options = parsed(parser)
    with tempfile.TemporaryDirectory(dir=options.folder) as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        figures = measure(options, Path(name))
    if options.json:
        print(json.dumps(figures))
        return
    for key, value in figures.items():
        if not isinstance(value, dict):
            print(f"{key:34}{value:12.4g}")
            continue
        print(key)
        for inner, number in value.items():
            row = number if isinstance(number, dict) else {"": number}
            print(f"  {inner:32}" + "  ".join(f"{v:10.4g} {n}" for n, v in row.items()))


if __name__ == "__main__":
    main()
