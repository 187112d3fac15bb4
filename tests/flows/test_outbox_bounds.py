"""The outbox of a record that was made to be large: each thing in it is looked at once."""

from typing import Any

import pytest

from gnomon.flows.unsent import unsent_alerts
from gnomon.storage.log.records import Record
from gnomon.storage.outbox import due
from gnomon.tasks.restoring.suspected import suspects
from tests.cases import Case

MANY = 500


@pytest.fixture
def forged(damaged: Case) -> Any:
    """A repository whose last capture has its incident many times, for many channels."""
    stored = damaged.open().stored
    record = next(r for r in reversed(stored.records) if r.kind == "capture")
    report = record.body["report"]
    names = [chr(97 + k // 26) + chr(97 + k % 26) for k in range(100)]
    many = {"incidents": report["incidents"][:1] * MANY, "alerts": ["many"] * 10_000 + names}
    body = record.body | {"report": report | many}
    forgery = Record(record.sequence, record.parent, record.kind, record.committed_at, body)
    records = tuple(forgery if r is record else r for r in stored.records)
    return type(stored)(stored.location, stored.genesis, records, stored.eras, stored.era)


def test_a_channel_counts_once_and_sixteen_at_most(forged: Any) -> None:
    channels = [one.channel for one in due(forged) if one.incident == 0]
    assert channels[:3] == ["many", "aa", "ab"]
    assert len(channels) == len(set(channels)) == 16
    assert len(due(forged)) == 16 * MANY


def test_what_is_suspect_is_read_once_for_each_capture(
    forged: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def counted(seen: Any, step: int) -> Any:
        asked.append(step)
        return suspects(seen, step)

    monkeypatch.setattr("gnomon.flows.unsent.suspects", counted)
    assert len(unsent_alerts(forged)) == 16 * MANY
    assert len(asked) == 1
