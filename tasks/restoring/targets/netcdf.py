"""NetCDF files: written by one process, as the library wants it, and read back by many."""

import warnings
from collections.abc import Mapping
from threading import Lock
from typing import Any

import netCDF4
import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.coding.strings import CharacterArrayCoder

from gnomon.storage.errors import InvalidInput
from gnomon.storage.repository import Repository
from gnomon.tasks.restoring.targets.file import FileTarget
from gnomon.tasks.restoring.targets.target import Layout, Where

__all__ = ["NetCDFTarget"]

_UNITS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_LACKING = ("f2", "M8", "m8")
_LACKING_KINDS = "cV"
"""Types, by kind and bytes, and kinds that NetCDF lacks, or would store as another."""
_LIBRARY = Lock()
"""The NetCDF library is not safe to use from several threads."""


class NetCDFTarget(FileTarget):
    """A NetCDF 4 file."""

    def check(self, repository: Repository) -> None:
        """Refuse also types that NetCDF cannot hold exactly."""
        super().check(repository)
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
