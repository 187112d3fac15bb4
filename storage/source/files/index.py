"""What is in each file of a source of many files, and an index of it.

To look at a file is to open it, and there are thousands.  So what was seen is kept in the
repository, by name, size and time of modification.  The index is only a cache: it is believed only
of a file that has not changed, is compared with the file again when that is read, and may be lost.
"""

import base64
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.errors import GnomonError
from gnomon.storage.log import gz
from gnomon.storage.log.location import Location
from gnomon.storage.source.files.form import Form
from gnomon.storage.values.attributes import attributes_from_json, attributes_to_json
from gnomon.storage.values.documents import NONSENSE, items, members, optional, parse, text, whole
from gnomon.storage.values.model import RepositorySettings, SourceSpec
from gnomon.storage.values.plausible import members_of

__all__ = [
    "INDEX",
    "NAT",
    "Entry",
    "Packings",
    "SourceMemory",
    "drop_index",
    "load_index",
    "save_index",
]

INDEX = "sources/files.json.gz"
"""Where a repository keeps it."""
VERSION = 2
"""Of what is kept of a file; another one is not read."""
MOST_BYTES = 2**29
MOST_STEPS = 2**24
NAT = -(2**63)
"""Stands for a time that is missing."""


@dataclass(frozen=True)
class SourceMemory:
    """What a repository remembers of its source.

    It changes how fast that is opened, and not what is in it: to who keeps an open source for
    later use, all of them are equal.
    """

    location: Location = field(compare=False)
    """The repository, in which the index is kept."""
    settings: RepositorySettings | None = field(compare=False, default=None)
    """What the files should be like; None: like the newest of them."""


@dataclass(frozen=True, slots=True)
class Packings:
    """How the variables of a file are packed that change with time."""

    attributes: Mapping[str, Mapping[str, Any]]
    """By variable, the attributes by which its raw values are numbers, and their units."""

    def __str__(self) -> str:
        """Return a text that is the same for the same attributes, type and bits."""
        return json.dumps(self.to_json(), sort_keys=True)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {name: attributes_to_json(dict(a)) for name, a in self.attributes.items()}

    @classmethod
    def from_json(cls, data: object) -> "Packings":
        """Read the JSON form; ValueError or the like if it is not one."""
        return cls(members(data, "packings", lambda v, _: attributes_from_json(members_of(v))))


@dataclass(frozen=True, slots=True)
class Entry:
    """What was seen in one file."""

    size: int
    """Bytes of the file then."""
    mtime_ns: int
    """When it was modified, by its file system."""
    form: Form
    """Variables and their grid."""
    count: int
    """Time steps."""
    times: NDArray[np.generic] | None
    """(count,) raw; None if the time dimension has no coordinate."""
    instants: NDArray[np.int64] | None
    """The same as instants, `NAT` where a time is missing; None if they cannot be decoded."""
    calendar: str
    """CF calendar of its times."""
    units: Mapping[str, str]
    """CF units of each variable that tells times, which may differ from file to file."""
    singles: Mapping[str, str]
    """Hash of each value or array that is one for the whole file and describes no grid."""
    packings: "Packings"
    """How its variables are packed; files that say the same share it."""

    @property
    def good(self) -> NDArray[np.int64]:
        """The instants that there are."""
        return np.empty(0, np.int64) if self.instants is None else self.instants[self.there]

    @property
    def there(self) -> NDArray[np.bool_]:
        """(count,) whether a step has a time that can be decoded."""
        assert self.instants is not None
        return np.asarray(self.instants != NAT)

    def is_of(self, stamp: tuple[int, int]) -> bool:
        """Tell whether a file of this size and time of modification is the one that was seen."""
        return (self.size, self.mtime_ns) == stamp


def load_index(memory: SourceMemory | None, spec: SourceSpec) -> dict[str, Entry]:
    """Return what was seen by name; nothing if the index is gone, damaged or of another source."""
    if memory is None:
        return {}
    try:
        data = parse(gz.unpack(memory.location.read(INDEX), MOST_BYTES))
        if data["version"] != VERSION or data["source"] != _key(spec):
            return {}
        forms = items(data["forms"], "forms", lambda v, _: Form.from_json(v))
        packings = items(data["packings"], "packings", lambda v, _: Packings.from_json(v))
        entries = members(data["files"], "files", lambda v, _: _entry(v, forms, packings))
    except (GnomonError, *NONSENSE):
        return {}
    return {n: e for n, e in entries.items() if spec.time in (None, e.form.time)}


def save_index(memory: SourceMemory, spec: SourceSpec, entries: Mapping[str, Entry]) -> None:
    """Keep what was seen, if the repository can be written to."""
    forms: dict[str, int] = {}
    packings: dict[str, int] = {}
    files = {}
    for name, entry in entries.items():
        form = entry.form.key
        files[name] = [
            entry.size,
            entry.mtime_ns,
            forms.setdefault(form, len(forms)),
            entry.count,
            None if entry.times is None else entry.times.dtype.str,
            None if entry.times is None else _packed(entry.times),
            None if entry.instants is None else _packed(entry.instants),
            entry.calendar,
            dict(entry.units),
            dict(entry.singles),
            packings.setdefault(str(entry.packings), len(packings)),
        ]
    content = {
        "version": VERSION,
        "source": _key(spec),
        "forms": [json.loads(form) for form in forms],
        "packings": [json.loads(packing) for packing in packings],
        "files": files,
    }
    with _whatever_happens():
        memory.location.replace(INDEX, gz.pack(json.dumps(content).encode()))


def drop_index(memory: SourceMemory | None) -> None:
    """Forget what was seen: a file is not what the index says of it."""
    if memory is not None:
        with _whatever_happens():
            memory.location.delete([INDEX])


@contextmanager
def _whatever_happens() -> Iterator[None]:
    """Go on where a repository cannot be written to: every file can be looked at anew."""
    try:
        yield
    except (GnomonError, UnicodeEncodeError):
        return


def _key(spec: SourceSpec) -> list[Any]:
    return [spec.url, spec.engine, spec.group]


def _packed(values: NDArray[Any]) -> str:
    return base64.b64encode(values.tobytes()).decode()


def _unpacked(value: object, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
    if not isinstance(value, str) or dtype.hasobject:
        raise TypeError("no packed numbers")
    return np.frombuffer(base64.b64decode(value, validate=True), dtype, count)


def _entry(value: Any, forms: tuple[Form, ...], packings: tuple[Packings, ...]) -> Entry:
    size, mtime_ns, form, count, dtype, times, instants, calendar, units, singles, packed = value
    steps = whole(count, "steps", least=0, most=MOST_STEPS)
    times_dtype = optional(dtype, lambda v: np.dtype(text(v, "type of times")))
    return Entry(
        whole(size, "size"),
        whole(mtime_ns, "mtime"),
        forms[whole(form, "form", least=0)],
        steps,
        None if times_dtype is None else _unpacked(times, times_dtype, steps),
        None if instants is None else _unpacked(instants, np.dtype("<i8"), steps),
        text(calendar, "calendar"),
        members(units, "units", text),
        members(singles, "singles", text),
        packings[whole(packed, "packing", least=0)],
    )
