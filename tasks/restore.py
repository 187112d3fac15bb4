"""Restore: write a restore point as a dataset of its own, and verify what was written."""

import os
import secrets
import shutil
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from gnomon.storage.delta import digest
from gnomon.storage.errors import Conflict, Integrity, InvalidInput, NotFound, Unavailable
from gnomon.storage.model import Shadow
from gnomon.storage.repository import Repository
from gnomon.storage.source import native
from gnomon.storage.view import Plane, is_predicted, raw_dataset
from gnomon.tasks.heal import heal
from gnomon.tasks.points import RestorePoint, suspects

__all__ = ["Restored", "choose", "planes", "restore"]

_NOT_IN_NETCDF = ("f2", "M8", "m8")
"""Types, by kind and bytes, that NetCDF would store as another."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore wrote."""

    target: str
    """Path of the new dataset."""
    point: RestorePoint
    """What it holds."""
    chunks: int
    """Chunks that were read back and verified."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"target": self.target, "point": self.point.to_json(), "chunks": self.chunks}


def choose(
    found: tuple[RestorePoint, ...],
    kind: str | None,
    *,
    accept_predicted: bool,
    capture: int | None = None,
) -> RestorePoint:
    """Return the best restore point that the user accepts.

    Raises
    ------
    NotFound
        There is none, or none of the kind asked for.
    InvalidInput
        The best one holds predictions, and those were not accepted.
    """
    if capture is not None:
        versions = ("captured", "suspect", "revision")
        there = ", ".join(str(p.step) for p in found if p.kind in versions) or "none"
        found = tuple(p for p in found if p.kind in versions and p.step == capture)
        if not found:
            raise NotFound(f"capture {capture} is not one of this time; there is {there}")
        kind = found[0].kind
    if kind is not None:
        there = ", ".join(dict.fromkeys(p.kind for p in found)) or "nothing"
        found = tuple(p for p in found if p.kind == kind)
        if not found:
            raise NotFound(f"no restore point of kind {kind!r} for this time; there is {there}")
    # A stale or a suspect state is only ever taken by name.
    candidates = [p for p in found if kind or p.kind in ("captured", "healed", "forecast")]
    if not candidates:
        there = ", ".join(p.kind for p in found) or "nothing"
        raise NotFound(f"no state of this time can be restored; by name (--kind) there is {there}")
    best = candidates[0]
    if best.predicted and not accept_predicted:
        raise InvalidInput(
            f"the best answer is {best.kind} (lead {best.lead}): it holds predicted cells; "
            "allow that with --accept-predicted, or see 'gnomon points'"
        )
    return best


def planes(repository: Repository, point: RestorePoint) -> tuple[tuple[Plane, ...], RestorePoint]:
    """Return what to serve for a restore point, and the point with what healing found."""
    if point.kind == "forecast":
        return (Plane(point.instant, shadow=point.shadow, lead=point.lead),), point
    assert point.step is not None
    if point.kind != "healed":
        return (Plane(point.instant, step=point.step),), point
    shadow = _shadow(repository, point.shadow)
    doubted = suspects(repository, point.step)
    healed = heal(repository, point.step, shadow, point.lead, doubted)
    errors: dict[str, float | None] = {**dict.fromkeys(point.expected_error, 0.0)}
    errors.update(healed.expected_error)
    told = replace(point, expected_error=errors, confidence=healed.confidence)
    return (Plane(point.instant, step=point.step, patches=healed.patches),), told


def _shadow(repository: Repository, name: str | None) -> Shadow:
    return next(s for s in repository.shadows if s.id == name)


def restore(
    repository: Repository,
    point: RestorePoint,
    target: str,
    *,
    plain: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> Restored:
    """Write a restore point to a new Zarr store, or a NetCDF file if `target` ends in ``.nc``.

    The dataset appears under its name only when it is complete and verified.

    Raises
    ------
    Conflict
        The target exists.
    InvalidInput
        A plain restore of something predicted was asked for.
    Integrity
        What was written is not what was read.
    """
    path = _check_target(repository, target)
    shown, point = planes(repository, point)
    if plain and is_predicted(shown):
        raise InvalidInput("a predicted state cannot be restored plain: its cells must stay marked")
    dataset = raw_dataset(repository, shown, plain=plain)
    partial = path.with_name(f".{path.stem}-{secrets.token_hex(4)}.partial{path.suffix}")
    try:
        _write(dataset, partial, repository)
        chunks = _verify(repository, dataset, partial, shown, progress)
        if os.path.lexists(path):
            raise Conflict(f"{target} appeared meanwhile; choose a new target")
        os.rename(partial, path)
    except (OSError, RuntimeError) as error:  # the NetCDF library raises RuntimeError
        raise Unavailable(f"cannot write {target}: {error}; nothing was left behind") from error
    finally:
        _discard(partial)
    return Restored(target, point, chunks)


def _check_target(repository: Repository, target: str) -> Path:
    path = Path(target).expanduser()
    if "://" in target or path.suffix not in (".zarr", ".nc"):
        raise InvalidInput(
            f"cannot restore to {target!r}; give a local path ending in .zarr or .nc"
        )
    if os.path.lexists(path):
        raise Conflict(f"{target} exists already; choose a new target")
    if not path.absolute().parent.is_dir():
        raise NotFound(f"the folder {path.absolute().parent} does not exist; make it first")
    place = repository.location.path
    if place is not None and path.resolve().is_relative_to(place.resolve()):
        raise InvalidInput(f"{target} is inside the repository; choose a target elsewhere")
    for variable in repository.settings.variables:
        dtype = variable.numpy_dtype
        if path.suffix == ".nc" and f"{dtype.kind}{dtype.itemsize}" in _NOT_IN_NETCDF:
            raise InvalidInput(
                f"{variable.name} has type {variable.dtype}, which NetCDF cannot hold exactly; "
                "restore to a path ending in .zarr"
            )
    return path


def _discard(path: Path) -> None:
    """Remove what a failed write left; threads that have not heard of the failure may add to it."""
    gone = 0
    for _ in range(100):
        gone = 0 if path.exists() else gone + 1
        if gone > 1:
            return
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        time.sleep(0.05)


def _write(dataset: xr.Dataset, path: Path, repository: Repository) -> None:
    time = str(repository.settings.source.time)
    # Without this, xarray would add fill values that the source does not have.
    encoding: dict[str, dict[str, Any]] = {
        str(name): {} if "_FillValue" in values.attrs else {"_FillValue": None}
        for name, values in dataset.variables.items()
    }
    chunks: dict[str, dict[str, int]] = {}
    for variable in repository.settings.variables:
        sizes = dict(zip(variable.dims, variable.shards, strict=True))
        for name in (
            variable.name,
            f"{variable.name}_standard_error",
            f"{variable.name}_provenance",
        ):
            if name in dataset:
                inner = dict(zip(variable.dims, variable.chunks, strict=True)) | {time: 1}
                if path.suffix != ".nc":
                    encoding[name]["chunks"] = tuple(inner[str(d)] for d in dataset[name].dims)
                    # A chunk that equals the fill value by number may differ from it in its bits.
                    encoding[name]["write_empty_chunks"] = True
                chunks[name] = sizes
    lazy = dataset.assign({name: dataset[name].chunk(sizes) for name, sizes in chunks.items()})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if path.suffix == ".nc":
            lazy.to_netcdf(path, encoding=encoding)
        else:
            lazy.to_zarr(path, encoding=encoding, zarr_format=3, mode="w-")


def _verify(
    repository: Repository,
    dataset: xr.Dataset,
    path: Path,
    shown: tuple[Plane, ...],
    progress: Callable[[str, int, int], None] | None,
) -> int:
    """Read every chunk back and compare digests with what the repository holds."""
    engine = None if path.suffix == ".nc" else "zarr"
    verified = 0
    with xr.open_dataset(path, engine=engine, decode_cf=False, cache=False) as written:
        for variable in repository.settings.variables:
            if variable.name not in dataset:
                continue
            captures = repository.captures(variable.name)
            for position, plane in enumerate(shown):
                where = {repository.settings.source.time: position}
                found = written[variable.name].isel(where, missing_dims="ignore")
                made = dataset[variable.name].isel(where, missing_dims="ignore")
                for index in variable.grid.indices():
                    cells = variable.grid.cells(index)
                    values = native(np.asarray(found[cells].values))
                    if variable.numpy_dtype.kind == "b":
                        values = values.astype(bool)  # bytes in NetCDF
                    if plane.step is not None and (variable.name, index) not in plane.patches:
                        expected = captures.rows(plane.step)[index][3:].tobytes()
                    else:
                        expected = digest(
                            variable.name, index, native(np.asarray(made[cells].values))
                        )
                    if digest(variable.name, index, values) != expected:
                        raise Integrity(
                            f"{variable.name} chunk {index} was not written to {path.name} as it "
                            "was read; check the disk, nothing was left behind"
                        )
                    verified += 1
                    if progress is not None:
                        progress("verify", verified, variable.grid.size * len(shown))
    return verified
