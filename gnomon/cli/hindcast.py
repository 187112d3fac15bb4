"""The command that needs no repository: would a shadow of this dataset be worth having?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gnomon.cli.console import Json, app, pairs_of, print_json, progress_of

if TYPE_CHECKING:
    from gnomon.tasks.hindcasting.score import HindcastReport

__all__: list[str] = []


@app.command()
def hindcast(
    source: Annotated[str, typer.Argument(help="Path or URL of a dataset with a time dimension.")],
    variable: Annotated[str, typer.Option(help="Variable to hindcast.")],
    origins: Annotated[int, typer.Option(min=1, help="Greatest number of reference times.")] = 30,
    leads: Annotated[
        int | None,
        typer.Option(min=1, help="Intervals ahead; default: 24 for hourly data, else 6."),
    ] = None,
    period: Annotated[list[float], typer.Option(help="Season in days; repeat for more.")] = [],  # noqa: B006
    interval: Annotated[
        str | None, typer.Option(help="Interval: 1h, 30min, 1d; a number is hours.")
    ] = None,
    start: Annotated[
        str | None, typer.Option(help="Time of the first step, if steps are only counted.")
    ] = None,
    time: Annotated[
        str | None, typer.Option(help="Name of the time dimension or of its coordinate.")
    ] = None,
    engine: Annotated[str | None, typer.Option(help="xarray engine.")] = None,
    group: Annotated[str | None, typer.Option(help="Group within the source.")] = None,
    chunk: Annotated[
        list[str], typer.Option(help="Chunk size of the captures, as in latitude=90; repeat.")
    ] = [],  # noqa: B006
    candidate: Annotated[
        list[str],
        typer.Option(help="Forecasting model beside the built-in ones, by its name; repeat."),
    ] = [],  # noqa: B006
    plot: Annotated[
        Path | None, typer.Option(help="File for a picture of the result: .png, .pdf or .svg.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Replay what a repository would forecast over the last 30 % of a record, and judge it."""
    if plot is not None:
        from gnomon.comparing import check_picture

        check_picture("--plot", plot)
    from gnomon.hindcasting import hindcast as run
    from gnomon.options import duration_s

    with progress_of(shown=not as_json) as progress:
        hindcast_report = run(
            source,
            variable,
            origins=origins,
            leads=leads,
            periods_s=[p * 86400.0 for p in period] or None,
            interval_s=None if interval is None else duration_s(interval),
            start=start,
            time=time,
            engine=engine,
            group=group,
            chunks=pairs_of(chunk, "--chunk", int),
            candidates=candidate,
            progress=progress,
        )
    if plot is not None:
        _draw(hindcast_report, variable, plot)
    if as_json:
        print_json(hindcast_report.to_json())
        return
    from gnomon.cli import report

    report.print_hindcast(hindcast_report)
    if plot is not None:
        report.note(f"the picture is in {plot}")


def _draw(hindcast_report: "HindcastReport", variable: str, plot: Path) -> None:
    from gnomon.plots import plot_hindcast
    from gnomon.storage.userpath import blaming

    with blaming("--plot", plot):
        plot.parent.mkdir(parents=True, exist_ok=True)
        plot_hindcast(hindcast_report, variable, plot)
