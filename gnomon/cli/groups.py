"""What init, update and status do with all groups of a source, and how they report it.

Nothing that goes wrong with one group stops the others.  Each failure is a line of its own on
standard error; the exit code is that of the worst.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import typer

from gnomon.cli.console import print_json

if TYPE_CHECKING:
    from gnomon.flows.settings import Settings
    from gnomon.grouping import GroupsCreated

__all__ = [
    "create_groups",
    "end",
    "is_folder_of_groups",
    "places_of",
    "show_status",
    "told",
    "told_of",
    "update_groups",
]

_WORST_FIRST = (5, 1, 7, 2, 3, 4, 6)
"""Exit codes: damage comes first, and last what may work at the next try."""


def is_folder_of_groups(place: str) -> bool:
    """Tell whether a place holds repositories of the groups of a source."""
    from gnomon.storage.source.groupfolder import GroupFolder

    return GroupFolder.open(place) is not None


def create_groups(
    folder: str, source: str, *, dry_run: bool, as_json: bool, **options: Any
) -> None:
    """Make a repository for each group of a source, and say what is taken of each."""
    from gnomon import grouping

    created = grouping.create_groups(folder, source, dry_run=dry_run, **options)
    failures = told(created.failed)
    if as_json:
        print_json(_to_json(created, failures))
    else:
        from gnomon.cli import report_groups

        report_groups.print_created(created, dry_run=dry_run)
    end("group", failures)


def _to_json(created: "GroupsCreated", failures: Mapping[str, tuple[str, int]]) -> dict[str, Any]:
    groups = {}
    for group, description in created.descriptions.items():
        repository = created.repositories.get(group)
        document = description.to_json()
        status = {} if repository is None else repository.status()
        groups[group] = {**status, "skipped": document["skipped"], "found": document}
    return {
        "folder": created.folder,
        "groups": groups,
        "present": created.present,
        "left_out": created.left_out,
        "failed": _failures_to_json(failures),
    }


def update_groups(
    folder: str,
    run: "Callable[[str, Settings], dict[str, Any]]",
    settings: "Settings",
    *,
    as_json: bool,
) -> None:
    """Update each repository of a folder in turn.

    Parameters
    ----------
    run
        Takes the place of a repository and settings, and returns what its update reports.
    """
    from gnomon import grouping
    from gnomon.storage.errors import GnomonError
    from gnomon.storage.log.location import Location
    from gnomon.storage.source.groupfolder import place_of

    def act(group: str, place: str) -> dict[str, Any]:
        if settings.docs is None:
            return run(place, settings)
        # Data Docs are a page each: those of one repository would replace those of another.
        docs = settings.docs / place_of(group).removesuffix(".gnomon")
        return run(place, settings.model_copy(update={"docs": docs}))

    reports, failed = grouping.do_for_each(grouping.group_places(folder), act)
    failures = told(failed)
    notes: list[str] = []
    unprotected: tuple[str, ...] = ()
    try:
        unprotected = grouping.unprotected_groups(folder)
    except GnomonError as error:
        notes.append(f"the groups of the source cannot be listed: {error}")
    if as_json:
        document = {
            "folder": Location(folder).url,
            "groups": reports,
            "failed": _failures_to_json(failures),
        }
        print_json(document | {"unprotected": unprotected, "notes": notes})
    else:
        from gnomon.cli import report_groups

        report_groups.print_updates(reports)
        report_groups.print_unprotected(folder, unprotected, notes)
    end("group", failures)


def show_status(folder: str, *, as_json: bool) -> None:
    """Show the status of each repository of a folder."""
    from gnomon import grouping
    from gnomon.repository import open_repository
    from gnomon.storage.log.location import Location

    statuses, failed = grouping.do_for_each(
        grouping.group_places(folder), lambda _, place: open_repository(place).status()
    )
    failures = told(failed)
    if as_json:
        document = {
            "folder": Location(folder).url,
            "groups": statuses,
            "failed": _failures_to_json(failures),
        }
        print_json(document)
    else:
        from gnomon.cli import report_groups

        report_groups.print_statuses(statuses)
    end("group", failures)


def places_of(repository: str) -> list[str]:
    """Return the repositories that a place names: itself, or those of a folder of groups."""
    if not is_folder_of_groups(repository):
        return [repository]
    from gnomon import grouping

    return list(grouping.group_places(repository).values())


def told(failed: Mapping[str, Exception]) -> dict[str, tuple[str, int]]:
    """Return by group what to say of a failure, and its exit code."""
    return {group: told_of(error) for group, error in failed.items()}


def told_of(error: Exception) -> tuple[str, int]:
    """Return what to say of a failure, and its exit code."""
    from gnomon.cli.failures import tell
    from gnomon.storage.errors import GnomonError

    return (str(error), error.exit_code) if isinstance(error, GnomonError) else tell(error)


def _failures_to_json(failures: Mapping[str, tuple[str, int]]) -> dict[str, Any]:
    return {group: {"error": text, "exit_code": code} for group, (text, code) in failures.items()}


def end(what: str, failures: Mapping[str, tuple[str, int]]) -> None:
    """Say which of some groups or repositories failed, and end with the code of the worst."""
    from gnomon.storage.redaction import redacted
    from gnomon.storage.source.groupfolder import shown

    for name, (text, _) in failures.items():
        typer.echo(redacted(f"gnomon: error: {what} {shown(name)}: {text}"), err=True)
    if failures:
        raise typer.Exit(_worst(code for _, code in failures.values()))


def _worst(codes: Iterable[int]) -> int:
    return min(codes, key=_WORST_FIRST.index)
