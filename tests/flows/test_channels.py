"""Alert channels of users' own, of Apprise and of other packages: used like those built in."""

import logging
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gnomon.flows.alerting import BUILT_IN, channels_of
from gnomon.flows.report import UpdateReport
from gnomon.flows.settings import Settings
from gnomon.storage.entrypoints import registered
from gnomon.storage.errors import InvalidInput
from gnomon.validations import alerts
from gnomon.validations.alerts import Alert
from tests.cases import HISTORY, Case
from tests.flows.test_outbox import arrive_damaged
from tests.packages import Install, installing

TOKEN = "xoxb-SECRETxTOKENxOFxMINE"


@dataclass
class Pager:
    """A channel as a user writes it, whose repr tells its secret."""

    name: str
    down: bool = False
    token: str = TOKEN
    got: list[str] = field(default_factory=list)

    def __call__(self, alert: Alert) -> None:
        if self.down:
            raise OSError("nobody listens")
        self.got.append(alert.id)


@pytest.fixture
def struck(grown: Case) -> Case:
    """A day has arrived with two blocks damaged, apart from each other."""
    arrive_damaged(grown, blocks=2)
    return grown


def update(case: Case, own: Sequence[Any] = (), **settings: Any) -> UpdateReport:
    return case.open().update(alerts=own, settings=Settings(**settings))


# Of the user's own --------------------------------------------------------------------------------


def test_a_channel_of_ones_own_is_sent_each_alert_once(struck: Case) -> None:
    pager = Pager("pager")
    report = update(struck, [pager])
    assert (report.alerts_sent, report.alerts_unsent) == (4, [])  # two of them to the log
    assert len(set(pager.got)) == len(pager.got) == 2
    record = next(r for r in struck.open().stored.records[::-1] if r.kind == "capture")
    assert record.body["report"]["alerts"] == ["log", "pager"]
    again = Pager("pager")  # another object in another run: the name counts
    assert update(struck, [again]).alerts_sent == 0
    assert again.got == []


def test_a_channel_of_ones_own_that_fails_stops_nothing(
    struck: Case, caplog: pytest.LogCaptureFixture
) -> None:
    desk = Pager("desk")
    with caplog.at_level(logging.DEBUG):
        report = update(struck, [Pager("pager", down=True), desk])
    assert report.due is not None  # the shadow was made
    assert len(desk.got) == 2
    told = {(a["channel"], a["error"]) for a in report.alerts_unsent}
    assert told == {("pager", "nobody listens")}
    assert "action=pager" in caplog.text
    assert TOKEN not in caplog.text + str(report)
    report = update(struck)
    assert {a["error"] for a in report.alerts_unsent} == {"this run has no such channel"}
    pager = Pager("pager")
    report = update(struck, [pager, desk])
    assert (len(pager.got), len(desk.got), report.alerts_unsent) == (2, 2, [])


@pytest.mark.parametrize("name", [*BUILT_IN, "", "Pager", "a-b", "x" * 33, "pägr", "two words"])
def test_a_name_that_cannot_be_is_refused_before_anything_is_done(struck: Case, name: str) -> None:
    with pytest.raises(InvalidInput, match="alert channel is called") as refusal:
        update(struck, [Pager(name)])
    assert "\n" not in str(refusal.value)
    assert len(struck.open().stored.captured) == HISTORY


def test_a_channel_may_do_what_it_likes(
    struck: Case,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that hangs, exits or is a coroutine is told in one line each, and the rest is sent."""
    end = threading.Event()

    class Odd(Pager):
        def __call__(self, alert: Alert) -> Any:
            if self.name == "hanging":
                return end.wait(60)
            if self.name == "leaving":
                raise SystemExit(0)
            return sleeping()

    async def sleeping() -> None:
        pass

    monkeypatch.setattr(alerts, "PATIENCE_S", 0.5)
    desk = Pager("desk")
    report = update(struck, [*map(Odd, ("hanging", "leaving", "waiting")), desk])
    end.set()
    assert report.due is not None
    assert len(desk.got) == 2
    told = {alert["channel"]: alert["error"] for alert in report.alerts_unsent}
    assert told == {
        "hanging": "timed out after 0.5 s",
        "leaving": "SystemExit: 0",
        "waiting": "it is a coroutine, and was not awaited; make it a function",
    }
    lines = [r.getMessage() for r in caplog.records if "alert not sent" in r.getMessage()]
    assert len(lines) == 3


def test_channels_that_are_mistaken_for_each_other_are_refused(struck: Case) -> None:
    mistakes: dict[str, tuple[list[Any], dict[str, Any]]] = {
        "two alert channels are called 'pager'": ([Pager("pager"), Pager("pager")], {}),
        "two alert channels are called 'team'": (
            [Pager("team")],
            {"apprise": "team=json://127.0.0.1:9/x"},
        ),
        "function is no alert channel: it must have a name": ([lambda _: None], {}),
        "the class Pager is no alert channel; give an object": ([Pager], {}),
        "keep to 15": ([Pager(chr(97 + k)) for k in range(15)], {}),
    }
    for expected, (own, settings) in mistakes.items():
        with pytest.raises(InvalidInput, match=expected):
            update(struck, own, **settings)
    assert len(struck.open().stored.captured) == HISTORY


# Of other packages --------------------------------------------------------------------------------


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Return a function that installs a package with alert channels."""
    with installing(tmp_path / "site", monkeypatch, "gnomon.alerts") as install:
        yield install


def test_a_setting_names_channels_of_other_packages(
    struck: Case, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is scheduled has settings alone; what is installed and not named sends nothing."""
    code = (
        "from tests.flows.test_channels import Pager\ndesk, pager = Pager('desk'), Pager('pager')"
    )
    made = "\ndef make_desk(): return desk\ndef make_pager(): return pager\n"
    made += "def poor(): import os; os.environ['NO_SUCH_KEY']\n"
    entries = ["desk = my_pagers:make_desk", "pager = my_pagers:make_pager"]
    entries += ["lost = no_such:thing", "poor = my_pagers:poor", "other = my_pagers:make_desk"]
    install("my_pagers", code + made, *entries)
    monkeypatch.setenv("GNOMON_CHANNELS", "pager")
    report = struck.open().update()
    assert (report.alerts_sent, report.alerts_unsent) == (4, [])
    import my_pagers  # type: ignore[import-not-found]

    assert (len(my_pagers.pager.got), len(my_pagers.desk.got)) == (2, 0)
    for names, expected in {
        "nobody": r"names 'nobody', which no installed package has in gnomon\.alerts; there are",
        "lost": r"'lost' of gnomon\.alerts cannot be loaded from no_such",
        "poor": r"'poor' of gnomon\.alerts cannot be loaded .*KeyError: 'NO_SUCH_KEY'",
        "pager,pager": "two alert channels are called 'pager'",
        "log": "names 'log', which is built in; leave it out",
        "other": "'other' of gnomon.alerts gives a channel named 'desk'",
    }.items():
        with pytest.raises(InvalidInput, match=expected):
            channels_of(Settings(channels=names))


def test_an_entry_point_is_a_channel_or_makes_one(
    install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    code = (
        "class Desk:\n"
        "    name = 'desk'\n"
        "    def __call__(self, alert): pass\n"
        "def make(): return Desk()\n"
        "thing = Desk()\n"
        "lamb = lambda alert: None\n"
    )
    for what in ("Desk", "make", "thing", "lamb"):
        install(f"my_{what.lower()}", code, f"desk = my_{what.lower()}:{what}")
    entries = {entry.value: entry for entry in registered("gnomon.alerts")}
    for value, entry in entries.items():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("gnomon.flows.alerting.registered", lambda _, e=entry: (e,))
            if value.endswith("lamb"):
                with pytest.raises(InvalidInput, match="it is no channel itself, and was called"):
                    channels_of(Settings(channels="desk"))
            else:
                assert type(channels_of(Settings(channels="desk"))["desk"]).__name__ == "Desk"
    with pytest.raises(InvalidInput, match="several packages register 'desk'") as caught:
        channels_of(Settings(channels="desk"))
    assert all(f"my_{what} (" in str(caught.value) for what in ("desk", "make", "thing", "lamb"))
    assert channels_of(Settings()).keys() == {"log"}
