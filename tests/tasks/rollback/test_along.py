"""Objects that hold more than the state that is written: what lies beside it is never harmed."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from numcodecs import Quantize

from gnomon.repository import GnomonRepository
from gnomon.storage.arrays.residuals import digest
from gnomon.storage.errors import Conflict, InvalidInput, TargetFailed, Unreadable
from gnomon.storage.live import stores
from tests import sources
from tests.storage.building import captured, weather, write_zarr
from tests.tasks.rollback.test_rollback import AT, CHUNKS, changed, files_of, zarr_source

BROKEN = "p/c/1/0/1"
"""Object of steps 2 and 3 of the packed variable, which cannot be decoded."""


def numbers(dataset: xr.Dataset) -> np.ndarray[Any, Any]:
    decoded: np.ndarray[Any, Any] = xr.decode_cf(dataset.copy()).p.values
    return decoded


def repack(dataset: xr.Dataset, **attributes: Any) -> xr.Dataset:
    """Return the same numbers, packed otherwise; None leaves an attribute out."""
    packed = dataset.copy(deep=True)
    values = numbers(dataset).astype("f8")
    now = {n: a for n, a in (packed.p.attrs | attributes).items() if a is not None}
    fill = now.get("_FillValue", now.get("missing_value"))
    raw = np.rint((values - now.get("add_offset", 0.0)) / now.get("scale_factor", 1.0))
    raw = raw if fill is None else np.where(np.isnan(values), fill, raw)
    packed["p"] = (dataset.p.dims, raw.astype(np.int16), now)
    return packed


PACKINGS: dict[str, dict[str, Any]] = {
    "scale": {"scale_factor": 0.01},
    "offset": {"add_offset": 0.0},
    "fill value": {"_FillValue": -31999},
    "missing_value": {"_FillValue": None, "missing_value": -999},
}


@pytest.mark.parametrize("attributes", PACKINGS.values(), ids=PACKINGS.keys())
def test_steps_beside_are_put_back_as_the_dataset_is_packed_now(
    tmp_path: Path, attributes: dict[str, Any]
) -> None:
    source = zarr_source(tmp_path / "source.zarr", weather(4), chunks=(2, 3, 5))
    opened = GnomonRepository(captured(tmp_path / "r", source, chunks=CHUNKS))
    shutil.rmtree(source)
    now = repack(weather(4), **attributes)
    zarr_source(source, now, chunks=(2, 3, 5))
    good = files_of(source)
    (source / BROKEN).write_bytes(b"no chunk")
    rolled = opened.rollback(AT, variable=["p"])
    assert rolled.plan.also == ("2000-01-01T03:00:00",)
    assert sources.bits(sources.raw(source).p.values) == sources.bits(now.p.values)
    assert files_of(source) == good


@pytest.mark.parametrize("dtype", [">f4", ">i2"], ids=["floats", "packed"])
def test_steps_beside_are_put_back_in_the_byte_order_of_the_dataset(
    tmp_path: Path, dtype: str
) -> None:
    name = "t" if dtype == ">f4" else "p"
    data = weather(4)
    data[name] = data[name].astype(dtype)
    source = write_zarr(
        data, tmp_path / "source.zarr", zarr_format=2, encoding={name: {"chunks": (2, 3, 5)}}
    )
    opened = GnomonRepository(captured(tmp_path / "r", source, chunks=CHUNKS))
    good = files_of(source)
    (source / name / "1.1.1").write_bytes(b"no chunk")
    opened.rollback(AT)
    assert files_of(source) == good


def test_a_packing_that_cannot_hold_a_step_beside_is_not_written(tmp_path: Path) -> None:
    data = weather(4)
    data.p.values[3] += 20000
    source = zarr_source(tmp_path / "source.zarr", data, chunks=(2, 3, 5))
    opened = GnomonRepository(captured(tmp_path / "r", source, chunks=CHUNKS))
    shutil.rmtree(source)
    small = repack(weather(4), scale_factor=0.005)
    zarr_source(source, small, chunks=(2, 3, 5))
    (source / BROKEN).write_bytes(b"no chunk")
    before = files_of(source)
    with pytest.raises(Unreadable, match="beyond what its type can hold"):
        opened.rollback(AT, variable=["p"])
    assert files_of(source) == before


def test_what_is_written_of_steps_beside_is_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = zarr_source(tmp_path / "source.zarr", weather(4), chunks=(2, 3, 5))
    opened = GnomonRepository(captured(tmp_path / "r", source, chunks=CHUNKS))
    (source / BROKEN).write_bytes(b"no chunk")
    before = files_of(source)

    def spoilt(name: str, index: Any, values: Any) -> bytes:
        """Stand for a fault by which other bytes are stored than are meant."""
        return digest(name, index, values + 1)

    monkeypatch.setattr("gnomon.tasks.rollback.along.digest", spoilt)
    with pytest.raises(TargetFailed, match="other bytes of p chunk"):
        opened.rollback(AT)
    assert files_of(source) == before


def test_codecs_that_do_not_keep_values_are_not_written_through(tmp_path: Path) -> None:
    source = zarr_source(tmp_path / "source.zarr", weather(4), chunks=(2, 3, 5))
    opened = GnomonRepository(captured(tmp_path / "r", source, chunks=CHUNKS))
    rounded = {"t": {"chunks": (2, 3, 5), "filters": [Quantize(1, "<f4")]}}
    other = write_zarr(weather(4), tmp_path / "other.zarr", zarr_format=2, encoding=rounded)
    before = files_of(other)
    with pytest.raises(InvalidInput, match="codecs of t"):
        opened.rollback(AT, into=str(other))
    assert files_of(other) == before


def test_a_dataset_that_is_packed_anew_while_it_is_written_keeps_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = zarr_source(tmp_path / "source.zarr", weather(4), chunks=(1, 3, 5))
    opened = GnomonRepository(captured(tmp_path / "r", source, chunks=CHUNKS))
    zarr.open_array(source / "p", mode="r+")[2] = 7
    before, replace = files_of(source), stores._Files.replace

    def edited(self: Any, *arguments: Any) -> None:
        zarr.open_array(source / "p", mode="r+").attrs["scale_factor"] = 0.5
        replace(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(stores._Files, "replace", edited)
        with pytest.raises(Conflict, match="scale, offset or fill value of p"):
            opened.rollback(AT)
    assert changed(before, files_of(source)) == {str(source / "p" / "zarr.json")}
