"""Damage in the repository is told, and does not stop what comes after it."""

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from gnomon.storage.errors import Integrity
from gnomon.storage.repository import Repository
from tests import sources
from tests.cases import DAMAGED, HISTORY, Case
from tests.storage.building import reopened

NEWEST = HISTORY - 1


def spoil(*paths: Path) -> None:
    for path in paths:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0xFF
        path.write_bytes(data)


def chunk_file(case: Case, step: int) -> Path:
    return case.place / reopened(case.place).captures("sst").file(step, DAMAGED)


def index_files(case: Case, step: int) -> list[Path]:
    slab = reopened(case.place).captured[step].slab
    found = [p for p in case.place.rglob("*") if slab in p.parts and "index" in p.parts]
    return [p for p in found if p.is_file() and "captures" in p.parts]


def state_files(case: Case) -> list[Path]:
    record = reopened(case.place).forecaster
    assert record is not None
    folder = case.place / "forecaster" / record.id
    return [p for p in folder.rglob("*") if p.is_file() and "/cells/c/" in p.as_posix()]


def captured_as_is(repository: Repository, case: Case, step: int) -> None:
    source = sources.raw(case.source)
    stack = repository.captures("sst")
    for index in stack.variable.grid.indices():
        cells = stack.variable.grid.cells(index)
        expected = source.sst.values[(step, *cells)]
        assert sources.bits(stack.chunk(step, index)) == sources.bits(expected)


@pytest.fixture(autouse=True)
def _tell_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gnomon.tasks.learning.trusted._told", set())


@pytest.mark.parametrize("refit", [False, True])
@pytest.mark.parametrize("step", [NEWEST, NEWEST - 5])
def test_a_damaged_chunk_does_not_stop_updates(
    grown: Case, caplog: pytest.LogCaptureFixture, step: int, refit: bool
) -> None:
    spoil(chunk_file(grown, step))
    grown.arrive(HISTORY, HISTORY + 2)
    with caplog.at_level(logging.WARNING):
        report = grown.open().update(refit=refit, compare=0)
    assert (len(report.captured), report.suspect_chunks) == (2, 0)
    assert report.due is not None
    repository = reopened(grown.place)
    if step == NEWEST or refit:
        assert any(f"capture {step}" in r.getMessage() for r in caplog.records)
    for new in (HISTORY, HISTORY + 1):
        captured_as_is(repository, grown, new)
    with pytest.raises(Integrity, match=f"capture {step}"):
        repository.captures("sst").chunk(step, DAMAGED)


def test_an_index_without_a_copy_does_not_stop_updates(grown: Case) -> None:
    """A capture of which nothing is known counts as if it were suspect."""
    grown.arrive(HISTORY, HISTORY + 1)
    grown.open().update()
    for path in index_files(grown, HISTORY):
        path.unlink()
    grown.arrive(HISTORY + 1, HISTORY + 3)
    report = grown.open().update(compare=-1)
    assert (len(report.captured), report.suspect_chunks) == (2, 0)
    repository = grown.open()
    for new in (HISTORY + 1, HISTORY + 2):
        captured_as_is(repository.stored, grown, new)
    assert repository.update(refit=True).refit == {"sst": "asked for"}
    assert repository.check().problems
    repository.forget(captures=[HISTORY])
    repository.prune()
    assert repository.check(read_data=True).problems == ()
    kept = [*range(HISTORY), HISTORY + 1, HISTORY + 2]
    assert [c["capture"] for c in repository.captures()] == kept


def test_a_damaged_chunk_that_nothing_can_mend_can_be_forgotten(grown: Case) -> None:
    spoil(chunk_file(grown, NEWEST))
    shutil.rmtree(grown.source)
    data = grown.data.isel(time=slice(HISTORY, HISTORY + 2))
    data.to_zarr(grown.source, mode="w", consolidated=False)
    assert len(grown.open().update().captured) == 2
    repository = grown.open()
    assert repository.repair().left
    repository.forget(captures=[NEWEST])
    repository.prune()
    assert repository.check(read_data=True).problems == ()
    found = repository.dataset("2001-01-25", decode=False, plain=True)
    assert sources.bits(found.sst.values[0]) == sources.bits(grown.data.sst.values[HISTORY])


def test_damaged_state_is_learnt_anew(grown: Case, caplog: pytest.LogCaptureFixture) -> None:
    spoil(*state_files(grown))
    grown.arrive(HISTORY, HISTORY + 1)
    with caplog.at_level(logging.WARNING):
        assert grown.open().update().due is not None
    assert any("forecaster state" in r.getMessage() for r in caplog.records)
    found = grown.open().dataset("2001-01-26", accept_predicted=True)
    assert np.isfinite(found.sst.values).any()
    grown.arrive(HISTORY + 1, HISTORY + 2)
    repository = grown.open()
    repository.update()  # only the newest two states are kept
    assert repository.check(read_data=True).problems == ()


def test_a_damaged_outlook_is_learnt_anew(grown: Case, caplog: pytest.LogCaptureFixture) -> None:
    spoil(*(grown.place / "forecaster").glob("*/v-sst/outlook/c/0/0"))
    assert len(grown.open().check().problems) == 1
    grown.arrive(HISTORY, HISTORY + 2)
    with caplog.at_level(logging.WARNING):
        report = grown.open().update()
    assert any("outlook" in r.getMessage() for r in caplog.records)
    assert report.refit == {"sst": "what was learnt is damaged"}
    assert report.suspect_chunks == 0
    grown.arrive(HISTORY + 2, HISTORY + 3)
    grown.open().update()  # only the newest two states are kept
    assert grown.open().check(read_data=True).problems == ()


def test_what_an_older_forecaster_learnt_is_learnt_anew(
    grown: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gnomon.tasks.forecasting.specification.FORMAT_VERSION", 99)
    grown.arrive(HISTORY, HISTORY + 1)
    assert grown.open().update().refit == {"sst": "a newer version of the forecaster"}


@pytest.mark.parametrize("part", ["shadows/*/v-sst/score"])
def test_damage_of_a_shadow_names_what_helps(grown: Case, part: str) -> None:
    """There is no copy of its tables: a repair could not put them back."""
    (table,) = grown.place.glob(part)
    for path in (table / "c").rglob("*"):
        if path.is_file():
            path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(Integrity, match="run 'gnomon update --refit'") as told:
        grown.open().dataset("2001-01-26", kind="forecast", accept_predicted=True).load()
    assert "gnomon repair" not in str(told.value)
