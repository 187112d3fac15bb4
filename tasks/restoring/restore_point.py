"""A restore point: one candidate answer to "give me the dataset at time T", and how it is told."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import inf, isfinite, sqrt
from typing import Any, Literal, get_args

from gnomon.storage.values.attributes import NOTE

__all__ = ["PointKind", "RestorePoint", "best_first", "size_of", "with_units"]

PointKind = Literal[
    "captured",
    "healed",
    "interpolated",
    "forecast",
    "climatology",
    "last_capture",
    "suspect",
    "revision",
]

_KINDS: tuple[PointKind, ...] = get_args(PointKind)
"""Of equally good ones, the first comes first."""
_WORDS = {
    "interpolated": "interpolated state of",
    "forecast": "forecast of",
    "climatology": "climatology at",
}
"""How those that rest on captures alone are told."""


@dataclass(frozen=True, slots=True)
class RestorePoint:
    """One candidate state for a time."""

    kind: PointKind
    """Where it comes from; ``suspect`` is a capture with suspect chunks, as it was captured;
    ``revision`` another version of it, before or after the source changed it."""
    valid_time: str
    """Time that the state is of, ISO 8601."""
    instant: int
    """The same as an instant."""
    step: int | None
    """Captured step it is based on; None for a forecast."""
    shadow: str | None
    """Shadow it takes predictions from; None for a capture."""
    lead: int
    """Capture intervals between the newest knowledge and the valid time; 0 if captured."""
    expected_error: dict[str, float | None]
    """Per variable: expected RMSE in its units, of labels the share of cells with another one; of
    a healed state that of its estimated cells.  0 if captured; None if unknown."""
    confidence: float | None
    """Expected share of chunks within tolerance, the least of the variables; of a healed state the
    share of its estimated chunks.  None if unknown."""
    suspect_chunks: int
    """Suspect chunks in the captured step."""
    predicted: bool
    """Whether any cell is an estimate."""
    era: int = 0
    """The era of the repository that it belongs to."""
    tags: tuple[str, ...] = ()
    """Names that a person gave the capture."""
    estimated_share: float = 0.0
    """Share of chunks that are estimated: 1 of a forecast, of a healed state that of the variables
    that have suspect chunks, else 0."""
    estimated_shares: dict[str, float] = field(default_factory=dict)
    """The same of each variable of a healed state, once it was healed."""
    estimated_cells: int = 0
    """Cells that are estimated because a user has named them; 0: whole chunks are, if any."""
    reference_time: str | None = None
    """When the forecast that it takes predictions from was made, ISO 8601; None for a capture."""
    confidences: dict[str, float | None] = field(default_factory=dict)
    """The confidence of each variable; None if unknown."""
    tolerances: dict[str, float] = field(default_factory=dict)
    """Per variable: the error that the confidence is about, in the units of the expected error."""
    units: dict[str, str] = field(default_factory=dict)
    """Per variable: units of the expected error and the tolerance; empty if it has none, 1 of
    labels."""
    notes: tuple[str, ...] = ()
    """What could not be read of what the answer rests on, and what follows from that."""
    sides: tuple[str, ...] = ()
    """Times of the captures nearest to an interpolated state, or to one beyond all captures."""
    age_s: float | None = None
    """Seconds from the newest capture before the valid time that it rests on to that time; of one
    that rests on later captures alone, to the first of them; 0 if captured."""
    integrity: str = "not read"
    """Of the captures that it rests on: ``not read``, ``verified``, or ``bad`` and why."""
    anomalies: tuple[str, ...] = ()
    """What is suspect about it: suspect chunks, open incidents, a doubted time."""
    reason: str = ""
    """Why it is suggested; empty of all but the first."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def of_variables(self, gives: Callable[[str], bool]) -> "RestorePoint":
        """Return the point as it is for some of its variables."""
        figures = ("expected_error", "estimated_shares", "confidences", "tolerances", "units")
        chosen: dict[str, Any] = {
            name: {v: x for v, x in getattr(self, name).items() if gives(v)} for name in figures
        }
        sure = [c for c in chosen["confidences"].values() if c is not None]
        return replace(self, **chosen, confidence=min(sure, default=self.confidence))

    def attributes(self) -> dict[str, dict[str, Any]]:
        """Return what a dataset says of itself: attributes by variable, its own under ""."""
        whole = {
            "method": self.kind,
            "valid_time": self.valid_time,
            "reference_time": self.reference_time,
            "lead": self.lead,
            "confidence": self.confidence,
            "estimated_share": self.estimated_share,
            "summary": str(self),
            "notes": "; ".join(self.notes) or None,
        }
        each = {
            name: {
                # An array that is taken out of its dataset keeps its own attributes only.
                "method": self.kind,
                "expected_error": error,
                "expected_error_units": self.units.get(name, ""),
                "confidence": self.confidences.get(name),
                "tolerance": self.tolerances.get(name),
            }
            for name, error in self.expected_error.items()
        }
        return {
            # What is not known is left out: attributes have no null.
            name: {f"{NOTE}{key}": value for key, value in facts.items() if value is not None}
            for name, facts in {"": whole, **each}.items()
        }

    def __str__(self) -> str:
        """Say in one line what it is: kind, times, expected errors, confidence."""
        return ", ".join(part for part in (self._origin(), self._errors(), self._sure()) if part)

    def _origin(self) -> str:
        if self.kind in _WORDS and self.reference_time is None:
            return f"{_WORDS[self.kind]} {self.valid_time}, {self._between()}"
        origin = f"made at {self.reference_time} (lead {self.lead})"
        match self.kind:
            case "captured":
                return f"captured state of {self.valid_time}"
            case "forecast":
                return f"forecast of {self.valid_time} {origin}"
            case "healed":
                rest = f"their neighbours and the forecast {origin}"
                if self.shadow is None:
                    rest = "the captures before and after"
                return (
                    f"healed state of {self.valid_time} with {self._estimated()} estimated from "
                    f"{rest}"
                )
            case "last_capture":
                word = "interval" if self.lead == 1 else "intervals"
                return f"last capture before, of {self.valid_time} ({self.lead} {word} earlier)"
        word = "version" if self.kind == "revision" else "suspect state"
        return f"{word} of {self.valid_time} with {_chunks(self.suspect_chunks)} suspect"

    def _between(self) -> str:
        """Say which captures are nearest."""
        if len(self.sides) == 2:
            return f"between the captures of {self.sides[0]} and {self.sides[1]}"
        if self.sides and self.sides[0] < self.valid_time:
            word = "interval" if self.lead == 1 else "intervals"
            return f"{self.lead} {word} after the last capture, of {self.sides[0]}"
        return f"before the first capture, of {''.join(self.sides)}"

    def _estimated(self) -> str:
        cells = f"{self.estimated_cells} {'cell' if self.estimated_cells == 1 else 'cells'}"
        what = cells if self.estimated_cells else _chunks(self.suspect_chunks)
        return f"{what} ({self.estimated_share:.2%})"

    def _errors(self) -> str:
        errors = [
            f"{name} {'unknown' if error is None else with_units(error, self.units.get(name))}"
            for name, error in self.expected_error.items()
        ]
        if not errors or self.kind == "captured":
            return "exact" if self.kind == "captured" else ""
        cells = " of the estimated cells" if self.kind == "healed" else ""
        return f"expected error{cells} {', '.join(errors)}"

    def _sure(self) -> str:
        if self.kind == "captured":
            return ""
        text = f"confidence {'unknown' if self.confidence is None else f'{self.confidence:.2f}'}"
        confidences = {n: c for n, c in self.confidences.items() if c is not None}
        if len(confidences) < 2:
            return text
        return f"{text} ({', '.join(f'{name} {value:.2f}' for name, value in confidences.items())})"


def with_units(value: float, units: str | None) -> str:
    """Return a number in three digits with its units, if it has any."""
    return f"{value:.3g}" if units in (None, "", "1") else f"{value:.3g} {units}"


def _chunks(count: int) -> str:
    return f"{count} {'chunk' if count == 1 else 'chunks'}"


def best_first(points: list[RestorePoint]) -> tuple[RestorePoint, ...]:
    """Return restore points in the order in which they are worth taking.

    Notes
    -----
    An exact, trusted capture is first.  Then come those whose expected error is known, the smallest
    first, then the others.  Of several variables the one with the greatest error in tolerances
    counts.  A healed state counts with the error of all of its cells, the
    intact ones included, and is never behind the forecast of which it is the better part.
    """
    forecast = min((size_of(p) for p in points if p.kind == "forecast"), default=inf)

    def place(point: RestorePoint) -> tuple[bool, float, int]:
        size = size_of(point)
        if point.kind == "healed" and size < inf:
            size = min(size, forecast)
        return point.kind != "captured", size, _KINDS.index(point.kind)

    return tuple(sorted(points, key=place))


def size_of(point: RestorePoint) -> float:
    """Return the expected error over all cells, in tolerances; infinite if it is not known."""
    errors = [
        (error, point.tolerances.get(name, 0.0), point.estimated_shares.get(name, 1.0))
        for name, error in point.expected_error.items()
    ]
    if not errors or any(error is None or not isfinite(error) for error, *_ in errors):
        return inf
    # Without a tolerance, there is one variable at most, or none to compare it with.
    return max(
        sqrt(share) * float(error or 0.0) / (tolerance or 1.0) for error, tolerance, share in errors
    )
