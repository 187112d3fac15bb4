"""The built-in checks of shadows, and the statistics that they are about; the cycle fills these.

A chunk that violates a critical one is left out of the shadow; a warning only tells.
"""

from gnomon.storage.checks.check import CRITICAL, WARNING, Check, Statistic

__all__ = ["SHADOW_CHECKS", "SHADOW_STATISTICS"]

_MISSING = Statistic(
    "missing",
    "cells",
    "cells that the last capture has and that were not predicted",
    "int64",
    "forecast",
)
_BROKEN = Statistic(
    "broken",
    "cells",
    "predictions that are infinite, or too large to be true",
    "int64",
    "forecast",
)
_OUT_OF_BOUNDS = Statistic(
    "out_of_bounds", "cells", "predictions outside the variable's bounds", "int64", "forecast"
)
_LEAST_ERROR = Statistic(
    "standard_error_minimum",
    "variable",
    "smallest; NaN if nothing was predicted",
    origin="forecast",
)
_CONFIDENCE = Statistic(
    "confidence",
    "1",
    "probability that the chunk is within its tolerance; NaN if nothing was predicted",
    origin="forecast",
)
_UNCERTAINTY_MISSING = Statistic(
    "uncertainty_missing",
    "1",
    "something was predicted, and its standard error or confidence is not known",
    "bool",
    "table",
)
_CHANGE_RATIO = Statistic(
    "change_ratio",
    "1",
    "predicted change over the usual one, or over the standard error where that is 0; or NaN",
    origin="table",
)

SHADOW_STATISTICS: tuple[Statistic, ...] = (
    Statistic("cells", "cells", "cells of the chunk", "int64"),
    _MISSING,
    _BROKEN,
    _OUT_OF_BOUNDS,
    _LEAST_ERROR,
    Statistic(
        "standard_error_mean", "variable", "mean; NaN if nothing was predicted", origin="forecast"
    ),
    _CONFIDENCE,
    Statistic(
        "change_rms",
        "variable",
        "predicted change against the last capture; NaN if nothing was predicted",
        origin="forecast",
    ),
    Statistic(
        "usual_change",
        "variable",
        "root mean square of the observed changes over that lead; NaN if too few were seen",
        origin="forecast",
    ),
)
"""What the ledger keeps of each predicted chunk, in the order of the table."""

SHADOW_CHECKS: tuple[Check, ...] = (
    Check(
        "finite",
        _BROKEN,
        CRITICAL,
        "Predictions could not be computed from what was learnt.",
        maximum=0,
    ),
    Check(
        "within_bounds",
        _OUT_OF_BOUNDS,
        CRITICAL,
        "Predictions are outside the bounds of the variable.",
        maximum=0,
    ),
    Check(
        "uncertain",
        _LEAST_ERROR,
        CRITICAL,
        "A prediction without error claims to be the truth.",
        minimum=0,
        strict=True,
    ),
    Check(
        "uncertainty_known",
        _UNCERTAINTY_MISSING,
        CRITICAL,
        "Something was predicted, but its standard error or confidence is missing or infinite.",
        flag=False,
    ),
    Check(
        "confidence_is_probability",
        _CONFIDENCE,
        CRITICAL,
        "The confidence is not a probability.",
        minimum=0,
        maximum=1,
    ),
    Check(
        "complete",
        _MISSING,
        WARNING,
        "Cells that have values now are not predicted: they were seen too seldom.",
        maximum=0,
    ),
    Check(
        "usual_change",
        _CHANGE_RATIO,
        WARNING,
        "The predicted change is more than ten times the usual one: the forecast may run away.",
        maximum=10,
    ),
)
"""The checks of shadows, the critical ones first."""
