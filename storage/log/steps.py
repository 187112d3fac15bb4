"""What the log records say was captured, predicted, estimated and written back, as values."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from gnomon.storage.log.bodies.patch import PatchedEntry
from gnomon.storage.log.bodies.rollback import RollbackState, Writer
from gnomon.storage.log.bodies.shadow import LearntEntry, PredictedEntry
from gnomon.storage.values.model import SourceSpec

__all__ = ["CapturedStep", "Patches", "Rollback", "Shadow"]


@dataclass(frozen=True, slots=True)
class CapturedStep:
    """One captured state."""

    step: int
    """Number of the capture, from 0, in the order of capture."""
    instant: int
    """Valid time, microseconds since 1970 in the dataset's calendar."""
    slab: str
    """Id of the commit's folder under ``captures/``."""
    local: int
    """Position in the slab."""
    sequence: int
    """Log record of the capture."""
    captured_at: str
    """Wall-clock time of the capture."""
    raw_time: bytes = b""
    """The time as it stood in an append source."""
    revises: int | None = None
    """An earlier capture of the same time, which the source has changed since."""
    suspects: int = 0
    """Chunks that are suspect, by what has been judged so far."""
    forgotten: bool = False
    """Whether it was given up; its bytes stay until the next prune."""
    tags: tuple[str, ...] = ()
    """Names that a person gave it."""
    read_at: str = ""
    """Wall-clock time before it was read: what the source changed later is not in it."""
    description: int = 0
    """How often the source had changed its attributes or fixed variables by then, in its era."""


@dataclass(frozen=True, slots=True)
class Shadow:
    """The predicted states made at one reference time."""

    id: str
    """Folder under ``shadows/``."""
    step: int
    """The last captured step that it knows: its reference."""
    reference: int
    """Reference time, an instant."""
    instants: tuple[int, ...]
    """Valid times of the leads that are there, from lead 1 on."""
    variables: Mapping[str, PredictedEntry]
    """What is predicted of each variable, and how well."""
    sequence: int
    """Log record that holds it."""
    bases: tuple[int, ...] = ()
    """Captured steps that its changes are counted from."""
    learnt: Mapping[str, LearntEntry] = field(default_factory=dict)
    """Per variable, the forecaster's state that it was made from."""
    made: tuple[int, ...] = ()
    """Valid times of all leads that it was made with."""
    lasting: int = 0
    """How many of them stay when newer shadows predict the others."""

    @property
    def leads(self) -> int:
        """How many leads it was made with."""
        return len(self.made)

    @property
    def is_whole(self) -> bool:
        """Whether all leads are there that it was made with."""
        return len(self.instants) == self.leads

    def superseded_by(self, later: "Shadow") -> "Shadow":
        """Return what stays of it beside the shadow that was made after it.

        Its later leads go if the other predicts all of their times from a capture that is nearer to
        them: of one time, the forecast with the shortest lead is the one that is used.
        """
        gone = self.instants[self.lasting :]
        if not gone or not later.instants or not later.variables.keys() >= self.variables.keys():
            return self
        # The grid moves a little between refits.
        slack = max(0, later.instants[0] - later.reference) // 2
        if not later.reference < min(gone) <= max(gone) <= later.instants[-1] + slack:
            return self
        return replace(self, instants=self.instants[: self.lasting])

    @property
    def states(self) -> frozenset[str]:
        """The commits that hold parts of that state: its own, and those that it goes on from."""
        return frozenset({self.id, *(e.anchor for e in self.learnt.values() if e.anchor)})

    @property
    def rolled(self) -> frozenset[int]:
        """Captures that are learnt on top of what those hold."""
        return frozenset(step for entry in self.learnt.values() for step in entry.rolled)


@dataclass(frozen=True, slots=True)
class Patches:
    """The estimates of the suspect chunks of a capture that are kept."""

    id: str
    """Folder under ``patches/``."""
    step: int
    """The capture."""
    shadow: str
    """Id of the shadow that they start from."""
    lead: int
    """Its lead."""
    variables: Mapping[str, PatchedEntry]
    """What was estimated of each variable that has suspect chunks."""
    between: tuple[int, int] | None = None
    """The intact captures before and after that told of them, too; None: none did."""
    notes: tuple[str, ...] = ()
    """What they had to do without."""


@dataclass(frozen=True, slots=True)
class Rollback:
    """A state that was written into a live dataset."""

    sequence: int
    """Log record with which it began."""
    id: str
    """Folder under ``replaced/`` that holds what the objects were."""
    instant: int
    """Valid time of the state."""
    live: SourceSpec
    """Where it was written."""
    is_source: bool
    """Whether that was the source, wherever the source is by now."""
    what: str
    """What was written, in one line for people."""
    objects: int
    """Objects that were replaced."""
    chunks: int
    """Chunks that changed."""
    estimated: int
    """Those of them that hold estimated cells."""
    listed: str
    """SHA-256 of the list of the objects."""
    begun_at: str
    """Wall-clock time of its record."""
    writer: Writer | None
    """Who is at work on it; None: nobody."""
    state: RollbackState = "begun"
    """How far it is."""
    since: str = ""
    """Wall-clock time of the record that says so."""
    keeps: bool = True
    """Whether the repository still knows which cells were estimates."""

    @property
    def marks(self) -> bool:
        """Whether there may be estimates of it, in the live dataset or in a copy, that are known.

        They are in all states of it: where somebody else has written to an object since, it is left
        as it is, and what was copied before it was taken back is elsewhere now.
        """
        return bool(self.estimated) and (self.state != "undone" or self.keeps)

    @property
    def is_open(self) -> bool:
        """Whether it is under way, or its process was stopped."""
        return self.state in ("begun", "undoing")
