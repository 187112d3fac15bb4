"""The door: Python API, command line and xarray engine.

>>> import gnomon
>>> repository = gnomon.create("sst.gnomon", "sst.zarr")  # doctest: +SKIP
>>> repository.update()  # doctest: +SKIP
>>> repository.points("2010-09")  # doctest: +SKIP
>>> gnomon.hindcast("sst.zarr", "sst").verdict  # doctest: +SKIP
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gnomon.creation import create, describe
    from gnomon.grouping import create_groups, group_places
    from gnomon.hindcasting import hindcast
    from gnomon.repository import GnomonRepository
    from gnomon.repository import open_repository as open
    from gnomon.storage.checks.check import Check, Chunk, Statistic

__all__ = [
    "Check",
    "Chunk",
    "GnomonRepository",
    "Statistic",
    "__version__",
    "create",
    "create_groups",
    "describe",
    "group_places",
    "hindcast",
    "open",
]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Loaded on first use, so that `import gnomon` and `gnomon --help` stay quick.
    if name in ("create", "describe"):
        from gnomon import creation

        return getattr(creation, name)
    if name in ("create_groups", "group_places"):
        from gnomon import grouping

        return getattr(grouping, name)
    if name == "hindcast":
        from gnomon.hindcasting import hindcast

        return hindcast
    if name in ("Check", "Chunk", "Statistic"):
        from gnomon.storage.checks import check

        return getattr(check, name)
    if name in __all__:
        from gnomon import repository

        return getattr(repository, "open_repository" if name == "open" else name)
    raise AttributeError(f"module 'gnomon' has no attribute {name!r}")
