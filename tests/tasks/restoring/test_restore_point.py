from dataclasses import replace
from itertools import permutations
from math import nan
from typing import Any

import pytest

from gnomon.storage.errors import InvalidInput
from gnomon.tasks.restoring.choice import choose
from gnomon.tasks.restoring.restore_point import PointKind, RestorePoint, best_first


def point(
    kind: PointKind, *errors: float | None, shares: tuple[float, ...] = (), **fields: Any
) -> RestorePoint:
    names = ("t", "u", "v")[: len(errors)]
    predicted = kind in ("healed", "forecast")
    made = RestorePoint(
        kind, "2001-01-25", 0, 1, None, 2, dict(zip(names, errors, strict=True)), 0.5, 1, predicted
    )
    return replace(
        made,
        estimated_share=max(shares, default=0.0),
        estimated_shares=dict(zip(names, shares, strict=False)),
        reference_time="2001-01-23" if predicted else None,
        tolerances=dict.fromkeys(names, 1.0),
        units=dict.fromkeys(names, "K"),
        confidences=dict.fromkeys(names, 0.5),
        **fields,
    )


def kinds(*points: RestorePoint) -> list[str]:
    """Return the kinds in order, which does not depend on the order that they came in."""
    orders = {tuple(p.kind for p in best_first(list(p))) for p in permutations(points)}
    assert len(orders) == 1
    return list(orders.pop())


def test_the_smallest_expected_error_comes_first() -> None:
    forecast, last = point("forecast", 0.4), point("last_capture", 0.3)
    assert kinds(forecast, last) == ["last_capture", "forecast"]
    assert kinds(forecast, point("last_capture", 0.5)) == ["forecast", "last_capture"]
    assert kinds(forecast, point("last_capture", 0.4)) == ["forecast", "last_capture"]


def test_what_is_not_known_is_never_above_what_is() -> None:
    last = point("last_capture", 0.3)
    for unknown in (None, nan):
        assert kinds(point("forecast", unknown), last) == ["last_capture", "forecast"]
        assert kinds(point("suspect", unknown), last) == ["last_capture", "suspect"]
        assert kinds(point("forecast", 0.1, unknown), point("last_capture", 9.0, 9.0)) == [
            "last_capture",
            "forecast",
        ]
    assert kinds(point("captured", 0.0), last) == ["captured", "last_capture"]


def test_several_variables_count_by_the_worst_in_tolerances() -> None:
    forecast = point("forecast", 0.1, 90.0)
    last = point("last_capture", 0.5, 50.0)
    wide = {"t": 0.2, "u": 100.0}
    assert kinds(replace(forecast, tolerances=wide), replace(last, tolerances=wide)) == [
        "forecast",
        "last_capture",
    ]
    assert kinds(forecast, last) == ["last_capture", "forecast"]


def test_a_healed_state_counts_with_all_of_its_cells() -> None:
    forecast = point("forecast", 0.4)
    # The estimated part may be off by more than the forecast on average: the rest is exact.
    healed = point("healed", 0.6, shares=(0.1,))
    assert kinds(healed, forecast, point("last_capture", 0.3)) == [
        "healed",
        "last_capture",
        "forecast",
    ]
    assert kinds(point("healed", 0.6, shares=(1.0,)), forecast) == ["healed", "forecast"]


def test_each_variable_counts_with_its_own_share() -> None:
    """A variable with a hundred chunks says nothing of one that is estimated as a whole."""
    healed = point("healed", 0.6, 0.2, shares=(1.0, 0.01))
    forecast, last = point("forecast", 0.7, 0.7), point("last_capture", 0.3, 0.3)
    assert kinds(healed, forecast, last) == ["last_capture", "healed", "forecast"]


def test_the_proposal_has_what_there_is_to_decide_by() -> None:
    forecast, last = point("forecast", 0.4), point("last_capture", 0.3)
    with pytest.raises(InvalidInput) as refusal:
        choose((last, forecast), None, accept_predicted=False)
    told = str(refusal.value)
    for part in ("forecast of 2001-01-25", "made at 2001-01-23", "t 0.4 K", "confidence 0.50"):
        assert part in told
    assert "--accept-predicted" in told
    assert "--kind last_capture" in told
    with pytest.raises(InvalidInput) as refusal:
        choose((forecast, replace(last, expected_error={"t": 0.5})), None, accept_predicted=False)
    assert "last_capture" not in str(refusal.value)
    assert choose((last, forecast), None, accept_predicted=True) is forecast


def test_the_proposal_of_a_healed_state_has_the_figures_of_healing() -> None:
    unknown = point("healed", None)
    told = point("healed", 0.25, shares=(0.125,))
    with pytest.raises(InvalidInput, match=r"12\.50%.*t 0\.25 K.*confidence 0\.50"):
        choose((point("forecast", 0.4), unknown), None, accept_predicted=False, tell=lambda _: told)
    chosen = choose((point("forecast", 0.4), unknown), None, accept_predicted=True)
    assert chosen is unknown


def test_notes_leave_out_what_is_not_known() -> None:
    notes = point("suspect", None).attributes()
    assert "gnomon_expected_error" not in notes["t"]
    assert "gnomon_reference_time" not in notes[""]
    assert notes[""]["gnomon_method"] == "suspect"
    notes = point("forecast", 0.4, 0.2).attributes()
    assert notes["u"]["gnomon_expected_error"] == 0.2
    assert notes["u"]["gnomon_expected_error_units"] == "K"
    assert notes[""]["gnomon_reference_time"] == "2001-01-23"
    assert all(isinstance(v, str | float | int) for told in notes.values() for v in told.values())
