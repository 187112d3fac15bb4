"""Measuring: the statistics of checks that are functions of one chunk, each failing for itself.

A function may be a user's.  If it raises, or does not return a number, its statistic is NaN there
and the reason is noted; the other statistics of the chunk do not suffer.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isinf, nan
from typing import Any

import cloudpickle
import numpy as np

from gnomon.storage.checks.captures import CAPTURE_CHECKS
from gnomon.storage.checks.check import CRITICAL, Check, Chunk, Measure, Statistic, as_number
from gnomon.storage.entrypoints import FOREIGN
from gnomon.storage.redaction import one_line
from gnomon.storage.values.model import Variable

__all__ = ["Checks", "Measuring", "reason_of"]


@dataclass(slots=True)
class Measuring:
    """Measures the chunks of one variable, and decides what is critical of each."""

    statistics: tuple[Statistic, ...]
    """Those that are measured of the variable."""
    critical: tuple[Check, ...]
    """The critical checks of the variable, about these and about what the cycle fills."""
    failures: dict[str, str] = field(default_factory=dict)
    """By name of a statistic: why it is NaN somewhere, at the first chunk."""

    def take(self, chunk: Chunk) -> dict[str, float]:
        """Return the statistics of a chunk; NaN where one could not be measured."""
        return {s.name: self._number(s.name, s.measure, chunk) for s in self.statistics}

    def doubts(self, statistics: Mapping[str, float]) -> bool:
        """Tell whether a critical check does not allow a statistic of a chunk that is known."""
        return any(not check.allows(statistics.get(check.column, nan)) for check in self.critical)

    def _number(self, name: str, measure: Measure | None, chunk: Chunk) -> float:
        if measure is None:
            return nan
        try:
            with np.errstate(all="ignore"):
                value: Any = measure(chunk)
            number = as_number(value)
        except FOREIGN as error:
            self._note(name, reason_of(error), chunk)
            return nan
        if number is None or isinf(number):
            text = _told(value) if number is None else str(number)
            self._note(name, f"returned {text}; expected one finite number, or NaN", chunk)
            return nan
        return number

    def _note(self, name: str, reason: str, chunk: Chunk) -> None:
        place = "/".join(map(str, chunk.index))
        self.failures.setdefault(name, f"{chunk.variable}[{place}]: {reason}")


def reason_of(error: BaseException) -> str:
    """Return in one line what a user's code raised."""
    return f"{type(error).__name__}: {one_line(error)}"


def _told(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and type {value.dtype}"
    return f"a value of type {type(value).__name__}"


@dataclass(frozen=True, slots=True)
class Checks:
    """Checks on their way to the workers.

    Functions of a notebook or a script go by value, those of a module by its name.  One that a
    worker cannot load fails there as one that raises does, and the others are measured.
    """

    checks: tuple[Check, ...]
    """What is measured of chunks, and what of them is critical."""

    @classmethod
    def beside(cls, others: Sequence[Check]) -> "Checks":
        """Return the built-in checks and those of others."""
        return cls((*CAPTURE_CHECKS, *others))

    @property
    def statistics(self) -> tuple[Statistic, ...]:
        """The statistics that are functions of a chunk, each once."""
        by_name = {check.column: check.statistic for check in self.checks}
        return tuple(s for s in by_name.values() if s.measure is not None)

    def of(self, variable: Variable) -> "Measuring":
        """Return what is measured of a variable: nothing of text and of complex numbers."""
        is_real = variable.numpy_dtype.kind in "biuf"
        statistics = tuple(s for s in self.statistics if is_real and s.is_of(variable))
        critical = (
            check
            for check in self.checks
            if check.severity == CRITICAL
            and (check.statistic.measure is None or check.statistic in statistics)
        )
        return Measuring(statistics, tuple(critical))

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _unpacked, (tuple(map(_packed, self.checks)),)


@dataclass(frozen=True, slots=True)
class _Lost:
    """In place of a function that did not arrive."""

    reason: str

    def __call__(self, chunk: Chunk) -> float:
        raise RuntimeError(self.reason)


def _packed(check: Check) -> tuple[Check, bytes | None]:
    measure = check.statistic.measure
    if measure is None:
        return check, None
    try:
        function = cloudpickle.dumps(measure)
    except FOREIGN as error:
        function = cloudpickle.dumps(_Lost(f"it cannot be sent to a worker: {reason_of(error)}"))
    return replace(check, statistic=replace(check.statistic, measure=None)), function


def _unpacked(packed: tuple[tuple[Check, bytes | None], ...]) -> Checks:
    checks = []
    for check, function in packed:
        if function is None:
            checks.append(check)
            continue
        try:
            measure = cloudpickle.loads(function)
        except FOREIGN as error:
            measure = _Lost(f"a worker cannot load it: {reason_of(error)}")
        checks.append(replace(check, statistic=replace(check.statistic, measure=measure)))
    return Checks(tuple(checks))
