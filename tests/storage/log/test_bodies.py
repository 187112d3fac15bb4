"""Bodies of records: what is read is written as it was, and what is no body is refused."""

import zipfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gnomon.storage.log.bodies.body import Header
from gnomon.storage.log.bodies.capture import CaptureBody, RewriteBody
from gnomon.storage.log.bodies.care import PruneBody, RepairBody
from gnomon.storage.log.bodies.choices import ForgetBody, RulesBody, TagBody
from gnomon.storage.log.bodies.patch import PatchBody
from gnomon.storage.log.bodies.shadow import ShadowBody
from gnomon.storage.log.bodies.source import EraBody, InitBody, SourceBody, VariablesBody
from gnomon.storage.log.bodies.verdict import VerdictBody
from gnomon.storage.log.records import Record
from gnomon.storage.values.model import RepositorySettings, SourceSpec, Variable

GOLDEN = Path(__file__).parents[2] / "golden"
TYPES: tuple[Any, ...] = (
    CaptureBody,
    EraBody,
    ForgetBody,
    InitBody,
    PatchBody,
    PruneBody,
    RepairBody,
    RewriteBody,
    RulesBody,
    ShadowBody,
    SourceBody,
    TagBody,
    VariablesBody,
    VerdictBody,
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
SETTINGS = RepositorySettings(
    SPEC, (T,), "2020-01-01T00:00:00+00:00", "frame/x", {}, {"title": "a"}, {"x": 4}
)

INCIDENT = {
    "variable": "t",
    "valid_time": "2000-01-01T00:00",
    "severity": "critical",
    "suspected_cause": "",
    "chunks": ["0/1"],
    "expectations": ["bounds"],
}
REPORT = {"rows": 2, "findings": [{"p_value": 0.5}], "incidents": [INCIDENT], "alerts": ["log"]}
FRAME = {
    "dims": ["x"],
    "attributes": {"valid_min": 1},
    "dtype": "<f8",
    "shape": [4],
    "file": "frame/x/0",
    "hash": "0",
}
CHANGE = {
    "attributes": {"put": {"title": "b"}, "gone": ["history"]},
    "variables": {"t": {"grown": {"comment": [200, 100, " and so on"]}}},
    "time": {"put": {"long_name": "time"}},
    "fixed": {"mask": FRAME, "lsm": None},
    "conversions": {"t": [1.0, -273.15]},
    "alike": ["t"],
    "unprotected": {},
}
ENTRY = {"root": "r", "ledger": "l", "suspect": 1, "changed": 2, "chunks": 2}
JUDGED = {"variable": "t", "step": 3, "chunk": [0, 1], "status": 1}
HEADER = {"id": "00000001-abcdefabcdef", "manifest": "m"}
CAPTURE: dict[str, Any] = HEADER | {
    "instants": [0, 5],
    "raw_times": "00" * 16,
    "suspects": [0, 1],
    "revises": {"1": 0},
    "report": REPORT,
    "variables": {"t": ENTRY | NEWER},
}

PREDICTED: dict[str, Any] = {
    "roots": {"index": "i", "score": "s"},
    "confidence": [0.5, None],
    "expected_rmse": [1, 1.5],
    "last_capture_rmse": [None, 2.0],
    "tolerance": 1,
    "usual_change": None,
    "withheld": [[0], [1]],
    "unpredicted": 3,
    "ledger": "l",
}
LEARNT: dict[str, Any] = {
    "root": "r",
    "rows": 2,
    "columns": 3,
    "outlook": "o",
    "drifted": 0.25,
    "specification": {"version": 3},
    "cadence": {"interval_s": 3600.0},
    "sample": [[0]],
    "refit": None,
    "refit_captures": 20,
}
SHADOW: dict[str, Any] = HEADER | {
    "step": 1,
    "reference": 5,
    "instants": [10, 15],
    "bases": [0, 1],
    "variables": {"t": PREDICTED},
    "forecaster": {"t": LEARNT},
    "report": REPORT | {"due": {"valid_time": "2000", "reason": "x", "lead": 1}},
}

PATCHED: dict[str, Any] = {
    "chunks": [
        {"chunk": [0], "root": "r", "expected_rmse": 0.5, "confidence": 1.0},
        {"chunk": [1], "root": "s", "expected_rmse": None, "confidence": None},
    ],
    "expected_error": 0.5,
    "confidence": 0.5,
}
PATCH: dict[str, Any] = HEADER | {
    "step": 1,
    "shadow": "00000001-abcdefabcdef",
    "lead": 2,
    "variables": {"t": PATCHED},
}

EXAMPLES: list[tuple[str, dict[str, Any]]] = [
    ("capture", CAPTURE),
    ("capture", CAPTURE | {"read_at": "then", "description": CHANGE, "era": 0}),
    ("capture", CAPTURE | {"descriptions": {"1": CHANGE}}),
    ("capture", {name: CAPTURE[name] for name in CAPTURE.keys() - {"report", "revises"}}),
    ("capture", CAPTURE | {"variables": {"t": {"root": "r", "ledger": "l"}}}),
    ("rewrite", HEADER | {"steps": [1, 0], "variables": {"t": {"root": "r"}}}),
    ("shadow", SHADOW),
    ("shadow", SHADOW | {"lasting": 1}),
    (
        "shadow",
        SHADOW | {"variables": {"t": PREDICTED | NEWER}, "forecaster": {"t": LEARNT | NEWER}},
    ),
    ("patch", PATCH),
    ("patch", PATCH | {"variables": {"t": PATCHED | NEWER}, "notes": ["without x"], "era": 0}),
    ("patch", PATCH | {"between": [0, 2]}),
    ("verdict", {"chunks": [JUDGED, JUDGED | {"p_value": 1e-9}], "reason": "", "report": REPORT}),
    ("verdict", {"chunks": [], "reason": "x", "judged_by": "person", "times": [-5]}),
    ("verdict", {"chunks": [JUDGED | NEWER], "judged_by": "person", "doubted": [5], "era": 2}),
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
    ("rules", {"revisable": None, "candidates": ["ridge", "mine"]}),
]


def again(kind: str, body: dict[str, Any]) -> bytes:
    """Return the bytes of a record whose body went through its type."""
    written = KINDS[kind].from_json(body).to_json() | Header.from_json(body).to_json()
    return stored(kind, written)


def stored(kind: str, body: dict[str, Any]) -> bytes:
    return Record(1, "", kind, "", body, nonce="").to_json()


@pytest.mark.parametrize(("kind", "body"), [*golden_bodies(), *EXAMPLES])
def test_a_body_is_written_as_it_was_read(kind: str, body: dict[str, Any]) -> None:
    assert again(kind, body) == stored(kind, body)


@pytest.mark.parametrize(("kind", "body"), EXAMPLES)
def test_what_a_newer_program_adds_is_passed_over_and_kept(kind: str, body: dict[str, Any]) -> None:
    assert again(kind, body | NEWER) == stored(kind, body | NEWER)
