"""Compare: what differs between two captured states, and where."""

from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.captures import CaptureStack
from gnomon.storage.encoding import DIGEST
from gnomon.storage.errors import InvalidInput
from gnomon.storage.repository import Repository

__all__ = ["Difference", "compare"]


@dataclass(frozen=True, slots=True)
class Difference:
    """How one variable differs between two captures."""

    variable: str
    """Its name."""
    units: str
    """Units of the differences; empty if it has none."""
    chunks: int
    """Chunks of a state."""
    changed_chunks: tuple[str, ...]
    """Those that differ, by index."""
    cells: int
    """Cells of a state."""
    changed_cells: int
    """Those that differ in any bit."""
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

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


def compare(repository: Repository, first: int, second: int) -> tuple[Difference, ...]:
    """Return the difference of every variable between two captures of one era, by number.

    Only chunks whose digests differ are read.

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
    return tuple(
        _compare(repository.captures(v.name), first, second) for v in repository.settings.variables
    )


def _compare(stack: CaptureStack, first: int, second: int) -> Difference:
    variable = stack.variable
    rows = stack.rows(first)[..., DIGEST], stack.rows(second)[..., DIGEST]
    changed = [tuple(map(int, i)) for i in np.argwhere((rows[0] != rows[1]).any(axis=-1))]
    tally = _Tally(len(variable.dims))
    for index in changed:
        start = [s.start for s in variable.grid.cells(index)]
        tally.add(stack, stack.chunk(first, index), stack.chunk(second, index), start)
    return Difference(
        variable.name,
        str(variable.attributes.get("units", "")),
        variable.grid.size,
        tuple("/".join(map(str, index)) for index in changed),
        int(np.prod(variable.shape)),
        tally.cells,
        tally.missing,
        tally.appeared,
        _finite(tally.total / tally.numbers) if tally.numbers else None,
        _finite(tally.maximum) if tally.numbers else None,
        dict(zip(variable.dims, tally.extent, strict=True)) if tally.cells else {},
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
        stack: CaptureStack,
        first: NDArray[np.generic],
        second: NDArray[np.generic],
        start: list[int],
    ) -> None:
        differs = _bits(first) != _bits(second)
        self.cells += int(differs.sum())
        for axis, places in enumerate(np.argwhere(differs).T):  # none without dimensions
            low, high = self.extent[axis]
            at = places + start[axis]
            self.extent[axis] = (min(low, int(at.min())), max(high, int(at.max())))
        if first.dtype.kind not in "biuf":
            return
        a, b = (stack.variable.to_physical(raw) for raw in (first, second))
        known = np.isfinite(a), np.isfinite(b)
        self.missing += int((known[0] & ~known[1]).sum())
        self.appeared += int((known[1] & ~known[0]).sum())
        both = known[0] & known[1] & differs
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
