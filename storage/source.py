"""The live dataset: opened by path or URL, undecoded, and compared with what init saw.

Anything that xarray opens: Zarr, Icechunk, NetCDF, GRIB where cfgrib is installed.  Values stay as
they are stored (no masking, no scaling, no decoding of times), so that a capture is exact.
"""

import errno
import lzma
import warnings
import zlib
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from obstore.exceptions import BaseError
from obstore.store import from_url
from zarr.storage import ObjectStore

from gnomon.storage.attributes import NOTE
from gnomon.storage.credentials import without_secrets
from gnomon.storage.errors import GnomonError, InvalidInput, NotFound, Unavailable, Unreadable
from gnomon.storage.location import RETRIES
from gnomon.storage.meaning import repacked
from gnomon.storage.model import Settings, SourceSpec, Variable
from gnomon.storage.packing import Packing
from gnomon.storage.redaction import one_line
from gnomon.storage.text import is_text, type_name

__all__ = [
    "ADVICE",
    "check_frame",
    "check_unchanged",
    "chunk_sizes",
    "native",
    "open_source",
    "read_state",
    "read_states",
    "refuse_predicted",
    "release_source",
    "shared_source",
    "source_path",
]


NETCDF = (".nc", ".nc4", ".cdf", ".h5", ".hdf5", ".grib", ".grib2", ".grb", ".grb2")
"""Endings of remote files that are no Zarr stores; a library such as fsspec reads them."""

ADVICE = "restore it, or go on with the source as it is now by 'gnomon update --new-era'"
"""What to do about a source that is not what it was at init."""


def source_path(source: str) -> str:
    """Return a path as an absolute one, from whichever folder a later run looks; a URL as it is."""
    if "://" in source and not source.startswith("file://"):
        return source
    return str(Path(source.removeprefix("file://")).expanduser().absolute())


@without_secrets
def open_source(spec: SourceSpec) -> xr.Dataset:
    """Open the source, undecoded and lazy.

    Raises
    ------
    NotFound
        There is no such path, or nothing in it that xarray can open.
    """
    local = "://" not in spec.url or spec.url.startswith("file://")
    path = Path(spec.url.removeprefix("file://"))
    if local and not path.exists():
        raise NotFound(f"source {spec.url} does not exist; check the path")
    options: dict[str, Any] = {"decode_cf": False, "cache": False}
    if spec.group is not None:
        options["group"] = spec.group
    target: Any = str(path) if local else spec.url
    engine = spec.engine or (_guess_engine(path) if local else None)
    if engine == "zarr" and local:
        options["consolidated"] = _is_consolidated(path / (spec.group or ""))
    if engine == "icechunk":
        if not local:
            raise InvalidInput(f"{spec.url} is remote; only local Icechunk repositories are read")
        target, engine = _icechunk_store(path), "zarr"
        options["consolidated"] = False
    if not local and (engine == "zarr" or (engine is None and not spec.url.endswith(NETCDF))):
        target, engine = _object_store(spec.url), "zarr"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _without_notes(xr.open_dataset(target, engine=engine, **options))
    except GnomonError:
        raise
    except FileNotFoundError as error:
        raise NotFound(
            f"source {spec.url} does not hold what was asked for ({one_line(error)}); "
            "check the path and --group"
        ) from error
    except (OSError, BaseError) as error:
        raise Unavailable(f"source {spec.url} cannot be read: {one_line(error)}") from error
    except Exception as error:  # xarray engines raise whatever their libraries raise
        raise NotFound(
            f"source {spec.url} is nothing that xarray can open ({one_line(error)}); "
            "name the engine with --engine, or install the package that reads it"
        ) from error


def _without_notes(dataset: xr.Dataset) -> xr.Dataset:
    """Return a dataset without what a restore said of it: that is of one state, and no data."""
    for attributes in (dataset.attrs, *(v.attrs for v in dataset.variables.values())):
        for name in [n for n in attributes if str(n).startswith(NOTE)]:
            del attributes[name]
    return dataset


@lru_cache(maxsize=1)
def shared_source(spec: SourceSpec, run: str) -> xr.Dataset:  # noqa: ARG001  # a key
    """Return the source as one run opened it, once in each process; do not close it.

    Opening it anew for every block would take longer than reading a small block.  It is closed
    when the next run opens its own, or :func:`release_source` is called, and nobody uses it.
    """
    return open_source(spec)


def release_source() -> None:
    """Let go of the source that a run has shared."""
    shared_source.cache_clear()


def _guess_engine(path: Path) -> str | None:
    if path.is_dir():
        if (path / "gnomon.json").exists():
            raise InvalidInput(
                f"{path} is a Gnomon repository, not a source; give the dataset that it protects"
            )
        if any((path / name).exists() for name in ("zarr.json", ".zgroup", ".zmetadata")):
            return "zarr"
        if (path / "snapshots").is_dir() and (path / "manifests").is_dir():
            return "icechunk"
    return None


def _is_consolidated(group: Path) -> bool:
    """Tell whether a Zarr group describes all that is in it; else xarray would warn and look."""
    if (group / ".zmetadata").exists():
        return True
    try:
        return '"consolidated_metadata"' in (group / "zarr.json").read_text()
    except (OSError, UnicodeDecodeError):
        return False


def _object_store(url: str) -> Any:
    """Return a Zarr store in a bucket; credentials are found as for repositories there."""
    try:
        return ObjectStore(from_url(url.rstrip("/"), retry_config=RETRIES), read_only=True)
    except (BaseError, ValueError) as error:
        raise InvalidInput(f"source {url} is no URL of a store: {one_line(error)}") from error


def _icechunk_store(path: Path) -> Any:
    try:
        import icechunk
    except ImportError as error:
        raise InvalidInput(
            f"{path} is an Icechunk repository; install the icechunk package to read it"
        ) from error
    repository = icechunk.Repository.open(icechunk.local_filesystem_storage(str(path)))
    return repository.readonly_session("main").store


def native(values: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return the values little endian and contiguous, bits otherwise unchanged."""
    if is_text(values.dtype):
        return values.astype(object)
    return np.asarray(values, values.dtype.newbyteorder("<"), order="C")


def check_unchanged(dataset: xr.Dataset, settings: Settings) -> None:
    """Refuse a source whose variables, grid or types are not what they were at init.

    Raises
    ------
    InvalidInput
        Names the first difference.
    """
    for variable in settings.variables:
        if variable.name not in dataset.variables:
            raise InvalidInput(f"the source has no variable {variable.name!r} any more; {ADVICE}")
        found = dataset.variables[variable.name]
        dims = tuple(d for d in found.dims if d != settings.source.time)
        shape = tuple(dataset.sizes[str(d)] for d in dims)
        time = settings.source.time
        axis = found.dims.index(time) if time in found.dims else None
        dtype = type_name(found.dtype)
        for what, now, before in (
            ("dimensions", dims, variable.dims),
            ("shape", shape, variable.shape),
            ("type", dtype, variable.dtype),
            ("time axis", axis, variable.time_axis if time is not None else None),
        ):
            if now != before:
                raise InvalidInput(
                    f"{variable.name} has {what} {now}, at init it had {before}; {ADVICE}"
                )
        other = repacked(variable.attributes, found.attrs, variable.numpy_dtype)
        if other:
            told = (
                f"{n} {found.attrs.get(n)}, at init {variable.attributes.get(n)}" for n in other
            )
            raise InvalidInput(
                f"{variable.name} is packed otherwise than at init ({'; '.join(told)}): the same "
                f"raw values would be other numbers; {ADVICE}"
            )


def check_frame(
    frame: xr.Dataset, dataset: xr.Dataset, names: Collection[str] | None = None
) -> tuple[str, ...]:
    """Refuse a source whose coordinates are not what they were at init; return what to note.

    What differs by rounding, or in its type or packing alone, means the same.

    Parameters
    ----------
    names
        Those that say where the cells are; None: all.

    Raises
    ------
    InvalidInput
        Names the coordinate.
    """
    notes = []
    for name, kept in frame.variables.items():
        if names is not None and name not in names:
            continue
        if name not in dataset.variables:
            raise InvalidInput(f"the source lost {name!r} since init; {ADVICE}")
        now, before = _numbers(dataset.variables[name], kept)
        same = now.shape == before.shape and (
            now.tolist() == before.tolist()
            if before.dtype == object
            else native(now).tobytes() == before.tobytes()
        )
        if same:
            continue
        if now.shape != before.shape or not _is_rounded(now, before):
            raise InvalidInput(
                f"{name!r} of the source differs from what it was at init (the grid changed?); "
                f"{ADVICE}"
            )
        notes.append(f"{name!r} of the source differs from what it was at init by rounding alone")
    return tuple(notes)


def _is_rounded(now: NDArray[Any], before: NDArray[Any]) -> bool:
    """Tell whether numbers differ by no more than the rounding of the coarser of their types."""
    if not {now.dtype.kind, before.dtype.kind} <= set("iuf"):
        return False
    types = [d for d in (now.dtype, before.dtype) if d.kind == "f"]
    if not types or not before.size:
        return bool(np.array_equal(now, before))
    size = np.abs(before[np.isfinite(before)]).max(initial=0.0)
    allowed = _ROUNDINGS * max(float(np.finfo(d).eps) for d in types) * float(size)
    return bool(np.allclose(now.astype(float), before, rtol=0.0, atol=allowed, equal_nan=True))


_ROUNDINGS = 4
"""Steps of the last digit of the largest value that a coordinate may be off."""


def _numbers(now: xr.Variable, before: xr.Variable) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the values of a coordinate, as numbers where it is packed otherwise than before."""
    raw = np.asarray(now.values), np.asarray(before.values)
    names = {"scale_factor", "add_offset", "_Unsigned"}
    if names.isdisjoint(now.attrs) and names.isdisjoint(before.attrs):
        return raw
    if {raw[0].dtype.kind, raw[1].dtype.kind} - set("iuf"):
        return raw
    first, second = (
        Packing(v.dtype, a).to_physical(native(v))
        for v, a in zip(raw, (now.attrs, before.attrs), strict=True)
    )
    return first, second


def refuse_predicted(
    dataset: xr.Dataset,
    variable: Variable,
    positions: Sequence[int] | None,
    cells: tuple[slice, ...],
) -> None:
    """Refuse a region of a source that is itself a restored dataset with estimated cells.

    Raises
    ------
    InvalidInput
        ``<var>_provenance`` marks a cell as predicted: it must never be captured as data.
    """
    marks = f"{variable.name}_provenance"
    if marks not in dataset.variables:
        return
    meanings = str(dataset.variables[marks].attrs.get("flag_meanings", "")).split()
    if meanings[:1] != ["captured"]:
        return
    found = read_states(dataset, replace(variable, name=marks), positions, cells)
    if found.any():
        raise InvalidInput(
            f"the source marks {int((found != 0).sum())} cells of {variable.name} as predicted "
            f"({marks}); predictions are never captured as data, restore from a measured copy"
        )


@without_secrets
def read_states(
    dataset: xr.Dataset,
    variable: Variable,
    positions: Sequence[int] | None,
    cells: tuple[slice, ...],
) -> NDArray[np.generic]:
    """Return a region (state, *dims) of several states, undecoded.

    Parameters
    ----------
    positions
        Indices along time of an append source; None for the one state of a state source.
    cells
        Slices along the variable's own dimensions.

    Raises
    ------
    Unreadable
        What is stored there is damaged: other states may be well.
    Unavailable
        The source did not answer.
    """
    where: dict[str, Any] = dict(zip(variable.dims, cells, strict=True))
    array = dataset[variable.name]
    dims: tuple[Any, ...] = variable.dims
    if positions is not None:
        time = str(array.dims[variable.time_axis])
        first, last = positions[0], positions[-1]
        run = list(positions) == list(range(first, last + 1))
        where[time] = slice(first, last + 1) if run else list(positions)
        dims = (time, *variable.dims)
    try:
        values = np.asarray(array.isel(where).transpose(*dims).values)
    except Exception as error:  # xarray engines raise whatever their libraries raise
        kind = Unreadable if _is_damage(error) else Unavailable
        raise kind(
            f"source: {variable.name} at time indices {positions} cannot be read "
            f"({one_line(error)}); it was not captured, check the source and run again"
        ) from error
    return native(values if positions is not None else values[np.newaxis])


def _is_damage(error: Exception) -> bool:
    """Tell whether a read failed because of the bytes that are there: asking again is no use."""
    if isinstance(error, ConnectionError | TimeoutError):
        return False
    if isinstance(error, OSError):  # libraries that decode raise it without a number
        return error.errno in (None, errno.EIO)
    return isinstance(error, ValueError | RuntimeError | EOFError | zlib.error | lzma.LZMAError)


def read_state(
    dataset: xr.Dataset, variable: Variable, position: int | None, cells: tuple[slice, ...]
) -> NDArray[np.generic]:
    """Return a region of one state, undecoded; see :func:`read_states`."""
    positions = None if position is None else [position]
    return native(read_states(dataset, variable, positions, cells)[0, ...])


def chunk_sizes(dataset: xr.Dataset, variable: Variable) -> tuple[int, tuple[int, ...]]:
    """Return how the source is chunked: steps, and cells along the variable's own dimensions.

    A source that tells no chunks can be read in pieces of any size: 1.
    """
    array = dataset.variables[variable.name]
    preferred = array.encoding.get("preferred_chunks") or {}
    along = [min(int(preferred.get(d, 1)), dataset.sizes[str(d)]) for d in variable.dims]
    own = set(variable.dims)
    steps = next((int(n) for d, n in preferred.items() if d not in own), 1)
    return steps, tuple(along)
