"""Pruning: exactly what nothing needs is removed, and what stays reads as it was captured."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from gnomon.storage.arrays.encoding import CODING, MAX_CHAIN
from gnomon.storage.care.check import check
from gnomon.storage.care.forget import forget
from gnomon.storage.care.inventory import folder_of, take_inventory, unreferenced
from gnomon.storage.care.prune import prune, would_free
from gnomon.storage.care.rewrite import dependent
from gnomon.storage.changes.era import begin_era
from gnomon.storage.errors import Conflict, Integrity
from gnomon.storage.log.bodies.body import Body
from gnomon.storage.log.location import Location
from gnomon.storage.log.staging import Batch, fresh_id
from gnomon.storage.repository import Repository
from gnomon.tasks.capturing.capture import capture, commit_capture
from gnomon.tasks.capturing.plan import plan_capture
from gnomon.tasks.work import serial
from tests import sources
from tests.storage.building import (
    HOUR,
    WHEN,
    OtherBody,
    add_shadow,
    capture_new,
    captured,
    copy_of,
    files_of,
    history,
    make_repository,
    reopened,
    write_zarr,
)

MIDNIGHT = 946684800_000_000
"""2000-01-01, the first hour of the sources."""
STEPS = 12


def river(steps: int, spikes: Sequence[int] = ()) -> xr.Dataset:
    """Return hourly levels that change a little, half of them every fourth hour only; and labels.

    Elsewhere a change is stored, at the `spikes` and after them the whole.
    """
    rng = np.random.default_rng(5)
    level = rng.integers(-(2**30), 2**30, (6, 32))
    levels = []
    for hour in range(steps):
        level = level + rng.integers(-3, 4, level.shape)
        spike = rng.integers(-(2**30), 2**30, level.shape)
        levels.append(spike if hour in spikes else level)
    values = np.array(levels, "i4")
    hours = np.arange(steps)
    values[:, :, :16] = values[hours // 4 * 4, :, :16]
    label = np.array([[f"at {k // 3}", "\u00e9"] for k in hours], object)
    return xr.Dataset(
        {
            "level": (("time", "y", "x"), values, {"units": "mm"}),
            "label": (("time", "station"), label),
        },
        coords={"time": ("time", hours, {"units": "hours since 2000-01-01"})},
    )


@pytest.fixture(scope="module")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve hours in three commits; not to be changed."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_zarr(river(STEPS), folder / "s.zarr")
        made = make_repository(folder / "r", "s.zarr", chunks={"x": 16})
        for hour in (3, 4, STEPS):
            made = capture_new(made, until=MIDNIGHT + hour * HOUR)
    return folder


@pytest.fixture
def made(_made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    copy_of(_made / "r", tmp_path / "r")
    copy_of(_made / "s.zarr", tmp_path / "s.zarr")
    monkeypatch.chdir(tmp_path)
    return reopened(tmp_path / "r")


def forgotten(repository: Repository, captures: Sequence[int]) -> Repository:
    return forget(repository, captures=captures, committed_at=WHEN)[0]


def pruned(repository: Repository, **options: Any) -> Any:
    return prune(repository, committed_at=WHEN, **options)


def contents(repository: Repository) -> dict[tuple[int, int, str], Any]:
    """Return every value of every kept capture, by era, number and variable."""
    found: dict[tuple[int, int, str], Any] = {}
    for era in range(len(repository.eras)):
        seen = repository.in_era(era)
        for variable in seen.settings.variables:
            stack = seen.captures(variable.name)
            for step in seen.state.kept:
                chunks = [stack.chunk(step.step, i) for i in variable.grid.indices()]
                found[era, step.step, variable.name] = [
                    c.tolist() if variable.is_text else sources.bits(c) for c in chunks
                ]
    return found


def chains(repository: Repository, name: str = "level") -> list[int]:
    """Return the longest chain of deltas of every kept capture, as a read must follow it."""
    stack = repository.captures(name)
    grid = stack.variable.grid
    return [
        max(len(stack.chain(s.step, index)) - 1 for index in grid.indices())
        for s in repository.state.kept
    ]


def assert_sound(repository: Repository, wanted: dict[tuple[int, int, str], Any]) -> Repository:
    """Demand that a new process finds these values, no damage, and nothing superfluous."""
    found = reopened(repository.location.url)
    assert contents(found) == wanted
    report = check(found, read_data=True)
    assert (report.problems, report.unreferenced) == ((), 0)
    there = found.location.sizes("")
    named = take_inventory(found)
    expected = {*named.objects, *named.manifests}
    assert {name for name in there if folder_of(name) is not None} == expected
    for era in range(len(found.eras)):
        assert dependent(found.in_era(era)) == []
    return found


def residuals(folder: Path) -> set[str]:
    """Return what holds captured values, as ``commit/position``."""
    parts = (p.relative_to(folder).parts for p in files_of(folder / "captures"))
    return {f"{p[1]}/{p[5]}" for p in parts if "residual" in p and len(p) > 5}


def test_nothing_to_do(made: Repository, tmp_path: Path) -> None:
    before = sources.listing(tmp_path / "r" / "captures")
    after, done = pruned(made)
    assert (done.objects, done.nbytes, done.rewritten) == (0, 0, ())
    assert sources.listing(tmp_path / "r" / "captures") == before
    assert [r.kind for r in after.records[len(made.records) :]] == ["prune"]


def test_exactly_what_nothing_needs_is_removed(made: Repository, tmp_path: Path) -> None:
    # Capture 4 has a commit of its own; 5 and what follows are coded against those before.
    made = forgotten(made, [4, 10])
    assert dependent(made) == [5, 6, 7, 8]
    wanted, before = contents(made), {str(p): p.stat().st_size for p in files_of(tmp_path / "r")}
    slabs = {s.step: f"{s.slab}/{s.local}" for s in made.captured}
    assert {slabs[4], slabs[10]} <= residuals(tmp_path / "r")
    after, done = pruned(made)
    assert done.rewritten == (5, 6, 7, 8)
    there = residuals(tmp_path / "r")
    assert there.isdisjoint(slabs[step] for step in (4, 5, 6, 7, 8, 10))
    assert {slabs[step] for step in (0, 1, 2, 3, 9)} <= there
    assert not [p for p in (tmp_path / "r").rglob("*") if made.captured[4].slab in str(p)]
    gone = {name: size for name, size in before.items() if not Path(name).exists()}
    assert (done.objects, done.nbytes) == (len(gone), sum(gone.values()))
    folders = [p for p in (tmp_path / "r").rglob("*") if p.is_dir()]
    assert all(any(folder.iterdir()) for folder in folders)
    assert_sound(after, wanted)


@pytest.mark.parametrize(
    "captures",
    [[0], [0, 1, 2, 3], [1], [4, 8], list(range(11)), [1, 3, 5, 7, 9]],
    ids=lambda numbers: "-".join(map(str, numbers)) if isinstance(numbers, list) else None,
)
def test_what_is_kept_reads_bit_for_bit(made: Repository, captures: list[int]) -> None:
    """Also where its base, or the capture since which it is unchanged, is gone."""
    made = forgotten(made, captures)
    wanted = contents(made)
    after, done = pruned(made)
    assert done.rewritten
    assert_sound(after, wanted)
    kept = [k for k in range(STEPS) if k not in captures]
    xr.testing.assert_identical(
        history(after)["level"].load(), sources.raw("s.zarr")["level"].isel(time=kept)
    )
    assert max(chains(after)) <= MAX_CHAIN


def test_what_is_unchanged_stays_unchanged(made: Repository) -> None:
    """Bytes that several captures share are stored once again, not for each of them."""
    made, done = pruned(forgotten(made, [0]))
    rows = made.captures("level").rows
    assert [int(rows(step)[0, 0][CODING]) for step in range(1, 5)] == [0, -1, -1, 1]
    assert done.rewritten == (1, 2, 3, 4)


def test_a_second_prune_finds_nothing(made: Repository) -> None:
    made, _ = pruned(forgotten(made, [0, 5]))
    wanted = contents(made)
    for _ in range(2):
        made, done = pruned(made)
        assert (done.objects, done.nbytes, done.rewritten) == (0, 0, ())
    assert_sound(made, wanted)


def test_statuses_tags_and_times_stay(made: Repository) -> None:
    chunks = [{"variable": "level", "step": step, "chunk": [0, 1], "status": 1} for step in (5, 6)]
    made = made.commit(OtherBody("verdict", {"chunks": chunks, "reason": "a test"}), WHEN)
    made = made.commit(OtherBody("tag", {"steps": [6], "add": ["flood"], "remove": []}), WHEN)
    made = forgotten(made, [3, 4])
    before = made.state.kept
    made, done = pruned(made)
    assert {5, 6} <= set(done.rewritten)
    made = reopened(made.location.url)
    for one, other in zip(before, made.state.kept, strict=True):
        for field in ("step", "instant", "raw_time", "suspects", "tags", "captured_at"):
            assert getattr(one, field) == getattr(other, field), field
    assert made.captures("level").status(6).tolist() == [[0, 1]]
    assert made.captures("level").status(7).tolist() == [[0, 0]]


def test_captures_go_on_after_a_prune(made: Repository) -> None:
    made, _ = pruned(forgotten(made, [0, 1, 10]))
    sources.overwrite("s.zarr", river(STEPS + 3))
    made = capture_new(made)
    xr.testing.assert_identical(
        history(made)["level"].load(),
        sources.raw("s.zarr")["level"].isel(time=[*range(2, 10), *range(11, STEPS + 3)]),
    )
    assert_sound(made, contents(made))


# Chains ----------------------------------------------------------------------------------------


def test_chains_stay_short_however_often_is_forgotten(tmp_path: Path) -> None:
    """Forgetting keys joins what was coded against them to the chain before."""
    spikes = range(8, 64, 8)
    source = write_zarr(river(64, spikes), tmp_path / "s.zarr")
    made = captured(tmp_path / "r", source, names=("level",))
    assert max(chains(made)) == 7
    made, _ = pruned(forgotten(made, [k + n for k in spikes for n in (0, 1)]))
    assert max(chains(made)) <= MAX_CHAIN
    for _ in range(10):  # the newest keys first, so that chains are joined at their ends
        kept = [s.step for s in made.timeline]
        keys = [s for s, n in zip(kept, chains(made), strict=True) if n == 0 and s != kept[-1]]
        made, _ = pruned(forgotten(made, [max(keys), kept[1]]))
        assert max(chains(made)) <= MAX_CHAIN
    assert_sound(made, contents(made))


def test_chains_stay_short_as_days_go_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hours come, and of the older ones every third stays."""
    monkeypatch.chdir(tmp_path)
    write_zarr(river(8), tmp_path / "s.zarr")
    made = captured(tmp_path / "r", "s.zarr", names=("level",))
    for steps in range(12, 60, 8):
        sources.overwrite("s.zarr", river(steps))
        made = capture_new(made)
        numbers = [s.step for s in made.timeline]
        made, _ = pruned(forgotten(made, [n for n in numbers[:-4] if n % 3]))
        assert max(chains(made)) <= MAX_CHAIN
    wanted = contents(made)
    assert sorted(step for _, step, _ in wanted) == [s.step for s in made.timeline]
    assert_sound(made, wanted)


# Forecasts -------------------------------------------------------------------------------------


def test_forecasts_of_captures_that_are_kept_stay(made: Repository) -> None:
    made = add_shadow(made)
    first = made.shadows[0]
    values = [made.shadow("level", first).chunk(lead, (0, 0))[0].tolist() for lead in (1, 2)]
    made, _ = pruned(forgotten(made, [0, 9, 10]))
    found = reopened(made.location.url)
    assert [s.id for s in found.shadows] == [first.id]
    shadow = found.shadow("level", first)
    assert [shadow.chunk(lead, (0, 0))[0].tolist() for lead in (1, 2)] == values
    assert found.forecaster is not None
    assert found.forecaster_state("level").chunk((0, 0))[0].shape[0] == 2


def test_superseded_forecasts_and_states_go(made: Repository, tmp_path: Path) -> None:
    made = add_shadow(add_shadow(made))
    older, newest = made.shadows
    made, done = pruned(made)
    assert done.objects > 0
    assert [s.id for s in reopened(made.location.url).shadows] == [newest.id]
    for group in ("shadows", "forecaster", "ledger", "manifests"):
        names = [p.name for p in (tmp_path / "r" / group).iterdir()]
        assert not any(older.id in name for name in names)
        assert any(newest.id in name for name in names)
    assert check(made, read_data=True).problems == ()


# Runs that died, and runs that live --------------------------------------------------------------


def left_behind(repository: Repository) -> tuple[str, Callable[[Repository], Repository]]:
    """Write what a run writes before it commits; returns its folder, and its commit."""
    plan = plan_capture(repository)
    assert plan is not None
    found = capture(repository, plan, serial)

    def commit(opened: Repository) -> Repository:
        return commit_capture(opened, found, set(), report={}, committed_at=WHEN)

    return plan.id, commit


def of(folder: str, repository: Repository) -> list[str]:
    return [name for name in repository.location.list("") if folder_of(name) == folder]


def test_what_a_dead_run_left_is_removed(made: Repository) -> None:
    sources.overwrite("s.zarr", river(STEPS + 2))
    folder, _ = left_behind(made)
    sizes = [made.location.sizes("")[name] for name in of(folder, made)]
    assert check(made).unreferenced == len(sizes) > 0
    _, planned = pruned(made, dry_run=True)
    after, done = pruned(made)
    assert (done.objects, done.nbytes) == (len(sizes), sum(sizes))
    assert (planned.objects, planned.nbytes) == (done.objects, done.nbytes)
    assert of(folder, after) == []
    assert_sound(after, contents(made))


def test_a_run_that_began_before_the_prune_cannot_commit(made: Repository) -> None:
    sources.overwrite("s.zarr", river(STEPS + 2))
    _, commit = left_behind(made)
    after, _ = pruned(made)
    wanted = contents(after)
    for opened in (made, reopened(made.location.url)):
        with pytest.raises(Conflict):
            commit(opened)
    # The same by the batch alone, which is what every writer commits with.
    batch = Batch(made.location, fresh_id(len(made.records)))
    with pytest.raises(Conflict, match="pruned meanwhile"):
        reopened(made.location.url).commit(OtherBody("shadow", {}), WHEN, batch)
    assert contents(reopened(made.location.url)) == wanted
    assert len(capture_new(reopened(made.location.url)).timeline) == STEPS + 2


def test_what_a_run_may_still_commit_is_not_removed(
    made: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that begins between the prune's record and its removals is beyond the fence."""
    sources.overwrite("s.zarr", river(STEPS + 2))
    living: list[Any] = []
    asked = Location.sizes

    def sizes(location: Location, prefix: str, **options: Any) -> dict[str, int]:
        if not prefix and not living:
            newest = reopened(made.location.url)
            assert newest.records[-1].kind == "prune"
            living.append(None)
            living[:] = [*left_behind(newest), newest]
        return asked(location, prefix, **options)

    monkeypatch.setattr(Location, "sizes", sizes)
    folder, commit, newest = pruned(forgotten(made, [2])) and living
    assert len(of(folder, newest)) == len([*unreferenced(newest, asked(newest.location, ""))]) > 0
    after = commit(newest)
    assert len(after.timeline) == STEPS - 1 + 2
    assert_sound(after, contents(after))


def test_names_of_others_are_left_alone(made: Repository, tmp_path: Path) -> None:
    for name in ("captures/mine/notes.txt", "README", "captures/00-/x"):
        path = tmp_path / "r" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
        pruned(reopened(made.location.url))
        assert path.read_text() == "mine"
        path.unlink()


def test_a_writer_that_is_first_stops_a_prune(made: Repository, tmp_path: Path) -> None:
    made = forgotten(made, [0])
    made.commit(OtherBody("tag", {"steps": [1], "add": ["x"], "remove": []}), WHEN)
    before = set(files_of(tmp_path / "r"))
    with pytest.raises(Conflict):
        pruned(made)
    assert before <= set(files_of(tmp_path / "r"))
    newest = reopened(made.location.url)
    wanted = contents(newest)
    assert_sound(pruned(newest)[0], wanted)


@pytest.mark.parametrize("place", ["rewrite", "prune", "delete"])
def test_a_prune_that_dies_is_completed_by_the_next(
    made: Repository, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    made = forgotten(made, [0, 4, 5])
    wanted = contents(made)
    commit, delete = Repository.commit, Location.delete

    def die_at_commit(repository: Repository, body: Body, *rest: Any) -> Repository:
        if body.kind == place:
            raise KeyboardInterrupt
        return commit(repository, body, *rest)

    def die_at_delete(location: Location, names: Any) -> None:
        names = list(names)
        delete(location, names[:5] if place == "delete" else names)
        if place == "delete":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Repository, "commit", die_at_commit)
        patch.setattr(Location, "delete", die_at_delete)
        with pytest.raises(KeyboardInterrupt):
            pruned(made)
    found = reopened(made.location.url)
    assert contents(found) == wanted
    assert check(found, read_data=True).problems == ()
    after, done = pruned(found)
    assert done.objects > 0
    assert_sound(after, wanted)


# Dry runs ----------------------------------------------------------------------------------------


def test_a_dry_run_says_what_would_be_removed(made: Repository, tmp_path: Path) -> None:
    made = forgotten(capture_more(made), [13])
    before = sources.listing(tmp_path)
    same, planned = pruned(made, dry_run=True)
    assert same is made
    assert sources.listing(tmp_path) == before
    _, done = pruned(made)
    assert (planned.objects, planned.nbytes, planned.rewritten) == (done.objects, done.nbytes, ())
    assert (planned.dry_run, done.dry_run) == (True, False)


def capture_more(repository: Repository) -> Repository:
    """Capture three more hours, the last of which needs nothing of the one before it."""
    sources.overwrite("s.zarr", river(STEPS + 3, spikes=[STEPS + 2]))
    return capture_new(repository)


def test_what_a_forget_would_free(made: Repository, tmp_path: Path) -> None:
    before = sources.listing(tmp_path)
    expected = would_free(made, [4])
    assert sources.listing(tmp_path) == before
    slab = made.captured[4].slab
    own = {n: s for n, s in made.location.sizes("").items() if folder_of(n) == slab}
    assert expected == sum(own.values())
    assert would_free(made, []) == 0


# Damage ------------------------------------------------------------------------------------------


def test_damage_in_what_is_needed_is_named_and_nothing_removed(
    made: Repository, tmp_path: Path
) -> None:
    made = forgotten(made, [0])
    name = made.captures("level").file(1, (0, 1))
    path = tmp_path / "r" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    before = {p: p.read_bytes() for p in files_of(tmp_path / "r")}
    with pytest.raises(Integrity, match=f"level chunk .* of capture 1 .*{name}"):
        pruned(made)
    assert {p: p.read_bytes() for p in before} == before
    assert len(reopened(made.location.url).records) == len(made.records)
    # A whole file is a prune away.
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    made = reopened(made.location.url)
    wanted = contents(made)
    assert_sound(pruned(made)[0], wanted)


def test_damage_in_what_is_not_needed_goes_with_it(made: Repository, tmp_path: Path) -> None:
    made = forgotten(made, [0, 1, 2, 3])
    (tmp_path / "r" / made.captures("level").file(2, (0, 1))).unlink()
    with pytest.raises(Integrity):  # what follows is coded against it
        pruned(made)
    made = forgotten(made, [4, 5, 6, 7, 8, 9])
    with pytest.raises(Integrity):
        pruned(made)


def test_damage_in_forgotten_captures_that_nothing_needs(made: Repository, tmp_path: Path) -> None:
    made = forgotten(capture_more(made), [13])
    (tmp_path / "r" / made.captures("level").file(13, (0, 1))).write_bytes(b"rubbish")
    wanted = contents(made)
    assert_sound(pruned(made)[0], wanted)


# Eras --------------------------------------------------------------------------------------------


def test_all_eras_are_pruned(made: Repository) -> None:
    sources.overwrite("s.zarr", river(STEPS).isel(x=slice(24)))
    made = capture_new(begin_era(made, WHEN))
    assert made.era == 1
    made = forgotten(made, [2, 3])
    older = forgotten(made.in_era(0), [0, 5])
    assert older.era == 0
    made = reopened(made.location.url)
    wanted = contents(made)
    assert {(era, step) for era, step, _ in wanted} == {
        *((0, k) for k in range(STEPS) if k not in (0, 5)),
        *((1, k) for k in range(STEPS) if k not in (2, 3)),
    }
    after, done = pruned(made)
    assert after.era == 1
    assert done.objects > 0
    assert {0, 5}.isdisjoint(done.rewritten[:1])
    found = assert_sound(after, wanted)
    assert pruned(found)[1].objects == 0


def test_a_prune_from_an_older_era_in_view(made: Repository) -> None:
    sources.overwrite("s.zarr", river(STEPS).isel(x=slice(24)))
    made = forgotten(capture_new(begin_era(made, WHEN)), [2, 3])
    wanted = contents(made)
    assert_sound(pruned(made.in_era(0))[0], wanted)
