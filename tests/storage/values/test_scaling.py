import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnomon.storage.values.scaling import Packing
from tests.storage.strategies import dtype_and_values


def packing(dtype: Any, **attributes: Any) -> Packing:
    return Packing(np.dtype(dtype), attributes)


@pytest.mark.parametrize("dtype", ["i1", "u1", "<i2", "<u2", "<i4", "<u4"])
@given(scale=st.sampled_from([1.0, 0.01, -0.5, 8.0]), offset=st.sampled_from([0.0, 273.15, -5.0]))
def test_packed_integers_survive_a_round_trip(dtype: Any, scale: Any, offset: Any) -> None:
    limits = np.iinfo(dtype)
    raw = np.linspace(limits.min, limits.max, 301).astype(dtype)
    kept = packing(dtype, scale_factor=scale, add_offset=offset)
    assert np.array_equal(kept.from_physical(kept.to_physical(raw)), raw)


@given(dtype_and_values())
def test_any_raw_values_have_a_physical_meaning(raw: Any) -> None:
    kept = packing(raw.dtype, scale_factor=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="overflow")
        found = kept.to_physical(raw)
    assert found.dtype == np.float64
    assert found.shape == raw.shape


def test_fill_values_are_missing_and_come_back() -> None:
    kept = packing("<i2", _FillValue=np.int16(-32768), missing_value=-1, scale_factor=0.1)
    raw = np.array([-32768, -1, 5], "<i2")
    assert np.isnan(kept.to_physical(raw)).tolist() == [True, True, False]
    assert kept.from_physical(np.array([np.nan, 0.5])).tolist() == [-32768, 5]


@pytest.mark.parametrize(
    ("dtype", "fill", "raw"),
    [
        ("u1", -9999, []),
        ("u1", np.float64(1e20), []),
        ("u1", 300, []),
        ("<i2", 0.5, []),
        ("i1", 255, [-1]),
        ("u1", np.int8(-1), [255]),
        ("<i2", -32768.0, [-32768]),
        ("<u8", 2**64 - 1, [2**64 - 1]),
        ("?", 255, []),
    ],
)
def test_what_no_raw_value_can_be_fills_nothing(dtype: Any, fill: Any, raw: list[int]) -> None:
    """Cast to the type it would be another value, which may be a good one."""
    assert packing(dtype, missing_value=fill).fills().tolist() == raw


def test_values_beyond_the_type_are_clipped() -> None:
    found = packing("u1").from_physical(np.array([-3.0, 300.0, 12.4, np.nan]))
    assert found.tolist() == [0, 255, 12, 0]
    big = packing("<i8").from_physical(np.array([1e30, -1e30, np.inf]))
    assert big[0] == big[2] > 2**62
    assert big[1] == -(2**63)


def test_a_nan_fill_of_integers_means_nothing() -> None:
    kept = packing("<i4", _FillValue=np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = kept.to_physical(np.array([0, -(2**31)], "<i4"))
    assert np.isfinite(found).all()


def test_unsigned_packing_reads_and_writes_the_upper_half() -> None:
    kept = packing("i1", _Unsigned="true", scale_factor=1.0, _FillValue=np.int8(-1))
    raw = np.array([0, 127, -128, -2, -1], "i1")
    assert kept.to_physical(raw)[:4].tolist() == [0, 127, 128, 254]
    assert np.isnan(kept.to_physical(raw)[4])
    assert kept.from_physical(kept.to_physical(raw)).tobytes() == raw.tobytes()


def test_bounds_of_unsigned_values_may_be_told_with_a_sign() -> None:
    for bounds in (np.array([0, -2], "i1"), [0, 254]):
        assert packing("i1", _Unsigned="true", valid_range=bounds).bounds() == (0.0, 254.0)


def test_scalars_are_arrays_of_no_dimensions() -> None:
    kept = packing("<i2", scale_factor=0.1, _FillValue=7)
    assert np.isnan(kept.to_physical(np.array(7, "<i2")))
    assert kept.from_physical(np.array(0.5)).shape == ()


@pytest.mark.parametrize(
    ("attributes", "bounds"),
    [
        ({}, (None, None)),
        ({"valid_min": 0}, (0.0, None)),
        ({"valid_range": np.array([0, 100], "<i2"), "scale_factor": 0.1}, (0.0, 10.0)),
        ({"valid_range": [0, 100], "scale_factor": -1.0}, (-100.0, 0.0)),
        ({"valid_max": 5, "scale_factor": -2.0}, (-10.0, None)),
        ({"valid_range": [1]}, (1.0, None)),
        ({"valid_min": "none known"}, (None, None)),
        ({"flag_values": np.array([3, 0, 1], "<i2")}, (0.0, 3.0)),
        ({"flag_values": np.array([0, 1], "<i2"), "valid_max": 9}, (None, 9.0)),
        ({"flag_values": np.array([1, 2], "<i2"), "flag_masks": [1, 2]}, (None, None)),
        ({"flag_values": "0b, 1b"}, (None, None)),
    ],
)
def test_bounds(attributes: Any, bounds: Any) -> None:
    assert packing("<i2", **attributes).bounds() == pytest.approx(bounds)


def test_booleans_are_between_0_and_1() -> None:
    kept = packing("?")
    assert kept.bounds() == (0.0, 1.0)
    assert kept.from_physical(np.array([0.2, 0.7, np.nan])).tolist() == [False, True, False]


@pytest.mark.parametrize("fill", [False, True])
def test_the_fill_value_of_a_boolean_is_a_value(fill: bool) -> None:
    """It is what Zarr of format 2 reads where nothing was written."""
    flags = packing("?", _FillValue=np.bool_(fill))
    raw = np.array([False, True])
    assert flags.fills().size == 0
    np.testing.assert_array_equal(flags.to_physical(raw), [0.0, 1.0])
