"""A check says what it allows, and refuses to be what cannot be judged."""

import math
from typing import Any

import numpy as np
import pytest

from gnomon.storage.checks.captures import CAPTURE_CHECKS, CAPTURE_STATISTICS
from gnomon.storage.checks.check import Check, Statistic
from gnomon.storage.checks.shadows import SHADOW_CHECKS, SHADOW_STATISTICS
from gnomon.storage.errors import InvalidInput
from gnomon.validations.suite import validate
from tests.validations.tables import sound_actual

NUMBER = Statistic("c", "1", "a number")
FLAG = Statistic("f", "1", "a flag", "bool")


@pytest.mark.parametrize(
    ("check", "words"),
    [
        (Check("n", NUMBER, "critical", "r", minimum=0.001), "at least 0.001"),
        (Check("n", NUMBER, "critical", "r", minimum=0, strict=True), "more than 0"),
        (Check("n", NUMBER, "critical", "r", maximum=0.5), "at most 0.5"),
        (Check("n", NUMBER, "critical", "r", minimum=0, maximum=1), "0 to 1"),
        (Check("n", FLAG, "critical", "r", flag=False), "false"),
    ],
)
def test_what_is_allowed_reads_in_words(check: Check, words: str) -> None:
    assert check.expected == words


@pytest.mark.parametrize(
    ("value", "fields", "is_allowed"),
    [
        (math.nan, {"maximum": 0}, True),
        (0.0, {"maximum": 0}, True),
        (0.1, {"maximum": 0}, False),
        (0.0, {"minimum": 0}, True),
        (0.0, {"minimum": 0, "strict": True}, False),
        (-0.1, {"minimum": 0, "maximum": 1}, False),
        (1.0, {"minimum": 0, "maximum": 1}, True),
    ],
)
def test_a_value_is_allowed_or_not(value: float, fields: dict[str, Any], is_allowed: bool) -> None:
    assert Check("n", NUMBER, "critical", "r", **fields).allows(value) is is_allowed


@pytest.mark.parametrize("check", [*CAPTURE_CHECKS, *SHADOW_CHECKS], ids=lambda check: check.name)
def test_what_is_allowed_is_what_great_expectations_lets_pass(check: Check) -> None:
    """Workers decide by one what is true for the next state, the validation by the other."""
    values = [0.0, 1.0] if check.flag is not None else [-1.0, 0.0, 0.1, 0.5, 0.7, 1.0, 11.0]
    dtype: type = bool if check.flag is not None else float
    frame = sound_actual(len(values)).assign(**{check.column: np.array(values, dtype)})
    failed = {finding.chunk for finding in validate("t", frame, [check]).findings}
    expected = {c for c, v in zip(frame["chunk"], values, strict=True) if not check.allows(v)}
    assert failed == expected


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "Not odd"}, "lower-case"),
        ({"name": "a" * 61}, "60 characters"),
        ({"meaning": "two\nlines"}, "one line"),
        ({"meaning": " "}, "one line"),
        ({"measure": 3}, "no function"),
        ({"measure": len, "dtype": "bool"}, "leave dtype"),
        ({"measure": len, "origin": "source"}, "origin"),
        ({"variables": "sst"}, "tuple of names"),
        ({"of_units": None}, "one text"),
        ({"unit": 1}, "one line"),
    ],
)
def test_a_statistic_that_cannot_be_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        Statistic(**({"name": "odd", "unit": "1", "meaning": "m"} | fields))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "what; now"}, "lower-case"),
        ({"severity": "fatal"}, "'critical' or 'warning'"),
        ({"statistic": "odd"}, "no statistic"),
        ({"reason": ""}, "one line"),
        ({"cause": "two\nlines"}, "one line"),
        ({"clarity": 2}, "from 0 to 1"),
        ({"maximum": None}, "a minimum, or a maximum"),
        ({"maximum": math.nan}, "finite"),
        ({"maximum": "3"}, "finite"),
        ({"maximum": 10**400}, "finite"),
        ({"maximum": np.ones(2)}, "finite"),
        ({"clarity": None}, "from 0 to 1"),
        ({"minimum": 2, "maximum": 1}, "in order"),
        ({"flag": False}, "a flag"),
    ],
)
def test_a_check_that_cannot_be_is_refused(fields: dict[str, Any], message: str) -> None:
    sound: dict[str, Any] = {
        "name": "n",
        "statistic": NUMBER,
        "severity": "critical",
        "reason": "r",
        "maximum": 1,
    }
    with pytest.raises(InvalidInput, match=message) as caught:
        Check(**(sound | fields))
    assert len(str(caught.value).splitlines()) == 1


def test_names_of_the_built_in_ones_are_unique() -> None:
    for checks in (CAPTURE_CHECKS, SHADOW_CHECKS):
        assert len({check.name for check in checks}) == len(checks)
    for statistics in (CAPTURE_STATISTICS, SHADOW_STATISTICS):
        assert len({statistic.name for statistic in statistics}) == len(statistics)
        kept = {statistic.name: statistic for statistic in statistics}
        checks = CAPTURE_CHECKS if statistics is CAPTURE_STATISTICS else SHADOW_CHECKS
        assert all(kept.get(c.column, c.statistic) == c.statistic for c in checks)
        assert all(c.statistic.origin == "table" for c in checks if c.column not in kept)


def test_a_bound_may_be_a_number_of_numpy() -> None:
    check = Check("n", NUMBER, "critical", "r", minimum=np.float32(0.5), maximum=np.int64(3))  # type: ignore[arg-type]
    assert (type(check.minimum), type(check.maximum)) == (float, float)
    assert check == Check("n", NUMBER, "critical", "r", minimum=0.5, maximum=3)
