"""What a prune and a repair say of the objects of a repository."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from gnomon.storage.log.bodies.body import ALL_WRITTEN, Margin
from gnomon.storage.log.staging import Entry, read_entries, sequence_of
from gnomon.storage.values.documents import items, text

__all__ = ["PruneBody", "RepairBody"]


@dataclass(frozen=True, slots=True)
class PruneBody:
    """Of all eras, only what is live is there from now on."""

    kind: ClassVar[str] = "prune"
    removed: tuple[str, ...] | None = None
    """Folders that no commit names and that are removed: their runs can commit no more; None: all
    that were begun before."""
    margin: Margin = ALL_WRITTEN
    """What the record says beside."""

    _SOMETIMES: ClassVar = frozenset({"removed"})

    def removes(self, sequence: int, folder: str) -> bool:
        """Tell whether it removed a folder that no record named: its run can commit no more.

        Parameters
        ----------
        sequence
            Number of its record.
        """
        if self.removed is not None:
            return folder in self.removed
        begun = sequence_of(folder)
        return begun is None or begun <= sequence

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        fields = {} if self.removed is None else {"removed": list(self.removed)}
        return self.margin.around(fields)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "PruneBody":
        """Read the JSON form; ValueError if it is none."""
        removed = items(data["removed"], "removed", text) if "removed" in data else None
        return cls(removed, Margin.of(data, frozenset(), cls._SOMETIMES))


@dataclass(frozen=True, slots=True)
class RepairBody:
    """Objects hold what they held, packed otherwise; the last record counts."""

    kind: ClassVar[str] = "repair"
    objects: Mapping[str, Entry]
    """Their size and hash from now on, by name."""
    margin: Margin = ALL_WRITTEN
    """What the record says beside."""

    _ALWAYS: ClassVar = frozenset({"objects"})

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return self.margin.around({"objects": {n: list(e) for n, e in self.objects.items()}})

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "RepairBody":
        """Read the JSON form; ValueError or the like if it is not one."""
        return cls(read_entries(data["objects"]), Margin.of(data, cls._ALWAYS))
