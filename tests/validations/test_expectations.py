import json
import math
import pickle

import pytest

from gnomon.validations.expectations import Finding, Validation


def _finding(observed: float | bool) -> Finding:
    return Finding("t2m", "2026-01-01", "0/3", 2, "complete", "critical", observed, "none", "why")


@pytest.mark.parametrize("observed", [0.25, 3, True, False, math.inf, -math.inf])
def test_a_finding_is_told_as_strict_json(observed: float | bool) -> None:
    text = json.dumps(_finding(observed).to_json(), allow_nan=False)
    told = json.loads(text)["observed"]
    assert float(told) == observed
    assert isinstance(told, str) == math.isinf(observed)


def test_a_validation_comes_back_from_another_process() -> None:
    validation = Validation(False, (_finding(0.25),), 5, 6)
    assert pickle.loads(pickle.dumps(validation)) == validation
