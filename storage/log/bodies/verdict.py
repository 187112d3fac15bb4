"""What the record of a verdict says: of a check, a refit or a person, on captures of before."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from gnomon.storage.log.bodies.body import ALL_WRITTEN, Margin
from gnomon.storage.log.bodies.report import Report
from gnomon.storage.values.documents import items, text, whole
from gnomon.storage.values.grid import Index
from gnomon.storage.values.model import MISSING, TRUSTED
from gnomon.storage.values.plausible import members_of, size

__all__ = ["JudgedChunk", "VerdictBody"]


@dataclass(frozen=True, slots=True)
class JudgedChunk:
    """The status of one chunk of a capture, from now on."""

    variable: str
    """Name of the variable."""
    step: int
    """Number of the capture."""
    chunk: Index
    """Index of the chunk."""
    status: int
    """``TRUSTED``, ``SUSPECT`` or ``MISSING``."""
    p_value: float | None = None
    """By which it was judged; for people, and not verified."""
    margin: Margin = ALL_WRITTEN
    """What the record says beside."""

    _ALWAYS: ClassVar = frozenset({"variable", "step", "chunk", "status"})
    _SOMETIMES: ClassVar = frozenset({"p_value"})

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        fields = {name: getattr(self, name) for name in self._ALWAYS} | {"chunk": list(self.chunk)}
        if self.p_value is not None:
            fields["p_value"] = self.p_value
        return self.margin.around(fields)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "JudgedChunk":
        """Read the JSON form; ValueError or the like if it is not one."""
        return cls(
            text(data["variable"], "variable"),
            whole(data["step"], "step", least=0),
            items(data["chunk"], "chunk", size),
            whole(data["status"], "status", least=TRUSTED, most=MISSING),
            data.get("p_value"),
            Margin.of(data, cls._ALWAYS, cls._SOMETIMES),
        )


@dataclass(frozen=True, slots=True)
class VerdictBody:
    """The status of chunks, and which times are believed, from now on."""

    kind: ClassVar[str] = "verdict"
    chunks: tuple[JudgedChunk, ...]
    """Chunks whose status changes."""
    reason: str
    """For people, and not verified."""
    judged_by: str | None = None
    """Who judged, if it was a person: what they accept counts for more."""
    times: tuple[int, ...] = ()
    """Instants that are believed from now on, however far they are from the others."""
    doubted: tuple[int, ...] = ()
    """Instants that are believed no more as a matter of course."""
    report: Report | None = None
    """What a refit says; None: an older one, or a person, says nothing."""
    margin: Margin = ALL_WRITTEN
    """What the record says beside."""

    _ALWAYS: ClassVar = frozenset({"chunks", "reason"})
    _SOMETIMES: ClassVar = frozenset({"judged_by", "times", "doubted", "report"})

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        fields: dict[str, Any] = {
            "chunks": [chunk.to_json() for chunk in self.chunks],
            "reason": self.reason,
        }
        if self.judged_by is not None:
            fields["judged_by"] = self.judged_by
        for name in ("times", "doubted"):
            if instants := getattr(self, name):
                fields[name] = list(instants)
        if self.report is not None:
            fields["report"] = self.report.to_json()
        return self.margin.around(fields)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "VerdictBody":
        """Read the JSON form; ValueError or the like if it is not one."""
        by_person = "judged_by" in data
        return cls(
            items(data["chunks"], "chunks", lambda v, _: JudgedChunk.from_json(members_of(v))),
            data.get("reason", ""),
            str(data["judged_by"]) if by_person else None,
            items(data.get("times", []), "times", whole),
            items(data.get("doubted", []), "doubted", whole),
            Report.from_json(data["report"]) if "report" in data else None,
            Margin.of(data, cls._ALWAYS, cls._SOMETIMES),
        )
