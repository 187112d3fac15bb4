"""Slabs: the Zarr arrays of one variable in one commit, written once and verified on every read.

``residual`` (step, *dims) holds a signed integer per cell, ``index`` (step, *chunk grid, column)
says per chunk how to read it.  The hash of the index is the slab's *root* and stands in the log
record, so that from the record every stored byte can be verified.

The last axis of a small array is columns.  They are read by the names that stand in its metadata,
whatever their order is: another release of the program may have more of them, or fewer.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.arrays.layout import residual_metadata, table_metadata
from gnomon.storage.arrays.shards import REPAIR, Shards, pack_whole, read_whole
from gnomon.storage.errors import Integrity
from gnomon.storage.log.location import Location
from gnomon.storage.log.records import COPIES
from gnomon.storage.log.staging import Batch
from gnomon.storage.recent import Recent
from gnomon.storage.values.grid import ChunkGrid

__all__ = [
    "Slab",
    "StoredColumn",
    "create_index",
    "create_residual",
    "create_table",
    "forget_tables",
    "keep_table",
    "kept_tables",
    "root",
]

logger = logging.getLogger(__name__)

Table = tuple[NDArray[Any], tuple[str, ...]]
"""A small array, and the names of its columns."""

KEPT_BYTES, KEPT = 2**25, 4096
"""Memory of the tables of object stores that a process keeps, and how many they are."""
_kept: Recent[tuple[str, str, str], Table] = Recent(KEPT, KEPT_BYTES, lambda t: t[0].nbytes)
"""Verified tables by location, path and root, the last used last.  The steps of a run want the same
ones.  On a local disk they are read again: that costs little, and shows damage."""


def keep_table(location: Location, path: str, table_root: str, table: Table) -> None:
    """Keep a verified table of an object store for whoever wants it next in this process."""
    if location.path is not None or table[0].nbytes > KEPT_BYTES // 4:
        return
    table[0].flags.writeable = False
    _kept.put((location.url, path, table_root), table)


def kept_tables(location: Location) -> dict[tuple[str, str], Table]:
    """Return the tables of one location that are kept, by path and root, the last used last."""
    return {key[1:]: table for key, table in _kept.items() if key[0] == location.url}


def forget_tables(location: Location) -> None:
    """Let go of the tables of one location: what checks it is to read what is stored."""
    _kept.drop(lambda key: key[0] == location.url)


def create_residual(
    batch: Batch,
    path: str,
    *,
    lead: int,
    grid: ChunkGrid,
    dtype: np.dtype[Any],
    depth: int = 1,
    names: Sequence[str] = (),
) -> None:
    """Describe an array (lead, *dims) of integers, chunked like the variable; its shards follow.

    Parameters
    ----------
    depth
        How much of the first axis a chunk holds: 1, or all of it.
    names
        Of the dimensions; none: they have no names.
    """
    about = residual_metadata(lead, grid, dtype, depth=depth, names=names)
    batch.create(f"{path}/zarr.json", about)


def create_table(
    batch: Batch, path: str, values: NDArray[Any], columns: list[str], names: Sequence[str] = ()
) -> str:
    """Store a small array whole, as one object, and return its root."""
    return _create_whole(batch, [path], values, columns, names)


def create_index(
    batch: Batch, path: str, values: NDArray[Any], columns: list[str], names: Sequence[str] = ()
) -> str:
    """Store a table that reading depends on, and a copy of it; return its root."""
    return _create_whole(batch, [path, COPIES + path], values, columns, names)


def _create_whole(
    batch: Batch,
    paths: list[str],
    values: NDArray[Any],
    columns: list[str],
    names: Sequence[str],
) -> str:
    about = table_metadata(values.shape, values.dtype, columns, names)
    data = pack_whole(values) if values.size else b""
    for path in paths:
        batch.create(f"{path}/zarr.json", about)
        if data:
            batch.create("/".join([path, "c", *"0" * values.ndim]), data)
    table_root = root(values)
    if batch.location.path is None:
        keep_table(batch.location, paths[0], table_root, (values.copy(), tuple(columns)))
    return table_root


def root(values: NDArray[Any]) -> str:
    """Return the hash of an index that stands for everything below it."""
    data = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    head = f"{data.dtype.str}{data.shape}".encode()
    state = hashlib.blake2b(head, digest_size=20)
    state.update(data.reshape(-1).view(np.uint8))
    return state.hexdigest()


@dataclass(frozen=True, slots=True)
class StoredColumn:
    """One column that a reader wants of a small array."""

    name: str
    """As it stands in the array's metadata."""
    default: float | None = None
    """What it holds where the writer had no such column; None: nothing can be read without it."""
    also: str = ""
    """Another name that it had."""


def _check_names(values: NDArray[Any], names: tuple[str, ...], path: str, cure: str) -> None:
    """Refuse names that do not tell the columns apart."""
    if len(set(names)) != len(names) or values.shape[-1:] != (len(names),):
        raise Integrity(
            f"{path} has the shape {values.shape} and {len(names)} names of columns "
            f"({', '.join(names)[:200]}), expected one for each column, all different; "
            f"{cure}"
        )


def _chosen(
    values: NDArray[Any],
    names: tuple[str, ...],
    columns: Sequence[StoredColumn],
    path: str,
    cure: str,
) -> NDArray[Any]:
    """Return the wanted columns in the wanted order; the array itself if it has them so already."""
    places = {name: k for k, name in enumerate(names)}
    indices = [places.get(c.name, places.get(c.also, -1)) for c in columns]
    missing = [c.name for c, k in zip(columns, indices, strict=True) if k < 0 and c.default is None]
    if missing:
        raise Integrity(
            f"{path} lacks the columns {', '.join(missing)}, found "
            f"{', '.join(names)[:200] or 'none with a name'}; {cure}, or read it with "
            "the version of gnomon that wrote it"
        )
    if indices == list(range(values.shape[-1])):
        return values
    chosen = np.empty((*values.shape[:-1], len(columns)), values.dtype)
    for k, (column, place) in enumerate(zip(columns, indices, strict=True)):
        chosen[..., k] = column.default if place < 0 else values[..., place]
    return chosen


@dataclass(slots=True)
class Slab:
    """One slab, open for reading; its index is verified against the root when first used."""

    location: Location
    """Where the repository lives."""
    path: str
    """Folder of the slab, such as ``captures/<id>/<variable>``."""
    roots: dict[str, str]
    """Per index array, the root that the log record gives."""
    columns: Mapping[str, Sequence[StoredColumn]] = field(default_factory=dict)
    """Per index array, the columns that are wanted of it, in this order; else all, as stored."""
    sizes: Mapping[str, tuple[int | None, ...]] = field(default_factory=dict)
    """Per index array, its size along every axis but that of the columns; None: any."""
    cure: str = REPAIR
    """What to do about damage."""
    _tables: dict[str, NDArray[Any]] = field(default_factory=dict)
    _shards: dict[tuple[str, str, int], Shards] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Memory that its tables take."""
        return sum(table.nbytes for table in [*self._tables.values()])

    def index(self, name: str = "index") -> NDArray[Any]:
        """Return a small array, verified; from its copy, if there is one and it is damaged.

        Raises
        ------
        Integrity
            It is missing, unreadable, or not what was committed.
        """
        if name not in self._tables:
            try:
                values = self._wanted(name, "", self._known(name))
            except Integrity as error:
                try:
                    values = self.table(name, prefix=COPIES)
                except Integrity:
                    raise error from None
                logger.warning("%s; its copy was read instead", error)
            self._tables[name] = values
        return self._tables[name]

    def table(self, name: str, *, prefix: str = "") -> NDArray[Any]:
        """Return a small array as stored at one place, verified."""
        return self._wanted(name, prefix, self._stored(name, prefix))

    def _wanted(self, name: str, prefix: str, stored: Table) -> NDArray[Any]:
        """Return the columns that are wanted of a table."""
        values, names = stored
        if name not in self.columns:
            return values
        path = f"{prefix}{self.path}/{name}"
        _check_names(values, names, path, self.cure)
        return _chosen(values, names, self.columns[name], path, self.cure)

    def by_name(self, name: str) -> dict[str, NDArray[Any]]:
        """Return every column of a small array, verified, by the name that it was stored with."""
        values, names = self._known(name)
        _check_names(values, names, f"{self.path}/{name}", self.cure)
        return {column: values[..., k] for k, column in enumerate(names)}

    def _known(self, name: str) -> Table:
        """Return a table that this process may have read before, and the names of its columns."""
        path, table_root = f"{self.path}/{name}", self.roots[name]
        known = _kept.get((self.location.url, path, table_root))
        if known is None:
            known = self._stored(name, "")
            keep_table(self.location, path, table_root, known)
        return known

    def _stored(self, name: str, prefix: str) -> Table:
        path = f"{prefix}{self.path}/{name}"
        values, names = read_whole(self.location, path, self.cure)
        values_root = root(values)
        if values_root != self.roots[name]:
            raise Integrity(
                f"{path}: root {values_root[:12]} found, {self.roots[name][:12]} expected; "
                f"the file was changed after it was written; {self.cure}"
            )
        sizes = self.sizes.get(name)
        if sizes is not None:
            fits = values.ndim == len(sizes) + 1 and all(
                n in (None, k) for n, k in zip(sizes, values.shape, strict=False)
            )
            if not fits:
                expected = " x ".join("any" if n is None else str(n) for n in sizes)
                raise Integrity(
                    f"{path} has the shape {values.shape}, expected {expected} rows, one for each "
                    "chunk; the repository was tampered with, restore it from a copy"
                )
        return values, names

    def shards(self, name: str, grid: ChunkGrid, dtype: np.dtype[Any], *, depth: int = 1) -> Shards:
        """Return a large array for reading, *not verified*: the caller has the digests."""
        key = name, dtype.str, depth
        if key not in self._shards:
            path = f"{self.path}/{name}"
            self._shards[key] = Shards(self.location, path, grid, dtype, depth)
        return self._shards[key]
