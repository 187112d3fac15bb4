"""The command that draws states which might come, or might have been."""

from typing import TYPE_CHECKING, Annotated

import typer

from gnomon.cli.console import Json, Place, app, print_json, progress_of
from gnomon.cli.options import NEW_PATH, Before, Nearest

if TYPE_CHECKING:
    from gnomon.tasks.simulating.write import Simulated

__all__: list[str] = []


@app.command()
def simulate(
    repository: Place,
    at: Annotated[
        str | None,
        typer.Option(
            help="Time that was not captured, or not in full; default: all leads of the shadow."
        ),
    ] = None,
    members: Annotated[int, typer.Option(min=1, help="How many states to draw.")] = 20,
    seed: Annotated[int, typer.Option(help="The same seed gives the same numbers.")] = 0,
    variable: Annotated[
        list[str], typer.Option(help="Variable to simulate, repeat; default: all.")
    ] = [],  # noqa: B006
    target: Annotated[str | None, NEW_PATH] = None,
    nearest: Nearest = False,
    before: Before = False,
    as_json: Json = False,
) -> None:
    """Draw states that might be true, as far apart and as alike as past forecasts missed by."""
    from gnomon.repository import open_repository
    from gnomon.tasks.restoring.locate import match_of

    match = match_of(nearest=nearest, before=before)
    with progress_of(shown=not as_json) as progress:
        simulated = open_repository(repository).write_simulation(
            target,
            at,
            members=members,
            seed=seed,
            variables=variable,
            match=match,
            progress=progress,
        )
    if as_json:
        print_json(simulated.to_json())
        return
    _show(simulated)


def _show(simulated: "Simulated") -> None:
    """Print what members say, one line for each variable and time."""
    from gnomon.cli import report

    rows = []
    for state in simulated.states:
        units = simulated.units.get(state.variable, "")
        ends = (min(state.means), max(state.means)) if state.means else (None, None)
        rows.append(
            (
                state.variable,
                state.valid_time,
                state.lead,
                state.cells,
                state.standard_error,
                state.spread,
                *ends,
                units,
            )
        )
    header = ("variable", "valid time", "lead", "cells", "standard error", "spread")
    report.print_table((*header, "least mean", "greatest mean", "units"), rows)
    report.note("")
    report.note(
        "spread: standard deviation of the members; means: over the simulated cells of a member"
    )
    for name, basis in simulated.covariances.items():
        report.note(f"covariance of {name}: {basis}")
    report.note(simulated.summary)
    if simulated.target is not None:
        report.note(
            f"written to {simulated.target}: {simulated.blocks} blocks verified; each cell that is "
            "simulated is marked in <variable>_provenance, and no repository captures it"
        )
