"""Types of values: which can be stored, how they are named, and what numbers they are made of."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["atom", "is_supported", "is_text", "native", "type_name"]


def is_text(dtype: np.dtype[Any]) -> bool:
    """Tell whether values are strings of any length."""
    return dtype.kind in "OT"


def type_name(dtype: np.dtype[Any]) -> str:
    """Return the NumPy type string, little endian; one for all kinds of text."""
    return "|O" if is_text(dtype) else dtype.newbyteorder("<").str


def is_supported(dtype: np.dtype[np.generic]) -> bool:
    """Tell whether chunks of this type can be stored: all of a fixed width, and text."""
    fixed = dtype.kind in "biufcmMSUV" and dtype.itemsize > 0 and dtype.names is None
    return fixed or is_text(dtype)


def atom(dtype: np.dtype[np.generic]) -> tuple[np.dtype[np.generic], int]:
    """Return the numbers that a value is made of: their type, and how many there are.

    A complex number is two floats, text of fixed width its characters, anything else of unusual
    width its bytes.
    """
    if dtype.kind == "c" and dtype.itemsize in (8, 16):
        return np.dtype(f"<f{dtype.itemsize // 2}"), 2
    if dtype.kind == "U":
        return np.dtype("<u4"), dtype.itemsize // 4
    if dtype.kind in "SV" or dtype.itemsize not in (1, 2, 4, 8):
        return np.dtype("u1"), dtype.itemsize
    return dtype, 1


def native(values: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return the values little endian and contiguous, bits otherwise unchanged."""
    if is_text(values.dtype):
        return values.astype(object)
    return np.asarray(values, values.dtype.newbyteorder("<"), order="C")
