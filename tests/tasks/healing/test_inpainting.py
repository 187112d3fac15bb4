"""Healing recovers what neighbours know, admits what they do not, and says how sure it is."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from gnomon.storage.errors import InvalidInput
from gnomon.tasks.healing.covariance import correlate, embed, measure_lengths
from gnomon.tasks.healing.inpainting import Inpainted, inpaint
from gnomon.tasks.healing.observations import pick_observers
from gnomon.tasks.healing.regions import Grid, copy_hole, group_damage, surround

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

SHAPE = (40, 60)


def smooth_field(shape: tuple[int, ...], width: float, seed: int, mode: str = "reflect") -> Floats:
    noise = np.random.default_rng(seed).normal(size=shape)
    field = gaussian_filter(noise, width, mode=mode)
    return np.asarray(field / field.std())


def block(shape: tuple[int, ...], *spans: tuple[int, int]) -> Mask:
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(a, b) for a, b in spans)] = True
    return mask


def rms(values: Floats) -> float:
    return float(np.sqrt(np.nanmean(values**2)))


def heal(field: Floats, mask: Mask, **options: object) -> Inpainted:
    hidden = np.where(mask, np.nan, field)
    return inpaint(hidden, np.ones(field.shape), mask, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shape", "spans", "width"),
    [
        ((200,), [(90, 98)], 8.0),
        (SHAPE, [(15, 23), (25, 35)], 5.0),
        ((16, 18, 20), [(6, 10), (7, 11), (8, 12)], 3.0),
    ],
)
def test_smooth_field_is_recovered(
    shape: tuple[int, ...], spans: list[tuple[int, int]], width: float
) -> None:
    mask = block(shape, *spans)
    wrong, plain = [], []
    for seed in range(4):
        field = smooth_field(shape, width, seed)
        found = heal(field, mask)
        wrong.append((field - found.departure)[mask])
        plain.append(field[mask])
        assert found.weight[mask].mean() > 0.5
        assert found.validated_rmse < 0.6 * found.forecast_rmse
    assert rms(np.concatenate(wrong)) < 0.5 * rms(np.concatenate(plain))


def test_the_spread_is_that_of_a_chunk_however_large_the_hole() -> None:
    """A hole of eight chunks has an RMSE that is better known than that of each chunk."""
    rng = np.random.default_rng(5)
    shape, frequency = (48, 48), np.fft.fftfreq(48)
    smooth = np.exp(-25 * (frequency[:, None] ** 2 + frequency**2))
    fields = [
        np.real(np.fft.ifft2(np.fft.fft2(rng.standard_normal(shape)) * smooth)) for _ in range(300)
    ]
    fields = [field / field.std() for field in fields]
    numbers = np.add.outer(6 * (np.arange(48) // 8), np.arange(48) // 8)
    scores = []
    for k in range(10):
        row, column = int(rng.integers(0, 5)), int(rng.integers(0, 3))
        mask = block(shape, (8 * row, 8 * row + 16), (8 * column, 8 * column + 32))
        past = np.stack(fields[30 * k : 30 * k + 29])
        field = fields[30 * k + 29]
        given = np.where(mask, np.nan, field)
        found = inpaint(given, np.ones(shape), mask, history=past, chunks=numbers)
        for number in np.unique(numbers[mask]):
            cells = mask & (numbers == number) & (found.weight > 0)
            if cells.any():
                wrong = rms((field - found.departure)[cells]) / rms(found.standard_error[cells])
                location, spread = (p[cells][0] for p in (found.log_location, found.log_spread))
                scores.append((np.log(wrong) - location) / spread)
    assert len(scores) > 40
    assert np.abs(np.mean(scores)) < 0.5
    assert 0.7 < np.std(scores) < 1.4
    assert np.mean(np.abs(scores) > 1.2816) < 0.35  # one in five is right


def test_each_hole_has_its_own_weight() -> None:
    """One half of the field is smooth, the other noise that no neighbour tells of."""
    rng = np.random.default_rng(2)
    field = smooth_field((24, 96), 3.0, 4)
    field[:, 48:] = rng.standard_normal((24, 48))
    mask = block(field.shape, (10, 14), (20, 24)) | block(field.shape, (10, 14), (80, 84))
    found = heal(field, mask)
    near, far = found.weight[:, :48][mask[:, :48]], found.weight[:, 48:][mask[:, 48:]]
    assert (near > 0.5).all()
    assert not far.any()
    assert np.isfinite(found.log_spread[:, :48][mask[:, :48]]).all()
    assert np.isnan(found.log_spread[:, 48:]).all()


def test_a_hole_that_was_unknown_is_tried_in_the_past_alone() -> None:
    """Its departures are three times those of what is intact, in the past as well."""
    mask = block(SHAPE, (10, 20), (20, 40))
    larger = np.where(mask, 3.0, 1.0)
    rng = np.random.default_rng(8)
    fields = rng.standard_normal((30, *SHAPE)) * larger
    error = np.ones(SHAPE)
    found = inpaint(np.where(mask, np.nan, fields[-1]), error, mask, history=fields[:-1])
    told = inpaint(
        np.where(mask, np.nan, fields[-1]), error, mask, history=fields[:-1], unseen=mask
    )
    assert rms(told.departure[mask]) < 0.5
    assert told.forecast_rmse == pytest.approx(3.0, rel=0.1)
    assert found.forecast_rmse < 2.9
    nothing = inpaint(np.where(mask, np.nan, fields[-1]), error, mask, unseen=mask)
    assert np.isnan(nothing.forecast_rmse)
    assert not nothing.weight.any()


def test_white_noise_leaves_the_forecast_alone() -> None:
    mask = block(SHAPE, (10, 20), (20, 40))
    weights, healed, plain = [], [], []
    for seed in range(6):
        field = np.random.default_rng(seed).normal(size=SHAPE)
        past = np.random.default_rng(100 + seed).normal(size=(20, *SHAPE))
        found = heal(field, mask, history=past)
        weights.append(found.weight.max() * rms(found.departure))
        healed.append((field - found.departure)[mask])
        plain.append(field[mask])
        assert np.nanmax(found.standard_error) < 1.1
        assert np.nanmin(found.standard_error) > 0.9
    assert np.mean(weights) < 0.02
    assert rms(np.concatenate(healed)) < 1.01 * rms(np.concatenate(plain))


def test_result_is_only_in_damaged_cells_with_a_forecast() -> None:
    field = smooth_field(SHAPE, 5.0, 1)
    mask = block(SHAPE, (10, 20), (20, 40))
    land = block(SHAPE, (15, 30), (30, 45))
    error = np.where(land, np.nan, 1.0)
    given = np.where(mask | land, np.nan, field)
    found = inpaint(given, error, mask)
    expected = mask & ~land
    np.testing.assert_array_equal(np.isfinite(found.departure), expected)
    np.testing.assert_array_equal(np.isfinite(found.standard_error), expected)
    assert (found.standard_error[expected] > 0.0).all()


def test_damaged_values_are_not_looked_at_and_arguments_stay() -> None:
    field = smooth_field(SHAPE, 5.0, 2)
    mask = block(SHAPE, (10, 18), (20, 30))
    past = np.stack([smooth_field(SHAPE, 5.0, s) for s in range(8)])
    past[3, 4:9] = np.nan
    poisoned, error = np.where(mask, 1e6, field), np.full(SHAPE, 0.7)
    copies = [a.copy() for a in (poisoned, error, mask, past)]
    first = inpaint(poisoned, error, mask, history=past)
    second = inpaint(np.where(mask, np.nan, field), error, mask, history=past)
    np.testing.assert_array_equal(first.departure, second.departure)
    np.testing.assert_array_equal(first.standard_error, second.standard_error)
    for before, after in zip(copies, (poisoned, error, mask, past), strict=True):
        np.testing.assert_array_equal(before, after)


def test_units_do_not_matter() -> None:
    field = smooth_field(SHAPE, 5.0, 3)
    mask = block(SHAPE, (10, 18), (20, 30))
    given = np.where(mask, np.nan, field)
    unit = inpaint(given, np.ones(SHAPE), mask)
    small = inpaint(given * 1e-3, np.full(SHAPE, 1e-3), mask)
    np.testing.assert_allclose(small.departure, unit.departure * 1e-3, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(small.standard_error, unit.standard_error * 1e-3, rtol=1e-9)
    assert small.validated_rmse == pytest.approx(unit.validated_rmse * 1e-3)


def test_a_cyclic_axis_is_known_on_both_sides_of_the_seam() -> None:
    mask = block(SHAPE, (0, 40), (54, 60))
    closed, opened = [], []
    for seed in range(3):
        field = smooth_field(SHAPE, 5.0, seed, mode="wrap")
        closed.append((field - heal(field, mask, cyclic=(False, True)).departure)[mask])
        opened.append((field - heal(field, mask).departure)[mask])
    assert rms(np.concatenate(closed)) < 0.6 * rms(np.concatenate(opened))


def test_where_the_seam_lies_makes_no_difference() -> None:
    field = smooth_field(SHAPE, 4.0, 5, mode="wrap")
    mask = block(SHAPE, (12, 20), (20, 30))
    inland = heal(field, mask, cyclic=(False, True))
    across = heal(np.roll(field, 35, axis=1), np.roll(mask, 35, axis=1), cyclic=(False, True))
    np.testing.assert_allclose(
        np.roll(across.departure, -35, axis=1), inland.departure, rtol=1e-6, atol=1e-6
    )


def test_intervals_cover_what_they_promise() -> None:
    mask = block(SHAPE, (12, 22), (20, 35))
    covered, plain = [], []
    for seed in range(12):
        field = smooth_field(SHAPE, 3.0, seed) + 0.2 * np.random.default_rng(seed).normal(
            size=SHAPE
        )
        found = heal(field, mask)
        wrong = (field - found.departure)[mask]
        covered.append(np.mean(np.abs(wrong) <= 1.645 * found.standard_error[mask]))
        plain.append(rms(wrong) / rms(field[mask]))
    assert 0.85 <= np.mean(covered) <= 0.96
    assert np.mean(plain) < 0.9


def test_certainty_falls_away_from_the_rim() -> None:
    found = heal(smooth_field(SHAPE, 3.0, 4), block(SHAPE, (10, 30), (20, 40)))
    assert found.standard_error[10, 20] < 0.6 * found.standard_error[20, 30]


@pytest.mark.parametrize("known", [0, 1, 9])
def test_with_few_intact_cells_the_forecast_stands(known: int) -> None:
    mask = np.ones(SHAPE, dtype=bool)
    mask.ravel()[:known] = False
    error = np.linspace(1.0, 2.0, mask.size).reshape(SHAPE)
    found = inpaint(np.where(mask, np.nan, 3.0), error, mask)
    assert not found.weight.any()
    assert np.isnan(found.validated_rmse)
    assert np.isnan(found.forecast_rmse)
    np.testing.assert_array_equal(found.departure[mask], 0.0)
    np.testing.assert_array_equal(found.standard_error[mask], error[mask])


def test_without_damage_there_is_nothing_to_say() -> None:
    found = heal(smooth_field(SHAPE, 3.0, 4), np.zeros(SHAPE, dtype=bool))
    assert np.isnan(found.departure).all()
    assert np.isnan(found.standard_error).all()
    assert not found.weight.any()


def test_a_perfect_forecast_is_kept() -> None:
    mask = block(SHAPE, (10, 18), (20, 30))
    found = heal(np.zeros(SHAPE), mask, history=np.zeros((12, *SHAPE)))
    np.testing.assert_array_equal(found.departure[mask], 0.0)
    np.testing.assert_array_equal(found.standard_error[mask], 1.0)
    assert not found.weight.any()


def test_a_constant_bias_is_carried_into_the_hole() -> None:
    mask = block(SHAPE, (10, 18), (20, 30))
    found = heal(np.full(SHAPE, 2.0), mask)
    np.testing.assert_allclose(found.departure[mask], 2.0, atol=0.1)


@pytest.mark.parametrize("steps", [0, 1, 3, 60])
def test_any_length_of_history_will_do(steps: int) -> None:
    field = smooth_field(SHAPE, 4.0, 50)
    past = np.array([smooth_field(SHAPE, 4.0, s) for s in range(steps)]).reshape(-1, *SHAPE)
    past[:, :3] = np.nan
    mask = block(SHAPE, (15, 21), (25, 33))
    found = heal(field, mask, history=past)
    assert rms((field - found.departure)[mask]) < 0.6 * rms(field[mask])


def test_history_tells_of_distant_places() -> None:
    """Two fixed, rough patterns rule the field: neighbours know nothing, the past all."""
    rng = np.random.default_rng(7)
    patterns = rng.normal(size=(2, *SHAPE))
    fields = np.tensordot(rng.normal(size=(41, 2)), patterns, 1)
    fields += 0.2 * rng.normal(size=fields.shape)
    mask = block(SHAPE, (10, 20), (20, 35))
    without = heal(fields[-1], mask)
    found = heal(fields[-1], mask, history=fields[:-1])
    alone = rms((fields[-1] - without.departure)[mask])
    assert alone > 0.95 * rms(fields[-1][mask])
    assert rms((fields[-1] - found.departure)[mask]) < 0.35 * alone
    covered = np.abs(fields[-1] - found.departure)[mask] <= 1.645 * found.standard_error[mask]
    assert 0.8 < covered.mean() < 0.99


def test_history_of_something_else_does_no_harm() -> None:
    field = smooth_field(SHAPE, 4.0, 60)
    mask = block(SHAPE, (15, 21), (25, 33))
    past = np.random.default_rng(1).normal(size=(40, *SHAPE)) * 50.0
    wrong = rms((field - heal(field, mask, history=past).departure)[mask])
    assert wrong < rms(field[mask])


def test_many_holes_are_all_filled() -> None:
    shape = (90, 90)
    field = smooth_field(shape, 5.0, 8)
    mask = np.zeros(shape, dtype=bool)
    for i in range(4, 88, 8):
        for j in range(4, 88, 8):
            mask[i : i + 2, j : j + 2] = True
    found = heal(field, mask)
    assert len(group_damage(mask, (False, False))) <= 16
    assert rms((field - found.departure)[mask]) < 0.1
    np.testing.assert_array_equal(np.isfinite(found.departure), mask)


def test_scattered_cells_of_a_large_field_are_filled() -> None:
    shape = (600, 600)
    field = smooth_field(shape, 12.0, 9)
    mask = np.random.default_rng(3).random(shape) < 0.01
    found = heal(field, mask)
    assert rms((field - found.departure)[mask]) < 0.1


def test_the_answer_is_the_same_each_time() -> None:
    field = smooth_field((120, 120), 6.0, 9)
    mask = block(field.shape, (40, 70), (50, 80))
    first, second = heal(field, mask), heal(field, mask)
    np.testing.assert_array_equal(first.departure, second.departure)
    np.testing.assert_array_equal(first.standard_error, second.standard_error)
    assert first.validated_rmse == second.validated_rmse


@pytest.mark.parametrize(
    ("error", "mask", "options"),
    [
        (np.ones(3), np.ones(4, bool), {}),
        (np.ones(4), np.ones(3, bool), {}),
        (np.ones(4), np.ones(4, bool), {"cyclic": (True, False)}),
        (np.ones(4), np.ones(4, bool), {"history": np.ones((5, 3))}),
    ],
)
def test_shapes_that_disagree_are_refused(
    error: Floats, mask: Mask, options: dict[str, object]
) -> None:
    with pytest.raises(InvalidInput):
        inpaint(np.zeros(4), error, mask, **options)  # type: ignore[arg-type]


def test_a_region_across_the_seam_is_one_hole() -> None:
    mask = block((10, 20), (2, 5), (0, 3)) | block((10, 20), (2, 5), (17, 20))
    assert sum(len(holes) for holes in group_damage(mask, (False, True))) == 1
    assert sum(len(holes) for holes in group_damage(mask, (False, False))) == 2
    ((hole,),) = group_damage(mask, (False, True))
    axes, local = surround(hole, Grid((10, 20), (False, True)), 1000)
    assert local == Grid((10, 20), (False, True))
    inside = mask[np.ix_(*axes)].any(axis=0)
    assert np.flatnonzero(inside)[-1] - np.flatnonzero(inside)[0] == 5


def test_surroundings_are_bounded_whatever_the_field() -> None:
    hole = np.arange(5) + 5_000_000
    _, local = surround(hole, Grid((10_000, 1000), (False, True)), 20_000)
    assert np.prod(local.shape) <= 21_000
    assert local.cyclic == (False, False)


def test_copies_have_the_shape_of_the_hole_and_are_intact() -> None:
    grid = Grid(SHAPE, (False, False))
    mask = block(SHAPE, (0, 6), (20, 30))
    column = np.flatnonzero(mask) % SHAPE[1]
    copies = copy_hole(np.flatnonzero(mask), column // 5, ~mask, grid, 8)
    assert len(copies) >= 3
    for cells, chunks in copies:
        assert not mask.ravel()[cells].any()
        assert cells.size == mask.sum()
        columns = cells % SHAPE[1]
        assert [columns[chunks == number].size for number in (4, 5)] == [30, 30]
        assert columns[chunks == 4].max() < columns[chunks == 5].min()
    alike = sum(cells.min() < SHAPE[1] for cells, _ in copies)
    assert alike > len(copies) / 2  # most touch the same edge


def test_a_large_hole_is_copied_smaller() -> None:
    grid = Grid(SHAPE, (False, False))
    mask = block(SHAPE, (0, 40), (10, 50))
    whole = np.zeros(mask.sum(), np.intp)
    copies = copy_hole(np.flatnonzero(mask), whole, ~mask, grid, 8)
    assert len(copies) >= 3
    assert max(cells.size for cells, _ in copies) < mask.sum() / 2


def test_observers_are_bounded_and_near() -> None:
    grid = Grid((200, 200), (False, False))
    mask = block(grid.shape, (90, 110), (90, 110))
    known = np.flatnonzero(~mask)
    chosen = pick_observers(known, np.flatnonzero(mask), grid, (5.0, 5.0), 300)
    assert 250 <= len(chosen) <= 300
    assert not mask.ravel()[chosen].any()
    rows, columns = np.unravel_index(chosen, grid.shape)
    away = np.maximum(abs(rows - 99.5), abs(columns - 99.5)) - 9.5
    assert np.mean(away < 10) > 0.5
    assert away.max() > 50


def test_lengths_follow_each_axis() -> None:
    noise = np.random.default_rng(0).normal(size=(150, 150))
    field = gaussian_filter(noise, (2.0, 8.0))
    field = field / field.std()
    rows, columns = measure_lengths(field, None, (False, False))
    # a field smoothed with a Gaussian of width w has correlation exp(-(lag / 2 w)^2)
    assert rows == pytest.approx(4.0, rel=0.25)
    assert columns == pytest.approx(16.0, rel=0.25)


def test_correlation_is_valid_round_a_circle() -> None:
    position = embed(np.arange(36), (36,), (True,), (12.0,))
    distance = np.linalg.norm(position[:, None] - position[None], axis=-1)
    assert distance[0, 35] == pytest.approx(distance[0, 1])
    for smooth in (False, True):
        matrix = correlate(distance, smooth=smooth)
        assert np.linalg.eigvalsh(matrix).min() > 0.0
        assert correlate(np.ones(1), smooth=smooth)[0] == pytest.approx(np.exp(-1.0), rel=1e-3)


def test_a_hole_whose_past_is_known_in_a_few_cells_is_tried_on_those() -> None:
    """They need not be among those that a large hole is thinned to."""
    shape = (60, 60)
    mask = block(shape, (10, 50), (10, 50))
    rng = np.random.default_rng(9)
    fields = rng.standard_normal((7, *shape))
    fields[:, mask] = np.nan
    fields[:6, 10, 11] = 1.0
    healed = inpaint(fields[-1], np.ones(shape), mask, history=fields[:-1], unseen=mask)
    assert np.isfinite(healed.departure[mask]).all()
    assert np.isfinite(healed.forecast_rmse)
