"""Tables in which nothing is wrong, and ways to spoil one row."""

from typing import Any

import numpy as np
import pandas as pd

from gnomon.storage.checks.captures import CAPTURE_CHECKS
from gnomon.validations.table import actual_frame, actual_schema, prediction_frame

TIME = "2026-01-01T00:00:00"


def sound_actual(rows: int = 6) -> pd.DataFrame:
    """Return the table of a capture of one variable on a grid three chunks wide."""
    zeros, ones, no = np.zeros(rows, np.int64), np.ones(rows), np.zeros(rows, bool)
    columns: dict[str, Any] = {
        "variable": ["t2m"] * rows,
        "valid_time": [TIME] * rows,
        "chunk": [f"{row // 3}/{row % 3}" for row in range(rows)],
        "cells": zeros + 100,
        "valid_count": zeros + 90,
        "missing_change": ones * 0.01,
        "infinite_count": zeros,
        "minimum": ones * 5,
        "maximum": ones * 25,
        "mean": ones * 15,
        "spread": ones * 4,
        "constant": no,
        "was_constant": no,
        "unchanged": no,
        "replayed": no,
        "revised": no,
        "estimated": no,
        "replaced": no,
        "change_rms": ones,
        "departure_mean": ones * 0.1,
        "departure_rms": ones * 0.5,
        "departure_maximum": ones * 2,
        "standardised_rms": ones,
        "p_value": np.linspace(0.2, 0.9, rows),
        "metadata_changed": no,
        "below_minimum": zeros,
        "above_maximum": zeros,
    }
    # A check that is new is satisfied, until a test spoils a row.
    sound = {check.column: check.maximum or check.minimum or 0.0 for check in CAPTURE_CHECKS}
    for statistic in actual_schema(CAPTURE_CHECKS):
        columns.setdefault(statistic.name, ones * sound.get(statistic.name, 0.0))
    return actual_frame(columns)


def sound_prediction(rows: int = 6) -> pd.DataFrame:
    """Return the table of a shadow of one variable, two leads of three chunks."""
    zeros, ones = np.zeros(rows, np.int64), np.ones(rows)
    columns: dict[str, Any] = {
        "variable": ["t2m"] * rows,
        "lead": [1 + row // 3 for row in range(rows)],
        "valid_time": [f"2026-01-01T0{1 + row // 3}:00:00" for row in range(rows)],
        "chunk": [str(row % 3) for row in range(rows)],
        "cells": zeros + 100,
        "missing": zeros,
        "broken": zeros,
        "out_of_bounds": zeros,
        "standard_error_minimum": ones * 0.1,
        "standard_error_mean": ones * 0.5,
        "confidence": ones * 0.9,
        "change_rms": ones,
        "usual_change": ones,
    }
    return prediction_frame(columns)


def spoiled(frame: pd.DataFrame, row: int, values: dict[str, Any]) -> pd.DataFrame:
    """Return a copy of a table with other values in one row."""
    changed = frame.copy()
    for column, value in values.items():
        changed.loc[row, column] = value
    return changed
