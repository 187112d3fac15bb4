"""Where a source is on a disk, and of which files one of many is made: a folder, or a pattern."""

import fnmatch
import glob
import os
from pathlib import Path

from gnomon.storage.errors import InvalidInput, NotFound

__all__ = ["ENDINGS", "is_listed", "is_many", "list_files", "local_path", "root_of"]

ENDINGS = (".nc", ".nc4", ".cdf", ".h5", ".hdf5", ".grib", ".grib2", ".grb", ".grb2")
"""Endings of files that hold a dataset each."""
_BESIDE = (".idx", ".part", ".partial", ".tmp", ".temp", ".filepart", ".crdownload")
"""Endings of what stands beside such files: indices, and downloads that are not done."""
_ENGINES = (None, "netcdf4", "h5netcdf", "scipy", "cfgrib")
"""Engines that read files; others may read folders in a way of their own."""
_MOST_TOLD = 3


def local_path(url: str) -> Path | None:
    """Return the path of a source on a disk; None of one that is elsewhere."""
    if "://" in url and not url.startswith("file://"):
        return None
    return Path(url.removeprefix("file://"))


def is_many(url: str, engine: str | None) -> bool:
    """Tell whether a source is a pattern, or a folder that is no dataset by itself.

    Raises
    ------
    InvalidInput
        It is a pattern of remote files.
    """
    path = local_path(url)
    if path is None:
        if "*" in url:
            raise InvalidInput(
                f"{url} is a pattern of remote files; only those on a disk are read as one source: "
                "mount or copy them, or give one Zarr or Icechunk dataset"
            )
        return False
    if path.exists():
        return path.is_dir() and engine in _ENGINES
    return glob.has_magic(str(path))


def list_files(url: str) -> dict[str, Path]:
    """Return the files of a folder or pattern by name, sorted by it.

    Files in folders below a folder are left alone; a pattern with ``**`` takes them too.

    Raises
    ------
    NotFound
        There are none.
    """
    path = local_path(url)
    assert path is not None
    root = root_of(url)
    if path.is_dir():
        with os.scandir(path) as there:
            names = [e.name for e in there if e.name.lower().endswith(ENDINGS) and e.is_file()]
    else:
        names = [os.path.relpath(p, root) for p in glob.iglob(str(path), recursive=True)]
        names = [n for n in names if not n.lower().endswith(_BESIDE) and (root / n).is_file()]
    names = [name for name in names if not os.path.basename(name).startswith(".")]
    if not names:
        raise NotFound(_nothing(path))
    return {name: root / name for name in sorted(names)}


def root_of(url: str) -> Path:
    """Return the folder that the names of the files of a folder or pattern start from."""
    path = local_path(url)
    assert path is not None
    return path if path.is_dir() else Path(*_plain(path.parts))


def is_listed(file: Path, url: str) -> bool:
    """Tell whether a new file would be one of those of a folder or pattern."""
    path, file = local_path(url), file.expanduser().absolute()
    assert path is not None
    place = path.expanduser().absolute()
    if not path.is_dir():
        return fnmatch.fnmatch(str(file), str(place))
    is_beside = file.parent.resolve() == place.resolve()
    return is_beside and file.name.lower().endswith(ENDINGS)


def _plain(parts: tuple[str, ...]) -> list[str]:
    """Return the folders above the first one that is a pattern."""
    first = next(k for k, part in enumerate(parts) if glob.has_magic(part))
    return list(parts[:first])


def _nothing(path: Path) -> str:
    """Say that there is nothing to be opened, and what there is."""
    if not path.is_dir():
        return f"no file is named like {path}; check the pattern, and quote it in a shell"
    inside = sorted(p.name + "/" * p.is_dir() for p in path.iterdir())
    if not inside:
        return f"source {path} is an empty folder; check the path"
    folders = [name for name in inside if name.endswith("/")]
    for name in folders:
        below = next((p for p in (path / name).rglob("*") if p.suffix.lower() in ENDINGS), None)
        if below is not None:
            return f"{path} holds files in folders only; give them as '{path}/**/*{below.suffix}'"
    kinds = "no Zarr or Icechunk dataset and no NetCDF, HDF5 or GRIB file"
    names = ", ".join(inside[:_MOST_TOLD]) + (", ..." if len(inside) > _MOST_TOLD else "")
    return f"{path} is a folder with {kinds} in it ({names}); check the path"
