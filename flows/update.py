"""The scheduled update: capture what is new, check it, renew the shadow."""

from typing import Any

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.events import emit_event

from gnomon.flows import steps
from gnomon.flows.cluster import task_runner
from gnomon.flows.cycle import UpdateReport, run_cycle
from gnomon.flows.settings import Settings
from gnomon.flows.tasks import call_as_task
from gnomon.storage.credentials import without_secrets

__all__ = ["report_run", "update"]


@flow(name="gnomon-update", task_runner=task_runner(Settings()), persist_result=False)
@without_secrets
def update(
    repository: str,
    time: str | None = None,
    refit: bool = False,
    settings: Settings | None = None,
    new_era: bool = False,
) -> dict[str, Any]:
    """Bring a repository up to date with its source.

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
    """
    if new_era:
        steps.new_era(repository)
    settings = settings or Settings()
    report = run_cycle(
        repository,
        settings,
        call_as_task,
        now=steps.valid_time(repository, time),
        refit="asked for" if refit else None,
        compare=None if settings.compare < 0 else settings.compare,
    )
    report_run(report)
    return report.to_json()


def report_run(report: UpdateReport) -> None:
    """Tell Prefect what a cycle did: an event per incident, a table of confidences."""
    for incident in report.incidents:
        resource = {"prefect.resource.id": f"gnomon.repository.{report.repository}"}
        emit_event("gnomon.capture.suspect", resource=resource, payload=incident)
    rows = [
        {"variable": name, "lead": lead, "confidence": round(confidence, 3)}
        for name, confidences in report.confidence.items()
        for lead, confidence in enumerate(confidences, start=1)
        if confidence is not None
    ]
    if rows:
        create_table_artifact(table=rows, key="gnomon-confidence", description=report.message)
