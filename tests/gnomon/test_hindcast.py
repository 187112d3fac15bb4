"""The command that needs no repository: complete, honest about what it cannot do, and harmless."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import gnomon
from gnomon.hindcasting import forecasts, hindcast, open_replay
from gnomon.storage.errors import InvalidInput, NotFound
from gnomon.tasks.learning import refit
from tests import sources
from tests.gnomon.test_cli import run, strict

CALENDARS = ("standard", "noleap", "360_day")


def write(path: Path, values: np.ndarray, calendar: str = "standard", **attributes: object) -> str:
    """Monthly states of a variable v on an 8 x 6 grid."""
    about = {"units": "days since 2000-01-01", "calendar": calendar}
    time = ("time", 30.4375 * np.arange(len(values)), about)
    whole = xr.Dataset({"v": (("time", "y", "x"), values, attributes)}, coords={"time": time})
    whole.to_zarr(path, zarr_format=3, consolidated=False)
    return str(path)


def red(captures: int = 60, seed: int = 0) -> np.ndarray:
    """A field that remembers."""
    rng = np.random.default_rng(seed)
    values = np.zeros((captures, 8, 6))
    for t in range(1, captures):
        values[t] = 0.8 * values[t - 1] + rng.standard_normal((8, 6)) + rng.standard_normal()
    return 20.0 + values


def test_json_has_what_is_promised(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    source = write(tmp_path / "s.zarr", red())
    before = sources.listing(tmp_path / "s.zarr")
    picture = tmp_path / "p.png"
    code, out, _ = run(
        capsys, "hindcast", source, "--variable", "v", "--origins", "9",
        "--leads", "4", "--json", "--plot", str(picture),
    )  # fmt: skip
    found = strict(out)
    assert code == 0
    assert found["leads"] == [1, 2, 3, 4]
    for name in ("shadow", "persistence", "climatology", "damped_anomaly"):
        assert len(found["rmse"][name]) == 4
    assert {len(found["coverage"][level]) for level in ("50", "90", "99")} == {4}
    assert (found["cells"], found["captures"], found["origins"]) == (48, 60, 9)
    assert set(found["cells_per_second"]) == {"refit", "roll"}
    assert 0 < found["ratio_to_persistence"] < 1.05
    low, high = found["ratio_to_persistence_interval"]
    assert low <= found["ratio_to_persistence"] <= high
    assert set(found["ratio_to_interval"]) == set(found["ratio_to"])
    for level in ("50", "90", "99"):
        low, high = found["coverage_interval"][level]
        assert 0 <= low <= found["coverage_overall"][level] <= high <= 1
    assert found["coverage90_interval"] == found["coverage_interval"]["90"]
    assert found["coverage90"] == found["coverage_overall"]["90"]
    assert found["coverage90_season_interval"][0] <= found["coverage90_season"]
    assert 0 <= found["ece_floor"] <= found["ece_limit"] <= 1
    assert 1 <= found["independent_origins"] <= 9
    assert found["refits"] == 1
    assert isinstance(found["verdict"], str)
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert sources.listing(tmp_path / "s.zarr") == before


def test_people_get_a_table_and_a_verdict(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    source = write(tmp_path / "s.zarr", red())
    code, out, _ = run(capsys, "hindcast", source, "--variable", "v", "--origins", "5")
    assert code == 0
    assert "persistence" in out
    assert out.strip().splitlines()[-1].split()[0] in {
        "suitable:",
        "of",
        "unsuitable:",
        "unsuitable",
    }


@pytest.mark.parametrize("window", [8, 16, 512])
def test_a_record_may_be_longer_than_what_is_read_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window: int
) -> None:
    monkeypatch.setattr(refit, "MAX_WINDOW", window)
    values = red()
    values[50] = np.nan
    replay = open_replay(write(tmp_path / "s.zarr", values), "v", leads=4)
    for scored in forecasts(replay, origins=6)[0]:
        later = range(scored.issued.origin + 1, scored.issued.origin + 5)
        came = [values[k].ravel() if k < 60 else np.full(48, np.nan) for k in later]
        np.testing.assert_array_equal(scored.truth, came)


def test_the_same_input_gives_the_same_figures(tmp_path: Path) -> None:
    source = write(tmp_path / "s.zarr", red())
    one, other = (hindcast(source, "v", origins=5).to_json() for _ in range(2))
    for report in (one, other):
        report.pop("cells_per_second")
    assert one == other


@pytest.mark.parametrize("calendar", CALENDARS)
def test_all_calendars(tmp_path: Path, calendar: str) -> None:
    found = hindcast(write(tmp_path / "s.zarr", red(), calendar), "v", origins=3)
    assert len(found.specification["periods_s"]) == 1
    year = {"standard": 365.2425, "noleap": 365.0, "360_day": 360.0}[calendar]
    assert found.specification["periods_s"][0] == pytest.approx(year * 86400)


def test_masks_packing_and_bounds(tmp_path: Path) -> None:
    values = np.clip(0.5 + 0.1 * (red() - 20.0), 0.0, 1.0)
    packed = np.round(values / 0.001).astype("i2")
    packed[:, 0, :3] = -1
    packed[10:20, 2, 2] = -1
    about = {"scale_factor": 0.001, "_FillValue": np.int16(-1), "valid_range": [0, 1000]}
    whole = xr.Dataset(
        {"v": (("time", "y", "x"), packed, about)},
        coords={"time": ("time", np.arange(60.0), {"units": "days since 2000-01-01"})},
    )
    whole.to_netcdf(tmp_path / "s.nc")
    found = hindcast(str(tmp_path / "s.nc"), "v", origins=5)
    assert found.cells == 45
    assert found.specification["minimum"] == pytest.approx(0.0)
    assert found.specification["maximum"] == pytest.approx(1.0)


def test_damage_in_the_record_is_not_held_against_the_forecast(tmp_path: Path) -> None:
    values = red(80)
    clean = hindcast(write(tmp_path / "a.zarr", values), "v", origins=10)
    values[70] = 1e6
    hurt = hindcast(write(tmp_path / "b.zarr", values), "v", origins=10)
    assert clean.doubted == 0
    assert hurt.doubted > 0
    assert hurt.rmse["shadow"][0] < 2 * clean.rmse["shadow"][0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.ones((5, 8, 6)), "found 5 captures, expected at least 8"),
        (np.full((30, 8, 6), np.nan), "only missing values"),
        (np.full((30, 8, 6), 1e300), "only missing values"),
    ],
)
def test_what_cannot_be_hindcast_is_said_in_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, values: np.ndarray, message: str
) -> None:
    source = write(tmp_path / "s.zarr", values)
    code, out, err = run(capsys, "hindcast", source, "--variable", "v")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


FLAGS = np.array([0, 1, 2, 3])


def flags(labels: np.ndarray = FLAGS, captures: int = 80) -> np.ndarray:
    """A field of labels of which one or two in 48 are others at each capture."""
    draws = np.random.default_rng(0)
    values = draws.integers(0, 4, (1, 48)).repeat(captures, axis=0)
    for t in range(1, captures):
        moved = draws.choice(48, t % 2 + 1, replace=False)
        values[t:, moved] = (values[t - 1, moved] + draws.integers(1, 4, len(moved))) % 4
    return np.asarray(labels.astype("i1")[values].reshape(captures, 8, 6))


def write_flags(path: Path, values: np.ndarray, labels: np.ndarray = FLAGS) -> str:
    return write(path, values, flag_values=labels.astype("i1"), flag_meanings="a b c d")


def test_flags_are_scored_by_the_share_of_cells_that_are_others(tmp_path: Path) -> None:
    values = flags()
    found = hindcast(write_flags(tmp_path / "s.zarr", values), "v", origins=20, leads=3)
    assert found.doubted == 0
    # From the 57th capture on there is one origin at each, 1 or 2 of 48 cells change.
    for lead in (1, 2, 3):
        moved = [(values[t + lead] != values[t]).mean() for t in range(56, 80 - lead)]
        assert found.rmse["shadow"][lead - 1] == pytest.approx(np.mean(moved), rel=0.1)
    assert found.rmse["persistence"] == found.rmse["shadow"]
    assert found.ratio_to_persistence == 1
    # At the first lead all are within 5 %, and the confidence says so.
    only = hindcast(write_flags(tmp_path / "t.zarr", values), "v", origins=20, leads=1)
    assert [row["within"] for row in only.reliability] == [1.0]
    assert only.ece < 0.03
    told = found.to_json()
    assert set(told["coverage_overall"].values()) == {None}
    for name in ("coverage90", "coverage90_worst", "coverage90_season"):
        assert told[name] is None
    assert set(told["crps"]) == set(told["rmse"]["climatology"]) == {None}
    assert (found.suitable, "cover" in found.verdict, "interval" in found.verdict) == (False,) * 3
    assert found.verdict.startswith("unsuitable: the forecast of flags is the last capture")
    assert found.verdict.endswith("; the confidence holds")


def test_what_number_a_flag_has_is_no_matter(tmp_path: Path) -> None:
    told = []
    for place, labels in enumerate((FLAGS, np.array([7, 3, 120, -9]))):
        source = write_flags(tmp_path / f"{place}.zarr", flags(labels), labels)
        report = hindcast(source, "v", origins=20, leads=3).to_json()
        told.append({name: report[name] for name in ("rmse", "ece", "brier", "reliability")})
    assert told[0] == told[1]


def test_people_are_told_of_flags_what_there_is_to_tell(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    source, picture = write_flags(tmp_path / "s.zarr", flags()), tmp_path / "p.png"
    code, out, _ = run(
        capsys, "hindcast", source, "--variable", "v", "--leads", "2", "--plot", str(picture)
    )
    assert code == 0
    assert "share of cells with another label" in " ".join(out.split())
    for word in ("nan", "CRPS", "RMSE", "climatology", "cover", "interval"):
        assert word not in out
    assert picture.read_bytes()[:4] == b"\x89PNG"


def test_nothing_to_predict_is_no_failure(tmp_path: Path) -> None:
    found = hindcast(write(tmp_path / "s.zarr", np.full((30, 8, 6), 7.0)), "v", origins=4)
    assert not found.suitable
    assert found.to_json()["ratio_to_persistence"] is None


def test_wrong_names_and_numbers_are_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "s.zarr", red())
    with pytest.raises(NotFound, match="has no variable 'w'"):
        hindcast(source, "w")
    with pytest.raises(InvalidInput, match="leads"):
        hindcast(source, "v", leads=0)
    with pytest.raises(NotFound, match="does not exist"):
        hindcast(str(tmp_path / "nowhere.zarr"), "v")


def test_more_periods_than_a_season_can_have_are_refused(tmp_path: Path) -> None:
    periods = [3600.0 * k for k in range(2, 30)]
    with pytest.raises(InvalidInput, match="28 periods were given; give 16 at most"):
        gnomon.create(str(tmp_path / "r"), write(tmp_path / "s.zarr", red()), periods_s=periods)
    assert not (tmp_path / "r").exists()
