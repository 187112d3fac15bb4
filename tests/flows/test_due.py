"""An update that is not due does nothing; what is left to be done makes one due."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gnomon.flows import due as dues
from gnomon.flows import steps
from gnomon.flows.due import due_of
from gnomon.flows.report import UpdateReport
from gnomon.flows.schedule import Due
from gnomon.flows.settings import Settings
from gnomon.running import FIRST_WAIT, LONGEST_WAIT, Turn, turns
from gnomon.storage.errors import InvalidInput
from gnomon.storage.outbox import DueAlert
from tests.cases import HISTORY, Case
from tests.gnomon.test_cli import run, strict

NOON = datetime(2001, 1, 1, 12, tzinfo=UTC)


def due(case: Case) -> Due:
    found = due_of(case.open().stored)
    assert found is not None
    return found


def at_a_later_time(monkeypatch: pytest.MonkeyPatch, after: timedelta) -> None:
    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + after

    monkeypatch.setattr(dues, "datetime", Later)


@pytest.fixture
def waiting(grown: Case) -> Case:
    """A repository that was updated a moment ago; its states come once a day."""
    grown.arrive(HISTORY, HISTORY + 1)
    grown.open().update()
    return grown


def test_an_update_that_is_not_due_looks_at_nothing(waiting: Case) -> None:
    shutil.rmtree(waiting.source)
    before = len(waiting.open().stored.records)
    report = waiting.open().update(if_due=True)
    assert report.skipped == report.message
    assert report.skipped.startswith(f"not due until {due(waiting).at}: confidence ")
    assert report.due == due(waiting).to_json()
    assert not report.captured
    assert len(waiting.open().stored.records) == before


def test_the_interval_is_that_of_the_data_on_the_clock(waiting: Case) -> None:
    """Nobody has looked before the backfill: how long the source takes is not known yet."""
    read_at = datetime.fromisoformat(waiting.open().stored.timeline[-1].read_at)
    at = datetime.fromisoformat(str(due(waiting).at))
    days = (at - read_at) / timedelta(days=1)
    assert due(waiting).lead - 1 <= days <= due(waiting).lead + 0.001


def test_one_is_due_when_the_time_has_come(waiting: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting.arrive(HISTORY + 1, HISTORY + 2)
    assert not waiting.open().update(if_due=True).captured
    at_a_later_time(monkeypatch, timedelta(days=due(waiting).lead, minutes=1))
    assert waiting.open().update(if_due=True).captured


def test_one_is_due_while_a_verdict_has_made_the_forecast_stale(waiting: Case) -> None:
    day = waiting.open().captures()[-1]["valid_time"]
    waiting.open().judge(day, accept=False)
    assert not waiting.open().update(if_due=True).skipped
    assert waiting.open().update(if_due=True).skipped


def test_one_is_due_while_an_alert_was_not_sent(
    waiting: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert waiting.open().update(if_due=True).skipped
    unsent = DueAlert(1, 0, 0, "log", {}, "id")
    monkeypatch.setattr(dues, "open_alerts", lambda _: [unsent])
    assert not waiting.open().update(if_due=True).skipped
    # One that no run sends any more makes none due.
    monkeypatch.setattr(dues, "open_alerts", lambda _: [replace(unsent, channel="pager")])
    assert waiting.open().update(if_due=True).skipped


def test_an_alert_of_what_was_accepted_makes_none_due(
    damaged: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GNOMON_WEBHOOK", "http://127.0.0.1:9/down")
    damaged.arrive(HISTORY, HISTORY + 2)
    damaged.open().update()
    for capture in damaged.open().captures():
        damaged.open().judge(capture["valid_time"], accept=True)
    damaged.open().update()
    assert damaged.open().status()["alerts_unsent"] == []
    assert damaged.open().update(if_due=True).skipped


@pytest.mark.parametrize("asked", ["refit", "new_era"])
def test_what_is_to_be_done_at_once_does_not_wait(waiting: Case, asked: Any) -> None:
    options: Any = {asked: True}
    with pytest.raises(InvalidInput, match=f"{asked} and if_due contradict each other"):
        waiting.open().update(if_due=True, **options)


def test_a_clock_that_was_ahead_puts_nothing_off(
    waiting: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_a_later_time(monkeypatch, -timedelta(days=3))
    assert not waiting.open().update(if_due=True).skipped


def test_whoever_comes_second_knows_when_the_next_is_due(
    waiting: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting.arrive(HISTORY + 1, HISTORY + 2)
    keep = steps.keep_capture

    def and_another_forecasts(*arguments: Any) -> int:
        kept = keep(*arguments)
        monkeypatch.setattr(steps, "keep_capture", keep)
        waiting.open().update()
        return kept

    monkeypatch.setattr(steps, "keep_capture", and_another_forecasts)
    report = waiting.open().update()
    assert report.captured
    assert report.due == due(waiting).to_json()


def test_the_longest_interval_counts_as_soon_as_it_is_set(waiting: Case) -> None:
    assert waiting.open().update(if_due=True).skipped
    settings = Settings(max_interval=timedelta(microseconds=1))
    assert not waiting.open().update(if_due=True, settings=settings).skipped


def test_an_interval_does_not_grow_by_repetition(waiting: Case) -> None:
    leads = []
    for _ in range(3):
        waiting.open().update(refit=True, settings=Settings(target_confidence=0.01))
        leads.append(due(waiting).lead)
    assert leads == [leads[0]] * 3
    assert "as nothing newer was captured" in due(waiting).reason


def test_damage_shortens_the_interval_at_once_and_calm_makes_it_grow_again(damaged: Case) -> None:
    assert due(damaged).lead == 1
    assert "suspect in the newest capture" in due(damaged).reason
    leads = []
    for day in range(HISTORY + 1, HISTORY + 7):
        damaged.arrive(day, day + 1)
        damaged.open().update(settings=Settings(target_confidence=0.01))
        leads.append(due(damaged).lead)
    # Two captures long the damage is late; then it grows twofold each time, up to all leads.
    assert leads == [1, 1, 2, 4, 6, 6]


def test_limits_of_the_interval_are_settings(waiting: Case) -> None:
    waiting.arrive(HISTORY + 1, HISTORY + 2)
    settings = Settings(
        target_confidence=0.01, min_interval=timedelta(days=9), max_interval=timedelta(days=12)
    )
    waiting.open().update(settings=settings)
    read_at = datetime.fromisoformat(waiting.open().stored.timeline[-1].read_at)
    assert datetime.fromisoformat(str(due(waiting).at)) - read_at == timedelta(days=9)
    settings = Settings(target_confidence=0.01, max_interval=timedelta(hours=3))
    waiting.open().update(refit=True, settings=settings)
    assert due(waiting).lead == 1
    assert datetime.fromisoformat(str(due(waiting).at)) - read_at == timedelta(hours=3)


def test_limits_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(
        InvalidInput, match="min_interval is 2 days, 0:00:00 and max_interval 1 day"
    ):
        Settings(min_interval=timedelta(days=2), max_interval=timedelta(days=1))


def test_the_command_says_why_it_does_nothing(
    waiting: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, "update", str(waiting.place), "--if-due")[0] == 0
    code, out, _ = run(capsys, "update", str(waiting.place), "--if-due", "--json")
    assert code == 0
    assert strict(out)["skipped"].startswith("not due until")


# Many repositories in one process -----------------------------------------------------------------


class Clock:
    """A clock that only goes on while somebody waits."""

    def __init__(self) -> None:
        self.time = NOON

    def now(self) -> datetime:
        return self.time

    def wait(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


class Sources:
    """Sources of which an update is due some time after the last, unless it is late."""

    def __init__(self, clock: Clock, **leads: timedelta) -> None:
        self.clock, self.leads = clock, leads
        self.due: dict[str, datetime] = {}
        self.asked: list[tuple[str, float]] = []
        """Place, and hours since noon."""

    def update(self, place: str) -> UpdateReport:
        self.asked.append((place, (self.clock.time - NOON) / timedelta(hours=1)))
        report = UpdateReport(place)
        if self.clock.time < self.due.get(place, self.clock.time):
            report.skipped = "not due"
        else:
            report.captured = ["2001-01-01"]
            self.due[place] = self.clock.time + self.leads[place]
        report.due = Due(1, "2001-01-02", "calm", self.due[place].isoformat()).to_json()
        return report


def first(several: Iterator[Turn], count: int) -> list[Turn]:
    return [next(several) for _ in range(count)]


def test_each_repository_has_its_turn_when_it_is_due() -> None:
    clock = Clock()
    both = Sources(clock, a=timedelta(hours=2), b=timedelta(hours=5))
    several = turns(["a", "b"], both.update, now=clock.now, wait=clock.wait)
    taken = [(next(several).place, (clock.time - NOON) / timedelta(hours=1)) for _ in range(6)]
    assert taken == [("a", 0), ("b", 0), ("a", 2), ("a", 4), ("b", 5), ("a", 6)]
    # In between each is asked once an hour whether something has made one due.
    assert ("b", 3) in both.asked
    assert ("a", 5) in both.asked


def test_what_makes_an_update_due_meanwhile_is_seen_within_the_hour() -> None:
    clock = Clock()
    one = Sources(clock, a=timedelta(days=9))
    several = turns(["a"], one.update, now=clock.now, wait=clock.wait)
    next(several)
    one.due["a"] = clock.time  # a verdict
    assert next(several).report is not None
    assert clock.time - NOON <= LONGEST_WAIT


def test_what_fails_is_tried_again_ever_more_seldom_and_stops_no_other() -> None:
    clock = Clock()
    good = Sources(clock, good=timedelta(days=9))

    def update(place: str) -> UpdateReport:
        if place == "bad":
            raise OSError("no such disk")
        return good.update(place)

    several = turns(["bad", "good"], update, now=clock.now, wait=clock.wait)
    bad, well, *more = first(several, 10)
    assert (bad.report, str(bad.error)) == (None, "no such disk")
    assert well.report is not None
    assert {turn.place for turn in more} == {"bad"}
    waits = [b.next_at - a.next_at for a, b in zip([bad, *more[:-1]], more, strict=True)]
    assert waits[:3] == [2 * FIRST_WAIT, 4 * FIRST_WAIT, 8 * FIRST_WAIT]
    assert waits[-1] == LONGEST_WAIT


def test_a_source_that_is_late_is_looked_at_again_soon() -> None:
    clock = Clock()

    def nothing_new(place: str) -> UpdateReport:
        report = UpdateReport(place)
        report.due = Due(1, "2001-01-02", "calm", NOON.isoformat()).to_json()
        return report

    several = turns(["a"], nothing_new, now=clock.now, wait=clock.wait)
    seconds = [next(several).next_at - clock.time for _ in range(3)]
    assert seconds == [FIRST_WAIT, 2 * FIRST_WAIT, 4 * FIRST_WAIT]


def test_one_that_captures_something_each_time_does_not_wait() -> None:
    """Of states that come faster than updates take."""
    clock = Clock()
    one = Sources(clock, a=timedelta(minutes=-2))
    several = turns(["a"], one.update, now=clock.now, wait=clock.wait)
    assert all(turn.next_at <= clock.time for turn in first(several, 4))


def test_a_source_that_has_always_a_state_is_not_captured_ever_faster() -> None:
    """Before there is a forecast nothing says when an update is due."""
    clock = Clock()

    def captured(place: str) -> UpdateReport:
        return UpdateReport(place, captured=["2001-01-01"])

    several = turns(["a"], captured, least=timedelta(hours=3), now=clock.now, wait=clock.wait)
    assert [next(several).next_at - clock.time for _ in range(3)] == [timedelta(hours=3)] * 3


def test_one_command_updates_several_repositories_and_names_those_that_fail(
    waiting: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    waiting.arrive(HISTORY + 1, HISTORY + 2)
    day = waiting.open().captures()[-1]["valid_time"]
    waiting.open().judge(day, accept=False)
    nowhere = str(waiting.folder / "nowhere")
    code, out, err = run(capsys, "run", nowhere, str(waiting.place))
    assert code == 3
    assert "captured 1" in out
    assert err.startswith("gnomon: error: repository ")
    assert nowhere in err
    code, out, _ = run(capsys, "run", nowhere, str(waiting.place), "--json")
    assert code == 3
    failed, skipped = (strict(line) for line in out.splitlines())
    assert (failed["repository"], failed["exit_code"], failed["report"]) == (nowhere, 3, None)
    assert skipped["report"]["skipped"].startswith("not due until")
    assert skipped["next_at"] == due(waiting).at
