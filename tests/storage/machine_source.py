"""A live dataset that the state machine changes, and the model of what it holds."""

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from hypothesis import strategies as st
from numpy.typing import NDArray

from gnomon.storage.values.model import Kind
from tests.storage.building import HOUR, write_zarr
from tests.storage.strategies import special_values

__all__ = ["FORMS", "Layout", "Quantity", "Source", "State", "layouts"]

State = dict[str, NDArray[Any]]
"""The values of every quantity at one time, as they are stored."""

DAYS_TO_2000 = {"standard": 10957, "noleap": 30 * 365, "360_day": 30 * 360}
"""Days from 1970 to 2000, by calendar."""
FORMS = ("zarr", "netcdf")
TYPES = ("<f4", "<f8", "<i2", "|u1", "|b1", "<M8[ns]")
ONLY_ZARR = ("|b1", "<M8[ns]")
FILL = -32768
CHANGES = ("all", "some", "one bit", "nothing", "special", "missing")


@dataclass(frozen=True)
class Quantity:
    """One variable of the source."""

    name: str
    dtype: str
    dims: tuple[str, ...]
    time_axis: int = 0

    @property
    def attributes(self) -> dict[str, Any]:
        kind = np.dtype(self.dtype)
        if kind == np.dtype("<i2"):
            return {"units": "hPa", "scale_factor": 0.02, "add_offset": 1.0, "_FillValue": FILL}
        if kind == np.dtype("|u1"):
            return {"flag_values": [0, 1, 2], "flag_meanings": "dry wet ice"}
        return {"units": "K"} if kind.kind == "f" else {}


@dataclass(frozen=True)
class Layout:
    """Grid, chunks and quantities of the source."""

    sizes: dict[str, int]
    chunks: dict[str, int]
    """Of the source in Zarr, time too."""
    quantities: tuple[Quantity, ...]
    calendar: str
    time_dtype: str

    def shape(self, quantity: Quantity) -> tuple[int, ...]:
        return tuple(self.sizes[d] for d in quantity.dims)

    def instant(self, hour: int) -> int:
        """Return microseconds since 1970 in the calendar, found without the code under test."""
        return DAYS_TO_2000[self.calendar] * 24 * HOUR + hour * HOUR


@st.composite
def layouts(draw: st.DrawFn, form: str, kind: Kind) -> Layout:
    """Small grids with edge chunks, and variables of several types; the first is forecast."""
    sizes = {d: draw(st.integers(1, 4), label=d) for d in ("y", "x")}
    chunks = {d: draw(st.integers(1, n)) for d, n in sizes.items()} | {
        "time": draw(st.integers(1, 3))
    }
    allowed = [t for t in TYPES if form == "zarr" or t not in ONLY_ZARR]
    numbers = [t for t in allowed if t not in ONLY_ZARR]
    types = [draw(st.sampled_from(numbers)), *draw(st.lists(st.sampled_from(allowed), max_size=2))]
    shapes = st.sampled_from([("y", "x"), ("y", "x"), ("x",), ()])
    quantities = []
    for k, dtype in enumerate(types):
        dims = draw(shapes)
        axis = draw(st.integers(0, len(dims))) if kind == "append" and k else 0
        quantities.append(Quantity(f"q{k}", dtype, dims, axis))
    calendar = draw(st.sampled_from(sorted(DAYS_TO_2000)))
    return Layout(
        sizes, chunks, tuple(quantities), calendar, draw(st.sampled_from(["<i8", "<f8", "<i4"]))
    )


@dataclass
class Source:
    """The live dataset: times in the order in which they stand there, and their values."""

    folder: Path
    form: str
    kind: Kind
    layout: Layout
    hours: list[int] = field(default_factory=list)
    states: dict[int, State] = field(default_factory=dict)
    """By hour; of a state source under hour 0."""
    version: int = 0
    """What it says of itself, and of a series the value of a variable that is fixed in time."""

    @property
    def path(self) -> Path:
        return self.folder / ("source.zarr" if self.form == "zarr" else "source.nc")

    @property
    def title(self) -> str:
        """A text that grows."""
        return "drawn " * 99 + "again " * self.version

    def at(self, instant: int) -> State:
        """Return what stands in the source for a time."""
        if self.kind == "state":
            return self.states[0]
        return self.states[(instant - self.layout.instant(0)) // HOUR]

    def instants(self) -> dict[int, int]:
        """Return hour by instant, in order of time."""
        return {self.layout.instant(hour): hour for hour in sorted(self.hours)}

    def raw_time(self, hour: int) -> bytes:
        return np.array(hour, self.layout.time_dtype).tobytes()

    def put(self, hour: int, change: str, seed: int, position: int | None = None) -> None:
        """Set the values of a time, counted from those of the time before it."""
        if hour not in self.states:
            self.hours.insert(len(self.hours) if position is None else position, hour)
        earlier = [h for h in self.states if h <= hour] or list(self.states)
        before = self.states[max(earlier)] if earlier else None
        draws = np.random.default_rng(seed)
        self.states[hour] = {
            q.name: _values(
                q, self.layout.shape(q), before[q.name] if before else None, change, draws
            )
            for q in self.layout.quantities
        }

    def drop(self, hour: int) -> None:
        self.hours.remove(hour)
        del self.states[hour]

    def renew(self, layout: Layout, seed: int) -> None:
        """Change the grid; the times stay."""
        self.layout, self.states = layout, {}
        hours, self.hours = self.hours, []
        for k, hour in enumerate(hours):
            self.put(hour, "all", seed + k)

    def write(self) -> None:
        """Store the dataset, in place of what was there."""
        beside = self.path.with_name(f"new-{self.path.name}")
        if self.form == "zarr":
            shutil.rmtree(self.path, ignore_errors=True)
            self._write_zarr()
            return
        dataset = self._dataset(self.layout.quantities)
        plain = {
            n: {} if "_FillValue" in v.attrs else {"_FillValue": None}
            for n, v in dataset.variables.items()
        }
        dataset.to_netcdf(beside, engine="netcdf4", encoding=plain)
        os.replace(beside, self.path)

    def _write_zarr(self) -> None:
        # xarray would store datetimes as numbers
        plain = tuple(q for q in self.layout.quantities if q.dtype != "<M8[ns]")
        dataset = self._dataset(plain)
        encoding: dict[str, dict[str, Any]] = {}
        for quantity in plain:
            # a chunk that equals the fill value by number may differ from it in its bits
            encoding[quantity.name] = {"write_empty_chunks": True}
            if dims := self._dims(quantity):
                encoding[quantity.name]["chunks"] = self._chunks(dims)
        write_zarr(dataset, self.path, encoding=encoding)
        group = zarr.open_group(self.path, mode="r+")
        for quantity in self.layout.quantities:
            if quantity not in plain:
                values, dims = self._array(quantity), self._dims(quantity)
                array = group.create_array(
                    quantity.name,
                    shape=values.shape,
                    chunks=self._chunks(dims),
                    dtype=values.dtype,
                    dimension_names=dims,
                    config={"write_empty_chunks": True},
                )
                array[...] = values

    def _dataset(self, quantities: tuple[Quantity, ...]) -> xr.Dataset:
        variables: dict[str, Any] = {
            q.name: (self._dims(q), self._array(q), q.attributes) for q in quantities
        }
        coordinates: dict[str, Any] = {
            d: (d, np.arange(float(n)), {"units": "km"}) for d, n in self.layout.sizes.items()
        }
        if self.kind == "append":
            units = {"units": "hours since 2000-01-01", "calendar": self.layout.calendar}
            coordinates["time"] = ("time", np.array(self.hours, self.layout.time_dtype), units)
            variables["mask"] = ((), np.int32(self.version % 2))  # what is fixed in a series
        for attributes in (coordinates[d][2] for d in self.layout.sizes):
            attributes["comment"] = f"version {self.version}"
        return xr.Dataset(variables, coordinates, {"title": self.title})

    def _dims(self, quantity: Quantity) -> tuple[str, ...]:
        dims = list(quantity.dims)
        if self.kind == "append":
            dims.insert(quantity.time_axis, "time")
        return tuple(dims)

    def _array(self, quantity: Quantity) -> NDArray[Any]:
        if self.kind == "state":
            return self.states[0][quantity.name]
        return np.stack([self.states[h][quantity.name] for h in self.hours], quantity.time_axis)

    def _chunks(self, dims: tuple[Any, ...]) -> tuple[int, ...]:
        return tuple(self.layout.chunks[str(d)] for d in dims)


def _values(
    quantity: Quantity,
    shape: tuple[int, ...],
    before: NDArray[Any] | None,
    change: str,
    draws: np.random.Generator,
) -> NDArray[Any]:
    """Return the next values of a quantity: of the old ones, as many as the change lets stay."""
    dtype = np.dtype(quantity.dtype)
    fresh = _fresh(dtype, shape, draws)
    if before is None or change == "all":
        return fresh
    if change == "some":
        return np.where(draws.random(shape) < 0.3, fresh, before)
    if change == "special":
        special = draws.choice(special_values(dtype), shape)
        return np.where(draws.random(shape) < 0.5, special, before).astype(dtype)
    if change == "missing":
        return np.full(shape, _missing(dtype))
    values = before.copy()
    if change == "one bit":
        flat = values.reshape(-1).view(np.uint8)
        flat[int(draws.integers(flat.size))] ^= 1
    return values


def _fresh(
    dtype: np.dtype[Any], shape: tuple[int, ...], draws: np.random.Generator
) -> NDArray[Any]:
    """Return values around ten, with land in the corner of a field."""
    numbers = np.asarray(draws.normal(10.0, 3.0, shape))
    land = np.zeros(shape, bool)
    if len(shape) == 2:
        land[: shape[0] // 2, : shape[1] // 2] = True
    if dtype.kind == "f":
        return np.where(land, np.nan, numbers).astype(dtype)
    if dtype.kind == "i":
        return np.where(land, FILL, np.rint(numbers * 50)).astype(dtype)
    if dtype.kind == "M":
        return np.where(land, np.array("NaT", dtype), (numbers * 1e9).astype(dtype))
    return np.asarray((numbers > 10).astype(dtype))


def _missing(dtype: np.dtype[Any]) -> Any:
    named = {"f": np.nan, "i": FILL, "M": "NaT"}
    return np.array(named.get(dtype.kind, 0), dtype)
