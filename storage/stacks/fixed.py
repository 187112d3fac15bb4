"""The frame: coordinates and other variables that do not change, stored once, exactly.

Numbers are kept as their bytes, text as JSON; type, shape and hash stand in the settings.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.arrays.text import text_bytes, text_values
from gnomon.storage.errors import Integrity, InvalidInput, NotFound
from gnomon.storage.log.description import Description
from gnomon.storage.log.folders import frame_of
from gnomon.storage.log.location import Location
from gnomon.storage.log.records import content_hash
from gnomon.storage.log.staging import fresh_id
from gnomon.storage.values.dtypes import is_text
from gnomon.storage.values.model import RepositorySettings

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "encode_entry",
    "encode_frame",
    "encode_variable",
    "load_described",
    "load_entry",
    "load_frame",
]


def encode_frame(
    settings: RepositorySettings, frame: "xr.Dataset", sequence: int
) -> tuple[RepositorySettings, dict[str, bytes]]:
    """Return the settings that name the frame, and the files to be stored.

    Raises
    ------
    InvalidInput
        A variable holds objects that are not text.
    """
    folder = frame_of(fresh_id(sequence))
    files: dict[str, bytes] = {}
    entries: dict[str, dict[str, Any]] = {}
    for number, (name, variable) in enumerate(frame.variables.items()):
        entry, data = encode_entry(str(name), variable, f"{folder}/{number}")
        entries[str(name)] = entry
        files[f"{folder}/{number}"] = data
    return replace(settings, frame=folder, frame_entries=entries), files


def encode_entry(name: str, variable: "xr.Variable", file: str) -> tuple[dict[str, Any], bytes]:
    """Return the settings' entry for a variable that does not change, and the bytes of its file.

    Raises
    ------
    InvalidInput
        It holds objects that are not text.
    """
    data, values = encode_variable(name, variable)
    entry = {
        "dims": [str(d) for d in variable.dims],
        "attributes": {str(k): v for k, v in variable.attrs.items()},
        "dtype": "text" if is_text(values.dtype) else values.dtype.newbyteorder("<").str,
        "shape": list(values.shape),
        "file": file,
        "hash": content_hash(data),
    }
    return entry, data


def encode_variable(name: str, variable: "xr.Variable") -> tuple[bytes, NDArray[Any]]:
    """Return the bytes that are stored of a variable, and its values.

    Raises
    ------
    InvalidInput
        It holds objects that are not text.
    """
    values = np.asarray(variable.values)
    try:
        return text_bytes(values) if is_text(values.dtype) else _bytes(values), values
    except InvalidInput as error:
        raise InvalidInput(f"{name}: {error}") from error


def _bytes(values: NDArray[Any]) -> bytes:
    return np.asarray(values, values.dtype.newbyteorder("<"), order="C").tobytes()


def load_frame(location: Location, settings: RepositorySettings) -> "xr.Dataset":
    """Return the undecoded variables that do not change, verified.

    Raises
    ------
    Integrity
        A file is missing, or not what was written.
    """
    import xarray as xr  # takes longer to load than many commands, which need no frame, to run

    return xr.Dataset(
        {n: load_entry(location, n, entry) for n, entry in settings.frame_entries.items()}
    )


def load_described(
    location: Location, frame: "xr.Dataset", settings: RepositorySettings, description: Description
) -> "dict[str, xr.Variable]":
    """Return the frame that a capture was made with; raises as `load_frame` does.

    Parameters
    ----------
    frame
        Those that the settings name.
    """
    import xarray as xr

    entries = settings.frame_entries
    variables: dict[str, xr.Variable] = {}
    for name, entry in description.fixed.items():
        if name in entries and entries[name]["file"] == entry["file"]:
            values = frame.variables[name]
            variables[name] = xr.Variable(values.dims, values.values, entry["attributes"])
        else:
            variables[name] = load_entry(location, name, entry)
    return variables


def load_entry(location: Location, name: str, entry: dict[str, Any]) -> "xr.Variable":
    """Return one variable of a frame, undecoded; raises as `load_frame` does."""
    import xarray as xr

    try:
        return xr.Variable(tuple(entry["dims"]), _load(location, entry), entry["attributes"])
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError) as error:
        raise Integrity(
            f"{name} is not what the settings say ({type(error).__name__}: {error}); the "
            "repository was tampered with, restore it from a copy"
        ) from error


def _load(location: Location, entry: dict[str, Any]) -> NDArray[Any]:
    file = str(entry["file"])
    try:
        data = location.read(file)
    except NotFound as error:
        raise Integrity(f"{file} is missing; run 'gnomon repair'") from error
    if content_hash(data) != entry["hash"]:
        raise Integrity(
            f"{file}: hash {content_hash(data)[:12]} found, {entry['hash'][:12]} expected; "
            "the file was changed after it was written, run 'gnomon repair'"
        )
    shape = tuple(map(int, entry["shape"]))
    if entry["dtype"] == "text":
        return np.asarray(text_values(data, shape))
    return np.frombuffer(data, np.dtype(entry["dtype"])).reshape(shape)
