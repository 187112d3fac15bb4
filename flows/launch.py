"""Flows run from here, with the API that Prefect is configured for or a temporary one.

Prefect keeps their parameters: paths are absolute in them, for workers elsewhere, and a place that
holds a secret is refused before.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gnomon.storage.errors import Unavailable
from gnomon.storage.log.credentials import refuse_credentials
from gnomon.storage.log.location import Location
from gnomon.storage.redaction import one_line

if TYPE_CHECKING:
    from gnomon.flows.settings import Settings

__all__ = ["prefect_api", "prepare", "run_backfill", "run_restore", "run_update"]


def prepare() -> None:
    """Set what Prefect reads from the environment when it is first imported."""
    defaults = {
        # A fresh home can need more than the default 20 s.
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_LEVEL": "WARNING",
        "DO_NOT_TRACK": "1",
        # Two processes with as many BLAS threads as cores slow each other down.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


@contextmanager
def prefect_api() -> Iterator[None]:
    """Make sure that there is one Prefect API for this process and its Dask workers.

    Without a configured one, every worker process would start a temporary server of its own.
    """
    prepare()
    from prefect.server.api.server import SubprocessASGIServer
    from prefect.settings import PREFECT_API_URL, temporary_settings

    if PREFECT_API_URL.value():
        with _answering():
            yield
        return
    server = SubprocessASGIServer()
    server.start(timeout=120)
    os.environ["PREFECT_API_URL"] = server.api_url
    try:
        with temporary_settings({PREFECT_API_URL: server.api_url}):
            yield
    finally:
        del os.environ["PREFECT_API_URL"]
        server.stop()


@contextmanager
def _answering() -> Iterator[None]:
    """Tell a Prefect API that does not answer from a fault of ours."""
    import httpx

    try:
        yield
    except (httpx.HTTPError, RuntimeError) as error:
        # Prefect raises a plain RuntimeError before a run.
        if isinstance(error, RuntimeError) and not str(error).startswith("Failed to reach API"):
            raise
        raise Unavailable(
            f"the Prefect API does not answer ({one_line(error)}); start it, or correct "
            "PREFECT_API_URL, and run again: what was committed is kept"
        ) from error


def run_update(
    repository: str,
    *,
    time: str | None,
    refit: bool,
    settings: "Settings",
    new_era: bool = False,
    if_due: bool = False,
) -> dict[str, Any]:
    """Run the update flow."""
    settings.check_outputs()
    repository = Location(repository).url
    with prefect_api():
        from gnomon.flows.update import update

        result: dict[str, Any] = update(
            repository,
            time=time,
            refit=refit,
            new_era=new_era,
            if_due=if_due,
            settings=settings,
        )
    return result


def run_backfill(repository: str, *, until: str | None, settings: "Settings") -> dict[str, Any]:
    """Run the backfill flow."""
    settings.check_outputs()
    repository = Location(repository).url
    with prefect_api():
        from gnomon.flows.backfill import backfill

        result: dict[str, Any] = backfill(repository, until=until, settings=settings)
    return result


def run_restore(
    repository: str,
    at: str | None,
    target: str,
    *,
    settings: "Settings",
    **options: Any,
) -> dict[str, Any]:
    """Run the restore flow; the options are those of :func:`gnomon.flows.restore.restore`."""
    refuse_credentials("--to", target)
    repository = Location(repository).url
    with prefect_api():
        from gnomon.flows.restore import restore

        result: dict[str, Any] = restore(
            repository,
            at,
            str(Path(target).expanduser().absolute()) if "://" not in target else target,
            settings=settings,
            **options,
        )
    return result
