"""The state of a repository: what its log records add up to.

:func:`fold` goes through the records once; a state is never changed, so readers keep the one they
were opened with.  An *era* begins with ``init``, or where the source has changed its grid or
types and the user wanted to go on: each era has settings and captures of its own.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import pairwise
from typing import Any

import numpy as np

from gnomon.storage.errors import Integrity
from gnomon.storage.log.bodies.body import Header, folder_name
from gnomon.storage.log.bodies.capture import CaptureBody, RewriteBody
from gnomon.storage.log.bodies.care import PruneBody
from gnomon.storage.log.bodies.choices import ForgetBody, RulesBody, TagBody
from gnomon.storage.log.bodies.shadow import ShadowBody
from gnomon.storage.log.bodies.source import EraBody, SourceBody, VariablesBody
from gnomon.storage.log.bodies.verdict import VerdictBody
from gnomon.storage.log.description import (
    Change,
    Description,
    described,
    files_in_use,
)
from gnomon.storage.log.folders import frame_of
from gnomon.storage.log.readings import accepted_settings, limited, readings, vary
from gnomon.storage.log.records import Record
from gnomon.storage.log.steps import CapturedStep, Shadow
from gnomon.storage.values.believable import are_fresh, clock_or_none, doubtful
from gnomon.storage.values.documents import NONSENSE, whole
from gnomon.storage.values.grid import Index
from gnomon.storage.values.model import SUSPECT, TRUSTED, Settings, SourceSpec, Variable
from gnomon.storage.values.plausible import (
    check_reading,
    check_settings,
)
from gnomon.storage.values.scaling import Packing

__all__ = ["State", "fold"]

Place = tuple[str, int]
"""Slab and position in it."""


@dataclass(frozen=True)
class State:
    """What one era holds after some record."""

    settings: Settings
    """What is captured, and on which grid."""
    captured: tuple[CapturedStep, ...] = ()
    """Every capture by number, forgotten ones too."""
    slabs: dict[str, dict[str, str]] = field(default_factory=dict)
    """By slab: the root of the index of each variable."""
    shadows: tuple[Shadow, ...] = ()
    """Every shadow that is still there, oldest first."""
    verdicts: dict[str, dict[tuple[int, Index], int]] = field(default_factory=dict)
    """By variable: the status of (step, chunk), where it was judged later."""
    accepted: dict[str, frozenset[tuple[int, Index]]] = field(default_factory=dict)
    """By variable: (step, chunk) that a person holds for true, believable or not."""
    believed: frozenset[int] = frozenset()
    """Valid times that a person holds for true, however far they are from the others."""
    revisable: int | None = None
    """How long after it a state may be revised as a rule, microseconds; None: there is no rule."""
    places: frozenset[Place] = frozenset()
    """Where captures were written that were not pruned since; stale ones too."""
    folders: dict[str, int] = field(default_factory=dict)
    """Commits whose folders were not pruned, with the number of their record."""
    forecasters: frozenset[str] = frozenset()
    """Commits whose forecaster state is there: the newest, and the one before it."""
    begun: Settings | None = None
    """Settings that the era began with; None: the same, the source has not moved."""
    changes: tuple[Change, ...] = ()
    """What the source has changed of its attributes and fixed variables, in order of capture."""
    frames: frozenset[str] = frozenset()
    """Objects with changed fixed variables that were not pruned."""

    @property
    def forecaster(self) -> Shadow | None:
        """The shadow that was committed with the newest forecaster state."""
        return self.shadows[-1] if self.shadows else None

    def description(self, number: int | None = None) -> Description:
        """Return how the source described itself after so many changes; None: all of them."""
        return described(self.settings, self.changes[:number])

    def meant(self, name: str) -> int:
        """Return after how many changes the source's attributes of a variable were last accepted.

        They were by whoever accepted a capture that was made with them, or as they mean what those
        before meant; else they are init's.
        """
        return max(self._meanings(name))

    def _meanings(self, name: str) -> set[int]:
        """Return after which numbers of changes the attributes of a variable were accepted."""
        steps = {step for step, _ in self.accepted.get(name, ())}
        alike = {k for k, change in enumerate(self.changes, 1) if name in change.alike}
        return {0, *alike, *(self.captured[step].description for step in steps)}

    def _accepted_readings(self, name: str) -> list[Packing]:
        """Return how a variable is read by what was accepted of it."""
        found = self.readings(name)
        return [found[number] for number in sorted(self._meanings(name))]

    def readings(self, name: str) -> tuple[Packing, ...]:
        """Return how a variable is read in captures of each number of changes."""
        if name not in self._readings:
            self._readings[name] = readings(self.settings.variable(name), self.changes)
        return self._readings[name]

    @cached_property
    def _readings(self) -> dict[str, tuple[Packing, ...]]:
        return {}

    def varies(self, name: str) -> bool:
        """Tell whether the packing of a variable was accepted to be another than before."""
        return vary(self._accepted_readings(name))

    @cached_property
    def in_force(self) -> Settings:
        """The settings, with units and valid ranges as they were last accepted."""
        changed = {v.name: d for v in self.settings.variables if (d := self.meant(v.name))}
        if not changed:
            return self.settings
        # Each goes through all changes until then.
        known = {number: self.description(number) for number in set(changed.values())}
        found = accepted_settings(self.settings, {n: known[d] for n, d in changed.items()})
        variables = (
            limited(v, self._accepted_readings(v.name)) if v.name in changed else v
            for v in found.variables
        )
        return replace(found, variables=tuple(variables))

    @cached_property
    def live_frames(self) -> frozenset[str]:
        """The objects with fixed variables that kept captures, or the next one, are made with."""
        numbers = {s.description for s in self.kept} | {len(self.changes)}
        return files_in_use(self.settings, self.changes, numbers)

    @cached_property
    def kept(self) -> tuple[CapturedStep, ...]:
        """The captures that were not forgotten, by valid time, then by number."""
        kept = (s for s in self.captured if not s.forgotten)
        return tuple(sorted(kept, key=lambda s: (s.instant, s.step)))

    @cached_property
    def doubted(self) -> frozenset[int]:
        """Valid times of kept captures that are not believed beside the others.

        Such a capture stays, and is shown, but nothing hangs on it: it is not on the timeline.
        """
        first: dict[int, CapturedStep] = {}
        for step in self.kept:
            first.setdefault(step.instant, step)
        steps = list(first.values())
        if not steps:
            return frozenset()
        instants = np.fromiter(first, np.int64, len(first))
        times = [step.captured_at for step in steps]
        calendar = self.settings.calendar
        doubted = doubtful(
            instants,
            now=clock_or_none(max(times), calendar),
            fresh=partial(are_fresh, instants, times, calendar),
        )
        return frozenset(instants[doubted].tolist()) - self.believed

    @cached_property
    def timeline(self) -> tuple[CapturedStep, ...]:
        """One kept capture per valid time, in order: what is learnt from, and restored first.

        Of several versions of a time it is the one with the fewest suspect chunks, and of equals
        the newest.  A time that is doubted is not there.
        """
        found: dict[int, CapturedStep] = {}
        doubted = self.doubted
        for step in self.kept:
            if step.instant in doubted:
                continue
            before = found.get(step.instant)
            if before is None or step.suspects <= before.suspects:
                found[step.instant] = step
        return tuple(found.values())

    def may_be_revised(self, instant: int) -> bool:
        """Tell whether a state is so young, beside the newest, that a rule lets it be revised."""
        if self.revisable is None or not self.timeline:
            return False
        return self.timeline[-1].instant - instant <= self.revisable

    def follow(self, before: "State") -> None:
        """Take over what was sorted before, if this is that state with newer captures."""
        if not {"kept", "timeline"} <= vars(before).keys():
            return
        new = self.captured[len(before.captured) :]
        instants = [s.instant for s in (*before.kept[-1:], *new)]
        if all(a < b for a, b in pairwise(instants)):
            vars(self).update(kept=(*before.kept, *new))
            if not before.doubted and not self.doubted:
                vars(self).update(timeline=(*before.timeline, *new))

    def pruned(self) -> "State":
        """Return the state after a prune: only what is live is there."""
        newest = {self.forecaster.id} if self.forecaster else set()
        folders = {f: n for f, n in self.folders.items() if f in self.live_folders}
        return replace(
            self,
            places=self.live_places,
            shadows=self.live_shadows,
            forecasters=self.forecasters & newest,
            folders=folders,
            frames=self.frames & self.live_frames,
        )

    def before(self, instant: int, count: int) -> list[int]:
        """Return the numbers of the last `count` captures before a time, in order."""
        stop = bisect_left(self.timeline, instant, key=lambda s: s.instant)
        return [s.step for s in self.timeline[max(0, stop - count) : stop]]

    def around(self, instant: int, count: int) -> list[int]:
        """Return the numbers of the last captures before a time and the first after, in order."""
        start = bisect_right(self.timeline, instant, key=lambda s: s.instant)
        return self.before(instant, count) + [s.step for s in self.timeline[start : start + count]]

    def versions(self, instant: int) -> tuple[CapturedStep, ...]:
        """Return every kept capture of a valid time, the one on the timeline first."""
        there = [s for s in self.kept if s.instant == instant]
        return tuple(sorted(there, key=lambda s: (s.suspects, -s.step)))

    @cached_property
    def live_places(self) -> frozenset[Place]:
        """Where the bytes of the kept captures are."""
        return frozenset((s.slab, s.local) for s in self.kept)

    @cached_property
    def live_shadows(self) -> tuple[Shadow, ...]:
        """The shadows that a prune leaves: the newest, and those that kept captures still need."""
        numbers = {s.step for s in self.kept}
        instants = {s.instant for s in self.kept}

        def is_live(shadow: Shadow) -> bool:
            readable = numbers.issuperset(shadow.bases)
            return readable and bool(instants.intersection(shadow.instants))

        newest = self.shadows[-1:]
        return (*(s for s in self.shadows[:-1] if is_live(s)), *newest)

    @cached_property
    def live_folders(self) -> frozenset[str]:
        """The commits of which a prune leaves something."""
        newest = {self.forecaster.id} if self.forecaster else set()
        slabs = {slab for slab, _ in self.live_places}
        # The statistics of a capture stay where they were, whoever holds its bytes now.
        captured = {s.sequence for s in self.kept}
        ledgers = {folder for folder, n in self.folders.items() if n in captured}
        fixed = {name.split("/")[1] for name in self.frames & self.live_frames}
        return frozenset(slabs | ledgers | fixed | {s.id for s in self.live_shadows} | newest)

    @cached_property
    def written(self) -> frozenset[str]:
        """The slabs of which something was not pruned."""
        return frozenset(slab for slab, _ in self.places)


def fold(eras: tuple[State, ...], records: Iterable[Record]) -> tuple[State, ...]:
    """Return the state of every era after further records, the present one last.

    A prune concerns all eras; what else a record says is of the era that it names.

    Raises
    ------
    Integrity
        A record does not hold what its kind needs.
    """
    done = list(eras[:-1])
    folding = _Folding.of(eras[-1])
    for record in records:
        try:
            header = Header.from_json(record.body)
            if record.kind == "prune":
                PruneBody.from_json(record.body)
                done = [state.pruned() for state in done]
                folding = _Folding.of(folding.state().pruned())
            elif record.kind == "era":
                done.append(folding.state())
                folding = _Folding(EraBody.from_json(record.body).settings)
            else:
                era = len(done) if header.era is None else whole(header.era, "era", most=len(done))
                if era == len(done):
                    folding.take(record, header)
                else:
                    past = _Folding.of(done[era])
                    past.take(record, header)
                    done[era] = past.state()
        except NONSENSE as error:
            raise Integrity(
                f"log record {record.sequence} ({record.kind:.40}) does not hold what it should "
                f"({type(error).__name__}: {str(error)[:200]}); the repository was tampered with"
            ) from error
    return (*done, folding.state())


class _Folding:
    """A state in the making."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._begun: Settings | None = None
        self._counts = {v.name: v.grid.counts for v in settings.variables}
        self._captured: list[CapturedStep] = []
        self._slabs: dict[str, dict[str, str]] = {}
        self._shadows: list[Shadow] = []
        self._verdicts: dict[str, dict[tuple[int, Index], int]] = {}
        self._accepted: dict[str, set[tuple[int, Index]]] = {}
        self._believed: set[int] = set()
        self._revisable: int | None = None
        self._places: set[Place] = set()
        self._folders: dict[str, int] = {}
        self._forecasters: set[str] = set()
        self._changes: list[Change] = []
        self._frames: set[str] = set()
        self._described: Description | None = None
        """The newest description, as soon as it is asked for."""
        self._grown: State | None = None
        """The state before, as long as no capture of it is changed."""

    @classmethod
    def of(cls, state: State) -> "_Folding":
        """Return a state to go on from."""
        made = cls(state.settings)
        made._captured = list(state.captured)
        made._slabs = dict(state.slabs)
        made._shadows = list(state.shadows)
        made._verdicts = {n: dict(v) for n, v in state.verdicts.items()}
        made._accepted = {n: set(v) for n, v in state.accepted.items()}
        made._believed = set(state.believed)
        made._revisable = state.revisable
        made._places = set(state.places)
        made._folders = dict(state.folders)
        made._forecasters = set(state.forecasters)
        made._begun = state.begun
        made._changes = list(state.changes)
        made._frames = set(state.frames)
        made._grown = state
        return made

    def state(self) -> State:
        made = State(
            self._settings,
            tuple(self._captured),
            self._slabs,
            tuple(self._shadows),
            self._verdicts,
            {name: frozenset(chunks) for name, chunks in self._accepted.items()},
            frozenset(self._believed),
            self._revisable,
            frozenset(self._places),
            dict(self._folders),
            frozenset(self._forecasters),
            self._begun,
            changes=tuple(self._changes),
            frames=frozenset(self._frames),
        )
        if self._grown is not None:
            made.follow(self._grown)
        return made

    def take(self, record: Record, header: Header) -> None:
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
            case "verdict":
                self._verdict(VerdictBody.from_json(record.body))
            case "rewrite":
                self._rewrite(RewriteBody.from_json(record.body), folder_name(header.id))
            case "forget":
                for step in self._there(*ForgetBody.from_json(record.body).steps):
                    self._change(step, forgotten=True)
            case "tag":
                self._tag(TagBody.from_json(record.body))
            case "rules":
                self._revisable = RulesBody.from_json(record.body).revisable
            case "source":
                self._move(SourceBody.from_json(record.body).source)
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
                    len(self._captured),
                    instant,
                    slab,
                    local,
                    record.sequence,
                    record.committed_at,
                    body.raw_times[local * width : (local + 1) * width],
                    body.revises.get(local),
                    body.suspects[local],
                    read_at=body.read_at or record.committed_at,
                    description=len(self._changes),
                )
            )
            self._places.add((slab, local))

    def _describe(self, folder: str, change: Change) -> None:
        """Add what the source has changed; ValueError if it cannot be changed from that before."""
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
        self._there(body.step, *body.bases)
        # Runs that began before this commit may still read the state before it.
        self._forecasters = {*(shadow.id for shadow in self._shadows[-1:]), folder}
        self._shadows.append(
            Shadow(
                folder,
                body.step,
                body.reference,
                body.instants,
                body.variables,
                sequence,
                body.bases,
                body.forecaster,
            )
        )

    def _verdict(self, body: VerdictBody) -> None:
        by_person = body.judged_by is not None
        if by_person:
            self._believed.update(body.times)
            self._believed.difference_update(body.doubted)
        for chunk in body.chunks:
            self._there(chunk.step)
            counts = self._counts[chunk.variable]
            if not all(i < n for i, n in zip(chunk.chunk, counts, strict=True)):
                raise IndexError(f"chunk {chunk.chunk} of {chunk.variable}")
            key = chunk.step, chunk.chunk
            self._verdicts.setdefault(chunk.variable, {})[key] = chunk.status
            # Only changes are recorded: what becomes trusted was suspect, and the reverse.
            count = self._captured[chunk.step].suspects + (1 if chunk.status == SUSPECT else -1)
            self._change(chunk.step, suspects=max(0, count))
            if by_person:
                known = self._accepted.setdefault(chunk.variable, set())
                (known.add if chunk.status == TRUSTED else known.discard)(key)

    def _rewrite(self, body: RewriteBody, slab: str) -> None:
        self._slabs[slab] = self._roots(dict(body.roots))
        for local, step in enumerate(self._there(*body.steps)):
            self._change(step, slab=slab, local=local)
            self._places.add((slab, local))

    def _tag(self, body: TagBody) -> None:
        for step in self._there(*body.steps):
            tags = dict.fromkeys(self._captured[step].tags) | dict.fromkeys(body.add)
            self._change(step, tags=tuple(tag for tag in tags if tag not in body.remove))

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
