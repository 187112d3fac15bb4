"""Forecasts are as good, and as honest, as they claim to be."""

import numpy as np
import pytest

from gnomon.tasks.forecasting import blend, forecast, identify, roll
from gnomon.tasks.forecasting.climatology import features
from gnomon.tasks.forecasting.kernels import simplex
from gnomon.tasks.forecasting.uncertainty import seasons
from gnomon.tasks.hindcasting.hindcast import hindcast
from gnomon.tasks.hindcasting.score import BASELINES, HindcastReport
from tests.tasks.forecasting.series import (
    HOUR,
    Array,
    autoregressive,
    daily,
    fit,
    hours,
    replay,
    specification,
    times,
)

SERIES: dict[str, Array] = {
    "red noise": autoregressive((0.9,), 260, 40, seed=30),
    "white noise": autoregressive((), 260, 40, seed=31),
    "walk": np.cumsum(autoregressive((), 260, 40, seed=32), axis=0),
    "oscillation": autoregressive((1.5, -0.8), 260, 40, seed=33),
    "season": daily(260, 40, seed=34),
    "trend": np.linspace(0, 30, 260)[:, None] + autoregressive((0.3,), 260, 40, seed=35),
    "noisy level": np.cumsum(0.2 * autoregressive((), 260, 40, seed=36), axis=0)
    + autoregressive((), 260, 40, seed=37),
}


@pytest.fixture(scope="module", params=SERIES)
def report(request: pytest.FixtureRequest) -> HindcastReport:
    seasonal = request.param == "season"
    return hindcast(
        replay(SERIES[request.param], starts=(0, 20, 40), seasonal=seasonal), origins=70
    )


def test_the_shadow_is_never_much_worse_than_a_baseline(report: HindcastReport) -> None:
    # The promise is 1 %; where a baseline is the truth, a single record may cost a little more.
    assert max(report.ratio_to[name] for name in BASELINES) <= 1.02


def test_intervals_cover_what_they_say(report: HindcastReport) -> None:
    assert 0.87 <= report.coverage90 <= 0.95
    assert report.coverage90_worst >= 0.82
    assert 0.42 <= np.mean(report.coverage["50"]) <= 0.6
    assert np.mean(report.coverage["99"]) >= 0.965


def test_the_report_is_complete_and_consistent(report: HindcastReport) -> None:
    found = report.to_json()
    assert found["leads"] == [1, 2, 3, 4, 5, 6]
    assert set(found["rmse"]) == {"shadow", *BASELINES}
    for lead in range(6):
        ratio = found["rmse"]["shadow"][lead] / found["rmse"]["persistence"][lead]
        assert found["skill"]["persistence"][lead] == pytest.approx(1 - ratio)
    assert found["coverage90_worst"] == min(found["coverage"]["90"])
    assert np.sum([row["number"] for row in found["reliability"]]) > 0
    assert 0 <= found["ece"] <= 1
    assert all(c > 0 for c in found["crps"])
    assert found["cells_per_second"]["refit"] > 0
    weights = np.array(list(found["weights"].values()))
    np.testing.assert_allclose(weights.sum(axis=0), 1.0)


def test_white_noise_is_said_to_be_predicted_no_better_than_by_its_mean() -> None:
    values = autoregressive((), 200, 30, seed=38)
    assert "no better than the" in hindcast(replay(values)).verdict


def test_a_walk_is_said_to_be_unsuitable() -> None:
    values = np.cumsum(autoregressive((), 200, 30, seed=39, common=0.0), axis=0)
    found = hindcast(replay(values))
    assert not found.suitable
    assert found.verdict.startswith("unsuitable")


@pytest.mark.parametrize("captures", [4, 6, 10, 20, 40])
def test_intervals_cover_with_few_captures(captures: int) -> None:
    covered = []
    for seed in range(40):
        values = autoregressive((0.7,), captures + 6, 30, seed=100 + seed)
        made = fit(specification((1, 0, 0)), values[:captures]).forecast()
        covered.append(np.abs(made.mean - values[captures:]) <= 1.645 * made.standard_error)
    assert 0.86 <= np.mean(covered) <= 0.995, "wide on purpose, but not without end"


def test_error_bars_are_back_within_thirty_captures_of_a_fourfold_variance() -> None:
    early: list[float] = []
    late: list[float] = []
    for seed in range(8):
        values = autoregressive((0.7,), 170, 50, seed=seed)
        values[120:] *= 2.0
        found = fit(specification((1, 0, 0)), values[:120])
        state, outlook = found.state, found.outlook
        for slot in range(120, 164):
            made = forecast(found.spec, state, outlook, hours(slot, slot + 6))
            inside = np.abs(made.mean - values[slot : slot + 6]) <= 1.645 * made.standard_error
            if slot < 123:
                early.append(inside.mean())
            elif slot >= 150:
                late.append(inside.mean())
            state = roll(found.spec, state, outlook, slot, slot * HOUR, values[slot])
            outlook = outlook.roll(found.spec, slot, slot * HOUR, values[slot])
    assert np.mean(early) < 0.8, "the jump is felt"
    assert np.mean(late) >= 0.87


def test_error_bars_know_the_season_of_the_noise() -> None:
    noise = autoregressive((), 246, 40, seed=48)
    hour = np.arange(246) % 24
    loud = (hour >= 6) & (hour < 18)
    values = noise * np.where(loud, 4.0, 1.0)[:, None]
    found = fit(specification((1, 0, 0), seasonal=True, leads=24), values)
    error = found.forecast().standard_error.mean(axis=1)
    ahead = np.roll(loud[:24], -246 % 24)
    assert 2.0 < error[ahead].mean() / error[~ahead].mean() < 5.0


def test_steady_noise_has_no_season() -> None:
    found = fit(specification((1, 0, 0), seasonal=True), autoregressive((), 240, 40, seed=49))
    season = seasons(found.state.swing, found.state.surprises, features(found.spec, times(24)))
    np.testing.assert_allclose(season, 1.0, atol=0.15)


def test_a_lasting_change_is_called_drift() -> None:
    from gnomon.tasks.forecasting import drifted

    values = autoregressive((0.7,), 160, 40, seed=40, common=0.0)
    values[120:, :20] *= 3.0
    found = fit(specification((1, 0, 0)), values[:120], starts=(0, 20, 40))
    state, outlook = found.state, found.outlook
    assert not drifted(state.correction).any()
    for slot in range(120, 160):
        state = roll(found.spec, state, outlook, slot, slot * HOUR, values[slot])
        outlook = outlook.roll(found.spec, slot, slot * HOUR, values[slot])
    assert drifted(state.correction).tolist() == [True, False]


def test_confidence_is_the_rate_of_success() -> None:
    said, happened = [], []
    for seed in range(6):
        values = autoregressive((0.7,), 200, 60, seed=seed, common=0.7)
        found = hindcast(replay(values, starts=(0, 20, 40, 60), tolerance=1.3), origins=50)
        for row in found.reliability:
            said.append(row["confidence"] * row["number"])
            happened.append(row["within"] * row["number"])
    total = sum(said)
    assert total == pytest.approx(sum(happened), rel=0.1)


def test_the_simplex_minimum_is_exact() -> None:
    rng = np.random.default_rng(38)
    for _ in range(20):
        sample = rng.standard_normal((5, 8))
        moments = sample @ sample.T
        weights = simplex(moments)
        assert weights.sum() == pytest.approx(1.0)
        assert (weights >= 0).all()
        least = weights @ moments @ weights
        for other in rng.dirichlet(np.full(5, 0.5), 500):
            assert least <= other @ moments @ other + 1e-9


def test_without_hindcasts_the_blend_is_persistence() -> None:
    weights = blend.weights(np.zeros((3, 4, 5, 5)), np.zeros((3, 4)))
    np.testing.assert_array_equal(weights, np.tile(np.eye(5)[0], (4, 1)))


def test_a_tide_is_found_in_the_data() -> None:
    time = times(24 * 40)
    tide = np.cos(2 * np.pi * time / 44714.16)[:, None]
    values = 3 * tide + autoregressive((0.5,), len(time), 20, seed=41)
    spec = identify(time, values, interval_s=HOUR, leads=6, year_s=365.25 * 86400)
    assert any(abs(period - 44714.16) < 200 for period in spec.periods_s)
    noise = autoregressive((0.5,), len(time), 20, seed=42)
    plain = identify(time, noise, interval_s=HOUR, leads=6, year_s=365.25 * 86400)
    assert plain.periods_s == (86400.0,)


@pytest.mark.parametrize("gap", [5, 20, 60])
@pytest.mark.parametrize("damping", [0.5, 0.9, 1.0])
def test_intervals_hold_after_a_chunk_was_missing_for_long(gap: int, damping: float) -> None:
    """The record of a walk looks damped; its error goes on growing all the same."""
    covered = []
    for seed in range(12):
        if damping < 1.0:
            values = autoregressive((damping,), 80 + gap + 6, 64, seed=seed)
        else:
            values = np.cumsum(autoregressive((), 80 + gap + 6, 64, seed=seed), axis=0)
        seen = values[:-6].copy()
        seen[80:, :32] = np.nan
        issued = fit(specification((1, 0, 0)), seen, starts=(0, 32, 64)).forecast()
        error = np.abs(issued.mean - values[-6:])[:, :32]
        covered.append(np.mean(error <= 1.645 * issued.standard_error[:, :32]))
    assert 0.86 <= np.mean(covered) <= 0.985
