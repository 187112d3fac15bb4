"""The equations of docs/numerics.md, computed once more in plain NumPy, agree with the code."""

import re
from collections.abc import Iterator
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy import optimize, stats

from gnomon.tasks.forecasting import arima, empty, kernels, labels, modes, uncertainty
from gnomon.tasks.forecasting.climatology import features, prior
from gnomon.tasks.forecasting.sweep import season
from gnomon.tasks.forecasting.tracking import CaptureRun, advance, lasting
from gnomon.tasks.healing.covariance import Covariance, View, correlate, interpolate
from gnomon.tasks.healing.validation import _weigh
from gnomon.validations.false_discovery import q_values
from tests.tasks.forecasting.series import Array, daily, specification, times

EPS, TINY = 2.0**-23, float(np.finfo(np.float32).tiny)


def rate(changes: tuple[float, float], learnt: int) -> float:
    """Weight of a capture in the local level, from the sums of the changes at lags 0 and 1."""
    if changes[0] == 0:
        return 0.2
    r = np.clip(changes[1] / changes[0], -0.4999, 0.0)
    theta = (1 - np.sqrt(1 - 4 * r**2)) / (2 * r) if r < -1e-6 else r
    share = learnt / (learnt + 10)
    return float(share * np.clip(1 + theta, 0.02, 0.98) + (1 - share) * 0.2)


def swing(gamma: Array, surprises: Array, x: Array) -> float:
    """Variance of the innovations over their mean."""
    count = max(surprises[0], 1.0)
    variance = max(surprises[2] / count - (surprises[1] / count) ** 2, 0.0)
    noise = variance * (len(x) - 1) / count * (1 + 100 / count)
    size = 0.5 * float((gamma[1:] ** 2).sum())
    if size <= noise:
        return 1.0
    return float(np.exp(2 * np.clip((1 - noise / size) * (x[1:] @ gamma[1:]), -1.5, 1.5)))


class Equations:
    """A chunk without gaps, one capture after another, by the equations of the page."""

    def __init__(self, information: Array, memory: float, first: Array) -> None:
        terms, cells = len(information), len(first)
        self.beta = np.zeros((terms, cells))
        self.beta[0] = self.level = first
        self.information, self.memory = information, memory
        self.squares, self.count = np.zeros(cells), np.zeros(cells)
        self.products = np.zeros((2, cells))
        self.changes, self.losses = [0.0, 0.0], [0.0, 0.0]
        self.surprises, self.gamma = np.zeros(3), np.zeros(terms)
        self.p_values = [np.nan]
        self.captures = [first]

    def damping(self) -> Array:
        total = self.products.sum(axis=1)
        if total[0] == 0:
            return np.zeros(len(self.count))
        share = self.count / (self.count + 20)
        own = self.products[1] / self.products[0]
        return np.asarray(np.clip(share * own + (1 - share) * total[1] / total[0], 0, 0.98))

    def take(self, x: Array, y: Array) -> None:
        n, now, before = len(self.captures), x[-1], x[-2]
        s = swing(self.gamma, self.surprises, now)
        left = y - now @ self.beta
        damped = left - self.damping() * (self.captures[-1] - before @ self.beta)
        levelled = left - (self.level - self.beta[0])
        departure = levelled if self.losses[1] < self.losses[0] else damped
        mean = self.squares.sum() / self.count.sum() if n > 1 else 0.0
        sigma = np.sqrt((self.squares + 4 * mean) / (self.count + 4))
        sigma = sigma + EPS * np.abs(self.beta[0]) + TINY
        size = np.log(np.sqrt(np.mean((departure / sigma) ** 2 / s))) if n >= 3 else np.nan
        size = self._judge(size)
        f = 1 - 1 / min(8 * (n + 1), self.memory)
        self.information = f * self.information + np.outer(now, now)
        ridge = 1e-9 * np.trace(self.information) * np.eye(len(now))
        gains = np.linalg.solve(self.information + ridge, now)
        if np.isfinite(size):
            self.gamma += gains * (size + 0.5 * np.log(s) - now @ self.gamma)
        per_cell = np.repeat(gains[:, None], len(y), axis=1)
        late = self.count < 0.25 * min(n, 100)
        per_cell[0] = np.where(late, np.maximum(gains[0], 1 / (self.count + 2)), gains[0])
        self.beta = self.beta + per_cell * left
        deseasoned = y - now[1:] @ self.beta[1:]
        self.level = self.level + rate((self.changes[0], self.changes[1]), n) * (
            deseasoned - self.level
        )
        g = 1 - 1 / np.clip(n, 2, 100)
        self.squares = g * self.squares + departure**2 / s
        self.count = g * self.count + 1
        self.captures.append(y)
        anomalies = [self.captures[k] - x[k] @ self.beta for k in (-1, -2, -3)[: n + 1]]
        a, b = anomalies[:2]
        self.products = f * self.products + np.stack([(a**2 + b**2) / 2, a * b])
        steps = [0.0, 0.0]
        if n > 1:
            change = a - b, b - anomalies[2]
            steps = [float((change[0] ** 2).sum()), float((change[0] * change[1]).sum())]
        self.changes = [f * old + new for old, new in zip(self.changes, steps, strict=True)]
        losses = [float((part**2).sum()) for part in (damped, levelled)]
        self.losses = [f * old + new for old, new in zip(self.losses, losses, strict=True)]

    def _judge(self, size: float) -> float:
        count, total, squares = self.surprises
        weight, freedom = count + 1, count + 4
        location = total / weight
        variance = (4 * 0.4**2 + squares - weight * location**2) / freedom
        scale = np.sqrt(variance * (1 + 1 / weight))
        scored = count >= 6 * (1 - 6 / 200)
        self.p_values.append(stats.t.sf((size - location) / scale, freedom) if scored else np.nan)
        if np.isnan(size):
            return size
        kept = float(np.clip(size, location - 3 * scale, location + 3 * scale))
        self.surprises = (1 - 1 / 200) * self.surprises + [1, kept, kept**2]
        return kept


@pytest.mark.parametrize("seasonal", [False, True])
def test_a_state_follows_the_equations(seasonal: bool) -> None:
    spec = specification(seasonal=seasonal)
    values = daily(90, 4, seed=5)
    # Nights are quiet and days are not, so that the size of the innovations has a season.
    rng = np.random.default_rng(8)
    values += rng.normal(size=values.shape) * np.where(np.arange(90)[:, None] % 24 < 12, 0.1, 2.0)
    slots, when = np.arange(len(values)), times(len(values))
    x = features(spec, when)
    page = Equations(prior(spec) + np.outer(x[0], x[0]), spec.memory, values[0])
    for slot in slots[1:]:
        page.take(x[: slot + 1], values[slot])
    state = empty(spec, np.array([0, 4]))
    judged = advance(spec, state, CaptureRun(slots, when, values, np.ones((len(slots), 1), bool)))
    for name, expected in (
        ("coefficients", page.beta),
        ("level", page.level),
        ("variance", page.squares),
        ("count", page.count),
        ("products", page.products),
        ("information", page.information[..., None]),
        ("surprises", page.surprises[:, None]),
        ("swing", page.gamma[:, None]),
    ):
        np.testing.assert_allclose(getattr(state, name), expected, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(state.pooled[2:, 0], [*page.changes, *page.losses], rtol=1e-7)
    np.testing.assert_allclose(judged.p_values[:, 0], page.p_values, rtol=1e-6)
    assert np.isfinite(page.p_values).sum() > 80
    if seasonal:
        found = [swing(page.gamma, page.surprises, row) for row in x[:24]]
        assert max(found) > 1.3 * min(found)  # else nothing of it was compared
        by_code = [season(state.swing, state.surprises, row, 0) for row in x[:24]]
        np.testing.assert_allclose(by_code, found, rtol=1e-9)


def test_autocorrelations_and_the_recursion_of_levinson_and_durbin() -> None:
    rng = np.random.default_rng(1)
    series, weight = rng.normal(size=(40, 3)).cumsum(axis=0), 0.97 ** np.arange(39, -1, -1.0)
    starts = np.array([0, 3])
    r = arima.correlations(series, np.zeros(3), weight, 3, starts)
    for lag in (1, 2, 3):
        now, then, w = series[lag:], series[:-lag], weight[lag:]
        product, size = w @ (now * then), w @ (now**2 + then**2) / 2
        pooled = product.sum() / size.sum() * (40 - lag) / (41 - lag)
        m = weight.sum()
        np.testing.assert_allclose(
            r[lag - 1], m / (m + 20) * product / size + 20 / (m + 20) * pooled
        )
    small = np.array([[0.5], [0.2], [0.1]])
    toeplitz = np.array([[1, 0.5, 0.2], [0.5, 1, 0.5], [0.2, 0.5, 1]])
    np.testing.assert_allclose(arima.levinson(small), np.linalg.solve(toeplitz, small))


def test_the_linear_inverse_model_is_a_ridge_regression_for_each_lead() -> None:
    spec, rng = specification(leads=3, seasonal=True), np.random.default_rng(2)
    z, w = rng.normal(size=(120, 2)).cumsum(axis=0), 0.99 ** np.arange(119, -1, -1.0)
    level = np.stack(
        [np.average(z[: t + 1], axis=0, weights=0.8 ** np.arange(t, -1, -1.0)) for t in range(120)]
    )
    period = 24
    expected = []
    for lead in (1, 2, 3):
        now = np.arange(period, 120)
        q = np.concatenate([z[now], level[now], z[now + lead - period]], axis=1)
        past, target, weight = q[:-lead], z[period + lead :], w[period + lead :]
        ridge = (0.1 + 10 / 120) * weight.sum() * np.average((z**2).mean(axis=1), weights=w)
        gram = (past.T * weight) @ past + ridge * np.eye(6)
        expected.append(q[-1] @ np.linalg.solve(gram, (past.T * weight) @ target))
    np.testing.assert_allclose(
        modes.LinearInverse().predict(np.empty(0), modes.record_of(spec, z, w), 3), expected
    )


def test_weights_are_the_minimum_on_the_simplex() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        part = rng.normal(size=(4, 6))
        matrix = part @ part.T
        found = kernels.simplex(matrix)
        assert found.min() >= 0
        assert found.sum() == pytest.approx(1)
        best = optimize.minimize(
            lambda w, m=matrix: w @ m @ w,
            np.full(4, 0.25),
            bounds=[(0, 1)] * 4,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        )
        assert found @ matrix @ found <= best.fun * (1 + 1e-9)


def test_errors_grow_as_those_of_a_first_order_process() -> None:
    damping, seasons = np.array([0.9, 0.5]), np.array([[1.0, 2.0], [3.0, 1.0], [1.0, 1.0]])
    unseen = np.array([0.0, 4.0])
    found = uncertainty.growth(damping, seasons, unseen, damping)
    grown = np.zeros(2)
    for lead, s in enumerate(seasons, 1):
        grown = damping**2 * grown + s
        psi = damping**2
        expected = grown + psi**lead * (1 - psi**unseen) / (1 - psi)
        np.testing.assert_allclose(found[lead - 1], expected)


def test_the_bias_of_a_short_record_is_taken_off_the_damping() -> None:
    state = empty(specification(), np.array([0, 3]))
    state.count[:] = 5, 30, 2
    r = lasting(state, np.array([0.1, 0.8, 0.1]))
    # Marriott and Pope: a record of n says r - (1 + 3 r) / n in the mean.
    n = np.array([5, 30, 5])
    np.testing.assert_allclose(r - (1 + 3 * r) / n, [0.1, 0.8, 0.1])


def test_factors_for_few_hindcasts() -> None:
    weight = np.array([[1.0, 1.0], [0.5, 0.5], [0.25, 0.0]])
    each = weight.sum(axis=0) ** 2 / (weight**2).sum(axis=0)
    number = uncertainty.independent(weight, 1.0)
    np.testing.assert_allclose(number, each / [1, 2])
    expected = stats.t.ppf(0.95, number + 2) / stats.norm.ppf(0.95)
    np.testing.assert_allclose(uncertainty.student(number), expected)
    points = np.abs(np.random.default_rng(4).normal(size=(3, 2, uncertainty.POINTS)))
    found, before = uncertainty.factors(points, np.ones((3, 2)), number), 1.0
    for lead in (0, 1):
        ordered = np.sort(points[:, lead].ravel())
        quantile = ordered[np.ceil(0.9 * len(ordered)).astype(int) - 1] / stats.norm.ppf(0.95)
        mixed = (number[lead] * quantile**2 + 2 * before**2) / (number[lead] + 2)
        before = np.sqrt(mixed)
        assert found[lead] == pytest.approx(before)
    np.testing.assert_allclose(labels.confidence(np.array([[9.0], [6.0]])), 6.5 / 10)


def test_q_values_are_the_least_rates_that_reject() -> None:
    p = np.array([0.01, 0.04, 0.03, 0.5])
    q = q_values(p)
    order = np.sort(p)
    for value, each in zip(p, q, strict=True):
        k = int(np.searchsorted(order, value))
        assert each == pytest.approx(min(4 * order[j] / (j + 1) for j in range(k, 4)))


@pytest.mark.parametrize("smooth", [False, True])
def test_interpolation_is_kriging_with_modes_and_a_matern_part(smooth: bool) -> None:
    rng = np.random.default_rng(6)
    here, there = rng.uniform(0, 3, size=(7, 2)), rng.uniform(0, 3, size=(4, 2))
    share, nugget, reach = 0.4, 0.05, 2.0
    loads = rng.normal(size=(11, 3)) * np.sqrt(share / 3)
    model = Covariance(2.0, smooth=smooth, nugget=nugget, rank=3, reach=reach)
    z = rng.normal(size=(1, 7))
    every = 2.0 * np.concatenate([here, there])
    measured = np.sqrt(((every[:, None] - every) ** 2).sum(axis=-1))
    view = View(measured[:7, :7], measured[:7, 7:], loads[:7], loads[7:])
    mean, variance = interpolate(z, view, model, share)
    alone, unstated = interpolate(z, view, model, share, stated=False)
    np.testing.assert_array_equal(alone, mean)
    assert np.isnan(unstated).all()
    distance = measured / 2.0
    near = (1 + 2.146 * distance) * np.exp(-2.146 * distance) if smooth else np.exp(-distance)
    full = loads @ loads.T * np.exp(-((distance / reach) ** 2))
    full += (1 - share) * ((1 - nugget) * near + nugget * np.eye(11)) + 7e-8 * np.eye(11)
    gain = np.linalg.solve(full[:7, :7], full[:7, 7:])
    np.testing.assert_allclose(mean, z @ gain, rtol=1e-6)
    expected = np.diag(full[7:, 7:] - full[7:, :7] @ gain) - 7e-8
    np.testing.assert_allclose(variance, expected, rtol=1e-6)
    np.testing.assert_allclose(correlate(distance, smooth=smooth), near)
    at_one = float(correlate(np.ones(1), smooth=smooth)[0])
    assert at_one == pytest.approx(np.exp(-1), abs=2e-3)


def test_the_weight_of_healing_is_shrunk_by_its_jackknife_variance() -> None:
    sums = np.abs(np.random.default_rng(7).normal(1, 0.3, size=(6, 3)))
    found, without = _weigh(sums)
    total = sums.sum(axis=0)
    one_out = np.array([(total - row)[1] / (total - row)[2] for row in sums])
    plain = min(total[1] / total[2], 1.0)
    variance = 5 / 6 * ((one_out - one_out.mean()) ** 2).sum()
    assert found == pytest.approx(plain * max(0, 1 - variance / plain**2))
    np.testing.assert_allclose(without, np.clip(one_out, 0, 1))


def test_a_level_of_white_changes_is_the_last_value_and_of_white_noise_the_mean() -> None:
    rates = [rate((1.0, r), 10**6) for r in (0.0, -0.2, -0.4, -0.4999)]
    assert all(one > other for one, other in pairwise(rates))
    theta = rates[1] - 1
    assert theta / (1 + theta**2) == pytest.approx(-0.2, abs=1e-4)


ROOMS = {
    "healing": (
        "past",
        "validation",
        "inpainting",
        "covariance",
        "companions",
        "combination",
        "regions",
    ),
    "interpolating": ("beyond", "gap", "process", "plan"),
    "restoring": ("between", "composite", "keeping", "region"),
    "simulating": ("departing", "history", "covariance", "fields", "labels", "simulation"),
}
"""Where the modules are that are not of the forecaster."""


def constants() -> Iterator[tuple[str, list[float], list[float]]]:
    """Yield the names in each row of the page's tables, with the values there and in the code."""
    page = (Path(__file__).parents[3] / "docs" / "numerics.md").read_text()
    for first, second in re.findall(r"^\| (`\w+\.\w+`[^|]*) \| ([^|]*) \|", page, re.M):
        module, found = "", []
        for name in re.findall(r"`([\w.]+)`", first):
            module, _, constant = name.rpartition(".") if "." in name else (module, "", name)
            rooms = [room for room, modules in ROOMS.items() if module in modules]
            modules = [
                import_module(f"gnomon.tasks.{r}.{module}") for r in rooms or ["forecasting"]
            ]
            holder = next(m for m in modules if hasattr(m, constant))
            found += np.ravel(getattr(holder, constant)).tolist()
        text = re.sub(r"\$10\^\{(-\d+)\}\$", r"1e\1", re.sub(r"(\d),(\d)", r"\1\2", second))
        stated = re.findall(r"-?\d[\d.]*(?:e-?\d+)?(?:/\d+)?", text)
        values = [float(a) / float(b or 1) for a, _, b in (n.partition("/") for n in stated)]
        yield first, values, found


@pytest.mark.parametrize(("names", "stated", "actual"), constants())
def test_constants_have_the_values_that_the_page_states(
    names: str, stated: list[float], actual: list[float]
) -> None:
    assert stated == pytest.approx(actual), names
