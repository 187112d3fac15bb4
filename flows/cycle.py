"""The cycle: capture, check, features, forecast, materialize, check, next due time, heal.

Written once, for two runners: called directly it answers in seconds; in a Prefect flow every
step is a task and the chunks of a step are one Dask graph.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import sleep
from typing import TYPE_CHECKING, Any, Protocol

from gnomon.flows import checks, steps
from gnomon.flows.due import due_of, is_shadowed, refuse_undue, report_if_not_due
from gnomon.flows.mending import left_alone, put_right
from gnomon.flows.outbox import Outbox
from gnomon.flows.registered import InUse
from gnomon.flows.report import UpdateReport
from gnomon.flows.settings import Settings
from gnomon.storage.errors import (
    Conflict,
    GnomonError,
    Integrity,
    InvalidInput,
    Moved,
    NotFound,
    Unreadable,
)
from gnomon.storage.repository import Repository
from gnomon.storage.values.times import format_instant
from gnomon.tasks.capturing.plan import CapturePlan

if TYPE_CHECKING:
    from gnomon.tasks.capturing.capture import Capture
    from gnomon.tasks.learning.features import Features
    from gnomon.tasks.learning.learn import PendingState
    from gnomon.tasks.restoring.keeping import Damage

__all__ = ["Call", "Cycle"]

logger = logging.getLogger(__name__)

ATTEMPTS = 5
"""How often a capture, or a shadow, is begun again because of what others have done meanwhile."""
PAUSE_S = 0.2
"""Before a source that was changed while it was read is read again; then twice as long."""
REPEATS = 8
"""How often one run looks at several steps of one time that the source has."""


class Call(Protocol):
    """Runs one step and returns its result."""

    def __call__[R](self, step: Callable[..., R], /, *arguments: Any) -> R:
        """Run a step."""
        ...


class Cycle:
    """One run of the cycle.

    Planning and commits are done here, by one process, and so is all that leaves a trace elsewhere:
    alerts, Data Docs.  Workers only ever write what no record names yet.

    Parameters
    ----------
    url
        The repository.
    call
        Runs the steps.
    outbox
        Sends the alerts.
    checks
        Checks beside the built-in ones.
    """

    def __init__(
        self, url: str, settings: Settings, call: Call, outbox: Outbox, checks: InUse | None = None
    ) -> None:
        self._url = url
        self._settings = settings
        self._call = call
        self._outbox = outbox
        self._checks = checks or InUse()
        self._empty: set[int] = set()
        self._is_damaged = False
        self._begun = 0
        self.report = UpdateReport(url)
        """What was done so far; true at any moment, also where the run fails."""

    def run(
        self,
        *,
        now: int | None = None,
        until: int | None = None,
        refit: str | None = None,
        compare: int | None = 0,
        if_due: bool = False,
    ) -> UpdateReport:
        """Capture what is new in the source, then bring the shadow up to date.

        Runs that are repeated, or resumed after a crash, do only what is missing.

        Parameters
        ----------
        now
            Valid time of a state source, an instant; of an append source it is noted that it says
            nothing.
        until
            Capture no later time.
        refit
            A reason to learn everything anew.
        compare
            How many captures are compared with the source, which may have changed them; None: all.
        if_due
            Do nothing if the next update is due later than now.
        """
        self._settings.check_outputs()
        if if_due:
            refuse_undue(refit=refit is not None)
            skipped = report_if_not_due(self._url, self._settings, lambda: self._outbox.channels)
            if skipped is not None:
                self.report = skipped
                return skipped
        repository = Repository.open(self._url)
        self._begun = len(repository.records)
        for name, reason in self._checks.failures.items():
            self._note_failed(name, reason)
        if now is not None and repository.settings.source.kind == "append":
            self.report.notes.append("the source brings its own times: --time says nothing of them")
            now = None
        try:
            self._outbox.send()  # what a run before this one was stopped in
            if note := steps.settle(self._url):
                self.report.notes.append(note)
            self._capture_all(now, until, compare)
            self._renew_shadow(refit)
            self._heal_all()
            self._put_right()
            self._summarise()
            self._refuse_nothing()
        except Exception:
            with suppress(GnomonError):
                self._close()
            raise
        self._close()
        return self.report

    def _summarise(self) -> None:
        """Leave what the next run wants to know, if something was committed; never fails."""
        repository = Repository.recall(self._url)
        if len(repository.records) > self._begun:
            try:
                repository.summarise()
            except GnomonError as error:  # the next run reads one by one what it would find there
                logger.warning("no summary was left: %s", error)

    def _close(self) -> None:
        self._outbox.close()
        self.report.alerts_sent = self._outbox.sent
        self.report.alerts_unsent = self._outbox.unsent()

    @contextmanager
    def _reading(self, sequence: int) -> Iterator[None]:
        """Take what is missing for a conflict, if a prune has removed it meanwhile."""
        try:
            yield
        except (Integrity, NotFound) as error:
            if not steps.was_pruned(self._url, sequence):
                raise
            raise Conflict(
                f"the repository was pruned meanwhile ({error}); run it again"
            ) from error

    def _begin_again(self, what: str, error: Conflict | Moved, attempt: int) -> None:
        """Note that something is done again; raise the error if it happens too often."""
        if attempt == ATTEMPTS - 1:
            raise error
        self.report.repeated.append(f"{what}: {error}")
        logger.warning("done again what=%s because=%s", what, error)
        Repository.open(self._url)  # what others have committed is known from now on
        if isinstance(error, Moved):
            sleep(PAUSE_S * 2**attempt)  # its writer is at work

    # Capture ---------------------------------------------------------------------------------

    def _capture_all(self, now: int | None, until: int | None, compare: int | None) -> None:
        revised = self._call(steps.revisions, self._url, compare) if compare != 0 else ()
        repeated: dict[int, int] = {}
        attempt = repeats = 0
        left_out: frozenset[int] = frozenset()
        while True:
            planned = steps.plan(
                self._url, now, until, revised, repeated, left_out=left_out, again=attempt > 0
            )
            if planned is None:
                return
            self.report.notes = list(dict.fromkeys([*self.report.notes, *planned.notes]))
            self.report.left_out = [step.to_json() for step in planned.left_out]
            left_out |= planned.empty
            self._wait(planned.empty, planned.never)
            if planned.has_repeats and not repeats and compare != 0:
                repeats = 1
                if repeated := self._call(steps.repeats, self._url):
                    continue
            if not planned.instants:
                return
            try:
                with self._reading(planned.sequence):
                    not_taken = self._capture(planned)
            except (Conflict, Moved) as error:
                self._begin_again("capture", error, attempt)
                attempt += 1
                continue
            attempt = 0
            if not_taken:
                left_out |= not_taken
                continue
            revised = tuple(step for step in revised if step not in planned.revises)
            if planned.duplicates or not repeated.keys().isdisjoint(planned.revises):
                repeats += 1  # of one time, each may hold other data
                repeated = self._call(steps.repeats, self._url) if repeats < REPEATS else {}
            if not (planned.remaining or repeated or revised):
                return

    def _capture(self, planned: CapturePlan) -> frozenset[int]:
        """Capture what was planned; returns the instants that cannot be read, or have no value yet.

        Then it captures nothing: the others are planned anew.
        """
        capture = self._call(steps.capture, self._url, planned, self._checks.checks)
        if capture.unread:
            return self._leave_out(planned, capture)
        if capture.empty:
            empty = frozenset(planned.instants[k] for k in capture.empty)
            self._wait(empty, planned.never)
            return empty
        for check in capture.checks:
            if check.column in capture.failures:
                self._note_failed(check.name, capture.failures[check.column])
        judgement = self._call(checks.check_actual, self._url, capture, self._settings)
        sequence = steps.keep_capture(self._url, capture, judgement, self._outbox.channels)
        calendar = Repository.recall(self._url, at=sequence).settings.calendar
        times = [format_instant(i, calendar) for i in planned.instants]
        report = self.report
        report.captured += times
        report.incomplete += [times[k] for k in capture.incomplete()]
        report.late += planned.late
        report.revised += sum(step is not None for step in planned.revises)
        report.judged += judgement.rows
        report.suspect_chunks += len(judgement.suspect)
        report.incidents += judgement.incidents
        logger.info(
            "captured record=%d states=%d last=%s suspect_chunks=%d",
            *(sequence, len(times), times[-1], len(judgement.suspect)),
        )
        self._outbox.send()
        return frozenset()

    def _note_failed(self, name: str, reason: str) -> None:
        """Note once that a check could not be made somewhere: all others are."""
        if name not in self.report.failed_checks:
            self.report.failed_checks[name] = reason
            logger.warning("check failed name=%s because=%s", name, reason)

    def _leave_out(self, planned: CapturePlan, capture: "Capture") -> frozenset[int]:
        """Note the states that the source holds damaged, or marked as predicted: the others are
        captured without them."""
        calendar = Repository.recall(self._url, at=planned.sequence).settings.calendar
        for position, error in sorted(capture.unread.items()):
            time = format_instant(planned.instants[position], calendar)
            self.report.unread.append({"valid_time": time, "error": error})
            logger.warning("left out valid_time=%s because=%s", time, error)
        self._is_damaged |= not capture.predicted.issuperset(capture.unread)
        return frozenset(planned.instants[position] for position in capture.unread)

    def _refuse_nothing(self) -> None:
        """Fail if all that is new was left out.

        Raises
        ------
        Unreadable
            Some of it is damaged: it may be well the next time.
        InvalidInput
            All of it is marked as predicted: somebody must put data there.
        """
        if self.report.unread and not self.report.captured:
            kind = Unreadable if self._is_damaged else InvalidInput
            raise kind(self.report.unread[0]["error"])

    def _wait(self, empty: frozenset[int], never: tuple[int, ...]) -> None:
        """Note which steps have no value yet, those seen before in this run among them."""
        self._empty |= empty
        if not self._empty and not never:
            return
        count, *ends = never or (0,)
        ends = sorted([*ends, *self._empty])
        calendar = Repository.recall(self._url).settings.calendar
        first, last = (format_instant(ends[k], calendar) for k in (0, -1))
        self.report.waiting = {"count": count + len(self._empty), "first": first, "last": last}

    # Shadow ----------------------------------------------------------------------------------

    def _renew_shadow(self, refit: str | None) -> None:
        for attempt in range(ATTEMPTS):
            if not refit and is_shadowed(self._url):
                self._tell_idle()
                return
            sequence = steps.newest(self._url)
            try:
                with self._reading(sequence):
                    self._forecast(refit, sequence)
                return
            except Conflict as error:
                self._begin_again("shadow", error, attempt)

    def _tell_idle(self) -> None:
        self.report.message = "nothing new in the source"
        if self.report.captured or self.report.repeated:
            self.report.message = "another run has made the shadow"
            due = due_of(Repository.recall(self._url))
            self.report.due = None if due is None else due.to_json()

    def _forecast(self, refit: str | None, sequence: int) -> None:
        url, call, report = self._url, self._call, self.report
        features = call(steps.features, url, refit, sequence, self._settings)
        if not features:
            report.message = steps.forecast_excuse(url)
            return
        learnt = self._learn(features, sequence)
        try:
            shadowed = call(steps.materialize, url, learnt)
        except Integrity:
            if not learnt.went_on:
                raise
            # What it goes on from is damaged, and was not when the capture was compared with it.
            learnt = self._learn(features, learnt.sequence, trusts_ledger=False)
            shadowed = call(steps.materialize, url, learnt)
        verdict = call(checks.check_prediction, url, shadowed, self._settings)
        if verdict.suspect:
            shadowed = call(steps.withhold, url, shadowed, verdict)
        due = call(steps.next_update, url, shadowed, self._settings)
        steps.keep_shadow(url, shadowed, verdict, due)
        report.failed_candidates = shadowed.failed_candidates
        report.refit = {n: f.refit for n, f in features.items() if f.refit}
        report.confidence = {n: list(e.confidence) for n, e in shadowed.variables.items()}
        report.withheld = {
            n: ["/".join(map(str, index)) for index in e.withheld]
            for n, e in shadowed.variables.items()
            if e.withheld
        }
        report.unpredicted = {
            n: e.unpredicted for n, e in shadowed.variables.items() if e.unpredicted
        }
        report.findings = list(verdict.findings)
        report.due = due.to_json()
        when = due.at or due.valid_time
        report.message = f"captured {len(report.captured)}, next update due {when}"
        logger.info("forecast variables=%d due=%s", len(shadowed.variables), due.valid_time)

    def _learn(
        self, features: "dict[str, Features]", sequence: int, *, trusts_ledger: bool = True
    ) -> "PendingState":
        """Bring the forecaster up to date, and keep what history itself does not believe."""
        learnt = self._call(steps.forecast, self._url, features, sequence, trusts_ledger)
        learnt, incidents = steps.keep_doubts(self._url, learnt, self._outbox.channels)
        self.report.doubted += sum(map(len, learnt.gated.values()))
        self.report.incidents += incidents
        if incidents:
            self._outbox.send()
        return learnt

    # Healing ---------------------------------------------------------------------------------

    def _heal_all(self) -> None:
        """Estimate what is suspect once, and keep it, so that restores need only read it."""
        for attempt in range(ATTEMPTS):
            sequence = steps.newest(self._url)
            try:
                with self._reading(sequence):
                    for damage in steps.damages(self._url):
                        self._heal(damage)
                return
            except Conflict as error:
                self._begin_again("healing", error, attempt)

    def _put_right(self) -> None:
        """Write estimates into the source, where a rule allows it, and tell of each."""
        self.report.put_right = put_right(self._url, self._outbox.channels)
        self.report.left_alone = left_alone(self._url, self._begun, self.report.put_right)
        for done in self.report.put_right:
            logger.info("put right valid_time=%s rollback=%s", done["valid_time"], done["rollback"])
        if self.report.put_right:
            self._outbox.send()

    def _heal(self, damage: "Damage") -> None:
        repository = Repository.recall(self._url)
        instant = repository.captured[damage.step].instant
        time = format_instant(instant, repository.settings.calendar)
        if time in self.report.unhealed:
            return
        try:
            patched = self._call(steps.estimate, self._url, damage)
        except Integrity as error:
            # No reason to fail: what was captured is kept. A restore tells of the same damage.
            if steps.was_pruned(self._url, damage.sequence):
                raise
            self.report.unhealed[time] = str(error)
            logger.warning("not healed valid_time=%s because=%s", time, error)
            return
        steps.keep_patches(self._url, patched)
        self.report.healed[time] = patched.count
        logger.info("healed valid_time=%s chunks=%d", time, patched.count)
