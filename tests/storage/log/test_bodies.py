"""Bodies of records: what is read is written as it was, and what is no body is refused."""

import zipfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gnomon.storage.log.bodies.body import Header
from gnomon.storage.log.bodies.care import PruneBody, RepairBody
from gnomon.storage.log.bodies.choices import ForgetBody, RulesBody, TagBody
from gnomon.storage.log.bodies.source import EraBody, InitBody, SourceBody, VariablesBody
from gnomon.storage.log.records import Record
from gnomon.storage.values.model import Settings, SourceSpec, Variable

GOLDEN = Path(__file__).parents[2] / "golden"
TYPES: tuple[Any, ...] = (
    EraBody,
    ForgetBody,
    InitBody,
    PruneBody,
    RepairBody,
    RulesBody,
    SourceBody,
    TagBody,
    VariablesBody,
)
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


SPEC = SourceSpec("s3://x/y.zarr", "append", "time", group="a", branch="main")
T = Variable(
    "t", ("x",), (4,), "<f4", (2,), (2,), (4,), {"units": "K", "_FillValue": np.float32(9)}
)
SETTINGS = Settings(
    SPEC, (T,), "2020-01-01T00:00:00+00:00", "frame/x", {}, {"title": "a"}, {"x": 4}
)

EXAMPLES: list[tuple[str, dict[str, Any]]] = [
    ("forget", {"steps": [0, 2], "reason": "named", "era": 1}),
    ("tag", {"steps": [1], "add": ["flood"], "remove": []}),
    ("prune", {"removed": []}),
    ("prune", {"removed": ["00000001-abcdefabcdef"], "era": 0}),
    ("repair", {"objects": {"captures/x/v-t/residual/c/0": [12, "0123"]}}),
    ("era", {"settings": SETTINGS.to_json()}),
    ("source", {"source": asdict(SPEC)}),
    ("variables", {"added": [replace(T, since=3).to_json()]}),
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
