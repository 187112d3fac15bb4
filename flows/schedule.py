"""When the next update is due: before the confidence would fall below its target."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gnomon.storage.log.bodies.shadow import PredictedEntry

__all__ = ["Due", "dataset_confidence", "next_due"]


@dataclass(frozen=True, slots=True)
class Due:
    """When to capture next, and why."""

    lead: int
    """Capture intervals from the reference time."""
    valid_time: str
    """The same as a time, ISO 8601."""
    reason: str
    """Why not sooner or later."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


def dataset_confidence(variables: Sequence[PredictedEntry]) -> list[float]:
    """Return the confidence of a dataset at leads 1..H, the least of its variables.

    A variable that never changed does not count beside those that do: nothing about it says when
    to look next.  Nor does one of which nothing is predicted.
    """
    moving = [v for v in variables if v.usual_change != 0] or variables
    by_lead = zip(*(v.confidence for v in moving), strict=True)
    return [min((float(c) for c in each if c is not None), default=0.0) for each in by_lead]


def next_due(
    confidence: Sequence[float], valid_times: Sequence[str], *, target: float, suspects: int
) -> Due:
    """Return the longest lead whose confidence, and that of all before, meets the target.

    Parameters
    ----------
    confidence
        Of the dataset at leads 1..H.
    valid_times
        Of the same leads.
    suspects
        Suspect chunks of the newest capture; with any, the next one is due at once.
    """
    if suspects:
        word = "chunk is" if suspects == 1 else "chunks are"
        return Due(1, valid_times[0], f"{suspects} {word} suspect in the newest capture")
    lead = 0
    while lead < len(confidence) and confidence[lead] >= target:
        lead += 1
    if lead == 0:
        return Due(
            1, valid_times[0], f"confidence {confidence[0]:.2f} is below {target:.2f} at once"
        )
    reason = f"confidence {confidence[lead - 1]:.2f} at lead {lead} still meets {target:.2f}"
    return Due(lead, valid_times[lead - 1], reason)
