"""Compare: what differs between two states, and where."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import chain
from math import isfinite
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from gnomon.storage.changes.noted import shown
from gnomon.storage.errors import NotFound
from gnomon.storage.log.description import Description, exact, same_entry
from gnomon.storage.repository import Repository
from gnomon.storage.values.dtypes import native
from gnomon.storage.values.model import Variable
from gnomon.storage.values.scaling import Packing
from gnomon.tasks.comparing.operands import captured_state
from gnomon.tasks.comparing.pairs import Part, bits, pairs, parts
from gnomon.tasks.comparing.states import Kept, State
from gnomon.tasks.work import Mapper, serial

__all__ = ["Difference", "compare", "compare_states"]

Texts = tuple[str | None, str | None]

SURE = 2.0
"""Standard errors beyond which an estimate is told to differ: some 5 % of cells do by chance."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How one variable differs between two states."""

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
    """Those that differ in any bit; of two packings, by more than these round; of estimates, as
    numbers."""
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
    attributes: dict[str, Texts] = field(default_factory=dict)
    """Of two captures: attributes that differ, as text, of the first and of the second; None where
    it has none."""
    peak: dict[str, int] = field(default_factory=dict)
    """Per dimension, position of the cell with the largest absolute difference; empty if no
    numbers differ."""
    estimated: int = 0
    """Cells with numbers in both of which one at least is an estimate with a standard error."""
    beyond: int | None = None
    """Those of them that differ by more than two standard errors of the difference; None if there
    are none, or of labels."""
    unreadable: tuple[str, ...] = ()
    """Chunks that the live dataset holds damaged, by index; all their cells count as differing."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


def compare(repository: Repository, first: int, second: int) -> tuple[Difference, ...]:
    """Return the difference of every variable between two captures of one era, by number.

    As :func:`compare_states`, which reads only chunks whose digests differ, unless the states are
    packed in two ways.

    Raises
    ------
    InvalidInput
        A capture was forgotten.
    """
    return compare_states(captured_state(repository, first), captured_state(repository, second))


def compare_states(
    first: State, second: State, names: Sequence[str] = (), *, mapper: Mapper = serial
) -> tuple[Difference, ...]:
    """Return the difference of every variable that both of two states of one era have.

    Of two captures fixed variables, the time coordinate and the dataset follow, where they differ.

    Parameters
    ----------
    names
        Of the variables to compare, and nothing else; empty: all.
    mapper
        Where the chunks are compared: in this process, which has the states open.

    Raises
    ------
    NotFound
        One of the states does not have a variable that is named.
    Integrity
        A chunk that is needed is damaged in the repository.
    """
    repository, settings = first.repository, first.repository.settings
    variables = [settings.variable(n) for n in dict.fromkeys(names)] or settings.variables
    there = [v for v in variables if first.has(v) and second.has(v)]
    for variable in variables if names else ():
        if variable not in there:
            lacking = second if first.has(variable) else first
            raise NotFound(
                f"{lacking.told} has no {variable.name}; leave --variable out to see what it has"
            )
    descriptions = _descriptions(first, second)
    pair = len(descriptions) == 2
    differences = [
        _compare(
            first,
            second,
            v,
            _attributes(*(d.variables[v.name] for d in descriptions)) if pair else {},
            mapper,
        )
        for v in there
    ]
    if pair and not names:
        differences += _compare_rest(repository, *descriptions)
    return tuple(differences)


def _descriptions(first: State, second: State) -> tuple[Description, ...]:
    """Return those of the states that are captures."""
    return tuple(
        state.repository.state.description(state.repository.captured[state.captured].description)
        for state in (first, second)
        if isinstance(state, Kept) and state.captured is not None
    )


def _attributes(first: Mapping[Any, Any], second: Mapping[Any, Any]) -> dict[str, Texts]:
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
        differs = bits(values[0]) != bits(values[1])
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
    first: State,
    second: State,
    variable: Variable,
    attributes: dict[str, Texts],
    mapper: Mapper,
) -> Difference:
    changed = []
    tally = _Tally(len(variable.dims))
    work = partial(_tallies, first, second, variable)
    # Added up in the order of the chunks, as a sum of floats depends on it.
    for name, chunk in chain.from_iterable(mapper(work, [*parts(first, second, variable)])):
        tally.merge(chunk)
        changed += [name] if chunk.cells else []
    return _difference(
        variable.name,
        variable.attributes,
        variable.dims,
        tuple(changed),
        variable.grid.size,
        int(np.prod(variable.shape)),
        tally,
        attributes,
    )


def _tallies(
    first: State, second: State, variable: Variable, part: Part
) -> list[tuple[str, "_Tally"]]:
    """Return name and differences of each chunk of a part that has any, or has estimates."""
    tallies = []
    for pair in pairs(part, first, second, variable):
        error = None if variable.categorical else pair.error
        if error is None and not pair.differs.any():
            continue
        start = [s.start for s in variable.grid.cells(pair.index)]
        tally = _Tally(len(variable.dims))
        tally.add(pair.first.values, pair.second.values, pair.differs, start, error)
        name = "/".join(map(str, pair.index))
        tally.unreadable += [name] if pair.is_unreadable else []
        tallies.append((name, tally))
    return tallies


def _difference(
    name: str,
    units: Mapping[str, Any],
    dims: tuple[str, ...],
    changed: tuple[str, ...],
    chunks: int,
    cells: int,
    tally: "_Tally",
    attributes: dict[str, Texts],
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
        peak=dict(zip(dims, tally.peak, strict=True)) if tally.peak else {},
        estimated=tally.estimated,
        beyond=tally.beyond if tally.estimated else None,
        unreadable=tuple(tally.unreadable),
    )


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None


class _Tally:
    """Differences, of a chunk or added up."""

    def __init__(self, dims: int) -> None:
        self.cells = self.missing = self.appeared = self.numbers = 0
        self.estimated = self.beyond = 0
        self.total = self.maximum = 0.0
        self.peak: list[int] = []
        self.unreadable: list[str] = []
        self.extent: list[tuple[int, int]] = [(2**62, -1)] * dims

    def merge(self, other: "_Tally") -> None:
        """Add those of the chunks that follow."""
        self.cells += other.cells
        self.missing += other.missing
        self.appeared += other.appeared
        self.numbers += other.numbers
        self.estimated += other.estimated
        self.beyond += other.beyond
        self.total += other.total
        if other.peak and (not self.peak or other.maximum > self.maximum):
            self.peak = other.peak
        self.maximum = max(self.maximum, other.maximum)
        self.unreadable += other.unreadable
        self.extent = [
            (min(low, its_low), max(high, its_high))
            for (low, high), (its_low, its_high) in zip(self.extent, other.extent, strict=True)
        ]

    def add(
        self,
        a: NDArray[np.float64],
        b: NDArray[np.float64],
        differs: NDArray[np.bool_],
        start: list[int],
        error: NDArray[np.float64] | None = None,
    ) -> None:
        """Add a chunk: the numbers of both, NaN where they are missing, and where they differ.

        Parameters
        ----------
        error
            Standard error of the difference, 0 where no cell is an estimate; None: nowhere.
        """
        self.cells += int(differs.sum())
        for axis, first in enumerate(start):
            others = tuple(k for k in range(differs.ndim) if k != axis)
            places = np.flatnonzero(differs.any(axis=others)) + first
            if places.size:
                low, high = self.extent[axis]
                self.extent[axis] = (min(low, int(places[0])), max(high, int(places[-1])))
        has_value = np.isfinite(a), np.isfinite(b)
        self.missing += int((has_value[0] & ~has_value[1]).sum())
        self.appeared += int((has_value[1] & ~has_value[0]).sum())
        both = has_value[0] & has_value[1] & differs
        with np.errstate(over="ignore"):
            change = b[both] - a[both]
            self.total += float(change.sum())
        self.numbers += change.size
        sizes = np.abs(change)
        if sizes.size and (not self.peak or sizes.max() > self.maximum):
            place = np.unravel_index(np.flatnonzero(both)[int(sizes.argmax())], both.shape)
            self.peak = [int(p) + s for p, s in zip(place, start, strict=True)]
        self.maximum = max(self.maximum, float(sizes.max(initial=0.0)))
        if error is not None:
            known = has_value[0] & has_value[1] & (error > 0)  # false of NaN
            self.estimated += int(known.sum())
            self.beyond += int((np.abs(b - a)[known] > SURE * error[known]).sum())
