"""Whether predicted cells are known again after the ways in which datasets are usually copied."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import gnomon
from gnomon.storage.errors import InvalidInput
from gnomon.storage.serve.planes import PROVENANCE
from gnomon.storage.source.describing import describe
from gnomon.storage.source.marks import marks_of, note_marks, predicted
from gnomon.storage.source.opening import open_source
from gnomon.storage.source.predicted import refuse_predicted
from gnomon.storage.values.model import SourceSpec
from tests import sources

FLAGS = {"flag_values": np.arange(6, dtype="u1"), "flag_meanings": " ".join(PROVENANCE)}
Edit = Callable[[xr.Dataset], xr.Dataset]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a measured record, and what a repository gives back of it."""
    place = tmp_path_factory.mktemp("marks")
    data = sources.temperature(8, land=False)[["sst"]]
    del data.time.attrs["bounds"]
    sources.overwrite(place / "measured.zarr", data)
    repository = gnomon.create(str(place / "r"), str(place / "measured.zarr"), leads=2)
    repository.update()
    repository.restore("2001-01-09", place / "forecast.nc", accept_predicted=True)
    repository.restore("2001-01-08", place / "exact.nc", marks=True)
    repository.export_shadow(place / "shadow.nc")
    return place


def refuse(path: Path, name: str) -> None:
    """Look at all cells of a variable of a source as a capture does."""
    with open_source(SourceSpec(str(path), "append")) as dataset:
        kind: Any = "append" if "time" in dataset[name].dims else "state"
        contents = describe(dataset, SourceSpec(str(path), kind), kind=kind, names=(name,))
        variable = next(v for v in contents.variables if v.name == name)
        positions = range(dataset.sizes["time"]) if kind == "append" else None
        refuse_predicted(dataset, variable, positions, _all(variable))


def _all(variable: Any) -> tuple[slice, ...]:
    return tuple(slice(0, n) for n in variable.shape)


def each(dataset: xr.Dataset, edit: Callable[[xr.DataArray], xr.DataArray]) -> xr.Dataset:
    """Return a dataset with each variable edited, attributes too."""
    return dataset.assign({name: edit(dataset[name]) for name in dataset.data_vars})


def without_notes(array: xr.DataArray) -> xr.DataArray:
    return array.drop_attrs(deep=False).assign_attrs(
        {n: v for n, v in array.attrs.items() if not n.startswith("gnomon_")}
    )


def measured_error(array: xr.DataArray) -> xr.DataArray:
    """Return analysed values, and errors that an analysis states of them."""
    about = {"long_name": "standard error of the analysis", "standard_name": "x standard_error"}
    if array.name == "sst":
        return array.drop_attrs(deep=False)
    return (array + 0.4).drop_attrs(deep=False).assign_attrs(about)


def joined(dataset: xr.Dataset, *, first: bool, notes: bool = True) -> xr.Dataset:
    """Return a restored state beside one that was measured a day later or earlier."""
    measured = (
        dataset[["sst"]]
        .drop_attrs(deep=False)
        .drop_vars(["forecast_period", "forecast_reference_time"])
    )
    measured.sst.attrs = {"units": "K"}
    measured["time"] = measured.time + np.timedelta64(1 if first else -1, "D")
    bare = dataset.drop_vars(["forecast_period", "forecast_reference_time"], errors="ignore")
    bare = bare if notes else bare.pipe(each, without_notes).drop_attrs(deep=False)
    return xr.concat([bare, measured] if first else [measured, bare], "time", join="outer")


def repacked(dataset: xr.Dataset, **encoding: Any) -> xr.Dataset:
    flags = dataset.sst_provenance
    numbers = flags.astype("f8").assign_attrs(flags.attrs)
    numbers.encoding = encoding
    return dataset.assign(sst_provenance=numbers)


EDITS: dict[str, Edit] = {
    "as it is": lambda d: d,
    "encoding dropped": lambda d: d.drop_encoding(),
    "values renamed": lambda d: d.rename(sst="t"),
    "values and flags renamed": lambda d: d.rename(sst="t", sst_provenance="t_provenance"),
    "flags renamed": lambda d: d.rename(sst_provenance="flags"),
    "both renamed apart": lambda d: d.rename(sst="t", sst_provenance="flags"),
    "both renamed, attributes of values lost": lambda d: d.assign(
        t=d.sst.drop_attrs(), flags=d.sst_provenance
    ).drop_vars(["sst", "sst_provenance"]),
    "dimensions renamed": lambda d: d.rename(lat="y", lon="x"),
    "a part": lambda d: d.isel(lat=slice(2, 5), lon=slice(1, 3)),
    "one time": lambda d: d.isel(time=0, drop=True),
    "transposed": lambda d: d.transpose("lon", "time", "lat"),
    "flags without time": lambda d: d.assign(sst_provenance=d.sst_provenance.isel(time=0)),
    "joined with a later state": lambda d: joined(d, first=True),
    "joined with an earlier state": lambda d: joined(d, first=False),
    "flags as floats": lambda d: d.assign(
        sst_provenance=d.sst_provenance.astype("f8").assign_attrs(d.sst_provenance.attrs)
    ),
    "flags packed": lambda d: repacked(
        d, dtype="i2", scale_factor=0.1, add_offset=7.0, _FillValue=-1
    ),
    "forecast as fill value": lambda d: repacked(d, dtype="i1", _FillValue=3),
    "meaning of the flags lost": lambda d: d.assign(sst_provenance=d.sst_provenance.drop_attrs()),
    "flags dropped": lambda d: d.drop_vars("sst_provenance"),
    "only values and errors, no attributes of values": lambda d: (
        d[["sst", "sst_standard_error"]]
        .assign(sst=d.sst.drop_attrs(deep=False))
        .drop_attrs(deep=False)
    ),
    "values renamed, and errors": lambda d: (
        d[["sst", "sst_standard_error"]]
        .pipe(each, without_notes)
        .drop_attrs(deep=False)
        .rename(sst="t")
    ),
    "only values and errors, joined with an earlier state": lambda d: joined(
        d[["sst", "sst_standard_error"]], first=False, notes=False
    ),
    "only the values": lambda d: d.sst.to_dataset(),
    "attributes of variables lost": lambda d: (
        d.drop_vars("sst_provenance").map(lambda v: v.drop_attrs(deep=False)).assign_attrs(d.attrs)
    ),
    "means over blocks": lambda d: d.coarsen(lat=4, lon=4).mean(keep_attrs=True),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_a_copy_of_a_forecast_is_refused(folder: Path, tmp_path: Path, edit: Edit) -> None:
    for ending in ("nc", "zarr"):
        with xr.open_dataset(folder / "forecast.nc") as restored:
            copy = edit(restored.load())
        name = "t" if "t" in copy else "sst"
        target = tmp_path / f"copy.{ending}"
        if ending == "nc":
            copy.to_netcdf(target)
        else:
            copy.to_zarr(target, consolidated=False)
        with pytest.raises(InvalidInput, match=f"{name}.*never captured as data"):
            refuse(target, name)


def test_a_forecast_appended_to_a_measured_store_is_refused(folder: Path, tmp_path: Path) -> None:
    """The flags of a store are shorter than its values then, or were left out."""
    with xr.open_dataset(folder / "forecast.nc") as restored:
        state = restored.drop_vars(["forecast_period", "forecast_reference_time"]).load()
    with xr.open_zarr(folder / "measured.zarr", consolidated=False) as opened:
        measured = opened.load().drop_encoding()
    for name, part in {"flags": state, "none": state[["sst"]]}.items():
        measured.to_zarr(tmp_path / name, consolidated=False)
        part.drop_encoding().to_zarr(tmp_path / name, append_dim="time", consolidated=False)
        with pytest.raises(InvalidInput, match="never captured as data"):
            refuse(tmp_path / name, "sst")


@pytest.mark.parametrize("file", ["shadow.nc", "ensemble.nc"])
def test_a_dataset_of_predictions_alone_is_refused_at_init(
    folder: Path, tmp_path: Path, file: str
) -> None:
    """By its attributes, where there are no flags: nothing is made."""
    with xr.open_dataset(folder / "shadow.nc") as opened:
        shadow = opened.load()
    if file == "ensemble.nc":
        members = shadow.sst.drop_attrs().drop_vars(["time", "forecast_reference_time"])
        shadow = members.rename(lead="member").to_dataset(name="sst")
        shadow.attrs = {"gnomon_method": "simulated"}
    else:
        shadow = shadow.drop_vars("sst_provenance")
    shadow.to_netcdf(tmp_path / file)
    with pytest.raises(InvalidInput, match="no flags tell"):
        gnomon.create(str(tmp_path / "r"), str(tmp_path / file), kind="state", variables=["sst"])
    assert not (tmp_path / "r").exists()


def test_a_whole_shadow_is_never_captured(folder: Path, tmp_path: Path) -> None:
    repository = gnomon.create(
        str(tmp_path / "r"), str(folder / "shadow.nc"), kind="state", variables=["sst"]
    )
    with pytest.raises(InvalidInput, match="never captured as data"):
        repository.update("2001-02-01")
    assert repository.status()["captures"] == 0


def test_a_file_of_predictions_among_measured_ones_is_left_out(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "s").mkdir()
    with xr.open_zarr(folder / "measured.zarr", consolidated=False) as measured:
        for k in range(8):
            measured.isel(time=[k]).drop_encoding().to_netcdf(tmp_path / "s" / f"{k}.nc")
    with xr.open_dataset(folder / "forecast.nc") as restored:
        restored.sst.drop_vars(["forecast_period", "forecast_reference_time"]).to_netcdf(
            tmp_path / "s" / "8.nc"
        )
    repository = gnomon.create(str(tmp_path / "r"), str(tmp_path / "s"), variables=["sst"])
    repository.update()
    assert repository.status()["last"] == "2001-01-08T00:00:00"


def test_what_was_captured_is_captured_again(folder: Path, tmp_path: Path) -> None:
    """Marks that say so refuse nothing, nor do those of another variable."""
    with xr.open_dataset(folder / "exact.nc") as opened:
        exact = opened.load()
    copies = {
        "as it is": exact,
        "without flags": exact.drop_vars("sst_provenance"),
        "errors alone": exact[["sst", "sst_standard_error"]].pipe(each, without_notes),
        "errors of a measurement": exact[["sst", "sst_standard_error"]].pipe(each, measured_error),
        "packed": repacked(exact, dtype="i2", scale_factor=0.3, add_offset=0.9, _FillValue=-1),
    }
    for name, copy in copies.items():
        copy.to_netcdf(tmp_path / f"{name}.nc")
        refuse(tmp_path / f"{name}.nc", "sst")
    with xr.open_dataset(folder / "forecast.nc") as opened:
        beside = opened.load().assign(wind=opened.sst.drop_attrs() * 2)
    beside.to_netcdf(tmp_path / "beside.nc")
    refuse(tmp_path / "beside.nc", "wind")


def test_flags_of_others_are_no_marks() -> None:
    dims, cells = ("x",), np.ones(3)
    dataset = xr.Dataset(
        {
            "a": (dims, cells, {"ancillary_variables": "a_provenance a_flags"}),
            "a_provenance": (dims, cells, {"flag_meanings": "avhrr modis"}),
            "a_flags": (dims, cells, {"flag_meanings": "captured by_hand"}),
            "b_provenance": (dims, cells),
            "b": (dims, cells),
        }
    )
    note_marks(dataset)
    assert marks_of(dataset, "a").flags == ()
    assert marks_of(dataset, "b").flags == ()


def test_meanings_are_read_as_text_or_as_a_list() -> None:
    for meanings in (FLAGS["flag_meanings"], list(PROVENANCE), np.array(list(PROVENANCE))):
        flags = ("x", np.ones(3), {"flag_meanings": meanings})
        assert marks_of(xr.Dataset({"a": ("x", np.ones(3)), "f": flags}), "a").flags == ("f",)


@pytest.mark.parametrize(
    ("raw", "attributes", "expected"),
    [
        (np.array([0, 3, 255], "u1"), {"_FillValue": np.uint8(255)}, [False, True, False]),
        (np.array([0, 3, 3], "i1"), {"_FillValue": np.int8(3)}, [False, True, True]),
        (np.array([0.0, np.nan, 0.25], "f4"), {}, [False, False, True]),
        (
            np.array([-70, -40, -1], "i2"),
            {"scale_factor": 0.1, "add_offset": 7.0},
            [False, True, True],
        ),
        (
            np.array([-30, 0, 70], "i2"),
            {"scale_factor": 0.03, "add_offset": 0.9},
            [False, True, True],
        ),
        (np.array([False, True]), {}, [False, True]),
        (np.array(["captured", "forecast"]), {}, [True, True]),
        (np.array([0, 1], "i1"), {"scale_factor": "none"}, [True, True]),
    ],
)
def test_flags_are_read_whatever_numbers_they_became(
    raw: Any, attributes: dict[str, Any], expected: list[bool]
) -> None:
    assert predicted(raw, attributes).tolist() == expected
