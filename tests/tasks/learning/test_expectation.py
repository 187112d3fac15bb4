import numpy as np

from gnomon.storage.values.times import SECOND
from gnomon.tasks.forecasting import GATE
from gnomon.tasks.learning.expectation import Expectation, forecaster_of
from gnomon.tasks.learning.trusted import last_trusted
from tests import sources
from tests.cases import DAMAGED, HISTORY, Case

DAY = 86400 * SECOND


def expectation(case: Case) -> Expectation:
    stored = case.open().stored
    found = Expectation.of(stored, stored.settings.variable("sst"))
    assert found is not None
    return found


def chunk(case: Case, day: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.asarray(case.data.sst.values[day, :4, :4], np.float64)


def instant(case: Case, day: int) -> int:
    return case.open().stored.captured[0].instant + day * DAY


def test_before_the_first_forecast_nothing_is_expected(grown: Case) -> None:
    stored = grown.open().stored.at(1)
    assert forecaster_of(stored, "sst") is None
    assert Expectation.of(stored, stored.settings.variable("sst")) is None
    complete = grown.open().stored
    # What is captured, but not forecast, is never expected to be anything.
    assert Expectation.of(complete, complete.settings.variable("time_bnds")) is None


def test_a_usual_capture_is_believed(grown: Case) -> None:
    found = expectation(grown).meet(instant(grown, HISTORY), {(0, 0): chunk(grown, HISTORY)})[0, 0]
    assert found["p_value"] > 1e-3
    assert 0 < found["departure_rms"] < 3
    assert found["departure_maximum"] >= found["departure_rms"] >= abs(found["departure_mean"])


def test_a_capture_in_other_units_is_not_believed(grown: Case) -> None:
    values = chunk(grown, HISTORY) - 273.15
    found = expectation(grown).meet(instant(grown, HISTORY), {(0, 0): values})[0, 0]
    assert found["p_value"] < GATE
    assert -276 < found["departure_mean"] < -270


def test_what_is_not_believed_is_not_learnt(grown: Case) -> None:
    one, other = expectation(grown), expectation(grown)
    one.meet(instant(grown, HISTORY), {(0, 0): chunk(grown, HISTORY) + 50})
    other.meet(instant(grown, HISTORY), {(0, 0): np.full((4, 4), np.nan)})
    time, values = instant(grown, HISTORY + 1), chunk(grown, HISTORY + 1)
    assert one.meet(time, {(0, 0): values}) == other.meet(time, {(0, 0): values})


def test_a_second_capture_in_a_slot_is_not_compared(grown: Case) -> None:
    found = expectation(grown)
    assert found.meet(instant(grown, HISTORY - 1), {(0, 0): chunk(grown, 0)}) == {}
    assert found.meet(instant(grown, HISTORY) - DAY // 3, {(0, 0): chunk(grown, HISTORY)})
    assert found.meet(instant(grown, HISTORY), {(0, 0): chunk(grown, HISTORY)}) == {}


def test_land_is_not_compared(grown: Case) -> None:
    found = expectation(grown).meet(instant(grown, HISTORY), {(1, 2): np.full((4, 4), np.nan)})[
        1, 2
    ]
    assert np.isnan(found["p_value"])


def test_a_suspect_chunk_is_no_base(damaged: Case) -> None:
    captures = damaged.open().stored.captures("sst")
    passed_over = last_trusted(captures, DAMAGED, range(HISTORY + 1))
    newest = last_trusted(captures, (0, 0), range(HISTORY + 1))
    assert passed_over is not None
    assert newest is not None
    assert (passed_over[0], newest[0]) == (HISTORY - 1, HISTORY)
    assert sources.bits(newest[1]) == sources.bits(chunk(damaged, HISTORY))
    assert last_trusted(captures, (0, 0), []) is None
