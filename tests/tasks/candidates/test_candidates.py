"""The candidates that come with Gnomon: right on what they are for, sound on anything."""

from contextlib import suppress

import numpy as np
import pytest

from gnomon.tasks.candidates import boosting
from gnomon.tasks.candidates.lstm import Lstm
from gnomon.tasks.candidates.modes_arima import ModesArima, _unpack
from gnomon.tasks.candidates.ridge import OWN, TERMS, Ridge
from gnomon.tasks.forecasting import Specification, choose, guarded, registry
from gnomon.tasks.forecasting.candidate import CellCandidate, CellPast, CellRecord, ModeRecord
from gnomon.tasks.forecasting.hindcasts import Window, rolling
from tests.tasks.forecasting.series import Array, autoregressive, fit, specification, times

NAMES = ("boosting", "lstm", "modes_arima", "prophet", "ridge")


def cells_of(values: Array, *, spec: Specification | None = None) -> CellRecord:
    """A record of series about 0."""
    count = values.shape[1]
    scale, damping = np.ones(count), np.full(count, 0.5)
    starts = np.array([0, count])
    weights = np.ones(len(values))
    spec = spec or specification()
    return CellRecord(spec, times(len(values)), values, weights, scale, damping, starts)


def past_of(values: Array, *, spec: Specification | None = None) -> CellPast:
    """What is known after all of some series about 0."""
    count, none = values.shape[1], np.empty((0, values.shape[1]))
    spec = spec or specification()
    return CellPast(
        spec=spec,
        times_s=times(len(values) + spec.leads)[-spec.leads :],
        season=np.zeros((spec.leads, count)),
        recent_times_s=times(len(values))[::-1][:24],
        anomalies=values[::-1][:24],
        last=values[-1],
        level=np.zeros(count),
        scale=np.ones(count),
        damping=np.full(count, 0.5),
        groups=np.zeros(count, np.int64),
        autoregressive=none,
        moving=none,
        drift=np.zeros(count),
        shocks=none,
    )


def modes_of(amplitudes: Array, *, spec: Specification | None = None) -> ModeRecord:
    return ModeRecord(spec or specification(), amplitudes, np.ones(len(amplitudes)))


@pytest.fixture(autouse=True)
def forget() -> None:
    """Say failures anew."""
    guarded._told.clear()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("captures", [4, 26, 70])
@pytest.mark.parametrize("kind", ["usual", "gaps", "constant", "huge"])
def test_it_is_sound_on_anything(name: str, captures: int, kind: str) -> None:
    """Finite where the built-in ones are, the same twice, and nothing fails."""
    values = autoregressive((0.7,), captures, 12, seed=2) + 5.0
    if kind == "gaps":
        values[::3] = np.nan
        values[:, 3] = np.nan
        values[captures // 2 :, 5] = np.nan
    if kind == "constant":
        values[:] = 5.0
    if kind == "huge":
        values *= 1e12
    spec = choose(specification(seasonal=True), [name])
    assert spec.candidates == (name,)
    window = Window(times(captures), values, np.array([0, 7, 12]))
    origins = np.unique([2, captures // 2, captures - 2])
    made = [rolling(spec, window, origins).predictions for _ in range(2)]
    np.testing.assert_array_equal(made[0], made[1])
    assert guarded._told == set()
    known = np.isfinite(made[0][:, :, 4])
    np.testing.assert_array_equal(np.isfinite(made[0][:, :, -1]), known)
    with np.errstate(invalid="ignore"):
        assert (np.abs(made[0][:, :, -1])[known] < 1e3 * (1.0 + np.nanmax(np.abs(values)))).all()


@pytest.mark.parametrize("name", ["modes_arima", "prophet"])
def test_what_fills_a_gap_says_nothing(name: str) -> None:
    """Only what was captured is fitted; the built-in candidate has the other modes."""
    candidate = registry.find(name)
    series = wave(120)[:, :1] + 0.1 * np.random.default_rng(3).standard_normal((120, 1))
    weights = np.ones(120)
    weights[20:45] = weights[70:80:2] = 0.0
    said = []
    for fill in (0.0, 40.0):
        filled = np.where(weights[:, None] > 0, series, fill)
        record = ModeRecord(specification(), filled, weights)
        assert candidate.per == "mode"
        said.append(candidate.predict(candidate.fit(record, None), record, 6))
    # The last ones are captured: what is searched for, and found, is the same.
    np.testing.assert_allclose(said[0], said[1], rtol=1e-6, atol=1e-9)


def test_the_network_learns_nothing_from_what_fills_a_gap() -> None:
    """The last slots are nobody's past: they would be learnt, and stop the training."""
    weights = np.ones(200)
    weights[-6:] = 0.0
    fitted = []
    for fill in (0.0, 40.0):
        filled = np.where(weights[:, None] > 0, wave(200), fill)
        fitted.append(Lstm().fit(ModeRecord(specification(), filled, weights), None))
    np.testing.assert_array_equal(fitted[0], fitted[1])


@pytest.mark.parametrize("name", NAMES)
def test_numbers_that_it_has_not_left_are_refused(name: str) -> None:
    """A repository may hold anything: the model fails as any does, and the process goes on."""
    candidate = registry.find(name)
    rng = np.random.default_rng(12)
    right = 1 + 6 * TERMS + 80 * (boosting.NODES * 2 + boosting.LEAVES)
    for size in (0, 1, 2, 3, 7, 36, 37, 46, 200, right):
        for scale in (1.0, 1e3, 1e9, -1e9):
            numbers = scale * rng.random(size)
            with suppress(ValueError, ArithmeticError, LookupError):
                if candidate.per == "cell":
                    candidate.predict(numbers, past_of(autoregressive((0.7,), 60, 12, seed=2)))
                else:
                    candidate.predict(numbers, modes_of(wave(60)), 6)


@pytest.mark.parametrize("name", NAMES)
def test_it_goes_through_a_repository_s_steps(name: str) -> None:
    values = autoregressive((0.8,), 90, 15, seed=4)
    found = fit(choose(specification(), [name]), values)
    assert found.outlook.fitted[0] is not None
    assert np.isfinite(found.forecast().mean).all()
    packed = found.outlook.pack()
    assert type(found.outlook).unpack(found.spec, packed).pack().tobytes() == packed.tobytes()


def test_the_ridge_recovers_a_process() -> None:
    values = autoregressive((0.6, 0.3), 400, 40, seed=5, common=0.0)
    ridge = Ridge()
    parameters = ridge.fit(cells_of(values), None)
    first = parameters.reshape(-1, TERMS)[0]
    own = first[:OWN] + np.array([0.5 * first[-1], 0.0, 0.0])  # the damped anomaly says a share
    np.testing.assert_allclose(own, [0.6, 0.3, 0.0], atol=0.03)
    expected = 0.6 * values[-1] + 0.3 * values[-2]
    np.testing.assert_allclose(ridge.predict(parameters, past_of(values))[0], expected, atol=0.3)


def test_the_ridge_goes_with_the_chunk_where_cells_follow_it() -> None:
    """Each cell goes where the mean of its chunk was: its own past says nothing."""
    rng = np.random.default_rng(6)
    values = np.zeros((300, 30))
    for t in range(1, 300):
        values[t] = 1.0 * values[t - 1].mean() * 0.9 + rng.standard_normal(30)
        values[t] += 2.0 * rng.standard_normal()
    first = Ridge().fit(cells_of(values), None).reshape(-1, TERMS)[0]
    assert abs(first[OWN] - 0.9) < 0.1
    assert abs(first[0] + 0.5 * first[-1]) < 0.1


def threshold(captures: int, cells: int) -> Array:
    """What grows above a threshold, and falls below it: no linear model knows."""
    rng = np.random.default_rng(7)
    values = rng.standard_normal((captures, cells))
    for t in range(1, captures):
        values[t] = np.where(values[t - 1] > 0.0, -2.0, 2.0) + 0.5 * rng.standard_normal(cells)
        values[t] += 0.5 * values[t - 1]
    return values


def test_boosting_learns_what_no_linear_model_does() -> None:
    spec, values = specification(leads=1), threshold(220, 30)
    models: tuple[CellCandidate, ...] = boosting.Boosting(), Ridge()
    learnt = [model.fit(cells_of(values[:200], spec=spec), None) for model in models]
    square = np.zeros(2)
    for last in range(200, 215):
        past = past_of(values[:last], spec=spec)
        for k, model in enumerate(models):
            square[k] += np.mean((model.predict(learnt[k], past)[0] - values[last]) ** 2)
    assert square[0] < 0.7 * square[1]


def test_trees_say_what_scikit_learn_s_do() -> None:
    from sklearn.ensemble import GradientBoostingRegressor

    rng = np.random.default_rng(8)
    x, y = rng.standard_normal((500, 5)), rng.standard_normal(500)
    model = GradientBoostingRegressor(
        n_estimators=7, max_depth=boosting.DEPTH, learning_rate=boosting.RATE, init="zero"
    ).fit(x, y)
    packed = np.concatenate([boosting._complete(tree.tree_) for tree in model.estimators_[:, 0]])
    result = np.zeros(500)
    boosting._add_trees(np.ascontiguousarray(x.T), *boosting._trees(packed, 5), result)
    np.testing.assert_allclose(result, model.predict(x), atol=1e-12)


def test_a_season_is_looked_back_to() -> None:
    """Of a day of 24 hours the trees see the hour of the day before."""
    spec = specification(seasonal=True)
    assert boosting.Boosting().lags(spec) == 24
    rng = np.random.default_rng(9)
    values = rng.standard_normal((24 * 14, 30))
    values[24:] = 0.0
    for t in range(24, len(values)):
        values[t] = 0.95 * values[t - 24] + 0.3 * rng.standard_normal(30)
    model = boosting.Boosting()
    learnt = model.fit(cells_of(values[:-6], spec=spec), None)
    made = model.predict(learnt, past_of(values[:-6], spec=spec))
    assert np.mean((made - values[-6:]) ** 2) < 0.6 * np.mean(values[-6:] ** 2)


def wave(captures: int) -> Array:
    """Two amplitudes of a damped turn, and a third of noise."""
    rng = np.random.default_rng(10)
    result = np.zeros((captures, 3))
    turn = 0.97 * np.array([[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]])
    for t in range(1, captures):
        result[t, :2] = turn @ result[t - 1, :2] + rng.standard_normal(2)
    result[:, 2] = 0.3 * rng.standard_normal(captures)
    return 100.0 * result


def test_the_network_learns_how_modes_turn() -> None:
    amplitudes = wave(320)
    network = Lstm()
    weights = network.fit(modes_of(amplitudes[:280]), None)
    assert network.fit(modes_of(amplitudes[:300]), weights) is weights
    square = np.zeros(2)
    for last in range(280, 314):
        record = modes_of(amplitudes[:last])
        truth = amplitudes[last : last + 6, :2]
        square[0] += np.mean((network.predict(weights, record, 6)[:, :2] - truth) ** 2)
        square[1] += np.mean(truth**2)
    # The climatology, as an amplitude of a turn of 0.4 comes back with the other sign.
    assert square[0] < 0.75 * square[1]


def test_the_models_of_modes_are_those_of_the_process() -> None:
    amplitudes = 10.0 * autoregressive((0.7,), 200, 2, seed=11, common=0.0)
    model = ModesArima()
    learnt = model.fit(modes_of(amplitudes), None)
    for k, one in enumerate(_unpack(learnt[2:])):
        assert one[1] == 0
        made = model.predict(learnt, modes_of(amplitudes), 3)[:, k]
        expected = amplitudes[-1, k] * 0.7 ** np.arange(1, 4)
        np.testing.assert_allclose(made, expected, atol=6.0)
    # As the record grows the orders stay, and the coefficients follow.
    longer = model.fit(modes_of(np.concatenate([amplitudes, amplitudes[:40]])), learnt)
    assert [m[:4].tolist() for m in _unpack(longer[2:])] == [
        m[:4].tolist() for m in _unpack(learnt[2:])
    ]
    assert longer.tolist() != learnt.tolist()


def test_all_of_them_are_installed() -> None:
    assert registry.installed() == NAMES
