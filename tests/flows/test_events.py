"""What a run tells Prefect: an event that is taken whatever the damage, its name, its own log."""

import logging
from contextvars import ContextVar, copy_context

import httpx
import pytest
from prefect.events.schemas.events import Event
from prefect.server.events.schemas.events import ReceivedEvent
from prefect.settings import get_current_settings

from gnomon.flows.run import EventAlert, name_of, told
from gnomon.storage.errors import Unavailable
from gnomon.validations.alerts import Refused, alert_of
from gnomon.validations.incident import Incident


def test_the_event_of_the_worst_damage_is_small_enough_for_the_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server answers 204, and then drops what is larger than it publishes."""
    events: list[Event] = []
    monkeypatch.setattr(EventAlert, "post", staticmethod(events.append))
    chunks = tuple(f"{row}/{column}" for row in range(400) for column in range(400))
    incident = Incident("sst", "2026-01-01", chunks, ("plausible",), "critical", "a spike")
    EventAlert("/data/repository")(alert_of(incident, "1-2-3"))
    (event,) = events
    assert event.payload["chunk_count"] == len(chunks)
    assert event.payload["chunks"] == list(chunks[:1000])
    received = ReceivedEvent.model_validate(event.model_dump(mode="json"))
    most = get_current_settings().server.events.maximum_size_bytes
    assert len(received.model_dump_json()) < most / 10


@pytest.mark.parametrize(("code", "kind"), [(422, Refused), (413, Refused), (503, Unavailable)])
def test_an_event_that_is_refused_is_told_from_a_server_that_takes_none(
    monkeypatch: pytest.MonkeyPatch, code: int, kind: type[Exception]
) -> None:
    def refuse(_event: Event) -> None:
        answer = httpx.Response(code, request=httpx.Request("POST", "http://127.0.0.1/events"))
        answer.raise_for_status()

    monkeypatch.setattr(EventAlert, "post", staticmethod(refuse))
    incident = Incident("sst", "2026-01-01", ("0/0",), ("plausible",), "critical", "a spike")
    with pytest.raises(Unavailable, match=str(code)) as refusal:
        EventAlert("/data/repository")(alert_of(incident, "1-2-3"))
    assert type(refusal.value) is kind


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("/data/sst/", "sst"),
        ("s3://bucket/sst?endpoint=x", "sst"),
        ("s3://AKIA:40/SECRET@bucket", "***@bucket"),
        ("s3://AKIA:SECRET@bucket", "***@bucket"),
        ("s3://bucket/x#token=SECRET", "x#token=***"),
    ],
)
def test_a_run_is_named_by_its_dataset_and_no_secret(place: str, name: str) -> None:
    assert name_of(place) == name


class Log:
    """Keeps what a flow run is told."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def log(self, _level: int, text: str, *arguments: object) -> None:
        self.heard.append(text % arguments)


def test_runs_in_one_process_hear_their_own_log_and_leave_all_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whichever ends first: the other goes on to be told, and nobody else is any more."""
    run: ContextVar[str | None] = ContextVar("run", default=None)
    logs = {"a": Log(), "b": Log()}
    monkeypatch.setattr("gnomon.flows.run._run_id", run.get)
    monkeypatch.setattr("gnomon.flows.run.get_run_logger", lambda: logs[str(run.get())])
    ours = logging.getLogger("gnomon")
    before = ours.level, ours.propagate, list(ours.handlers)
    contexts = {name: copy_context() for name in logs}
    told_of = {}
    for name, context in contexts.items():
        context.run(run.set, name)
        told_of[name] = context.run(told)
        context.run(told_of[name].__enter__)
    say = logging.getLogger("gnomon.flows").info
    for name in logs:
        contexts[name].run(say, "of %s", name)
    say("of nobody")
    contexts["a"].run(told_of["a"].__exit__, None, None, None)
    contexts["b"].run(say, "b goes on")
    contexts["b"].run(told_of["b"].__exit__, None, None, None)
    say("after")
    assert logs["a"].heard == ["of a", "of nobody"]
    assert logs["b"].heard == ["of b", "of nobody", "b goes on"]
    assert (ours.level, ours.propagate, list(ours.handlers)) == before
