"""Comparing two captures: what differs in any bit, by how much, and where."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from numpy.typing import NDArray

from gnomon.storage.care.forget import forget
from gnomon.storage.errors import InvalidInput
from gnomon.storage.repository import Repository
from gnomon.tasks.comparing.compare import Difference, compare
from tests.storage.building import WHEN, captured, weather, write_zarr


def states(
    folder: Path, first: NDArray[Any], second: NDArray[Any], **attributes: Any
) -> Repository:
    """Capture two states (y, x) of one variable, in chunks of 2 x 3."""
    data = xr.Dataset(
        {"v": (("time", "y", "x"), np.stack([first, second]), attributes)},
        coords={"time": weather(2)["time"]},
    )
    # Without a number the source could not be protected at all.
    data["level"] = ("time", np.zeros(2, np.float32))
    source = write_zarr(data, folder / "s.zarr")
    return captured(folder / "r", source, chunks={"y": 2, "x": 3})


def difference(repository: Repository, first: int = 0, second: int = 1) -> Difference:
    return {d.variable: d for d in compare(repository, first, second)}["v"]


def test_numbers_by_hand(tmp_path: Path) -> None:
    first = np.zeros((4, 6), np.float32)
    second = first.copy()
    second[1, 2], second[1, 3], second[3, 5] = 2.0, -5.0, 0.5
    first[0, 0] = second[0, 1] = np.nan
    repository = states(tmp_path, first, second, units="m s-1")
    found = difference(repository)
    assert found == Difference(
        variable="v",
        units="m s-1",
        chunks=4,
        changed_chunks=("0/0", "0/1", "1/1"),
        cells=24,
        changed_cells=5,
        missing=1,
        appeared=1,
        mean=(2.0 - 5.0 + 0.5) / 3,
        maximum=5.0,
        where={"y": (0, 3), "x": (0, 5)},
        peak={"y": 1, "x": 3},
    )
    back = difference(repository, 1, 0)
    assert (back.mean, back.maximum, back.missing) == (2.5 / 3, 5.0, 1)
    assert found.to_json()["changed_chunks"] == ("0/0", "0/1", "1/1")


def test_nothing_differs(tmp_path: Path) -> None:
    same = np.full((4, 6), np.nan, np.float32)
    found = difference(states(tmp_path, same, same))
    assert (found.changed_chunks, found.changed_cells, found.where) == ((), 0, {})
    assert (found.mean, found.maximum) == (None, None)


def test_bits_that_mean_the_same_number_differ(tmp_path: Path) -> None:
    first = np.zeros((4, 6))
    second = first.copy()
    first[2, 4] = np.nan
    second[2, 4:5].view("u8")[...] = 0x7FF8000000000001  # a NaN that carries something
    second[3, 3] = -0.0
    found = difference(states(tmp_path, first, second))
    assert (found.changed_cells, found.changed_chunks) == (2, ("1/1",))
    assert (found.missing, found.appeared, found.mean, found.maximum) == (0, 0, 0.0, 0.0)
    assert found.where == {"y": (2, 3), "x": (3, 4)}


def test_infinity_is_no_number(tmp_path: Path) -> None:
    first = np.zeros((4, 6), np.float32)
    second = first.copy()
    second[0, 0], first[3, 3] = np.inf, -np.inf
    found = difference(states(tmp_path, first, second))
    assert (found.changed_cells, found.missing, found.appeared, found.mean) == (2, 1, 1, None)


def test_packed_values_are_compared_in_units(tmp_path: Path) -> None:
    first = np.full((4, 6), 100, np.int16)
    second = first.copy()
    second[0, 0], second[0, 1], first[1, 1] = 150, -32768, -32768
    packing = {"scale_factor": 0.02, "add_offset": 1.0, "_FillValue": -32768, "units": "hPa"}
    found = difference(states(tmp_path, first, second, **packing))
    assert (found.changed_cells, found.missing, found.appeared, found.units) == (3, 1, 1, "hPa")
    assert found.mean == pytest.approx(1.0)
    assert found.maximum == pytest.approx(1.0)


def test_large_integers_do_not_wrap(tmp_path: Path) -> None:
    first = np.zeros((4, 6), np.uint64)
    second = first.copy()
    first[0, 0], second[0, 1] = 2**64 - 1, 2**63
    found = difference(states(tmp_path, first, second))
    assert (found.changed_cells, found.maximum) == (2, 2.0**64)
    assert found.mean == (2.0**63 - 2.0**64) / 2


def test_differences_beyond_all_numbers_are_left_out(tmp_path: Path) -> None:
    first = np.full((4, 6), -1e308)
    found = difference(states(tmp_path, first, -first))
    assert (found.changed_cells, found.mean, found.maximum) == (24, None, None)


def test_flags(tmp_path: Path) -> None:
    first = np.zeros((4, 6), bool)
    second = first.copy()
    second[0, :4] = True
    found = difference(states(tmp_path, first, second))
    assert (found.changed_cells, found.mean, found.maximum) == (4, 1.0, 1.0)
    assert found.where == {"y": (0, 0), "x": (0, 3)}


@pytest.mark.parametrize("kind", ["<U4", "|S4", "<c8", "|O"])
def test_what_has_no_order_has_no_mean(kind: str, tmp_path: Path) -> None:
    first = np.full((4, 6), "1", "|O").astype(kind)
    second = first.copy()
    second[2, 0] = second[2, 1] = "2"
    found = difference(states(tmp_path, first, second))
    assert (found.changed_cells, found.changed_chunks) == (2, ("1/0",))
    assert (found.missing, found.appeared, found.mean, found.maximum) == (0, 0, None, None)
    assert found.where == {"y": (2, 2), "x": (0, 1)}


def test_only_what_differs_is_read(tmp_path: Path) -> None:
    source = write_zarr(weather(3)[["t", "wet"]], tmp_path / "s.zarr")
    repository = captured(tmp_path / "r", source, chunks={"y": 3, "x": 10})
    (tmp_path / "r" / repository.captures("wet").file(0, (0, 0))).write_bytes(b"rubbish")
    found = {d.variable: d.changed_chunks for d in compare(repository, 0, 2)}
    assert found == {"t": ("0/0", "1/0"), "wet": ()}


def test_a_forgotten_capture_is_refused(tmp_path: Path) -> None:
    source = write_zarr(weather(3), tmp_path / "s.zarr")
    repository, _ = forget(captured(tmp_path / "r", source), captures=[1], committed_at=WHEN)
    for pair in ((0, 1), (1, 2)):
        with pytest.raises(InvalidInput, match="capture 1 was forgotten"):
            compare(repository, *pair)
    assert len(compare(repository, 0, 2)) == 3


def test_a_variable_without_dimensions_of_its_own(tmp_path: Path) -> None:
    series = xr.Dataset(
        {"level": ("time", np.array([1.0, 4.0, 4.0], np.float32), {"units": "m"})},
        coords={"time": weather(3)["time"]},
    )
    repository = captured(tmp_path / "r", write_zarr(series, tmp_path / "s.zarr"))
    (found,) = compare(repository, 0, 1)
    assert (found.changed_cells, found.mean, found.maximum, found.where) == (1, 3.0, 3.0, {})
    assert compare(repository, 1, 2)[0].changed_chunks == ()


def test_missing_times_that_stay_missing_are_no_change(tmp_path: Path) -> None:
    source = write_zarr(weather(2)[["t"]], tmp_path / "s.zarr")
    seen = np.array([["NaT", 1], ["NaT", 2]], "<M8[ns]")
    array = zarr.open_group(source, mode="r+").create_array(
        "seen", shape=seen.shape, dtype=seen.dtype, dimension_names=("time", "station")
    )
    array[...] = seen
    found = {d.variable: d for d in compare(captured(tmp_path / "r", source), 0, 1)}["seen"]
    assert (found.changed_cells, found.where) == (1, {"station": (1, 1)})
