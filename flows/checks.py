"""The checks of a cycle: Great Expectations on what was captured and on what is predicted.

They take tables of chunk statistics and return plain values, as the other steps do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gnomon.flows.settings import Settings
from gnomon.storage.checks.captures import CAPTURE_CHECKS
from gnomon.storage.checks.check import CRITICAL, Statistic
from gnomon.storage.repository import Repository
from gnomon.storage.values.grid import Index
from gnomon.storage.values.times import format_instant

if TYPE_CHECKING:
    from gnomon.tasks.capturing.capture import Capture
    from gnomon.tasks.materialize import Shadowed

__all__ = ["Judgement", "check_actual", "check_prediction"]

KEPT_FINDINGS = 20
"""Findings that a log record keeps in full."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a check found, as plain values."""

    suspect: tuple[tuple[str, int, Index], ...]
    """Refused chunks: variable, position in the plan or lead, chunk index."""
    incidents: tuple[dict[str, Any], ...]
    """Incidents as JSON."""
    findings: tuple[dict[str, Any], ...]
    """Findings as JSON, the first of them."""
    rows: int
    """Chunks that were checked."""

    def to_json(self) -> dict[str, Any]:
        """Return what a log record keeps."""
        return {
            "rows": self.rows,
            "findings": list(self.findings),
            "incidents": list(self.incidents),
        }


def check_actual(url: str, capture: "Capture", settings: Settings) -> Judgement:
    """Validate the captured chunks, and say which are suspect."""
    from gnomon.validations.actual import validate_actual
    from gnomon.validations.context import open_context
    from gnomon.validations.expectations import suspect_chunks
    from gnomon.validations.incidents import group_incidents
    from gnomon.validations.table import actual_frame, actual_schema

    repository = Repository.recall(url, at=capture.plan.sequence)
    calendar = repository.settings.calendar
    times = [format_instant(i, calendar) for i in capture.plan.instants]
    checks = (*CAPTURE_CHECKS, *capture.checks)
    frame = actual_frame(_long(capture.statistics, times, actual_schema(checks)), checks)
    context = open_context(settings.docs, run_name=f"{times[-1]}-capture")
    validation = validate_actual(frame, alpha=settings.alpha, checks=checks, context=context)
    incidents = group_incidents(validation, frame, checks)
    suspect = tuple(
        (variable, times.index(time), tuple(int(n) for n in chunk.split("/") if n))
        for variable, time, chunk in sorted(suspect_chunks(validation))
    )
    return Judgement(
        suspect,
        tuple(i.to_json() for i in incidents),
        tuple(f.to_json() for f in validation.findings[:KEPT_FINDINGS]),
        validation.rows,
    )


def check_prediction(url: str, shadowed: "Shadowed", settings: Settings) -> Judgement:
    """Validate the predicted chunks, and say which must not be kept."""
    from gnomon.validations.context import open_context
    from gnomon.validations.prediction import validate_prediction
    from gnomon.validations.table import PREDICTION, prediction_frame

    calendar = Repository.recall(url, at=shadowed.learnt.sequence).settings.calendar
    times = [format_instant(i, calendar) for i in shadowed.instants]
    frame = prediction_frame(_long(shadowed.statistics, times, PREDICTION))
    reference = format_instant(shadowed.reference, calendar)
    context = open_context(settings.docs, run_name=f"{reference}-shadow")
    validation = validate_prediction(frame, context=context)
    refused = tuple(
        (f.variable, f.lead or 0, tuple(int(n) for n in f.chunk.split("/") if n))
        for f in validation.findings
        if f.severity == CRITICAL
    )
    findings = tuple(f.to_json() for f in validation.findings[:KEPT_FINDINGS])
    return Judgement(refused, (), findings, validation.rows)


def _long(
    statistics: dict[str, dict[str, np.ndarray[Any, Any]]],
    times: list[str],
    schema: Sequence[Statistic],
) -> dict[str, Any]:
    """Return the columns of a schema, with one row per variable, time and chunk."""
    parts: dict[str, list[Any]] = {column.name: [] for column in schema}
    for name, columns in statistics.items():
        first = next(iter(columns.values()))
        chunks = ["/".join(map(str, i)) for i in np.ndindex(first.shape[1:])]
        rows = len(chunks)
        labels: dict[str, Any] = {
            "variable": np.full(len(times) * rows, name, dtype=object),
            "valid_time": np.repeat(np.array(times, dtype=object), rows),
            "chunk": np.tile(np.array(chunks, dtype=object), len(times)),
            "lead": np.repeat(np.arange(1, len(times) + 1), rows),
        }
        for column, values in parts.items():
            values.append(np.asarray((labels | columns)[column]).ravel())
    dtypes = {column.name: object if column.dtype == "str" else column.dtype for column in schema}
    return {c: np.concatenate(v).astype(dtypes[c]) for c, v in parts.items()}
