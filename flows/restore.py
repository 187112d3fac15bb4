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
from gnomon.tasks.restoring.locate import Match
from gnomon.tasks.restoring.request import StateRequest
from gnomon.tasks.restoring.restore import restore as write
from gnomon.tasks.restoring.selection import Wanted
from gnomon.tasks.restoring.states import choose_states

__all__ = ["restore"]


@flow(name="gnomon-restore", flow_run_name=run_name("restore", "at"), persist_result=False)
@without_secrets
def restore(
    repository: str,
    at: str | None,
    target: str,
    kind: str | None = None,
    accept_predicted: bool = False,
    plain: bool = False,
    capture: int | None = None,
    settings: Settings | None = None,
    match: Match = "exact",
    from_: str | None = None,
    until: str | None = None,
    variable: list[str] | None = None,
    region: str | None = None,
    chunk: list[str] | None = None,
    marks: bool = False,
    zarr_format: int | None = None,
    cells: str | None = None,
) -> dict[str, Any]:
    """Restore the state of a time, or those of a period, into a new dataset.

    Parameters
    ----------
    repository
        Path or URL of the repository.
    at
        Time of the state, ISO 8601; none if a period is given.
    target
        New path or URL; its ending, ``.zarr``, ``.nc`` or ``.icechunk``, says what it will be.
    kind
        Take this kind of restore point; default: the best.
    accept_predicted
        Allow a state with estimated cells.
    plain
        Refuse a state with estimated cells.
    capture
        Number of the capture to take, where a time has several.
    settings
        What the run may be told; default: from the environment.
    match
        Where no state is of that time: ``exact`` refuses, ``nearest`` takes the nearest state,
        ``before`` the last one before.
    from_, until
        Ends of a period, both included, of which all states are restored.
    variable
        Names of the variables to restore; default: all.
    region
        Part of the grid, such as ``lat=10:20,lon=-5:5``.
    chunk
        Instead of a region, chunks by their index on the chunk grid: ``3,4`` or ``sst:3,4``.
    marks
        Write standard errors and provenance of captured states, too.
    zarr_format
        Format of a Zarr store: 2 or 3; default: 3.
    cells
        Path of a mask of damaged cells, which alone are estimated; of `variable`, or of all that
        have its shape.
    """
    wanted = Wanted.of(variable or (), region, chunk or ())
    request = StateRequest(at, from_, until, match, kind, capture, accept_predicted, wanted)
    states = run_as_task(
        "choose restore point", lambda: choose_states(Repository.open(repository), request, cells)
    )
    with told() as logger, Workers(settings or Settings()) as workers:
        restored = run_as_task(
            "write and verify",
            lambda: write(
                states,
                target,
                plain=plain,
                marks=marks,
                zarr_format=zarr_format,
                mapper=workers.mapper,
            ),
        )
        asked = at or f"{from_ or 'the first'} to {until or 'the last'}"
        text = f"asked for {asked}: {restored}"
        logger.info(text)
        keep_artifacts({"gnomon-restore": text})
    state: Any = Completed(message=text, data=restored.to_json())
    result: dict[str, Any] = state  # what Prefect makes of it for the caller
    return result
