"""A writer that dies at any moment leaves a repository that opens, checks clean and goes on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from gnomon.storage.check import check
from gnomon.storage.errors import Conflict, InvalidInput
from gnomon.storage.repository import Repository
from gnomon.tasks.capture import capture, commit_capture
from gnomon.tasks.plan import plan_capture
from gnomon.tasks.work import serial
from tests.storage.building import (
    WHEN,
    assert_identical,
    capture_new,
    history,
    make_repository,
    undecoded,
    weather,
    write_zarr,
)

HOUR = 3_600_000_000
START = 946_684_800_000_000


def test_slabs_without_a_record_are_not_seen(tmp_path: Path) -> None:
    source = write_zarr(weather(4), tmp_path / "source.zarr")
    repository = capture_new(make_repository(tmp_path / "r", source), until=START + HOUR)
    plan = plan_capture(repository)
    assert plan is not None
    found = capture(repository, plan, serial)  # and here the writer dies
    assert found.rows
    reopened = Repository.open(str(tmp_path / "r"))
    assert len(reopened.captured) == 2
    assert check(reopened, read_data=True).problems == ()
    assert_identical(history(reopened), undecoded(source, 2))
    assert_identical(history(capture_new(reopened)), undecoded(source, 4))


def test_a_record_that_cannot_be_put_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gnomon.storage.location import Location

    source = write_zarr(weather(3), tmp_path / "source.zarr")
    repository = make_repository(tmp_path / "r", source)
    plan = plan_capture(repository)
    assert plan is not None
    found = capture(repository, plan, serial)

    def full(self: Location, name: str, data: bytes) -> None:
        raise Conflict("taken")

    with monkeypatch.context() as patch:
        patch.setattr(Location, "create", full)
        with pytest.raises(Conflict):
            commit_capture(repository, found, set(), report={}, committed_at=WHEN)
    assert Repository.open(str(tmp_path / "r")).captured == ()
    assert_identical(history(capture_new(repository.refresh())), undecoded(source, 3))


def test_an_init_that_is_refused_leaves_nothing(tmp_path: Path) -> None:
    import xarray as xr

    from gnomon.storage.model import Settings, SourceSpec

    frame = xr.Dataset({"a": ("x", np.arange(3.0)), "b": ("x", np.array([1, "y", None], object))})
    settings = Settings(SourceSpec("s", "state"), (), "", "", {})
    with pytest.raises(InvalidInput, match="b holds int"):
        Repository.create(str(tmp_path / "r"), settings, frame, WHEN)
    assert not (tmp_path / "r").exists()


WRITER = """
import sys
from gnomon.storage.repository import Repository
from tests.storage.building import HOUR, capture_new

repository = Repository.open(sys.argv[1])
print("ready", flush=True)
while len(repository.captured) < 60:
    until = 946_684_800_000_000 + len(repository.captured) * HOUR
    repository = capture_new(repository, until=until)
    print(repository.records[-1].sequence, flush=True)
"""


def test_a_killed_writer_loses_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    source = write_zarr(weather(60), tmp_path / "source.zarr")
    url = make_repository(tmp_path / "r", source, chunks={"y": 3, "x": 5}).location.url
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    rng = np.random.default_rng(5)
    for _ in range(3):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, url],
            stdout=subprocess.PIPE,
            text=True,
            cwd=root,
            env=environment,
        )
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        time.sleep(float(rng.uniform(0.05, 0.5)))
        writer.send_signal(signal.SIGKILL)
        acknowledged = [int(line) for line in writer.stdout.read().split()]
        writer.wait()
        repository = Repository.open(url)
        assert len(repository.records) > max(acknowledged, default=0)
        assert check(repository, read_data=True).problems == ()
        if repository.captured:
            assert_identical(history(repository), undecoded(source, len(repository.captured)))
    done = capture_new(Repository.open(url))
    assert_identical(history(done), undecoded(source, 60))
    assert check(done, read_data=True).problems == ()
