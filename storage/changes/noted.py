"""What a source has changed of its attributes and fixed variables, in words."""

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Any

import numpy as np

from gnomon.storage.log.description import Change, Description, exact
from gnomon.storage.redaction import redacted
from gnomon.storage.source.unprotected import NEW, advice
from gnomon.storage.values.meaning import same_value
from gnomon.storage.values.model import RepositorySettings
from gnomon.storage.values.units import same_units

__all__ = [
    "MOST_NOTES",
    "Remark",
    "differences",
    "note_doubts",
    "note_fixed",
    "note_remarks",
    "note_unprotected",
    "shown",
]

MOST_NOTES = 20
"""Changed attributes that are told one by one."""
LONGEST = 60
"""Characters of a value that are told."""


@dataclass(frozen=True, slots=True)
class Remark:
    """An attribute that is not what it was; None where it is not there."""

    of: str
    """What it is an attribute of."""
    key: str
    """Its name there."""
    before: Any
    """What it was."""
    now: Any
    """What it is."""

    @property
    def name(self) -> str:
        """Its full name, in words."""
        return f"{self.key} of {self.of}"

    def __str__(self) -> str:
        """Say what the attribute was and what it is now."""
        before, now = _short(self.before), _short(self.now)
        if self.before is None:
            return f"{self.name} is new: {now}"
        if self.now is None:
            return f"{self.name} is gone, it was {before}"
        if before == now:
            return f"{self.name} has changed, and begins with {now} still"
        alike = self.key == "units" and same_units(str(self.before), str(self.now))
        means = ", which means the same" if alike or same_value(self.before, self.now) else ""
        return f"{self.name} was {before}, is {now}{means}"


def differences(
    before: Description, after: Description, settings: RepositorySettings
) -> list[Remark]:
    """Return the attributes that are not exactly what they were at the last capture."""
    pairs = {n: (before.variables[n], after.variables[n]) for n in after.variables}
    pairs[str(settings.source.time)] = before.time, after.time
    for name in sorted(before.fixed.keys() & after.fixed.keys()):
        pairs[name] = before.fixed[name]["attributes"], after.fixed[name]["attributes"]
    pairs["the dataset"] = before.attributes, after.attributes
    return [
        Remark(of, key, was.get(key), now.get(key))
        for of, (was, now) in pairs.items()
        for key in sorted({*was, *now})
        if key not in was or key not in now or exact(was[key]) != exact(now[key])
    ]


def note_doubts(doubts: Mapping[str, list[Remark]], changed: list[Remark]) -> Iterable[str]:
    """Yield what gives values another meaning, where that has changed since the last capture."""
    new = {difference.name for difference in changed}
    for name, differences in doubts.items():
        if new & {difference.name for difference in differences}:
            yield (
                f"{name}: {'; '.join(map(str, differences))}; its values may mean something else "
                "now and are suspect, until a person accepts that with 'gnomon anomalies --accept'"
            )


def note_fixed(before: Description, change: Change, grid: Set[str]) -> Iterable[str]:
    """Yield which fixed variables are new, gone or changed; those of the grid only by rounding."""
    for name, now in change.fixed.items():
        previous = before.fixed.get(name)
        if now is None:
            yield f"the source lost {name!r}, which is fixed in time; captures go on without it"
        elif previous is None:
            yield f"{name!r} is new in the source and fixed in time: captures have it from now on"
        elif (previous["hash"], previous["dtype"]) == (now["hash"], now["dtype"]):
            continue
        elif name in grid:
            yield f"{name!r} of the source differs from what it was by rounding alone"
        else:
            yield (
                f"{name!r} of the source, which is fixed in time, has other values now; each "
                "capture is kept with those that it was made with"
            )


def note_unprotected(before: Mapping[str, str] | None, now: Mapping[str, str]) -> Iterable[str]:
    """Yield which variables of the source are not protected and were not there before."""
    for name, reason in now.items():
        if reason == NEW if before is None else name not in before:
            yield f"{name!r} of the source is not protected: {advice(reason)}"


def note_remarks(doubts: Mapping[str, list[Remark]], changed: list[Remark]) -> Iterable[str]:
    """Yield the changed attributes that change no meaning."""
    names = {difference.name for differences in doubts.values() for difference in differences}
    remarks = [difference for difference in changed if difference.name not in names]
    yield from map(str, remarks[:MOST_NOTES])
    if len(remarks) > MOST_NOTES:
        yield f"{len(remarks) - MOST_NOTES} more attributes have changed; 'gnomon diff' shows them"


def _short(value: Any) -> str:
    text = repr(shown(value)) if isinstance(value, str) else shown(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def shown(value: Any) -> str:
    """Return an attribute as text, without secrets; numbers with a type that Python lacks."""
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biufcmM":
        array = value.astype(str) if value.dtype.kind in "cmM" else value
        return f"{array.tolist()} ({value.dtype.name})"
    return redacted(str(value))
