"""What people see of the repositories of all groups of a source."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gnomon.cli import report, report_init
from gnomon.cli.report import note
from gnomon.storage.source.groupfolder import shown

if TYPE_CHECKING:
    from gnomon.grouping import GroupsCreated

__all__ = ["print_created", "print_statuses", "print_unprotected", "print_updates"]


def print_created(created: "GroupsCreated", *, dry_run: bool) -> None:
    """Print what came of each group of a source."""
    for group, description in created.descriptions.items():
        document = description.to_json()
        note(f"group {group}:")
        if dry_run:
            report_init.print_description(document)
        else:
            names = ", ".join(variable["name"] for variable in document["variables"])
            note(f"protected in {created.repositories[group].path}: {names}")
            report_init.print_remarks(document)
        note("")
    for group, place in created.present.items():
        note(f"group {group}: left as it is, {place} exists already")
    for group, reason in created.left_out.items():
        note(f"group {shown(group)}: nothing to protect: {reason}")
    if dry_run:
        note("dry run: nothing was made")
    elif created.repositories or created.present:
        note(f"next: gnomon update {created.folder}")


def print_updates(reports: Mapping[str, dict[str, Any]]) -> None:
    """Print what the update of each repository did."""
    for group, update in reports.items():
        note(f"group {group}: {update['repository']}")
        report.print_update(update)
        note("")


def print_unprotected(folder: str, groups: Sequence[str], notes: Sequence[str]) -> None:
    """Print which groups of the source have no repository, and how they get one."""
    for text in notes:
        note(f"note: {text}")
    if groups:
        names = ", ".join(map(shown, groups))
        note(
            f"not protected: groups of the source without a repository: {names}; make theirs "
            f"with gnomon init {folder} SOURCE --group all"
        )


def print_statuses(statuses: Mapping[str, dict[str, Any]]) -> None:
    """Print a line for each repository: captures, shadow, incidents, next due time."""
    header = ("group", "captures", "first", "last", "shadow until", "incidents", "due")
    rows = []
    for group, status in statuses.items():
        until = status["shadow"][-1] if status["shadow"] else None
        due = status["due"]["valid_time"] if status["due"] else None
        incidents = status["open_incidents"]
        rows.append(
            (group, status["captures"], status["first"], status["last"], until, incidents, due)
        )
    report.print_table(header, rows)
