"""The command line: thin commands over the Python API.

Everything heavy is imported inside the commands, so that ``gnomon --help`` answers at once.
"""

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gnomon.cli import diff as cli_diff
from gnomon.cli import export as cli_export
from gnomon.cli import groups as cli_groups
from gnomon.cli import hindcast as cli_hindcast
from gnomon.cli import init as cli_init
from gnomon.cli import maintenance as cli_maintenance
from gnomon.cli import points as cli_points
from gnomon.cli import restore as cli_restore
from gnomon.cli import rollback as cli_rollback
from gnomon.cli import running as cli_running
from gnomon.cli import simulate as cli_simulate
from gnomon.cli import source as cli_source
from gnomon.cli.console import (
    READER_GONE,
    Json,
    OutputFailed,
    Place,
    PlaceOrFolder,
    apart,
    app,
    drop_output,
    open_missing_streams,
    print_json,
    printing,
    progress_of,
)
from gnomon.cli.failures import Terminated, fail, tell, tell_if_stopped, terminate
from gnomon.cli.options import Flow

if TYPE_CHECKING:
    from gnomon.flows.settings import Settings

__all__ = ["app", "main"]

# Their commands are part of the application.
_joined = (
    cli_diff,
    cli_export,
    cli_hindcast,
    cli_init,
    cli_maintenance,
    cli_points,
    cli_restore,
    cli_rollback,
    cli_running,
    cli_simulate,
    cli_source,
)

Docs = Annotated[Path | None, typer.Option(help="Folder for the Data Docs of the checks.")]
Checks = Annotated[Path | None, typer.Option(help="Python file of checks of your own.")]
Alerts = Annotated[Path | None, typer.Option(help="File to append alerts to, as JSON lines.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Threads, or Dask workers with --flow.")]

GARBAGE = 50_000
"""Objects that are made before Python looks for garbage in cycles.  By default it is 700; then the
looks take a sixth of the time that a command spends on importing."""


def start() -> None:
    """Run the command line in a process that is its own."""
    from gnomon.cli.memory import settle_memory
    from gnomon.validations.lean import permit

    permit()
    settle_memory()
    main()


def main() -> None:
    """Run the command line; every failure is one line and an exit code."""
    import gc

    usual = gc.get_threshold()
    gc.set_threshold(GARBAGE)
    try:
        _run()
    finally:
        gc.set_threshold(*usual)


def _run() -> None:
    import warnings

    from gnomon.storage.errors import GnomonError

    open_missing_streams()
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    signal.signal(signal.SIGTERM, terminate)
    try:
        # Not standalone: Typer's own way to say what is wrong takes several lines.
        code = app(standalone_mode=False)
        with printing():
            sys.stdout.flush()
    except (KeyboardInterrupt, Terminated) as stop:
        fail(*tell(stop))
    except Exception as error:
        if (stopped := tell_if_stopped(error)) is not None:
            fail(*stopped)
        if isinstance(error, OutputFailed):
            drop_output()
            if isinstance(error.__cause__, BrokenPipeError):
                sys.exit(READER_GONE)
            fail(f"cannot write to standard output: {error.__cause__}; redirect it elsewhere", 2)
        if isinstance(error, GnomonError):
            fail(str(error), error.exit_code)
        if hasattr(error, "format_message"):  # Typer's usage errors; their module is private
            if type(error).__name__ == "NoArgsIsHelpError":
                error.show()  # type: ignore[attr-defined]
                sys.exit(2)
            fail(f"{' '.join(error.format_message().split())} See --help.", 2)
        fail(*tell(error))
    sys.exit(code)


def _settings(**options: Path | int | None) -> "Settings":
    from gnomon.flows.settings import Settings

    return Settings(**{name: value for name, value in options.items() if value is not None})


@app.command()
def update(
    repository: PlaceOrFolder,
    time: Annotated[
        str | None, typer.Option(help="Valid time of a state source; default: now.")
    ] = None,
    refit: Annotated[bool, typer.Option("--refit", help="Learn everything anew.")] = False,
    new_era: Annotated[
        bool,
        typer.Option("--new-era", help="Continue with a source whose grid or types have changed."),
    ] = False,
    compare: Annotated[
        int | None,
        typer.Option(min=-1, help="Least number of captures to compare with the source; -1: all."),
    ] = None,
    if_due: Annotated[
        bool, typer.Option("--if-due", help="Do nothing if the next update is due later than now.")
    ] = False,
    checks: Checks = None,
    flow: Flow = False,
    docs: Docs = None,
    alerts: Alerts = None,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Capture what is new in the source, check it, and renew the shadow."""
    settings = _settings(checks=checks, docs=docs, alerts=alerts, workers=workers, compare=compare)

    def run(place: str, settings: "Settings") -> dict[str, Any]:
        if flow:
            from gnomon.flows.launch import run_update

            with apart():
                return run_update(
                    place,
                    time=time,
                    refit=refit,
                    new_era=new_era,
                    if_due=if_due,
                    settings=settings,
                )
        if if_due and not (refit or new_era):
            from gnomon.flows.alerting import channels_of
            from gnomon.flows.due import report_if_not_due

            # Before all that an update needs is loaded.
            waiting = report_if_not_due(place, settings, lambda: channels_of(settings))
            if waiting is not None:
                return waiting.to_json()
        from gnomon.updating import open_to_update

        with progress_of(shown=not as_json) as progress:
            update_report = open_to_update(place).update(
                time,
                refit=refit,
                new_era=new_era,
                if_due=if_due,
                settings=settings,
                progress=progress,
            )
        return update_report.to_json()

    if cli_groups.is_folder_of_groups(repository):
        cli_groups.update_groups(repository, run, settings, as_json=as_json)
    else:
        _show_update(run(repository, settings), as_json)


@app.command()
def backfill(
    repository: Place,
    until: Annotated[str | None, typer.Option(help="Capture nothing after this time.")] = None,
    checks: Checks = None,
    flow: Flow = False,
    docs: Docs = None,
    alerts: Alerts = None,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Capture the history of an append source, then make the first shadow."""
    settings = _settings(checks=checks, docs=docs, alerts=alerts, workers=workers)
    if flow:
        from gnomon.flows.launch import run_backfill

        with apart():
            result = run_backfill(repository, until=until, settings=settings)
    else:
        from gnomon.updating import open_to_update

        with progress_of(shown=not as_json) as progress:
            update_report = open_to_update(repository).backfill(
                until, settings=settings, progress=progress
            )
        result = update_report.to_json()
    _show_update(result, as_json)


def _show_update(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(result)
        return
    from gnomon.cli import report

    report.print_update(result)


@app.command()
def status(repository: PlaceOrFolder, as_json: Json = False) -> None:
    """Show source, captures, shadow, open incidents and the next due time."""
    from gnomon.inspecting import inspect

    if cli_groups.is_folder_of_groups(repository):
        cli_groups.show_status(repository, as_json=as_json)
        return

    summary = inspect(repository).status()
    if as_json:
        print_json(summary)
        return
    from gnomon.cli import report

    report.print_status(summary)


@app.command()
def anomalies(
    repository: Place,
    accept: Annotated[
        str | None,
        typer.Option(
            help="Trust this after all: a time, a period (2024-03, 2024-03-01/2024-03-10) or all."
        ),
    ] = None,
    reject: Annotated[
        str | None,
        typer.Option(help="Do not trust this: a time, a period FIRST/LAST, or all."),
    ] = None,
    variable: Annotated[str | None, typer.Option(help="Judge only this variable.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be judged; do nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List what the checks found wrong with captures, or judge captures."""
    from gnomon.inspecting import inspect

    requests = [(at, accepted) for at, accepted in ((accept, True), (reject, False)) if at]
    verdicts, judged = [], 0
    if requests:
        from gnomon.repository import open_repository

        opened = open_repository(repository)
        verdicts = [opened.judging(at, accept=yes, variable=variable) for at, yes in requests]
        for at, accepted in requests if not dry_run else []:
            judged += opened.judge(at, accept=accepted, variable=variable)
    incidents = inspect(repository).anomalies()
    if as_json:
        print_json(
            {"judged": judged, "verdicts": [v.to_json() for v in verdicts], "anomalies": incidents}
        )
        return
    from gnomon.cli import report

    for (_, accepted), verdict in zip(requests, verdicts, strict=True):
        report.print_judged(verdict, accepted=accepted, dry_run=dry_run)
    if not requests or dry_run:
        report.print_anomalies(incidents)
    else:
        report.print_anomalies([incident for incident in incidents if incident["open"]])


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="New folder for what the demo writes.")] = Path(
        "demo-output"
    ),
    as_json: Json = False,
) -> None:
    """Protect four years of sea surface temperature, damage a month, find it, heal it."""
    from gnomon.demo import run_demo

    result = run_demo(folder, quiet=as_json)
    if as_json:
        print_json(result)


if __name__ == "__main__":
    main()
