"""The command that keeps repositories up to date from one process."""

import sys
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gnomon.cli import groups as cli_groups
from gnomon.cli.console import app, print_json, printing

if TYPE_CHECKING:
    from gnomon.flows.report import UpdateReport
    from gnomon.running import Turn

__all__: list[str] = []


@app.command()
def run(
    repositories: Annotated[
        list[str],
        typer.Argument(
            metavar="REPOSITORY...",
            help="Paths or URLs of repositories, and of folders made by 'init --group all'.",
        ),
    ],
    loop: Annotated[
        bool, typer.Option("--loop", help="Go on until stopped, with each whenever it is due.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print each update as JSON, on a line of its own.")
    ] = False,
) -> None:
    """Update repositories of which an update is due; what goes wrong with one stops no other."""
    from gnomon.flows.alerting import channels_of
    from gnomon.flows.due import report_if_not_due
    from gnomon.flows.settings import Settings
    from gnomon.running import turns

    def update(place: str) -> "UpdateReport":
        # Before all that an update needs is loaded.
        waiting = report_if_not_due(place, settings, lambda: channels_of(settings))
        if waiting is not None:
            return waiting
        from gnomon.updating import open_to_update

        apart = settings.model_copy(update={"docs": docs[place]})
        return open_to_update(place).update(settings=apart)

    settings = Settings()
    settings.check_outputs()
    places = list(dict.fromkeys(p for r in repositories for p in cli_groups.places_of(r)))
    docs = _docs_of(places, settings.docs)
    each: Iterable[Turn] = turns(places, update, least=settings.min_interval)
    each = each if loop else islice(each, len(places))
    failures: dict[str, Exception] = {}
    for turn in each:
        _show(turn, loop=loop, as_json=as_json)
        if turn.error is not None and not loop:
            failures[turn.place] = turn.error
    cli_groups.end("repository", cli_groups.told(failures))


def _docs_of(places: Sequence[str], docs: Path | None) -> dict[str, Path | None]:
    """Return the folder of the Data Docs of each place; several have one each, below the folder."""
    if docs is None or len(places) == 1:
        return dict.fromkeys(places, docs)
    names: dict[str, int] = {}
    folders: dict[str, Path | None] = {}
    for place in places:
        name = place.rstrip("/").rpartition("/")[2]
        names[name] = names.get(name, 0) + 1
        folders[place] = docs / (f"{name}-{names[name]}" if names[name] > 1 else name)
    return folders


def _show(turn: "Turn", *, loop: bool, as_json: bool) -> None:
    """Print what an update did; where it failed, and the others go on, why."""
    from gnomon.cli import report
    from gnomon.flows.summary import sentence
    from gnomon.storage.redaction import redacted

    again = turn.next_at.isoformat(timespec="seconds")
    error = None if turn.error is None else cli_groups.told_of(turn.error)
    if as_json:
        document = {
            "repository": turn.place,
            "report": turn.report.to_json() if turn.report else None,
            "error": error and error[0],
            "exit_code": error[1] if error else 0,
            "next_at": again,
        }
        print_json(document, in_a_line=True)
    elif turn.report is not None:
        report.note(f"{turn.place}: {sentence(turn.report)}" + f"; again at {again}" * loop)
    elif loop and error is not None:
        typer.echo(redacted(f"gnomon: error: {turn.place}: {error[0]}; again at {again}"), err=True)
    with printing():
        sys.stdout.flush()
