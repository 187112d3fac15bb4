"""What other packages add to Gnomon: entry points, loaded only when they are needed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from gnomon.storage.errors import GnomonError, InvalidInput
from gnomon.storage.redaction import one_line

__all__ = ["FOREIGN", "load", "make", "registered"]

FOREIGN = (Exception, SystemExit)
"""What the code of others may raise when it fails; what stops the program is let through."""


def registered(group: str) -> tuple[EntryPoint, ...]:
    """Return the entry points that installed packages have in a group; none is loaded."""
    return tuple({(e.name, e.value): e for e in entry_points(group=group)}.values())


def load(entry: EntryPoint, take: Callable[[Any], Any] = lambda named: named) -> Any:
    """Return what an entry point names.

    Parameters
    ----------
    take
        What is made of it; may run code of its package, too.

    Raises
    ------
    InvalidInput
        It cannot be loaded; names the entry point, the reason and the cure.
    """
    with _telling(entry):
        return take(entry.load())


def make(entry: EntryPoint, *arguments: object) -> Any:
    """Call what an entry point names, and return the result.

    Raises
    ------
    InvalidInput
        It cannot be loaded or called; names the entry point, the reason and the cure.
    """
    with _telling(entry):
        return entry.load()(*arguments)


@contextmanager
def _telling(entry: EntryPoint) -> Iterator[None]:
    """Tell whose fault it is when the code of another package fails, and what to do."""
    try:
        yield
    except GnomonError:
        raise
    except FOREIGN as error:
        package = entry.dist.name if entry.dist else "gnomon"
        cure = f"mend or remove the package {package}"
        if entry.extras:
            cure = f"pip install '{package}[{','.join(entry.extras)}]'"
        raise InvalidInput(
            f"{entry.name!r} of {entry.group} cannot be loaded from {entry.module} "
            f"({type(error).__name__}: {one_line(error)}); {cure}"
        ) from error
