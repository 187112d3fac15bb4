"""What people see of the commands that look after a repository."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gnomon.cli.report import note, print_table

if TYPE_CHECKING:
    from gnomon.storage.care.check import CheckReport
    from gnomon.storage.care.forget import Forgotten
    from gnomon.storage.care.prune import Pruned
    from gnomon.storage.care.repair import Repaired
    from gnomon.storage.care.stats import Stats
    from gnomon.tasks.comparing.compare import Difference

__all__ = [
    "print_captures",
    "print_check",
    "print_differences",
    "print_forgotten",
    "print_pruned",
    "print_repaired",
    "print_stats",
    "size",
]

_SHOWN = 20
_LONGEST = 200
"""Characters of an attribute that are printed."""


def print_check(report: "CheckReport") -> None:
    """Print what a check read and found, and what it did not read."""
    note(
        f"{report.records} log records, {report.objects} objects ({size(report.nbytes)}) are there"
    )
    if report.data_read:
        note(f"all stored bytes read, {report.chunks} chunks decoded and verified")
    else:
        left = report.objects - report.objects_read
        rest = size(report.nbytes - report.nbytes_read)
        note(
            f"{size(report.nbytes_read)} of stored bytes read; not read: {left} objects ({rest}), "
            "see --read-data"
        )
    if report.unreferenced:
        note(
            f"{report.unreferenced} objects ({size(report.unreferenced_nbytes)}) belong to no "
            "commit: a run is writing them, or was stopped; 'gnomon prune' removes dead ones"
        )
    for problem in report.problems:
        note(f"damaged: {problem.file} ({problem.where}): {problem.error}")
    note(f"{len(report.problems)} problems" if report.problems else "no problems")


def size(nbytes: float) -> str:
    """Return a number of bytes as people read it."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(nbytes) < 1024:
            return f"{nbytes:.0f} {unit}" if unit == "B" else f"{nbytes:.1f} {unit}"
        nbytes /= 1024
    return f"{nbytes:.1f} TiB"


def print_repaired(repaired: "Repaired", *, dry_run: bool) -> None:
    """Print what a repair mended and what it left."""
    word = "can be mended" if dry_run else "mended"
    for name, origin in repaired.mended.items():
        note(f"{word}: {name} (from {origin})")
    for name, reason in repaired.left.items():
        note(f"still damaged: {name}: {reason}")
    if not repaired.mended and not repaired.left:
        note("nothing is damaged")


def print_captures(captures: Sequence[dict[str, Any]]) -> None:
    """Print captures, one to a line; their eras, if there are several."""
    several = len({c["era"] for c in captures}) > 1
    rows = [
        (
            *([c["era"]] if several else []),
            c["capture"],
            c["valid_time"],
            c["captured_at"],
            c["suspect_chunks"],
            c["revises"],
            "" if c["current"] else "no",
            ", ".join(c["tags"]),
        )
        for c in captures
    ]
    header = ("capture", "valid time", "captured at", "suspect", "revises", "current", "tags")
    print_table(("era", *header) if several else header, rows)


def print_forgotten(
    forgotten: "Forgotten", *, freed: int | None = None, pruned: "Pruned | None" = None
) -> None:
    """Print which captures are kept and why, which are not, and what that frees."""
    rows = [
        ("keep" if d.keep else "forget", d.step, forgotten.times[d.step], ", ".join(d.reasons))
        for d in forgotten.decisions
    ]
    print_table(("", "capture", "valid time", "reasons"), rows)
    note(f"{len(forgotten.steps)} captures forgotten, {len(forgotten.lost)} restore points lost")
    if freed is not None:
        note(f"nothing was done (--dry-run); a prune would then free {size(freed)}")
    elif pruned is not None:
        print_pruned(pruned)
    elif forgotten.steps:
        note("'gnomon prune' frees their bytes")


def print_pruned(pruned: "Pruned") -> None:
    """Print what a prune removed."""
    word = "would be removed" if pruned.dry_run else "removed"
    note(f"{pruned.objects} objects {word}, {size(pruned.nbytes)}")
    if pruned.rewritten:
        words = "must be stored" if pruned.dry_run else "were stored"
        note(f"{len(pruned.rewritten)} captures {words} anew: they depended on forgotten ones")
    if pruned.spared:
        note(
            f"{pruned.spared} objects were left alone because a run may still need them; a later "
            "prune removes them, or --grace 0 at once"
        )


def print_differences(differences: "Sequence[Difference]") -> None:
    """Print a table of differences, one variable to a line, then what else differs."""
    has_estimates = any(d.beyond is not None for d in differences)
    rows = [
        (
            d.variable,
            f"{len(d.changed_chunks)} of {d.chunks}",
            f"{d.changed_cells} of {d.cells}",
            d.missing,
            d.appeared,
            d.mean,
            d.maximum,
            d.units,
            *([_beyond(d)] if has_estimates else []),
            ", ".join(f"{dim} {a}..{b}" for dim, (a, b) in d.where.items()),
        )
        for d in differences
        if d.chunks  # the time coordinate and the dataset differ in their attributes alone
    ]
    header = ("variable", "chunks", "cells", "lost", "gained", "mean", "max", "units")
    errors = ("beyond 2 standard errors",) if has_estimates else ()
    print_table((*header, *errors, "where"), rows)
    for d in differences:
        if d.unreadable:
            shown = ", ".join(d.unreadable[:_SHOWN]) + (" ..." if d.unreadable[_SHOWN:] else "")
            note(
                f"the live dataset cannot decode {len(d.unreadable)} chunks of {d.variable} "
                f"({shown}); they count as differing"
            )
    for d in differences:
        for name, (first, second) in d.attributes.items():
            of = d.variable or "the dataset"
            note(f"attribute {name} of {of}: {_quoted(first)} -> {_quoted(second)}")


def _beyond(difference: "Difference") -> str | None:
    if difference.beyond is None:
        return None
    share = difference.beyond / difference.estimated
    return f"{difference.beyond} of {difference.estimated} ({share:.1%})"


def _quoted(value: str | None) -> str:
    if value is None:
        return "(none)"
    return repr(value) if len(value) <= _LONGEST else f"{value[:_LONGEST]!r}..."


def print_stats(stats: "Stats") -> None:
    """Print what takes how many bytes."""
    total = sum(stats.parts.values())
    rows = [
        (part, size(n), f"{100 * n / total:.1f} %" if total else "")
        for part, n in stats.parts.items()
    ]
    print_table(("part", "stored", "share"), [*rows, ("all", size(total), "")])
    note(
        f"{stats.captures} captures, {stats.forgotten} forgotten, {stats.shadows} shadows, "
        f"{stats.objects} objects"
    )
    header = ("variable", "raw", "stored", "bits/value", "unchanged", "deltas", "keys", "delta/key")
    print_table(
        header,
        [
            (
                v.name,
                size(v.raw_nbytes),
                size(v.nbytes),
                v.bits_per_value,
                v.unchanged,
                v.deltas,
                v.keys,
                v.delta_share,
            )
            for v in stats.variables
        ],
    )
