"""Zarr stores, format 3 or 2, on a disk or in a bucket: workers write blocks side by side."""

import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray
from zarr.storage import MemoryStore, ObjectStore

from gnomon.storage.errors import Conflict, NotFound
from gnomon.storage.values.attributes import plain_attributes
from gnomon.storage.values.dtypes import is_text
from gnomon.tasks.restoring.targets.bucket import BucketTarget
from gnomon.tasks.restoring.targets.file import FileTarget
from gnomon.tasks.restoring.targets.target import Layout, Where

__all__ = ["ZarrBucket", "ZarrTarget", "create_arrays", "open_array"]

_UNFINISHED = re.compile(r".*\.[0-9a-f]{32}\.partial")
"""What Zarr calls an object on a disk while it writes it."""
_ROOTS = ("zarr.json", ".zattrs", ".zmetadata", ".zgroup")
"""What makes a group of what is beside it, in the order in which it is written."""


@dataclass(frozen=True)
class ZarrTarget(FileTarget):
    """A Zarr store, chunked as the repository is."""

    zarr_format: int = 3
    """Format of the store: 3, or 2, which has no shards."""

    is_folder = True
    resumes = True

    @contextmanager
    def making(self) -> Iterator[Self]:
        """Give the target under its hidden path, without what a killed process left unfinished."""
        with super().making() as draft:
            for path in draft.partial.rglob("*.partial") if draft.resumed else ():
                if _UNFINISHED.fullmatch(path.name) and path.is_file():
                    path.unlink()
            yield draft

    def create(self, dataset: xr.Dataset, layout: Mapping[str, Layout]) -> None:
        """Make the store, with the values of all that is not in `layout`."""
        create_arrays(self.partial, dataset, layout, self.zarr_format)

    def write(self, name: str, where: Where, values: NDArray[Any]) -> None:
        """Write a block."""
        _opened(f"{self.partial}/{name}")[where] = values

    def read(self, name: str, where: Where, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return a part of an array, in the type that the store has."""
        return np.asarray(_opened(f"{self.partial}/{name}")[where])


@dataclass(frozen=True)
class ZarrBucket(BucketTarget):
    """A Zarr store in a bucket; what makes a group of its arrays is put when they are verified."""

    zarr_format: int = 3
    """Format of the store: 3, or 2, which has no shards."""

    def is_published(self) -> bool:
        """Tell whether there is a group."""
        for name in ("zarr.json", ".zgroup"):
            with suppress(NotFound):
                self.location.read(name)
                return True
        return False

    def create(self, dataset: xr.Dataset, layout: Mapping[str, Layout]) -> None:
        """Put the arrays' metadata, and the values of all that is not in `layout`."""
        objects: dict[str, Any] = {}
        create_arrays(MemoryStore(objects), dataset, layout, self.zarr_format)
        texts = {name: value.to_bytes() for name, value in objects.items()}
        roots = {name: texts.pop(name).decode() for name in _ROOTS if name in texts}
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(self.location.create, texts.keys(), texts.values()))
        self.note_created(json.dumps(roots))

    def write(self, name: str, where: Where, values: NDArray[Any]) -> None:
        """Write a block."""
        with self.asking(name):
            _opened_in_bucket(self, name)[where] = values

    def read(self, name: str, where: Where, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return a part of an array, in the type that the store has."""
        with self.asking(name):
            return np.asarray(_opened_in_bucket(self, name)[where])

    def finish(self, written: Sequence[object]) -> None:
        """Make a group of the arrays, and say no more that it is in the making.

        Raises
        ------
        Conflict
            There is one by now, or another process has taken this restore over.
        """
        self.refuse_stranger()
        for name, text in json.loads(self.told_created()).items():
            try:
                self.location.create(name, text.encode())
            except Conflict as error:
                raise self.overtaken() from error
        self.release()


def create_arrays(
    store: Any, dataset: xr.Dataset, layout: Mapping[str, Layout], zarr_format: int
) -> None:
    """Make all arrays of a dataset in a Zarr store, with the values of what is not in `layout`."""
    encoding = {
        str(n): _encoding(v, layout.get(str(n)), zarr_format) for n, v in dataset.variables.items()
    }
    exact = [str(n) for n, v in dataset.variables.items() if _is_left_alone(v)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.drop_vars(exact).to_zarr(
            store,
            encoding={n: e for n, e in encoding.items() if n not in exact},
            zarr_format=zarr_format,
            mode="w-",
            compute=False,  # the blocks follow, each written and read back by one worker
        )
        for name in exact:
            _create_exact(store, name, dataset.variables[name], encoding[name], zarr_format)
        # or readers who trust the consolidated metadata would miss them
        if exact and getattr(store, "supports_consolidated_metadata", True):
            zarr.consolidate_metadata(store, zarr_format=zarr_format)  # type: ignore[arg-type]


def _is_left_alone(variable: xr.Variable) -> bool:
    """Tell whether xarray is not asked to make an array.

    It would encode times that are stored as such, read lazy text to find its width, and give fill
    values of text a form that it cannot read.
    """
    kind = variable.dtype.kind
    return kind in "mMOT" or (kind in "SU" and "_FillValue" in variable.attrs)


def _create_exact(
    store: Any, name: str, variable: xr.Variable, encoding: dict[str, Any], zarr_format: int
) -> None:
    """Make an array of the variable's own type; blocks of what was captured follow."""
    dims = list(map(str, variable.dims))
    attributes = {k: v for k, v in variable.attrs.items() if k != "_FillValue"}
    if zarr_format == 2:
        attributes["_ARRAY_DIMENSIONS"] = dims
    array = zarr.create_array(
        store,
        name=name,
        shape=variable.shape,
        chunks=encoding.get("chunks", "auto"),
        shards=encoding.get("shards"),
        dtype=str if is_text(variable.dtype) else variable.dtype,
        dimension_names=dims if zarr_format == 3 else None,
        fill_value=variable.attrs.get("_FillValue"),
        attributes=plain_attributes(attributes),
        zarr_format=zarr_format,  # type: ignore[arg-type]
    )
    if "chunks" not in encoding:
        values = np.asarray(variable.values)
        array[...] = values.astype(object) if is_text(values.dtype) else values


def _encoding(variable: xr.Variable, layout: Layout | None, zarr_format: int) -> dict[str, Any]:
    # Without this, xarray would add fill values that the source does not have.
    encoding: dict[str, Any] = {} if "_FillValue" in variable.attrs else {"_FillValue": None}
    if layout is not None:
        encoding["chunks"] = layout.chunks
        if layout.blocks != layout.chunks and zarr_format == 3:
            encoding["shards"] = layout.blocks
        # A chunk that equals the fill value by number may differ from it in its bits.
        encoding["write_empty_chunks"] = True
    return encoding


def open_array(store: Any, path: str = "") -> zarr.Array[Any]:
    """Return an array to write to, chunks that equal the fill value included."""
    return zarr.open_array(store, path=path, mode="r+", config={"write_empty_chunks": True})


@lru_cache(maxsize=8)
def _opened(path: str) -> zarr.Array[Any]:
    """Return an array of the target; to open it takes longer than to write a small block."""
    return open_array(path)


@lru_cache(maxsize=8)
def _opened_in_bucket(target: ZarrBucket, name: str) -> zarr.Array[Any]:
    return open_array(ObjectStore(target.location.objects), name)
