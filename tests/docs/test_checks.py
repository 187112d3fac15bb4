"""The page of checks says what the records say; the command that writes it is in `checks.py`."""

from dataclasses import fields

from gnomon import Chunk
from tests.docs.checks import PAGE, with_tables


def test_the_tables_are_those_of_the_records() -> None:
    text = PAGE.read_text()
    assert text == with_tables(text), "run: python -m tests.docs.checks"


def test_what_a_function_is_given_is_documented() -> None:
    told = PAGE.read_text().partition("## What a function is given")[2]
    assert all(f"`{field.name}`" in told for field in fields(Chunk))
