"""Differences: which chunks of a live dataset are not what a restore point holds."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from gnomon.storage.arrays.encoding import DIGEST
from gnomon.storage.arrays.residuals import digest
from gnomon.storage.changes.repacked import readings_at
from gnomon.storage.errors import Unreadable
from gnomon.storage.live.replaced import pack_cells
from gnomon.storage.repository import Repository
from gnomon.storage.serve.planes import (
    PROVENANCE,
    Plane,
    estimated_chunk,
    is_predicted,
    plane_chunk,
    raw_estimate,
)
from gnomon.storage.source.states import chunk_sizes, read_state
from gnomon.storage.values.dtypes import native
from gnomon.storage.values.grid import Block, Index, cut
from gnomon.storage.values.meaning import read_alike
from gnomon.storage.values.model import Variable
from gnomon.storage.values.scaling import Packing
from gnomon.storage.values.selection import EVERYTHING, Selection
from gnomon.tasks.capturing.estimates import Estimates
from gnomon.tasks.capturing.reading import reading_grid
from gnomon.tasks.rollback.fitting import Numbers, Unheld
from gnomon.tasks.work import Mapper

__all__ = [
    "ESTIMATED",
    "ChunkChange",
    "Differences",
    "Intended",
    "differences",
    "differing",
    "read_chunks",
]

ESTIMATED = [v for k, v in PROVENANCE.items() if k not in ("captured", "missing")]
"""Provenance of cells that have a value which was not captured."""


@dataclass(frozen=True, slots=True)
class ChunkChange:
    """A chunk of a live dataset that is not what it should become."""

    variable: str
    """Name of the variable."""
    index: Index
    """Index of the chunk on the repository's grid."""
    cells: int
    """Cells that differ; all of them where the chunk cannot be read."""
    estimated: int
    """Estimated cells among those that it should hold, those of earlier rollbacks that stay too."""
    is_damaged: bool
    """Whether the live dataset holds bytes there that cannot be decoded."""
    digest: str
    """Digest, in hexadecimal, of the whole chunk as it should stand."""
    clipped: int = 0
    """Estimates of which the nearest number is written that the type can hold: they are beyond it,
    but by no more than their standard error."""
    estimates: bytes = field(default=b"", repr=False)
    """Which cells are estimates, and what they hold, as it is kept; empty: none is."""


@dataclass(frozen=True, slots=True)
class Differences:
    """What of a live dataset is not what a restore point holds."""

    changes: tuple[ChunkChange, ...] = ()
    """Chunks that are to be written."""
    spared: int = 0
    """Chunks that are not: the live dataset has values there, and there is but a forecast; or
    it has changed what was to be mended."""
    unheld: tuple[Unheld, ...] = ()
    """Chunks that cannot be: the live dataset's type cannot hold what should be there."""

    @classmethod
    def of(cls, parts: Iterable["Differences"]) -> "Differences":
        """Return parts together."""
        listed = list(parts)
        changes = tuple(change for part in listed for change in part.changes)
        unheld = tuple(chunk for part in listed for chunk in part.unheld)
        return cls(changes, sum(part.spared for part in listed), unheld)


@dataclass(frozen=True, slots=True)
class After:
    """A chunk as it will stand."""

    raw: NDArray[np.generic]
    """Its values."""
    is_estimated: NDArray[np.bool_]
    """Which of its cells are estimates, written now or by an earlier rollback."""
    clipped: int
    """See `ChunkChange`."""
    unheld: Unheld | None
    """What of it cannot be stored."""


class Intended:
    """What a live dataset should hold: the chunks of one plane, in its own packing.

    Parameters
    ----------
    plane
        The state.
    readings
        By variable: how the live dataset's raw values stand for numbers.
    selection
        What of it is written.
    mended
        By variable, the only chunks that are written, and only where the live dataset holds them as
        they were captured: the source may have put them right itself.
    """

    def __init__(
        self,
        repository: Repository,
        plane: Plane,
        readings: Mapping[str, Packing],
        selection: Selection = EVERYTHING,
        mended: Mapping[str, Collection[Index]] | None = None,
    ) -> None:
        self.plane, self.readings = plane, readings
        self._is_everything = selection == EVERYTHING and mended is None
        self._mends = mended is not None
        self._cells: dict[str, dict[Index, list[tuple[slice, ...]]]] = {}
        for name in readings if not self._is_everything else ():
            for part in selection.blocks(repository.settings.variable(name)):
                if mended is None or part.index in mended.get(name, ()):
                    self._cells.setdefault(name, {}).setdefault(part.index, []).append(part.inside)
        self._captures = {name: repository.captures(name) for name in readings}
        by_id = {shadow.id: shadow for shadow in repository.shadows}
        self._shadows = {
            name: repository.shadow(name, by_id[plane.shadow], captures)
            for name, captures in self._captures.items()
            if plane.shadow is not None
        }
        self._earlier = {
            n: Estimates.of(repository, n, plane.instant, by) for n, by in readings.items()
        }

    @classmethod
    def of(
        cls,
        repository: Repository,
        plane: Plane,
        dataset: xr.Dataset,
        position: int | None,
        selection: Selection,
        mended: Mapping[str, Collection[Index]] | None = None,
    ) -> "Intended":
        """Return what an open live dataset should hold at a position along time."""
        place = position or 0
        readings = {
            variable.name: readings_at(repository, dataset, variable, [place])[place]
            for variable in _written(repository, plane)
            if selection.is_about(variable)
        }
        return cls(repository, plane, readings, selection, mended)

    def is_superseded(self, name: str, index: Index, there: NDArray[np.generic] | None) -> bool:
        """Tell whether a chunk that should be mended is no longer as it was captured."""
        if not self._mends or there is None or self.plane.step is None:
            return False
        captured = self._captures[name].rows(self.plane.step)[index][DIGEST].tobytes()
        return bool(captured != digest(name, index, there))

    def captured_digest(self, name: str, index: Index) -> bytes | None:
        """Return the digest of a chunk that is exactly as it was captured; None of another."""
        plane, captures = self.plane, self._captures[name]
        if plane.step is None or (name, index) in plane.patches:
            return None
        if not read_alike(captures.reading(plane.step), self.readings[name]):
            return None
        return bytes(captures.rows(plane.step)[index][DIGEST].tobytes())

    def takes(self, name: str, index: Index) -> bool:
        """Tell whether any cell of a chunk is written."""
        return self._is_everything or index in self._cells.get(name, {})

    @property
    def fills_in(self) -> bool:
        """Whether only cells are written that have no value in the live dataset.

        A state that was never captured is known from its forecast alone, which is worth less than
        what is there; where that is to be overwritten, a person says so and selects it.
        """
        return self.plane.step is None and self._is_everything

    def chunk(
        self, name: str, index: Index
    ) -> tuple[NDArray[np.generic], NDArray[np.uint8], Numbers | None]:
        """Return raw values and provenance of a chunk, and what was made from numbers in it."""
        plane, into, captures = self.plane, self.readings[name], self._captures[name]
        estimate = estimated_chunk(captures, self._shadows.get(name), plane, index)
        alike = plane.step is not None and read_alike(captures.reading(plane.step), into)
        if estimate is None:
            assert plane.step is not None
            raw, _, provenance = plane_chunk(captures, None, plane, index, into)
            if alike:
                return native(raw), provenance, None
            values = captures.physical(plane.step, index)
            every = np.ones(values.shape, bool)
            return native(raw), provenance, Numbers(values, np.zeros(values.shape), every)
        raw = raw_estimate(captures, plane, index, estimate, into)
        made = np.full(raw.shape, True)
        if alike:
            made = estimate.provenance != PROVENANCE["captured"]
        numbers = Numbers(estimate.values, estimate.standard_error, made)
        return native(raw), estimate.provenance, numbers

    def after(self, variable: Variable, index: Index, there: NDArray[np.generic] | None) -> After:
        """Return a chunk as it will stand, and which of its cells are estimates.

        They are written now, or were by an earlier rollback, and stay.

        Parameters
        ----------
        there
            The chunk as the live dataset holds it; None if that cannot be decoded.

        Raises
        ------
        Unreadable
            It cannot be decoded, and a part of it should stay.
        """
        raw, provenance, numbers = self.chunk(variable.name, index)
        written = np.full(raw.shape, self._is_everything)
        for cells in self._cells.get(variable.name, {}).get(index, ()):
            written[cells] = True
        if there is None and not written.all():
            raise Unreadable(
                f"{variable.name} chunk {index} of the live dataset cannot be decoded, so no part "
                "of it can be kept; select the whole chunk"
            )
        is_estimated = np.isin(provenance, ESTIMATED)
        into = self.readings[variable.name]
        if there is not None and self.fills_in:
            written &= is_estimated & np.isnan(into.to_physical(there))
        clipped, unheld = 0, None
        if numbers is not None:
            clipped = int((written & numbers.clipped(into)).sum())
            lost = written & numbers.unheld(into)
            unheld = Unheld.of(variable, index, numbers, into, lost) if lost.any() else None
        if there is None:
            return After(raw, is_estimated & written, clipped, unheld)
        stay = self._earlier[variable.name].cells(index, there) & ~written
        after = np.where(written, raw, there)
        return After(after, (is_estimated & written) | stay, clipped, unheld)


def _written(repository: Repository, plane: Plane) -> Iterator[Variable]:
    """Yield the variables of which a plane has a state."""
    shadow = repository.shadow_named(plane.shadow)
    for variable in repository.settings.variables:
        is_known = plane.step is None or plane.step >= variable.since
        # A variable may have come after the forecast was made.
        is_known &= shadow is None or variable.name in shadow.variables
        is_known &= not plane.estimators or variable.name in plane.estimators
        if is_known and (variable.forecast or not is_predicted((plane,))):
            yield variable


def differences(
    repository: Repository,
    intended: Intended,
    dataset: xr.Dataset,
    position: int | None,
    mapper: Mapper,
) -> Differences:
    """Return the chunks of an open live dataset that are not what they should become.

    Each is read whole, and compared bit for bit; those outside the selection are not read.

    Parameters
    ----------
    position
        Along time; None for a state source.
    mapper
        Works on threads of this process: the open dataset is shared.
    """
    parts: list[Differences] = []
    for name in intended.readings:
        variable = repository.settings.variable(name)
        _, along = chunk_sizes(dataset, variable)
        blocks = [
            block
            for block in reading_grid(variable.grid, along).blocks()
            if any(intended.takes(name, index) for index, _, _ in variable.grid.inner(block))
        ]
        compare = partial(_compared, intended, dataset, variable, position)
        parts += mapper(compare, blocks)
    return Differences.of(parts)


def _compared(
    intended: Intended, dataset: xr.Dataset, variable: Variable, position: int | None, block: Block
) -> Differences:
    """Return the chunks of a block that differ."""
    wanted = partial(intended.takes, variable.name)
    chunks = read_chunks(dataset, variable, position, block, wanted)
    return Differences.of(_difference(intended, variable, i, there) for i, there in chunks)


def read_chunks(
    dataset: xr.Dataset,
    variable: Variable,
    position: int | None,
    block: Block,
    wanted: Callable[[Index], bool],
) -> Iterator[tuple[Index, NDArray[np.generic] | None]]:
    """Yield the wanted chunks of a block of a live dataset, undecoded.

    Parameters
    ----------
    position
        Along time; None for a state source.

    Yields
    ------
    index
        Of the chunk on the repository's grid.
    raw
        Its values; None if the dataset holds bytes there that cannot be decoded.
    """
    chosen = [(i, cells) for i, _, cells in variable.grid.inner(block) if wanted(i)]
    try:
        live = read_state(dataset, variable, position, block.cells) if len(chosen) > 1 else None
    except Unreadable:  # some chunk of it: which, is seen one by one
        live = None
    for index, cells in chosen:
        there: NDArray[np.generic] | None
        if live is not None:
            there = cut(live, cells)
        else:
            try:
                there = read_state(dataset, variable, position, variable.grid.cells(index))
            except Unreadable:
                there = None
        yield index, there


def _difference(
    intended: Intended, variable: Variable, index: Index, there: NDArray[np.generic] | None
) -> Differences:
    """Return how a chunk differs from what it should become."""
    name = variable.name
    if intended.is_superseded(name, index, there):
        return Differences(spared=1)
    if there is not None:
        expected = intended.captured_digest(name, index)
        if expected is not None and expected == digest(name, index, there):
            return Differences()
    after = intended.after(variable, index, there)
    if after.unheld is not None:
        return Differences(unheld=(after.unheld,))
    changed = np.ones(after.raw.shape, bool) if there is None else differing(after.raw, there)
    if not changed.any():
        raw, *_ = intended.chunk(name, index)
        spares = intended.fills_in and there is not None and bool(differing(raw, there).any())
        return Differences(spared=int(spares))
    change = ChunkChange(
        name,
        index,
        int(changed.sum()),
        int(after.is_estimated.sum()),
        there is None,
        digest(name, index, after.raw).hex(),
        after.clipped,
        pack_cells(after.raw, after.is_estimated) if after.is_estimated.any() else b"",
    )
    return Differences((change,))


def differing(first: NDArray[np.generic], second: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Return which cells differ in their bits."""
    if first.dtype == object:
        return np.asarray(first != second, bool)
    bits = [np.ascontiguousarray(a).reshape(-1).view(np.uint8) for a in (first, second)]
    unequal = (bits[0] != bits[1]).reshape(-1, first.itemsize).any(axis=1)
    return np.asarray(unequal.reshape(first.shape))
