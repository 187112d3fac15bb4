"""Between refits a state stays where it was written, and captures are learnt on top of it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gnomon.flows import steps
from gnomon.flows.cycle import Cycle
from gnomon.flows.settings import Settings
from gnomon.storage.log.bodies.shadow import LearntEntry
from gnomon.storage.stacks.forecaster import ForecasterState
from gnomon.storage.values.times import SECOND
from gnomon.tasks.forecasting import Outlook
from gnomon.tasks.learning import learn
from gnomon.tasks.learning.corrections import corrections
from gnomon.tasks.learning.expectation import forecaster_of
from gnomon.tasks.learning.features import LATE
from gnomon.tasks.learning.features import _sample as sample
from gnomon.tasks.learning.learn import PendingState
from gnomon.tasks.learning.refit import MOST_ROLLED
from tests import sources
from tests.cases import HISTORY, Case

ROLLING = Settings(refit_share=0.0, compare=0)


def update(case: Case, day: int) -> dict[str, str]:
    """Capture one more day; the refits that it made, and why."""
    case.arrive(day, day + 1)
    return dict(case.open().update(settings=ROLLING).refit)


def entry(case: Case) -> LearntEntry:
    record = case.open().stored.forecaster
    assert record is not None
    return record.learnt["sst"]


def folders(case: Case) -> set[str]:
    """The commits that have written cells of a state that is there."""
    return {p.parts[-4] for p in (case.place / "forecaster").glob("*/v-sst/cells/zarr.json")}


def table(case: Case, name: str) -> Path:
    record = case.open().stored.forecaster
    assert record is not None
    folder = case.place / "forecaster" / record.id / "v-sst" / name / "c"
    (path,) = (p for p in folder.rglob("*") if p.is_file())
    return path


@pytest.fixture
def gone_on(grown: Case) -> Case:
    """A state that has gone on by two captures."""
    grown.open().update(refit=True, settings=ROLLING)
    for day in (HISTORY, HISTORY + 1):
        assert update(grown, day) == {}
    return grown


def test_a_state_is_written_once_in_a_while(grown: Case) -> None:
    grown.open().update(refit=True, settings=ROLLING)
    anchor = folders(grown)
    for count in range(1, MOST_ROLLED + 1):
        update(grown, HISTORY + count - 1)
        assert len(entry(grown).rolled) == count
        assert entry(grown).anchor in anchor
        assert folders(grown) == {entry(grown).anchor}
    update(grown, HISTORY + MOST_ROLLED)
    assert entry(grown).rolled == ()
    assert len(folders(grown)) == 2  # runs that began before may still read the one before
    assert grown.open().check(read_data=True).problems == ()


def test_it_predicts_as_if_it_had_been_written(
    grown: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for the rounding."""
    grown.open().update(refit=True, settings=ROLLING)
    (tmp_path / "other").mkdir()
    other = grown.copy(tmp_path / "other")
    for day in range(HISTORY, HISTORY + 3):
        update(grown, day)
    monkeypatch.setattr(learn, "MOST_ROLLED", 0)
    monkeypatch.chdir(other.folder)
    for day in range(HISTORY, HISTORY + 3):
        update(other, day)
        assert entry(other).rolled == ()
    made = [
        case.open().dataset("2001-01-28", kind="forecast", accept_predicted=True).load()
        for case in (grown, other)
    ]
    error = made[0].sst_standard_error.values
    moved = np.abs(made[0].sst.values - made[1].sst.values)
    known = np.isfinite(error)
    assert np.array_equal(known, np.isfinite(moved))
    assert (moved[known] <= 0.3 * error[known]).all()  # both are stored in steps of a quarter
    ratio = error[known] / made[1].sst_standard_error.values[known]
    assert np.abs(np.log(ratio)).max() < 0.1  # and these in eighths of an octave


def test_what_a_capture_was_like_need_not_be_measured_again(
    grown: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger has it: the same numbers as from the cells, which nobody reads."""
    grown.open().update(refit=True, settings=ROLLING)
    (tmp_path / "other").mkdir()
    other = grown.copy(tmp_path / "other")
    with monkeypatch.context() as patched:
        patched.setattr(learn, "_roll_block", None)
        for day in range(HISTORY, HISTORY + 3):
            update(grown, day)
    monkeypatch.setattr(learn, "corrections", lambda *_: None)
    monkeypatch.chdir(other.folder)
    for day in range(HISTORY, HISTORY + 3):
        update(other, day)
    kept, expected = (
        case.open().stored.forecaster_state("sst").carried() for case in (grown, other)
    )
    assert kept is not None
    assert expected is not None
    assert len(np.unique(kept)) > 2
    np.testing.assert_array_equal(kept, expected)


def test_what_was_not_compared_or_is_judged_since_is_measured_again(
    gone_on: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chunk that is as it was before was compared with nothing."""
    monkeypatch.setattr(Cycle, "_renew_shadow", lambda *_: None)
    gone_on.data.sst.values[HISTORY + 2, 4:8, 4:8] = gone_on.data.sst.values[HISTORY + 1, 4:8, 4:8]
    update(gone_on, HISTORY + 2)
    found = corrections(gone_on.open().stored, "sst")
    assert found is not None
    assert np.argwhere(np.isnan(found).all(axis=-1)).tolist() == [[1, 1]]
    gone_on.open().judge("2001-01-25", accept=False)
    assert corrections(gone_on.open().stored, "sst") is None
    update(gone_on, HISTORY + 3)  # one more to be learnt
    assert corrections(gone_on.open().stored, "sst") is None


def test_a_state_that_is_damaged_meanwhile_is_learnt_anew(
    gone_on: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the capture was compared with it, and before it is predicted from."""
    folder = gone_on.place / "forecaster" / entry(gone_on).anchor
    keep, doubts = steps.keep_capture, steps.keep_doubts
    went_on: list[bool] = []

    def looked_at(url: str, learnt: PendingState, channels: tuple[str, ...]) -> Any:
        went_on.append(learnt.went_on)
        return doubts(url, learnt, channels)

    def damaged(*arguments: Any) -> int:
        for path in folder.rglob("cells/c/**/*"):
            if path.is_file():
                path.write_bytes(bytes(path.stat().st_size))
        return keep(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(steps, "keep_capture", damaged)
        patched.setattr(steps, "keep_doubts", looked_at)
        update(gone_on, HISTORY + 2)
    assert entry(gone_on).anchor == ""
    assert entry(gone_on).rolled == ()
    assert went_on == [True, False]  # what is learnt anew may be doubted
    update(gone_on, HISTORY + 3)
    assert gone_on.open().check(read_data=True).problems == ()


def test_what_was_compared_without_a_damaged_capture_is_measured_again(
    gone_on: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repair would give another state back than the one that it was compared with."""
    slab = gone_on.open().stored.captured[-1].slab
    for path in (gone_on.place / "captures" / slab / "v-sst" / "residual" / "c").rglob("*"):
        if path.is_file():
            path.write_bytes(bytes(path.stat().st_size))
    monkeypatch.setattr(Cycle, "_renew_shadow", lambda *_: None)
    update(gone_on, HISTORY + 2)
    found = corrections(gone_on.open().stored, "sst")
    assert found is not None
    assert np.isnan(found).any()


def test_a_forged_correction_is_passed_over(gone_on: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cycle, "_renew_shadow", lambda *_: None)
    update(gone_on, HISTORY + 2)
    stored = gone_on.open().stored
    assert corrections(stored, "sst") is not None
    carried = stored.forecaster_state("sst").carried()
    assert carried is not None
    monkeypatch.setattr(ForecasterState, "carried", lambda _: carried[..., :1])
    assert corrections(stored, "sst") is None


def test_what_is_known_of_the_whole_goes_on_with_a_few_numbers(gone_on: Case) -> None:
    """The same numbers as if they had been written."""
    stored = gone_on.open().stored
    state = stored.forecaster_state("sst")
    onward, found = state.onward(), forecaster_of(stored, "sst")
    assert onward is not None
    assert found is not None
    assert len(onward) == 2
    written = Outlook.unpack(found.specification, state.outlook())
    assert found.outlook.slot == written.slot + 2
    expected = written
    for step in stored.timeline[-2:]:
        values, *_ = sample(stored.captures("sst"), [step.step], list(found.sample))
        slot = found.cadence.slot(step.instant)
        expected = expected.roll(found.specification, slot, step.instant / SECOND, values[0])
    assert found.outlook.pack().tobytes() == expected.pack().tobytes()


def test_a_prune_leaves_what_it_goes_on_from(gone_on: Case) -> None:
    gone_on.open().prune()
    assert entry(gone_on).anchor in folders(gone_on)
    assert gone_on.open().check(read_data=True).problems == ()
    assert update(gone_on, HISTORY + 2) == {}
    assert len(entry(gone_on).rolled) == 3


def test_a_capture_that_was_learnt_may_be_given_up(gone_on: Case) -> None:
    repository = gone_on.open()
    repository.forget(captures=[HISTORY])
    repository.prune()
    assert update(gone_on, HISTORY + 2) == {"sst": "a capture that was learnt lately was forgotten"}
    assert gone_on.open().check(read_data=True).problems == ()


@pytest.mark.parametrize("part", ["carried", "onward", "outlook", "shared", "index", "cells"])
def test_what_it_goes_on_from_may_be_damaged(gone_on: Case, part: str) -> None:
    """It is told, and learnt anew."""
    is_own = part in ("carried", "onward")
    folder = gone_on.place / "forecaster" / entry(gone_on).anchor
    for path in [table(gone_on, part)] if is_own else folder.rglob("c/**/*"):
        if path.is_file() and part in path.parts:
            path.write_bytes(bytes(path.stat().st_size))
    assert gone_on.open().check(read_data=True).problems
    update(gone_on, HISTORY + 2)
    assert entry(gone_on).anchor == ""
    assert entry(gone_on).rolled == ()
    update(gone_on, HISTORY + 3)
    assert gone_on.open().check(read_data=True).problems == ()


def test_a_suspect_capture_is_passed_over_each_time(gone_on: Case) -> None:
    data = gone_on.data.copy(deep=True)
    data.sst.values[HISTORY + 2, :4, :4] += np.float32(50)
    sources.write(gone_on.source, data, HISTORY + 2, HISTORY + 3)
    assert gone_on.open().update(settings=ROLLING).suspect_chunks == 1
    found = forecaster_of(gone_on.open().stored, "sst")
    assert found is not None
    state = found.states([(0, 0)])[0, 0]
    assert np.isnan(state.recent[0]).all()
    assert np.nanmax(state.recent) < 310
    update(gone_on, HISTORY + 3)
    assert len(entry(gone_on).rolled) == 4


@pytest.mark.parametrize("share", [0.0, 0.005])
def test_a_capture_that_was_learnt_may_be_revised(gone_on: Case, share: float) -> None:
    """What is predicted starts from what is served."""
    settings = Settings(refit_share=share, compare=-1)
    gone_on.open().rules(revisable="90d")
    data = gone_on.data.copy(deep=True)
    last = HISTORY + 1
    data.sst.values[last] += np.float32(0.5)
    sources.write(gone_on.source, data, last, last + 1)
    report = gone_on.open().update(settings=settings)
    assert report.revised == 1
    assert report.suspect_chunks == 0
    assert report.refit == {"sst": "a capture that was learnt was revised"}
    found = forecaster_of(gone_on.open().stored, "sst")
    assert found is not None
    recent = found.states([(0, 0)])[0, 0].recent[0]
    expected = data.sst.values[last, :4, :4].ravel().astype(float)
    known = np.isfinite(expected)
    np.testing.assert_array_equal(recent[known], expected[known])


@pytest.mark.parametrize(("share", "refit"), [(0.0, {}), (0.005, {"sst": LATE})])
def test_a_late_capture_is_learnt_where_that_is_cheap(
    grown: Case, share: float, refit: dict[str, str]
) -> None:
    settings = Settings(refit_share=share, compare=0)
    missing = HISTORY + 1
    for day in (HISTORY, missing + 1):
        grown.arrive(day, day + 1)
    grown.open().update(refit=True, settings=settings)
    sources.write(grown.source, grown.data.isel(time=slice(0, missing + 2)), 0, missing + 2)
    report = grown.open().update(settings=settings)
    assert report.late == 1
    assert report.refit == refit
