"""Compare: what differs between two captured states, and where."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from math import isfinite
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from gnomon.storage.arrays.encoding import DIGEST
from gnomon.storage.changes.noted import shown
from gnomon.storage.errors import InvalidInput
from gnomon.storage.log.description import Description, exact, same_entry
from gnomon.storage.log.readings import is_close
from gnomon.storage.repository import Repository
from gnomon.storage.source.opening import native
from gnomon.storage.stacks.captures import CaptureStack
from gnomon.storage.values.meaning import read_alike
from gnomon.storage.values.scaling import Packing

__all__ = ["Difference", "compare"]


Pair = tuple[str | None, str | None]


@dataclass(frozen=True, slots=True)
class Difference:
    """How one variable differs between two captures."""

    variable: str
    """Its name; empty for the dataset itself."""
    units: str
    """Units of the differences; empty if it has none."""
    chunks: int
    """Chunks of a state."""
    changed_chunks: tuple[str, ...]
    """Those that differ, by index."""
    cells: int
    """Cells of a state."""
    changed_cells: int
    """Those that differ in any bit; of two packings, by more than these round."""
    missing: int
    """Cells that have a number in the first only."""
    appeared: int
    """Cells that have a number in the second only."""
    mean: float | None
    """Mean of second minus first over the cells that have numbers in both and differ; None if
    there are none, or it is beyond all numbers."""
    maximum: float | None
    """The largest absolute difference."""
    where: dict[str, tuple[int, int]]
    """Per dimension, first and last position of a cell that differs."""
    attributes: dict[str, Pair] = field(default_factory=dict)
    """Attributes that differ, as text: of the first and of the second; None where it has none."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


def compare(repository: Repository, first: int, second: int) -> tuple[Difference, ...]:
    """Return the difference of every variable between two captures of one era, by number.

    Only chunks whose digests differ are read, unless the states are packed in two ways.  Fixed
    variables, the time coordinate and the dataset follow, where they differ.

    Raises
    ------
    InvalidInput
        A capture was forgotten.
    Integrity
        A chunk that is needed is damaged.
    """
    for step in (first, second):
        if repository.captured[step].forgotten:
            raise InvalidInput(f"capture {step} was forgotten; 'gnomon captures' lists the others")
    descriptions = [
        repository.state.description(repository.captured[step].description)
        for step in (first, second)
    ]
    captured = [
        _compare(
            repository.captures(v.name),
            first,
            second,
            _attributes(*(d.variables[v.name] for d in descriptions)),
        )
        for v in repository.settings.variables
        if min(first, second) >= v.since
    ]
    return (*captured, *_compare_rest(repository, *descriptions))


def _attributes(first: Mapping[Any, Any], second: Mapping[Any, Any]) -> dict[str, Pair]:
    """Return the attributes that differ in value or type."""
    return {
        name: (
            shown(first[name]) if name in first else None,
            shown(second[name]) if name in second else None,
        )
        for name in dict.fromkeys([*first, *second])
        if name not in first or name not in second or exact(first[name]) != exact(second[name])
    }


def _compare_rest(
    repository: Repository, first: Description, second: Description
) -> Iterator[Difference]:
    """Yield the differences of what is not captured at each step."""
    names = sorted(first.fixed.keys() | second.fixed.keys())
    changed = [n for n in names if not same_entry(first.fixed.get(n), second.fixed.get(n))]
    before, after = (
        repository.fixed(replace(d, fixed={n: d.fixed[n] for n in changed if n in d.fixed}))
        for d in (first, second)
    )
    for name in changed:
        yield _compare_fixed(name, before.get(name), after.get(name))
    time = str(repository.settings.source.time)
    for name, former, latter in (
        (time, first.time, second.time),
        ("", first.attributes, second.attributes),
    ):
        attributes = _attributes(former, latter)
        if attributes:
            yield _difference(name, {}, (), (), 0, 0, _Tally(0), attributes)


def _compare_fixed(name: str, first: xr.Variable | None, second: xr.Variable | None) -> Difference:
    """Return how a fixed variable differs; as a whole if it is new, gone or of another shape."""
    there = [v for v in (first, second) if v is not None]
    attributes = _attributes(*({} if v is None else v.attrs for v in (first, second)))
    values = [native(np.asarray(v.values)) for v in there]
    tally = _Tally(there[0].ndim)
    alike = len(values) == 2 and (values[0].shape, values[0].dtype) == (
        values[1].shape,
        values[1].dtype,
    )
    if alike:
        differs = _bits(values[0]) != _bits(values[1])
        if differs.any():  # or its attributes alone have changed
            former, latter = (
                Packing(v.dtype, of.attrs).to_physical(v)
                for v, of in zip(values, there, strict=True)
            )
            tally.add(former, latter, differs, [0] * there[0].ndim)
    else:
        tally.cells = max(v.size for v in values)
    chunks = ("/".join("0" * there[0].ndim),) if tally.cells else ()
    dims = tuple(map(str, there[0].dims)) if alike else ()
    return _difference(name, there[0].attrs, dims, chunks, 1, values[0].size, tally, attributes)


def _compare(
    stack: CaptureStack, first: int, second: int, attributes: dict[str, Pair]
) -> Difference:
    variable = stack.variable
    rows = stack.rows(first)[..., DIGEST], stack.rows(second)[..., DIGEST]
    readings = stack.reading(first), stack.reading(second)
    alike = read_alike(*readings)
    changed = []
    tally = _Tally(len(variable.dims))
    for index in variable.grid.indices():
        if alike and np.array_equal(rows[0][index], rows[1][index]):
            continue
        start = [s.start for s in variable.grid.cells(index)]
        former, latter = stack.chunk(first, index), stack.chunk(second, index)
        # Packed otherwise, other bits may be the same numbers, and the same bits others.
        numbers = readings[0].to_physical(former), readings[1].to_physical(latter)
        differs = _bits(former) != _bits(latter) if alike else ~is_close(*numbers, *readings)
        if differs.any():
            changed.append(index)
            tally.add(*numbers, differs, start)
    chunks = tuple("/".join(map(str, index)) for index in changed)
    cells = int(np.prod(variable.shape))
    return _difference(
        variable.name,
        variable.attributes,
        variable.dims,
        chunks,
        variable.grid.size,
        cells,
        tally,
        attributes,
    )


def _difference(
    name: str,
    units: Mapping[str, Any],
    dims: tuple[str, ...],
    changed: tuple[str, ...],
    chunks: int,
    cells: int,
    tally: "_Tally",
    attributes: dict[str, Pair],
) -> Difference:
    return Difference(
        variable=name,
        units=str(units.get("units", "")),
        chunks=chunks,
        changed_chunks=changed,
        cells=cells,
        changed_cells=tally.cells,
        missing=tally.missing,
        appeared=tally.appeared,
        mean=_finite(tally.total / tally.numbers) if tally.numbers else None,
        maximum=_finite(tally.maximum) if tally.numbers else None,
        where=dict(zip(dims, tally.extent, strict=True)) if tally.cells and dims else {},
        attributes=attributes,
    )


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None


class _Tally:
    """Differences, added up chunk by chunk."""

    def __init__(self, dims: int) -> None:
        self.cells = self.missing = self.appeared = self.numbers = 0
        self.total = self.maximum = 0.0
        self.extent: list[tuple[int, int]] = [(2**62, -1)] * dims

    def add(
        self,
        a: NDArray[np.float64],
        b: NDArray[np.float64],
        differs: NDArray[np.bool_],
        start: list[int],
    ) -> None:
        """Add a chunk: the numbers of both, NaN where they are missing, and where they differ."""
        self.cells += int(differs.sum())
        for axis, places in enumerate(np.argwhere(differs).T):  # none without dimensions
            low, high = self.extent[axis]
            at = places + start[axis]
            self.extent[axis] = (min(low, int(at.min())), max(high, int(at.max())))
        has_value = np.isfinite(a), np.isfinite(b)
        self.missing += int((has_value[0] & ~has_value[1]).sum())
        self.appeared += int((has_value[1] & ~has_value[0]).sum())
        both = has_value[0] & has_value[1] & differs
        with np.errstate(over="ignore"):
            change = b[both] - a[both]
            self.total += float(change.sum())
        self.numbers += change.size
        self.maximum = max(self.maximum, float(np.abs(change).max(initial=0.0)))


def _bits(values: NDArray[np.generic]) -> NDArray[Any]:
    """Return values that are equal where the bits are, NaN and NaT included."""
    if values.dtype.kind in "fcMm":
        return np.asarray(values, order="C").view(np.dtype((np.void, values.dtype.itemsize)))
    return values
