"""What other packages add to Gnomon: entry points, loaded only when they are needed.

One rule holds for candidates, checks, targets and alert channels.

- A name of Gnomon's own stays Gnomon's: what a package registers under it is never used, and that
  is told where the name is used.
- A name that several packages register is nobody's: where it is used, all of them are named.  What
  else they register is not harmed.
- An entry point names the thing itself, or what makes it: a class, or a function that is called
  without arguments.  A target is always made, with the path that it is for.
- What cannot be loaded or made is an error where it was chosen by name.  Of checks, which are all
  in use, it is left out and told once in each run, and the others are made.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from gnomon.storage.errors import GnomonError, InvalidInput
from gnomon.storage.redaction import one_line

__all__ = ["FOREIGN", "choose", "contest", "make", "package_of", "registered", "take"]

logger = logging.getLogger(__name__)

FOREIGN = (Exception, SystemExit)
"""What the code of others may raise when it fails; what stops the program is let through."""

_OWN = "gnomon"


def registered(group: str) -> tuple[EntryPoint, ...]:
    """Return the entry points that installed packages have in a group; none is loaded."""
    return tuple({(e.name, e.value): e for e in entry_points(group=group)}.values())


def package_of(entry: EntryPoint) -> str:
    """Return the name of the package that registers an entry point."""
    return entry.dist.name if entry.dist else _OWN


def choose(entries: Sequence[EntryPoint]) -> EntryPoint:
    """Return the one that is used, of the entry points that have one name.

    Raises
    ------
    InvalidInput
        Several packages have it; names all of them.
    """
    own = [entry for entry in entries if package_of(entry) == _OWN]
    for entry in entries if own else ():
        if entry not in own:
            _tell_left_out(entry.group, entry.name, package_of(entry))
    chosen, *others = own[:1] or entries
    if others:
        raise InvalidInput(contest(f"{chosen.name!r} in {chosen.group}", entries))
    return chosen


def contest(what: str, entries: Sequence[EntryPoint]) -> str:
    """Return in one line that several packages register what can be only one's."""
    places = " and ".join(sorted(f"{package_of(entry)} ({entry.value})" for entry in entries))
    return f"several packages register {what}: {places}; remove all but one, or rename it there"


@cache  # told once
def _tell_left_out(group: str, name: str, package: str) -> None:
    logger.warning(
        "package %s registers %r in %s, which is built in: the built-in one is used",
        *(package, name, group),
    )


def take(entry: EntryPoint, fits: Callable[[object], bool], what: str) -> Any:
    """Return what an entry point names, or what comes of calling that without arguments.

    Parameters
    ----------
    fits
        Tells whether an object is what is looked for; a class never is.
    what
        What is looked for, in one word.

    Raises
    ------
    InvalidInput
        It cannot be loaded or called; names the entry point, the reason and the cure.
    """
    with _telling(entry):
        named = entry.load()
        if not callable(named) or (fits(named) and not isinstance(named, type)):
            return named
    with _telling(entry, f"it is no {what} itself, and was called for one: "):
        return named()


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
def _telling(entry: EntryPoint, when: str = "") -> Iterator[None]:
    """Tell whose fault it is when the code of another package fails, and what to do."""
    try:
        yield
    except GnomonError:
        raise
    except FOREIGN as error:
        package = package_of(entry)
        cure = f"mend or remove the package {package}"
        if entry.extras:
            cure = f"pip install '{package}[{','.join(entry.extras)}]'"
        raise InvalidInput(
            f"{entry.name!r} of {entry.group} cannot be loaded from {entry.module} "
            f"({when}{type(error).__name__}: {one_line(error)}); {cure}"
        ) from error
