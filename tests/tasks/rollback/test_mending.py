"""What a standing rule puts right in the source by itself: seldom, told, and taken back at will."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from gnomon.flows.settings import Settings
from gnomon.storage.errors import Integrity, InvalidInput, NotFound
from tests import sources
from tests.cases import DAMAGED, HISTORY, Case

LAT, LON = (slice(4 * i, 4 * i + 4) for i in DAMAGED)


def arrive_damaged(case: Case) -> None:
    """Let the next day arrive with one chunk 20 K too warm."""
    data = case.data.copy(deep=True)
    data.sst.values[HISTORY, LAT, LON] += np.float32(20)
    sources.write(case.source, data, HISTORY, HISTORY + 1)


def stored(case: Case) -> NDArray[Any]:
    return np.asarray(zarr.open_array(case.source / "sst", mode="r")[HISTORY, LAT, LON])


def test_nothing_is_put_right_without_a_rule(grown: Case) -> None:
    arrive_damaged(grown)
    files = sources.listing(grown.source)
    report = grown.open().update()
    assert (report.suspect_chunks, report.put_right) == (1, [])
    assert sources.listing(grown.source) == files


@pytest.mark.parametrize(
    "rule", [({"sst": 1e-6}, 0.0), ({"sst": 100.0}, 1.0)], ids=["error", "confidence"]
)
def test_what_is_worse_than_the_rule_allows_is_left_alone(
    grown: Case, rule: tuple[dict[str, float], float]
) -> None:
    opened = grown.open()
    opened.rules(auto_heal=rule[0], auto_heal_confidence=rule[1])
    arrive_damaged(grown)
    files = sources.listing(grown.source)
    report = opened.update()
    assert report.put_right == []
    (left,) = report.left_alone
    assert (left["valid_time"], left["chunks"]) == ("2001-01-25T00:00:00", {"sst": ["0/1"]})
    assert "the rule a" in left["reason"]
    assert sources.listing(grown.source) == files
    assert opened.update().left_alone == []  # told once


def test_a_capture_that_cannot_be_read_is_told_and_stops_nothing(
    grown: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = grown.open()
    opened.rules(auto_heal={"sst": 1e-6}, auto_heal_confidence=0.0)
    arrive_damaged(grown)

    def damaged(*_: object) -> None:
        raise Integrity("sst chunk (0, 1) is damaged")

    monkeypatch.setattr("gnomon.tasks.rollback.mending._is_estimate", damaged)
    (left,) = opened.update().left_alone
    assert left["chunks"] == {"sst": ["0/1"]}
    assert "cannot be read: sst chunk (0, 1) is damaged" in left["reason"]


def test_of_damage_that_comes_after_the_capture_it_is_told_why_it_stays(grown: Case) -> None:
    """What was captured stands, and is better than any estimate; only a person may say so."""
    opened = grown.open()
    opened.rules(auto_heal={"sst": 100.0}, auto_heal_confidence=0.0)
    arrive_damaged(grown)
    report = opened.update()
    assert (len(report.put_right), report.left_alone) == (1, [])
    array = zarr.open_array(grown.source / "sst", mode="r+")
    other = (HISTORY, slice(4, 8), slice(0, 4))
    array[other] = 77.0
    report = opened.update(compare=-1)
    assert (report.suspect_chunks, report.put_right) == (2, [])
    (left,) = report.left_alone
    assert left["chunks"] == {"sst": ["1/0"]}
    assert "restore --in-place" in left["reason"]
    opened.rollback("2001-01-25", accept_predicted=True)
    truth = grown.data.sst.values[HISTORY, 4:8, 0:4]
    assert sources.bits(np.asarray(array[other])) == sources.bits(truth)


def test_a_suspect_chunk_is_put_right_told_and_taken_back(grown: Case, tmp_path: Path) -> None:
    opened = grown.open()
    opened.rules(auto_heal={"sst": 100.0}, auto_heal_confidence=0.0)
    arrive_damaged(grown)
    files = sources.listing(grown.source)
    alerts = tmp_path / "alerts.jsonl"
    report = opened.update(settings=Settings(alerts=alerts))
    (done,) = report.put_right
    assert (done["valid_time"], done["chunks"]) == ("2001-01-25T00:00:00", {"sst": ["0/1"]})
    truth = grown.data.sst.values[HISTORY, LAT, LON]
    assert np.sqrt(np.nanmean((stored(grown) - truth) ** 2)) < 5
    assert "auto_heal" in alerts.read_text()
    # The estimate is no data, and nothing is written twice.
    assert opened.update(compare=-1).put_right == []
    assert opened.stored.refresh().captured[-1].suspects == 1
    # What a person takes back is not written again.
    opened.undo()
    assert sources.listing(grown.source) == files
    assert opened.update(compare=-1).put_right == []
    assert sources.listing(grown.source) == files


def test_a_chunk_that_the_source_has_put_right_itself_is_left_alone(grown: Case) -> None:
    opened = grown.open()
    arrive_damaged(grown)
    opened.update()
    opened.rules(auto_heal={"sst": 100.0}, auto_heal_confidence=0.0)
    array = zarr.open_array(grown.source / "sst", mode="r+")
    array[HISTORY, LAT, LON] = grown.data.sst.values[HISTORY, LAT, LON]
    files = sources.listing(grown.source)
    assert opened.update(compare=0).put_right == []
    assert sources.listing(grown.source) == files


def test_a_rule_that_cannot_be_is_refused(grown: Case) -> None:
    opened = grown.open()
    records = len(opened.stored.records)
    with pytest.raises(NotFound, match="no variable"):
        opened.rules(auto_heal={"there": 1.0})
    with pytest.raises(InvalidInput, match="not forecast"):
        opened.rules(auto_heal={"time_bnds": 1.0})
    with pytest.raises(InvalidInput, match="a number from 0"):
        opened.rules(auto_heal={"sst": float("nan")})
    with pytest.raises(InvalidInput, match="from 0 to 1"):
        opened.rules(auto_heal={"sst": 1.0}, auto_heal_confidence=1.5)
    assert len(opened.stored.refresh().records) == records
    opened.rules(auto_heal={"sst": 1.0}, revisable="3d")
    assert opened.rules(auto_heal={})["auto_heal"] is None
