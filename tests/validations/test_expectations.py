import json
import math
import pickle

import pytest

from gnomon.storage.errors import Format
from gnomon.validations.expectations import Expectation, Finding, Validation


def _finding(observed: float | bool) -> Finding:
    return Finding("t2m", "2026-01-01", "0/3", 2, "complete", "critical", observed, "none", "why")


@pytest.mark.parametrize("observed", [0.25, 3, True, False, math.inf, -math.inf])
def test_a_validation_comes_back_from_strict_json(observed: float | bool) -> None:
    validation = Validation(False, (_finding(observed),), 5, 6)
    text = json.dumps(validation.to_json(), allow_nan=False)
    restored = Validation.from_json(json.loads(text))
    assert restored == validation
    assert type(restored.findings[0].observed) is type(observed)
    assert pickle.loads(pickle.dumps(validation)) == validation


def test_another_version_or_something_else_is_refused() -> None:
    good = Validation(True, (), 5, 6).to_json()
    with pytest.raises(Format, match="version 2"):
        Validation.from_json(good | {"version": 2})
    with pytest.raises(Format, match="not a validation"):
        Validation.from_json({"version": 1})
    with pytest.raises(Format, match="not a finding"):
        Validation.from_json(good | {"findings": [{"observed": 1}]})
    with pytest.raises(Format, match="not a finding"):
        Finding.from_json({})


@pytest.mark.parametrize(
    ("expectation", "words"),
    [
        (Expectation("n", "c", "critical", "r", minimum=0.001), "at least 0.001"),
        (Expectation("n", "c", "critical", "r", minimum=0, strict=True), "more than 0"),
        (Expectation("n", "c", "critical", "r", maximum=0.5), "at most 0.5"),
        (Expectation("n", "c", "critical", "r", minimum=0, maximum=1), "0 to 1"),
        (Expectation("n", "c", "critical", "r", flag=False), "false"),
    ],
)
def test_what_is_allowed_reads_in_words(expectation: Expectation, words: str) -> None:
    assert expectation.expected == words
