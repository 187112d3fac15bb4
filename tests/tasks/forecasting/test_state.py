import json

import numpy as np
import pytest

from gnomon.tasks.forecasting import Specification, forecast, layout, pack, roll, start, unpack
from tests.tasks.forecasting.series import ahead, daily, learnt, specification, times


@pytest.mark.parametrize("order", [(0, 1), (1, 0), (3, 0), (2, 1)])
@pytest.mark.parametrize("seasonal", [False, True])
@pytest.mark.parametrize("captures", [0, 1, 5, 40])
def test_a_packed_state_goes_on_as_if_it_had_not_been(
    order: tuple[int, int], seasonal: bool, captures: int
) -> None:
    spec = specification(order, seasonal=seasonal)
    values = daily(captures + 1, 7, seed=1)
    values[2:4, 3] = np.nan
    state = learnt(spec, values[:captures]) if captures else start(spec, 7)
    cells, shared = pack(spec, state)
    assert cells.shape == (layout(spec).rows, 7)
    assert shared.shape == (layout(spec).length,)
    again = pack(spec, unpack(spec, cells, shared))
    assert again[0].tobytes() == cells.tobytes()
    assert again[1].tobytes() == shared.tobytes()
    capture = (captures, float(times(captures + 1)[-1]), values[-1])
    resumed = roll(spec, unpack(spec, cells, shared), *capture)
    assert pack(spec, resumed)[1].tobytes() == pack(spec, roll(spec, state, *capture))[1].tobytes()


def test_a_state_of_another_specification_is_refused() -> None:
    cells, shared = pack(specification(), start(specification(), 3))
    with pytest.raises(ValueError, match="was the specification changed"):
        unpack(specification(seasonal=True), cells, shared)


def test_the_state_does_not_grow_with_history() -> None:
    spec = specification(seasonal=True)
    short, long = (learnt(spec, daily(n, 4, seed=2)) for n in (5, 80))
    assert [part.shape for part in pack(spec, short)] == [part.shape for part in pack(spec, long)]


def test_a_specification_survives_json() -> None:
    spec = specification((3, 1), seasonal=True, minimum=0.0)
    assert Specification.from_json(json.loads(json.dumps(spec.to_json()))) == spec


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"order": [1, 2]},
        {"order": [-1, 0]},
        {"leads": 0},
        {"periods_s": [5.0]},
        {"periods_s": [-5.0], "harmonics": [1]},
        {"tolerance": float("nan")},
        {"surprise": 1},
        {"order": None},
    ],
)
def test_an_illegal_specification_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"found|not a specification|must be"):
        Specification.from_json(specification().to_json() | change)


def test_rolling_leaves_its_arguments_alone() -> None:
    spec = specification(seasonal=True)
    values = daily(30, 5, seed=3)
    state = learnt(spec, values[:-1])
    before = [part.tobytes() for part in pack(spec, state)]
    capture = values[-1].copy()
    roll(spec, state, 29, 29 * 3600.0, capture)
    forecast(spec, state, ahead(state, spec))
    assert [part.tobytes() for part in pack(spec, state)] == before
    assert capture.tobytes() == values[-1].tobytes()
