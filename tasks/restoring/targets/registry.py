"""Which target a path or URL asks for: those that are built in, and those of other packages.

Either is an entry point of the group ``gnomon.targets``.  Its name is an ending with its dot
(``.zarr``), the scheme of a URL (``s3``), or an ending in any object store (``://.zarr``); it loads
to what makes a target of a path or URL.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, cast

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
    EntryPoint(".icechunk", f"{_HERE}.icechunks:IcechunkTarget [icechunk]", GROUP),
    EntryPoint("://.zarr", f"{_HERE}.zarr:ZarrBucket", GROUP),
    EntryPoint("://.nc", f"{_HERE}.netcdf:NetCDFBucket [netcdf]", GROUP),
    EntryPoint("://.icechunk", f"{_HERE}.icechunks:IcechunkBucket [icechunk]", GROUP),
)
_STORES = ("s3", "s3a", "gs", "az", "azure", "adl", "abfs", "abfss")
"""Schemes of object stores that put an object only if it is absent."""


def target_of(to: str | os.PathLike[str] | Target, zarr_format: int | None = None) -> Target:
    """Return the target that a path or URL asks for by its ending or scheme; a target as it is.

    Parameters
    ----------
    zarr_format
        Of a Zarr store: 2 or 3; default: that of the target.

    Raises
    ------
    InvalidInput
        There is none, or several packages have one, or it cannot be loaded; or what was given is no
        target; or there is no such Zarr format, or the target has none.
    """
    target = _found(to)
    if zarr_format is None:
        return target
    if zarr_format not in (2, 3):
        raise InvalidInput(f"found {zarr_format} as the format of a Zarr store; give 2 or 3")
    if not hasattr(target, "zarr_format"):
        raise InvalidInput(
            f"a format of Zarr was asked for, but {target} is no Zarr store; leave that out, or "
            "give a path ending in .zarr"
        )
    formatted: Target = replace(cast(Any, target), zarr_format=zarr_format)
    return formatted


def _found(to: str | os.PathLike[str] | Target) -> Target:
    if isinstance(to, os.PathLike):
        to = os.fspath(to)
    if not isinstance(to, str):
        return _checked(to, repr(type(to).__name__))
    to = to.removeprefix("file://")
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
    scheme, separator, rest = to.partition("://")
    if not separator:
        return name.startswith(".") and _ends(to, name)
    if name.startswith("://"):
        return scheme.lower() in _STORES and _ends(rest, name.removeprefix("://"))
    return scheme.lower() == name.lower()


def _ends(path: str, ending: str) -> bool:
    last = Path(path).name
    return last.endswith(ending) and len(last) > len(ending)


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
    local = [name for name in names if name.startswith(".")]
    stored = [name.removeprefix("://") for name in names if name.startswith("://")]
    schemes = [f"{name}://" for name in names if not name.startswith((".", "://"))]
    beginning = f"; or one that begins with {_listed(schemes)}" if schemes else ""
    return (
        f"a local path ending in {_listed(local)}; or a URL (s3://, gs://, az://) ending in "
        f"{_listed(stored)}{beginning}"
    )


def _listed(names: Sequence[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last
