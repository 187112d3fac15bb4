"""What the bodies of all kinds of log records have in common.

Reading a body raises ValueError, KeyError or TypeError where it is not what a writer would have
left; whoever reads the log makes one error of these.  That the captures and chunks of which a body
speaks are there is checked by :func:`gnomon.storage.log.folding.fold`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import Any, Protocol

from gnomon.storage.values.documents import items, number, text, whole

__all__ = [
    "ALL_WRITTEN",
    "Body",
    "Header",
    "Margin",
    "claim",
    "folder_name",
    "numbers",
]

LONGEST = 200
"""Characters of a folder's name: most file systems take 255 bytes."""
_PLAIN = re.compile(r"(?!\.)[ -.0-\[\]-~]+")
"""What is printable in ASCII, but for slashes, and a dot at the beginning."""
ENVELOPE = frozenset({"id", "manifest", "era"})
"""Fields of the header."""


class Body(Protocol):
    """What a record of one kind says."""

    @property
    def kind(self) -> str:
        """The kind of the record."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, without the header."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a body of any kind may say of its commit."""

    id: str | None = None
    """The folder of what was written for it; None: nothing was."""
    manifest: str | None = None
    """SHA-256 of the manifest of the folder."""
    era: int | None = None
    """The era that it speaks of; None: the newest."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, without what is not said."""
        fields = {"id": self.id, "manifest": self.manifest, "era": self.era}
        return {name: value for name, value in fields.items() if value is not None}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Header":
        """Read it from a body; ValueError if it is none."""
        return cls(
            folder_name(data["id"]) if "id" in data else None,
            str(data["manifest"]) if "manifest" in data else None,
            whole(data["era"], "era", least=0) if "era" in data else None,
        )


@dataclass(frozen=True, slots=True)
class Margin:
    """Where the fields that were read are not those that this program writes.

    Nothing in it is interpreted. With it, what was read can be written back unchanged.
    """

    further: Mapping[str, Any] = field(default_factory=dict)
    """Fields that a newer program has added."""
    unsaid: frozenset[str] = frozenset()
    """Fields that an older program did not write; they have the value that stands for it."""

    @classmethod
    def of(
        cls,
        data: Mapping[str, Any],
        always: frozenset[str],
        sometimes: frozenset[str] = frozenset(),
    ) -> "Margin":
        """Return the margin of what was read.

        Parameters
        ----------
        always
            Fields that this program always writes.
        sometimes
            Fields that it writes if there is something to say.
        """
        if data.keys() == always:
            return ALL_WRITTEN
        unsaid = always - data.keys()
        further = data.keys() - always - sometimes - ENVELOPE
        if not unsaid and not further:
            return ALL_WRITTEN
        return cls({name: data[name] for name in further}, unsaid)

    def around(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return fields as they were read."""
        return {n: v for n, v in fields.items() if n not in self.unsaid} | dict(self.further)


ALL_WRITTEN = Margin()
"""The margin of what this program has made."""


def claim(value: object, what: str, *, least: float = 0.0, most: float = inf) -> float:
    """Return a number within limits, unchanged: a whole one stays whole, with its digits."""
    number(value, what, least=least, most=most)
    return value  # type: ignore[return-value]


def numbers(value: object) -> tuple[int, ...]:
    """Return the numbers of captures."""
    return items(value, "step", partial(whole, least=0))


def folder_name(name: object) -> str:
    """Return the name of a commit's folder, or a hash: it must be short plain text."""
    folder = text(name, "the name of a folder, or a hash", most=LONGEST)
    if not _PLAIN.fullmatch(folder):
        raise ValueError(f"{folder!r} is not the name of a folder")
    return folder
