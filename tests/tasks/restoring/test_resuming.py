"""A restore that was killed is gone on with by the same one, and by no other."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from gnomon.storage.care.forget import tag
from gnomon.storage.errors import Conflict, TargetFailed
from gnomon.storage.repository import Repository
from gnomon.tasks.restoring import partial as partials
from gnomon.tasks.restoring.points import points
from gnomon.tasks.restoring.restore import Restored, restore
from gnomon.tasks.restoring.states import States
from gnomon.tasks.restoring.targets.zarr import ZarrTarget
from tests import sources
from tests.storage.building import WHEN, captured, undecoded, weather, write_zarr

KINDS = pytest.mark.parametrize(
    ("name", "form"), [("x.zarr", 0), ("x.zarr", 2), ("x.nc", 0), ("x.icechunk", 0)]
)
SHARES = (0.3, 0.6, 0.8, 0.95)


def many_fields() -> xr.Dataset:
    """Return three states of eight variables: each is a block of its own."""
    data = weather(3)
    odd = np.array([0x7FC00001, 0x80000000, 0x7F800001, 0], "<u4").view("<f4")  # NaNs, -0.0
    for number in range(5):
        field = data.t.copy(deep=True)
        field.values[...] += np.float32(number)
        field.values[:, 1, :4] = odd
        data[f"t{number}"] = field
    return data


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """Return a repository in the working directory, whose second state is to be restored."""
    monkeypatch.chdir(tmp_path)
    source = write_zarr(many_fields(), tmp_path / "source.zarr")
    return captured(tmp_path / "r", source)


def read(path: str | Path) -> xr.Dataset:
    """Return a restored dataset, undecoded, in memory."""
    if str(path).endswith(".icechunk"):
        icechunk = pytest.importorskip("icechunk")
        opened = icechunk.Repository.open(icechunk.local_filesystem_storage(str(path)))
        return read_icechunk(opened)
    return sources.raw(path)


def read_icechunk(opened: Any) -> xr.Dataset:
    store = opened.readonly_session("main").store
    dataset = xr.open_zarr(store, consolidated=False, decode_cf=False, chunks=None)
    loaded: xr.Dataset = dataset.load()
    return loaded


def assert_right(restored: xr.Dataset, step: int = 1) -> None:
    source = undecoded(Path("source.zarr")).isel(time=slice(step, step + 1)).load()
    assert set(restored.variables) == set(source.variables)
    for name, variable in source.variables.items():
        assert sources.bits(restored[name].values) == sources.bits(variable.values), name


def kill(target: str, form: int, *shares: float) -> list[dict[str, Any]]:
    """Restore in processes of which every second one is killed; return how each of them ended."""
    command = [sys.executable, "-m", "tests.tasks.restoring.killing", "r", target, str(form)]
    done = subprocess.run(
        [*command, *map(str, shares)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    ends = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(ends) == 1 + 2 * len(shares), done.stderr
    return ends


def assert_gone_on_with(ends: list[dict[str, Any]], *, by_blocks: bool = True) -> None:
    """Demand that none of them failed, and that what was written was not written again."""
    first, *rest = ends
    assert first["chunks"] >= 8
    for killed, again in zip(rest[::2], rest[1::2], strict=True):
        assert killed["killed"], killed
        if again.get("code") == 4:  # it was through, and only tidied up
            assert "exists already" in again["error"]
            assert killed["point"] > 0.9 * first["operations"]
            continue
        assert again.get("chunks") == first["chunks"], again
        if by_blocks:  # the last one may have been half there
            assert again["blocks"] <= first["blocks"] - max(0, killed["blocks"] - 1)
            assert again["kept"] >= min(killed["blocks"] - 1, first["chunks"])
    assert any(again.get("kept") for again in rest[1::2])


@KINDS
def test_what_was_written_before_a_kill_is_not_written_again(
    stored: Repository, name: str, form: int
) -> None:
    Path("out").mkdir()
    ends = kill(f"out/{{}}{name}", form, *SHARES)
    assert_gone_on_with(ends, by_blocks=not name.endswith(".nc"))
    for number in range(len(SHARES) + 1):
        assert_right(read(f"out/{number}{name}"))
    assert set(os.listdir("out")) == {f"{number}{name}" for number in range(len(SHARES) + 1)}


# What is left, and by whom it is gone on with -------------------------------------------------


def again(
    stored: Repository, to: str, step: int = 1, *, marks: bool = False, form: int | None = None
) -> Restored:
    point = points(stored, stored.captured[step].instant)[0]
    return restore(States(stored, (point,)), to, marks=marks, zarr_format=form)


@contextmanager
def keeping_locks(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Let lock files stay, as where a process is killed before it removes them."""
    unlink = Path.unlink

    def keep_locks(path: Path, **options: Any) -> None:
        if path.suffix != ".lock":
            unlink(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", keep_locks)
        yield patch


@KINDS
def test_a_rerun_that_finds_the_dataset_removes_the_lock_beside_it(
    stored: Repository,
    name: str,
    form: int,
    leave: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first was killed when its dataset had its name already."""
    with keeping_locks(monkeypatch):
        again(stored, f"y{name}", form=form or None)
    assert len(list(Path().glob(".*.lock"))) == 1
    other = leave("x.zarr")
    before = set(os.listdir())
    with pytest.raises(Conflict, match="exists already"):
        again(stored, f"y{name}", form=form or None)
    (removed,) = before - set(os.listdir())
    assert removed.startswith(".yx-")
    # What another restore may go on with is left to it.
    assert other.exists()
    assert again(stored, "x.zarr").kept == 4


@pytest.fixture
def leave(stored: Repository, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Return a function that leaves what a restore leaves that is killed in its fifth block."""

    def begin(name: str) -> Path:
        class Killed(BaseException):
            """Stands for SIGKILL: nothing is cleared away, and the system gives the lock back."""

        write, count = ZarrTarget.write, 0

        def four(target: Any, *block: Any) -> None:
            nonlocal count
            count += 1
            if count == 5:
                raise Killed
            write(target, *block)

        with keeping_locks(monkeypatch) as patch:
            patch.setattr(ZarrTarget, "write", four)
            patch.setattr(partials, "_discard", lambda _: None)
            with pytest.raises(Killed):
                again(stored, name)
        (left,) = (p for p in Path().glob(".x-*.partial.zarr"))
        return left

    return begin


def test_the_same_restore_goes_on(stored: Repository, leave: Callable[[str], Path]) -> None:
    leave("x.zarr")
    done = again(stored, "x.zarr")
    assert done.kept == 4
    assert "8 chunks verified, 4 of them written by an earlier try" in str(done)
    assert_right(read("x.zarr"))


@pytest.mark.parametrize(
    "other", [{"step": 2}, {"marks": True}, {"form": 2}, {"to": "y.zarr"}], ids=str
)
def test_another_restore_begins_anew(
    stored: Repository, leave: Callable[[str], Path], other: dict[str, Any]
) -> None:
    leave("x.zarr")
    options = {"to": "x.zarr", **other}
    assert again(stored, **options).kept == 0
    assert not list(Path().glob(".x-*"))
    restored = read(options["to"])
    if not options.get("marks"):
        assert_right(restored, options.get("step", 1))


def test_another_repository_begins_anew(stored: Repository, leave: Callable[[str], Path]) -> None:
    leave("x.zarr")
    other = captured("s", Path("source.zarr"), chunks={"y": 3})
    assert again(other, "x.zarr").kept == 0
    assert_right(read("x.zarr"))


def test_a_commit_in_between_changes_nothing(
    stored: Repository, leave: Callable[[str], Path]
) -> None:
    leave("x.zarr")
    newer = tag(stored, [0], add=["kept"], committed_at=WHEN)
    assert again(newer, "x.zarr").kept == 4
    assert_right(read("x.zarr"))


@pytest.mark.parametrize("spoil", ["flip", "cut", "remove", "swap"])
def test_a_block_that_was_harmed_meanwhile_is_written_again(
    stored: Repository, leave: Callable[[str], Path], spoil: str
) -> None:
    left = leave("x.zarr")
    chunks = sorted(p for p in left.glob("*/c/0/0/0") if p.is_file())
    assert len(chunks) >= 4
    data = chunks[0].read_bytes()
    if spoil == "flip":
        chunks[0].write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    elif spoil == "cut":
        chunks[0].write_bytes(data[:-9])
    elif spoil == "remove":
        chunks[0].unlink()
    else:
        shutil.copy(chunks[1], chunks[0])
    assert again(stored, "x.zarr").kept == 3
    assert_right(read("x.zarr"))


def test_metadata_that_was_harmed_meanwhile_is_noticed(
    stored: Repository, leave: Callable[[str], Path]
) -> None:
    left = leave("x.zarr")
    np.asarray(read(left).y)  # it can be read
    (left / "y" / "c" / "0").unlink()
    with pytest.raises(TargetFailed, match="gives back other bytes of y"):
        again(stored, "x.zarr")
    assert not Path("x.zarr").exists()
    assert again(stored, "x.zarr").kept == 0
    assert_right(read("x.zarr"))
