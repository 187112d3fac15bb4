"""What a validation found: plain values that pickle and go to disk."""

from dataclasses import dataclass
from math import isfinite
from typing import Any

from gnomon.storage.checks.check import CRITICAL, Severity

__all__ = ["Finding", "Severity", "Validation", "suspect_chunks"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One row that violates one check, an expectation of Great Expectations."""

    variable: str
    """Name of the variable."""
    valid_time: str
    """Time the state is of, ISO 8601."""
    chunk: str
    """Place in the chunk grid, as in ``0/3``."""
    lead: int | None
    """Leads ahead of the reference time; None for a capture."""
    expectation: str
    """Name of the violated check."""
    severity: Severity
    """Of the check."""
    observed: float | bool
    """Value found in the column of the check."""
    expected: str
    """What would have been allowed."""
    reason: str
    """Why it matters, in plain words."""

    def to_json(self) -> dict[str, Any]:
        """Return strict JSON values; infinities become text."""
        observed = self.observed if isfinite(self.observed) else str(self.observed)
        return {
            "variable": self.variable,
            "valid_time": self.valid_time,
            "chunk": self.chunk,
            "lead": self.lead,
            "expectation": self.expectation,
            "severity": self.severity,
            "observed": observed,
            "expected": self.expected,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class Validation:
    """What one validation of one table found."""

    success: bool
    """No critical expectation was violated."""
    findings: tuple[Finding, ...]
    """All violations, in the order of the suite and, within it, of the rows."""
    rows: int
    """Rows of the table."""
    expectations: int
    """Expectations that were evaluated."""


def suspect_chunks(validation: Validation) -> set[tuple[str, str, str]]:
    """Return variable, valid time and chunk of every captured chunk with a critical finding.

    Findings on predictions do not count: they say nothing about what was captured.
    """
    return {
        (finding.variable, finding.valid_time, finding.chunk)
        for finding in validation.findings
        if finding.severity == CRITICAL and finding.lead is None
    }
