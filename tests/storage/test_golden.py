"""Repositories of every format that was ever released stay readable, bit for bit."""

import json
import shutil
from pathlib import Path

import pytest

from gnomon.storage.care.check import check
from gnomon.storage.repository import Repository
from gnomon.storage.values.model import FORMAT
from tests.storage.golden import GOLDEN, contents


@pytest.mark.parametrize("archive", sorted(GOLDEN.glob("*.zip")), ids=lambda path: path.stem)
def test_a_golden_repository_is_read_as_it_was_written(archive: Path, tmp_path: Path) -> None:
    shutil.unpack_archive(archive, tmp_path / "r")
    repository = Repository.open(str(tmp_path / "r"))
    assert contents(repository) == json.loads(archive.with_suffix(".json").read_text())
    assert check(repository, read_data=True).problems == ()
    assert [s.step for s in repository.state.kept] == [2, 3, 4, 5, 6, 7]
    assert repository.captured[2].tags == ("gold",)


def test_there_is_one_of_the_present_format() -> None:
    assert (GOLDEN / f"format-{FORMAT}.zip").exists()
