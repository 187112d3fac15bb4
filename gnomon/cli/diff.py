"""The commands that compare states and draw them: what differs, what a restore would change."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gnomon.cli.console import Json, Place, app, print_json

if TYPE_CHECKING:
    from gnomon.tasks.restoring.request import StateOptions

__all__ = ["Preview", "show_preview"]

_OPERAND = "A capture by number or time; TIME@KIND, as in 2010-09@forecast; or live."
Preview = Annotated[
    Path | None,
    typer.Option(
        help="Draw what would be given or changed (.png, .pdf, .svg); write nothing else."
    ),
]


@app.command()
def diff(
    repository: Place,
    first: Annotated[str, typer.Argument(help=_OPERAND)],
    second: Annotated[str, typer.Argument(help=_OPERAND)],
    variable: Annotated[
        list[str], typer.Option("--variable", help="Compare only this variable; repeat for more.")
    ] = [],  # noqa: B006
    plot: Annotated[
        Path | None, typer.Option(help="Picture of both and their difference: .png, .pdf or .svg.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what differs between two states, captured, estimated or live: cells, size and place."""
    from gnomon.comparing import check_picture
    from gnomon.repository import open_repository

    if plot is not None:
        check_picture("--plot", plot)
    differences = open_repository(repository).diff(first, second, variable=variable, plot=plot)
    if as_json:
        print_json([d.to_json() for d in differences])
        return
    from gnomon.cli import report_maintenance as report
    from gnomon.cli.report import note

    report.print_differences(differences)
    if plot is not None:
        note(f"the picture is in {plot}")


def show_preview(
    repository: str,
    at: str | None,
    path: Path,
    *,
    state: "StateOptions",
    in_place: bool,
    into: str | None,
    cells: str | None,
    other: dict[str, Any],
    as_json: bool,
) -> None:
    """Draw what a restore would give or change.

    Parameters
    ----------
    state, in_place, into, cells
        What is restored, as `GnomonRepository.preview` takes it.
    other
        By name, options that do not go with a preview, and what was given.
    """
    from gnomon.comparing import check_picture
    from gnomon.repository import open_repository
    from gnomon.storage.errors import InvalidInput

    check_picture("--preview", path)
    given = [name for name, value in other.items() if value]
    if given or at is None:
        what = f"leave out {', '.join(given)}" if given else "name it with --at"
        raise InvalidInput(f"--preview draws the state of one time, here; {what}")
    point = open_repository(repository).preview(
        at, path, in_place=in_place, into=into, cells=cells, **state
    )
    if as_json:
        print_json(point.to_json())
        return
    from gnomon.cli.report import note

    note(f"nothing was restored; {point} is drawn in {path}")
