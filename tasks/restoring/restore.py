"""Restore: write a restore point as a dataset of its own, and verify what was written."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any

import xarray as xr

from gnomon.storage.repository import Repository
from gnomon.storage.serve.planes import Plane
from gnomon.storage.serve.view import raw_dataset
from gnomon.storage.values.selection import EVERYTHING, Selection
from gnomon.tasks.restoring.blocks import write_blocks
from gnomon.tasks.restoring.delivery import blaming, making, verify_rest
from gnomon.tasks.restoring.estimates import estimate_point
from gnomon.tasks.restoring.layout import in_blocks, layout_of
from gnomon.tasks.restoring.mark import mark_of
from gnomon.tasks.restoring.points import heal_point
from gnomon.tasks.restoring.restore_point import RestorePoint
from gnomon.tasks.restoring.states import States, notes_of, summary_of
from gnomon.tasks.restoring.targets.registry import target_of
from gnomon.tasks.restoring.targets.target import Layout, Resumable, Target
from gnomon.tasks.work import Mapper, serial

__all__ = [
    "Restored",
    "checked_target",
    "deliver",
    "planes",
    "planes_of",
    "restore",
]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore wrote."""

    target: str
    """Path of the new dataset."""
    points: tuple[RestorePoint, ...]
    """What it holds, in order of time, with the figures that healing found."""
    chunks: int
    """Chunks, or parts of them, that were read back and verified."""
    kept: int = 0
    """Those of them that a try that was killed had written."""

    @property
    def point(self) -> RestorePoint:
        """What it holds; of a period, the first state."""
        return self.points[0]

    def __str__(self) -> str:
        """Say in one line what was written."""
        kept = f", {self.kept} of them written by an earlier try" if self.kept else ""
        return (
            f"restored to {self.target}: {summary_of(self.points)}; {self.chunks} chunks "
            f"verified{kept}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        points = [point.to_json() for point in self.points]
        return {
            "target": self.target,
            "point": points[0],
            "points": points,
            "chunks": self.chunks,
            "kept": self.kept,
        }


def planes(
    repository: Repository, point: RestorePoint, selection: Selection = EVERYTHING
) -> tuple[tuple[Plane, ...], RestorePoint]:
    """Return the planes to serve for a restore point, and the point; healed, with its figures."""
    if point.shadow is None and point.kind in ("interpolated", "forecast", "climatology"):
        estimate = estimate_point(repository, point.instant)
        assert estimate is not None
        return (Plane(point.instant, estimators=estimate[1]),), point
    if point.kind == "forecast":
        return (Plane(point.instant, shadow=point.shadow, lead=point.lead),), point
    assert point.step is not None
    if point.kind != "healed":
        return (Plane(point.instant, step=point.step),), point
    patches, healed_point = heal_point(repository, point, selection)
    return (Plane(point.instant, step=point.step, patches=patches),), healed_point


def planes_of(states: States) -> tuple[tuple[Plane, ...], tuple[RestorePoint, ...]]:
    """Return the planes to serve for states, in order of time, and the points as `planes` does."""
    if states.shown is not None:
        return states.shown, states.points
    served = [planes(states.seen, point, states.selection) for point in states.points]
    return tuple(p for shown, _ in served for p in shown), tuple(point for _, point in served)


def restore(
    states: States,
    to: str | PathLike[str] | Target,
    *,
    plain: bool = False,
    marks: bool = False,
    zarr_format: int | None = None,
    mapper: Mapper = serial,
) -> Restored:
    """Write states along time to a target, and read back all that was written.

    The dataset appears under its name only when it is complete, verified and durable.  What a
    killed try of the same restore has written, and what can be verified of it, is not written
    again.

    Parameters
    ----------
    states
        Of what is not selected of them nothing is read.
    to
        A target, or the path or URL of one; its ending or scheme says of which kind.
    plain
        Refuse a state with estimated cells.
    marks
        Write standard errors, provenance and notes of a state whose cells were all captured, too.
    zarr_format
        Of a Zarr store: 2 or 3; default: 3.

    Raises
    ------
    Conflict
        The target exists.
    InvalidInput
        A plain restore of something predicted was asked for, or the target cannot be written;
        nothing of it is left behind.
    Integrity
        A stored chunk is damaged, or what is restored is not what was captured.
    TargetFailed
        What can be read back is not what was written, or the target failed.
    Unavailable
        A store, or a worker, did not answer; try again.
    """
    repository, selection = states.seen, states.selection
    target = checked_target(repository, to, zarr_format)
    shown, points = planes_of(states)
    notes, summary = notes_of(points), summary_of(points)
    dataset = raw_dataset(
        repository, shown, plain=plain, marks=marks, notes=notes, selection=selection
    )
    chunks, kept = deliver(
        repository, dataset, shown, target, selection=selection, summary=summary, mapper=mapper
    )
    return Restored(str(target), points, chunks, kept)


def checked_target(
    repository: Repository, to: str | PathLike[str] | Target, zarr_format: int | None = None
) -> Target:
    """Return the target that is asked for, if it can be written; nothing is."""
    target = target_of(to, zarr_format)
    with blaming(target):
        target.check(repository)
    return target


def deliver(
    repository: Repository,
    dataset: xr.Dataset,
    shown: tuple[Plane, ...],
    target: Target,
    *,
    selection: Selection = EVERYTHING,
    summary: str,
    mapper: Mapper,
) -> tuple[int, int]:
    """Write a view to a checked target, and read back all that was written.

    Parameters
    ----------
    dataset
        The view of the planes, undecoded.
    selection
        What of the planes it holds.
    summary
        What it is, in one line for people.

    Returns
    -------
    tuple
        Chunks that were verified, and those of them that a killed try had written.
    """
    layout = layout_of(repository, dataset, selection)
    if isinstance(target, Resumable):
        with blaming(target):
            target = target.marked(mark_of(repository, shown, summary, dataset, layout))
    with making(target) as draft:
        with blaming(target):
            _create(draft, in_blocks(dataset, layout), layout)
        blocks = write_blocks(repository, layout, shown, draft, selection, mapper)
        with blaming(target):
            verify_rest(dataset.drop_vars(layout), draft)
            draft.finish([part for block in blocks for part in block.written])
    return sum(block.chunks for block in blocks), sum(block.kept for block in blocks)


def _create(draft: Target, dataset: xr.Dataset, layout: Mapping[str, Layout]) -> None:
    if not isinstance(draft, Resumable):
        draft.create(dataset, layout)
    elif not draft.resumed:
        draft.create(dataset, layout)
        draft.created()
