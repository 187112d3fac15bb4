"""Strings of any length: stored as JSON, whole, since they have no width to take differences of."""

import json
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.errors import InvalidInput
from gnomon.storage.log import gz
from gnomon.storage.values.documents import parse

__all__ = [
    "pack_text",
    "text_bytes",
    "text_name",
    "text_values",
    "unpack_text",
]

TEXT_BYTES = 2**28
"""A chunk of more, as JSON, is neither written nor read."""


def text_bytes(values: NDArray[Any]) -> bytes:
    """Return strings as JSON, in row-major order.

    Raises
    ------
    InvalidInput
        One of them is something else.
    """
    texts = values.ravel().tolist()
    wrong = next((text for text in texts if not isinstance(text, str)), "")
    if not isinstance(wrong, str):
        raise InvalidInput(
            f"found a value of type {type(wrong).__name__} where text was expected; only numbers "
            "and text can be stored: leave the variable out, or convert it"
        )
    return json.dumps(texts).encode()


def text_values(data: bytes, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return the strings that :func:`text_bytes` made JSON of.

    Raises
    ------
    ValueError
        The JSON is no list of so many strings.
    """
    texts = parse(data, most=TEXT_BYTES)
    count = prod(shape)
    if not isinstance(texts, list) or len(texts) != count:
        raise ValueError(f"expected {count} strings")
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("expected strings only")
    values = np.empty(shape, object)
    for place, text in zip(np.ndindex(shape), texts, strict=True):
        values[place] = text
    return values


def text_name(path: str, local: int, index: tuple[int, ...]) -> str:
    """Return the object that holds a chunk of text, where a residual would be."""
    return f"{path}/residual/c/{'/'.join(map(str, (local, *index)))}"


def pack_text(values: NDArray[Any]) -> bytes:
    """Return a chunk of text as it is stored: JSON, in gzip.

    Raises
    ------
    InvalidInput
        It is larger than `TEXT_BYTES`.
    """
    data = text_bytes(values)
    if len(data) > TEXT_BYTES:
        raise InvalidInput(
            f"found a chunk of {len(data)} bytes of text, at most {TEXT_BYTES} are stored "
            "together: write the source in smaller chunks, or choose them with --chunks in "
            "'gnomon init'"
        )
    return gz.pack(data)


def unpack_text(data: bytes, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return a stored chunk of text; at most `TEXT_BYTES` are unpacked.

    Raises
    ------
    ValueError
        It is damaged, or larger than that.
    """
    return text_values(gz.unpack(data, TEXT_BYTES), shape)
