"""Runs a suite of checks over a table with Great Expectations, and returns plain values.

The only module that talks to the Great Expectations engine; what it returns is our own.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gnomon.storage.checks.check import CRITICAL, Check
from gnomon.storage.errors import GnomonError
from gnomon.validations import lean
from gnomon.validations.context import Context, open_context, writing_docs
from gnomon.validations.expectations import Finding, Validation
from gnomon.validations.table import row_labels

if TYPE_CHECKING:
    from great_expectations.checkpoint.checkpoint import Checkpoint
    from great_expectations.core import ExpectationSuite, ExpectationValidationResult
    from great_expectations.data_context.data_context.abstract_data_context import (
        AbstractDataContext,
    )
    from great_expectations.expectations.expectation import Expectation as Rule

__all__ = ["validate"]

_RESULT_FORMAT = {
    # COMPLETE lists the labels of all failing rows; a named index column would list a
    # dictionary for each, which takes 20 s instead of 2 s when all of 100,000 rows fail
    "result_format": "COMPLETE",
    "return_unexpected_index_query": False,
    "partial_unexpected_count": 20,
}


def validate(
    name: str,
    frame: pd.DataFrame,
    checks: Sequence[Check],
    context: Context | None = None,
) -> Validation:
    """Return what violates the checks, from one validation of the whole table.

    Parameters
    ----------
    name : str
        Name of the suite, as it stands in the Data Docs.
    frame : DataFrame
        A checked table with the derived columns that the checks name.
    checks : sequence of Check
        The suite.
    context : Context, optional
        Where to run; default: in memory.

    Raises
    ------
    GnomonError
        A check could not be evaluated.
    InvalidInput
        The Data Docs cannot be written.
    """
    if context is None:
        context = open_context()
    labels = pd.Index(row_labels(frame), dtype=object)
    failing = _run(name, frame.set_axis(labels, axis=0), checks, context)
    findings = tuple(
        finding
        for check in checks
        if failing[check.name]
        for finding in _findings(
            check, frame, np.sort(labels.get_indexer(pd.Index(failing[check.name], dtype=object)))
        )
    )
    success = all(finding.severity != CRITICAL for finding in findings)
    return Validation(success, findings, len(frame), len(checks))


def _findings(check: Check, frame: pd.DataFrame, rows: NDArray[np.intp]) -> list[Finding]:
    failed = frame.iloc[rows]
    places = zip(
        failed["variable"].tolist(),
        failed["valid_time"].tolist(),
        failed["chunk"].tolist(),
        failed["lead"].tolist() if "lead" in failed.columns else [None] * len(failed),
        failed[check.column].tolist(),
        strict=True,
    )
    return [
        Finding(
            variable=variable,
            valid_time=valid_time,
            chunk=chunk,
            lead=lead,
            expectation=check.name,
            severity=check.severity,
            observed=observed,
            expected=check.expected,
            reason=check.reason,
        )
        for variable, valid_time, chunk, lead, observed in places
    ]


def _run(
    name: str, frame: pd.DataFrame, checks: Sequence[Check], context: Context
) -> dict[str, list[str]]:
    """Return the labels of the rows that fail, by the name of the check."""
    rules = [_rule(check) for check in checks]
    if context.data_context is None:
        results = lean.evaluate(frame, rules, _RESULT_FORMAT)
    else:
        results = _evaluate(name, frame, rules, context, context.data_context)
    failing: dict[str, list[str]] = {}
    for result in results:
        config: Any = result.expectation_config
        details: dict[str, Any] = result.result
        if "unexpected_count" not in details:
            raise GnomonError(
                f"the expectation {config.meta['name']} could not be evaluated: "
                f"{result.exception_info}; this is a defect of gnomon, report it"
            )
        failing[config.meta["name"]] = details.get("unexpected_index_list") or []
    return failing


def _evaluate(
    name: str,
    frame: pd.DataFrame,
    rules: "Sequence[Rule]",
    context: Context,
    owner: "AbstractDataContext",
) -> "list[ExpectationValidationResult]":
    from great_expectations.core import ExpectationSuite
    from great_expectations.core.run_identifier import RunIdentifier

    suite = ExpectationSuite(name=name, expectations=[*rules])
    checkpoint = _checkpoint(name, suite, owner, has_pages=context.folder is not None)
    # The table is in memory: nothing but the pages of the Data Docs is written or read here.
    with writing_docs(context.folder):
        outcome = checkpoint.run(
            batch_parameters={"dataframe": frame}, run_id=RunIdentifier(run_name=context.run_name)
        )
    return [result for found in outcome.run_results.values() for result in found.results]


def _checkpoint(
    name: str, suite: "ExpectationSuite", owner: "AbstractDataContext", *, has_pages: bool
) -> "Checkpoint":
    from great_expectations import Checkpoint, ValidationDefinition
    from great_expectations.checkpoint.actions import UpdateDataDocsAction

    source = owner.data_sources.add_or_update_pandas("chunk-statistics")
    table = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("table")
    definition = owner.validation_definitions.add_or_update(
        ValidationDefinition(name=name, data=table, suite=owner.suites.add_or_update(suite))
    )
    return owner.checkpoints.add_or_update(
        Checkpoint(
            name=name,
            validation_definitions=[definition],
            actions=[UpdateDataDocsAction(name="data docs")] if has_pages else [],
            result_format=_RESULT_FORMAT,
        )
    )


def _rule(check: Check) -> "Rule":
    from great_expectations.expectations.core.expect_column_values_to_be_between import (
        ExpectColumnValuesToBeBetween,
    )
    from great_expectations.expectations.core.expect_column_values_to_be_in_set import (
        ExpectColumnValuesToBeInSet,
    )
    from great_expectations.expectations.metadata_types import FailureSeverity

    severity = FailureSeverity(check.severity)
    meta = {"name": check.name}
    if check.flag is not None:
        return ExpectColumnValuesToBeInSet(
            column=check.column,
            value_set=[check.flag],
            severity=severity,
            description=check.reason,
            meta=meta,
        )
    return ExpectColumnValuesToBeBetween(
        column=check.column,
        min_value=check.minimum,
        max_value=check.maximum,
        strict_min=check.strict,
        severity=severity,
        description=check.reason,
        meta=meta,
    )
