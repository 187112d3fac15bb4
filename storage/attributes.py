"""Attributes as JSON that gives back the exact value and type: NumPy scalars, NaN and all."""

from typing import Any

import numpy as np

from gnomon.storage.errors import InvalidInput

__all__ = ["attributes_from_json", "attributes_to_json"]


def attributes_to_json(attributes: dict[Any, Any]) -> dict[str, Any]:
    """Return attributes as strict JSON values; NumPy values keep type, shape and bits."""
    return {str(name): _to_json(value, str(name)) for name, value in attributes.items()}


def attributes_from_json(data: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes that :func:`attributes_to_json` wrote."""
    return {name: _from_json(value) for name, value in data.items()}


def _to_json(value: Any, name: str) -> Any:
    if isinstance(value, float):
        value = np.float64(value) if not np.isfinite(value) else value
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        if array.dtype.kind in "biufc":
            data = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
            shape = None if isinstance(value, np.generic) else list(array.shape)
            return {"dtype": data.dtype.str, "shape": shape, "hex": data.tobytes().hex()}
        return _to_json(array.tolist(), name)
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, list | tuple):
        return [_to_json(item, name) for item in value]
    if isinstance(value, dict):
        return {"map": {str(key): _to_json(item, name) for key, item in value.items()}}
    raise InvalidInput(
        f"attribute {name!r} holds a {type(value).__name__}; use text, numbers or lists of them"
    )


def _from_json(value: Any) -> Any:
    if isinstance(value, list):
        return [_from_json(item) for item in value]
    if isinstance(value, dict) and "map" in value:
        return {key: _from_json(item) for key, item in value["map"].items()}
    if isinstance(value, dict):
        array = np.frombuffer(bytes.fromhex(value["hex"]), np.dtype(value["dtype"]))
        return array[0] if value["shape"] is None else array.reshape(value["shape"]).copy()
    return value
