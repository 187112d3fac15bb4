"""The state of a repository: what its log records add up to.

An *era* begins with ``init``, or where the source has changed its grid or
types and the user wanted to go on: each era has settings and captures of its own.
"""

from bisect import bisect_left, bisect_right
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import cached_property, partial
from itertools import pairwise

import numpy as np

from gnomon.storage.log.bodies.choices import AutoHeal, RulesBody
from gnomon.storage.log.description import (
    Change,
    Description,
    described,
    files_in_use,
)
from gnomon.storage.log.readings import accepted_settings, limited, readings, vary
from gnomon.storage.log.steps import CapturedStep, Patches, Rollback, Shadow
from gnomon.storage.values.believable import are_fresh, clock_or_none, doubtful
from gnomon.storage.values.grid import Index
from gnomon.storage.values.model import RepositorySettings
from gnomon.storage.values.scaling import Packing

__all__ = ["History", "Place"]

Place = tuple[str, int]
"""Slab and position in it."""


@dataclass(frozen=True)
class History:
    """What one era holds after some record."""

    settings: RepositorySettings
    """What is captured, and on which grid."""
    _: KW_ONLY
    captured: tuple[CapturedStep, ...] = ()
    """Every capture by number, forgotten ones too."""
    slabs: dict[str, dict[str, str]] = field(default_factory=dict)
    """By slab: the root of the index of each variable."""
    shadows: tuple[Shadow, ...] = ()
    """Every shadow that is still there, oldest first."""
    patches: dict[int, Patches] = field(default_factory=dict)
    """By capture: the estimates of its suspect chunks that are kept."""
    verdicts: dict[str, dict[tuple[int, Index], int]] = field(default_factory=dict)
    """By variable: the status of (step, chunk), where it was judged later."""
    accepted: dict[str, frozenset[tuple[int, Index]]] = field(default_factory=dict)
    """By variable: (step, chunk) that a person holds for true, believable or not."""
    believed: frozenset[int] = frozenset()
    """Valid times that a person holds for true, however far they are from the others."""
    revisable: int | None = None
    """How long after it a state may be revised as a rule, microseconds; None: there is no rule."""
    candidates: tuple[str, ...] = ()
    """Names of the forecasting models that were chosen beside the built-in ones."""
    auto_heal: AutoHeal | None = None
    """What is put right in the source by itself; None: nothing."""
    places: frozenset[Place] = frozenset()
    """Where captures were written that were not pruned since; stale ones too."""
    folders: dict[str, int] = field(default_factory=dict)
    """Commits whose folders were not pruned, with the number of their record."""
    forecasters: frozenset[str] = frozenset()
    """Commits whose forecaster state is there: the newest, and the one before it."""
    begun: RepositorySettings | None = None
    """Settings that the era began with; None: the same, the source has not moved."""
    changes: tuple[Change, ...] = ()
    """What the source has changed of its attributes and fixed variables, in order of capture."""
    frames: frozenset[str] = frozenset()
    """Objects with changed fixed variables that were not pruned."""
    rollbacks: tuple[Rollback, ...] = ()
    """Every rollback of a live dataset, in order; those that were taken back too."""

    @property
    def rules(self) -> RulesBody:
        """The standing rules."""
        return RulesBody(self.revisable, self.candidates, self.auto_heal)

    @property
    def open_rollback(self) -> Rollback | None:
        """The rollback that is under way, or was stopped; None if there is none."""
        return next((r for r in reversed(self.rollbacks) if r.is_open), None)

    @cached_property
    def replaced(self) -> frozenset[str]:
        """The commits that hold what a rollback has replaced and can be taken back."""
        return frozenset(r.id for r in self.rollbacks if r.state != "undone")

    @cached_property
    def marked(self) -> frozenset[str]:
        """The commits that know which cells a rollback has written as estimates."""
        return frozenset(r.id for r in self.rollbacks if r.marks)

    @property
    def forecaster(self) -> Shadow | None:
        """The shadow that was committed with the newest forecaster state."""
        return self.shadows[-1] if self.shadows else None

    def description(self, number: int | None = None) -> Description:
        """Return how the source described itself after so many changes; None: all of them."""
        return described(self.settings, self.changes[:number])

    def meant(self, name: str) -> int:
        """Return after how many changes the source's attributes of a variable were last accepted.

        Attributes are accepted with a capture that was made with them, or because they mean the
        same as those before; without either, those of init count.
        """
        return max(self._meanings(name))

    def _meanings(self, name: str) -> set[int]:
        """Return after which numbers of changes the attributes of a variable were accepted."""
        steps = {step for step, _ in self.accepted.get(name, ())}
        alike = {k for k, change in enumerate(self.changes, 1) if name in change.alike}
        return {0, *alike, *(self.captured[step].description for step in steps)}

    def _accepted_readings(self, name: str) -> list[Packing]:
        """Return how a variable is read by what was accepted of it."""
        packings = self.readings(name)
        return [packings[number] for number in sorted(self._meanings(name))]

    def readings(self, name: str) -> tuple[Packing, ...]:
        """Return how a variable is read in captures of each number of changes."""
        if name not in self._readings:
            self._readings[name] = readings(self.settings.variable(name), self.changes)
        return self._readings[name]

    @cached_property
    def _readings(self) -> dict[str, tuple[Packing, ...]]:
        return {}

    def varies(self, name: str) -> bool:
        """Tell whether a change of a variable's packing was ever accepted."""
        return vary(self._accepted_readings(name))

    @cached_property
    def in_force(self) -> RepositorySettings:
        """The settings, with units and valid ranges as they were last accepted."""
        changed = {v.name: d for v in self.settings.variables if (d := self.meant(v.name))}
        if not changed:
            return self.settings
        # Each goes through all changes until then.
        descriptions = {number: self.description(number) for number in set(changed.values())}
        settings = accepted_settings(
            self.settings, {n: descriptions[d] for n, d in changed.items()}
        )
        variables = (
            limited(v, self._accepted_readings(v.name)) if v.name in changed else v
            for v in settings.variables
        )
        return replace(settings, variables=tuple(variables))

    @cached_property
    def live_frames(self) -> frozenset[str]:
        """The objects with fixed variables that kept captures, or the next one, are made with."""
        numbers = {s.description for s in self.kept} | {len(self.changes)}
        return files_in_use(self.settings, self.changes, numbers)

    @cached_property
    def kept(self) -> tuple[CapturedStep, ...]:
        """The captures that were not forgotten, by valid time, then by number."""
        steps = (s for s in self.captured if not s.forgotten)
        return tuple(sorted(steps, key=lambda s: (s.instant, s.step)))

    @cached_property
    def doubted(self) -> frozenset[int]:
        """Valid times of kept captures that are not believed beside the others.

        Such a capture stays, and is shown, but nothing depends on it: it is not on the timeline.
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

        Of several versions of a time it is the one with the fewest suspect chunks, and among equals
        the newest.  A time that is doubted is not there.
        """
        steps: dict[int, CapturedStep] = {}
        doubted = self.doubted
        for step in self.kept:
            if step.instant in doubted:
                continue
            before = steps.get(step.instant)
            if before is None or step.suspects <= before.suspects:
                steps[step.instant] = step
        return tuple(steps.values())

    def may_be_revised(self, instant: int) -> bool:
        """Tell whether a state is so close to the newest that a rule lets it be revised."""
        if self.revisable is None or not self.timeline:
            return False
        return self.timeline[-1].instant - instant <= self.revisable

    def follow(self, before: "History") -> None:
        """Take over the sorting of an earlier state, if this is that state with newer captures."""
        if not {"kept", "timeline"} <= vars(before).keys():
            return
        new = self.captured[len(before.captured) :]
        instants = [s.instant for s in (*before.kept[-1:], *new)]
        if all(a < b for a, b in pairwise(instants)):
            vars(self).update(kept=(*before.kept, *new))
            if not before.doubted and not self.doubted:
                vars(self).update(timeline=(*before.timeline, *new))

    def pruned(self) -> "History":
        """Return the state after a prune: only what is live is there."""
        newest = self.forecaster.states if self.forecaster else frozenset()
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

    def beside(self, instant: int) -> tuple[int | None, int | None]:
        """Return the numbers of the nearest captures before and after that are not suspect."""
        timeline = self.timeline
        start = bisect_left(timeline, instant, key=lambda s: s.instant)
        stop = bisect_right(timeline, instant, key=lambda s: s.instant)
        sides = range(start - 1, -1, -1), range(stop, len(timeline))
        before, after = (
            next((timeline[k].step for k in side if not timeline[k].suspects), None)
            for side in sides
        )
        return before, after

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
            return readable and bool(instants.intersection(shadow.made))

        newest = self.shadows[-1:]
        return (*(s for s in self.shadows[:-1] if is_live(s)), *newest)

    @cached_property
    def superseded(self) -> frozenset[str]:
        """The shadows that have lost their later leads."""
        return frozenset(s.id for s in self.shadows if not s.is_whole)

    @cached_property
    def live_folders(self) -> frozenset[str]:
        """The commits of which a prune leaves something."""
        newest = self.forecaster.states if self.forecaster else frozenset()
        slabs = {slab for slab, _ in self.live_places}
        # The statistics of a capture stay where they were, whoever holds its bytes now.
        captured = {s.sequence for s in self.kept}
        ledgers = {folder for folder, n in self.folders.items() if n in captured}
        fixed = {name.split("/")[1] for name in self.frames & self.live_frames}
        patches = {p.id for p in self.patches.values()}
        predicted = {s.id for s in self.live_shadows}
        return frozenset(
            slabs | ledgers | fixed | patches | predicted | newest | self.replaced | self.marked
        )

    @cached_property
    def written(self) -> frozenset[str]:
        """The slabs of which something was not pruned."""
        return frozenset(slab for slab, _ in self.places)
