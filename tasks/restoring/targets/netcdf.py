"""NetCDF files: written by one process, as the library wants it, and read back by many.

HDF5 leaves a file that nobody can open where its process is killed, so a restore is gone on with
only if the whole file was there: then it is verified, and not written again.
"""

import mmap
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any, Self

import netCDF4
import numpy as np
import xarray as xr
import xxhash
from numpy.typing import NDArray
from xarray.coding.strings import CharacterArrayCoder

from gnomon.storage.errors import Conflict, Integrity, InvalidInput, NotFound, TargetFailed
from gnomon.storage.repository import Repository
from gnomon.storage.userpath import blame
from gnomon.tasks.restoring.partial import in_the_making, is_created, sweep_beside
from gnomon.tasks.restoring.targets.bucket import location_of, refuse_inside
from gnomon.tasks.restoring.targets.file import FileTarget
from gnomon.tasks.restoring.targets.target import Layout, Where

__all__ = ["NetCDFBucket", "NetCDFTarget"]

_UNITS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_LACKING = ("f2", "M8", "m8")
_LACKING_KINDS = "cV"
"""Types, by kind and bytes, and kinds that NetCDF lacks, or would store as another."""
_LIBRARY = Lock()
"""The NetCDF library is not safe to use from several threads."""
_PROBE = 2**16
"""Bytes for which there is no room on a disk that is full."""
_LARGEST = 5 * 2**30
"""Bytes that S3 takes in one put, and so only if the name is not taken."""
_PART = 2**26
"""Bytes that are read back at once."""


class NetCDFTarget(FileTarget):
    """A NetCDF 4 file."""

    resumes = True

    def check(self, repository: Repository) -> None:
        """Refuse also types that NetCDF cannot hold exactly."""
        super().check(repository)
        self._check_types(repository)

    def _check_types(self, repository: Repository) -> None:
        for variable in repository.settings.variables:
            dtype = variable.numpy_dtype
            lacking = dtype.kind in _LACKING_KINDS
            lacking |= f"{dtype.kind}{dtype.itemsize}" in _LACKING
            lacking |= dtype.kind == "S" and (dtype.itemsize > 1 or not variable.dims)
            if lacking:
                raise InvalidInput(
                    f"{variable.name} has type {variable.dtype}, which NetCDF cannot hold exactly; "
                    "restore to a path ending in .zarr"
                )

    def create(self, dataset: xr.Dataset, layout: Mapping[str, Layout]) -> None:
        """Write the whole file, block by block."""
        try:
            self._create(dataset)
        except (OSError, RuntimeError):
            _raise_if_full(self.partial.parent)
            raise

    def _create(self, dataset: xr.Dataset) -> None:
        dataset = _with_counted_times(dataset)
        # Without this, xarray would add fill values that the source does not have.
        encoding: dict[str, dict[str, Any]] = {
            str(name): {} if "_FillValue" in variable.attrs else {"_FillValue": None}
            for name, variable in dataset.variables.items()
        }
        letters = [n for n, v in dataset.variables.items() if v.dtype == "S1" and not v.dims]
        rest = {n: e for n, e in encoding.items() if n not in letters}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _as_strings(dataset.drop_vars(letters), rest).to_netcdf(self.partial, encoding=rest)
            self._add_letters({str(n): dataset.variables[n] for n in letters})

    def _add_letters(self, letters: Mapping[str, xr.Variable]) -> None:
        """Add single letters, the form of many grid mappings: xarray would make them arrays."""
        if not letters:
            return
        with netCDF4.Dataset(self.partial, "a") as file:
            file.set_auto_chartostring(False)
            for name, letter in letters.items():
                fill = letter.attrs.get("_FillValue", False)
                variable = file.createVariable(name, "S1", (), fill_value=fill)
                variable.setncatts({k: v for k, v in letter.attrs.items() if k != "_FillValue"})
                variable[...] = letter.values

    def write(self, name: str, where: Where, values: NDArray[Any]) -> None:
        """Do nothing: `create` has written it."""

    def read(self, name: str, where: Where, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return a part of an array as it is in the file."""
        with _LIBRARY, netCDF4.Dataset(self.partial) as file:
            file.set_auto_maskandscale(False)
            file.set_auto_chartostring(False)
            values = np.asarray(file.variables[name][where])
        if dtype.kind in "bOU":  # bytes in NetCDF, and text of any length
            return values.astype(dtype)
        return values


class NetCDFBucket(NetCDFTarget):
    """A NetCDF 4 file in a bucket: made in a temporary folder, and put when it is verified."""

    def check(self, repository: Repository) -> None:
        """Refuse a name that is taken, or in the repository or its source, and types as above."""
        refuse_inside(self.name, repository)
        folder, name = _place(self.name)
        location_of(folder).list(name)  # says what is wrong with the bucket, where that is the case
        with suppress(NotFound):
            with suppress(Integrity):  # it is there, without a first byte
                location_of(folder).read(name, (0, 1))
            sweep_beside(self._staged())
            raise self._taken("exists already")
        self._check_types(repository)

    @contextmanager
    def making(self) -> Iterator[Self]:
        """Give the target under a path in the temporary folder, which is removed in the end."""
        with in_the_making(self._staged(), self.mark) as partial:
            yield replace(self, partial=partial, resumed=is_created(partial))
            partial.unlink(missing_ok=True)

    def _staged(self) -> Path:
        folder, name = _place(self.name)
        # Of two files of one name in different buckets, each has its own.
        return _staging() / f"{xxhash.xxh3_64_hexdigest(folder.encode())}-{name}"

    def create(self, dataset: xr.Dataset, layout: Mapping[str, Layout]) -> None:
        """Write the whole file, if it is not too large for one object."""
        if dataset.nbytes > _LARGEST:
            raise InvalidInput(
                f"--to {self.name}: found {dataset.nbytes / 2**30:.1f} GiB, and one object may "
                f"have {_LARGEST / 2**30:.0f}; restore to a URL that ends in .zarr"
            )
        try:
            super().create(dataset, layout)
        except (OSError, RuntimeError) as error:
            raise blame("the temporary folder", self.partial.parent, error) from error

    def finish(self, written: Sequence[object]) -> None:
        """Put the file as one object, if its name is not taken, and read it back.

        Raises
        ------
        Conflict
            The name is taken by now.
        TargetFailed
            The store gives back other bytes.
        """
        folder, name = _place(self.name)
        location = location_of(folder)
        with (
            open(self.partial, "rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
            memoryview(mapped) as data,
        ):
            try:
                location.create(name, data)
            except Conflict as error:
                raise self._taken("was made by another meanwhile") from error
            try:
                self._read_back(data)
            except BaseException:
                location.delete([name])
                raise

    def _read_back(self, data: memoryview) -> None:
        folder, name = _place(self.name)
        for start in range(0, len(data), _PART):
            with data[start : start + _PART] as part:
                if location_of(folder).read(name, (start, len(part))) != part:
                    raise TargetFailed(
                        f"--to {self.name}: the store gives back other bytes than were put, and "
                        "they were removed there; choose another target"
                    )

    def _taken(self, how: str) -> Conflict:
        return Conflict(f"{self.name} {how}; choose a new target")


def _place(url: str) -> tuple[str, str]:
    """Return the URL of the folder of an object, and its name there."""
    folder, _, name = url.rpartition("/")
    return folder, name


def _staging() -> Path:
    """Return a temporary folder of this user: others might put links into a shared one."""
    folder = Path(tempfile.gettempdir(), f"gnomon-{os.getuid()}")
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    about = folder.lstat()
    if about.st_uid != os.getuid() or about.st_mode & 0o77 or not folder.is_dir():
        raise InvalidInput(
            f"the temporary folder {folder} is not this user's alone; remove it, or set TMPDIR"
        )
    return folder


def _raise_if_full(folder: Path) -> None:
    """Say so if a disk is full: the library says only that it may not write."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(_PROBE))
        file.flush()
        os.fsync(file.fileno())


def _with_counted_times(dataset: xr.Dataset) -> xr.Dataset:
    """Return datetimes as NetCDF can hold them: the same bits, in CF units."""
    counted = {}
    for name, datetimes in dataset.variables.items():
        if datetimes.dtype.kind == "M":
            unit = np.datetime_data(datetimes.dtype)[0]
            attributes = {k: v for k, v in datetimes.attrs.items() if k != "_FillValue"}
            attributes["units"] = f"{_UNITS[unit]} since 1970-01-01"
            attributes["calendar"] = "proleptic_gregorian"
            counts = np.asarray(datetimes.values).view(np.int64)
            counted[name] = xr.Variable(datetimes.dims, counts, attributes)
    return dataset.assign_coords(counted)


def _as_strings(dataset: xr.Dataset, encoding: dict[str, dict[str, Any]]) -> xr.Dataset:
    """Return letters as strings: xarray writes strings as the same letters, but not letters."""
    for name, letters in dataset.variables.items():
        if letters.dtype == "S1" and letters.dims:
            encoding[str(name)]["char_dim_name"] = str(letters.dims[-1])
            whole = letters.chunk({letters.dims[-1]: -1}) if letters.chunks else letters
            dataset = dataset.assign({name: CharacterArrayCoder().decode(whole)})  # type: ignore[no-untyped-call]
    return dataset
