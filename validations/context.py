"""Where a validation runs: a Great Expectations context in memory, or one that writes Data Docs.

Great Expectations takes seconds to import, so this happens when the first context is made, never
with this module.  Its usage statistics are turned off.
"""

import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import get_ident
from typing import TYPE_CHECKING

from gnomon.storage.redaction import one_line
from gnomon.storage.userpath import blaming, check_output
from gnomon.validations import lean
from gnomon.validations.deferred import deferred

if TYPE_CHECKING:
    from great_expectations.data_context.data_context.abstract_data_context import (
        AbstractDataContext,
    )
    from great_expectations.data_context.types.base import DataContextConfig

__all__ = ["DOCS", "Context", "check_docs", "open_context", "writing_docs"]

logger = logging.getLogger(__name__)

DOCS = "--docs (GNOMON_DOCS)"
"""What a user may have named the folder of the Data Docs by."""
_INSIDE = (
    "store",
    "store/expectations",
    "store/results",
    "expectations",
    "validations",
    "static",
)
"""Folders that are written in it."""
_PAGES = "great_expectations.render.renderer.site_builder"
"""Logger of what builds the pages; it logs what fails, and goes on."""

LISTED_RUNS = 50
"""Newest runs that the index page lists; it reads the result of each anew in every update."""


@dataclass(frozen=True, slots=True)
class Context:
    """A place to validate in; it does not pickle, so make one where it is used."""

    data_context: "AbstractDataContext | None"
    """The context of Great Expectations; None where the lean import of it needs none."""
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
        The folder, or one in it, cannot be made.
    """
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    name = None if run_name is None else re.sub(r"[^\w.-]+|^\.+", "-", run_name, flags=re.ASCII)
    place = None if folder is None else folder.absolute()
    if place is None and lean.is_ready():
        return Context(None, None, name)
    lean.forget()
    with deferred(*lean.UNUSED):
        import great_expectations

    if place is None:
        context = great_expectations.get_context(mode="ephemeral", project_config=_config(None))
    else:
        with blaming(DOCS, place):
            place.mkdir(parents=True, exist_ok=True)
            context = great_expectations.get_context(
                mode="ephemeral", project_config=_config(place)
            )
    return Context(context, place, name)


def check_docs(folder: Path) -> None:
    """Refuse a folder of Data Docs that cannot be written, before long work; writes nothing.

    Raises
    ------
    InvalidInput
        Names it, or what is in the way within it.
    """
    check_output(DOCS, folder, folder=True)
    for inner in _INSIDE:
        check_output(DOCS, folder / inner, folder=True)


@contextmanager
def writing_docs(folder: Path | None) -> Iterator[None]:
    """Blame what cannot be written on the folder; only that may be written inside.

    A page that fails for another reason is told of in the log, and left out.

    Raises
    ------
    InvalidInput
        Names the folder, and what the system said.
    """
    if folder is None:
        yield
        return
    thread, failures = get_ident(), list[BaseException]()

    def hear(record: logging.LogRecord) -> bool:
        error = sys.exception()
        if record.thread != thread or error is None or record.levelno < logging.ERROR:
            return True
        failures.append(error)
        return False  # with its traceback

    pages = logging.getLogger(_PAGES)
    pages.addFilter(hear)
    try:
        with blaming(DOCS, folder):
            yield
            for failure in failures:
                if isinstance(failure, OSError):
                    raise failure
    finally:
        pages.removeFilter(hear)
    if failures:
        logger.warning("docs not written folder=%s because=%s", folder, one_line(failures[0]))


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
