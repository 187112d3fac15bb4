"""The CF checker, run over a file; its table of standard names comes with it."""

import warnings
from pathlib import Path

from compliance_checker.suite import CheckSuite

__all__ = ["problems"]

_REMARK = ("found in same group", "does not cross 1582-10-15")
"""What it says of files that are in order."""


def problems(path: Path | str) -> set[str]:
    """Return what a NetCDF file lacks of CF 1.11, recommendations included, a sentence each."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        CheckSuite.load_all_available_checkers()
        suite = CheckSuite()
        dataset = suite.load_dataset(str(path))
        try:
            ((results, failures),) = suite.run_all(dataset, ["cf:1.11"], skip_checks=[]).values()
        finally:
            dataset.close()
    assert not failures, failures  # a check that did not run has found nothing
    sentences = {f"{result.name}: {text}" for result in results for text in result.msgs}
    return {text for text in sentences if not any(remark in text for remark in _REMARK)}
