"""What the records of a rollback say: a live dataset is written to, and how that ended."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, get_args

from gnomon.storage.log.bodies.body import ALL_WRITTEN, Margin
from gnomon.storage.log.bodies.report import Report
from gnomon.storage.values.documents import flag, text, whole
from gnomon.storage.values.model import SourceSpec
from gnomon.storage.values.plausible import members_of

__all__ = ["RollbackBody", "RollbackState", "RolledBody", "Writer"]

RollbackState = Literal["begun", "done", "undoing", "undone"]
"""How far a rollback is; ``begun`` and ``undoing`` pass, unless their process was stopped."""


@dataclass(frozen=True, slots=True)
class Writer:
    """The process that writes, by which it is told whether it still lives."""

    host: str
    """Name of the machine."""
    pid: int
    """Number of the process there."""
    started: str
    """When the process was started, ISO 8601: numbers are used again."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Writer":
        """Read the JSON form; ValueError or the like if it is not one."""
        return cls(
            text(data["host"], "host"),
            whole(data["pid"], "pid", least=0),
            text(data["started"], "started"),
        )


@dataclass(frozen=True, slots=True)
class RollbackBody:
    """Objects of a live dataset are going to be replaced; what they were is kept."""

    kind: ClassVar[str] = "rollback"
    instant: int
    """Valid time of the state that is written."""
    live: SourceSpec
    """Where it is written."""
    what: str
    """What is written, in one line for people."""
    objects: int
    """Objects that are replaced."""
    chunks: int
    """Chunks that change."""
    estimated: int
    """Those of them that hold estimated cells."""
    listed: str
    """SHA-256 of the list of the objects."""
    writer: Writer
    """Who writes."""
    report: Report | None = None
    """What is to be told, where nobody has asked for it; None: a person has."""
    margin: Margin = ALL_WRITTEN
    """What the record says beside."""

    _ALWAYS: ClassVar = frozenset(
        {"instant", "live", "what", "objects", "chunks", "estimated", "listed", "writer"}
    )
    _SOMETIMES: ClassVar = frozenset({"report"})

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        fields = {name: getattr(self, name) for name in self._ALWAYS}
        fields |= {"live": asdict(self.live), "writer": asdict(self.writer)}
        if self.report is not None:
            fields["report"] = self.report.to_json()
        return self.margin.around(fields)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "RollbackBody":
        """Read the JSON form; ValueError or the like if it is not one."""
        return cls(
            whole(data["instant"], "instant"),
            SourceSpec.from_json(members_of(data["live"])),
            text(data["what"], "what"),
            whole(data["objects"], "objects", least=0),
            whole(data["chunks"], "chunks", least=0),
            whole(data["estimated"], "estimated", least=0),
            text(data["listed"], "listed"),
            Writer.from_json(members_of(data["writer"])),
            Report.from_json(data["report"]) if "report" in data else None,
            Margin.of(data, cls._ALWAYS, cls._SOMETIMES),
        )


@dataclass(frozen=True, slots=True)
class RolledBody:
    """A rollback has come to an end, or is being taken back."""

    kind: ClassVar[str] = "rolled"
    rollback: int
    """Number of the record with which it began."""
    state: RollbackState
    """How far it is from now on."""
    writer: Writer | None = None
    """Who takes it back; None: nobody is at work."""
    keeps: bool = True
    """Whether it stays known which cells were estimates, also when it was taken back; older
    programs forgot it then."""
    margin: Margin = ALL_WRITTEN
    """What the record says beside."""

    _ALWAYS: ClassVar = frozenset({"rollback", "state"})
    _SOMETIMES: ClassVar = frozenset({"writer", "keeps"})

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        fields: dict[str, Any] = {"rollback": self.rollback, "state": self.state}
        if self.writer is not None:
            fields["writer"] = asdict(self.writer)
        if self.keeps:
            fields["keeps"] = True
        return self.margin.around(fields)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "RolledBody":
        """Read the JSON form; ValueError or the like if it is not one."""
        state = text(data["state"], "state")
        if state not in get_args(RollbackState):
            raise ValueError(f"a rollback that is {state[:40]!r}")
        return cls(
            whole(data["rollback"], "rollback", least=0),
            state,  # type: ignore[arg-type]
            Writer.from_json(members_of(data["writer"])) if "writer" in data else None,
            flag(data.get("keeps", False), "keeps"),
            Margin.of(data, cls._ALWAYS, cls._SOMETIMES),
        )
