"""A lean import of Great Expectations finds what the usual one finds, or gives way to it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = """
import json, sys
import numpy as np
from gnomon.storage.checks.check import Check, Statistic
from gnomon.storage.errors import GnomonError
from gnomon.validations import lean
from gnomon.validations.actual import validate_actual
from gnomon.validations.context import open_context
from gnomon.validations.prediction import validate_prediction
from gnomon.validations.suite import validate
from tests.validations.tables import sound_actual, sound_prediction

BEFORE

def worsened(frame):
    "Return the table with a value in each row that hardly any check lets pass."
    number = 0
    for name in frame.columns:
        if frame[name].dtype.kind not in "biuf":
            continue
        other = {"b": True, "i": 10**6, "f": [np.nan, np.inf, -1.0, 0.0, 1e9][number % 5]}
        frame.loc[number % len(frame), name] = other[frame[name].dtype.kind]
        number += 1
    return frame

found = [
    validation(table)
    for validation, sound in (
        (validate_actual, sound_actual), (validate_prediction, sound_prediction)
    )
    for table in (sound(), worsened(sound(12)), sound(0))
]
odd = Check("odd", Statistic("no_such_column", "1", "none"), "critical", "why", maximum=0)
try:
    said = validate("odd", sound_actual(), [odd])
except GnomonError as error:
    said = str(error)[:50]
print(json.dumps({
    "found": [[v.success, v.rows, [f.to_json() for f in v.findings]] for v in found],
    "said": said,
    "lean": open_context().data_context is None,
    "modules": [*sys.modules],
}))
"""
ROOT = Path(__file__).parents[2]


def validated(before: str) -> dict[str, Any]:
    """Return what a process of its own finds in some tables, after certain statements."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.replace("BEFORE", before)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    said: dict[str, Any] = json.loads(done.stdout)
    said["stderr"] = done.stderr
    return said


@pytest.fixture(scope="module")
def usual() -> dict[str, Any]:
    said = validated("")
    assert not said["lean"]
    assert "great_expectations.datasource.fluent.pandas_datasource" in said["modules"]
    assert sum(len(findings) for _, _, findings in said["found"]) > 10
    assert "could not be evaluated" in said["said"]
    return said


def test_a_lean_import_finds_the_same(usual: dict[str, Any]) -> None:
    said = validated("lean.permit()")
    assert said["lean"]
    assert said["found"] == usual["found"]
    assert said["said"] == usual["said"]
    assert said["stderr"] == ""
    left = {"sqlalchemy", "great_expectations.datasource.fluent.pandas_datasource"}
    assert left.isdisjoint(said["modules"])


@pytest.mark.parametrize(
    "change",
    [
        "lean._GATHERING |= {'great_expectations.render'}",  # which holds a name of its own
        "lean._METRICS = ()",  # so that no answer comes
    ],
)
def test_what_differs_from_what_is_expected_is_imported_as_usual(
    usual: dict[str, Any], change: str
) -> None:
    said = validated(f"lean.permit(); {change}")
    assert not said["lean"]
    assert said["found"] == usual["found"]
    assert "sqlalchemy" in said["modules"]


def test_what_was_imported_before_stays(usual: dict[str, Any]) -> None:
    said = validated("lean.permit(); import great_expectations as before")
    assert not said["lean"]
    assert said["found"] == usual["found"]


def test_data_docs_have_all_of_it(usual: dict[str, Any], tmp_path: Path) -> None:
    """Also where a table was validated in memory before."""
    docs = f"from pathlib import Path; docs = Path({str(tmp_path / 'docs')!r})"
    pages = "validate_actual(sound_actual(), context=open_context(docs))"
    said = validated(f"lean.permit(); validate_actual(sound_actual()); {docs}; {pages}")
    assert (tmp_path / "docs" / "index.html").is_file()
    assert said["found"] == usual["found"]
    assert "sqlalchemy" in said["modules"]
