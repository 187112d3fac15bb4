"""Restore: write a restore point as a dataset of its own, and verify what was written."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from os import PathLike
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from gnomon.storage.arrays.encoding import DIGEST
from gnomon.storage.arrays.residuals import digest
from gnomon.storage.entrypoints import FOREIGN
from gnomon.storage.errors import (
    GnomonError,
    Integrity,
    InvalidInput,
    NotFound,
    TargetFailed,
    Unavailable,
)
from gnomon.storage.log.steps import Shadow
from gnomon.storage.redaction import one_line
from gnomon.storage.repository import Repository
from gnomon.storage.serve.planes import Plane, plane_chunk
from gnomon.storage.serve.readings import served_reading
from gnomon.storage.serve.view import raw_dataset
from gnomon.storage.source.opening import native
from gnomon.storage.stacks.captures import CaptureStack
from gnomon.storage.userpath import blame
from gnomon.storage.values.grid import Block, Index, cut
from gnomon.storage.values.model import Variable
from gnomon.storage.values.times import format_instant
from gnomon.tasks.restoring.choice import choose, select
from gnomon.tasks.restoring.estimates import estimate_point
from gnomon.tasks.restoring.points import RestorePoint, heal_point
from gnomon.tasks.restoring.targets.registry import target_of
from gnomon.tasks.restoring.targets.target import Layout, Target, Where
from gnomon.tasks.work import Mapper, serial

__all__ = ["Restored", "choose", "newest_shadow", "planes", "restore", "select"]

logger = logging.getLogger(__name__)

_EXTRAS = ("_standard_error", "_provenance")
"""Endings of the arrays that stand beside the values."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore wrote."""

    target: str
    """Path of the new dataset."""
    point: RestorePoint
    """What it holds, with the figures that healing found."""
    chunks: int
    """Chunks that were read back and verified."""

    def __str__(self) -> str:
        """Say in one line what was written."""
        return f"restored to {self.target}: {self.point}; {self.chunks} chunks verified"

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"target": self.target, "point": self.point.to_json(), "chunks": self.chunks}


def planes(repository: Repository, point: RestorePoint) -> tuple[tuple[Plane, ...], RestorePoint]:
    """Return the planes to serve for a restore point, and the point; healed, with its figures."""
    if point.shadow is None and point.kind in ("interpolated", "forecast", "climatology"):
        estimate = estimate_point(repository, point.instant)
        assert estimate is not None
        return (Plane(point.instant, estimators=estimate[1]),), point
    if point.kind == "forecast":
        return (Plane(point.instant, shadow=point.shadow, lead=point.lead),), point
    assert point.step is not None
    if point.kind != "healed":
        return (Plane(point.instant, step=point.step),), point
    patches, healed_point = heal_point(repository, point)
    return (Plane(point.instant, step=point.step, patches=patches),), healed_point


def newest_shadow(repository: Repository, *, accept_predicted: bool) -> tuple[Plane, ...]:
    """Return all leads of the newest shadow, to be served together.

    Raises
    ------
    NotFound
        There is no shadow yet.
    InvalidInput
        Predictions were not accepted.
    """
    if not repository.shadows:
        raise NotFound("there is no shadow yet; a forecast needs at least 3 captures")
    shadow = repository.shadows[-1]
    if not accept_predicted:
        time = format_instant(shadow.reference, repository.settings.calendar)
        raise InvalidInput(
            f"the shadow made at {time} holds predicted cells; allow that with --accept-predicted"
        )
    return tuple(
        Plane(instant, shadow=shadow.id, lead=lead)
        for lead, instant in enumerate(shadow.instants, start=1)
    )


def _shadow(repository: Repository, name: str | None) -> Shadow:
    return next(s for s in repository.shadows if s.id == name)


def restore(
    repository: Repository,
    point: RestorePoint,
    to: str | PathLike[str] | Target,
    *,
    plain: bool = False,
    mapper: Mapper = serial,
) -> Restored:
    """Write a restore point to a target, and read back all that was written.

    The dataset appears under its name only when it is complete, verified and durable.

    Parameters
    ----------
    to
        A target, or the path or URL of one; its ending or scheme says of which kind.

    Raises
    ------
    Conflict
        The target exists.
    InvalidInput
        A plain restore of something predicted was asked for, or the target cannot be written;
        nothing of it is left behind.
    Integrity
        A stored chunk is damaged, or what is restored is not what was captured.
    TargetFailed
        What can be read back is not what was written, or the target failed.
    Unavailable
        A store, or a worker, did not answer; try again.
    """
    target = target_of(to)
    with _blaming(target):
        target.check(repository)
    shown, point = planes(repository, point)
    dataset = raw_dataset(repository, shown, plain=plain, notes=point.attributes())
    layout = _layout(repository, dataset)
    with _making(target) as draft:
        with _blaming(target):
            draft.create(_in_blocks(dataset, layout), layout)
        results = mapper(_write_block, _jobs(repository, dataset, shown, draft, plain=plain))
        with _blaming(target):
            _verify_rest(dataset.drop_vars(layout), draft)
            draft.finish([part for _, written in results for part in written])
    return Restored(str(target), point, sum(chunks for chunks, _ in results))


@contextmanager
def _making(target: Target) -> Iterator[Target]:
    """Give the target that is written to, and let it clear up after a failure.

    The failure is what is raised: not what goes wrong with clearing up, nor nothing, where a target
    swallows it.
    """
    failure: BaseException | None = None
    try:
        with target.making() as draft:
            try:
                with _blaming_disk(target):
                    yield draft
            except BaseException as error:
                failure = error
                raise
    except FOREIGN as error:
        if failure is None:
            with _blaming(target):
                raise
        if error is failure:
            raise
        left = f"the target could not remove what was written ({one_line(error)}): look there"
        if not isinstance(failure, GnomonError):
            logger.warning("%s target=%s", left, target)
            raise failure from None
        raise type(failure)(f"{failure}; {left}") from failure
    if failure is not None:
        raise failure


@contextmanager
def _blaming(target: Target) -> Iterator[None]:
    """Say of what a target raises that it is the target's; somebody else may have written it."""
    try:
        with _blaming_disk(target):
            yield
    except GnomonError:
        raise
    except FOREIGN as error:
        raise TargetFailed(
            f"--to {target}: the target failed ({type(error).__name__}: {one_line(error)}); "
            "mend the target, or choose another"
        ) from error


@contextmanager
def _blaming_disk(target: Target) -> Iterator[None]:
    """Say of what the system refuses that it was for the target; what else fails is not told so."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # the NetCDF library raises RuntimeError
        if isinstance(error, OSError) and error.errno is None:  # a worker that went away
            raise Unavailable(f"writing {target} failed: {one_line(error)}; try again") from error
        raise blame("--to", str(target), error) from error


def _layout(repository: Repository, dataset: xr.Dataset) -> dict[str, Layout]:
    """Return how the arrays of the variables are cut; each step in time is by itself."""
    time = str(repository.settings.source.time)
    layout = {}
    for variable in repository.settings.variables:
        blocks = dict(zip(variable.dims, variable.shards, strict=True)) | {time: 1}
        chunks = dict(zip(variable.dims, variable.units, strict=True)) | {time: 1}
        for name in (f"{variable.name}{ending}" for ending in ("", *_EXTRAS)):
            if name in dataset:
                dims = list(map(str, dataset[name].dims))
                layout[name] = Layout(
                    tuple(blocks[d] for d in dims), tuple(chunks[d] for d in dims)
                )
    return layout


def _in_blocks(dataset: xr.Dataset, layout: Mapping[str, Layout]) -> xr.Dataset:
    arrays = {name: dataset[name] for name in layout}
    return dataset.assign(
        {n: a.chunk(dict(zip(a.dims, layout[n].blocks, strict=True))) for n, a in arrays.items()}
    )


@dataclass(frozen=True, slots=True)
class _Job:
    """One block of one variable of one plane."""

    pinned: tuple[str, int, int]
    """URL, commit and era of the repository."""
    target: Target
    """The dataset in the making."""
    variable: str
    plane: Plane
    position: int | None
    """Index along time in the dataset; None without time."""
    block: Block
    parts: tuple[str, ...]
    """Names of the arrays: values and, unless plain, standard errors and provenance."""

    def where(self, variable: Variable) -> Where:
        """Return the block's place in the arrays."""
        cells: list[Any] = list(self.block.cells)
        if self.position is not None:
            cells.insert(variable.time_axis, self.position)
        return tuple(cells)


def _jobs(
    repository: Repository,
    dataset: xr.Dataset,
    shown: tuple[Plane, ...],
    target: Target,
    *,
    plain: bool,
) -> list[_Job]:
    pinned = (repository.location.url, repository.records[-1].sequence, repository.era)
    append = repository.settings.source.time is not None
    jobs = []
    for variable in repository.settings.variables:
        if variable.name not in dataset:
            continue
        extras = () if plain or not variable.forecast else _EXTRAS
        parts = tuple(f"{variable.name}{ending}" for ending in ("", *extras))
        for k, plane in enumerate(shown):
            position = k if append else None
            jobs += [
                _Job(pinned, target, variable.name, plane, position, block, parts)
                for block in variable.grid.blocks()
            ]
    return jobs


def _computed(job: _Job) -> tuple[Variable, CaptureStack, list[NDArray[Any]]]:
    """Return the variable, its captures, and the block's values, errors and provenance."""
    url, sequence, era = job.pinned
    repository = Repository.open(url).at(sequence).in_era(era)
    variable = repository.settings.variable(job.variable)
    captures = repository.captures(job.variable)
    shadow = None
    if job.plane.shadow is not None:
        shadow = repository.shadow(job.variable, _shadow(repository, job.plane.shadow), captures)
    shape = tuple(s.stop - s.start for s in job.block.cells)
    into = served_reading(repository, variable, (job.plane,))
    types = (into.dtype, np.dtype("<f4"), np.dtype("u1"))
    fields = [np.empty(shape, dtype) for dtype in types[: len(job.parts)]]
    for index, _, cells in variable.grid.inner(job.block):
        where: tuple[Any, ...] = (..., *cells)
        if len(fields) == 1 and job.plane.step is not None and not job.plane.patches:
            fields[0][where] = captures.chunk(job.plane.step, index)
            continue
        served = plane_chunk(captures, shadow, job.plane, index, into)
        for field, values in zip(fields, served, strict=False):
            field[where] = values
    return variable, captures, fields


def _write_block(job: _Job) -> tuple[int, list[object]]:
    """Write a block and read it back; return the number of chunks, and what `finish` must know."""
    variable, captures, fields = _computed(job)
    where = job.where(variable)
    written = []
    for name, field in zip(job.parts, fields, strict=True):
        # What is expected is settled before anybody's target has had the values in its hands.
        expected = _digests(job, captures, name, field)
        field.flags.writeable = False
        with _blaming(job.target):
            written.append(job.target.write(name, where, field))
            stored = native(np.asarray(job.target.read(name, where, field.dtype)))
        for index, _, cells in variable.grid.inner(job.block):
            if digest(variable.name, index, native(cut(stored, cells))) != expected[index]:
                raise _fault(job, name, index, expected[index])
    return prod(job.block.grid), written


def _digests(
    job: _Job, captures: CaptureStack, name: str, field: NDArray[Any]
) -> dict[Index, bytes]:
    """Return what must be read back: by digest where it was captured, else bit for bit."""
    variable = captures.variable
    digests = {}
    for index, _, cells in variable.grid.inner(job.block):
        exact = job.plane.step is not None and (variable.name, index) not in job.plane.patches
        exact = exact and field.dtype == variable.numpy_dtype  # or they are served as numbers
        if exact and name == variable.name:
            assert job.plane.step is not None
            digests[index] = captures.rows(job.plane.step)[index][DIGEST].tobytes()
        else:
            digests[index] = digest(variable.name, index, native(cut(field, cells)))
    return digests


def _verify_rest(rest: xr.Dataset, target: Target) -> None:
    """Read back coordinates and other variables that do not change, and compare."""
    for name, variable in rest.variables.items():
        before = np.asarray(variable.values)
        after = np.asarray(target.read(str(name), (...,), before.dtype))
        same = (
            before.tolist() == after.tolist()
            if before.dtype.kind in "OTUS"
            else native(before).tobytes() == native(after.astype(before.dtype)).tobytes()
        )
        if not same:
            raise _unfaithful(target, name)


def _fault(job: _Job, name: str, index: Index, expected: bytes) -> GnomonError:
    """Return whose fault it is that a chunk is not read back: the target may have touched what it
    was given, so it is computed anew."""
    variable, _, fields = _computed(job)
    field = fields[job.parts.index(name)]
    cells = next(cells for i, _, cells in variable.grid.inner(job.block) if i == index)
    if digest(variable.name, index, native(cut(field, cells))) == expected:
        return _unfaithful(job.target, f"{name} chunk {index}")
    return Integrity(
        f"{name} chunk {index} is not what was captured, and was not restored to {job.target}; "
        "run 'gnomon check --read-data'"
    )


def _unfaithful(target: Target, what: object) -> TargetFailed:
    return TargetFailed(
        f"--to {target}: the target gives back other bytes of {what} than were written; the "
        "repository is whole: check the disk there, mend the target, or choose another"
    )
