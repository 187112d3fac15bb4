"""What was used last is kept, within bounds."""

from collections.abc import Callable, Hashable

__all__ = ["drop_oldest", "drop_to_size"]


def drop_oldest[K: Hashable, V](kept: dict[K, V], most: int) -> None:
    """Leave the `most` entries that came last; threads may do so at once, and add to it."""
    while len(kept) > most:
        try:
            kept.pop(next(iter(kept)))
        except (KeyError, StopIteration, RuntimeError):  # another thread's turn
            return


def drop_to_size[K: Hashable, V](
    kept: dict[K, V], most: int, nbytes: int, nbytes_of: Callable[[V], int]
) -> None:
    """Leave at most so many of the entries that came last, and of these so many bytes."""
    drop_oldest(kept, most)
    while sum(map(nbytes_of, [*kept.values()])) > nbytes:
        drop_oldest(kept, len(kept) - 1)
