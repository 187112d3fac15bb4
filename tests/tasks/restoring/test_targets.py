"""The socket for targets: what is built in and what others add are chosen and used alike."""

import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import xarray as xr

from gnomon.storage.errors import Conflict, Integrity, InvalidInput, TargetFailed
from gnomon.storage.stacks.captures import CaptureStack
from gnomon.tasks.restoring import restore as module
from gnomon.tasks.restoring.partial import in_the_making, sweep
from gnomon.tasks.restoring.points import points
from gnomon.tasks.restoring.states import States
from gnomon.tasks.restoring.targets.bucket import BucketTarget
from gnomon.tasks.restoring.targets.file import FileTarget
from gnomon.tasks.restoring.targets.netcdf import NetCDFBucket, NetCDFTarget
from gnomon.tasks.restoring.targets.registry import target_of
from gnomon.tasks.restoring.targets.target import Layout, Target
from gnomon.tasks.restoring.targets.zarr import ZarrTarget
from tests import sources
from tests.cases import Case
from tests.gnomon.test_cli import run
from tests.packages import Install, installing

AT = "2001-01-10"

PACKAGE = '''
from pathlib import Path
import numpy as np
from gnomon.tasks.restoring.targets.file import FileTarget


class Numbers(FileTarget):
    """A folder with a file of numbers for each array."""

    is_folder = True

    def create(self, dataset, layout):
        self.partial.mkdir()
        for name, variable in dataset.variables.items():
            if name in layout:
                shape, dtype = variable.shape, variable.dtype
                np.lib.format.open_memmap(self._file(name), "w+", dtype, shape)
            else:
                np.save(self._file(name), variable.values)

    def write(self, name, where, values):
        np.load(self._file(name), mmap_mode="r+")[where] = values

    def read(self, name, where, dtype):
        return np.load(self._file(name), mmap_mode="r")[where]

    def _file(self, name):
        return self.partial / f"{name}.npy"
'''


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Return a function that installs a package with targets."""
    with installing(tmp_path / "site", monkeypatch, "gnomon.targets") as install:
        yield install


def by_copies[A, B](function: Callable[[A], B], items: Sequence[A], /) -> list[B]:
    """Work as other processes would: with copies of what is passed, and results that are copies."""
    copies = pickle.loads(pickle.dumps(list(items)))
    results: list[B] = pickle.loads(pickle.dumps([*map(function, copies)]))
    return results


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_ending_chooses_what_is_built_in() -> None:
    for to, kind in {"a/b.zarr": ZarrTarget, "c.x.nc": NetCDFTarget, "b.zarr/": ZarrTarget}.items():
        target = target_of(to)
        assert isinstance(target, kind)
        assert str(target) == to
        assert isinstance(target_of(Path(to)), kind)
        assert isinstance(target, Target)


@pytest.mark.parametrize(
    "to", ["x", "x.txt", ".zarr", "a/.nc", "zarr", "x.nc4", "s3://b/x", "ftp://b/x.zarr", "s3://b"]
)
def test_what_nobody_is_registered_for_is_refused(to: str) -> None:
    offer = (
        r"give a local path ending in \.zarr, \.nc or \.icechunk; or a URL .* ending in \.zarr, "
    )
    with pytest.raises(InvalidInput, match=offer):
        target_of(to)


def test_a_target_of_another_package_is_used_like_a_built_in_one(
    grown: Case, install: Install
) -> None:
    install("numbers_target", PACKAGE, ".npd = numbers_target:Numbers")
    done = grown.open().restore(AT, "x.npd")
    assert (done.target, done.chunks) == ("x.npd", 7)
    source = sources.raw(grown.source).isel(time=slice(9, 10))
    for name, variable in source.variables.items():
        values = np.load(Path("x.npd") / f"{name}.npy")
        assert sources.bits(values) == sources.bits(variable.values), name
    with pytest.raises(Conflict, match=r"x\.npd exists already"):
        grown.open().restore(AT, "x.npd")
    with pytest.raises(InvalidInput, match=r"ending in \.zarr, \.nc, \.icechunk or \.npd;"):
        target_of("x.txt")


@pytest.mark.parametrize("ending", [".zarr", ".nc", ".npd"])
def test_workers_get_copies(grown: Case, ending: str, install: Install) -> None:
    install("numbers_target", PACKAGE, ".npd = numbers_target:Numbers")
    repository = grown.open().stored
    point = points(repository, repository.captured[9].instant)[0]
    done = module.restore(States(repository, (point,)), f"x{ending}", mapper=by_copies)
    assert done.chunks == 7


def test_what_fails_of_another_package_is_blamed_and_cleared_away(
    grown: Case, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("numbers_target", PACKAGE, ".npd = numbers_target:Numbers")
    kind: Any = type(target_of("x.npd"))
    before = sources.listing(grown.folder)

    def spoil(target: Any, name: str, where: Any, values: Any) -> None:
        np.load(target._file(name), mmap_mode="r+")[where] = values + values.dtype.type(1)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for write, error in ((spoil, TargetFailed), (full, InvalidInput)):
        monkeypatch.setattr(kind, "write", write)
        with pytest.raises(error, match=r"x\.npd"):
            grown.open().restore(AT, "x.npd")
        assert sources.listing(grown.folder) == before


def test_what_a_killed_restore_left_is_swept_whatever_its_ending(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path\n"
        "from gnomon.tasks.restoring.partial import in_the_making\n"
        "with in_the_making(Path(sys.argv[1])) as path: path.mkdir(); os._exit(9)"
    )
    for name in ("x.npd", "x.ome.tiff", "folder"):
        subprocess.run([sys.executable, "-c", code, str(tmp_path / name)], check=False)
        assert len(listing(tmp_path)) == 2
        (removed,) = sweep(tmp_path)
        assert removed.suffixes[-1] == (Path(name).suffix or ".partial")
        assert listing(tmp_path) == []
    with in_the_making(tmp_path / "x.npd") as path:
        path.mkdir()
        assert sweep(tmp_path) == []


def test_a_package_that_cannot_be_loaded_matters_only_to_who_needs_it(
    grown: Case, install: Install
) -> None:
    install("lost_target", "import nobody_has_this", ".lost = lost_target:Lost")
    grown.open().restore(AT, "x.zarr")
    with pytest.raises(InvalidInput) as refusal:
        grown.open().restore(AT, "x.lost")
    said = str(refusal.value)
    assert "'.lost' of gnomon.targets cannot be loaded from lost_target" in said
    assert "No module named 'nobody_has_this'" in said
    assert "the package lost_target" in said
    assert "\n" not in said


def test_what_is_built_in_stays_so_and_that_is_told_once(
    install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    install("my_target", PACKAGE, ".zarr = my_target:Numbers", ".nc = no_such:thing")
    for to, kind in {"x.nc": NetCDFTarget, "x.zarr": ZarrTarget, "y.zarr": ZarrTarget}.items():
        assert isinstance(target_of(to), kind)
    told = [r.getMessage() for r in caplog.records]
    assert told == [
        f"package my_target registers '{ending}' in gnomon.targets, which is built in: the "
        "built-in one is used"
        for ending in (".nc", ".zarr")
    ]


def test_two_packages_for_one_ending_are_both_named_to_who_needs_it(install: Install) -> None:
    install("my_target", PACKAGE, ".npd = my_target:Numbers", ".mine = my_target:Numbers")
    install("your_target", PACKAGE, ".npd = your_target:Numbers")
    with pytest.raises(InvalidInput) as caught:
        target_of("x.npd")
    text = str(caught.value)
    assert "my_target (my_target:Numbers)" in text
    assert "your_target (your_target:Numbers)" in text
    assert len(text.splitlines()) == 1
    assert type(target_of("x.mine")).__name__ == "Numbers"
    assert isinstance(target_of("x.zarr"), ZarrTarget)


def test_the_longest_ending_wins(install: Install) -> None:
    install("my_target", PACKAGE, ".my.zarr = my_target:Numbers")
    assert isinstance(target_of("x.zarr"), ZarrTarget)
    assert type(target_of("x.my.zarr")).__name__ == "Numbers"


def test_without_netcdf_only_netcdf_fails(grown: Case) -> None:
    program = """
import sys
sys.modules["netCDF4"] = None
import gnomon
repository = gnomon.open("repository")
print(repository.restore("2001-01-10", "x.zarr").chunks)
repository.restore("2001-01-10", "x.nc")
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=grown.folder,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert done.stdout == "7\n"
    assert "pip install 'gnomon[netcdf]'" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("thing", [3, None, b"x.zarr", object()])
def test_what_is_no_target_is_refused(grown: Case, thing: Any) -> None:
    with pytest.raises(InvalidInput, match="is no target: it lacks check, create"):
        grown.open().restore(AT, thing)


def test_a_class_is_no_target(grown: Case) -> None:
    with pytest.raises(InvalidInput, match="the class Colourful is no target; give an object"):
        grown.open().restore(AT, Colourful)  # type: ignore[arg-type]


# A target that is no file ------------------------------------------------------------------------


@dataclass(frozen=True)
class Bucket:
    """Keeps parts under tags, as multipart uploads do; they make a dataset at the end."""

    parts: ClassVar[dict[str, tuple[str, Any, Any]]] = {}
    datasets: ClassVar[dict[str, dict[str, Any]]] = {}

    url: str
    options: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.url

    def check(self, repository: Any) -> None:
        if self.url in self.datasets:
            raise Conflict(f"{self.url} exists already; choose a new target")

    @contextmanager
    def making(self) -> Iterator["Bucket"]:
        try:
            yield replace(self, options={"upload": "1"})
        except BaseException:
            self.parts.clear()
            raise

    def create(self, dataset: xr.Dataset, layout: Mapping[str, Layout]) -> None:
        assert self.options == {"upload": "1"}
        assert {"sst"} <= set(layout) <= set(dataset.variables)
        assert dataset.chunksizes["lat"] == (8,)
        for name, variable in dataset.variables.items():
            if name not in layout:
                self.parts[str(name)] = (str(name), (...,), variable.values)

    def write(self, name: str, where: Any, values: Any) -> str:
        tag = f"tag {len(self.parts)}"
        self.parts[tag] = (name, where, values.copy())
        return tag

    def read(self, name: str, where: Any, dtype: Any) -> Any:
        return next(v for n, w, v in reversed(self.parts.values()) if (n, w) == (name, where))

    def finish(self, written: Sequence[object]) -> None:
        assert {n for n in self.parts if n.startswith("tag")} == set(written)
        self.datasets[self.url] = {n: v for n, _, v in self.parts.values()}
        self.parts.clear()


def test_a_target_need_not_be_a_file(grown: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    done = grown.open().restore(AT, to=Bucket("bucket://b/x"), plain=True, workers=1)
    assert str(done).startswith("restored to bucket://b/x: captured state")
    kept = Bucket.datasets["bucket://b/x"]
    source = sources.raw(grown.source).isel(time=slice(9, 10))
    assert sources.bits(kept["sst"][None]) == sources.bits(source.sst.values)
    with pytest.raises(Conflict, match="bucket://b/x exists"):
        grown.open().restore(AT, Bucket("bucket://b/x"))
    monkeypatch.setattr(Bucket, "finish", lambda *_: 1 / 0)
    with pytest.raises(InvalidInput, match=r"bucket://b/y: the target failed \(ZeroDivisionError"):
        grown.open().restore(AT, Bucket("bucket://b/y"))
    assert Bucket.parts == {}
    assert list(Bucket.datasets) == ["bucket://b/x"]


def test_a_scheme_chooses_too_and_takes_no_secret(install: Install) -> None:
    code = "from tests.tasks.restoring.test_targets import Bucket"
    install("bucket_target", code, "bucket = bucket_target:Bucket")
    assert str(target_of("bucket://b/x")) == "bucket://b/x"
    with pytest.raises(InvalidInput, match="a user and a password") as refusal:
        target_of("bucket://me:PASSWORD@b/x")
    assert "PASSWORD" not in str(refusal.value)
    with pytest.raises(InvalidInput, match="or one that begins with bucket://"):
        target_of("s3://b/x")


@pytest.mark.parametrize("ending", [".zarr", ".nc", ".icechunk"])
@pytest.mark.parametrize("scheme", ["s3", "gs", "az", "abfs", "S3"])
def test_an_ending_chooses_in_every_object_store(
    scheme: str, ending: str, install: Install
) -> None:
    install("bucket_target", "from tests.tasks.restoring.test_targets import Bucket", "s3 = b:B")
    target = target_of(f"{scheme}://b/x{ending}")
    assert str(target) == f"{scheme}://b/x{ending}"
    assert isinstance(target, BucketTarget | NetCDFBucket)


def test_a_file_url_is_a_path(tmp_path: Path) -> None:
    assert target_of(f"file://{tmp_path}/x.zarr") == target_of(tmp_path / "x.zarr")


def test_a_format_is_of_zarr_stores() -> None:
    for to in ("x.zarr", "s3://b/x.zarr"):
        target: Any = target_of(to, 2)
        assert target.zarr_format == 2
    with pytest.raises(InvalidInput, match="found 4 as the format of a Zarr store; give 2 or 3"):
        target_of("x.zarr", 4)
    for to in ("x.nc", "x.icechunk"):
        with pytest.raises(InvalidInput, match=f"{to} is no Zarr store"):
            target_of(to, 2)


def test_a_file_target_is_pickled_with_what_a_subclass_adds() -> None:
    target = Colourful("x.png", colour="red")
    assert pickle.loads(pickle.dumps(target)) == target
    assert pickle.loads(pickle.dumps(target)).colour == "red"


@dataclass(frozen=True)
class Colourful(FileTarget):
    """A target with an option."""

    colour: str = "blue"


def test_a_target_that_changes_what_it_is_given_is_found_out(
    grown: Case, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Estimates have no digest: what is expected is settled before they are given away."""
    install("numbers_target", PACKAGE, ".npd = numbers_target:Numbers")
    kind: Any = type(target_of("x.npd"))

    def spoil(target: Any, name: str, where: Any, values: Any) -> None:
        with suppress(ValueError):  # it is told that they cannot be written to
            values += values.dtype.type(1)
        values = np.array(values) + values.dtype.type(1)
        np.load(target._file(name), mmap_mode="r+")[where] = values

    def force(target: Any, name: str, where: Any, values: Any) -> None:
        values.flags.writeable = True  # whoever insists can change them all the same
        values += values.dtype.type(1)
        np.load(target._file(name), mmap_mode="r+")[where] = values

    for write in (spoil, force):
        monkeypatch.setattr(kind, "write", write)
        with pytest.raises(TargetFailed, match=r"--to x\.npd: .* other bytes of sst chunk"):
            grown.open().restore("2001-01-25", "x.npd", accept_predicted=True)
        assert not Path("x.npd").exists()


def test_a_target_that_gives_no_name_has_not_restored(
    grown: Case, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("numbers_target", PACKAGE, ".npd = numbers_target:Numbers")
    kind: Any = type(target_of("x.npd"))
    before = listing(grown.folder)
    monkeypatch.setattr(kind, "finish", lambda *_: None)
    with pytest.raises(InvalidInput, match=r"x\.npd did not get its name; mend"):
        grown.open().restore(AT, "x.npd")
    assert listing(grown.folder) == before


@pytest.mark.parametrize("where", ["check", "making", "create", "write", "read", "finish"])
def test_a_target_cannot_end_the_program(
    grown: Case, install: Install, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """An exit code of 0 would say that the restore was done."""
    install("numbers_target", PACKAGE, ".npd = numbers_target:Numbers")
    kind: Any = type(target_of("x.npd"))
    before = listing(grown.folder)

    def leave(*_: object) -> None:
        raise SystemExit(0)

    monkeypatch.setattr(kind, where, leave)
    with pytest.raises(InvalidInput, match=r"the target failed \(SystemExit"):
        grown.open().restore(AT, "x.npd")
    assert listing(grown.folder) == before


def test_wrong_bytes_are_the_fault_of_the_target_not_of_the_repository(
    grown: Case, install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit code 5 would send a person to repair what is well."""
    code = PACKAGE.replace("[where] = values", "[where] = values + 1")
    install("numbers_target", code, ".npd = numbers_target:Numbers")
    before = sources.listing(grown.folder)
    exit_code, out, err = run(capsys, "restore", "repository", "--at", AT, "--to", "x.npd")
    assert (exit_code, out) == (TargetFailed.exit_code, "")
    assert exit_code == 2
    assert err.count("\n") == 1
    assert "--to x.npd: the target gives back other bytes of sst" in err
    assert "the repository is whole" in err
    assert sources.listing(grown.folder) == before


def test_damage_of_the_repository_is_not_blamed_on_the_target(grown: Case) -> None:
    repository = grown.open()
    for path in grown.place.glob("captures/*/v-sst/residual/c/*/0/0"):
        path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(Integrity):
        repository.restore(AT, "x.zarr")
    assert not Path("x.zarr").exists()


def test_a_fault_of_gnomon_is_not_blamed_on_the_target(
    grown: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(CaptureStack, "chunk", fail)
    with pytest.raises(KeyError, match="a bug"):
        grown.open().restore(AT, "x.zarr", plain=True)
    assert not Path("x.zarr").exists()


class Careless(Bucket):
    """Swallows what goes wrong, or fails once more as it clears up."""

    at_the_end: ClassVar[list[Exception]] = []

    @contextmanager
    def making(self) -> Iterator["Bucket"]:
        try:
            yield replace(self, options={"upload": "1"})
        except Exception:  # noqa: BLE001 - as somebody may write it
            if self.at_the_end:
                raise self.at_the_end[0] from None


@pytest.mark.parametrize("where", ["create", "write", "finish"])
def test_a_target_that_swallows_its_failure_has_not_restored(
    grown: Case, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    count = 0

    def fail(*_: object) -> None:
        nonlocal count
        count += 1
        if where != "write" or count == 3:
            raise ValueError("the third is too many")

    monkeypatch.setattr(Careless, where, fail)
    if where == "write":
        monkeypatch.setattr(Careless, "read", lambda _, name, place, dtype: np.zeros(0))
        count = 2
    with pytest.raises(TargetFailed, match=r"b://x: the target failed .*the third is too many"):
        grown.open().restore(AT, Careless("b://x"), workers=1)


def test_what_goes_wrong_with_clearing_up_does_not_hide_why(
    grown: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Careless, "at_the_end", [PermissionError(13, "Permission denied")])
    monkeypatch.setattr(Careless, "finish", lambda *_: 1 / 0)
    with pytest.raises(TargetFailed) as caught:
        grown.open().restore(AT, Careless("b://x"))
    text = str(caught.value)
    assert "ZeroDivisionError" in text
    assert "could not remove what was written" in text
    assert "Permission denied" in text
    assert len(text.splitlines()) == 1
