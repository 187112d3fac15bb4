"""Bodies of records: what is read is written as it was, and what is no body is refused."""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gnomon.storage.log.bodies.body import Header
from gnomon.storage.log.bodies.care import PruneBody, RepairBody
from gnomon.storage.log.bodies.choices import ForgetBody, RulesBody, TagBody
from gnomon.storage.log.records import Record

GOLDEN = Path(__file__).parents[2] / "golden"
TYPES: tuple[Any, ...] = (ForgetBody, PruneBody, RepairBody, RulesBody, TagBody)
KINDS = {body.kind: body for body in TYPES}
NEWER = {"of a newer program": [{"depth": 1.5}]}


def golden_bodies() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield kind and body of every record of every golden repository."""
    for archive in sorted(GOLDEN.glob("*.zip")):
        with zipfile.ZipFile(archive) as stored:
            for name in sorted(stored.namelist()):
                if name.startswith("log/") and name.endswith(".json"):
                    record = Record.from_json(stored.read(name), name)
                    yield record.kind, record.body


EXAMPLES: list[tuple[str, dict[str, Any]]] = [
    ("forget", {"steps": [0, 2], "reason": "named", "era": 1}),
    ("tag", {"steps": [1], "add": ["flood"], "remove": []}),
    ("prune", {"removed": []}),
    ("prune", {"removed": ["00000001-abcdefabcdef"], "era": 0}),
    ("repair", {"objects": {"captures/x/v-t/residual/c/0": [12, "0123"]}}),
    ("rules", {"revisable": None}),
    ("rules", {"revisable": 86_400_000_000}),
]


def again(kind: str, body: dict[str, Any]) -> bytes:
    """Return the bytes of a record whose body went through its type."""
    written = KINDS[kind].from_json(body).to_json() | Header.from_json(body).to_json()
    return stored(kind, written)


def stored(kind: str, body: dict[str, Any]) -> bytes:
    return Record(1, "", kind, "", body, nonce="").to_json()


@pytest.mark.parametrize(("kind", "body"), [*golden_bodies(), *EXAMPLES])
def test_a_body_is_written_as_it_was_read(kind: str, body: dict[str, Any]) -> None:
    if kind in KINDS:
        assert again(kind, body) == stored(kind, body)


@pytest.mark.parametrize(("kind", "body"), EXAMPLES)
def test_what_a_newer_program_adds_is_passed_over_and_kept(kind: str, body: dict[str, Any]) -> None:
    assert again(kind, body | NEWER) == stored(kind, body | NEWER)
