"""Going on with a source that has changed: what was captured before stays, on its own grid."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import gnomon
from gnomon.repository import GnomonRepository
from gnomon.storage.care.check import check
from gnomon.storage.care.forget import forget, tag
from gnomon.storage.care.prune import prune
from gnomon.storage.care.repair import repair
from gnomon.storage.changes.era import begin_era
from gnomon.storage.errors import Conflict, InvalidInput, NotFound
from gnomon.storage.repository import Repository
from tests.storage.building import (
    WHEN,
    add_shadow,
    assert_identical,
    capture_new,
    captured,
    files_of,
    history,
    reopened,
    undecoded,
    weather,
    write_zarr,
)


def grown(dataset: xr.Dataset) -> xr.Dataset:
    """Two more rows in the north."""
    more = dataset.isel(y=slice(0, 2)).assign_coords(y=dataset["y"].variable[:2] + 6)
    return xr.concat([dataset, more], "y", data_vars="minimal", coords="minimal").assign_coords(
        y=("y", np.arange(8.0), dataset["y"].attrs)
    )


def sharpened(dataset: xr.Dataset) -> xr.Dataset:
    """The type is another."""
    return dataset.assign(t=dataset["t"].astype(np.float64).assign_attrs(dataset["t"].attrs))


def moved(dataset: xr.Dataset) -> xr.Dataset:
    return dataset.assign_coords(x=("x", np.arange(10.0) + 0.5, dataset["x"].attrs))


def turned(dataset: xr.Dataset) -> xr.Dataset:
    return dataset.assign(t=dataset["t"].transpose("time", "x", "y"))


def reduced(dataset: xr.Dataset) -> xr.Dataset:
    return dataset.drop_vars("wet")


CHANGES = [grown, sharpened, moved, turned, reduced]
Change = Callable[[xr.Dataset], xr.Dataset]


def begin(tmp_path: Path, change: Change) -> tuple[Repository, xr.Dataset, xr.Dataset]:
    """Capture four hours, let the source hold two later ones changed, and begin an era.

    Returns the repository, and what the source held before and after.
    """
    source = write_zarr(weather(4), tmp_path / "source.zarr")
    made = captured(tmp_path / "r", source, chunks={"y": 3, "x": 5})
    before = undecoded(source)
    write_zarr(change(weather(2, first=4)), source, mode="w")
    with pytest.raises(InvalidInput, match="gnomon update --new-era"):
        capture_new(made)
    assert reopened(tmp_path / "r").records == made.records
    made = capture_new(begin_era(made, WHEN))
    return made, before, undecoded(source)


@pytest.mark.parametrize("change", CHANGES)
def test_both_eras_give_what_their_source_held(tmp_path: Path, change: Change) -> None:
    made, before, after = begin(tmp_path, change)
    assert [r.kind for r in made.records] == ["init", "capture", "era", "capture"]
    for repository in (made, reopened(tmp_path / "r")):
        assert len(repository.eras) == 2
        assert repository.era == 1
        assert [s.step for s in repository.captured] == [0, 1]
        assert [s.step for s in repository.in_era(0).captured] == [0, 1, 2, 3]
        assert_identical(history(repository), after)
        assert_identical(history(repository.in_era(0)), before)
        report = check(repository, read_data=True)
        assert report.problems == ()
        sizes = [sum(v.grid.size for v in s.settings.variables) for s in repository.eras]
        assert report.chunks == 4 * sizes[0] + 2 * sizes[1]


@pytest.mark.parametrize("change", [grown, sharpened])
def test_both_eras_are_restored_through_the_door(tmp_path: Path, change: Change) -> None:
    _, before, after = begin(tmp_path, change)
    opened = gnomon.open(str(tmp_path / "r"))
    for hour, (era, source) in enumerate([(0, before)] * 4 + [(1, after)] * 2):
        at = f"2000-01-01T{hour:02d}"
        points = opened.points(at)
        assert [(p.kind, p.era, p.step) for p in points if p.kind == "captured"] == [
            ("captured", era, hour % 4)
        ]
        found = opened.dataset(at, plain=True, decode=False).load()
        assert_identical(found, source.isel(time=slice(hour % 4, hour % 4 + 1)))
    with pytest.raises(NotFound):
        opened.points("2000-01-01T09")


def test_a_restored_file_of_an_older_era_is_what_the_source_held(tmp_path: Path) -> None:
    _, before, _ = begin(tmp_path, grown)
    target = tmp_path / "restored.zarr"
    gnomon.open(str(tmp_path / "r")).restore("2000-01-01T02", str(target), plain=True)
    assert_identical(undecoded(target), before.isel(time=slice(2, 3)))


def test_a_time_of_both_eras_is_of_the_newer(tmp_path: Path) -> None:
    source = write_zarr(weather(4), tmp_path / "source.zarr")
    made = captured(tmp_path / "r", source)
    write_zarr(grown(weather(3, first=2)), source, mode="w")
    made = capture_new(begin_era(made, WHEN))
    assert len(made.captured) == 3  # those of both eras too
    opened = gnomon.open(str(tmp_path / "r"))
    assert {p.era for p in opened.points("2000-01-01T01")} == {0}
    assert {p.era for p in opened.points("2000-01-01T03")} == {1}
    assert opened.dataset("2000-01-01T03", plain=True).sizes["y"] == 8


def test_an_update_begins_an_era_when_it_is_asked_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = write_zarr(weather(3), tmp_path / "source.zarr")
    made: GnomonRepository = gnomon.create(str(tmp_path / "r"), str(source))
    made.update()
    write_zarr(grown(weather(2, first=3)), source, mode="w")
    with pytest.raises(InvalidInput, match="--new-era"):
        made.update()
    made.update(new_era=True)
    assert [len(e.captured) for e in made.stored.eras] == [3, 2]
    with pytest.raises(InvalidInput, match="no new era is needed"):
        made.update(new_era=True)


def test_without_a_change_no_era_begins(tmp_path: Path) -> None:
    source = write_zarr(weather(2), tmp_path / "source.zarr")
    made = captured(tmp_path / "r", source)
    write_zarr(weather(3), source, mode="w")  # only a new time
    with pytest.raises(InvalidInput, match="no new era is needed"):
        begin_era(made, WHEN)
    assert reopened(tmp_path / "r").records == made.records
    assert len(capture_new(made).captured) == 3


def test_a_new_variable_is_captured_from_a_new_era_on(tmp_path: Path) -> None:
    source = write_zarr(weather(2).drop_vars("p"), tmp_path / "source.zarr")
    made = captured(tmp_path / "r", source)
    write_zarr(weather(3), source, mode="w")
    made = capture_new(made)
    assert {v.name for v in made.settings.variables} == {"t", "wet"}
    made = capture_new(begin_era(made, WHEN))
    assert_identical(history(made), undecoded(source))


def test_of_two_writers_one_begins_the_era(tmp_path: Path) -> None:
    source = write_zarr(weather(2), tmp_path / "source.zarr")
    made = captured(tmp_path / "r", source)
    write_zarr(grown(weather(2, first=2)), source, mode="w")
    first = begin_era(made, WHEN)
    with pytest.raises(Conflict):
        begin_era(made, WHEN)
    assert reopened(tmp_path / "r").records == first.records
    found = check(first, read_data=True)
    assert found.problems == ()
    assert found.unreferenced > 0  # what the second put before it was told
    pruned, _ = prune(first, committed_at=WHEN)
    found = check(pruned, read_data=True)
    assert (found.problems, found.unreferenced) == ((), 0)
    assert len([*(tmp_path / "r" / "frame").iterdir()]) == 2


def test_an_era_leaves_the_frame_of_the_one_before(tmp_path: Path) -> None:
    made, _, _ = begin(tmp_path, grown)
    assert made.frame.sizes["y"] == 8
    assert made.in_era(0).frame.sizes["y"] == 6
    for era in range(2):
        settings = made.eras[era].settings
        assert settings.variable("t").chunks == (3, 5)
        assert (tmp_path / "r" / settings.frame).is_dir()
    assert made.settings.source == made.eras[0].settings.source
    assert made.settings.attributes == made.eras[0].settings.attributes


def test_a_third_era_may_follow(tmp_path: Path) -> None:
    made, before, middle = begin(tmp_path, grown)
    source = tmp_path / "source.zarr"
    write_zarr(weather(1, first=6), source, mode="w")
    made = capture_new(begin_era(made, WHEN))
    assert [len(e.captured) for e in made.eras] == [4, 2, 1]
    for era, held in enumerate((before, middle, undecoded(source))):
        assert_identical(history(made.in_era(era)), held)
    assert check(reopened(tmp_path / "r"), read_data=True).problems == ()


def test_shadows_and_state_are_those_of_an_era(tmp_path: Path) -> None:
    source = write_zarr(weather(3), tmp_path / "source.zarr")
    made = add_shadow(captured(tmp_path / "r", source, chunks={"y": 3, "x": 5}))
    write_zarr(grown(weather(2, first=3)), source, mode="w")
    made = begin_era(made, WHEN)
    assert (made.shadows, made.forecaster) == ((), None)
    with pytest.raises(NotFound, match="no forecaster state"):
        made.forecaster_state("t")
    made = add_shadow(capture_new(made))
    again = reopened(tmp_path / "r")
    assert [len(e.shadows) for e in again.eras] == [1, 1]
    assert again.forecaster_state("t").chunk((2, 0))[0].shape == (2, 10)
    older = again.in_era(0)
    assert older.shadow("t", older.shadows[0]).chunk(1, (1, 1))[0].shape == (3, 5)
    assert check(again, read_data=True).problems == ()


def test_an_older_era_is_still_looked_after(tmp_path: Path) -> None:
    """Forget, tag, prune and repair concern it by its own numbers, as the present one."""
    made, before, after = begin(tmp_path, grown)
    older, done = forget(made.in_era(0), captures=[0, 1], committed_at=WHEN)
    assert done.steps == (0, 1)
    assert older.era == 0
    older = tag(older, [3], add=["x"], committed_at=WHEN)
    made = reopened(tmp_path / "r")
    assert [s.forgotten for s in made.captured] == [False, False]
    assert [s.step for s in made.in_era(0).timeline] == [2, 3]
    assert made.in_era(0).captured[3].tags == ("x",)
    count = len(files_of(tmp_path / "r"))
    made, pruned = prune(made, committed_at=WHEN)
    assert pruned.objects > 0
    assert len(files_of(tmp_path / "r")) < count + 20
    assert made.era == 1
    assert check(reopened(tmp_path / "r"), read_data=True).problems == ()
    assert_identical(history(made), after)
    assert_identical(history(made.in_era(0)), before.isel(time=slice(2, 4)))


def test_damage_in_either_era_is_named_and_mended(tmp_path: Path) -> None:
    made, before, after = begin(tmp_path, grown)
    names = [made.in_era(era).captures("t").file(1, (1, 1)) for era in range(2)]
    frames = [str(made.eras[era].settings.frame_entries["y"]["file"]) for era in range(2)]
    for name in (*names, *frames):
        (tmp_path / "r" / name).write_bytes(b"x")
    made = reopened(tmp_path / "r")
    assert sorted(p.file for p in check(made, read_data=True).problems) == sorted(names + frames)
    done = repair(made, committed_at=WHEN)
    assert set(done.mended) == {names[1], frames[1]}  # the source holds the new era only
    assert set(done.left) == {names[0], frames[0]}
    assert_identical(history(reopened(tmp_path / "r")), after)
    write_zarr(before, tmp_path / "source.zarr", mode="w")
    assert set(repair(reopened(tmp_path / "r"), committed_at=WHEN).mended) == {names[0], frames[0]}
    assert_identical(history(reopened(tmp_path / "r").in_era(0)), before)


@pytest.mark.parametrize("sequence", [1, 2, 3])
def test_a_repository_is_seen_in_the_era_of_its_time(tmp_path: Path, sequence: int) -> None:
    made, before, after = begin(tmp_path, grown)
    seen = made.at(sequence)
    assert (len(seen.eras), seen.era) == ((1, 0) if sequence < 2 else (2, 1))
    assert len(seen.captured) == {1: 4, 2: 0, 3: 2}[sequence]
    if sequence != 2:
        assert_identical(history(seen), before if sequence == 1 else after)


def test_a_state_source_may_change_too(tmp_path: Path) -> None:
    def now(rows: int) -> xr.Dataset:
        values = np.arange(rows * 4.0).reshape(rows, 4)
        return xr.Dataset({"t": (("y", "x"), values)}, coords={"y": ("y", np.arange(float(rows)))})

    source = write_zarr(now(3), tmp_path / "source.zarr")
    made = captured_state(tmp_path / "r", source, 1)
    write_zarr(now(5), source, mode="w")
    with pytest.raises(InvalidInput, match="--new-era"):
        capture_new(made, now=2)
    made = capture_new(begin_era(made, WHEN), now=2)
    assert [e.captured[0].instant for e in made.eras] == [1, 2]
    assert made.captures("t").chunk(0, (0, 0)).shape == (5, 4)
    assert made.in_era(0).captures("t").chunk(0, (0, 0)).shape == (3, 4)
    assert check(reopened(tmp_path / "r"), read_data=True).problems == ()


def captured_state(url: Path, source: Path, now: int) -> Repository:
    from tests.storage.building import make_repository

    return capture_new(make_repository(url, source, kind="state"), now=now)
