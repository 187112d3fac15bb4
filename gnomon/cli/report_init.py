"""What people see of a source before and when it is protected."""

from typing import Any

from gnomon.cli.report import note, print_table

__all__ = ["print_description", "print_remarks"]

_SHOWN = 20


def print_description(description: dict[str, Any]) -> None:
    """Print all that `SourceDescription.to_json` says."""
    rows: list[tuple[str, object]] = [
        ("source", description["source"]),
        ("taken as", description["reason"]),
    ]
    if description["time"] is not None:
        rows += _time(description["time"])
    rows.append(("one state", _size(description["state_bytes"])))
    rows.append(
        ("fixed", _listed([f"{n} {_shape(s)}".strip() for n, s in description["fixed"].items()]))
    )
    print_table(("", ""), rows)
    print_table(
        ("variable", "dimensions", "shape", "chunks", "type", "units", "", "one state"),
        [
            (
                v["name"],
                ", ".join(v["dims"]),
                _shape(v["shape"]),
                _shape(v["chunks"]),
                v["dtype"],
                v["units"],
                "forecast" if v["forecast"] else "captured only",
                _size(v["state_bytes"]),
            )
            for v in description["variables"]
        ],
    )
    print_remarks(description, shown=None)


def print_remarks(description: dict[str, Any], *, shown: int | None = _SHOWN) -> None:
    """Print why a source is taken as it is, what was guessed, and what is left out.

    Parameters
    ----------
    shown
        Variables that are named at most; None: all.
    """
    if shown is not None:
        time = description["time"]
        note(
            description["reason"]
            + (f"; {_span(time)}" if time is not None and time["first"] else "")
        )
    for text in description["notes"]:
        note(f"note: {text}")
    skipped = list(description["skipped"].items())
    for name, reason in skipped[:shown]:
        note(f"not protected: {name} ({reason})")
    if skipped[slice(shown, None) if shown is not None else slice(0)]:
        note(f"not protected: {len(skipped) - (shown or 0)} more; --json names all")


def _time(time: dict[str, Any]) -> list[tuple[str, object]]:
    by = time["coordinate"] or "the number of the step"
    return [
        ("times", _span(time) if time["first"] else f"{time['steps']} steps"),
        ("times from", f"{by}: {time['units']}, calendar {time['calendar']}"),
    ]


def _span(time: dict[str, Any]) -> str:
    usual = f", usually {_interval(time['interval_s'])} apart" if time["interval_s"] else ""
    return f"{time['steps']} steps from {time['first']} to {time['last']}{usual}"


def _interval(seconds: float) -> str:
    for size, name in ((86400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= size:
            return f"{seconds / size:g} {name}"
    return f"{seconds:g} s"


def _shape(sizes: Any) -> str:
    return " x ".join(map(str, sizes))


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (", ".join(names[:_SHOWN]) + more) or "nothing"


def _size(count: int) -> str:
    size = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
