"""The two tables of chunk statistics that are checked: what each column holds, and their building.

A table is a pandas frame with exactly the columns of :data:`ACTUAL` or :data:`PREDICTION`.  How
the statistics are computed is none of this module's business.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from gnomon.storage.errors import InvalidInput

__all__ = [
    "ACTUAL",
    "PREDICTION",
    "Column",
    "actual_frame",
    "checked",
    "prediction_frame",
    "row_labels",
]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    name: str
    """Name in the frame."""
    dtype: str
    """``str``, ``int64``, ``float64`` or ``bool``."""
    unit: str
    """Unit of the values; ``variable`` for the unit of the row's variable, ``1`` for none."""
    meaning: str
    """What a value says, and when it is NaN."""


_PLACE = (
    Column("variable", "str", "1", "name of the variable"),
    Column("valid_time", "str", "1", "time the state is of, ISO 8601"),
    Column("chunk", "str", "1", "place in the chunk grid, as in '0/3'; '' for a single number"),
)

ACTUAL: tuple[Column, ...] = (
    *_PLACE,
    Column("cells", "int64", "cells", "cells of the chunk"),
    Column("valid_count", "int64", "cells", "finite cells"),
    Column(
        "missing_change",
        "float64",
        "1",
        "values fewer than in the last trusted capture of the chunk, as a fraction of those; "
        "NaN if there is none",
    ),
    Column(
        "infinite_count",
        "int64",
        "cells",
        "infinite cells that were not infinite in the last trusted capture of the chunk",
    ),
    Column("minimum", "float64", "variable", "smallest finite value; NaN if there is none"),
    Column("maximum", "float64", "variable", "largest finite value; NaN if there is none"),
    Column("mean", "float64", "variable", "mean of the finite values; NaN if there is none"),
    Column("spread", "float64", "variable", "their standard deviation; NaN if there is none"),
    Column("constant", "bool", "1", "more than one valid cell, and all are equal"),
    Column("was_constant", "bool", "1", "the last trusted capture of the chunk was constant"),
    Column("unchanged", "bool", "1", "a chunk that changes has the digest of the capture before"),
    Column("replayed", "bool", "1", "a chunk that changes has the digest of an older capture"),
    Column("revised", "bool", "1", "the source changed a trusted chunk after it was captured"),
    Column("replaced", "bool", "1", "the same, and the whole state by little, or by a rule"),
    Column("change_rms", "float64", "variable", "against the last trusted capture; NaN if none"),
    Column("departure_mean", "float64", "variable", "captured minus predicted; NaN: no forecast"),
    Column("departure_rms", "float64", "variable", "root mean square departure; or NaN"),
    Column("departure_maximum", "float64", "variable", "largest absolute departure; or NaN"),
    Column("standardised_rms", "float64", "1", "of departures over standard errors; or NaN"),
    Column("p_value", "float64", "1", "chance of such departures in sound data; or NaN"),
    Column("metadata_changed", "bool", "1", "units or the like differ from those last accepted"),
    Column("below_minimum", "int64", "cells", "cells under the variable's declared valid range"),
    Column("above_maximum", "int64", "cells", "cells over the variable's declared valid range"),
)
"""Columns of the table of a capture, one row per variable, valid time and chunk."""

PREDICTION: tuple[Column, ...] = (
    _PLACE[0],
    Column("lead", "int64", "steps", "leads ahead of the reference time, from 1"),
    *_PLACE[1:],
    Column("cells", "int64", "cells", "cells of the chunk"),
    Column(
        "missing",
        "int64",
        "cells",
        "cells that the last capture has and that were not predicted",
    ),
    Column("broken", "int64", "cells", "predictions that are infinite, or too large to be true"),
    Column("out_of_bounds", "int64", "cells", "predictions outside the variable's bounds"),
    Column(
        "standard_error_minimum", "float64", "variable", "smallest; NaN if nothing was predicted"
    ),
    Column("standard_error_mean", "float64", "variable", "mean; NaN if nothing was predicted"),
    Column(
        "confidence",
        "float64",
        "1",
        "probability that the chunk is within its tolerance; NaN if nothing was predicted",
    ),
    Column(
        "change_rms",
        "float64",
        "variable",
        "predicted change against the last capture; NaN if nothing was predicted",
    ),
    Column(
        "usual_change",
        "float64",
        "variable",
        "root mean square of the observed changes over that lead; NaN if too few were seen",
    ),
)
"""Columns of the table of a shadow, one row per variable, lead and chunk."""

_CHUNK = r"(?:\d+(?:/\d+)*)?"

_KINDS = {"str": "UOT", "int64": "iu", "float64": "fiu", "bool": "b"}


def actual_frame(columns: Mapping[str, ArrayLike]) -> pd.DataFrame:
    """Return the table of a capture from its columns, in the order of :data:`ACTUAL`.

    Raises
    ------
    InvalidInput
        A column is missing, unknown, not one-dimensional, of another length or kind, or two rows
        are of the same place and time.
    """
    return _frame(columns, ACTUAL)


def prediction_frame(columns: Mapping[str, ArrayLike]) -> pd.DataFrame:
    """Return the table of a shadow from its columns, in the order of :data:`PREDICTION`.

    Raises
    ------
    InvalidInput
        As for :func:`actual_frame`.
    """
    return _frame(columns, PREDICTION)


def checked(frame: pd.DataFrame, schema: Sequence[Column]) -> pd.DataFrame:
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


def _frame(columns: Mapping[str, ArrayLike], schema: Sequence[Column]) -> pd.DataFrame:
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


def _series(values: ArrayLike, column: Column) -> pd.Series:
    array = np.asarray(values)
    if array.ndim != 1:
        raise InvalidInput(f"column {column.name} has {array.ndim} dimensions, expected 1")
    if array.size and array.dtype.kind not in _KINDS[column.dtype]:
        raise InvalidInput(f"column {column.name} holds {array.dtype}, expected {column.dtype}")
    if column.dtype == "str" and not all(isinstance(value, str) for value in array.tolist()):
        raise InvalidInput(f"column {column.name} holds values that are not text")
    return pd.Series(array, dtype=column.dtype, name=column.name)
