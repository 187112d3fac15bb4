"""What the record of patches says: the suspect chunks of a capture were estimated, and are kept."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from gnomon.storage.log.bodies.body import ALL_WRITTEN, Margin, claim, folder_name, numbers
from gnomon.storage.values.documents import items, text, whole
from gnomon.storage.values.grid import Index
from gnomon.storage.values.plausible import MOST_LEADS, members_of, size

__all__ = ["PatchBody", "PatchedChunk", "PatchedEntry"]


@dataclass(frozen=True, slots=True)
class PatchedChunk:
    """One chunk that was estimated."""

    chunk: Index
    """Index of the chunk."""
    root: str
    """Hash that vouches for its values, standard errors and provenance."""
    expected_rmse: float | None
    """In the variable's units; None if no cell could be estimated."""
    confidence: float | None
    """Probability that its RMSE is within the tolerance; None if no cell could be estimated."""
    margin: Margin = ALL_WRITTEN
    """What the record says beside."""

    _ALWAYS: ClassVar = frozenset({"chunk", "root", "expected_rmse", "confidence"})

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        fields = {name: getattr(self, name) for name in self._ALWAYS}
        return self.margin.around(fields | {"chunk": list(self.chunk)})

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "PatchedChunk":
        """Read the JSON form; ValueError or the like if it is not one."""
        return cls(
            items(data["chunk"], "chunk", size),
            folder_name(data["root"]),
            *_figures(data, "expected_rmse"),
            Margin.of(data, cls._ALWAYS),
        )


@dataclass(frozen=True, slots=True)
class PatchedEntry:
    """What was estimated of one variable."""

    chunks: tuple[PatchedChunk, ...]
    """All of its chunks that were suspect then."""
    expected_error: float | None
    """Expected RMSE over all estimated cells, in the variable's units; None if it is not known."""
    confidence: float | None
    """Expected share of the chunks within tolerance; None as the error is."""
    margin: Margin = ALL_WRITTEN
    """What the record says beside."""

    _ALWAYS: ClassVar = frozenset({"chunks", "expected_error", "confidence"})

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        fields = {name: getattr(self, name) for name in self._ALWAYS}
        return self.margin.around(fields | {"chunks": [chunk.to_json() for chunk in self.chunks]})

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "PatchedEntry":
        """Read the JSON form; ValueError or the like if it is not one."""
        return cls(
            items(data["chunks"], "chunks", lambda v, _: PatchedChunk.from_json(members_of(v))),
            *_figures(data, "expected_error"),
            Margin.of(data, cls._ALWAYS),
        )


def _figures(data: Mapping[str, Any], error: str) -> tuple[float | None, float | None]:
    """Return an expected error and the confidence beside it; None where they are not known."""
    expected, confidence = data[error], data["confidence"]
    return (
        None if expected is None else claim(expected, error),
        None if confidence is None else claim(confidence, "confidence", most=1.0),
    )


def _pair(value: object) -> tuple[int, int]:
    """Return the numbers of two captures."""
    before, after = numbers(value)
    return before, after


@dataclass(frozen=True, slots=True)
class PatchBody:
    """The suspect chunks of a capture were estimated, and the estimates are kept."""

    kind: ClassVar[str] = "patch"
    step: int
    """Number of the capture."""
    shadow: str
    """Folder of the shadow that they start from."""
    lead: int
    """Its lead."""
    variables: Mapping[str, PatchedEntry]
    """What was estimated of each variable that has suspect chunks."""
    between: tuple[int, int] | None = None
    """Numbers of the intact captures before and after, if they told of it, too."""
    notes: tuple[str, ...] = ()
    """What they had to do without; for people, and not verified."""
    margin: Margin = ALL_WRITTEN
    """What the record says beside."""

    _ALWAYS: ClassVar = frozenset({"step", "shadow", "lead", "variables"})
    _SOMETIMES: ClassVar = frozenset({"between", "notes"})

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        fields: dict[str, Any] = {name: getattr(self, name) for name in self._ALWAYS}
        fields["variables"] = {name: entry.to_json() for name, entry in self.variables.items()}
        if self.between is not None:
            fields["between"] = list(self.between)
        if self.notes:
            fields["notes"] = list(self.notes)
        return self.margin.around(fields)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "PatchBody":
        """Read the JSON form; ValueError or the like if it is not one."""
        return cls(
            whole(data["step"], "step", least=0),
            folder_name(data["shadow"]),
            whole(data["lead"], "lead", least=1, most=MOST_LEADS),
            {n: PatchedEntry.from_json(members_of(e)) for n, e in data["variables"].items()},
            _pair(data["between"]) if "between" in data else None,
            items(data.get("notes", []), "notes", text),
            Margin.of(data, cls._ALWAYS, cls._SOMETIMES),
        )
