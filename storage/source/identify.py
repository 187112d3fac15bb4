"""What was found where a dataset was expected: told from its bytes and names.

Nothing here opens a dataset for reading; it says what an error means, and what would help.
"""

import errno
import warnings
from pathlib import Path
from typing import Any

import xarray as xr
from obstore.exceptions import BaseError

from gnomon.storage.errors import GnomonError, InvalidInput, NotFound, Unavailable
from gnomon.storage.redaction import one_line
from gnomon.storage.values.model import SourceSpec

__all__ = ["WAIT", "error_of", "groups_of", "listed", "told_groups", "what_is"]

_READ = 4096
"""Bytes at the beginning of a file that are looked at."""
_SHOWN = 12
"""Names that a message lists."""
WAIT = "wait until it is written, or copy it again"
"""What helps where a file is not whole."""
_HDF5 = b"\x89HDF\r\n\x1a\n"
_CLASSIC = (b"CDF\x01", b"CDF\x02", b"CDF\x05")
_UNPACK = "unpack it first"
_ANOTHER = "give a dataset that xarray opens: Zarr, NetCDF, HDF5, GRIB"
_ANEW = "a download gave the answer of a web site: fetch the file anew"
_KINDS = (
    (b"<!doctype html", "is an HTML page, not data", _ANEW),
    (b"<html", "is an HTML page, not data", _ANEW),
    (b"<?xml", "is an XML document, not data", _ANEW),
    (b"<error", "is an XML document, not data", _ANEW),
    (b"\x1f\x8b", "is a gzip file", _UNPACK),
    (b"pk\x03\x04", "is a zip archive", _UNPACK),
    (b"bzh", "is a bzip2 file", _UNPACK),
    (b"\xfd7zxz", "is an xz file", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "is a zstd file", _UNPACK),
    (b"7z\xbc\xaf", "is a 7z archive", _UNPACK),
    (b"par1", "is a Parquet file", _ANOTHER),
    (b"\x89png", "is a picture", _ANOTHER),
    (b"%pdf", "is a PDF", _ANOTHER),
    (b"sqlite format 3", "is an SQLite database", _ANOTHER),
    (b"\x93numpy", "is a NumPy file", _ANOTHER),
)
"""How files begin, in small letters, what they are, and what helps."""
_OF_NETCDF = ("netcdf4", "h5netcdf", "scipy")
"""Engines whose files are known here; of others the library's error tells more."""
_PACKAGES = {"cfgrib": "cfgrib", "rasterio": "rioxarray", "kerchunk": "kerchunk"}
"""xarray engines that are not there until a package is installed."""


def listed(names: list[str]) -> str:
    """Return names for a message, the first of many."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def told_groups(groups: dict[str, tuple[str, ...]]) -> str:
    """Return groups and their variables for a message."""
    return listed([f"{name} ({listed(list(names))})" for name, names in groups.items()])


def groups_of(target: Any, engine: str | None) -> dict[str, tuple[str, ...]]:
    """Return the groups of a source that have variables, with these; empty if none can be told.

    Parameters
    ----------
    target
        A path, or a Zarr store.
    """
    local = isinstance(target, str)  # where a listing costs nothing, and nothing else is believed
    options: dict[str, Any] = {"consolidated": False} if engine == "zarr" and local else {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            datasets = xr.open_groups(
                target, engine=engine, decode_cf=False, cache=False, **options
            )
    except Exception:  # noqa: BLE001 - this is asked when something else has failed already
        return {}
    groups = {}
    for path, dataset in sorted(datasets.items()):
        name = str(path).strip("/")
        if name and dataset.data_vars:
            groups[name] = tuple(sorted(map(str, dataset.data_vars)))
        dataset.close()
    return groups


def error_of(
    spec: SourceSpec, error: Exception, *, target: Any, engine: str | None, path: Path | None
) -> GnomonError:
    """Return what it means that a source could not be opened.

    Parameters
    ----------
    target
        What was opened.
    engine
        xarray's engine, if it was settled.
    path
        The place, if it is on a disk.
    """
    fault = _told_by_name(spec, error, target, engine)
    if fault is None and path is not None and spec.engine in (None, *_OF_NETCDF):
        fault = what_is(path)
    return fault or _told_by_error(spec, error)


def _told_by_name(
    spec: SourceSpec, error: Exception, target: Any, engine: str | None
) -> GnomonError | None:
    """Return what is wrong with the names that the user gave, if anything is."""
    if spec.engine is not None and "nrecognized engine" in str(error):
        return NotFound(_no_engine(spec.engine))
    groups = groups_of(target, engine) if spec.group is not None else {}
    if groups and str(spec.group).strip("/") not in groups:
        return NotFound(
            f"source {spec.url} has no group {spec.group!r}; it has {told_groups(groups)}"
        )
    return None


def _told_by_error(spec: SourceSpec, error: Exception) -> GnomonError:
    """Return what an error of a library means, where nothing else says so."""
    text = one_line(error)
    if "_ARRAY_DIMENSIONS" in text or "dimension_names" in text:
        return InvalidInput(
            f"the arrays of source {spec.url} have no names of dimensions; write it with xarray, "
            "or give them dimension_names (Zarr v3) or _ARRAY_DIMENSIONS (Zarr v2)"
        )
    if isinstance(error, FileNotFoundError):
        return NotFound(
            f"source {spec.url} does not hold what was asked for ({text}); "
            "check the path and --group"
        )
    if isinstance(error, OSError | BaseError):
        return Unavailable(f"source {spec.url} cannot be read: {text}")
    return NotFound(
        f"xarray cannot open source {spec.url} ({text}); "
        "name the engine with --engine, or install the package that reads it"
    )


def _no_engine(name: str) -> str:
    there = ", ".join(sorted(set(xr.backends.list_engines()) - {"gnomon"}))
    package = _PACKAGES.get(name)
    advice = f"install the package {package}" if package else "name one of them"
    return f"xarray has no engine {name!r}; it has {there}: {advice}"


def what_is(path: Path) -> GnomonError | None:
    """Return the error that says what a path is that no dataset was found in; None if unknown."""
    try:
        if path.is_dir():
            return _folder(path)
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(_READ)
    except PermissionError:
        return Unavailable(f"source {path} may not be read by this user; change its permissions")
    except OSError as error:
        reason = errno.errorcode.get(error.errno or 0, "")
        return Unavailable(f"source {path} cannot be read: {reason} {one_line(error)}")
    what, advice = _file(head, size, path)
    text = f"source {path} {what}; {advice}"
    if advice == WAIT:
        return Unavailable(text)
    return NotFound(text) if what else None


def _folder(path: Path) -> GnomonError | None:
    names = sorted(p.name + "/" * p.is_dir() for p in path.iterdir())
    if not names:
        return NotFound(f"source {path} is an empty folder; check the path")
    if ".zarray" in names or ("zarr.json" in names and "c/" in names):
        return NotFound(
            f"source {path} is a single Zarr array, not a dataset; put it into a group, with the "
            "names of its dimensions"
        )
    if "zarr.json" in names or ".zgroup" in names or ".zmetadata" in names:
        return None
    below = [n for n in names if n.endswith("/") and _is_zarr(path / n)]
    if below:
        return NotFound(
            f"source {path} is a folder of Zarr stores, not a dataset itself; name one of them: "
            f"{listed([n.rstrip('/') for n in below])}"
        )
    return NotFound(
        f"source {path} is a folder without a dataset that Gnomon knows; it holds {listed(names)}"
    )


def _is_zarr(path: Path) -> bool:
    return any((path / name).exists() for name in (".zgroup", ".zarray", "zarr.json", ".zmetadata"))


def _file(head: bytes, size: int, path: Path) -> tuple[str, str]:
    """Return what a file is, and what helps; empty if that is not known."""
    if head.startswith(_HDF5):
        end = _hdf5_end(head) or 0
        shortfall = f"is an HDF5 or NetCDF-4 file that holds {size} of {end} bytes"
        return (shortfall, WAIT) if end > size else ("", "")
    if head.startswith(_CLASSIC):  # whether it is whole was asked before
        return "", ""
    if head.startswith(b"GRIB"):
        lacks = "cfgrib" not in xr.backends.list_engines()
        advice = "install the package cfgrib, which reads it"
        return ("is a GRIB file", advice) if lacks else ("", "")
    start = head.lstrip().lower()
    kind = next(((what, advice) for magic, what, advice in _KINDS if start.startswith(magic)), None)
    return kind or _unknown(head, path)


def _unknown(head: bytes, path: Path) -> tuple[str, str]:
    if not head:
        return "is an empty file", WAIT
    if _is_text(head):
        return "is a text file, not data", "check the path"
    if path.suffix not in (".nc", ".nc4", ".h5", ".hdf5", ".he5", ".cdf"):
        return "", ""
    what = "is no NetCDF or HDF5 file, whatever its name says"
    return f"{what}: it begins with {head[:8].hex(' ')}", "check how it was made"


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode() if len(head) < _READ else head[:-4].decode(errors="strict")
    except UnicodeDecodeError:
        return False
    return all(c.isprintable() or c.isspace() for c in text)


def _hdf5_end(head: bytes) -> int | None:
    """Return how long an HDF5 file says that it is (HDF5 file format, section II.A)."""
    version = head[8] if len(head) > 48 else -1
    start, width = {0: (40, 13), 1: (44, 13), 2: (28, 9), 3: (28, 9)}.get(version, (0, 0))
    if not start or head[width] != 8:
        return None
    return int.from_bytes(head[start : start + 8], "little")
