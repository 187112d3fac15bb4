"""The command that restores: to a new dataset, into the live one, or as a picture of it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gnomon.cli.console import Json, Place, apart, app, print_json, progress_of
from gnomon.cli.diff import Preview, show_preview
from gnomon.cli.options import (
    Accept,
    At,
    Before,
    Capture,
    Chunks,
    Flow,
    From,
    Kind,
    Nearest,
    Region,
    Until,
    Variables,
)
from gnomon.cli.rollback import (
    DryRun,
    Force,
    InPlace,
    Into,
    Plan,
    is_rollback,
    one_time,
    restore_in_place,
)

if TYPE_CHECKING:
    from gnomon.tasks.restoring.request import StateOptions

__all__: list[str] = []


@app.command()
def restore(
    repository: Place,
    target: Annotated[
        str | None,
        typer.Option(
            "--to",
            help="New path or URL; its ending, .zarr, .nc or .icechunk, says what it will be.",
        ),
    ] = None,
    at: At = None,
    in_place: InPlace = False,
    into: Into = False,
    from_: From = None,
    until: Until = None,
    kind: Kind = None,
    capture: Capture = None,
    nearest: Nearest = False,
    before: Before = False,
    variable: Variables = [],  # noqa: B006
    region: Region = [],  # noqa: B006
    chunk: Chunks = [],  # noqa: B006
    accept_predicted: Accept = False,
    plain: Annotated[
        bool, typer.Option("--plain", help="Refuse a state with estimated cells.")
    ] = False,
    marks: Annotated[
        bool,
        typer.Option("--marks", help="Add standard errors and provenance of captured cells, too."),
    ] = False,
    zarr_format: Annotated[
        int | None, typer.Option(help="Format of a Zarr store: 2 or 3; default: 3.")
    ] = None,
    cells: Annotated[
        Path | None,
        typer.Option(
            help="Damaged cells, to estimate these alone: a mask (.npy, NetCDF, Zarr) or polygons "
            "(.geojson)."
        ),
    ] = None,
    dry_run: DryRun = False,
    plan: Plan = None,
    force: Force = False,
    preview: Preview = None,
    flow: Flow = False,
    as_json: Json = False,
) -> None:
    """Write the state of a time to a new dataset, or into the live one; verify what was written."""
    from gnomon.tasks.restoring.locate import match_of

    state: StateOptions = {
        "match": match_of(nearest=nearest, before=before),
        "kind": kind,
        "capture": capture,
        "variable": variable,
        "region": ",".join(region) or None,
        "chunk": chunk,
    }
    named = None if cells is None else str(cells.absolute())
    writes_live = is_rollback(
        target,
        in_place=in_place,
        into=into,
        dry_run=dry_run,
        plan=plan,
        force=force,
        flow=flow,
        for_new=plain or marks or zarr_format is not None,
    )
    if preview is not None:
        other = {"--flow": flow, "--from": from_, "--until": until}
        show_preview(
            repository,
            at,
            preview,
            state=state,
            in_place=in_place,
            into=target if into else None,
            cells=named,
            other=other,
            as_json=as_json,
        )
    elif writes_live:
        restore_in_place(
            repository,
            one_time(at, from_, until),
            state=state,
            into=target,
            cells=named,
            accept_predicted=accept_predicted,
            dry_run=dry_run,
            plan=plan,
            force=force,
            as_json=as_json,
        )
    else:
        assert target is not None
        options: dict[str, Any] = {
            "from_": from_,
            "until": until,
            "accept_predicted": accept_predicted,
            "plain": plain,
            "marks": marks,
            "zarr_format": zarr_format,
            "cells": named,
        }
        _restore_new(repository, at, target, {**state, **options}, flow=flow, as_json=as_json)


def _restore_new(
    repository: str,
    at: str | None,
    target: str,
    options: dict[str, Any],
    *,
    flow: bool,
    as_json: bool,
) -> None:
    """Write states to a new dataset, here or as a flow."""
    if flow:
        from gnomon.flows.launch import run_restore
        from gnomon.flows.settings import Settings

        with apart():
            result = run_restore(repository, at, target, settings=Settings(), **options)
    else:
        from gnomon.repository import open_repository

        with progress_of(shown=not as_json) as progress:
            restored = open_repository(repository).restore(at, target, progress=progress, **options)
        result = restored.to_json()
    if as_json:
        print_json(result)
        return
    from gnomon.cli.report_restore import print_restored

    print_restored(result)
