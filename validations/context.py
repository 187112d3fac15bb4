"""Where a validation runs: a Great Expectations context in memory, or one that writes Data Docs.

Great Expectations takes seconds to import, so this happens when the first context is made, never
with this module.  Its usage statistics are turned off.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gnomon.storage.userpath import blaming

if TYPE_CHECKING:
    from great_expectations.data_context.data_context.abstract_data_context import (
        AbstractDataContext,
    )
    from great_expectations.data_context.types.base import DataContextConfig

__all__ = ["Context", "open_context"]

LISTED_RUNS = 50
"""Newest runs that the index page lists; it reads the result of each anew in every update."""


@dataclass(frozen=True, slots=True)
class Context:
    """A place to validate in; it does not pickle, so make one where it is used."""

    data_context: "AbstractDataContext"
    """The context of Great Expectations."""
    folder: Path | None
    """Folder of the Data Docs site; None if none is written."""
    run_name: str | None
    """Name of the run in the Data Docs, as it occurs in file names."""


def open_context(folder: Path | None = None, *, run_name: str | None = None) -> Context:
    """Return a context in memory, or one whose Data Docs site is `folder`.

    Parameters
    ----------
    folder : Path, optional
        Local folder, made if it does not exist; runs are added to those already there.
    run_name : str, optional
        Names the runs in the site, say by the capture they check; anything but letters, digits,
        ``.``, ``_`` and ``-`` is replaced by ``-``.

    Raises
    ------
    InvalidInput
        The folder cannot be made.
    """
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations

    place = None if folder is None else folder.absolute()
    if place is not None:
        with blaming("--docs", place):
            place.mkdir(parents=True, exist_ok=True)
    context = great_expectations.get_context(mode="ephemeral", project_config=_config(place))
    name = None if run_name is None else re.sub(r"[^\w.-]+|^\.+", "-", run_name, flags=re.ASCII)
    return Context(context, place, name)


def _config(folder: Path | None) -> "DataContextConfig":
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

    defaults = InMemoryStoreBackendDefaults()
    if folder is not None:
        for store, place in (
            (defaults.expectations_store_name, "expectations"),
            (defaults.validation_results_store_name, "results"),
        ):
            defaults.stores[store]["store_backend"] = _files(folder / "store" / place)
        defaults.data_docs_sites = {
            "gnomon": {
                "class_name": "SiteBuilder",
                "show_how_to_buttons": False,
                "store_backend": _files(folder),
                "site_index_builder": {
                    "class_name": "DefaultSiteIndexBuilder",
                    "validation_results_limit": LISTED_RUNS,
                },
            }
        }
    return DataContextConfig(
        store_backend_defaults=defaults,
        analytics_enabled=False,
        progress_bars=ProgressBarsConfig(globally=False, metric_calculations=False),
    )


def _files(folder: Path) -> dict[str, str]:
    return {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder)}
