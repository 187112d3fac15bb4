"""How long captures and restores take beside plain Zarr, and what both are made with."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.codecs.numcodecs import PCodec

import gnomon
from gnomon.flows.cluster import thread_mapper
from gnomon.storage.arrays.layout import PCODEC_LEVEL, ZSTD_LEVEL
from gnomon.storage.repository import Repository
from gnomon.storage.values.model import Variable
from gnomon.tasks.capturing.capture import capture, commit_capture
from gnomon.tasks.capturing.plan import plan_capture

WHEN = "2020-01-01T00:00:00+00:00"
HOUR = 3_600_000_000
WORKERS = 2


def capture_all(repository: Repository, now: int | None = None) -> Repository:
    """Capture what is new in the source, without judging or forecasting."""
    while (plan := plan_capture(repository, now=now)) is not None:
        captured = capture(repository, plan, thread_mapper(WORKERS))
        repository = commit_capture(repository, captured, set(), report={}, committed_at=WHEN)
        if now is not None:
            break
    return repository


def codecs(variable: Variable) -> dict[str, Any]:
    """Return the Zarr codecs that the captures of a variable have."""
    if variable.numpy_dtype.itemsize == 1:
        return {"compressors": (ZstdCodec(level=ZSTD_LEVEL), Crc32cCodec())}
    return {"serializer": PCodec(level=PCODEC_LEVEL), "compressors": (Crc32cCodec(),)}


def mosaic(fields: NDArray[Any], number: int, nbytes: int) -> NDArray[Any]:
    """Return a state of about so many bytes, so that times can be measured.

    It is made of the states of the source from `number` on, side by side: the next one differs
    everywhere as the source does, and nothing in a chunk repeats.
    """
    field = fields[0]
    count = max(1, round(nbytes / max(1, field.nbytes)))
    axes = min(2, field.ndim)
    side = max(1, round(count ** (1 / max(1, axes))))
    rows = []
    for row in range(side if axes == 2 else 1):
        chosen = (number + row * side + np.arange(side)) % len(fields)
        rows.append(np.concatenate([np.atleast_1d(f) for f in fields[chosen]], axis=-1))
    return np.concatenate(rows, axis=-2) if axes == 2 else rows[0]


def paired(first: Callable[[], None], second: Callable[[], None], rounds: int) -> dict[str, float]:
    """Return the median seconds of both, run in turn, and the median of their ratios."""
    seconds: list[tuple[float, float]] = []
    for _ in range(rounds):
        pair = []
        for action in (first, second):
            start = perf_counter()
            action()
            pair.append(perf_counter() - start)
        seconds.append((pair[0], pair[1]))
    return {
        "seconds": median(a for a, _ in seconds),
        "beside": median(b for _, b in seconds),
        "ratio": median(a / b for a, b in seconds),
    }


class Timing:
    """A state source that is overwritten with one large state after another."""

    def __init__(self, fields: NDArray[Any], nbytes: int, folder: Path) -> None:
        self.fields, self.nbytes = fields, nbytes
        self.folder = folder
        self.path = folder / "state.zarr"
        self.clock = 0
        self.put(0)
        created = gnomon.create(str(folder / "timed"), str(self.path), kind="state")
        self.repository = created.stored
        self.variable = self.repository.settings.variables[0]

    def put(self, number: int) -> None:
        """Overwrite the source with one of the states."""
        state = mosaic(self.fields, number, self.nbytes)
        shutil.rmtree(self.path, ignore_errors=True)
        dims = [f"d{k}" for k in range(state.ndim)]
        chunks = tuple(min(512, n) for n in state.shape)
        xr.Dataset({"v": (dims, state)}).to_zarr(
            self.path, zarr_format=3, consolidated=False, encoding={"v": {"chunks": chunks}}
        )

    def capture(self) -> None:
        """Capture what the source holds."""
        self.clock += HOUR
        self.repository = capture_all(self.repository, now=self.clock)

    def _blocks(self, work: Callable[[Any, Any], None]) -> None:
        with xr.open_zarr(self.path, consolidated=False, chunks=None, decode_cf=False) as dataset:
            array = dataset["v"]
            blocks = list(self.variable.grid.blocks())
            thread_mapper(WORKERS)(lambda block: work(array, block), blocks)

    def _new(self, name: str, **options: Any) -> zarr.Array[Any]:
        """Return an empty plain array with the chunks and shards of a capture."""
        shutil.rmtree(self.folder / name, ignore_errors=True)
        variable = self.variable
        return zarr.create_array(
            self.folder / name,
            shape=variable.shape,
            chunks=variable.units,
            shards=variable.shards if variable.shards != variable.units else None,
            dtype=variable.numpy_dtype,
            **options,
        )

    def read(self) -> None:
        """Read the source, block by block."""
        self._blocks(lambda array, block: array[block.cells].values)

    def write_plainly(self) -> None:
        """Read the source and write it as plain Zarr with the codecs and shards of a capture."""
        written = self._new("plain.zarr", filters=None, **codecs(self.variable))

        def work(array: Any, block: Any) -> None:
            written[block.cells] = array[block.cells].values

        self._blocks(work)

    def chain(self) -> int:
        """Return how many residuals the newest capture is the sum of."""
        index = (0,) * len(self.variable.chunks)
        newest = self.repository.timeline[-1].step
        return len(self.repository.captures("v").chain(newest, index))

    def restore(self, number: int = -1) -> None:
        """Restore a capture, the newest if not said."""
        opened = gnomon.open(str(self.folder / "timed"))
        target = self.folder / "restored.zarr"
        shutil.rmtree(target, ignore_errors=True)
        at = opened.captures()[number]["valid_time"]
        opened.restore(at, str(target), plain=True, workers=WORKERS)

    def copy_plainly(self) -> None:
        """Copy a plain Zarr with the codecs of a capture to the codecs of a restore."""
        source = zarr.open_array(self.folder / "plain.zarr", mode="r")
        copied = self._new("copied.zarr")

        def work(block: Any) -> None:
            copied[block.cells] = source[block.cells]

        thread_mapper(WORKERS)(work, list(self.variable.grid.blocks()))


def times_of(
    fields: NDArray[Any], nbytes: int, rounds: int, folder: Path
) -> dict[str, dict[str, float]]:
    """Return how long captures and restores take beside plain Zarr."""
    timing = Timing(fields, nbytes, folder)
    for number in range(2):
        timing.put(number)
        timing.capture()
    timing.write_plainly()
    timings = {"unchanged capture / reading": paired(timing.capture, timing.read, rounds)}
    numbers = iter(range(2, 10_000))
    ratios = []
    for _ in range(rounds):
        timing.put(next(numbers))
        ratios.append(paired(timing.capture, timing.write_plainly, 1))
    timings["changed capture / plain write"] = {k: median(r[k] for r in ratios) for k in ratios[0]}
    key, newest = partial(timing.restore, 0), timing.restore
    timings["restore of a key / plain copy"] = paired(key, timing.copy_plainly, rounds)
    name = f"restore of a sum of {timing.chain()} / plain copy"
    timings[name] = paired(newest, timing.copy_plainly, rounds)
    return timings
