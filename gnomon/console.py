"""The console: the application that commands join, and what they share.

Everything heavy is imported inside the commands, so that ``gnomon --help`` answers at once.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from gnomon.maintenance import Progress

__all__ = ["EXIT_CODES", "At", "Json", "Place", "app", "print_json", "progress_of"]

EXIT_CODES = """
Exit codes: 0 done; 1 something failed that should not have; 2 the request makes no sense;
3 not found; 4 conflict: the target exists or another writer was first; 5 damage was found in the
repository; 6 a store did not answer, try again; 7 the repository is of a newer format; 130 and 143
interrupted and terminated, nothing half-done was kept.
"""

app = typer.Typer(
    name="gnomon",
    help="Captures of large array datasets, their predicted future states, and their restoration.",
    epilog=EXIT_CODES.replace("\n", " "),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Place = Annotated[str, typer.Argument(metavar="REPOSITORY", help="Path or URL of the repository.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
At = Annotated[
    str, typer.Option("--at", help="Time of the state, as in 2010-09-16T12:00 or 2010-09.")
]


def print_json(value: Any) -> None:
    """Print a result as JSON."""
    print(json.dumps(value, indent=1, allow_nan=False, default=str))


@contextmanager
def progress_of(*, shown: bool) -> Iterator["Progress | None"]:
    """Give a progress callback, drawn on a terminal only."""
    if not shown or not sys.stderr.isatty():
        yield None
        return
    from gnomon.report import progress_bar

    with progress_bar() as callback:
        yield callback
