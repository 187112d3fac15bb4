"""What the log records say was captured, predicted and estimated, as values."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gnomon.storage.log.bodies.patch import PatchedEntry
from gnomon.storage.log.bodies.shadow import LearntEntry, PredictedEntry

__all__ = ["CapturedStep", "Patches", "Shadow"]


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
    """Valid times of leads 1..H."""
    variables: Mapping[str, PredictedEntry]
    """What is predicted of each variable, and how well."""
    sequence: int
    """Log record that holds it."""
    bases: tuple[int, ...] = ()
    """Captured steps that its changes are counted from."""
    learnt: Mapping[str, LearntEntry] = field(default_factory=dict)
    """Per variable, the forecaster's state that it was made from."""


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
    notes: tuple[str, ...] = ()
    """What they had to do without."""
