"""Options that several commands have: which state is meant and what part of it, which source."""

from typing import Annotated

import typer

__all__ = [
    "NEW_PATH",
    "Accept",
    "At",
    "Before",
    "Branch",
    "Capture",
    "Chunks",
    "Flow",
    "From",
    "Kind",
    "Nearest",
    "Region",
    "Snapshot",
    "Tag",
    "Until",
    "Variables",
]

At = Annotated[
    str | None,
    typer.Option("--at", help="Time of the state: 2010-09-16T12:00, 2010-09, latest, latest~2."),
]
Nearest = Annotated[
    bool, typer.Option("--nearest", help="If no state has that time, take the nearest one.")
]
Before = Annotated[
    bool, typer.Option("--before", help="If no state has that time, take the last one before it.")
]
Kind = Annotated[
    str | None, typer.Option(help="Kind of restore point, as 'points' lists it; default: the best.")
]
Capture = Annotated[int | None, typer.Option(help="Number of the capture, if a time has several.")]
Accept = Annotated[
    bool, typer.Option("--accept-predicted", help="Allow a state with estimated cells.")
]

Variables = Annotated[
    list[str], typer.Option("--variable", help="Only this variable, and what it refers to; repeat.")
]
Region = Annotated[
    list[str],
    typer.Option(
        "--region",
        help="Only this part of the grid, by coordinates, both ends included: lat=10:20,lon=-5:5.",
    ),
]
Chunks = Annotated[
    list[str],
    typer.Option("--chunk", help="Only this chunk of the chunk grid: 3,4 or VARIABLE:3,4; repeat."),
]
From = Annotated[
    str | None,
    typer.Option("--from", help="All states from this time on, instead of one with --at."),
]
Until = Annotated[str | None, typer.Option("--until", help="All states until this time.")]

NEW_PATH = typer.Option(
    "--to", help="New path; its ending, such as .zarr or .nc, says what it will be."
)

Branch = Annotated[str | None, typer.Option(help="Branch of an Icechunk repository.")]
Tag = Annotated[str | None, typer.Option(help="Tag of an Icechunk repository.")]
Snapshot = Annotated[str | None, typer.Option(help="Snapshot of an Icechunk repository.")]
Flow = Annotated[bool, typer.Option("--flow", help="Run as a Prefect flow on Dask workers.")]
