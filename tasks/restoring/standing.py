"""How a restore point stands: age and state of what it rests on, and why it is suggested."""

from collections.abc import Sequence
from dataclasses import replace

from gnomon.storage.errors import Integrity
from gnomon.storage.repository import Repository
from gnomon.storage.values.model import SUSPECT
from gnomon.storage.values.times import SECOND, parse
from gnomon.tasks.restoring.restore_point import RestorePoint, size_of, with_units

__all__ = ["stand", "suggest"]


def stand(repository: Repository, point: RestorePoint, *, verify: bool = False) -> RestorePoint:
    """Return a point with its age, integrity and anomalies.

    Parameters
    ----------
    verify
        Read every chunk of the captures, and of the shadow, that it rests on; otherwise only their
        indices are read.
    """
    steps = _steps(repository, point)
    anomalies = []
    if point.suspect_chunks:
        word = "chunk" if point.suspect_chunks == 1 else "chunks"
        anomalies.append(f"{point.suspect_chunks} suspect {word}")
    if point.instant in repository.state.doubted:
        anomalies.append("its time is doubted")
    beside = [s for s in steps if s != point.step and repository.captured[s].suspects]
    if beside:
        word = "captures" if len(beside) > 1 else "capture"
        anomalies.append(f"suspect chunks in {len(beside)} {word} that it rests on")
    return replace(
        point,
        age_s=_age_s(repository, point, steps),
        integrity=_integrity(repository, point, steps, verify=verify),
        anomalies=tuple(anomalies),
    )


def _steps(repository: Repository, point: RestorePoint) -> list[int]:
    """Return the captures that a point rests on first of all."""
    shadow = repository.shadow_named(point.shadow)
    steps = [point.step, None if shadow is None else shadow.step]
    calendar = repository.settings.calendar
    times = {parse(side, calendar) for side in point.sides}
    steps += [s.step for s in repository.timeline if s.instant in times] if times else []
    return sorted({step for step in steps if step is not None})


def _age_s(repository: Repository, point: RestorePoint, steps: Sequence[int]) -> float | None:
    if point.kind in ("captured", "suspect", "revision"):
        return 0.0
    instants = [repository.captured[s].instant for s in steps]
    before = [i for i in instants if i < point.instant]
    if point.kind == "last_capture" or not instants:
        return None  # it is of its own time
    newest = max(before) if before else min(instants)
    return abs(point.instant - newest) / SECOND


def _integrity(
    repository: Repository, point: RestorePoint, steps: Sequence[int], *, verify: bool
) -> str:
    shadow = repository.shadow_named(point.shadow)
    try:
        for variable in repository.settings.variables:
            captures = repository.captures(variable.name)
            for step in steps:
                status = captures.status(step)
                for index in variable.grid.indices() if verify else ():
                    if point.kind == "healed" and step == point.step and status[index] == SUSPECT:
                        continue
                    if step >= variable.since:
                        captures.chunk(step, index)
            if shadow is None or variable.name not in shadow.variables:
                continue
            stack = repository.shadow(variable.name, shadow, captures)
            stack.scores()
            for index in variable.grid.indices() if verify else ():
                stack.chunk(point.lead, index)
    except Integrity as error:
        return f"bad: {error}"
    return "verified" if verify else "not read"


def suggest(points: Sequence[RestorePoint]) -> tuple[RestorePoint, ...]:
    """Return points in their order, the first with the sentence that says why it is first."""
    if not points:
        return ()
    return replace(points[0], reason=_reason(points[0], points[1:])), *points[1:]


def _reason(first: RestorePoint, rest: Sequence[RestorePoint]) -> str:
    if first.kind == "captured":
        return "it was captured, exactly, and no check doubts it"
    why = {
        "healed": "what is intact stays as it was captured, and the rest is estimated",
        "interpolated": "captures on both sides say what lies between them",
        "forecast": "no later capture is known, and the forecast knows all earlier ones",
        "climatology": "captures are too far away to say more than the season does",
        "last_capture": "nothing better is known of this time",
        "suspect": "it was captured, and nothing was learnt to estimate its suspect chunks from",
    }.get(first.kind, "nothing else is known of this time")
    others = [p for p in rest if 0 < size_of(p) < float("inf")]
    if not others or not first.predicted or not 0 < size_of(first) < float("inf"):
        return why
    other = min(others, key=size_of)
    if size_of(other) <= size_of(first):
        return why
    name = max(first.expected_error, key=lambda n: first.expected_error[n] or 0.0)
    errors = [
        with_units(float(p.expected_error.get(name) or 0.0), p.units.get(name))
        for p in (first, other)
    ]
    kind = other.kind.replace("_", " ")
    return f"{why}: expected error {errors[0]}, against {errors[1]} of the {kind}"
