"""Which plan an estimate rests on, and how error bars go on where the leads end."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import gnomon
from gnomon.repository import GnomonRepository
from gnomon.storage.serve.planes import EstimatedChunk
from gnomon.storage.stacks.captures import CaptureStack
from gnomon.storage.values.grid import Index
from gnomon.storage.values.times import parse
from gnomon.tasks.interpolating.gap import Gap
from gnomon.tasks.interpolating.plan import Plan
from gnomon.tasks.learning.trusted import trusted_values
from gnomon.tasks.restoring import between as module
from gnomon.tasks.restoring.between import Between, between
from gnomon.tasks.restoring.composite import _interpolated
from tests import sources

DAYS = 14
ABSENT = 7
"""The day that was never captured."""
WHOLE, HOLED = (0, 1), (1, 1)
"""A chunk, and one that was not trusted the day before, either."""


@pytest.fixture(scope="module")
def trending(tmp_path_factory: pytest.TempPathFactory) -> GnomonRepository:
    """Few captures, which grow warmer by .4 K a day."""
    folder = tmp_path_factory.mktemp("trending")
    data = sources.temperature(DAYS)
    data["sst"] = data.sst + 0.4 * np.arange(DAYS, dtype=np.float32)[:, None, None]
    data = data.isel(time=np.delete(np.arange(DAYS), ABSENT)).transpose("time", ...)
    sources.write(folder / "s.zarr", data)
    chunks = {"lat": 4, "lon": 4}
    repository = gnomon.create(str(folder / "r"), str(folder / "s.zarr"), chunks=chunks)
    repository.update()
    return repository


@pytest.fixture
def untrusted(trending: GnomonRepository, monkeypatch: pytest.MonkeyPatch) -> CaptureStack:
    """Captures of which one chunk is not trusted on the day before the gap."""

    def values(captures: CaptureStack, step: int, index: Index) -> NDArray[np.generic] | None:
        hidden = index == HOLED and step == ABSENT - 1
        return None if hidden else trusted_values(captures, step, index)

    monkeypatch.setattr(module, "trusted_values", values)
    return trending.stored.captures("sst")


def estimator_of(repository: GnomonRepository, day: int) -> Between:
    instant = parse(f"2001-01-{day + 1:02}", repository.stored.settings.calendar)
    estimator = between(repository.stored, "sst", instant)
    assert estimator is not None
    return estimator


@pytest.mark.parametrize("order", [(WHOLE, HOLED), (HOLED, WHOLE)])
def test_what_is_stated_of_a_chunk_rests_on_its_own_gap(
    trending: GnomonRepository, untrusted: CaptureStack, order: tuple[Index, Index]
) -> None:
    """Whichever chunk is read first."""
    estimator = estimator_of(trending, ABSENT)
    said: dict[Index, tuple[EstimatedChunk, Plan | None]] = {
        index: estimator.planned(untrusted, index) for index in order
    }
    for index, gap in ((WHOLE, Gap(1, 1)), (HOLED, Gap(2, 1))):
        patch, plan = said[index]
        assert plan is not None
        assert plan.gap == gap
        odds = _interpolated(estimator, patch, plan).odds
        assert (odds.location, odds.spread) == (plan.location, plan.spread)


def test_figures_are_those_of_each_chunk_together(
    trending: GnomonRepository, untrusted: CaptureStack
) -> None:
    """What was read before changes nothing."""
    fresh, used = (estimator_of(trending, ABSENT) for _ in range(2))
    used.planned(untrusted, HOLED)
    assert fresh.figures(untrusted, 0.5) == used.figures(untrusted, 0.5)


def test_a_plan_is_learnt_once_by_threads(
    trending: GnomonRepository, untrusted: CaptureStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    learnt: list[Gap] = []
    learn, together = Between._learn, Barrier(4)

    def noted(self: Between, captures: CaptureStack, gap: Gap, slot: int) -> Plan:
        learnt.append(gap)
        return learn(self, captures, gap, slot)

    def read(index: Index) -> EstimatedChunk:
        together.wait()
        return estimator.chunk(untrusted, index)

    monkeypatch.setattr(Between, "_learn", noted)
    estimator = estimator_of(trending, ABSENT)
    with ThreadPoolExecutor(4) as pool:
        chunks = list(pool.map(read, [WHOLE, HOLED, WHOLE, HOLED]))
    assert sorted(learnt, key=str) == [Gap(1, 1), Gap(2, 1)]
    for first, second in ((0, 2), (1, 3)):
        np.testing.assert_array_equal(chunks[first].values, chunks[second].values)


def test_error_bars_do_not_shrink_where_the_leads_end(trending: GnomonRepository) -> None:
    shadow = trending.shadow_dataset()
    last = np.asarray(shadow.sst_standard_error.values[-1], np.float64)
    leads = shadow.sizes["time"] if "time" in shadow.sizes else len(shadow.sst_standard_error)
    sea = np.isfinite(last)
    for day in (DAYS + leads, DAYS + leads + 3):
        at = f"2001-01-{day + 1:02}"
        beyond: Any = trending.dataset(at, accept_predicted=True).load()
        error = beyond.sst_standard_error.values[0]
        assert (error[sea] >= last[sea] * (1 - 1e-6)).all()
        last = np.where(sea, error, last)


def test_between_the_last_lead_and_the_next_slot_too(trending: GnomonRepository) -> None:
    leads = len(trending.shadow_dataset().sst_standard_error)
    day = f"2001-01-{DAYS + leads:02}"
    stated = [
        trending.dataset(f"{day}{hour}", accept_predicted=True).load().sst_standard_error.values
        for hour in ("T00:00", "T12:00")
    ]
    sea = np.isfinite(stated[0])
    assert (stated[1][sea] >= stated[0][sea] * (1 - 1e-6)).all()
