"""What is counted in a hindcast, whatever the times of the captures."""

import numpy as np
import pytest

from gnomon.tasks.hindcasting.hindcast import hindcast
from gnomon.tasks.hindcasting.replay import Replay, Series
from gnomon.tasks.learning.refit import Traits
from tests.tasks.forecasting.series import HOUR, Array, autoregressive


def record(hours: Array, *, interval_h: float | None = 1.0, leads: int = 6) -> Replay:
    """What a hindcast of captures at these hours replays."""
    values = autoregressive((0.8,), len(hours), 6, seed=7)
    instants = (hours * HOUR * 1e6).astype(np.int64)
    series = Series(instants, values, np.array([0, 6]), 6, 6)
    interval_s = None if interval_h is None else interval_h * HOUR
    return Replay(Traits(leads, 365.2425 * 24 * HOUR, ()), series, "standard", interval_s, 0.0)


def in_threes() -> Array:
    """Half of the hours, three in a row and three left out."""
    return np.cumsum(np.tile([1.0, 1.0, 4.0], 20))


@pytest.mark.parametrize(
    ("hours", "interval_h", "origins", "independent"),
    [
        (np.arange(60.0), 1.0, 17, 17 / 6),
        (np.arange(60.0), None, 17, 17 / 6),
        (np.arange(60.0), 1.0, 9, 9 / 3),
        # Three slots from one to the next, whatever their numbers.
        (3.0 * np.arange(60), 1.0, 17, 17 / 2),
        (3.0 * np.arange(60), None, 17, 17 / 6),
        (in_threes(), None, 9, 9 / 2),
        # Two captures in each slot.
        (0.5 * np.arange(60), 1.0, 17, 17 / 12),
    ],
)
def test_origins_are_worth_as_many_as_do_not_overlap(
    hours: Array, interval_h: float | None, origins: int, independent: float
) -> None:
    found = hindcast(record(hours, interval_h=interval_h), origins=origins)
    assert found.origins == origins
    assert found.independent_origins == pytest.approx(independent)
