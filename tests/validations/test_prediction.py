from typing import Any

import numpy as np
import pytest

from gnomon.storage.checks.check import Check
from gnomon.storage.checks.shadows import SHADOW_CHECKS
from gnomon.validations.expectations import Validation, suspect_chunks
from gnomon.validations.prediction import validate_prediction
from tests.validations.tables import sound_prediction, spoiled

VIOLATIONS: dict[str, tuple[dict[str, Any], float | bool]] = {
    "finite": ({"broken": 1}, 1),
    "within_bounds": ({"out_of_bounds": 2}, 2),
    "uncertain": ({"standard_error_minimum": 0.0}, 0.0),
    "uncertainty_known": ({"confidence": np.nan}, True),
    "confidence_is_probability": ({"confidence": 1.01}, 1.01),
    "complete": ({"missing": 1}, 1),
    "usual_change": ({"change_rms": 11.0}, 11.0),
}
"""What to put into a row, and what the finding then shows, for each expectation."""

NOTHING = dict.fromkeys(
    ["standard_error_minimum", "standard_error_mean", "confidence", "change_rms"], np.nan
)


def test_every_expectation_has_its_violation() -> None:
    assert [one.name for one in SHADOW_CHECKS] == list(VIOLATIONS)


@pytest.fixture(scope="module")
def found() -> Validation:
    """Of a table in which each row violates another expectation, in their order."""
    frame = sound_prediction(len(VIOLATIONS))
    for row, (values, _) in enumerate(VIOLATIONS.values()):
        frame = spoiled(frame, row, values)
    return validate_prediction(frame)


@pytest.mark.parametrize("expectation", SHADOW_CHECKS, ids=lambda one: one.name)
def test_a_violation_is_found_in_its_row(expectation: Check, found: Validation) -> None:
    row = list(VIOLATIONS).index(expectation.name)
    lead = 1 + row // 3
    finding = next(one for one in found.findings if one.expectation == expectation.name)
    assert (finding.variable, finding.valid_time) == ("t2m", f"2026-01-01T0{lead}:00:00")
    assert (finding.chunk, finding.lead) == (str(row % 3), lead)
    assert finding.observed == pytest.approx(VIOLATIONS[expectation.name][1])
    assert (finding.severity, finding.reason) == (expectation.severity, expectation.reason)


def test_a_violation_is_found_nowhere_else(found: Validation) -> None:
    assert not found.success
    assert [one.expectation for one in found.findings] == list(VIOLATIONS)


def test_predictions_make_no_suspects(found: Validation) -> None:
    assert suspect_chunks(found) == set()


def test_a_sound_table_passes() -> None:
    validation = validate_prediction(sound_prediction())
    assert (validation.success, validation.findings) == (True, ())
    assert (validation.rows, validation.expectations) == (6, len(VIOLATIONS))


def test_an_empty_table_passes() -> None:
    assert validate_prediction(sound_prediction(0)).success


def test_a_chunk_with_nothing_to_predict_passes() -> None:
    assert validate_prediction(spoiled(sound_prediction(), 1, NOTHING)).findings == ()


def test_a_prediction_without_known_error_is_critical() -> None:
    frame = sound_prediction()
    unknown = [{name: value} for name in list(NOTHING)[:3] for value in (np.nan, np.inf)]
    for row, values in enumerate(unknown):
        frame = spoiled(frame, row, values)
    found = [one.expectation for one in validate_prediction(frame).findings]
    assert found.count("uncertainty_known") == len(unknown) == len(frame)


def test_the_standard_error_stands_in_for_no_usual_change() -> None:
    frame = sound_prediction().assign(usual_change=0.0)
    for row, change in enumerate([0.0, 1.0, 6.0]):
        frame = spoiled(frame, row, {"change_rms": change})
    (finding,) = validate_prediction(frame).findings
    assert (finding.expectation, finding.chunk, finding.observed) == ("usual_change", "2", 12.0)


def test_an_unknown_usual_change_passes() -> None:
    frame = spoiled(sound_prediction(), 1, {"usual_change": np.nan, "change_rms": 1e9})
    assert validate_prediction(frame).findings == ()
