"""Staging: the objects of a live dataset as they will be, made beside it before any is replaced."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray

from gnomon.storage.errors import InvalidInput, Unavailable, Unreadable
from gnomon.storage.live.replaced import ObjectChange, entry_of
from gnomon.storage.live.staged import Staged
from gnomon.storage.live.stores import PIECE, LiveStore
from gnomon.storage.redaction import one_line
from gnomon.storage.repository import Repository
from gnomon.storage.source.files.listing import local_path
from gnomon.storage.source.files.opening import file_at
from gnomon.storage.source.states import is_damage, read_state
from gnomon.storage.userpath import blaming
from gnomon.storage.values.dtypes import native
from gnomon.storage.values.grid import ChunkGrid, Index
from gnomon.storage.values.model import SourceSpec
from gnomon.tasks.rollback.along import Along, Box, captured_along
from gnomon.tasks.rollback.differences import ChunkChange, Intended, differing
from gnomon.tasks.work import Mapper

__all__ = ["StagedObject", "stage"]


@dataclass(frozen=True, slots=True)
class StagedObject:
    """An object as it will be."""

    change: ObjectChange
    """What it is now, and will be."""
    content: Path | None
    """File that holds what it will be; None: it will be removed."""
    along: tuple[Along, ...] = ()
    """What of other steps is put back as it was captured: it lay in an object that cannot be
    decoded."""

    @property
    def also(self) -> tuple[int, ...]:
        """Positions along time of these steps, in order."""
        return tuple(sorted({along.position for along in self.along}))

    def pieces(self) -> Iterator[bytes] | None:
        """Yield what it will be; None: it will be removed."""
        return None if self.content is None else _pieces(self.content)


def _pieces(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while piece := file.read(PIECE):
            yield piece


@dataclass(frozen=True, slots=True)
class Staging:
    """What objects are made from."""

    repository: Repository
    """Where the state is from."""
    live: LiveStore
    """What is going to be written."""
    spec: SourceSpec
    """How that is opened."""
    dataset: xr.Dataset
    """It, opened."""
    position: int | None
    """Place of the state along time; None for a state source."""
    intended: Intended
    """What it should hold."""
    folder: Path
    """Where the objects are made."""

    def chunk(self, change: ChunkChange) -> tuple[NDArray[np.generic] | None, NDArray[np.generic]]:
        """Return a chunk as it stands, None if that cannot be decoded, and as it will stand."""
        variable = self.repository.settings.variable(change.variable)
        before = None
        if not change.is_damaged:
            cells = variable.grid.cells(change.index)
            before = read_state(self.dataset, variable, self.position, cells)
        return before, self.intended.after(variable, change.index, before).raw


def stage(staging: Staging, changes: Sequence[ChunkChange], mapper: Mapper) -> list[StagedObject]:
    """Return the objects that hold some chunks, as they will be.

    Raises
    ------
    InvalidInput
        The live dataset is of a form that is only read.
    Unreadable
        An object cannot be decoded, and holds more than what is written, which was never captured.
    Unavailable
        The live dataset did not answer.
    """
    if staging.live.zarr() is None:
        return [_stage_file(staging, changes)] if changes else []
    staged: list[StagedObject] = []
    for name in dict.fromkeys(change.variable for change in changes):
        array = _Array(staging, name)
        tiles = array.tiles([change for change in changes if change.variable == name])
        staged += [obj for objects in mapper(array.stage, list(tiles.items())) for obj in objects]
    return staged


class _Array:
    """One array of a Zarr store, cut into its objects: chunks, or shards where it has them."""

    def __init__(self, staging: Staging, name: str) -> None:
        self.staging = staging
        self.variable = staging.repository.settings.variable(name)
        self.path = f"{staging.spec.group.strip('/')}/{name}" if staging.spec.group else name
        array = zarr.open_array(staging.live.zarr(), path=self.path, mode="r")
        sizes = array.shards or array.chunks
        self.grid = ChunkGrid(array.shape, sizes, sizes)
        self.axis = None if staging.position is None else self.variable.time_axis

    def tiles(self, changes: Sequence[ChunkChange]) -> dict[Index, list[tuple[ChunkChange, Box]]]:
        """Return by object the chunks that have a part in it, with the cells that they share."""
        tiles: dict[Index, list[tuple[ChunkChange, Box]]] = {}
        for change in changes:
            box = self._whole(self.variable.grid.cells(change.index), self.staging.position)
            ranges = [
                range(s.start // size, -(-s.stop // size))
                for s, size in zip(box, self.grid.chunks, strict=True)
            ]
            for tile in product(*ranges):
                shared = tuple(
                    slice(max(a.start, b.start), min(a.stop, b.stop))
                    for a, b in zip(box, self.grid.cells(tile), strict=True)
                )
                tiles.setdefault(tile, []).append((change, shared))
        return tiles

    def _whole(self, box: Sequence[slice], position: int | None) -> Box:
        """Return cells of the state at a position along time as cells of the array."""
        if self.axis is None or position is None:
            return tuple(box)
        return (*box[: self.axis], slice(position, position + 1), *box[self.axis :])

    def _values(self, index: Index, box: Box, chunk: NDArray[Any]) -> NDArray[Any]:
        """Return the values of a chunk in a box of the array."""
        corner = self.variable.grid.cells(index)
        inner = [s for k, s in enumerate(box) if k != self.axis]
        cells = tuple(
            slice(s.start - c.start, s.stop - c.start) for s, c in zip(inner, corner, strict=True)
        )
        values = chunk[cells]
        return values if self.axis is None else np.expand_dims(values, self.axis)

    def stage(self, item: tuple[Index, list[tuple[ChunkChange, Box]]]) -> list[StagedObject]:
        """Return the objects that a tile is stored in, as they will be: one, or none."""
        tile, parts = item
        regions = []
        for chunk, box in parts:
            before, after = self.staging.chunk(chunk)
            values = self._values(chunk.index, box, after)
            is_same = (
                before is not None
                and not differing(values, self._values(chunk.index, box, before)).any()
            )
            if not is_same:
                regions.append((box, values))
        if not regions:
            return []
        staged = Staged(self.staging.live.zarr())  # type: ignore[arg-type]
        along: tuple[Along, ...] = ()
        try:
            self._write(staged, regions)
        except Exception as error:  # codecs raise whatever their libraries raise
            if not is_damage(error):  # what is there may be well, and is not made up for
                raise Unavailable(
                    f"{self.variable.name}: object {tile} of the live dataset cannot be read "
                    f"({one_line(error)}); nothing was written, run again"
                ) from error
            regions, along = self._all_of(tile, regions, error)
            staged = Staged(self.staging.live.zarr())  # type: ignore[arg-type]
            self._write(staged, regions)
        self._refuse_lossy(staged, self.grid.cells(tile), regions)
        objects = []
        for key, content in staged.changes.items():
            path = None
            if content is not None:
                path = self.staging.folder / f"{self.variable.folder}-{'-'.join(map(str, tile))}"
                with blaming("the temporary folder", path):
                    path.write_bytes(content)
            change = ObjectChange(
                key,
                entry_of(self.staging.live.pieces(key)),
                entry_of(None if content is None else (content,)),
            )
            if change.before != change.after:
                objects.append(StagedObject(change, path, along))
        return objects

    def _write(self, staged: Staged, regions: Sequence[tuple[Box, NDArray[Any]]]) -> None:
        # A chunk that equals the fill value by number may differ from it in its bits.
        array = zarr.open_array(
            staged, path=self.path, mode="r+", config={"write_empty_chunks": True}
        )
        for box, values in regions:
            array[box] = values

    def _all_of(
        self, tile: Index, regions: list[tuple[Box, NDArray[Any]]], error: Exception
    ) -> tuple[list[tuple[Box, NDArray[Any]]], tuple[Along, ...]]:
        """Return all that an object holds which cannot be decoded: the rest as it was captured."""
        box = self.grid.cells(tile)
        whole = np.empty([s.stop - s.start for s in box], self.variable.numpy_dtype)
        filled = np.zeros(whole.shape, bool)
        along = []
        for piece, values in self._captured(box):
            place = self._whole(piece.cells, piece.position)
            regions = [(place, np.expand_dims(values, self.variable.time_axis)), *regions]
            along.append(piece)
        for region, values in regions:
            local = tuple(
                slice(r.start - s.start, r.stop - s.start) for r, s in zip(region, box, strict=True)
            )
            whole[local], filled[local] = values, True
        if not filled.all():
            raise Unreadable(
                f"{self.variable.name}: object {tile} of the live dataset cannot be decoded "
                f"({one_line(error)}), and holds {int((~filled).sum())} cells more than are "
                "written that were never captured, are suspect, or are beyond what its type can "
                "hold; restore to a new place with --to"
            ) from error
        return [(box, whole)], tuple(along)

    def _captured(self, box: Box) -> Iterator[tuple[Along, NDArray[Any]]]:
        """Yield what was captured of the other steps in a box of the array."""
        position = self.staging.position
        if self.axis is not None and position is not None:
            repository, dataset = self.staging.repository, self.staging.dataset
            yield from captured_along(repository, dataset, self.variable, position, box)

    def _read(self, store: Any, box: Box) -> NDArray[np.generic]:
        return native(np.array(zarr.open_array(store, path=self.path, mode="r")[box]))

    def _refuse_lossy(
        self, staged: Staged, box: Box, regions: Sequence[tuple[Box, NDArray[Any]]]
    ) -> None:
        """Refuse to write an object whose codecs do not give back all that it should hold."""
        found = self._read(staged, box)
        expected = np.empty_like(found)
        if sum(values.size for _, values in regions) < expected.size:
            expected = self._read(self.staging.live.zarr(), box)
        for region, values in regions:
            local = tuple(
                slice(r.start - s.start, r.stop - s.start) for r, s in zip(region, box, strict=True)
            )
            expected[local] = values
        changed = int(differing(found, expected).sum())
        if changed:
            raise InvalidInput(
                f"the codecs of {self.variable.name} in the live dataset do not keep values as "
                f"they are: {changed} cells of one object would come back otherwise; "
                "nothing was written, restore to a new place with --to"
            )


def _stage_file(staging: Staging, changes: Sequence[ChunkChange]) -> StagedObject:
    """Return the one file that holds a state, as it will be: a copy that is written to."""
    key, local = _file_of(staging)
    before = staging.live.pieces(key)
    assert before is not None
    path = staging.folder / "file.nc"
    with blaming("the temporary folder", path), open(path, "wb") as file:
        for piece in before:
            file.write(piece)
    try:
        _write_file(staging, path, local, changes)
    except ImportError as error:
        raise InvalidInput(
            "a NetCDF file is written with the package netCDF4; install gnomon[netcdf]"
        ) from error
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise InvalidInput(
            f"{key} cannot be written as a NetCDF file ({one_line(error)}); restore to a new file "
            "with --to, and put that in its place"
        ) from error
    change = ObjectChange(key, entry_of(staging.live.pieces(key)), entry_of(_pieces(path)))
    return StagedObject(change, path)


def _file_of(staging: Staging) -> tuple[str, int | None]:
    """Return the file that holds the state, and its place along time there."""
    position = staging.position
    place = None if position is None else file_at(staging.dataset, position)
    path = local_path(staging.spec.url)
    assert path is not None
    return (path.name, position) if place is None else place


def _write_file(
    staging: Staging, path: Path, local: int | None, changes: Sequence[ChunkChange]
) -> None:
    import netCDF4

    with warnings.catch_warnings(), netCDF4.Dataset(path, "r+") as file:
        warnings.simplefilter("ignore")
        group: Any = file[staging.spec.group] if staging.spec.group else file
        for change in changes:
            variable = staging.repository.settings.variable(change.variable)
            where: list[Any] = [*variable.grid.cells(change.index)]
            stored = group.variables[change.variable]
            stored.set_auto_maskandscale(False)
            stored.set_auto_chartostring(False)
            if local is not None and stored.ndim > len(where):
                where.insert(variable.time_axis, local)
            stored[tuple(where)] = staging.chunk(change)[1]
