"""Icechunk repositories as sources: the state of a branch, a tag or a snapshot."""

from pathlib import Path
from typing import Any

from gnomon.storage.errors import InvalidInput, NotFound, Unavailable
from gnomon.storage.redaction import one_line
from gnomon.storage.source.identify import listed
from gnomon.storage.values.model import SourceSpec

__all__ = ["icechunk_store", "open_icechunk"]


def open_icechunk(path: Path) -> Any:
    """Return a local Icechunk repository.

    Raises
    ------
    InvalidInput
        The package is not there.
    Unavailable
        It cannot be opened.
    """
    try:
        import icechunk
    except ImportError as error:
        raise InvalidInput(
            f"{path} is an Icechunk repository; install the icechunk package to read it"
        ) from error
    try:
        return icechunk.Repository.open(icechunk.local_filesystem_storage(str(path)))
    except icechunk.IcechunkError as error:
        raise Unavailable(
            f"the Icechunk repository {path} cannot be opened: {one_line(error)}"
        ) from error


def icechunk_store(path: Path, spec: SourceSpec) -> Any:
    """Return a read-only Zarr store of a local Icechunk repository.

    Raises
    ------
    NotFound
        It has no such branch, tag or snapshot.
    InvalidInput
        More than one of them is named, or the package is not there.
    """
    named = {n: v for n in ("branch", "tag", "snapshot") if (v := getattr(spec, n)) is not None}
    if len(named) > 1:
        raise InvalidInput(f"give one of {', '.join(f'--{n}' for n in named)}")
    repository = open_icechunk(path)
    import icechunk

    try:
        branches, tags = sorted(repository.list_branches()), sorted(repository.list_tags())
    except icechunk.IcechunkError as error:
        raise Unavailable(
            f"the Icechunk repository {path} cannot be opened: {one_line(error)}"
        ) from error
    (kind, name), *_ = named.items() or [("branch", "main")]
    there = f"it has the branches {listed(branches)}, and {_tags(tags)}"
    if kind != "snapshot" and name not in (branches if kind == "branch" else tags):
        raise NotFound(f"the Icechunk repository {path} has no {kind} {name!r}; {there}")
    try:
        session = repository.readonly_session(
            branch=name if kind == "branch" else None,
            tag=name if kind == "tag" else None,
            snapshot_id=name if kind == "snapshot" else None,
        )
        return session.store
    except (icechunk.IcechunkError, ValueError) as error:
        raise NotFound(
            f"the Icechunk repository {path} has no {kind} {name!r} ({one_line(error)}); {there}"
        ) from error


def _tags(tags: list[str]) -> str:
    return f"the tags {listed(tags)}" if tags else "no tags"
