"""Error bars beyond the captures, on processes that are known."""

import numpy as np
import pytest
from numpy.typing import NDArray

from gnomon.tasks.interpolating.beyond import drift, grown, independent
from gnomon.tasks.interpolating.gap import Gap, trials_of
from gnomon.tasks.interpolating.plan import learn
from tests.tasks.interpolating.test_plan import HOUR, record, specification, walk

CELLS = 40
Floats = NDArray[np.float64]


def series(kind: str, count: int, seed: int) -> Floats:
    """Values (count, CELLS): noise, a process that forgets, one that does not, and a trend."""
    draws = np.random.default_rng([seed, 9])
    noise = draws.normal(size=(count, CELLS))
    slope = np.arange(count)[:, None] * (1.0 + 0.3 * draws.normal(size=CELLS))
    return {
        "noise": noise,
        "damped": walk(count, CELLS, 0.6, seed=seed),
        "walk": np.cumsum(noise, axis=0),
        "trend": 0.4 * slope + 0.7 * walk(count, CELLS, 0.6, seed=seed),
    }[kind]


def missed(kind: str, count: int, gap: Gap, seed: int) -> tuple[Floats, Floats]:
    """Errors and standard errors (CELLS,) of a state so far from as many captures."""
    far = max(gap.before or 0, gap.after or 0)
    values = series(kind, count + far, seed)
    hidden = range(far) if gap.before is None else range(count, count + far)
    slot = 0 if gap.before is None else count + far - 1
    starts = np.array([0, CELLS // 2, CELLS])
    said = learn(specification(), record(values, *hidden), starts, gap, slot, slot * HOUR)[1]
    return said.values - values[slot], said.standard_error


@pytest.mark.parametrize("kind", ["noise", "damped", "walk", "trend"])
@pytest.mark.parametrize(("count", "far"), [(10, 9), (24, 23)])
@pytest.mark.parametrize("after", [True, False])
def test_intervals_cover_as_far_away_as_captures_span(
    kind: str, count: int, far: int, after: bool
) -> None:
    """Of what comes back they are not too wide, and of what goes on not too narrow."""
    gap = Gap(far, None) if after else Gap(None, far)
    tried = [missed(kind, count, gap, seed) for seed in range(8)]
    errors, stated = (np.array([part[k] for part in tried]) for k in (0, 1))
    covered = float(np.mean(np.abs(errors) <= 1.645 * stated))
    assert covered >= 0.85
    if kind == "noise":
        assert np.sqrt(np.mean(stated**2)) < 1.55 * np.sqrt(np.mean(errors**2))


@pytest.mark.parametrize("kind", ["noise", "trend"])
def test_errors_never_shrink_farther_away_than_there_are_trials(kind: str) -> None:
    stated = [float(np.mean(missed(kind, 12, Gap(k, None), 3)[1])) for k in (5, 7, 9, 11)]
    assert stated == sorted(stated)


def test_a_drift_is_found_and_chance_is_none() -> None:
    """Most of the slope's square is taken off where it is chance, little where it is not."""
    for kind, expected, margin in (
        ("trend", 0.16 * 1.09, 0.3),
        ("noise", 0.0, 0.25),
        ("damped", 0.0, 0.5),
    ):
        values = series(kind, 20, 1)
        about = np.arange(20.0) - 9.5
        raw = float(np.mean((about @ values / (about @ about)) ** 2))
        square = float(np.mean(drift(specification(), record(values))))
        assert square == pytest.approx(expected, abs=margin * raw)


def test_what_was_never_seen_does_not_drift() -> None:
    values = series("trend", 20, 1)
    values[:, 0] = np.nan
    square = drift(specification(), record(values))
    assert square[0] == 0.0
    assert np.isfinite(square).all()


def test_trials_count_as_far_as_they_are_wrong_apart() -> None:
    """All of noise; of what all are wrong by, one for each length of the gap."""
    trials = trials_of(np.arange(40), Gap(5, None))
    count = len(trials.rows)
    noise = np.random.default_rng(0).normal(size=(count, 200))
    assert independent(noise, trials) == pytest.approx(count, rel=0.02)
    assert independent(noise * 0.0 + 3.0, trials) == pytest.approx(count / 5)
    assert independent(noise * np.nan, trials) == pytest.approx(count / 5)


def test_the_variance_grows_as_the_page_says() -> None:
    """By hand: half walks on without end, half to the climatology, or the drift is farther."""
    tried, mean = np.array([2.0, 2.0]), np.array([3.0, 3.0])
    square = np.array([0.0, 0.1])
    variance = grown((tried, mean), 4.0, 0.5, square, (5.0, 20.0))
    np.testing.assert_allclose(variance, [0.5 * 8.0 + 0.5 * 3.0, 2.0 + 0.1 * (400 - 25)])
