import os
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import obstore
import pytest
from hypothesis import given
from hypothesis import strategies as st
from obstore.exceptions import PermissionDeniedError

from gnomon.storage.errors import Conflict, Integrity, InvalidInput, NotFound, Unavailable
from gnomon.storage.log.location import Location
from gnomon.storage.values.model import Variable
from tests.storage.building import files_of, store_stack

HOSTILE = [
    "../x",
    "/abs",
    "..",
    ".",
    "a/b",
    "a\\b",
    "~",
    "%2e%2e",
    "=",
    "=2E",
    "CON",
    "v-",
    "\u0000",
    "\n",
    "\u202e",
    "\U0001f30d",
    "e\u0301",
    "\u00e9",
    " ",
    "zarr.json",
    "c",
    "a" * 300,
    "a" * 301,
    "\u00fc" * 120,
]


def variable(name: str) -> Variable:
    return Variable(name, ("x",), (4,), "<f8", (2,), (2,), (4,))


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=400))
def test_a_folder_is_one_short_plain_name(name: Any) -> None:
    folder = variable(name).folder
    assert folder.startswith("v-")
    assert len(folder) <= 130
    assert folder.isascii()
    assert not set(folder) & set("/\\.%:\0 ")


@given(st.lists(st.text(max_size=200).filter(lambda t: t.isprintable()), unique=True, max_size=6))
def test_two_names_never_share_a_folder(names: Any) -> None:
    assert len({variable(n).folder for n in names}) == len(names)


def test_hostile_names_are_stored_inside_and_come_back(tmp_path: Path) -> None:
    inside = tmp_path / "a" / "r"
    for number, name in enumerate(HOSTILE):
        stack = store_stack(Location(str(inside)), variable(name), [np.arange(4.0) + number])
        assert stack.chunk(0, (1,)).tolist() == [2.0 + number, 3.0 + number]
    assert len({variable(n).folder for n in HOSTILE}) == len(HOSTILE)
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["r"]
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("url", ["tmp", "memory://objects"])
def test_objects_are_created_once(url: Any, tmp_path: Any) -> None:
    location = Location(str(tmp_path / "r") if url == "tmp" else f"{url}-{tmp_path}")
    assert location.is_vacant()
    location.create("log/1.json", b"one")
    assert not location.is_vacant()
    with pytest.raises(Conflict, match=r"log/1\.json"):
        location.create("log/1.json", b"two")
    assert location.read("log/1.json") == b"one"
    assert location.list("log/") == ["log/1.json"]
    assert location.list("other/") == []
    with pytest.raises(NotFound):
        location.read("log/2.json")
    again = pickle.loads(pickle.dumps(location))
    assert again.read("log/1.json") == b"one"


@pytest.mark.parametrize("name", ["../x", "a/../../x", "a//b/../c"])
def test_names_that_leave_are_refused(name: Any, tmp_path: Any) -> None:
    (tmp_path / "x").write_text("secret")
    (tmp_path / "r").mkdir()
    location = Location(str(tmp_path / "r"))
    with pytest.raises(Integrity):
        location.read(name)
    with pytest.raises(InvalidInput):
        location.create(name, b"")
    assert (tmp_path / "x").read_text() == "secret"


@pytest.mark.parametrize("url", ["", "a\0b", "nonsense://x/y", "s3://"])
def test_what_is_no_place_is_refused(url: Any) -> None:
    with pytest.raises(InvalidInput):
        Location(url)


def test_a_folder_in_the_place_of_an_object_is_not_one(tmp_path: Any) -> None:
    (tmp_path / "gnomon.json").mkdir()
    with pytest.raises((NotFound, Integrity)):
        Location(str(tmp_path)).read("gnomon.json")


def test_below_a_file_there_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("x")
    location = Location(str(tmp_path))
    with pytest.raises(NotFound):
        location.read("log/0.json")
    with pytest.raises(NotFound):
        location.read_end("log/0.json", 4)
    assert location.list("log/") == []


def test_a_file_in_the_place_of_the_repository(tmp_path: Any) -> None:
    (tmp_path / "f").write_text("x")
    location = Location(str(tmp_path / "f"))
    assert not location.is_vacant()
    with pytest.raises(NotFound):
        location.read("gnomon.json")
    with pytest.raises((InvalidInput, Unavailable)):
        location.create("gnomon.json", b"")


def refuse(*arguments: Any, **options: Any) -> None:
    raise PermissionDeniedError("no")


def refuse_locally(*arguments: Any, **options: Any) -> None:
    raise PermissionError("no")


@pytest.mark.parametrize("url", ["folder", "memory"])
def test_a_refused_permission_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    """Root may read anything, so the refusal is made up."""
    location = Location(f"memory://{tmp_path.name}" if url == "memory" else str(tmp_path))
    location.create("a", b"x")
    for call in ("get", "get_range", "put", "list", "delete"):
        monkeypatch.setattr(obstore, call, refuse)
    monkeypatch.setattr("gnomon.storage.log.location.open", refuse_locally, raising=False)
    monkeypatch.setattr(Path, "unlink", refuse_locally)
    actions: list[Callable[[], object]] = [
        lambda: location.read("a"),
        lambda: location.read("a", (0, 1)),
        lambda: location.read_end("a", 1),
        lambda: location.create("b", b""),
        lambda: location.replace("a", b""),
        lambda: location.list(""),
        lambda: location.delete(["a"]),
    ]
    for action in actions:
        with pytest.raises(Unavailable, match="permission denied"):
            action()
    assert location.is_outage(PermissionError())
    assert not location.is_outage(FileNotFoundError())


def test_a_remote_store_that_fails_is_unavailable_and_a_missing_object_is_damage() -> None:
    from obstore.exceptions import GenericError, NotFoundError

    remote = Location("s3://bucket/prefix")
    assert remote.is_outage(GenericError("timeout"))
    assert remote.is_outage(OSError("timeout"))
    assert not remote.is_outage(NotFoundError("gone"))
    assert not remote.is_outage(ValueError("checksum"))


def test_what_cannot_be_forced_to_the_disk_is_said(tmp_path: Path) -> None:
    location = Location(str(tmp_path))
    location.create("a/b", b"x")
    location.flush(["a/b"])
    location.flush([])
    with pytest.raises(Unavailable, match="forced to the disk"):
        location.flush(["a/b", "a/gone"])
    Location("memory://flush").flush(["gone"])


@pytest.fixture(params=["folder", "memory"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    folder = tmp_path / "r"
    return Location(str(folder) if request.param == "folder" else f"memory://{folder}")


@pytest.mark.parametrize("durable", [False, True])
def test_the_same_bytes_again_are_stored_and_others_are_a_conflict(
    location: Location, durable: bool
) -> None:
    for _ in range(2):
        location.create("log/1.json", b"one", durable=durable)
    for other in (b"two", b"", b"one "):
        with pytest.raises(Conflict, match=r"log/1\.json exists already"):
            location.create("log/1.json", other, durable=durable)
    assert location.read("log/1.json") == b"one"
    assert location.sizes("") == {"log/1.json": 3}


def test_a_durable_object_is_never_seen_in_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until it is linked, its bytes stand under a name that listings pass over."""
    location = Location(str(tmp_path))
    seen: list[list[str]] = []

    def watched(*arguments: Any) -> None:
        seen.append(location.list(""))
        raise OSError("stopped here")

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", watched)
        with pytest.raises(Unavailable, match="stopped here"):
            location.create("log/1.json", b"one", durable=True)
    assert seen == [[]]
    assert list((tmp_path / "log").iterdir()) == []
    location.create("log/1.json", b"one", durable=True)
    assert location.read("log/1.json") == b"one"


@pytest.mark.parametrize("durable", [False, True])
def test_of_many_writers_one_wins(location: Location, durable: bool) -> None:
    def write(number: int) -> bool:
        try:
            location.create("log/1.json", str(number).encode() * 99, durable=durable)
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(write, range(16)))
    assert sum(won) == 1
    assert location.read("log/1.json") == str(won.index(True)).encode() * 99


def test_parts_of_an_object(location: Location) -> None:
    location.create("x", b"0123456789")
    assert location.read("x", (2, 3)) == b"234"
    assert location.read_end("x", 4) == b"6789"
    assert location.read_end("x", 40) == b"0123456789"
    with pytest.raises(NotFound, match="y is missing"):
        location.read("y", (0, 1))
    with pytest.raises(NotFound, match="y is missing"):
        location.read_end("y", 1)
    with pytest.raises(NotFound, match="y is missing"):
        location.read("y")


@pytest.mark.parametrize("start", [5, 10, 11, 2**40, 2**63 - 1, 2**63, 2**64 - 1])
def test_a_part_beyond_the_end_is_short_or_damage(location: Location, start: int) -> None:
    """It was asked for because stored bytes say so; asking again would not help."""
    location.create("x", b"0123456789")
    with suppress(Integrity):
        assert location.read("x", (start, 100)) == b"0123456789"[start:]


def test_an_object_is_replaced_whole(location: Location) -> None:
    location.create("a/b", b"one")
    location.replace("a/b", b"other")
    location.replace("a/c", b"new")
    assert (location.read("a/b"), location.read("a/c")) == (b"other", b"new")


def test_removing_twice_is_no_error(location: Location) -> None:
    location.create("a/b", b"one")
    for _ in range(2):
        location.delete(["a/b", "never/there"])
    assert location.list("") == []


@pytest.mark.parametrize("name", ["../x", "a/../../x", "../r2/x", "a/.."])
def test_nothing_outside_is_removed_or_replaced(tmp_path: Path, name: str) -> None:
    for folder in ("r", "r2"):
        (tmp_path / folder).mkdir()
    for path in (tmp_path / "x", tmp_path / "r2" / "x"):
        path.write_text("secret")
    location = Location(str(tmp_path / "r"))
    with pytest.raises(Integrity):
        location.delete([name])
    with pytest.raises((Integrity, Unavailable)):
        location.replace(name, b"")
    with pytest.raises((Integrity, InvalidInput)):
        location.create(name, b"", durable=True)
    assert [(tmp_path / n).read_text() for n in ("x", "r2/x")] == ["secret"] * 2


def test_nothing_is_removed_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "x").write_text("secret")
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "a").symlink_to(tmp_path / "else")
    location = Location(str(tmp_path / "r"))
    with pytest.raises(Integrity, match="leads out"):
        location.delete(["a/x"])
    with pytest.raises(Integrity, match="leads out"):
        location.remove_leftovers(["a"])
    assert (tmp_path / "else" / "x").read_text() == "secret"


def test_empty_folders_and_unfinished_puts_go(tmp_path: Path) -> None:
    location = Location(str(tmp_path))
    for name in ("captures/1/v/c/0", "captures/1/w/c/0", "captures/2/v/c/0"):
        location.create(name, b"x")
    for name in ("c/0#1", "c/0#x"):
        (tmp_path / "captures/1/v" / name).write_text("half")
    location.delete(["captures/1/v/c/0", "captures/2/v/c/0"])
    location.remove_leftovers(["captures/1/v/c", "captures/2/v/c", "captures/3"])
    left = {p.relative_to(tmp_path).as_posix() for p in files_of(tmp_path)}
    assert left == {"captures/1/v/c/0#x", "captures/1/w/c/0"}
    assert not (tmp_path / "captures/2").exists()
    assert (tmp_path / "captures").exists()
    Location("memory://leftovers").remove_leftovers(["captures"])


def test_a_folder_may_be_said_by_two_dots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As from a folder beside it: `../r`.  What is in it still leads nowhere else."""
    (tmp_path / "beside").mkdir()
    monkeypatch.chdir(tmp_path / "beside")
    location = Location("../r")
    location.create("a/x", b"1", durable=True)
    location.replace("a/x", b"2")
    assert location.list("") == Location(str(tmp_path / "r")).list("")
    assert (tmp_path / "r" / "a" / "x").read_bytes() == b"2"
    location.delete(["a/x"])
    assert not (tmp_path / "r" / "a" / "x").exists()
    with pytest.raises(Integrity, match="leads out"):
        location.delete(["../beside/x"])
