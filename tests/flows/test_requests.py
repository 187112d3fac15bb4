"""How often a run asks an object store: users pay for each request, and wait for it."""

from collections import Counter
from pathlib import Path

import pytest
import xarray as xr

import gnomon
from gnomon.flows import steps
from gnomon.flows.settings import Settings
from gnomon.inspecting import inspect
from gnomon.repository import GnomonRepository
from gnomon.storage.care.check import check
from gnomon.storage.errors import GnomonError
from gnomon.storage.log.bodies.choices import TagBody
from gnomon.storage.log.location import Location
from gnomon.storage.log.records import COPIES, record_name
from gnomon.storage.repository import _OPENED, Repository
from gnomon.tasks.restoring.points import points
from gnomon.updating import open_to_update
from tests import sources
from tests.requests import counted, forget_all

HISTORY = 20
ROLLING = Settings(refit_share=0.0)
"""Updates that refit only when it is due."""
WHEN = "2026-01-01T00:00:00+00:00"

DATA = sources.temperature(HISTORY + 3)[["sst"]]


SEVERAL = DATA.assign(second=DATA["sst"] + 1, third=DATA["sst"] - 1)
"""Of three variables."""


def made(folder: Path, data: xr.Dataset = DATA) -> GnomonRepository:
    """Return a repository in memory with a forecast, of a source in a folder."""
    sources.write(folder / "s.zarr", data, 0, HISTORY)
    url = f"memory://{folder}"
    repository = gnomon.create(url, str(folder / "s.zarr"), chunks={"lat": 4, "lon": 4})
    repository.update(settings=ROLLING)
    return repository


def grow(folder: Path, step: int) -> None:
    sources.write(folder / "s.zarr", DATA, step, step + 1)


def updated(url: str) -> Counter[str]:
    """Return what an update asks that knows nothing when it begins."""
    forget_all()
    with counted() as counts:
        report = open_to_update(url).update(settings=ROLLING)
    assert not report.repeated
    return counts


def test_a_run_asks_seldom(tmp_path: Path) -> None:
    url = made(tmp_path).path
    for step in (HISTORY, HISTORY + 1):
        grow(tmp_path, step)
        one = updated(url)
    assert one.total() <= 59
    assert one["put"] <= 37  # leads that go later are four objects of their own
    assert updated(url).total() <= 11  # nothing is new


def test_a_look_asks_seldom(tmp_path: Path) -> None:
    url = made(tmp_path).path
    last = inspect(url).status()["last"]
    forget_all()
    with counted() as counts:
        inspect(url).status()
    assert counts.total() <= 5
    forget_all()
    with counted() as counts:
        assert gnomon.open(url).points(last)
    assert counts.total() <= 5


def test_a_restore_of_several_variables_asks_for_more_chunks_only(tmp_path: Path) -> None:
    asked = []
    for name, data in (("one", DATA), ("several", SEVERAL)):
        url = made(tmp_path / name, data).path
        last = inspect(url).status()["last"]
        forget_all()
        with counted() as counts:
            gnomon.open(url).restore(last, tmp_path / name / "restored.zarr")
        asked.append(counts.total() - counts["get_range"])
    assert asked[0] == asked[1] <= 6


def test_a_run_reads_nothing_that_it_has_written(tmp_path: Path) -> None:
    sources.write(tmp_path / "s.zarr", SEVERAL, 0, HISTORY)
    url = f"memory://{tmp_path}"
    gnomon.create(url, str(tmp_path / "s.zarr"), chunks={"lat": 4, "lon": 4})
    forget_all()
    with counted() as counts:
        assert len(open_to_update(url).update().captured) == HISTORY
    assert counts["get_range"] == 1  # a summary, had there been a run before


def test_a_refit_reads_each_shard_once(tmp_path: Path) -> None:
    url = made(tmp_path).path
    forget_all()
    with counted() as counts:
        open_to_update(url).update(refit=True)
    assert counts["get_range"] <= HISTORY + 2


def test_many_commits_ask_no_more_than_few(tmp_path: Path) -> None:
    url = made(tmp_path).path
    grow(tmp_path, HISTORY)
    few = updated(url)
    repository = Repository.open(url)
    for name in "abcdefghijklm":
        repository = repository.commit(TagBody((0,), (name,), ()), WHEN)
    grow(tmp_path, HISTORY + 1)
    updated(url)
    grow(tmp_path, HISTORY + 2)
    # Two old states are removed, and leads of an old shadow.
    assert updated(url).total() <= few.total() + 5


def test_a_commit_of_another_process_during_a_run_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = made(tmp_path)
    grow(tmp_path, HISTORY)
    capture = steps.capture
    elsewhere: list[Repository] = []

    def and_meanwhile(*arguments: object, **options: object) -> object:
        captured = capture(*arguments, **options)  # type: ignore[arg-type]
        if not elsewhere:
            known = _OPENED[repository.path]
            elsewhere.append(known.commit(TagBody((0,), ("kept",), ()), WHEN))
            _OPENED[repository.path] = known  # this process does not know of it
        return captured

    monkeypatch.setattr(steps, "capture", and_meanwhile)
    monkeypatch.setattr(steps, "ON_CHUNKS", {*steps.ON_CHUNKS, and_meanwhile})
    report = repository.update(settings=ROLLING)
    assert len(report.captured) == 1
    forget_all()
    newest = Repository.open(repository.path)
    assert len(newest.timeline) == HISTORY + 1
    assert newest.captured[0].tags == ("kept",)
    assert newest.shadows[-1].step == HISTORY
    assert not check(newest, read_data=True).problems


def test_a_run_finds_what_another_process_has_committed_before(tmp_path: Path) -> None:
    repository = made(tmp_path)
    known = _OPENED[repository.path]
    grow(tmp_path, HISTORY)
    repository.update(settings=ROLLING)
    _OPENED[repository.path] = known
    report = open_to_update(repository.path).update(settings=ROLLING)
    assert not report.captured
    assert report.message == "nothing new in the source"


def test_a_run_does_not_commit_to_another_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was put in its place while it captured, and has fewer commits."""
    repository = made(tmp_path)
    grow(tmp_path, HISTORY)
    capture, location = steps.capture, Location(repository.path)

    def and_meanwhile(*arguments: object, **options: object) -> object:
        captured = capture(*arguments, **options)  # type: ignore[arg-type]
        newest = record_name(_OPENED[repository.path].records[-1].sequence)
        location.delete([newest, COPIES + newest])
        return captured

    monkeypatch.setattr(steps, "capture", and_meanwhile)
    monkeypatch.setattr(steps, "ON_CHUNKS", {*steps.ON_CHUNKS, and_meanwhile})
    names = set(location.list("log/"))
    with pytest.raises(GnomonError, match="missing"):
        repository.update(settings=ROLLING)
    assert set(location.list("log/")) < names


def test_a_check_reads_what_is_stored(tmp_path: Path) -> None:
    repository = made(tmp_path)
    location = Location(repository.path)
    table = next(n for n in location.list("forecaster/") if "/shared/c/" in n)
    repository.status()
    location.replace(table, location.read(table)[::-1])
    assert any(table.startswith(p.file) for p in check(repository.stored).problems)


def test_what_is_to_be_verified_is_read(tmp_path: Path) -> None:
    repository = made(tmp_path)
    location = Location(repository.path)
    table = next(n for n in location.list("shadows/") if "/score/c/" in n)
    time = repository.stored.shadows[-1].instants[0]
    location.replace(table, location.read(table)[::-1])
    assert {p.integrity for p in points(repository.stored, time)} == {"not read"}
    assert any("score" in p.integrity for p in points(repository.stored, time, verify=True))


@pytest.mark.parametrize("part", ["residual/c/", "index/c/"])
def test_what_was_mended_elsewhere_is_read(tmp_path: Path, part: str) -> None:
    repository = made(tmp_path)
    location = Location(repository.path)
    name = next(n for n in location.list("captures/") if part in n)
    data = location.read(name)
    first = str(repository.captures()[0]["valid_time"])
    whole = gnomon.open(repository.path).dataset(first).load()
    forget_all()
    location.delete(["checkpoints/summary.jsonl.gz"])
    location.replace(name, data[::-1])
    if part.startswith("residual"):
        with pytest.raises(GnomonError, match="repair"):
            gnomon.open(repository.path).dataset(first).load()
    location.replace(name, data)
    assert gnomon.open(repository.path).dataset(first).load().identical(whole)
