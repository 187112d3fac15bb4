import sys

import numpy as np
import pytest

from gnomon.tasks.forecasting import Specification, identify
from gnomon.tasks.forecasting.orders import seasonal_periods
from tests.tasks.forecasting.series import Array, autoregressive, daily, times

HOUR, DAY = 3600.0, 86400.0
YEAR = 365.2425 * DAY


def identified(values: Array, interval_s: float = HOUR, **options: object) -> Specification:
    return identify(
        times(len(values), interval_s),
        values,
        interval_s=interval_s,
        leads=6,
        year_s=YEAR,
        **options,  # type: ignore[arg-type]  # options of the test
    )


@pytest.mark.parametrize(
    ("interval_s", "captures", "expected"),
    [
        (HOUR, 47, ()),
        (HOUR, 48, (DAY,)),
        (6 * HOUR, 40, (DAY,)),
        (12 * HOUR, 400, ()),
        (DAY, 500, ()),
        (DAY, 600, (YEAR,)),
        (YEAR / 12, 54, (YEAR,)),
        (YEAR / 2, 20, ()),
        (YEAR, 240, ()),
        (HOUR, 14000, (DAY, YEAR)),
    ],
)
def test_periods_follow_from_interval_and_length(
    interval_s: float, captures: int, expected: tuple[float, ...]
) -> None:
    assert seasonal_periods(times(captures, interval_s), interval_s, YEAR) == expected


def test_the_order_of_a_process_is_found() -> None:
    red = autoregressive((1.3, -0.6), 300, 20, seed=40, common=0.9)
    assert identified(red, DAY / 2, periods_s=()).order in {(2, 0, 0), (3, 0, 0), (2, 0, 1)}
    walk = (
        np.cumsum(autoregressive((), 300, 20, seed=41, common=0.9), axis=0)
        + np.linspace(0, 200, 300)[:, None]
    )
    assert identified(walk, DAY / 2, periods_s=()).order[1] == 1


def test_constant_and_empty_cells_do_no_harm() -> None:
    values = daily(60, 6, seed=42)
    values[:, 0] = np.nan
    values[:, 1] = 5.0
    values[10, 2] = np.nan
    assert identified(values).periods_s == (DAY,)
    for nothing in (np.full((40, 3), 5.0), np.full((40, 3), np.nan)):
        spec = identified(nothing)
        assert spec.order == (1, 0, 0)
        assert spec.tolerance <= 1e-5


@pytest.mark.parametrize("captures", [0, 1, 3, 11])
def test_few_captures_need_no_search(captures: int) -> None:
    assert identified(daily(captures, 3, seed=43)).order == (1, 0, 0)


def test_a_failing_search_is_survived(monkeypatch: pytest.MonkeyPatch) -> None:
    import pmdarima

    def fails(*args: object, **kwargs: object) -> None:
        raise ValueError("no suitable model")

    monkeypatch.setattr(pmdarima, "auto_arima", fails)
    assert identified(daily(60, 4, seed=44)).order in {(1, 0, 0), (3, 0, 0), (0, 1, 1)}


def test_what_the_user_settles_wins() -> None:
    spec = identified(
        daily(60, 4, seed=45), periods_s=(12 * HOUR,), bounds=(0.0, None), tolerance=0.25
    )
    assert (spec.periods_s, spec.minimum, spec.maximum, spec.tolerance) == (
        (12 * HOUR,),
        0.0,
        None,
        0.25,
    )


def test_the_default_tolerance_is_the_usual_change() -> None:
    values = daily(100, 5, seed=46)
    expected = np.sqrt(np.mean(np.diff(values, axis=0) ** 2))
    assert identified(values).tolerance == pytest.approx(expected)


def test_categories_get_no_season() -> None:
    spec = identified(np.ones((60, 2)), categorical=True)
    assert (spec.periods_s, spec.categorical) == ((), True)


def test_importing_the_forecaster_does_not_import_pmdarima() -> None:
    import subprocess

    code = "import sys, gnomon.tasks.forecasting; sys.exit('pmdarima' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, env=None).returncode == 0
