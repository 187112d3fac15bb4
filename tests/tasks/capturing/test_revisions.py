"""Revisions: what the source has changed since is captured again, and judged by a person."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import gnomon
from gnomon.flows.settings import Settings
from gnomon.repository import GnomonRepository
from gnomon.storage.errors import InvalidInput, Moved, NotFound, Unavailable
from gnomon.storage.values.model import SUSPECT, TRUSTED
from gnomon.tasks.capturing.capture import capture
from gnomon.tasks.capturing.plan import plan_capture
from gnomon.tasks.capturing.revisions import find_repeats, find_revisions
from gnomon.tasks.work import serial
from tests import sources
from tests.cases import DAMAGED, HISTORY, Case
from tests.storage.building import capture_new, captured, make_repository, weather, write_zarr

DAY = 10
TIME = "2001-01-11"
"""The day that the source changes."""


def change(case: Case, day: int = DAY, *, by: float = 3.0, days: int = HISTORY) -> xr.Dataset:
    """Let the source hold another value in one cell of a day that was captured."""
    data = case.data.isel(time=slice(days)).copy(deep=True)
    data.sst.values[day, 1, 2] += np.float32(by)
    sources.overwrite(case.source, data)
    return data


def revisions(case: Case, count: int | None = None, seed: int = 0) -> tuple[int, ...]:
    rng = np.random.default_rng(seed)
    return find_revisions(case.open().stored, serial, count=count, rng=rng)


def state(repository: GnomonRepository, **options: Any) -> bytes:
    found = repository.dataset(TIME, plain=True, decode=False, **options)
    return sources.bits(found.sst.values[0])


def timeline(repository: GnomonRepository) -> list[int]:
    return [s.step for s in repository.stored.timeline]


# Finding them ----------------------------------------------------------------------------------


def test_an_unchanged_source_has_none(grown: Case) -> None:
    assert revisions(grown) == ()
    before = sources.listing(grown.place)
    assert grown.open().update(compare=-1).message == "nothing new in the source"
    assert sources.listing(grown.place) == before


def test_where_nothing_is_to_be_compared_no_worker_is_asked(grown: Case, tmp_path: Path) -> None:
    def asked(*_: object) -> list[Any]:
        raise AssertionError

    assert find_repeats(grown.open().stored, asked) == {}
    empty = make_repository(tmp_path / "r", grown.source)
    assert find_revisions(empty, asked, count=None, rng=np.random.default_rng(0)) == ()


def test_a_revision_is_compared_with_the_capture_before_it_whatever_else_is_new(
    grown: Case,
) -> None:
    """Not with another revision, or a late state, of long before."""
    data = grown.data.isel(time=slice(HISTORY)).copy(deep=True)
    data.sst.values[[5, 20], 1, 2] += np.float32(3.0)
    sources.overwrite(grown.source, data)
    stored = grown.open().stored
    found = {}
    for steps in ((20,), (5, 20)):
        plan = plan_capture(stored, revised=steps)
        assert plan is not None
        assert plan.revises == steps
        found[steps] = capture(stored, plan, serial).statistics["sst"]["change_rms"]
    np.testing.assert_array_equal(found[5, 20][1], found[20,][0])


def test_every_bit_counts(grown: Case) -> None:
    data = grown.data.isel(time=slice(HISTORY)).copy(deep=True)
    land = data.sst.values[3, 5:6, 9:10]
    assert np.isnan(land).all()
    land.view("u4")[...] ^= 1  # another NaN
    data.sst.values[7, 0, 0] = np.nextafter(data.sst.values[7, 0, 0], np.float32(0))
    data.time_bnds.values[9, 1] += 0.5  # not forecast, and kept all the same
    sources.overwrite(grown.source, data)
    assert revisions(grown) == (3, 7, 9)


@pytest.fixture
def untold(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source that does not tell which of its parts were written when."""
    monkeypatch.setattr("gnomon.tasks.capturing.revisions.objects_of", lambda *_: None)


@pytest.mark.usefixtures("untold")
def test_the_newest_is_always_compared_and_all_come_to_their_turn(grown: Case) -> None:
    data = grown.data.isel(time=slice(HISTORY)).copy(deep=True)
    data.sst.values[:, 0, 0] += 1
    sources.overwrite(grown.source, data)
    seen: set[int] = set()
    for seed in range(40):
        found = revisions(grown, 3, seed)
        assert len(found) == 3
        assert found == tuple(sorted(found))
        assert found[-1] == HISTORY - 1
        seen |= set(found)
    assert seen == set(range(HISTORY))
    assert revisions(grown, 1) == (HISTORY - 1,)
    assert revisions(grown, 0) == ()
    assert revisions(grown, 1000) == tuple(range(HISTORY))


def test_times_that_left_the_source_are_none(grown: Case) -> None:
    sources.overwrite(grown.source, grown.data.isel(time=slice(5, HISTORY)))
    assert revisions(grown) == ()
    assert grown.open().update(compare=-1).captured == []
    sources.overwrite(grown.source, grown.data.isel(time=np.r_[HISTORY - 1 : -1 : -1]))
    assert revisions(grown) == ()


def test_a_state_source_has_none(tmp_path: Path) -> None:
    source = write_zarr(weather(1).isel(time=0), tmp_path / "s.zarr")
    made = capture_new(make_repository(tmp_path / "r", source), now=0)
    write_zarr(weather(1, first=3).isel(time=0), source, mode="w")
    assert find_revisions(made, serial, count=None, rng=np.random.default_rng()) == ()


def test_a_source_that_is_another_is_refused(grown: Case) -> None:
    sources.overwrite(grown.source, grown.data.drop_vars("sst"))
    with pytest.raises(InvalidInput, match="'sst'"):
        revisions(grown)
    with pytest.raises(InvalidInput, match="'sst'"):
        grown.open().update()


def test_blocks_of_several_variables_and_kinds(tmp_path: Path) -> None:
    source = write_zarr(weather(5), tmp_path / "s.zarr")
    made = captured(tmp_path / "r", source, chunks={"y": 4, "x": 5})
    data = sources.raw(source)
    data["wet"].values[2, 5, 9] ^= 1
    data["p"].values[4, 0, 0] += 1
    data["t"].values[1, 5, 0] = -0.0
    sources.overwrite(source, data)
    found = find_revisions(made, serial, count=None, rng=np.random.default_rng())
    assert found == (1, 2, 4)


# Capturing them --------------------------------------------------------------------------------


@pytest.fixture
def revised(grown: Case) -> Case:
    """A day of which the source holds two versions, one after the other."""
    change(grown)
    report = grown.open().update(compare=-1)
    assert report.captured == [f"{TIME}T00:00:00"]
    assert (report.revised, report.late, report.suspect_chunks) == (1, 0, 1)
    (incident,) = report.incidents
    assert (incident["expectations"], incident["chunks"]) == (["not_revised"], ["0/0"])
    assert incident["severity"] == "critical"
    return grown


def test_both_versions_can_be_restored(revised: Case, tmp_path: Path) -> None:
    repository = revised.open()
    first, second = (revised.data.isel(time=DAY), sources.raw(revised.source).isel(time=DAY))
    assert state(repository, capture=DAY) == sources.bits(first.sst.values)
    assert state(repository, capture=HISTORY) == sources.bits(second.sst.values)
    assert state(repository) == state(repository, capture=DAY)
    for number, wanted in ((DAY, first), (HISTORY, second)):
        target = tmp_path / f"{number}.zarr"
        done = repository.restore(TIME, str(target), capture=number, plain=True)
        assert done.point.step == number
        assert sources.bits(sources.raw(target).sst.values[0]) == sources.bits(wanted.sst.values)
    with pytest.raises(NotFound, match=f"there is {DAY}, {HISTORY}"):
        repository.dataset(TIME, capture=3)
    versions = [p for p in repository.points(TIME) if p.kind in ("captured", "revision")]
    assert [(p.kind, p.step) for p in versions] == [
        ("captured", DAY),
        ("revision", HISTORY),
    ]


def test_a_revision_is_suspect_until_it_is_accepted(revised: Case) -> None:
    repository = revised.open()
    stored = repository.stored
    assert stored.captured[HISTORY].revises == DAY
    assert stored.captures("sst").status(HISTORY).tolist() == [[SUSPECT, 0, 0], [0, 0, 0]]
    assert (stored.captures("sst").status(DAY) == TRUSTED).all()
    assert timeline(repository) == list(range(HISTORY))
    assert repository.anomalies()[-1]["open"] is True
    assert repository.judge(TIME, accept=True) == 1
    assert timeline(repository) == [*range(DAY), HISTORY, *range(DAY + 1, HISTORY)]
    assert repository.anomalies()[-1]["open"] is False
    assert state(repository) == state(repository, capture=HISTORY)
    versions = [p for p in repository.points(TIME) if p.kind in ("captured", "revision")]
    assert [(p.kind, p.step) for p in versions] == [
        ("captured", HISTORY),
        ("revision", DAY),
    ]
    history = repository.history(decode=False)
    source = sources.raw(revised.source)
    assert history.time.values.tolist() == list(range(HISTORY))
    assert sources.bits(history.sst.values) == sources.bits(source.sst.values)
    report = repository.update()
    assert report.refit == {"sst": "a verdict changed what was learnt"}
    assert revised.open().check(read_data=True).problems == ()


def test_a_revision_that_is_not_believed(revised: Case) -> None:
    repository = revised.open()
    assert repository.judge(TIME, accept=False) == 6  # the other chunks, and the bounds of time
    assert timeline(repository) == list(range(HISTORY))
    assert state(repository) == state(repository, capture=DAY)


def test_a_revision_is_captured_once(revised: Case) -> None:
    assert revisions(revised) == ()  # the newest version counts
    report = revised.open().update(compare=-1)
    assert (report.captured, report.revised) == ([], 0)
    # The source takes it back: that is another revision, which equals the first version.
    sources.overwrite(revised.source, revised.data.isel(time=slice(HISTORY)))
    assert revisions(revised) == (HISTORY,)
    report = revised.open().update(compare=-1)
    assert (report.revised, report.suspect_chunks) == (1, 0)  # it differs from what was suspect
    repository = revised.open()
    assert repository.stored.captured[HISTORY + 1].revises == HISTORY
    assert timeline(repository)[DAY] == HISTORY + 1
    assert state(repository) == state(repository, capture=DAY)


def test_the_newest_capture_revised_with_news(grown: Case) -> None:
    """Both arrive in one update, as they do when a feed mends its last day."""
    change(grown, HISTORY - 1, days=HISTORY + 2)
    report = grown.open().update(compare=1)
    assert report.captured == [f"2001-01-{day}T00:00:00" for day in (24, 25, 26)]
    assert (report.revised, report.late) == (1, 0)
    repository = grown.open()
    assert timeline(repository) == [*range(HISTORY), HISTORY + 1, HISTORY + 2]
    assert [s.revises for s in repository.stored.captured[HISTORY:]] == [HISTORY - 1, None, None]
    assert repository.check(read_data=True).problems == ()


@pytest.mark.usefixtures("untold")
def test_the_settings_say_how_many_are_compared(grown: Case) -> None:
    change(grown)
    assert grown.open().update(compare=0).revised == 0
    assert grown.open().update(settings=Settings(compare=1)).revised == 0
    assert grown.open().update(settings=Settings(compare=-1)).revised == 1


def test_a_corrected_capture_wins_over_a_suspect_one(damaged: Case) -> None:
    """What the source mends is trusted where what it replaces was not."""
    assert damaged.open().stored.captures("sst").status(HISTORY)[DAMAGED] == SUSPECT
    sources.overwrite(damaged.source, damaged.data.isel(time=slice(HISTORY + 1)))
    report = damaged.open().update(compare=1)
    assert (report.revised, report.suspect_chunks) == (1, 0)
    repository = damaged.open()
    assert timeline(repository) == [*range(HISTORY), HISTORY + 1]
    assert [p.kind for p in repository.points("2001-01-25")][:2] == ["captured", "forecast"]
    assert repository.status()["open_incidents"] == 0
    history = repository.history(decode=False)
    assert sources.bits(history.sst.values) == sources.bits(sources.raw(damaged.source).sst.values)


def test_several_commits_of_revisions(grown: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    data = grown.data.isel(time=slice(HISTORY)).copy(deep=True)
    data.sst.values[2:9, 0, 0] += 2
    sources.overwrite(grown.source, data)
    monkeypatch.setattr("gnomon.tasks.capturing.plan.MAX_STEPS", 3)
    report = grown.open().update(compare=-1)
    assert report.revised == 7
    stored = grown.open().stored
    assert [s.revises for s in stored.captured[HISTORY:]] == list(range(2, 9))
    assert [r.kind for r in stored.records][3:6] == ["capture"] * 3
    assert plan_capture(stored) is None


# What a source tells of itself ------------------------------------------------------------------


def replaced(case: Case, change: float, days: slice, cells: slice = slice(None)) -> xr.Dataset:
    """Write the source again, with other values in some days and rows."""
    data = case.data.isel(time=slice(HISTORY)).copy(deep=True)
    data.sst.values[days, cells] += np.float32(change)
    sources.overwrite(case.source, data)
    return data


def age(case: Case, *, seconds: float) -> None:
    """Let all objects of the source be older than they are."""
    for path in case.source.rglob("*"):
        if path.is_file():
            then = path.stat().st_mtime - seconds
            os.utime(path, (then, then))


def test_what_was_written_since_is_compared_and_nothing_else(grown: Case) -> None:
    replaced(grown, 2.0, slice(3, 6))
    assert revisions(grown, 1) == (3, 4, 5)
    age(grown, seconds=1e6)  # as if it had been there before the captures
    assert revisions(grown, 1) == ()
    assert revisions(grown) == (3, 4, 5)


def test_no_more_is_read_than_is_allowed(grown: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    replaced(grown, 2.0, slice(0, HISTORY))
    monkeypatch.setattr("gnomon.tasks.capturing.revisions.COMPARED_BYTES", 1)
    seen: set[int] = set()
    for seed in range(60):
        found = revisions(grown, 2, seed)
        assert HISTORY - 1 in found
        assert len(found) <= 4
        seen |= set(found)
    assert seen == set(range(HISTORY))


def test_whole_states_that_hardly_differ_are_replaced(grown: Case) -> None:
    data = replaced(grown, 0.001, slice(2, 9))
    report = grown.open().update()
    assert (report.revised, report.suspect_chunks) == (7, 0)
    assert {tuple(i["expectations"]) for i in report.incidents} == {("not_replaced",)}
    repository = grown.open()
    assert sources.bits(repository.history(decode=False).sst.values) == sources.bits(
        data.sst.values
    )
    first = repository.dataset("2001-01-04", capture=3, plain=True, decode=False)
    assert sources.bits(first.sst.values[0]) == sources.bits(grown.data.sst.values[3])


@pytest.mark.parametrize(
    ("change", "cells"), [(30.0, slice(None)), (0.001, slice(0, 3))], ids=["far", "in part"]
)
def test_any_other_change_is_suspect(grown: Case, change: float, cells: slice) -> None:
    replaced(grown, change, slice(2, 9), cells)
    report = grown.open().update()
    assert report.revised == 7
    assert report.suspect_chunks >= 7
    repository = grown.open()
    kept = repository.history(decode=False).sst.values
    assert sources.bits(kept) == sources.bits(grown.data.sst.values[:HISTORY])
    said = repository.judging("all", accept=True)
    assert (len(said.captures), said.revisions) == (7, 7)
    assert repository.judge("2001-01", accept=True) == said.chunks
    assert repository.judging("all", accept=True).chunks == 0
    served = repository.history(decode=False).sst.values
    assert sources.bits(served) == sources.bits(sources.raw(grown.source).sst.values)


def test_a_rule_lets_young_states_be_revised(grown: Case) -> None:
    repository = grown.open()
    others: dict[str, Any] = {"candidates": [], "auto_heal": None}
    assert repository.rules() == {"revisable_days": None} | others
    assert repository.rules(revisable="10d") == {"revisable_days": 10.0} | others
    replaced(grown, 30.0, slice(0, HISTORY))
    report = grown.open().update(compare=-1)
    assert report.revised == HISTORY
    served = grown.open().history(decode=False).sst.values
    young, old = slice(HISTORY - 11, None), slice(0, HISTORY - 11)
    now = sources.raw(grown.source).sst.values
    assert sources.bits(served[young]) == sources.bits(now[young])
    assert sources.bits(served[old]) == sources.bits(grown.data.sst.values[:HISTORY][old])
    dropped = gnomon.open(repository.path).rules(revisable="none")
    assert dropped == {"revisable_days": None} | others


def test_a_source_that_moves_while_it_is_read_is_read_again(grown: Case) -> None:
    """Its window goes on by a day while the first block is read; then it stays."""
    moved: list[str] = []
    moves = 2

    def move(step: str, done: int, total: int) -> None:
        if step == "capture" and len(moved) < moves:
            moved.append(step)
            days = slice(len(moved), HISTORY + 2 + len(moved))
            sources.overwrite(grown.source, grown.data.isel(time=days))

    sources.overwrite(grown.source, grown.data.isel(time=slice(0, HISTORY + 2)))
    report = grown.open().update(progress=move)
    assert report.repeated
    history = grown.open().history(decode=False)
    assert sources.bits(history.sst.values) == sources.bits(grown.data.sst.values[: HISTORY + 4])


def test_a_source_that_goes_on_moving_gives_nothing(grown: Case) -> None:
    count = 0

    def move(step: str, done: int, total: int) -> None:
        nonlocal count
        if step == "capture":
            count += 1
            days = slice(count, HISTORY + 2 + count)
            sources.overwrite(grown.source, grown.data.isel(time=days))

    sources.overwrite(grown.source, grown.data.isel(time=slice(0, HISTORY + 2)))
    before = sources.listing(grown.place / "log")
    with pytest.raises(Moved, match="changed while it was read") as error:
        grown.open().update(progress=move)
    assert error.value.exit_code == 6
    assert sources.listing(grown.place / "log") == before


# Of what was trusted once ------------------------------------------------------------------------


def write(path: Path, values: np.ndarray) -> None:
    times = ("time", np.arange(len(values)), {"units": "months since 2019-01-01"})
    times[2]["calendar"] = "360_day"
    data = xr.Dataset({"t": (("time", "y", "x"), values)}, coords={"time": times})
    data.to_zarr(path, mode="w", zarr_format=2, encoding={"t": {"chunks": (1, 5, 7)}})


def months(count: int = 48) -> np.ndarray:
    """Fields with a season that is much larger than what differs from year to year."""
    season = 6 * np.cos(2 * np.pi * np.arange(count) / 12)[:, None, None]
    return (season + 0.1 * np.random.default_rng(0).normal(size=(count, 10, 14))).astype("f4")


def kept(folder: Path, values: np.ndarray) -> GnomonRepository:
    write(folder / "s.zarr", values)
    repository = gnomon.create(str(folder / "r"), str(folder / "s.zarr"))
    repository.update()
    return repository


def served(repository: GnomonRepository, month: int) -> np.ndarray:
    time = f"{2019 + month // 12}-{month % 12 + 1:02}"
    (best, *_) = repository.points(time)
    assert best.kind == "captured"
    return np.asarray(repository.dataset(time).t.values[0])


def test_a_third_version_is_not_true_because_the_second_was_refused(tmp_path: Path) -> None:
    values = months()
    repository = kept(tmp_path, values)
    for by in (5, -4, 2):
        other = values.copy()
        other[20] += by
        write(tmp_path / "s.zarr", other)
        report = repository.update(compare=-1)
        assert (report.revised, report.suspect_chunks) == (1, 4)
        np.testing.assert_array_equal(served(repository, 20), values[20])
    write(tmp_path / "s.zarr", values)
    report = repository.update(compare=-1)
    assert (report.revised, report.suspect_chunks) == (1, 0)  # what was trusted is back


@pytest.mark.parametrize("other", [29, 53])
@pytest.mark.parametrize("rule", [None, "3650d"])
def test_a_copy_of_another_time_is_no_replacement(
    tmp_path: Path, other: int, rule: str | None
) -> None:
    """The same month of another year may differ by little."""
    values = months(60)
    repository = kept(tmp_path, values)
    if rule:
        repository.rules(revisable=rule)
    copied = values.copy()
    copied[41] = values[other]
    write(tmp_path / "s.zarr", copied)
    report = repository.update(compare=-1)
    assert (report.revised, report.suspect_chunks) == (1, 4)
    assert "not_replayed" in report.incidents[0]["expectations"]
    np.testing.assert_array_equal(served(repository, 41), values[41])


@pytest.mark.parametrize("filled", [0.0, 9999.0])
def test_what_never_had_a_value_is_not_completed(tmp_path: Path, filled: float) -> None:
    """Zeros on land are no part of a field of the sea that was still to come."""
    values = months()
    values[:, 3:6, 2:9] = np.nan
    values[30, 0, 0] = np.nan
    repository = kept(tmp_path, values)
    changed = values.copy()
    changed[30, 0, 0] = 1.0  # this cell has values at other times
    changed[47] = np.nan_to_num(values[47], nan=filled)
    write(tmp_path / "s.zarr", changed)
    report = repository.update(compare=-1)
    assert (report.revised, report.suspect_chunks) == (2, 4)
    np.testing.assert_array_equal(served(repository, 47), values[47])
    np.testing.assert_array_equal(served(repository, 30), changed[30])


def test_a_source_that_is_being_written_anew_is_no_other_source(tmp_path: Path) -> None:
    """Its arrays are gone for a moment: that is no reason to begin a new era."""
    values = months()
    repository = kept(tmp_path, values)
    xr.Dataset().to_zarr(tmp_path / "s.zarr", mode="w", zarr_format=2)
    with pytest.raises(Unavailable, match="no variables at all"):
        repository.update()
    write(tmp_path / "s.zarr", values)
    assert repository.update(compare=-1).revised == 0
