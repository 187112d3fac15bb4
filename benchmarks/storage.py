"""What storage costs: python -m benchmarks.storage SOURCE --variable V [--json].

Bytes per value of the captures beside Zarr with zstd, Zarr with pcodec, and Icechunk, for the same
states in the same chunks; bytes of a shadow; time of a capture and of a restore, each beside plain
Zarr in the same run, medians of pairs; and how opening, committing and the disk grow with the
number of captures.  The source is any dataset with a time dimension that xarray opens.
"""

import argparse
import json
import shutil
import tempfile
import warnings
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
from rich.console import Console
from rich.progress import track
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.codecs.numcodecs import PCodec

import gnomon
from gnomon.flows.cluster import thread_mapper
from gnomon.storage.arrays.layout import PCODEC_LEVEL, ZSTD_LEVEL
from gnomon.storage.repository import Repository
from gnomon.storage.source.opening import native
from gnomon.storage.values.model import Variable
from gnomon.tasks.capturing.capture import capture, commit_capture
from gnomon.tasks.capturing.plan import plan_capture
from gnomon.tasks.restoring.restore import restore

WHEN = "2020-01-01T00:00:00+00:00"
HOUR = 3_600_000_000
WORKERS = 2


def size_of(folder: Path, pattern: str = "**/*") -> int:
    """Return the bytes of the files below a folder."""
    return sum(p.stat().st_size for p in folder.glob(pattern) if p.is_file())


def capture_all(repository: Repository, now: int | None = None) -> Repository:
    """Capture what is new in the source, without judging or forecasting."""
    while (plan := plan_capture(repository, now=now)) is not None:
        captured = capture(repository, plan, thread_mapper(WORKERS))
        repository = commit_capture(repository, captured, set(), report={}, committed_at=WHEN)
        if now is not None:
            break
    return repository


def write_source(path: Path, fields: NDArray[Any], attributes: dict[str, Any]) -> Path:
    """Write states (step, ...) as a Zarr dataset with one chunk per state."""
    dims = [f"d{k}" for k in range(fields.ndim - 1)]
    shutil.rmtree(path, ignore_errors=True)
    time = xr.Variable("time", np.arange(len(fields)), {"units": "hours since 2000-01-01"})
    dataset = xr.Dataset({"v": (("time", *dims), fields, attributes)}, coords={"time": time})
    encoding = {"v": {"chunks": (1, *fields.shape[1:]), "_FillValue": None}}
    if "_FillValue" in attributes:
        encoding["v"].pop("_FillValue")
    dataset.to_zarr(path, zarr_format=3, consolidated=False, encoding=encoding)
    return path


# Bytes -----------------------------------------------------------------------------------------


def bytes_of(fields: NDArray[Any], attributes: dict[str, Any], folder: Path) -> dict[str, float]:
    """Return stored bits per value of the same states in several stores, all files counted."""
    source = write_source(folder / "source.zarr", fields, attributes)
    opened = gnomon.create(str(folder / "gnomon"), str(source))
    variable = opened.stored.settings.variables[0]
    capture_all(opened.stored)
    stored = gnomon.open(str(folder / "gnomon")).stats()
    for name, options in {
        "zstd": {},
        "pcodec": {"filters": None, **codecs(variable)},
    }.items():
        if name == "pcodec" and fields.dtype.itemsize == 1:
            continue
        array = zarr.create_array(
            folder / name,
            shape=fields.shape,
            chunks=(1, *variable.units),
            shards=(1, *variable.shards) if variable.shards != variable.units else None,
            dtype=fields.dtype,
            **options,  # type: ignore[arg-type]
        )
        array[...] = fields
    write_icechunk(folder / "icechunk", fields, variable)
    names = [n for n in ("zstd", "pcodec", "icechunk") if (folder / n).exists()]
    values = float(fields.size)
    sizes = {f"zarr {n}" if n != "icechunk" else n: size_of(folder / n) for n in names}
    parts = stored.parts
    sizes["gnomon, data"] = parts["captures"]
    sizes["gnomon, data and index"] = parts["captures"] + parts["index"]
    sizes["gnomon, everything"] = sum(parts.values())
    return {name: 8.0 * nbytes / values for name, nbytes in sizes.items()}


def codecs(variable: Variable) -> dict[str, Any]:
    """Return the Zarr codecs that the captures of a variable have."""
    if variable.numpy_dtype.itemsize == 1:
        return {"compressors": (ZstdCodec(level=ZSTD_LEVEL), Crc32cCodec())}
    return {"serializer": PCodec(level=PCODEC_LEVEL), "compressors": (Crc32cCodec(),)}


def write_icechunk(path: Path, fields: NDArray[Any], variable: Variable) -> None:
    """Write the states into an Icechunk repository, one commit, defaults, same chunks."""
    try:
        import icechunk
    except ImportError:
        return
    repository = icechunk.Repository.create(icechunk.local_filesystem_storage(str(path)))
    session = repository.writable_session("main")
    array = zarr.create_array(
        session.store,
        name="v",
        shape=fields.shape,
        chunks=(1, *variable.units),
        dtype=fields.dtype,
    )
    array[...] = fields
    session.commit("all")


def shadow_bytes(source: str, name: str, folder: Path) -> dict[str, float] | None:
    """Return the bytes of one lead of a shadow beside those of one capture; None if no shadow."""
    opened = gnomon.create(str(folder / "shadowed"), source, variables=[name])
    opened.update()
    stored = opened.stored
    if not stored.shadows or name not in stored.shadows[-1].variables:
        return None
    shadow = stored.shadows[-1]
    variable = stored.settings.variable(name)
    path = folder / "shadowed" / "shadows" / shadow.id / variable.folder
    per_lead = size_of(path) / len(shadow.instants)
    sizes = next(v for v in opened.stats().variables if v.name == name)
    per_capture = sizes.nbytes / len(stored.timeline)
    raw = sizes.raw_nbytes / len(stored.timeline)
    return {
        "lead": per_lead,
        "capture": per_capture,
        "lead to raw": per_lead / raw,
        "lead to capture": per_lead / per_capture,
    }


# Time ------------------------------------------------------------------------------------------


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
        gnomon.create(str(folder / "timed"), str(self.path), kind="state")
        self.repository = Repository.open(str(folder / "timed"))
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
        point = opened.points(opened.captures()[number]["valid_time"])[0]
        mapper = thread_mapper(WORKERS)
        restore(opened.stored, point, str(target), plain=True, mapper=mapper)

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


# Growth ----------------------------------------------------------------------------------------


def growth(counts: list[int], folder: Path) -> list[dict[str, float]]:
    """Return cost of commit, opening and disk after so many captures of a small changing field."""
    rng = np.random.default_rng(0)
    path = folder / "small.zarr"
    field = rng.normal(size=(16, 16)).astype(np.float32)
    xr.Dataset({"v": (("y", "x"), field)}).to_zarr(path, zarr_format=3, consolidated=False)
    gnomon.create(str(folder / "grown"), str(path), kind="state")
    repository = Repository.open(str(folder / "grown"))
    live = zarr.open_array(path / "v", mode="r+")
    seconds: list[float] = []
    figures = []
    for number in track(range(1, counts[-1] + 1), "captures", console=Console(stderr=True)):
        live[...] = field + np.float32(number)
        start = perf_counter()
        repository = capture_all(repository, now=number * HOUR)
        seconds.append(perf_counter() - start)
        if number in counts:
            figures.append(
                {
                    "captures": number,
                    "commit_s": median(seconds[-50:]),
                    "open_and_list_s": median(opening(folder / "grown") for _ in range(3)),
                    "bytes_per_capture": size_of(folder / "grown") / number,
                }
            )
    return figures


def opening(path: Path) -> float:
    """Return the seconds that a fresh process needs to open a repository and list its points."""
    import subprocess
    import sys

    program = (
        "import sys, time\nfrom gnomon.repository import open_repository\n"
        "start = time.perf_counter()\nopened = open_repository(sys.argv[1])\n"
        "found = opened.captures()\nopened.points(found[-1]['valid_time'])\n"
        "print(time.perf_counter() - start)"
    )
    command = [sys.executable, "-c", program, str(path)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


# Report ----------------------------------------------------------------------------------------


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return all figures."""
    with xr.open_dataset(options.source, decode_cf=False) as dataset:
        array = dataset[options.variable]
        attributes = {
            k: v
            for k, v in array.attrs.items()
            if k in ("_FillValue", "scale_factor", "add_offset")
        }
        time = next(
            (d for d in array.dims if " since " in str(dataset[d].attrs.get("units"))), None
        )
        ordered = array.transpose(time or array.dims[0], ...)
        fields = native(ordered[: options.steps].values)
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(name)
        figures["bits_per_value"] = bytes_of(fields, attributes, folder)
        figures["shadow_bytes"] = shadow_bytes(
            str(Path(options.source).absolute()), options.variable, folder
        )
        figures["times"] = times_of(fields, options.megabytes * 2**20, options.rounds, folder)
        if options.captures:
            figures["growth"] = growth(sorted({100, options.captures}), folder)
    return figures


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source")
    parser.add_argument("--variable", required=True)
    parser.add_argument("--steps", type=int, default=744, help="states to store")
    parser.add_argument("--megabytes", type=int, default=64, help="size of a state that is timed")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of timings")
    parser.add_argument("--captures", type=int, default=1000, help="0: leave the growth out")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = measure(options)
    if options.json:
        print(json.dumps(figures, indent=1))
        return
    for name, bits in figures["bits_per_value"].items():
        print(f"{name:24} {bits:7.2f} bits per value")
    if figures["shadow_bytes"]:
        for name, value in figures["shadow_bytes"].items():
            print(f"shadow, {name:16} {value:10.3g}")
    for name, row in figures["times"].items():
        print(f"{name:30} {row['seconds']:.3f} s / {row['beside']:.3f} s = {row['ratio']:.2f}")
    for row in figures.get("growth", []):
        print("  ".join(f"{name} {value:.4g}" for name, value in row.items()))


if __name__ == "__main__":
    main()
