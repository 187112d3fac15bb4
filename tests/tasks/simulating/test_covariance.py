"""What is learnt of the covariance of past departures, and how far the past alone is believed."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from gnomon.tasks.healing.covariance import correlate
from gnomon.tasks.simulating.covariance import Box, Covariance, correlate_leads, fit, random_walk
from gnomon.tasks.simulating.departing import PastFields
from gnomon.tasks.simulating.fields import Waves

Floats = NDArray[np.float64]
SHAPE = (16, 20)
WHOLE = (slice(0, 16), slice(0, 20))


def box(fields: Floats, *, stride: int = 3) -> Box:
    """Return a box of fields (K, H, *dims)."""
    count, leads = fields.shape[:2]
    values = fields.reshape(count, leads, int(np.prod(fields.shape[2:]))).astype(np.float32)
    return Box(
        fields.shape[2:],
        (False,) * (fields.ndim - 2),
        PastFields(np.arange(count) * stride, values),
    )


def stationary(count: int, lengths: tuple[float, float], seed: int = 0) -> Floats:
    """Return independent fields (count, 1, *SHAPE) with a known Matern correlation."""
    waves = Waves(SHAPE, (False, False), np.array([lengths]), np.ones((1, 1)), np.ones((1, 1)))
    return np.stack([waves.field(seed, m, 0, WHOLE)[None] for m in range(count)])


def learn(fields: Floats) -> Covariance:
    boxes = [box(fields)]
    return fit(boxes, correlate_leads(["v"], [boxes], fields.shape[1]), "v")


def variogram(model: Covariance, axis: int, lag: int) -> float:
    near = correlate(lag / model.lengths[:, axis], smooth=True)
    return float(1.0 - (1.0 - model.nuggets[0]) * model.weights[0] @ near)


@pytest.mark.parametrize("lengths", [(2.0, 2.0), (2.0, 6.0), (5.0, 3.0)])
def test_a_known_variogram_is_found(lengths: tuple[float, float]) -> None:
    model = learn(stationary(40, lengths))
    for axis, length in enumerate(lengths):
        for lag in (1, 2, 4, 8):
            expected = 1.0 - float(correlate(np.array([lag / length]), smooth=True)[0])
            assert variogram(model, axis, lag) == pytest.approx(expected, rel=0.25)


def test_cells_that_have_nothing_in_common_stay_so() -> None:
    model = learn(np.random.default_rng(0).standard_normal((40, 1, *SHAPE)))
    for axis in (0, 1):
        assert variogram(model, axis, 1) == pytest.approx(1.0, abs=0.1)


def test_what_belongs_together_far_apart_is_taken_from_the_past() -> None:
    """Two halves that are each other's negative: no stationary model can say so."""
    common = np.random.default_rng(0).standard_normal((60, 1, 1, 1))
    halves = np.where(np.arange(SHAPE[1]) < SHAPE[1] // 2, 1.0, -1.0)
    noise = 0.3 * np.random.default_rng(1).standard_normal((60, 1, *SHAPE))
    assert learn(common * halves + noise).modelled < 0.3


def test_where_all_is_stationary_the_model_is_believed() -> None:
    assert learn(stationary(30, (3.0, 3.0))).modelled > 0.6


@pytest.mark.parametrize("count", [1, 3, 7])
def test_of_few_departures_the_model_alone_is_used(count: int) -> None:
    model = learn(stationary(count, (3.0, 3.0)))
    assert model.modelled == 1.0
    assert np.isfinite(model.lengths).all()
    assert np.isfinite(model.weights).all()


def test_masked_cells_and_gaps_say_nothing() -> None:
    fields = stationary(40, (3.0, 3.0))
    fields[:, :, 3:7, 4:12] = np.nan
    fields[:9, :, 10:] = np.nan
    model = learn(fields)
    expected = 1.0 - float(correlate(np.array([2 / 3.0]), smooth=True)[0])
    assert variogram(model, 1, 2) == pytest.approx(expected, rel=0.3)


def test_without_any_departure_cells_are_independent() -> None:
    model = learn(np.full((0, 1, *SHAPE), np.nan))
    assert (model.modelled, model.nuggets[0]) == (1.0, 1.0)


def test_leads_and_variables_that_go_together_are_seen() -> None:
    rng = np.random.default_rng(0)
    first = stationary(50, (3.0, 3.0))
    second = 0.8 * first + 0.6 * stationary(50, (3.0, 3.0), seed=1)
    apart = rng.standard_normal(first.shape)
    a = np.concatenate([first, second], axis=1)
    b = np.concatenate([-first, apart], axis=1)
    joint = correlate_leads(["a", "b"], [[box(a)], [box(b)]], 2)
    found = joint.correlations
    assert np.diagonal(found) == pytest.approx(1.0)
    assert found[0, 1] == pytest.approx(0.8, abs=0.12)
    assert found[0, 2] == pytest.approx(-0.95, abs=0.1)
    assert found[1, 3] == pytest.approx(0.0, abs=0.1)
    assert np.linalg.eigvalsh(found).min() > 0


def test_variables_without_a_common_origin_are_apart() -> None:
    first = box(stationary(20, (3.0, 3.0)))
    second = Box(first.shape, first.cyclic, PastFields(first.past.slots + 1, first.past.values))
    assert abs(correlate_leads(["a", "b"], [[first], [second]], 1).correlations[0, 1]) < 1e-9


def test_without_departures_leads_go_together_as_in_a_random_walk() -> None:
    nothing = box(np.full((0, 3, *SHAPE), np.nan))
    assert correlate_leads(["v"], [[nothing]], 3).correlations == pytest.approx(random_walk(3))


@pytest.mark.parametrize("count", [2, 3, 7])
def test_what_is_the_same_is_believed_however_few_there_are(count: int) -> None:
    fields = stationary(count, (3.0, 3.0))
    first, second = box(fields), box(fields * 1.001 + 1e-3)
    found = correlate_leads(["a", "b"], [[first], [second]], 1).correlations
    assert found[0, 1] > 0.95


def test_what_is_the_same_by_chance_is_not_believed() -> None:
    """Two smooth fields of three origins are alike in some way, and that is chance."""
    found = []
    for seed in range(40):
        first, second = (box(stationary(3, (8.0, 8.0), seed=2 * seed + k)) for k in (0, 1))
        found.append(correlate_leads(["a", "b"], [[first], [second]], 1).correlations[0, 1])
    assert np.sqrt(np.mean(np.square(found))) < 0.25


def test_cells_count_by_their_size() -> None:
    """Where the rough cells hardly vary, the variogram is that of the others."""
    fields = stationary(40, (6.0, 6.0))
    fields[..., 10:] = np.random.default_rng(0).standard_normal((40, 1, 16, 10))
    whole = box(fields)
    sizes = np.where(np.arange(20) < 10, 1.0, 0.01) * np.ones((1, 16, 1))
    past = replace(whole.past, sizes=sizes.reshape(1, -1).astype(np.float32))
    boxes = [replace(whole, past=past)]
    model = fit(boxes, correlate_leads(["v"], [boxes], 1), "v")
    expected = 1.0 - float(correlate(np.array([1 / 6.0]), smooth=True)[0])
    assert variogram(model, 0, 1) == pytest.approx(expected, rel=0.3)
