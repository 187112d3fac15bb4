"""Sources that are packed, or told in units, otherwise than before: the numbers go on, or do not.

Whatever a source does, each capture is given back with its bits and its attributes, and is a number
in the units of init to all that learns from it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import gnomon
from gnomon.repository import GnomonRepository
from tests import sources
from tests.gnomon.test_cli import run
from tests.storage.building import assert_identical, undecoded

FILL = np.int16(-32768)
FIRST: dict[str, Any] = {"scale_factor": 0.01, "add_offset": 285.0, "_FillValue": FILL}
OTHER: dict[str, Any] = {"scale_factor": 0.013, "add_offset": 283.0, "_FillValue": FILL}
Packing = Mapping[str, Any]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def truth(days: int) -> NDArray[np.float64]:
    values = sources.temperature(days)["sst"].values.astype("f8")
    values[:, :2, :3] = np.nan  # land
    return values


def packed(days: int, packing: Packing, values: NDArray[np.float64] | None = None) -> xr.Dataset:
    """Return days of temperature as 16-bit integers."""
    data = sources.temperature(days)
    numbers = truth(days) if values is None else values
    raw = np.rint((numbers - packing["add_offset"]) / packing["scale_factor"])
    fill = packing["_FillValue"]
    raw = np.where(np.isnan(numbers), fill, np.nan_to_num(raw)).astype("i2")
    attributes = {"units": "K", "long_name": "temperature", **packing}
    return data.assign(sst=(data["sst"].dims, raw, attributes))


def write(days: int, packing: Packing, **attributes: Any) -> xr.Dataset:
    data = packed(days, packing)
    data["sst"].attrs |= attributes
    sources.overwrite("s.zarr", data)
    return undecoded("s.zarr")


def begun(days: int = 20) -> GnomonRepository:
    write(days, FIRST)
    made = gnomon.create("r", "s.zarr")
    made.update()
    return made


def day(number: int) -> str:
    return str(np.datetime64("2001-01-01") + np.timedelta64(number - 1, "D"))


def assert_given_back(made: GnomonRepository, number: int, whole: xr.Dataset) -> None:
    found = made.dataset(day(number), plain=True, decode=False).load()
    assert_identical(found, whole.isel(time=slice(number - 1, number)))


def assert_numbers(found: xr.DataArray, expected: NDArray[np.float64], step: float) -> None:
    np.testing.assert_array_equal(np.isnan(found.values), np.isnan(expected))
    np.testing.assert_allclose(found.values, expected, atol=0.51 * step, rtol=1e-6)


def test_a_store_that_is_encoded_anew_goes_on(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All its steps have other bits, and are the same numbers: nothing is a revision or suspect."""
    made = begun()
    before = undecoded("s.zarr").load()
    now = write(21, OTHER).load()
    code, out, _ = run(capsys, "update", "r", "--compare", "-1")
    assert code == 0
    assert "scale_factor of sst was 0.01, is 0.013" in " ".join(out.split())
    assert "suspect chunks: 0" in out
    made = gnomon.open("r")
    assert made.anomalies() == []
    assert made.status()["captures"] == 21
    assert_given_back(made, 20, before)
    assert_given_back(made, 21, now)
    together = made.history()["sst"]
    assert together.dtype == np.float64
    assert_numbers(together, truth(21), 0.013)
    made.restore(day(21), "out.nc", plain=True)
    assert sources.raw("out.nc")["sst"].attrs["scale_factor"] == 0.013
    write(22, OTHER)
    report = made.update()
    assert (report.notes, report.suspect_chunks, report.revised) == ([], 0, 0)
    forecast = made.dataset(kind="forecast", accept_predicted=True, decode=False)["sst"]
    assert forecast.dtype == np.float64
    assert "scale_factor" not in forecast.attrs
    ahead = made.dataset(kind="forecast", accept_predicted=True)["sst"].isel(time=0)
    assert np.nanmax(np.abs(ahead.values - truth(23)[22])) < 3.0


def test_a_scale_that_was_changed_alone_is_a_finding(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The bits of what was captured are as they were, and would be other numbers."""
    made = begun()
    for days in (21, 22):
        data = packed(days, FIRST)
        data["sst"].attrs["scale_factor"] = 0.0101
        sources.overwrite("s.zarr", data)
        report = made.update(compare=0)
        assert report.suspect_chunks > 0
        assert [i["expectations"] for i in report.incidents] == [["same_metadata"]]
    assert run(capsys, "anomalies", "r", "--accept", day(22))[0] == 0
    data = packed(23, FIRST)
    data["sst"].attrs["scale_factor"] = 0.0101
    sources.overwrite("s.zarr", data)
    report = gnomon.open("r").update(compare=0)
    assert (report.suspect_chunks, report.incidents) == (0, [])


@pytest.mark.parametrize("units", ["degC", "celsius"])
def test_other_units_are_converted(units: str, place: Path) -> None:
    made = begun()
    celsius = {**FIRST, "add_offset": 285.0 - 273.15}
    for days in (21, 22):
        data = packed(days, celsius, truth(days) - 273.15)
        data["sst"].attrs["units"] = units
        sources.overwrite("s.zarr", data)
        report = made.update()
        assert (report.suspect_chunks, report.incidents, report.revised) == (0, [], 0)
    assert made.status()["variables"]["sst"]["units"] == "K"
    assert made.dataset(day(21))["sst"].attrs["units"] == units
    assert made.dataset(day(20))["sst"].attrs["units"] == "K"
    together = made.history()["sst"]
    assert together.attrs["units"] == units
    assert_numbers(together, truth(22) - 273.15, 0.01)
    shadow = made.dataset(kind="forecast", accept_predicted=True)["sst"]
    assert shadow.attrs["units"] == units
    assert np.nanmax(shadow.values) < 60.0
    kelvin = packed(23, FIRST)
    sources.overwrite("s.zarr", kelvin)
    assert made.update().suspect_chunks == 0
    assert_numbers(made.history()["sst"], truth(23), 0.01)


@pytest.mark.parametrize(("first", "then"), [("degC", "K"), ("K", "degC")])
def test_numbers_next_to_zero_are_rounded_as_those_of_the_other_unit(
    first: str, then: str, place: Path
) -> None:
    def overwrite(days: int, units: str) -> None:
        data = sources.temperature(days)
        celsius = truth(days) - np.nanmean(truth(20))
        numbers = celsius + 273.15 if units == "K" else celsius
        told = (data["sst"].dims, numbers.astype("f4"), {"units": units})
        sources.overwrite("s.zarr", data.assign(sst=told))

    overwrite(20, first)
    made = gnomon.create("r", "s.zarr")
    made.update()
    overwrite(21, then)
    report = made.update(compare=-1)
    assert (report.suspect_chunks, report.incidents, report.revised) == (0, [], 0)


def test_units_that_were_labelled_anew_are_a_finding(place: Path) -> None:
    made = begun()
    write(21, FIRST, units="degC")
    assert made.update().suspect_chunks > 0
    # Until it is known better, the numbers are what they were.
    together = made.history(decode=False)["sst"]
    assert together.dtype == np.int16


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_floats_near_0_are_the_same_in_other_units(dtype: str, place: Path) -> None:
    values = sources.temperature(21)["sst"].values.astype("f8") - 293.0
    for days, units, shift in ((20, "degC", 0.0), (21, "K", 273.15)):
        data = sources.temperature(days)
        told = {"units": units, "_FillValue": np.dtype(dtype).type(np.nan)}
        raw = (values[:days] + shift).astype(dtype)
        sources.overwrite("s.zarr", data.assign(sst=(data["sst"].dims, raw, told)))
        made = gnomon.create("r", "s.zarr") if days == 20 else gnomon.open("r")
        report = made.update(compare=-1)
        assert (report.suspect_chunks, report.revised) == (0, 0)
    assert_numbers(made.history()["sst"], values + 273.15, 1e-4)


def test_units_of_a_field_of_zeros_are_those_that_are_told(place: Path) -> None:
    """Whether the label or the numbers were changed, zeros do not tell; what follows does."""
    values = truth(23) - 270.0
    values[18:21] = 0.0

    def put(days: int, units: str, scale: float) -> None:
        data = sources.temperature(days)
        told = {"units": units, "_FillValue": np.float32(np.nan)}
        raw = (values[:days] * scale).astype("f4")
        sources.overwrite("s.zarr", data.assign(sst=(data["sst"].dims, raw, told)))

    put(20, "mm", 1.0)
    made = gnomon.create("r", "s.zarr")
    made.update()
    put(21, "m", 0.001)
    assert made.update(compare=1).suspect_chunks > 0
    made.judge(day(21), accept=True)
    put(23, "m", 0.001)
    made.update(compare=1)
    together = made.dataset(day(23), plain=True)["sst"]
    assert_numbers(together[0] * 1000.0, values[22], 0.001)
    assert_numbers(made.history()["sst"] * 1000.0, values, 0.001)


def test_attributes_that_are_written_before_the_values_are_found_right_later(place: Path) -> None:
    made = begun()
    data = packed(21, FIRST)
    data["sst"].attrs |= OTHER
    sources.overwrite("s.zarr", data)
    assert made.update(compare=-1).suspect_chunks > 0
    for days in (21, 22):
        write(days, OTHER)
        assert made.update(compare=-1).suspect_chunks == 0
    assert_numbers(made.history()["sst"], truth(22), 0.013)


def test_a_source_may_be_encoded_anew_as_it_moves(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = begun()
    celsius = {**OTHER, "add_offset": OTHER["add_offset"] - 273.15}
    for name, warmer in (("other.zarr", 0.5), ("moved.zarr", 0.0)):
        data = packed(21, celsius, truth(21) - 273.15 + warmer)
        data["sst"].attrs["units"] = "degC"
        sources.overwrite(name, data)
        assert (run(capsys, "source", "r", "--set", name)[0] == 0) == (warmer == 0.0)
    made = gnomon.open("r")
    report = made.update(compare=-1)
    assert (len(report.captured), report.revised, report.suspect_chunks) == (1, 0, 0)
    assert_numbers(made.history()["sst"], truth(21) - 273.15, 0.013)


def test_a_flag_that_is_revised_with_its_fill_value_is_told(place: Path) -> None:
    flags = np.random.default_rng(0).integers(0, 3, (21, 8, 12)).astype("i1")
    for days, fill in ((20, -1), (21, -2)):
        data = sources.temperature(days)
        told = {
            "flag_values": np.array([0, 1, 2], "i1"),
            "flag_meanings": "dry wet snow",
            "_FillValue": np.int8(fill),
        }
        sources.overwrite("s.zarr", data.assign(sst=(data["sst"].dims, flags[:days], told)))
        made = gnomon.create("r", "s.zarr") if days == 20 else gnomon.open("r")
        report = made.update(compare=-1)
        flags[5] = np.where(flags[5] == 1, 2, flags[5])
    assert report.revised == 1
    assert report.suspect_chunks > 0


def test_a_file_without_units_is_left_out(place: Path) -> None:
    """Those of a share may be percent or not: nobody can say by which factor it is off."""
    folder = place / "archive"
    folder.mkdir()
    for number in range(1, 13):
        data = packed(12, FIRST).isel(time=[number - 1])
        data["sst"].attrs["units"] = "%"
        if number == 7:
            del data["sst"].attrs["units"]
        data.to_netcdf(folder / f"{number:03d}.nc")
    made = gnomon.create("r", str(folder))
    report = made.update()
    assert len(report.captured) == 11
    assert any("left out: 007.nc: units of sst" in note for note in report.notes)


def test_units_are_put_right_in_two_steps(place: Path) -> None:
    """The label alone at first, which is doubted, and the numbers then: they are what they were."""
    made = begun()
    write(21, FIRST, units="degC")
    report = made.update(compare=-1)
    assert (len(report.captured), report.revised, report.suspect_chunks > 0) == (1, 0, True)
    celsius = {**FIRST, "add_offset": 285.0 - 273.15}
    data = packed(22, celsius, truth(22) - 273.15)
    data["sst"].attrs["units"] = "degC"
    sources.overwrite("s.zarr", data)
    report = made.update(compare=-1)
    assert (len(report.captured), report.revised, report.suspect_chunks) == (1, 0, 0)
    assert_numbers(made.history()["sst"], truth(22) - 273.15, 0.01)


def test_a_label_that_was_accepted_is_kept_to(place: Path) -> None:
    """It says how numbers are told, not that those of before are to be read otherwise."""
    made = begun()
    celsius = {**FIRST, "add_offset": 285.0 - 273.15}

    def put(days: int, packing: Packing, units: str) -> None:
        data = packed(days, packing, truth(days) - 273.15)
        data["sst"].attrs["units"] = units
        sources.overwrite("s.zarr", data)

    put(21, celsius, "degC")
    assert made.update(compare=-1).suspect_chunks == 0
    put(22, celsius, "K")
    assert made.update(compare=-1).suspect_chunks > 0
    made.judge(day(22), accept=True)
    other = {**OTHER, "add_offset": OTHER["add_offset"] - 273.15}
    for days, packing in ((23, celsius), (24, other)):
        put(days, packing, "K")
        report = made.update(compare=-1)
        assert (len(report.captured), report.revised, report.suspect_chunks) == (1, 0, 0)
    assert_numbers(made.history()["sst"], truth(24) - 273.15, 0.013)


def test_a_field_of_zeros_tells_nothing_of_a_scale(place: Path) -> None:
    """Though its missing cells have other bits by another fill value."""
    values = truth(21) - 285.0
    values[18:] = np.where(np.isnan(values[18:]), np.nan, 0.0)
    for days, scale, fill in ((20, 0.01, -32768), (21, 0.1, -32767)):
        told = {"scale_factor": scale, "add_offset": 0.0, "_FillValue": np.int16(fill)}
        sources.overwrite("s.zarr", packed(days, told, values[:days]))
        made = gnomon.create("r", "s.zarr") if days == 20 else gnomon.open("r")
        report = made.update(compare=1)
    assert any("its values may mean something else" in note for note in report.notes)


def test_a_variable_in_several_units_is_added(place: Path) -> None:
    folder = place / "archive"
    folder.mkdir()

    def put(number: int, *, is_new: bool) -> None:
        data = packed(12, FIRST).isel(time=[number - 1])
        if is_new:
            units, scale = [("hPa", 0.02), ("Pa", 2.0)][number % 2]
            told = {"units": units, "scale_factor": scale}
            raw = np.full(data["sst"].shape, 100 * number, "i2")
            data = data.assign(pressure=(data["sst"].dims, raw, told))
        data.to_netcdf(folder / f"{number:03d}.nc")

    for number in range(1, 7):
        put(number, is_new=False)
    gnomon.create("r", str(folder)).update()
    for number in range(1, 13):
        put(number, is_new=True)
    gnomon.open("r").add(["pressure"])
    gnomon.open("r").update(compare=-1)
    pressure = gnomon.open("r").history()["pressure"]
    assert pressure.attrs["units"] == "hPa"
    np.testing.assert_allclose(pressure.mean(["lat", "lon"]), 2.0 * np.arange(1, 13))


def test_a_packing_that_nobody_accepted_is_no_custom(place: Path) -> None:
    folder = place / "archive"
    folder.mkdir()

    def put(number: int, packing: Packing) -> int:
        packed(number, packing).isel(time=[number - 1]).to_netcdf(folder / f"{number:03d}.nc")
        return gnomon.open("r").update().suspect_chunks if number > 12 else 0

    for number in range(1, 13):
        put(number, FIRST)
    gnomon.create("r", str(folder)).update()
    assert put(13, OTHER) > 0
    assert put(14, FIRST) == 0
    assert put(15, {**FIRST, "missing_value": np.int16(-32767)}) == 0
    assert put(16, OTHER) > 0


def test_a_field_that_is_packed_by_its_extremes_is_accepted_once(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A field that is overwritten: nothing that was captured is there any more to compare with."""
    values = truth(30)

    def overwrite(number: int) -> None:
        state = values[number - 1]
        low, high = np.nanmin(state), np.nanmax(state)
        own = {"scale_factor": (high - low) / 60000, "add_offset": (low + high) / 2}
        data = packed(1, {**own, "_FillValue": FILL}, state[None]).isel(time=0, drop=True)
        sources.overwrite("s.zarr", data.drop_vars("time_bnds", errors="ignore"))

    overwrite(1)
    gnomon.create("r", "s.zarr", kind="state")
    suspects = []
    for number in range(1, 25):
        overwrite(number)
        made = gnomon.open("r")
        report = made.update(time=day(number))
        suspects.append(report.suspect_chunks)
        if number == 4:
            assert run(capsys, "anomalies", "r", "--accept", "all")[0] == 0
        kind = "suspect" if 1 < number < 4 else "captured"
        state = gnomon.open("r").dataset(day(number), kind=kind, plain=True)["sst"]
        assert_numbers(state, values[number - 1], 0.001)
    assert suspects[0] == 0
    assert all(suspects[1:4])
    assert not any(suspects[4:])


def test_an_estimate_that_a_packing_cannot_hold_is_given_as_numbers(place: Path) -> None:
    """A packing by the extremes of a damaged state may end below what the state should be."""
    folder = place / "archive"
    folder.mkdir()
    values = truth(24)

    def put(number: int, state: NDArray[np.float64], high: float) -> None:
        low = np.nanmin(state) - 0.01
        own = {"scale_factor": (high - low) / 65000, "add_offset": (low + high) / 2}
        days = np.concatenate([values[: number - 1], np.minimum(state, high)[None]])
        data = packed(number, {**own, "_FillValue": FILL}, days)
        data.isel(time=[number - 1]).to_netcdf(folder / f"{number:03d}.nc")

    for number in range(1, 24):
        put(number, values[number - 1], 310.0)
    made = gnomon.create("r", str(folder), chunks={"lat": 4, "lon": 4})
    made.update()
    damaged = values[23].copy()
    warmest = np.unravel_index(np.nanargmax(damaged), damaged.shape)
    lost = tuple(slice(4 * (int(k) // 4), 4 * (int(k) // 4) + 4) for k in warmest)
    damaged[lost] = np.nan
    high = float(np.nanmin(damaged)) + 1.0
    put(24, damaged, high)
    assert made.update().suspect_chunks > 0
    for target in ("out.zarr", "out.nc"):
        made.restore(day(24), target, accept_predicted=True)
        found = sources.raw(target) if target.endswith("nc") else undecoded(target)
        assert found["sst"].dtype == np.float64
        estimated = found["sst_provenance"].values[0] != 0
        assert estimated.any()
        assert not estimated.all()
        error = np.abs(found["sst"].values[0] - values[23])
        assert np.nanmax(error[estimated]) < 4.0
        assert np.nanmax(found["sst"].values) > high


def archive(folder: Path, first: int, stop: int, days: int = 2) -> None:
    """Put files of two days, each packed in its own way."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(first)
    for k in range(first, stop):
        own = {
            "scale_factor": float(rng.uniform(0.005, 0.02)),
            "add_offset": float(rng.uniform(270, 290)),
            "_FillValue": np.int16(rng.integers(-32768, -32000)),
        }
        data = packed(days * stop, own).isel(time=slice(days * k, days * (k + 1)))
        data.to_netcdf(folder / f"{k:03d}.nc", format="NETCDF3_64BIT")


def test_files_that_are_packed_each_in_its_own_way_are_one_source(place: Path) -> None:
    """As old archives are: every step is given back as its file has it, and none is doubted."""
    folder = place / "archive"
    archive(folder, 0, 12)
    made = gnomon.create("r", str(folder))
    assert made.description is not None
    assert any("'sst' is packed" in note for note in made.description.notes)
    report = made.update()
    assert (len(report.captured), report.suspect_chunks, report.notes) == (24, 0, [])
    archive(folder, 12, 14)
    report = made.update(compare=-1)
    assert (len(report.captured), report.suspect_chunks, report.revised) == (4, 0, 0)
    assert report.notes == []
    made = gnomon.open("r")
    assert_numbers(made.history()["sst"], truth(28), 0.02)
    for k in (0, 7, 13):
        raw = sources.raw(str(folder / f"{k:03d}.nc"))
        for j in range(2):
            found = made.dataset(day(2 * k + j + 1), plain=True, decode=False)["sst"]
            np.testing.assert_array_equal(found.values[0], raw["sst"].values[j])
            for name in FIRST:
                assert found.attrs[name] == raw["sst"].attrs[name]


def test_a_folder_may_be_loaded_in_several_commits(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the first of them has one packing alone."""
    monkeypatch.setattr("gnomon.tasks.capturing.plan.MAX_STEPS", 4)
    folder = place / "archive"
    folder.mkdir()
    for k, packing in enumerate([FIRST] * 6 + [OTHER] * 6):
        packed(24, packing).isel(time=slice(2 * k, 2 * k + 2)).to_netcdf(folder / f"{k:02d}.nc")
    made = gnomon.create("r", str(folder))
    report = made.update()
    assert (len(report.captured), report.suspect_chunks) == (24, 0)
    assert_numbers(made.history()["sst"], truth(24), 0.013)


def test_of_many_files_not_each_is_told(place: Path) -> None:
    folder = place / "archive"
    folder.mkdir()
    for k in range(12):
        packed(12, FIRST).isel(time=[k]).to_netcdf(folder / f"{k:03d}.nc")
    made = gnomon.create("r", str(folder))
    made.update()
    archive(folder, 12, 42, days=1)
    report = made.update()
    assert len(report.captured) == 30
    *told, more = [note for note in report.notes if "sst" in note or "more" in note]
    assert len(told) == 20
    assert "10 more steps" in more


def test_one_file_of_another_packing_is_a_finding(place: Path) -> None:
    """Where all others have one; the steps of the others are not doubted with it."""
    folder = place / "archive"
    folder.mkdir()

    def put(number: int, packing: Packing) -> None:
        data = packed(number, packing).isel(time=[number - 1])
        data.to_netcdf(folder / f"{number:03d}.nc")

    for number in range(1, 21):
        put(number, FIRST)
    made = gnomon.create("r", str(folder))
    made.update()
    put(21, FIRST)
    put(22, OTHER)
    put(23, FIRST)
    report = made.update()
    assert len(report.captured) == 3
    assert {incident["valid_time"][:10] for incident in made.anomalies()} == {day(22)}
    made.judge(day(22), accept=True)
    put(24, OTHER)
    put(25, {**OTHER, "scale_factor": 0.02})
    assert gnomon.open("r").update().suspect_chunks == 0


PACKINGS = st.builds(
    lambda scale, offset, fill, units: {
        "scale_factor": scale,
        "add_offset": offset,
        "_FillValue": np.int16(fill),
        "units": units,
    },
    st.floats(0.004, 0.05),
    st.floats(270.0, 290.0),
    st.integers(-32768, -32000),
    st.sampled_from(["K", "degC", "kelvin"]),
)


@settings(max_examples=10, deadline=None, derandomize=True, database=None)
@given(st.lists(PACKINGS, min_size=2, max_size=5))
def test_whatever_the_packings_bits_and_numbers_are_kept(
    tmp_path_factory: pytest.TempPathFactory, packings: list[Packing]
) -> None:
    place = tmp_path_factory.mktemp("repacked")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        written: list[xr.Dataset] = []
        for k, packing in enumerate(packings):
            shift = 273.15 if packing["units"] == "degC" else 0.0
            own = {**packing, "add_offset": packing["add_offset"] - shift}
            data = packed(2 * (k + 1), own, truth(2 * (k + 1)) - shift)
            data["sst"].attrs["units"] = packing["units"]
            sources.overwrite("s.zarr", data)
            written.append(undecoded("s.zarr").load())
            if k == 0:
                made = gnomon.create("r", "s.zarr")
            report = made.update(compare=-1)
            assert (report.suspect_chunks, report.revised) == (0, 0)
            assert len(report.captured) == 2
        made = gnomon.open("r")
        for number in range(1, 2 * len(packings) + 1):
            assert_given_back(made, number, written[(number - 1) // 2])
        last = packings[-1]["units"]
        together = made.history()["sst"]
        expected = truth(2 * len(packings)) - (273.15 if last == "degC" else 0.0)
        assert together.attrs["units"] == last
        assert_numbers(together, expected, max(p["scale_factor"] for p in packings))
