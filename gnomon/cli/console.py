"""The console: the application that commands join, and what commands share.

Everything heavy is imported inside the commands, so that ``gnomon --help`` answers at once.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from gnomon.progress import Progress

__all__ = [
    "EXIT_CODES",
    "READER_GONE",
    "Json",
    "OutputFailed",
    "Place",
    "PlaceOrFolder",
    "apart",
    "app",
    "drop_output",
    "open_missing_streams",
    "pairs_of",
    "print_json",
    "printing",
    "progress_lines",
    "progress_of",
]

EXIT_CODES = """
Exit codes: 0 done; 1 something failed that should not have; 2 the request makes no sense, or the
target of a restore failed; 3 not found; 4 conflict: the target exists or another writer was first;
5 damage was found in the repository; 6 a store did not answer, try again; 7 the repository has
another format; 130 and 143 interrupted and terminated, nothing half-done was kept; 141 the reader
of the output ended.
"""
LINE_EVERY_S = 10.0
"""How often progress is printed if no terminal draws it."""
READER_GONE = 141
"""Exit code that a shell gives to a program whose reader has closed the pipe."""

app = typer.Typer(
    name="gnomon",
    help="Captures of large array datasets, their predicted future states, and their restoration.",
    epilog=EXIT_CODES.replace("\n", " "),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(asked: bool) -> None:
    if asked:
        from gnomon import __version__

        with printing():
            print(f"gnomon {__version__}")
        raise typer.Exit


@app.callback()
def options(
    *,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Take the options that belong to no command."""


Place = Annotated[str, typer.Argument(metavar="REPOSITORY", help="Path or URL of the repository.")]
PlaceOrFolder = Annotated[
    str,
    typer.Argument(
        metavar="REPOSITORY",
        help="Path or URL of the repository, or of a folder made by 'init --group all'.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def print_json(value: Any, *, in_a_line: bool = False) -> None:
    """Print a result as JSON, secrets hidden."""
    from gnomon.storage.redaction import redacted, redacted_values

    def other(leaf: Any) -> str:
        return redacted(str(leaf))

    indent = None if in_a_line else 1
    text = json.dumps(redacted_values(value), indent=indent, allow_nan=False, default=other)
    with printing():
        print(text)


def open_missing_streams() -> None:
    """Discard output if the caller has closed the streams of the program."""
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115 - open as long as the process
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115


class OutputFailed(Exception):
    """Standard output takes no more; the cause says why."""


@contextmanager
def printing() -> Iterator[None]:
    """Raise `OutputFailed` if standard output fails, so that no store is blamed for it."""
    try:
        yield
    except OSError as error:
        raise OutputFailed from error


@contextmanager
def apart() -> Iterator[None]:
    """Send what the code of others prints meanwhile to standard error, where no result is."""
    with redirect_stdout(sys.stderr):
        yield


def drop_output() -> None:
    """Discard what is still to be printed: it would fail once more when the program ends."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def progress_of(*, shown: bool) -> Iterator["Progress | None"]:
    """Give a progress callback: a bar on a terminal, otherwise a line now and then."""
    with apart():
        if not shown:
            yield None
            return
        if not sys.stderr.isatty():
            yield progress_lines()
            return
        from gnomon.cli.report import progress_bar

        with progress_bar() as callback:
            yield callback


def progress_lines(clock: Callable[[], float] = monotonic) -> "Progress":
    """Return a callback that prints how far the work is, on standard error, every ten seconds."""
    last = clock()

    def tell(what: str, done: int, total: int) -> None:
        nonlocal last
        if clock() - last >= LINE_EVERY_S:
            last = clock()
            typer.echo(f"{what}: {done} of {total}", err=True)

    return tell


def pairs_of(values: list[str], option: str, kind: type[int] | type[float]) -> dict[str, Any]:
    """Read options such as ``--chunk latitude=90``."""
    from gnomon.storage.errors import InvalidInput

    pairs = {}
    for value in values:
        name, separator, number = value.partition("=")
        try:
            pairs[name] = kind(number)
        except ValueError:
            separator = ""
        if not separator:
            raise InvalidInput(f"{option} is {value!r}; write it as NAME=NUMBER")
    return pairs
