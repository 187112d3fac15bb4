"""The two tables of chunk statistics that are checked: what each column holds, and their building.

A table is a pandas frame with exactly the columns of :func:`actual_schema` or :data:`PREDICTION`.
How the statistics are computed is none of this module's business.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from gnomon.storage.checks.captures import CAPTURE_CHECKS, CAPTURE_STATISTICS, PLACE
from gnomon.storage.checks.check import Check, Statistic
from gnomon.storage.checks.shadows import SHADOW_STATISTICS
from gnomon.storage.errors import InvalidInput

__all__ = [
    "ACTUAL",
    "PREDICTION",
    "actual_frame",
    "actual_schema",
    "checked",
    "prediction_frame",
    "row_labels",
]


ACTUAL: tuple[Statistic, ...] = (*PLACE, *CAPTURE_STATISTICS)
"""Columns of the table of a capture, one row per variable, valid time and chunk."""

PREDICTION: tuple[Statistic, ...] = (
    PLACE[0],
    Statistic("lead", "steps", "leads ahead of the reference time, from 1", "int64", "place"),
    *PLACE[1:],
    *SHADOW_STATISTICS,
)
"""Columns of the table of a shadow, one row per variable, lead and chunk."""

_CHUNK = r"(?:\d+(?:/\d+)*)?"

_KINDS = {"str": "UOT", "int64": "iu", "float64": "fiu", "bool": "b"}


def actual_schema(checks: Sequence[Check]) -> tuple[Statistic, ...]:
    """Return the columns of the table of a capture: the built-in ones, then others of checks."""
    built_in = {statistic.name for statistic in ACTUAL}
    statistics = {c.column: c.statistic for c in checks if c.statistic.origin != "table"}
    return (*ACTUAL, *(statistic for name, statistic in statistics.items() if name not in built_in))


def actual_frame(
    columns: Mapping[str, ArrayLike], checks: Sequence[Check] = CAPTURE_CHECKS
) -> pd.DataFrame:
    """Return the table of a capture from its columns, in the order of :func:`actual_schema`.

    Raises
    ------
    InvalidInput
        A column is missing, unknown, not one-dimensional, of another length or kind, or two rows
        are of the same place and time.
    """
    return _frame(columns, actual_schema(checks))


def prediction_frame(columns: Mapping[str, ArrayLike]) -> pd.DataFrame:
    """Return the table of a shadow from its columns, in the order of :data:`PREDICTION`.

    Raises
    ------
    InvalidInput
        As for :func:`actual_frame`.
    """
    return _frame(columns, PREDICTION)


def checked(frame: pd.DataFrame, schema: Sequence[Statistic]) -> pd.DataFrame:
    """Return a table with the columns of `schema`, in its order and with its dtypes.

    Raises
    ------
    InvalidInput
        As for :func:`actual_frame`.
    """
    return _frame({str(name): frame[name].to_numpy() for name in frame.columns}, schema)


def row_labels(frame: pd.DataFrame) -> NDArray[np.object_]:
    """Return what names each row in print, as in ``t2m[0/3] 2026-01-01T00:00:00 lead 2``."""
    labels = frame["variable"] + "[" + frame["chunk"] + "] " + frame["valid_time"]
    if "lead" in frame.columns:
        labels = labels + " lead " + frame["lead"].astype("str")
    return labels.to_numpy(dtype=object)


def _frame(columns: Mapping[str, ArrayLike], schema: Sequence[Statistic]) -> pd.DataFrame:
    expected = [column.name for column in schema]
    if missing := [name for name in expected if name not in columns]:
        raise InvalidInput(f"the table has no column {', '.join(missing)}; add it")
    if unknown := [name for name in columns if name not in expected]:
        raise InvalidInput(f"the table has the unknown column {', '.join(unknown)}; leave it out")
    series = {column.name: _series(columns[column.name], column) for column in schema}
    lengths = {name: len(values) for name, values in series.items()}
    if len(set(lengths.values())) > 1:
        raise InvalidInput(f"the columns of a table have one length, found {lengths}")
    frame = pd.DataFrame(series)
    chunks = frame["chunk"].drop_duplicates()
    if (odd := chunks[~chunks.str.fullmatch(_CHUNK)]).size:
        raise InvalidInput(f"the chunk {odd.iloc[0]!r} is no place in a chunk grid, as '0/3' is")
    labels = pd.Series(row_labels(frame))
    if (twice := labels[labels.duplicated()]).size:
        raise InvalidInput(f"two rows of the table are {twice.iloc[0]}; give one row for each")
    return frame


def _series(values: ArrayLike, column: Statistic) -> pd.Series:
    array = np.asarray(values)
    if array.ndim != 1:
        raise InvalidInput(f"column {column.name} has {array.ndim} dimensions, expected 1")
    if array.size and array.dtype.kind not in _KINDS[column.dtype]:
        raise InvalidInput(f"column {column.name} holds {array.dtype}, expected {column.dtype}")
    if column.dtype == "str" and not all(isinstance(value, str) for value in array.tolist()):
        raise InvalidInput(f"column {column.name} holds values that are not text")
    return pd.Series(array, dtype=column.dtype, name=column.name)
