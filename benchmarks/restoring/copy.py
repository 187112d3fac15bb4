"""How long captured states take beside plain Zarr, and how much memory.

A state of `--megabytes` is made of those of the source side by side, and overwritten with the next
ones; each is captured.  It is restored, once from a capture that stands alone and once from the sum
of those before, and beside it the source is copied by the same number of threads to a store of the
same chunks and shards, without any check, and not forced to the disk.  One chunk after another is
read of the opened repository and of the opened copy; then both are opened for each.  Ratios are
medians of pairs in turn.  The memory is that of commands that restore a state, and one four times
as large.
"""

import argparse
import json
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray

import gnomon
from benchmarks.memory import MEGABYTE, write_state
from benchmarks.memory import run as run_command
from benchmarks.timing import HOUR, WORKERS, capture_all, mosaic, paired
from gnomon.engine import GnomonBackendEntrypoint
from gnomon.flows.cluster import thread_mapper
from gnomon.storage.arrays.encoding import USUAL_CHAIN
from gnomon.storage.log.durable import force_tree
from gnomon.storage.values.dtypes import native
from gnomon.storage.values.grid import ChunkGrid

SIDE = 512
"""Cells of a chunk of the source along its last two dimensions."""
CAPTURES = USUAL_CHAIN + 1
"""So many that the newest is the sum of as many deltas as usual, at most."""


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add the parser of this part."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "copy",
        help="captured states beside a plain Zarr copy",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--megabytes", type=int, default=64, help="size of a state (64)")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of restore and copy (5)")
    parser.add_argument("--reads", type=int, default=40, help="pairs of reads of a chunk (40)")
    parser.add_argument("--limit", type=int, default=0, help="megabytes a command may take (any)")
    return parser


def run(options: argparse.Namespace) -> None:
    """Measure and print."""
    with xr.open_dataset(options.source, decode_cf=False) as dataset:
        array = dataset[options.variable]
        time = next((d for d in array.dims if " since " in str(dataset[d].attrs.get("units"))), "")
        fields = native(array.transpose(time or array.dims[0], ...).values)
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        figures = {
            **times(fields, options, Path(name)),
            **memory(fields[0], options, Path(name)),
        }
    if options.json:
        print(json.dumps(figures, indent=1))
        return
    for what, figure in figures.items():
        if isinstance(figure, dict):
            ratio = f"{figure['ratio']:.2f}"
            print(f"{what:52} {figure['seconds']:.4f} s / {figure['beside']:.4f} s = {ratio}")
        else:
            print(f"{what:52} {figure}")


class Beside:
    """A repository of large states, and a plain copy of the newest beside it."""

    def __init__(self, fields: NDArray[Any], nbytes: int, folder: Path) -> None:
        self.source, self.place = folder / "state.zarr", folder / "repository"
        self.restored, self.copied = folder / "restored.zarr", folder / "copied.zarr"
        for number in range(CAPTURES):
            self._put(mosaic(fields, number, nbytes))
            if not number:
                repository = gnomon.create(str(self.place), str(self.source), kind="state").stored
            repository = capture_all(repository, now=(number + 1) * HOUR)
        self.variable = repository.settings.variables[0]
        times = [step["valid_time"] for step in gnomon.open(str(self.place)).captures()]
        self.key, self.newest = times[0], times[-1]
        index = (0,) * len(self.variable.chunks)
        captures = repository.captures(self.variable.name)
        self.chain = len(captures.chain(repository.timeline[-1].step, index))

    def _put(self, state: NDArray[Any]) -> None:
        shutil.rmtree(self.source, ignore_errors=True)
        chunks = tuple(min(SIDE, n) for n in state.shape)
        dims = [f"d{k}" for k in range(state.ndim)]
        encoding = {"v": {"chunks": chunks}}
        xr.Dataset({"v": (dims, state)}).to_zarr(self.source, zarr_format=3, encoding=encoding)

    def restore(self, at: str) -> None:
        """Restore a state."""
        shutil.rmtree(self.restored, ignore_errors=True)
        gnomon.open(str(self.place)).restore(at, self.restored, workers=WORKERS)

    def copy(self, *, force: bool = False) -> None:
        """Copy the source to the chunks and shards that a restore has."""
        shutil.rmtree(self.copied, ignore_errors=True)
        source, like = (zarr.open_array(p / "v", mode="r") for p in (self.source, self.restored))
        copied = zarr.open_group(self.copied, mode="w").create_array(
            "v",
            shape=like.shape,
            chunks=like.chunks,
            shards=like.shards,
            dtype=like.dtype,
            dimension_names=list(self.variable.dims),
        )
        blocks = like.shards or like.chunks

        def work(block: Any) -> None:
            copied[block.cells] = source[block.cells]

        thread_mapper(WORKERS)(work, list(ChunkGrid(like.shape, blocks, blocks).blocks()))
        if force:
            force_tree(self.copied)

    def chunks(self) -> Iterator[tuple[slice, ...]]:
        """Yield one chunk after another, far from the last, for ever."""
        cells = [self.variable.grid.cells(index) for index in self.variable.grid.indices()]
        return cycle(np.random.default_rng(0).permutation(np.array(cells, object)).tolist())

    def open(self, at: str) -> xr.DataArray:
        """Open a state in the repository."""
        options: dict[str, Any] = {"engine": GnomonBackendEntrypoint, "at": at}
        return xr.open_dataset(self.place, cache=False, **options)["v"]

    def open_plain(self) -> xr.DataArray:
        """Open the plain copy."""
        return xr.open_dataset(self.copied, engine="zarr", cache=False, consolidated=False)["v"]


def times(
    fields: NDArray[Any], options: argparse.Namespace, folder: Path
) -> dict[str, dict[str, float]]:
    """Return seconds of restores and of reads of a chunk, each beside plain Zarr."""
    beside = Beside(fields, options.megabytes * MEGABYTE, folder)
    beside.restore(beside.newest)
    beside.copy()
    figures = {}
    for what, at in (("a key", beside.key), (f"a sum of {beside.chain}", beside.newest)):
        restore = partial(beside.restore, at)
        figures[f"restore of {what} / copy"] = paired(restore, beside.copy, options.rounds)
    forced = partial(beside.copy, force=True)
    restore = partial(beside.restore, beside.key)
    figures["restore of a key / copy forced to the disk"] = paired(restore, forced, options.rounds)
    plain = beside.open_plain()
    for what, at in (("a sum of " + str(beside.chain), beside.newest), ("a key", beside.key)):
        if at == beside.key:  # what is read is compared with the copy
            shutil.rmtree(beside.copied)
            beside.restore(at)
            shutil.move(beside.restored, beside.copied)
        opened = beside.open(at)
        figures[f"one chunk of {what} / plain read"] = reads(
            beside, lambda a=opened: a, lambda: plain, options.reads
        )
    figures["one chunk of a key, opened for it / plain"] = reads(
        beside, partial(beside.open, beside.key), beside.open_plain, options.reads
    )
    return figures


def reads(
    beside: Beside,
    first: Callable[[], xr.DataArray],
    second: Callable[[], xr.DataArray],
    rounds: int,
) -> dict[str, float]:
    """Return the seconds of reading one chunk of two arrays, after checking that both are alike."""
    ours, theirs = beside.chunks(), beside.chunks()
    cells = next(ours), next(theirs)
    same = [
        native(a()[tuple(c)].values).tobytes() for a, c in zip((first, second), cells, strict=True)
    ]
    if same[0] != same[1]:
        raise SystemExit("what was read is not what was copied")
    return paired(
        lambda: first()[tuple(next(ours))].values,
        lambda: second()[tuple(next(theirs))].values,
        rounds,
    )


def memory(
    field: NDArray[Any], options: argparse.Namespace, folder: Path
) -> dict[str, float | str]:
    """Return the peak memory of commands that restore a state, and one four times as large."""
    limit = (options.limit or 2**20) * MEGABYTE
    figures: dict[str, float | str] = {}
    for factor in (1, 4):
        below = folder / str(factor)
        below.mkdir()
        source, place = below / "source.zarr", str(below / "r")
        write_state(source, np.atleast_1d(field), factor * options.megabytes * MEGABYTE, 0)
        run_command(limit, "init", place, str(source), "--kind", "state")
        run_command(limit, "update", place, "--time", "2000-01-01")
        target = ("--to", str(below / "x.zarr"))
        took = run_command(limit, "restore", place, "--at", "2000-01-01", *target)
        size = factor * options.megabytes
        figures[f"peak of a command that restores {size} MB"] = f"{took['peak_mb']:.0f} MB"
    return figures
