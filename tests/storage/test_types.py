"""Every type that a source can have: captured, served, restored, pruned, and captured again."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import xarray as xr
import zarr
from numpy.typing import NDArray

from gnomon.storage.arrays.residuals import ordered, restored
from gnomon.storage.arrays.text import text_bytes
from gnomon.storage.care.check import check
from gnomon.storage.care.forget import forget
from gnomon.storage.care.prune import prune
from gnomon.storage.errors import InvalidInput
from gnomon.storage.repository import Repository
from gnomon.storage.source.describing import describe
from gnomon.storage.stacks.fixed import encode_variable
from gnomon.storage.values.dtypes import is_supported
from gnomon.storage.values.model import SourceSpec
from gnomon.tasks.capturing.revisions import find_revisions
from gnomon.tasks.comparing.compare import compare
from gnomon.tasks.restoring.points import points
from gnomon.tasks.restoring.restore import restore
from gnomon.tasks.restoring.states import States
from gnomon.tasks.work import serial
from tests import sources
from tests.storage.building import (
    HOUR,
    WHEN,
    capture_new,
    history,
    make_repository,
    reopened,
)

MIDNIGHT = 946684800_000_000
STEPS = 6
SHAPES: dict[str, tuple[int, ...]] = {
    "scalar": (),
    "field": (4, 6),
    "empty": (3, 0),
}
TYPES = [
    *("<f2", "<f4", "<f8", "|i1", "<i2", "<i4", "<i8", "|u1", "<u2", "<u4", "<u8", "|b1"),
    *("<c8", "<c16", "|S1", "|S5", "<U1", "<U7", "|V3", "|V8", "<M8[s]", "<M8[ns]", "<m8[ms]"),
    "text",
]
WORDS = ["", "a", "\u00e9t\u00e9", "\U0001f30a wave", "line\nbreak", "nul\0inside", '"quoted"']
WORDS += ["x" * 300]


def samples(kind: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return states (time, *shape) of all the bits that a type can have; 2 and 3 are the same."""
    rng = np.random.default_rng(len(kind) + sum(shape))
    whole = (STEPS, *shape)
    if kind == "text":
        values = np.empty(whole, object)
        for place in np.ndindex(whole):
            values[place] = WORDS[rng.integers(len(WORDS))]
    elif kind == "|b1":
        values = rng.random(whole) > 0.5
    elif kind.startswith("<U"):
        letters = np.array([*"ab\u00e9\u4e2d\U0001f30a"])
        width = int(kind[2:])
        count = int(np.prod(whole))
        words = ["".join(rng.choice(letters, rng.integers(width + 1))) for _ in range(count)]
        values = np.array(words, kind).reshape(whole)
    else:
        dtype = np.dtype(kind)
        data = rng.integers(0, 256, int(np.prod(whole)) * dtype.itemsize, dtype=np.uint8)
        values = data.view(dtype).reshape(whole)
    if shape and int(np.prod(shape)) and kind in ("<f4", "<f8"):
        # Zeros of both signs, infinities, and numbers that are none, with a payload.
        bits = values.view(f"<u{values.dtype.itemsize}")
        values[0].flat[:3] = [-0.0, np.inf, -np.inf]
        values[1].flat[:2] = [0.0, np.nan]
        bits[2].flat[0] = {4: 0x7F800001, 8: 0xFFF0000000000123}[values.dtype.itemsize]
    if kind.startswith(("<M8", "<m8")) and int(np.prod(shape)):
        values[0].flat[0] = "NaT"
    values[3] = values[2]
    return values


def write(path: Path, kind: str, things: dict[str, NDArray[Any]]) -> None:
    """Write a Zarr store as it comes from elsewhere: without xarray's encoding."""
    group = zarr.create_group(path, zarr_format=3, overwrite=True)

    def create(name: str, values: NDArray[Any], dims: list[str]) -> zarr.Array[Any]:
        array = group.create_array(
            name,
            shape=values.shape,
            chunks=tuple(max(1, n) for n in (1, *values.shape[1:])),
            dtype=str if values.dtype.kind == "O" else values.dtype,
            dimension_names=dims,
            config={"write_empty_chunks": True},
        )
        if values.size:
            array[...] = values
        return array

    count = len(next(iter(things.values())))
    create("time", np.arange(count), ["time"]).attrs["units"] = "hours since 2000-01-01"
    # Without a number the source could not be protected at all.
    create("level", np.arange(count, dtype="<f4"), ["time"])
    for name, states in things.items():
        dims = [f"{name} {axis}" for axis in range(1, states.ndim)]
        create(name, states, ["time", *dims])


def stored(path: Path) -> xr.Dataset:
    with xr.open_dataset(path, engine="zarr", consolidated=False, decode_cf=False) as found:
        return found.load()


def same(found: Any, wanted: NDArray[Any]) -> bool:
    values = np.asarray(found)
    if wanted.dtype.kind in "OT":
        return bool(values.shape == wanted.shape and values.tolist() == wanted.tolist())
    return bool(values.dtype == wanted.dtype and sources.bits(values) == sources.bits(wanted))


def assert_kept(
    repository: Repository, wanted: dict[str, NDArray[Any]], numbers: list[int]
) -> None:
    """Demand every state by history and by chunk, and stored bytes without damage."""
    found = reopened(repository.location.url)
    served = history(found)
    for name, states in wanted.items():
        assert same(served[name].values, states[numbers]), name
    report = check(found, read_data=True)
    assert (report.problems, report.unreferenced) == ((), 0)


@pytest.mark.filterwarnings("ignore")  # Zarr's, of types that its specification lacks
@pytest.mark.parametrize("kind", TYPES)
def test_a_whole_life(kind: str, tmp_path: Path) -> None:
    """Scalars, fields, and arrays without cells."""
    every = {form: samples(kind, shape) for form, shape in SHAPES.items()}
    write(tmp_path / "s.zarr", kind, {form: states[:5] for form, states in every.items()})
    # What xarray reads counts: it has types of its own.
    source = stored(tmp_path / "s.zarr")
    wanted = {form: source[form].values for form in SHAPES}
    made = make_repository(tmp_path / "r", tmp_path / "s.zarr")
    for hour in (1, 5):
        made = capture_new(made, until=MIDNIGHT + hour * HOUR)
    assert_kept(made, wanted, [*range(5)])
    assert find_revisions(made, serial, count=None, rng=np.random.default_rng()) == ()

    point = points(made, made.captured[2].instant)[0]
    done = restore(States(made, (point,)), str(tmp_path / "x.zarr"), plain=True)
    assert done.chunks == sum(v.grid.size for v in made.settings.variables)
    written = stored(tmp_path / "x.zarr")
    changed = {d.variable: d.changed_cells for d in compare(made, 1, 2)}
    same_again = {d.variable: d.changed_cells for d in compare(made, 2, 3)}
    for form, states in wanted.items():
        assert same(written[form].values, states[2:3]), form
        assert written[form].attrs == source[form].attrs
        pairs = zip(_cells(states[1:2]), _cells(states[2:3]), strict=True)
        assert changed[form] == sum(not same(a, b) for a, b in pairs)
        assert same_again[form] == 0

    made, _ = forget(made, captures=[0, 2], committed_at=WHEN)
    made, pruned = prune(made, committed_at=WHEN)
    assert pruned.objects > 0
    assert_kept(made, wanted, [1, 3, 4])
    write(tmp_path / "s.zarr", kind, every)
    made = capture_new(made)
    again = stored(tmp_path / "s.zarr")
    assert_kept(made, {form: again[form].values for form in SHAPES}, [1, 3, 4, 5])


def _cells(state: NDArray[Any]) -> list[NDArray[Any]]:
    return [np.asarray(state.reshape(-1)[k : k + 1]) for k in range(state.size)]


@pytest.mark.parametrize("kind", [k for k in TYPES if k != "text"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_bits_come_back_from_integers(kind: str, order: Literal["<", ">"]) -> None:
    """Whatever the order of bytes of the source."""
    values = samples(kind, (4, 6))
    values = values.astype(values.dtype.newbyteorder(order))
    little = values.astype(values.dtype.newbyteorder("<"))
    again = restored(ordered(little), little.dtype)
    assert again.dtype == little.dtype
    assert sources.bits(again) == sources.bits(values)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("order", ["<", ">"])
def test_either_order_of_bytes_is_served_little(order: Literal["<", ">"], tmp_path: Path) -> None:
    kinds = ["f4", "i8", "c16", "U3", "M8[s]"]
    states = {kind[:2]: samples(f"<{kind}", (4,)) for kind in kinds}
    written = {n: s.astype(s.dtype.newbyteorder(order)) for n, s in states.items()}
    write(tmp_path / "s.zarr", "", written)
    wanted = {str(name): found.values for name, found in stored(tmp_path / "s.zarr").items()}
    made = capture_new(make_repository(tmp_path / "r", tmp_path / "s.zarr"))
    assert_kept(
        made, {n: v.astype(v.dtype.newbyteorder("<")) for n, v in wanted.items()}, [*range(STEPS)]
    )


# Restored to NetCDF ----------------------------------------------------------------------------


def restored_to_netcdf(source: Path, folder: Path) -> xr.Dataset:
    made = capture_new(make_repository(folder / "r", source))
    point = points(made, made.captured[1].instant)[0]
    restore(States(made, (point,)), str(folder / "x.nc"), plain=True)
    with xr.open_dataset(folder / "x.nc", decode_cf=False) as found:
        return found.load()


@pytest.mark.filterwarnings("ignore")
def test_netcdf_holds_what_it_can(tmp_path: Path) -> None:
    kinds = ["<f4", "<f8", "|i1", "<i2", "<i4", "<i8", "|u1", "<u2", "<u4", "<u8", "|b1", "<U7"]
    states = {kind[1:]: samples(kind, (4, 6))[:3] for kind in kinds}
    states["text"] = np.array([[WORDS[0], WORDS[1]], WORDS[2:4], WORDS[-2:]], object)
    write(tmp_path / "s.zarr", "", states)
    found = restored_to_netcdf(tmp_path / "s.zarr", tmp_path)
    for name, values in states.items():
        read = found[name].values
        read = read.astype(values.dtype) if values.dtype.kind in "bOU" else read
        assert same(read, values[1:2]), name


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["<f2", "<c8", "|S5", "|V3", "<M8[s]", "<m8[ms]"])
def test_netcdf_refuses_what_it_lacks(kind: str, tmp_path: Path) -> None:
    write(tmp_path / "s.zarr", kind, {"thing": samples(kind, (3,))[:3]})
    with pytest.raises(InvalidInput, match=r"thing has type .*a path ending in .zarr"):
        restored_to_netcdf(tmp_path / "s.zarr", tmp_path)
    assert not (tmp_path / "x.nc").exists()


def test_letters_of_netcdf_stay_letters(tmp_path: Path) -> None:
    """As they are in files of models that write times and stations as text."""
    stations = ("station", np.array([b"Oslo", b"", b"Rome"]))
    times = ("time", np.array([b"2000-01-01_00", b"2000-01-01_01", b""]))
    TIME.assign(who=stations, times=times).to_netcdf(tmp_path / "s.nc", engine="netcdf4")
    with xr.open_dataset(tmp_path / "s.nc", decode_cf=False) as source:
        wanted = source.load()
    found = restored_to_netcdf(tmp_path / "s.nc", tmp_path)
    assert found["who"].dims == ("station", "string4")
    for name, values in wanted.isel(time=[1]).variables.items():
        assert found[name].dims == values.dims
        assert same(found[name].values, values.values)


# What is refused -------------------------------------------------------------------------------

PAIR = np.dtype([("speed", "<f4"), ("flag", "i1")])
TIME = xr.Dataset(
    {"level": ("time", np.arange(3.0))},
    coords={"time": ("time", np.arange(3), {"units": "hours since 2000-01-01"})},
)


@pytest.mark.parametrize(
    "dtype", [PAIR, np.dtype([("a", "O")]), np.dtype("V0"), np.dtype("S0"), np.dtype("U0")], ids=str
)
def test_values_with_fields_and_values_without_bytes_are_refused(dtype: np.dtype[Any]) -> None:
    assert not is_supported(dtype)


def test_a_structured_variable_is_left_out_and_told(tmp_path: Path) -> None:
    dataset = TIME.assign(wind=("time", np.zeros(3, PAIR)))
    spec = SourceSpec("s", "append")
    found = describe(dataset, spec)
    assert [v.name for v in found.variables] == ["level"]
    assert "cannot be stored" in found.skipped["wind"]
    with pytest.raises(InvalidInput, match=r"wind has type .*speed"):
        describe(dataset, spec, names=("wind",))


@pytest.mark.parametrize("value", [None, 3, 2.5, b"bytes", ["a"], np.float64(1)])
def test_objects_that_are_no_text_are_refused(value: Any) -> None:
    values = np.array(["a", None, "b"], object)
    values[1] = value
    with pytest.raises(InvalidInput, match=f"type {type(value).__name__} where text was expected"):
        text_bytes(values)
    with pytest.raises(InvalidInput, match="who: found a value"):
        encode_variable("who", xr.Variable(("x",), values))


def test_a_source_whose_objects_are_no_text_is_not_captured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """xarray may read any object; the error says what was found, and nothing is kept."""
    words = np.array(["a", "b", "c"], object)
    write(tmp_path / "s.zarr", "text", {"thing": words})
    made = make_repository(tmp_path / "r", tmp_path / "s.zarr")

    def odd(dataset: xr.Dataset, variable: Any, *_: Any) -> NDArray[Any]:
        values = dataset[variable.name].values
        return np.array([{"a": 1}, "b", "c"], object) if variable.is_text else values

    monkeypatch.setattr("gnomon.tasks.capturing.capture.read_states", odd)
    with pytest.raises(InvalidInput, match="type dict where text was expected"):
        capture_new(made)
    assert len(reopened(tmp_path / "r").records) == len(made.records)
