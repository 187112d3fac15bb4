from math import prod
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from gnomon.storage.errors import InvalidInput, NotFound
from gnomon.storage.source.chunking import MAX_CHUNK_BYTES, MIN_CELLS, MIN_CHUNKS, choose_chunks
from gnomon.storage.source.describing import describe
from gnomon.storage.values.grid import ChunkGrid
from gnomon.storage.values.model import RepositorySettings, SourceSpec, Variable
from tests.storage.building import weather

SPEC = SourceSpec("s", "append")


def variables(dataset: xr.Dataset, **options: Any) -> dict[str, Variable]:
    return {v.name: v for v in describe(dataset, SPEC, **options).variables}


@given(st.lists(st.tuples(st.integers(1, 3000), st.integers(1, 3000)), max_size=4))
def test_chunks_fit_and_damage_has_a_place(pairs: Any) -> None:
    shape, source = tuple(a for a, _ in pairs), tuple(b for _, b in pairs)
    chunks = choose_chunks(shape, source, 4)
    assert all(1 <= c <= n for c, n in zip(chunks, shape, strict=True))
    for chunk, size, own in zip(chunks, shape, source, strict=True):
        # Where a source has several chunks, none of ours lies across the edge of one.
        assert own >= size or chunk in (own, size) or own % chunk == 0 or chunk % own == 0
    assert prod(chunks) * 4 <= MAX_CHUNK_BYTES
    grid = ChunkGrid(shape, chunks, chunks)
    triples = zip(chunks, shape, source, strict=True)
    divisible = all(own >= n or any(c % d == 0 for d in range(2, 8)) for c, n, own in triples)
    assert grid.size >= MIN_CHUNKS or prod(chunks) < 2 * MIN_CELLS or not divisible
    # Small chunks are taken together: there are never many that are tiny.
    assert grid.size <= 8 * MIN_CHUNKS or prod(chunks) >= MIN_CELLS / 8


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 4), st.integers(1, 3)), max_size=3))
def test_blocks_cover_every_chunk_once(sides: Any) -> None:
    shape = tuple(n for n, _, _ in sides)
    chunks = tuple(min(c, n) for n, c, _ in sides)
    grid = ChunkGrid(
        shape, chunks, tuple(c * k for c, (_, _, k) in zip(chunks, sides, strict=True))
    )
    seen = []
    cells = np.zeros(shape, int)
    for block in grid.blocks():
        cells[block.cells] += 1
        for index, local, inside in grid.inner(block):
            seen.append(index)
            part = np.zeros(shape, int)[block.cells][inside]
            assert part.shape == np.zeros(shape)[grid.cells(index)].shape
            assert all(i < n for i, n in zip(local, block.grid, strict=True))
    assert (cells == 1).all()
    assert sorted(seen) == list(grid.indices())


def test_kind_and_time_are_found() -> None:
    found = describe(weather(), SPEC)
    assert (found.spec.kind, found.spec.time) == ("append", "time")
    assert set(found.frame) == {"y", "x"}
    state = describe(weather().isel(time=0, drop=True), SPEC)
    assert (state.spec.kind, state.spec.time) == ("state", None)
    forced = describe(weather(), SPEC, kind="state")
    assert forced.spec.time is None
    assert "time" in {v.name for v in forced.variables if not v.forecast}


def test_what_is_forecast_and_what_only_captured() -> None:
    dataset = weather()
    dataset["time"].attrs["bounds"] = "time_bnds"
    dataset["time_bnds"] = (("time", "n"), np.zeros((4, 2)))
    dataset["made"] = ("time", np.arange(4), {"units": "hours since 2000-01-01"})
    dataset["text"] = ("time", np.array(list("abcd")))
    dataset["complex"] = ("time", np.ones(4, np.complex64))
    pairs = np.zeros(4, [("a", "<f4"), ("b", "<i2")])
    dataset["pair"] = ("time", pairs)
    found = describe(dataset, SPEC)
    assert {v.name for v in found.variables if v.forecast} == {"t", "p", "wet"}
    assert {v.name for v in found.variables if not v.forecast} == {
        "time_bnds",
        "made",
        "text",
        "complex",
    }
    assert set(found.skipped) == {"pair"}
    named = describe(dataset, SPEC, names=("t",))
    assert {v.name for v in named.variables} == {"t", "time_bnds", "made"}
    assert named.skipped["text"] == "not named"
    assert named.skipped["p"] == "not named"


def test_source_chunks_are_kept_or_divided() -> None:
    dataset = weather()
    dataset["t"].encoding["preferred_chunks"] = {"time": 4, "y": 3, "x": 10}
    assert variables(dataset)["t"].chunks == (3, 10)
    assert variables(dataset, chunks={"y": 2})["t"].chunks == (2, 10)
    assert variables(dataset, chunks={"y": 99})["t"].chunks == (6, 10)


def test_longitude_that_closes_is_cyclic() -> None:
    x = np.arange(0.0, 360.0, 36.0)
    dataset = weather().assign_coords(x=("x", x, {"units": "degrees_east"}))
    assert variables(dataset)["t"].cyclic == (False, True)
    assert variables(weather())["t"].cyclic == (False, False)


def test_big_endian_is_described_as_little() -> None:
    dataset = weather()
    dataset["t"] = dataset["t"].astype(">f4")
    assert variables(dataset)["t"].dtype == "<f4"


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"names": ("none",)}, NotFound, "no variable 'none'"),
        ({"names": ("x",)}, InvalidInput, "does not change"),
        ({"chunks": {"q": 3}}, InvalidInput, "'q'"),
        ({"chunks": {"y": 0}}, InvalidInput, "at least 1"),
    ],
)
def test_requests_that_are_refused(options: Any, error: Any, text: Any) -> None:
    with pytest.raises(error, match=text):
        describe(weather(), SPEC, **options)


@pytest.mark.parametrize("name", ["a/b", "../x", "..", ".", "", "zarr.json", "\udc80"])
def test_names_that_zarr_cannot_hold_are_refused(name: Any) -> None:
    dataset = xr.Dataset({name: ("time", np.arange(4.0))}, coords=weather().coords)
    with pytest.raises(InvalidInput, match="Zarr cannot hold"):
        describe(dataset, SPEC)


def test_sources_that_are_refused() -> None:
    no_units = weather()
    no_units["time"].attrs.clear()
    with pytest.raises(InvalidInput, match="--interval and --start"):
        describe(no_units, SPEC, kind="append")
    with pytest.raises(NotFound, match="nonsense"):
        describe(weather(), SourceSpec("s", "append", "nonsense"))
    with pytest.raises(InvalidInput, match="no numeric variable"):
        describe(weather()[["x", "y", "time"]], SPEC)
    undecodable = weather()
    undecodable["time"].attrs["units"] = "eons since yesterday"
    with pytest.raises(InvalidInput, match="cannot be decoded"):
        describe(undecodable, SPEC)
    with pytest.raises(InvalidInput, match="no numeric variable"):
        describe(weather().isel(x=slice(0)), SPEC)


def test_settings_come_back_from_json() -> None:
    import json

    found = describe(weather(), SPEC)
    settings = RepositorySettings(
        found.spec,
        found.variables,
        "now",
        "frame/x",
        {
            "y": {
                "dims": ["y"],
                "attributes": {"a": np.float32(1)},
                "dtype": "<f8",
                "shape": [3],
                "file": "f",
                "hash": "h",
            }
        },
        attributes={"x": np.arange(3)},
        periods_s=(1.0, 2.0),
        tolerances={"t": 0.5},
    )
    again = RepositorySettings.from_json(
        json.loads(json.dumps(settings.to_json(), allow_nan=False))
    )
    assert again.to_json() == settings.to_json()
    assert again.variable("t").grid == settings.variable("t").grid
    assert again.periods_s == (1.0, 2.0)
