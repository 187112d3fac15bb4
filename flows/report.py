"""What a run of the cycle says of itself."""

from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["UpdateReport"]


@dataclass(slots=True)
class UpdateReport:
    """What a cycle did."""

    repository: str
    """Where it lives."""
    skipped: str = ""
    """Why nothing was done, and the source not looked at: the next update is not due yet."""
    captured: list[str] = field(default_factory=list)
    """Valid times of the new captures."""
    judged: int = 0
    """New chunks that were checked."""
    suspect_chunks: int = 0
    """New chunks that the check refused."""
    incidents: list[dict[str, Any]] = field(default_factory=list)
    """What they have in common."""
    late: int = 0
    """New captures that are older than the newest."""
    revised: int = 0
    """Captures that the source had changed, and that were captured again."""
    unread: list[dict[str, str]] = field(default_factory=list)
    """States that were left out, as the source holds them damaged: `valid_time` and `error`; the
    next run tries again."""
    left_out: list[dict[str, Any]] = field(default_factory=list)
    """Steps whose time is missing or not believed: `positions` in the source, `value` as it tells
    it, `valid_time` and `reason`; each is captured once it is mended, or accepted."""
    incomplete: list[str] = field(default_factory=list)
    """Valid times of new captures of which a chunk has none of the values that it had before: they
    are captured again once the source has them."""
    waiting: dict[str, Any] | None = None
    """Steps that are laid out in the source and have no value yet: `count`, `first`, `last`."""
    notes: list[str] = field(default_factory=list)
    """What the source has changed of its attributes and fixed variables since the last capture."""
    failed_checks: dict[str, str] = field(default_factory=dict)
    """Checks, or entry points of checks, that could not be made of some chunk or at all, and why;
    what they have no number for they do not judge."""
    failed_candidates: dict[str, str] = field(default_factory=dict)
    """Forecasting models of the user's choice that failed and were left out, and why."""
    refit: dict[str, str] = field(default_factory=dict)
    """Variables that were learnt anew, and why."""
    doubted: int = 0
    """Chunks of older captures that a refit did not believe."""
    confidence: dict[str, list[float | None]] = field(default_factory=dict)
    """Per variable: confidence at leads 1..H of the new shadow; None where nothing is predicted."""
    withheld: dict[str, list[str]] = field(default_factory=dict)
    """Per variable: chunks that are not in the new shadow, as a check refused their prediction."""
    unpredicted: dict[str, int] = field(default_factory=dict)
    """Per variable: cells that have values and are not in the new shadow, for whatever reason."""
    findings: list[dict[str, Any]] = field(default_factory=list)
    """What the check of the new shadow found, the first of it."""
    due: dict[str, Any] | None = None
    """When the next update is due."""
    healed: dict[str, int] = field(default_factory=dict)
    """By valid time of captures: suspect chunks whose estimates were made, and are kept."""
    unhealed: dict[str, str] = field(default_factory=dict)
    """By valid time of captures: why their suspect chunks could not be estimated."""
    put_right: list[dict[str, Any]] = field(default_factory=list)
    """Suspect chunks whose estimates were written into the source, as a rule allows: `valid_time`,
    `chunks` by variable, `rollback`, and `error` where it failed."""
    left_alone: list[dict[str, Any]] = field(default_factory=list)
    """Suspect chunks of this run that such a rule is about and that were not put right:
    `valid_time`, `chunks` by variable, and `reason`."""
    repeated: list[str] = field(default_factory=list)
    """What was done again, because another writer had changed what it rested on."""
    alerts_sent: int = 0
    """Alerts that a channel took, one for each channel; of runs before this one too."""
    alerts_unsent: list[dict[str, Any]] = field(default_factory=list)
    """Alerts that are due and were not sent, and why; the next run tries again."""
    message: str = ""
    """One line for people."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)
