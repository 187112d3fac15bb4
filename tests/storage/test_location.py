import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnomon.storage.errors import Conflict, Integrity, InvalidInput, NotFound, Unavailable
from gnomon.storage.location import Location
from gnomon.storage.model import Variable
from tests.storage.building import store_stack

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
    return Variable(name, ("x",), (4,), "<f8", (2,), (4,))


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


def test_a_file_in_the_place_of_a_folder_is_damage(tmp_path: Any) -> None:
    (tmp_path / "log").write_text("x")
    with pytest.raises(Integrity):
        Location(str(tmp_path)).read("log/0.json")


def test_a_file_in_the_place_of_the_repository(tmp_path: Any) -> None:
    (tmp_path / "f").write_text("x")
    location = Location(str(tmp_path / "f"))
    assert not location.is_vacant()
    with pytest.raises(NotFound):
        location.read("gnomon.json")
    with pytest.raises((InvalidInput, Unavailable)):
        location.create("gnomon.json", b"")


def test_a_refused_permission_is_no_damage(tmp_path: Any, monkeypatch: Any) -> None:
    """Root may read anything, so the refusal is made up."""
    import obstore
    from obstore.exceptions import PermissionDeniedError

    (tmp_path / "a").write_text("x")
    location = Location(str(tmp_path))

    def refuse(*arguments: Any, **options: Any) -> None:
        raise PermissionDeniedError("no")

    for call in ("get", "put", "list"):
        monkeypatch.setattr(obstore, call, refuse)
    for action in (
        lambda: location.read("a"),
        lambda: location.create("b", b""),
        lambda: location.list(""),
    ):
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


def test_flushing_what_is_not_there_is_nothing(tmp_path: Any) -> None:
    Location(str(tmp_path)).flush("captures/none")
    Location("memory://flush").flush("")
