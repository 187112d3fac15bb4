"""Attributes as JSON that gives back the exact value and type: NumPy scalars, NaN and all."""

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.errors import InvalidInput
from gnomon.storage.values.documents import members

__all__ = ["MEASURED", "NOTE", "attributes_from_json", "attributes_to_json", "plain_attributes"]

NOTE = "gnomon_"
"""How the attributes begin that say what a restored dataset is."""
MEASURED = ("captured", "suspect", "revision", "last_capture")
"""What ``gnomon_method`` is of a dataset whose cells were all captured; of any other, some or all
were predicted."""


MOST_ITEMS = 2**16
"""Items of a list in an attribute, which is looked through one by one; arrays may be longer."""


def attributes_to_json(attributes: dict[Any, Any]) -> dict[str, Any]:
    """Return attributes as strict JSON values; NumPy values keep type, shape and bits."""
    return {str(name): _to_json(value, str(name)) for name, value in attributes.items()}


def attributes_from_json(data: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes that :func:`attributes_to_json` wrote."""
    return members(data, "attributes", lambda value, _: _from_json(value))


def _to_json(value: Any, name: str) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return _array_to_json(value, name)
    if isinstance(value, float) and not np.isfinite(value):
        return {"float": struct.pack("<d", value).hex()}
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, list | tuple):
        return [_to_json(item, name) for item in value]
    if isinstance(value, dict):
        return {"map": {str(key): _to_json(item, name) for key, item in value.items()}}
    if value is not None and not isinstance(value, str | bool | int | float):
        raise InvalidInput(
            f"attribute {name!r} holds a {type(value).__name__}; use text, numbers or lists of them"
        )
    return value


def _array_to_json(value: NDArray[Any] | np.generic, name: str) -> Any:
    array = np.asarray(value)
    if array.dtype.kind not in "biufcMm":
        return _to_json(array.tolist(), name)
    data = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    shape = None if isinstance(value, np.generic) else list(array.shape)
    return {"dtype": data.dtype.str, "shape": shape, "hex": data.tobytes().hex()}


def _from_json(value: Any) -> Any:
    if isinstance(value, list):
        if len(value) > MOST_ITEMS:
            raise ValueError(f"an attribute has {len(value)} items, at most {MOST_ITEMS} are taken")
        return [_from_json(item) for item in value]
    if isinstance(value, dict) and "map" in value:
        return {key: _from_json(item) for key, item in value["map"].items()}
    if isinstance(value, dict) and "float" in value:
        return struct.unpack("<d", bytes.fromhex(value["float"]))[0]
    if isinstance(value, dict) and "bytes" in value:
        return bytes.fromhex(value["bytes"])
    if isinstance(value, dict):
        array = np.frombuffer(bytes.fromhex(value["hex"]), np.dtype(value["dtype"]))
        return array[0] if value["shape"] is None else array.reshape(value["shape"]).copy()
    return value


def plain_attributes(attributes: dict[Any, Any]) -> dict[str, Any]:
    """Return attributes in the JSON types that Zarr metadata can hold; NumPy types are lost."""
    return {str(name): _plain(value) for name, value in attributes.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "cMm":
        return _plain(value.astype(str))
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return plain_attributes(value)
    return value
