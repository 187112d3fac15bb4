"""Cells and chunks that cannot be predicted never stop the others, and are always told."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

import gnomon
from gnomon.flows.report import UpdateReport
from gnomon.repository import GnomonRepository
from gnomon.storage.errors import InvalidInput
from gnomon.storage.serve.planes import PROVENANCE
from gnomon.tasks import materialize
from gnomon.tasks.forecasting import Forecast, orders
from tests import sources
from tests.gnomon.test_cli import run, strict

FIRST = 24
"""Captures that are backfilled; those after them arrive one by one."""
LAST = 29
SHAPE = (4, 8)
CHUNKS = {"lat": 4, "lon": 4}
type Array = NDArray[np.float64]
type Flags = NDArray[np.bool_]


def dataset(**values: Array) -> xr.Dataset:
    days = np.arange(LAST, dtype="i4")
    time = ("time", days, {"units": "days since 2001-01-01"})
    fields = {name: (("time", "lat", "lon"), v.astype("f4")) for name, v in values.items()}
    return xr.Dataset(fields, coords={"time": time})


@dataclass(frozen=True)
class Lived:
    """A repository, with what each of its updates said and every shadow."""

    repository: GnomonRepository
    values: dict[str, Array]
    reports: list[UpdateReport]
    """Of the backfill, and of the capture of each day after."""

    def told(self, name: str) -> list[tuple[int, UpdateReport, Array, Array]]:
        """Number of captures of each day, its report, and predictions and standard errors."""
        return [
            (k, report, *predicted(self.repository, name, shadow=k))
            for k, report in enumerate(self.reports)
        ][1:]


def live_through(folder: Path, data: xr.Dataset) -> Lived:
    """A repository of which every update is looked at."""
    source = folder / "source.zarr"
    sources.write(source, data, 0, FIRST)
    repository = gnomon.create(str(folder / "r"), str(source), chunks=CHUNKS, leads=2)
    reports = [repository.backfill()]
    for day in range(FIRST, LAST):
        sources.write(source, data, day, day + 1)
        reports.append(repository.update())
        assert len(reports[-1].captured) == 1
        assert len(repository.stored.shadows) == len(reports)
    assert repository.check(read_data=True).problems == ()
    return Lived(repository, {str(n): v.values for n, v in data.data_vars.items()}, reports)


def predicted(
    repository: GnomonRepository, name: str = "v", lead: int = 1, shadow: int = -1
) -> tuple[Array, Array]:
    """Predictions and standard errors of a shadow, the newest."""
    stored = repository.stored
    opened = stored.shadow(name, stored.shadows[shadow])
    mean, error = np.full((2, *SHAPE), np.nan)
    for index in opened.variable.grid.indices():
        cells = opened.variable.grid.cells(index)
        mean[cells], error[cells] = opened.chunk(lead, index)
    return mean, error


def there(repository: GnomonRepository, name: str, values: Array, shadow: int) -> Flags:
    """Cells that the last trusted capture of their chunk has."""
    stored = repository.stored
    bases = stored.shadow(name, stored.shadows[shadow]).slab.index()[0, ..., 0]
    return np.isfinite(
        np.concatenate([values[bases[0, k], :, 4 * k : 4 * k + 4] for k in (0, 1)], 1)
    )


def noise(seed: int = 0) -> Array:
    return 5 + sources.noise(LAST, SHAPE, seed)


def one_appears(values: Array) -> None:
    values[: FIRST + 1, 0, 0] = np.nan


def one_appears_and_goes(values: Array) -> None:
    values[: FIRST + 1, 0, 0] = np.nan
    values[FIRST + 2 :, 0, 0] = np.nan


def some_appear(values: Array) -> None:
    values[: FIRST + 1, :2, :3] = np.nan


def one_returns(values: Array) -> None:
    values[2 : FIRST + 1, 0, 0] = np.nan


def one_returns_after_many(values: Array) -> None:
    values[12 : FIRST + 1, 0, 0] = np.nan


def a_mask_moves(values: Array) -> None:
    for day in range(LAST):
        values[day, day % 4, :] = np.nan
        values[day, :, 7 if day < FIRST else day % 4] = np.nan


def sparse_stations(values: Array) -> None:
    report = np.random.default_rng(0).random(values.shape) < np.linspace(0, 0.3, 8)
    values[~report] = np.nan


def too_large(values: Array) -> None:
    values[:, 0, 0] = np.finfo("f4").max


ESTIMATED = {
    "a cell appears": one_appears,
    "a cell appears and goes": one_appears_and_goes,
    "some cells appear": some_appear,
    "a cell returns that was seen twice": one_returns,
    "a cell returns that was seen often": one_returns_after_many,
}
KINDS = ESTIMATED | {"a mask moves": a_mask_moves, "sparse stations": sparse_stations}


def chunk_appears(values: Array) -> None:
    values[: FIRST + 1, :, 4:] = np.nan


def all_comes_back(values: Array) -> None:
    values[1 : FIRST + 1] = np.nan


@pytest.fixture(scope="module", autouse=True)
def _unsearched() -> Iterator[None]:
    """Orders are chosen among three: which one a variable has is no matter here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(orders, "SEARCHED", 0)
        yield


TOO_LARGE = "too_large_to_compute_with"


def named(kind: str) -> str:
    return kind.replace(" ", "_")


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Lived:
    """What all kinds have in common is done once: one repository, and a variable of each."""
    others = {
        "a chunk appears": chunk_appears,
        "all comes back": all_comes_back,
    }
    fields: dict[str, Array] = {}
    for kind, change in (KINDS | others).items():
        values = noise(len(fields))
        change(values)
        fields[named(kind)] = values
    data = dataset(**fields)
    large = data[named("a cell appears")].astype("f8")
    large.values[:, 0, 0] = 1e200
    data[TOO_LARGE] = large
    return live_through(tmp_path_factory.mktemp("lived"), data)


@pytest.mark.parametrize("kind", KINDS)
def test_a_cell_never_stops_an_update(kind: str, lived: Lived) -> None:
    name = named(kind)
    for shadow, report, mean, error in lived.told(name):
        assert (np.isfinite(mean) == np.isfinite(error)).all()
        assert (error[np.isfinite(error)] > 0).all()
        cells = there(lived.repository, name, lived.values[name], shadow)
        left_out = int((cells & ~np.isfinite(mean)).sum())
        # What has a value and no prediction is told.
        assert report.unpredicted.get(name, 0) == left_out
        if kind in ESTIMATED:
            assert left_out == 0


def test_a_new_cell_is_as_wrong_as_it_says(lived: Lived) -> None:
    told = lived.told(named("a cell appears"))
    errors = [error[0, 0] for *_, error in told]
    usual = float(np.nanmedian(told[-1][-1]))
    assert np.isnan(errors[0])
    # Wider than the others' while it was seen once or twice, but not without measure.
    assert usual < errors[1] < 5 * usual
    assert usual < errors[2] < 5 * usual


def test_a_chunk_of_new_cells_is_left_out_and_told(lived: Lived) -> None:
    name = named("a chunk appears")
    for captures, report, mean, _ in lived.told(name):
        seen = captures - 1
        assert np.isfinite(mean[:, :4]).all()
        assert np.isfinite(mean[:, 4:]).all() == (seen >= 3)
        assert report.unpredicted.get(name, 0) == (16 if seen in (1, 2) else 0)
    restored = lived.repository.dataset("2001-01-30", accept_predicted=True)
    assert (restored[f"{name}_provenance"] == PROVENANCE["forecast"]).all()


def test_a_variable_that_comes_back_as_a_whole(lived: Lived) -> None:
    name = named("all comes back")
    for seen, report in enumerate(lived.reports[1:]):
        # Nothing is claimed of what is not predicted, nor does it make the rest due.
        assert (report.confidence.get(name, [None])[0] is None) == (seen < 2)
    point = lived.repository.points("2001-01-30")[0]
    assert point.expected_error[name] is not None


def test_values_too_large_to_compute_with_are_left_out_and_told(lived: Lived) -> None:
    assert [report.unpredicted[TOO_LARGE] for report in lived.reports] == [1] * 6


def test_everything_can_be_learnt_anew_with_all_of_them(lived: Lived, tmp_path: Path) -> None:
    shutil.copytree(lived.repository.path, tmp_path / "r")
    refit = gnomon.open(str(tmp_path / "r")).update(refit=True).refit
    assert refit == dict.fromkeys(lived.values, "asked for")


def test_a_variable_that_goes_as_a_whole(tmp_path: Path) -> None:
    values = noise(1)
    values[FIRST:] = np.nan
    repository = live_through(tmp_path, dataset(v=noise(), w=values)).repository
    for day in range(FIRST, LAST):
        repository.judge(f"2001-01-{day + 1:02d}", accept=True)
    repository.update()
    # What was not seen for long is less certain at the next capture than what was seen now.
    now, before = (predicted(repository, "w", shadow=shadow)[1] for shadow in (-1, 0))
    assert now.mean() > 1.1 * before.mean()
    assert (now > before).mean() > 0.8


GARBAGE: dict[str, Callable[[Forecast, slice, int], None]] = {
    "nothing finite": lambda f, cells, g: f.mean[:, cells].fill(np.inf),
    "error of nothing": lambda f, cells, g: f.standard_error[:, cells].fill(0.0),
    "negative error": lambda f, cells, g: f.standard_error[:, cells].fill(-1.0),
    "infinite error": lambda f, cells, g: f.standard_error[:, cells].fill(np.inf),
    "unknown error": lambda f, cells, g: f.standard_error[:, cells].fill(np.nan),
    "out of bounds": lambda f, cells, g: f.mean[:, cells].fill(1e6),
    "confidence above one": lambda f, cells, g: f.confidence[:, g : g + 1].fill(1.5),
    "unknown confidence": lambda f, cells, g: f.confidence[:, g : g + 1].fill(np.nan),
    "at one lead": lambda f, cells, g: f.standard_error[1:, cells].fill(0.0),
}
"""What a broken state may make of the prediction of one chunk, for each check."""


def spoil(
    patch: pytest.MonkeyPatch, garbage: Callable[[Forecast, slice, int], None], *chunks: int
) -> None:
    """Let the predictions of some chunks, by their place in the group, be garbage."""
    sound = materialize.predict  # type: ignore[attr-defined]

    def broken(spec: Any, state: Any, outlook: Any, times_s: Any) -> Forecast:
        made = sound(spec, state, outlook, times_s)
        for chunk in chunks:
            cells = slice(int(state.starts[chunk]), int(state.starts[chunk + 1]))
            garbage(made, cells, chunk)
        return made

    patch.setattr(materialize, "predict", broken)


@pytest.fixture(scope="module")
def backfilled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, xr.Dataset]:
    """A repository that knows its source by a relative path, so that a copy finds its own."""
    folder = tmp_path_factory.mktemp("backfilled")
    data = dataset(v=np.clip(noise(), 0, 10))
    data.v.attrs |= {"valid_min": np.float32(0), "valid_max": np.float32(10)}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("gnomon.creation.source_path", str)
        sources.write("source.zarr", data, 0, FIRST)
        gnomon.create(str(folder / "r"), "source.zarr", chunks=CHUNKS, leads=2).backfill()
    return folder, data


@pytest.fixture
def bounded(
    backfilled: tuple[Path, xr.Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[GnomonRepository, xr.Dataset]:
    folder, data = backfilled
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return gnomon.open(str(tmp_path / "r")), data


@pytest.mark.parametrize("kind", GARBAGE)
def test_one_bad_chunk_never_stops_the_others(
    kind: str, bounded: tuple[GnomonRepository, xr.Dataset], tmp_path: Path
) -> None:
    repository, data = bounded
    sources.write(tmp_path / "source.zarr", data, FIRST, FIRST + 1)
    with pytest.MonkeyPatch.context() as patch:
        spoil(patch, GARBAGE[kind], 1)
        report = repository.update()
    assert len(report.captured) == 1
    assert (report.withheld, report.unpredicted) == ({"v": ["0/1"]}, {"v": 16})
    assert {f["chunk"] for f in report.findings} == {"0/1"}
    assert report.due is not None
    assert (report.due["lead"], report.due["reason"]) == (
        1,
        "a check refused the prediction of 1 chunk",
    )
    for lead in (1, 2):
        mean, error = predicted(repository, lead=lead)
        assert np.isfinite(mean[:, :4]).all()
        assert np.isnan(mean[:, 4:]).all()
        assert np.isnan(error[:, 4:]).all()
    score = repository.stored.shadow("v", repository.stored.shadows[-1]).scores()
    assert np.isnan(score[:, 0, 1, 2:]).all()
    assert np.isfinite(score[:, 0, 0, 2:]).all()
    assert repository.check(read_data=True).problems == ()
    found = repository.status()["variables"]["v"]
    assert (found["withheld"], found["unpredicted"]) == (["0/1"], 16)
    # The chunk is learnt anew, and is back with the next capture.
    sources.write(tmp_path / "source.zarr", data, FIRST + 1, FIRST + 2)
    after = repository.update()
    assert (after.withheld, after.unpredicted, after.refit) == ({}, {}, {})
    assert np.isfinite(predicted(repository)[0]).all()


def test_nothing_is_claimed_of_a_variable_that_is_withheld(tmp_path: Path) -> None:
    source = tmp_path / "source.zarr"
    sources.write(source, dataset(v=noise(), w=1000 + noise(1)), 0, FIRST)
    repository = gnomon.create(str(tmp_path / "r"), str(source), chunks=CHUNKS, leads=2)
    with pytest.MonkeyPatch.context() as patch:
        spoil(
            patch,
            lambda f, cells, g: (
                f.standard_error[:, cells].fill(0.0) if f.mean[0, cells].min() > 500 else None
            ),
            0,
            1,
        )
        report = repository.backfill()
    assert report.withheld == {"w": ["0/0", "0/1"]}
    summary = repository.stored.shadows[-1].variables
    assert summary["w"].confidence == summary["w"].expected_rmse == (None, None)
    point = repository.points("2001-01-25")[0]
    assert point.kind == "forecast"
    assert point.expected_error["w"] is None
    assert point.expected_error["v"] == pytest.approx(summary["v"].expected_rmse[0])
    assert point.confidence == pytest.approx(summary["v"].confidence[0])
    restored = repository.dataset("2001-01-25", accept_predicted=True)
    assert (restored.w_provenance == PROVENANCE["missing"]).all()
    assert repository.status()["variables"]["w"]["confidence"] == [None, None]
    assert repository.update(refit=True).withheld == {}


def test_the_others_are_as_if_nothing_had_been(
    bounded: tuple[GnomonRepository, xr.Dataset], tmp_path: Path
) -> None:
    repository, _ = bounded
    before = predicted(repository)
    with pytest.MonkeyPatch.context() as patch:
        spoil(patch, GARBAGE["negative error"], 1)
        repository.update(refit=True)
    after = predicted(repository)
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old[:, :4], new[:, :4])


@pytest.mark.parametrize("number", [np.nan, 1e300, -1.0])
def test_a_bad_state_is_learnt_anew(
    number: float, bounded: tuple[GnomonRepository, xr.Dataset], tmp_path: Path
) -> None:
    """Not the prediction, but what it is made from, is garbage."""
    from gnomon.tasks.learning import learn as forecast

    repository, data = bounded
    sound = forecast.pack  # type: ignore[attr-defined]

    def broken(spec: Any, state: Any) -> tuple[Array, Array]:
        cells, shared = sound(spec, state)
        cells[:, state.starts[1] : state.starts[2]] = number
        return cells, shared

    sources.write(tmp_path / "source.zarr", data, FIRST, FIRST + 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forecast, "pack", broken)
        report = repository.update(refit=True)
    assert report.unpredicted == {"v": 16}
    assert np.isfinite(predicted(repository)[0][:, :4]).all()
    sources.write(tmp_path / "source.zarr", data, FIRST + 1, FIRST + 2)
    after = repository.update()
    assert (after.withheld, after.unpredicted) == ({}, {})
    mean, error = predicted(repository)
    assert np.abs(mean - data.v.values[FIRST + 1]).max() < 5
    assert error.max() < 5


def test_nothing_usable_is_refused_and_the_capture_kept(
    bounded: tuple[GnomonRepository, xr.Dataset],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    repository, data = bounded
    sources.write(tmp_path / "source.zarr", data, FIRST, FIRST + 1)
    with pytest.MonkeyPatch.context() as patch:
        spoil(patch, GARBAGE["negative error"], 0, 1)
        with pytest.raises(InvalidInput, match=r"no chunk could be predicted.*--refit"):
            repository.update()
        code, _, told = run(capsys, "update", repository.path)
    assert code == 2
    assert len(told.strip().splitlines()) == 1
    opened = gnomon.open(repository.path)
    assert opened.status()["captures"] == FIRST + 1
    assert len(opened.stored.shadows) == 1
    assert opened.check(read_data=True).problems == ()
    assert opened.update().withheld == {}
    assert len(opened.stored.shadows) == 2


def test_people_are_told(
    bounded: tuple[GnomonRepository, xr.Dataset],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    repository, _ = bounded
    with pytest.MonkeyPatch.context() as patch:
        spoil(patch, GARBAGE["negative error"], 1)
        _, out, _ = run(capsys, "update", repository.path, "--refit")
    assert "left out of the shadow of v" in out
    assert "(0/1)" in out
    assert "cells of v that have a value and are not predicted: 16" in out
    assert "critical: prediction of v" in out
    _, out, _ = run(capsys, "status", repository.path)
    assert "left out of the shadow of v" in out
    _, out, _ = run(capsys, "status", repository.path, "--json")
    assert strict(out)["variables"]["v"]["withheld"] == ["0/1"]
