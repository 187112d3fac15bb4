"""Replacements: what a revision is, by how it differs from what was captured before.

Cells that had no value and have one now complete a state.  Preliminary data that is replaced by
final data changes whole states, and by little: that is normal, and told.  Any other change of what
was captured is critical, unless the repository has a rule that such young states may be revised.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.repository import Repository
from gnomon.tasks.capturing.plan import CapturePlan

__all__ = ["COLUMNS", "difference", "settle"]

COLUMNS = ("small", "completed")
"""What a worker tells of each chunk that was captured before."""
SMALL = 0.5
"""A replacement differs by less than this share of the change since the capture before."""
WHOLE = 0.9
"""It concerns at least this share of the chunks that have values."""


def difference(
    before: NDArray[np.float64], now: NDArray[np.float64], earlier: NDArray[np.float64] | None
) -> dict[str, float]:
    """Return how two versions of a chunk differ.

    The versions, and the earlier state, are float64 of one shape in the variable's units, NaN where
    missing.  Each answer is 0 or 1.

    ``small`` tells whether no cell was lost, and those that have a value in both differ by little
    beside the change from the earlier state to the first version: the second one's change has the
    difference in it.  ``completed`` tells whether those are the same, and none was lost.
    """
    had_value = ~np.isnan(before)
    both = had_value & ~np.isnan(now)
    lost = bool((had_value & ~both).any())
    small = False
    if earlier is not None and not lost:
        small = _rms(now - before) <= SMALL * _rms(before - earlier)
    return {
        "small": float(small),
        "completed": float(np.array_equal(now[both], before[both]) and not lost),
    }


def _rms(departures: NDArray[np.float64]) -> float:
    """Return the root mean square of what is known; NaN if nothing is."""
    finite = departures[~np.isnan(departures)]
    with np.errstate(invalid="ignore", over="ignore"):
        return float(np.sqrt(np.mean(finite**2))) if finite.size else np.nan


def settle(
    repository: Repository, plan: CapturePlan, statistics: dict[str, dict[str, NDArray[Any]]]
) -> None:
    """Tell completions, replacements and revisions apart, in place.

    Only critical revisions stay in the column ``revised``; ``replaced`` is added, and `COLUMNS`
    are taken out.
    """
    forecast = {v.name for v in repository.settings.variables if v.forecast}
    for name, columns in statistics.items():
        small, completed = (columns.pop(column) == 1 for column in COLUMNS)
        columns["revised"] &= ~completed if name in forecast else True
        columns["replaced"] = np.zeros(columns["revised"].shape, bool)
        columns["small"] = small
    for k, revised in enumerate(plan.revises):
        if revised is None:
            continue
        if repository.state.may_be_revised(plan.instants[k]) or _is_whole(statistics, forecast, k):
            for columns in statistics.values():
                columns["replaced"][k] = columns["revised"][k]
                columns["revised"][k] = False
    for columns in statistics.values():
        del columns["small"]


def _is_whole(statistics: dict[str, dict[str, NDArray[Any]]], forecast: set[str], k: int) -> bool:
    """Tell whether a state was replaced as a whole, and by values that hardly differ."""
    whole = False
    for name in forecast:
        columns = {column: values[k] for column, values in statistics[name].items()}
        revised = columns["revised"].astype(bool)
        if not revised.any():
            continue
        if not columns["small"][revised].all():
            return False
        with_values = columns["valid_count"] > 0
        if (columns["replayed"].astype(bool) & with_values & (columns["constant"] != 1)).any():
            return False  # what was captured of another time is no final data of this one
        whole = whole or bool(revised[with_values].mean() >= WHOLE and revised.size > 1)
    return whole
