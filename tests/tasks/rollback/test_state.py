"""Rollbacks of a source that is overwritten in place."""

from pathlib import Path

import numpy as np
import zarr

import gnomon
from tests import sources

DAYS = 8
DATA = sources.temperature(DAYS + 4, seed=3)
CHUNK = (slice(0, 4), slice(0, 4))


def put(source: Path, day: int) -> None:
    """Overwrite the source with the state of a day, chunk by chunk."""
    array = zarr.open_array(source / "sst", mode="r+")
    array[...] = DATA.sst.values[day]


def date(day: int) -> str:
    return f"2001-01-{day + 1:02d}"


def test_estimates_are_suspect_in_every_capture_until_the_source_writes_there(
    tmp_path: Path,
) -> None:
    source = tmp_path / "source.zarr"
    state = DATA[["sst"]].isel(time=0, drop=True)
    sources.overwrite(source, state.chunk(lat=4, lon=4))
    opened = gnomon.create(str(tmp_path / "r"), str(source), leads=3)
    for day in range(DAYS):
        put(source, day)
        opened.update(date(day))
    put(source, DAYS)
    array = zarr.open_array(source / "sst", mode="r+")
    opened.update(date(DAYS))
    planned = opened.plan_rollback(date(DAYS), kind="forecast")
    assert (planned.chunks, planned.spared) == ((), 5)  # a forecast never replaces values
    array[CHUNK] = np.nan
    opened.rollback(date(DAYS), kind="forecast", accept_predicted=True)
    estimate = np.asarray(array[CHUNK])
    # Everything moves on, but for the chunk that a rollback wrote.
    put(source, DAYS + 1)
    array[CHUNK] = estimate
    report = opened.update(date(DAYS + 1))
    assert [i["chunks"] for i in report.incidents] == [["0/0"]]
    assert "not_estimated" in report.incidents[0]["expectations"]
    put(source, DAYS + 2)
    assert opened.update(date(DAYS + 2)).suspect_chunks == 0


def test_an_old_state_comes_back_into_place_exactly(tmp_path: Path) -> None:
    source = tmp_path / "source.zarr"
    state = DATA[["sst"]].isel(time=0, drop=True)
    sources.overwrite(source, state.chunk(lat=4, lon=4))
    opened = gnomon.create(str(tmp_path / "r"), str(source), leads=3)
    for day in range(3):
        put(source, day)
        opened.update(date(day))
    files = sources.listing(source)
    opened.rollback(date(0))
    assert sources.bits(sources.raw(source).sst.values) == sources.bits(DATA.sst.values[0])
    opened.undo()
    assert sources.listing(source) == files
