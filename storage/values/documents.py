"""Stored JSON, read without trusting it: what is parsed is small, shallow, strict and typed.

Whoever can write to a repository can write anything, with hashes that fit.  So every document is
parsed by :func:`parse`, and every field is taken by one of the readers below.  Both raise
ValueError with what was found and what was expected; who knows the document's name makes
:class:`Integrity` of it, see `NONSENSE`.
"""

import json
import math
import re
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

__all__ = [
    "NONSENSE",
    "anything",
    "flag",
    "items",
    "members",
    "number",
    "optional",
    "parse",
    "plain_name",
    "text",
    "whole",
]

NONSENSE = (
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    MemoryError,
)
"""What reading a document that does not hold what it should may raise."""

DEEPEST = 100
"""Objects and lists within each other; what goes through them recursively needs stack for each."""
MOST_VALUES = 2**24
"""Values of one document: a gigabyte, when all of them are Python's."""
LONGEST = 2**16
"""Characters of a text that is shown or interpreted; a regular expression may be slow on more."""
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}", re.ASCII)
_DIGITS = 300
_BRACKETS = b"[]{}"
_REST = bytes(set(range(256)) - set(_BRACKETS))
# Without a way back (`*+`) or an end, or the time would grow as the square of the length.
_TEXT = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.S)
_SHOWN = 40


def parse(data: bytes, *, most: int = MOST_VALUES) -> Any:
    """Return the value of a JSON document.

    Parameters
    ----------
    most
        Values that it may have; commas in texts count.

    Raises
    ------
    ValueError
        It is not strict JSON in UTF-8: NaN and Infinity, a key that stands twice, a number that no
        float64 comes near, more than `DEEPEST` levels or too many values are refused.
    """
    if data.count(b",") > most:
        raise ValueError(f"it has more than {most} values")
    if _depth(data) > DEEPEST and _depth(_TEXT.sub(b"", data)) > DEEPEST:
        raise ValueError(f"it is nested more than {DEEPEST} levels deep")
    return json.loads(
        data.decode(),
        parse_constant=_refuse,
        parse_float=_float,
        parse_int=_int,
        object_pairs_hook=_object,
    )


def _depth(data: bytes) -> int:
    """Return how deep brackets are nested, those within texts counted too."""
    brackets = data.translate(None, _REST)
    if len(brackets) <= DEEPEST:
        return 0
    opening = np.frombuffer(brackets, np.uint8) & 2  # '[' and '{' have this bit, ']' and '}' not
    return int(np.cumsum(np.where(opening, 1, -1)).max())


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"it holds {constant}, which is no number of JSON")


def _float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"it holds {digits[:_SHOWN]}, which no float64 comes near")
    return value


def _int(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise ValueError(f"it holds a number of {len(digits)} digits")
    return int(digits)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise ValueError("an object has the same key twice")
    return mapping


# Fields of a document ---------------------------------------------------------------------------


def _wrong(value: object, what: str, expected: str) -> ValueError:
    shown = repr(value) if isinstance(value, str | int | float | None) else type(value).__name__
    return ValueError(f"{what} is {shown[:_SHOWN]}, expected {expected}")


def text(value: object, what: str, *, most: int = LONGEST) -> str:
    """Return a text of at most so many characters."""
    if not isinstance(value, str) or len(value) > most:
        raise _wrong(value, what, f"a text of at most {most} characters")
    value.encode()  # a lone surrogate is no text: it could be neither printed nor stored
    return value


def whole(value: object, what: str, *, least: int = -(2**63), most: int = 2**63 - 1) -> int:
    """Return a whole number within limits."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise _wrong(value, what, f"a whole number from {least} to {most}")
    return value


def number(value: object, what: str, *, least: float = -math.inf, most: float = math.inf) -> float:
    """Return a finite number within limits."""
    fits = isinstance(value, int | float) and not isinstance(value, bool)
    if not fits or not math.isfinite(value) or not least <= value <= most:  # type: ignore[arg-type,operator]
        raise _wrong(value, what, f"a number from {least:g} to {most:g}")
    return float(value)  # type: ignore[arg-type]


def flag(value: object, what: str) -> bool:
    """Return a truth value."""
    if not isinstance(value, bool):
        raise _wrong(value, what, "true or false")
    return value


def optional[T](value: object, read: Callable[[object], T]) -> T | None:
    """Return what a reader makes of a value; None for null."""
    return None if value is None else read(value)


def items[T](
    value: object, what: str, read: Callable[[object, str], T], *, most: int = MOST_VALUES
) -> tuple[T, ...]:
    """Return what a reader makes of each item of a list."""
    if not isinstance(value, list | tuple) or len(value) > most:
        raise _wrong(value, what, f"a list of at most {most}")
    return tuple(read(item, what) for item in value)


def members[T](value: object, what: str, read: Callable[[object, str], T]) -> dict[str, T]:
    """Return what a reader makes of each member of an object, by name."""
    if not isinstance(value, dict):
        raise _wrong(value, what, "an object")
    return {text(key, what): read(item, f"{what} {key[:_SHOWN]}") for key, item in value.items()}


def anything(value: object, _what: str) -> Any:
    """Return a value as it is: what nobody interprets."""
    return value


def plain_name(value: object, what: str = "a name") -> str:
    """Return a name of small letters, digits and underscores, as it can be printed anywhere."""
    if not (isinstance(value, str) and _NAME.fullmatch(value)):
        raise ValueError(f"{what} is {str(value)[:_SHOWN]!r}, not small letters, digits and _")
    return value
