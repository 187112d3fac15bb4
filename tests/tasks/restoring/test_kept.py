"""What is suspect is estimated once, and served as it was computed, for as long as it holds."""

import os
from datetime import timedelta
from pathlib import Path

import pytest

from gnomon.flows import steps
from gnomon.repository import GnomonRepository
from gnomon.storage.errors import Conflict
from gnomon.storage.log.records import Record
from gnomon.storage.log.steps import Patches
from gnomon.storage.serve.planes import EstimatedChunk
from gnomon.tasks.restoring import points as restore_points
from gnomon.tasks.restoring.composite import composite
from gnomon.tasks.restoring.heal import Healed, heal
from gnomon.tasks.restoring.keeping import commit_patches, estimate, find_damage
from gnomon.tasks.work import serial
from tests import sources
from tests.cases import DAMAGED, HISTORY, Case
from tests.storage.building import WHEN, reopened

NEXT = "2001-01-25"


def kept(case: Case) -> Patches:
    (patches,) = reopened(case.place).state.patches.values()
    return patches


def bits(patch: EstimatedChunk) -> tuple[bytes, ...]:
    return tuple(map(sources.bits, (patch.values, patch.standard_error, patch.provenance)))


def served(repository: GnomonRepository) -> bytes:
    state = repository.dataset(NEXT, accept_predicted=True, decode=False).load()
    return b"".join(sources.bits(state[n].values) for n in sorted(map(str, state.data_vars)))


def files(case: Case) -> list[Path]:
    folder = case.place / "patches" / kept(case).id
    return sorted(p for p in folder.rglob("*") if p.is_file() and "c" in p.parts[-4:])


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the variables that are healed while somebody reads."""
    names: list[str] = []

    def counting(*arguments: object, **options: object) -> Healed:
        names.append(str(arguments[4]))
        return composite(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(restore_points, "composite", counting)
    return names


def test_an_update_keeps_what_a_reader_would_compute(damaged: Case, computed: list[str]) -> None:
    """Bit for bit, with the same figures; and readers compute nothing."""
    repository = damaged.open()
    stored, patches = repository.stored, kept(damaged)
    assert (patches.step, patches.lead) == (HISTORY, 1)
    anew = heal(stored, HISTORY, stored.shadows[0], 1, "sst", [DAMAGED])
    (point,) = (p for p in repository.points(NEXT) if p.kind == "healed")
    assert point.expected_error["sst"] == anew.expected_error
    assert point.confidence == anew.confidence
    planes = restore_points.heal_point(stored, point)[0]
    assert bits(planes["sst", DAMAGED]) == bits(anew.patches[DAMAGED])
    served(repository)
    repository.explain(NEXT)
    repository.restore(NEXT, damaged.folder / "x.zarr", accept_predicted=True)
    assert computed == []
    assert repository.update().healed == {}


def test_a_repository_without_them_is_healed_on_reading(damaged: Case, computed: list[str]) -> None:
    """As an older program left it: its log ends with the shadow."""
    before = served(damaged.open())
    patch = max((damaged.place / "log").iterdir())
    assert Record.from_json(patch.read_bytes(), patch.name).kind == "patch"
    patch.unlink()
    (damaged.place / "copies" / "log" / patch.name).unlink()
    assert reopened(damaged.place).state.patches == {}
    assert served(damaged.open()) == before
    assert computed == ["sst"]
    assert list(damaged.open().update().healed.values()) == [1]
    assert served(damaged.open()) == before
    assert computed == ["sst"]


@pytest.mark.parametrize("accept", [True, False])
def test_a_verdict_on_the_capture_drops_them(damaged: Case, *, accept: bool) -> None:
    repository = damaged.open()
    repository.judge(NEXT, accept=accept)
    assert reopened(damaged.place).state.patches == {}
    report = repository.update()
    if accept:
        assert report.healed == {}
        assert repository.points(NEXT)[0].kind == "captured"
    else:
        suspects = repository.stored.captured[HISTORY].suspects
        assert suspects > 1
        assert list(report.healed.values()) == [suspects]
    repository.prune()
    assert repository.check(read_data=True).problems == ()


def test_another_capture_of_the_time_drops_them(damaged: Case) -> None:
    """The source has mended it: nothing of the damaged capture is served any more."""
    sources.overwrite(damaged.source, damaged.data.isel(time=slice(HISTORY + 1)))
    repository = damaged.open()
    assert repository.update(compare=-1).revised == 1
    assert reopened(damaged.place).state.patches == {}
    assert repository.points(NEXT)[0].kind == "captured"


def test_forgetting_the_capture_frees_them(damaged: Case) -> None:
    repository = damaged.open()
    assert repository.stats().parts["patches"] > 0
    damaged.arrive(HISTORY + 1, HISTORY + 3)
    repository.update()
    repository.forget(captures=[HISTORY])
    repository.prune()
    assert repository.stats().parts["patches"] == 0
    assert repository.check(read_data=True).problems == ()


def test_a_prune_leaves_what_is_served(damaged: Case, computed: list[str]) -> None:
    before = served(damaged.open())
    damaged.open().prune()
    report = damaged.open().check(read_data=True)
    assert report.problems == ()
    assert served(damaged.open()) == before
    assert computed == []


@pytest.mark.parametrize("fault", ["gone", "changed"])
def test_damaged_estimates_are_computed_anew(
    damaged: Case, computed: list[str], fault: str
) -> None:
    """A note says so, a check names the file, and the next update keeps them again."""
    before, old = served(damaged.open()), kept(damaged).id
    (file,) = (f for f in files(damaged) if f.name != "zarr.json")
    data = file.read_bytes()
    file.unlink()
    if fault == "changed":
        file.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    assert served(damaged.open()) == before
    assert computed == ["sst"]
    (point,) = (p for p in damaged.open().points(NEXT) if p.kind == "healed")
    assert any("damaged and was estimated anew" in note for note in point.notes)
    (problem,) = damaged.open().check(read_data=True).problems
    assert problem.file == file.relative_to(damaged.place).as_posix()
    repaired = damaged.open().repair()
    assert "computed anew" in repaired.left[problem.file]
    assert list(damaged.open().update().healed.values()) == [1]
    assert kept(damaged).id != old
    damaged.open().prune()
    assert damaged.open().check(read_data=True).problems == ()
    computed.clear()
    assert served(damaged.open()) == before
    assert computed == []


def test_a_run_that_is_killed_leaves_nothing_half_made(damaged: Case) -> None:
    """What it wrote is named by no record, and a prune removes it."""
    repository = damaged.open()
    repository.judge(NEXT, accept=False)
    stored = reopened(damaged.place)
    (damage,) = find_damage(stored)
    patched = estimate(stored, damage, serial)
    assert reopened(damaged.place).state.patches == {}
    assert damaged.open().check().unreferenced >= len(patched.entries)
    repository.prune(grace=timedelta(0))
    report = damaged.open().check(read_data=True)
    assert (report.unreferenced, report.problems) == (0, ())


def test_a_verdict_that_comes_between_makes_it_begin_again(damaged: Case) -> None:
    repository = damaged.open()
    repository.judge(NEXT, accept=False)
    stored = reopened(damaged.place)
    (damage,) = find_damage(stored)
    patched = estimate(stored, damage, serial)
    repository.judge(NEXT, accept=True)
    with pytest.raises(Conflict):
        commit_patches(stored, patched, WHEN)
    assert reopened(damaged.place).state.patches == {}


def test_what_cannot_be_healed_does_not_fail_an_update(
    damaged: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged.open().judge(NEXT, accept=False)
    shadow = damaged.open().stored.shadows[0]
    for path in (damaged.place / "shadows" / shadow.id).rglob("c/**/*"):
        if path.is_file():
            os.truncate(path, 3)
    report = damaged.open().update()
    assert list(report.unhealed) == ["2001-01-25T00:00:00"]
    assert report.healed == {}
    assert steps.damages(str(damaged.place))
