"""The backfill: capture a source's history, however long, then make the first shadow."""

from typing import Any

from prefect import flow

from gnomon.flows import steps
from gnomon.flows.cluster import task_runner
from gnomon.flows.cycle import run_cycle
from gnomon.flows.settings import Settings
from gnomon.flows.tasks import call_as_task
from gnomon.flows.update import report_run
from gnomon.storage.credentials import without_secrets

__all__ = ["backfill"]


@flow(name="gnomon-backfill", task_runner=task_runner(Settings()), persist_result=False)
@without_secrets
def backfill(
    repository: str, until: str | None = None, settings: Settings | None = None
) -> dict[str, Any]:
    """Capture every state of an append source that was not captured yet.

    A run that is stopped goes on where it was when it is started again.

    Parameters
    ----------
    repository
        Path or URL of the repository.
    until
        Capture nothing later than this time (its whole period, if partial), ISO 8601.
    settings
        What the run may be told; default: from the environment.
    """
    last = steps.last_time(repository, until)
    report = run_cycle(repository, settings or Settings(), call_as_task, until=last)
    report_run(report)
    return report.to_json()
