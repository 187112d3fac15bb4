"""Rollbacks of a live dataset in a bucket."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from obstore.store import from_url
from zarr.storage import ObjectStore

from gnomon.repository import GnomonRepository
from gnomon.storage.errors import Conflict, Unavailable
from gnomon.storage.live import stores
from tests import sources
from tests.servers import BUCKET, Server, moto
from tests.storage.building import captured, weather

AT = "2000-01-01T02"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with moto() as running:
        yield running


@pytest.fixture
def source(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Return the URL of a Zarr store in a bucket."""
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    url = f"s3://{BUCKET}/{tmp_path.name}/source.zarr"
    store = ObjectStore(from_url(url))
    chunks = {name: {"chunks": (1, 3, 5)} for name in ("t", "p", "wet")}
    weather(4).to_zarr(store, encoding=chunks, consolidated=False)
    return url


def present(url: str) -> xr.Dataset:
    store = ObjectStore(from_url(url), read_only=True)
    dataset: xr.Dataset = xr.open_zarr(store, consolidated=False, decode_cf=False)
    return dataset.load()


def test_objects_in_a_bucket_are_replaced_and_taken_back(source: str, tmp_path: Path) -> None:
    opened = GnomonRepository(captured(tmp_path / "r", source, chunks={"y": 3, "x": 5}))
    zarr.open_array(ObjectStore(from_url(source)), path="t", mode="r+")[2, 4, 7] = 1e9
    rolled = opened.rollback(AT)
    assert len(rolled.plan.objects) == 1
    assert sources.bits(present(source).t.values) == sources.bits(weather(4).t.values)
    opened.undo()
    assert present(source).t.values[2, 4, 7] == np.float32(1e9)


def test_a_bucket_that_goes_away_leaves_what_the_next_command_takes_back(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = GnomonRepository(captured(tmp_path / "r", source, chunks={"y": 3, "x": 5}))
    zarr.open_array(ObjectStore(from_url(source)), path="t", mode="r+")[2] = 7
    before = present(source)
    replace, calls = stores._Bucket.replace, 0

    def fail(self: stores._Bucket, *arguments: object) -> None:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise Unavailable("the bucket is gone")
        replace(self, *arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(stores._Bucket, "replace", fail)
        with pytest.raises(Unavailable):
            opened.rollback(AT)
    assert not present(source).equals(before)
    with pytest.raises(Conflict, match="stopped half way"):
        opened.plan_rollback(AT)
    opened.undo()
    assert present(source).identical(before)
