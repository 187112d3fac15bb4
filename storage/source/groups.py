"""The groups of a source: which there are, and what lies in each, without reading any values."""

import warnings
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import xarray as xr
import zarr
from zarr.core.sync import sync

from gnomon.storage.errors import InvalidInput
from gnomon.storage.log.credentials import without_secrets
from gnomon.storage.source.files.listing import is_many, local_path
from gnomon.storage.source.groupfolder import ROOT
from gnomon.storage.source.identify import error_of, groups_of
from gnomon.storage.source.opening import guess_engine, reading, refuse_absent, target_of
from gnomon.storage.values.model import SourceSpec

__all__ = ["Contents", "groups_beside", "groups_in"]

Contents = dict[str, tuple[str, ...]]
"""Dimensions of the variables of a group, by their names."""


def groups_beside(spec: SourceSpec) -> dict[str, tuple[str, ...]]:
    """Return the groups of a source other than the one that is opened, and their variables."""
    path = local_path(spec.url)
    if path is not None and (not path.exists() or (path.is_dir() and not guess_engine(path))):
        return {}
    target, engine, *_ = target_of(spec, path)
    return {
        n: v for n, v in groups_of(target, engine).items() if n != (spec.group or "").strip("/")
    }


@without_secrets
def groups_in(spec: SourceSpec) -> dict[str, Contents | None]:
    """Return the contents of every group of a source, by its path; those of its root as `ROOT`.

    Groups without variables are among them.  None stands for contents that cannot be told, of
    which opening the group says why.

    Raises
    ------
    NotFound
        There is no such path, or nothing in it that xarray can open.
    InvalidInput
        It is many files: which groups these have is not looked for.
    Unavailable
        It cannot be read now.
    """
    path = local_path(spec.url)
    with reading(spec):
        is_dataset = path is not None and guess_engine(path) is not None
        if not is_dataset and is_many(spec.url, spec.engine):
            raise InvalidInput(
                f"source {spec.url} consists of many files, whose groups cannot be protected at "
                "once; name one group with --group"
            )
        if path is not None:
            refuse_absent(spec, path)
        target, engine, *_ = target_of(spec, path)
        try:
            if engine == "zarr":
                # Where a listing costs nothing, what was consolidated too early is not believed.
                consolidated = None if path is None else False
                return dict(_zarr_groups(target, consolidated=consolidated))
            return _groups(target, engine)
        except Exception as error:  # xarray engines raise whatever their libraries raise
            raise error_of(spec, error, target=target, engine=engine, path=path) from error


def _zarr_groups(store: Any, *, consolidated: bool | None) -> Iterator[tuple[str, Contents | None]]:
    """Give the groups of a Zarr store one by one: what is wrong with one says nothing of others."""
    waiting = [zarr.open_group(store, mode="r", use_consolidated=consolidated)]
    while waiting:
        group = waiting.pop()
        path = group.path or ROOT
        try:
            members = dict(group.members())
        except Exception:  # noqa: BLE001 - whatever libraries raise for metadata that are damaged
            yield path, None
            waiting += _readable_groups(group)
            continue
        yield path, {name: _dims(m) for name, m in members.items() if isinstance(m, zarr.Array)}
        waiting += [m for _, m in sorted(members.items()) if isinstance(m, zarr.Group)]


def _readable_groups(group: zarr.Group) -> Iterator[zarr.Group]:
    """Give the groups right within a group in which something else is damaged."""
    for name in sync(_names(group)):
        with suppress(Exception):  # it is what is damaged, or no member
            member = group[name]
            if isinstance(member, zarr.Group):
                yield member


async def _names(group: zarr.Group) -> list[str]:
    return sorted([name.strip("/") async for name in group.store.list_dir(group.path)])


def _dims(array: zarr.Array[Any]) -> tuple[str, ...]:
    names: Any = getattr(array.metadata, "dimension_names", None)
    names = names or array.attrs.get("_ARRAY_DIMENSIONS") or ()
    return tuple(map(str, names))


def _groups(target: Any, engine: str | None) -> dict[str, Contents | None]:
    options: dict[str, Any] = {"engine": engine, "decode_cf": False, "cache": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            datasets = dict(xr.open_groups(target, **options))
        except NotImplementedError:  # files of this kind have no groups
            datasets = {ROOT: xr.open_dataset(target, **options)}
    groups: dict[str, Contents | None] = {}
    for path, dataset in datasets.items():
        groups[path.strip("/") or ROOT] = {
            str(name): tuple(map(str, variable.dims))
            for name, variable in dataset.variables.items()
        }
        dataset.close()
    return groups
