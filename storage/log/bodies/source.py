"""What is captured from now on: another era, further variables, a source in another place."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from gnomon.storage.log.bodies.body import ALL_WRITTEN, Margin
from gnomon.storage.values.documents import items
from gnomon.storage.values.model import RepositorySettings, SourceSpec, Variable
from gnomon.storage.values.plausible import members_of

__all__ = ["EraBody", "InitBody", "SourceBody", "VariablesBody"]


@dataclass(frozen=True, slots=True)
class InitBody:
    """The repository was made; it says nothing more, ``gnomon.json`` does."""

    kind: ClassVar[str] = "init"
    margin: Margin = ALL_WRITTEN
    """What the record says beside."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return self.margin.around({})

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "InitBody":
        """Read the JSON form."""
        return cls(Margin.of(data, frozenset()))


@dataclass(frozen=True, slots=True)
class EraBody:
    """A new era begins."""

    kind: ClassVar[str] = "era"
    settings: RepositorySettings
    """What is captured in it, and on which grid."""
    margin: Margin = ALL_WRITTEN
    """What the record says beside."""

    _ALWAYS: ClassVar = frozenset({"settings"})

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return self.margin.around({"settings": self.settings.to_json()})

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "EraBody":
        """Read the JSON form; ValueError or the like if it is not one."""
        return cls(RepositorySettings.from_json(data["settings"]), Margin.of(data, cls._ALWAYS))


@dataclass(frozen=True, slots=True)
class VariablesBody:
    """Further variables are captured from the next capture on."""

    kind: ClassVar[str] = "variables"
    added: tuple[Variable, ...]
    """They, with the number of the next capture."""
    margin: Margin = ALL_WRITTEN
    """What the record says beside."""

    _ALWAYS: ClassVar = frozenset({"added"})

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return self.margin.around({"added": [variable.to_json() for variable in self.added]})

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "VariablesBody":
        """Read the JSON form; ValueError or the like if it is not one."""
        added = items(data["added"], "added", lambda v, _: Variable.from_json(members_of(v)))
        return cls(added, Margin.of(data, cls._ALWAYS))


@dataclass(frozen=True, slots=True)
class SourceBody:
    """The source of the era is in another place from now on."""

    kind: ClassVar[str] = "source"
    source: SourceSpec
    """Where, and how it is opened."""
    margin: Margin = ALL_WRITTEN
    """What the record says beside."""

    _ALWAYS: ClassVar = frozenset({"source"})

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return self.margin.around({"source": asdict(self.source)})

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "SourceBody":
        """Read the JSON form; ValueError or the like if it is not one."""
        return cls(SourceSpec.from_json(members_of(data["source"])), Margin.of(data, cls._ALWAYS))
