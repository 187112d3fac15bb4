"""Stored JSON that is made to be slow: it is read or refused in a time that grows as its length."""

import json

import pytest

from gnomon.storage.values.documents import DEEPEST, parse

MANY = 2_000_000
"""So many that a time that grows as the square would be hours."""
DEEP = b"[" * 2 * DEEPEST

SLOW = {
    "a text without an end": DEEP + b'"' + b'\\"' * MANY,
    "a text without an end, nor its last escape": DEEP + b'"' + b'\\"' * MANY + b"\\",
    "texts without a start": DEEP + b'\\"' * MANY,
    "escapes of escapes": DEEP + b'"' + b"\\\\" * MANY,
    "a text that begins over and over": DEEP + b'"\\' * MANY,
}


@pytest.mark.parametrize("document", SLOW.values(), ids=SLOW)
def test_what_is_made_to_be_slow_is_refused(document: bytes) -> None:
    with pytest.raises(ValueError, match=r"levels deep|delimiter|Unterminated|escape"):
        parse(document)


def test_brackets_in_texts_are_no_depth() -> None:
    texts = ["[" * 1000, '"[\\' * 1000, "\\" * 1000 + "{" * 1000]
    assert parse(json.dumps(texts).encode()) == texts
    with pytest.raises(ValueError, match="levels deep"):
        parse(b'["\\"", ' + DEEP + b'"]"' + b"]" * 2 * DEEPEST + b"]")
