"""What people see: tables and progress bars on the terminal."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from math import isnan
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from gnomon.cli.console import printing

if TYPE_CHECKING:
    from gnomon.judging import Judged
    from gnomon.repository import Progress as Callback
    from gnomon.tasks.hindcasting.score import HindcastReport

__all__ = [
    "note",
    "print_anomalies",
    "print_checks",
    "print_hindcast",
    "print_judged",
    "print_notes",
    "print_status",
    "print_table",
    "print_update",
    "progress_bar",
]


class _Output(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError

    def print(self, *objects: Any, **options: Any) -> None:
        with printing():
            super().print(*objects, **options)


_out = _Output(highlight=False, width=None if sys.stdout.isatty() else 200)
_SHOWN = 20


def note(text: str) -> None:
    """Print one line."""
    _out.print(text, markup=False, soft_wrap=True)


@contextmanager
def progress_bar() -> Iterator["Callback"]:
    """Draw a bar on standard error, and give the callback that moves it."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)

        def move(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total)

        yield move


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]], title: str = "") -> None:
    """Print a table; None is a dash, floats have three significant digits."""
    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*[_text(value) for value in row])
    _out.print(table)


def _text(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value).replace("[", r"\[")


def _told_rollback(rollback: dict[str, Any]) -> str:
    """Return what a person is told of a rollback that stands, or was stopped."""
    if rollback["state"] in ("begun", "undoing"):
        writer = rollback["writer"]
        by = f" by process {writer['pid']} on {writer['host']}" if writer else ""
        command, condition = "gnomon undo", ""
        if rollback["elsewhere"]:
            command, condition = "gnomon undo --interrupted", ", once that process is dead"
        return (
            f"a rollback of {rollback['begun_at']} into {rollback['live']}{by} is under way, or "
            f"was stopped half way; until it ends there is no update: '{command}' takes it back"
            f"{condition}"
        )
    estimates = f", {rollback['estimated']} with estimates" if rollback["estimated"] else ""
    return (
        f"rollback {rollback['rollback']} stands: {rollback['chunks']} chunks at "
        f"{rollback['valid_time']}{estimates}, in {rollback['live']}; 'gnomon undo' takes it back"
    )


def _due(due: dict[str, Any]) -> str:
    """Return when an update is due: the clock, if it is known, and the time of the state."""
    at = due.get("at")
    return f"{at}, for the state of {due['valid_time']}" if at else str(due["valid_time"])


def print_status(status: dict[str, Any]) -> None:
    """Print what `GnomonRepository.status` returned."""
    due = status["due"]
    rows: list[tuple[str, object]] = [
        ("repository", status["repository"]),
        ("source", f"{status['source']} ({status['kind']})"),
        (
            "captures",
            f"{status['captures']}, {status['first']} to {status['last']}"
            if status["captures"]
            else "none yet",
        ),
        (
            "shadow",
            f"{status['shadow'][0]} to {status['shadow'][-1]}" if status["shadow"] else "none yet",
        ),
        ("open incidents", status["open_incidents"]),
        ("alerts not sent", _unsent(status["alerts_unsent"])),
        (
            "next update due",
            f"{_due(due)} ({due['reason']})" if due else "now: there is no forecast yet",
        ),
    ]
    print_table(("", ""), rows)
    header = ("variable", "shape", "chunks", "units", "tolerance", "expected error", "confidence")
    print_table(
        header,
        [
            (
                name,
                " x ".join(map(str, v["shape"])),
                " x ".join(map(str, v["chunks"])),
                v.get("units", ""),
                v.get("tolerance"),
                v["expected_rmse"][0] if "expected_rmse" in v else None,
                v["confidence"][0] if "confidence" in v else None,
            )
            for name, v in status["variables"].items()
        ],
    )
    _note_unprotected(status["unprotected"])
    for name, v in status["variables"].items():
        _note_left_out(name, v.get("withheld", []), v.get("unpredicted", 0))
    for rollback in status["rollbacks"]:
        note(_told_rollback(rollback))
    print_notes(status["notes"])


def _note_unprotected(reasons: dict[str, str]) -> None:
    """Say which variables of the source are not protected, grouped by reason."""
    for reason in dict.fromkeys(reasons.values()):
        names = [name for name in reasons if reasons[name] == reason]
        shown = ", ".join(names[:_SHOWN]) + (" ..." if len(names) > _SHOWN else "")
        note(f"not protected: {shown}: {reason}")


def _note_left_out(name: str, withheld: Sequence[str], unpredicted: int) -> None:
    """Say which part of a variable is not in the shadow."""
    if withheld:
        shown = ", ".join(withheld[:_SHOWN]) + (" ..." if len(withheld) > _SHOWN else "")
        note(
            f"left out of the shadow of {name} because a check refused the prediction: "
            f"{len(withheld)} of its chunks ({shown}); the next update learns them anew"
        )
    if unpredicted:
        note(f"cells of {name} that have a value and are not predicted: {unpredicted}")


def _unsent(alerts: Sequence[dict[str, Any]]) -> str:
    """Return how many alerts a channel has not taken, and which channels these are."""
    channels = sorted({alert["channel"] for alert in alerts})
    return f"{len(alerts)} ({', '.join(channels)})" if alerts else "none"


def _note_put_right(entries: Sequence[dict[str, Any]]) -> None:
    for done in entries:
        places = ", ".join(f"{name} {' '.join(chunks)}" for name, chunks in done["chunks"].items())
        for left in done["left"]:
            note(f"not put right at {done['valid_time']}: {left}; restore to a new place with --to")
        if done["error"] is None and done["rollback"] is not None:
            note(
                f"put right in the source: {places} at {done['valid_time']}, rollback "
                f"{done['rollback']}; 'gnomon undo' takes it back"
            )
        elif done["error"] is not None:
            note(f"not put right: {places} at {done['valid_time']}: {done['error']}")


def _note_left_alone(entries: Sequence[dict[str, Any]]) -> None:
    for left in entries:
        places = ", ".join(f"{name} {' '.join(chunks)}" for name, chunks in left["chunks"].items())
        note(f"not put right: {places} at {left['valid_time']}: {left['reason']}")


def print_update(result: dict[str, Any]) -> None:
    """Print what an update did, or why it did nothing."""
    if result["skipped"]:
        note(result["skipped"])
    else:
        _print_done(result)


def _print_done(result: dict[str, Any]) -> None:
    from gnomon.storage.values.times import chronological

    captured = sorted(result["captured"], key=chronological)
    if captured:
        span = captured[0] if len(captured) == 1 else f"{captured[0]} to {captured[-1]}"
        note(f"captured {len(captured)}: {span}; suspect chunks: {result['suspect_chunks']}")
    if result["late"]:
        note(f"{result['late']} of them are older than the previous newest capture")
    if result["revised"]:
        note(f"{result['revised']} captured again: the source has changed them since")
    print_notes(result["notes"])
    if result["incomplete"]:
        span = _span([result["incomplete"][k] for k in (0, -1)][: len(result["incomplete"])])
        note(f"captured in part: {span}; what is missing is captured when the source has it")
    if (waiting := result["waiting"]) is not None:
        span = _span([waiting["first"], waiting["last"]][: waiting["count"]])
        note(f"waiting for {waiting['count']} steps that have no value yet: {span}")
    for step in result["left_out"]:
        note(f"warning: {step['text']}")
    for state in result["unread"]:
        note(f"left out {state['valid_time']}: {state['error']}; the next update tries again")
    _print_judgement(result)
    if result["repeated"]:
        note(f"repeated {len(result['repeated'])} times because of other writers")
    _print_shadow(result)
    for time, count in result["healed"].items():
        note(
            f"healed {time}: {count} suspect chunks were estimated; 'gnomon points' has the figures"
        )
    _note_put_right(result["put_right"])
    _note_left_alone(result["left_alone"])
    for time, reason in result["unhealed"].items():
        note(f"warning: {time} cannot be healed: {reason}")
    if result["due"]:
        note(f"next update due {_due(result['due'])}: {result['due']['reason']}")
    else:
        note(result["message"])


def _print_judgement(result: dict[str, Any]) -> None:
    """Print what the checks found, which of them failed, and whom nobody could tell."""
    for name, reason in result["failed_checks"].items():
        note(f"warning: check {name} failed: {reason}; where it has no number it judges nothing")
    for incident in result["incidents"]:
        note(_incident(incident))
    for alert in result["alerts_unsent"]:
        note(
            f"alert not sent: {alert['channel']}, {alert['variable']} at {alert['valid_time']}: "
            f"{alert['error']}; the next update tries again"
        )


def _print_shadow(result: dict[str, Any]) -> None:
    """Print what an update learnt and predicted, and what it left out."""
    for name, reason in result["failed_candidates"].items():
        note(f"warning: candidate {name} failed: {reason}; it is forecast without it")
    for name, reason in result["refit"].items():
        note(f"learnt {name} anew: {reason}")
    if result["doubted"]:
        note(f"{result['doubted']} chunks of older captures are suspect now (see 'anomalies')")
    for name, confidence in result["confidence"].items():
        shown = " ".join("-" if c is None else f"{c:.2f}" for c in confidence)
        note(f"confidence of {name} by lead: {shown}")
        _note_left_out(name, result["withheld"].get(name, []), result["unpredicted"].get(name, 0))
    worst = {(f["variable"], f["expectation"]): f for f in reversed(result["findings"])}
    for finding in reversed(worst.values()):
        if finding["expectation"] != "complete":
            note(_finding(finding))


def _finding(finding: dict[str, Any]) -> str:
    return (
        f"{finding['severity']}: prediction of {finding['variable']} at {finding['valid_time']}, "
        f"chunk {finding['chunk']}: {finding['expectation']} is {finding['observed']}, expected "
        f"{finding['expected']}. {finding['reason']}"
    )


def _incident(incident: dict[str, Any]) -> str:
    chunks = ", ".join(incident["chunks"][:_SHOWN])
    where = f", chunks {chunks}" if chunks else ""
    return (
        f"{incident['severity']}: {incident['variable']} at {incident['valid_time']}{where}: "
        f"{incident['suspected_cause']} ({', '.join(incident['expectations'])})"
    )


def print_checks(checks: Sequence[dict[str, Any]], failed: dict[str, str]) -> None:
    """Print what each capture is checked by, and what is registered and cannot be."""
    names = ("name", "severity", "statistic", "expected", "reason")
    print_table(("check", *names[1:]), [[check[name] for name in names] for check in checks])
    for name, reason in failed.items():
        note(f"warning: check {name} is not made: {reason}")


def print_notes(notes: Iterable[str]) -> None:
    """Print notes on what could not be read, each once."""
    for text in dict.fromkeys(notes):
        note(f"note: {text}")


def print_judged(verdict: "Judged", *, accepted: bool, dry_run: bool) -> None:
    """Print what a verdict changes, and what follows from it."""
    if not verdict.chunks and not verdict.times:
        note("there is nothing to accept" if accepted else "there is nothing to reject")
        return
    will = "would be" if dry_run else "are"
    word = "trusted" if accepted else "suspect"
    if verdict.chunks:
        span = _span(verdict.captures)
        note(f"{verdict.chunks} chunks of {len(verdict.captures)} captures ({span}) {will} {word}")
    if accepted and verdict.revisions:
        note(
            f"{verdict.revisions} of the captures are revisions: they {will} served in place of "
            "what was captured first, which is kept"
        )
    if not accepted and verdict.revisions:
        note(
            f"{verdict.revisions} of the captures are revisions: what was captured before of the "
            f"same time {will} served again, where it is trusted"
        )
    for time in verdict.times:
        note(f"the time {time} {will} {'believed' if accepted else 'doubted'}")
    if not dry_run:
        note("the next 'gnomon update' learns accordingly")


def _span(times: Sequence[str]) -> str:
    return times[0] if len(times) == 1 else f"{times[0]} to {times[-1]}"


def print_anomalies(incidents: Sequence[dict[str, Any]]) -> None:
    """Print incidents, oldest first."""
    if not incidents:
        note("no anomalies")
    for incident in incidents:
        state = "open" if incident["open"] else "closed"
        note(f"{state:6} {_incident(incident)}")


def print_hindcast(report: "HindcastReport") -> None:
    """Print a hindcast: by lead, then as a whole, then the verdict."""
    labels = bool(report.specification["categorical"])
    names = [name for name, errors in report.rmse.items() if not all(map(isnan, errors))]
    covered = {} if labels else report.coverage
    header = ["lead", *(name.replace("_", " ") for name in names)]
    header += ["CRPS", *(f"{level} %" for level in covered)] if covered else []
    rows = []
    for k, lead in enumerate(report.leads):
        errors = [report.rmse[name][k] for name in names]
        shares = [report.crps[k], *(f"{share[k]:.3f}" for share in covered.values())]
        rows.append([lead, *errors, *(shares if covered else [])])
    scored = "RMSE and share of cells within the intervals"
    if labels:
        scored = "share of cells with another label"
    title = f"{scored}; {report.cells} cells, {report.captures} captures, {report.origins} origins"
    print_table(header, rows, title)
    ratios = [
        (name.replace("_", " "), ratio, *report.ratio_to_interval[name])
        for name, ratio in report.ratio_to.items()
        if name in names or not labels
    ]
    note("")
    print_table(["error of the shadow over that of", "ratio", "from", "to"], ratios)
    note("")
    if covered:
        _print_coverage(report)
    note(
        f"from, to: the 95 % range of a figure, by {report.origins} origins that are worth "
        f"{report.independent_origins:.3g} independent ones; differences inside it are ties"
    )
    note(
        f"the expected calibration error of the confidence is {report.ece:.3f}; by chance a "
        f"perfect one has {report.ece_floor:.3f}, and {report.ece_limit:.3f} in one of 20 such "
        "records"
    )
    if report.doubted:
        note(
            f"{report.doubted:.2%} of the captured chunks look damaged, and are not learnt or "
            "scored"
        )
    speed = report.cells_per_second
    note(f"refit {speed['refit']:,.0f} cells/s, roll-forward {speed['roll']:,.0f} cells/s")
    note(report.verdict)


def _print_coverage(report: "HindcastReport") -> None:
    """Print how often the truth was within the intervals."""
    shares = [
        (f"{level} %", share, *report.coverage_interval[level])
        for level, share in report.coverage_overall.items()
    ]
    season = report.coverage90_season, *report.coverage90_season_interval
    print_table(["interval", "covers", "from", "to"], [*shares, ("90 %, worst season", *season)])
    note("")
    note(f"90 % intervals cover {report.coverage90_worst:.1%} at the worst lead")
