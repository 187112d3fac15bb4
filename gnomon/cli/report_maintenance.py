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
    from gnomon.tasks.compare import Difference

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


def print_check(found: "CheckReport") -> None:
    """Print what a check read and found, and what it did not read."""
    note(f"{found.records} log records, {found.objects} objects ({size(found.nbytes)}) are there")
    if found.data_read:
        note(f"all stored bytes read, {found.chunks} chunks decoded and verified")
    else:
        left = found.objects - found.objects_read
        rest = size(found.nbytes - found.nbytes_read)
        note(
            f"{size(found.nbytes_read)} of stored bytes read; not read: {left} objects ({rest}), "
            "see --read-data"
        )
    if found.unreferenced:
        note(
            f"{found.unreferenced} objects ({size(found.unreferenced_nbytes)}) belong to no "
            "commit: a run is writing them, or was stopped; 'gnomon prune' removes dead ones"
        )
    for problem in found.problems:
        note(f"damaged: {problem.file} ({problem.where}): {problem.error}")
    note(f"{len(found.problems)} problems" if found.problems else "no problems")


def size(nbytes: float) -> str:
    """Return a number of bytes as people read it."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(nbytes) < 1024:
            return f"{nbytes:.0f} {unit}" if unit == "B" else f"{nbytes:.1f} {unit}"
        nbytes /= 1024
    return f"{nbytes:.1f} TiB"


def print_repaired(found: "Repaired", *, dry_run: bool) -> None:
    """Print what a repair mended and what it left."""
    word = "can be mended" if dry_run else "mended"
    for name, origin in found.mended.items():
        note(f"{word}: {name} (from {origin})")
    for name, reason in found.left.items():
        note(f"still damaged: {name}: {reason}")
    if not found.mended and not found.left:
        note("nothing is damaged")


def print_captures(found: Sequence[dict[str, Any]]) -> None:
    """Print captures, one to a line; their eras, if there are several."""
    several = len({c["era"] for c in found}) > 1
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
        for c in found
    ]
    header = ("capture", "valid time", "captured at", "suspect", "revises", "current", "tags")
    print_table(("era", *header) if several else header, rows)


def print_forgotten(
    found: "Forgotten", *, freed: int | None = None, pruned: "Pruned | None" = None
) -> None:
    """Print which captures are kept and why, which are not, and what that frees."""
    rows = [
        ("keep" if d.keep else "forget", d.step, found.times[d.step], ", ".join(d.reasons))
        for d in found.decisions
    ]
    print_table(("", "capture", "valid time", "reasons"), rows)
    note(f"{len(found.steps)} captures forgotten, {len(found.lost)} restore points lost")
    if freed is not None:
        note(f"nothing was done (--dry-run); a prune would then free {size(freed)}")
    elif pruned is not None:
        print_pruned(pruned)
    elif found.steps:
        note("'gnomon prune' frees their bytes")


def print_pruned(found: "Pruned") -> None:
    """Print what a prune removed."""
    word = "would be removed" if found.dry_run else "removed"
    note(f"{found.objects} objects {word}, {size(found.nbytes)}")
    if found.rewritten:
        done = "must be stored" if found.dry_run else "were stored"
        note(f"{len(found.rewritten)} captures {done} anew: they depended on forgotten ones")
    if found.spared:
        note(
            f"{found.spared} objects were left alone because a run may still need them; a later "
            "prune removes them, or --grace 0 at once"
        )


def print_differences(found: "Sequence[Difference]") -> None:
    """Print a table of differences, one variable to a line, then the attributes that differ."""
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
            ", ".join(f"{dim} {a}..{b}" for dim, (a, b) in d.where.items()),
        )
        for d in found
        if d.chunks  # the time coordinate and the dataset differ in their attributes alone
    ]
    header = ("variable", "chunks", "cells", "lost", "gained", "mean", "max", "units", "where")
    print_table(header, rows)
    for d in found:
        for name, (first, second) in d.attributes.items():
            of = d.variable or "the dataset"
            note(f"attribute {name} of {of}: {_quoted(first)} -> {_quoted(second)}")


def _quoted(value: str | None) -> str:
    if value is None:
        return "(none)"
    return repr(value) if len(value) <= _LONGEST else f"{value[:_LONGEST]!r}..."


def print_stats(found: "Stats") -> None:
    """Print what takes how many bytes."""
    total = sum(found.parts.values())
    rows = [
        (part, size(n), f"{100 * n / total:.1f} %" if total else "")
        for part, n in found.parts.items()
    ]
    print_table(("part", "stored", "share"), [*rows, ("all", size(total), "")])
    note(
        f"{found.captures} captures, {found.forgotten} forgotten, {found.shadows} shadows, "
        f"{found.objects} objects"
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
            for v in found.variables
        ],
    )
