"""What other packages add to Gnomon: entry points, loaded only when they are needed."""

from importlib.metadata import EntryPoint, entry_points
from typing import Any

from gnomon.storage.errors import GnomonError, InvalidInput
from gnomon.storage.redaction import one_line

__all__ = ["make", "registered"]


def registered(group: str) -> tuple[EntryPoint, ...]:
    """Return the entry points that installed packages have in a group; none is loaded."""
    return tuple({(e.name, e.value): e for e in entry_points(group=group)}.values())


def make(entry: EntryPoint, *arguments: object) -> Any:
    """Return what comes of calling what an entry point names.

    Raises
    ------
    InvalidInput
        It cannot be loaded or called; names the entry point, the reason and the cure.
    """
    try:
        return entry.load()(*arguments)
    except GnomonError:
        raise
    except Exception as error:  # a package of others may raise anything
        package = entry.dist.name if entry.dist else "gnomon"
        cure = f"mend or remove the package {package}"
        if entry.extras:
            cure = f"pip install '{package}[{','.join(entry.extras)}]'"
        raise InvalidInput(
            f"{entry.name!r} of {entry.group} cannot be loaded from {entry.module} "
            f"({type(error).__name__}: {one_line(error)}); {cure}"
        ) from error
