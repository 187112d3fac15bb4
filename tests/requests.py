"""A store that counts: how often an object store is asked, and what for."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import obstore
import pytest

from gnomon.storage.arrays import shards, tables
from gnomon.storage.repository import _OPENED

__all__ = ["counted", "forget_all"]

ASKING = ("get", "get_range", "put", "head", "list", "delete")


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Count the requests of locations that are no folders, by kind; a listing is one."""
    counts: Counter[str] = Counter()
    with pytest.MonkeyPatch.context() as patch:
        for kind in ASKING:
            patch.setattr(obstore, kind, partial(_ask, counts, kind, getattr(obstore, kind)))
        yield counts


def _ask(
    counts: Counter[str], kind: str, real: Callable[..., Any], *arguments: Any, **options: Any
) -> Any:
    counts[kind] += 1
    return real(*arguments, **options)


def forget_all() -> None:
    """Know as little as a process that was started just now."""
    _OPENED.clear()
    tables._kept.drop(lambda _: True)
    shards._kept.drop(lambda _: True)
