"""The cycle: capture, check, features, forecast, materialize, check, next due time.

Written once, for two runners: called directly it answers in seconds; in a Prefect flow every
step is a task and the chunks of a step are one Dask graph.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from gnomon.flows import steps
from gnomon.flows.settings import Settings
from gnomon.storage.repository import Repository
from gnomon.storage.times import format_instant

__all__ = ["Call", "UpdateReport", "run_cycle"]


class Call(Protocol):
    """Runs one step and returns its result."""

    def __call__[R](self, step: Callable[..., R], /, *arguments: Any) -> R:
        """Run a step."""
        ...


@dataclass(slots=True)
class UpdateReport:
    """What a cycle did."""

    repository: str
    """Where it lives."""
    captured: list[str] = field(default_factory=list)
    """Valid times of the new captures."""
    suspect_chunks: int = 0
    """New chunks that the check refused."""
    incidents: list[dict[str, Any]] = field(default_factory=list)
    """What they have in common."""
    late: int = 0
    """New captures that are older than the newest."""
    revised: int = 0
    """Captures that the source had changed, and that were captured again."""
    refit: dict[str, str] = field(default_factory=dict)
    """Variables that were learnt anew, and why."""
    doubted: int = 0
    """Chunks of older captures that a refit did not believe."""
    confidence: dict[str, list[float | None]] = field(default_factory=dict)
    """Per variable: confidence at leads 1..H of the new shadow; None where nothing is predicted."""
    withheld: dict[str, list[str]] = field(default_factory=dict)
    """Per variable: chunks that are not in the new shadow, as a check refused their prediction."""
    unpredicted: dict[str, int] = field(default_factory=dict)
    """Per variable: cells that have values and are not in the new shadow, for whatever reason."""
    findings: list[dict[str, Any]] = field(default_factory=list)
    """What the check of the new shadow found, the first of it."""
    due: dict[str, Any] | None = None
    """When the next update is due."""
    message: str = ""
    """One line for people."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


def run_cycle(
    url: str,
    settings: Settings,
    call: Call,
    *,
    now: int | None = None,
    until: int | None = None,
    refit: str | None = None,
    compare: int | None = 0,
) -> UpdateReport:
    """Capture what is new in the source, then bring the shadow up to date.

    Runs that are repeated, or resumed after a crash, do only what is missing.  Planning and
    commits are done here, by one process: workers only ever write what no record names yet.

    Parameters
    ----------
    now
        Valid time of a state source, an instant.
    until
        Capture no later time.
    refit
        A reason to learn everything anew.
    compare
        How many captures are compared with the source, which may have changed them; None: all.
    """
    settings.check_outputs()
    report = UpdateReport(url)
    calendar = Repository.open(url).settings.calendar
    revised = call(steps.revisions, url, compare) if compare != 0 else ()
    while (planned := steps.plan(url, now, until, revised)) is not None:
        if not planned.instants:
            break
        found = call(steps.capture, url, planned)
        judgement = call(steps.check_actual, url, found, settings)
        steps.keep_capture(url, found, judgement)
        report.captured += [format_instant(i, calendar) for i in planned.instants]
        report.late += planned.late
        done = {step for step in planned.revises if step is not None}
        report.revised += len(done)
        revised = tuple(step for step in revised if step not in done)
        report.suspect_chunks += len(judgement.suspect)
        report.incidents += judgement.incidents
        if not planned.remaining:
            break
    if not refit and steps.is_shadowed(url):
        report.message = "nothing new in the source"
        return report
    features = call(steps.features, url, refit, settings)
    if not features:
        report.message = steps.forecast_excuse(url)
        return report
    learnt = call(steps.forecast, url, features)
    shadowed = call(steps.materialize, url, learnt)
    verdict = call(steps.check_prediction, url, shadowed, settings)
    if verdict.suspect:
        shadowed = call(steps.withhold, url, shadowed, verdict)
    due = call(steps.next_update, url, shadowed, settings)
    steps.keep_shadow(url, shadowed, verdict, due)
    report.refit = {n: f.refit for n, f in features.items() if f.refit}
    report.doubted = sum(map(len, learnt.gated.values()))
    report.confidence = {n: e["confidence"] for n, e in shadowed.variables.items()}
    report.withheld = {
        n: ["/".join(map(str, index)) for index in e["withheld"]]
        for n, e in shadowed.variables.items()
        if e["withheld"]
    }
    report.unpredicted = {
        n: e["unpredicted"] for n, e in shadowed.variables.items() if e["unpredicted"]
    }
    report.findings = list(verdict.findings)
    report.due = due.to_json()
    report.message = f"captured {len(report.captured)}, next update due {due.valid_time}"
    return report
