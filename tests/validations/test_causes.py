import math

import pytest

from gnomon.validations.causes import UNEXPLAINED, UNKNOWN, Statistics, suspected_cause, unit_change


def _shifted(expected: float, observed: float, spread: float = 3.0) -> Statistics:
    return Statistics(observed, observed - expected, spread)


@pytest.mark.parametrize(
    ("expected", "observed", "new", "old"),
    [
        (10.0, 283.4, "kelvin", "degrees Celsius"),
        (283.15, 11.0, "degrees Celsius", "kelvin"),
        (20.0, 68.5, "degrees Fahrenheit", "degrees Celsius"),
        (68.0, 20.5, "degrees Celsius", "degrees Fahrenheit"),
        (293.15, 69.0, "degrees Fahrenheit", "kelvin"),
        (68.0, 294.0, "kelvin", "degrees Fahrenheit"),
        (101_325.0, 1012.0, "hectopascal", "pascal"),
        (1013.25, 101_200.0, "pascal", "hectopascal"),
        (0.004, 4.1, "millimetres", "metres"),
        (4.0, 0.0041, "metres", "millimetres"),
    ],
)
def test_a_change_of_unit_is_recognised(
    expected: float, observed: float, new: str, old: str
) -> None:
    cause = suspected_cause({"plausible"}, _shifted(expected, observed))
    assert cause == f"change of unit: values look like {new} instead of {old}"


@pytest.mark.parametrize(
    "statistics",
    [
        _shifted(10.0, 12.0),
        _shifted(10.0, 150.0),
        _shifted(10.0, 283.15, spread=500.0),
        _shifted(0.0, 0.0),
        _shifted(-40.0, -39.0, spread=2.0),
        _shifted(0.0, 1e-9),
        UNKNOWN,
        Statistics(10.0, math.nan, 1.0),
        Statistics(math.inf, math.inf, math.nan),
    ],
)
def test_no_change_of_unit_is_claimed_without_reason(statistics: Statistics) -> None:
    assert unit_change(statistics) is None
    assert suspected_cause({"plausible"}, statistics) == UNEXPLAINED


@pytest.mark.parametrize(
    ("violations", "beginning"),
    [
        ({"plausible", "not_replayed"}, "replay"),
        ({"plausible", "not_newly_constant", "not_below_range"}, "constant fill"),
        ({"plausible", "not_mostly_lost", "hardly_lost"}, "missing block"),
        ({"no_new_infinities"}, "overflow"),
        ({"same_metadata", "plausible"}, "changed metadata"),
        ({"not_above_range", "plausible"}, "values outside the range"),
        ({"moving"}, "stale source"),
        ({"hardly_lost"}, "missing cells"),
        (set[str](), UNEXPLAINED),
    ],
)
def test_the_clearest_violation_names_the_cause(violations: set[str], beginning: str) -> None:
    assert suspected_cause(violations, _shifted(10.0, 12.0)).startswith(beginning)
