"""When a variable is learnt anew, and from which cells."""

import numpy as np
import pytest

from gnomon.tasks.learning.refit import (
    CHEAP,
    MAX_WINDOW,
    SAMPLE_CELLS,
    SAMPLE_CHUNKS,
    Kept,
    due,
    is_cheap,
    sampled_cells,
    sampled_chunks,
    window_length,
)

HOUR, DAY, MONTH = 3600.0, 86400.0, 30 * 86400.0


@pytest.mark.parametrize(
    ("cells", "interval_s", "cheap"),
    [
        (2_000, HOUR, True),
        (5_000, DAY, True),
        (5_000, MONTH, True),
        (2_000, 600.0, False),
        (1, 1.0, False),
        (200_000, HOUR, False),
        (10_000_000, DAY, False),
        # However long the interval is: a person may be waiting.
        (10_000_000, MONTH, False),
    ],
)
def test_a_refit_of_seconds_beside_hours_is_cheap(
    cells: int, interval_s: float, cheap: bool
) -> None:
    assert is_cheap(cells * MAX_WINDOW, interval_s) == cheap


def test_all_variables_count() -> None:
    assert is_cheap(1000, HOUR)
    assert not is_cheap(1000, HOUR, variables=3)


def test_what_candidates_cost_counts() -> None:
    assert is_cheap(1000, HOUR, candidates_s=59.0)
    assert not is_cheap(1000, HOUR, candidates_s=61.0)
    assert not is_cheap(1000, HOUR, candidates_s=20.0, share=0.0)
    assert not is_cheap(100_000, 1800.0, candidates_s=1.0)  # it is not cheap without them


def never() -> bool:
    return False


def always() -> bool:
    return True


def test_a_share_of_nothing_makes_no_refit_cheap() -> None:
    assert not is_cheap(1, 100 * MONTH, share=0.0)


def test_growth_and_drift_make_one_due() -> None:
    assert due(Kept(100, 0.0), 149, never) is None
    assert due(Kept(100, 0.0), 150, never) == "captures grew from 100 to 150"
    assert due(Kept(4, 0.0), 11, never) is None
    assert due(Kept(4, 0.0), 12, never) is not None
    assert due(Kept(100, 0.5), 107, never) is None
    assert due(Kept(100, 0.5), 108, never) == "50% of the chunks have drifted from what was learnt"


def test_where_one_is_cheap_a_little_growth_makes_one_due() -> None:
    assert due(Kept(100, 0.0), 105, always) is None
    assert due(Kept(100, 0.0), 106, always) == CHEAP
    assert due(Kept(100, 0.0), 106, never) is None
    assert due(Kept(10, 0.0), 11, always) == CHEAP  # every capture, of a few


def test_a_window_is_bounded_in_captures_and_bytes() -> None:
    assert window_length(1) == MAX_WINDOW
    assert window_length(10**6) == 33
    assert window_length(10**9) == 32


def test_few_chunks_are_all_sampled() -> None:
    chunks = [(k,) for k in range(SAMPLE_CHUNKS)]
    assert sampled_chunks(chunks, lambda _: False) == chunks  # type: ignore[arg-type]


def test_many_chunks_are_sampled_where_there_are_values() -> None:
    chunks: list[tuple[int, ...]] = [(k,) for k in range(1000)]
    found = sampled_chunks(chunks, lambda index: index[0] % 2 == 1)
    assert len(found) == SAMPLE_CHUNKS
    assert all(k % 2 == 1 for (k,) in found)
    spread = sampled_chunks(chunks, lambda _: True)
    assert max(np.diff(sorted(k for (k,) in spread))) < 100
    assert len(sampled_chunks(chunks, lambda _: False)) == SAMPLE_CHUNKS


@pytest.mark.parametrize("cells", [1, 5, SAMPLE_CELLS, 65, 10**6])
def test_cells_are_spread_over_a_chunk(cells: int) -> None:
    found = sampled_cells(cells)
    assert len(found) == min(cells, SAMPLE_CELLS)
    assert (found[0], found[-1]) == (0, cells - 1)
