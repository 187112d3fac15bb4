"""Blocks: what a restore writes in one piece, on whatever thread or process, and reads back."""

import logging
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.arrays.encoding import DIGEST
from gnomon.storage.arrays.residuals import digest
from gnomon.storage.entrypoints import FOREIGN
from gnomon.storage.errors import GnomonError, Integrity
from gnomon.storage.pin import Pin
from gnomon.storage.redaction import one_line
from gnomon.storage.repository import Repository
from gnomon.storage.serve.planes import FORECAST_EXTRAS, Plane, plane_chunk
from gnomon.storage.serve.readings import served_reading
from gnomon.storage.stacks.captures import CaptureStack
from gnomon.storage.values.dtypes import native
from gnomon.storage.values.grid import ChunkGrid, Index, cut
from gnomon.storage.values.meaning import read_alike
from gnomon.storage.values.model import Variable
from gnomon.storage.values.scaling import Packing
from gnomon.storage.values.selection import Part, Selection, assembled
from gnomon.tasks.restoring.delivery import blaming, unfaithful
from gnomon.tasks.restoring.layout import array_names
from gnomon.tasks.restoring.targets.target import Layout, Resumable, Target, Where
from gnomon.tasks.work import Mapper

__all__ = ["WrittenBlock", "write_blocks"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WrittenBlock:
    """What became of a block."""

    chunks: int
    """Chunks of it."""
    kept: int
    """Those of them of which nothing had to be written."""
    written: list[object]
    """What `finish` must know."""


def write_blocks(
    repository: Repository,
    layout: Mapping[str, Layout],
    shown: tuple[Plane, ...],
    target: Target,
    selection: Selection,
    mapper: Mapper,
) -> list[WrittenBlock]:
    """Write what is selected of planes to a dataset in the making, and read it back.

    Raises
    ------
    Integrity
        What is restored is not what was captured.
    TargetFailed
        What can be read back is not what was written, or the target failed.
    """
    try:
        return mapper(_write_block, _jobs(repository, layout, shown, target, selection))
    finally:
        _opened.cache_clear()


@dataclass(frozen=True, slots=True)
class _Job:
    """One block of one variable of one plane."""

    pinned: tuple[Pin, str]
    """The repository as it is seen, and a name of the restore: what is opened for one is
    never used for another."""
    target: Target
    """The dataset in the making."""
    variable: str
    plane: Plane
    position: int | None
    """Index along time in the dataset; None without time."""
    into: Packing
    """What the values of all planes together stand for."""
    selection: Selection
    start: Index
    """First cell of the block along each dimension of what is selected of the state."""
    stop: Index
    """One past the last."""
    names: tuple[str, ...]
    """Of the arrays: values and, where they are marked, standard errors and provenance."""

    @property
    def shape(self) -> Index:
        """Cells of the block."""
        return tuple(b - a for a, b in zip(self.start, self.stop, strict=True))

    def where(self, variable: Variable) -> Where:
        """Return the block's place in the arrays."""
        cells: list[Any] = [slice(a, b) for a, b in zip(self.start, self.stop, strict=True)]
        if self.position is not None:
            cells.insert(variable.time_axis, self.position)
        return tuple(cells)


def _jobs(
    repository: Repository,
    layout: Mapping[str, Layout],
    shown: tuple[Plane, ...],
    target: Target,
    selection: Selection,
) -> list[_Job]:
    pinned = Pin.of(repository), secrets.token_hex(8)
    jobs = []
    for variable in repository.settings.variables:
        names = tuple(name for name in array_names(repository, variable) if name in layout)
        if not names:
            continue
        blocks = list(layout[variable.name].blocks)
        stacked = len(blocks) > len(variable.dims)
        if stacked:
            blocks.pop(variable.time_axis)
        shape = selection.shape(variable)
        into = served_reading(repository, variable, shown)
        # State after state of a block: what a chunk is coded against was read for the one before.
        jobs += [
            _Job(
                pinned,
                target,
                variable.name,
                plane,
                k if stacked else None,
                into,
                selection,
                block.start,
                block.stop,
                names,
            )
            for block in ChunkGrid(shape, tuple(blocks), tuple(blocks)).blocks()
            for k, plane in enumerate(shown)
        ]
    return jobs


@lru_cache(maxsize=2)
def _opened(pinned: tuple[Pin, str], name: str) -> tuple[Repository, Variable, CaptureStack]:
    """Return a repository and the captures of a variable, open for all blocks of one restore."""
    repository = pinned[0].recall()
    return repository, repository.settings.variable(name), repository.captures(name)


def _computed(job: _Job) -> tuple[Variable, CaptureStack, list[NDArray[Any]]]:
    """Return the variable, its captures, and the block's values, errors and provenance."""
    repository, variable, captures = _opened(job.pinned, job.variable)
    shadow = None
    if job.plane.shadow is not None:
        forecast = repository.shadow_named(job.plane.shadow)
        assert forecast is not None
        shadow = repository.shadow(job.variable, forecast, captures)
    types = (job.into.dtype, *map(np.dtype, FORECAST_EXTRAS.values()))
    marked = len(job.names) > 1

    def read(index: Index) -> tuple[NDArray[Any], ...]:
        arrays = plane_chunk(captures, shadow, job.plane, index, job.into, marks=marked)
        chosen = zip(arrays[: len(job.names)], types, strict=False)
        return tuple(array.astype(dtype, copy=False) for array, dtype in chosen)

    parts = job.selection.parts(variable, job.start, job.stop)
    return variable, captures, assembled(parts, job.shape, read)


def _write_block(job: _Job) -> WrittenBlock:
    """Write what is not there yet of a block, and read it back."""
    variable, captures, fields = _computed(job)
    parts = list(job.selection.parts(variable, job.start, job.stop))
    where = job.where(variable)
    written: list[object] = []
    kept = 0
    for name, field in zip(job.names, fields, strict=True):
        # What is expected is settled before anybody's target has had the values in its hands.
        expected = _digests(job, captures, name, field)
        field.flags.writeable = False
        if _is_kept(job, parts, name, where, expected, field.dtype):
            kept += 1
            continue
        with blaming(job.target):
            written.append(job.target.write(name, where, field))
            wrong = _wrong(job, parts, name, where, expected, field.dtype)
        if wrong is not None:
            part, digested = wrong
            raise _fault(job, name, part, digested)
    return WrittenBlock(len(parts), len(parts) if kept == len(job.names) else 0, written)


def _wrong(
    job: _Job,
    parts: Sequence[Part],
    name: str,
    where: Where,
    expected: Sequence[bytes],
    dtype: np.dtype[Any],
) -> tuple[Part, bytes] | None:
    """Read a block back and return the first part that is not as expected; None if all are."""
    stored = native(np.asarray(job.target.read(name, where, dtype)))
    return next(
        (
            (part, digested)
            for part, digested in zip(parts, expected, strict=True)
            if digest(job.variable, part.index, native(cut(stored, part.place))) != digested
        ),
        None,
    )


def _is_kept(job: _Job, *block: Any) -> bool:
    """Tell whether an earlier try has written a block as it should be."""
    if not (isinstance(job.target, Resumable) and job.target.resumed):
        return False
    try:
        return _wrong(job, *block) is None
    except FOREIGN as error:  # half there, or not at all: it is written anew
        logger.info("block is written anew target=%s reason=%s", job.target, one_line(error))
        return False


def _digests(job: _Job, captures: CaptureStack, name: str, field: NDArray[Any]) -> list[bytes]:
    """Return what must be read back, part by part.

    Of a whole chunk as it was captured it is the digest that was stored with it; of what is only
    a part of one, or estimated, that of the values.
    """
    variable, step = captures.variable, job.plane.step
    rows = None
    if step is not None and name == variable.name and read_alike(captures.reading(step), job.into):
        rows = captures.rows(step)
    digests = []
    for part in job.selection.parts(variable, job.start, job.stop):
        patched = (variable.name, part.index) in job.plane.patches
        if rows is not None and part.is_whole(variable) and not patched:
            digests.append(rows[part.index][DIGEST].tobytes())
        else:
            digests.append(digest(variable.name, part.index, native(cut(field, part.place))))
    return digests


def _fault(job: _Job, name: str, part: Part, expected: bytes) -> GnomonError:
    """Return whose fault it is that a chunk is not read back: the target may have touched what it
    was given, so it is computed anew."""
    _opened.cache_clear()
    variable, _, fields = _computed(job)
    field = fields[job.names.index(name)]
    if digest(variable.name, part.index, native(cut(field, part.place))) == expected:
        return unfaithful(job.target, f"{name} chunk {part.index}")
    return Integrity(
        f"{name} chunk {part.index} is not what was captured, and was not restored to "
        f"{job.target}; run 'gnomon check --read-data'"
    )
