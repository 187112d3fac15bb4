"""What must hold for a shadow: the suite over the table of its predicted chunks."""

import numpy as np
import pandas as pd

from gnomon.validations.context import Context
from gnomon.validations.expectations import Expectation, Validation
from gnomon.validations.suite import validate
from gnomon.validations.table import PREDICTION, checked

__all__ = ["PREDICTION_EXPECTATIONS", "validate_prediction"]


PREDICTION_EXPECTATIONS = (
    Expectation(
        "finite",
        "broken",
        "critical",
        "Predictions could not be computed from what was learnt.",
        maximum=0,
    ),
    Expectation(
        "within_bounds",
        "out_of_bounds",
        "critical",
        "Predictions are outside the bounds of the variable.",
        maximum=0,
    ),
    Expectation(
        "uncertain",
        "standard_error_minimum",
        "critical",
        "A prediction without error claims to be the truth.",
        minimum=0,
        strict=True,
    ),
    Expectation(
        "uncertainty_known",
        "uncertainty_missing",
        "critical",
        "Something was predicted, but its standard error or confidence is missing or infinite.",
        flag=False,
    ),
    Expectation(
        "confidence_is_probability",
        "confidence",
        "critical",
        "The confidence is not a probability.",
        minimum=0,
        maximum=1,
    ),
    Expectation(
        "complete",
        "missing",
        "warning",
        "Cells that have values now are not predicted: they were seen too seldom.",
        maximum=0,
    ),
    Expectation(
        "usual_change",
        "change_ratio",
        "warning",
        "The predicted change is more than ten times the usual one: the forecast may run away.",
        maximum=10,
    ),
)
"""The suite for shadows, the critical expectations first.

A chunk that violates a critical one is left out of the shadow; a warning only tells."""


def validate_prediction(frame: pd.DataFrame, *, context: Context | None = None) -> Validation:
    """Return what is wrong with a shadow, from one validation of all its chunks.

    Parameters
    ----------
    frame : DataFrame
        Columns as in :data:`gnomon.validations.table.PREDICTION`.
    context : Context, optional
        Where to run; default: in memory, without Data Docs.

    Raises
    ------
    InvalidInput
        The frame is not such a table.

    Notes
    -----
    Where the usual change is zero, the predicted one is compared with its standard error.
    """
    table = checked(frame, PREDICTION)
    known = np.isfinite(table["standard_error_minimum"]) & np.isfinite(table["confidence"])
    known &= np.isfinite(table["standard_error_mean"])
    usual = table["usual_change"].where(
        table["usual_change"] != 0, table["standard_error_mean"].abs()
    )
    derived = table.assign(
        uncertainty_missing=~known & table["change_rms"].notna(),
        change_ratio=table["change_rms"] / usual,
    )
    return validate("prediction", derived, PREDICTION_EXPECTATIONS, context)
