"""What a repository is made of, as frozen values that know their JSON.

``RepositorySettings`` is ``gnomon.json``: fixed at init, never changed.
"""

import hashlib
from dataclasses import asdict, dataclass, field
from functools import partial
from math import ceil
from typing import Any, Literal
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.errors import Format, NotFound
from gnomon.storage.redaction import redacted
from gnomon.storage.values.attributes import attributes_from_json, attributes_to_json
from gnomon.storage.values.documents import flag, items, members, number, optional, text, whole
from gnomon.storage.values.dtypes import atom, is_text
from gnomon.storage.values.grid import ChunkGrid, Index
from gnomon.storage.values.plausible import (
    LARGEST_NDIM,
    MOST_LEADS,
    check_settings,
    check_variable,
    length,
    members_of,
    positive,
    size,
)
from gnomon.storage.values.scaling import Packing
from gnomon.storage.values.timeforms import NATIVE, TEXT

__all__ = [
    "FORMAT",
    "MISSING",
    "SUSPECT",
    "TRUSTED",
    "RepositorySettings",
    "SourceSpec",
    "Variable",
    "check_format",
    "frame_entry",
    "frame_entry_to_json",
]

FORMAT = 2
"""Version of the repository format that this program writes, and the newest that it reads."""

LONGEST_FORM = 200
"""Characters of what says how times are told."""
LONGEST_NAME = 120
"""Characters of a folder's name that come from the variable's name."""

TRUSTED, SUSPECT, MISSING = 0, 1, 2
"""Status of a captured chunk."""

Kind = Literal["append", "state"]


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """How the live dataset is opened."""

    url: str
    """Path or URL."""
    kind: Kind
    """``append`` (has a time dimension) or ``state`` (overwritten in place)."""
    time: str | None = None
    """Name of the time dimension of an append source."""
    engine: str | None = None
    """xarray engine; None lets xarray decide."""
    group: str | None = None
    """Group within the file or store."""
    coordinate: str | None = None
    """Variable that tells the times, if not the one named as the dimension; empty: none does."""
    branch: str | None = None
    """Branch of an Icechunk repository; None: main, if neither tag nor snapshot is given."""
    tag: str | None = None
    """Tag of an Icechunk repository."""
    snapshot: str | None = None
    """Snapshot of an Icechunk repository."""

    @property
    def teller(self) -> str | None:
        """Name of the variable that tells the times of an append source; None if none does."""
        return self.time if self.coordinate is None else self.coordinate or None

    def __repr__(self) -> str:
        # Repositories of before may hold a secret here, and workers print what they work on.
        fields = ((name, getattr(self, name)) for name in self.__dataclass_fields__)
        always = ("url", "kind", "time", "engine", "group")
        texts = (f"{n}={v!r}" for n, v in fields if n in always or v is not None)
        return redacted(f"SourceSpec({', '.join(texts)})")

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "SourceSpec":
        """Read the JSON form; ValueError or the like if it is not one."""
        kind = text(data["kind"], "the kind of the source")
        time = optional(data["time"], lambda v: text(v, "the time dimension"))
        if kind not in ("append", "state") or (time is None) != (kind == "state"):
            raise ValueError(f"a source of kind {kind[:40]!r} with the time dimension {time!r}")
        # Repositories of before have only the first two of these.
        names = ("engine", "group", "coordinate", "branch", "tag", "snapshot")
        options = {
            n: optional(data.get(n), partial(text, what=f"{n} of the source")) for n in names
        }
        return cls(
            url=text(data["url"], "the URL of the source"),
            kind=kind,  # type: ignore[arg-type]
            time=time,
            **options,
        )


@dataclass(frozen=True, slots=True)
class Variable:
    """One captured variable, as it stands in the source, undecoded."""

    name: str
    """Name in the source."""
    dims: tuple[str, ...]
    """Dimensions of one state: without time."""
    shape: tuple[int, ...]
    """Cells of one state along each dimension."""
    dtype: str
    """NumPy type string, little endian."""
    chunks: tuple[int, ...]
    """Cells of a chunk along each dimension."""
    units: tuple[int, ...]
    """Cells that are compressed together along each dimension: one chunk, or several small ones."""
    shards: tuple[int, ...]
    """Cells of a shard, one stored object, along each dimension: a multiple of the units."""
    attributes: dict[str, Any] = field(default_factory=dict)
    """Raw attributes, packing included."""
    forecast: bool = True
    """Whether it is predicted; bounds, times and the like are only captured."""
    cyclic: tuple[bool, ...] = ()
    """Per dimension, whether it wraps around the globe."""
    time_axis: int = 0
    """Position of the time dimension in the source's variable."""
    since: int = 0
    """Number of the first capture that has it; it was added then."""
    source_chunks: tuple[int, ...] = ()
    """Cells of a chunk of the source along each dimension at init; empty if it has none, or where
    an older program made the repository."""

    @property
    def folder(self) -> str:
        """Name of the variable's folder, which no hostile name can leave."""
        text = quote(self.name, safe="").replace(".", "%2E").replace("%", "=")
        if len(text) > LONGEST_NAME:  # most file systems take 255 bytes
            mark = hashlib.sha256(self.name.encode()).hexdigest()[:32]
            text = f"{text[: LONGEST_NAME - 34]}=_{mark}"
        return f"v-{text}"

    @property
    def grid(self) -> ChunkGrid:
        """The chunk grid of one state."""
        return ChunkGrid(self.shape, self.chunks, self.shards)

    @property
    def numpy_dtype(self) -> np.dtype[np.generic]:
        """The type as NumPy has it."""
        return np.dtype(self.dtype)

    @property
    def is_text(self) -> bool:
        """Whether values are strings of any length, which are stored as they are."""
        return is_text(self.numpy_dtype)

    @property
    def stored_grid(self) -> ChunkGrid:
        """The chunk grid of what is stored: with an axis for values of several numbers."""
        _, width = (None, 1) if self.is_text else atom(self.numpy_dtype)
        parts = (self.shape, self.units, self.shards)
        return ChunkGrid(*((*part, width) if width > 1 else part for part in parts))

    def stored_cells(self, index: Index) -> tuple[slice, ...]:
        """Return the place of a chunk in what is stored."""
        cells = self.grid.cells(index)
        grid = self.stored_grid
        return cells if len(grid.shape) == len(cells) else (*cells, slice(0, grid.shape[-1]))

    @property
    def per_unit(self) -> Index:
        """Number of chunks of a unit along each dimension."""
        return tuple(ceil(u / c) for u, c in zip(self.units, self.chunks, strict=True))

    def unit_of(self, index: Index) -> Index:
        """Return the index of the unit that a chunk is compressed in."""
        sizes = zip(index, self.chunks, self.units, strict=True)
        return tuple(i * chunk // unit for i, chunk, unit in sizes)

    def described(self) -> dict[str, str]:
        """Return what a stored group says of the variable to whoever opens it: text, for JSON."""
        told = ("units", "standard_name", "long_name")
        texts = {name: self.attributes[name] for name in told if name in self.attributes}
        return {"variable": self.name} | {n: t for n, t in texts.items() if isinstance(t, str)}

    @property
    def categorical(self) -> bool:
        """Whether values are labels, between which nothing lies: CF flags, or true and false."""
        flags = {"flag_values", "flag_masks", "flag_meanings"}
        name = str(self.attributes.get("standard_name", ""))
        named = name == "area_type" or name.endswith(("_binary_mask", "_flag"))
        return self.numpy_dtype.kind == "b" or named or not flags.isdisjoint(self.attributes)

    @property
    def packing(self) -> Packing:
        """How raw values stand for numbers in the variable's units."""
        return Packing(self.numpy_dtype, self.attributes)

    def bounds(self) -> tuple[float | None, float | None]:
        """Return the declared valid range in physical units; None where there is none."""
        return self.packing.bounds()

    def to_physical(self, raw: NDArray[np.generic]) -> NDArray[np.float64]:
        """Return raw values as float64 in the variable's units, NaN where they are missing.

        Text and other types that are no plain numbers are NaN.  A capture may be packed in another
        way than at init: `CaptureStack.physical` knows.
        """
        return self.packing.to_physical(raw)

    def from_physical(self, values: NDArray[np.float64]) -> NDArray[np.generic]:
        """Return values in the variable's units as raw values; NaN becomes the fill value."""
        return self.packing.from_physical(values)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {**asdict(self), "attributes": attributes_to_json(self.attributes)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Variable":
        """Read the JSON form; ValueError or the like if it is not one."""
        name = text(data["name"], "the name of a variable")
        variable = cls(
            name=name,
            dims=items(data["dims"], f"dims of {name}", text),
            shape=items(data["shape"], f"shape of {name}", size),
            dtype=text(data["dtype"], f"dtype of {name}"),
            chunks=items(data["chunks"], f"chunks of {name}", length),
            units=items(data["units"], f"units of {name}", length),
            shards=items(data["shards"], f"shards of {name}", length),
            attributes=attributes_from_json(data["attributes"]),
            forecast=flag(data["forecast"], f"forecast of {name}"),
            cyclic=items(data["cyclic"], f"cyclic of {name}", flag),
            time_axis=whole(data["time_axis"], f"time_axis of {name}", least=0, most=LARGEST_NDIM),
            since=whole(data.get("since", 0), f"since of {name}", least=0),
            source_chunks=items(data.get("source_chunks", []), f"source_chunks of {name}", length),
        )
        check_variable(variable)
        return variable


@dataclass(frozen=True, slots=True)
class RepositorySettings:
    """``gnomon.json``: what is fixed when a repository is made."""

    source: SourceSpec
    """The live dataset."""
    variables: tuple[Variable, ...]
    """What is captured at each step."""
    created_at: str
    """Wall-clock time of init, ISO 8601, UTC."""
    frame: str
    """Folder with the coordinates and other variables that do not change."""
    frame_entries: dict[str, dict[str, Any]]
    """Per frame variable: dims, attributes, dtype, shape, file, hash."""
    attributes: dict[str, Any] = field(default_factory=dict)
    """Global attributes of the source."""
    dims: dict[str, int] = field(default_factory=dict)
    """Size of every dimension but time."""
    time_attributes: dict[str, Any] = field(default_factory=dict)
    """Raw attributes of the time coordinate (append)."""
    time_dtype: str = "<i8"
    """Raw type of the time coordinate (append)."""
    time_form: str = ""
    """How the source tells its times (append), if not in CF units; see `timeforms`."""
    leads: int = 6
    """How many capture intervals ahead are predicted."""
    periods_s: tuple[float, ...] | None = None
    """Seasonal periods in seconds if the user gave them; None means found from the data."""
    tolerances: dict[str, float] = field(default_factory=dict)
    """Per variable, the error that the user can live with, in its units."""
    interval_s: float | None = None
    """Capture interval if the user gave it; None means found from the captures."""
    names: tuple[str, ...] = ()
    """Variables that the user named; empty: all that can be protected."""
    chunk_sizes: dict[str, int] = field(default_factory=dict)
    """Cells of a chunk by dimension, where the user gave them."""

    @property
    def calendar(self) -> str:
        """CF calendar of the captures' valid times."""
        if self.time_form == NATIVE:
            return "proleptic_gregorian"
        # CF 4.4.1: a time coordinate that names no calendar has the standard one.
        in_units = "units" in self.time_attributes and not self.time_form
        default = "standard" if in_units else "proleptic_gregorian"
        return str(self.time_attributes.get("calendar", default))

    @property
    def adds_times(self) -> bool:
        """Whether captures are served with a time coordinate that the source does not have."""
        return self.time_form == TEXT or self.source.coordinate == ""

    @property
    def time_name(self) -> str | None:
        """Name of the coordinate that the times are served as."""
        if not self.adds_times or self.source.time is None:
            return self.source.teller
        taken = {*self.frame_entries, *(v.name for v in self.variables)}
        names = (self.source.time, "valid_time", "capture_time")
        return next((name for name in names if name not in taken), None)

    @property
    def time_units(self) -> str:
        """CF units of the raw time coordinate, or the form that stands for them."""
        if self.time_form and not self.adds_times:
            return self.time_form
        return str(self.time_attributes.get("units", "microseconds since 1970-01-01"))

    def variable(self, name: str) -> Variable:
        """Return a captured variable by name, or raise :class:`NotFound`."""
        for variable in self.variables:
            if variable.name == name:
                return variable
        there = ", ".join(v.name for v in self.variables)
        raise NotFound(f"the repository has no variable {name!r}; it has {there}")

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        data: dict[str, Any] = {n: getattr(self, n) for n in self.__dataclass_fields__}
        frame = {n: frame_entry_to_json(e) for n, e in self.frame_entries.items()}
        return data | {
            "format": FORMAT,
            "source": asdict(self.source),
            "variables": [v.to_json() for v in self.variables],
            "frame_entries": frame,
            "attributes": attributes_to_json(self.attributes),
            "time_attributes": attributes_to_json(self.time_attributes),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "RepositorySettings":
        """Read the JSON form; ValueError or the like if it is not one.

        Raises
        ------
        Format
            The repository is newer than this program, or not a repository.
        """
        check_format(data)
        variables = items(
            data["variables"], "variables", lambda v, _: Variable.from_json(members_of(v))
        )
        settings = cls(
            source=SourceSpec.from_json(data["source"]),
            variables=variables,
            created_at=text(data["created_at"], "created_at"),
            frame=text(data["frame"], "frame"),
            frame_entries=members(data["frame_entries"], "frame_entries", frame_entry),
            attributes=attributes_from_json(data["attributes"]),
            dims=members(data["dims"], "dims", size),
            time_attributes=attributes_from_json(data["time_attributes"]),
            time_dtype=text(data["time_dtype"], "time_dtype"),
            time_form=text(data.get("time_form", ""), "time_form", most=LONGEST_FORM),
            leads=whole(data["leads"], "leads", least=1, most=MOST_LEADS),
            periods_s=optional(data["periods_s"], lambda v: items(v, "periods_s", positive)),
            tolerances=members(data["tolerances"], "tolerances", partial(number, least=0.0)),
            interval_s=optional(data["interval_s"], lambda v: positive(v, "interval_s")),
            names=items(data["names"], "names", text),
            chunk_sizes=members(data["chunk_sizes"], "chunk_sizes", size),
        )
        check_settings(settings)
        return settings


def frame_entry_to_json(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON form of what the settings say of a variable that does not change."""
    return {**entry, "attributes": attributes_to_json(entry["attributes"])}


def frame_entry(value: object, what: str) -> dict[str, Any]:
    """Return what the settings say of a variable that does not change, from its JSON form."""
    data = members_of(value)
    return {
        "dims": list(items(data["dims"], f"{what}: dims", text)),
        "attributes": attributes_from_json(data["attributes"]),
        "dtype": text(data["dtype"], f"{what}: dtype"),
        "shape": list(items(data["shape"], f"{what}: shape", size)),
        "file": text(data["file"], f"{what}: file"),
        "hash": text(data["hash"], f"{what}: hash"),
    }


def check_format(data: dict[str, Any]) -> None:
    """Refuse settings of another format."""
    version = members_of(data).get("format")
    if version == 1:
        raise Format(
            "the repository has format 1, of a program before its first release; "
            "make a new one with 'gnomon init'"
        )
    if version != FORMAT:
        raise Format(
            f"the repository has format {version!r:.40}, this program reads {FORMAT}; "
            "upgrade gnomon"
        )
