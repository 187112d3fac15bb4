"""A source that moved: the same data in another place."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gnomon.cli import app
from gnomon.repository import open_repository
from gnomon.storage.errors import Integrity, InvalidInput, NotFound
from gnomon.storage.log.conflicts import Work, concerns
from gnomon.storage.repository import Repository
from tests.storage.building import (
    WHEN,
    OtherBody,
    assert_identical,
    capture_new,
    history,
    make_repository,
    undecoded,
    weather,
    write_zarr,
)


def run(*arguments: str) -> None:
    app(list(arguments), standalone_mode=False)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A repository of three captures, whose source is gone."""
    source = write_zarr(weather(3), tmp_path / "old.zarr")
    capture_new(make_repository(tmp_path / "r", source))
    shutil.rmtree(source)
    return tmp_path / "r"


def test_a_source_that_moved_is_gone_on_with(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_zarr(weather(4), tmp_path / "new.zarr")
    run("source", str(place), "--json")
    assert json.loads(capsys.readouterr().out)["source"]["url"].endswith("old.zarr")
    run("source", str(place), "--set", str(tmp_path / "new.zarr"), "--json")
    told = json.loads(capsys.readouterr().out)
    assert told["source"]["url"] == str(tmp_path / "new.zarr")
    assert told["notes"] == []
    repository = Repository.open(str(place))
    assert len(repository.eras) == 1
    assert [r.kind for r in repository.records] == ["init", "capture", "source"]
    repository = capture_new(repository)
    assert_identical(history(repository), undecoded(tmp_path / "new.zarr"))
    # As it was before, the source is where it was.
    assert repository.at(1).settings.source.url.endswith("old.zarr")
    assert repository.at(2).settings.source.url.endswith("new.zarr")
    run("source", str(place))
    assert "new.zarr" in capsys.readouterr().out


def test_it_may_come_in_another_format_and_group(place: Path, tmp_path: Path) -> None:
    dataset = weather(4)
    dataset.to_netcdf(tmp_path / "new.nc", engine="h5netcdf", group="deep")
    opened = open_repository(str(place))
    with pytest.raises(NotFound, match="deep"):
        opened.move_source(str(tmp_path / "new.nc"))
    assert opened.move_source(str(tmp_path / "new.nc"), group="deep") == ()
    assert opened.source()["group"] == "deep"
    assert len(capture_new(Repository.open(str(place))).timeline) == 4


OTHERS: dict[str, Any] = {
    "other data": lambda d: d.assign(t=d["t"] + 1),
    "one variable less": lambda d: d.drop_vars("p"),
    "another grid": lambda d: d.assign_coords(y=d["y"] + 0.5),
    "fewer cells": lambda d: d.isel(x=slice(1, None)),
    "another type": lambda d: d.assign(t=d["t"].astype("f8")),
    "no times": lambda d: d.drop_vars("time"),
}


@pytest.mark.parametrize("what", OTHERS)
def test_another_dataset_is_refused(what: str, place: Path, tmp_path: Path) -> None:
    write_zarr(OTHERS[what](weather(4)), tmp_path / "new.zarr")
    with pytest.raises(InvalidInput, match=r"does not hold what was captured.*nothing was changed"):
        open_repository(str(place)).move_source(str(tmp_path / "new.zarr"))
    assert len(Repository.open(str(place)).records) == 2


@pytest.mark.parametrize("now", [np.ones((6, 10), "i1"), None])
def test_what_an_era_may_change_is_no_other_dataset(now: Any, tmp_path: Path) -> None:
    """A mask that has changed since init, or is gone, and was noted as such."""
    dataset = weather(3).assign(mask=(("y", "x"), np.zeros((6, 10), "i1")))
    source = write_zarr(dataset, tmp_path / "old.zarr")
    repository = capture_new(make_repository(tmp_path / "r", source))
    shutil.rmtree(source)
    write_zarr(weather(4) if now is None else weather(4).assign(mask=(("y", "x"), now)), source)
    capture_new(repository)
    shutil.move(source, tmp_path / "new.zarr")
    assert open_repository(str(tmp_path / "r")).move_source(str(tmp_path / "new.zarr")) == ()


def test_what_cannot_be_verified_is_noted(place: Path, tmp_path: Path) -> None:
    opened = open_repository(str(place))
    later = write_zarr(weather(2, first=7), tmp_path / "later.zarr")
    (note,) = opened.move_source(str(later))
    assert "no captured time" in note
    changed = weather(3)
    changed["t"].values[-1] += 1
    (note,) = opened.move_source(str(write_zarr(changed, tmp_path / "changed.zarr")))
    assert "2000-01-01T02" in note
    assert "--compare -1" in note


def test_a_state_source_moves_with_a_note(tmp_path: Path) -> None:
    source = write_zarr(weather(1).isel(time=0), tmp_path / "a.zarr")
    capture_new(make_repository(tmp_path / "r", source), now=0)
    shutil.move(source, tmp_path / "b.zarr")
    (note,) = open_repository(str(tmp_path / "r")).move_source(str(tmp_path / "b.zarr"))
    assert "state" in note


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (["--set", "none.zarr"], NotFound, "does not exist"),
        (["--set", "s3://KEY:SECRET@bucket/x"], InvalidInput, "holds"),
        (["--group", "a"], InvalidInput, "--set"),
        (["--set", "."], InvalidInput, "inside the source"),
    ],
)
def test_requests_that_are_refused(
    arguments: list[str],
    error: Any,
    text: str,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(place.parent)
    with pytest.raises(error, match=text):
        run("source", str(place), *arguments)
    assert len(Repository.open(str(place)).records) == 2


def test_the_same_place_is_no_move(tmp_path: Path) -> None:
    source = write_zarr(weather(2), tmp_path / "a.zarr")
    make_repository(tmp_path / "r", source)
    with pytest.raises(InvalidInput, match="already"):
        open_repository(str(tmp_path / "r")).move_source(str(source))


def test_a_record_that_moves_the_time_axis_is_refused(place: Path) -> None:
    repository = Repository.open(str(place))
    spec = repository.settings.to_json()["source"]
    for change in ({"time": "x"}, {"kind": "state", "time": None}, {"url": 3}):
        with pytest.raises((InvalidInput, Integrity)):
            repository.commit(OtherBody("source", {"source": spec | change}), WHEN)
    assert len(Repository.open(str(place)).records) == 2


def test_a_capture_on_the_way_is_made_again_elsewhere(place: Path, tmp_path: Path) -> None:
    write_zarr(weather(4), tmp_path / "new.zarr")
    open_repository(str(place)).move_source(str(tmp_path / "new.zarr"))
    record = Repository.open(str(place)).records[-1]
    nothing: frozenset[int] = frozenset()
    assert concerns(record, Work("capture", 1, 0, "x", nothing, nothing))
    assert not concerns(record, Work("shadow", 1, 0, "x", nothing, nothing))
