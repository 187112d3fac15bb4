"""The command that writes the shadow itself as a dataset."""

from typing import Annotated

import typer

from gnomon.cli.console import Json, Place, app, print_json, progress_of
from gnomon.cli.options import NEW_PATH

__all__: list[str] = []


@app.command()
def export(
    repository: Place,
    target: Annotated[str, NEW_PATH],
    shadow: Annotated[
        bool, typer.Option("--shadow", help="Export the shadow: all leads of one forecast.")
    ] = False,
    reference: Annotated[
        str | None,
        typer.Option(help="Time at which the forecast was made; default: the newest."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write the forecast of all leads to a new dataset, marked, and verify what was written."""
    from gnomon.repository import open_repository
    from gnomon.storage.errors import InvalidInput

    if not shadow:
        raise InvalidInput(
            "nothing was named to export; give --shadow for the forecast, or use 'gnomon restore' "
            "for the state of one time"
        )
    with progress_of(shown=not as_json) as progress:
        exported = open_repository(repository).export_shadow(
            target, reference=reference, progress=progress
        )
    if as_json:
        print_json(exported.to_json())
        return
    from gnomon.cli import report

    report.note(str(exported))
    report.note(
        "all cells are predicted: see <variable>_standard_error, <variable>_confidence and "
        "<variable>_provenance"
    )
