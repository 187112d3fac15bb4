"""The outbox: what is found is told after the commit, once, by this run or the next."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gnomon
from gnomon.flows import steps
from gnomon.flows.alerting import channels_of
from gnomon.flows.cycle import Cycle
from gnomon.flows.outbox import Outbox
from gnomon.flows.report import UpdateReport
from gnomon.flows.settings import Settings
from gnomon.flows.summary import is_suspect
from gnomon.storage import outbox as storage
from gnomon.storage.errors import Conflict, InvalidInput
from gnomon.tasks.work import serial
from gnomon.validations.alerts import Alert, AlertAction, Refused
from tests import sources
from tests.cases import HISTORY, Case


class Channel:
    """Keeps what it is given; fails while it is down."""

    def __init__(self, *, down: bool = False) -> None:
        self.down = down
        self.got: list[Alert] = []
        self.asked = 0

    def __call__(self, alert: Alert) -> None:
        self.asked += 1
        if self.down:
            raise OSError("nobody listens")
        self.got.append(alert)


def run(case: Case, **channels: AlertAction) -> UpdateReport:
    def call(step: Any, /, *arguments: Any) -> Any:
        options = {"mapper": serial} if step in steps.ON_CHUNKS else {}
        return step(*arguments, **options)

    place = str(case.place)
    return Cycle(place, Settings(), call, Outbox(place, channels)).run()


def arrive_damaged(case: Case, day: int = HISTORY, blocks: int = 1) -> None:
    data = case.data.copy(deep=True)
    for k in range(blocks):
        data.sst.values[day, :4, 8 * k : 8 * k + 4] += np.float32(20)
    sources.write(case.source, data, day, day + 1)


@pytest.fixture
def struck(grown: Case) -> Case:
    """A day has arrived with two blocks damaged, apart from each other."""
    arrive_damaged(grown, blocks=2)
    return grown


def test_an_alert_is_sent_once_and_after_the_commit(struck: Case) -> None:
    kinds: list[str] = []

    def look(alert: Alert) -> None:
        kinds.append(struck.open().stored.records[-1].kind)

    web = Channel()
    report = run(struck, webhook=web, look=look)
    assert kinds == ["capture", "capture"]
    assert (report.alerts_sent, report.alerts_unsent) == (4, [])
    assert len({a.id for a in web.got}) == 2
    for _ in range(2):
        assert run(struck, webhook=web, look=look).alerts_sent == 0
    assert (len(web.got), len(kinds)) == (2, 2)
    assert struck.open().status()["alerts_unsent"] == []


def test_the_record_says_what_is_due_and_no_secret(struck: Case) -> None:
    settings = Settings(alerts=Path("a.jsonl"), webhook="http://127.0.0.1:9/token-of-mine")
    struck.open().update(settings=settings)
    record = next(r for r in reversed(struck.open().stored.records) if r.kind == "capture")
    assert record.body["report"]["alerts"] == ["log", "file", "webhook"]
    assert {i["severity"] for i in record.body["report"]["incidents"]} == {"critical"}
    for path in struck.place.rglob("*"):
        assert not path.is_file() or b"token-of-mine" not in path.read_bytes()
    # The identity is of the repository, the record and the incident.
    lines = [json.loads(line) for line in Path("a.jsonl").read_text().splitlines()]
    genesis = struck.open().stored.genesis[:16]
    assert [a["id"] for a in lines] == [f"{genesis}-{record.sequence}-{k}" for k in (0, 1)]


@pytest.mark.parametrize("place", ["before sending", "between", "before marking", "after"])
def test_a_run_that_dies_is_made_up_for_by_the_next(
    struck: Case, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Killed anywhere between commit and end: nobody is forgotten, at most one is told twice."""
    web, file = Channel(), Channel()
    true = storage.mark
    marked = 0

    def die(*arguments: Any) -> None:
        nonlocal marked
        marked += 1
        if place == "between" and marked == 3:
            raise KeyboardInterrupt
        if place == "before marking":
            raise KeyboardInterrupt
        true(*arguments)

    def die_at_once(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("gnomon.flows.outbox.mark", die)
        if place == "before sending":
            patch.setattr(Outbox, "send", lambda _: _die_after_the_capture(struck))
        if place == "after":
            patch.setattr(steps, "features", die_at_once)
            patch.setattr(steps, "ON_CHUNKS", steps.ON_CHUNKS - {steps.features})
        with pytest.raises(KeyboardInterrupt):
            run(struck, webhook=web, file=file)
    before = len(web.got) + len(file.got)
    report = run(struck, webhook=web, file=file)
    assert report.alerts_unsent == []
    assert {a.id for a in web.got} == {a.id for a in file.got}
    assert len({a.id for a in web.got}) == 2
    twice = len(web.got) + len(file.got) - 4
    assert (before, twice) == {
        "before sending": (0, 0),
        "between": (3, 1),
        "before marking": (1, 1),
        "after": (4, 0),
    }[place]


def _die_after_the_capture(case: Case) -> None:
    if case.open().stored.records[-1].kind == "capture":
        raise KeyboardInterrupt


def test_a_channel_that_is_down_stops_nothing_and_is_told_of(
    struck: Case, caplog: pytest.LogCaptureFixture
) -> None:
    web, file = Channel(down=True), Channel()
    report = run(struck, webhook=web, file=file)
    assert report.due is not None  # the shadow was made
    assert len(file.got) == 2
    assert web.asked == 1  # it would fail again, and slowly
    assert [(a["channel"], a["error"]) for a in report.alerts_unsent] == [
        ("webhook", "nobody listens")
    ] * 2
    assert [a["channel"] for a in struck.open().status()["alerts_unsent"]] == ["webhook"] * 2
    assert "nobody listens" in caplog.text
    # What is down stays due; what took it is not asked again.
    report = run(struck, webhook=web, file=file)
    assert (len(report.alerts_unsent), len(file.got)) == (2, 2)
    web.down = False
    report = run(struck, webhook=web, file=file)
    assert (report.alerts_sent, report.alerts_unsent, len(web.got)) == (2, [], 2)
    run(struck, webhook=web, file=file)
    assert (len(web.got), len(file.got)) == (2, 2)


def test_what_is_unsent_is_told_though_the_source_is_gone(struck: Case) -> None:
    run(struck, webhook=Channel(down=True))
    (struck.folder / "source.zarr").rename(struck.folder / "elsewhere.zarr")
    web = Channel()
    with pytest.raises(Exception, match=r"source\.zarr"):
        run(struck, webhook=web)
    assert len(web.got) == 2


def test_a_channel_that_is_new_is_told_nothing_old(struck: Case) -> None:
    run(struck, file=Channel())
    web = Channel()
    run(struck, webhook=web)
    assert web.got == []
    assert struck.open().status()["alerts_unsent"] == []


def test_a_channel_that_a_run_lacks_is_told_of(struck: Case) -> None:
    run(struck, webhook=Channel(down=True))
    report = run(struck, file=Channel())
    assert {a["error"] for a in report.alerts_unsent} == {"this run has no such channel"}


def test_what_another_run_has_added_is_not_said_to_have_no_channel(struck: Case) -> None:
    web = Channel()
    outbox = Outbox(str(struck.place), {"webhook": web})
    outbox.send()  # nothing yet
    run(struck, webhook=Channel(down=True))
    assert [a["error"] for a in outbox.unsent()] == ["it came after this run had sent its own"] * 2


@pytest.mark.parametrize("end", ["accept", "forget"])
def test_what_a_person_has_settled_is_no_news(struck: Case, end: str) -> None:
    run(struck, webhook=Channel(down=True))
    assert len(struck.open().status()["alerts_unsent"]) == 2
    if end == "accept":
        struck.open().judge("2001-01-25", accept=True)
    else:
        struck.arrive(HISTORY + 1, HISTORY + 2)
        run(struck, webhook=Channel(down=True))
        struck.open().forget(captures=[HISTORY])
    assert struck.open().status()["alerts_unsent"] == []
    web = Channel()
    run(struck, webhook=web)
    assert web.got == []


def test_records_of_before_are_not_told_again(damaged: Case) -> None:
    """A repository whose records say nothing of alerts: its history is no news."""
    stored = damaged.open().stored
    assert any(r.body.get("report", {}).get("incidents") for r in stored.records)
    old = [
        r.body["report"].pop("alerts", None)  # as an older release would have written it
        for r in stored.records
        if r.kind == "capture"
    ]
    try:
        assert storage.due(stored) == ()
    finally:
        for record, channels in zip(
            (r for r in stored.records if r.kind == "capture"), old, strict=True
        ):
            if channels is not None:
                record.body["report"]["alerts"] = channels


@pytest.mark.parametrize(
    "alerts",
    [True, "webhook", {"x": 1}, [1, None], ["../../x"], ["a/b"], [["log"]], ["X"], [""]],
)
def test_nonsense_in_a_record_is_nothing_due(grown: Case, alerts: Any) -> None:
    stored = grown.open().stored
    incidents = [{"severity": "critical", "variable": "sst"}, 3, {"severity": "warning"}]
    body = {"instants": [], "report": {"alerts": alerts, "incidents": incidents}}
    record = stored.records[1]
    nonsense = type(record)(1, "", "capture", "", body)
    assert storage._of(nonsense, 0, stored.genesis) == []


def test_marks_are_no_part_of_the_state(struck: Case) -> None:
    run(struck, webhook=Channel())
    stored = struck.open().stored
    marks = stored.location.list("alerts/")
    assert len(marks) == 2
    assert struck.open().check(read_data=True).problems == ()
    assert struck.open().check().unreferenced == 0
    struck.open().prune()
    assert stored.location.list("alerts/") == marks
    assert struck.open().update().message == "nothing new in the source"
    assert struck.open().stats().parts["unreferenced"] == 0
    # A mark that another run has put meanwhile is no error.
    one = storage.DueAlert(2, 0, 0, "webhook", {}, "x")
    storage.mark(stored, one, "2020-01-01T00:00:00+00:00")
    storage.mark(stored, one, "2021-01-01T00:00:00+00:00")


def test_a_conflict_tells_nobody_of_what_was_not_committed(
    struck: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    def beaten(*_: Any) -> int:
        raise Conflict("another was first")

    monkeypatch.setattr(steps, "keep_capture", beaten)
    web = Channel()
    with pytest.raises(Conflict):
        run(struck, webhook=web)
    assert web.got == []


def test_a_webhook_that_is_none_is_refused_before_anything_is_done(struck: Case) -> None:
    with pytest.raises(InvalidInput, match="http"):
        channels_of(Settings(webhook="ftp://host/x"))
    with pytest.raises(InvalidInput, match="http"):
        struck.open().update(settings=Settings(webhook="ftp://host/x"))
    assert len(struck.open().stored.captured) == HISTORY


def test_a_warning_is_no_alert(grown: Case) -> None:
    data = grown.data.copy(deep=True)
    data.sst.values[HISTORY] = data.sst.values[HISTORY - 1]
    sources.write(grown.source, data, HISTORY, HISTORY + 1)
    web = Channel()
    report = run(grown, webhook=web)
    assert {i["severity"] for i in report.incidents} == {"warning"}
    assert web.got == []


def test_the_command_line_tells_of_alerts_that_were_not_sent(
    struck: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    from gnomon.cli import report

    done = run(struck, webhook=Channel(down=True))
    report.print_update(done.to_json())
    report.print_status(struck.open().status())
    printed = capsys.readouterr().out
    assert "alert not sent: webhook, sst at 2001-01-25T00:00:00: nobody listens" in printed
    assert "2 (webhook)" in printed


# What a refit finds ------------------------------------------------------------------------------


@pytest.fixture
def doubtful(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    """A history with a damaged chunk, which the first refit finds and no check of a capture."""
    monkeypatch.chdir(tmp_path)
    case = Case(tmp_path, sources.temperature(41))
    data = case.data.isel(time=slice(40)).copy(deep=True)
    data.sst.values[30, :4, :4] += np.float32(8)
    sources.overwrite(case.source, data)
    gnomon.create(str(case.place), str(case.source), variables=["sst"], chunks={"lat": 4, "lon": 4})
    return case


def test_what_a_refit_finds_is_told_like_what_a_check_finds(doubtful: Case) -> None:
    """A critical incident, open, must not pass in silence because it was found a step later."""
    web = Channel()
    report = run(doubtful, webhook=web)
    assert (report.suspect_chunks, report.doubted) == (0, 1)
    open_ones = [a for a in doubtful.open().anomalies() if a["open"]]
    assert len(open_ones) == 1
    assert [i["valid_time"] for i in report.incidents] == [open_ones[0]["valid_time"]]
    assert is_suspect(report)
    assert [a.incident["valid_time"] for a in web.got] == [open_ones[0]["valid_time"]]
    assert (report.alerts_sent, report.alerts_unsent) == (1, [])
    run(doubtful, webhook=web)
    assert len(web.got) == 1
    assert doubtful.open().check(read_data=True).problems == ()


def test_what_a_refit_found_and_was_not_sent_stays_due_until_it_is_settled(
    doubtful: Case,
) -> None:
    report = run(doubtful, webhook=Channel(down=True))
    assert len(report.alerts_unsent) == 1
    assert len(doubtful.open().status()["alerts_unsent"]) == 1
    doubtful.open().judge(report.alerts_unsent[0]["valid_time"], accept=True)
    assert doubtful.open().status()["alerts_unsent"] == []


# A channel that refuses ---------------------------------------------------------------------------


@pytest.mark.parametrize("code", [400, 413, 422, 500])
def test_an_alert_that_a_channel_refuses_holds_up_no_other(struck: Case, code: int) -> None:
    """It alone stays due: those after it would else never be told."""

    class Picky(Channel):
        def __call__(self, alert: Alert) -> None:
            self.asked += 1
            if alert.id.endswith("-0"):
                raise Refused(f"it answered {code}")
            self.got.append(alert)

    web = Picky()
    report = run(struck, webhook=web)
    assert [a.id[-2:] for a in web.got] == ["-1"]
    assert [(a["id"][-2:], a["error"]) for a in report.alerts_unsent] == [
        ("-0", f"it answered {code}")
    ]
    assert web.asked == 2  # each once in a run
    report = run(struck, webhook=web)
    assert (web.asked, len(report.alerts_unsent)) == (3, 1)


def test_what_another_run_sends_meanwhile_is_not_sent_again(struck: Case) -> None:
    """Two runs at once: only what both have on the way at the same moment is told twice."""
    other = Channel()

    class Slow(Channel):
        def __call__(self, alert: Alert) -> None:
            super().__call__(alert)
            if len(self.got) == 1:
                run(struck, webhook=other)

    web = Slow()
    report = run(struck, webhook=web)
    assert len(other.got) == 2
    assert len(web.got) == 1
    assert report.alerts_unsent == []
