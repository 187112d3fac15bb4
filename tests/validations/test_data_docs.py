import re
from pathlib import Path

import pytest

from gnomon.validations.actual import validate_actual
from gnomon.validations.data_docs import index_page, validate_with_docs
from gnomon.validations.prediction import validate_prediction
from tests.validations.tables import sound_actual, sound_prediction, spoiled


def _listed(index: Path) -> list[str]:
    """Return the pages of runs that the index links to, as paths."""
    links = re.findall(r"validations/[^'\" ]+\.html", index.read_text())
    return sorted(set(links))


def test_runs_are_added_to_a_folder_that_need_not_exist(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "docs"
    bad = spoiled(sound_actual(), 4, {"replayed": True})

    first = validate_with_docs(folder, bad, sound_prediction(), run_name="capture/1 of 2")
    assert first.index == index_page(folder) == folder / "index.html"
    pages = _listed(first.index)
    assert len(pages) == 2
    assert all("capture-1-of-2" in page and (folder / page).is_file() for page in pages)

    second = validate_with_docs(folder, sound_actual(), run_name="../../2")
    assert second.prediction is None
    assert len(_listed(second.index)) == 3
    assert set(pages) < set(_listed(second.index))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new"]

    failed = next((folder / page).read_text() for page in pages if "/actual/" in page)
    assert "t2m[1/1] 2026-01-01T00:00:00" in failed
    assert "bit-for-bit copy of an older capture" in failed


def test_pages_change_nothing_in_what_is_found(tmp_path: Path) -> None:
    actual = spoiled(sound_actual(), 1, {"p_value": 0.0, "unchanged": True})
    prediction = spoiled(sound_prediction(), 2, {"missing": 4})
    run = validate_with_docs(tmp_path, actual, prediction)
    assert run.actual == validate_actual(actual)
    assert run.prediction == validate_prediction(prediction)


def test_empty_tables_have_pages(tmp_path: Path) -> None:
    run = validate_with_docs(tmp_path, sound_actual(0), sound_prediction(0))
    assert run.actual.success
    assert len(_listed(run.index)) == 2


def test_a_page_that_cannot_be_made_is_told_of_and_costs_no_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_arguments: object, **_named: object) -> None:
        raise RuntimeError("no template")

    monkeypatch.setattr("great_expectations.render.view.DefaultJinjaPageView.render", fail)
    bad = spoiled(sound_actual(), 4, {"replayed": True})
    assert validate_with_docs(tmp_path, bad).actual == validate_actual(bad)
    assert "docs not written" in caplog.text
    assert "no template" in caplog.text
    assert "Traceback" not in caplog.text
