import re
from pathlib import Path

import pandas as pd
import pytest

from gnomon.validations.actual import validate_actual
from gnomon.validations.context import open_context
from gnomon.validations.expectations import Validation
from gnomon.validations.prediction import validate_prediction
from tests.validations.tables import sound_actual, sound_prediction, spoiled


def validated(
    folder: Path,
    actual: pd.DataFrame,
    prediction: pd.DataFrame | None = None,
    run_name: str | None = None,
) -> tuple[Validation, Validation | None]:
    """Validate the tables of an update, and add a page for each to the Data Docs in a folder."""
    context = open_context(folder, run_name=run_name)
    found = validate_actual(actual, context=context)
    return found, None if prediction is None else validate_prediction(prediction, context=context)


def _listed(index: Path) -> list[str]:
    """Return the pages of runs that the index links to, as paths."""
    links = re.findall(r"validations/[^'\" ]+\.html", index.read_text())
    return sorted(set(links))


def test_runs_are_added_to_a_folder_that_need_not_exist(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "docs"
    bad = spoiled(sound_actual(), 4, {"replayed": True})

    validated(folder, bad, sound_prediction(), run_name="capture/1 of 2")
    index = folder / "index.html"
    pages = _listed(index)
    assert len(pages) == 2
    assert all("capture-1-of-2" in page and (folder / page).is_file() for page in pages)

    validated(folder, sound_actual(), run_name="../../2")
    assert len(_listed(index)) == 3
    assert set(pages) < set(_listed(index))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new"]

    failed = next((folder / page).read_text() for page in pages if "/actual/" in page)
    assert "t2m[1/1] 2026-01-01T00:00:00" in failed
    assert "bit-for-bit copy of an older capture" in failed


def test_pages_change_nothing_in_what_is_found(tmp_path: Path) -> None:
    actual = spoiled(sound_actual(), 1, {"p_value": 0.0, "unchanged": True})
    prediction = spoiled(sound_prediction(), 2, {"missing": 4})
    expected = validate_actual(actual), validate_prediction(prediction)
    assert validated(tmp_path, actual, prediction) == expected


def test_empty_tables_have_pages(tmp_path: Path) -> None:
    found, _ = validated(tmp_path, sound_actual(0), sound_prediction(0))
    assert found.success
    assert len(_listed(tmp_path / "index.html")) == 2


def test_a_page_that_cannot_be_made_is_told_of_and_costs_no_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_arguments: object, **_named: object) -> None:
        raise RuntimeError("no template")

    monkeypatch.setattr("great_expectations.render.view.DefaultJinjaPageView.render", fail)
    bad = spoiled(sound_actual(), 4, {"replayed": True})
    assert validated(tmp_path, bad) == (validate_actual(bad), None)
    assert "docs not written" in caplog.text
    assert "no template" in caplog.text
    assert "Traceback" not in caplog.text
