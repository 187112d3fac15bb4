"""What people see: tables and progress bars on the terminal."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

if TYPE_CHECKING:
    from gnomon.repository import Progress as Callback
    from gnomon.tasks.hindcast import Report
    from gnomon.tasks.points import RestorePoint

__all__ = [
    "note",
    "print_anomalies",
    "print_hindcast",
    "print_points",
    "print_restored",
    "print_status",
    "print_table",
    "print_update",
    "progress_bar",
]

_out = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
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


def print_status(found: dict[str, Any]) -> None:
    """Print what `GnomonRepository.status` returned."""
    due = found["due"]
    rows: list[tuple[str, object]] = [
        ("repository", found["repository"]),
        ("source", f"{found['source']} ({found['kind']})"),
        (
            "captures",
            f"{found['captures']}, {found['first']} to {found['last']}"
            if found["captures"]
            else "none yet",
        ),
        (
            "shadow",
            f"{found['shadow'][0]} to {found['shadow'][-1]}" if found["shadow"] else "none yet",
        ),
        ("open incidents", found["open_incidents"]),
        ("next update due", f"{due['valid_time']} ({due['reason']})" if due else "after a capture"),
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
            for name, v in found["variables"].items()
        ],
    )
    _print_notes(found["notes"])


def print_update(result: dict[str, Any]) -> None:
    """Print what an update did."""
    captured = result["captured"]
    if captured:
        span = captured[0] if len(captured) == 1 else f"{captured[0]} to {captured[-1]}"
        note(f"captured {len(captured)}: {span}; suspect chunks: {result['suspect_chunks']}")
    if result["late"]:
        note(f"{result['late']} of them are older than the newest capture before")
    if result["revised"]:
        note(f"{result['revised']} captured again: the source has changed them since")
    for incident in result["incidents"]:
        note(_incident(incident))
    for name, reason in result["refit"].items():
        note(f"learnt {name} anew: {reason}")
    if result["doubted"]:
        note(f"{result['doubted']} chunks of older captures are suspect now (see 'anomalies')")
    for name, confidence in result["confidence"].items():
        note(f"confidence of {name} by lead: " + " ".join(f"{c:.2f}" for c in confidence))
    if result["due"]:
        note(f"next update due {result['due']['valid_time']}: {result['due']['reason']}")
    else:
        note(result["message"])


def _incident(found: dict[str, Any]) -> str:
    chunks = ", ".join(found["chunks"][:_SHOWN])
    return (
        f"{found['severity']}: {found['variable']} at {found['valid_time']}, chunks {chunks}: "
        f"{found['suspected_cause']} ({', '.join(found['expectations'])})"
    )


def print_points(found: Sequence["RestorePoint"]) -> None:
    """Print restore points, best first."""
    rows: list[tuple[object, ...]] = []
    for point in found:
        errors = [
            f"{name} {'-' if error is None else f'{error:.3g}'}"
            for name, error in point.expected_error.items()
        ]
        state = f"{point.suspect_chunks} suspect chunks" if point.suspect_chunks else "trusted"
        rows.append(
            (
                point.kind,
                point.valid_time,
                "" if point.step is None else point.step,
                point.lead,
                ", ".join(errors),
                point.confidence,
                "predicted" if point.kind == "forecast" else state,
                "--accept-predicted" if point.predicted else "",
            )
        )
    header = (
        "kind",
        "valid time",
        "capture",
        "lead",
        "expected error",
        "confidence",
        "state",
        "needs",
    )
    print_table(header, rows)
    _print_notes(text for point in found for text in point.notes)


def _print_notes(notes: Iterable[str]) -> None:
    """Print what could not be read, each once."""
    for text in dict.fromkeys(notes):
        note(f"note: {text}")


def print_restored(result: dict[str, Any]) -> None:
    """Print what a restore wrote."""
    point = result["point"]
    note(
        f"restored the {point['kind']} state of {point['valid_time']} to {result['target']}; "
        f"{result['chunks']} chunks verified"
    )
    if point["predicted"]:
        note("it holds estimated cells: see <variable>_provenance and <variable>_standard_error")
    _print_notes(point["notes"])


def print_anomalies(found: Sequence[dict[str, Any]]) -> None:
    """Print incidents, oldest first."""
    if not found:
        note("no anomalies")
    for incident in found:
        state = "open" if incident["open"] else "closed"
        note(f"{state:6} {_incident(incident)}")


def print_hindcast(found: "Report") -> None:
    """Print a hindcast: by lead, then as a whole, then the verdict."""
    names = list(found.rmse)
    header = ["lead", *(name.replace("_", " ") for name in names), "CRPS", "50 %", "90 %", "99 %"]
    rows = []
    for k, lead in enumerate(found.leads):
        errors = [found.rmse[name][k] for name in names]
        covered = [f"{found.coverage[level][k]:.3f}" for level in ("50", "90", "99")]
        rows.append([lead, *errors, found.crps[k], *covered])
    title = (
        f"RMSE and share of cells within the intervals; {found.cells} cells, "
        f"{found.captures} captures, {found.origins} origins"
    )
    print_table(header, rows, title)
    ratios = [(name.replace("_", " "), ratio) for name, ratio in found.ratio_to.items()]
    note("")
    print_table(["error of the shadow over that of", "ratio"], ratios)
    note("")
    note(
        f"90 % intervals cover {found.coverage90:.1%}, {found.coverage90_worst:.1%} at the worst "
        f"lead, {found.coverage90_season:.1%} in the worst season; "
        f"confidence is off by {found.ece:.3f} (expected calibration error)"
    )
    if found.doubted:
        note(f"{found.doubted:.2%} of the captured chunks look damaged: neither learnt nor scored")
    speed = found.cells_per_second
    note(f"refit {speed['refit']:,.0f} cells/s, roll-forward {speed['roll']:,.0f} cells/s")
    note(found.verdict)
