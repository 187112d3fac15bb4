"""What is said of a source that cannot be opened as it is: what is there, and what helps."""

import gzip
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

from gnomon.storage.errors import GnomonError, InvalidInput, NotFound, Unavailable
from gnomon.storage.source.groups import groups_beside
from gnomon.storage.source.opening import open_source
from gnomon.storage.values.model import SourceSpec
from tests.storage.building import capture_new, history, make_repository, weather, write_zarr


def refused(place: Path, **options: Any) -> GnomonError:
    with pytest.raises(GnomonError) as caught:
        open_source(SourceSpec(str(place), "append", **options))
    assert "\n" not in str(caught.value)
    return caught.value


def netcdf4() -> bytes:
    return bytes(weather().drop_vars("wet").to_netcdf(engine="h5netcdf"))


FILES: dict[str, tuple[bytes, type[GnomonError], str]] = {
    "empty": (b"", Unavailable, "an empty file; wait"),
    "a page": (b"\n<!DOCTYPE html><html>404</html>", NotFound, "HTML page.*download"),
    "an answer": (b"<?xml version='1.0'?><Error/>", NotFound, "XML.*download"),
    "text": (b"time,t\n0,1\n", NotFound, "a text file"),
    "packed": (gzip.compress(b"CDF\x01"), NotFound, "gzip.*unpack"),
    "a table": (b"PAR1" + bytes(9), NotFound, "Parquet"),
    "noise": (bytes(range(128, 256)), NotFound, "whatever its name says"),
    "classic, damaged": (b"CDF\x01" + b"\xff" * 30, Unavailable, "its header is damaged"),
}


@pytest.mark.parametrize("what", FILES)
def test_a_file_that_is_no_dataset_is_named(what: str, tmp_path: Path) -> None:
    data, kind, text = FILES[what]
    place = tmp_path / "x.nc"
    place.write_bytes(data)
    error = refused(place)
    assert type(error) is kind
    with pytest.raises(kind, match=text):
        raise error


@pytest.mark.parametrize("engine", ["h5netcdf", "netcdf4"])
def test_a_file_that_was_cut_off_says_how_much_there_is(engine: Any, tmp_path: Path) -> None:
    place = tmp_path / "x.nc"
    weather().drop_vars("wet").to_netcdf(place, engine=engine)
    whole = place.read_bytes()
    place.write_bytes(whole[: len(whole) // 2])
    error = refused(place)
    assert isinstance(error, Unavailable)
    assert f"{len(whole) // 2} of {len(whole)} bytes" in str(error)


def test_folders_say_what_they_hold(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "empty folder" in str(refused(tmp_path / "empty"))
    write_zarr(weather(), tmp_path / "stores" / "a.zarr")
    assert "a.zarr" in str(refused(tmp_path / "stores"))
    array = zarr.create_array(tmp_path / "array", shape=(3,), dtype="f4")
    array[:] = 1
    assert "a single Zarr array, not a dataset" in str(refused(tmp_path / "array"))


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_arrays_without_names_of_dimensions(zarr_format: Any, tmp_path: Path) -> None:
    group = zarr.create_group(tmp_path / "x", zarr_format=zarr_format)
    group.create_array("t", shape=(3, 4), dtype="f4")
    error = refused(tmp_path / "x")
    assert isinstance(error, InvalidInput)
    assert "names of dimensions" in str(error)


def test_engines_are_listed(tmp_path: Path) -> None:
    weather().drop_vars("wet").to_netcdf(tmp_path / "x.nc")
    assert "it has h5netcdf" in str(refused(tmp_path / "x.nc", engine="nonsense"))
    assert "install the package rioxarray" in str(refused(tmp_path / "x.nc", engine="rasterio"))


@pytest.fixture(params=["x.zarr", "x.nc"])
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A source of which the root has nothing but groups."""
    place = tmp_path / str(request.param)
    dataset = weather().drop_vars("wet")
    whole = xr.DataTree.from_dict({"/fast": dataset, "/deep/slow": dataset[["t"]]})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole.to_zarr(place) if place.suffix == ".zarr" else whole.to_netcdf(place)
    return place


def test_groups_are_listed(tree: Path) -> None:
    error = refused(tree)
    assert isinstance(error, NotFound)
    for text in ("deep/slow (t)", "fast (", "--group"):
        assert text in str(error)
    assert "deep/slow" in str(refused(tree, group="deep"))
    missing = refused(tree, group="none")
    assert isinstance(missing, NotFound)
    assert "no group 'none'; it has deep/slow" in str(missing)
    spec = SourceSpec(str(tree), "append", group="fast")
    with open_source(spec) as dataset:
        assert "p" in dataset
    assert set(groups_beside(spec)) == {"deep/slow"}


def lengthen(store: Path, name: str, by: int = 1) -> None:
    """Append to one array, as a writer does that was stopped before it came to the others."""
    array = zarr.open_array(store / name, mode="r+")
    axis = 0
    array.resize((array.shape[axis] + by, *array.shape[1:]))
    array[-by:] = 7


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("consolidated", [True, False])
@pytest.mark.parametrize("names", [("t",), ("time",), ("time", "t"), ("time", "t", "p")])
def test_half_an_append_leaves_the_whole_steps(
    zarr_format: Any, consolidated: bool, names: tuple[str, ...], tmp_path: Path
) -> None:
    place = tmp_path / "x.zarr"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        weather().to_zarr(place, zarr_format=zarr_format, consolidated=consolidated)
    repository = capture_new(make_repository(tmp_path / "r", place))
    before = history(repository)
    for name in names:
        lengthen(place, name)
    spec = repository.settings.source
    for of in (spec, SourceSpec(str(place), "append")):
        with open_source(of) as dataset:
            assert dataset.sizes["time"] == 4
            xr.testing.assert_equal(dataset[["t", "p", "wet"]].load(), before[["t", "p", "wet"]])
            assert set(dataset.variables) == set(before.variables)
            assert dataset["t"].encoding["preferred_chunks"]
            text = " ".join(dataset.encoding["notes"])
            assert "the first 4 steps" in text
            assert f"5 in {', '.join(sorted(names))}" in text
    again = make_repository(tmp_path / "again", place)
    assert len(capture_new(again).timeline) == 4


def test_lengths_that_differ_elsewhere_are_named(tmp_path: Path) -> None:
    place = write_zarr(weather(), tmp_path / "x.zarr")
    array = zarr.open_array(place / "t", mode="r+")
    array.resize((4, 6, 11))
    error = refused(place)
    assert isinstance(error, InvalidInput)
    for text in ("'x'", "11 in t", "10 in p, wet, x"):
        assert text in str(error)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_consolidated_metadata_of_before_are_not_believed(zarr_format: Any, tmp_path: Path) -> None:
    place = tmp_path / "x.zarr"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = weather()
        dataset["t"].attrs["missing_value"] = np.nan
        dataset.to_zarr(place, zarr_format=zarr_format, consolidated=True)
    spec = SourceSpec(str(place), "append")
    with open_source(spec) as dataset:
        assert dataset.encoding["notes"] == ()
    for name in ("time", "t", "p", "wet"):
        lengthen(place, name, 2)
    with open_source(spec) as dataset:
        assert dataset.sizes["time"] == 6
        assert "consolidated" in dataset.encoding["notes"][0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(place)
    with open_source(spec) as dataset:
        assert dataset.sizes["time"] == 6
        assert dataset.encoding["notes"] == ()
    zarr.open_array(place / "t", mode="r+").attrs["units"] = "degC"
    with open_source(spec) as dataset:
        assert dataset["t"].attrs["units"] == "degC"
        assert "older than t" in dataset.encoding["notes"][0]


def test_an_array_that_is_gone_is_not_read_as_fill_values(tmp_path: Path) -> None:
    import shutil

    place = tmp_path / "x.zarr"
    weather().to_zarr(place, zarr_format=2, consolidated=True)
    shutil.rmtree(place / "p")
    with open_source(SourceSpec(str(place), "append")) as dataset:
        assert "p" not in dataset


@pytest.fixture
def ice(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """An Icechunk repository with two branches and a tag; the snapshot of each."""
    icechunk = pytest.importorskip("icechunk")
    made = icechunk.Repository.create(icechunk.local_filesystem_storage(str(tmp_path / "ice")))
    snapshots: dict[str, str] = {}
    for branch, steps in (("main", 2), ("later", 4)):
        if branch != "main":
            made.create_branch(branch, snapshots["main"])
        session = made.writable_session(branch)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            weather(steps).to_zarr(session.store, consolidated=False, zarr_format=3, mode="w")
        snapshots[branch] = session.commit(f"{steps} states")
    made.create_tag("v1", snapshots["main"])
    return tmp_path / "ice", snapshots


def test_icechunk_states_are_named(ice: tuple[Path, dict[str, str]]) -> None:
    place, snapshots = ice

    def steps(**options: Any) -> int:
        with open_source(SourceSpec(str(place), "append", **options)) as dataset:
            return dataset.sizes["time"]

    assert steps() == steps(branch="main") == steps(tag="v1") == 2
    assert steps(branch="later") == steps(snapshot=snapshots["later"]) == 4
    for options in ({"branch": "none"}, {"tag": "none"}, {"snapshot": "none"}):
        error = refused(place, **options)
        assert isinstance(error, NotFound)
        for text in ("'none'", "branches later, main", "tags v1"):
            assert text in str(error)
    assert "one of --branch, --tag" in str(refused(place, branch="main", tag="v1"))


def test_branches_are_of_icechunk_alone(tmp_path: Path) -> None:
    place = write_zarr(weather(), tmp_path / "x.zarr")
    assert "not an Icechunk repository" in str(refused(place, branch="main"))


def test_a_repository_remembers_its_branch(
    ice: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    from gnomon.creation import create
    from gnomon.storage.repository import Repository

    create(str(tmp_path / "r"), str(ice[0]), branch="later")
    repository = capture_new(Repository.open(str(tmp_path / "r")))
    assert len(repository.timeline) == 4
    assert np.isfinite(history(repository)["time"].values).all()
