"""What was used last is kept, within bounds."""

from collections.abc import Hashable

__all__ = ["drop_oldest"]


def drop_oldest[K: Hashable, V](kept: dict[K, V], most: int) -> None:
    """Leave the `most` entries that came last; threads may do so at once, and add to it."""
    while len(kept) > most:
        try:
            kept.pop(next(iter(kept)))
        except (KeyError, StopIteration, RuntimeError):  # another thread's turn
            return
