"""Zarr stores, format 3: workers write blocks side by side."""

import warnings
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray

from gnomon.storage.values.attributes import plain_attributes
from gnomon.tasks.restoring.targets.file import FileTarget
from gnomon.tasks.restoring.targets.target import Layout, Where

__all__ = ["ZarrTarget"]


class ZarrTarget(FileTarget):
    """A Zarr store, chunked as the repository is."""

    is_folder = True

    def create(self, dataset: xr.Dataset, layout: Mapping[str, Layout]) -> None:
        """Make the store, with the values of all that is not in `layout`."""
        encoding = {str(n): _encoding(v, layout.get(str(n))) for n, v in dataset.variables.items()}
        # xarray would encode times that are stored as such.
        exact = [str(n) for n, v in dataset.variables.items() if v.dtype.kind in "mM"]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset.drop_vars(exact).to_zarr(
                self.partial,
                encoding={n: e for n, e in encoding.items() if n not in exact},
                zarr_format=3,
                mode="w-",
                compute=False,  # the blocks follow, each written and read back by one worker
            )
            for name in exact:
                self._create_exact(name, dataset.variables[name], encoding[name])
            if exact:  # or readers who trust the consolidated metadata would miss them
                zarr.consolidate_metadata(str(self.partial))

    def _create_exact(self, name: str, variable: xr.Variable, encoding: dict[str, Any]) -> None:
        """Make an array of the variable's own type; blocks of what was captured follow."""
        attributes = {k: v for k, v in variable.attrs.items() if k != "_FillValue"}
        array = zarr.create_array(
            str(self.partial),
            name=name,
            shape=variable.shape,
            chunks=encoding.get("chunks", "auto"),
            shards=encoding.get("shards"),
            dtype=variable.dtype,
            dimension_names=list(map(str, variable.dims)),
            fill_value=variable.attrs.get("_FillValue"),
            attributes=plain_attributes(attributes),
        )
        if "chunks" not in encoding:
            array[...] = variable.values

    def write(self, name: str, where: Where, values: NDArray[Any]) -> None:
        """Write a block."""
        _opened(f"{self.partial}/{name}")[where] = values

    def read(self, name: str, where: Where, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return a part of an array, in the type that the store has."""
        return np.asarray(_opened(f"{self.partial}/{name}")[where])


def _encoding(variable: xr.Variable, layout: Layout | None) -> dict[str, Any]:
    # Without this, xarray would add fill values that the source does not have.
    encoding: dict[str, Any] = {} if "_FillValue" in variable.attrs else {"_FillValue": None}
    if layout is not None:
        encoding["chunks"] = layout.chunks
        if layout.blocks != layout.chunks:
            encoding["shards"] = layout.blocks
        # A chunk that equals the fill value by number may differ from it in its bits.
        encoding["write_empty_chunks"] = True
    return encoding


@lru_cache(maxsize=8)
def _opened(path: str) -> zarr.Array[Any]:
    """Return an array of the target; to open it takes longer than to write a small block."""
    return zarr.open_array(path, mode="r+", config={"write_empty_chunks": True})
