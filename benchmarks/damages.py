"""What is damaged in a store, and how."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from benchmarks.stores import Store

type Tree = dict[str, bytes]

MOST_TRIALS = 1000
COMMIT_IDS = re.compile(r"[0-9A-Z]{20}|[0-9a-f]{8,}(-[0-9a-f]+)?")


@dataclass(frozen=True, slots=True)
class Built:
    """A pristine store."""

    store: Store
    asked: list[str]
    """What `Store.read` must ask for."""
    versions: list[Tree]
    """All files after each commit; the last are those that are damaged."""

    @property
    def files(self) -> Tree:
        return self.versions[-1]

    def other(self, name: str, generator: np.random.Generator) -> str | None:
        """Another file of the same kind with other content; of any kind, if there is none."""
        differing = sorted(n for n, data in self.files.items() if data != self.files[name])
        for kind in (_kind, lambda n: _kind(n.rpartition("/")[2]), lambda _: ""):
            alike = [n for n in differing if kind(n) == kind(name)]
            if alike:
                return str(generator.choice(alike))
        return None

    def older(self, name: str) -> bytes | None:
        """The newest older content of a file, else of its role in an earlier commit."""
        data = self.files[name]
        for version in reversed(self.versions):
            if version.get(name, data) != data:
                return version[name]
        first_version = {
            n: i for i in reversed(range(len(self.versions))) for n in self.versions[i]
        }
        role = COMMIT_IDS.sub("*", name)

        def age(other: str) -> tuple[int, str]:
            return first_version[other], other if self.store.named_by_age else ""

        older_names = [
            n
            for n, other in self.files.items()
            if COMMIT_IDS.sub("*", n) == role and age(n) < age(name) and other != data
        ]
        if not older_names:
            return None
        # of several of one commit, the one most alike
        return self.files[
            max(older_names, key=lambda n: (age(n), -abs(len(self.files[n]) - len(data)), n))
        ]


def _kind(name: str) -> str:
    return re.sub(r"\d+", "*", COMMIT_IDS.sub("*", name))


type Damage = dict[str, bytes | None]
"""By file name: its new bytes, or None where it is gone."""
type Fault = Callable[[Built, str, np.random.Generator], Damage | None]
"""Returns None where the fault cannot be applied to a file."""


def change_byte(
    built: Built, name: str, generator: np.random.Generator, *, one_bit: bool
) -> Damage | None:
    """One bit is flipped, or one byte is any other byte."""
    data = bytearray(built.files[name])
    if not data:
        return None
    mask = 1 << generator.integers(8) if one_bit else generator.integers(1, 256)
    data[generator.integers(len(data))] ^= int(mask)
    return {name: bytes(data)}


def zero(
    built: Built, name: str, generator: np.random.Generator, *, size: int, least: int
) -> Damage | None:
    """An aligned piece that is not zero already becomes zero."""
    data = built.files[name]
    starts = [i for i in range(0, len(data), size) if any(data[i : i + size])]
    if len(data) < least or not starts:
        return None
    start = int(generator.choice(starts))
    end = min(start + size, len(data))
    return {name: data[:start] + bytes(end - start) + data[end:]}


def truncate(built: Built, name: str, generator: np.random.Generator) -> Damage | None:
    """Nothing is left from a random place on."""
    data = built.files[name]
    return {name: data[: generator.integers(len(data))]} if data else None


def delete(_built: Built, name: str, _generator: np.random.Generator) -> Damage | None:
    """The file is gone."""
    return {name: None}


def swap(built: Built, name: str, generator: np.random.Generator) -> Damage | None:
    """Two files have each other's content."""
    other = built.other(name, generator)
    if other is None:
        return None
    return {name: built.files[other], other: built.files[name]}


def revert(built: Built, name: str, _generator: np.random.Generator) -> Damage | None:
    """The file has the content of an older version."""
    older = built.older(name)
    return None if older is None else {name: older}


FAULTS: dict[str, Fault] = {
    "bit_flip": partial(change_byte, one_bit=True),
    "byte": partial(change_byte, one_bit=False),
    "sector_512": partial(zero, size=512, least=1),
    "block_4096": partial(zero, size=4096, least=4096),
    "truncated": truncate,
    "deleted": delete,
    "swapped": swap,
    "stale": revert,
}


def draw(
    built: Built, fault: Fault, trials: int | None, generator: np.random.Generator
) -> list[Damage]:
    """Damages of files in random order, round after round; by default of each file once."""
    names = [str(name) for name in generator.permutation(sorted(built.files))]
    first = [(name, fault(built, name, generator)) for name in names]
    damages = [damage for _, damage in first if damage is not None]
    names = [name for name, damage in first if damage is not None]
    wanted = min(len(names), MOST_TRIALS) if trials is None else trials
    while names and len(damages) < wanted:
        again = (fault(built, name, generator) for name in names)
        damages += [damage for damage in again if damage is not None]
    return damages[:wanted]
