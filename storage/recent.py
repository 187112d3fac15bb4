"""What was used last is kept, within bounds."""

from collections.abc import Callable, Hashable
from threading import Lock

__all__ = ["Recent", "drop_oldest"]


def drop_oldest[K: Hashable, V](kept: dict[K, V], most: int) -> None:
    """Leave the `most` entries that came last; threads may do so at once, and add to it."""
    while len(kept) > most:
        try:
            kept.pop(next(iter(kept)))
        except (KeyError, StopIteration, RuntimeError):  # another thread's turn
            return


class Recent[K: Hashable, V]:
    """The entries that were used last, so many and so many bytes of them; threads may share it."""

    def __init__(self, most: int, nbytes: int, nbytes_of: Callable[[V], int]) -> None:
        self.most = most
        self.nbytes = nbytes
        self._nbytes_of = nbytes_of
        self._kept: dict[K, V] = {}
        self._total = 0
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: K) -> V | None:
        """Return an entry, which was used now; None if it is not kept."""
        with self._lock:
            value = self._kept.pop(key, None)
            if value is not None:
                self._kept[key] = value
            return value

    def put(self, key: K, value: V) -> None:
        """Keep an entry, and let go of those that were used longest ago."""
        with self._lock:
            self._drop(key)
            self._kept[key] = value
            self._total += self._nbytes_of(value)
            while self._kept and (len(self._kept) > self.most or self._total > self.nbytes):
                self._drop(next(iter(self._kept)))

    def drop(self, is_unwanted: Callable[[K], bool]) -> None:
        """Let go of all entries with certain keys."""
        with self._lock:
            for key in [key for key in self._kept if is_unwanted(key)]:
                self._drop(key)

    def items(self) -> list[tuple[K, V]]:
        """Return all entries, the last used last."""
        with self._lock:
            return [*self._kept.items()]

    def _drop(self, key: K) -> None:
        value = self._kept.pop(key, None)
        if value is not None:
            self._total -= self._nbytes_of(value)
