"""Functions of checks may do what they like: the chunk, the others and the update are safe."""

import math
import pickle
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnomon.storage.checks.captures import CAPTURE_CHECKS
from gnomon.storage.checks.check import Check, Chunk, Statistic
from gnomon.storage.values.model import Variable
from gnomon.tasks.capturing import measuring as measuring_module
from gnomon.tasks.capturing.measuring import Checks

VARIABLE = Variable("t", ("y",), (3,), "<f4", (3,), (3,), (3,), {"units": "degC"})
CHUNK = Chunk(np.array([1.0, np.nan, 3.0]), None, {}, "t", ("y",), "degC", (0,))


class Rude(Exception):
    def __str__(self) -> str:
        raise ValueError


def check_of(measure: Callable[[Chunk], Any], name: str = "odd", **fields: Any) -> Check:
    statistic = Statistic(name, "1", "a number", measure=measure, **fields)
    return Check(f"not_{name}", statistic, "critical", "why", maximum=2)


def raising(error: BaseException) -> Callable[[Chunk], float]:
    def measure(_: Chunk) -> float:
        raise error

    return measure


NONSENSE = st.one_of(
    st.none(),
    st.text(),
    st.complex_numbers(),
    st.binary(),
    st.lists(st.floats(), max_size=3),
    st.dictionaries(st.text(), st.floats(), max_size=2),
    st.sampled_from(
        [math.inf, -math.inf, np.float32(np.inf), 10**400, np.ones(2), np.ones((1, 1))]
    ),
    st.sampled_from([np.datetime64("2020-01-01"), np.str_("1"), np.complex64(1), object(), Rude]),
)
ERRORS = st.sampled_from(
    [ValueError("a\nb"), Rude(), KeyError(), MemoryError(), RecursionError(), SystemExit(3)]
)
NUMBERS = st.one_of(
    st.floats(allow_infinity=False),
    st.integers(-(2**70), 2**70),
    st.booleans(),
    st.floats(width=32, allow_infinity=False).map(np.float32),
    st.integers(0, 255).map(np.uint8),
    st.floats(allow_infinity=False).map(np.asarray),
)


@given(st.one_of(NONSENSE.map(lambda v: lambda _: v), ERRORS.map(raising)))
def test_whatever_is_no_number_is_nan_and_told_in_one_line(measure: Callable[[Chunk], Any]) -> None:
    measuring = Checks((check_of(measure), check_of(lambda _: 5, "sound"))).of(VARIABLE)
    for _ in range(2):
        found = measuring.take(CHUNK)
        assert math.isnan(found["odd"])
        assert found["sound"] == 5.0
    assert list(measuring.failures) == ["odd"]
    assert measuring.failures["odd"].startswith("t[0]: ")
    assert len(measuring.failures["odd"].splitlines()) == 1


@given(NUMBERS)
def test_numbers_of_any_kind_are_taken(value: Any) -> None:
    measuring = Checks((check_of(lambda _: value),)).of(VARIABLE)
    found = measuring.take(CHUNK)["odd"]
    assert type(found) is float
    assert found == float(value) or (math.isnan(found) and math.isnan(float(value)))
    assert measuring.failures == {}
    assert measuring.doubts({"odd": found}) is (found > 2)


def test_an_interrupt_is_not_swallowed() -> None:
    with pytest.raises(KeyboardInterrupt):
        Checks((check_of(raising(KeyboardInterrupt())),)).of(VARIABLE).take(CHUNK)


@pytest.mark.parametrize(
    ("fields", "dtype", "is_measured"),
    [
        ({}, "<f4", True),
        ({}, "<i2", True),
        ({}, "<c8", False),
        ({}, "|O", False),
        ({"variables": ("t",)}, "<f4", True),
        ({"variables": ("air_temperature",)}, "<f4", True),
        ({"variables": ("x", "y")}, "<f4", False),
        ({"of_units": "celsius"}, "<f4", True),
        ({"of_units": "K"}, "<f4", False),
        ({"of_units": "K", "variables": ("t",)}, "<f4", False),
    ],
)
def test_it_is_measured_of_the_variables_that_it_names(
    fields: dict[str, Any], dtype: str, is_measured: bool
) -> None:
    attributes = {"units": "degC", "standard_name": "air_temperature"}
    variable = Variable("t", ("y",), (3,), dtype, (3,), (3,), (3,), attributes)
    measuring = Checks((check_of(lambda _: 3, **fields),)).of(variable)
    assert measuring.take(CHUNK) == ({"odd": 3.0} if is_measured else {})
    assert len(measuring.critical) == is_measured


def test_a_built_in_check_may_be_a_function_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then its record is all that there is to write."""
    built_in = check_of(lambda _: 4.0, "built_in")
    monkeypatch.setattr(measuring_module, "CAPTURE_CHECKS", (*CAPTURE_CHECKS, built_in))
    found = Checks.beside([check_of(lambda _: 3.0)])
    assert found.of(VARIABLE).take(CHUNK) == {"built_in": 4.0, "odd": 3.0}


def sent(*checks: Check) -> Checks:
    found = pickle.loads(pickle.dumps(Checks(checks)))
    assert isinstance(found, Checks)
    return found


def test_functions_of_anywhere_reach_the_workers() -> None:
    limit = 4.0
    (arrived,) = sent(check_of(lambda chunk: limit + len(chunk.values))).checks
    assert arrived.statistic.measure is not None
    assert arrived.statistic.measure(CHUNK) == 7.0
    assert (arrived.name, arrived.maximum, arrived.column) == ("not_odd", 2, "odd")


def test_one_that_does_not_arrive_fails_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = threading.Lock()
    (tmp_path / "away.py").write_text("def measure(chunk):\n    return 1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    import away  # type: ignore[import-not-found]

    checks = (
        check_of(lambda _: float(lock.locked()), "locked"),
        check_of(away.measure, "away"),
        check_of(lambda _: 1.0, "sound"),
    )
    data = pickle.dumps(Checks(checks))
    del sys.modules["away"]
    monkeypatch.undo()
    measuring = pickle.loads(data).of(VARIABLE)
    found = measuring.take(CHUNK)
    assert found["sound"] == 1.0
    assert np.isnan([found["locked"], found["away"]]).all()
    assert "cannot be sent to a worker" in measuring.failures["locked"]
    assert "a worker cannot load it" in measuring.failures["away"]
