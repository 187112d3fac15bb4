"""States between captures, before the first and after the last, through the public API."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import gnomon
from gnomon.repository import GnomonRepository
from gnomon.storage.errors import InvalidInput, NotFound
from gnomon.storage.serve.planes import EstimatedChunk
from gnomon.storage.stacks.captures import CaptureStack
from gnomon.storage.values.grid import Index
from gnomon.tasks.restoring.between import Between
from tests import sources
from tests.cases import HISTORY, Case

GAP = slice(12, 15)
"""Days that were never captured."""


@pytest.fixture(scope="module")
def gappy(tmp_path_factory: pytest.TempPathFactory) -> tuple[GnomonRepository, xr.Dataset]:
    folder = tmp_path_factory.mktemp("gappy")
    data = sources.temperature(30)
    kept = np.delete(np.arange(30), np.arange(GAP.start, GAP.stop))
    sources.write(folder / "s.zarr", data.isel(time=kept))
    chunks = {"lat": 4, "lon": 4}
    repository = gnomon.create(str(folder / "r"), str(folder / "s.zarr"), chunks=chunks)
    repository.update()
    return repository, data


def test_a_gap_in_a_backfill_is_interpolated(
    gappy: tuple[GnomonRepository, xr.Dataset], tmp_path: Path
) -> None:
    """No shadow was ever made of it."""
    repository, data = gappy
    best, last = repository.points("2001-01-14")
    assert (best.kind, best.predicted, best.integrity) == ("interpolated", True, "not read")
    assert best.sides == ("2001-01-12T00:00:00", "2001-01-16T00:00:00")
    assert best.age_s == 2 * 86400
    assert last.kind == "last_capture"
    assert best.expected_error["sst"] is not None
    assert 0.1 < best.expected_error["sst"] < 2
    assert "both sides" in best.reason
    shown = repository.dataset("2001-01-14", accept_predicted=True).load()
    truth = data.sst.values[13]
    sea = np.isfinite(truth)
    flags = shown.sst_provenance.values[0]
    assert set(flags[sea]) == {2}
    assert set(flags[~sea]) == {5}
    assert np.isnan(shown.sst.values[0][~sea]).all()
    error, stated = shown.sst.values[0] - truth, shown.sst_standard_error.values[0]
    assert np.mean(np.abs(error[sea]) <= 1.645 * stated[sea]) > 0.7
    assert shown.attrs["gnomon_method"] == "interpolated"
    done = repository.restore("2001-01-14", tmp_path / "o.zarr", accept_predicted=True)
    assert "interpolated state of 2001-01-14" in str(done)
    with xr.open_zarr(tmp_path / "o.zarr", consolidated=False) as restored:
        np.testing.assert_array_equal(restored.sst.values, shown.sst.values)
        np.testing.assert_array_equal(restored.sst_provenance.values[0], flags)


def test_chunks_are_estimated_when_they_are_read(
    gappy: tuple[GnomonRepository, xr.Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    repository, _ = gappy
    read: list[Index] = []
    chunk = Between.chunk

    def noted(self: Between, captures: CaptureStack, index: Index) -> EstimatedChunk:
        read.append(index)
        return chunk(self, captures, index)

    monkeypatch.setattr(Between, "chunk", noted)
    shown = repository.dataset("2001-01-14", accept_predicted=True)
    assert not read
    part = shown.isel(lat=slice(0, 4), lon=slice(0, 4)).load()
    assert read == [(0, 0)]
    store = repository.reading_store("2001-01-14", accept_predicted=True)
    again = xr.open_zarr(pickle.loads(pickle.dumps(store)), consolidated=False)
    np.testing.assert_array_equal(part.sst.values, again.sst.values[:, :4, :4])


@pytest.mark.parametrize(
    ("at", "kinds", "flags"),
    [
        ("2001-01-10T06:00", {"interpolated"}, {2}),
        ("2001-01-30T12:00", {"forecast"}, {3}),
        ("2001-02-02T12:00", {"forecast"}, {3}),
        ("2001-02-20", {"forecast", "climatology"}, {3, 4}),
        ("2000-12-25", {"climatology"}, {4}),
    ],
)
def test_any_time_near_the_record_has_an_estimate(
    gappy: tuple[GnomonRepository, xr.Dataset], at: str, kinds: set[str], flags: set[int]
) -> None:
    repository, data = gappy
    best = repository.explain(at)
    assert best.kind in kinds
    shown = repository.dataset(at, accept_predicted=True).load()
    sea = np.isfinite(data.sst.values[0])
    assert set(shown.sst_provenance.values[0][sea]) <= flags
    assert np.isfinite(shown.sst.values[0][sea]).all()
    assert (shown.sst_standard_error.values[0][sea] > 0).all()
    assert str(shown.time.values[0]).startswith(at)


def test_errors_grow_from_a_capture_to_the_next_and_beyond_the_leads(
    gappy: tuple[GnomonRepository, xr.Dataset],
) -> None:
    repository, data = gappy

    def stated(at: str) -> float:
        shown = repository.dataset(at, accept_predicted=True).load()
        return float(np.sqrt(np.nanmean(shown.sst_standard_error.values**2)))

    near, middle = stated("2001-01-10T02:00"), stated("2001-01-10T12:00")
    assert near < middle < stated("2001-01-14")
    spread = float(np.sqrt(np.nanmean(np.var(data.sst.values, axis=0))))
    assert 0.6 * spread < stated("2001-02-20") < 2.5 * spread


def test_what_is_too_far_is_refused(gappy: tuple[GnomonRepository, xr.Dataset]) -> None:
    repository, _ = gappy
    for at in ("2001-04-01", "2000-10-01"):
        with pytest.raises(NotFound, match="too far from all captures"):
            repository.points(at)
    with pytest.raises(NotFound, match=r"take an estimate of 2001-01-14T00.* --accept-predicted"):
        repository.dataset("2001-01-14")


def test_without_a_forecaster_nothing_is_estimated(tmp_path: Path) -> None:
    sources.write(tmp_path / "s.zarr", sources.temperature(2))
    repository = gnomon.create(str(tmp_path / "r"), str(tmp_path / "s.zarr"))
    repository.update()
    with pytest.raises(NotFound, match="there is no state"):
        repository.points("2001-01-01T12:00")


def test_suspect_captures_of_a_backfill_are_healed_from_both_sides(grown: Case) -> None:
    """There is no forecast of their time, but there are captures before and after."""
    repository = grown.open()
    repository.judge("2001-01-11", accept=False)
    repository = grown.open()
    by_kind = {p.kind: p for p in repository.points("2001-01-11")}
    assert {"healed", "suspect"} <= set(by_kind)
    healed = by_kind["healed"]
    assert healed.expected_error["sst"] is not None
    assert "the captures before and after" in str(healed)
    assert any("suspect" in text for text in healed.anomalies)
    shown = repository.dataset("2001-01-11", accept_predicted=True).load()
    truth = grown.data.sst.values[10]
    sea = np.isfinite(truth)
    assert set(shown.sst_provenance.values[0][sea]) == {2}
    assert np.sqrt(np.mean((shown.sst.values[0] - truth)[sea] ** 2)) < 1.5


def test_all_points_are_listed_newest_first(grown: Case) -> None:
    listed = grown.open().points()
    assert len(listed) == HISTORY + 6
    times = [p.instant for p in listed]
    assert times == sorted(times, reverse=True)
    assert [p.kind for p in listed] == ["forecast"] * 6 + ["captured"] * HISTORY


def test_points_are_verified_when_it_is_asked_for(grown: Case) -> None:
    repository = grown.open()
    assert {p.integrity for p in repository.points("2001-01-10", verify=True)} == {"verified"}
    stack = repository.stored.captures("sst")
    path = Path(str(repository.path)) / stack.file(9, (0, 0))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    best = grown.open().points("2001-01-10", verify=True)[0]
    assert best.integrity.startswith("bad: ")


def test_a_list_of_all_has_no_time_to_match(grown: Case) -> None:
    from gnomon.cli.points import points

    with pytest.raises(InvalidInput, match="name it with --at"):
        points(str(grown.place), None, nearest=True)
