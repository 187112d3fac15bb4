"""What init says of a source before it makes anything."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import gnomon
from gnomon.cli import app
from gnomon.storage.errors import Conflict, InvalidInput
from tests.storage.building import weather, write_zarr


def run(*arguments: str) -> None:
    app(list(arguments), standalone_mode=False)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    dataset = weather(3)
    dataset["pair"] = ("time", np.zeros(3, [("a", "<f4"), ("b", "<i2")]))
    dataset = dataset.drop_vars("pair").assign(
        daily=(("time_daily", "y"), np.ones((2, 6))),
        time_daily=("time_daily", np.arange(2), {"units": "days since 2000-01-01"}),
        made=("time", np.arange(3), {"units": "hours since 2000-01-01"}),
    )
    return write_zarr(dataset, tmp_path / "s.zarr")


def test_a_description_says_what_would_be_made(source: Path, tmp_path: Path) -> None:
    told = gnomon.describe(str(source))
    assert told.kind == "append"
    assert told.time is not None
    assert (told.time.dimension, told.time.steps, told.time.interval_s) == ("time", 3, 3600.0)
    assert (told.time.first, told.time.last) == ("2000-01-01T00:00:00", "2000-01-01T02:00:00")
    by_name = {v.name: v for v in told.variables}
    assert by_name["t"].state_bytes == 6 * 10 * 4
    assert by_name["t"].forecast
    assert not by_name["made"].forecast
    assert told.state_bytes == sum(v.state_bytes for v in told.variables)
    assert set(told.fixed) == {"y", "x"}
    assert set(told.skipped) == {"daily", "time_daily"}
    made = gnomon.create(str(tmp_path / "r"), str(source))
    assert made.description == told
    assert made.skipped == told.skipped


def test_a_dry_run_makes_nothing(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "r"
    run("init", str(place), str(source), "--dry-run")
    printed = capsys.readouterr().out
    for text in ("3 steps from 2000-01-01T00:00:00", "1 h apart", "captured only", "240 bytes"):
        assert text in printed
    assert "not protected: daily (lies along time_daily" in printed
    run("init", str(place), str(source), "--dry-run", "--json")
    told = json.loads(capsys.readouterr().out)["found"]
    assert told == json.loads(json.dumps(gnomon.describe(str(source)).to_json()))
    assert not place.exists()
    run("init", str(place), str(source), "--json")
    assert json.loads(capsys.readouterr().out)["found"] == told
    with pytest.raises(Conflict, match="not empty"):
        run("init", str(place), str(source), "--dry-run")


@pytest.mark.parametrize("options", [{"variables": ["none"]}, {"leads": 0}, {"kind": "append"}])
def test_a_description_refuses_what_init_refuses(options: Any, tmp_path: Path) -> None:
    source = write_zarr(weather(2).isel(time=0), tmp_path / "s.zarr")
    with pytest.raises((InvalidInput, LookupError)) as said:
        gnomon.describe(str(source), **options)
    with pytest.raises(type(said.value), match=str(said.value)[:30]):
        gnomon.create(str(tmp_path / "r"), str(source), **options)


def test_init_says_why_and_what_was_guessed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = weather(3).assign_coords(time=("time", [20240301, 20240302, 20240303]))
    source = write_zarr(dataset, tmp_path / "s.zarr")
    run("init", str(tmp_path / "r"), str(source))
    printed = capsys.readouterr().out
    assert "append: the dimension 'time' has times as numbers such as 20240301" in printed
    assert "to 2024-03-03T00:00:00, usually 1 d apart" in printed
    assert "note: 'time' has no CF units" in printed


def test_counted_steps_by_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = weather(3).drop_vars("time")
    source = write_zarr(dataset, tmp_path / "s.zarr")
    with pytest.raises(InvalidInput, match=r"--start.*--kind state"):
        run("init", str(tmp_path / "r"), str(source))
    run("init", str(tmp_path / "r"), str(source), "--interval", "30min", "--start", "2024-03-01")
    assert "from 2024-03-01T00:00:00 to 2024-03-01T01:00:00" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["s.zarr", "s.nc"])
def test_groups_beside_the_root_are_named(name: str, tmp_path: Path) -> None:
    dataset = weather(2).drop_vars("wet")
    tree = xr.DataTree.from_dict({"/": dataset, "/fine": dataset.rename(t="u")})
    place = tmp_path / name
    tree.to_zarr(place) if name == "s.zarr" else tree.to_netcdf(place)
    told = gnomon.describe(str(place))
    assert {v.name for v in told.variables} == {"t", "p"}
    assert told.groups == {"fine": ("p", "u")}
    assert "fine" in " ".join(told.notes)
    bare = xr.DataTree.from_dict({"/": dataset[["x", "y"]], "/fine": dataset[["t"]]})
    other = tmp_path / f"bare-{name}"
    bare.to_zarr(other) if name == "s.zarr" else bare.to_netcdf(other)
    with pytest.raises(InvalidInput, match=r"--group: fine \(t\)"):
        gnomon.describe(str(other))
