"""States of every kind are compared with each other, and with the live source."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

import gnomon
from gnomon.repository import GnomonRepository
from gnomon.storage.errors import Integrity, InvalidInput, NotFound
from gnomon.storage.repository import Repository
from gnomon.tasks.comparing.compare import Difference
from tests.cases import DAMAGED, HISTORY, Case
from tests.storage.building import captured, weather, write_zarr

DAY = "2001-01-25"
CHUNKS = {"y": 3, "x": 5}


def difference(
    opened: GnomonRepository, first: int | str, second: int | str, name: str = "sst"
) -> Difference:
    return {d.variable: d for d in opened.diff(first, second)}[name]


def live(tmp_path: Path) -> tuple[GnomonRepository, Path]:
    """Return a repository of four states, and its source in the same chunks."""
    encoding = {name: {"chunks": (1, 3, 5)} for name in ("t", "p", "wet")}
    source = write_zarr(weather(4), tmp_path / "source.zarr", encoding=encoding)
    return GnomonRepository(captured(tmp_path / "r", source, chunks=CHUNKS)), source


def served(opened: GnomonRepository, kind: str) -> xr.Dataset:
    given = opened.dataset(DAY, kind=kind, accept_predicted=True, marks=True)
    return given.squeeze("time").load()


def test_a_forecast_is_compared_as_numbers_and_with_its_error(damaged: Case) -> None:
    opened = damaged.open()
    found = difference(opened, f"{DAY}@forecast", HISTORY)
    forecast, capture = served(opened, "forecast"), served(opened, "suspect")
    change = capture.sst.values.astype("f8") - forecast.sst.values.astype("f8")
    there = np.isfinite(change)
    assert (found.changed_cells, found.missing, found.appeared) == (there.sum(), 0, 0)
    assert found.mean == pytest.approx(change[there].mean(), abs=1e-4)
    assert found.maximum == pytest.approx(np.abs(change[there]).max(), abs=1e-3)
    error = forecast.sst_standard_error.values
    beyond = np.abs(change)[there] > 2 * error[there]
    assert (found.estimated, found.beyond) == (there.sum(), beyond.sum())
    assert 16 <= beyond.sum() < there.sum()  # the damaged chunk, and few others
    row, column = np.unravel_index(np.nanargmax(np.abs(change)), change.shape)
    assert found.peak == {"lat": row, "lon": column}
    back = difference(opened, HISTORY, f"{DAY}@forecast")
    assert (back.mean, back.beyond) == (-(found.mean or 0.0), found.beyond)


def test_an_estimate_is_the_same_as_itself_where_it_has_no_value_too(grown: Case) -> None:
    found = difference(grown.open(), f"{DAY}@forecast", f"{DAY}@forecast")
    assert (found.changed_cells, found.changed_chunks, found.missing) == (0, (), 0)
    assert (found.beyond, found.estimated > 0) == (0, True)


def test_of_a_healed_state_only_what_is_estimated_differs(damaged: Case) -> None:
    opened = damaged.open()
    found = difference(opened, "latest@healed", "latest")
    assert found.changed_chunks == ("/".join(map(str, DAMAGED)),)
    assert (found.changed_cells, found.estimated, found.beyond) == (16, 16, 16)
    assert found.mean == pytest.approx(20, abs=2)
    # What is fixed or never estimated is compared by its bits.
    assert difference(opened, "latest@healed", "latest", "time_bnds").changed_cells == 0


def test_kinds_that_are_captures_are_compared_by_digest(damaged: Case) -> None:
    opened = damaged.open()
    assert opened.diff(f"{DAY}@last_capture", f"{DAY}@suspect") == opened.diff(23, 24)
    assert opened.diff(23, 24, variable="sst") == opened.diff(23, 24)[:1]


def test_a_change_of_the_live_source_is_found_in_both_directions(tmp_path: Path) -> None:
    opened, source = live(tmp_path)
    assert not any(d.changed_cells for d in opened.diff("live", 2))
    array = zarr.open_array(source / "t", mode="r+")
    array[2, 4, 7] = np.float32(array[2, 4, 7]) + np.float32(8)  # type: ignore[arg-type]
    found = difference(opened, 2, "live", "t")
    assert (found.changed_cells, found.changed_chunks) == (1, ("1/1",))
    assert found.mean == pytest.approx(8)
    assert found.where == {"y": (4, 4), "x": (7, 7)}
    assert difference(opened, "live", 2, "t").mean == pytest.approx(-8)
    assert difference(opened, 1, "live", "t").changed_cells == 0  # its own step of the source


def test_live_chunks_with_the_captured_digest_are_not_read_from_the_repository(
    tmp_path: Path,
) -> None:
    opened, source = live(tmp_path)
    stored = opened.stored.captures("t").file(0, (0, 0))
    (tmp_path / "r" / stored).write_bytes(b"rubbish")
    assert difference(opened, 0, "live", "t").changed_cells == 0
    array = zarr.open_array(source / "t", mode="r+")
    array[0, 0, 0] = 1e9
    with pytest.raises(Integrity):
        opened.diff(0, "live")


def test_an_unreadable_live_chunk_differs_and_stops_nothing(tmp_path: Path) -> None:
    opened, source = live(tmp_path)
    (source / "t" / "c" / "2" / "0" / "1").write_bytes(b"no chunk")
    zarr.open_array(source / "t", mode="r+")[2, 5, 9] = 1e9
    found = difference(opened, 2, "live", "t")
    assert found.unreadable == ("0/1",)
    assert found.changed_chunks == ("0/1", "1/1")
    assert found.changed_cells == 15 + 1
    values = weather(4).t.values[2, 0:3, 5:10]
    assert found.missing == np.isfinite(values).sum()
    assert difference(opened, 1, "live", "t").unreadable == ()


def test_a_state_source_is_compared_as_it_is_now(tmp_path: Path) -> None:
    source = tmp_path / "now.zarr"
    state = xr.Dataset({"t": (("y", "x"), np.zeros((6, 10), "f4"))})
    write_zarr(state, source)
    opened = gnomon.create(str(tmp_path / "r"), str(source), kind="state", chunks=CHUNKS)
    opened.update("2001-01-01")
    zarr.open_array(source / "t", mode="r+")[5, 1] = 3.0
    found = difference(opened, 0, "live", "t")
    assert (found.changed_cells, found.where) == (1, {"y": (5, 5), "x": (1, 1)})


@pytest.mark.parametrize(
    ("first", "second", "error", "told"),
    [
        ("live", "live", InvalidInput, "both are the live source"),
        ("2001-01-25@forekast", "0", InvalidInput, "no kind of restore point"),
        ("2001-01-25", "0", NotFound, "2001-01-25@forecast"),
        ("2001-01-25@healed", "0", NotFound, "no restore point of kind 'healed'"),
        ("2001-01-25@forecast", "live", NotFound, "no step of 2001-01-25"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    grown: Case, first: str, second: str, error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        grown.open().diff(first, second)


def test_a_variable_that_one_state_lacks_is_refused_by_name(grown: Case) -> None:
    with pytest.raises(NotFound, match=r"2001-01-25.* has no time_bnds"):
        grown.open().diff(0, f"{DAY}@forecast", variable="time_bnds")
    assert [d.variable for d in grown.open().diff(0, f"{DAY}@forecast")] == ["sst"]


def test_an_older_era_is_not_compared_with_the_live_source(tmp_path: Path) -> None:
    source = write_zarr(weather(3), tmp_path / "source.zarr")
    opened = gnomon.create(str(tmp_path / "r"), str(source))
    opened.backfill()
    write_zarr(weather(3).isel(y=slice(4)), source, mode="w")
    opened.update(new_era=True)
    older = Repository.open(str(tmp_path / "r")).in_era(0)
    assert len(older.timeline) == 3
    with pytest.raises((InvalidInput, NotFound)):
        GnomonRepository(older).diff(0, "live")
