"""Readings: what makes numbers of captures, and what it costs in a long history."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import xarray as xr

from gnomon.storage.changes.repacked import readings_at
from gnomon.storage.log.description import Change, Edit
from gnomon.storage.log.history import History
from gnomon.storage.source.files.opening import read_numbers
from gnomon.storage.values.model import RepositorySettings, SourceSpec, Variable
from tests.storage.building import WHEN

NAMES = ("a", "b", "c", "d")
CHANGES = 60


@pytest.fixture
def state() -> History:
    """A source that tells its numbers in other units each time."""
    variables = tuple(
        Variable(n, ("x",), (4,), "<f4", (2,), (2,), (4,), attributes={"units": "K"}) for n in NAMES
    )
    changes = tuple(
        Change(
            variables={n: Edit(put={"units": units}) for n in NAMES},
            conversions=dict.fromkeys(NAMES, line),
            alike=NAMES,
        )
        for units, line in [("degC", (1.0, 273.15)), ("K", (1.0, 0.0))] * (CHANGES // 2)
    )
    settings = RepositorySettings(SourceSpec("s", "append", "time"), variables, WHEN, "", {})
    return History(settings, changes=changes)


def counted(monkeypatch: pytest.MonkeyPatch, of: Any, name: str) -> list[Any]:
    calls: list[Any] = []
    call = getattr(of, name)

    def count(self: Any, *args: Any) -> Any:
        calls.append(self)
        return call(self, *args)

    monkeypatch.setattr(of, name, count)
    return calls


def test_settings_in_force_go_once_through_the_changes(
    state: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = counted(monkeypatch, Change, "after")
    assert [v.attributes["units"] for v in state.in_force.variables] == ["K"] * len(NAMES)
    assert len(calls) == CHANGES


@pytest.mark.parametrize(
    ("units", "line"), [("degC", (1.0, 273.15)), ("degR", (1 / 1.8, 0.0)), ("K", (1.0, 0.0))]
)
def test_units_that_were_told_before_are_found_in_one_go(
    units: str, line: tuple[float, float], state: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = counted(monkeypatch, Edit, "after")
    dataset = xr.Dataset({"a": (("time", "x"), [[0.0] * 4], {"units": units})})
    settings = replace(state.settings, source=SourceSpec("s", "state"))  # nothing to compare with
    repository: Any = SimpleNamespace(state=state, settings=settings)
    reading = readings_at(repository, dataset, state.settings.variable("a"), [0])[0]
    assert (reading.factor, reading.shift) == pytest.approx(line)
    assert len(calls) <= CHANGES * len(NAMES)


@pytest.mark.parametrize("value", ["text", np.arange(3)], ids=["text", "a list"])
def test_single_values_that_are_no_numbers_are_missing(value: Any) -> None:
    states = np.empty(1, object)
    states[0] = value
    variable = Variable("w", (), (), "|O", (), (), ())
    dataset = xr.Dataset({"w": (("time",), states)})
    assert np.isnan(read_numbers(dataset, variable, [0], states)).tolist() == [True]
