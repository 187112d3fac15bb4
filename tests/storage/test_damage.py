"""Whatever happens to a stored file: never wrong data, always a named error or the right answer."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import combinations, cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from gnomon.storage.care.check import check
from gnomon.storage.errors import Format, GnomonError, Integrity, NotFound
from gnomon.storage.repository import Repository
from tests.storage.building import attempt, copy_of, everything, files_of, reopened

Harm = Callable[[bytes, np.random.Generator], bytes | None]


@pytest.fixture(scope="module")
def baseline(small_path: Path) -> dict[str, Any]:
    return everything(small_path)


@pytest.fixture(scope="module")
def scratch(small_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy that each test damages and mends again."""
    return copy_of(small_path, tmp_path_factory.mktemp("scratch") / "r")


@contextmanager
def damaged(folder: Path, files: dict[str, bytes | None]) -> Iterator[None]:
    """Let files hold other bytes, or none, for a while."""
    originals = {name: (folder / name).read_bytes() for name in files}
    for name, data in files.items():
        (folder / name).unlink()
        if data is not None:
            (folder / name).write_bytes(data)
    try:
        yield
    finally:
        for name, data in originals.items():
            (folder / name).write_bytes(data)


def names_of(folder: Path) -> list[str]:
    return [p.relative_to(folder).as_posix() for p in files_of(folder)]


def is_twofold(name: str) -> bool:
    """Tell whether an object, or what it is a copy of, is stored twice."""
    parts = name.removeprefix("copies/").split("/")
    index = parts[0] == "captures" and parts[3] == "index"
    return index or parts[0] in ("gnomon.json", "log", "manifests")


def is_warned_of(name: str, messages: list[str]) -> bool:
    """Tell whether a reader said that it took the copy, if it must have seen the damage."""
    if not name.startswith(("gnomon.json", "log", "captures")) or name.endswith("zarr.json"):
        return True
    place = name.partition("/index/")[0]
    return any(place in text and "gnomon repair" in text for text in messages)


def named(url: Path) -> list[str]:
    """Return the files that a check in a new process names."""
    try:
        return [p.file for p in check(reopened(url), read_data=True).problems]
    except GnomonError as error:
        return [f"nothing, but: {error}"]


def wrong(
    folder: Path, name: str, baseline: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> str | None:
    """Return what is wrong with how one damaged file is met; None if it is as promised.

    The data is right or refused, right where there is a second copy, and the file is named.
    """
    caplog.clear()
    found = attempt(folder)
    messages = [r.getMessage() for r in caplog.records]
    if not isinstance(found, GnomonError) and found != baseline:
        return "other data"
    if is_twofold(name):
        if isinstance(found, GnomonError):
            return f"its copy was not read: {found}"
        if not is_warned_of(name, messages):
            return f"its copy was read in silence: {messages}"
    elif isinstance(found, GnomonError):
        whole = name.partition("/c/")[0].removesuffix("/zarr.json")
        about = next((p[2:] for p in name.split("/") if p.startswith("v-")), whole)
        if not isinstance(found, Integrity) or about not in str(found):
            return f"refused as {type(found).__name__}: {found}"
    elif not name.endswith("zarr.json"):  # those of large arrays are for Zarr's own readers
        return "read, though data depends on it"
    files = named(folder)
    return None if files == [name] else f"check names {files}"


def bent(data: bytes, rng: np.random.Generator) -> bytes:
    flipped = bytearray(data)
    flipped[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    return bytes(flipped)


HARM: dict[str, Harm] = {
    "truncated": lambda data, rng: data[: int(rng.integers(1, len(data)))],
    "emptied": lambda data, rng: b"",
    "grown": lambda data, rng: data + b"\0",
    "zeroed": lambda data, rng: bytes(len(data)),
    "bent at the end": lambda data, rng: data[:-1] + bytes([data[-1] ^ 64]),
}


def nothing(data: bytes, rng: np.random.Generator) -> None:
    return None


@pytest.mark.parametrize("kinds", [{"bent": bent}, {"deleted": nothing}, HARM], ids=", ".join)
def test_a_damaged_file_is_named_and_never_becomes_other_data(
    scratch: Path,
    baseline: dict[str, Any],
    kinds: dict[str, Harm],
    caplog: pytest.LogCaptureFixture,
) -> None:
    rng = np.random.default_rng(11)
    errors = []
    for name, (kind, harm) in zip(names_of(scratch), cycle(kinds.items()), strict=False):
        with damaged(scratch, {name: harm((scratch / name).read_bytes(), rng)}):
            if error := wrong(scratch, name, baseline, caplog):
                errors.append(f"{name} {kind}: {error}")
    assert errors == []
    assert named(scratch) == []
    assert everything(scratch) == baseline


def test_a_folder_in_the_place_of_a_file_is_damage(
    scratch: Path, baseline: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    errors = []
    for name in names_of(scratch)[::3]:
        with damaged(scratch, {name: None}):
            (scratch / name).mkdir()
            try:
                if error := wrong(scratch, name, baseline, caplog):
                    errors.append(f"{name}: {error}")
            finally:
                (scratch / name).rmdir()
    assert errors == []


def kind_of(name: str) -> list[str]:
    """Return what a file has in common with those of other steps, commits and variables."""
    return ["n" if re.search(r"\d|^v-", part) else part for part in name.split("/")]


def test_a_file_in_the_place_of_another_is_named_and_never_becomes_its_data(
    scratch: Path, baseline: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Whole and good in itself, but of another step, commit or variable: stale, or misplaced."""
    rng = np.random.default_rng(5)
    contents = {name: (scratch / name).read_bytes() for name in names_of(scratch)}
    errors = []
    for name, data in contents.items():
        like = [n for n, d in contents.items() if d != data and kind_of(n) == kind_of(name)]
        for other in rng.permutation(like)[: 1 if name.endswith("zarr.json") else 2].tolist():
            with damaged(scratch, {name: contents[other]}):
                if error := wrong(scratch, name, baseline, caplog):
                    errors.append(f"{other} in the place of {name}: {error}")
    assert errors == []
    assert everything(scratch) == baseline


def test_files_that_changed_places_are_both_named(scratch: Path, baseline: dict[str, Any]) -> None:
    """Of one array, of two steps, of two commits, of two variables, of captures and shadows."""
    contents = {name: (scratch / name).read_bytes() for name in names_of(scratch)}
    groups: dict[str, list[tuple[str, str]]] = {}
    for a, b in combinations(contents, 2):
        if contents[a] != contents[b]:
            group = f"{a.partition('/')[0]} {b.partition('/')[0]}"
            groups.setdefault(group, []).append((a, b))
    rng = np.random.default_rng(3)
    for pairs in groups.values():
        for k in rng.integers(len(pairs), size=2):
            a, b = pairs[k]
            with damaged(scratch, {a: contents[b], b: contents[a]}):
                found = attempt(scratch)
                assert isinstance(found, GnomonError) or found == baseline, (a, b)
                if all(n.removeprefix("copies/").startswith("log/") for n in (a, b)):
                    continue  # a record whose copy is damaged too
                assert sorted(named(scratch)) == sorted([a, b])
    assert everything(scratch) == baseline


def test_every_bit_of_a_record_and_of_the_settings_counts(
    scratch: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The newest record has no successor that would vouch for it."""
    records = reopened(scratch).records
    for name in (f"log/{len(records) - 1:020d}.json", "gnomon.json"):
        original = (scratch / name).read_bytes()
        for position in range(0, len(original), max(1, len(original) // 150)):
            data = bytearray(original)
            data[position] ^= 1 << (position % 8)
            with damaged(scratch, {name: bytes(data)}):
                caplog.clear()
                assert reopened(scratch).records == records, (name, position)
                assert name in caplog.text, (name, position)
            twice: dict[str, bytes | None] = dict.fromkeys([name, f"copies/{name}"], bytes(data))
            with damaged(scratch, twice), pytest.raises((Integrity, Format)):
                reopened(scratch)


def test_where_both_copies_are_damaged_both_are_named(
    scratch: Path, baseline: dict[str, Any]
) -> None:
    """Nothing that only depends on them is blamed.  Of the log and settings: see their tests."""
    rng = np.random.default_rng(17)
    names = names_of(scratch)
    copied = [n for n in names if f"copies/{n}" in names and "/" in n and not n.startswith("log")]
    assert copied
    for name in copied:
        data = (scratch / name).read_bytes()
        with damaged(scratch, {name: bent(data, rng), f"copies/{name}": bent(data, rng)}):
            found = attempt(scratch)
            if name.startswith("manifests/") or name.endswith("zarr.json"):
                assert isinstance(found, Integrity) or found == baseline
            else:
                assert isinstance(found, Integrity)
            assert sorted(named(scratch)) == sorted([name, f"copies/{name}"])
    assert everything(scratch) == baseline


@contextmanager
def replaced(folder: Path, other: Path) -> Iterator[None]:
    """Let a folder hold what another holds for a while."""
    backup = folder.with_name("backup")
    folder.rename(backup)
    shutil.copytree(other if other != folder else backup, folder)
    try:
        yield
    finally:
        shutil.rmtree(folder)
        backup.rename(folder)


def test_a_stale_slab_is_never_returned(scratch: Path, baseline: dict[str, Any]) -> None:
    """The whole slab of an older commit or another variable, consistent in itself."""
    refused = 0
    for part in ("captures", "copies/captures", "forecaster", "shadows"):
        commits = sorted((scratch / part).iterdir())
        for name in ("v-t", "v-wet"):
            folder = commits[-1] / name
            stale = commits[0] / name if len(commits) > 1 else commits[0] / "v-wet"
            if stale == folder:
                continue
            with replaced(folder, stale):
                found = attempt(scratch)
                refused += isinstance(found, Integrity)
                assert isinstance(found, Integrity) or found == baseline, folder
                place = folder.relative_to(scratch).as_posix()
                files = named(scratch)
                assert files
                assert all(f.startswith(f"{place}/") for f in files), (place, files)
    assert refused == 3  # copies are right, and the older mask is the same
    assert everything(scratch) == baseline


def edit_index(path: Path) -> None:
    array = zarr.open_array(path, mode="r+")
    values = np.array(array[...])
    values[(0,) * (values.ndim - 1) + (2,)] = 1
    array[...] = values


def test_an_index_that_was_edited_with_its_checksum_is_not_believed(
    scratch: Path, baseline: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """An index that Zarr itself rewrote is valid Zarr, and still not what was committed."""
    for path in sorted((scratch / "captures").rglob("index")):
        copy = scratch / "copies" / path.relative_to(scratch)
        places = [p.relative_to(scratch).as_posix() for p in (path, copy)]
        with replaced(path, path):
            edit_index(path)
            caplog.clear()
            assert everything(scratch) == baseline
            assert f"{places[0]}: root" in caplog.text
            assert [f.rpartition("/c/")[0] for f in named(scratch)] == places[:1]
            with replaced(copy, path):
                found = attempt(scratch)
                assert isinstance(found, Integrity)
                assert f"{places[0]}: root" in str(found)
                assert sorted(f.rpartition("/c/")[0] for f in named(scratch)) == places
    assert everything(scratch) == baseline


def test_a_quick_check_names_what_is_missing_or_has_another_size(scratch: Path) -> None:
    for name in names_of(scratch):
        for data in (None, (scratch / name).read_bytes() + b"\0"):
            with damaged(scratch, {name: data}):
                problems = check(reopened(scratch)).problems
                assert [p.file for p in problems] == [name], (name, data)
                assert name in problems[0].error


def test_damage_that_comes_while_a_repository_is_open_is_seen(
    small_path: Path, tmp_path: Path
) -> None:
    """Records are remembered; what is stored elsewhere is read again by who opens again."""
    folder = copy_of(small_path, tmp_path / "r")
    before = reopened(folder)
    assert before.captures("t").chunk(0, (0, 0)).size
    target = folder / before.captures("t").file(0, (0, 0))
    target.write_bytes(b"\xff" + target.read_bytes()[1:])
    again = Repository.open(str(folder))
    with pytest.raises(Integrity, match="t chunk"):
        again.captures("t").chunk(0, (0, 0))
    newest = folder / "log" / f"{3:020d}.json"
    newest.write_bytes(newest.read_bytes()[:-1])
    assert Repository.open(str(folder)).records == before.records
    names = [p.file for p in check(Repository.open(str(folder)), read_data=True).problems]
    assert names == [p.relative_to(folder).as_posix() for p in (newest, target)]


def test_a_check_counts_what_it_read(repository_path: Path) -> None:
    repository = Repository.open(str(repository_path))
    calls: list[tuple[str, int, int]] = []
    report = check(repository, read_data=True, progress=lambda *a: calls.append(a))
    forecast = [v for v in repository.settings.variables if v.forecast]
    grid = repository.settings.variables[0].grid
    assert report.problems == ()
    assert report.records == 4
    # three variables in two captures of two steps, and a shadow of two leads and a state of each
    assert report.chunks == 3 * 4 * grid.size + len(forecast) * (2 + 1) * grid.size
    assert (report.objects_read, report.nbytes_read) == (report.objects, report.nbytes)
    vouched = ("log/", "copies/", "manifests/", "frame/", "gnomon.json")
    names = [p.relative_to(repository_path).as_posix() for p in files_of(repository_path)]
    objects = [n for n in names if n.startswith("copies/captures") or not n.startswith(vouched)]
    assert report.objects == len(objects)
    assert report.nbytes == sum((repository_path / n).stat().st_size for n in objects)
    assert calls[-1] == ("done", 1, 1)
    quick = check(repository)
    assert (quick.chunks, quick.objects_read, quick.data_read) == (0, 0, False)
    assert quick.objects == report.objects
    assert json.dumps(report.to_json())


def test_a_damaged_chunk_spares_the_others(repository_path: Path, tmp_path: Path) -> None:
    folder = copy_of(repository_path, tmp_path / "r")
    repository = Repository.open(str(folder))
    stack = repository.captures("t")
    target = folder / stack.file(0, (0, 0))
    data = bytearray(target.read_bytes())
    data[3] ^= 1  # inside the first chunk of the shard
    target.write_bytes(data)
    repository = Repository.open(str(folder))
    report = check(repository, read_data=True)
    assert [p.file for p in report.problems] == [stack.file(0, (0, 0))]
    fine = repository.captures("p")
    assert fine.chunk(0, (0, 0)).size


def test_garbage_where_a_repository_should_be(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        Repository.open(str(tmp_path / "nothing"))
    assert not (tmp_path / "nothing").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFound):
        Repository.open(str(tmp_path / "empty"))
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotFound):
        Repository.open(str(tmp_path / "file"))
    for name, text in {
        "a": b"",
        "b": b"\xff\xfe",
        "c": b"[]",
        "d": b"null",
        "e": b'{"format": 1}',
        "f": b"1",
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "gnomon.json").write_bytes(text)
        with pytest.raises((Integrity, Format)):
            Repository.open(str(tmp_path / name))
    (tmp_path / "g" / "gnomon.json").mkdir(parents=True)
    with pytest.raises((NotFound, Integrity)):
        Repository.open(str(tmp_path / "g"))


def test_a_frame_entry_cannot_leave_the_folder(repository_path: Path, tmp_path: Path) -> None:
    """Settings are hashed; even ones that were made to fit read nothing from elsewhere."""
    from dataclasses import replace

    folder = copy_of(repository_path, tmp_path / "r")
    (tmp_path / "secret.npy").write_bytes(b"secret")
    repository = Repository.open(str(folder))
    entries = dict(repository.settings.frame_entries)
    name = next(iter(entries))
    entries[name] = {**entries[name], "file": "../secret.npy"}
    settings = replace(repository.settings, frame_entries=entries)
    hostile = replace(repository, eras=(replace(repository.state, settings=settings),))
    with pytest.raises(Integrity, match="not a name"):
        _ = hostile.frame
