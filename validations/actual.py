"""What must hold for a capture: the suite over the table of its chunks."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from gnomon.storage.checks.captures import ALPHA, CAPTURE_CHECKS
from gnomon.storage.checks.check import Check
from gnomon.validations.context import Context
from gnomon.validations.expectations import Validation
from gnomon.validations.false_discovery import q_values
from gnomon.validations.suite import validate
from gnomon.validations.table import actual_schema, checked

__all__ = ["ALPHA", "actual_checks", "implausible", "validate_actual"]

NEGLIGIBLE = 1e-6
"""Departures up to this fraction of the spread of the values are not worth an alarm."""


def actual_checks(
    alpha: float = ALPHA, checks: Sequence[Check] = CAPTURE_CHECKS
) -> tuple[Check, ...]:
    """Return the suite for captures, with the rate of false discoveries that was asked for."""
    return tuple(replace(c, minimum=alpha) if c.name == "plausible" else c for c in checks)


def validate_actual(
    frame: pd.DataFrame,
    *,
    alpha: float = ALPHA,
    checks: Sequence[Check] = CAPTURE_CHECKS,
    context: Context | None = None,
) -> Validation:
    """Return what is wrong with a capture, from one validation of all its chunks.

    Parameters
    ----------
    frame : DataFrame
        Columns as in :func:`gnomon.validations.table.actual_schema`; rows may be of several
        variables and times, which share the control of false discoveries.
    alpha : float
        Rate of false discoveries among the chunks that are called implausible.
    checks : sequence of Check
        The suite; the frame has a column for the statistic of each.
    context : Context, optional
        Where to run; default: in memory, without Data Docs.

    Raises
    ------
    InvalidInput
        The frame is not such a table.

    Notes
    -----
    The q-value is that of Benjamini and Hochberg over all rows with a p-value.  Where the
    forecast was nearly exact before (a constant field, say) its standard error is tiny, and
    departures that mean nothing get tiny p-values.  Such a p-value is set to 1 before the
    q-values are computed: that keeps it valid, so the rate stays controlled, and it cannot pull
    other chunks over the threshold.
    """
    table = checked(frame, actual_schema(checks))
    p_values = np.where(_negligible(table), 1.0, table["p_value"].to_numpy())
    derived = table.assign(
        # No p-value, no test: as 1 it would count in m, and make all others less significant.
        q_value=q_values(np.where(np.isnan(table["p_value"]), np.nan, p_values)),
        newly_constant=table["constant"] & ~table["was_constant"],
        # One value in all cells, no rain say, comes back by itself, and so does none at all.
        replayed=table["replayed"] & ~table["constant"] & (table["valid_count"] > 0),
        stalled=table["unchanged"] & (table["valid_count"] > 0) & ~table["constant"],
    )
    return validate("actual", derived, actual_checks(alpha, checks), context)


def implausible(
    p_values: ArrayLike,
    departures: ArrayLike,
    spread: ArrayLike,
    size: ArrayLike,
    *,
    alpha: float = ALPHA,
) -> NDArray[np.bool_]:
    """Return which chunks of one variable and capture `validate_actual` would call implausible.

    Parameters
    ----------
    p_values, departures : array_like of float, shape (n,)
        Of the departures, and their root mean square; NaN where there is no forecast.
    spread, size : array_like of float, shape (n,)
        Standard deviation of the values, and the largest absolute one; NaN where there are none.
    """
    spread = np.nan_to_num(np.asarray(spread, np.float64))
    overall = np.full(spread.shape, np.sqrt(np.mean(spread**2)) if spread.size else 0.0)
    small = np.asarray(departures) <= _floor(spread, overall, np.nan_to_num(np.asarray(size)))
    p = np.asarray(p_values, np.float64)
    # A NaN compares false: what was not tested is not implausible.
    return np.asarray(q_values(np.where(small & ~np.isnan(p), 1.0, p)) < alpha)


def _negligible(table: pd.DataFrame) -> NDArray[np.bool_]:
    """Return which departures are too small to matter, whatever their p-value."""
    spread = table["spread"].fillna(0.0)
    # Per variable, as variables have other units; their p-values, which have none, go together.
    overall = np.sqrt((spread**2).groupby(table["variable"]).transform("mean"))
    size = table[["minimum", "maximum"]].abs().max(axis=1).fillna(0.0)
    floor = _floor(spread.to_numpy(), overall.to_numpy(), size.to_numpy())
    negligible: NDArray[np.bool_] = table["departure_rms"].to_numpy() <= floor
    return negligible


def _floor(
    spread: NDArray[np.float64], overall: NDArray[np.float64], size: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return departures that are too small to matter.

    The measure is the spread of the chunk or of all chunks of the variable, whichever is larger
    (a constant chunk has none of its own), or the rounding of single precision.
    """
    rounding = float(np.finfo(np.float32).eps) * size
    return np.maximum(NEGLIGIBLE * np.maximum(spread, overall), rounding)
