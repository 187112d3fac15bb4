"""What must hold for a shadow: the suite over the table of its predicted chunks."""

import numpy as np
import pandas as pd

from gnomon.storage.checks.shadows import SHADOW_CHECKS
from gnomon.validations.context import Context
from gnomon.validations.expectations import Validation
from gnomon.validations.suite import validate
from gnomon.validations.table import PREDICTION, checked

__all__ = ["validate_prediction"]


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
    has_uncertainty = np.isfinite(table["standard_error_minimum"]) & np.isfinite(
        table["confidence"]
    )
    has_uncertainty &= np.isfinite(table["standard_error_mean"])
    # A variable that never changed has no unit of change; its standard error is then the only one.
    usual = table["usual_change"].where(
        table["usual_change"] != 0, table["standard_error_mean"].abs()
    )
    derived = table.assign(
        uncertainty_missing=~has_uncertainty & table["change_rms"].notna(),
        change_ratio=table["change_rms"] / usual,
    )
    return validate("prediction", derived, SHADOW_CHECKS, context)
