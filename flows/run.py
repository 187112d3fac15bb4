"""What a run tells Prefect: its name, its logs, an event per alert, artifacts, a final state.

A Prefect API that does not answer costs what it would have been told, never a capture.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Lock
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import httpx
from prefect import get_client, runtime
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.events.schemas.events import Event, Resource
from prefect.exceptions import PrefectException
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed, Scheduled

from gnomon.flows.alerting import channels_of
from gnomon.flows.cluster import Workers
from gnomon.flows.cycle import Cycle
from gnomon.flows.outbox import Outbox
from gnomon.flows.registered import checks_in_use
from gnomon.flows.report import UpdateReport
from gnomon.flows.schedule import Due
from gnomon.flows.settings import Settings
from gnomon.flows.summary import is_suspect, page, sentence
from gnomon.flows.tasks import tasks_on
from gnomon.storage.errors import GnomonError, Unavailable
from gnomon.storage.log.credentials import without_secrets
from gnomon.storage.redaction import redacted
from gnomon.validations.alerts import Alert, refusal_of

__all__ = [
    "EventAlert",
    "keep_artifacts",
    "name_of",
    "prefect_cycle",
    "run_name",
    "run_when_due",
    "told",
]

logger = logging.getLogger(__name__)

SUSPECT = "Suspect"
"""Name of the state of a run that is complete, and has found critical damage."""
_ONCE = ("time", "refit", "new_era")
"""Parameters of an update that are about one run."""
NOT_DUE = "NotDue"
"""Name of the state of a run that had nothing to do yet."""
PAGE = "gnomon-update"
"""Key of the page that every update and backfill leaves."""


def name_of(repository: str) -> str:
    """Return the last part of a repository's place: what people call the dataset."""
    shown = redacted(repository)
    return shown.partition("?")[0].rstrip("/").rpartition("/")[2] or shown


def run_name(what: str, time: str) -> Callable[[], str]:
    """Return what names a flow run: what it does to which dataset, and of when.

    Parameters
    ----------
    what
        ``update``, ``backfill`` or ``restore``.
    time
        Parameter of the flow that says it; without a value it is when the run was due.
    """

    def name() -> str:
        parameters = runtime.flow_run.parameters
        due = runtime.flow_run.scheduled_start_time or datetime.now(UTC)
        of = parameters.get(time) or due.strftime("%Y-%m-%dT%H:%M:%SZ")
        return f"{what} {name_of(str(parameters['repository']))} {of}"

    return name


class EventAlert:
    """Emits the Prefect event ``gnomon.capture.suspect`` of one repository.

    The identity of the event is that of the alert: Prefect keeps one that is sent twice once.
    """

    name = "event"

    def __init__(self, repository: str) -> None:
        self._repository = repository

    def __repr__(self) -> str:
        return "EventAlert()"

    def __call__(self, alert: Alert) -> None:
        """Send the event, and wait until the server has it.

        Raises
        ------
        Unavailable
            The server did not take it.
        Refused
            It answered that it does not take this one.
        """
        related = []
        if run := runtime.flow_run.id:
            role = {"prefect.resource.role": "flow-run"}
            related = [{"prefect.resource.id": f"prefect.flow-run.{run}"} | role]
        event = Event(
            event="gnomon.capture.suspect",
            resource=Resource({"prefect.resource.id": f"gnomon.repository.{self._repository}"}),
            related=related,
            payload=dict(alert.incident) | {"alert": alert.id, "chunk_count": alert.chunk_count},
            id=uuid5(NAMESPACE_URL, f"gnomon:{alert.id}"),
        )
        try:
            self.post(event)
        except (httpx.HTTPError, PrefectException, OSError, RuntimeError) as error:
            if isinstance(error, httpx.HTTPStatusError):
                code = error.response.status_code
                raise refusal_of(code)(
                    f"the Prefect API did not take the event (it answered {code}); see its log"
                ) from error
            raise Unavailable(
                f"the Prefect API did not take the event ({type(error).__name__}); "
                "start it, or correct PREFECT_API_URL"
            ) from error

    @staticmethod
    def post(event: Event) -> None:
        """Give an event to the API; unlike ``emit_event``, return when it has it, or fail."""
        with get_client(sync_client=True) as client:
            client.request("POST", "/events", json=[event.model_dump(mode="json")])


def run_when_due(repository: str, report: UpdateReport) -> None:
    """Have the deployment of this run go on when the next update is due; never fails.

    It is one run, however often it is asked for, with the parameters of this one.  The schedules of
    the deployment stay as they are: whatever becomes of them, or of that run, loses nothing.
    """
    deployment = runtime.deployment.id
    due = None if report.due is None else Due.from_json(report.due)
    if deployment is None or due is None or due.at is None:
        return
    parameters = runtime.flow_run.parameters
    try:
        with get_client(sync_client=True) as client:
            client.create_flow_run_from_deployment(
                deployment,
                parameters={n: v for n, v in parameters.items() if n not in _ONCE},
                state=Scheduled(scheduled_time=datetime.fromisoformat(due.at)),
                idempotency_key=f"gnomon:{deployment}:{repository}:{due.at}",
            )
    except (httpx.HTTPError, PrefectException, OSError, RuntimeError) as error:
        logger.warning("not scheduled at=%s error=%s", due.at, type(error).__name__)
    else:
        logger.info("scheduled at=%s because=%s", due.at, due.reason)


def prefect_cycle(
    repository: str,
    settings: Settings,
    work: Callable[[Cycle], UpdateReport],
    *,
    again: bool = False,
) -> Any:
    """Run a cycle in a flow and return the flow's final state, with the report as its result.

    Parameters
    ----------
    work
        Runs the cycle.
    again
        Whether the deployment of the run is to run when the next update is due.
    """
    with told() as run_logger, Workers(settings) as workers:
        event = EventAlert(repository)
        outbox = Outbox(repository, channels_of(settings) | {event.name: event})
        in_use = checks_in_use(file=settings.checks)
        cycle = Cycle(repository, settings, tasks_on(workers.mapper), outbox, in_use)
        try:
            report = without_secrets(work)(cycle)
        except Exception as error:
            reason = str(error) if isinstance(error, GnomonError) else redacted(repr(error))[:300]
            keep_artifacts({PAGE: page(cycle.report, reason)})
            so_far = sentence(cycle.report)
            return Failed(message=f"{so_far}; then it failed: {reason}", data=error)
        if again:
            run_when_due(repository, report)
        summary = sentence(report)
        run_logger.log(logging.ERROR if is_suspect(report) else logging.INFO, summary)
        if report.skipped:
            return Completed(name=NOT_DUE, message=summary, data=report.to_json())
        keep_artifacts({PAGE: page(report)}, _confidence(report))
        name = SUSPECT if is_suspect(report) else None
        return Completed(name=name, message=summary, data=report.to_json())


class _Audience:
    """The flow runs that listen to the log of this process; after the last it is as before."""

    def __init__(self) -> None:
        self._log = logging.getLogger("gnomon")
        self._lock = Lock()
        self._handlers: set[logging.Handler] = set()
        self._before = (logging.NOTSET, True)

    def join(self, handler: logging.Handler) -> None:
        with self._lock:
            if not self._handlers:
                self._before = self._log.level, self._log.propagate
            self._handlers.add(handler)
            self._log.addHandler(handler)
            self._log.setLevel(logging.INFO)
            self._log.propagate = False  # it would be printed twice

    def leave(self, handler: logging.Handler) -> None:
        with self._lock:
            self._handlers.discard(handler)
            self._log.removeHandler(handler)
            if not self._handlers:
                self._log.setLevel(self._before[0])
                self._log.propagate = self._before[1]


_AUDIENCE = _Audience()


def _run_id() -> str | None:
    """Return which flow run is going on here; None in a thread of which that is not known."""
    run: str | None = runtime.flow_run.id
    return run


@contextmanager
def told() -> Iterator[logging.Logger]:
    """Send the log of this run to the flow run's, and yield that.

    Of other runs in this process nothing is sent; what a thread of nobody says is sent to all.
    """
    run_logger: Any = get_run_logger()
    run = _run_id()

    class Forward(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if _run_id() in (None, run):
                run_logger.log(record.levelno, "%s", record.getMessage())

    handler = Forward()
    _AUDIENCE.join(handler)
    try:
        yield run_logger
    finally:
        _AUDIENCE.leave(handler)


def keep_artifacts(pages: Mapping[str, str], tables: Mapping[str, list[Any]] = {}) -> None:
    """Keep pages of Markdown, and tables, as artifacts of the run, by key; never fails."""
    try:
        for key, text in pages.items():
            create_markdown_artifact(markdown=text, key=key)
        for key, rows in tables.items():
            create_table_artifact(table=rows, key=key)
    except (httpx.HTTPError, PrefectException, OSError, RuntimeError) as error:
        logger.warning("artifacts not kept error=%s", type(error).__name__)


def _confidence(report: UpdateReport) -> dict[str, list[Any]]:
    rows = [
        {"variable": name, "lead": lead, "confidence": round(confidence, 3)}
        for name, confidences in report.confidence.items()
        for lead, confidence in enumerate(confidences, start=1)
        if confidence is not None
    ]
    return {"gnomon-confidence": rows} if rows else {}
