"""The live dataset of a state: which one it is, and opened where it is of the repository's grid."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import xarray as xr

from gnomon.storage.changes.observed import grid_names
from gnomon.storage.errors import InvalidInput, NotFound
from gnomon.storage.log.credentials import refuse_credentials
from gnomon.storage.repository import Repository
from gnomon.storage.source.files.listing import local_path
from gnomon.storage.source.opening import open_source, source_path
from gnomon.storage.source.unchanged import check_frame, check_unchanged
from gnomon.storage.values.model import SourceSpec
from gnomon.storage.values.times import format_instant
from gnomon.tasks.capturing.sighting import sight
from gnomon.tasks.restoring.restore_point import RestorePoint

__all__ = ["live_spec", "opened_live"]


def live_spec(repository: Repository, point: RestorePoint, into: str | None) -> SourceSpec:
    """Return the dataset that a restore point is written into.

    Parameters
    ----------
    into
        Path or URL of another dataset of the same grid; None: the source.

    Raises
    ------
    InvalidInput
        The point is of an era that the source is no longer of, or `into` holds a secret.
    """
    source = repository.settings.source
    if point.era != len(repository.eras) - 1:
        raise InvalidInput(
            f"{point.valid_time} was captured in era {point.era}, before the source changed its "
            "grid or types; it cannot be written into it, restore to a new place with --to"
        )
    if into is None:
        return source
    refuse_credentials("--to", into)
    url = source_path(into)
    if _is_same_place(url, source.url):  # under another name, perhaps: how it is opened is known
        return source
    # Of another dataset nothing is known but where its variables are; undo may be run elsewhere.
    return replace(source, url=url, engine=None, branch=None, tag=None, snapshot=None)


def _is_same_place(url: str, other: str) -> bool:
    """Tell whether two URLs, or paths, lead to the same file or folder."""
    paths = local_path(url), local_path(other)
    if None in paths:
        return url.rstrip("/") == other.rstrip("/")
    try:
        return os.path.samefile(*(path.expanduser() for path in paths if path is not None))
    except OSError:
        return False


@contextmanager
def opened_live(
    repository: Repository, spec: SourceSpec, instant: int, *, otherwise: str
) -> Iterator[tuple[xr.Dataset, int | None]]:
    """Give an open live dataset, undecoded, and the place of a state along its time.

    Parameters
    ----------
    otherwise
        What a person may do if it has no step of that time.

    Yields
    ------
    dataset
        Open inside only.
    position
        None for a state source.

    Raises
    ------
    NotFound
        It has no step of that time.
    InvalidInput
        It has several, or another grid.
    """
    memory = repository.memory if spec == repository.settings.source else None
    with open_source(spec, memory) as dataset:
        check_unchanged(dataset, repository.settings)
        check_frame(repository.frame, dataset, grid_names(repository.settings))
        yield dataset, _position(repository, dataset, instant, otherwise)


def _position(
    repository: Repository, dataset: xr.Dataset, instant: int, otherwise: str
) -> int | None:
    if repository.settings.source.kind == "state":
        return None
    positions = sight(repository, dataset).positions(instant)
    if len(positions) == 1:
        return positions[0]
    time = format_instant(instant, repository.settings.calendar)
    if positions:
        raise InvalidInput(
            f"the live dataset has {len(positions)} steps of {time}, and it is not known which one "
            "is meant; remove the others"
        )
    raise NotFound(f"the live dataset has no step of {time} whose time is believed; {otherwise}")
