"""How steps spread their work over chunks, without knowing on what.

A step turns its blocks into a list of plain values and hands them, with a function, to a mapper:
the built-in ``map`` in a notebook, threads in the command line, a Dask graph in a flow.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

__all__ = ["Mapper", "serial"]


class Mapper(Protocol):
    """Applies a picklable function to every item and returns the results in order."""

    def __call__[A, B](self, function: Callable[[A], B], items: Sequence[A], /) -> list[B]:
        """Return the function's result for every item."""
        ...


def serial[A, B](function: Callable[[A], B], items: Sequence[A], /) -> list[B]:
    """Apply the function one item after the other."""
    return [function(item) for item in items]
