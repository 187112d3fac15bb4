"""Packed values and their physical meaning: scale, offset, fill value, valid range (CF 8.1, 2.5.1).

Captures are exact and undecoded; only what is predicted goes through these functions.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.errors import InvalidInput
from gnomon.storage.values.documents import NONSENSE

__all__ = ["PACKING", "Packing", "check_packing"]

PACKING = ("scale_factor", "add_offset", "_FillValue", "missing_value", "_Unsigned")
"""Attributes that turn raw values into numbers."""
LARGEST = 8
"""Bytes of the largest number."""


@dataclass(frozen=True, slots=True)
class Packing:
    """How the raw values of one variable stand for numbers in its units."""

    dtype: np.dtype[np.generic]
    """Raw type, little endian."""
    attributes: Mapping[str, Any]
    """Raw attributes."""
    factor: float = 1.0
    """By which numbers in the units of the attributes are multiplied, and"""
    shift: float = 0.0
    """what is added then, to be in the units that the variable had at init."""

    @property
    def scale(self) -> float:
        """``scale_factor``, or 1, times what converts the units."""
        return self._number("scale_factor", 1.0) * self.factor

    @property
    def offset(self) -> float:
        """``add_offset``, or 0, in the units of init."""
        return self._number("add_offset", 0.0) * self.factor + self.shift

    @property
    def resolution(self) -> float:
        """The least difference of two numbers of an integer type; 0 for others."""
        return abs(self.scale) if self.dtype.kind in "iu" else 0.0

    @property
    def counted(self) -> np.dtype[np.generic]:
        """The type that raw bits are read as: unsigned where ``_Unsigned`` says so."""
        unsigned = str(self.attributes.get("_Unsigned", "")).lower() == "true"
        if unsigned and self.dtype.kind == "i":
            return np.dtype(f"<u{self.dtype.itemsize}")
        return self.dtype

    def _number(self, name: str, default: float) -> float:
        return float(np.asarray(self.attributes.get(name, default)).ravel()[0])

    def fills(self) -> NDArray[np.generic]:
        """Return the raw values that mean missing.

        The fill value of a boolean does not: it is what Zarr of format 2 reads where nothing was
        written, and one of the only two values that there are.
        """
        names = ("missing_value",) if self.dtype.kind == "b" else ("_FillValue", "missing_value")
        fills = [
            np.asarray(self.attributes[name]).ravel() for name in names if name in self.attributes
        ]
        numeric = [f for f in fills if f.dtype.kind in "biuf"]
        if self.dtype.kind in "biu":
            numeric = [self._whole_fills(f) for f in numeric]
        elif self.dtype.kind != "f":
            numeric = [f[np.isfinite(f)] for f in numeric]
        with np.errstate(over="ignore", invalid="ignore"):
            cast = [f.astype(self.dtype) for f in numeric]
        return np.concatenate([*cast, np.empty(0, self.dtype)])

    def _whole_fills(self, fills: NDArray[np.generic]) -> NDArray[np.generic]:
        """Return those that raw integers can be, counted with a sign or without one."""
        whole = [int(f) for f in fills.tolist() if np.isfinite(f) and f == int(f)]
        if self.dtype.kind == "b":
            return np.array([f for f in whole if f in (0, 1)], np.uint8)
        signed, unsigned = (np.iinfo(f"{kind}{self.dtype.itemsize}") for kind in "iu")
        held = [f % 2**signed.bits for f in whole if signed.min <= f <= unsigned.max]
        return np.array(held, unsigned.dtype)

    def bounds(self) -> tuple[float | None, float | None]:
        """Return the declared valid range in physical units; None where there is none."""
        low, high = self._bound("valid_min", 0), self._bound("valid_max", 0)
        if "valid_range" in self.attributes:
            low, high = self._bound("valid_range", 0), self._bound("valid_range", 1)
        if low is None and high is None and self.dtype.kind == "b":
            return 0.0, 1.0
        flags = "flag_values" in self.attributes and "flag_masks" not in self.attributes
        if low is None and high is None and flags:
            every = [self._bound("flag_values", k) for k in range(self._flags())]
            declared = [flag for flag in every if flag is not None]
            # One flag alone marks an exception: the other values are numbers.
            return (min(declared), max(declared)) if len(declared) > 1 else (None, None)
        return (high, low) if self.scale < 0 else (low, high)

    def _flags(self) -> int:
        return int(np.size(self.attributes["flag_values"]))

    def _bound(self, name: str, position: int) -> float | None:
        # CF 2.5.1: the valid range of packed data is given in packed values.
        try:
            raw = float(np.asarray(self.attributes[name]).ravel()[position])
        except (KeyError, IndexError, ValueError, TypeError):
            return None
        if raw < 0 and self.counted != self.dtype:  # told in the type of the raw values
            raw += 2.0 ** (8 * self.dtype.itemsize)
        return raw * self.scale + self.offset

    def to_physical(self, raw: NDArray[np.generic]) -> NDArray[np.float64]:
        """Return raw values as float64 in the variable's units, NaN where they are missing.

        Text and other types that are no plain numbers are NaN.
        """
        if raw.dtype.kind not in "biufmM" or raw.dtype.itemsize > LARGEST:
            return np.full(raw.shape, np.nan)
        with np.errstate(invalid="ignore"):  # a signalling NaN is one like the others
            values = np.asarray(raw.view(self.counted).astype(np.float64))
        scale, offset = self.scale, self.offset
        if scale != 1.0 or offset != 0.0:
            values *= scale
            values += offset
        fills = self.fills()
        if raw.dtype.kind == "f":
            fills = fills[~np.isnan(fills)]  # what it would mark is NaN already
        if fills.size:
            values[np.isin(raw, fills)] = np.nan
        if raw.dtype.kind in "mM":
            values[np.isnat(raw)] = np.nan
        return values

    def from_physical(self, values: NDArray[np.float64]) -> NDArray[np.generic]:
        """Return values in the variable's units as raw values; NaN becomes the fill value.

        Integers are rounded.  What is `beyond` the type becomes the nearest number that it can
        hold, and no number becomes a raw value that means missing: the next one is taken.  Without
        a fill value, NaN in an integer variable becomes 0; its provenance says that it is missing.
        """
        missing = np.isnan(values)
        fills = self.fills()
        packed = (values - self.offset) / self.scale
        if self.dtype.kind == "f":
            fill = fills[0] if fills.size else np.asarray(np.nan, self.dtype)
            low, high = self._limits()
            # An infinity is not a number that is too large: it was captured so.
            within = np.where(np.isfinite(packed), np.clip(packed, low, high), packed)
            raw = _freed(np.asarray(within.astype(self.dtype)), fills, _toward_zero)
        else:
            fill = fills[0] if fills.size else np.zeros((), self.dtype)
            raw = self._whole(np.nan_to_num(packed), fills)
        return np.asarray(np.where(missing, fill, raw).astype(self.dtype))

    @property
    def tells_missing(self) -> bool:
        """Whether some raw value means missing."""
        return self.dtype.kind == "f" or bool(self.fills().size)

    def span(self) -> tuple[float, float]:
        """Return the least and the greatest number that raw values can stand for."""
        low, high = (limit * self.scale + self.offset for limit in self._limits())
        return (low, high) if self.scale > 0 else (high, low)

    def beyond(self, values: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which numbers no raw value stands for, not even a rounded one; NaN is none."""
        low, high = self._limits()
        slack = 0.5 if self.dtype.kind in "iu" else 0.0
        packed = np.asarray((values - self.offset) / self.scale)
        if self.dtype.kind == "f":
            packed = np.where(np.isfinite(packed), packed, np.nan)
        elif self.dtype.kind not in "iu":
            return np.zeros(packed.shape, bool)
        return np.asarray((packed < low - slack) | (packed > high + slack))

    def holds(self, values: NDArray[np.float64]) -> bool:
        """Tell whether raw values of the type can stand for all of some numbers."""
        return not self.beyond(values).any()

    def _limits(self) -> tuple[float, float]:
        """Return the least and greatest packed numbers of the type that do not mean missing."""
        if self.dtype.kind == "f":
            largest = float(np.finfo(self.dtype).max)  # type: ignore[type-var]
            return -largest, largest
        if self.dtype.kind not in "iu":
            return 0.0, 1.0
        limits = np.iinfo(self.counted.str)
        fills = set(self.fills().view(self.counted).tolist())
        low, high = int(limits.min), int(limits.max)
        while low in fills and low < limits.max:
            low += 1
        while high in fills and high > limits.min:
            high -= 1
        # The largest 64-bit integers are no float64: the next one below is.
        exact = float(high) if limits.bits < 64 else np.nextafter(float(high), 0.0)
        return float(low), float(exact)

    def _whole(
        self, packed: NDArray[np.float64], fills: NDArray[np.generic]
    ) -> NDArray[np.generic]:
        if self.dtype.kind == "b":
            return np.asarray(packed >= 0.5)
        whole = np.asarray(np.clip(np.rint(packed), *self._limits()).astype(self.counted))
        # The limits are free, so that whatever lies between them has a free one on either side.
        step = np.where(packed >= whole, 1, -1).astype(self.counted)
        counted = fills.view(self.counted)
        return _freed(whole, counted, lambda raw, where: raw + step[where]).view(self.dtype)


def _freed(
    raw: NDArray[Any],
    fills: NDArray[Any],
    following: Callable[[NDArray[Any], NDArray[np.bool_]], NDArray[Any]],
) -> NDArray[Any]:
    """Return raw values of which those that would by chance mean missing are moved on."""
    for _ in range(fills.size):
        filled = np.isin(raw, fills)
        if not filled.any():
            break
        raw[filled] = following(raw[filled], filled)
    return raw


def _toward_zero(raw: NDArray[Any], _: NDArray[np.bool_]) -> NDArray[Any]:
    to = np.where(raw == 0, np.inf, 0.0).astype(raw.dtype)
    return np.asarray(np.nextafter(raw, to))


def check_packing(name: str, dtype: np.dtype[np.generic], attributes: Mapping[str, Any]) -> None:
    """Refuse attributes by which the numbers of a variable cannot be read.

    Raises
    ------
    InvalidInput
        Names the attributes.
    """
    if dtype.kind not in "biuf" or dtype.itemsize > LARGEST:
        return
    packing = Packing(dtype, attributes)
    try:
        packing.fills()
        readable = packing.scale != 0 and bool(np.isfinite([packing.scale, packing.offset]).all())
    except NONSENSE:
        readable = False
    if not readable:
        shown = ", ".join(f"{n} {attributes[n]!s:.40}" for n in PACKING if n in attributes)
        raise InvalidInput(f"{name} is packed in a way by which no numbers can be read ({shown})")
