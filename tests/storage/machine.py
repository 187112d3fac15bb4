"""A repository and its model, driven through whatever may happen to a repository.

Rules change the live source, the repository and the model in step: captures, revisions, verdicts,
forgetting, pruning, eras, writers that race or die, files that are damaged.  Invariants compare
the two.  Not covered here: the power failing (nothing is forced to the disk), the forecaster's
numbers, and object stores other than memory.
"""

import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from zarr.core.buffer import Buffer

from gnomon.flows import steps as cycle
from gnomon.flows.settings import Settings
from gnomon.repository import GnomonRepository
from gnomon.storage import repository
from gnomon.storage.arrays import encoding
from gnomon.storage.care import check, repair, rewrite
from gnomon.storage.care.forget import forget, guards, tag
from gnomon.storage.care.inventory import folder_of, take_inventory
from gnomon.storage.care.prune import prune, would_free
from gnomon.storage.care.retention import Duration, Policy
from gnomon.storage.care.stats import stats
from gnomon.storage.changes.era import begin_era
from gnomon.storage.errors import Conflict, GnomonError, InvalidInput
from gnomon.storage.log import location
from gnomon.storage.log import records as log
from gnomon.storage.log.location import Location
from gnomon.storage.log.writeonce import WriteOnce
from gnomon.storage.repository import Repository
from gnomon.storage.serve.planes import Plane
from gnomon.storage.serve.view import raw_dataset
from gnomon.storage.values.grid import Index
from gnomon.storage.values.model import Kind
from gnomon.storage.values.times import format_instant
from gnomon.tasks.capturing import plan
from gnomon.tasks.capturing.capture import capture, commit_capture
from gnomon.tasks.capturing.revisions import find_revisions
from gnomon.tasks.comparing.compare import compare
from gnomon.tasks.learning import expectation, recorded
from gnomon.tasks.materialize import commit_shadow
from gnomon.tasks.restoring import points
from gnomon.tasks.restoring.choice import choose
from gnomon.tasks.restoring.restore import restore
from gnomon.tasks.restoring.states import States
from gnomon.tasks.restoring.suspected import suspects
from gnomon.tasks.work import serial
from tests.storage.building import HOUR, add_shadow, history, make_repository
from tests.storage.machine_model import Era, Model, Summary, same
from tests.storage.machine_source import CHANGES, FORMS, Layout, Source, layouts

__all__ = ["AppendMachine", "RepositoryMachine", "StateMachine"]

CLOCKS = (
    "1970-01-01T00:00:00+00:00",
    "2020-02-29T23:59:59+00:00",
    "2019-06-01T12:00:00+00:00",
    "9999-12-31T23:59:59+00:00",
)
DAMAGES = ("flipped", "truncated", "emptied", "grown", "deleted", "stale")
LIFE = st.none() | st.none() | st.integers(0, 40)
"""How many objects a writer stores or removes before it dies; None: it lives."""


class Died(Exception):
    """What the machine stops a writer with."""


@dataclass
class Pinned:
    """A repository object that a reader holds."""

    stored: Repository
    summary: Summary
    """What it saw."""
    pruned: bool = False
    """Whether a prune may have taken what it saw."""


class RepositoryMachine(RuleBasedStateMachine):
    """Everything that may happen, whatever the kind of source."""

    kind: Kind = "append"

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="gnomon-machine-"))
        self.patch = pytest.MonkeyPatch()
        self.clock = CLOCKS[1]
        self.ticks = 0
        self.pins: list[Pinned] = []
        self.bereaved: set[str] = set()
        """Copies and checkpoints that a dying writer did not come to store."""

    def teardown(self) -> None:
        self.patch.undo()
        if hasattr(self, "stored"):
            location._MEMORY.pop(self.stored.location.url, None)
        shutil.rmtree(self.folder, ignore_errors=True)

    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        form = data.draw(st.sampled_from(FORMS), label="form")
        layout = data.draw(layouts(form, self.kind), label="layout")
        self.source = Source(self.folder, form, self.kind, layout)
        for hour in range(data.draw(st.integers(1, 3)) if self.kind == "append" else 1):
            self.source.put(hour, "all", hour)
        self.source.write()
        self._shorten(data.draw(st.sampled_from([3, 256]), label="span"))
        self.forecasts = data.draw(st.sampled_from([False, False, True]), label="forecasts")
        if not self.forecasts:  # made-up shadows have no forecaster that could be asked
            for name in ("forecaster_of", "cadence_of", "specification_of"):
                self.patch.setattr(expectation, name, lambda *_: None)
            self.patch.setattr(recorded, "cadence_of", lambda *_: None)
        place = data.draw(st.sampled_from(["folder", "memory"]), label="place")
        url = f"memory://{self.folder.name}" if place == "memory" else str(self.folder / "r")
        sizes = {d: n for d, n in layout.chunks.items() if d != "time"}
        chunks = data.draw(st.sampled_from([None, sizes]), label="chunks")
        self.stored = make_repository(url, self.source.path, kind=self.kind, chunks=chunks)
        self.model = Model(self.stored)
        self.model.commit(1)

    def _shorten(self, span: int) -> None:
        """Let little data reach the limits that bound memory, and names be the same again."""
        for module in (log, check, repair):
            self.patch.setattr(module, "SPAN", span)
        self.patch.setattr(plan, "MAX_STEPS", 3)
        self.patch.setattr(rewrite, "MAX_ROWS", 24)
        self.patch.setattr(encoding, "MAX_CHAIN", 3)
        self.patch.setattr(rewrite, "MAX_CHAIN", 3)
        self.patch.setattr(location, "force", lambda _: None)
        numbers = count()
        self.patch.setattr(secrets, "token_hex", lambda n: f"{next(numbers):0{2 * n}x}")

    # The source --------------------------------------------------------------------------------

    @rule(change=st.sampled_from(CHANGES), seed=st.integers(0, 2**16), data=st.data())
    def revise(self, change: str, seed: int, data: st.DataObject) -> None:
        hour = data.draw(st.sampled_from(sorted(self.source.states)))
        self.source.put(hour, change, seed)
        self.source.write()

    @rule(version=st.integers(0, 4))
    def describe_anew(self, version: int) -> None:
        self.source.version = version
        self.source.write()

    # The writers -------------------------------------------------------------------------------

    @contextmanager
    def _mortal(self, life: int | None) -> Iterator[None]:
        """Let whoever writes to a repository die after so many objects."""
        if life is None:
            yield
            return
        spent = count()

        def live() -> None:
            if next(spent) >= life:
                raise Died

        def mortal(method: Callable[..., Any]) -> Callable[..., Any]:
            def call(self: Any, *arguments: Any, **options: Any) -> Any:
                live()
                return method(self, *arguments, **options)

            return call

        async def put(self: Any, key: str, value: Buffer) -> None:
            live()
            await stored(self, key, value)

        stored = WriteOnce.set
        with pytest.MonkeyPatch.context() as patch:
            for name in ("create", "replace", "delete"):
                patch.setattr(Location, name, mortal(getattr(Location, name)))
            patch.setattr(WriteOnce, "set", put)
            yield

    def _commit(
        self, write: Callable[[], object], take: Callable[[], object], life: int | None = None
    ) -> bool:
        """Write to the repository and the model; tells whether the writer lived.

        A writer that died has committed if the log is longer, and only then.
        """
        before = len(self.stored.records)
        lived = True
        try:
            with self._mortal(life):
                write()
        except Died:
            lived = False
            note("the writer died")
        self._reopen()
        if len(self.stored.records) > before:
            take()
            self.model.commit(len(self.stored.records))
        if not lived:
            self._mourn()
        return lived

    def _mourn(self) -> None:
        """Note what a writer that died after its commit point left undone."""
        there = self.stored.location.sizes("")
        last = log.COPIES + log.record_name(self.stored.records[-1].sequence)
        spans = range(0, len(self.stored.records) - log.SPAN + 1, log.SPAN)
        due = {last, *(log.checkpoint_name(start) for start in spans)}
        self.bereaved |= {name for name in due if name not in there}

    def _reopen(self) -> None:
        repository._OPENED.clear()
        self.stored = Repository.open(self.stored.location.url)

    def _capture(self, data: st.DataObject, life: int | None) -> bool:
        """Capture all that is new as an update does; tells whether there was anything."""
        revised = list(
            find_revisions(self.stored, serial, count=None, rng=np.random.default_rng(0))
        )
        assert revised == self.model.revised(self.source)
        some = False
        while self._capture_part(data, life, revised):
            some = True
            newest = self.model.era.captures
            done = {c.revises for c in newest}
            revised = [n for n in revised if n not in done]
        return some

    def _capture_part(self, data: st.DataObject, life: int | None, revised: list[int]) -> bool:
        now = self._now(data)
        wanted = [now] if now is not None else self.model.wanted(self.source, revised)
        planned = plan.plan_capture(self.stored, now=now, revised=tuple(revised))
        if planned is None:
            assert wanted == []
            return False
        taken = wanted[: plan.MAX_STEPS]
        assert list(planned.instants) == taken
        assert planned.remaining == len(wanted) - len(taken)
        doubts = self._doubts(data, len(taken))

        def write() -> None:
            found = capture(self.stored, planned, serial)
            commit_capture(self.stored, found, doubts, report={}, committed_at=self.clock)

        lived = self._commit(
            write, lambda: self.model.capture(self.source, taken, revised, doubts), life
        )
        return lived and planned.remaining > 0

    def _now(self, data: st.DataObject) -> int | None:
        """Return the time of a state source's next capture."""
        if self.kind == "append":
            return None
        times = [self.model.era.captures[n].instant for n in self.model.era.timeline()]
        return max(times, default=self.source.layout.instant(0)) + HOUR * data.draw(
            st.integers(1, 3)
        )

    def _doubts(self, data: st.DataObject, steps: int) -> set[tuple[str, int, Index]]:
        every = [(n, k, i) for k in range(steps) for n, i in self.model.era.chunks()]
        several = st.sets(st.sampled_from(every), max_size=3)
        return data.draw(st.one_of(st.just(set()), several), label="suspect")

    @rule(data=st.data(), life=LIFE)
    def capture(self, data: st.DataObject, life: int | None) -> None:
        self._capture(data, life)

    @precondition(lambda self: self.model.era.timeline())
    @rule(data=st.data(), life=LIFE)
    def shadow(self, data: st.DataObject, life: int | None) -> None:
        if self.forecasts:
            self._forecast(life)
        else:
            leads = data.draw(st.integers(1, 2), label="leads")
            self._commit(lambda: add_shadow(self.stored, leads), self._take_shadow, life)

    def _forecast(self, life: int | None) -> None:
        url = self.stored.location.url
        sequence = cycle.newest(url)
        features = cycle.features(url, None, sequence, Settings(), mapper=serial)
        if not features:
            return
        learnt, _ = cycle.keep_doubts(url, cycle.forecast(url, features, sequence, mapper=serial))
        self._reopen()
        for name, gated in learnt.gated.items():
            for step, index, _ in gated:
                self.model.era.captures[step].suspects.add((name, index))
        self.model.commit(len(self.stored.records))

        def write() -> None:
            made = cycle.materialize(url, learnt, mapper=serial)
            commit_shadow(Repository.open(url), made, report={}, committed_at=self.clock)

        self._commit(write, self._take_shadow, life)

    def _take_shadow(self) -> None:
        newest = self.stored.shadows[-1]
        assert newest.step == self.model.era.timeline()[-1]
        self.model.era.bases = newest.bases

    @precondition(lambda self: self.model.era.timeline())
    @rule(data=st.data(), accept=st.booleans())
    def judge(self, data: st.DataObject, accept: bool) -> None:
        era = self.model.era
        newest = max(era.versions(era.captures[data.draw(st.sampled_from(era.timeline()))].instant))
        name = data.draw(st.sampled_from([None, *era.grids]), label="variable")
        chosen = {c for c in era.chunks() if name in (None, c[0])}
        judged = era.captures[newest]
        changed = judged.suspects & chosen if accept else chosen - judged.suspects
        at = format_instant(judged.instant, self.stored.settings.calendar)
        facade = GnomonRepository(self.stored)
        self._commit(lambda: facade.judge(at, accept=accept, variable=name), lambda: None)
        judged.suspects ^= changed
        if changed:
            self.model.past[-1] = self.model.summary()

    @precondition(lambda self: any(era.kept() for era in self.model.eras))
    @rule(data=st.data(), names=st.sets(st.sampled_from("abc"), min_size=1), add=st.booleans())
    def tag(self, data: st.DataObject, names: set[str], add: bool) -> None:
        number, era = self._era(data)
        steps = data.draw(
            st.lists(st.sampled_from(era.kept()), min_size=1, max_size=2, unique=True)
        )
        wanted = sorted(names)
        seen = self.stored.in_era(number)

        def take() -> None:
            for captured in (era.captures[n] for n in steps):
                rest = [t for t in captured.tags if t not in names or add]
                captured.tags = rest + [t for t in wanted if add and t not in rest]

        self._commit(
            lambda: tag(
                seen,
                steps,
                add=wanted if add else (),
                remove=() if add else wanted,
                committed_at=self.clock,
            ),
            take,
        )

    def _era(self, data: st.DataObject) -> tuple[int, Era]:
        """Return number and model of an era that has captures."""
        numbers = [k for k, era in enumerate(self.model.eras) if era.kept()]
        number = data.draw(st.sampled_from(numbers), label="era")
        return number, self.model.eras[number]

    @precondition(lambda self: any(era.kept() for era in self.model.eras))
    @rule(data=st.data(), life=LIFE)
    def forget_by_number(self, data: st.DataObject, life: int | None) -> None:
        number, era = self._era(data)
        steps = data.draw(
            st.lists(st.sampled_from(era.kept()), min_size=1, max_size=3, unique=True)
        )
        seen = self.stored.in_era(number)
        if era.guarded().intersection(steps):
            with pytest.raises(InvalidInput, match="cannot be given up"):
                forget(seen, captures=steps, committed_at=self.clock)
            return
        self._forget(seen, life, captures=steps, expected=set(steps))

    @precondition(lambda self: any(era.kept() for era in self.model.eras))
    @rule(data=st.data(), life=LIFE)
    def forget_by_policy(self, data: st.DataObject, life: int | None) -> None:
        number, era = self._era(data)
        policy = data.draw(
            st.builds(
                Policy,
                last=st.integers(0, 3),
                hourly=st.integers(0, 2),
                within=st.none() | st.builds(Duration, hours=st.integers(1, 5)),
                tags=st.sampled_from([(), ("a",)]),
            ).filter(lambda p: not p.is_empty)
        )
        self._forget(self.stored.in_era(number), life, policy=policy)
        kept = {era.captures[n].instant for n in era.kept()}
        if policy.last:
            assert kept.issuperset(sorted(kept)[-policy.last :])

    def _forget(
        self, seen: Repository, life: int | None, *, expected: set[int] | None = None, **how: Any
    ) -> None:
        era = self.model.eras[seen.era]
        assert set(guards(seen)) == era.guarded()
        done = forget(seen, committed_at=self.clock, dry_run=True, **how)[1]
        assert expected is None or set(done.steps) == expected
        assert not era.guarded().intersection(done.steps)
        if expected is None:  # by policy: all versions of a time, or none
            gone = {era.captures[n].instant for n in done.steps}
            assert set(done.steps) == {n for n in era.kept() if era.captures[n].instant in gone}
            tags = set(how["policy"].tags)
            assert not any(tags.intersection(era.captures[n].tags) for n in done.steps)
        would_free(seen, done.steps)

        def take() -> None:
            for n in done.steps:
                era.captures[n].forgotten = True

        self._commit(lambda: forget(seen, committed_at=self.clock, **how), take, life)

    @rule(life=LIFE)
    def prune(self, life: int | None) -> None:
        foreseen = prune(self.stored, committed_at=self.clock, dry_run=True)[1]
        done = []
        lived = self._commit(
            lambda: done.append(prune(self.stored, committed_at=self.clock)[1]), lambda: None, life
        )
        for pin in self.pins:
            pin.pruned = True
        if not lived:
            self._all_is_right()
            return
        assert done[0].rewritten == foreseen.rewritten
        if not done[0].rewritten:
            assert done[0].nbytes >= foreseen.nbytes  # a writer that lost a race has left more
        self._nothing_is_left_over()
        self._all_is_right()

    def _nothing_is_left_over(self) -> None:
        inventory = take_inventory(self.stored)
        small = ("log/", "checkpoints/", "frame/", "gnomon.json", "checks/")
        left = [
            name
            for name in self.stored.location.sizes("")
            if name not in inventory.objects
            and name not in inventory.manifests
            and not name.removeprefix(log.COPIES).startswith(small)
        ]
        fixed = {e["file"] for s in self.stored.eras for e in s.settings.frame_entries.values()}
        frames = self.stored.location.list("frame/")
        left += [n for n in frames if n not in fixed and n not in inventory.objects]
        assert left == [], left
        folder = self.stored.location.path
        if folder is not None:
            empty = [f for f in self.stored.location.folders() if not any((folder / f).iterdir())]
            assert [f for f in empty if folder_of(f"{f}/x")] == []

    @rule()
    def reopen(self) -> None:
        self._reopen()

    @rule(clock=st.sampled_from(CLOCKS))
    def jump(self, clock: str) -> None:
        self.clock = clock

    @rule(data=st.data())
    def begin_era(self, data: st.DataObject) -> None:
        with pytest.raises(InvalidInput, match="no new era"):
            begin_era(self.stored, self.clock)
        layout = data.draw(layouts(self.source.form, self.kind), label="layout")
        before = self.source.layout
        self.source.renew(layout, data.draw(st.integers(0, 2**16)))
        self.source.write()
        try:
            plan.plan_capture(self.stored, now=self._now(data))
        except InvalidInput:
            pass
        else:  # the grid is the old one
            assert _grid(layout, self.kind).items() >= _grid(before, self.kind).items()
            if len(layout.quantities) == len(before.quantities):
                return
        life = data.draw(LIFE, label="life")
        began = len(self.stored.eras)
        self._commit(
            lambda: begin_era(self.stored, self.clock), lambda: self.model.begin(self.stored), life
        )
        if len(self.stored.eras) == began:
            self._commit(
                lambda: begin_era(self.stored, self.clock), lambda: self.model.begin(self.stored)
            )

    # Several writers ---------------------------------------------------------------------------

    @rule(data=st.data())
    def race(self, data: st.DataObject) -> None:
        """Let another writer commit between what a writer read and its own commit."""
        stale = self.stored
        what = data.draw(st.sampled_from(["capture", "tag", "prune", "forget"]), label="slow")
        planned = plan.plan_capture(stale, now=self._now(data)) if what == "capture" else None
        write = self._slow_writer(what, stale, planned)
        if write is None:
            return
        second = data.draw(st.sampled_from(["tag", "judge", "prune", "capture", "shadow"]))
        before = len(self.stored.records)
        if second == "capture":
            self._capture(data, None)
        elif second == "prune":
            self.prune(None)
        elif self.model.era.timeline() and second == "shadow":
            self.shadow(data, None)
        elif self.model.era.timeline() and second == "judge":
            self.judge(data, data.draw(st.booleans()))
        elif self.model.era.kept():
            self.tag(data, {"a"}, add=True)
        if len(self.stored.records) == before:
            return
        if planned is not None and second in ("tag", "judge"):  # these do not concern a capture
            taken = list(planned.instants)
            take = partial(self.model.capture, self.source, taken, [], set())
            assert self._commit(lambda: write(stale), take)
        after = self.stored
        for writer in (stale, after):
            with pytest.raises(Conflict):
                write(writer)
        self._reopen()
        assert self.stored.records == after.records

    def _slow_writer(
        self, what: str, stale: Repository, planned: plan.CapturePlan | None
    ) -> Callable[[Repository], object] | None:
        if what == "capture":
            if planned is None:
                return None
            found = capture(stale, planned, serial)
            return lambda writer: commit_capture(
                writer, found, set(), report={}, committed_at=self.clock
            )
        if what == "prune":
            return lambda _: prune(stale, committed_at=self.clock)
        kept = sorted(set(self.model.era.kept()) - self.model.era.guarded())
        if not kept:
            return None
        if what == "tag":
            return lambda _: tag(stale, kept[:1], add=["z"], committed_at=self.clock)
        return lambda _: forget(stale, captures=kept[:1], committed_at=self.clock)

    # Damage ------------------------------------------------------------------------------------

    @rule(data=st.data(), how=st.sampled_from(DAMAGES), goes_on=st.booleans())
    def damage(self, data: st.DataObject, how: str, goes_on: bool) -> None:
        """Damage one stored object: reads are right or refused, and check says which it was."""
        place = self.stored.location
        names = sorted(place.sizes(""))
        name = data.draw(st.sampled_from(names), label="object")
        original = place.read(name)
        other = place.read(data.draw(st.sampled_from(names))) if how == "stale" else b""
        damaged = _damaged(original, how, data, other)
        if damaged == original or name in self.bereaved:
            return
        if damaged is None:
            place.delete([name])
        else:
            place.replace(name, damaged)
        try:
            self._suffer(name, original, data if goes_on else None)
        finally:
            if not _holds(place, name, original):
                place.delete([name])
                place.create(name, original)
        self._reopen()
        self._all_is_right()

    def _suffer(self, name: str, original: bytes, data: st.DataObject | None) -> None:
        place = self.stored.location
        self._reopen()
        self._right_or_refused(self.stored)
        expected = self._is_expected(name)
        problems = {p.file for p in check.check(self.stored, read_data=True).problems}
        wanted = {name} if expected else set()
        assert problems - self.bereaved == wanted, (problems, name)
        if data is not None:
            try:
                self._capture(data, None)
            except GnomonError as error:
                note(f"went no further: {error}")
            self._reopen()
            self._right_or_refused(self.stored)
        expected = expected and self._is_expected(name) and not _holds(place, name, original)
        foreseen = repair.repair(self.stored, committed_at=self.clock, dry_run=True)
        told = foreseen.mended.keys() | foreseen.left.keys()
        assert told >= ({name} if expected else set()), (name, told)
        done = repair.repair(self.stored, committed_at=self.clock)
        assert done == foreseen
        self.bereaved -= set(done.mended)
        if name in done.mended:
            assert place.read(name) == original
            self._reopen()
            assert not check.check(self.stored, read_data=True).problems
        elif expected:
            assert name in done.left
            assert not _has_twin(name)

    def _is_expected(self, name: str) -> bool:
        """Tell whether the repository should hold an object; a dead writer's may go."""
        if name.startswith("checks/"):
            return False
        if name.removeprefix(log.COPIES).startswith(
            ("captures", "shadows", "forecaster", "ledger")
        ):
            return name in self._objects()
        if name.startswith("frame/"):
            frames = [s.settings.frame_entries.values() for s in self.stored.eras]
            kept = {entry["file"] for entries in frames for entry in entries}
            return name in kept or name in self._objects()
        if "manifests/" in name:
            return name in take_inventory(self.stored).manifests
        return True

    def _objects(self) -> set[str]:
        return set(take_inventory(self.stored).objects)

    # What must hold ----------------------------------------------------------------------------

    @invariant()
    def the_log_says_what_the_model_says(self) -> None:
        if not hasattr(self, "model"):
            return
        self.ticks += 1
        assert len(self.model.past) == len(self.stored.records)
        assert _summary(self.stored) == self.model.summary()
        for number, era in enumerate(self.model.eras):
            state = self.stored.in_era(number).state
            assert [s.step for s in state.kept] == era.kept()
            assert [s.step for s in state.timeline] == era.timeline()
            assert [s.revises for s in state.captured] == [c.revises for c in era.captures]
        if self.ticks % 4 == 0:
            self._all_is_right()

    def _all_is_right(self) -> None:
        problems = check.check(self.stored, read_data=True).problems
        unknown = [p for p in problems if p.file not in self.bereaved]
        assert unknown == [], unknown
        self._all_reads_right(self.stored)
        self._points_are_right()
        for pin in self.pins:
            assert _summary(pin.stored) == pin.summary
            if pin.pruned:
                self._right_or_refused(pin.stored)
            else:
                self._all_reads_right(pin.stored)

    def _all_reads_right(self, stored: Repository) -> None:
        for number in range(len(stored.eras)):
            seen = stored.in_era(number)
            for read in self._reads(seen):
                read()
            self._history_is_right(seen)

    def _right_or_refused(self, stored: Repository) -> None:
        for number in range(len(stored.eras)):
            for read in self._reads(stored.in_era(number)):
                try:
                    read()
                except GnomonError:
                    continue

    def _reads(self, seen: Repository) -> Iterator[Callable[[], None]]:
        """Yield a check of each captured chunk, and of its status if this is the present."""
        era = self.model.eras[seen.era]
        for variable in seen.settings.variables:
            stack = seen.captures(variable.name)
            for step in (s.step for s in seen.state.kept):
                values = era.captures[step].values[variable.name]
                for index in variable.grid.indices():

                    def read(
                        step: int = step,
                        index: Index = index,
                        wanted: Any = values,
                        stack: Any = stack,
                    ) -> None:
                        cells = stack.variable.grid.cells(index)
                        found = stack.chunk(step, index)
                        part = wanted[cells]
                        assert (found.dtype, found.shape) == (part.dtype, part.shape)
                        assert found.tobytes() == part.tobytes()

                    yield read

        for step in (s.step for s in seen.state.kept):

            def described(step: int = step) -> None:
                plane = Plane(era.captures[step].instant, step=step)
                self._is_described(raw_dataset(seen, (plane,), plain=True), era, step)

            yield described

    def _is_described(self, found: xr.Dataset, era: Era, step: int) -> None:
        """Compare what a state says of itself with what the source said when it was captured."""
        said = replace(self.source, version=era.captures[step].version)
        assert found.attrs == {"title": said.title}
        for coordinate in (found[d] for d in found.dims if d != "time"):
            assert coordinate.attrs["comment"] == f"version {said.version}"
        if self.kind == "append":
            assert int(found["mask"]) == said.version % 2

    def _history_is_right(self, seen: Repository) -> None:
        """Compare what a user reads, whole, with the model: values, times, order."""
        era = self.model.eras[seen.era]
        steps = [s.step for s in seen.timeline]
        if not steps:
            return
        if seen.settings.source.kind == "append":
            found = history(seen)
            raw = b"".join(era.captures[n].raw_time for n in steps)
            assert np.asarray(found["time"].values).tobytes() == raw
        else:
            steps = steps[-1:]
            planes = (Plane(era.captures[steps[0]].instant, step=steps[0]),)
            found = raw_dataset(seen, planes, plain=True)
        self._is(found, [era.captures[n].values for n in steps], seen)
        self._is_described(found, era, max(steps))

    def _is(self, found: xr.Dataset, wanted: list[Any], seen: Repository) -> None:
        append = seen.settings.source.kind == "append"
        for variable in seen.settings.variables:
            values = np.asarray(found[variable.name].values)
            parts = np.moveaxis(values, variable.time_axis, 0) if append else values[np.newaxis]
            assert parts.dtype == variable.numpy_dtype
            assert [p.tobytes() for p in parts] == [w[variable.name].tobytes() for w in wanted]

    def _points_are_right(self) -> None:
        for number, era in enumerate(self.model.eras):
            seen = self.stored.in_era(number)
            for instant in sorted({era.captures[n].instant for n in era.kept()}):
                versions = era.versions(instant)
                found = points.candidates(seen, instant)
                doubted = bool(era.captures[versions[0]].suspects)
                first = next(p for p in found if p.kind in ("captured", "suspect"))
                assert (first.kind, first.step) == (
                    "suspect" if doubted else "captured",
                    versions[0],
                )
                assert [p.step for p in found if p.kind == "revision"] == versions[1:]
                doubtful = suspects(seen, versions[0])
                assert {(n, i) for n, chunks in doubtful.items() for i in chunks} == (
                    era.captures[versions[0]].suspects
                )

    # Readers -----------------------------------------------------------------------------------

    @rule()
    def pin(self) -> None:
        """Hold on to a repository object; of several the oldest is let go."""
        self.pins = [*self.pins[-2:], Pinned(self.stored, self.model.summary())]

    @rule(data=st.data())
    def look_back(self, data: st.DataObject) -> None:
        sequence = data.draw(st.integers(0, len(self.model.past) - 1), label="sequence")
        then = self.stored.at(sequence)
        assert _summary(then) == self.model.past[sequence]
        if any(r.kind == "prune" for r in self.stored.records[sequence + 1 :]):
            self._right_or_refused(then)
        else:
            self._all_reads_right(then)

    @precondition(lambda self: any(era.kept() for era in self.model.eras))
    @rule(data=st.data())
    def restore(self, data: st.DataObject) -> None:
        number, era = self._era(data)
        step = data.draw(st.sampled_from(era.kept()), label="step")
        seen = self.stored.in_era(number)
        if any(v.numpy_dtype.kind == "M" for v in seen.settings.variables):
            return  # refused at present: what xarray writes are numbers
        found = points.candidates(seen, era.captures[step].instant)
        point = choose(found, None, accept_predicted=False, capture=step)
        assert point.step == step
        target = self.folder / f"restored-{self.ticks}.zarr"
        restore(States(seen, (point,)), str(target), plain=True)
        with xr.open_dataset(target, engine="zarr", decode_cf=False, consolidated=False) as there:
            self._is(there, [era.captures[step].values], seen)
            if self.kind == "append":
                assert np.asarray(there["time"].values).tobytes() == era.captures[step].raw_time
        shutil.rmtree(target)

    @rule(data=st.data())
    def overview(self, data: st.DataObject) -> None:
        """Ask for everything that a person may ask for."""
        facade = GnomonRepository(self.stored)
        era = self.model.era
        assert facade.status()["captures"] == len(era.timeline())
        assert [
            c["capture"] for c in facade.captures() if c["era"] == self.stored.era
        ] == era.kept()
        found = stats(self.stored)
        assert (found.captures, found.captures + found.forgotten) == (
            len(era.kept()),
            len(era.captures),
        )
        if era.kept():
            one, other = (data.draw(st.sampled_from(era.kept())) for _ in range(2))
            differs = any(d.changed_cells for d in compare(self.stored, one, other))
            assert differs != same(era.captures[one].values, era.captures[other].values)


class AppendMachine(RepositoryMachine):
    """A source with a time dimension, which grows, also late and out of order."""

    kind = "append"

    @rule(
        changes=st.lists(st.sampled_from(CHANGES), min_size=1, max_size=4),
        seed=st.integers(0, 2**16),
        data=st.data(),
    )
    def grow(self, changes: list[str], seed: int, data: st.DataObject) -> None:
        where = data.draw(st.sampled_from(["after", "late", "out of order"]), label="where")
        for k, change in enumerate(changes):
            taken = self.source.hours
            if where == "after":
                hour = max(taken) + data.draw(st.integers(1, 3))
            else:
                free = sorted(set(range(min(taken) - 3, max(taken) + 5)) - set(taken))
                hour = data.draw(st.sampled_from(free), label="hour")
            position = None
            if where == "late":
                position = sum(h < hour for h in taken)
            self.source.put(hour, change, seed + k, position)
        self.source.write()

    @precondition(lambda self: len(self.source.hours) > 1)
    @rule(data=st.data())
    def roll(self, data: st.DataObject) -> None:
        """Let the source drop its oldest time."""
        self.source.drop(min(self.source.hours))
        self.source.write()


class StateMachine(RepositoryMachine):
    """A source that is overwritten in place."""

    kind = "state"

    @precondition(lambda self: self.model.era.timeline())
    @rule()
    def capture_in_the_past(self) -> None:
        times = {step.instant for step in self.stored.state.kept}
        before = min(times) - HOUR
        found = plan.plan_capture(self.stored, now=before)
        assert found is not None
        assert (found.instants, found.late) == ((before,), 1)
        if len(self.stored.timeline) > 1:
            with pytest.raises(InvalidInput, match="captured already"):
                plan.plan_capture(self.stored, now=self.stored.timeline[0].instant)


def _damaged(original: bytes, how: str, data: st.DataObject, other: bytes) -> bytes | None:
    """Return what stands in the place of an object; None: nothing does."""
    if how == "deleted":
        return None
    if how == "stale":
        return other
    if how == "grown":
        return original + b"\0"
    if how == "flipped" and original:
        changed = bytearray(original)
        bit = data.draw(st.integers(0, 8 * len(original) - 1), label="bit")
        changed[bit // 8] ^= 1 << bit % 8
        return bytes(changed)
    return original[: len(original) // 2] if how == "truncated" else b""


def _holds(place: Location, name: str, data: bytes) -> bool:
    try:
        return place.read(name) == data
    except GnomonError:
        return False


def _has_twin(name: str) -> bool:
    """Tell whether an object is stored twice, or can be made again from others."""
    plain = name.removeprefix(log.COPIES)
    return (
        name != plain
        or plain.startswith(("gnomon.json", "log/", "checkpoints/"))
        or (plain.startswith("captures/") and "/index/" in plain)
    )


def _summary(stored: Repository) -> Summary:
    return tuple(
        tuple((s.instant, s.forgotten, s.suspects, s.tags) for s in state.captured)
        for state in stored.eras
    )


def _grid(layout: Layout, kind: Kind) -> dict[str, Any]:
    """Return what makes an era; the chunks of the source do not."""
    found: dict[str, Any] = {q.name: q for q in layout.quantities} | layout.sizes
    times = {"calendar": layout.calendar, "dtype": layout.time_dtype}
    return found | times if kind == "append" else found
