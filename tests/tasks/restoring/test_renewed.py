"""What is kept of a suspect capture is renewed when the next intact one tells more of it."""

from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from gnomon.storage.errors import Conflict
from gnomon.storage.log.records import Record
from gnomon.storage.log.steps import Patches
from gnomon.tasks.restoring import points as restore_points
from gnomon.tasks.restoring.composite import composite
from gnomon.tasks.restoring.heal import Healed, heal
from gnomon.tasks.restoring.keeping import commit_patches, estimate, find_damage
from gnomon.tasks.work import serial
from tests import sources
from tests.cases import DAMAGED, HISTORY, Case
from tests.storage.building import WHEN, reopened

NEXT = "2001-01-25"
AFTER = "2001-01-26"
HEALED = [f"{NEXT}T00:00:00"]
SIDES = (HISTORY - 1, HISTORY + 1)
CHUNK: dict[str, Any] = {"lat": slice(0, 4), "lon": slice(4, 8)}


def kept(case: Case) -> Patches | None:
    return reopened(case.place).state.patches.get(HISTORY)


def sides(case: Case) -> tuple[int, int] | None:
    patches = kept(case)
    assert patches is not None
    return patches.between


def served(case: Case) -> list[bytes]:
    state = case.open().dataset(NEXT, accept_predicted=True, decode=False).load()
    return [sources.bits(state[name].values) for name in sorted(map(str, state.data_vars))]


@pytest.fixture(scope="module")
def _renewed(_damaged: Case, tmp_path_factory: pytest.TempPathFactory) -> Case:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("renewed")
        patch.chdir(folder)
        case = _damaged.copy(folder)
        case.arrive(HISTORY + 1, HISTORY + 2)
        assert list(case.open().update().healed) == HEALED
        return case


@pytest.fixture
def renewed(
    _renewed: Case, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Case:
    """Return a copy of a repository with a suspect capture and the intact one after it."""
    folder = tmp_path_factory.mktemp("copy")
    monkeypatch.chdir(folder)
    return _renewed.copy(folder)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the variables that are estimated while somebody reads."""
    names: list[str] = []

    def counting(*arguments: object, **options: object) -> Healed:
        names.append(str(arguments[4]))
        return composite(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(restore_points, "composite", counting)
    return names


def test_the_next_intact_capture_renews_them_once(renewed: Case) -> None:
    """The record says from what they were made; later captures change nothing."""
    assert sides(renewed) == SIDES
    patches, before = kept(renewed), served(renewed)
    renewed.arrive(HISTORY + 2, HISTORY + 4)
    assert renewed.open().update().healed == {}
    assert kept(renewed) == patches
    assert served(renewed) == before


def test_a_record_of_an_older_program_is_read_and_renewed(damaged: Case) -> None:
    """It has no such field, as one that was made before the next capture."""
    path = max((damaged.place / "log").iterdir())
    record = Record.from_json(path.read_bytes(), path.name)
    assert record.kind == "patch"
    assert "between" not in record.body
    before, old = served(damaged), kept(damaged)
    damaged.arrive(HISTORY + 1, HISTORY + 2)
    assert list(damaged.open().update().healed) == HEALED
    assert old is not None
    assert old.between is None
    assert sides(damaged) == SIDES
    assert served(damaged) != before
    damaged.open().prune(grace=timedelta(0))
    assert not any(p.is_file() for p in (damaged.place / "patches" / old.id).rglob("*"))
    assert damaged.open().check(read_data=True).problems == ()


def test_every_way_to_read_gives_what_is_kept(renewed: Case, computed: list[str]) -> None:
    """Bit for bit what would be computed, with its figures and marks; nothing is computed."""
    repository = renewed.open()
    stored = repository.stored
    shadow = next(s for s in stored.shadows if s.instants[0] == stored.captured[HISTORY].instant)
    anew = composite(stored, HISTORY, shadow, 1, "sst", [DAMAGED])
    healed = heal(stored, HISTORY, shadow, 1, "sst", [DAMAGED])
    assert anew.expected_error is not None
    assert healed.expected_error is not None
    assert anew.expected_error <= healed.expected_error
    patch = anew.patches[DAMAGED]
    state = repository.dataset(NEXT, accept_predicted=True).load().isel(time=0, **CHUNK)
    part = repository.dataset(
        NEXT, accept_predicted=True, region="lat=-35:-5,lon=20:35", decode=False
    )
    target = renewed.folder / "restored.zarr"
    done = repository.restore(NEXT, str(target), accept_predicted=True)
    rolled = repository.rollback(NEXT, accept_predicted=True)
    restored, live = (
        sources.raw(place).isel(time=k, **CHUNK)
        for place, k in ((target, 0), (renewed.source, HISTORY))
    )
    assert (patch.values != healed.patches[DAMAGED].values).any()  # both had a part in it
    for name, expected in (
        ("sst", patch.values.astype("f4")),
        ("sst_standard_error", patch.standard_error.astype("f4")),
        ("sst_provenance", patch.provenance),
    ):
        for shown in (state, restored):
            np.testing.assert_array_equal(shown[name].values.astype(expected.dtype), expected)
    np.testing.assert_array_equal(live.sst.values, patch.values.astype("f4"))
    np.testing.assert_array_equal(part.sst.values[0], state.sst.values[: part.sizes["lat"]])
    (point,) = (p for p in repository.points(NEXT) if p.kind == "healed")
    for told in (point, repository.explain(NEXT), done.point):
        assert (told.expected_error["sst"], told.confidence) == (
            anew.expected_error,
            anew.confidence,
        )
    assert rolled.sequence is not None
    assert computed == []


def test_of_several_chunks_the_wanted_ones_are_served_as_they_are_kept(
    renewed: Case, computed: list[str]
) -> None:
    repository = renewed.open()
    repository.judge(NEXT, accept=False)
    assert list(repository.update().healed) == HEALED
    whole = repository.dataset(NEXT, accept_predicted=True, variable="sst").load()
    chunk = repository.dataset(NEXT, accept_predicted=True, variable="sst", chunk="0,1").load()
    for name in ("sst", "sst_standard_error", "sst_provenance"):
        part = whole[name].isel(CHUNK).values
        assert sources.bits(part) == sources.bits(chunk[name].values)
    assert computed == []


@pytest.mark.parametrize("judged", [AFTER, "2001-01-24"])
def test_a_verdict_on_a_capture_beside_drops_them(renewed: Case, judged: str) -> None:
    """Nothing that it told is served; they are kept again without it, and renewed once more."""
    renewed.open().judge(judged, accept=False)
    assert kept(renewed) is None
    report = renewed.open().update()
    assert f"{NEXT}T00:00:00" in report.healed
    if judged != AFTER:
        assert sides(renewed) == (HISTORY - 2, HISTORY + 1)
        return
    assert sides(renewed) is None
    renewed.arrive(HISTORY + 2, HISTORY + 3)
    assert f"{NEXT}T00:00:00" in renewed.open().update().healed
    assert sides(renewed) == (HISTORY - 1, HISTORY + 2)


def test_forgetting_the_capture_after_makes_them_stale(renewed: Case) -> None:
    """They are served until the next update; forgetting the one before changes nothing."""
    renewed.arrive(HISTORY + 2, HISTORY + 3)
    renewed.open().update()
    patches = kept(renewed)
    renewed.open().forget(captures=[HISTORY + 1])
    assert kept(renewed) == patches
    assert list(renewed.open().update().healed) == HEALED
    assert sides(renewed) == (HISTORY - 1, HISTORY + 2)
    patches = kept(renewed)
    renewed.open().forget(captures=[HISTORY - 1])
    assert renewed.open().update().healed == {}
    assert kept(renewed) == patches


def test_a_suspect_capture_after_does_not_renew_them(damaged: Case) -> None:
    data = damaged.data.copy(deep=True)
    data.sst.values[HISTORY + 1, 4:8, :4] += np.float32(20)
    sources.write(damaged.source, data, HISTORY + 1, HISTORY + 2)
    report = damaged.open().update()
    assert list(report.healed) == [f"{AFTER}T00:00:00"]
    damaged.arrive(HISTORY + 2, HISTORY + 3)
    report = damaged.open().update()
    assert sorted(report.healed) == [f"{day}T00:00:00" for day in (NEXT, AFTER)]
    assert sides(damaged) == (HISTORY - 1, HISTORY + 2)


def test_a_run_that_is_killed_leaves_the_old_ones(renewed: Case) -> None:
    """Until its record is there they are served; the next update makes them again."""
    renewed.arrive(HISTORY + 2, HISTORY + 3)
    renewed.open().update()
    renewed.open().forget(captures=[HISTORY + 1])
    before = served(renewed)
    stored = reopened(renewed.place)
    (damage,) = find_damage(stored)
    estimate(stored, damage, serial)
    assert served(renewed) == before
    renewed.open().prune(grace=timedelta(0))
    assert served(renewed) == before
    assert list(renewed.open().update().healed) == HEALED
    assert renewed.open().check(read_data=True).problems == ()


def test_forgetting_the_capture_after_meanwhile_makes_it_begin_again(renewed: Case) -> None:
    renewed.arrive(HISTORY + 2, HISTORY + 3)
    renewed.open().update()
    renewed.open().judge(NEXT, accept=False)
    stored = reopened(renewed.place)
    (damage,) = find_damage(stored)
    assert damage.between == SIDES
    patched = estimate(stored, damage, serial)
    renewed.open().forget(captures=[HISTORY + 1])
    with pytest.raises(Conflict):
        commit_patches(stored, patched, WHEN)
    assert kept(renewed) is None
