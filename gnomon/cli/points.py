"""The command that lists restore points: all of them, or every way to answer for one time."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gnomon.cli.console import Json, Place, app, print_json, printing
from gnomon.cli.options import Before, Nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gnomon.tasks.restoring.restore_point import RestorePoint


@app.command()
def points(
    repository: Place,
    at: Annotated[
        str | None,
        typer.Option("--at", help="Time of the state, as 'restore' takes it; default: list all."),
    ] = None,
    nearest: Nearest = False,
    before: Before = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read all that the answers rest on.")
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(
            help="Picture (.png, .pdf, .svg): the timeline, or with --at the expected errors."
        ),
    ] = None,
    variable: Annotated[
        str | None,
        typer.Option(help="With --plot: whose errors; default: the first that is forecast."),
    ] = None,
    as_json: Json = False,
) -> None:
    """List every way to give the dataset at a time, best first; or all restore points."""
    from gnomon.storage.errors import InvalidInput

    if at is None and (verify or nearest or before):
        raise InvalidInput("--verify, --nearest and --before are about one time; name it with --at")
    if variable is not None and plot is None:
        raise InvalidInput("--variable is the one that --plot draws; add --plot, or leave it out")
    if plot is not None:
        from gnomon.comparing import check_picture

        check_picture("--plot", plot)
    if at is None:
        # Not through the whole API, most of which is of no use here and takes a second to load.
        from gnomon.storage.repository import Repository
        from gnomon.tasks.restoring.known import every_point

        restore_points = every_point(Repository.open(repository))
    else:
        from gnomon.repository import open_repository
        from gnomon.tasks.restoring.locate import match_of

        match = match_of(nearest=nearest, before=before)
        restore_points = open_repository(repository).points(at, match=match, verify=verify)
    if plot is not None:
        from gnomon.repository import open_repository

        open_repository(repository).plot_points(plot, at, variable=variable, points=restore_points)
    if as_json:
        print_json([p.to_json() for p in restore_points])
        return
    if at is None:
        print_all(restore_points)
    else:
        from gnomon.cli import report_restore as report

        if (nearest or before) and restore_points:
            report.note_match(at, restore_points)
        report.print_points(restore_points)
    if plot is not None:
        with printing():
            print(f"the picture is in {plot}")


def print_all(restore_points: "Sequence[RestorePoint]") -> None:
    """Print restore points, a line each; a table would measure every cell of thousands."""
    with printing():
        for point in restore_points:
            about = [", ".join(point.tags), ", ".join(point.notes)]
            if point.predicted:
                about.insert(0, str(point).partition(" made at ")[2])
            elif point.suspect_chunks:
                about.insert(0, f"{point.suspect_chunks} suspect chunks")
            number = "-" if point.step is None else str(point.step)
            line = f"{point.valid_time}  {point.kind:9} {number:>6}  "
            print((line + "; ".join(filter(None, about))).rstrip())
        if not restore_points:
            print("nothing was captured yet; run 'gnomon update'")
