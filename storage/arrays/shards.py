"""Stored arrays of integers, shard by shard, read without trusting a byte of them.

The arrays are plain Zarr v3 (sharding, pcodec or zstd, crc32c), and Zarr reads them.  They are
packed and read here directly: Zarr takes milliseconds for a chunk, and its reader believes the
sizes that stand in the files and makes zeros of what is missing.  Every buffer has the size that
the variable's grid declares, whatever a damaged or hostile file says.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from math import prod
from typing import Any

import google_crc32c
import numpy as np
from numcodecs.pcodec import PCodec
from numcodecs.zstd import Zstd
from numpy.typing import NDArray

from gnomon.storage.arrays.layout import ZSTD_LEVEL, compressor, is_pcodec
from gnomon.storage.arrays.residuals import needs_search
from gnomon.storage.errors import GnomonError, Integrity, NotFound
from gnomon.storage.log.location import Location
from gnomon.storage.recent import Recent, drop_oldest
from gnomon.storage.values.documents import NONSENSE, items, parse, text, whole
from gnomon.storage.values.grid import ChunkGrid, Index
from gnomon.storage.values.plausible import LARGEST_NDIM

__all__ = [
    "Shards",
    "forget_packed",
    "keep_packed",
    "pack_chunk",
    "pack_shard",
    "pack_whole",
    "read_whole",
    "unpack_shard",
    "unpack_whole",
]

_ABSENT = np.iinfo(np.uint64).max
_CHECKSUM = 4
"""Bytes of a crc32c."""
KEPT_BYTES, KEPT = 2**24, 4096
"""Memory of the packed chunks of object stores that a process keeps, and how many they are."""
SMALL_BYTES = 2**18
"""Of an object store, packed chunks up to this size are kept, and smaller shards read whole: to ask
once more takes longer than to read as much."""
_ALL = -1
"""How many bytes were wanted of an object that is kept whole."""
_kept: Recent[tuple[str, str, int, int], bytes] = Recent(KEPT, KEPT_BYTES, len)
"""By location, name of the object, first byte and how many were wanted.  The steps of a run read
the same ones, each with what it has opened itself."""
SHARED_BYTES, SHARED = 2**19, 16
"""Stored chunks up to this size may be read in parts; so many of them are kept."""
_RATIO = 2**15
"""Zstandard makes at most so many bytes of one: 128 KiB of a block that takes four."""
REPAIR = "run 'gnomon repair'"
"""What to do about damage of what there is a copy of, or may be."""
_LARGEST = 2**34
"""Bytes of a small array that is read whole; none that this program writes comes near."""


def forget_packed(location: Location) -> None:
    """Let go of what was read of one location: it may have been mended since."""
    _kept.drop(lambda key: key[0] == location.url)


def _keep(location: Location, name: str, start: int, length: int, data: bytes) -> None:
    if location.path is None and len(data) <= SMALL_BYTES:
        _kept.put((location.url, name, start, length), data)


def keep_packed(location: Location, name: str, data: bytes) -> None:
    """Keep a small object of an object store, which was put or read just now, for later steps."""
    _keep(location, name, 0, _ALL, data)


def _read(location: Location, name: str, start: int, length: int) -> bytes:
    """Return a part of an object, which this process may have read before; raises as `read`."""
    whole = _kept.get((location.url, name, 0, _ALL))
    if whole is not None:
        return whole[start : start + length]
    data = _kept.get((location.url, name, start, length))
    if data is None:
        data = location.read(name, (start, length))
        _keep(location, name, start, length, data)
    return data


@contextmanager
def _not_kept_if_damaged(location: Location, name: str) -> Iterator[None]:
    """Read an object again the next time where it is damaged: the store may have answered wrongly,
    and it may be mended."""
    try:
        yield
    except Integrity:
        _kept.drop(lambda key: key[:2] == (location.url, name))
        raise


def _checked(data: bytes, name: str) -> memoryview:
    """Return what stands before a checksum, verified."""
    view = memoryview(data)
    checksum = google_crc32c.value(bytes(view[:-_CHECKSUM])) if len(data) > _CHECKSUM else None
    if checksum != int.from_bytes(view[-_CHECKSUM:], "little"):
        raise Integrity(f"{name} was changed after it was written (its checksum differs)")
    return view[:-_CHECKSUM]


def _with_checksum(data: bytes) -> bytes:
    return data + int(google_crc32c.value(data)).to_bytes(_CHECKSUM, "little")


def pack_chunk(values: NDArray[np.signedinteger], *, bent: bool = False) -> bytes | None:
    """Return a whole chunk as it is stored; None if it is all zero, which is not stored.

    Parameters
    ----------
    bent
        Whether they are planar differences.
    """
    if not values.any():
        return None
    codec = compressor(values.dtype, search=not bent or needs_search(values))
    return _with_checksum(bytes(codec.encode(np.ascontiguousarray(values))))


def pack_whole(values: NDArray[Any]) -> bytes:
    """Return a small array as the one object that it is stored as."""
    data = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    return _with_checksum(bytes(Zstd(level=ZSTD_LEVEL).encode(data)))


def pack_shard(grid: ChunkGrid, chunks: Mapping[Index, bytes]) -> bytes:
    """Return a shard that holds packed chunks, by their place in it, in row-major order."""
    if grid.shards == grid.chunks:
        (data,) = chunks.values()
        return data
    directory = np.full((*_per_shard(grid), 2), _ABSENT, "<u8")
    start = 0
    for place, data in sorted(chunks.items()):
        directory[place] = start, len(data)
        start += len(data)
    return b"".join([*(chunks[p] for p in sorted(chunks)), _with_checksum(directory.tobytes())])


def unpack_shard(
    location: Location, name: str, grid: ChunkGrid, dtype: np.dtype[Any]
) -> Iterator[tuple[Index, NDArray[Any] | None]]:
    """Yield the place of each chunk of a shard and its values, *not yet verified*; None: all zero.

    Only one of them takes memory at a time.

    Raises
    ------
    Integrity
        The shard is missing or damaged.
    """
    limit = 2 * dtype.itemsize * prod(grid.shards) + 4096 * prod(_per_shard(grid))
    try:
        data = _read(location, name, 0, limit + 1)
    except NotFound as error:
        raise Integrity(f"{name} is missing") from error
    size = 16 * prod(_per_shard(grid)) + _CHECKSUM
    if not size <= len(data) <= limit:
        raise Integrity(f"{name} has {len(data)} bytes, expected {size} to {limit}")
    with _not_kept_if_damaged(location, name):
        directory = np.frombuffer(_checked(data[-size:], name), "<u8")
    directory = directory.reshape(*_per_shard(grid), 2)
    pcodec = is_pcodec(dtype)
    for place in np.ndindex(_per_shard(grid)):
        start, length = map(int, directory[place])
        if start == length == _ABSENT:
            yield place, None
            continue
        if start + length > len(data):
            raise Integrity(f"{name} is too short for what it says that it holds")
        out = np.zeros(grid.chunks, dtype)
        flat = out.reshape(-1) if pcodec else out.reshape(-1).view(np.uint8)
        with _not_kept_if_damaged(location, name):
            _unpack(_checked(data[start : start + length], name), flat, name, pcodec=pcodec)
        yield place, out


def _per_shard(grid: ChunkGrid) -> Index:
    return tuple(s // c for s, c in zip(grid.shards, grid.chunks, strict=True))


def _unpack(packed: memoryview, out: NDArray[Any], name: str, *, pcodec: bool) -> None:
    """Decompress into a buffer, never beyond it."""
    codec = PCodec() if pcodec else Zstd()
    try:
        codec.decode(bytes(packed), out=out)
    except MemoryError:  # says nothing of the bytes: damage may be passed over, this not
        raise
    except Exception as error:  # codecs raise whatever damaged bytes make them raise
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise Integrity(f"{name} cannot be unpacked: {reason}") from error


def unpack_whole(data: bytes, shape: Index, dtype: np.dtype[Any], name: str) -> NDArray[Any]:
    """Return a small array from what `pack_whole` made of it, none of an empty one.

    Raises
    ------
    Integrity
        It is damaged.
    ValueError
        It cannot have that shape.
    """
    nbytes = prod(shape) * dtype.itemsize
    packed = _checked(data, name) if nbytes else memoryview(b"")
    if nbytes > min(_LARGEST, _RATIO * len(packed)):
        raise ValueError(f"its shape {shape} does not fit its {len(packed)} bytes")
    values: NDArray[Any] = np.zeros(shape, dtype)
    if nbytes:
        _unpack(packed, values.reshape(-1).view(np.uint8), name, pcodec=False)
    return values


def read_whole(
    location: Location, path: str, cure: str = REPAIR
) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Return a small array that is stored as one object, and the names of its columns.

    Both are *not yet verified*.

    Parameters
    ----------
    cure
        What the error says to do next.

    Raises
    ------
    Integrity
        It is missing, damaged, or not such an array.
    """
    try:
        about = parse(location.read(f"{path}/zarr.json"))
        shape = items(about["shape"], "shape", partial(whole, least=0), most=LARGEST_NDIM)
        columns = items(about.get("attributes", {}).get("columns", []), "columns", text)
        dtype = np.dtype({"int64": "<i8", "float64": "<f8"}[about["data_type"]])
        name = "/".join([path, "c", *"0" * len(shape)])
        nbytes = prod(shape) * dtype.itemsize
        values = unpack_whole(location.read(name) if nbytes else b"", shape, dtype, name)
    except (NotFound, Integrity) as error:
        raise Integrity(f"{error}; {cure}") from error
    except GnomonError:
        raise
    except NONSENSE as error:
        reason = str(error)[:200]
        raise Integrity(f"{path}/zarr.json is damaged ({reason}); {cure}") from error
    return values, columns


@dataclass(slots=True)
class Shards:
    """An array (lead, *dims) of numbers, open for reading.

    One object holds a shard of one lead, or of all.  Where the variable's shards are its chunks,
    the object is a chunk; else its last bytes say where each chunk is.
    """

    location: Location
    """Where the repository lives."""
    path: str
    """Folder of the array."""
    grid: ChunkGrid
    """Chunks and shards of the variable."""
    dtype: np.dtype[Any]
    """Type of the numbers."""
    depth: int = 1
    """How many leads a stored chunk holds."""
    _directories: dict[str, NDArray[np.uint64]] = field(default_factory=dict)
    _recent: dict[tuple[str, Index], NDArray[Any]] = field(default_factory=dict)

    def name(self, lead: int, cells: tuple[slice, ...]) -> str:
        """Return the stored object that holds a region of one chunk."""
        starts = zip(cells, self.grid.shards, strict=True)
        place = (lead // self.depth, *(c.start // n for c, n in starts))
        return f"{self.path}/c/{'/'.join(map(str, place))}"

    def read(self, lead: int, cells: tuple[slice, ...]) -> NDArray[Any]:
        """Return a region that lies in one stored chunk; its values are *not yet verified*.

        Where a chunk holds several leads, they are the first axis of what is returned.  Zarr stores
        no chunk of integers that is all zero.

        Raises
        ------
        Integrity
            It is damaged.
        """
        index = tuple(c.start // n for c, n in zip(cells, self.grid.chunks, strict=True))
        whole = self._chunk(self.name(lead, cells), index)
        corner = [i * n for i, n in zip(index, self.grid.chunks, strict=True)]
        inside = (slice(c.start - a, c.stop - a) for c, a in zip(cells, corner, strict=True))
        where: tuple[Any, ...] = (..., *inside)
        return np.asarray(whole[where])

    def _chunk(self, name: str, index: Index) -> NDArray[Any]:
        """Return a whole stored chunk; the last ones are kept, as several reads may share one."""
        recent = self._recent.get((name, index))
        if recent is not None:
            return recent
        shape = self.grid.chunks if self.depth == 1 else (self.depth, *self.grid.chunks)
        whole: NDArray[Any] = np.zeros(shape, self.dtype)
        packed = self._packed(name, index, whole.nbytes)
        if packed is not None:
            pcodec = is_pcodec(self.dtype)
            out = whole.reshape(-1) if pcodec else whole.reshape(-1).view(np.uint8)
            with _not_kept_if_damaged(self.location, name):
                _unpack(_checked(packed, name), out, name, pcodec=pcodec)
        whole.flags.writeable = False
        # All leads of several chunks may be large, and are asked for chunk by chunk.
        if whole.nbytes <= SHARED_BYTES or self.depth > 1:
            self._recent[name, index] = whole
            drop_oldest(self._recent, SHARED if whole.nbytes <= SHARED_BYTES else 1)
        return whole

    def _packed(self, name: str, index: Index, nbytes: int) -> bytes | None:
        limit = 2 * nbytes + 4096
        try:
            if self.grid.shards == self.grid.chunks:
                data = _read(self.location, name, 0, limit + 1)
                if len(data) > limit:
                    raise Integrity(f"{name} has more than {limit} bytes, too many for one chunk")
                return data
            inner = tuple(i % n for i, n in zip(index, _per_shard(self.grid), strict=True))
            start, length = map(int, self._directory(name)[inner])
            if start == length == _ABSENT:
                return None
            if length > limit:
                raise Integrity(f"{name} holds a chunk of {length} bytes, expected {limit} at most")
            return _read(self.location, name, start, length)
        except NotFound:
            return None

    def _directory(self, name: str) -> NDArray[np.uint64]:
        """Return where the chunks of a shard start and how long they are."""
        if name not in self._directories:
            size = 16 * prod(_per_shard(self.grid)) + _CHECKSUM
            ahead = size if self.location.path is not None else max(size, SMALL_BYTES)
            end = _kept.get((self.location.url, name, 0, _ALL))
            end = self.location.read_end(name, ahead) if end is None else end
            if len(end) < size:
                raise Integrity(f"{name} was changed after it was written (it is too short)")
            data = _checked(end[-size:], name)
            where = np.frombuffer(data, "<u8").reshape(*_per_shard(self.grid), 2)
            if len(end) < ahead:  # which is all of it
                keep_packed(self.location, name, end)
            self._directories[name] = where
        return self._directories[name]
