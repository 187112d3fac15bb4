"""Stores that are laid out ahead and filled step by step: empty is not data."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import gnomon
from gnomon.storage.source.opening import open_source
from gnomon.tasks.capturing.presence import choose
from tests.storage.building import make_repository

UNITS = "hours since 2024-03-01"


def field(number: int) -> NDArray[np.float32]:
    noise = np.random.default_rng(number).standard_normal((4, 6))
    return np.asarray(10 + np.cos(number / 4) + 0.1 * noise, "f4")


def lay_out(
    path: Path, count: int, filled: Sequence[int], form: str = "zarr", *, steps: int = 1
) -> None:
    """Write all times and the fields of some steps; of the others missing values.

    ``bare`` stores no chunk of a step without values, ``zarr`` one of missing values.
    """
    values = np.full((count, 4, 6), np.nan, "f4")
    for k in filled:
        values[k] = field(k)
    dataset = xr.Dataset(
        {"t": (("time", "y", "x"), values, {"units": "K"})},
        coords={"time": ("time", np.arange(count), {"units": UNITS})},
    )
    if form == "netcdf":
        dataset.to_netcdf(path)
        return
    dataset.to_zarr(
        path,
        mode="w",
        zarr_format=2,
        encoding={"t": {"chunks": (steps, 4, 3), "_FillValue": np.float32(np.nan)}},
        write_empty_chunks=form == "zarr",
    )


def hours(repository: gnomon.GnomonRepository) -> list[int]:
    history = repository.history(decode=False).load()
    for hour, values in zip(history.time.values, history.t.values, strict=True):
        np.testing.assert_array_equal(values, field(int(hour)))
    return [int(h) for h in history.time.values]


FORMS = pytest.mark.parametrize("form", ["zarr", "bare", "netcdf"])


@FORMS
def test_steps_are_captured_as_they_are_filled(tmp_path: Path, form: str) -> None:
    source = tmp_path / "source"
    lay_out(source, 60, range(20), form)
    repository = gnomon.create(str(tmp_path / "r"), str(source))
    report = repository.update()
    assert (len(report.captured), report.suspect_chunks) == (20, 0)
    assert report.waiting == {
        "count": 40,
        "first": "2024-03-01T20:00:00",
        "last": "2024-03-03T11:00:00",
    }
    assert repository.status()["shadow"][0] == "2024-03-01T20:00:00"
    assert repository.update().captured == []
    for last in (20, 21, 23):
        lay_out(source, 60, range(last + 1), form)
        assert repository.update().suspect_chunks == 0
        assert hours(repository) == [*range(last + 1)]
    assert repository.anomalies() == []


@FORMS
def test_what_is_filled_out_of_order_comes_late_and_is_no_revision(
    tmp_path: Path, form: str
) -> None:
    source = tmp_path / "source"
    lay_out(source, 30, [*range(10), 13, 14], form)
    repository = gnomon.create(str(tmp_path / "r"), str(source))
    assert repository.update().waiting is not None
    assert hours(repository) == [*range(10), 13, 14]
    lay_out(source, 30, range(15), form)
    report = repository.update()
    assert (len(report.captured), report.late, report.revised) == (3, 3, 0)
    assert hours(repository) == [*range(15)]


@settings(
    max_examples=8, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
@given(st.data())
def test_all_that_is_filled_is_captured_in_the_end(data: st.DataObject) -> None:
    """In whatever order, with whatever chunks along time, and nothing that is not there."""
    form = data.draw(st.sampled_from(["zarr", "bare"]))
    steps = data.draw(st.sampled_from([1, 5]))
    order = data.draw(st.permutations(range(3, 12)))
    with TemporaryDirectory() as folder:
        source = Path(folder, "s.zarr")
        filled = [0, 1, 2]
        lay_out(source, 12, filled, form, steps=steps)
        repository = gnomon.create(str(Path(folder, "r")), str(source))
        repository.update()
        while order:
            count = data.draw(st.integers(1, len(order)))
            filled, order = [*filled, *order[:count]], order[count:]
            lay_out(source, 12, filled, form, steps=steps)
            repository.update()
            assert hours(repository) == sorted(filled)
        assert [c["revises"] for c in repository.captures()] == [None] * 12


def test_a_store_that_is_laid_out_far_ahead_is_not_read_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gnomon.tasks.capturing import presence

    looked_at: list[int] = []
    look = presence.has_values

    def count(dataset: object, found: object, positions: NDArray[np.intp]) -> NDArray[np.bool_]:
        looked_at.append(positions.size)
        return look(dataset, found, positions)  # type: ignore[arg-type]

    monkeypatch.setattr(presence, "has_values", count)
    source = tmp_path / "s.zarr"
    lay_out(source, 5000, range(10), "bare")
    repository = gnomon.create(str(tmp_path / "r"), str(source))
    assert len(repository.update().captured) == 10
    assert repository.update().captured == []
    assert sum(looked_at) < 50
    looked_at.clear()
    lay_out(source, 3000, range(10), "zarr")  # nothing but reading tells that they are missing
    assert repository.update().captured == []
    assert sum(looked_at) < 700


def test_a_state_that_was_captured_in_part_is_completed(tmp_path: Path) -> None:
    source = tmp_path / "s.zarr"
    lay_out(source, 12, range(12))
    repository = gnomon.create(str(tmp_path / "r"), str(source), chunks={"x": 3})
    repository.update()
    values = np.stack([field(k) for k in range(13)])
    values[12, :, 3:] = np.nan  # one of two chunks, and some cells of the other
    values[12, 0, 0] = np.nan
    times = ("time", np.arange(13), {"units": UNITS})
    part = xr.Dataset({"t": (("time", "y", "x"), values, {"units": "K"})}, coords={"time": times})
    part.to_zarr(source, mode="w", zarr_format=2)
    report = repository.update()
    assert report.incomplete == ["2024-03-01T12:00:00"]
    (best, *_) = repository.points("2024-03-01T12")
    assert best.kind == "healed"
    lay_out(source, 13, range(13))
    report = repository.update()
    assert (report.revised, report.suspect_chunks, report.incomplete) == (1, 0, [])
    assert [i for i in report.incidents if i["severity"] == "critical"] == []
    assert hours(repository) == [*range(13)]
    assert not any(a["open"] for a in repository.anomalies())
    assert repository.update().captured == []


@FORMS
def test_a_source_without_any_value_is_waited_for(tmp_path: Path, form: str) -> None:
    source = tmp_path / "source"
    lay_out(source, 9, [], form)
    repository = gnomon.create(str(tmp_path / "r"), str(source))
    report = repository.update()
    assert (report.captured, report.waiting and report.waiting["count"]) == ([], 9)
    lay_out(source, 9, [1, 2], form)
    assert len(repository.update().captured) == 2
    assert hours(repository) == [1, 2]


def test_a_store_that_is_filled_somewhere_is_no_empty_one(tmp_path: Path) -> None:
    lay_out(tmp_path / "s.zarr", 900, [301, 302], "bare")
    repository = gnomon.create(str(tmp_path / "r"), str(tmp_path / "s.zarr"))
    repository.update()
    assert hours(repository) == [301, 302]


def test_what_is_drawn_by_lot_is_no_more_than_one_commit_takes(tmp_path: Path) -> None:
    filled = range(20, 32)
    lay_out(tmp_path / "s.nc", 40, filled, "netcdf")
    known = make_repository(tmp_path / "r", tmp_path / "s.nc").settings
    with open_source(known.source) as dataset:
        chosen = choose(dataset, known, np.arange(40), 3, np.random.default_rng(0))
        assert len(chosen.taken) == 3
        assert set(chosen.taken.tolist()) <= set(filled)
        assert sorted(chosen.empty.tolist()) == [k for k in range(40) if k not in filled]
        assert chosen.left == len(filled) - 3


def laid_out_in_zeros(path: Path, count: int, steps: int, dtype: str) -> zarr.Array[Any]:
    """Lay out an array as zarr does by default: what was never written reads as 0."""
    group = zarr.open_group(path, mode="w", zarr_format=3)
    time = group.create_array(
        "time", shape=(count,), dtype="i4", dimension_names=("time",), attributes={"units": UNITS}
    )
    time[:] = np.arange(count, dtype="i4")
    return group.create_array(
        "t",
        shape=(count, 4, 6),
        chunks=(steps, 4, 3),
        dtype=dtype,
        fill_value=0,
        dimension_names=("time", "y", "x"),
        attributes={"units": "K"},
    )


def coarse(number: int, dtype: str) -> NDArray[np.generic]:
    return np.asarray(100 * field(number), dtype)


@pytest.mark.parametrize("dtype", ["f4", "i2"])
@pytest.mark.parametrize("steps", [1, 4])
def test_what_was_never_written_is_no_zero(tmp_path: Path, steps: int, dtype: str) -> None:
    source = tmp_path / "s.zarr"
    array = laid_out_in_zeros(source, 30, steps, dtype)
    for k in range(10):
        array[k] = coarse(k, dtype)
    repository = gnomon.create(str(tmp_path / "r"), str(source))
    report = repository.update()
    assert len(report.captured) == 10
    assert report.waiting is not None
    assert report.waiting["count"] == 20
    array[10] = coarse(10, dtype)
    assert repository.update().captured == ["2024-03-01T10:00:00"]
    # Zeros between steps with values may be data, and may be not: they are kept, and doubted.
    array[15] = coarse(15, dtype)
    report = repository.update()
    assert (len(report.captured), report.suspect_chunks) == (5, 8)
    trusted = [c["valid_time"][11:13] for c in repository.captures() if not c["suspect_chunks"]]
    assert trusted == [f"{k:02}" for k in (*range(11), 15)]
    for k in range(11, 15):
        array[k] = coarse(k, dtype)
    assert repository.update().suspect_chunks == 0
    history = repository.history(decode=False).load()
    for k, values in enumerate(history.t.values):
        np.testing.assert_array_equal(values, coarse(k, dtype))
