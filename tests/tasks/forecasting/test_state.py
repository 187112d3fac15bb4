import json

import numpy as np
import pytest

from gnomon.storage.errors import InvalidInput
from gnomon.tasks.forecasting import (
    Outlook,
    Specification,
    empty,
    forecast,
    join,
    pack,
    roll,
    unpack,
)
from tests.tasks.forecasting.series import HOUR, daily, fit, hours, specification


@pytest.mark.parametrize("captures", [0, 1, 5, 60])
@pytest.mark.parametrize("order", [(2, 0, 0), (1, 1, 2)])
def test_a_packed_state_goes_on_as_if_it_had_not_been(
    captures: int, order: tuple[int, int, int]
) -> None:
    values = daily(61, 7, seed=1)
    values[:, 3] = np.nan
    spec = specification(order, seasonal=True)
    found = fit(spec, values[: max(captures, 1)], starts=(0, 3, 7))
    spec, outlook = found.spec, found.outlook
    state = found.state if captures else empty(spec, np.array([0, 3, 7]))
    packed = pack(spec, state)
    again = unpack(spec, state.starts, *packed)
    for a, b in zip(packed, pack(spec, again), strict=True):
        assert a.tobytes() == b.tobytes()
    seen = Outlook.unpack(spec, outlook.pack())
    assert seen.pack().tobytes() == outlook.pack().tobytes()
    if captures:
        capture = captures, captures * HOUR, values[captures]
        one, other = roll(spec, state, outlook, *capture), roll(spec, again, seen, *capture)
        assert pack(spec, one)[0].tobytes() == pack(spec, other)[0].tobytes()


def test_a_state_of_another_specification_is_refused() -> None:
    starts = np.array([0, 3])
    packed = pack(specification(), empty(specification(), starts))
    with pytest.raises(InvalidInput, match="was the specification changed"):
        unpack(specification(seasonal=True), starts, *packed)
    outlook = fit(specification(), daily(30, 3, seed=2)).outlook
    with pytest.raises(InvalidInput, match="was the specification changed"):
        Outlook.unpack(specification(seasonal=True), outlook.pack())


def test_the_state_does_not_grow_with_history() -> None:
    spec = specification(seasonal=True)
    short, long = (pack(spec, fit(spec, daily(n, 4, seed=2)).state) for n in (5, 11))
    assert [part.shape for part in short] == [part.shape for part in long]


def test_states_that_were_joined_are_taken_apart() -> None:
    found = fit(specification(), daily(40, 9, seed=3), starts=(0, 2, 5, 9))
    parts = [found.state.take(np.array([k])) for k in range(3)]
    for a, b in zip(pack(found.spec, join(parts)), pack(found.spec, found.state), strict=True):
        assert a.tobytes() == b.tobytes()
    moved = found.state.copy()
    moved.put(np.array([2, 0]), found.state.take(np.array([2, 0])))
    assert pack(found.spec, moved)[0].tobytes() == pack(found.spec, found.state)[0].tobytes()


def test_an_outlook_remembers_how_it_was() -> None:
    values = daily(70, 30, seed=4)
    found = fit(specification(seasonal=True), values[:60])
    later = found.outlook
    for slot in range(60, 70):
        later = later.roll(found.spec, slot, slot * HOUR, values[slot])
    assert later.at(found.spec, 59).pack().tobytes() == found.outlook.pack().tobytes()
    with pytest.raises(InvalidInput, match="expected one after 69"):
        later.roll(found.spec, 69, 69 * HOUR, values[69])
    gap = found.outlook.roll(found.spec, 63, 63 * HOUR, values[63])
    assert np.isnan(gap.amplitudes[60:63]).all()
    np.testing.assert_array_equal(gap.amplitudes[63], later.amplitudes[63])


def test_a_specification_survives_json() -> None:
    spec = specification((3, 1, 1), seasonal=True, minimum=0.0)
    assert Specification.from_json(json.loads(json.dumps(spec.to_json()))) == spec


@pytest.mark.parametrize(
    "change",
    [
        {"version": 1},
        {"order": [1, 2, 0]},
        {"order": [-1, 0, 0]},
        {"interval_s": 0.0},
        {"leads": 0},
        {"periods_s": [5.0]},
        {"periods_s": [-5.0], "harmonics": [1]},
        {"periods_s": [5.0, 6.0], "harmonics": [4000, 4000]},
        {"periods_s": [5.0], "harmonics": [65]},
        {"order": [300, 1, 0]},
        {"leads": 2.5},
        {"candidates": ["ridge"], "versions": [1.7]},
        {"candidates": ["ridge"], "versions": []},
        {"tolerance": float("nan")},
        {"surprise": 1},
        {"order": None},
    ],
)
def test_an_illegal_specification_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"found|not a specification|must be"):
        Specification.from_json(specification().to_json() | change)


def test_rolling_leaves_its_arguments_alone() -> None:
    values = daily(60, 5, seed=3)
    found = fit(specification(seasonal=True), values[:-1])
    before = [part.tobytes() for part in pack(found.spec, found.state)]
    capture = values[-1].copy()
    roll(found.spec, found.state, found.outlook, 59, 59 * HOUR, capture)
    forecast(found.spec, found.state, found.outlook, hours(59, 65))
    assert [part.tobytes() for part in pack(found.spec, found.state)] == before
    assert capture.tobytes() == values[-1].tobytes()
