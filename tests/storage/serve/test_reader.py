"""The reading store, through zarr, xarray and dask, here and in other processes."""

import asyncio
import multiprocessing
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import MemoryStore

from gnomon.storage.errors import Integrity, NotFound
from gnomon.storage.repository import Repository
from gnomon.storage.serve.planes import PROVENANCE, EstimatedChunk, Plane, is_predicted
from gnomon.storage.serve.reader import ComputedArray, ReadingStore
from gnomon.storage.serve.view import raw_dataset, reading_store
from tests.storage.building import (
    assert_identical,
    capture_new,
    captured,
    copy_of,
    history,
    make_repository,
    planes_of,
    undecoded,
    weather,
    write_zarr,
)


@pytest.fixture(scope="module")
def repository(repository_path: Path) -> Repository:
    return Repository.open(str(repository_path))


@pytest.fixture(scope="module")
def source(repository: Repository) -> xr.Dataset:
    return undecoded(repository.settings.source.url)


def test_zarr_reads_every_cell(repository: Repository, source: xr.Dataset) -> None:
    store = reading_store(repository, planes_of(repository), plain=True)
    group: Any = zarr.open_group(store, mode="r")
    assert sorted(group.array_keys()) == sorted(map(str, source.variables))
    for name in ("t", "p", "wet"):
        found = np.asarray(group[name][...])
        assert found.tobytes() == source[name].values.tobytes()
        assert group[name].chunks == (1, 4, 5)


def test_xarray_and_dask_read_regions(repository: Repository, source: xr.Dataset) -> None:
    store: Any = reading_store(repository, planes_of(repository), plain=True)
    lazy = xr.open_zarr(store, consolidated=False, chunks={}, decode_cf=False)
    wanted = source.isel(time=slice(1, 3), y=slice(2, 6), x=slice(3, 9))
    part = lazy.isel(time=slice(1, 3), y=slice(2, 6), x=slice(3, 9)).compute(scheduler="threads")
    for name in ("t", "p", "wet"):
        assert part[name].values.tobytes() == wanted[name].values.tobytes()


def _read_elsewhere(pickled: bytes) -> bytes:
    dataset = pickle.loads(pickled)
    return bytes(dataset["t"].values.tobytes())


def test_a_dataset_travels_to_another_process(repository: Repository, source: xr.Dataset) -> None:
    pickled = pickle.dumps(history(repository))
    assert len(pickled) < 100_000
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_read_elsewhere, (pickled,)) == source["t"].values.tobytes()


def test_a_pickled_store_is_pinned_to_its_commit(tmp_path: Path) -> None:
    source = write_zarr(weather(2)[["t", "wet"]], tmp_path / "source.zarr")
    first = captured(tmp_path / "r", source)
    pickled = pickle.dumps(reading_store(first, planes_of(first)))
    more = weather(2, first=2)[["t", "wet"]].drop_attrs()
    write_zarr(more, source, append_dim="time")
    capture_new(first)
    group: Any = zarr.open_group(pickle.loads(pickled), mode="r")
    assert group["t"].shape[0] == 2


def test_listings(repository: Repository) -> None:
    store = reading_store(repository, planes_of(repository))

    async def names(prefix: str) -> list[str]:
        return [n async for n in store.list_dir(prefix)]

    async def every() -> list[str]:
        return [n async for n in store.list()]

    found = asyncio.run(every())
    assert len(found) == len(set(found))
    for prefix in ("", "t", "t/c", "t/c/0", "t/c/0/1", "t/", "x", "nothing", "t/c/9", "t/c/0/1/1"):
        start = f"{prefix.rstrip('/')}/" if prefix else ""
        wanted = {n.removeprefix(start).split("/")[0] for n in found if n.startswith(start)}
        assert asyncio.run(names(prefix)) == sorted(wanted), prefix


def test_byte_ranges_and_existence(repository: Repository) -> None:
    store = reading_store(repository, planes_of(repository))
    prototype = default_buffer_prototype()

    async def get(key: str, byte_range: Any = None) -> bytes | None:
        found = await store.get(key, prototype, byte_range)
        return None if found is None else found.to_bytes()

    async def check() -> None:
        whole = await get("t/c/1/0/1")
        assert whole is not None
        assert len(whole) == 4 * 5 * 4
        assert await get("t/c/1/0/1", RangeByteRequest(4, 12)) == whole[4:12]
        assert await get("t/c/1/0/1", OffsetByteRequest(70)) == whole[70:]
        assert await get("t/c/1/0/1", SuffixByteRequest(6)) == whole[-6:]
        many = [("t/c/1/0/1", RangeByteRequest(0, 2)), ("t/c/9/9/9", None)]
        some = await store.get_partial_values(prototype, many)
        assert some[0] is not None
        assert some[0].to_bytes() == whole[:2]
        assert some[1] is None
        for absent in ("t/c/4/0/0", "t/c/-1/0/0", "t/c/0/0", "t/c/\u00b2/0/0", "q/c/0", "t/c", "c"):
            assert await get(absent) is None, absent
            assert not await store.exists(absent), absent
        assert await store.exists("t/c/3/1/1")
        assert await store.exists("t/zarr.json")

    asyncio.run(check())


def test_a_restore_point_is_read_only(repository: Repository) -> None:
    store = reading_store(repository, planes_of(repository))
    assert store.read_only
    assert not store.supports_writes
    with pytest.raises(PermissionError):
        asyncio.run(store.set("t/c/0/0/0", default_buffer_prototype().buffer.from_bytes(b"")))
    with pytest.raises(PermissionError):
        asyncio.run(store.delete("t/zarr.json"))
    with pytest.raises(ValueError, match=r"read.only"):
        zarr.open_group(store, mode="r+")


@pytest.mark.parametrize("name", ["c", "x.y", "a b", "\u00fc"])
@pytest.mark.parametrize("dtype", ["?", "<f4", "<M8[s]"])
def test_arrays_without_dimensions_and_odd_names(name: str, dtype: str) -> None:
    value = np.ones((), "u1").astype(dtype)
    memory = MemoryStore()
    zarr.create_group(memory)
    zarr.create_array(memory, name=name, shape=(), dtype=dtype, compressors=None, filters=None)
    computed = ComputedArray((), (), np.dtype(dtype), lambda index: value)
    store = ReadingStore(memory, {name: computed}, (ReadingStore, ()))
    group: Any = zarr.open_group(store, mode="r")
    assert np.asarray(group[name][...]).tobytes() == value.tobytes()


@pytest.mark.parametrize("dtype", ["?", "<i2", "<f2", "<M8[s]", "<m8[h]"])
def test_edge_chunks_are_padded_to_full_size(dtype: str) -> None:
    cells = np.arange(4).reshape(2, 2).astype(dtype)
    encoded = ComputedArray((3, 4), (1, 1), np.dtype(dtype), lambda index: cells).encoded((0, 0))
    whole = np.frombuffer(encoded, dtype).reshape(3, 4)
    assert whole[:2, :2].tobytes() == cells.tobytes()


def test_damage_is_raised_through_xarray(repository_path: Path, tmp_path: Path) -> None:
    folder = copy_of(repository_path, tmp_path / "r")
    repository = Repository.open(str(folder))
    (folder / repository.captures("p").file(3, (0, 0))).unlink()
    dataset = history(Repository.open(str(folder)))
    assert dataset["t"].load().size
    with pytest.raises(Integrity, match="p chunk"):
        dataset["p"].load()


def test_predicted_cells_are_never_marked_captured(repository: Repository) -> None:
    shadow = repository.shadows[0]
    plane = Plane(shadow.instants[0], shadow=shadow.id, lead=1)
    assert is_predicted((plane,))
    dataset = raw_dataset(repository, (plane, *planes_of(repository)))
    for name in ("t", "p"):
        about = dataset[f"{name}_provenance"].values
        assert not (about[0] == PROVENANCE["captured"]).any()
        assert (about[1:] == PROVENANCE["captured"]).all()
        predicted = about[0] == PROVENANCE["forecast"]
        error = dataset[f"{name}_standard_error"].values
        assert np.isfinite(error[0][predicted]).all()
        assert np.isnan(error[0][~predicted]).all()
        assert (about[0][~predicted] == PROVENANCE["missing"]).all()
    names = dataset["t"].attrs["ancillary_variables"].split()
    assert names == ["t_standard_error", "t_provenance"]
    assert dataset["t"].attrs["standard_name"] == "air_temperature"


def test_a_patched_chunk_keeps_what_was_captured(repository: Repository) -> None:
    """Cells of a patch that are marked captured are the captured bits, not a round trip of them."""
    raw = repository.captures("p").chunk(3, (0, 0))
    estimated = np.zeros(raw.shape, bool)
    estimated[1:3] = True
    about = np.where(estimated, PROVENANCE["interpolated"], PROVENANCE["captured"])
    patch = EstimatedChunk(np.full(raw.shape, 2.0), np.ones(raw.shape), about.astype(np.uint8))
    plane = Plane(repository.captured[3].instant, step=3, patches={("p", (0, 0)): patch})
    assert is_predicted((plane,))
    dataset = raw_dataset(repository, (plane,))
    found = dataset["p"].values[0, :4, :5]
    assert found[~estimated].tobytes() == raw[~estimated].tobytes()
    assert (found[estimated] == 50).all()  # (2.0 - 1.0) / 0.02
    assert (dataset["p_provenance"].values[0, :4, :5] == about).all()
    assert (dataset["p_provenance"].values[0, 4:] == 0).all()


def test_a_variable_without_a_prediction_has_none(repository: Repository) -> None:
    dataset = raw_dataset(repository, (Plane(0),))
    with pytest.raises(NotFound, match="no prediction"):
        dataset["t"].load()


def test_a_repository_in_memory(tmp_path: Path) -> None:
    source = write_zarr(weather(3), tmp_path / "source.zarr")
    repository = captured(f"memory://{tmp_path}", source)
    assert_identical(history(repository), undecoded(source))
    again = Repository.open(f"memory://{tmp_path}")
    assert len(again.captured) == 3
    assert pickle.loads(pickle.dumps(history(again)))["t"].load().size


def test_a_place_that_is_taken_is_refused(repository_path: Path) -> None:
    from gnomon.storage.errors import Conflict

    url = Repository.open(str(repository_path)).settings.source.url
    with pytest.raises(Conflict, match="not empty"):
        make_repository(repository_path, url)
