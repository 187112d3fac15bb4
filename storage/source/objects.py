"""The objects that a Zarr source is stored in: which are there, and when each was last written.

An array that is laid out ahead has no object where nothing was written yet, and one that was
rewritten is newer than what was captured of it.  Both are known without reading any data.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, product
from math import ceil, prod
from pathlib import Path
from typing import Any

import numpy as np
import obstore
import zarr
from numpy.typing import NDArray
from obstore.exceptions import BaseError
from obstore.store import from_url

from gnomon.storage.log.location import RETRIES
from gnomon.storage.source.files.listing import local_path
from gnomon.storage.values.model import SourceSpec, Variable

__all__ = ["Objects", "objects_of"]

MOST_LOOKED_AT = 20_000
"""Objects of which it is asked when they were written."""
PAGE = 1000
"""Objects that a store lists in one answer."""
MOST_LISTED = 64
"""Rows in a bucket that are listed one by one."""


@dataclass(frozen=True, slots=True)
class Objects:
    """Where the chunks, or shards, of one array of a source are."""

    place: str
    """Folder or URL of the array."""
    steps: int
    """Steps that an object holds."""
    counts: tuple[int, ...]
    """Objects along each axis of the array."""
    axis: int
    """The axis of time."""
    prefix: str
    """What the keys begin with, before the first separator; empty if nothing."""
    separator: str
    """Between the parts of a key."""
    fill: NDArray[np.generic]
    """What is read where no object is, shape ()."""

    @property
    def is_local(self) -> bool:
        """Whether they are files here."""
        return "://" not in self.place

    def rows(self) -> set[int] | None:
        """Return the numbers along time of which any object is there; None if none can tell."""
        try:
            return {index[self.axis] for key in self._keys() if (index := self._index(key))}
        except FileNotFoundError:  # the folder of the chunks comes with the first of them
            return set()
        except (OSError, BaseError):
            return None

    def written(self, rows: set[int]) -> dict[int, float]:
        """Return when the newest object of each row was written, in seconds since 1970.

        Rows without objects are left out, and all of them if the store does not answer.
        """
        times: dict[int, float] = {}
        if not self.is_local:
            folders = [self._head]
            if self._has_folders and len(rows) * PAGE < prod(self.counts):
                folders = [f"{self._head}{row}/" for row in rows]
            with suppress(BaseError):
                for item in chain.from_iterable(map(self._listed, folders)):
                    index = self._index(str(item["path"]))
                    if index and index[self.axis] in rows:
                        when = item["last_modified"].timestamp()
                        times[index[self.axis]] = max(when, times.get(index[self.axis], when))
            return times
        others = [range(n) for k, n in enumerate(self.counts) if k != self.axis]
        for row in rows:
            for rest in product(*others):
                index = (*rest[: self.axis], row, *rest[self.axis :])
                try:
                    when = os.stat(f"{self.place}/{self._key(index)}").st_mtime
                except OSError:
                    continue
                times[row] = max(when, times.get(row, when))
        return times

    @property
    def most_rows(self) -> int:
        """Rows that may be asked for when they were written, at little cost."""
        if self.is_local:
            rows = max(1, self.counts[self.axis])
            return max(1, MOST_LOOKED_AT // max(1, prod(self.counts) // rows))
        if self._has_folders:
            return MOST_LISTED
        return self.counts[self.axis] if prod(self.counts) <= MOST_LOOKED_AT else 0

    @property
    def _has_folders(self) -> bool:
        """Whether the objects of a row are in a folder of their own."""
        return self.axis == 0 and self.separator == "/" and len(self.counts) > 1

    @property
    def _head(self) -> str:
        """What all keys begin with."""
        return f"{self.prefix}{self.separator}" if self.prefix else ""

    def _keys(self) -> Iterator[str]:
        if not self.is_local:
            yield from self._remote_keys()
            return
        top = Path(self.place, self.prefix) if self.separator == "/" else Path(self.place)
        if self.separator == "/" and self.axis == 0:  # a folder for each row
            with os.scandir(top) as entries:
                rest = "/0" * (len(self.counts) - 1)
                head = f"{self.prefix}/" if self.prefix else ""
                yield from (f"{head}{e.name}{rest}" for e in entries)
            return
        for folder, _, names in os.walk(top):
            inner = os.path.relpath(folder, self.place)
            yield from (name if inner == "." else f"{inner}/{name}" for name in names)

    def _remote_keys(self) -> Iterator[str]:
        if not self._has_folders:
            yield from (str(item["path"]) for item in self._listed(self._head))
            return
        store = from_url(self.place, retry_config=RETRIES)
        rest = "/0" * (len(self.counts) - 1)
        for folder in obstore.list_with_delimiter(store, self._head)["common_prefixes"]:
            yield f"{folder.rstrip('/')}{rest}"

    def _listed(self, head: str) -> Iterator[Any]:
        store = from_url(self.place, retry_config=RETRIES)
        for page in obstore.list(store, head):
            yield from page

    def _key(self, index: tuple[int, ...]) -> str:
        parts = [self.prefix] if self.prefix else []
        return self.separator.join([*parts, *map(str, index)])

    def _index(self, key: str) -> tuple[int, ...] | None:
        """Return the place that a key names; None for metadata and the like."""
        parts = key.split(self.separator)
        if self.prefix:
            if parts[0] != self.prefix:
                return None
            parts = parts[1:]
        if len(parts) != len(self.counts) or not all(p.isdigit() for p in parts):
            return None
        return tuple(map(int, parts))


def objects_of(spec: SourceSpec, variable: Variable) -> Objects | None:
    """Return where the chunks of an append source's variable are; None if that cannot be told."""
    local = local_path(spec.url) is not None
    root = spec.url.removeprefix("file://").rstrip("/") + (f"/{spec.group}" if spec.group else "")
    if spec.engine not in (None, "zarr"):
        return None
    try:
        place = f"{root}/{variable.name}"
        if local and not Path(place).is_dir():
            return None
        store: Any = place
        if not local:
            store = zarr.storage.ObjectStore(from_url(place, retry_config=RETRIES), read_only=True)
        try:
            array = zarr.open_array(store, mode="r", zarr_format=3)
        except FileNotFoundError:  # not told the version, Zarr asks for both
            array = zarr.open_array(store, mode="r", zarr_format=2)
        metadata: Any = array.metadata
        sizes = array.shards or array.chunks
        if array.metadata.zarr_format == 2:
            prefix, separator = "", str(metadata.dimension_separator)
        else:
            encoding = metadata.chunk_key_encoding
            prefix, separator = ("c" if encoding.name == "default" else ""), encoding.separator
    except (OSError, ValueError, LookupError, TypeError, AttributeError, BaseError):
        return None  # no Zarr, or one that is read in another way
    counts = tuple(ceil(n / c) for n, c in zip(array.shape, sizes, strict=True))
    axis = variable.time_axis
    fill = np.zeros((), array.dtype)  # which is read where none is chosen, as version 2 allows
    if array.fill_value is not None:
        fill = np.asarray(array.fill_value, array.dtype)
    return Objects(place, int(sizes[axis]), counts, axis, prefix, separator, fill)
