"""The commands that write into the live dataset: a restore in place, and taking it back."""

from typing import TYPE_CHECKING, Annotated

import typer

from gnomon.cli.console import Json, Place, app, print_json, progress_of

if TYPE_CHECKING:
    from gnomon.tasks.restoring.request import StateOptions
    from gnomon.tasks.rollback.rollback import RollbackPlan
    from gnomon.tasks.rollback.undo import Undone

__all__ = [
    "DryRun",
    "Force",
    "InPlace",
    "Into",
    "Plan",
    "is_rollback",
    "one_time",
    "restore_in_place",
]

InPlace = Annotated[
    bool, typer.Option("--in-place", help="Write into the source, only what differs; see 'undo'.")
]
Into = Annotated[
    bool, typer.Option("--into", help="--to is a dataset that is there, of the source's grid.")
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="With --in-place or --into: print the plan, write nothing."),
]
Plan = Annotated[
    str | None, typer.Option(help="Refuse if the plan is another by now; --dry-run prints it.")
]
Force = Annotated[
    bool, typer.Option("--force", help="Write also what others have changed since the plan.")
]

_SHOWN = 20


def is_rollback(
    target: str | None,
    *,
    in_place: bool,
    into: bool,
    dry_run: bool,
    plan: str | None,
    force: bool,
    flow: bool,
    for_new: bool,
) -> bool:
    """Tell whether a restore writes into a dataset that is there.

    Parameters
    ----------
    for_new
        Whether something was asked for that is said of a new dataset alone.

    Raises
    ------
    InvalidInput
        The options contradict each other.
    """
    from gnomon.storage.errors import InvalidInput

    if in_place and (into or target):
        raise InvalidInput("--in-place is the source itself; leave out --to and --into")
    if into and not target:
        raise InvalidInput("--into needs the dataset that is written into; name it with --to")
    if not (in_place or target):
        raise InvalidInput(
            "name a new path with --to, or write into the source itself with --in-place"
        )
    if not (in_place or into) and (dry_run or plan or force):
        raise InvalidInput("--dry-run, --plan and --force go with --in-place or --into")
    if (in_place or into) and for_new:
        raise InvalidInput(
            "--plain, --marks and --zarr-format are for a new dataset; leave them out with "
            "--in-place and --into"
        )
    if (in_place or into) and flow:
        raise InvalidInput("a restore in place runs here; leave out --flow")
    return in_place or into


def one_time(at: str | None, from_: str | None, until: str | None) -> str:
    """Return the time of the state; raises InvalidInput for a period, which is of several."""
    from gnomon.storage.errors import InvalidInput

    if at is None or from_ or until:
        raise InvalidInput("in place one state is written at a time; name it with --at")
    return at


def restore_in_place(
    repository: str,
    at: str,
    *,
    state: "StateOptions",
    into: str | None,
    cells: str | None,
    accept_predicted: bool,
    dry_run: bool,
    plan: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Write a state into a live dataset, or print what would be written."""
    from gnomon.repository import open_repository

    opened = open_repository(repository)
    with progress_of(shown=not as_json) as progress:
        if dry_run:
            planned = opened.plan_rollback(at, into=into, cells=cells, progress=progress, **state)
            document, sequence = planned.to_json(), None
        else:
            rolled = opened.rollback(
                at,
                into=into,
                cells=cells,
                accept_predicted=accept_predicted,
                plan=plan,
                force=force,
                progress=progress,
                **state,
            )
            planned, sequence, document = rolled.plan, rolled.sequence, rolled.to_json()
    if as_json:
        print_json(document)
        return
    _print_plan(planned, sequence, dry_run=dry_run)


def _print_plan(plan: "RollbackPlan", sequence: int | None, *, dry_run: bool) -> None:
    from gnomon.cli.report import note, print_table
    from gnomon.cli.report_maintenance import size
    from gnomon.storage.redaction import redacted

    live = redacted(plan.live)
    if plan.spared:
        note(
            f"{plan.spared} chunks differ and are left alone, as there is only a forecast and "
            f"{live} has values there; name what to overwrite with --variable, --chunk or --region"
        )
    if not plan.objects and plan.spared:
        return
    if not plan.objects:
        note(f"{live} is so already: {plan.point}; nothing was written")
        return
    print_table(
        ("variable", "chunk", "cells", "estimated", "", ""),
        [
            (
                c.variable,
                "/".join(map(str, c.index)) or "all",
                c.cells,
                c.estimated,
                "could not be read" if c.is_damaged else "",
                f"{c.clipped} at the limit of the type" if c.clipped else "",
            )
            for c in plan.chunks[:_SHOWN]
        ],
    )
    if len(plan.chunks) > _SHOWN:
        note(f"and {len(plan.chunks) - _SHOWN} chunks more")
    if plan.also:
        more = f" and {len(plan.also) - _SHOWN} more" if len(plan.also) > _SHOWN else ""
        note(
            "other steps lie in objects that cannot be decoded, and are put back as they were "
            f"captured: {', '.join(plan.also[:_SHOWN])}{more}"
        )
    for remark in plan.remarks:
        note(remark)
    word = "would be written" if dry_run else "written"
    note(
        f"{word} into {live}: {plan.point}; {plan.cells} cells in {len(plan.chunks)} chunks, "
        f"{len(plan.objects)} objects, {size(plan.nbytes)}"
    )
    if dry_run:
        if not plan.is_atomic:
            note("while it is written, readers see old chunks beside new ones")
        note(f"--plan {plan.token} writes this, and nothing else")
    else:
        note(f"read back and verified; 'gnomon undo' takes rollback {sequence} back")


@app.command()
def undo(
    repository: Place,
    rollback: Annotated[
        int | None,
        typer.Option(help="Number of the rollback, as 'status' tells it; default: the newest."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be taken back; do nothing.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Also where others have written since: theirs is lost."),
    ] = False,
    interrupted: Annotated[
        bool,
        typer.Option("--interrupted", help="Its process, on another machine, was stopped."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Take back a restore in place, bit for bit, or one that was stopped half way."""
    from gnomon.repository import open_repository

    undone = open_repository(repository).undo(
        rollback, force=force, dry_run=dry_run, interrupted=interrupted
    )
    if as_json:
        print_json(undone.to_json())
        return
    _print_undone(undone)


def _print_undone(undone: "Undone") -> None:
    from gnomon.cli.report import note
    from gnomon.storage.redaction import redacted

    word = "would be taken back" if undone.dry_run else "taken back"
    note(
        f"{word}: {undone.what}; {undone.objects} objects of {redacted(undone.live)} are as they "
        "were before"
    )
    for key in undone.left[:_SHOWN]:
        note(f"left, as others have written or removed it since: {key}; see --force")
