"""Columns of stored tables are read by their names: another release may write others."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gnomon.storage.arrays import tables as slab
from gnomon.storage.arrays.encoding import COLUMNS
from gnomon.storage.care.check import check
from gnomon.storage.errors import Integrity
from gnomon.storage.repository import _OPENED
from gnomon.storage.stacks.shadows import SCORE_COLUMNS
from gnomon.tasks.capturing.ledger import read_ledger
from gnomon.tasks.capturing.statistics import STATISTICS
from tests import sources
from tests.cases import HISTORY, Case, grow
from tests.storage.building import add_shadow as made_up_shadow
from tests.storage.building import (
    attempt,
    capture_new,
    make_repository,
    reopened,
    weather,
    write_zarr,
)

WRITERS = (
    "gnomon.storage.stacks.ledger",
    "gnomon.storage.stacks.shadows",
    "gnomon.storage.stacks.writing",
    "gnomon.tasks.learning.learn",
    "tests.storage.building",
)
Change = Callable[[Any, list[str]], tuple[Any, list[str]]]


@contextmanager
def another_release(change: Change) -> Iterator[None]:
    """Let everything that writes tables write what a release with other columns writes."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("create_table", "create_index"):
            write = getattr(slab, name)

            def changed(
                batch: Any,
                path: str,
                values: Any,
                columns: list[str],
                names: Any = (),
                write: Any = write,
            ) -> str:
                return str(write(batch, path, *change(values, columns), names))

            for module in WRITERS:
                patch.setattr(f"{module}.{name}", changed, raising=False)
        yield
    _OPENED.clear()


def shuffled(values: Any, columns: list[str]) -> tuple[Any, list[str]]:
    """Turn the order round, and add columns that nobody knows, in front and behind."""
    new = np.full((*values.shape[:-1], 1), 7, values.dtype)
    return np.concatenate([new, values[..., ::-1], new], -1), ["newer", *columns[::-1], "newest"]


def without(*gone: str) -> Change:
    def change(values: Any, columns: list[str]) -> tuple[Any, list[str]]:
        kept = [k for k, name in enumerate(columns) if name not in gone]
        return values[..., kept], [columns[k] for k in kept]

    return change


def everything(case: Case) -> dict[str, bytes]:
    repository = case.open()
    history = repository.history(decode=False)
    found = {str(n): v.values.tobytes() for n, v in history.variables.items()}
    for point in repository.points("2001-01-26"):
        held = repository.dataset("2001-01-26", kind=point.kind, accept_predicted=True)
        found[point.kind] = str(point.expected_error).encode() + held.sst.values.tobytes()
    return found


def test_a_repository_of_another_release_is_read_and_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, reports, ledgers = [], [], []
    for name, change in (("plain", lambda *same: same), ("other", shuffled)):
        folder = tmp_path / name
        folder.mkdir()
        with another_release(change):
            case = grow(folder, monkeypatch)
        stored = case.open().stored
        variable = stored.settings.variable("sst")
        ledgers.append(read_ledger(stored, variable, HISTORY - 1))
        answers.append(everything(case))
        sources.write(case.source, case.data, HISTORY, HISTORY + 1)
        report = case.open().update()
        reports.append((report.captured, report.suspect_chunks, report.confidence, report.refit))
        answers.append(everything(case))
        assert check(case.open().stored, read_data=True).problems == ()
    assert answers[0] == answers[2]
    assert answers[1] == answers[3]
    assert reports[0] == reports[1]
    assert list(ledgers[0]) == list(ledgers[1]) == list(STATISTICS)
    for column in STATISTICS:
        assert sources.bits(ledgers[0][column]) == sources.bits(ledgers[1][column])


def stored_by(folder: Path, change: Change, *, shadowed: bool = True) -> Any:
    """Return a small repository of which a release with other columns has written everything."""
    live = write_zarr(weather(3), folder / "source.zarr")
    with another_release(change):
        made = capture_new(make_repository(folder / "r", live, chunks={"y": 4, "x": 5}))
        if shadowed:
            made_up_shadow(made)
    return reopened(folder / "r")


def test_a_ledger_that_lacks_a_column_has_the_others(tmp_path: Path) -> None:
    stored = stored_by(tmp_path, without("spread", "p_value"))
    found = read_ledger(stored, stored.settings.variable("t"), 1)
    assert list(found) == [n for n in STATISTICS if n not in ("spread", "p_value")]
    valid = np.isfinite(weather(3).t.values[1, :4, :5]).sum()
    assert found["valid_count"][0, 0] == valid


def test_scores_that_a_writer_did_not_have_are_unknown(tmp_path: Path) -> None:
    stored = stored_by(tmp_path, without("confidence", "expected_rmse"))
    stack = stored.shadow("t", stored.shadows[-1])
    assert np.isfinite(stack.scores()[..., :2]).all()
    assert np.isnan(stack.scores()[..., 2:]).all()
    assert np.isfinite(stack.chunk(1, (1, 1))[0]).all()


@pytest.mark.parametrize("gone", [*COLUMNS, *SCORE_COLUMNS[:2]])
def test_what_cannot_be_read_without_a_column_is_refused(tmp_path: Path, gone: str) -> None:
    stored_by(tmp_path, without(gone), shadowed=gone not in COLUMNS)
    found = attempt(tmp_path / "r")
    if gone == "filter":  # there is none where the writer knew of none; the digest tells
        assert not isinstance(found, Integrity) or "digest" in str(found)
    else:
        assert isinstance(found, Integrity)
        assert gone in str(found)
        assert "lacks" in str(found)


def test_names_that_stand_twice_are_refused(tmp_path: Path) -> None:
    def same(values: Any, columns: list[str]) -> tuple[Any, list[str]]:
        return values, [columns[0]] * len(columns)

    stored_by(tmp_path, same, shadowed=False)
    found = attempt(tmp_path / "r")
    assert isinstance(found, Integrity)
    assert "names of columns" in str(found)


@pytest.mark.parametrize("value", [np.nan, -0.1, 1.1, np.inf, -np.inf])
def test_a_confidence_that_is_none_is_unknown(tmp_path: Path, value: float) -> None:
    def change(values: Any, columns: list[str]) -> tuple[Any, list[str]]:
        if "confidence" in columns:
            values = values.copy()
            values[..., 2] = value
            values[..., 3] = value if value < 0 else np.inf
        return values, columns

    stored = stored_by(tmp_path, change)
    stack = stored.shadow("t", stored.shadows[-1])
    assert np.isnan(stack.scores()[..., 2:]).all()


@pytest.mark.parametrize("column", [0, 1])
@pytest.mark.parametrize("value", [np.nan, -1.0, 0.0, np.inf])
def test_a_prediction_in_negative_quanta_or_errors_is_refused(
    tmp_path: Path, column: int, value: float
) -> None:
    """Served, it would have a negative or an infinite standard error."""

    def change(values: Any, columns: list[str]) -> tuple[Any, list[str]]:
        if "quantum" in columns:
            values = values.copy()
            values[:, 0, 0, column] = value
        return values, columns

    stored = stored_by(tmp_path, change)
    stack = stored.shadow("t", stored.shadows[-1])
    with pytest.raises(Integrity, match="expected numbers above zero"):
        stack.chunk(1, (0, 0))
    assert np.isfinite(stack.chunk(1, (1, 1))[0]).all()
