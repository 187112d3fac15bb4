"""What is restored and exported of a CF source is CF, by a checker and by what it cannot see."""

from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest
import xarray as xr

import gnomon
from gnomon.engine import GnomonBackendEntrypoint
from gnomon.storage.serve.cf import referring_to, with_conventions
from tests import sources
from tests.cases import Case
from tests.cf import problems

COUNT = 8
OF_THE_FILE = {"title": "generated", "history": "generated", "comment": "of a test"}
OF_THE_FILE |= {"institution": "none", "source": "generated", "references": "none"}


def fields(count: int, calendar: str) -> xr.Dataset:
    """Return a CF dataset of all sorts of variables: numbers, packed ones, flags and quality."""
    draws = np.random.default_rng(0)
    kelvin = (285 + draws.normal(0, 2, (count, 4, 4))).astype("f4")
    kelvin[:, 0, 0] = np.nan
    packed = np.rint((kelvin - 285) * 100)
    packed[:, 0, 0] = -32768
    days = np.arange(count, dtype="f8") * 30
    dims = ("time", "lat", "lon")

    def flags(name: str, meanings: str) -> Any:
        values = draws.integers(0, 3, kelvin.shape).astype("i1")
        about = {"flag_values": np.arange(3, dtype="i1"), "flag_meanings": meanings}
        return dims, values, {"standard_name": name, "long_name": "flags", **about}

    return xr.Dataset(
        {
            "sst": (
                dims,
                kelvin,
                {
                    "units": "K",
                    "units_metadata": "temperature: on_scale",
                    "standard_name": "sea_surface_temperature",
                    "long_name": "surface",
                    "cell_methods": "time: mean",
                    "grid_mapping": "crs",
                    "ancillary_variables": "quality",
                    "_FillValue": np.float32(np.nan),
                    "actual_range": np.array([np.nanmin(kelvin), np.nanmax(kelvin)]),
                },
            ),
            "packed": (
                dims,
                packed.astype("i2"),
                {
                    "units": "degC",
                    "units_metadata": "temperature: on_scale",
                    "standard_name": "sea_water_temperature",
                    "long_name": "packed",
                    "scale_factor": 0.01,
                    "add_offset": 11.85,
                    "_FillValue": np.int16(-32768),
                    "valid_range": np.array([-30000, 30000], "i2"),
                },
            ),
            "ice": flags("status_flag", "none thin thick"),
            "quality": flags("sea_surface_temperature status_flag", "good fair bad"),
            "time_bnds": (("time", "nv"), np.stack([days, days + 30], axis=1)),
            "crs": (
                (),
                np.int32(0),
                {
                    "grid_mapping_name": "latitude_longitude",
                    "semi_major_axis": 6378137.0,
                    "inverse_flattening": 298.257223563,
                },
            ),
        },
        {
            "time": (
                "time",
                days,
                {
                    "units": "days since 2001-01-01",
                    "units_metadata": "leap_seconds: none",
                    "calendar": calendar,
                    "standard_name": "time",
                    "long_name": "time",
                    "axis": "T",
                    "bounds": "time_bnds",
                },
            ),
            "lat": _side("latitude", "degrees_north", "Y"),
            "lon": _side("longitude", "degrees_east", "X"),
        },
        {"Conventions": "CF-1.11", **OF_THE_FILE},
    )


def _side(name: str, units: str, axis: str) -> Any:
    told = {"standard_name": name, "long_name": name, "units": units, "axis": axis}
    return name[:3], np.arange(4) * 10.0, told


def write(path: Path, dataset: xr.Dataset) -> None:
    """Write an undecoded dataset as a file, with the fill values that it has."""
    without = {n: {"_FillValue": None} for n, v in dataset.variables.items() if not _filled(v)}
    dataset.to_netcdf(path, encoding=without)


def _filled(variable: xr.Variable) -> bool:
    return "_FillValue" in variable.attrs


def every_answer(repository: gnomon.GnomonRepository, exact: str, folder: Path) -> dict[str, Path]:
    """Write one file of each kind."""
    paths = {name: folder / f"{name}.nc" for name in ("plain", "exact", "forecast", "shadow")}
    repository.restore(exact, paths["plain"], plain=True)
    repository.restore(exact, paths["exact"], marks=True)
    ahead = repository.status()["shadow"][1]
    repository.restore(ahead, paths["forecast"], accept_predicted=True)
    repository.export_shadow(paths["shadow"])
    return paths


@pytest.mark.parametrize(
    ("calendar", "conventions", "checked"),
    [
        ("standard", "CF-1.11", {"exact", "forecast", "shadow"}),
        ("360_day", "CF-1.6, ACDD-1.3", {"shadow"}),
        ("noleap", "CF-1.8", {"forecast"}),
    ],
)
def test_all_that_is_made_of_a_cf_record_is_cf(
    tmp_path: Path, calendar: str, conventions: str, checked: set[str]
) -> None:
    data = fields(COUNT, calendar)
    write(tmp_path / "s.nc", data.assign_attrs(Conventions=conventions))
    repository = gnomon.create(str(tmp_path / "r"), str(tmp_path / "s.nc"), leads=2)
    repository.update()
    for name, path in every_answer(repository, "2001-01-01", tmp_path).items():
        written = sources.raw(path)
        if name == "plain":  # the source's own words, whatever they are of
            assert written.attrs["Conventions"] == conventions
            continue
        if name in checked:  # which takes a second
            assert problems(path) == set(), name
        assert ("ACDD-1.3" in written.attrs["Conventions"]) == ("ACDD" in conventions)
        if name != "exact":
            assert written.sst.attrs["ancillary_variables"].split()[0] == "sst_standard_error"
            assert "bounds" not in written.time.attrs


def test_a_healed_state_is_as_much_cf_as_its_source(damaged: Case) -> None:
    write(damaged.folder / "s.nc", sources.raw(damaged.source).isel(time=slice(0, 1)))
    damaged.open().restore("2001-01-25", "healed.nc", accept_predicted=True)
    assert problems("healed.nc") <= problems(damaged.folder / "s.nc")


def test_a_field_that_is_overwritten_is_cf_with_the_times_that_it_gets(tmp_path: Path) -> None:
    field = fields(4, "standard").drop_vars(["time_bnds", "quality"])
    del field.sst.attrs["ancillary_variables"], field.sst.attrs["cell_methods"]
    del field.sst.attrs["actual_range"]
    repository = None
    for k in range(3):
        write(tmp_path / "s.nc", field.isel(time=k).drop_vars("time"))
        if repository is None:
            repository = gnomon.create(str(tmp_path / "r"), str(tmp_path / "s.nc"), kind="state")
        repository.update(f"2001-01-0{k + 1}")
    assert repository is not None
    paths = every_answer(repository, "2001-01-02", tmp_path)
    for name in ("forecast", "shadow"):
        assert problems(paths[name]) == set(), name


def test_of_a_source_without_attributes_only_its_own_are_missing(tmp_path: Path) -> None:
    bare = fields(COUNT, "standard")[["sst"]].drop_attrs()
    bare.time.attrs = {"units": "days since 2001-01-01"}
    write(tmp_path / "s.nc", bare)
    repository = gnomon.create(str(tmp_path / "r"), str(tmp_path / "s.nc"), leads=2)
    repository.update()
    before = problems(tmp_path / "s.nc")
    for name, path in every_answer(repository, "2001-01-01", tmp_path).items():
        assert not [p for p in problems(path) - before if _of_ours(p)], name


def _of_ours(problem: str) -> bool:
    # Which dimension is which nothing tells.
    return "sst_" in problem and "recommended order" not in problem


def test_the_checker_sees_flags_of_another_type(grown: Case) -> None:
    grown.open().export_shadow("x.nc")
    with netCDF4.Dataset("x.nc", "a") as file:
        file["sst_provenance"].flag_values = np.arange(6, dtype="i4")
    assert [p for p in problems("x.nc") if "flag_values" in p]


def test_errors_of_temperatures_are_differences(tmp_path: Path) -> None:
    data = fields(COUNT, "standard")[["sst", "packed", "ice"]]
    data["speed"] = data.sst.variable.copy()
    data.speed.attrs = {"units": "m s-1", "standard_name": "wind_speed number_of_observations"}
    write(tmp_path / "s.nc", data.drop_attrs(deep=False))
    repository = gnomon.create(str(tmp_path / "r"), str(tmp_path / "s.nc"), leads=2)
    repository.update()
    shadow = repository.shadow_dataset(decode=False)
    for ending in ("standard_error", "expected_error"):
        for name, units in (("sst", "K"), ("packed", "degC")):
            told = shadow[f"{name}_{ending}"].attrs
            assert (told["units"], told["units_metadata"]) == (units, "temperature: difference")
        for name, units in (("speed", "m s-1"), ("ice", "1")):
            told = shadow[f"{name}_{ending}"].attrs
            assert told["units"] == units
            assert "units_metadata" not in told
    # Of two modifiers CF knows nothing.
    assert "standard_name" not in shadow.speed_standard_error.attrs


def test_flags_keep_their_type_through_the_engine(grown: Case) -> None:
    opened = xr.open_dataset(grown.place, engine=GnomonBackendEntrypoint, shadow=True)
    opened.to_netcdf("x.nc")
    flags = sources.raw("x.nc").sst_provenance
    assert flags.dtype == flags.attrs["flag_values"].dtype == np.uint8


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("", "CF-1.11"),
        ("CF-1.11", "CF-1.11"),
        ("CF-1.6", "CF-1.11"),
        ("CF-1.12, ACDD-1.3", "CF-1.12, ACDD-1.3"),
        ("ACDD-1.3 CF-1.8", "ACDD-1.3 CF-1.11"),
        ("COARDS", "COARDS, CF-1.11"),
    ],
)
def test_conventions_are_those_that_hold(told: str, expected: str) -> None:
    assert with_conventions({"Conventions": told}) == {"Conventions": expected}


def test_nothing_is_referred_to_that_is_not_there() -> None:
    attributes = {
        "ancillary_variables": "a gone",
        "coordinates": "gone",
        "cell_measures": "area: gone",
        "formula_terms": "a: a b: a",
        "grid_mapping": "crs: x gone",
        "units": "gone",
    }
    assert referring_to(attributes, {"a", "x"}) == {
        "ancillary_variables": "a",
        "formula_terms": "a: a b: a",
        "units": "gone",
    }
