"""Commands on the source of a repository: follow it to a new place, add variables."""

from typing import Annotated

import typer

from gnomon.cli.console import Json, Place, app, print_json
from gnomon.cli.options import Branch, Snapshot, Tag

__all__: list[str] = []


@app.command()
def source(
    repository: Place,
    place: Annotated[
        str | None, typer.Option("--set", help="Path or URL that the source has moved to.")
    ] = None,
    engine: Annotated[str | None, typer.Option(help="xarray engine there; default: found.")] = None,
    group: Annotated[
        str | None, typer.Option(help="Group there; default: as before; '' is the root.")
    ] = None,
    branch: Branch = None,
    tag: Tag = None,
    snapshot: Snapshot = None,
    as_json: Json = False,
) -> None:
    """Show where the source is, or follow it to a new place that holds the same data."""
    from gnomon.creation import refuse_inside
    from gnomon.repository import open_repository
    from gnomon.storage.errors import InvalidInput

    options = {"engine": engine, "group": group, "branch": branch, "tag": tag, "snapshot": snapshot}
    opened = open_repository(repository)
    notes: tuple[str, ...] = ()
    if place is not None:
        refuse_inside(repository, place)
        notes = opened.move_source(place, **options)
    elif any(value is not None for value in options.values()):
        raise InvalidInput(
            "give the new place of the source with --set; the other options describe that place"
        )
    facts = opened.source()
    if as_json:
        print_json({"source": facts, "notes": notes})
        return
    from gnomon.cli import report

    report.print_table(("", ""), [(n, v) for n, v in facts.items() if v is not None])
    for text in notes:
        report.note(f"note: {text}")


@app.command()
def add(
    repository: Place,
    variable: Annotated[
        list[str], typer.Argument(help="Variables of the source to protect as well.")
    ],
    as_json: Json = False,
) -> None:
    """Capture further variables of the source from now on."""
    from gnomon.repository import open_repository

    opened = open_repository(repository)
    opened.add(variable)
    if as_json:
        print_json(opened.status())
        return
    from gnomon.cli import report

    report.print_status(opened.status())
    report.note(
        "next: gnomon update; with --compare -1 all states that the source still holds are "
        "captured again with them"
    )
