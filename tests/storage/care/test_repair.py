"""What is mended is what was written, byte for byte; what cannot be mended stays and is named."""

import shutil
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from gnomon.storage.care.check import check
from gnomon.storage.care.forget import forget
from gnomon.storage.care.inventory import take_inventory
from gnomon.storage.care.prune import prune
from gnomon.storage.care.repair import Repaired, repair
from gnomon.storage.errors import Integrity
from gnomon.storage.log.location import Location
from gnomon.storage.log.records import checkpoint_name, record_name
from gnomon.storage.repository import Repository
from tests.storage.building import (
    HOUR,
    WHEN,
    OtherBody,
    add_shadow,
    assert_identical,
    capture_new,
    captured,
    copy_of,
    everything,
    files_of,
    history,
    make_repository,
    reopened,
    shorten_spans,
    undecoded,
    weather,
    write_zarr,
)

START = 946_684_800_000_000


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files_of(folder)}


def bend(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        data = (folder / name).read_bytes()
        middle = len(data) // 2
        (folder / name).write_bytes(data[:middle] + bytes([data[middle] ^ 8]) + data[middle + 1 :])


def remove(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        (folder / name).unlink()


def mend(folder: Path) -> Repaired:
    """Repair as a new process would."""
    return repair(reopened(folder), committed_at=WHEN)


def assert_mended(folder: Path, names: Iterable[str], before: dict[str, bytes]) -> Repaired:
    """Demand that these files, and no others, are again what they were."""
    done = mend(folder)
    assert set(done.mended) == set(names)
    assert done.left == {}
    assert contents(folder) == before
    assert check(reopened(folder), read_data=True).problems == ()
    assert mend(folder) == Repaired()
    return done


class Grown:
    """A source with a shadow and state, and its repository."""

    def __init__(self, folder: Path) -> None:
        self.source = folder / "source.zarr"
        self.folder = folder / "r"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Grown:
    """Five hours in three commits; text, complex numbers, a single value, a text coordinate."""
    folder = tmp_path_factory.mktemp("original")
    dataset = weather(5)[["t", "wet"]]
    number = np.arange(5)
    spectrum = (number[:, np.newaxis] + 1j * np.arange(3)).astype("<c8")
    words = np.array([[f"{k % 3}", "same"] for k in number], object)
    dataset = dataset.assign(
        {
            "note": (("time", "k"), words),
            "spectrum": (("time", "w"), spectrum),
            "single": ("time", np.arange(5.0) ** 2),
            "station": ("k", np.array(["Oslo", "Bergen"], object), {"long_name": "name"}),
        }
    )
    made = Grown(folder)
    write_zarr(dataset, made.source)
    repository = make_repository(made.folder, made.source, chunks={"y": 3, "x": 5})
    for until in (1, 2, 4):
        repository = capture_new(repository, until=START + until * HOUR)
    add_shadow(repository)
    return made


@pytest.fixture
def grown(original: Grown, tmp_path: Path) -> Grown:
    """A copy whose source is still that of the original: it is not written to."""
    made = Grown(tmp_path)
    copy_of(original.folder, made.folder)
    made.source = original.source
    return made


def groups(folder: Path) -> dict[str, list[str]]:
    """Return every file of a repository, by where a repair finds it again."""
    names = list(contents(folder))
    copies = [n for n in names if n.startswith("copies/")]
    doubled = [n for n in names if f"copies/{n}" in names]
    rest = [n for n in names if n not in copies and n not in doubled]
    described = [n for n in rest if n.startswith("captures/") and n.endswith("zarr.json")]
    found = {
        "copies": copies,
        "what has copies": doubled,
        "chunks": [n for n in rest if "/residual/c/" in n],
        "how chunks are stored": described,
        "frame": [n for n in rest if n.startswith("frame/")],
    }
    return found | {"predictions": [n for n in rest if not any(n in g for g in found.values())]}


ORIGINS = {
    "copies": ["its copy captures", "gnomon.json", "manifests/", "log as it was read"],
    "what has copies": ["its copy copies/", "copies/gnomon.json", "copies/manifests/"],
    "chunks": ["the source"],
    "how chunks are stored": ["the settings"],
    "frame": ["the source"],
}


@pytest.mark.parametrize("harm", [bend, remove])
@pytest.mark.parametrize("group", ORIGINS)
def test_all_files_that_have_a_source_are_mended_at_once(
    grown: Grown, group: str, harm: object
) -> None:
    before = contents(grown.folder)
    names = groups(grown.folder)[group]
    assert names
    (bend if harm is bend else remove)(grown.folder, names)
    done = assert_mended(grown.folder, names, before)
    for wanted in ORIGINS[group]:
        assert any(wanted in origin for origin in done.mended.values()), wanted


def test_every_file_is_in_a_group(original: Grown) -> None:
    found = groups(original.folder)
    assert sorted(chain.from_iterable(found.values())) == sorted(contents(original.folder))
    prefixes = {n.split("/")[0] for n in found["predictions"]}
    assert prefixes == {"shadows", "forecaster", "ledger"}


def test_what_was_mended_is_served_as_before(grown: Grown) -> None:
    before = everything(grown.folder)
    found = groups(grown.folder)
    for group in ("what has copies", "how chunks are stored", "frame"):
        bend(grown.folder, found[group])
    remove(grown.folder, found["chunks"])
    done = mend(grown.folder)
    assert done.left == {}
    assert everything(grown.folder) == before


def test_predictions_and_statistics_stay_damaged_and_are_named(grown: Grown) -> None:
    names = groups(grown.folder)["predictions"]
    bend(grown.folder, names)
    before = contents(grown.folder)
    done = mend(grown.folder)
    assert done.mended == {}
    assert set(done.left) == set(names)
    assert contents(grown.folder) == before
    for name, advice in done.left.items():
        wanted = "its data is not concerned" if name.startswith("ledger") else "--refit"
        assert wanted in advice
    assert {p.file for p in check(reopened(grown.folder), read_data=True).problems} == set(names)


@pytest.mark.parametrize("change", ["gone", "other values", "fewer times", "another grid"])
def test_without_its_source_a_chunk_stays_damaged_and_is_named(
    grown: Grown, tmp_path: Path, change: str
) -> None:
    """Nothing is ever replaced by bytes of another content."""
    made = reopened(grown.folder)
    source = Path(shutil.copytree(grown.source, tmp_path / "source.zarr"))
    settings = (grown.folder / "gnomon.json").read_text()
    assert str(grown.source) in settings
    names = [made.captures("t").file(k, (0, 0)) for k in (1, 3)]
    bend(grown.folder, names)
    before = contents(grown.folder)
    dataset = undecoded(grown.source)
    if change == "other values":
        dataset = dataset.assign(t=dataset["t"] + np.float32(1))
    elif change == "fewer times":
        dataset = dataset.isel(time=slice(4, None))
    elif change == "another grid":
        dataset = dataset.isel(x=slice(0, 4))
    shutil.move(grown.source, tmp_path / "away")
    try:
        if change != "gone":
            write_zarr(dataset, grown.source)
        done = mend(grown.folder)
        assert done.mended == {}
        assert set(done.left) == set(names)
        assert all("restore it from a copy" in advice for advice in done.left.values())
        assert contents(grown.folder) == before
        problems = check(reopened(grown.folder), read_data=True).problems
        assert {p.file for p in problems} == set(names)
    finally:
        shutil.rmtree(grown.source, ignore_errors=True)
        shutil.move(tmp_path / "away", grown.source)
    assert source.exists()
    assert set(mend(grown.folder).mended) == set(names)


def test_a_dry_run_says_what_it_would_do_and_changes_nothing(grown: Grown) -> None:
    found = groups(grown.folder)
    names = [n for g in ("what has copies", "chunks", "frame") for n in found[g]]
    bend(grown.folder, [*names, *found["predictions"]])
    before = contents(grown.folder)
    told = repair(reopened(grown.folder), committed_at=WHEN, dry_run=True)
    assert contents(grown.folder) == before
    done = mend(grown.folder)
    assert set(told.mended) == set(done.mended) == set(names)
    assert told.left == done.left
    assert told.to_json()["mended"].keys() == set(names)


def test_a_sound_repository_is_left_alone(grown: Grown) -> None:
    before = contents(grown.folder)
    assert mend(grown.folder) == Repaired()
    assert contents(grown.folder) == before


# Each source of a repair ---------------------------------------------------------------------


@pytest.mark.parametrize("place", ["", "copies/"])
def test_a_record_is_written_again(grown: Grown, place: str) -> None:
    before = contents(grown.folder)
    names = [place + record_name(k) for k in range(5)]
    remove(grown.folder, names[:4])
    (grown.folder / names[4]).write_bytes(before[place + record_name(2)])
    assert_mended(grown.folder, names, before)


def test_a_record_is_known_to_who_has_it_open(grown: Grown) -> None:
    """Both copies are gone, and the log is still in the memory of a process."""
    before = contents(grown.folder)
    names = [place + record_name(2) for place in ("", "copies/")]
    made = reopened(grown.folder)
    remove(grown.folder, names)
    done = repair(made, committed_at=WHEN)
    assert set(done.mended) == set(names)
    assert contents(grown.folder) == before


@pytest.mark.parametrize("harm", [bend, remove])
def test_a_checkpoint_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: object
) -> None:
    shorten_spans(monkeypatch)
    made = make_repository(tmp_path / "r", write_zarr(weather(1), tmp_path / "source.zarr"))
    for number in range(8):
        made = made.commit(OtherBody("verdict", {"chunks": [], "number": number}), WHEN)
    before = contents(tmp_path / "r")
    names = [checkpoint_name(0), checkpoint_name(4)]
    (bend if harm is bend else remove)(tmp_path / "r", names)
    done = assert_mended(tmp_path / "r", names, before)
    assert set(done.mended.values()) == {"its records"}


def test_settings_are_mended_from_either_copy(grown: Grown) -> None:
    before = contents(grown.folder)
    for name, other in (
        ("gnomon.json", "copies/gnomon.json"),
        ("copies/gnomon.json", "gnomon.json"),
    ):
        remove(grown.folder, [name])
        assert assert_mended(grown.folder, [name], before).mended == {name: other}


def test_a_manifest_that_is_gone_twice_is_made_again_from_its_objects(grown: Grown) -> None:
    before = contents(grown.folder)
    names = [n for n in before if "manifests/" in n]
    remove(grown.folder, names)
    done = assert_mended(grown.folder, names, before)
    assert "the objects that it lists" in done.mended.values()


def test_a_manifest_of_damaged_objects_cannot_be_made_again(grown: Grown) -> None:
    """Its hash would be another: nothing is vouched for that was not written."""
    made = reopened(grown.folder)
    commit = made.records[1].body["id"]
    names = [n for n in contents(grown.folder) if "manifests/" in n and commit in n]
    shadow = next(n for n in contents(grown.folder) if n.startswith(f"ledger/{commit}/"))
    remove(grown.folder, names)
    bend(grown.folder, [shadow])
    done = mend(grown.folder)
    assert set(done.left) >= set(names)
    assert not set(done.mended) & set(names)


def test_what_nothing_vouches_for_does_not_stop_a_repair(grown: Grown) -> None:
    """Both copies of an index are gone, and with it what its chunks should be."""
    made = reopened(grown.folder)
    chunk = made.captures("t").file(0, (0, 0))
    slab = chunk.partition("/residual/")[0]
    names = [n for n in contents(grown.folder) if f"{slab}/index/c/" in n]
    assert len(names) == 2
    frame = groups(grown.folder)["frame"][0]
    remove(grown.folder, [*names, chunk, frame])
    done = mend(grown.folder)
    assert set(done.mended) == {frame}
    assert set(done.left) == {*names, chunk}
    problems = check(reopened(grown.folder), read_data=True).problems
    assert {p.file for p in problems} == {*names, chunk}


def series(folder: Path, *states: np.ndarray, per_commit: int = 100) -> Repository:
    """Capture states of one field of two chunks."""
    values = np.stack(states)
    time = {"units": "hours since 2000-01-01"}
    dataset = xr.Dataset(
        {"t": (("time", "x"), values)}, coords={"time": ("time", np.arange(len(values)), time)}
    )
    source = write_zarr(dataset, folder / "source.zarr")
    made = make_repository(folder / "r", source, chunks={"x": values.shape[1] // 2})
    for first in range(0, len(values), per_commit):
        made = capture_new(made, until=START + (first + per_commit - 1) * HOUR)
    return made


def noise(seed: int, cells: int = 400) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=cells)


@pytest.mark.parametrize("per_commit", [100, 1])
def test_a_chunk_is_found_again_in_another_capture(tmp_path: Path, per_commit: int) -> None:
    """The state came back later, and was stored again; the source is gone."""
    a, b = noise(1), noise(2)
    made = series(tmp_path, a, b, a, b, per_commit=per_commit)
    shutil.rmtree(tmp_path / "source.zarr")
    before = contents(tmp_path / "r")
    for step in (0, 1):
        name = made.captures("t").file(step, (0,))
        remove(tmp_path / "r", [name])
        done = assert_mended(tmp_path / "r", [name], before)
        assert done.mended[name] == f"capture {step + 2}, which holds the same"


def test_a_chunk_is_not_mended_from_itself(tmp_path: Path) -> None:
    """What is unchanged since is read from the damaged bytes, and gives nothing."""
    a, b = noise(1), noise(2)
    made = series(tmp_path, a, a, a, b)
    shutil.rmtree(tmp_path / "source.zarr")
    name = made.captures("t").file(0, (0,))
    remove(tmp_path / "r", [name])
    done = mend(tmp_path / "r")
    assert (set(done.left), done.mended) == ({name}, {})


@pytest.mark.parametrize("damaged", [{0}, {2, 10}, {3, 11, 12}, set(range(13))])
def test_a_chain_of_changes_is_mended_from_below(
    tmp_path: Path, damaged: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is a difference to the one before, which must be right first."""
    for module in ("arrays.encoding", "care.rewrite"):
        monkeypatch.setattr(f"gnomon.storage.{module}.MAX_CHAIN", 16)
    smooth = np.sin(np.arange(400) / 30)
    states = [
        (np.round(smooth * 1000) + k + (np.arange(400) == k)).astype("<i4") for k in range(13)
    ]
    made = series(tmp_path, *states)
    stack = made.captures("t")
    assert {len(stack.chain(12, index)) for index in stack.variable.grid.indices()} == {13}
    before = contents(tmp_path / "r")
    names = {stack.file(step, (0,)) for step in damaged}
    remove(tmp_path / "r", names)
    assert_mended(tmp_path / "r", names, before)
    assert_identical(history(reopened(tmp_path / "r")), undecoded(tmp_path / "source.zarr"))


def test_a_shard_keeps_its_intact_chunks(tmp_path: Path) -> None:
    """One chunk of the stored object is damaged and found elsewhere, the other is not."""
    rng = np.random.default_rng(8)
    a, b = rng.normal(size=(2, 2, 40_000))
    c = np.concatenate([a[:20_000] if a.ndim == 1 else a[0][:20_000], rng.normal(size=20_000)])
    made = series(tmp_path, a[0], b[0], c)
    shutil.rmtree(tmp_path / "source.zarr")
    stack = made.captures("t")
    before = contents(tmp_path / "r")
    name = stack.file(0, (0,))
    if name != stack.file(0, (1,)):
        pytest.skip("these chunks are stored one by one")
    data = before[name]
    (tmp_path / "r" / name).write_bytes(data[:99] + bytes([data[99] ^ 1]) + data[100:])
    done = assert_mended(tmp_path / "r", [name], before)
    assert done.mended[name] == "capture 2, which holds the same, its intact chunks"


def test_a_state_source_gives_back_what_it_still_holds(tmp_path: Path) -> None:
    def now(seed: int) -> xr.Dataset:
        return xr.Dataset({"t": (("y", "x"), noise(seed).reshape(20, 20))})

    source = write_zarr(now(1), tmp_path / "source.zarr")
    made = make_repository(tmp_path / "r", source, kind="state")
    made = capture_new(made, now=1)
    write_zarr(now(2), source, mode="w")
    made = capture_new(made, now=2)
    before = contents(tmp_path / "r")
    names = [made.captures("t").file(step, (0, 0)) for step in range(2)]
    bend(tmp_path / "r", names)
    done = mend(tmp_path / "r")
    assert done.mended == {names[1]: "the source"}
    assert set(done.left) == {names[0]}
    assert contents(tmp_path / "r")[names[1]] == before[names[1]]
    with pytest.raises(Integrity):
        reopened(tmp_path / "r").captures("t").chunk(0, (0, 0))


def test_a_frame_of_another_content_is_not_taken(tmp_path: Path) -> None:
    source = write_zarr(weather(2), tmp_path / "source.zarr")
    made = captured(tmp_path / "r", source)
    moved = weather(2).assign_coords(x=("x", np.arange(10.0) + 1))
    write_zarr(moved, source, mode="w")
    names = {v: str(e["file"]) for v, e in made.settings.frame_entries.items()}
    remove(tmp_path / "r", names.values())
    done = mend(tmp_path / "r")
    assert done.mended == {names["y"]: "the source"}
    assert set(done.left) == {names["x"]}
    assert not (tmp_path / "r" / names["x"]).exists()


def test_captures_that_were_stored_anew_are_mended(tmp_path: Path) -> None:
    source = write_zarr(weather(5), tmp_path / "source.zarr")
    made = captured(tmp_path / "r", source, chunks={"y": 3, "x": 5})
    made, _ = forget(made, captures=[0, 1], committed_at=WHEN)
    made, done = prune(made, committed_at=WHEN)
    assert done.rewritten
    before = contents(tmp_path / "r")
    names = {n for n in before if "/residual/" in n and made.captured[done.rewritten[0]].slab in n}
    assert any(n.endswith("zarr.json") for n in names)
    remove(tmp_path / "r", names)
    assert_mended(tmp_path / "r", names, before)


def test_bytes_of_forgotten_captures_are_mended_as_long_as_they_are_there(tmp_path: Path) -> None:
    """Later captures may be stored as changes of them."""
    source = write_zarr(weather(4), tmp_path / "source.zarr")
    made = captured(tmp_path / "r", source, chunks={"y": 3, "x": 5})
    made, _ = forget(made, captures=[0, 1], committed_at=WHEN)
    before = contents(tmp_path / "r")
    names = [made.captures("t").file(0, (1, 1))]
    remove(tmp_path / "r", names)
    assert_mended(tmp_path / "r", names, before)


# Accidents during a repair -------------------------------------------------------------------


@pytest.mark.parametrize("place", ["log/", "captures/", "copies/captures/", "frame/", "shadows/"])
def test_a_folder_in_the_place_of_a_file_does_not_stop_a_repair(grown: Grown, place: str) -> None:
    before = contents(grown.folder)
    name = next(n for n in before if n.startswith(place) and not n.endswith("zarr.json"))
    other = groups(grown.folder)["chunks"][-1]
    remove(grown.folder, [name, other])
    (grown.folder / name).mkdir()
    done = mend(grown.folder)
    assert other in done.mended
    assert name in {**done.mended, **done.left}
    assert (grown.folder / other).read_bytes() == before[other]


def test_a_repair_that_was_stopped_is_completed_by_the_next(
    grown: Grown, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(grown.folder)
    found = groups(grown.folder)
    names = {*found["chunks"], *found["what has copies"], *found["frame"]}
    remove(grown.folder, names)
    replace, count = Location.replace, iter(range(1000))

    def stop(self: Location, name: str, data: bytes) -> None:
        if next(count) == 20:
            raise KeyboardInterrupt
        replace(self, name, data)

    with monkeypatch.context() as patch:
        patch.setattr(Location, "replace", stop)
        with pytest.raises(KeyboardInterrupt):
            mend(grown.folder)
    left = {n for n in names if not (grown.folder / n).exists()}
    assert 0 < len(left) < len(names)
    assert_mended(grown.folder, left, before)


def test_a_commit_meanwhile_is_not_harmed(grown: Grown) -> None:
    made = reopened(grown.folder)
    name = groups(grown.folder)["chunks"][0]
    remove(grown.folder, [name])
    made.commit(OtherBody("verdict", {"chunks": []}), WHEN)
    assert set(repair(made, committed_at=WHEN).mended) == {name}
    again = reopened(grown.folder)
    assert len(again.records) == len(made.records) + 1
    assert check(again, read_data=True).problems == ()


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Releases of codecs that pack the same content otherwise."""
    monkeypatch.setattr("gnomon.storage.arrays.layout.PCODEC_LEVEL", 1)
    monkeypatch.setattr("gnomon.storage.arrays.layout.ZSTD_LEVEL", 19)
    monkeypatch.setattr("gnomon.storage.log.gz.LEVEL", 1)


@pytest.mark.usefixtures("later")
def test_content_that_is_packed_otherwise_is_mended_and_stated(grown: Grown) -> None:
    before = contents(grown.folder)
    expected = history(reopened(grown.folder))
    names = groups(grown.folder)["chunks"]
    told = repair(reopened(grown.folder), committed_at=WHEN, dry_run=True)
    remove(grown.folder, names)
    done = mend(grown.folder)
    assert (set(done.mended), done.left, told.mended) == (set(names), {}, {})
    again = reopened(grown.folder)
    assert again.records[-1].kind == "repair"
    after = contents(grown.folder)
    stated = set(again.records[-1].body["objects"])
    assert stated == {n for n in names if after[n] != before[n]}
    assert {n.split("/")[2] for n in stated} >= {"v-t", "v-note", "v-spectrum"}
    assert check(again, read_data=True).problems == ()
    assert_identical(history(again), expected)
    assert mend(grown.folder) == Repaired()
    bend(grown.folder, [names[0]])
    assert [p.file for p in check(reopened(grown.folder), read_data=True).problems] == [names[0]]
    assert_mended(grown.folder, [names[0]], after)


def interrupted(*_: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.usefixtures("later")
def test_a_repair_that_was_not_stated_is_stated_by_the_next(grown: Grown) -> None:
    names = [n for n in groups(grown.folder)["chunks"] if "/v-t/" in n]
    remove(grown.folder, names)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Repository, "commit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            mend(grown.folder)
    assert {p.file for p in check(reopened(grown.folder), read_data=True).problems} == set(names)
    assert set(mend(grown.folder).mended) == set(names)
    assert check(reopened(grown.folder), read_data=True).problems == ()


@pytest.mark.parametrize("objects", [None, {"a": 1}, {"a": [1]}, {"a": ["x", "y"]}, [1]])
def test_a_statement_of_nonsense_is_refused(grown: Grown, objects: Any) -> None:
    reopened(grown.folder).commit(OtherBody("repair", {"objects": objects}), WHEN)
    with pytest.raises(Integrity, match="repair"):
        take_inventory(reopened(grown.folder))
