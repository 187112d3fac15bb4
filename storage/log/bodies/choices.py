"""What a person, or a rule that a person gave, has decided of captures."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from gnomon.storage.log.bodies.body import ALL_WRITTEN, Margin, numbers
from gnomon.storage.values.documents import (
    items,
    members,
    number,
    optional,
    plain_name,
    text,
    whole,
)
from gnomon.storage.values.plausible import members_of

__all__ = ["AutoHeal", "ForgetBody", "RulesBody", "TagBody"]


@dataclass(frozen=True, slots=True)
class ForgetBody:
    """Captures are given up."""

    kind: ClassVar[str] = "forget"
    steps: tuple[int, ...]
    """Their numbers, which are not used again."""
    reason: str
    """For people: the policy, or that they were named."""
    margin: Margin = ALL_WRITTEN
    """What the record says beside."""

    _ALWAYS: ClassVar = frozenset({"steps", "reason"})

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return self.margin.around({"steps": list(self.steps), "reason": self.reason})

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "ForgetBody":
        """Read the JSON form; ValueError or the like if it is not one."""
        return cls(numbers(data["steps"]), data.get("reason", ""), Margin.of(data, cls._ALWAYS))


@dataclass(frozen=True, slots=True)
class TagBody:
    """Captures are given names, then names are taken away."""

    kind: ClassVar[str] = "tag"
    steps: tuple[int, ...]
    """Numbers of the captures."""
    add: tuple[str, ...]
    """Names that they are given."""
    remove: tuple[str, ...]
    """Names that they have no more."""
    margin: Margin = ALL_WRITTEN
    """What the record says beside."""

    _ALWAYS: ClassVar = frozenset({"steps", "add", "remove"})

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        fields = {"steps": self.steps, "add": self.add, "remove": self.remove}
        return self.margin.around({name: list(value) for name, value in fields.items()})

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "TagBody":
        """Read the JSON form; ValueError or the like if it is not one."""
        return cls(
            numbers(data["steps"]),
            items(data.get("add", []), "add", text),
            items(data.get("remove", []), "remove", text),
            Margin.of(data, cls._ALWAYS),
        )


@dataclass(frozen=True, slots=True)
class AutoHeal:
    """Which estimates of suspect chunks are written into the source without being asked."""

    errors: Mapping[str, float]
    """By variable, the largest expected RMSE of a chunk that is written, in its units."""
    confidence: float
    """The least confidence of a chunk that is written."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"errors": dict(self.errors), "confidence": self.confidence}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "AutoHeal":
        """Read the JSON form; ValueError or the like if it is not one."""
        return cls(
            members(data["errors"], "errors", partial(number, least=0.0)),
            number(data["confidence"], "confidence", least=0.0, most=1.0),
        )


@dataclass(frozen=True, slots=True)
class RulesBody:
    """The standing rules; the last record counts."""

    kind: ClassVar[str] = "rules"
    revisable: int | None
    """How long after it a state may be revised by the source, microseconds; None: there is no
    rule."""
    candidates: tuple[str, ...] = ()
    """Names of the forecasting models beside the built-in ones."""
    auto_heal: AutoHeal | None = None
    """What is put right in the source by itself; None: nothing."""
    margin: Margin = ALL_WRITTEN
    """What the record says beside."""

    _ALWAYS: ClassVar = frozenset({"revisable"})
    _SOMETIMES: ClassVar = frozenset({"candidates", "auto_heal"})

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        fields: dict[str, Any] = {"revisable": self.revisable}
        if self.candidates:
            fields["candidates"] = list(self.candidates)
        if self.auto_heal is not None:
            fields["auto_heal"] = self.auto_heal.to_json()
        return self.margin.around(fields)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "RulesBody":
        """Read the JSON form; ValueError or the like if it is not one."""
        age = optional(data["revisable"], lambda v: whole(v, "revisable", least=0))
        names = items(data.get("candidates", []), "candidates", plain_name)
        heal = AutoHeal.from_json(members_of(data["auto_heal"])) if "auto_heal" in data else None
        return cls(age, names, heal, Margin.of(data, cls._ALWAYS, cls._SOMETIMES))
