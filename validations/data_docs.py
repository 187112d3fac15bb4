"""Validations that leave a page each in a folder of Data Docs, for people to read.

The suites and the way they run are those of a validation without pages; only the context differs.
The pages of Great Expectations take their style sheets from the internet: without it they are
plain, but complete.
"""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from gnomon.validations.actual import ALPHA, validate_actual
from gnomon.validations.context import open_context
from gnomon.validations.expectations import Validation
from gnomon.validations.prediction import validate_prediction

__all__ = ["DocumentedRun", "index_page", "validate_with_docs"]


@dataclass(frozen=True, slots=True)
class DocumentedRun:
    """The validations of one update, and where to read about them."""

    index: Path
    """Page that lists the runs, newest first."""
    actual: Validation
    """What was found in the capture."""
    prediction: Validation | None
    """What was found in the shadow; None if none was given."""


def index_page(folder: Path) -> Path:
    """Return the page of a folder of Data Docs that lists the runs."""
    return folder.absolute() / "index.html"


def validate_with_docs(
    folder: Path,
    actual: pd.DataFrame,
    prediction: pd.DataFrame | None = None,
    *,
    alpha: float = ALPHA,
    run_name: str | None = None,
) -> DocumentedRun:
    """Validate the tables of an update and add a page for each to the Data Docs in `folder`.

    Parameters
    ----------
    folder : Path
        Local folder; made if it does not exist, added to if it does.
    actual : DataFrame
        Table of the capture.
    prediction : DataFrame, optional
        Table of the shadow.
    alpha : float
        Rate of false discoveries among the chunks that are called implausible.
    run_name : str, optional
        Names the run in the pages, say by the capture that it checks.

    Raises
    ------
    InvalidInput
        A frame is not such a table.
    """
    context = open_context(folder, run_name=run_name)
    found = validate_actual(actual, alpha=alpha, context=context)
    shadow = None if prediction is None else validate_prediction(prediction, context=context)
    return DocumentedRun(index_page(folder), found, shadow)
