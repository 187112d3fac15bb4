"""Estimates that a rollback wrote are never captured as truth, and what is measured is no estimate.

Each test is of a way in which they come into the source, stay there, or go.
"""

import json
import shutil
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from numpy.typing import NDArray

import gnomon
from gnomon.repository import GnomonRepository
from gnomon.storage.care.check import check
from gnomon.storage.errors import Conflict, Integrity, InvalidInput, NotFound
from gnomon.storage.live import replaced
from gnomon.tasks.rollback import rollback as rollbacks
from gnomon.tasks.rollback.verify import Written
from tests import sources
from tests.cases import HISTORY, Case

DAY = "2001-01-25"
NEXT = "2001-01-26"


def array_of(source: Path, name: str = "sst") -> Any:
    return zarr.open_array(source / name, mode="r+")


def filled(case: Case, days: int = 1) -> GnomonRepository:
    """Return a repository of which steps without a value were filled with the first's forecast."""
    lost = case.data.copy(deep=True)
    lost.sst.values[HISTORY : HISTORY + days] = np.nan
    sources.write(case.source, lost, HISTORY, HISTORY + days)
    opened = case.open()
    assert opened.update().captured == []
    opened.rollback(DAY, accept_predicted=True)
    return opened


def suspects(opened: GnomonRepository, at: str = DAY) -> int:
    """Return how many chunks of the newest capture of a time are suspect."""
    captured = [c for c in opened.captures() if c["valid_time"].startswith(at)]
    return int(captured[-1]["suspect_chunks"])


def test_chunks_are_suspect_as_long_as_any_cell_is_an_estimate(grown: Case) -> None:
    opened = filled(grown)
    array, truth = array_of(grown.source), grown.data.sst.values[HISTORY]
    estimate = np.asarray(array[HISTORY])
    array[HISTORY, 0:1] = truth[0:1]
    assert opened.update().suspect_chunks == _chunks_with(estimate)
    # All but one cell of each chunk.
    last = np.array(truth)
    last[3::4, 0::4] = estimate[3::4, 0::4]
    array[HISTORY] = last
    opened.update(compare=-1)
    still = _chunks_with(np.where(_is_one_of_each(last.shape), estimate, np.nan))
    assert suspects(opened) == still > 0
    array[HISTORY] = truth
    assert opened.update(compare=-1).revised == 1
    assert suspects(opened) == 0
    given = opened.dataset(DAY, decode=False).load().sst.values[0]
    assert sources.bits(given) == sources.bits(truth)


def _is_one_of_each(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    cells = np.zeros(shape, bool)
    cells[3::4, 0::4] = True
    return cells


def _chunks_with(field: NDArray[Any]) -> int:
    """Return how many chunks of 4 x 4 cells have a value."""
    return int(np.isfinite(field).reshape(2, 4, 3, 4).any(axis=(1, 3)).sum())


def killed(opened: GnomonRepository, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    """Let a rollback be killed when all is replaced."""

    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Written, "verify", die)
        patch.setattr(rollbacks, "_withdraw", lambda *_: None)
        with pytest.raises(Killed):
            opened.rollback(at, accept_predicted=True)


@pytest.mark.parametrize("by", ["update", "undo"])
def test_they_stay_known_where_taking_back_left_an_object_of_others(
    grown: Case, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = grown.data.copy(deep=True)
    lost.sst.values[HISTORY : HISTORY + 2] = np.nan
    sources.write(grown.source, lost, HISTORY, HISTORY + 2)
    opened = grown.open()
    opened.update()
    killed(opened, monkeypatch, DAY)
    # The owner goes on with the next step, which is in the same object.
    array_of(grown.source)[HISTORY + 1] = grown.data.sst.values[HISTORY + 1]
    opened = grown.open()
    if by == "undo":
        assert opened.undo().left
    report = opened.update()
    assert any("others have written since" in note for note in report.notes) is (by == "update")
    assert suspects(opened) > 0
    assert suspects(opened, NEXT) == 0
    opened.prune(grace=timedelta(0))
    assert not check(opened.stored.refresh(), read_data=True).problems


def test_a_rollback_is_taken_back_where_the_source_is_by_now(grown: Case) -> None:
    opened = filled(grown)
    shutil.move(grown.source, grown.folder / "new.zarr")
    with pytest.raises(NotFound, match="is not there"):
        opened.undo()
    with pytest.raises(NotFound, match="is not there"):
        opened.undo(dry_run=True)
    assert opened.rollbacks()
    opened.move_source(str(grown.folder / "new.zarr"))
    undone = opened.undo()
    assert (undone.live, undone.left) == (str(grown.folder / "new.zarr"), ())
    assert np.isnan(array_of(grown.folder / "new.zarr")[HISTORY]).all()
    assert opened.update().captured == []


@pytest.mark.parametrize("was_killed", [False, True])
def test_a_rollback_of_a_copy_that_is_gone_is_given_up_by_a_person_only(
    grown: Case, was_killed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    grown.arrive(HISTORY, HISTORY + 1)
    opened = grown.open()
    opened.update()
    copy = grown.folder / "copy.zarr"
    shutil.copytree(grown.source, copy)
    array_of(copy)[HISTORY] = 7
    if was_killed:
        monkeypatch.setattr(rollbacks, "_withdraw", lambda *_: None)
        monkeypatch.setattr(Written, "verify", _fail)
        with pytest.raises(RuntimeError):
            opened.rollback(DAY, into=str(copy))
    else:
        opened.rollback(DAY, into=str(copy))
    shutil.rmtree(copy)
    with pytest.raises(NotFound, match="is not there"):
        opened.undo()
    assert opened.undo(force=True).objects == 0
    assert opened.rollbacks() == []


def _fail(*_: object) -> None:
    raise RuntimeError("stopped")


@pytest.mark.parametrize("way", ["a link", "a copy"])
def test_they_are_known_whichever_way_they_came_into_the_source(grown: Case, way: str) -> None:
    lost = grown.data.copy(deep=True)
    lost.sst.values[HISTORY] = np.nan
    sources.write(grown.source, lost, HISTORY, HISTORY + 1)
    opened = grown.open()
    opened.update()
    other = grown.folder / "other.zarr"
    if way == "a link":
        other.symlink_to(grown.source)
    else:
        shutil.copytree(grown.source, other)
    opened.rollback(DAY, into=str(other), accept_predicted=True)
    if way == "a copy":
        shutil.rmtree(grown.source)
        shutil.copytree(other, grown.source)
    opened.update()
    assert suspects(opened) == _chunks_with(np.asarray(array_of(grown.source)[HISTORY])) > 0
    assert opened.stored.refresh().state.rollbacks[0].is_source is (way == "a link")


def encoded_anew(data: xr.Dataset, change: str) -> xr.Dataset:
    """Return the same numbers as another program writes them, on a grid of more cells or fewer."""
    if change == "in double precision":
        return data.assign(sst=data.sst.astype("f8"))
    if change == "turned round":
        return data.isel(lat=slice(None, None, -1), lon=[*range(4, 12), *range(4)])
    if change == "cut":
        return data.isel(lat=slice(2, None), lon=slice(0, 8))
    if change == "transposed":
        return data.transpose("time", "lon", "lat", ...)
    packed = np.round((data.sst.fillna(0) - 290) / 0.001).astype("i2")
    packed = packed.where(data.sst.notnull(), np.int16(-32768)).astype("i2")
    told = {"scale_factor": 0.001, "add_offset": 290.0, "_FillValue": np.int16(-32768)}
    own = {name: value for name, value in data.sst.attrs.items() if name != "_FillValue"}
    return data.assign(sst=packed.assign_attrs(own | told))


@pytest.mark.parametrize(
    "change", ["in double precision", "turned round", "cut", "transposed", "packed"]
)
def test_they_are_known_in_a_new_era(grown: Case, change: str) -> None:
    opened = filled(grown)
    filled_in = encoded_anew(sources.raw(grown.source), change)
    truth = encoded_anew(grown.data.isel(time=slice(0, HISTORY + 1)), change)
    shutil.rmtree(grown.source)
    sources.write(grown.source, filled_in)
    with pytest.raises(InvalidInput, match="new-era"):
        opened.update()
    opened.update(new_era=True)
    assert suspects(opened) == _known_chunks(opened) > 0
    assert suspects(opened, "2001-01-24") == 0
    # The owner's values are taken when they come.
    array_of(grown.source)[HISTORY] = truth.sst.values[HISTORY]
    assert opened.update(compare=-1).revised == 1
    assert suspects(opened) == 0
    given = opened.dataset(DAY, decode=False).load().sst.values[0]
    assert sources.bits(given) == sources.bits(truth.sst.values[HISTORY])


def test_they_are_known_in_another_packing_of_the_same_numbers(tmp_path: Path) -> None:
    """The packing is taken for granted as what was captured before is still the same."""
    source = tmp_path / "source.zarr"
    whole = encoded_anew(sources.temperature(HISTORY + 1), "packed")
    lost = whole.copy(deep=True)
    lost.sst.values[HISTORY] = lost.sst.attrs["_FillValue"]
    sources.write(source, lost)
    opened = gnomon.create(str(tmp_path / "r"), str(source), chunks={"lat": 4, "lon": 4})
    opened.backfill()
    opened.rollback(DAY, accept_predicted=True)
    filled_in = sources.raw(source)
    filled_in.sst.values[:] = np.where(
        filled_in.sst.values == np.int16(-32768), filled_in.sst.values, filled_in.sst.values // 2
    )
    filled_in.sst.attrs["scale_factor"] = 0.002
    sources.overwrite(source, filled_in)
    opened.update()
    assert suspects(opened) == _known_chunks(opened) > 0
    told = {e for i in opened.anomalies() for e in i["expectations"]}
    assert "not_estimated" in told


def _known_chunks(opened: GnomonRepository) -> int:
    """Return how many chunks of the newest capture have a value, on whatever grid."""
    captures = opened.stored.refresh().captures("sst")
    step = len(opened.stored.refresh().captured) - 1
    grid = captures.variable.grid
    return sum(bool(np.isfinite(captures.physical(step, i)).any()) for i in grid.indices())


def ice(day: int) -> xr.Dataset:
    """Return a state of which one chunk is open water: zeros on every day."""
    state = sources.temperature(14, seed=5)[["sst"]].isel(time=day, drop=True)
    state = state.rename(sst="ice")
    state.ice.attrs = {"units": "1"}
    state.ice.values[0:4, 4:8] = 0
    return state.chunk(lat=4, lon=4)


def date(day: int) -> str:
    return f"2001-01-{day + 1:02d}"


@pytest.fixture
def overwritten(tmp_path: Path) -> tuple[Path, GnomonRepository]:
    """Return a source that is overwritten in place, of which eight days were captured."""
    source = tmp_path / "source.zarr"
    sources.overwrite(source, ice(0))
    opened = gnomon.create(str(tmp_path / "r"), str(source), leads=3)
    for day in range(8):
        sources.overwrite(source, ice(day))
        opened.update(date(day))
    return source, opened


def test_zeros_of_a_state_are_believed_when_the_source_has_moved_on(
    overwritten: tuple[Path, GnomonRepository],
) -> None:
    source, opened = overwritten
    array_of(source, "ice")[0:4, 4:8] = 7
    opened.rollback(date(8), kind="forecast", accept_predicted=True, chunk=["ice:0,1"])
    assert not np.asarray(array_of(source, "ice")[0:4, 4:8]).any()
    # Nothing tells that anybody has written since.
    assert opened.update(date(8)).suspect_chunks == 1
    for day in (9, 10):
        sources.overwrite(source, ice(day))
        report = opened.update(date(day))
        assert (report.suspect_chunks, report.incidents) == (0, [])


def healed_twice(source: Path, opened: GnomonRepository) -> tuple[int, NDArray[Any]]:
    """Write an estimate of a chunk, and into a row of it what was captured of an older state.

    Returns the number of the first rollback, and the chunk after it.
    """
    array = array_of(source, "ice")
    array[0:4, 0:4] = 7
    first = opened.rollback(date(8), kind="forecast", accept_predicted=True, chunk=["ice:0,0"])
    estimate = np.asarray(array[0:4, 0:4])
    second = opened.rollback(date(4), region="lat=-35:-35")
    estimated = {c.index: c.estimated for c in second.plan.chunks}
    assert estimated[0, 0] == 12
    assert sum(estimated.values()) == 12
    now = np.asarray(array[0:4, 0:4])
    assert sources.bits(now[1:]) == sources.bits(estimate[1:])
    assert first.sequence is not None
    return first.sequence, estimate


def test_a_second_rollback_into_a_chunk_does_not_hide_the_first(
    overwritten: tuple[Path, GnomonRepository],
) -> None:
    source, opened = overwritten
    healed_twice(source, opened)
    report = opened.update(date(8))
    (incident,) = [i for i in report.incidents if "not_estimated" in i["expectations"]]
    assert incident["chunks"] == ["0/0"]


def test_they_stay_known_when_rollbacks_are_taken_back_out_of_order(
    overwritten: tuple[Path, GnomonRepository],
) -> None:
    """The second rollback has kept what the first one wrote, and brings it back."""
    source, opened = overwritten
    first, estimate = healed_twice(source, opened)
    with pytest.raises(Conflict, match=r"a later rollback, \d+, has written.*--rollback \d+"):
        opened.undo(first)
    opened.undo(first, force=True)
    opened.prune(grace=timedelta(0))
    opened.undo(force=True)
    assert sources.bits(array_of(source, "ice")[0:4, 0:4]) == sources.bits(estimate)
    report = opened.update(date(8))
    (incident,) = [i for i in report.incidents if "not_estimated" in i["expectations"]]
    assert incident["chunks"] == ["0/0"]
    assert not check(opened.stored.refresh(), read_data=True).problems


def test_what_a_person_accepts_of_a_step_is_not_doubted_again(grown: Case) -> None:
    opened = filled(grown)
    opened.update()
    doubted = suspects(opened)
    opened.judge(DAY, accept=True)
    lat, lon = slice(4, 8), slice(8, 12)
    array_of(grown.source)[HISTORY, lat, lon] = grown.data.sst.values[HISTORY, lat, lon]
    opened.update(compare=-1)
    assert doubted > 1
    told = {e for i in opened.anomalies() if i["version"] == 2 for e in i["expectations"]}
    assert "not_estimated" not in told


def test_lists_without_cells_are_read_as_before(
    grown: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older program wrote digests of whole chunks only."""

    def dumps(document: dict[str, Any], **options: Any) -> str:
        return json.dumps({n: v for n, v in document.items() if n != "cells"}, **options)

    with monkeypatch.context() as patch:
        patch.setattr(replaced, "json", SimpleNamespace(dumps=dumps))
        opened = filled(grown)
    estimate = np.asarray(array_of(grown.source)[HISTORY])
    opened.update()
    assert suspects(opened) == _chunks_with(estimate)
    array_of(grown.source)[HISTORY] = grown.data.sst.values[HISTORY]
    opened.update()
    assert suspects(opened) == 0


def test_damaged_marks_stop_an_update(grown: Case) -> None:
    opened = filled(grown)
    marks = next((grown.place / "replaced").glob("*/estimates/*"))
    marks.write_bytes(marks.read_bytes()[:-1] + b"x")
    with pytest.raises(Integrity, match="estimates in the live dataset would be taken for data"):
        opened.update()
    assert all(not c["valid_time"].startswith(DAY) for c in opened.captures())
