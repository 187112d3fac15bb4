"""Statistics: every stored byte is counted once, and every chunk."""

from pathlib import Path

import numpy as np
import pytest

from gnomon.storage.care.forget import forget
from gnomon.storage.care.prune import prune
from gnomon.storage.care.stats import VariableStats, stats
from gnomon.storage.changes.era import begin_era
from gnomon.storage.repository import Repository
from gnomon.tasks.capturing.capture import capture
from gnomon.tasks.capturing.plan import plan_capture
from gnomon.tasks.work import serial
from tests import sources
from tests.storage.building import (
    WHEN,
    add_shadow,
    capture_new,
    captured,
    files_of,
    make_repository,
    reopened,
    write_zarr,
)
from tests.storage.care.test_prune import river

STEPS = 12


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """Twelve hours: half of the levels change every fourth, the labels every third."""
    monkeypatch.chdir(tmp_path)
    write_zarr(river(STEPS), tmp_path / "s.zarr")
    return captured(tmp_path / "r", "s.zarr", chunks={"x": 16})


def variable(repository: Repository, name: str) -> VariableStats:
    (found,) = (v for v in stats(repository).variables if v.name == name)
    return found


def sizes(folder: Path) -> dict[str, int]:
    return {str(p.relative_to(folder)): p.stat().st_size for p in files_of(folder)}


def assert_adds_up(repository: Repository, folder: Path) -> None:
    """Demand what a person would count on the disk."""
    there = sizes(folder)
    found = stats(repository)
    assert sum(found.parts.values()) == sum(there.values())
    assert found.objects == len(there)
    assert found.to_json()["nbytes"] == sum(there.values())
    residual = {n: s for n, s in there.items() if "/residual/" in n}
    dead = found.parts["unreferenced"]
    assert sum(v.nbytes for v in found.variables) <= sum(residual.values())
    assert found.parts["captures"] <= sum(residual.values()) <= found.parts["captures"] + dead


def test_bytes_add_up_to_the_files(made: Repository, tmp_path: Path) -> None:
    assert_adds_up(made, tmp_path / "r")
    found = stats(made)
    assert (found.captures, found.forgotten, found.shadows) == (STEPS, 0, 0)
    assert {part for part, n in found.parts.items() if n == 0} == {
        "frame",  # there is nothing that does not change
        "patches",
        "replaced",
        "shadows",
        "state",
        "unreferenced",
    }
    cells = {n: s for n, s in sizes(tmp_path / "r").items() if "/v-level/residual/c/" in n}
    assert variable(made, "level").nbytes == sum(cells.values())
    text = {n: s for n, s in sizes(tmp_path / "r").items() if "/v-label/residual/c/" in n}
    assert variable(made, "label").nbytes == sum(text.values())


def test_chunks_are_counted_by_how_they_are_stored(made: Repository) -> None:
    level, label = variable(made, "level"), variable(made, "label")
    # Of two chunks one changes at each hour, the other at three: 0, 4 and 8.
    assert (level.chunks, level.unchanged) == (24, 9)
    assert (level.keys, level.deltas) == (3, 12)  # a chain ends at its limit
    assert (label.chunks, label.unchanged, label.keys, label.deltas) == (12, 8, 4, 0)
    assert level.raw_nbytes == STEPS * 6 * 32 * 4
    assert level.bits_per_value == pytest.approx(8 * level.nbytes / (STEPS * 6 * 32))
    assert level.delta_share is not None
    assert 0 < level.delta_share < 0.6
    assert label.delta_share is None


def test_everything_has_its_part(made: Repository, tmp_path: Path) -> None:
    made = add_shadow(made)
    (tmp_path / "r" / "notes.txt").write_text("mine")
    assert_adds_up(made, tmp_path / "r")
    parts = stats(made).parts
    assert stats(made).shadows == 1
    assert all(parts[part] > 0 for part in ("shadows", "state", "ledger", "log", "index"))


def test_an_empty_repository(tmp_path: Path) -> None:
    source = write_zarr(river(2), tmp_path / "s.zarr")
    made = make_repository(tmp_path / "r", source)
    assert_adds_up(made, tmp_path / "r")
    found = stats(made)
    assert (found.captures, found.parts["captures"]) == (0, 0)
    assert [(v.chunks, v.bits_per_value, v.delta_share) for v in found.variables] == [
        (0, 0.0, None)
    ] * 2


def test_a_run_that_has_not_committed_is_told_apart(made: Repository, tmp_path: Path) -> None:
    before = stats(made)
    sources.overwrite("s.zarr", river(STEPS + 2))
    plan = plan_capture(made)
    assert plan is not None
    capture(made, plan, serial)
    assert_adds_up(made, tmp_path / "r")
    found = stats(made)
    dead = sum(n for name, n in sizes(tmp_path / "r").items() if plan.id in name)
    assert found.parts == before.parts | {"unreferenced": dead}
    assert found.variables == before.variables


def test_what_is_forgotten_counts_until_it_is_pruned(made: Repository, tmp_path: Path) -> None:
    before = stats(made).parts
    made, _ = forget(made, captures=[0, 1, 2, 3], committed_at=WHEN)
    assert_adds_up(made, tmp_path / "r")
    found = stats(made)
    assert (found.captures, found.forgotten) == (STEPS - 4, 4)
    assert {**found.parts, "log": 0} == {**before, "log": 0}
    assert variable(made, "level").chunks == 16
    made, done = prune(made, committed_at=WHEN)
    assert done.rewritten
    assert_adds_up(made, tmp_path / "r")
    assert_adds_up(reopened(tmp_path / "r"), tmp_path / "r")
    level = variable(made, "level")
    assert (level.chunks, level.keys, level.unchanged) == (16, 3, 6)


def test_every_era_takes_its_bytes(made: Repository, tmp_path: Path) -> None:
    sources.overwrite("s.zarr", river(STEPS).isel(x=slice(24)))
    first = {v.name: v.nbytes for v in stats(made).variables}
    made = capture_new(begin_era(made, WHEN))
    assert_adds_up(made, tmp_path / "r")
    assert variable(made, "level").chunks == STEPS * 2
    assert {v.name: v.nbytes for v in stats(made.in_era(0)).variables} == first


def test_damage_does_not_stop_them(made: Repository, tmp_path: Path) -> None:
    for path in files_of(tmp_path / "r" / "captures"):
        if "/residual/c/" in str(path):
            path.write_bytes(b"rubbish")
    found = stats(reopened(tmp_path / "r"))
    assert np.isfinite(found.variables[0].bits_per_value)
    assert {v.delta_share for v in found.variables} == {None}
