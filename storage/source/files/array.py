"""One variable of a source of many files as one lazy array along time."""

from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xarray.backends.common import BackendArray
from xarray.core import indexing

from gnomon.storage.source.files.reading import Files, Unfit

__all__ = ["StepsArray"]


class StepsArray(BackendArray):
    """The steps of all files; only those that are asked for are read.

    Parameters
    ----------
    dims, shape, dtype
        Of the whole array.
    """

    def __init__(
        self,
        files: Files,
        name: str,
        time: str,
        dims: tuple[str, ...],
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
    ) -> None:
        self.files = files
        self.name = name
        self.time = time
        self.dims = dims
        self.shape = shape
        self.dtype = dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> NDArray[Any]:
        # Steps that are far apart must not make those between them read: hence OUTER.
        support = indexing.IndexingSupport.OUTER
        return np.asarray(indexing.explicit_indexing_adapter(key, self.shape, support, self._read))

    def _read(self, key: tuple[Any, ...]) -> NDArray[Any]:
        where = dict(zip(self.dims, key, strict=True))
        dropped = tuple(0 if isinstance(k, int | np.integer) else slice(None) for k in key)
        cells = {
            d: slice(int(k), int(k) + 1) if isinstance(k, int | np.integer) else k
            for d, k in where.items()
        }
        positions = np.atleast_1d(
            np.arange(self.shape[self.dims.index(self.time)])[where[self.time]]
        )
        del cells[self.time]
        places = [self.files.place(int(k)) for k in positions]
        parts = [
            self._part(file, [step for _, step in steps], cells)
            for file, steps in groupby(places, key=lambda place: place[0])
        ]
        axis = self.dims.index(self.time)
        if not parts:
            sizes = [
                np.arange(n)[cells[d]].size if d in cells else 0
                for d, n in zip(self.dims, self.shape, strict=True)
            ]
            parts = [np.empty(sizes, self.dtype)]
        return np.concatenate(parts, axis=axis)[dropped]

    def _part(self, file: str, steps: list[int], cells: dict[str, Any]) -> NDArray[Any]:
        values = self.files.read(file, self.name, steps, cells)
        if values.dtype.newbyteorder("<") != self.dtype.newbyteorder("<"):
            raise Unfit(f"{self.name} in {file} has type {values.dtype}, expected {self.dtype}")
        return values
