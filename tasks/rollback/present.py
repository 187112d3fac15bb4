"""Where the live dataset of a rollback is by now: a source may have moved, a copy may be gone."""

from glob import glob
from pathlib import Path

import zarr
from zarr.abc.store import Store

from gnomon.storage.errors import Conflict, NotFound
from gnomon.storage.live.replaced import load_list
from gnomon.storage.live.stores import LiveStore, live_store
from gnomon.storage.log.steps import Rollback
from gnomon.storage.redaction import redacted
from gnomon.storage.repository import Repository
from gnomon.storage.source.files.listing import is_many, local_path
from gnomon.storage.values.model import SourceSpec

__all__ = ["present_spec", "present_store"]


def present_spec(repository: Repository, rollback: Rollback) -> SourceSpec:
    """Return where what a rollback has written is by now: what was the source is where that is."""
    return repository.settings.source if rollback.is_source else rollback.live


def present_store(repository: Repository, rollback: Rollback) -> LiveStore:
    """Return the live dataset of a rollback.

    That an object of a Zarr store is not there may be what it was before.  So a store that is not
    there at all would look as if it was taken back.  A file that was replaced was there: that it is
    gone is seen when it is taken back.

    Raises
    ------
    NotFound
        There is none.
    Conflict
        It is the source, whose objects have other names by now.
    """
    spec = present_spec(repository, rollback)
    number, place = rollback.sequence, redacted(spec.url)
    objects = load_list(repository.location, rollback).objects
    is_file = [change.key for change in objects] == [_name(rollback.live)]
    if not _exists(spec, is_file=is_file):
        raise NotFound(f"{place}, which rollback {number} was written into, is not there; {_CURE}")
    live = live_store(spec)
    before, now = rollback.live, spec
    is_renamed = (
        live.zarr() is None and not is_many(now.url, now.engine) and _name(before) != _name(now)
    )
    if before.group != now.group or is_renamed:
        raise Conflict(
            f"rollback {number} was written into {redacted(before.url)}, group "
            f"{before.group or '/'}; the source is called otherwise by now ({place}, group "
            f"{now.group or '/'}), nothing was taken back; give it its name back for that time, "
            "with 'gnomon source --set'"
        )
    store = live.zarr()
    if store is not None and not _opens(store, spec):
        raise NotFound(
            f"{place}, which rollback {number} was written into, holds no such dataset; {_CURE}"
        )
    return live


_CURE = (
    "nothing was taken back; put it back, or say where the source is with 'gnomon source --set', "
    "and run 'gnomon undo' again; or give it up with 'gnomon undo --force'"
)


def _name(spec: SourceSpec) -> str:
    return Path(spec.url).name


def _exists(spec: SourceSpec, *, is_file: bool) -> bool:
    """Tell whether a dataset is there, or, of a single file, where it would be."""
    path = local_path(spec.url)
    if path is None:
        return True  # whether there is anything is seen when it is opened
    path = path.expanduser()
    return path.exists() or bool(glob(str(path))) or (is_file and path.parent.is_dir())


def _opens(store: Store, spec: SourceSpec) -> bool:
    """Tell whether there is a Zarr dataset in a store."""
    try:
        zarr.open(store, path=spec.group or "", mode="r")
    except (FileNotFoundError, KeyError, ValueError):
        return False
    return True
