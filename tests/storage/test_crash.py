"""A writer that dies at any moment leaves a repository that opens, checks clean and goes on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gnomon.storage.care.check import check
from gnomon.storage.care.forget import forget
from gnomon.storage.care.prune import prune
from gnomon.storage.care.retention import Policy
from gnomon.storage.errors import Conflict, Integrity, InvalidInput
from gnomon.storage.log.location import Location
from gnomon.storage.log.records import COPIES, Log, checkpoint_name, record_name
from gnomon.storage.log.staging import fresh_id
from gnomon.storage.repository import Repository
from gnomon.tasks.capturing.capture import capture, commit_capture
from gnomon.tasks.capturing.plan import plan_capture
from gnomon.tasks.work import serial
from tests.storage.building import (
    WHEN,
    assert_identical,
    capture_new,
    captured,
    files_of,
    history,
    make_repository,
    problems_of_a_stopped_writer,
    reopened,
    shorten_spans,
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

    from gnomon.storage.values.model import RepositorySettings, SourceSpec

    frame = xr.Dataset({"a": ("x", np.arange(3.0)), "b": ("x", np.array([1, "y", None], object))})
    settings = RepositorySettings(SourceSpec("s", "state"), (), "", "", {})
    with pytest.raises(InvalidInput, match="b: found a value of type int"):
        Repository.create(str(tmp_path / "r"), settings, frame, WHEN)
    assert not (tmp_path / "r").exists()


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the program sees it."""


def killed(*_arguments: Any, **_options: Any) -> None:
    raise Killed


@pytest.mark.parametrize("missing", ["copy", "checkpoint"])
def test_what_stands_beside_a_record_is_made_up_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    shorten_spans(monkeypatch)
    log = Log(Location(str(tmp_path)), "genesis")
    for _ in range(3):
        log.append(log.read(), "verdict", {}, WHEN)
    with monkeypatch.context() as patch:
        if missing == "checkpoint":
            patch.setattr(Log, "roll_up", killed)
        else:
            create = Location.create

            def die_at_copies(self: Location, name: str, *rest: Any, **options: Any) -> None:
                if name.startswith(COPIES):
                    raise Killed
                create(self, name, *rest, **options)

            patch.setattr(Location, "create", die_at_copies)
        with pytest.raises(Killed):
            log.append(log.read(), "verdict", {}, WHEN)
    beside = {tmp_path / COPIES / record_name(3), tmp_path / checkpoint_name(0)}
    assert len(log.read()) == 4
    assert not all(path.exists() for path in beside)
    log.append(log.read(), "verdict", {}, WHEN)
    assert all(path.exists() for path in beside)


def test_a_rewrite_that_the_disk_spoils_is_not_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_zarr(weather(4), tmp_path / "source.zarr")
    made = captured(tmp_path / "r", source, chunks={"y": 3, "x": 5})
    made, _ = forget(made, policy=Policy(last=2), committed_at=WHEN)
    before = files_of(tmp_path / "r")
    create = Location.create

    def spoil(self: Location, name: str, data: bytes, **options: Any) -> None:
        create(self, name, data, **options)
        if "/residual/c/" in name:
            Path(self.url, name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))

    with monkeypatch.context() as patch:
        patch.setattr(Location, "create", spoil)
        with pytest.raises(Integrity):
            prune(made, committed_at=WHEN)
    assert len(reopened(tmp_path / "r").records) == len(made.records)
    assert set(before) <= set(files_of(tmp_path / "r"))
    pruned, _ = prune(reopened(tmp_path / "r"), committed_at=WHEN)
    assert check(pruned, read_data=True).problems == ()
    assert_identical(history(pruned), undecoded(source).isel(time=slice(2, None)))


def test_a_rewrite_that_an_object_store_spoils_is_not_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a process has put there it keeps, but not to verify it."""
    source = write_zarr(weather(4), tmp_path / "source.zarr")
    url = f"memory://{tmp_path}"
    made = capture_new(make_repository(url, source))
    made, _ = forget(made, policy=Policy(last=2), committed_at=WHEN)
    create = Location.create

    def spoil(self: Location, name: str, data: bytes, **options: Any) -> None:
        create(self, name, data, **options)
        if "/residual/c/" in name:
            self.replace(name, data[:-1] + bytes([data[-1] ^ 1]))

    with monkeypatch.context() as patch:
        patch.setattr(Location, "create", spoil)
        with pytest.raises(Integrity):
            prune(made, committed_at=WHEN)
    assert Repository.open(url).records == made.records


def test_a_prune_tidies_up_after_writers_that_were_killed(tmp_path: Path) -> None:
    source = write_zarr(weather(2), tmp_path / "source.zarr")
    made = captured(tmp_path / "r", source)
    next_one = len(made.records)
    dead = fresh_id(next_one)
    names = (record_name(1), COPIES + record_name(1), f"manifests/{dead}.json.gz")
    gone = [*names, f"captures/{dead}/v-t/residual/zarr.json", record_name(next_one)]
    stays = [record_name(next_one + 1), f"captures/{fresh_id(next_one + 1)}/v-t/index/zarr.json"]
    for name in (*gone, *stays):
        path = tmp_path / "r" / f"{name}#12"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"unfin")
    prune(made, committed_at=WHEN)
    left = {p.relative_to(tmp_path / "r").as_posix() for p in files_of(tmp_path / "r")}
    assert {name for name in left if "#" in name} == {f"{name}#12" for name in stays}
    assert not (tmp_path / "r" / "captures" / dead).exists()
    assert check(reopened(tmp_path / "r"), read_data=True).problems == ()


def test_a_writer_whose_file_was_tidied_away_was_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    location, link = Location(str(tmp_path)), os.link

    def be_overtaken(beside: Path, path: Path) -> None:
        path.write_bytes(b"first")
        beside.unlink()
        link(beside, path)

    monkeypatch.setattr(os, "link", be_overtaken)
    with pytest.raises(Conflict):
        location.create("log/1.json", b"second", durable=True)
    assert location.read("log/1.json") == b"first"


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
        assert problems_of_a_stopped_writer(repository) == []
        if repository.captured:
            assert_identical(history(repository), undecoded(source, len(repository.captured)))
    done = capture_new(Repository.open(url))
    assert_identical(history(done), undecoded(source, 60))
    assert check(done, read_data=True).problems == ()
