import errno
import os
from pathlib import Path
from typing import Any

import icechunk
import netCDF4
import numpy as np
import pytest
import xarray as xr
import zarr

import gnomon
from gnomon.storage.arrays.shards import Shards
from gnomon.storage.errors import (
    Conflict,
    GnomonError,
    Integrity,
    InvalidInput,
    TargetFailed,
)
from gnomon.storage.serve.planes import PROVENANCE
from gnomon.tasks.restoring import blocks
from gnomon.tasks.restoring import restore as module
from gnomon.tasks.restoring.points import points
from gnomon.tasks.restoring.states import States
from gnomon.tasks.restoring.targets.netcdf import NetCDFTarget
from tests import sources
from tests.cases import HISTORY, Case
from tests.storage.building import capture_new, make_repository

NEXT = "2001-01-25"
ENDINGS = pytest.mark.parametrize("ending", [".zarr", ".nc"])


def test_endings_are_read_by_xarray(grown: Case) -> None:
    for ending in (".zarr", ".nc"):
        target = grown.folder / f"restored{ending}"
        grown.open().restore("2001-01-10", str(target))
        with xr.open_dataset(target) as found, xr.open_dataset(grown.source) as source:
            expected = source.isel(time=slice(9, 10)).load()
            xr.testing.assert_identical(found, expected)


@ENDINGS
def test_a_captured_state_comes_back_bit_for_bit(grown: Case, ending: str) -> None:
    target = grown.folder / f"restored{ending}"
    done = grown.open().restore("2001-01-10", str(target))
    assert done.point.kind == "captured"
    assert done.chunks == 6 + 1
    source = sources.raw(grown.source).isel(time=slice(9, 10))
    found = sources.raw(target)
    assert set(found.variables) == set(source.variables)
    for name, variable in source.variables.items():
        assert sources.bits(found[name].values) == sources.bits(variable.values), name
        assert found[name].dims == variable.dims
        sources.assert_same_attributes(found[name].attrs, variable.attrs)
    assert found.attrs == source.attrs


@ENDINGS
@pytest.mark.parametrize("letter", [b"", b"x"])
def test_a_grid_mapping_that_is_one_letter_comes_back_as_such(
    letter: bytes, ending: str, tmp_path: Path
) -> None:
    """What CF recommends for variables that are only there for their attributes."""
    with netCDF4.Dataset(tmp_path / "s.nc", "w") as file:
        file.createDimension("time", None)
        time = file.createVariable("time", "f8", ("time",))
        time.units = "days since 2024-01-01"
        crs = file.createVariable("crs", "S1", ())
        crs.setncatts({"grid_mapping_name": "latitude_longitude", "earth_radius": 6371000.0})
        crs[...] = letter or b"\0"
        field = file.createVariable("t", "f4", ("time",))
        field.grid_mapping = "crs"
        time[:], field[:] = np.arange(4), np.arange(4)
    repository = capture_new(make_repository(tmp_path / "r", tmp_path / "s.nc"))
    target = tmp_path / f"restored{ending}"
    point = points(repository, repository.captured[1].instant)[0]
    module.restore(States(repository, (point,)), str(target), plain=True)
    before, after = sources.raw(tmp_path / "s.nc").crs, sources.raw(target).crs
    assert (after.dtype, after.dims, after.values) == (before.dtype, (), before.values)
    sources.assert_same_attributes(after.attrs, before.attrs)


@ENDINGS
def test_all_of_it_is_on_the_disk_before_it_gets_its_name(
    grown: Case, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = grown.folder / f"restored{ending}"
    forced: set[int] = set()
    missing: list[str] = []
    fsync, rename = os.fsync, os.rename

    def force(descriptor: int) -> None:
        fsync(descriptor)
        forced.add(os.fstat(descriptor).st_ino)

    def name(source: Path, path: Path) -> None:
        if path == target:
            parts = [source, *source.rglob("*")]
            missing.extend(str(p) for p in parts if p.stat().st_ino not in forced)
            forced.clear()
        rename(source, path)

    monkeypatch.setattr(os, "fsync", force)
    monkeypatch.setattr(os, "rename", name)
    grown.open().restore("2001-01-10", str(target))
    assert missing == []
    assert target.parent.stat().st_ino in forced


@ENDINGS
def test_provenance_and_errors_stand_beside_the_values(grown: Case, ending: str) -> None:
    target = grown.folder / f"restored{ending}"
    grown.open().restore("2001-01-10", str(target), marks=True)
    found = sources.raw(target)
    assert found.sst.attrs["ancillary_variables"].split() == [
        "sst_standard_error",
        "sst_provenance",
    ]
    flags = found.sst_provenance.attrs
    assert flags["standard_name"] == "status_flag"
    assert list(np.asarray(flags["flag_values"])) == list(PROVENANCE.values())
    assert flags["flag_meanings"].split() == list(PROVENANCE)
    assert found.sst_provenance.dtype == np.uint8
    error = found.sst_standard_error
    assert error.attrs["units"] == "K"
    assert error.attrs["standard_name"] == "sea_surface_temperature standard_error"
    assert (found.sst_provenance.values == PROVENANCE["captured"]).all()
    land = np.isnan(found.sst.values)
    assert np.isnan(error.values[land]).all()
    assert (error.values[~land] == 0).all()


@ENDINGS
def test_a_forecast_is_marked_in_every_cell(grown: Case, ending: str) -> None:
    target = grown.folder / f"restored{ending}"
    done = grown.open().restore(NEXT, str(target), accept_predicted=True)
    assert done.point.kind == "forecast"
    found = sources.raw(target)
    land = np.isnan(grown.data.sst.values[0])
    provenance = found.sst_provenance.values[0]
    assert (provenance[~land] == PROVENANCE["forecast"]).all()
    assert (provenance[land] == PROVENANCE["missing"]).all()
    assert (found.sst_standard_error.values[0][~land] > 0).all()
    assert np.isnan(found.sst.values[0][land]).all()
    assert found.time.values.tolist() == [HISTORY]
    # What was never predicted is not there, nor referred to.
    assert "time_bnds" not in found.variables
    assert "bounds" not in found.time.attrs
    with xr.open_dataset(target) as decoded:
        assert str(decoded.time.values[0])[:10] == NEXT


@ENDINGS
def test_a_healed_state_keeps_its_intact_cells_bit_for_bit(damaged: Case, ending: str) -> None:
    target = damaged.folder / f"healed{ending}"
    done = damaged.open().restore(NEXT, str(target), accept_predicted=True)
    assert (done.point.kind, done.point.suspect_chunks) == ("healed", 1)
    found = sources.raw(target)
    captured = sources.raw(damaged.source).sst.values[HISTORY]
    hole = np.zeros(sources.SHAPE, bool)
    hole[0:4, 4:8] = True
    assert sources.bits(found.sst.values[0][~hole]) == sources.bits(captured[~hole])
    provenance = found.sst_provenance.values[0]
    assert (provenance[~hole] == PROVENANCE["captured"]).all()
    estimated = (PROVENANCE["estimated_from_intact_neighbours"], PROVENANCE["forecast"])
    assert np.isin(provenance[hole], estimated).all()
    truth = damaged.data.sst.values[HISTORY]
    error = np.sqrt(np.mean((found.sst.values[0][hole] - truth[hole]) ** 2))
    assert error < 2
    stated = done.point.expected_error["sst"]
    assert stated is not None
    assert error < 4 * stated
    assert done.point.confidence is not None
    assert 0 < done.point.confidence <= 1


def test_a_predicted_state_is_never_restored_plain(damaged: Case) -> None:
    before = sources.listing(damaged.folder)
    with pytest.raises(InvalidInput, match="plain"):
        damaged.open().restore(NEXT, "x.zarr", accept_predicted=True, plain=True)
    with pytest.raises(InvalidInput, match="plain"):
        damaged.open().restore("2001-01-26", "x.zarr", accept_predicted=True, plain=True)
    assert sources.listing(damaged.folder) == before


def test_the_suspect_capture_itself_comes_back_by_name(damaged: Case) -> None:
    damaged.open().restore(NEXT, "x.zarr", kind="suspect", plain=True)
    captured = sources.raw(damaged.source).sst.values[HISTORY]
    assert sources.bits(sources.raw("x.zarr").sst.values[0]) == sources.bits(captured)


def test_the_last_capture_comes_back_under_its_own_time(grown: Case) -> None:
    done = grown.open().restore(NEXT, "x.zarr", kind="last_capture")
    assert done.point.valid_time == "2001-01-24T00:00:00"
    assert sources.raw("x.zarr").time.values.tolist() == [HISTORY - 1]


@ENDINGS
def test_a_target_that_exists_is_left_alone(grown: Case, ending: str) -> None:
    target = grown.folder / f"there{ending}"
    target.write_text("mine")
    with pytest.raises(Conflict, match="exists"):
        grown.open().restore("2001-01-10", str(target))
    assert target.read_text() == "mine"
    (grown.folder / f"link{ending}").symlink_to("nowhere")
    with pytest.raises(Conflict, match="exists"):
        grown.open().restore("2001-01-10", str(grown.folder / f"link{ending}"))


@pytest.mark.parametrize(
    ("target", "error"),
    [
        ("ftp://bucket/x.zarr", InvalidInput),
        ("x.txt", InvalidInput),
        ("x", InvalidInput),
        ("repository/captures/x.zarr", InvalidInput),
        ("repository/../repository/x.nc", InvalidInput),
    ],
)
def test_a_target_that_cannot_be(grown: Case, target: str, error: type[GnomonError]) -> None:
    before = sources.listing(grown.folder)
    with pytest.raises(error):
        grown.open().restore("2001-01-10", target)
    assert sources.listing(grown.folder) == before


@ENDINGS
@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_a_failing_disk_leaves_nothing_behind(
    grown: Case, ending: str, failure: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = "to_netcdf" if ending == ".nc" else "to_zarr"
    true = getattr(xr.Dataset, writer)

    def fail(dataset: xr.Dataset, path: Any, **options: Any) -> Any:
        if str(path).endswith(f".partial{ending}"):
            true(dataset, path, **options)
            raise failure
        return true(dataset, path, **options)

    before = sources.listing(grown.folder)
    monkeypatch.setattr(xr.Dataset, writer, fail)
    expected = KeyboardInterrupt if isinstance(failure, KeyboardInterrupt) else InvalidInput
    with pytest.raises(expected, match=f"--to x{ending} cannot" if failure.args else None):
        grown.open().restore("2001-01-10", f"x{ending}")
    assert sources.listing(grown.folder) == before


def test_a_full_disk_is_told_as_such_of_netcdf_too(
    grown: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library says that it may not write, when nothing more can be written there."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = sources.listing(grown.folder)
    monkeypatch.setattr(NetCDFTarget, "_create", refuse)
    with pytest.raises(InvalidInput, match=r"--to x\.nc cannot be written: Permission denied"):
        grown.open().restore("2001-01-10", "x.nc")
    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with pytest.raises(InvalidInput, match=r"--to x\.nc cannot be written: No space left"):
        grown.open().restore("2001-01-10", "x.nc")
    assert sources.listing(grown.folder) == before


@pytest.mark.parametrize("form", [2, 3])
def test_every_format_of_zarr_keeps_chunks_fill_values_and_text(form: int, tmp_path: Path) -> None:
    odd = np.array([0x7FC00001, 0x80000000, 0x7F800001, 0], "<u4").view("<f4")  # NaNs, -0.0
    days = np.arange(4)
    fields = {
        "f": (("time", "x"), np.tile(odd, (4, 1)), {"_FillValue": np.float32("nan")}),
        "z": (("time", "x"), np.full((4, 4), -0.0), {"_FillValue": 0.0}),
        "i": (("time", "x"), np.arange(16, dtype="i2").reshape(4, 4), {"_FillValue": np.int16(3)}),
        "b": (("time", "x"), np.arange(16).reshape(4, 4) % 3 == 0),
        "c": (("time", "x"), np.arange(16).reshape(4, 4) * (1 - 2j)),
        "when": (("time", "x"), np.arange(16).reshape(4, 4).astype("M8[ns]")),
        "name": (("x",), np.array(["a", "ü", "", "long text"], object)),
    }
    data = xr.Dataset(fields, {"time": ("time", days, {"units": "days since 2024-01-01"})})
    sources.overwrite(tmp_path / "s.zarr", data)
    chunks = {"x": 2}
    repository = capture_new(make_repository(tmp_path / "r", tmp_path / "s.zarr", chunks=chunks))
    point = points(repository, repository.captured[1].instant)[0]
    target = tmp_path / "x.zarr"
    module.restore(States(repository, (point,)), target, plain=True, zarr_format=form)
    before, after = sources.raw(tmp_path / "s.zarr").isel(time=slice(1, 2)), sources.raw(target)
    assert set(after.variables) == set(before.variables)
    for name, variable in before.variables.items():
        same = after[name].values.tolist() == variable.values.tolist()
        if variable.dtype.kind not in "OT":
            same = sources.bits(after[name].values) == sources.bits(variable.values)
        assert same, name
        sources.assert_same_attributes(after[name].attrs, variable.attrs)
    group = zarr.open_group(target, mode="r")
    assert group.metadata.zarr_format == form
    array: Any = group["f"]
    assert array.shards is None or form == 3
    with xr.open_dataset(target, engine="zarr", consolidated=True) as consolidated:
        assert set(consolidated.variables) == set(before.variables)


def opened(path: Path) -> xr.Dataset:
    """Return what was restored, undecoded, through xarray."""
    if path.suffix == ".nc":
        return xr.open_dataset(path, decode_cf=False)
    store: Any = path
    if path.suffix == ".icechunk":
        place = icechunk.local_filesystem_storage(str(path))
        store = icechunk.Repository.open(place).readonly_session("main").store
    dataset: xr.Dataset = xr.open_zarr(store, consolidated=False, decode_cf=False)
    return dataset


def _text(form: int, path: Path) -> dict[str, list[Any]]:
    """Write text of each type, a state a chunk and with the fill values of its format of Zarr."""
    words = np.array([[f"ü{i}" if i % 3 else "" for i in range(k, k + 4)] for k in range(3)])
    group: Any = zarr.open_group(path, mode="w", zarr_format=form)  # type: ignore[arg-type]
    fields: dict[str, Any] = {
        "any": (words.astype(object), str, ("time", "x")),
        "wide": (words.astype("U3"), "U3", ("time", "x")),
        "narrow": (np.char.encode(words, "utf-8").astype("S5"), "S5", ("time", "x")),
        "t": (np.arange(12.0).reshape(3, 4), "f8", ("time", "x")),
        "time": (np.arange(3), "i8", ("time",)),
        "crs": (np.array("WGS 84", object), str, ()),
    }
    for name, (values, dtype, dims) in fields.items():
        attributes: dict[str, Any] = {} if form == 3 else {"_ARRAY_DIMENSIONS": list(dims)}
        if name == "time":
            attributes["units"] = "days since 2024-01-01"
        array = group.create_array(
            name,
            shape=values.shape,
            chunks=(1, 3)[: len(dims)],
            dtype=dtype,
            dimension_names=dims if form == 3 else None,
            attributes=attributes,
        )
        array[...] = values
    return {name: fields[name][0].tolist() for name in ("any", "wide", "narrow")}


@pytest.mark.parametrize("form", [2, 3])
@pytest.mark.parametrize("target", ["2.zarr", "3.zarr", "x.icechunk"])
def test_text_of_every_type_comes_back_and_is_read_by_xarray(
    form: int, target: str, tmp_path: Path
) -> None:
    """Fill values of text too, which xarray writes in a form that it cannot read."""
    words = _text(form, tmp_path / "s.zarr")
    repository = capture_new(make_repository(tmp_path / "r", tmp_path / "s.zarr"))
    point = points(repository, repository.captured[1].instant)[0]
    path, written = tmp_path / target, 2 if target == "2.zarr" else 3
    options: Any = {} if target.endswith("icechunk") else {"zarr_format": written}
    module.restore(States(repository, (point,)), path, plain=True, **options)
    with opened(path) as restored:
        for name, values in words.items():
            assert restored[name].values[0].tolist() == values[1], name
            assert restored[name].dtype.kind == {"any": "T", "wide": "U", "narrow": "S"}[name]
        assert restored.crs.values.item() == "WGS 84"


@pytest.mark.parametrize("ending", [".zarr", ".icechunk"])
@pytest.mark.parametrize("chunk", [5, 12])
def test_chunks_that_do_not_fill_their_shards_come_back(
    ending: str, chunk: int, tmp_path: Path
) -> None:
    """A shard at the edge has chunks that are beyond the array."""
    field = np.random.default_rng(0).normal(size=(3, 12, 36)).astype("f4")
    data = xr.Dataset(
        {"t": (("time", "y", "x"), field)},
        {"time": ("time", np.arange(3), {"units": "days since 2024-01-01"})},
    )
    encoding = {"t": {"chunks": (1, chunk, 12)}}
    data.to_zarr(tmp_path / "s.zarr", encoding=encoding, consolidated=False)
    repository = capture_new(make_repository(tmp_path / "r", tmp_path / "s.zarr"))
    point = points(repository, repository.captured[1].instant)[0]
    path = tmp_path / f"x{ending}"
    module.restore(States(repository, (point,)), path, plain=True)
    with opened(path) as restored:
        assert sources.bits(restored.t.values[0]) == sources.bits(field[1])


@ENDINGS
def test_what_was_written_wrong_is_noticed(
    grown: Case, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute, write = blocks._computed, NetCDFTarget.create

    def wrong_block(job: Any) -> Any:
        variable, captures, fields = compute(job)
        if variable.name == "sst" and job.start == (0, 0):
            fields[0][0, 0] = np.nextafter(fields[0][0, 0], np.float32(0))
        return variable, captures, fields

    def wrong_file(target: NetCDFTarget, dataset: xr.Dataset, layout: Any) -> None:
        changed = dataset.load().copy(deep=True)
        changed.sst.values[0, 0, 0] = np.nextafter(changed.sst.values[0, 0, 0], np.float32(0))
        write(target, changed, layout)

    before = sources.listing(grown.folder)
    if ending == ".nc":
        monkeypatch.setattr(NetCDFTarget, "create", wrong_file)
    else:
        monkeypatch.setattr(blocks, "_computed", wrong_block)
    # What a target wrote is its own fault; what was computed wrong is none of it.
    error = TargetFailed if ending == ".nc" else Integrity
    with pytest.raises(error, match=r"sst chunk \(0, 0\)") as caught:
        grown.open().restore("2001-01-10", f"x{ending}")
    assert type(caught.value) is error
    assert sources.listing(grown.folder) == before


def test_a_damaged_repository_is_never_restored_in_silence(
    grown: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = Shards.read

    def flipped(shards: Shards, lead: int, cells: Any) -> Any:
        values = true(shards, lead, cells).copy()
        values.reshape(-1)[0] ^= 1
        return values

    before = sources.listing(grown.folder)
    monkeypatch.setattr(Shards, "read", flipped)
    with pytest.raises(Integrity, match=r"chunk \(0,"):
        grown.open().restore("2001-01-10", "x.zarr")
    assert sources.listing(grown.folder) == before


def test_all_captures_are_served_exactly(damaged: Case) -> None:
    source, found = sources.raw(damaged.source), damaged.open().history(decode=False).load()
    assert sources.bits(found.sst.values) == sources.bits(source.sst.values)
    assert sources.bits(found.time_bnds.values) == sources.bits(source.time_bnds.values)
    assert sources.bits(found.time.values) == sources.bits(source.time.values)


def test_a_failed_restore_leaves_nothing_however_its_threads_end(grown: Case) -> None:
    chunks = sorted(p for p in (grown.place / "captures").rglob("*") if "residual/c/9/" in str(p))
    chunk = next(p for p in chunks if p.is_file())
    chunk.write_bytes(chunk.read_bytes()[:-1])
    before = sources.listing(grown.folder)
    for _ in range(8):
        with pytest.raises(Integrity):
            grown.open().restore("2001-01-10", "x.zarr")
    assert sources.listing(grown.folder) == before


def test_a_restored_prediction_is_never_captured_as_data(grown: Case) -> None:
    stored = grown.open()
    ahead = stored.status()["shadow"][0]
    stored.restore(ahead, "predicted.zarr", accept_predicted=True)
    copy = gnomon.create("copy", "predicted.zarr", variables=["sst"])
    with pytest.raises(InvalidInput, match="predictions are never captured"):
        copy.update()
    assert copy.status()["captures"] == 0
    stored.restore("2001-01-10", "captured.zarr")
    exact = gnomon.create("exact", "captured.zarr", variables=["sst"])
    assert exact.update().captured == ["2001-01-10T00:00:00"]
