"""Whatever happens to a stored file: never wrong data, always a named error or the right answer."""

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gnomon.storage.check import check
from gnomon.storage.errors import Format, GnomonError, Integrity, NotFound
from gnomon.storage.repository import Repository
from tests.storage.building import attempt, copy_of, everything, files_of


@pytest.fixture(scope="module")
def baseline(small_path: Path) -> dict[str, Any]:
    return everything(small_path)


@pytest.fixture(scope="module")
def scratch(small_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy that each test damages and mends again."""
    return copy_of(small_path, tmp_path_factory.mktemp("scratch") / "r")


def is_redundant(path: Path) -> bool:
    """Metadata may be damaged where nothing that is returned depends on it; so may no data."""
    return path.name == "zarr.json"


def is_ledger(path: Path) -> bool:
    return "ledger" in path.parts


def verdict(url: Path, baseline: dict[str, Any]) -> str:
    """Return "refused", "right", or "WRONG"."""
    found = attempt(url)
    if isinstance(found, GnomonError):
        return "refused"
    return "right" if found == baseline else "WRONG"


def reported(url: Path) -> bool:
    try:
        return bool(check(Repository.open(str(url)), read_data=True).problems)
    except GnomonError:
        return True


def positions(path: Path, rng: np.random.Generator) -> list[int]:
    size = path.stat().st_size
    if path.name == "zarr.json":
        return [int(rng.integers(size))]
    return sorted({int(rng.integers(size)), int(rng.choice([0, size - 1]))})


def test_a_flipped_bit_is_never_returned(scratch: Path, baseline: dict[str, Any]) -> None:
    rng = np.random.default_rng(11)
    metadata = sorted(scratch.rglob("zarr.json"))
    for path in [*metadata[1::2], *(p for p in files_of(scratch) if p.name != "zarr.json")]:
        original = path.read_bytes()
        for position in positions(path, rng):
            data = bytearray(original)
            data[position] ^= 1 << int(rng.integers(8))
            path.write_bytes(data)
            found = verdict(scratch, baseline)
            where = f"{path.relative_to(scratch)} byte {position}"
            assert found != "WRONG", where
            if is_ledger(path):
                assert is_redundant(path) or reported(scratch), where
            else:
                assert found == "refused" or is_redundant(path), where
        path.write_bytes(original)
    assert everything(scratch) == baseline


def test_every_bit_of_a_record_and_of_the_settings_counts(
    scratch: Path, baseline: dict[str, Any]
) -> None:
    """The newest record has no successor that would vouch for it."""
    newest = sorted((scratch / "log").iterdir())[-1]
    for path in (newest, scratch / "gnomon.json"):
        original = path.read_bytes()
        step = max(1, len(original) // 150)
        for position in range(0, len(original), step):
            data = bytearray(original)
            data[position] ^= 1 << (position % 8)
            path.write_bytes(data)
            with pytest.raises((Integrity, Format)):
                Repository.open(str(scratch))
        path.write_bytes(original)
    assert everything(scratch) == baseline


def data_files(folder: Path) -> list[Path]:
    return [p for p in files_of(folder) if p.name != "zarr.json" and not is_ledger(p)]


def damage(path: Path, kind: str) -> None:
    original = path.read_bytes()
    if kind in ("deleted", "a folder"):
        path.unlink()
    if kind == "a folder":
        path.mkdir()
    if kind == "truncated":
        path.write_bytes(original[: len(original) // 2])
    if kind == "emptied":
        path.write_bytes(b"")
    if kind == "grown":
        path.write_bytes(original + b"\0")


def mend(path: Path, original: bytes) -> None:
    if path.is_dir():
        path.rmdir()
    path.write_bytes(original)


def test_a_broken_file_is_named(scratch: Path, baseline: dict[str, Any]) -> None:
    others = itertools.cycle(["truncated", "emptied", "grown", "a folder"])
    files = [p for p in data_files(scratch) if p.parent.name != "log"]
    for path in files:
        original = path.read_bytes()
        name = path.relative_to(scratch)
        for kind in ("deleted", next(others)):
            damage(path, kind)
            found = attempt(scratch)
            assert isinstance(found, GnomonError), (name, kind)
            if path.name != "gnomon.json":
                variable = next((p[2:] for p in path.parts if p.startswith("v-")), str(name))
                assert variable in str(found), (name, kind, str(found))
                assert reported(scratch), (name, kind)
            mend(path, original)
    assert everything(scratch) == baseline


def test_missing_metadata_is_refused_or_harmless(scratch: Path, baseline: dict[str, Any]) -> None:
    for path in sorted(scratch.rglob("zarr.json"))[::2]:
        original = path.read_bytes()
        for kind in ("deleted", "truncated"):
            damage(path, kind)
            assert verdict(scratch, baseline) != "WRONG", (path, kind)
            mend(path, original)


def pairs(files: list[Path]) -> list[tuple[Path, Path]]:
    return [(a, b) for k, a in enumerate(files) for b in files[k + 1 :]]


def test_swapped_chunk_files_are_never_returned(scratch: Path, baseline: dict[str, Any]) -> None:
    """Of one array, of two steps, of two commits, of two variables, of captures and shadows."""
    files = [p for p in files_of(scratch) if "c" in p.parts and not is_ledger(p)]
    rng = np.random.default_rng(3)
    chosen = pairs(files)
    keep = rng.choice(len(chosen), min(25, len(chosen)), replace=False)
    same_array = [(a, b) for a, b in chosen if a.parts[:-4] == b.parts[:-4]][:10]
    for a, b in [*same_array, *(chosen[k] for k in keep)]:
        one, other = a.read_bytes(), b.read_bytes()
        if one == other:
            continue
        a.write_bytes(other)
        b.write_bytes(one)
        found = verdict(scratch, baseline)
        assert found == "refused", (a.relative_to(scratch), b.relative_to(scratch))
        a.write_bytes(one)
        b.write_bytes(other)
    assert everything(scratch) == baseline


def test_a_stale_slab_is_never_returned(scratch: Path, baseline: dict[str, Any]) -> None:
    """The whole slab of an older commit, consistent in itself, in the place of a newer one."""
    for part in ("captures", "forecaster", "shadows"):
        slabs = sorted((scratch / part).iterdir())
        slabs = [s for s in slabs if s.is_dir()]
        for folder in sorted(slabs[-1].iterdir()):
            if not folder.is_dir():
                continue
            source = next(
                f
                for s in slabs
                for f in sorted(s.iterdir())
                if f.is_dir() and f != folder and (len(slabs) == 1 or f.name == folder.name)
            )
            backup = shutil.move(folder, scratch.parent / "backup")
            shutil.copytree(source, folder)
            assert verdict(scratch, baseline) == "refused", folder
            shutil.rmtree(folder)
            shutil.move(backup, folder)
    assert everything(scratch) == baseline


def test_an_index_that_was_edited_with_its_checksum_is_refused(
    scratch: Path, baseline: dict[str, Any]
) -> None:
    """An index that Zarr itself rewrote is valid Zarr, and still not what was committed."""
    import zarr

    for path in (scratch / "captures").rglob("index"):
        original = copy_of(path, scratch.parent / "index-backup")
        array = zarr.open_array(path, mode="r+")
        values = np.array(array[...])
        values[(0,) * (values.ndim - 1) + (2,)] = 1
        array[...] = values
        found = attempt(scratch)
        assert isinstance(found, Integrity)
        assert "root" in str(found)
        shutil.rmtree(path)
        shutil.move(original, path)
    assert everything(scratch) == baseline


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
