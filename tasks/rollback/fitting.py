"""Fitting: which numbers of a state the types of a live dataset cannot hold.

A restore to a new place takes a wider type for them.  A live dataset keeps its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.errors import InvalidInput
from gnomon.storage.values.grid import Index
from gnomon.storage.values.model import Variable
from gnomon.storage.values.scaling import Packing

__all__ = ["Numbers", "Unheld", "refuse_unheld"]


@dataclass(frozen=True, slots=True)
class Numbers:
    """What the cells of a chunk stand for that is not written bit for bit."""

    values: NDArray[np.float64]
    """In the units of init, in the shape of the chunk; NaN where missing."""
    error: NDArray[np.float64]
    """Standard error, in the same units; NaN or 0 where there is none."""
    cells: NDArray[np.bool_]
    """The cells that are meant: those of captured bits are not."""

    def clipped(self, into: Packing) -> NDArray[np.bool_]:
        """Return the cells whose estimate is beyond the type, but by no more than its error.

        The nearest number that the type can hold is as good as the estimate said it was: a rate
        of rain in unsigned integers may be estimated to be a little below zero.
        """
        with np.errstate(invalid="ignore"):
            over = np.abs(self.values - np.clip(self.values, *into.span()))
        return self.cells & into.beyond(self.values) & (over <= self.error)

    def unheld(self, into: Packing) -> NDArray[np.bool_]:
        """Return the cells that the type cannot hold: too far beyond it, or missing."""
        lost = into.beyond(self.values) & ~self.clipped(into)
        if not into.tells_missing:
            lost |= np.isnan(self.values)
        return self.cells & lost


@dataclass(frozen=True, slots=True)
class Unheld:
    """A chunk of which some cells cannot be stored in a live dataset."""

    variable: str
    """Name of the variable."""
    index: Index
    """Index of the chunk on the repository's grid."""
    cells: int
    """How many."""
    reason: str
    """What they should hold, and what can be held."""

    @classmethod
    def of(
        cls,
        variable: Variable,
        index: Index,
        numbers: Numbers,
        into: Packing,
        lost: NDArray[np.bool_],
    ) -> "Unheld":
        """Return what is to be told of some cells."""
        low, high = into.span()
        units = f" {variable.attributes.get('units', '')}".rstrip()
        values = numbers.values[lost]
        known = values[~np.isnan(values)]
        if known.size:
            farthest = known[np.argmax(np.maximum(low - known, known - high))]
            held = f"{low:.6g} to {high:.6g}{units}"
            reason = f"{farthest:.6g}{units}, where {into.dtype} as it is packed holds {held}"
        else:
            reason = f"no value, where {into.dtype} without a fill value cannot say so"
        return cls(variable.name, index, int(lost.sum()), reason)

    @property
    def place(self) -> str:
        """The chunk as users name it."""
        return "/".join(map(str, self.index))

    def __str__(self) -> str:
        return (
            f"{self.cells} cells of {self.variable} chunk {self.place or 'all'} should become "
            f"{self.reason}"
        )


def refuse_unheld(unheld: Sequence[Unheld]) -> None:
    """Refuse to write what cannot be stored.

    Raises
    ------
    InvalidInput
        There is any: says where, and what to do.
    """
    if not unheld:
        return
    more = f" (and of {len(unheld) - 1} chunks more)" if len(unheld) > 1 else ""
    raise InvalidInput(
        f"{unheld[0]}{more}; nothing was written: restore to a new place with --to, which takes a "
        "wider type, or name the other chunks with --chunk"
    )
