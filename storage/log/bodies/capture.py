"""What the record of a capture says, and of a rewrite, which stores captures anew."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from gnomon.storage.log.bodies.body import ALL_WRITTEN, Margin, folder_name, numbers
from gnomon.storage.log.bodies.report import Report
from gnomon.storage.log.description import Change
from gnomon.storage.values.documents import items, text, whole
from gnomon.storage.values.plausible import MOST_CAPTURES, size

__all__ = ["CaptureBody", "CapturedEntry", "RewriteBody"]


@dataclass(frozen=True, slots=True)
class CapturedEntry:
    """What a capture has of one variable."""

    root: str
    """Hash that vouches for the index of the chunks."""
    ledger: str
    """Hash that vouches for the statistics."""
    suspect: int
    """Chunks of all states that the check refused; for people, and not verified."""
    changed: int
    """Chunks of all states that are other than before; for people, and not verified."""
    chunks: int
    """Chunks of all states; for people, and not verified."""
    margin: Margin = ALL_WRITTEN
    """What the record says beside."""

    _ALWAYS: ClassVar = frozenset({"root", "ledger", "suspect", "changed", "chunks"})

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return self.margin.around({name: getattr(self, name) for name in self._ALWAYS})

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "CapturedEntry":
        """Read the JSON form; ValueError or the like if it is not one."""
        return cls(
            folder_name(data["root"]),
            folder_name(data["ledger"]),
            data.get("suspect", 0),
            data.get("changed", 0),
            data.get("chunks", 0),
            Margin.of(data, cls._ALWAYS),
        )


@dataclass(frozen=True, slots=True)
class CaptureBody:
    """States were captured: each gets the next number, and the next position in the slab."""

    kind: ClassVar[str] = "capture"
    instants: tuple[int, ...]
    """Their valid times."""
    raw_times: bytes
    """Their times as they stand in an append source, one after another."""
    suspects: tuple[int, ...]
    """How many chunks of each, of all variables, the check refused."""
    variables: Mapping[str, CapturedEntry]
    """What there is of each variable."""
    revises: Mapping[int, int] = field(default_factory=dict)
    """By position: an earlier capture of the same time, which the source has changed since."""
    report: Report = field(default_factory=lambda: Report({}))
    """What the check said."""
    read_at: str = ""
    """Wall-clock time before anything of it was read; empty: it is not said."""
    descriptions: Mapping[int, Change] = field(default_factory=dict)
    """By position: what the source had changed of its attributes and fixed variables by then."""
    margin: Margin = ALL_WRITTEN
    """What the record says beside."""

    _ALWAYS: ClassVar = frozenset(
        {"instants", "raw_times", "suspects", "variables", "revises", "report"}
    )
    _SOMETIMES: ClassVar = frozenset({"read_at", "description", "descriptions"})

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        fields: dict[str, Any] = {
            "instants": list(self.instants),
            "raw_times": self.raw_times.hex(),
            "suspects": list(self.suspects),
            "variables": {name: entry.to_json() for name, entry in self.variables.items()},
            "revises": {str(local): step for local, step in self.revises.items()},
            "report": self.report.to_json(),
        }
        if self.read_at:
            fields["read_at"] = self.read_at
        if 0 in self.descriptions:
            fields["description"] = self.descriptions[0].to_json()
        if later := {str(k): change.to_json() for k, change in self.descriptions.items() if k}:
            fields["descriptions"] = later
        return self.margin.around(fields)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "CaptureBody":
        """Read the JSON form; ValueError or the like if it is not one."""
        instants = items(data["instants"], "instants", whole, most=MOST_CAPTURES)
        suspects = items(data["suspects"], "suspects", size, most=MOST_CAPTURES)
        if len(suspects) != len(instants):
            raise ValueError(f"{len(suspects)} counts of suspects for {len(instants)} captures")
        descriptions = {
            whole(int(k), "description", least=1, most=len(instants) - 1): Change.from_json(change)
            for k, change in data.get("descriptions", {}).items()
        }
        if "description" in data:
            descriptions[0] = Change.from_json(data["description"])
        return cls(
            instants,
            bytes.fromhex(data["raw_times"]),
            suspects,
            {name: CapturedEntry.from_json(entry) for name, entry in data["variables"].items()},
            {int(k): whole(v, "revises", least=0) for k, v in data.get("revises", {}).items()},
            Report.from_json(data.get("report", {})),
            text(data["read_at"], "read_at") if "read_at" in data else "",
            descriptions,
            Margin.of(data, cls._ALWAYS, cls._SOMETIMES),
        )


@dataclass(frozen=True, slots=True)
class RewriteBody:
    """Captures were stored anew: each is from now on at the next position of another slab."""

    kind: ClassVar[str] = "rewrite"
    steps: tuple[int, ...]
    """Their numbers."""
    roots: Mapping[str, str]
    """Hash that vouches for the index of the chunks, by variable."""
    margin: Margin = ALL_WRITTEN
    """What the record says beside."""

    _ALWAYS: ClassVar = frozenset({"steps", "variables"})

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        variables = {name: {"root": root} for name, root in self.roots.items()}
        return self.margin.around({"steps": list(self.steps), "variables": variables})

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "RewriteBody":
        """Read the JSON form; ValueError or the like if it is not one."""
        roots = {name: folder_name(entry["root"]) for name, entry in data["variables"].items()}
        return cls(numbers(data["steps"]), roots, Margin.of(data, cls._ALWAYS))
