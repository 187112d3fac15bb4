"""The live dataset: opened by path or URL, undecoded.

Anything that xarray opens: Zarr, Icechunk, NetCDF, GRIB where cfgrib is installed.  Values stay as
they are stored (no masking, no scaling, no decoding of times), so that a capture is exact.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr
from obstore.exceptions import BaseError
from obstore.store import from_url
from zarr.storage import ObjectStore

from gnomon.storage.errors import (
    GnomonError,
    InvalidInput,
    NotFound,
    Unavailable,
)
from gnomon.storage.log.credentials import without_secrets
from gnomon.storage.log.location import RETRIES
from gnomon.storage.redaction import one_line
from gnomon.storage.source.cutoff import missing_bytes
from gnomon.storage.source.files.listing import ENDINGS, is_listed, is_many, local_path
from gnomon.storage.source.icechunks import icechunk_store
from gnomon.storage.source.identify import WAIT, error_of, groups_of, listed, told_groups
from gnomon.storage.source.inherited import with_inherited
from gnomon.storage.source.marks import note_marks
from gnomon.storage.source.pipeline import reading_quickly
from gnomon.storage.source.zarrgroup import form_of, open_whole_steps, stale_arrays
from gnomon.storage.values.attributes import NOTE
from gnomon.storage.values.model import SourceSpec

if TYPE_CHECKING:
    from gnomon.storage.source.files.index import SourceMemory

__all__ = [
    "guess_engine",
    "open_source",
    "pinned",
    "reading",
    "refuse_absent",
    "release_source",
    "shared_source",
    "source_path",
    "target_of",
    "would_be_part",
]


def source_path(source: str) -> str:
    """Return a path as an absolute one, from whichever folder a later run looks; a URL as it is."""
    path = local_path(source)
    return source if path is None else str(path.expanduser().absolute())


@without_secrets
def open_source(spec: SourceSpec, memory: "SourceMemory | None" = None) -> xr.Dataset:
    """Open the source, undecoded and lazy.

    Parameters
    ----------
    memory
        What a repository knows of its source; many files are opened faster with it.

    Raises
    ------
    NotFound
        There is no such path, or nothing in it that xarray can open.
    Unavailable
        It cannot be read now, or may not be by this user.
    """
    with reading(spec):
        return _without_notes(_opened(spec, memory))


@contextmanager
def reading(spec: SourceSpec) -> Iterator[None]:
    """Name the source in the error where the operating system does not let us read it."""
    try:
        yield
    except OSError as error:
        raise Unavailable(f"source {spec.url} cannot be read: {one_line(error)}") from error


def _opened(spec: SourceSpec, memory: "SourceMemory | None") -> xr.Dataset:
    # It builds on this module, and few sources need it.
    from gnomon.storage.source.files.opening import open_files

    path = local_path(spec.url)
    is_dataset = path is not None and guess_engine(path) is not None
    if not is_dataset and is_many(spec.url, spec.engine):
        return open_files(spec, memory)
    if path is not None:
        refuse_absent(spec, path)
    target, engine, options, notes = target_of(spec, path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if isinstance(target, ObjectStore):
                options |= form_of(target, spec.group)
            dataset = _open(spec, target, engine, options)
            if spec.group:
                dataset = with_inherited(
                    dataset, spec.group, lambda group: _open_above(spec, group, target, engine)
                )
    except GnomonError:
        raise
    except Exception as error:  # xarray engines raise whatever their libraries raise
        raise error_of(spec, error, target=target, engine=engine, path=path) from error
    if not dataset.variables:
        _refuse_groups(spec, target, engine)
    dataset.encoding["notes"] = (*notes, *dataset.encoding.get("notes", ()))
    note_marks(dataset)
    return dataset


def pinned(spec: SourceSpec) -> SourceSpec:
    """Return the source as it is now, where it keeps versions: an Icechunk snapshot."""
    path = local_path(spec.url)
    with reading(spec):
        if path is None or (spec.engine or guess_engine(path)) != "icechunk":
            return spec
    snapshot = icechunk_store(path, spec).session.snapshot_id
    return replace(spec, branch=None, tag=None, snapshot=str(snapshot))


def target_of(
    spec: SourceSpec, path: Path | None
) -> tuple[Any, str | None, dict[str, Any], tuple[str, ...]]:
    """Return what xarray is to open, with which engine and options, and what to note of it."""
    options: dict[str, Any] = {"decode_cf": False, "cache": False}
    if spec.group is not None:
        options["group"] = spec.group
    target: Any = spec.url if path is None else str(path)
    engine = spec.engine or (None if path is None else guess_engine(path))
    notes: tuple[str, ...] = ()
    if engine == "zarr" and path is not None:
        options["consolidated"], notes = _consolidation(path / (spec.group or ""))
    if engine == "icechunk":
        if path is None:
            raise InvalidInput(f"{spec.url} is remote; only local Icechunk repositories are read")
        options["consolidated"] = False
        return icechunk_store(path, spec), "zarr", options, notes
    if spec.branch or spec.tag or spec.snapshot:
        raise InvalidInput(
            f"{spec.url} is not an Icechunk repository; leave out --branch, --tag and --snapshot"
        )
    # Remote files that are no Zarr stores are left to a library such as fsspec.
    if path is None and (engine == "zarr" or (engine is None and not spec.url.endswith(ENDINGS))):
        target, engine = _object_store(spec.url), "zarr"
    return target, engine, options, notes


@reading_quickly()
def _open(spec: SourceSpec, target: Any, engine: str | None, options: dict[str, Any]) -> xr.Dataset:
    try:
        return xr.open_dataset(target, engine=engine, **options)
    except ValueError as error:
        if engine != "zarr" or "conflicting sizes" not in str(error):
            raise
    options = {n: v for n, v in options.items() if n not in ("group", "consolidated")}
    options |= {"engine": engine, "consolidated": False}
    return open_whole_steps(target, spec.group, spec.time, spec.url, **options)


def _open_above(spec: SourceSpec, group: str | None, target: Any, engine: str | None) -> xr.Dataset:
    """Open another group of a source, as itself and not as consolidated metadata have it."""
    options: dict[str, Any] = {"decode_cf": False, "cache": False, "group": group}
    if engine == "zarr" and local_path(spec.url) is not None:
        options["consolidated"] = False
    return _open(replace(spec, group=group), target, engine, options)


def _refuse_groups(spec: SourceSpec, target: Any, engine: str | None) -> None:
    """Refuse a group that holds no variables but other groups."""
    below = f"{spec.group.strip('/')}/" if spec.group else ""
    groups = {g: v for g, v in groups_of(target, engine).items() if g.startswith(below)}
    if groups:
        place = f"in its group {spec.group!r}" if spec.group else "at its root"
        raise NotFound(
            f"source {spec.url} has no variables {place}, but groups: {told_groups(groups)}; "
            "name one with --group"
        )


def refuse_absent(spec: SourceSpec, path: Path) -> None:
    """Refuse a source on a disk that is not there, or not all of it."""
    if not path.exists():
        raise NotFound(f"source {spec.url} does not exist; check the path")
    if path.is_file():
        _refuse_cut_off(path)


def _refuse_cut_off(path: Path) -> None:
    """Refuse a classic NetCDF file that lacks its end: its library would read zeros there."""
    try:
        lacking = missing_bytes(path)
    except ValueError as error:
        raise Unavailable(
            f"source {path} is damaged ({one_line(error)}), or was cut off; {WAIT}"
        ) from error
    if lacking:
        raise Unavailable(
            f"source {path} is cut off, {lacking} bytes are missing at its end; {WAIT}"
        )


def _without_notes(dataset: xr.Dataset) -> xr.Dataset:
    """Return a dataset without what a restore said of it: that is of one state, and no data."""
    for attributes in (dataset.attrs, *(v.attrs for v in dataset.variables.values())):
        for name in [n for n in attributes if str(n).startswith(NOTE)]:
            del attributes[name]
    return dataset


@lru_cache(maxsize=1)
def shared_source(
    spec: SourceSpec,
    run: str,  # noqa: ARG001  # a key
    memory: "SourceMemory | None" = None,
) -> xr.Dataset:
    """Return the source as one run opened it, once in each process; do not close it.

    Opening it anew for every block would take longer than reading a small block.  It is closed
    when the next run opens its own, or :func:`release_source` is called, and nobody uses it.
    """
    return open_source(spec, memory)


def release_source() -> None:
    """Let go of the source that a run has shared."""
    shared_source.cache_clear()


def guess_engine(path: Path) -> str | None:
    """Return the engine that reads a folder; None of a file, or of a folder that is no dataset."""
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


def would_be_part(path: Path, spec: SourceSpec) -> bool:
    """Tell whether something new at a path would be in a source's store, or one of its files."""
    place = local_path(spec.url)
    if place is None:
        return False
    if guess_engine(place) is None and is_many(spec.url, spec.engine):
        return is_listed(path, spec.url)
    return path.expanduser().resolve().is_relative_to(place.expanduser().resolve())


def _consolidation(group: Path) -> tuple[bool, tuple[str, ...]]:
    """Tell whether the consolidated metadata of a Zarr group are to be used, and why not.

    Without any xarray would warn and look; those of before an append would hide what was added.
    """
    stale = stale_arrays(group)
    if not stale:
        return stale is not None, ()
    return False, (
        f"the consolidated metadata of the source are older than {listed(stale)}, and were not "
        "used; consolidate them anew (zarr.consolidate_metadata)",
    )


def _object_store(url: str) -> Any:
    """Return a Zarr store in a bucket; credentials are found as for repositories there."""
    try:
        return ObjectStore(from_url(url.rstrip("/"), retry_config=RETRIES), read_only=True)
    except (BaseError, ValueError) as error:
        raise InvalidInput(f"source {url} is not the URL of a store: {one_line(error)}") from error
