"""The command that makes a repository, or one for each group of a source."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from gnomon.cli import groups as cli_groups
from gnomon.cli.console import Json, Place, app, pairs_of, print_json
from gnomon.cli.options import Branch, Snapshot, Tag

if TYPE_CHECKING:
    from gnomon.repository import GnomonRepository

__all__: list[str] = []


@app.command()
def init(
    repository: Place,
    source: Annotated[
        str,
        typer.Argument(help="Path or URL of a dataset, or a folder of files."),
    ],
    variable: Annotated[list[str], typer.Option(help="Variable to protect; repeat for more.")] = [],  # noqa: B006
    kind: Annotated[str | None, typer.Option(help="append or state; default: found.")] = None,
    time: Annotated[
        str | None, typer.Option(help="Name of the time dimension or of its coordinate.")
    ] = None,
    engine: Annotated[str | None, typer.Option(help="xarray engine.")] = None,
    group: Annotated[
        str | None,
        typer.Option(
            help="Group within the source. all: every group, each in its own repository in the "
            "folder REPOSITORY; /all: the group of that name."
        ),
    ] = None,
    branch: Branch = None,
    tag: Tag = None,
    snapshot: Snapshot = None,
    chunk: Annotated[
        list[str], typer.Option(help="Chunk size, as in latitude=90; repeat for more.")
    ] = [],  # noqa: B006
    leads: Annotated[int, typer.Option(min=1, help="Number of capture intervals to predict.")] = 6,
    period: Annotated[list[float], typer.Option(help="Season in days; repeat for more.")] = [],  # noqa: B006
    interval: Annotated[
        str | None, typer.Option(help="Capture interval: 1h, 30min, 1d; a number is hours.")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(help="Time of the first step, if steps are only counted; with --interval."),
    ] = None,
    tolerance: Annotated[
        list[str], typer.Option(help="RMSE that you can live with, as in sst=0.5; repeat.")
    ] = [],  # noqa: B006
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be captured, and why; make nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make a repository for a dataset. It captures nothing yet."""
    from gnomon.creation import check_place, create, describe
    from gnomon.options import duration_s
    from gnomon.storage.errors import InvalidInput

    if kind not in (None, "append", "state"):
        raise InvalidInput(f"--kind is {kind!r}; it must be append or state")
    options: dict[str, Any] = {
        "kind": kind,
        "variables": variable,
        "time": time,
        "engine": engine,
        "branch": branch,
        "tag": tag,
        "snapshot": snapshot,
        "chunks": pairs_of(chunk, "--chunk", int),
        "leads": leads,
        "periods_s": [p * 86400.0 for p in period] or None,
        "interval_s": None if interval is None else duration_s(interval),
        "start": start,
        "tolerances": pairs_of(tolerance, "--tolerance", float),
    }
    if group == "all":
        cli_groups.create_groups(repository, source, dry_run=dry_run, as_json=as_json, **options)
        return
    options["group"] = group and (group.lstrip("/") or group)
    if dry_run:
        check_place(repository, source)
        _show_description(describe(source, **options).to_json(), as_json)
        return
    _show_created(create(repository, source, **options), repository, as_json)


def _show_created(created: "GnomonRepository", repository: str, as_json: bool) -> None:
    assert created.description is not None
    description = created.description.to_json()
    if as_json:
        print_json(created.status() | {"skipped": created.skipped, "found": description})
        return
    from gnomon.cli import report, report_init

    report.print_status(created.status())
    report_init.print_remarks(description)
    report.note("next: gnomon update " + repository)


def _show_description(description: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json({"skipped": description["skipped"], "found": description})
        return
    from gnomon.cli import report, report_init

    report_init.print_description(description)
    report.note("dry run: nothing was made")
