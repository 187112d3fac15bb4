"""Where candidates of the user's choice are found: by name, installed or registered.

An installed package names a class, or a function that makes one, in the entry-point group
``gnomon.candidates``; a notebook registers an object for its own process.  Workers in other
processes know only those that are installed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from math import isfinite
from typing import NoReturn

from gnomon.storage.entrypoints import FOREIGN, choose, registered, take
from gnomon.storage.errors import GnomonError, InvalidInput, NotFound
from gnomon.storage.redaction import one_line
from gnomon.storage.values.documents import plain_name
from gnomon.tasks.forecasting.candidate import CANDIDATES, Candidate

__all__ = ["GROUP", "find", "for_now", "installed", "name_of", "names", "register", "version_of"]

GROUP = "gnomon.candidates"
"""Entry-point group."""
LATEST = 2**31
"""Largest version of a candidate."""

_registered: dict[str, Candidate] = {}


def installed() -> tuple[str, ...]:
    """Names of the candidates that can be chosen here, in order."""
    names = {*_registered, *(entry.name for entry in registered(GROUP))}
    return tuple(sorted(names.difference(CANDIDATES)))  # what is built in is always there


def register(candidate: Candidate) -> str:
    """Make a candidate known to this process, and return its name.

    One of the same name that was registered before is replaced.

    Raises
    ------
    InvalidInput
        It has no such name, lacks something, or one that is installed has its name.
    """
    name = _checked(candidate).name
    if any(entry.name == name for entry in registered(GROUP)):
        raise InvalidInput(f"a candidate {name} is installed; give yours another name")
    _registered[name] = candidate
    return name


@contextmanager
def for_now() -> Iterator[None]:
    """Forget what is registered meanwhile: what is only tried is not to be used elsewhere."""
    before = dict(_registered)
    try:
        yield
    finally:
        _registered.clear()
        _registered.update(before)


def names(candidates: str | Candidate | Iterable[str | Candidate]) -> tuple[str, ...]:
    """Return the name of each candidate, or of the one that is given alone; as `name_of`."""
    is_listed = isinstance(candidates, Iterable) and not isinstance(candidates, str)
    listed = candidates if is_listed else [candidates]
    return tuple(dict.fromkeys(map(name_of, listed)))  # type: ignore[arg-type]


def name_of(candidate: str | Candidate) -> str:
    """Return the name of a candidate that can be found here; an object is registered.

    Raises
    ------
    NotFound, InvalidInput
        As `find` and `register`.
    """
    if isinstance(candidate, str):
        return find(candidate).name if candidate not in CANDIDATES else _refuse(candidate)
    return register(candidate)


def _refuse(name: str) -> NoReturn:
    raise InvalidInput(f"{name} is a built-in candidate, and always there; leave it out")


def version_of(candidate: Candidate) -> int:
    """Return the version of what a candidate leaves behind; 1 if it does not say."""
    return getattr(candidate, "version", 1)


def find(name: str) -> Candidate:
    """Return a candidate by its name.

    Raises
    ------
    NotFound
        Nothing of this name is installed or registered.
    InvalidInput
        What is installed under this name cannot be loaded, or is no candidate.
    """
    if name in _registered:
        return _registered[name]
    loaded = _load(name)
    if isinstance(loaded, GnomonError):
        raise loaded
    return loaded


@cache  # a look through all packages takes long, and they are asked for every block
def _load(name: str) -> Candidate | GnomonError:
    try:
        return _installed(name)
    except GnomonError as error:
        return error


def _installed(name: str) -> Candidate:
    if entries := [entry for entry in registered(GROUP) if entry.name == name]:
        taken = take(choose(entries), lambda named: hasattr(named, "predict"), "candidate")
        candidate: Candidate = _checked(taken)
        if candidate.name != name:
            raise InvalidInput(f"the entry point {name} gives a candidate named {candidate.name}")
        return candidate
    raise NotFound(
        f"there is no candidate {name!r} here, found {', '.join(installed()) or 'none'}; "
        "install the package that has it, or choose another"
    )


def _checked(candidate: Candidate) -> Candidate:
    """Return a candidate after it was found legal; it may be anything, and do anything."""
    try:
        return _legal(candidate)
    except GnomonError:
        raise
    except FOREIGN as error:
        raise InvalidInput(
            f"a {type(candidate).__name__} is no candidate ({type(error).__name__}: "
            f"{one_line(error)}); mend it"
        ) from error


def _legal(candidate: Candidate) -> Candidate:
    if isinstance(candidate, type):
        raise InvalidInput(
            f"{candidate.__name__} is a class; give one of it: {candidate.__name__}()"
        )
    try:
        name = plain_name(getattr(candidate, "name", None), "the name of a candidate")
    except ValueError as error:
        raise InvalidInput(f"{error}; give it another") from error
    if name in CANDIDATES:
        raise InvalidInput(f"{name} is a built-in candidate; give yours another name")
    per = getattr(candidate, "per", None)
    if per not in ("cell", "mode"):
        raise InvalidInput(f"the candidate {name} is per {per!r}, not per cell or mode")
    cost_s = getattr(candidate, "cost_s", None)
    if not isinstance(cost_s, int | float) or not isfinite(cost_s):
        raise InvalidInput(f"the candidate {name} costs {cost_s!r} s; expected a finite number")
    version = version_of(candidate)
    if type(version) is not int or not 0 <= version <= LATEST:
        raise InvalidInput(f"the candidate {name} has version {version!r}, not 0 to {LATEST}")
    for method in ("fit", "predict", *(("lags",) if per == "cell" else ())):
        if not callable(getattr(candidate, method, None)):
            raise InvalidInput(f"the candidate {name} has no method {method}; add it")
    return candidate
