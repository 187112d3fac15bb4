import numpy as np
import pytest

from gnomon.tasks.forecasting.bounds import Bounds, bounds

SPREAD = np.linspace(0.05, 0.95, 200)


@pytest.mark.parametrize(
    ("declared", "name", "units", "values", "expected"),
    [
        ((-1.0, None), "sea_ice_area_fraction", "1", SPREAD, (-1.0, 1.0)),
        ((None, None), "sea_ice_area_fraction", "1", SPREAD, (0.0, 1.0)),
        ((None, None), "cloud_area_fraction", "%", 100 * SPREAD, (0.0, 100.0)),
        ((None, None), "cloud_area_fraction", "1", 100 * SPREAD, (0.0, None)),
        ((None, None), "precipitation_amount", "kg m-2", SPREAD, (0.0, None)),
        ((None, None), "air_temperature", "K", SPREAD, (None, None)),
        ((None, None), "", "", np.maximum(SPREAD - 0.5, 0.0), (0.0, None)),
        ((None, None), "", "", np.full(50, 7.0), (None, None)),
        ((None, None), "", "", np.full(50, np.nan), (None, None)),
    ],
)
def test_bounds_are_declared_named_or_seen(
    declared: Bounds, name: str, units: str, values: np.ndarray, expected: Bounds
) -> None:
    assert bounds(declared, name, units, np.stack([values] * 3)) == expected


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_newest_value_of_a_counter_is_no_bound(steps: int, sign: int) -> None:
    counter = sign * np.repeat(np.arange(40 // steps), steps)[:, None] * np.ones(60)
    assert bounds((None, None), "", "", counter) == (None, None)
