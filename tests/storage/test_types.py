"""Every type that a source can have: captured, served, restored, pruned, and captured again."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import xarray as xr
import zarr
from numpy.typing import NDArray

from gnomon.storage.check import check
from gnomon.storage.delta import is_supported, ordered, restored
from gnomon.storage.describe import describe
from gnomon.storage.errors import InvalidInput
from gnomon.storage.forget import forget
from gnomon.storage.frame import encode_variable
from gnomon.storage.model import SourceSpec
from gnomon.storage.prune import prune
from gnomon.storage.repository import Repository
from gnomon.storage.text import text_bytes
from gnomon.storage.view import Plane, raw_dataset
from gnomon.tasks.compare import compare
from gnomon.tasks.points import points
from gnomon.tasks.restore import restore
from gnomon.tasks.revisions import find_revisions
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
    "row": (5,),
    "field": (4, 6),
    "cube": (2, 3, 2),
    "empty": (0,),
    "empty field": (3, 0),
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


def write(path: Path, kind: str, states: NDArray[Any], first: int = 0) -> None:
    """Write a Zarr store as it comes from elsewhere: without xarray's encoding."""
    group = zarr.create_group(path, zarr_format=3, overwrite=True)
    time = group.create_array(
        "time", shape=(len(states),), dtype="<i8", dimension_names=("time",), fill_value=0
    )
    time[...] = np.arange(first, first + len(states))
    time.attrs["units"] = "hours since 2000-01-01"
    dims = ("time", *"abcdef"[: states.ndim - 1])
    options: dict[str, Any] = {"dtype": str if kind == "text" else states.dtype}
    array = group.create_array(
        "thing",
        shape=states.shape,
        chunks=tuple(max(1, n) for n in (1, *states.shape[1:])),
        dimension_names=dims,
        config={"write_empty_chunks": True},
        **options,
    )
    if states.size:
        array[...] = states
    # What makes the source one that can be protected at all.
    level = group.create_array(
        "level", shape=(len(states),), dtype="<f4", dimension_names=("time",)
    )
    level[...] = np.arange(len(states))


def stored(path: Path) -> xr.Dataset:
    with xr.open_dataset(path, engine="zarr", consolidated=False, decode_cf=False) as found:
        return found.load()


def same(found: Any, wanted: NDArray[Any]) -> bool:
    values = np.asarray(found)
    if wanted.dtype.kind in "OT":
        return bool(values.shape == wanted.shape and values.tolist() == wanted.tolist())
    return bool(values.dtype == wanted.dtype and sources.bits(values) == sources.bits(wanted))


def assert_kept(repository: Repository, states: NDArray[Any], numbers: list[int]) -> None:
    """Demand every state by history, by chunk, and from the stored bytes."""
    found = reopened(repository.location.url)
    served = history(found)["thing"]
    assert served.dims[0] == "time"
    assert same(served.values, states[numbers])
    report = check(found, read_data=True)
    assert (report.problems, report.unreferenced) == ((), 0)


@pytest.mark.filterwarnings("ignore")  # Zarr's on types that its specification lacks
@pytest.mark.parametrize("form", SHAPES)
@pytest.mark.parametrize("kind", TYPES)
def test_a_whole_life(kind: str, form: str, tmp_path: Path) -> None:
    states = samples(kind, SHAPES[form])
    write(tmp_path / "s.zarr", kind, states[:5])
    states = stored(tmp_path / "s.zarr")["thing"].values  # xarray has types of its own
    made = make_repository(tmp_path / "r", tmp_path / "s.zarr")
    for hour in (1, 5):
        made = capture_new(made, until=MIDNIGHT + hour * HOUR)
    assert_kept(made, states, [*range(5)])
    assert find_revisions(made, serial, count=None, rng=np.random.default_rng()) == ()

    plane = raw_dataset(made, (Plane(made.captured[1].instant, step=1),), plain=True)
    assert same(plane["thing"].values, states[1:2])
    point = points(made, made.captured[2].instant)[0]
    done = restore(made, point, str(tmp_path / "x.zarr"), plain=True)
    assert done.chunks == sum(v.grid.size for v in made.settings.variables)
    written = stored(tmp_path / "x.zarr")["thing"]
    assert same(written.values, states[2:3])

    changed = {d.variable: d for d in compare(made, 1, 2)}["thing"]
    assert changed.changed_cells == sum(
        not same(a, b) for a, b in zip(_cells(states[1]), _cells(states[2]), strict=True)
    )
    assert {d.variable: d for d in compare(made, 2, 3)}["thing"].changed_cells == 0

    made, _ = forget(made, captures=[0, 2], committed_at=WHEN)
    made, pruned = prune(made, committed_at=WHEN)
    assert pruned.objects > 0
    assert_kept(made, states, [1, 3, 4])
    write(tmp_path / "s.zarr", kind, samples(kind, SHAPES[form]))
    made = capture_new(made)
    assert_kept(made, stored(tmp_path / "s.zarr")["thing"].values, [1, 3, 4, 5])


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


@pytest.mark.parametrize("order", ["<", ">"])
def test_big_endian_sources_are_served_little(order: Literal["<", ">"], tmp_path: Path) -> None:
    for kind in ("f4", "i8", "c16", "U3", "M8[s]"):
        states = samples(f"<{kind}", (4,))
        states = states.astype(states.dtype.newbyteorder(order))
        path = tmp_path / f"{kind[0]}.zarr"
        write(path, kind, states)
        wanted = stored(path)["thing"].values
        made = capture_new(make_repository(tmp_path / f"{kind[0]}-r", path))
        assert_kept(made, wanted.astype(wanted.dtype.newbyteorder("<")), [*range(STEPS)])


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


def test_a_source_whose_objects_are_no_text_is_not_captured(tmp_path: Path) -> None:
    """What xarray reads of a source may be any object; the error names the variable."""
    import pickle

    from tests.storage import building

    values = np.empty(3, object)
    values[:] = [{"a": 1}, "text", 3]
    (tmp_path / "s.nc").write_bytes(pickle.dumps(None))
    write(tmp_path / "s.zarr", "text", np.array(["a", "b", "c"], object))
    made = building.make_repository(tmp_path / "r", tmp_path / "s.zarr")
    before = len(made.records)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "gnomon.storage.source.native",
            lambda found: values[:, ...] if found.dtype.kind in "OT" else found,
        )
        with pytest.raises(InvalidInput, match="where text was expected"):
            capture_new(made)
    assert len(reopened(tmp_path / "r").records) == before
