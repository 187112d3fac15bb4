"""The template of a reading store: Zarr metadata of every array, and the data of those that stay.

Written by Zarr itself, in plain codecs, so that anything that reads Zarr reads it; attributes are
laid out as xarray expects them.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
import zarr
from xarray.backends.zarr import FillValueCoder
from zarr.storage import MemoryStore

from gnomon.storage.serve.reader import ComputedArray
from gnomon.storage.values.attributes import plain_attributes
from gnomon.storage.values.documents import NONSENSE
from gnomon.storage.values.dtypes import is_text
from gnomon.storage.values.grid import Index

__all__ = ["ServedArray", "create_computed", "create_fixed"]


@dataclass(frozen=True, slots=True)
class ServedArray:
    """A computed array, and what its metadata says."""

    name: str
    """Name in the dataset."""
    dims: tuple[str, ...]
    """Dimensions."""
    shape: Index
    """Cells along each dimension."""
    attributes: dict[str, Any]
    """Exact attributes."""
    computed: ComputedArray
    """How its chunks are made."""


def create_fixed(store: MemoryStore, name: str, variable: xr.Variable) -> None:
    """Write a variable that does not change, as one chunk."""
    values = np.asarray(variable.values)
    texts = is_text(values.dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of types without a specification, which stay in memory
        array = zarr.create_array(
            store,
            name=name,
            shape=values.shape,
            chunks=tuple(max(1, n) for n in values.shape),
            dtype=str if texts else values.dtype,
            compressors=None,
            filters=None,
            dimension_names=list(map(str, variable.dims)),
            attributes=_encoded(variable.attrs, values.dtype),
            config={"write_empty_chunks": True},
        )
    array[...] = values.astype(object) if texts else values


def create_computed(store: MemoryStore, served: ServedArray) -> None:
    """Write the metadata of an array whose chunks are computed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        zarr.create_array(
            store,
            name=served.name,
            shape=served.shape,
            chunks=served.computed.chunks,
            dtype=str if is_text(served.computed.dtype) else served.computed.dtype,
            compressors=None,
            filters=None,
            dimension_names=list(served.dims),
            attributes=_encoded(served.attributes, served.computed.dtype),
        )


def _encoded(attributes: dict[Any, Any], dtype: np.dtype[Any]) -> dict[str, Any]:
    """Return attributes as JSON; `_FillValue` in xarray's form, left out where it has none."""
    plain = plain_attributes(attributes)
    if "_FillValue" in plain:
        fill = plain.pop("_FillValue")
        try:
            encoded = FillValueCoder.encode(np.asarray(fill).ravel()[0].item(), dtype)
            FillValueCoder.decode(encoded, dtype)  # of text of fixed width, not all that is encoded
        except NONSENSE:
            return plain
        plain["_FillValue"] = encoded
    return plain
