"""Subsets of the stored bytes, for checks that read a part at a time."""

import json
import re
from dataclasses import dataclass
from typing import Any

import xxhash

from gnomon.storage.errors import Conflict, GnomonError, InvalidInput
from gnomon.storage.log.location import Location
from gnomon.storage.values.documents import NONSENSE, parse, text

__all__ = ["Subset", "parse_subset", "remember", "select"]

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_POSITIONS = "checks/"


@dataclass(frozen=True, slots=True)
class Subset:
    """Which part of the stored bytes is read."""

    part: int = 0
    """Of `parts` parts by name, the one that is read, from 1; 0: go on from the last check."""
    parts: int = 0
    """How many parts there are."""
    share: float = 0.0
    """Share of all bytes to read, going on from the last check; 0: as many as `nbytes`."""
    nbytes: int = 0
    """Bytes to read, going on from the last check."""


def parse_subset(text: str) -> Subset:
    """Read ``5%``, ``3/10`` or ``500MB``.

    Raises
    ------
    InvalidInput
        It is none of these.
    """
    wrong = InvalidInput(
        f"{text!r} is not a part of the data; give a percentage (5%), a part (3/10) or a size "
        "(500MB)"
    )
    plain = text.strip()
    if match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", plain):
        if not 0 < float(match[1]) <= 100:
            raise wrong
        return Subset(share=float(match[1]) / 100)
    if match := re.fullmatch(r"(\d+)/(\d+)", plain):
        if not 1 <= int(match[1]) <= int(match[2]):
            raise wrong
        return Subset(part=int(match[1]), parts=int(match[2]))
    if match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)i?B?", plain, re.IGNORECASE):
        nbytes = int(float(match[1]) * _UNITS[match[2].upper()])
        if nbytes < 1:
            raise wrong
        return Subset(nbytes=nbytes)
    raise wrong


def select(subset: Subset, sizes: dict[str, int], location: Location) -> list[str]:
    """Return the names of the objects to read, in the order in which they are read."""
    names = sorted(sizes)
    if subset.parts:
        return [n for n in names if _part(n, subset.parts) == subset.part]
    limit = subset.nbytes or subset.share * sum(sizes.values())
    last = _position(location)
    ordered = [n for n in names if n > last] + [n for n in names if n <= last]
    chosen: list[str] = []
    read = 0
    for name in ordered:
        if read >= limit:
            break
        chosen.append(name)
        read += sizes[name]
    return chosen


def _part(name: str, parts: int) -> int:
    return xxhash.xxh3_64_intdigest(name.encode()) % parts + 1


def _position(location: Location) -> str:
    """Return the last object that an earlier check read; empty if there was none."""
    for name in reversed(location.list(_POSITIONS)):
        try:
            content: Any = parse(location.read(name))
            return text(content["last"], "last")
        except (GnomonError, *NONSENSE):
            continue
    return ""


def remember(subset: Subset, last: str, location: Location) -> bool:
    """Keep the position for the next check; tells whether that could be done."""
    if subset.parts:
        return True
    there = location.list(_POSITIONS)
    newest = there[-1].removeprefix(_POSITIONS).removesuffix(".json") if there else ""
    number = int(newest) + 1 if newest.isascii() and newest.isdigit() else len(there)
    try:
        name = f"{_POSITIONS}{number:012d}.json"
        location.create(name, json.dumps({"last": last}).encode())
        location.delete(there)
    except Conflict:
        return True  # another check remembered its own
    except GnomonError:
        return False
    return True
