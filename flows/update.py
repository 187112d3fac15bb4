"""The scheduled update: capture what is new, check it, renew the shadow."""

from typing import Any

from prefect import flow

from gnomon.flows import steps
from gnomon.flows.alerting import channels_of
from gnomon.flows.due import refuse_undue
from gnomon.flows.registered import checks_in_use
from gnomon.flows.run import prefect_cycle, run_name
from gnomon.flows.settings import Settings
from gnomon.storage.log.credentials import without_secrets

__all__ = ["update"]


@flow(name="gnomon-update", flow_run_name=run_name("update", "time"), persist_result=False)
@without_secrets
def update(
    repository: str,
    time: str | None = None,
    refit: bool = False,
    settings: Settings | None = None,
    new_era: bool = False,
    if_due: bool = False,
) -> dict[str, Any]:
    """Bring a repository up to date with its source.

    Returns the report as JSON.  Where damage is critical, the run's state is ``Suspect``, a kind of
    completed.

    Parameters
    ----------
    repository
        Path or URL of the repository.
    time
        Valid time of a state source, ISO 8601; default: now.
    refit
        Learn everything anew.
    settings
        What the run may be told; default: from the environment.
    new_era
        Go on with a source whose grid, types or variables have changed.
    if_due
        Do nothing if the next update is due later than now; the run's state is then ``NotDue``, a
        kind of completed.  A run of a deployment has this run again when the next update is due.
    """
    settings = settings or Settings()
    if if_due:
        refuse_undue(refit=refit, new_era=new_era)
    if new_era:
        # A wrong setting must not be found after the era.
        channels_of(settings)
        checks_in_use(file=settings.checks)
        steps.new_era(repository)
    now = steps.valid_time(repository, time)
    report: dict[str, Any] = prefect_cycle(
        repository,
        settings,
        lambda cycle: cycle.run(
            now=now,
            refit="asked for" if refit else None,
            compare=None if settings.compare < 0 else settings.compare,
            if_due=if_due,
        ),
        again=if_due,
    )
    return report
