"""Restore: write a restore point as a dataset of its own, and verify what was written."""

import os
import warnings
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from threading import Lock
from typing import Any

import netCDF4
import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray
from xarray.coding.strings import CharacterArrayCoder

from gnomon.storage.arrays.encoding import DIGEST
from gnomon.storage.arrays.residuals import digest
from gnomon.storage.errors import Conflict, Integrity, InvalidInput, NotFound, Unavailable
from gnomon.storage.log.durable import force_name, force_tree
from gnomon.storage.log.steps import Shadow
from gnomon.storage.redaction import one_line
from gnomon.storage.repository import Repository
from gnomon.storage.serve.planes import Plane, plane_chunk
from gnomon.storage.serve.readings import served_reading
from gnomon.storage.serve.view import raw_dataset
from gnomon.storage.source.opening import native
from gnomon.storage.stacks.captures import CaptureStack
from gnomon.storage.userpath import blame, check_output
from gnomon.storage.values.attributes import plain_attributes
from gnomon.storage.values.grid import Block, cut
from gnomon.storage.values.model import Variable
from gnomon.storage.values.timeforms import NATIVE
from gnomon.storage.values.times import format_instant
from gnomon.tasks.restoring.choice import choose, select
from gnomon.tasks.restoring.partial import in_the_making
from gnomon.tasks.restoring.points import RestorePoint, heal_point
from gnomon.tasks.work import Mapper, serial

__all__ = ["Restored", "choose", "newest_shadow", "planes", "restore", "select"]

_UNITS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_NOT_IN_NETCDF = ("f2", "M8", "m8")
_KINDS_NOT_IN_NETCDF = "cV"
"""Types, by kind and bytes, and kinds that NetCDF lacks, or would store as another."""


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
    """Return what to serve for a restore point, and the point with what healing found."""
    if point.kind == "forecast":
        return (Plane(point.instant, shadow=point.shadow, lead=point.lead),), point
    assert point.step is not None
    if point.kind != "healed":
        return (Plane(point.instant, step=point.step),), point
    patches, told = heal_point(repository, point)
    return (Plane(point.instant, step=point.step, patches=patches),), told


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
        made = format_instant(shadow.reference, repository.settings.calendar)
        raise InvalidInput(
            f"the shadow made at {made} holds predicted cells; allow that with --accept-predicted"
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
    target: str,
    *,
    plain: bool = False,
    mapper: Mapper = serial,
) -> Restored:
    """Write a restore point to a new Zarr store, or a NetCDF file if `target` ends in ``.nc``.

    The dataset appears under its name only when it is complete, verified and forced to the disk.

    Raises
    ------
    Conflict
        The target exists.
    InvalidInput
        A plain restore of something predicted was asked for, or the target cannot be written;
        nothing of it is left behind.
    Integrity
        What was written is not what was read.
    """
    path = _check_target(repository, target)
    shown, point = planes(repository, point)
    dataset = raw_dataset(repository, shown, plain=plain, notes=point.attributes())
    with in_the_making(path) as partial_path:
        try:
            _write(dataset, partial_path, repository)
            jobs = _jobs(repository, dataset, shown, partial_path, plain=plain)
            work = _verify_block if path.suffix == ".nc" else _write_block
            chunks = sum(mapper(work, jobs))
            _verify_rest(repository, dataset, partial_path)
            if os.path.lexists(path):
                raise Conflict(f"{target} appeared meanwhile; choose a new target")
            force_tree(partial_path)
            os.rename(partial_path, path)
        except (OSError, RuntimeError) as error:  # the NetCDF library raises RuntimeError
            if isinstance(error, OSError) and error.errno is None:  # a worker that went away
                raise Unavailable(
                    f"writing {target} failed: {one_line(error)}; "
                    "nothing was left behind, try again"
                ) from error
            raise blame("--to", target, error) from error
    with suppress(OSError):  # some file systems force no folders; all that is in it was forced
        force_name(path)
    return Restored(target, point, chunks)


def _check_target(repository: Repository, target: str) -> Path:
    path = Path(target).expanduser()
    if "://" in target or path.suffix not in (".zarr", ".nc"):
        raise InvalidInput(
            f"cannot restore to {target!r}; give a local path ending in .zarr or .nc"
        )
    if "\0" not in target and os.path.lexists(path):
        raise Conflict(f"{target} exists already; choose a new target")
    check_output("--to", path, folder=path.suffix == ".zarr")
    if not path.absolute().parent.is_dir():
        raise NotFound(
            f"--to {target}: the folder {path.absolute().parent} does not exist; make it first"
        )
    place = repository.location.path
    if place is not None and path.resolve().is_relative_to(place.resolve()):
        raise InvalidInput(f"{target} is inside the repository; choose a target elsewhere")
    for variable in repository.settings.variables:
        dtype = variable.numpy_dtype
        lacking = dtype.kind in _KINDS_NOT_IN_NETCDF
        lacking |= f"{dtype.kind}{dtype.itemsize}" in _NOT_IN_NETCDF
        lacking |= dtype.kind == "S" and (dtype.itemsize > 1 or not variable.dims)
        if path.suffix == ".nc" and lacking:
            raise InvalidInput(
                f"{variable.name} has type {variable.dtype}, which NetCDF cannot hold exactly; "
                "restore to a path ending in .zarr"
            )
    return path


def _write(dataset: xr.Dataset, path: Path, repository: Repository) -> None:
    time = str(repository.settings.source.time)
    # Without this, xarray would add fill values that the source does not have.
    encoding: dict[str, dict[str, Any]] = {
        str(name): {} if "_FillValue" in values.attrs else {"_FillValue": None}
        for name, values in dataset.variables.items()
    }
    if path.suffix == ".nc" and repository.settings.time_form == NATIVE:
        name = str(repository.settings.time_name)
        dataset = dataset.assign_coords({name: _counted_times(dataset.variables[name])})
        encoding[name] = {"_FillValue": None}
    chunks: dict[str, dict[str, int]] = {}
    for variable in repository.settings.variables:
        sizes = dict(zip(variable.dims, variable.shards, strict=True))
        for name in (
            variable.name,
            f"{variable.name}_standard_error",
            f"{variable.name}_provenance",
        ):
            if name in dataset:
                inner = dict(zip(variable.dims, variable.units, strict=True)) | {time: 1}
                if path.suffix != ".nc":
                    dims = list(map(str, dataset[name].dims))
                    encoding[name]["chunks"] = tuple(inner[d] for d in dims)
                    if variable.shards != variable.units:
                        encoding[name]["shards"] = tuple((sizes | {time: 1})[d] for d in dims)
                    # A chunk that equals the fill value by number may differ from it in its bits.
                    encoding[name]["write_empty_chunks"] = True
                chunks[name] = sizes
    lazy = dataset.assign({name: dataset[name].chunk(sizes) for name, sizes in chunks.items()})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if path.suffix == ".nc":
            letters = [n for n, v in dataset.variables.items() if v.dtype == "S1" and not v.dims]
            told = {str(n): e for n, e in encoding.items() if n not in letters}
            _as_strings(lazy.drop_vars(letters), told).to_netcdf(path, encoding=told)
            _add_letters(path, {str(n): dataset.variables[n] for n in letters})
        else:
            # xarray would encode times that are stored as such.
            exact = [str(n) for n, v in dataset.variables.items() if v.dtype.kind in "mM"]
            lazy.drop_vars(exact).to_zarr(
                path,
                encoding={n: e for n, e in encoding.items() if n not in exact},
                zarr_format=3,
                mode="w-",
                compute=False,  # the blocks follow, each written and read back by one worker
            )
            for name in exact:
                _create_exact(path, name, dataset.variables[name], encoding[name])
            if exact:  # or readers who trust the consolidated metadata would miss them
                zarr.consolidate_metadata(str(path))


def _add_letters(path: Path, letters: dict[str, xr.Variable]) -> None:
    """Add single letters, as which many grid mappings stand: xarray would make arrays of them."""
    if not letters:
        return
    with netCDF4.Dataset(path, "a") as file:
        file.set_auto_chartostring(False)
        for name, letter in letters.items():
            variable = file.createVariable(
                name, "S1", (), fill_value=letter.attrs.get("_FillValue", False)
            )
            variable.setncatts({k: v for k, v in letter.attrs.items() if k != "_FillValue"})
            variable[...] = letter.values


def _counted_times(datetimes: xr.Variable) -> xr.Variable:
    """Return datetimes as NetCDF can hold them: the same bits, in CF units."""
    unit = np.datetime_data(datetimes.dtype)[0]
    attributes = {k: v for k, v in datetimes.attrs.items() if k != "_FillValue"}
    attributes |= {"units": f"{_UNITS[unit]} since 1970-01-01", "calendar": "proleptic_gregorian"}
    return xr.Variable(datetimes.dims, np.asarray(datetimes.values).view(np.int64), attributes)


def _as_strings(dataset: xr.Dataset, encoding: dict[str, dict[str, Any]]) -> xr.Dataset:
    """Return letters as strings: of these xarray writes the letters, of letters something else."""
    for name, letters in dataset.variables.items():
        if letters.dtype == "S1" and letters.dims:
            encoding[str(name)]["char_dim_name"] = str(letters.dims[-1])
            whole = letters.chunk({letters.dims[-1]: -1}) if letters.chunks else letters
            dataset = dataset.assign({name: CharacterArrayCoder().decode(whole)})  # type: ignore[no-untyped-call]
    return dataset


def _create_exact(path: Path, name: str, variable: xr.Variable, encoding: dict[str, Any]) -> None:
    """Make a Zarr array of the variable's own type; blocks of what was captured follow."""
    array = zarr.create_array(
        str(path),
        name=name,
        shape=variable.shape,
        chunks=encoding.get("chunks", "auto"),
        shards=encoding.get("shards"),
        dtype=variable.dtype,
        dimension_names=list(map(str, variable.dims)),
        fill_value=variable.attrs.get("_FillValue"),
        attributes=plain_attributes({k: v for k, v in variable.attrs.items() if k != "_FillValue"}),
    )
    if "chunks" not in encoding:
        array[...] = variable.values


@dataclass(frozen=True, slots=True)
class _Job:
    """One block of one variable of one plane."""

    pinned: tuple[str, int, int]
    """URL, commit and era of the repository."""
    path: str
    """The dataset in the making."""
    variable: str
    plane: Plane
    position: int | None
    """Index along time in the dataset; None without time."""
    block: Block
    parts: tuple[str, ...]
    """Names of the arrays: values and, unless plain, standard errors and provenance."""

    def where(self, variable: Variable) -> tuple[Any, ...]:
        """Return the block's place in the arrays."""
        cells: list[Any] = list(self.block.cells)
        if self.position is not None:
            cells.insert(variable.time_axis, self.position)
        return tuple(cells)


def _jobs(
    repository: Repository,
    dataset: xr.Dataset,
    shown: tuple[Plane, ...],
    path: Path,
    *,
    plain: bool,
) -> list[_Job]:
    pinned = (repository.location.url, repository.records[-1].sequence, repository.era)
    append = repository.settings.source.time is not None
    jobs = []
    for variable in repository.settings.variables:
        if variable.name not in dataset:
            continue
        extras = () if plain or not variable.forecast else ("_standard_error", "_provenance")
        parts = tuple(f"{variable.name}{ending}" for ending in ("", *extras))
        for k, plane in enumerate(shown):
            position = k if append else None
            jobs += [
                _Job(pinned, str(path), variable.name, plane, position, block, parts)
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
        made = plane_chunk(captures, shadow, job.plane, index, into)
        for field, values in zip(fields, made, strict=False):
            field[where] = values
    return variable, captures, fields


def _write_block(job: _Job) -> int:
    """Write a block to Zarr and read it back; returns how many chunks are right."""
    variable, captures, fields = _computed(job)
    where = job.where(variable)
    for name, field in zip(job.parts, fields, strict=True):
        array = _opened(f"{job.path}/{name}")
        array[where] = field
        _compare(job, captures, name, field, native(np.asarray(array[where])))
    return prod(job.block.grid)


@lru_cache(maxsize=8)
def _opened(path: str) -> zarr.Array[Any]:
    """Return an array of the target; to open it takes longer than to write a small block."""
    return zarr.open_array(path, mode="r+", config={"write_empty_chunks": True})


def _verify_block(job: _Job) -> int:
    """Read a block back from NetCDF; returns how many chunks are right."""
    variable, captures, fields = _computed(job)
    where = job.where(variable)
    with NETCDF, xr.open_dataset(job.path, decode_cf=False, cache=False) as written:
        for name, field in zip(job.parts, fields, strict=True):
            values = native(np.asarray(written[name].variable[where].values))
            if field.dtype.kind in "bOU":  # bytes in NetCDF, and text of any length
                values = values.astype(field.dtype)
            _compare(job, captures, name, field, values)
    return prod(job.block.grid)


NETCDF = Lock()
"""The NetCDF library is not safe to use from several threads."""


def _compare(
    job: _Job,
    captures: CaptureStack,
    name: str,
    field: NDArray[Any],
    found: NDArray[np.generic],
) -> None:
    """Demand what was written: by digest where it was captured, else bit for bit."""
    variable = captures.variable
    for index, _, cells in variable.grid.inner(job.block):
        exact = job.plane.step is not None and (variable.name, index) not in job.plane.patches
        exact = exact and field.dtype == variable.numpy_dtype  # or they are served as numbers
        if exact and name == variable.name:
            assert job.plane.step is not None
            expected = captures.rows(job.plane.step)[index][DIGEST].tobytes()
        else:
            expected = digest(variable.name, index, native(cut(field, cells)))
        if digest(variable.name, index, native(cut(found, cells))) != expected:
            raise Integrity(
                f"{name} chunk {index} was not written to {Path(job.path).name} as it "
                "was read; check the disk, nothing was left behind"
            )


def _verify_rest(repository: Repository, dataset: xr.Dataset, path: Path) -> None:
    """Read coordinates and other variables that do not change back."""
    served = {v.name for v in repository.settings.variables}
    served |= {f"{n}{e}" for n in served for e in ("_standard_error", "_provenance")}
    options: dict[str, Any] = {}
    if path.suffix != ".nc":
        options = {"engine": "zarr", "consolidated": False}
    with xr.open_dataset(path, decode_cf=False, cache=False, **options) as written:
        for name in set(map(str, dataset.variables)) - served:
            before = np.asarray(dataset.variables[name].values)
            after = np.asarray(written.variables[name].values)
            same = (
                before.tolist() == after.tolist()
                if before.dtype.kind in "OTUS"
                else native(before).tobytes() == native(after.astype(before.dtype)).tobytes()
            )
            if not same:
                raise Integrity(
                    f"{name} was not written to {path.name} as it was read; check the disk, "
                    "nothing was left behind"
                )
