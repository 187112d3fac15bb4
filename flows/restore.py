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
from gnomon.storage.serve.planes import Plane
from gnomon.tasks.restoring.cells import accepted_cells
from gnomon.tasks.restoring.points import Match
from gnomon.tasks.restoring.restore import restore as write
from gnomon.tasks.restoring.restore import select
from gnomon.tasks.restoring.restore_point import RestorePoint

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
    cells: str | None = None,
    variable: str | None = None,
) -> dict[str, Any]:
    """Restore the state of a time into a new dataset.

    Parameters
    ----------
    repository
        Path or URL of the repository.
    at
        Time of the state, ISO 8601.
    target
        New path; its ending, such as ``.zarr`` or ``.nc``, says what it will be.
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
    cells
        Path of a mask of damaged cells, which alone are estimated.
    variable
        The variable whose cells are damaged; default: all that have the mask's shape.
    """
    asked: Any = {"match": match, "kind": kind, "capture": capture}

    def chosen() -> tuple[Repository, RestorePoint, tuple[Plane, ...] | None]:
        opened = Repository.open(repository)
        if cells is None and variable is None:
            return *select(opened, at, accept_predicted=accept_predicted, **asked), None
        healed = accepted_cells(
            opened, at, cells, variable=variable, accept=accept_predicted, **asked
        )
        return healed.repository, healed.point, healed.planes

    seen, point, shown = run_as_task("choose restore point", chosen)
    with told() as logger, Workers(settings or Settings()) as workers:
        restored = run_as_task(
            "write and verify",
            lambda: write(seen, point, target, plain=plain, mapper=workers.mapper, shown=shown),
        )
        text = f"asked for {at}: {restored}"
        logger.info(text)
        keep_artifacts({"gnomon-restore": text})
    state: Any = Completed(message=text, data=restored.to_json())
    result: dict[str, Any] = state  # what Prefect makes of it for the caller
    return result
