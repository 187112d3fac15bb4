"""What an expectation is, and what a validation found: plain values that pickle and go to disk."""

from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

__all__ = ["Expectation", "Finding", "Severity", "Validation", "suspect_chunks"]

Severity = Literal["critical", "warning"]


@dataclass(frozen=True, slots=True)
class Expectation:
    """What every row of a table must satisfy in one column; NaN satisfies everything."""

    name: str
    """The claim in one word, as in ``not_replayed``."""
    column: str
    """Column it is about, of the table or derived from it."""
    severity: Severity
    """``critical`` makes the chunk suspect, ``warning`` only tells."""
    reason: str
    """Why a violation matters, in plain words."""
    minimum: float | None = None
    """Smallest allowed value."""
    maximum: float | None = None
    """Largest allowed value."""
    strict: bool = False
    """The minimum itself is not allowed."""
    flag: bool | None = None
    """What a column of booleans must say; then minimum and maximum do not count."""

    @property
    def expected(self) -> str:
        """What is allowed, in words."""
        if self.flag is not None:
            return "true" if self.flag else "false"
        if self.maximum is None:
            return f"{'more than' if self.strict else 'at least'} {self.minimum:g}"
        if self.minimum is None:
            return f"at most {self.maximum:g}"
        return f"{self.minimum:g} to {self.maximum:g}"


@dataclass(frozen=True, slots=True)
class Finding:
    """One row that violates one expectation."""

    variable: str
    """Name of the variable."""
    valid_time: str
    """Time the state is of, ISO 8601."""
    chunk: str
    """Place in the chunk grid, as in ``0/3``."""
    lead: int | None
    """Leads ahead of the reference time; None for a capture."""
    expectation: str
    """Name of the violated expectation."""
    severity: Severity
    """Of the expectation."""
    observed: float | bool
    """Value found in the column of the expectation."""
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
        if finding.severity == "critical" and finding.lead is None
    }
