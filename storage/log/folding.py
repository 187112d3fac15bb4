"""Folding: what log records add up to, one after another.

:func:`fold` goes through the records once; a state is never changed, so readers keep the one they
were opened with.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from gnomon.storage.errors import Integrity
from gnomon.storage.log.bodies.body import Header, folder_name
from gnomon.storage.log.bodies.capture import CaptureBody, RewriteBody
from gnomon.storage.log.bodies.care import PruneBody
from gnomon.storage.log.bodies.choices import ForgetBody, RulesBody, TagBody
from gnomon.storage.log.bodies.patch import PatchBody
from gnomon.storage.log.bodies.rollback import RollbackBody, RolledBody
from gnomon.storage.log.bodies.shadow import ShadowBody
from gnomon.storage.log.bodies.source import EraBody, SourceBody, VariablesBody
from gnomon.storage.log.bodies.verdict import VerdictBody
from gnomon.storage.log.description import (
    Change,
    Description,
    described,
)
from gnomon.storage.log.folders import frame_of
from gnomon.storage.log.history import History, Place
from gnomon.storage.log.records import Record
from gnomon.storage.log.steps import CapturedStep, Patches, Rollback, Shadow
from gnomon.storage.values.documents import NONSENSE, whole
from gnomon.storage.values.grid import Index
from gnomon.storage.values.model import SUSPECT, TRUSTED, RepositorySettings, SourceSpec, Variable
from gnomon.storage.values.plausible import (
    check_reading,
    check_settings,
)

__all__ = ["fold"]


def fold(eras: tuple[History, ...], records: Iterable[Record]) -> tuple[History, ...]:
    """Return the state of every era after further records, the present one last.

    A prune concerns all eras; what else a record says is of the era that it names.

    Raises
    ------
    Integrity
        A record does not hold what its kind needs.
    """
    histories = list(eras[:-1])
    folding = _Folding.of(eras[-1])
    for record in records:
        try:
            header = Header.from_json(record.body)
            if record.kind == "prune":
                PruneBody.from_json(record.body)
                histories = [state.pruned() for state in histories]
                folding = _Folding.of(folding.state().pruned())
            elif record.kind == "era":
                histories.append(folding.state())
                folding = _Folding(EraBody.from_json(record.body).settings)
            else:
                era = (
                    len(histories)
                    if header.era is None
                    else whole(header.era, "era", most=len(histories))
                )
                if era == len(histories):
                    folding.take(record, header)
                else:
                    past = _Folding.of(histories[era])
                    past.take(record, header)
                    histories[era] = past.state()
        except NONSENSE as error:
            raise Integrity(
                f"log record {record.sequence} ({record.kind:.40}) does not hold what it should "
                f"({type(error).__name__}: {str(error)[:200]}); the repository was tampered with, "
                "restore it from a copy"
            ) from error
    return (*histories, folding.state())


class _Folding:
    """A state in the making."""

    def __init__(self, settings: RepositorySettings) -> None:
        self._settings = settings
        self._begun: RepositorySettings | None = None
        self._counts = {v.name: v.grid.counts for v in settings.variables}
        self._captured: list[CapturedStep] = []
        self._slabs: dict[str, dict[str, str]] = {}
        self._shadows: list[Shadow] = []
        self._patches: dict[int, Patches] = {}
        self._verdicts: dict[str, dict[tuple[int, Index], int]] = {}
        self._accepted: dict[str, set[tuple[int, Index]]] = {}
        self._believed: set[int] = set()
        self._rules = RulesBody(None)
        self._places: set[Place] = set()
        self._folders: dict[str, int] = {}
        self._forecasters: set[str] = set()
        self._changes: list[Change] = []
        self._frames: set[str] = set()
        self._rollbacks: dict[int, Rollback] = {}
        self._described: Description | None = None
        """The newest description, as soon as it is asked for."""
        self._grown: History | None = None
        """The state before, as long as no capture of it is changed."""

    @classmethod
    def of(cls, state: History) -> "_Folding":
        """Return a state to go on from."""
        folding = cls(state.settings)
        folding._captured = list(state.captured)
        folding._slabs = dict(state.slabs)
        folding._shadows = list(state.shadows)
        folding._patches = dict(state.patches)
        folding._verdicts = {n: dict(v) for n, v in state.verdicts.items()}
        folding._accepted = {n: set(v) for n, v in state.accepted.items()}
        folding._believed = set(state.believed)
        folding._rules = state.rules
        folding._places = set(state.places)
        folding._folders = dict(state.folders)
        folding._forecasters = set(state.forecasters)
        folding._begun = state.begun
        folding._changes = list(state.changes)
        folding._frames = set(state.frames)
        folding._rollbacks = {rollback.sequence: rollback for rollback in state.rollbacks}
        folding._grown = state
        return folding

    def state(self) -> History:
        history = History(
            self._settings,
            captured=tuple(self._captured),
            slabs=self._slabs,
            shadows=tuple(self._shadows),
            patches=dict(self._patches),
            verdicts=self._verdicts,
            accepted={name: frozenset(chunks) for name, chunks in self._accepted.items()},
            believed=frozenset(self._believed),
            revisable=self._rules.revisable,
            candidates=self._rules.candidates,
            auto_heal=self._rules.auto_heal,
            places=frozenset(self._places),
            folders=dict(self._folders),
            forecasters=frozenset(self._forecasters),
            begun=self._begun,
            changes=tuple(self._changes),
            frames=frozenset(self._frames),
            rollbacks=tuple(self._rollbacks.values()),
        )
        if self._grown is not None:
            history.follow(self._grown)
        return history

    def take(self, record: Record, header: Header) -> None:  # noqa: PLR0912 - a branch per kind
        """Add what a record says; kinds that say nothing of the state are passed over."""
        if header.id is not None:
            self._folders[header.id] = record.sequence
        match record.kind:
            case "capture":
                self._capture(record, folder_name(header.id))
            case "shadow":
                self._shadow(
                    ShadowBody.from_json(record.body), folder_name(header.id), record.sequence
                )
            case "patch":
                self._patch(PatchBody.from_json(record.body), folder_name(header.id))
            case "verdict":
                self._verdict(VerdictBody.from_json(record.body))
            case "rewrite":
                self._rewrite(RewriteBody.from_json(record.body), folder_name(header.id))
            case "forget":
                for step in self._there(*ForgetBody.from_json(record.body).steps):
                    self._change(step, forgotten=True)
                    self._patches.pop(step, None)
            case "tag":
                self._tag(TagBody.from_json(record.body))
            case "rules":
                self._rules = RulesBody.from_json(record.body)
            case "source":
                self._move(SourceBody.from_json(record.body).source)
            case "rollback":
                self._roll_back(record, folder_name(header.id))
            case "rolled":
                self._rolled(RolledBody.from_json(record.body), record.committed_at)
            case "variables":
                for variable in VariablesBody.from_json(record.body).added:
                    self._add(variable)

    def _capture(self, record: Record, slab: str) -> None:
        body = CaptureBody.from_json(record.body)
        self._slabs[slab] = self._roots({n: entry.root for n, entry in body.variables.items()})
        append = self._settings.source.time is not None
        width = np.dtype(self._settings.time_dtype).itemsize if append else 0
        if len(body.raw_times) != len(body.instants) * width:
            raise ValueError(
                f"{len(body.raw_times)} bytes of times for {len(body.instants)} captures"
            )
        for step in body.revises.values():
            whole(step, "revises", most=len(self._captured) + len(body.instants) - 1)
        for local, instant in enumerate(body.instants):
            if local in body.descriptions:
                self._describe(slab, body.descriptions[local])
            self._captured.append(
                CapturedStep(
                    step=len(self._captured),
                    instant=instant,
                    slab=slab,
                    local=local,
                    sequence=record.sequence,
                    captured_at=record.committed_at,
                    raw_time=body.raw_times[local * width : (local + 1) * width],
                    revises=body.revises.get(local),
                    suspects=body.suspects[local],
                    read_at=body.read_at or record.committed_at,
                    description=len(self._changes),
                )
            )
            self._places.add((slab, local))
        # Of a time that was captured again, another version is what is restored.
        again = set(body.instants)
        self._patches = {
            s: p for s, p in self._patches.items() if self._captured[s].instant not in again
        }

    def _describe(self, folder: str, change: Change) -> None:
        """Add what the source has changed; ValueError if it does not fit the description before."""
        before = self._described or described(self._settings, self._changes)
        self._described = change.after(before)
        for variable in self._settings.variables:
            if variable.name in change.variables or variable.name in change.conversions:
                check_reading(self._described.reading(variable))
        self._changes.append(change)
        files = (str(entry["file"]) for entry in change.fixed.values() if entry is not None)
        self._frames.update(file for file in files if file.startswith(f"{frame_of(folder)}/"))

    def _roots(self, roots: dict[str, str]) -> dict[str, str]:
        """Return the root of every variable's index; all variables must be there, and no others."""
        if roots.keys() != self._counts.keys():
            raise ValueError(f"it has the variables {', '.join(roots)}")
        return roots

    def _shadow(self, body: ShadowBody, folder: str, sequence: int) -> None:
        if not self._counts.keys() >= {*body.variables, *body.forecaster}:
            raise ValueError(f"it has the variables {', '.join(body.variables)}")
        rolled = (step for entry in body.forecaster.values() for step in entry.rolled)
        self._there(body.step, *body.bases, *rolled)
        self._shadows.append(
            Shadow(
                id=folder,
                step=body.step,
                reference=body.reference,
                instants=body.instants,
                variables=body.variables,
                sequence=sequence,
                bases=body.bases,
                learnt=body.forecaster,
                made=body.instants,
                lasting=len(body.instants) if body.lasting is None else body.lasting,
            )
        )
        # Who began before this commit may still read the shadow before it.
        if len(self._shadows) > 2:
            self._shadows[-3] = self._shadows[-3].superseded_by(self._shadows[-2])
        # Runs that began before this commit may still read the state before it.
        self._forecasters = set().union(*(shadow.states for shadow in self._shadows[-2:]))

    def _patch(self, body: PatchBody, folder: str) -> None:
        self._there(body.step, *(body.between or ()))
        for name, entry in body.variables.items():
            for patched in entry.chunks:
                self._refuse_outside(name, patched.chunk)
        self._patches[body.step] = Patches(
            folder, body.step, body.shadow, body.lead, body.variables, body.between, body.notes
        )

    def _drop_patches(self, judged: set[int]) -> None:
        """Drop the estimates that rest on a time of which another part is trusted now.

        Of those that were interpolated, too, these are all captures from the intact one before to
        the intact one after: in between each chunk has its own neighbours.
        """

        def rests(patches: Patches) -> bool:
            sides = patches.between or (patches.step, patches.step)
            first, last = (self._captured[step].instant for step in sides)
            return any(first <= instant <= last for instant in judged)

        self._patches = {s: p for s, p in self._patches.items() if not rests(p)}

    def _refuse_outside(self, name: str, chunk: Index) -> None:
        """Raise for a chunk that a variable does not have."""
        if not all(i < n for i, n in zip(chunk, self._counts[name], strict=True)):
            raise IndexError(f"chunk {chunk} of {name}")

    def _verdict(self, body: VerdictBody) -> None:
        by_person = body.judged_by is not None
        if by_person:
            self._believed.update(body.times)
            self._believed.difference_update(body.doubted)
        for chunk in body.chunks:
            self._there(chunk.step)
            self._refuse_outside(chunk.variable, chunk.chunk)
            key = chunk.step, chunk.chunk
            self._verdicts.setdefault(chunk.variable, {})[key] = chunk.status
            # Only changes are recorded: what becomes trusted was suspect, and the reverse.
            count = self._captured[chunk.step].suspects + (1 if chunk.status == SUSPECT else -1)
            self._change(chunk.step, suspects=max(0, count))
            if by_person:
                accepted = self._accepted.setdefault(chunk.variable, set())
                (accepted.add if chunk.status == TRUSTED else accepted.discard)(key)
        judged = {self._captured[chunk.step].instant for chunk in body.chunks}
        self._drop_patches(judged.union(body.doubted))

    def _rewrite(self, body: RewriteBody, slab: str) -> None:
        self._slabs[slab] = self._roots(dict(body.roots))
        for local, step in enumerate(self._there(*body.steps)):
            self._change(step, slab=slab, local=local)
            self._places.add((slab, local))

    def _tag(self, body: TagBody) -> None:
        for step in self._there(*body.steps):
            tags = dict.fromkeys(self._captured[step].tags) | dict.fromkeys(body.add)
            self._change(step, tags=tuple(tag for tag in tags if tag not in body.remove))

    def _roll_back(self, record: Record, folder: str) -> None:
        body = RollbackBody.from_json(record.body)
        self._rollbacks[record.sequence] = Rollback(
            sequence=record.sequence,
            id=folder,
            instant=body.instant,
            live=body.live,
            is_source=body.live == self._settings.source,
            what=body.what,
            objects=body.objects,
            chunks=body.chunks,
            estimated=body.estimated,
            listed=body.listed,
            begun_at=record.committed_at,
            writer=body.writer,
            since=record.committed_at,
        )

    def _rolled(self, body: RolledBody, at: str) -> None:
        if body.rollback not in self._rollbacks:
            raise ValueError(f"record {body.rollback} is no rollback")
        before = self._rollbacks[body.rollback]
        self._rollbacks[body.rollback] = replace(
            before, state=body.state, writer=body.writer, since=at, keeps=body.keeps
        )

    def _move(self, now: SourceSpec) -> None:
        before = self._settings.source
        if (now.kind, now.time, now.coordinate) != (before.kind, before.time, before.coordinate):
            raise ValueError("a source that moves keeps its time axis")
        self._begun = self._begun or self._settings
        self._settings = replace(self._settings, source=now)

    def _add(self, variable: Variable) -> None:
        if variable.name in self._counts or variable.since != len(self._captured):
            raise ValueError(f"{variable.name} is added at capture {variable.since}")
        self._begun = self._begun or self._settings
        self._settings = replace(self._settings, variables=(*self._settings.variables, variable))
        check_settings(self._settings)
        self._counts[variable.name] = variable.grid.counts

    def _there(self, *steps: int) -> tuple[int, ...]:
        """Return numbers of captures, all of which must be there."""
        for step in steps:
            whole(step, "step", least=0, most=len(self._captured) - 1)
        return steps

    def _change(self, step: int, **fields: Any) -> None:
        self._captured[step] = replace(self._captured[step], **fields)
        self._grown = None
