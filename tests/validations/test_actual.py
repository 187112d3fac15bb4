import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from gnomon.storage.checks.check import Check
from gnomon.storage.errors import InvalidInput
from gnomon.validations.actual import actual_checks, validate_actual
from gnomon.validations.expectations import Validation, suspect_chunks
from tests.validations.tables import TIME, sound_actual, spoiled

VIOLATIONS: dict[str, tuple[dict[str, Any], float | bool]] = {
    "plausible": ({"p_value": 1e-6}, 13e-6),
    "not_estimated": ({"estimated": True}, True),
    "not_replayed": ({"replayed": True}, True),
    "not_revised": ({"revised": True}, True),
    "not_newly_constant": ({"constant": True}, True),
    "no_new_infinities": ({"infinite_count": 3}, 3),
    "not_mostly_lost": ({"missing_change": 0.6}, 0.6),
    "not_below_range": ({"below_minimum": 1}, 1),
    "not_above_range": ({"above_maximum": 1}, 1),
    "same_metadata": ({"metadata_changed": True}, True),
    "not_replaced": ({"replaced": True}, True),
    "moving": ({"unchanged": True}, True),
    "hardly_lost": ({"missing_change": 0.2}, 0.2),
}
"""What to put into a row, and what the finding then shows, for each expectation."""


def test_every_expectation_has_its_violation() -> None:
    assert [one.name for one in actual_checks()] == list(VIOLATIONS)


@pytest.fixture(scope="module")
def found() -> Validation:
    """Of a table in which each row violates another expectation, in their order."""
    frame = sound_actual(len(VIOLATIONS))
    for row, (values, _) in enumerate(VIOLATIONS.values()):
        frame = spoiled(frame, row, values)
    return validate_actual(frame)


@pytest.mark.parametrize("expectation", actual_checks(), ids=lambda one: one.name)
def test_a_violation_is_found_in_its_row(expectation: Check, found: Validation) -> None:
    row = list(VIOLATIONS).index(expectation.name)
    place = ("t2m", TIME, f"{row // 3}/{row % 3}")
    (finding,) = [
        one
        for one in found.findings
        if one.expectation == expectation.name
        and (one.variable, one.valid_time, one.chunk) == place
    ]
    assert finding.lead is None
    assert finding.observed == pytest.approx(VIOLATIONS[expectation.name][1])
    assert (finding.severity, finding.expected, finding.reason) == (
        expectation.severity,
        expectation.expected,
        expectation.reason,
    )
    assert (place in suspect_chunks(found)) is (expectation.severity == "critical")


def test_a_violation_is_found_nowhere_else(found: Validation) -> None:
    assert not found.success
    # the row that mostly lost its cells violates the weaker expectation as well
    assert [one.expectation for one in found.findings] == [*VIOLATIONS, "hardly_lost"]


def test_warnings_make_no_suspects() -> None:
    validation = validate_actual(sound_actual().assign(unchanged=True))
    assert validation.success
    assert len(validation.findings) == 6
    assert suspect_chunks(validation) == set()


def test_a_sound_table_passes() -> None:
    validation = validate_actual(sound_actual())
    assert validation.success
    assert validation.findings == ()
    assert (validation.rows, validation.expectations) == (6, len(VIOLATIONS))


def test_an_empty_table_passes() -> None:
    validation = validate_actual(sound_actual(0))
    assert (validation.success, validation.findings, validation.rows) == (True, (), 0)


def test_a_first_capture_without_forecast_passes() -> None:
    names = [name for name in sound_actual().columns if name.startswith("departure")]
    names += ["missing_change", "change_rms", "standardised_rms", "p_value"]
    nothing = dict.fromkeys(names, np.nan)
    assert validate_actual(sound_actual().assign(**nothing)).findings == ()


def test_an_empty_chunk_passes() -> None:
    empty = dict.fromkeys(["minimum", "maximum", "mean", "spread", "p_value"], np.nan)
    values = {**empty, "valid_count": 0, "unchanged": True}
    assert validate_actual(spoiled(sound_actual(), 2, values)).findings == ()


def test_uniform_p_values_make_no_suspects() -> None:
    frame = sound_actual(100).assign(p_value=np.random.default_rng(3).uniform(size=100))
    assert frame["p_value"].min() < 0.02
    assert suspect_chunks(validate_actual(frame)) == set()


def test_alpha_is_the_rate_that_was_asked_for() -> None:
    frame = spoiled(sound_actual(), 0, {"p_value": 0.005})
    assert validate_actual(frame).success
    assert not validate_actual(frame, alpha=0.05).success


def test_a_negligible_departure_is_no_alarm() -> None:
    frame = sound_actual()
    for row, values in enumerate(
        [
            {"departure_rms": 1e-7},
            {"departure_rms": 0.0, "spread": 0.0},
            {"departure_rms": 2e-6, "spread": 0.0},  # rounding of single precision at 25
            {"departure_rms": 1e-3},
        ]
    ):
        frame = spoiled(frame, row, {"p_value": 0.0, **values})
    assert suspect_chunks(validate_actual(frame)) == {("t2m", TIME, "1/0")}


def test_negligible_departures_do_not_pull_others_over_the_threshold() -> None:
    frame = sound_actual(100).assign(p_value=0.0, departure_rms=0.0)
    frame = spoiled(frame, 7, {"p_value": 5e-4, "departure_rms": 1.0})
    assert validate_actual(frame).success


def test_a_chunk_that_always_was_constant_passes() -> None:
    values = {"constant": True, "was_constant": True, "unchanged": True}
    assert validate_actual(spoiled(sound_actual(), 1, values)).findings == ()


def test_one_value_in_all_cells_is_no_replay() -> None:
    """A dry day is like the dry days before it."""
    values = {"constant": True, "was_constant": True, "replayed": True}
    assert validate_actual(spoiled(sound_actual(), 1, values)).findings == ()


def test_no_value_at_all_is_no_replay() -> None:
    values = {"valid_count": 0, "replayed": True}
    assert validate_actual(spoiled(sound_actual(), 1, values)).findings == ()


def test_every_row_is_found_when_all_fail() -> None:
    frame = sound_actual(300).assign(replayed=True, p_value=0.0)
    validation = validate_actual(frame)
    assert len(validation.findings) == 600
    assert len(suspect_chunks(validation)) == 300
    assert [finding.chunk for finding in validation.findings[:300]] == frame["chunk"].tolist()


def test_a_table_of_something_else_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no column p_value"):
        validate_actual(sound_actual().drop(columns="p_value"))


def test_great_expectations_is_not_imported_before_it_is_needed() -> None:
    modules = "actual, alerts, false_discovery, incidents, prediction, suite, table"
    code = (
        f"import sys; from gnomon.validations import {modules}; "
        "sys.exit('great_expectations' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
