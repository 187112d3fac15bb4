"""Stores that hold the same states: how they are built, one commit per state, and read back."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask.array  # noqa: F401 - xarray asks for it in every process, and it takes half a second
import numpy as np
import xarray as xr
import zarr
from zarr.codecs import Crc32cCodec

import gnomon.creation
import gnomon.repository
from gnomon.maintenance import utc
from gnomon.repository import GnomonRepository
from gnomon.storage.log.bodies.verdict import JudgedChunk, VerdictBody
from gnomon.storage.values.attributes import NOTE
from gnomon.storage.values.model import SUSPECT

if TYPE_CHECKING:
    import icechunk

type Routes = Iterator[tuple[str, Callable[[], str]]]

MOST_CELLS = 16384
TOLD = "(it says that it knows less) "
"""Begins a line of an answer that says so."""
PACKING = (
    "_FillValue",
    "missing_value",
    "scale_factor",
    "add_offset",
    "dtype",
    "units",
    "calendar",
)


# What is stored --------------------------------------------------------------------------------


def load(source: str, names: str, steps: int) -> xr.Dataset:
    """The first states of variables, one more than asked for, cut and ready to be written.

    Parameters
    ----------
    names
        One name, or several with commas between them.
    """
    with xr.open_dataset(source) as opened:
        dataset = xr.Dataset({n: _states(opened, n, steps) for n in names.split(",")}).load()
    if dataset.sizes["time"] < 4:
        raise SystemExit(f"{names} has {dataset.sizes['time']} times; at least 4 are needed")
    for variable in dataset.variables.values():
        variable.attrs = {k: v for k, v in variable.attrs.items() if k != "bounds"}
        variable.encoding = {k: variable.encoding[k] for k in PACKING if k in variable.encoding}
    dataset.encoding.clear()
    dataset["time"].encoding.setdefault("units", "seconds since 1970-01-01")
    return dataset


def _states(opened: xr.Dataset, name: str, steps: int) -> xr.DataArray:
    field = opened[name]
    times = [d for d in field.dims if d == "time" or _is_time(opened.get(str(d)))]
    if not times:
        raise SystemExit(f"{name} has no time dimension, only {', '.join(map(str, field.dims))}")
    dimension = times[0]
    field = field.transpose(dimension, ...).isel({dimension: slice(steps + 1)})
    while field[0].size > MOST_CELLS:
        longest = max(field.dims[1:], key=lambda d: field.sizes[d])
        size = field.sizes[longest]
        field = field.isel({longest: slice(size // 4, size // 4 + size // 2)})
    field = field.reset_coords(drop=True)
    return field.drop_vars(set(field.coords) - set(field.dims)).rename({dimension: "time"})


def _is_time(coordinate: xr.DataArray | None) -> bool:
    return coordinate is not None and coordinate.dtype.kind in "MO"


def append(dataset: xr.Dataset, store: Any, **options: Any) -> Iterator[None]:
    """Write the states one after another, and stop after each."""
    fixed = [name for name, v in dataset.variables.items() if "time" not in v.dims]
    for step in range(dataset.sizes["time"]):
        state = dataset.isel(time=slice(step, step + 1))
        if step == 0:
            state.to_zarr(store(), mode="w", zarr_format=3, **options)
        else:
            options.pop("encoding", None)
            target, new = store(), state.drop_vars(fixed)
            new.to_zarr(target, append_dim="time", zarr_format=3, **options)
        yield


def build_zarr(
    dataset: xr.Dataset, folder: Path, keep: Callable[[], None], *, crc32c: bool
) -> list[str]:
    """Write twice, the window one step on the second time; return the names of the arrays."""
    options: dict[str, Any] = {}
    if crc32c:
        default = zarr.create_array({}, shape=(1,), dtype="f4").compressors
        codecs = {"compressors": (*default, Crc32cCodec())}
        options["encoding"] = {n: v.encoding | codecs for n, v in dataset.variables.items()}
    for window in (slice(None, -1), slice(1, None)):
        for _ in append(dataset.isel(time=window), lambda: folder, **options):
            keep()
    return [str(name) for name in dataset.variables]


def build_icechunk(dataset: xr.Dataset, folder: Path, keep: Callable[[], None]) -> list[str]:
    """Commit once per state, and return the ids of the snapshots, newest first."""
    import icechunk  # here, because it starts threads, and those do not survive a fork

    icechunk.set_logs_filter("error")  # no warning that nobody else may write to the folder
    repository = icechunk.Repository.create(icechunk.local_filesystem_storage(str(folder)))
    session = repository.writable_session("main")

    def fresh() -> icechunk.IcechunkStore:
        nonlocal session
        session = repository.writable_session("main")
        return session.store

    states = append(dataset.isel(time=slice(1, None)), fresh, consolidated=False)
    for number, _ in enumerate(states):
        session.commit(f"state {number}")
        keep()
    return [snapshot.id for snapshot in repository.ancestry(branch="main")]


def build_gnomon(dataset: xr.Dataset, folder: Path, keep: Callable[[], None]) -> list[str]:
    """Backfill, update twice, doubt a chunk, and return the times of captures and shadow.

    The newest capture has a suspect chunk, so that healing is among what is asked for.
    """
    dataset = dataset.isel(time=slice(1, None))
    source = folder.parent / "source.zarr"
    for _ in append(dataset, lambda: source):
        pass
    repository = gnomon.creation.create(str(folder), str(source))
    keep()
    times = [_iso(value) for value in dataset["time"].values]
    for until in (times[len(times) // 2 - 1], times[-2], None):
        repository.update(until=until)
        keep()
    stored = repository.stored
    newest = stored.timeline[-1].step
    chunks = tuple(
        JudgedChunk(v.name, newest, (0,) * len(v.dims), SUSPECT)
        for v in stored.settings.variables
        if v.forecast
    )
    stored.commit(VerdictBody(chunks, "asked for"), utc())
    keep()
    return [*times, *repository.status()["shadow"]]


def _iso(value: Any) -> str:
    if isinstance(value, np.datetime64):
        return str(np.datetime_as_string(value, unit="s"))
    return str(value.isoformat())


# What is read back -----------------------------------------------------------------------------


def read_zarr(folder: Path, names: Sequence[str]) -> Routes:
    """The dataset, and every array by itself."""
    yield "dataset", lambda: digest(xr.open_dataset(folder, engine="zarr", decode_cf=False))

    def read(name: str) -> str:
        array = zarr.open_array(folder / name, mode="r")
        dims = array.metadata.to_dict().get("dimension_names")
        return digest(xr.Variable(dims, np.asarray(array[...]), dict(array.attrs)))

    for name in names:
        yield f"array {name}", partial(read, name)


def read_icechunk(folder: Path, snapshots: Sequence[str]) -> Routes:
    """The dataset, every earlier snapshot, the differences between them, and the log."""
    import icechunk

    def opened() -> icechunk.Repository:
        return icechunk.Repository.open(icechunk.local_filesystem_storage(str(folder)))

    def read(branch: str | None = None, snapshot: str | None = None) -> str:
        store: Any = repository.readonly_session(branch, snapshot_id=snapshot).store
        return digest(xr.open_dataset(store, engine="zarr", decode_cf=False, consolidated=False))

    def difference(older: str, newer: str) -> str:
        return repr(repository.diff(from_snapshot_id=older, to_snapshot_id=newer))

    repository = opened()
    yield "dataset", lambda: read("main")
    yield "ancestry", lambda: repr(list(repository.ancestry(branch="main")))
    yield "operations", lambda: repr(list(repository.ops_log()))
    for snapshot in snapshots[:-1]:  # the first is empty: it was made with the repository
        yield f"snapshot {snapshot}", partial(read, snapshot=snapshot)
    for newer, older in itertools.pairwise(snapshots):
        yield f"difference {newer}", partial(difference, older, newer)


def read_gnomon(folder: Path, times: Sequence[str]) -> Routes:
    """The history, every restore point of every time, and what is reported."""
    repository = gnomon.repository.open_repository(str(folder))
    yield "dataset", lambda: digest(repository.history(decode=False))

    def read(at: str) -> str:
        return "\n".join(_answer(repository, at, p.kind, p.step) for p in repository.points(at))

    def status() -> str:
        summary = {**repository.status(), "repository": None}
        notes = summary.pop("notes")
        return f"{TOLD if notes else ''}{summary}"

    for at in times:
        yield f"points {at}", partial(read, at)
    yield "anomalies", lambda: repr(repository.anomalies())
    yield "status", status


def _answer(repository: GnomonRepository, at: str, kind: str, step: int | None) -> str:
    """What is answered with one restore point: what is said of it, and a hash of what it holds."""
    points = repository.points(at)
    point = next(p for p in points if (p.kind, p.step) == (kind, step))
    notes, held = [*point.notes], ""
    if kind == "healed":
        point = repository.explain(at, kind=kind)
        notes += point.notes
    if kind != "last_capture":  # another time's capture
        capture = step if kind in ("captured", "suspect", "revision") else None
        wanted = None if capture is not None else kind
        dataset = repository.dataset(
            at, kind=wanted, capture=capture, accept_predicted=True, decode=False
        )
        notes += [dataset.attrs.pop(key)] if (key := f"{NOTE}notes") in dataset.attrs else []
        held = digest(dataset)
    return f"{TOLD if notes else ''}{replace(point, notes=())} {held}"


def check_gnomon(folder: Path) -> list[str]:
    """What the check reports: the texts in which a damaged file may be named."""
    report = gnomon.repository.open_repository(str(folder)).check(read_data=True)
    return [" ".join(map(str, astuple(problem))) for problem in report.problems]


def digest(dataset: xr.Dataset | xr.Variable) -> str:
    """A hash of every value, type, dimension, name and attribute."""
    variables = dataset.variables.items() if isinstance(dataset, xr.Dataset) else [("", dataset)]
    hasher = blake2b(repr(_plain(dataset.attrs)).encode(), digest_size=16)
    for name, variable in sorted(variables, key=lambda item: str(item[0])):
        values = np.asarray(variable.values, order="C")
        head = (name, variable.dims, values.dtype.str, values.shape, _plain(variable.attrs))
        hasher.update(repr(head).encode())
        hasher.update(
            repr(values.tolist()).encode() if values.dtype.hasobject else values.tobytes()
        )
    return hasher.hexdigest()


def _plain(attributes: Any) -> list[tuple[str, str, object]]:
    arrays = {str(name): np.asarray(value) for name, value in attributes.items()}
    return [(name, arrays[name].dtype.str, arrays[name].tolist()) for name in sorted(arrays)]


@dataclass(frozen=True, slots=True)
class Store:
    """How a store is written, read and checked."""

    build: Callable[[xr.Dataset, Path, Callable[[], None]], list[str]]
    """Write a dataset to a folder, calling after each commit; returns what `read` must ask for."""
    read: Callable[[Path, Sequence[str]], Routes]
    """Yield everything that can be asked, by name, each as a function that answers."""
    check: Callable[[Path], list[str]] | None = None
    """Return the texts of the store's own check; it may also raise one."""
    named_by_age: bool = False
    """Whether files of one role, sorted by name, are sorted by age."""


STORES = {
    "gnomon": Store(build_gnomon, read_gnomon, check_gnomon, named_by_age=True),
    "zarr": Store(partial(build_zarr, crc32c=False), read_zarr),
    "zarr_crc32c": Store(partial(build_zarr, crc32c=True), read_zarr),
    "icechunk": Store(build_icechunk, read_icechunk),
}
