"""Small chunks of a source are read quickly, and as they are."""

from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from time import sleep
from typing import Literal

import numpy as np
import pytest
import zarr
from zarr.core import codec_pipeline
from zarr.core.codec_pipeline import BatchedCodecPipeline, FusedCodecPipeline

from gnomon.storage.source.opening import open_source
from gnomon.storage.source.pipeline import reading_quickly
from gnomon.storage.values.model import SourceSpec

CODECS = {
    "default": {},
    "none": {"compressors": None},
    "blosc": {"compressors": zarr.codecs.BloscCodec(cname="lz4")},
    "gzip, checksum": {"compressors": [zarr.codecs.GzipCodec(), zarr.codecs.Crc32cCodec()]},
    "turned": {"filters": [zarr.codecs.TransposeCodec(order=(1, 0))]},
    "shards": {"shards": (6, 8)},
}


def written(
    path: Path, dtype: str, zarr_format: Literal[2, 3] = 3, **options: object
) -> np.ndarray:
    """Write an array (6, 8) in chunks (3, 4), one of them left out; return its values."""
    values = np.arange(48).reshape(6, 8).astype(dtype)
    values[3:, 4:] = 0
    array = zarr.create_array(
        path,
        name="v",
        shape=values.shape,
        chunks=(3, 4),
        dtype=dtype,
        fill_value=0,
        zarr_format=zarr_format,
        dimension_names=("y", "x") if zarr_format == 3 else None,
        config={"write_empty_chunks": False},
        **options,  # type: ignore[arg-type]
    )
    array[:] = values
    if zarr_format == 2:
        array.attrs["_ARRAY_DIMENSIONS"] = ["y", "x"]
    return values


@pytest.mark.parametrize("codecs", CODECS)
@pytest.mark.parametrize("dtype", ["f4", "i2", "u1", "f8"])
def test_chunks_of_any_codec_are_read_as_they_are(codecs: str, dtype: str, tmp_path: Path) -> None:
    values = written(tmp_path / "s.zarr", dtype, **CODECS[codecs])  # type: ignore[arg-type]
    opened = open_source(SourceSpec(str(tmp_path / "s.zarr"), "state", None))
    np.testing.assert_array_equal(opened["v"].values, values)
    np.testing.assert_array_equal(opened["v"][2:5, 3:].values, values[2:5, 3:])


def test_the_second_format_is_read_as_it_is(tmp_path: Path) -> None:
    values = written(tmp_path / "s.zarr", "f4", zarr_format=2)
    opened = open_source(SourceSpec(str(tmp_path / "s.zarr"), "state", None))
    np.testing.assert_array_equal(opened["v"].values, values)


def test_shards_are_read_the_usual_way(tmp_path: Path) -> None:
    written(tmp_path / "whole.zarr", "f4")
    written(tmp_path / "sharded.zarr", "f4", shards=(6, 8))
    with reading_quickly():
        whole, sharded = (
            zarr.open_array(tmp_path / name, path="v") for name in ("whole.zarr", "sharded.zarr")
        )
    assert isinstance(whole.async_array.codec_pipeline, FusedCodecPipeline)
    assert isinstance(sharded.async_array.codec_pipeline, BatchedCodecPipeline)


@pytest.mark.parametrize(("side", "tasks"), [(8, 0), (256, 4)])
def test_small_chunks_have_no_tasks_of_their_own(
    side: int, tasks: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.arange(4 * side**2).reshape(2 * side, 2 * side)
    zarr.create_array(tmp_path / "v", data=values, chunks=(side, side))
    with reading_quickly():
        array = zarr.open_array(tmp_path / "v", mode="r")
    done = []

    class Pool:
        @staticmethod
        def map(function: Callable[[object], object], batch: list[object]) -> Iterator[object]:
            done.extend(batch)
            return map(function, batch)

    monkeypatch.setattr(codec_pipeline, "_get_pool", lambda _: Pool())
    with zarr.config.set({"threading.max_workers": 2}):
        np.testing.assert_array_equal(array[:], values)
    assert len(done) == tasks


def test_threads_that_open_at_once_leave_nothing_behind() -> None:
    def open_often() -> None:
        for _ in range(200):
            with reading_quickly():
                sleep(0)

    usual = zarr.config.get("codec_pipeline.path")
    threads = [Thread(target=open_often) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert zarr.config.get("codec_pipeline.path") == usual


def test_what_others_open_is_theirs(tmp_path: Path) -> None:
    written(tmp_path / "s.zarr", "f4")
    open_source(SourceSpec(str(tmp_path / "s.zarr"), "state", None))
    array = zarr.open_array(tmp_path / "s.zarr", path="v")
    assert isinstance(array.async_array.codec_pipeline, BatchedCodecPipeline)
