"""What people see of restore points, and of restores."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gnomon.cli.report import note, print_notes, print_table

if TYPE_CHECKING:
    from gnomon.tasks.restoring.restore_point import RestorePoint

__all__ = ["note_match", "print_points", "print_restored"]


def print_points(points: Sequence["RestorePoint"]) -> None:
    """Print restore points, best first."""
    from gnomon.tasks.restoring.restore_point import with_units

    rows: list[tuple[object, ...]] = []
    for point in points:
        errors = [
            f"{name} {'-' if error is None else with_units(error, point.units.get(name))}"
            for name, error in point.expected_error.items()
        ]
        rows.append(
            (
                point.kind,
                point.valid_time,
                "" if point.step is None else point.step,
                point.lead,
                ", ".join(errors),
                point.confidence,
                f"{point.estimated_share:.2%}" if point.estimated_share else "",
                point.reference_time or " ".join(point.sides),
                "" if point.age_s is None else _age(point.age_s),
                "; ".join(point.anomalies) or ("predicted" if point.predicted else "trusted"),
                point.integrity.partition(":")[0],
                "--accept-predicted" if point.predicted else "",
            )
        )
    header = (
        "kind",
        "valid time",
        "capture",
        "lead",
        "expected error",
        "confidence",
        "estimated",
        "made at, from",
        "age",
        "state",
        "read",
        "needs",
    )
    print_table(header, rows)
    for point in points[:1]:
        if point.reason:
            note(f"first because {point.reason}")
    bad = (p.integrity for p in points if p.integrity.startswith("bad"))
    print_notes([*(text for point in points for text in point.notes), *bad])


def _age(seconds: float) -> str:
    """Return a length of time in the largest unit that it has two of."""
    for size, unit in ((86400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def note_match(at: str, points: Sequence["RestorePoint"]) -> None:
    """Say which time the points have, if it is not the one that was asked for."""
    times = [p.valid_time for p in points if p.kind != "last_capture"]
    if times and not times[0].startswith(at.strip().replace(" ", "T").removesuffix("Z")):
        note(f"no state has the time {at}; these have {times[0]}")


def print_restored(result: dict[str, Any]) -> None:
    """Print what a restore wrote."""
    from gnomon.tasks.restoring.restore_point import RestorePoint
    from gnomon.tasks.restoring.states import summary_of

    points = [RestorePoint(**point) for point in result["points"]]
    kept = f", {result['kept']} of them written by an earlier try" if result["kept"] else ""
    note(
        f"restored to {result['target']}: {summary_of(points)}; {result['chunks']} chunks "
        f"verified{kept}"
    )
    if any(point.predicted for point in points):
        note("some cells are estimates: see <variable>_provenance and <variable>_standard_error")
    print_notes(text for point in points for text in point.notes)
