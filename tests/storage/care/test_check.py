"""A check says what it read and what it did not, and names what is damaged; it never mends."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gnomon.storage.arrays.tables import create_table
from gnomon.storage.care.check import CheckReport, check
from gnomon.storage.care.forget import forget
from gnomon.storage.care.prune import prune
from gnomon.storage.care.subset import Subset, parse_subset, remember, select
from gnomon.storage.errors import InvalidInput, Unavailable
from gnomon.storage.log.location import Location
from gnomon.storage.log.records import COPIES, record_name
from gnomon.storage.log.staging import Batch, fresh_id
from gnomon.storage.repository import Repository
from gnomon.tasks.capturing.capture import capture, commit_capture
from gnomon.tasks.capturing.plan import plan_capture
from gnomon.tasks.work import serial
from tests.storage.building import (
    HOUR,
    WHEN,
    capture_new,
    captured,
    copy_of,
    files_of,
    make_repository,
    reopened,
    weather,
    write_zarr,
)

START = 946_684_800_000_000
SIZES = {f"captures/{k:02d}": 10 for k in range(20)}


# Subsets -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "subset"),
    [
        ("5%", Subset(share=0.05)),
        (" 0.5 %", Subset(share=0.005)),
        ("100%", Subset(share=1.0)),
        ("3/10", Subset(part=3, parts=10)),
        ("1/1", Subset(part=1, parts=1)),
        ("500", Subset(nbytes=500)),
        ("500B", Subset(nbytes=500)),
        ("500MB", Subset(nbytes=500 * 2**20)),
        ("1.5k", Subset(nbytes=1536)),
        ("2 GiB", Subset(nbytes=2**31)),
        ("1T", Subset(nbytes=2**40)),
    ],
)
def test_a_part_is_written_in_three_ways(text: str, subset: Subset) -> None:
    assert parse_subset(text) == subset


@pytest.mark.parametrize(
    "text",
    [
        *("", "%", "0%", "101%", "-5%", "5%%", "0/3", "4/3", "1/0", "3/", "0", "0KB", "0.1"),
        *("x", "1e3", "5 0%", "1/2/3", "5P", "nan%", "inf"),
    ],
)
def test_what_is_no_part_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"a percentage \(5%\), a part \(3/10\) or a size"):
        parse_subset(text)


@pytest.mark.parametrize("parts", [1, 2, 3, 7, 50])
def test_parts_together_are_everything_once(parts: int) -> None:
    location = Location("memory://parts")
    chosen = [
        name
        for k in range(parts)
        for name in select(Subset(part=k + 1, parts=parts), SIZES, location)
    ]
    assert sorted(chosen) == sorted(SIZES)


def turns(subset: Subset, location: Location, count: int) -> list[list[str]]:
    """Return what checks one after the other read."""
    found = []
    for _ in range(count):
        found.append(select(subset, SIZES, location))
        assert remember(subset, found[-1][-1], location)
    return found


@pytest.mark.parametrize("subset", [Subset(nbytes=61), Subset(share=0.32)])
def test_a_size_goes_on_where_the_last_check_stopped_and_begins_anew(
    subset: Subset, tmp_path: Path
) -> None:
    names = sorted(SIZES)
    first, second, third, fourth = turns(subset, Location(str(tmp_path)), 4)
    assert first == names[:7]
    assert second == names[7:14]
    assert third == names[14:] + names[:1]
    assert fourth == names[1:8]


@pytest.mark.parametrize("text", ["100%", "200", "1GB"])
def test_no_object_is_read_twice_in_one_check(text: str, tmp_path: Path) -> None:
    location = Location(str(tmp_path))
    remember(Subset(nbytes=1), "captures/07", location)
    chosen = select(parse_subset(text), SIZES, location)
    assert chosen == [f"captures/{(8 + k) % 20:02d}" for k in range(20)]


def test_a_position_outlives_what_it_names(tmp_path: Path) -> None:
    """The object where the last check stopped may have been pruned since."""
    location = Location(str(tmp_path))
    remember(Subset(nbytes=1), "captures/07x", location)
    assert select(Subset(nbytes=20), SIZES, location) == ["captures/08", "captures/09"]
    remember(Subset(nbytes=1), "zzz", location)
    assert select(Subset(nbytes=20), SIZES, location) == ["captures/00", "captures/01"]


def test_only_the_newest_position_is_kept(tmp_path: Path) -> None:
    location = Location(str(tmp_path))
    turns(Subset(nbytes=10), location, 5)
    assert location.list("checks/") == [f"checks/{4:012d}.json"]
    turns(Subset(part=1, parts=3), location, 1)
    assert location.list("checks/") == [f"checks/{4:012d}.json"]


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"{", b"[]", b"null", b"3", b"{}", b'{"last": null}', b'{"last": [1]}'),
        *(b"\xff\xfe", b"[" * 100_000),
    ],
)
def test_a_damaged_position_is_harmless(tmp_path: Path, data: bytes) -> None:
    location = Location(str(tmp_path))
    turns(Subset(nbytes=10), location, 3)
    location.replace(location.list("checks/")[0], data)
    assert all(turns(Subset(nbytes=100), location, 2))
    (name,) = location.list("checks/")
    assert json.loads(location.read(name))["last"] in SIZES


@pytest.mark.parametrize(
    "name", ["notes.txt", ".DS_Store", "-1.json", "--1.json", "\u00b2.json", "999999999999.json"]
)
def test_a_foreign_file_beside_the_position_is_harmless(tmp_path: Path, name: str) -> None:
    location = Location(str(tmp_path))
    turns(Subset(nbytes=10), location, 2)
    (tmp_path / "checks" / name).write_text("x")
    found = turns(Subset(nbytes=10), location, 3)
    assert len({n for turn in found for n in turn}) >= 2


def test_where_nothing_can_be_written_the_same_part_is_read_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    location = Location(str(tmp_path))

    def refuse(self: Location, name: str, data: bytes, *, durable: bool = False) -> None:
        raise self.unavailable(name, PermissionError())

    monkeypatch.setattr(Location, "create", refuse)
    first = select(Subset(nbytes=30), SIZES, location)
    assert not remember(Subset(nbytes=30), first[-1], location)
    assert select(Subset(nbytes=30), SIZES, location) == first


# Checks of parts -----------------------------------------------------------------------------


def part(url: Path, text: str) -> CheckReport:
    """Check a part in what stands for a new process: all that is remembered is stored."""
    return check(reopened(url), subset=parse_subset(text))


@pytest.fixture
def folder(repository_path: Path, tmp_path: Path) -> Path:
    return copy_of(repository_path, tmp_path / "r")


def test_parts_read_every_byte_once(folder: Path) -> None:
    reports = [part(folder, f"{k}/4") for k in range(1, 5)]
    whole = reports[0].objects, reports[0].nbytes
    assert all((r.objects, r.nbytes) == whole for r in reports)
    assert sum(r.objects_read for r in reports) == whole[0]
    assert sum(r.nbytes_read for r in reports) == whole[1]
    assert all(0 < r.objects_read < whole[0] for r in reports)
    assert not (folder / "checks").exists()


def test_a_check_of_a_part_says_what_it_did_not_read(folder: Path) -> None:
    report = part(folder, "10%")
    assert 0.1 * report.nbytes <= report.nbytes_read < 0.5 * report.nbytes
    assert 0 < report.objects_read < report.objects
    assert (report.chunks, report.data_read) == (0, False)
    told = report.to_json()
    assert told["data_read"] is False
    assert (told["objects"], told["objects_read"]) == (report.objects, report.objects_read)
    quick = check(reopened(folder))
    assert (quick.objects_read, quick.nbytes_read, quick.data_read) == (0, 0, False)
    full = check(reopened(folder), read_data=True)
    assert (full.objects_read, full.nbytes_read) == (full.objects, full.nbytes)
    assert full.data_read
    assert full.chunks > 0
    assert part(folder, "100%").data_read


def test_small_checks_come_around(folder: Path) -> None:
    """Every damage is found at last, whatever is read at a time, and once in a round."""
    name = sorted(
        p.relative_to(folder).as_posix()
        for p in (folder / "captures").rglob("c/0/0/0")
        if p.is_file()
    )[0]
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[:3] + bytes([data[3] ^ 1]) + data[4:])
    reports = [part(folder, "20%") for _ in range(5)]
    assert sum(r.nbytes_read for r in reports) >= reports[0].nbytes
    named = [p.file for r in reports for p in r.problems]
    assert set(named) == {name}
    assert len(list((folder / "checks").iterdir())) == 1


def test_what_is_missing_is_found_by_every_part(folder: Path) -> None:
    name = sorted(
        p.relative_to(folder).as_posix()
        for p in (folder / "shadows").rglob("c/0/0/0")
        if p.is_file()
    )[0]
    (folder / name).unlink()
    for text in ("1/50", "50/50", "1%", "1B"):
        assert [p.file for p in part(folder, text).problems] == [name]


def test_a_repository_that_cannot_be_written_is_checked(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {p: p.read_bytes() for p in files_of(folder)}

    def refuse(self: Location, *arguments: Any, **options: Any) -> None:
        raise self.unavailable("x", PermissionError())

    for write in ("create", "replace", "delete", "flush"):
        monkeypatch.setattr(Location, write, refuse)
    reports = [part(folder, "10%") for _ in range(2)]
    assert [r.problems for r in reports] == [(), ()]
    assert reports[0].objects_read == reports[1].objects_read > 0
    assert check(reopened(folder), read_data=True).problems == ()
    assert {p: p.read_bytes() for p in files_of(folder)} == before


def test_a_check_changes_nothing_but_its_position(folder: Path) -> None:
    before = {p: p.read_bytes() for p in files_of(folder)}
    check(reopened(folder))
    check(reopened(folder), read_data=True)
    part(folder, "5%")
    after = {p: p.read_bytes() for p in files_of(folder)}
    assert {p.parent.name for p in after.keys() - before.keys()} == {"checks"}
    assert before.items() <= after.items()


def test_a_store_that_does_not_answer_is_no_damage(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = reopened(folder)

    def refuse(self: Location, name: str, part: Any = None) -> bytes:
        raise self.unavailable(name, PermissionError())

    monkeypatch.setattr(Location, "read", refuse)
    with pytest.raises(Unavailable):
        check(repository, read_data=True)


# What belongs to no commit -------------------------------------------------------------------


def test_what_a_crashed_run_left_is_reported_and_no_problem(tmp_path: Path) -> None:
    source = write_zarr(weather(4), tmp_path / "source.zarr")
    made = capture_new(make_repository(tmp_path / "r", source), until=START + HOUR)
    clean = check(made, read_data=True)
    assert (clean.unreferenced, clean.unreferenced_nbytes) == (0, 0)
    before = set(files_of(tmp_path / "r"))
    plan = plan_capture(made)
    assert plan is not None
    found = capture(made, plan, serial)  # and here the writer dies
    left = set(files_of(tmp_path / "r")) - before
    report = check(reopened(tmp_path / "r"), read_data=True)
    assert report.problems == ()
    assert report.unreferenced == len(left) > 0
    assert report.unreferenced_nbytes == sum(p.stat().st_size for p in left)
    assert (report.objects, report.chunks) == (clean.objects, clean.chunks)
    done = check(commit_capture(made, found, set(), report={}, committed_at=WHEN), read_data=True)
    assert (done.unreferenced, done.problems) == (0, ())


def test_a_manifest_without_a_record_is_unreferenced(folder: Path) -> None:
    repository = reopened(folder)
    batch = Batch(repository.location, fresh_id(len(repository.records)))
    create_table(batch, f"ledger/{batch.id}/actual-v-t", np.zeros((2, 2)), ["x"])
    batch.seal()
    assert check(repository).unreferenced == len(batch.entries) + 2


def test_what_is_not_of_a_commit_is_not_counted(folder: Path) -> None:
    (folder / "README").write_text("whose this is")
    (folder / "checks").mkdir()
    (folder / "checks" / "notes").write_text("x")
    (folder / "captures" / "x#1").write_text("a put that was killed")
    report = check(reopened(folder), read_data=True)
    assert (report.unreferenced, report.problems) == (0, ())


# While others write --------------------------------------------------------------------------


class Meanwhile:
    """Does something when a check has come to a certain point, once."""

    def __init__(self, what: str, action: Callable[[], object]) -> None:
        self.what, self.action, self.done = what, action, 0

    def __call__(self, what: str, _done: int, _total: int) -> None:
        if what.startswith(self.what) and not self.done:
            self.done += 1
            self.action()


@pytest.fixture
def forgetful(tmp_path: Path) -> Repository:
    """Four captures in two commits, of which the first two are forgotten."""
    source = write_zarr(weather(4), tmp_path / "source.zarr")
    made = make_repository(tmp_path / "r", source, chunks={"y": 3, "x": 5})
    made = capture_new(capture_new(made, until=START + HOUR))
    return forget(made, captures=[0, 1], committed_at=WHEN)[0]


POINTS = ["log", "stored bytes", "chunks of p", "chunks of wet", "done"]


@pytest.mark.parametrize("what", POINTS)
def test_a_prune_meanwhile_is_no_damage(forgetful: Repository, what: str) -> None:
    before = check(forgetful).objects
    meanwhile = Meanwhile(what, lambda: prune(forgetful, committed_at=WHEN))
    report = check(forgetful, read_data=True, progress=meanwhile)
    assert meanwhile.done
    assert report.problems == ()
    after = check(reopened(forgetful.location.url), read_data=True)
    assert (after.problems, after.unreferenced) == ((), 0)
    assert after.objects < before


@pytest.mark.parametrize("what", POINTS[:-1])
def test_damage_beside_a_prune_is_still_named(forgetful: Repository, what: str) -> None:
    url = forgetful.location.url

    def prune_and_damage() -> None:
        made, _ = prune(forgetful, committed_at=WHEN)
        made.location.replace(made.captures("t").file(3, (1, 1)), b"x")

    report = check(forgetful, read_data=True, progress=Meanwhile(what, prune_and_damage))
    file = reopened(url).captures("t").file(3, (1, 1))
    assert [p.file for p in report.problems] == [file]


def test_a_check_of_what_was_pruned_since_looks_at_what_is_there(forgetful: Repository) -> None:
    made, done = prune(forgetful, committed_at=WHEN)
    assert done.objects > 0
    report = check(forgetful, read_data=True)
    assert report.problems == ()
    assert report.records == len(made.records)


@pytest.mark.parametrize("what", POINTS)
def test_a_commit_meanwhile_is_not_looked_at(tmp_path: Path, what: str) -> None:
    source = write_zarr(weather(4), tmp_path / "source.zarr")
    made = capture_new(make_repository(tmp_path / "r", source), until=START + HOUR)
    meanwhile = Meanwhile(what, lambda: capture_new(made))
    report = check(made, read_data=True, progress=meanwhile)
    assert meanwhile.done
    assert report.problems == ()
    assert report.records == 2


# What is named, and what is not --------------------------------------------------------------


def test_damage_of_one_variable_does_not_hide_that_of_another(tmp_path: Path) -> None:
    """One name begins with the other."""
    dataset = weather(2)
    dataset = dataset.assign({"t2": dataset["t"], "t2x": dataset["t"]})
    source = write_zarr(dataset, tmp_path / "source.zarr")
    made = captured(tmp_path / "r", source)
    commit = made.records[-1].body["id"]
    for name in ("t2", "t2x"):
        path = next((tmp_path / "r" / "ledger" / commit / f"actual-v-{name}").rglob("c/0/*/*/*"))
        path.unlink()
    path = next((tmp_path / "r" / "ledger" / commit / "actual-v-t").rglob("c/0/*/*/*"))
    data = path.read_bytes()
    path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    report = check(reopened(tmp_path / "r"))
    named = [
        p.file.removeprefix(f"ledger/{commit}/actual-v-").split("/")[0] for p in report.problems
    ]
    assert sorted(named) == ["t", "t2", "t2x"]


def test_what_a_stopped_writer_left_out_is_told_from_a_loss(tmp_path: Path) -> None:
    source = write_zarr(weather(2), tmp_path / "source.zarr")
    repository = capture_new(make_repository(tmp_path / "r", source), until=START)
    newest = repository.records[-1].sequence
    (tmp_path / "r" / COPIES / record_name(newest)).unlink()
    (problem,) = check(reopened(tmp_path / "r")).problems
    assert "the next commit puts it" in problem.error
    repository = capture_new(reopened(tmp_path / "r"))
    assert check(repository).problems == ()
    (tmp_path / "r" / COPIES / record_name(newest)).unlink()
    (problem,) = check(reopened(tmp_path / "r")).problems
    assert "the next commit" not in problem.error


def test_every_problem_says_where_and_what_to_do(folder: Path) -> None:
    for path in files_of(folder):
        if path.name != f"{0:020d}.json" and "copies" not in path.parts:
            path.unlink()
    (folder / "log" / f"{1:020d}.json").write_text("{}")
    report = check(reopened(folder), read_data=True)
    assert len(report.problems) > 50
    for problem in report.problems:
        assert problem.file in problem.error or problem.where
        assert "\n" not in problem.error
        assert problem.where
    assert len({p.file for p in report.problems}) == len(report.problems)
    assert json.dumps(report.to_json())
