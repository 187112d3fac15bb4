"""The benchmark of the error bars compares forecasts with the captures of their own times."""

import numpy as np
import pytest

from benchmarks import calibration
from gnomon.tasks.hindcasting.replay import Replay, Series
from gnomon.tasks.learning.refit import Traits
from tests.tasks.forecasting.series import DAY, HOUR, Array, daily


def record(hours: Array) -> Replay:
    """Captures at some hours of a series with a daily cycle."""
    values = daily(int(hours[-1]) + 1, 5, seed=3)[hours.astype(int)]
    instants = (hours * HOUR * 1e6).astype(np.int64)
    series = Series(instants, values, np.array([0, 5]), 5, 5)
    return Replay(Traits(6, 365.2425 * DAY, (DAY,)), series, "standard", HOUR, 0.0)


def expected(replay: Replay) -> float:
    """Share of what came within the intervals, found by its time."""
    issued = replay.forecast()
    assert issued is not None
    inside = []
    for lead, instant in enumerate(issued.instants):
        for k in np.flatnonzero(replay.series.instants == instant):
            departure = np.abs(issued.forecast.mean[lead] - replay.series.values[k])
            inside.append(departure <= calibration.Z90 * issued.forecast.standard_error[lead])
    return float(np.mean(inside))


@pytest.mark.parametrize("hours", [np.arange(90.0), np.cumsum(np.tile([1.0, 1.0, 4.0], 30))])
def test_a_forecast_is_compared_with_what_came_at_its_time(hours: Array) -> None:
    shares = []
    for first in range(0, 40, 10):
        begun = calibration.piece(record(hours), first)
        begun.update(39)
        shares.append(calibration.covered(begun))
        assert shares[-1] == expected(begun)
    assert np.mean(shares) > 0.6


def test_coverage_with_few_captures_and_after_a_jump_is_that_of_the_forecasts() -> None:
    replay = record(np.cumsum(np.tile([1.0, 1.0, 4.0], 25)))
    begun = calibration.piece(replay, 0)
    begun.update(39)
    spec = begun.forecast()
    assert spec is not None
    few = calibration.few_captures(replay, 3)
    assert set(few) == set(calibration.FEW)
    assert few[40] > 0.7
    after = calibration.after_jump(replay, spec.specification.to_json())
    assert len(after) == 17
    assert np.mean(after) < few[40]
