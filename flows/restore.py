"""The restore: write the best state of a time to a new dataset, verified."""

from typing import Any

from prefect import flow
from prefect.states import Completed

from gnomon.flows.cluster import Workers
from gnomon.flows.run import keep_artifacts, run_name, told
from gnomon.flows.settings import Settings
from gnomon.flows.tasks import run_as_task
from gnomon.storage.log.credentials import without_secrets
from gnomon.storage.repository import Repository
from gnomon.tasks.restoring.points import Match
from gnomon.tasks.restoring.restore import restore as write
from gnomon.tasks.restoring.restore import select

__all__ = ["restore"]


@flow(name="gnomon-restore", flow_run_name=run_name("restore", "at"), persist_result=False)
@without_secrets
def restore(
    repository: str,
    at: str,
    target: str,
    kind: str | None = None,
    accept_predicted: bool = False,
    plain: bool = False,
    capture: int | None = None,
    settings: Settings | None = None,
    match: Match = "exact",
    zarr_format: int | None = None,
) -> dict[str, Any]:
    """Restore the state of a time into a new dataset.

    Parameters
    ----------
    repository
        Path or URL of the repository.
    at
        Time of the state, ISO 8601.
    target
        New path or URL; its ending, ``.zarr``, ``.nc`` or ``.icechunk``, says what it will be.
    kind
        Take this kind of restore point; default: the best.
    accept_predicted
        Allow a state with estimated cells.
    plain
        Leave out standard errors and provenance; captured states only.
    capture
        Number of the capture to take, where a time has several.
    settings
        What the run may be told; default: from the environment.
    match
        Where no state is of that time: ``exact`` refuses, ``nearest`` takes the nearest state,
        ``before`` the last one before.
    zarr_format
        Format of a Zarr store: 2 or 3; default: 3.
    """
    seen, point = run_as_task(
        "choose restore point",
        lambda: select(
            Repository.open(repository),
            at,
            match=match,
            kind=kind,
            accept_predicted=accept_predicted,
            capture=capture,
        ),
    )
    with told() as logger, Workers(settings or Settings()) as workers:
        restored = run_as_task(
            "write and verify",
            lambda: write(
                seen, point, target, plain=plain, zarr_format=zarr_format, mapper=workers.mapper
            ),
        )
        text = f"asked for {at}: {restored}"
        logger.info(text)
        keep_artifacts({"gnomon-restore": text})
    state: Any = Completed(message=text, data=restored.to_json())
    result: dict[str, Any] = state  # what Prefect makes of it for the caller
    return result
