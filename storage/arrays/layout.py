"""How stored arrays describe themselves: Zarr v3 metadata, so that Zarr reads them.

The text is written here, since it must be the same bytes whenever it is made again: a repair
compares it with the hash in the manifest.  What a chunk is compressed with stands here only.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numcodecs.pcodec import PCodec
from numcodecs.zstd import Zstd

from gnomon.storage.values.grid import ChunkGrid, Index

__all__ = [
    "PCODEC_LEVEL",
    "ZSTD_LEVEL",
    "compressor",
    "group_metadata",
    "is_pcodec",
    "residual_metadata",
    "table_metadata",
]

PCODEC_LEVEL = 8
ZSTD_LEVEL = 3

Codec = dict[str, Any]

_CHECKSUM: Codec = {"name": "crc32c"}
_LITTLE: Codec = {"name": "bytes", "configuration": {"endian": "little"}}


def is_pcodec(dtype: np.dtype[Any]) -> bool:
    """Tell whether numbers are stored with pcodec, not Zstandard; pcodec has no 8-bit types."""
    return dtype.kind == "i" and dtype.itemsize > 1


def compressor(dtype: np.dtype[Any], *, search: bool = True) -> PCodec | Zstd:
    """Return the codec that numbers are compressed with.

    Parameters
    ----------
    search
        Let pcodec look for differences to take, which takes as long as the rest of its work.
    """
    if not is_pcodec(dtype):
        return Zstd(level=ZSTD_LEVEL)
    if search:
        return PCodec(level=PCODEC_LEVEL)
    return PCodec(level=PCODEC_LEVEL, delta_spec="try_consecutive", delta_encoding_order=0)


def residual_metadata(
    lead: int,
    grid: ChunkGrid,
    dtype: np.dtype[Any],
    *,
    together: bool = False,
    depth: int = 1,
    names: Sequence[str] = (),
) -> bytes:
    """Return the ``zarr.json`` of an array (lead, *dims) of integers, chunked like a variable.

    Parameters
    ----------
    together
        Whether one object holds all of the first axis.
    depth
        How much of the first axis a chunk holds: 1, or all of it.
    names
        Of the dimensions; none: they have no names.
    """
    chunks = tuple(max(1, n) for n in grid.chunks)
    codecs = _zstd(dtype)
    if is_pcodec(dtype):
        codecs = [_named("numcodecs.pcodec", level=PCODEC_LEVEL), _CHECKSUM]
    if grid.shards == grid.chunks and not together:
        return _array((lead, *grid.shape), dtype, (depth, *chunks), codecs, names)
    inner = _named(
        "sharding_indexed",
        chunk_shape=[depth, *chunks],
        codecs=codecs,
        index_codecs=[_LITTLE, _CHECKSUM],
        index_location="end",
    )
    shards = (lead if together else depth, *(max(1, n) for n in grid.shards))
    return _array((lead, *grid.shape), dtype, shards, [inner], names)


def table_metadata(
    shape: Index, dtype: np.dtype[Any], columns: list[str], names: Sequence[str] = ()
) -> bytes:
    """Return the ``zarr.json`` of a small array of int64 or float64 that is one object."""
    whole = tuple(max(1, n) for n in shape)
    return _array(shape, dtype, whole, _zstd(dtype), names, columns=columns)


def group_metadata(attributes: dict[str, Any]) -> bytes:
    """Return the ``zarr.json`` of a group."""
    fields = {"attributes": attributes, "zarr_format": 3, "node_type": "group"}
    return json.dumps(fields, indent=2).encode()


def _zstd(dtype: np.dtype[Any]) -> list[Codec]:
    raw: Codec = _LITTLE if dtype.itemsize > 1 else {"name": "bytes"}
    return [raw, _named("zstd", level=ZSTD_LEVEL, checksum=False), _CHECKSUM]


def _array(
    shape: Index,
    dtype: np.dtype[Any],
    objects: Index,
    codecs: list[Codec],
    names: Sequence[str],
    **attributes: Any,
) -> bytes:
    fields: dict[str, Any] = {
        "shape": list(shape),
        "data_type": dtype.name,
        "chunk_grid": _named("regular", chunk_shape=list(objects)),
        "chunk_key_encoding": _named("default", separator="/"),
        "fill_value": 0 if dtype.kind == "i" else 0.0,
        "codecs": codecs,
        "attributes": attributes,
        "zarr_format": 3,
        "node_type": "array",
        "storage_transformers": [],
    }
    if names:
        fields["dimension_names"] = list(names)
    return json.dumps(fields, indent=2).encode()


def _named(name: str, **configuration: Any) -> Codec:
    return {"name": name, "configuration": configuration}
