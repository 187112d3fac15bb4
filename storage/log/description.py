"""Descriptions: the attributes and fixed variables that captures were made with.

The settings hold the description of init.  A capture record says what has changed since the capture
before it, and nothing where nothing has: :class:`Change` is that part of its body.
"""

import json
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from gnomon.storage.values.attributes import attributes_from_json, attributes_to_json
from gnomon.storage.values.documents import anything, items, members, number, optional, text, whole
from gnomon.storage.values.meaning import IDENTITY, reading
from gnomon.storage.values.model import (
    RepositorySettings,
    Variable,
    frame_entry,
    frame_entry_to_json,
)
from gnomon.storage.values.plausible import members_of
from gnomon.storage.values.scaling import Packing

__all__ = [
    "Change",
    "Description",
    "Edit",
    "described",
    "exact",
    "files_in_use",
    "same_entry",
]

Attributes = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Description:
    """How a source described itself."""

    attributes: Attributes
    """Global attributes."""
    variables: Mapping[str, Attributes]
    """Attributes of every captured variable."""
    time: Attributes
    """Attributes of the time coordinate of an append source."""
    fixed: Mapping[str, dict[str, Any]]
    """Variables that do not change with time: dims, attributes, dtype, shape, file, hash."""
    unprotected: Mapping[str, str] | None = None
    """Variables that change with time and are not captured, and why; None: never looked at."""
    conversions: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """By variable: factor and shift by which numbers in its units are in those of init."""

    @classmethod
    def of(cls, settings: RepositorySettings) -> "Description":
        """Return the description that an era began with."""
        return cls(
            settings.attributes,
            {v.name: v.attributes for v in settings.variables},
            settings.time_attributes,
            settings.frame_entries,
        )

    def files(self) -> set[str]:
        """Return the names of the objects that hold the fixed variables."""
        return {str(entry["file"]) for entry in self.fixed.values()}

    def reading(self, variable: Variable) -> Packing:
        """Return how raw values of a variable are read."""
        attributes = self.variables[variable.name]
        return reading(variable.numpy_dtype, attributes, self.conversions.get(variable.name))


def exact(value: Any) -> str:
    """Return a text that is equal for attributes of the same type and bits, and for no others."""
    return json.dumps(attributes_to_json({"": value}), sort_keys=True)


SAVED = 256
"""Characters that a long text must share with the one before to be kept as a change of it: a
history grows by a line with each file."""


@dataclass(frozen=True, slots=True)
class Edit:
    """What has changed in a set of attributes."""

    put: Attributes = field(default_factory=dict)
    """New or other attributes."""
    grown: Mapping[str, tuple[int, int, str]] = field(default_factory=dict)
    """Long texts: characters kept from the beginning, from the end, and what is between."""
    gone: tuple[str, ...] = ()
    """Attributes that are no more."""

    def __bool__(self) -> bool:
        return bool(self.put or self.grown or self.gone)

    def touches(self, names: Iterable[str]) -> bool:
        """Tell whether it changes one of some attributes."""
        return any(n in self.put or n in self.grown or n in self.gone for n in names)

    @classmethod
    def between(cls, before: Attributes, after: Attributes) -> "Edit":
        """Return what leads from one set of attributes to another."""
        put = {n: v for n, v in after.items() if n not in before or exact(before[n]) != exact(v)}
        grown = {n: grew for n, v in put.items() if (grew := _grown(before.get(n), v)) is not None}
        put = {n: v for n, v in put.items() if n not in grown}
        return cls(put, grown, tuple(n for n in before if n not in after))

    def after(self, before: Attributes) -> dict[str, Any]:
        """Return the attributes that this leads to; ValueError if it does not fit those before."""
        attributes = {n: v for n, v in before.items() if n not in self.gone} | dict(self.put)
        for name, (head, tail, between) in self.grown.items():
            value = before.get(name)
            if not isinstance(value, str) or head + tail > len(value):
                raise ValueError(f"the attribute {name!r:.80} is no text of such a length")
            attributes[name] = value[:head] + between + value[len(value) - tail :]
        return attributes

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, without what is empty."""
        data = {
            "put": attributes_to_json(dict(self.put)),
            "grown": {name: list(parts) for name, parts in self.grown.items()},
            "gone": list(self.gone),
        }
        return {name: part for name, part in data.items() if part}

    @classmethod
    def from_json(cls, data: object) -> "Edit":
        """Read the JSON form; ValueError or the like if it is not one."""
        parts = members_of(data)
        return cls(
            attributes_from_json(parts.get("put", {})),
            members(parts.get("grown", {}), "grown", _grown_from_json),
            items(parts.get("gone", []), "gone", text),
        )


def _grown(before: Any, after: Any) -> tuple[int, int, str] | None:
    if not isinstance(before, str) or not isinstance(after, str):
        return None
    most = min(len(before), len(after))
    head = _common(before, after, most)
    tail = _common(before[::-1], after[::-1], most - head)
    return (head, tail, after[head : len(after) - tail]) if head + tail >= SAVED else None


def _common(first: str, second: str, most: int) -> int:
    """Return how many characters two texts have in common at their start, by bisection."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _grown_from_json(value: object, what: str) -> tuple[int, int, str]:
    head, tail, between = items(value, what, anything, most=3)
    if not isinstance(between, str):
        raise ValueError(f"{what} has a {type(between).__name__}, expected a text")
    return whole(head, what, least=0), whole(tail, what, least=0), between


def _line_from_json(value: object, what: str) -> tuple[float, float]:
    factor, shift = items(value, what, number, most=2)
    if not factor:
        raise ValueError(f"{what} has a factor of 0")
    return factor, shift


@dataclass(frozen=True, slots=True)
class Change:
    """What leads from one description to the next."""

    attributes: Edit = field(default_factory=Edit)
    """Of the dataset."""
    variables: Mapping[str, Edit] = field(default_factory=dict)
    """Of captured variables."""
    time: Edit = field(default_factory=Edit)
    """Of the time coordinate."""
    fixed: Mapping[str, dict[str, Any] | None] = field(default_factory=dict)
    """Fixed variables that are new or others than before; None: gone."""
    unprotected: Mapping[str, str] | None = None
    """What is not protected, where that has changed."""
    conversions: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """By variable: what converts numbers to the units of init, where that has changed."""
    alike: tuple[str, ...] = ()
    """Variables that are packed otherwise, or told in other units, and mean what they meant."""

    def __bool__(self) -> bool:
        changed = self.attributes or self.variables or self.time or self.fixed or self.conversions
        return bool(changed or self.alike) or self.unprotected is not None

    @classmethod
    def between(cls, before: Description, after: Description) -> "Change":
        """Return what leads from one description to another of the same variables."""
        edits = {
            n: Edit.between(before.variables[n], attributes)
            for n, attributes in after.variables.items()
        }
        gone = dict.fromkeys(before.fixed.keys() - after.fixed.keys())
        other = {n: e for n, e in after.fixed.items() if not same_entry(before.fixed.get(n), e)}
        return cls(
            Edit.between(before.attributes, after.attributes),
            {n: edit for n, edit in edits.items() if edit},
            Edit.between(before.time, after.time),
            gone | other,
            None if before.unprotected == after.unprotected else after.unprotected,
            {
                n: after.conversions.get(n, IDENTITY)
                for n in before.conversions.keys() | after.conversions.keys()
                if before.conversions.get(n, IDENTITY) != after.conversions.get(n, IDENTITY)
            },
        )

    def after(self, before: Description) -> Description:
        """Return the description that this leads to."""
        variables = dict(before.variables)
        for name, edit in self.variables.items():
            variables[name] = edit.after(before.variables[name])
        fixed = {n: e for n, e in {**before.fixed, **self.fixed}.items() if e is not None}
        return Description(
            self.attributes.after(before.attributes) if self.attributes else before.attributes,
            variables,
            self.time.after(before.time) if self.time else before.time,
            fixed,
            before.unprotected if self.unprotected is None else self.unprotected,
            {**before.conversions, **self.conversions},
        )

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, without what is empty."""
        fixed = {n: e and frame_entry_to_json(e) for n, e in self.fixed.items()}
        data = {
            "attributes": self.attributes.to_json(),
            "variables": {n: edit.to_json() for n, edit in self.variables.items()},
            "time": self.time.to_json(),
            "fixed": fixed,
            "conversions": {n: list(line) for n, line in self.conversions.items()},
            "alike": list(self.alike),
        }
        unprotected = {} if self.unprotected is None else {"unprotected": dict(self.unprotected)}
        return {name: part for name, part in data.items() if part} | unprotected

    @classmethod
    def from_json(cls, data: object) -> "Change":
        """Read the JSON form; ValueError or the like if it is not one."""
        parts = members_of(data)
        return cls(
            Edit.from_json(parts.get("attributes", {})),
            members(parts.get("variables", {}), "variables", lambda v, _: Edit.from_json(v)),
            Edit.from_json(parts.get("time", {})),
            members(
                parts.get("fixed", {}),
                "fixed",
                lambda v, what: optional(v, lambda entry: frame_entry(entry, what)),
            ),
            optional(parts.get("unprotected"), lambda v: members(v, "unprotected", text)),
            members(parts.get("conversions", {}), "conversions", _line_from_json),
            items(parts.get("alike", []), "alike", text),
        )


def same_entry(first: dict[str, Any] | None, second: dict[str, Any] | None) -> bool:
    """Tell whether two entries have the same bytes, layout and attributes."""
    if first is None or second is None:
        return first is second
    return all(
        first[name] == second[name] for name in ("dims", "dtype", "shape", "hash")
    ) and not Edit.between(first["attributes"], second["attributes"])


def described(settings: RepositorySettings, changes: Iterable[Change]) -> Description:
    """Return the description that changes lead to, beginning with that of an era's settings."""
    description = Description.of(settings)
    for change in changes:
        description = change.after(description)
    return description


def files_in_use(
    settings: RepositorySettings, changes: Sequence[Change], numbers: Set[int]
) -> frozenset[str]:
    """Return the objects that hold the fixed variables of some descriptions.

    Parameters
    ----------
    numbers
        After how many of the changes a description was in force.
    """
    files: set[str] = set()
    description = Description.of(settings)
    for count, change in enumerate((Change(), *changes)):
        if change.fixed:
            description = Change(fixed=change.fixed).after(description)
        if count in numbers:
            files |= description.files()
    return frozenset(files)
