"""The event of an alert: the Prefect server takes it whatever the damage."""

import pytest
from prefect.events.schemas.events import Event
from prefect.server.events.schemas.events import ReceivedEvent
from prefect.settings import get_current_settings

from gnomon.flows.run import EventAlert, name_of
from gnomon.validations.alerts import alert_of
from gnomon.validations.incidents import Incident


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
