"""Replacements: what a revision is, by how it differs from what was captured before.

Cells that had no value and have one now complete a state.  Preliminary data that is replaced by
final data changes whole states, and by little: that is normal, and told.  Any other change of what
was captured is critical, unless the repository has a rule that such young states may be revised.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.repository import Repository
from gnomon.tasks.plan import CapturePlan

__all__ = ["COLUMNS", "difference", "settle"]

COLUMNS = ("revision_rms", "completed")
"""What a worker tells of a chunk that was captured before."""
SMALL = 0.5
"""A replacement differs by less than this share of the change since the capture before."""
WHOLE = 0.9
"""It concerns at least this share of the chunks that have values."""


def difference(before: NDArray[np.float64], now: NDArray[np.float64]) -> dict[str, float]:
    """Return how two versions of a chunk differ, values in the variable's units.

    ``revision_rms`` is over the cells that have a value in both, NaN where there are none;
    ``completed`` whether those are the same, and none was lost.
    """
    known = ~np.isnan(before)
    both = known & ~np.isnan(now)
    lost = bool((known & ~both).any())
    with np.errstate(invalid="ignore", over="ignore"):
        departure = now[both] - before[both]
        rms = float(np.sqrt(np.mean(departure**2))) if both.any() else np.nan
    same = np.array_equal(now[both], before[both])
    return {"revision_rms": np.inf if lost else rms, "completed": float(same and not lost)}


def settle(
    repository: Repository, plan: CapturePlan, statistics: dict[str, dict[str, NDArray[Any]]]
) -> None:
    """Tell completions, replacements and revisions apart, in place.

    Of the column ``revised`` only what is critical is left; ``replaced`` is added, and `COLUMNS`
    are taken out.
    """
    forecast = {v.name for v in repository.settings.variables if v.forecast}
    for name, columns in statistics.items():
        difference_rms, completed = (columns.pop(column) for column in COLUMNS)
        columns["revised"] &= ~(completed == 1) if name in forecast else True
        columns["replaced"] = np.zeros(columns["revised"].shape, bool)
        columns["small"] = difference_rms <= SMALL * columns["change_rms"]
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
        whole = whole or bool(revised[with_values].mean() >= WHOLE and revised.size > 1)
    return whole
