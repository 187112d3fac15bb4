"""Which target a path or URL asks for: those that are built in, and those of other packages.

Either is an entry point of the group ``gnomon.targets``.  Its name is an ending with its dot
(``.zarr``) or the scheme of a URL (``s3``); it loads to what makes a target of a path or URL.
"""

import os
from collections.abc import Sequence
from importlib.metadata import EntryPoint
from pathlib import Path

from gnomon.storage.entrypoints import choose, make, registered
from gnomon.storage.errors import InvalidInput
from gnomon.storage.log.credentials import refuse_credentials
from gnomon.tasks.restoring.targets.target import Target

__all__ = ["GROUP", "target_of"]

GROUP = "gnomon.targets"

_PARTS = ("check", "making", "create", "write", "read", "finish")
"""What a target has."""

_HERE = "gnomon.tasks.restoring.targets"
_BUILT_IN = (
    EntryPoint(".zarr", f"{_HERE}.zarr:ZarrTarget", GROUP),
    EntryPoint(".nc", f"{_HERE}.netcdf:NetCDFTarget [netcdf]", GROUP),
)


def target_of(to: str | os.PathLike[str] | Target) -> Target:
    """Return the target that a path or URL asks for by its ending or scheme; a target as it is.

    Raises
    ------
    InvalidInput
        There is none, or several packages have one, or it cannot be loaded; or what was given is no
        target.
    """
    if isinstance(to, os.PathLike):
        to = os.fspath(to)
    if not isinstance(to, str):
        return _checked(to, repr(type(to).__name__))
    choices = [*_BUILT_IN, *registered(GROUP)]
    fitting = [choice for choice in choices if _fits(to, choice.name)]
    if not fitting:
        raise InvalidInput(f"cannot restore to {to!r}; give {_offered(choices)}")
    longest = max(len(choice.name) for choice in fitting)
    chosen = choose([choice for choice in fitting if len(choice.name) == longest])
    if "://" in to:
        refuse_credentials("--to", to)
    return _checked(make(chosen, to), chosen.value)


def _fits(to: str, name: str) -> bool:
    if "://" in to:
        return to.partition("://")[0].lower() == name.lower()
    last = Path(to).name
    return name.startswith(".") and last.endswith(name) and len(last) > len(name)


def _checked(target: Target, name: str) -> Target:
    """Refuse what lacks something that a target has."""
    if isinstance(target, type):
        raise InvalidInput(f"the class {target.__name__} is no target; give an object of it")
    lacking = [part for part in _PARTS if not callable(getattr(target, part, None))]
    if lacking:
        raise InvalidInput(
            f"{name} is no target: it lacks {', '.join(sorted(lacking))}; give a path, or an "
            "object with all that gnomon.tasks.restoring.targets.target.Target has"
        )
    return target


def _offered(choices: Sequence[EntryPoint]) -> str:
    names = dict.fromkeys(choice.name for choice in choices)
    endings = [name for name in names if name.startswith(".")]
    schemes = [f"{name}://" for name in names if not name.startswith(".")]
    path = f"a local path ending in {_listed(endings)}"
    return f"{path}, or a URL that begins with {_listed(schemes)}" if schemes else path


def _listed(names: Sequence[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last
