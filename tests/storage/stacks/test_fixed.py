"""What does not change is kept exactly: numbers, text, shapes, attributes; damage is named."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from gnomon.storage.care.check import check
from gnomon.storage.errors import Integrity, InvalidInput
from gnomon.storage.log.location import Location
from gnomon.storage.log.records import content_hash
from gnomon.storage.repository import Repository
from gnomon.storage.stacks.fixed import encode_frame, encode_variable, load_frame
from gnomon.storage.values.model import RepositorySettings, SourceSpec
from tests.storage.building import WHEN, assert_identical, copy_of, reopened

SETTINGS = RepositorySettings(SourceSpec("s", "state"), (), WHEN, "", {})
fresh = itertools.count()


def kept(frame: xr.Dataset) -> tuple[Location, RepositorySettings]:
    """Store a frame, its settings having gone through JSON."""
    location = Location(f"memory://frame-{next(fresh)}")
    settings, files = encode_frame(SETTINGS, frame, 3)
    for name, data in files.items():
        location.create(name, data)
    return location, RepositorySettings.from_json(settings.to_json())


def object_array(*values: Any) -> np.ndarray:
    made = np.empty(len(values), object)
    made[:] = values
    return made


VALUES: dict[str, Any] = {
    "floats": np.array([[0.5, -0.0, np.nan], [np.inf, -np.inf, 1e-320]]),
    "a payload": np.array([0x7FF8000000000123, 0x7FF0000000000001], "<u8").view("<f8"),
    "halves": np.arange(4, dtype="<f2"),
    "long floats": np.arange(3, dtype=np.longdouble) / 3,
    "big endian": np.array([1, -2, 2**40], ">i8"),
    "big endian floats": np.array([0.1, np.nan], ">f4"),
    "small integers": np.array([-128, 127], "i1"),
    "large integers": np.array([2**64 - 1, 0], "<u8"),
    "booleans": np.array([True, False]),
    "complex": np.array([1 + 2j, complex(np.nan, -0.0)]),
    "times": np.array(["2000-01-01", "NaT"], "<M8[ns]"),
    "durations": np.array([1, -5], "<m8[s]"),
    "text": object_array("Oslo", "", "S\u00e3o Paulo", "\U0001f30d", "e\u0301", 'a"b\\c\n\0d'),
    "half a character": object_array("\ud800"),
    "text of a width": np.array(["a", "bb", ""], "<U5"),
    "big endian text": np.array(["a", "\u00e9"], ">U2"),
    "bytes": np.array([b"a\0b", b""], "S4"),
    "text in a grid": np.array([["a", "b"], ["c", "d"]], object),
    "a number": np.float32(2.5),
    "a word": np.array("crs", object),
    "a word of a width": np.array("crs"),
    "no numbers": np.empty((0, 3)),
    "no text": np.empty(0, object),
    "no cells on one side": np.empty((2, 0, 3), "<i2"),
    "one cell": np.zeros((1, 1, 1), "u1"),
    "turned around": np.arange(12.0).reshape(3, 4).T[::-1],
}


@pytest.mark.parametrize("what", VALUES)
def test_values_come_back_bit_for_bit(what: str) -> None:
    values = np.asarray(VALUES[what])
    dims = tuple(f"d{k}" for k in range(values.ndim))
    frame = xr.Dataset({"a": xr.Variable(dims, values)})
    before = values.tobytes()
    location, settings = kept(frame)
    found = load_frame(location, settings)
    assert_identical(found, frame)
    assert values.tobytes() == before
    assert frame["a"].values.dtype == values.dtype


def test_new_text_is_kept_like_other_text() -> None:
    strings = np.array(["a", "", "\u00e9"], np.dtypes.StringDType())
    location, settings = kept(xr.Dataset({"a": xr.Variable(("x",), strings)}))
    found = load_frame(location, settings)["a"].values
    assert found.tolist() == ["a", "", "\u00e9"]
    assert found.dtype == object


def test_coordinates_dims_and_attributes_come_back() -> None:
    attributes = {
        "units": "degrees_north",
        "valid_min": np.float32(-90),
        "flags": np.array([1, 2], "i1"),
        "missing": np.float64(np.nan),
    }
    frame = xr.Dataset(
        {
            "y": xr.Variable(("y",), np.arange(3.0), attributes),
            "names": xr.Variable(("y", "k"), np.array([["a"], ["b"], ["c"]], object), {"n": 1}),
            "crs": xr.Variable((), np.int32(7), {"grid_mapping_name": "latitude_longitude"}),
        }
    )
    assert_identical(load_frame(*kept(frame)), frame)


def test_without_anything_that_stays_there_is_an_empty_frame() -> None:
    settings, files = encode_frame(SETTINGS, xr.Dataset(), 3)
    assert files == {}
    assert list(load_frame(Location("memory://none"), settings).variables) == []


@pytest.mark.parametrize(
    "values", [[1, "x"], ["x", None], [b"x"], ["x", np.nan], [["x"]], [{"x": 1}]]
)
def test_objects_that_are_not_text_are_refused_before_anything_is_stored(
    values: list[Any],
) -> None:
    variable = xr.Variable(("x",), object_array(*values))
    with pytest.raises(InvalidInput, match=r"station.*only numbers and text can be stored"):
        encode_frame(SETTINGS, xr.Dataset({"station": variable}), 3)


def test_hostile_names_are_numbers_in_the_store() -> None:
    names = ["../x", "/abs", "a/b", "", " ", "\u202e", "a" * 300]
    frame = xr.Dataset({n: xr.Variable(("x",), np.arange(2) + k) for k, n in enumerate(names)})
    location, settings = kept(frame)
    assert [n.split("/")[2] for n in location.list("frame/")] == [str(k) for k in range(7)]
    assert_identical(load_frame(location, settings), frame)


@pytest.mark.parametrize(
    "harm",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: bytes(len(data)),
        lambda data: data[8:] + data[:8],
        None,
    ],
)
@pytest.mark.parametrize("what", ["floats", "text"])
def test_damage_is_named(what: str, harm: Any) -> None:
    values = VALUES[what]
    dims = tuple(f"d{k}" for k in range(values.ndim))
    location, settings = kept(xr.Dataset({"a": xr.Variable(dims, values)}))
    (name,) = location.list("frame/")
    if harm is None:
        location.delete([name])
    else:
        location.replace(name, harm(location.read(name)))
    with pytest.raises(Integrity, match=name):
        load_frame(location, settings)


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [4]},
        {"shape": "x"},
        {"shape": None},
        {"shape": [2**70]},
        {"dtype": "no type"},
        {"dtype": "<f4"},
        {"dtype": "|O"},
        {"dtype": "V0"},
        {"dtype": "text"},
        {"dims": ["x", "y"]},
        {"file": "../x"},
        {"file": "/etc/passwd"},
        {"file": ""},
        {"file": 3},
        {"hash": None},
    ],
    ids=str,
)
def test_a_tampered_entry_is_refused(changes: dict[str, Any]) -> None:
    location, settings = kept(xr.Dataset({"a": xr.Variable(("x",), np.arange(3.0))}))
    entries = {"a": {**settings.frame_entries["a"], **changes}}
    with pytest.raises(Integrity):
        load_frame(location, replace(settings, frame_entries=entries))


def test_text_that_is_no_list_of_so_many_strings_is_refused() -> None:
    location, settings = kept(xr.Dataset({"a": xr.Variable(("x",), object_array("a", "b"))}))
    hostile = (b'["a"]', b'["a", 1]', b"{}", b"3", b"null", b"[", b"[" * 100_000)
    for number, data in enumerate(hostile):
        name = f"frame/hostile/{number}"
        location.create(name, data)
        entry = {**settings.frame_entries["a"], "file": name, "hash": content_hash(data)}
        with pytest.raises(Integrity):
            load_frame(location, replace(settings, frame_entries={"a": entry}))


def test_the_bytes_of_a_variable_do_not_depend_on_how_it_lies_in_memory() -> None:
    values = np.arange(12, dtype="<i4").reshape(3, 4)
    forms = [values, np.asfortranarray(values), values.astype(">i4"), values[::-1][::-1]]
    assert len({encode_variable("a", xr.Variable(("y", "x"), v))[0] for v in forms}) == 1


def test_captures_are_read_where_the_frame_is_damaged(
    repository_path: Path, tmp_path: Path
) -> None:
    folder = copy_of(repository_path, tmp_path / "r")
    entry = reopened(folder).settings.frame_entries["y"]
    (folder / entry["file"]).write_bytes(b"")
    made = reopened(folder)
    with pytest.raises(Integrity, match=entry["file"]):
        _ = made.frame
    assert made.captures("t").chunk(0, (0, 0)).size
    problem = check(made).problems[0]
    assert (problem.file, problem.where) == (entry["file"], "y")


def test_a_frame_is_read_once(repository_path: Path) -> None:
    made = Repository.open(str(repository_path))
    assert made.frame is made.frame
