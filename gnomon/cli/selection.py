"""Options that say which part of a state a command is about."""

from typing import Annotated

import typer

__all__ = ["Chunks", "From", "Region", "Until", "Variables"]

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
