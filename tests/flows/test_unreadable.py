"""A source with damaged bytes: what cannot be read is left out and told, and stops nothing else."""

import json

import numpy as np
import pytest

from gnomon.flows.settings import Settings
from gnomon.flows.summary import is_suspect, sentence
from gnomon.storage.errors import InvalidInput, Unavailable, Unreadable
from gnomon.storage.serve.planes import PROVENANCE
from gnomon.storage.source.states import is_damage
from gnomon.tasks.capturing.capture import capture, commit_capture
from gnomon.tasks.capturing.plan import plan_capture
from gnomon.tasks.work import serial
from tests import sources
from tests.cases import HISTORY, Case
from tests.gnomon.test_cli import run


def arrive(case: Case, days: int, *, steps: int = 1) -> None:
    """Let the source hold so many days, in small chunks."""
    data = case.data.isel(time=slice(days)).copy(deep=True)
    data.sst.encoding["chunks"] = (steps, 4, 4)
    sources.overwrite(case.source, data)


def damage(case: Case, step: int, name: str = "sst", chunk: str = "0/0") -> bytes:
    """Damage one chunk of the source; returns what was there."""
    path = case.source / name / "c" / str(step) / chunk
    before = path.read_bytes()
    path.write_bytes(b"not what it was")
    return before


@pytest.mark.parametrize("kind", ["update", "backfill"])
def test_a_new_state_that_cannot_be_read_stops_no_other(grown: Case, kind: str) -> None:
    arrive(grown, HISTORY + 4)
    good = damage(grown, HISTORY + 1)
    damage(grown, HISTORY + 2, chunk="1/1")
    repository = grown.open()
    report = repository.update() if kind == "update" else repository.backfill()
    assert report.captured == ["2001-01-25T00:00:00", "2001-01-28T00:00:00"]
    assert [u["valid_time"] for u in report.unread] == [
        "2001-01-26T00:00:00",
        "2001-01-27T00:00:00",
    ]
    assert "sst" in report.unread[0]["error"]
    assert report.due is not None
    assert is_suspect(report)  # a run that could not read all of it does not look like a good one
    assert "2 states LEFT OUT" in sentence(report)
    assert grown.open().check(read_data=True).problems == ()

    # Nothing new, and still nothing to be read: a failure, as ever.
    for _ in range(2):
        with pytest.raises(Unavailable, match="cannot be read"):
            grown.open().update()
    path = grown.source / "sst" / "c" / str(HISTORY + 1) / "0/0"
    path.write_bytes(good)
    report = grown.open().update()
    assert (report.captured, report.late) == (["2001-01-26T00:00:00"], 1)
    found = grown.open().dataset("2001-01-26", plain=True, decode=False)
    assert sources.bits(found.sst.values[0]) == sources.bits(grown.data.sst.values[HISTORY + 1])


def test_a_state_of_which_a_chunk_cannot_be_decoded_is_captured_once_it_is_filled_in(
    grown: Case,
) -> None:
    """The forecast takes the place of that chunk alone; then it is healed as other damage is."""
    arrive(grown, HISTORY + 1)
    good = damage(grown, HISTORY, chunk="0/1")
    opened = grown.open()
    with pytest.raises(Unavailable, match="cannot be read"):
        opened.update()
    rolled = opened.rollback("2001-01-25", accept_predicted=True)
    assert [(c.variable, c.index, c.is_damaged) for c in rolled.plan.chunks] == [
        ("sst", (0, 1), True)
    ]
    report = opened.update()
    assert (report.captured, report.suspect_chunks) == (["2001-01-25T00:00:00"], 1)
    assert opened.points("2001-01-25")[0].kind == "healed"
    found = opened.dataset("2001-01-25", accept_predicted=True, decode=False).load()
    exact = np.ones((8, 12), bool)
    exact[:4, 4:8] = False
    truth = grown.data.sst.values[HISTORY]
    assert sources.bits(found.sst.values[0][exact]) == sources.bits(truth[exact])
    # The chunk itself comes back: it is taken, and trusted.
    path = grown.source / "sst" / "c" / str(HISTORY) / "0/1"
    path.write_bytes(good)
    report = opened.update(compare=-1)
    assert (report.revised, report.suspect_chunks) == (1, 0)
    found = opened.dataset("2001-01-25", plain=True, decode=False)
    assert sources.bits(found.sst.values[0]) == sources.bits(truth)


def test_states_that_share_a_damaged_chunk_are_left_out_together(grown: Case) -> None:
    arrive(grown, HISTORY + 6, steps=2)
    damage(grown, HISTORY // 2)
    report = grown.open().update(compare=0)
    assert len(report.unread) == 2
    assert len(report.captured) == 4


def test_nothing_is_committed_of_a_capture_with_a_hole(grown: Case) -> None:
    arrive(grown, HISTORY + 2)
    damage(grown, HISTORY + 1)
    stored = grown.open().stored
    planned = plan_capture(stored)
    assert planned is not None
    found = capture(stored, planned, serial)
    assert list(found.unread) == [1]
    with pytest.raises(Unreadable):
        commit_capture(stored, found, set(), report={}, committed_at="2020-01-01T00:00:00+00:00")
    assert len(grown.open().stored.captured) == HISTORY


@pytest.mark.parametrize("compare", [2, -1])
def test_a_captured_state_that_the_source_has_lost_stops_nothing(
    grown: Case, compare: int, caplog: pytest.LogCaptureFixture
) -> None:
    arrive(grown, HISTORY + 1)
    damage(grown, HISTORY - 1)  # the newest, which every update compares
    data = grown.data.isel(time=slice(HISTORY + 1)).copy(deep=True)
    data.sst.values[3, 1, 2] += np.float32(3)
    if compare == -1:
        arrive(Case(grown.folder, data), HISTORY + 1)
        damage(grown, HISTORY - 1)
    report = grown.open().update(settings=Settings(compare=compare))
    assert "2001-01-25T00:00:00" in report.captured
    assert report.revised == (compare == -1)
    assert report.unread == []
    assert "not compared" in caplog.text


def test_a_captured_state_that_was_changed_and_damaged_is_left_out(grown: Case) -> None:
    """One variable of it has other values and another cannot be decoded: no revision as yet."""
    data = grown.data.isel(time=slice(HISTORY + 1)).copy(deep=True)
    data.time_bnds.values[HISTORY - 1] += 0.5
    arrive(Case(grown.folder, data), HISTORY + 1)
    good = damage(grown, HISTORY - 1)
    report = grown.open().update(compare=-1)
    assert (report.captured, report.revised) == (["2001-01-25T00:00:00"], 0)
    assert [u["valid_time"] for u in report.unread] == ["2001-01-24T00:00:00"]
    (grown.source / "sst" / "c" / str(HISTORY - 1) / "0/0").write_bytes(good)
    assert grown.open().update(compare=-1).revised == 1


# Marked as predicted ----------------------------------------------------------------------------


def flagged(case: Case, days: int, *predicted: int) -> None:
    """Let the source hold so many days, and say of a cell of some that it is a forecast."""
    data = case.data.isel(time=slice(days)).copy(deep=True)
    flags = np.zeros(data.sst.shape, "u1")
    flags[list(predicted), 5, 2] = PROVENANCE["forecast"]
    codes = np.arange(len(PROVENANCE), dtype="u1")
    meanings = {"flag_values": codes, "flag_meanings": " ".join(PROVENANCE)}
    data["sst_provenance"] = (data.sst.dims, flags, meanings)
    data.sst.attrs["ancillary_variables"] = "sst_provenance"
    data.sst.encoding["chunks"] = (4, 4, 4)
    sources.overwrite(case.source, data)


def test_a_step_with_a_predicted_cell_stops_no_other(
    grown: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    flagged(grown, HISTORY + 4, HISTORY + 1)
    code, out, _ = run(capsys, "update", str(grown.place), "--json")
    told = json.loads(out)
    assert code == 0
    assert told["captured"] == [f"2001-01-{day}T00:00:00" for day in (25, 27, 28)]
    (left,) = told["unread"]
    assert left["valid_time"] == "2001-01-26T00:00:00"
    assert "marks 1 cells of sst as predicted (sst_provenance)" in left["error"]
    # Nothing else is new: somebody has to put data there.
    with pytest.raises(InvalidInput, match="never captured as data"):
        grown.open().update()
    flagged(grown, HISTORY + 4)
    report = grown.open().update()
    assert (report.captured, report.late) == (["2001-01-26T00:00:00"], 1)


def test_a_captured_step_that_was_overwritten_by_a_prediction_stays(grown: Case) -> None:
    grown.data.sst.values[3, 5, 2] += np.float32(3)
    flagged(grown, HISTORY + 1, 3)
    report = grown.open().update(compare=-1)
    assert (report.captured, report.revised) == (["2001-01-25T00:00:00"], 0)
    assert [u["valid_time"] for u in report.unread] == ["2001-01-04T00:00:00"]
    flagged(grown, HISTORY + 1)
    assert grown.open().update(compare=-1).revised == 1


@pytest.mark.parametrize(
    ("error", "damaged"),
    [
        (RuntimeError("Zstd decompression error"), True),
        (ValueError("checksum"), True),
        (OSError("inflate() failed"), True),
        (OSError(5, "Input/output error"), True),
        (ConnectionResetError(104, "reset"), False),
        (TimeoutError("timed out"), False),
        (PermissionError(13, "Permission denied"), False),
        (OSError(24, "Too many open files"), False),
    ],
)
def test_a_source_that_does_not_answer_is_not_damaged(error: Exception, damaged: bool) -> None:
    assert is_damage(error) is damaged
    assert issubclass(Unreadable, Unavailable)
