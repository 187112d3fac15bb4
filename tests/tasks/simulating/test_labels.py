"""Labels of members: as often another one as is stated, and only ones that were seen."""

import numpy as np
from numpy.typing import NDArray

from gnomon.tasks.simulating.labels import draw_labels

Floats = NDArray[np.float64]
CELLS = 20_000


def draw(seen: Floats, probability: float = 0.3, label: float = 1.0) -> Floats:
    rng = np.random.default_rng(0)
    labels = np.full(CELLS, label)
    labels[:10] = np.nan
    return draw_labels(
        labels, np.full(CELLS, probability), rng.standard_normal(CELLS), rng.random(CELLS), seen
    )


def test_another_label_comes_as_often_as_is_stated() -> None:
    rng = np.random.default_rng(1)
    seen = np.array([1.0, 2.0, 4.0])[rng.choice(3, (10, CELLS), p=[0.6, 0.3, 0.1])]
    drawn = draw(seen)
    assert np.isnan(drawn[:10]).all()
    assert set(drawn[10:]) == {1.0, 2.0, 4.0}
    assert abs(np.mean(drawn[10:] != 1.0) - 0.3) < 0.015


def test_a_label_is_one_that_its_cell_had_or_its_neighbours() -> None:
    seen = np.ones((10, CELLS))
    seen[:, : CELLS // 2] = 2.0
    drawn = draw(seen)
    assert set(drawn[10:]) == {1.0, 2.0}


def test_where_no_other_was_seen_the_label_stays() -> None:
    assert (draw(np.ones((5, CELLS)))[10:] == 1.0).all()
    assert (draw(np.full((5, CELLS), np.nan))[10:] == 1.0).all()
