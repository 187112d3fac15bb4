"""Meaning: spellings of units, numbers in another type, and what raw values stand for."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnomon.storage.log.readings import is_close
from gnomon.storage.values.meaning import (
    changed_meaning,
    converting,
    read_alike,
    reading,
    same_value,
)
from gnomon.storage.values.units import conversion, same_units

SAME = [
    ("degC", "celsius"),
    ("degC", "Degrees_Celsius"),
    ("°C", "degC"),
    ("K", "kelvin"),
    (" K ", "K"),
    ("m s-1", "m/s"),
    ("m s-1", "m.s-1"),
    ("m s-1", "m s**-1"),
    ("m s^-1", "meters per second"),
    ("s-1 m", "m s-1"),
    ("W m-2", "W/m^2"),
    ("kg m-2 s-1", "kg/m2/s"),
    ("hPa", "millibar"),
    ("%", "percent"),
    ("1", ""),
    ("degrees_north", "degree_N"),
    ("days since 2000-01-01", "Day  since 2000-01-01"),
    ("furlong per fortnight", "furlong  per  fortnight"),
]
OTHERS = [
    ("K", "degC"),
    ("hPa", "Pa"),
    ("mW", "MW"),
    ("mbar", "Mbar"),
    ("mmol", "Mmol"),
    ("10 mW", "10 MW"),
    ("m s-1", "m s-2"),
    ("m/s", "s/m"),
    ("m", "m2"),
    ("1", "%"),
    ("", "K"),
    ("1e-3", "1e-6"),
    ("days since 2000-01-01", "days since 1970-01-01"),
    ("days since 2000-01-01", "hours since 2000-01-01"),
]


@pytest.mark.parametrize(("first", "second"), SAME)
def test_spellings_of_one_unit(first: str, second: str) -> None:
    assert same_units(first, second)
    assert same_units(second, first)


@pytest.mark.parametrize(("first", "second"), OTHERS)
def test_units_that_are_not_the_same(first: str, second: str) -> None:
    assert not same_units(first, second)
    assert not same_units(second, first)


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_text_can_be_compared(first: str, second: str) -> None:
    assert same_units(first, first)
    assert same_units(first, second) == same_units(second, first)


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        (1, 1.0, True),
        (np.float32(0.01), 0.01, True),
        (0.01, 0.01 + 1e-12, False),
        (np.array([0, 1], "i1"), [0, 1], True),
        ([0, 1], [0, 1, 2], False),
        (np.nan, np.float32(np.nan), True),
        ("a  b", "a b", True),
        ("a", 1, False),
    ],
)
def test_values_are_compared_by_what_they_say(first: Any, second: Any, same: bool) -> None:
    assert same_value(first, second) is same


@pytest.mark.parametrize(
    ("before", "now", "names"),
    [
        ({"units": "degC"}, {"units": "celsius", "comment": "x"}, ()),
        ({"units": "degC"}, {"units": "K"}, ("units",)),
        ({"units": "K"}, {}, ("units",)),
        ({"units": "1"}, {}, ()),
        ({"valid_min": 0}, {"valid_min": np.float32(0)}, ()),
        ({}, {"valid_range": [0, 1]}, ("valid_range",)),
        ({"flag_meanings": "dry wet"}, {"flag_meanings": "dry  wet"}, ()),
        ({"flag_meanings": "dry wet"}, {"flag_meanings": "wet dry"}, ("flag_meanings",)),
        ({"flag_values": [0, 1]}, {"flag_values": [1, 2]}, ("flag_values",)),
        ({}, {"standard_name": "air_temperature"}, ()),
        ({"standard_name": "a"}, {"standard_name": "b"}, ("standard_name",)),
        ({"cell_methods": "time: mean"}, {"cell_methods": "time: point"}, ("cell_methods",)),
        ({"positive": "up"}, {"positive": "Up"}, ()),
        ({"actual_range": [0, 1]}, {"actual_range": [0, 2]}, ()),
        (
            {"grid_mapping_name": "lambert", "standard_parallel": 50.0, "crs_wkt": "a"},
            {"grid_mapping_name": "lambert", "standard_parallel": 51.0, "crs_wkt": "b"},
            ("standard_parallel",),
        ),
        ({"grid_mapping_name": "x", "spatial_ref": "a"}, {"grid_mapping_name": "x"}, ()),
    ],
)
def test_what_changes_the_meaning_of_values(
    before: dict[str, Any], now: dict[str, Any], names: tuple[str, ...]
) -> None:
    assert changed_meaning(before, now) == names


PACKED = [
    ("i2", {"scale_factor": 0.01}, {"scale_factor": np.float32(0.01)}, True),
    ("i2", {"scale_factor": 0.01}, {"scale_factor": 0.02}, False),
    ("i2", {"add_offset": 1}, {"add_offset": 1.5}, False),
    ("i2", {}, {"scale_factor": 1, "add_offset": 0.0, "_Unsigned": "false"}, True),
    ("i2", {}, {"_Unsigned": "true"}, False),
    ("u2", {}, {"_Unsigned": "true"}, True),
    ("i2", {"_FillValue": -1}, {"missing_value": np.int16(-1)}, True),
    ("i2", {"_FillValue": -1}, {"_FillValue": -2}, False),
    ("i2", {"_FillValue": -1}, {}, False),
    ("i2", {"_FillValue": [-1, -2]}, {"_FillValue": -2, "missing_value": -1}, True),
    ("f4", {"_FillValue": np.float32(np.nan)}, {}, True),
    ("f4", {"_FillValue": np.float32(1e20)}, {"_FillValue": 1e20}, True),
    ("O", {"_FillValue": ""}, {"_FillValue": "x"}, True),
]


@pytest.mark.parametrize(("dtype", "first", "second", "alike"), PACKED)
def test_what_makes_other_numbers_of_raw_values(
    dtype: str, first: dict[str, Any], second: dict[str, Any], alike: bool
) -> None:
    packings = [reading(np.dtype(dtype), attributes) for attributes in (first, second)]
    assert read_alike(*packings) == read_alike(*reversed(packings)) == alike


def test_numbers_are_read_in_the_units_of_init() -> None:
    packing = reading(np.dtype("i2"), {"scale_factor": 0.5, "valid_max": 40}, (1.0, 273.15))
    raw = np.array([0, 40], "i2")
    assert packing.to_physical(raw).tolist() == [273.15, 293.15]
    assert packing.bounds() == (None, 293.15)
    assert packing.from_physical(packing.to_physical(raw)).tolist() == raw.tolist()
    assert not read_alike(packing, reading(np.dtype("i2"), {"scale_factor": 0.5}))


CONVERTED = [
    ("hPa", "Pa", (100.0, 0.0)),
    ("degC", "K", (1.0, 273.15)),
    ("Degrees_Celsius", "kelvin", (1.0, 273.15)),
    ("degF", "degC", (1 / 1.8, -32 / 1.8)),
    ("%", "1", (0.01, 0.0)),
    ("kg m**-2 s**-1", "g m-2 s-1", (1000.0, 0.0)),
    ("m/s", "km h-1", (3.6, 0.0)),
]


def test_packings_that_are_scaled_alike_round_nothing() -> None:
    """A count, or a flag, that is another one by the least step is another one."""
    packings = [reading(np.dtype("i2"), {"_FillValue": fill}) for fill in (-1, -2)]
    first, second = np.array([1.0, np.nan, 2.0]), np.array([2.0, np.nan, 2.0])
    assert is_close(first, second, *packings).tolist() == [False, True, True]


def test_floats_are_rounded_in_the_units_that_they_are_stored_in() -> None:
    celsius = np.array([0.001, 15.3], "f4")
    kelvin = (celsius.astype("f8") + 273.15).astype("f4")
    packings = [reading(np.dtype("f4"), {}), reading(np.dtype("f4"), {}, (1.0, -273.15))]
    numbers = packings[0].to_physical(celsius), packings[1].to_physical(kelvin)
    assert is_close(*numbers, *packings).all()
    assert not is_close(numbers[0] + 0.01, numbers[1], *packings).any()


@pytest.mark.parametrize(("units", "to", "line"), CONVERTED)
def test_units_of_one_quantity_are_converted(
    units: str, to: str, line: tuple[float, float]
) -> None:
    assert conversion(units, to) == pytest.approx(line, rel=1e-14)
    back = conversion(to, units)
    assert back is not None
    assert line[0] * back[0] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("told", "line"),
    [
        ({}, (1.0, -273.15)),
        ({"units_metadata": "temperature: on_scale"}, (1.0, -273.15)),
        ({"units_metadata": "temperature: difference"}, (1.0, 0.0)),
        ({"standard_name": "air_temperature_anomaly"}, (1.0, 0.0)),
        ({"standard_name": "air_temperature standard_error"}, (1.0, 0.0)),
    ],
)
def test_a_difference_is_converted_without_a_shift(
    told: dict[str, Any], line: tuple[float, float]
) -> None:
    assert converting({"units": "K", **told}, {"units": "degC"}) == line
    assert converting({"units": "K"}, {"units": "degC", **told}) == line
    assert converting({"units": "K", **told}, {"units": "m"}) is None


@pytest.mark.parametrize(
    ("units", "to"),
    [
        ("m", "s"),
        ("K", ""),
        ("furlongs of old", "m"),
        ("dBZ", "mm6 m-3"),
        ("mm6 m-3", "dBZ"),
        ("days since 2000-01-01", "hours since 2000-01-01"),
        ("", "psu"),
        ("", "%"),
        ("%", ""),
        ("degrees", " "),
    ],
)
def test_units_between_which_no_line_leads_are_not_converted(units: str, to: str) -> None:
    assert conversion(units, to) is None


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_text_has_a_conversion_or_none(first: str, second: str) -> None:
    line = conversion(first, second)
    assert line is None or (line[0] != 0 and np.isfinite(line).all())
