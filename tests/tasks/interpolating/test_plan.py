"""Estimates between captures, on processes that are known."""

import numpy as np
import pytest
from numpy.typing import NDArray

from gnomon.tasks.forecasting.specification import Specification
from gnomon.tasks.interpolating.candidates import CANDIDATES, form_of, predict
from gnomon.tasks.interpolating.gap import Gap, rows_of, trials_of
from gnomon.tasks.interpolating.labels import estimate_labels
from gnomon.tasks.interpolating.plan import estimate, learn
from gnomon.tasks.interpolating.process import Record, bridge

HOUR = 3600.0
Floats = NDArray[np.float64]


def specification(*, season: bool = False) -> Specification:
    return Specification(
        periods_s=(24 * HOUR,) if season else (),
        harmonics=(1,) if season else (),
        order=(1, 0, 0),
        interval_s=HOUR,
        leads=6,
        origin_s=0.0,
        minimum=None,
        maximum=None,
        tolerance=1.0,
        usual_change=1.0,
    )


def walk(count: int, cells: int, damping: float, *, seed: int = 0) -> Floats:
    """First-order processes of unit variance, independent of each other."""
    draws = np.random.default_rng(seed)
    values = np.empty((count, cells))
    values[0] = draws.normal(size=cells)
    for t in range(1, count):
        values[t] = damping * values[t - 1] + np.sqrt(1 - damping**2) * draws.normal(size=cells)
    return values


def record(values: Floats, *hidden: int) -> Record:
    slots = np.delete(np.arange(len(values)), hidden)
    return Record(slots, (slots * HOUR).astype(np.float64), values[slots])


def between(
    values: Floats, first: int, length: int, place: int, *, season: bool = False
) -> tuple[Floats, Floats, Floats]:
    """Error, standard error, and error of a straight line, of one slot in a gap."""
    known = record(values, *range(first, first + length))
    slot = first + place
    gap = Gap(place + 1, length - place)
    starts = np.array([0, values.shape[1]])
    spec = specification(season=season)
    plan, sampled = learn(spec, known, starts, gap, slot, slot * HOUR)
    np.testing.assert_array_equal(sampled.values, estimate(plan, known, slot * HOUR).values)
    share = (place + 1) / (length + 1)
    line = (1 - share) * values[first - 1] + share * values[first + length]
    return sampled.values - values[slot], sampled.standard_error, line - values[slot]


@pytest.mark.parametrize(("before", "after"), [(1, 1), (2, 5), (7, 1)])
@pytest.mark.parametrize("damping", [0.3, 0.9])
def test_the_bridge_is_the_best_linear_estimate(before: int, after: int, damping: float) -> None:
    """The same by the covariances of the process, in plain NumPy."""
    times = np.array([-before, after])
    covariance = damping ** np.abs(times[:, None] - times)
    expected = np.linalg.solve(covariance, damping ** np.abs(times.astype(float)))
    weights = bridge(np.array([damping]), Gap(before, after))
    np.testing.assert_allclose(np.ravel(weights), expected, rtol=1e-9)


@pytest.mark.parametrize("length", [1, 3, 7])
def test_intervals_cover_and_the_line_is_beaten(length: int) -> None:
    values = walk(160, 60, 0.8, seed=length)
    tried = [between(values, first, length, length // 2) for first in (20, 50, 80, 110)]
    errors, bars, line = (np.array([part[k] for part in tried]) for k in range(3))
    assert 0.86 <= np.mean(np.abs(errors) <= 1.645 * bars) <= 0.95
    # Of so short a gap of such a process a line is as good as anything.
    assert np.mean(errors**2) < {1: 1.001, 3: 1.0, 7: 0.96}[length] * np.mean(line**2)
    assert np.mean(errors**2) < 1.02  # the climatology's


def test_errors_are_smaller_near_the_ends() -> None:
    values = walk(200, 60, 0.95)
    stated = [np.sqrt(np.mean(between(values, 90, 13, k)[1] ** 2)) for k in (0, 6, 12)]
    assert stated[0] < 0.8 * stated[1]
    assert stated[2] < 0.8 * stated[1]


def test_a_season_is_not_flattened() -> None:
    """A straight line across half a day would cut off the night."""
    hours = np.arange(240)
    values = walk(240, 20, 0.5) * 0.2 + 5 * np.cos(2 * np.pi * hours / 24)[:, None]
    error, stated, line = between(values, 120, 11, 5, season=True)
    assert np.mean(error**2) < 0.05 * np.mean(line**2)
    assert np.mean(np.abs(error) <= 1.645 * stated) > 0.7


@pytest.mark.parametrize("gap", [Gap(2, 3), Gap(3, None), Gap(None, 3)])
def test_a_trial_knows_nothing_of_what_it_hides(gap: Gap) -> None:
    """Whatever was there, what is said of it is the same."""
    values = walk(60, 12, 0.8)
    known = record(values)
    trials = trials_of(known.slots, gap)
    assert len(trials.rows) > 10
    for place in (0, len(trials.rows) // 2, len(trials.rows) - 1):
        row, fold = int(trials.rows[place]), int(trials.folds[place])
        said = []
        for there in (values[row], np.full(12, 1e6)):
            changed = values.copy()
            changed[row] = there
            if gap.after is None:
                changed[row:] = there
            if gap.before is None:
                changed[: row + 1] = there
            again = record(changed)
            targets = np.array([row])
            form = form_of(specification(), again, trials.known[fold], gap, targets)
            said.append(predict(specification(), again, form, gap, targets, targets * HOUR))
        np.testing.assert_array_equal(said[0], said[1])


def test_few_captures_give_a_line_with_wide_bars() -> None:
    values = walk(5, 30, 0.9)
    known = record(values, 2)
    plan, said = learn(specification(), known, np.array([0, 30]), Gap(1, 1), 2, 2 * HOUR)
    assert plan.weights[CANDIDATES.index("line")] == 1
    np.testing.assert_allclose(said.values, (values[1] + values[3]) / 2)
    assert (np.abs(said.values - values[2]) <= 3 * said.standard_error).mean() > 0.9


def test_land_is_missing_and_one_sided_cells_are_less_sure() -> None:
    values = walk(80, 20, 0.9)
    values[:, 0] = np.nan
    values[43:, 1] = np.nan  # never seen after the gap
    _, stated, _ = between(values, 40, 3, 1)
    assert np.isnan(stated[0])
    assert stated[1] > 1.2 * np.median(stated[2:])


def test_what_never_changes_is_sure() -> None:
    values = np.full((40, 5), 7.0)
    error, stated, _ = between(values, 20, 3, 1)
    assert np.abs(error).max() < 1e-9
    assert (stated > 0).all()
    assert stated.max() < 1e-4


def test_one_side_goes_to_the_climatology_and_its_spread() -> None:
    values = walk(200, 40, 0.7)
    known = record(values)
    starts = np.array([0, 40])
    stated, skilled = [], []
    for lead in (1, 3, 30):
        slot = 199 + lead
        plan, said = learn(specification(), known, starts, Gap(lead, None), slot, slot * HOUR)
        stated.append(float(np.sqrt(np.mean(said.standard_error**2))))
        skilled.append(plan.skilled)
    assert stated[0] < stated[1] < stated[2]
    assert stated[2] == pytest.approx(1.0, rel=0.3)
    assert skilled == [True, True, False]
    assert np.abs(said.values).mean() < 0.3


def test_labels_say_how_likely_another_one_is() -> None:
    draws = np.random.default_rng(0)
    values = np.empty((120, 200))
    values[0] = draws.integers(0, 2, 200)
    for t in range(1, 120):
        turned = draws.random(200) < 0.1
        values[t] = np.where(turned, 1 - values[t - 1], values[t - 1])
    known = record(values, *range(60, 63))
    for place, gap in enumerate((Gap(1, 3), Gap(2, 2), Gap(3, 1))):
        labels, wrong = estimate_labels(known, gap, 60 + place)
        assert set(labels) <= {0.0, 1.0}
        missed = labels != values[60 + place]
        assert wrong.mean() == pytest.approx(missed.mean(), abs=0.06)


def test_slots_without_a_capture_have_no_row() -> None:
    slots = np.array([0, 2, 5])
    np.testing.assert_array_equal(
        rows_of(slots, np.array([-1, 0, 1, 2, 5, 9])), [-1, 0, -1, 1, 2, -1]
    )
