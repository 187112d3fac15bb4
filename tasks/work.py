"""How steps spread their work over chunks, without knowing on what.

A step turns its blocks into a list of plain values and hands them, with a function, to a mapper:
the built-in ``map`` in a notebook, threads in the command line, a Dask graph in a flow.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from gnomon.storage.log.credentials import without_secrets

__all__ = ["Mapper", "SingleThreaded", "serial"]


class Mapper(Protocol):
    """Applies a picklable function to every item and returns the results in order."""

    def __call__[A, B](self, function: Callable[[A], B], items: Sequence[A], /) -> list[B]:
        """Return the function's result for every item."""
        ...


def serial[A, B](function: Callable[[A], B], items: Sequence[A], /) -> list[B]:
    """Apply the function one item after the other."""
    return [*map(SingleThreaded(function), items)]


@dataclass(frozen=True, slots=True)
class SingleThreaded[A, B]:
    """A function whose linear algebra uses one thread, in a process that does nothing else.

    The mapper's workers are the parallel part. Threads of each of them would fight over the cores,
    and how many there are would decide in which order numbers are added.
    """

    function: Callable[[A], B]
    """What is called; picklable, as this is then."""

    def __call__(self, item: A, /) -> B:
        """Return the function's result."""
        from threadpoolctl import threadpool_limits

        with threadpool_limits(limits=1):
            return without_secrets(self.function)(item)
