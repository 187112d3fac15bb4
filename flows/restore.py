"""The restore: write the best state of a time to a new dataset, verified."""

from typing import Any

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact

from gnomon.flows.cluster import dask_mapper, task_runner
from gnomon.flows.settings import Settings
from gnomon.storage.repository import Repository
from gnomon.tasks.points import Match, RestorePoint
from gnomon.tasks.restore import Restored, select
from gnomon.tasks.restore import restore as write

__all__ = ["restore"]


@task(name="choose restore point", persist_result=False)
def _choose(
    repository: str,
    at: str,
    match: Match,
    kind: str | None,
    accept_predicted: bool,
    capture: int | None,
) -> RestorePoint:
    return select(
        Repository.open(repository),
        at,
        match=match,
        kind=kind,
        accept_predicted=accept_predicted,
        capture=capture,
    )[1]


@task(name="write and verify", persist_result=False)
def _write(repository: str, point: RestorePoint, target: str, plain: bool) -> Restored:
    opened = Repository.open(repository).in_era(point.era)
    return write(opened, point, target, plain=plain, mapper=dask_mapper)


@flow(name="gnomon-restore", task_runner=task_runner(Settings()), persist_result=False)
def restore(
    repository: str,
    at: str,
    target: str,
    kind: str | None = None,
    accept_predicted: bool = False,
    plain: bool = False,
    capture: int | None = None,
    match: Match = "exact",
) -> dict[str, Any]:
    """Restore the state of a time into a new Zarr store or NetCDF file.

    Parameters
    ----------
    repository
        Path or URL of the repository.
    at
        Time of the state, ISO 8601.
    target
        New path, ending in ``.zarr`` or ``.nc``.
    kind
        Take this kind of restore point; default: the best.
    accept_predicted
        Allow a state with estimated cells.
    plain
        Leave out standard errors and provenance; captured states only.
    capture
        Number of the capture to take, where a time has several.
    match
        Where no state is of that time: ``exact`` refuses, ``nearest`` takes the nearest state,
        ``before`` the last one before.
    """
    point = _choose.submit(repository, at, match, kind, accept_predicted, capture).result()
    done = _write.submit(repository, point, target, plain).result()
    create_markdown_artifact(markdown=f"asked for {at}: {done}", key="gnomon-restore")
    return done.to_json()
