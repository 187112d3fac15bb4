"""The backfill: capture a source's history, however long, then make the first shadow."""

from typing import Any

from prefect import flow

from gnomon.flows import steps
from gnomon.flows.run import prefect_cycle, run_name
from gnomon.flows.settings import Settings
from gnomon.storage.log.credentials import without_secrets

__all__ = ["backfill"]


@flow(name="gnomon-backfill", flow_run_name=run_name("backfill", "until"), persist_result=False)
@without_secrets
def backfill(
    repository: str, until: str | None = None, settings: Settings | None = None
) -> dict[str, Any]:
    """Capture every state of an append source that was not captured yet.

    A run that is stopped goes on where it was when it is started again.  Returns the report as
    JSON; where damage is critical, the run's state is ``Suspect``, a kind of completed.

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
    report: dict[str, Any] = prefect_cycle(
        repository, settings or Settings(), lambda cycle: cycle.run(until=last)
    )
    return report
