"""The commands that look after a repository: check, repair, forget, prune and the like."""

from typing import Annotated, Any

import typer

from gnomon.cli.console import Json, Place, apart, app, pairs_of, print_json, progress_of

__all__: list[str] = []

DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done; do nothing.")]
Captures = Annotated[
    list[str], typer.Option("--capture", help="Capture by number or time; repeat for more.")
]


def _keep(what: str) -> typer.models.OptionInfo:
    return typer.Option(min=-1, help=f"Keep the newest state of each of N {what}; -1: all.")  # type: ignore[no-any-return]


@app.command()
def check(
    repository: Place,
    read_data: Annotated[
        bool, typer.Option("--read-data", help="Read and verify every stored byte and chunk.")
    ] = False,
    read_data_subset: Annotated[
        str | None,
        typer.Option(help="Read a part: 5% or 500MB, from where the last check stopped, or 3/10."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Verify the repository; exit code 5 if anything is damaged."""
    from gnomon.inspecting import inspect
    from gnomon.storage.errors import InvalidInput

    if read_data and read_data_subset is not None:
        raise InvalidInput("give --read-data or --read-data-subset, not both")
    with progress_of(shown=not as_json) as progress:
        check_report = inspect(repository).check(
            read_data=read_data, subset=read_data_subset, progress=progress
        )
    if as_json:
        print_json(check_report.to_json())
    else:
        from gnomon.cli import report_maintenance as report

        report.print_check(check_report)
    if check_report.problems:
        raise typer.Exit(5)


@app.command()
def repair(repository: Place, dry_run: DryRun = False, as_json: Json = False) -> None:
    """Mend damage where the same bytes exist elsewhere; exit code 5 if some is left."""
    from gnomon.repository import open_repository

    with progress_of(shown=not as_json) as progress:
        repaired = open_repository(repository).repair(dry_run=dry_run, progress=progress)
    if as_json:
        print_json(repaired.to_json())
    else:
        from gnomon.cli import report_maintenance as report

        report.print_repaired(repaired, dry_run=dry_run)
    if repaired.left:
        raise typer.Exit(5)


@app.command()
def captures(repository: Place, as_json: Json = False) -> None:
    """List the captures that are kept, with their numbers, revisions and tags."""
    from gnomon.inspecting import inspect

    captured = inspect(repository).captures()
    if as_json:
        print_json(captured)
        return
    from gnomon.cli import report_maintenance as report

    report.print_captures(captured)


@app.command()
def tag(
    repository: Place,
    capture: Captures,
    add: Annotated[list[str], typer.Option(help="Name to give; repeat for more.")] = [],  # noqa: B006
    remove: Annotated[list[str], typer.Option(help="Name to take away; repeat for more.")] = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Name captures, so that 'forget --keep-tag' keeps them."""
    from gnomon.repository import open_repository
    from gnomon.storage.errors import InvalidInput

    if not add and not remove:
        raise InvalidInput("nothing to do; give --add NAME or --remove NAME")
    opened = open_repository(repository)
    opened.tag(capture, add=add, remove=remove)
    tagged = [c for c in opened.captures() if c["tags"]]
    if as_json:
        print_json(tagged)
        return
    from gnomon.cli import report_maintenance as report

    report.print_captures(tagged)


@app.command()
def forget(
    repository: Place,
    keep_last: Annotated[int, typer.Option(min=-1, help="Keep the last N states; -1: all.")] = 0,
    keep_hourly: Annotated[int, _keep("hours")] = 0,
    keep_daily: Annotated[int, _keep("days")] = 0,
    keep_weekly: Annotated[int, _keep("weeks")] = 0,
    keep_monthly: Annotated[int, _keep("months")] = 0,
    keep_yearly: Annotated[int, _keep("years")] = 0,
    keep_within: Annotated[
        str | None, typer.Option(help="Keep all states within this time of the newest: 2y5m7d3h.")
    ] = None,
    keep_tag: Annotated[
        list[str], typer.Option(help="Keep captures with this tag; repeat for more.")
    ] = [],  # noqa: B006
    capture: Captures = [],  # noqa: B006
    prune: Annotated[bool, typer.Option("--prune", help="Free the bytes at once.")] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Give up captures that no --keep rule keeps, or those named by --capture."""
    from gnomon.repository import open_repository
    from gnomon.storage.care.retention import Policy, parse_duration

    policy = Policy(
        last=keep_last,
        hourly=keep_hourly,
        daily=keep_daily,
        weekly=keep_weekly,
        monthly=keep_monthly,
        yearly=keep_yearly,
        within=None if keep_within is None else parse_duration(keep_within),
        tags=tuple(keep_tag),
    )
    opened = open_repository(repository)
    if capture and not policy.is_empty:
        from gnomon.storage.errors import InvalidInput

        raise InvalidInput("give --keep rules or --capture, not both")
    forgotten = opened.forget(policy, captures=capture, dry_run=dry_run)
    pruned = None
    if prune and not dry_run:
        with progress_of(shown=not as_json) as progress:
            pruned = opened.prune(progress=progress)
    freed = opened.would_free(forgotten) if dry_run else None
    if as_json:
        extra = {"would_free": freed} if dry_run else {}
        print_json(forgotten.to_json() | extra | ({"pruned": pruned.to_json()} if pruned else {}))
        return
    from gnomon.cli import report_maintenance as report

    report.print_forgotten(forgotten, freed=freed, pruned=pruned)


@app.command()
def prune(
    repository: Place,
    grace: Annotated[
        float,
        typer.Option(min=0, max=87_600, help="Hours to wait before removing what no commit names."),
    ] = 24.0,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Free the bytes of what was forgotten, of old forecasts and of interrupted runs."""
    from datetime import timedelta
    from math import isnan

    from gnomon.repository import open_repository
    from gnomon.storage.errors import InvalidInput

    if isnan(grace):  # which is in every range
        raise InvalidInput("--grace is nan; give hours from 0 to 87600")
    hours = timedelta(hours=grace)
    with progress_of(shown=not as_json) as progress:
        pruned = open_repository(repository).prune(dry_run=dry_run, grace=hours, progress=progress)
    if as_json:
        print_json(pruned.to_json())
        return
    from gnomon.cli import report_maintenance as report

    report.print_pruned(pruned)


@app.command()
def stats(repository: Place, as_json: Json = False) -> None:
    """Show how many bytes each part takes, and what unchanged chunks and deltas saved."""
    from gnomon.repository import open_repository

    statistics = open_repository(repository).stats()
    if as_json:
        print_json(statistics.to_json())
        return
    from gnomon.cli import report_maintenance as report

    report.print_stats(statistics)


@app.command()
def rules(
    repository: Place,
    revisable: Annotated[
        str | None,
        typer.Option(
            help="Trust revisions of states that are at most this much older than the newest: "
            "100d; none: drop the rule."
        ),
    ] = None,
    candidate: Annotated[
        list[str],
        typer.Option(
            help="Forecasting model that is tried beside the built-in ones, by its name; repeat to "
            "name all of them. none: only the built-in ones."
        ),
    ] = [],  # noqa: B006
    auto_heal: Annotated[
        list[str],
        typer.Option(
            help="Write the estimate of a suspect chunk into the source, if this or less error is "
            "expected: sst=0.2, in the variable's units; repeat. none: never, the default."
        ),
    ] = [],  # noqa: B006
    auto_heal_confidence: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="With --auto-heal: its least confidence; default: 0.95."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the standing rules of the repository and the checks in use, or set rules."""
    from gnomon.flows.registered import checks_in_use
    from gnomon.flows.settings import Settings
    from gnomon.repository import open_repository
    from gnomon.storage.errors import InvalidInput

    if "none" in candidate and len(candidate) > 1:
        raise InvalidInput("--candidate none stands alone: leave it out, or the others")
    names = None if not candidate else [] if candidate == ["none"] else candidate
    if "none" in auto_heal and len(auto_heal) > 1:
        raise InvalidInput("--auto-heal none stands alone: leave it out, or the others")
    if auto_heal_confidence is not None and not auto_heal:
        raise InvalidInput(
            "--auto-heal-confidence goes with --auto-heal; name variables and errors"
        )
    chosen: dict[str, Any] = {"revisable": revisable, "candidates": names}
    if auto_heal:
        limits = [] if auto_heal == ["none"] else auto_heal
        chosen["auto_heal"] = pairs_of(limits, "--auto-heal", float)
    if auto_heal_confidence is not None:
        chosen["auto_heal_confidence"] = auto_heal_confidence
    settings = Settings()
    with apart():
        standing = open_repository(repository).rules(**chosen)
        in_use = checks_in_use(file=settings.checks)
    checks = [check.to_json() for check in in_use.suite(settings.alpha)]
    if as_json:
        print_json(standing | {"checks": checks, "failed_checks": in_use.failures})
        return
    from gnomon.cli import report

    _print_rules(standing)
    if revisable is None and names is None and not auto_heal:
        report.print_checks(checks, in_use.failures)


def _print_rules(standing: dict[str, Any]) -> None:
    from gnomon.cli import report

    days = standing["revisable_days"]
    if days is None:
        report.note("a change of a captured state in the source is suspect until it is accepted")
    else:
        report.note(
            f"the source may revise states up to {days:g} days older than the newest: the new "
            "version is trusted, and both are kept"
        )
    rule = standing["auto_heal"]
    if rule is None:
        report.note("suspect chunks are put right in the source only when that is asked for")
    else:
        limits = ", ".join(f"{name} {error:g}" for name, error in rule["errors"].items())
        report.note(
            "estimates of suspect chunks are written into the source by themselves, up to an "
            f"expected error of {limits}, from a confidence of {rule['confidence']:g} on; 'gnomon "
            "undo' takes them back"
        )
    beside = ", ".join(standing["candidates"])
    report.note(f"forecasts: the built-in candidates{f', and {beside}' if beside else ''}")
