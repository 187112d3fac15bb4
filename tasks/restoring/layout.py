"""How a restored dataset is cut: the chunks that it has, and the blocks that workers write."""

import secrets
from collections.abc import Mapping
from math import prod

import xarray as xr

from gnomon.storage.repository import Repository
from gnomon.storage.serve.names import extra_name
from gnomon.storage.serve.planes import FORECAST_EXTRAS
from gnomon.storage.values.grid import Index
from gnomon.storage.values.model import Variable
from gnomon.storage.values.selection import Selection
from gnomon.tasks.restoring.targets.target import Layout

__all__ = ["array_names", "in_blocks", "layout_of"]

LARGEST_CHUNK = 2**26
"""Bytes of a chunk of the source that a target has too: a worker holds a few of them at once."""


def layout_of(
    repository: Repository, dataset: xr.Dataset, selection: Selection
) -> dict[str, Layout]:
    """Return how the arrays of the variables are cut; each plane is by itself."""
    layout = {}
    for variable in repository.settings.variables:
        blocks, chunks = _sizes(variable, selection.shape(variable))
        for name in (name for name in array_names(repository, variable) if name in dataset):
            stacked = len(dataset[name].dims) > len(variable.dims)
            axis = variable.time_axis
            layout[name] = Layout(
                (*blocks[:axis], 1, *blocks[axis:]) if stacked else blocks,
                (*chunks[:axis], 1, *chunks[axis:]) if stacked else chunks,
            )
    return layout


def array_names(repository: Repository, variable: Variable) -> tuple[str, ...]:
    """Return the names that arrays of a variable may have: values, and what stands beside them."""
    beside = FORECAST_EXTRAS if variable.forecast else ()
    return variable.name, *(extra_name(repository, variable.name, e) for e in beside)


def _sizes(variable: Variable, shape: Index) -> tuple[Index, Index]:
    """Return the blocks and chunks of a target: the source's chunks, in blocks as they are stored.

    If the source has none, or such that a worker could not hold one, the repository's.
    """
    chunks = variable.source_chunks
    if not chunks or prod(chunks) * variable.numpy_dtype.itemsize > LARGEST_CHUNK:
        chunks = variable.units
    chunks = tuple(max(1, min(c, n)) for c, n in zip(chunks, shape, strict=True))
    # A block is whole chunks, and one chunk at least; one that is beyond the far end is cut off.
    blocks = (
        min(max(1, s // c), max(1, -(-n // c))) * c
        for s, c, n in zip(variable.shards, chunks, shape, strict=True)
    )
    return tuple(blocks), chunks


def in_blocks(dataset: xr.Dataset, layout: Mapping[str, Layout]) -> xr.Dataset:
    """Return a dataset whose arrays are lazy, one Dask chunk for each block."""
    # Dask makes names of what is in an array; to find that out it would open the repository anew.
    own = secrets.token_hex(8)
    arrays = {}
    for name, laid_out in layout.items():
        array = dataset[name]
        blocks = dict(zip(array.dims, laid_out.blocks, strict=True))
        arrays[name] = array.chunk(blocks, token=f"{own}-{name}")
    return dataset.assign(arrays)
