"""A restore that is stopped leaves nothing behind, or the next one removes it; nothing else."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gnomon.tasks.restoring.partial import in_the_making, sweep
from tests.cases import Case

SLOW = """
import os, sys, time
import gnomon.tasks.restoring.blocks as blocks
work = blocks._write_block
def slow(job):
    os.write(1, b"begun\\n")
    time.sleep(SECONDS)
    return work(job)
blocks._write_block = slow
from gnomon.cli import main
sys.argv = ["gnomon", "restore", *sys.argv[1:4], "--to", sys.argv[4]]
main()
"""
"""The command line in a process that restores slowly."""


def hidden(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.name.startswith("."))


@pytest.fixture
def slow(grown: Case) -> Callable[..., subprocess.Popen[str]]:
    """Return a function that begins a restore, and returns when it is writing."""

    def begin(name: str, seconds: int = 600) -> subprocess.Popen[str]:
        (grown.folder / "out").mkdir(exist_ok=True)
        target = grown.folder / "out" / name
        code = SLOW.replace("SECONDS", str(seconds))
        command = [sys.executable, "-c", code, str(grown.place), "--at", "2001-01-20", str(target)]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        return process

    return begin


@pytest.mark.parametrize("name", ["x.zarr", "x.nc"])
def test_a_terminated_restore_leaves_nothing(
    grown: Case, slow: Callable[..., subprocess.Popen[str]], name: str
) -> None:
    process = slow(name, 3)
    out = grown.folder / "out"
    assert len(hidden(out)) == 2
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=90)
    assert process.returncode == 143
    assert said.splitlines()[-1].startswith("gnomon: error: terminated; nothing half-done")
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("name", ["x.zarr", "x.nc"])
def test_what_a_killed_restore_left_is_removed_by_the_next(
    grown: Case, slow: Callable[..., subprocess.Popen[str]], name: str
) -> None:
    killed, live = slow(name), slow(f"y{Path(name).suffix}")
    out = grown.folder / "out"
    try:
        assert len(hidden(out)) == 4
        killed.kill()
        killed.communicate()
        foreign = [out / ".x-01234567.partial.zarr", out / ".z-89abcdef.partial.zarr.lock"]
        foreign[0].mkdir()
        foreign[1].write_text("somebody else's")
        assert len(hidden(out)) == 6
        grown.open().restore("2001-01-20", str(out / name))
        left = hidden(out)
        # The dead one is gone; the living one and what is not Gnomon's are as they were.
        assert len(left) == 4
        assert sum(n.startswith(".y-") for n in left) == 2
        assert all(p.exists() for p in foreign)
    finally:
        live.kill()
        live.communicate()
    assert len(sweep(out)) == 1
    assert hidden(out) == sorted(p.name for p in foreign)


def test_a_prune_removes_what_was_left_beside_the_repository(grown: Case) -> None:
    left = grown.folder / ".x-01234567.partial.zarr"
    code = (
        "import os, sys; from pathlib import Path\n"
        "from gnomon.tasks.restoring.partial import in_the_making\n"
        "with in_the_making(Path(sys.argv[1])) as path: path.mkdir(); os._exit(9)"
    )
    target = str(grown.folder / "x.zarr")
    assert subprocess.run([sys.executable, "-c", code, target], check=False).returncode == 9
    assert not left.exists()
    assert len(hidden(grown.folder)) == 2
    grown.open().prune(dry_run=True)
    assert len(hidden(grown.folder)) == 2
    grown.open().prune()
    assert hidden(grown.folder) == []


def test_what_was_made_goes_with_a_failure_and_its_lock_always(tmp_path: Path) -> None:
    def fail() -> None:
        with in_the_making(tmp_path / "x.zarr") as path:
            (path / "v").mkdir(parents=True)
            assert sweep(tmp_path) == []  # this very process is writing
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert hidden(tmp_path) == []
    with in_the_making(tmp_path / "x.nc") as path:
        path.write_bytes(b"data")
        path.rename(tmp_path / "x.nc")
    assert [p.name for p in tmp_path.iterdir()] == ["x.nc"]


def test_a_link_is_never_followed(tmp_path: Path) -> None:
    """Neither where the lock is expected nor where the dataset is."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "data").write_text("precious")
    (tmp_path / "out").mkdir()
    with in_the_making(tmp_path / "out" / "x.zarr") as path:
        mark = path.with_name(f"{path.name}.lock").read_bytes()
    lock = path.with_name(f"{path.name}.lock")
    lock.write_bytes(mark)
    path.symlink_to(tmp_path / "mine", target_is_directory=True)
    (tmp_path / "mark").write_bytes(mark)
    other = tmp_path / "out" / ".y-01234567.partial.zarr"
    other.mkdir()
    other.with_name(f"{other.name}.lock").symlink_to(tmp_path / "mark")
    assert sweep(tmp_path / "out") == []
    assert (tmp_path / "mine" / "data").read_text() == "precious"
    assert other.is_dir()


def test_the_lock_of_one_who_was_killed_at_once_goes(tmp_path: Path) -> None:
    """Without its mark it is a dead writer's all the same, unless a dataset is there."""
    for name in (".x-01234567.partial.zarr", ".y-01234567.partial.nc"):
        (tmp_path / f"{name}.lock").touch()
    (tmp_path / ".y-01234567.partial.nc").write_text("somebody else's")
    assert sweep(tmp_path) == []
    assert hidden(tmp_path) == [".y-01234567.partial.nc", ".y-01234567.partial.nc.lock"]


def test_a_lock_that_is_held_elsewhere_is_respected(tmp_path: Path) -> None:
    with in_the_making(tmp_path / "x.zarr") as path:
        mark = path.with_name(f"{path.name}.lock").read_bytes()
    path.mkdir()
    lock = path.with_name(f"{path.name}.lock")
    lock.write_bytes(mark)
    held = os.open(lock, os.O_RDWR)
    fcntl.flock(held, fcntl.LOCK_EX)
    assert sweep(tmp_path) == []
    os.close(held)
    begun = time.monotonic()
    assert sweep(tmp_path) == [path]
    assert time.monotonic() - begun < 5
    assert hidden(tmp_path) == []


@pytest.mark.parametrize(("stop", "code"), [("Terminated", 143), ("KeyboardInterrupt", 130)])
def test_what_fails_because_of_a_signal_is_not_told_as_the_reason(
    grown: Case, stop: str, code: int
) -> None:
    """A signal may strike while a lock is taken: giving it back fails, and hides the signal."""
    program = f"""
import sys
import gnomon.tasks.restoring.blocks as blocks
from gnomon.cli import main
from gnomon.cli.failures import Terminated
def struck(*_args, **_options):
    try:
        raise {stop}
    finally:
        raise RuntimeError("release unlocked lock")
blocks._write_block = struck
sys.argv = ["gnomon", "restore", *sys.argv[1:]]
main()
"""
    target = grown.folder / "x.zarr"
    command = [str(grown.place), "--at", "2001-01-20", "--to", str(target)]
    done = subprocess.run(
        [sys.executable, "-c", program, *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == code
    assert "nothing half-done was kept" in done.stderr.splitlines()[-1]
    assert "unlocked" not in done.stderr
    assert hidden(grown.folder) == []
