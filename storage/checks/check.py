"""A check: a number that is measured of each chunk, and the values that it may have, as one record.

Workers fill the column, the ledger keeps it, the table of a capture is validated by it, and the
documents list it, all from this record.  What violates a critical check is suspect.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite, isnan, nan
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.errors import InvalidInput
from gnomon.storage.values.grid import Index
from gnomon.storage.values.model import Variable
from gnomon.storage.values.units import same_units

__all__ = [
    "CRITICAL",
    "WARNING",
    "Check",
    "Chunk",
    "Dtype",
    "Measure",
    "Origin",
    "Severity",
    "Statistic",
    "as_number",
]

Severity = Literal["critical", "warning"]
CRITICAL: Final = "critical"
"""Severity of what makes a chunk suspect."""
WARNING: Final = "warning"
"""Severity of what is only told."""
Dtype = Literal["str", "int64", "float64", "bool"]
Origin = Literal["place", "values", "forecast", "digests", "source", "table"]

_NAME = re.compile(r"[a-z][a-z0-9_]{0,59}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Chunk:
    """One captured chunk, as a check is given it."""

    values: NDArray[np.float64]
    """Numbers in the units that the variable had at init, NaN where missing; not to be written."""
    before: NDArray[np.float64] | None
    """Those of the last trusted capture of the chunk; None if there is none."""
    statistics: Mapping[str, float]
    """What is known of the chunk by name: the statistics of values and forecast; or NaN."""
    variable: str
    """Name of the variable."""
    dims: tuple[str, ...]
    """Its dimensions without time, in the order of the axes."""
    units: str
    """Its units; empty if the source does not tell them."""
    index: Index
    """Place in the chunk grid."""


type Measure = Callable[[Chunk], float]
"""A pure function of a chunk; NaN: there is nothing to say."""


@dataclass(frozen=True, slots=True)
class Statistic:
    """A number of each chunk: one column of a table, and of the ledger.

    Raises
    ------
    InvalidInput
        A field is not what it must be.
    """

    name: str
    """Name of the column: a word of lower-case letters, digits and ``_``."""
    unit: str
    """Unit of the values; ``variable`` for the unit of the row's variable, ``1`` for none."""
    meaning: str
    """What a value says, and when it is NaN, in one line."""
    dtype: Dtype = "float64"
    """What the column holds in a table; the ledger holds float64."""
    origin: Origin = "values"
    """What it is found from.  ``place``: which chunk it is.  ``values``: those of the chunk and of
    its last trusted capture.  ``forecast``: the departure from it.  ``digests``: those of earlier
    captures.  ``source``: what it said, or gave, before.  ``table``: the other columns of all
    chunks, when they are known; the ledger does not keep it."""
    measure: Measure | None = None
    """Returns the number of a chunk; None where the cycle fills the column by itself."""
    variables: tuple[str, ...] = ()
    """Names, or CF standard names, of the variables that are measured; none: all."""
    of_units: str = ""
    """Only variables in these units, however spelt, are measured; empty: in any."""

    def __post_init__(self) -> None:
        _refuse_name("statistic", self.name)
        for what in ("unit", "meaning"):
            _refuse_text(f"statistic {self.name}", what, getattr(self, what))
        if self.measure is not None and not callable(self.measure):
            raise InvalidInput(
                f"the measure of statistic {self.name} is no function; give one that takes a Chunk "
                "and returns a number"
            )
        if self.measure is not None and (self.dtype, self.origin) != ("float64", "values"):
            raise InvalidInput(
                f"statistic {self.name} is measured of values, and so float64; leave dtype "
                f"{self.dtype!r:.20} and origin {self.origin!r:.20} out"
            )
        if not isinstance(self.variables, tuple) or not all(
            isinstance(name, str) for name in self.variables
        ):
            raise InvalidInput(
                f"the variables of statistic {self.name} are {self.variables!r:.60}; give a tuple "
                "of names"
            )
        if not isinstance(self.of_units, str):
            raise InvalidInput(
                f"statistic {self.name} is of the units {self.of_units!r:.60}; give one text"
            )

    def is_of(self, variable: Variable) -> bool:
        """Tell whether a variable is one of those that are measured."""
        attributes = variable.attributes
        names = {variable.name, str(attributes.get("standard_name", ""))}
        if self.variables and names.isdisjoint(self.variables):
            return False
        return not self.of_units or same_units(self.of_units, str(attributes.get("units", "")))


@dataclass(frozen=True, slots=True)
class Check:
    """What every chunk must satisfy in one statistic; NaN satisfies everything.

    Raises
    ------
    InvalidInput
        A field is not what it must be.
    """

    name: str
    """The claim in one word, as in ``not_replayed``."""
    statistic: Statistic
    """What it is about; several checks may be about one."""
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
    cause: str = ""
    """What probably went wrong, in a few words, as incidents tell it; empty: the reason."""
    clarity: float = 0.5
    """How clearly a violation shows its cause, from 0 to 1; of several the clearest is told.  Above
    one half it is told even where a change of unit would explain the values."""

    def __post_init__(self) -> None:
        _refuse_name("check", self.name)
        _refuse_text(f"check {self.name}", "reason", self.reason)
        if self.cause != "":
            _refuse_text(f"check {self.name}", "cause", self.cause)
        if not 0 <= _finite(self.clarity) <= 1:
            raise InvalidInput(
                f"the clarity of check {self.name} is {self.clarity!r:.40}; it is from 0 to 1"
            )
        if not isinstance(self.statistic, Statistic):
            raise InvalidInput(f"check {self.name} has no statistic; give a Statistic")
        if self.severity not in get_args(Severity):
            raise InvalidInput(
                f"the severity of check {self.name} is {self.severity!r:.40}; it is "
                f"{CRITICAL!r} or {WARNING!r}"
            )
        if self.flag is not None:
            if self.statistic.dtype != "bool":
                raise InvalidInput(f"check {self.name} has a flag; of numbers, give a maximum")
            return
        bounds = [bound for bound in (self.minimum, self.maximum) if bound is not None]
        if not bounds or any(isnan(_finite(b)) for b in bounds) or bounds != sorted(bounds):
            raise InvalidInput(
                f"check {self.name} allows from {self.minimum!r:.20} to {self.maximum!r:.20}; give "
                "a minimum, or a maximum, or both in order, as finite numbers"
            )
        for side in ("minimum", "maximum"):
            bound = getattr(self, side)
            if bound is not None and not isinstance(bound, int | float):  # a number of NumPy
                object.__setattr__(self, side, float(bound))

    @property
    def column(self) -> str:
        """Name of the column that it is about."""
        return self.statistic.name

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

    def to_json(self) -> dict[str, Any]:
        """Return what people are told of it, as JSON."""
        return {
            "name": self.name,
            "severity": self.severity,
            "statistic": self.column,
            "unit": self.statistic.unit,
            "meaning": self.statistic.meaning,
            "expected": self.expected,
            "reason": self.reason,
            "variables": list(self.statistic.variables),
            "of_units": self.statistic.of_units,
        }

    def allows(self, value: float) -> bool:
        """Tell whether a value of the statistic is no violation."""
        if isnan(value):
            return True
        if self.flag is not None:
            return bool(value) == self.flag
        if self.minimum is not None and value < self.minimum:
            return False
        if self.strict and value == self.minimum:
            return False
        return self.maximum is None or value <= self.maximum


def as_number(value: object) -> float | None:
    """Return one real number of Python, of NumPy, or in an array of no dimension; else None."""
    if isinstance(value, np.ndarray | np.generic):
        is_real = value.shape == () and value.dtype.kind in "biuf"
    else:
        is_real = isinstance(value, bool | int | float)
    try:
        return float(value) if is_real else None  # type: ignore[arg-type]
    except OverflowError:  # an integer of Python has no bounds
        return None


def _finite(value: object) -> float:
    """Return what is set in a check as a number; NaN of what is none, or infinite."""
    number = as_number(value)
    return number if number is not None and isfinite(number) else nan


def _refuse_name(what: str, name: object) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidInput(
            f"a {what} is called {name!r:.80}; a name is a word of lower-case letters, digits and "
            "_ that begins with a letter, and has 60 characters at most"
        )


def _refuse_text(whose: str, what: str, text: object) -> None:
    if not isinstance(text, str) or not text.strip() or len(text.splitlines()) > 1:
        raise InvalidInput(f"the {what} of {whose} is {text!r:.60}; give one line of text")
