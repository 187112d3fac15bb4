"""Rollback: write a restore point into a live dataset, and only where that differs from it.

First it is found which chunks differ, and their objects are made beside; nothing is written then.
What they were is put into the repository, with one log record; only after it the objects are
replaced, one by one, and read back.  A rollback that is stopped in between is taken back by the
next command that looks: see :mod:`gnomon.tasks.rollback.undo`.
"""

import hashlib
import json
import logging
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gnomon.storage.errors import Conflict
from gnomon.storage.live.replaced import (
    EstimatedChunk,
    Replaced,
    entry_of,
    keep,
    keep_cells,
    keep_list,
)
from gnomon.storage.live.stores import LiveStore, live_store
from gnomon.storage.log.bodies.report import Report
from gnomon.storage.log.bodies.rollback import RollbackBody
from gnomon.storage.log.staging import Batch, fresh_id
from gnomon.storage.log.steps import Rollback
from gnomon.storage.redaction import redacted
from gnomon.storage.repository import Repository
from gnomon.storage.values.grid import Index
from gnomon.storage.values.model import SourceSpec
from gnomon.storage.values.times import chronological
from gnomon.tasks.restoring.restore import planes_of
from gnomon.tasks.restoring.restore_point import RestorePoint
from gnomon.tasks.restoring.states import States
from gnomon.tasks.rollback.differences import ChunkChange, Intended, differences
from gnomon.tasks.rollback.fitting import Unheld, refuse_unheld
from gnomon.tasks.rollback.live import live_spec, opened_live
from gnomon.tasks.rollback.staging import StagedObject, Staging, stage
from gnomon.tasks.rollback.undo import ended, refuse_open, take_back
from gnomon.tasks.rollback.verify import Written
from gnomon.tasks.rollback.writer import at_work, this_writer
from gnomon.tasks.work import Mapper, serial

__all__ = ["RollbackPlan", "Rolled", "plan_rollback", "rollback"]

logger = logging.getLogger(__name__)

Mended = Mapping[str, Collection[Index]]

_OTHERWISE = (
    "only steps that are there are written in place: append one first, or restore to a new place "
    "with --to"
)


@dataclass(frozen=True, slots=True)
class RollbackPlan:
    """What would be written into a live dataset."""

    live: str
    """Path or URL of the live dataset."""
    point: RestorePoint
    """What would be written."""
    chunks: tuple[ChunkChange, ...]
    """Chunks that differ."""
    objects: tuple[StagedObject, ...]
    """Objects that would be replaced."""
    is_atomic: bool
    """Whether readers see all of it at once."""
    spared: int = 0
    """Chunks that differ and would be left alone: the live dataset has values there, and there is
    but a forecast; or the source has changed what was to be mended."""
    unheld: tuple[Unheld, ...] = ()
    """Chunks that are left alone, as the live dataset's type cannot hold what should be there."""
    remarks: tuple[str, ...] = ()
    """What will be otherwise than before in the live dataset, beside what its chunks hold."""

    @property
    def nbytes(self) -> int:
        """Bytes that would be written into the live dataset."""
        return sum(o.change.after[0] for o in self.objects if o.change.after is not None)

    @property
    def cells(self) -> int:
        """Cells that would change."""
        return sum(chunk.cells for chunk in self.chunks)

    @property
    def also(self) -> tuple[str, ...]:
        """Valid times, ISO 8601, of other steps that are put back as they were captured: they lie
        in objects that cannot be decoded."""
        times = {along.time for staged in self.objects for along in staged.along}
        return tuple(sorted(times, key=chronological))

    @property
    def token(self) -> str:
        """What stands for this plan: it is another once the live dataset, or the answer, is."""
        document = [
            self.live,
            *([o.change.key, o.change.before, o.change.after] for o in self.objects),
        ]
        return hashlib.sha256(json.dumps(document).encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "live": redacted(self.live),
            "plan": self.token,
            "point": self.point.to_json(),
            "chunks": [
                {
                    "variable": c.variable,
                    "chunk": "/".join(map(str, c.index)),
                    "cells": c.cells,
                    "estimated": c.estimated,
                    "damaged": c.is_damaged,
                    "clipped": c.clipped,
                }
                for c in self.chunks
            ],
            "cells": self.cells,
            "objects": [o.change.key for o in self.objects],
            "bytes": self.nbytes,
            "spared": self.spared,
            "also": list(self.also),
            "remarks": list(self.remarks),
            "atomic": self.is_atomic,
        }

    def __str__(self) -> str:
        return (
            f"{self.point} into {redacted(self.live)}: {len(self.chunks)} chunks, {self.cells} "
            f"cells, {len(self.objects)} objects, {self.nbytes} bytes"
        )


@dataclass(frozen=True, slots=True)
class Rolled:
    """What a rollback wrote."""

    plan: RollbackPlan
    """What it was."""
    sequence: int | None
    """Number of its record, by which it can be taken back; None if nothing differed."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return self.plan.to_json() | {"rollback": self.sequence}


@contextmanager
def _planned(
    states: States, spec: SourceSpec, mapper: Mapper, mended: Mended | None = None
) -> Iterator[tuple[RollbackPlan, LiveStore, Written]]:
    """Give the plan, with its objects made in a folder that is there inside only."""
    repository, selection = states.seen, states.selection
    refuse_open(repository)
    live = live_store(spec)
    (plane,), (point,) = planes_of(states)
    with (
        tempfile.TemporaryDirectory(prefix="gnomon-") as folder,
        opened_live(repository, spec, point.instant, otherwise=_OTHERWISE) as (dataset, position),
    ):
        intended = Intended.of(repository, plane, dataset, position, selection, mended)
        different = differences(repository, intended, dataset, position, mapper)
        if mended is None:
            refuse_unheld(different.unheld)
        staging = Staging(repository, live, spec, dataset, position, intended, Path(folder))
        objects = tuple(stage(staging, different.changes, mapper))
        plan = RollbackPlan(
            spec.url,
            point,
            different.changes,
            objects,
            live.is_atomic,
            different.spared,
            different.unheld,
            _remarks(objects, live),
        )
        yield plan, live, Written(plan.chunks, objects, position, intended.readings)


def _remarks(objects: Sequence[StagedObject], live: LiveStore) -> tuple[str, ...]:
    keys: dict[str, list[str]] = {}
    for key in (staged.change.key for staged in objects):
        for remark in live.remarks(key):
            keys.setdefault(remark, []).append(key)
    return tuple(f"{_named(those)}: {remark}" for remark, those in keys.items())


def plan_rollback(
    states: States, *, into: str | None = None, mapper: Mapper = serial
) -> RollbackPlan:
    """Return what a rollback would write; writes nothing.

    Parameters
    ----------
    states
        One, and what of it is written; nothing else is read.
    into
        Path or URL of another dataset of the same grid; None: the source.

    Raises
    ------
    InvalidInput
        The live dataset's type cannot hold a number that would be written.
    """
    with _planned(states, _spec(states, into), mapper) as (plan, _, _):
        return plan


def _spec(states: States, into: str | None) -> SourceSpec:
    (point,) = states.points
    return live_spec(states.seen, point, into)


def rollback(
    states: States,
    *,
    at: str,
    into: str | None = None,
    expected: str | None = None,
    force: bool = False,
    mended: Mended | None = None,
    report: Callable[[RollbackPlan], Report] | None = None,
    mapper: Mapper = serial,
) -> Rolled:
    """Write a state into a live dataset, and keep what it replaces.

    Parameters
    ----------
    states, into
        As for :func:`plan_rollback`.
    at
        Wall-clock time of the commit, ISO 8601.
    expected
        Token of the plan that was looked at; None: none was.
    force
        Write also where somebody has changed an object since the plan.
    mended
        By variable, the only chunks that are written, and only where they are as they were
        captured; those that the live dataset's type cannot hold are left out.  None: nobody says
        so.
    report
        What is to be told of a plan, where nobody has asked for it.
    mapper
        Works on threads of this process.

    Raises
    ------
    InvalidInput
        The live dataset's type cannot hold a number that would be written.
    Conflict
        The live dataset is not what it was when the plan was made, or another rollback is under
        way; it is as it was before.
    TargetFailed
        What can be read back is not what was written; it was taken back.
    """
    repository, spec = states.seen, _spec(states, into)
    with _planned(states, spec, mapper, mended) as (plan, live, written):
        if expected not in (None, plan.token) and not force:
            raise Conflict(
                f"the plan is {plan.token} by now, {expected} was expected: the live dataset, or "
                "the answer, has changed since; look at --dry-run again, or leave --plan out"
            )
        if not plan.objects and not plan.unheld:
            return Rolled(plan, None)
        told = None if report is None else report(plan)
        batch = Batch(repository.location, fresh_id(len(repository.records)))
        with at_work(batch.id):
            begun = _begin(repository, batch, plan, live, spec, at, force=force, report=told)
            mark = begun.state.rollbacks[-1]
            try:
                _replace(plan, live, mark, force=force)
                written.verify(begun, live, spec)
            except BaseException as error:
                _withdraw(begun, mark, at, error)
                raise
            # A record that nothing could be stored is told once: there is nothing to take back.
            ended(begun, mark, "done" if plan.objects else "undone", at)
    return Rolled(plan, mark.sequence if plan.objects else None)


def _begin(
    repository: Repository,
    batch: Batch,
    plan: RollbackPlan,
    live: LiveStore,
    spec: SourceSpec,
    at: str,
    *,
    force: bool,
    report: Report | None,
) -> Repository:
    """Keep what is going to be replaced, and put the record; returns the repository with it."""
    changes = []
    for number, staged in enumerate(plan.objects):
        before = keep(batch, number, staged.change.key, live)
        if before != staged.change.before and not force:
            raise _changed(staged.change.key)
        changes.append(replace(staged.change, before=before))
    estimates: dict[str, dict[Index, EstimatedChunk]] = {}
    for number, chunk in enumerate(c for c in plan.chunks if c.estimates):
        cells = keep_cells(batch, number, chunk.estimates)
        kept = EstimatedChunk(chunk.digest, number, cells)
        estimates.setdefault(chunk.variable, {})[chunk.index] = kept
    listed = keep_list(batch, Replaced(tuple(changes), estimates))
    body = RollbackBody(
        instant=plan.point.instant,
        live=spec,
        what=str(plan.point),
        objects=len(plan.objects),
        chunks=len(plan.chunks),
        estimated=sum(map(len, estimates.values())),
        listed=listed,
        writer=this_writer(),
        report=report,
    )

    def commit(seen: Repository) -> Repository:
        refuse_open(seen)
        if _standing(seen, plan.point) != _standing(repository, plan.point):
            raise Conflict(
                f"{plan.point.valid_time} was captured again, or judged, since it was chosen; "
                "nothing was written, run it again"
            )
        return seen.commit(body, at, batch)

    return repository.retried(commit)


def _standing(repository: Repository, point: RestorePoint) -> list[tuple[int, int]]:
    """Return which captures of a point's time stand, and how many chunks of each are suspect."""
    return [(s.step, s.suspects) for s in repository.timeline if s.instant == point.instant]


def _replace(plan: RollbackPlan, live: LiveStore, mark: Rollback, *, force: bool) -> None:
    for staged in plan.objects:
        change = staged.change
        if not force and entry_of(live.pieces(change.key)) != change.before:
            raise _changed(change.key)
        live.replace(change.key, staged.pieces(), mark.id)
    live.finish(f"gnomon: {mark.what}")


def _changed(key: str) -> Conflict:
    return Conflict(
        f"{key} of the live dataset was changed by somebody else since the plan was made; nothing "
        "of the rollback stays, run it again when its writer is done, or with --force"
    )


def _withdraw(repository: Repository, mark: Rollback, at: str, error: BaseException) -> None:
    """Put back what was replaced; what goes wrong with that is for the next command."""
    try:
        # Opened anew: of a branch, what was replaced and not committed is forgotten so.
        foreign = take_back(repository, mark, live_store(mark.live))
        ended(repository, mark, "undone", at)
    except Exception as failure:  # noqa: BLE001 - the first error is what is raised
        logger.warning(
            "the rollback failed (%s), and could not be taken back (%s); run 'gnomon undo'",
            error,
            failure,
        )
        return
    if foreign:
        logger.warning("left as somebody else has written them since: %s", _named(foreign))


def _named(keys: Sequence[str]) -> str:
    shown = ", ".join(keys[:3])
    return f"{shown} and {len(keys) - 3} more" if len(keys) > 3 else shown
