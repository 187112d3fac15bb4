"""The steps of a cycle as plain functions of plain values, for any runner.

Each opens the repository at its newest commit, or at the one that it is told, does one thing and
returns plain values.  Those that work on chunks take a mapper, which says where the chunks are
worked on.  What commits is called ``keep_...``, and is never done by a worker.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from gnomon.flows.doubts import doubted_incidents
from gnomon.flows.schedule import Due, dataset_confidence, next_due
from gnomon.flows.settings import Settings
from gnomon.storage.conflicts import ATTEMPTS
from gnomon.storage.era import begin_era
from gnomon.storage.errors import Conflict, InvalidInput
from gnomon.storage.grid import Index
from gnomon.storage.model import SUSPECT
from gnomon.storage.repository import Repository
from gnomon.storage.times import format_instant, parse, period
from gnomon.tasks.capture import Capture, commit_capture
from gnomon.tasks.capture import capture as capture_chunks
from gnomon.tasks.features import MIN_CAPTURES, Features
from gnomon.tasks.features import features as find_features
from gnomon.tasks.forecast import Learnt
from gnomon.tasks.forecast import forecast as learn_chunks
from gnomon.tasks.materialize import Shadowed, commit_shadow
from gnomon.tasks.materialize import materialize as predict_chunks
from gnomon.tasks.materialize import withhold as rewrite_shadow
from gnomon.tasks.plan import CapturePlan, plan_capture
from gnomon.tasks.points import suspects
from gnomon.tasks.revisions import find_revisions
from gnomon.tasks.work import Mapper

__all__ = [
    "ON_CHUNKS",
    "Judgement",
    "capture",
    "check_actual",
    "check_prediction",
    "features",
    "forecast",
    "is_shadowed",
    "keep_capture",
    "keep_doubts",
    "keep_shadow",
    "last_time",
    "materialize",
    "new_era",
    "newest",
    "next_update",
    "plan",
    "revisions",
    "valid_time",
    "was_pruned",
    "withhold",
]

KEPT_FINDINGS = 20
"""Findings that a log record keeps in full."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a check found, as plain values."""

    suspect: tuple[tuple[str, int, Index], ...]
    """Refused chunks: variable, position in the plan or lead, chunk index."""
    incidents: tuple[dict[str, Any], ...]
    """Incidents as JSON."""
    findings: tuple[dict[str, Any], ...]
    """Findings as JSON, the first of them."""
    rows: int
    """Chunks that were checked."""

    def to_json(self) -> dict[str, Any]:
        """Return what a log record keeps."""
        return {
            "rows": self.rows,
            "findings": list(self.findings),
            "incidents": list(self.incidents),
        }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def valid_time(url: str, time: str | None) -> int | None:
    """Return when the state of a state source is valid, now if not said; None for an append source.

    Raises
    ------
    InvalidInput
        A time was given for an append source, or is none of the dataset's calendar.
    """
    settings = Repository.open(url).settings
    if settings.source.kind == "state":
        return parse(time or _now().removesuffix("+00:00"), settings.calendar)
    if time is not None:
        raise InvalidInput("an append source brings its own times; leave out --time")
    return None


def last_time(url: str, until: str | None) -> int | None:
    """Return the last instant of a period; None if nothing limits a capture.

    Raises
    ------
    InvalidInput
        The source is a state source, which has no history.
    """
    settings = Repository.open(url).settings
    if settings.source.kind == "state":
        raise InvalidInput(
            "a state source holds only its present state; there is nothing to backfill, "
            "use 'gnomon update'"
        )
    return None if until is None else period(until, settings.calendar)[1] - 1


def new_era(url: str) -> int:
    """Describe the source anew; returns the number of the new era."""
    repository = Repository.open(url)
    for _ in range(ATTEMPTS):
        try:
            return begin_era(repository, _now()).era
        except Conflict:
            before, repository = repository, repository.refresh()
            if len(repository.eras) > len(before.eras):
                return repository.era  # another writer has begun it
            if len(repository.records) == len(before.records):
                raise
    return begin_era(repository, _now()).era


def newest(url: str) -> int:
    """Return the sequence of the newest commit."""
    return Repository.open(url).records[-1].sequence


def was_pruned(url: str, sequence: int) -> bool:
    """Tell whether there was a prune after a commit: what it names may be gone."""
    later = Repository.open(url).records[sequence + 1 :]
    return any(record.kind == "prune" for record in later)


def revisions(url: str, count: int | None, *, mapper: Mapper) -> tuple[int, ...]:
    """Find captures that the source has changed since: the newest, and others drawn by lot."""
    return find_revisions(Repository.open(url), mapper, count=count, rng=np.random.default_rng())


def plan(
    url: str,
    now: int | None = None,
    until: int | None = None,
    revised: tuple[int, ...] = (),
    *,
    left_out: frozenset[int] = frozenset(),
    again: bool = False,
) -> CapturePlan | None:
    """Find what the source holds that was never captured, or was changed since.

    Parameters
    ----------
    left_out
        Instants that the source cannot give now.
    again
        Another writer was first: it may have captured the state of a state source.
    """
    repository = Repository.open(url)
    last = repository.timeline[-1].instant if repository.timeline else None
    if again and now is not None and last is not None and last >= now:
        return None
    if now in left_out:
        return None
    return plan_capture(repository, now=now, until=until, revised=revised, left_out=left_out)


def capture(url: str, planned: CapturePlan, *, mapper: Mapper) -> Capture:
    """Read and write the new states; commits nothing yet."""
    repository = Repository.open(url).at(planned.sequence)
    found = capture_chunks(repository, planned, mapper)
    if not repository.captured and not found.unread:
        for variable in repository.settings.variables:
            valid = found.statistics[variable.name]["valid_count"]
            if variable.forecast and not valid.any():
                raise InvalidInput(
                    f"{variable.name} has no valid value in any of {valid.shape[0]} states; "
                    "leave it out: name the others with --variable in 'gnomon init'"
                )
    return found


def check_actual(url: str, found: Capture, settings: Settings) -> Judgement:
    """Validate the captured chunks, and say which are suspect."""
    from gnomon.validations.actual import validate_actual
    from gnomon.validations.context import open_context
    from gnomon.validations.expectations import suspect_chunks
    from gnomon.validations.incidents import group_incidents
    from gnomon.validations.table import actual_frame

    repository = Repository.open(url)
    calendar = repository.settings.calendar
    times = [format_instant(i, calendar) for i in found.plan.instants]
    frame = actual_frame(_long(found.statistics, times))
    context = open_context(settings.docs, run_name=f"{times[-1]}-capture")
    validation = validate_actual(frame, alpha=settings.alpha, context=context)
    incidents = group_incidents(validation, frame)
    suspect = tuple(
        (variable, times.index(time), tuple(int(n) for n in chunk.split("/") if n))
        for variable, time, chunk in sorted(suspect_chunks(validation))
    )
    return Judgement(
        suspect,
        tuple(i.to_json() for i in incidents),
        tuple(f.to_json() for f in validation.findings[:KEPT_FINDINGS]),
        validation.rows,
    )


def _long(
    statistics: dict[str, dict[str, np.ndarray[Any, Any]]],
    times: list[str],
    *,
    leads: bool = False,
    drop: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Return columns with one row per variable, time and chunk."""
    parts: dict[str, list[Any]] = {}
    for name, columns in statistics.items():
        first = next(iter(columns.values()))
        chunks = ["/".join(map(str, i)) for i in np.ndindex(first.shape[1:])]
        rows = len(chunks)
        labels: dict[str, Any] = {
            "variable": np.full(len(times) * rows, name, dtype=object),
            "valid_time": np.repeat(np.array(times, dtype=object), rows),
            "chunk": np.tile(np.array(chunks, dtype=object), len(times)),
        }
        if leads:
            labels["lead"] = np.repeat(np.arange(1, len(times) + 1), rows)
        for column, values in {**labels, **columns}.items():
            if column not in drop:
                parts.setdefault(column, []).append(np.asarray(values).ravel())
    return {c: _typed(c, np.concatenate(v)) for c, v in parts.items()}


_INTEGERS = {
    "cells",
    "valid_count",
    "infinite_count",
    "below_minimum",
    "above_maximum",
    "missing",
    "broken",
    "out_of_bounds",
}
_FLAGS = {"constant", "was_constant", "unchanged", "replayed", "metadata_changed", "revised"}


def _typed(column: str, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if column in _INTEGERS:
        return values.astype(np.int64)
    return values.astype(bool) if column in _FLAGS else values


def keep_capture(
    url: str, found: Capture, judgement: Judgement, channels: tuple[str, ...] = ()
) -> int:
    """Commit a capture; returns the sequence of its record.

    Parameters
    ----------
    channels
        Where its critical incidents are to be told, once it is committed.
    """
    repository = Repository.open(url)
    report = judgement.to_json()
    if channels and any(i["severity"] == "critical" for i in judgement.incidents):
        report["alerts"] = list(channels)
    kept = commit_capture(
        repository,
        found,
        set(judgement.suspect),
        report=report,
        committed_at=_now(),
    )
    return kept.records[-1].sequence


def is_shadowed(url: str) -> bool:
    """Tell whether the newest capture, and the newest verdict, are in a shadow already."""
    repository = Repository.open(url)
    record = repository.forecaster
    later = repository.records[record.sequence + 1 :] if record else repository.records
    return not any(r.kind in ("capture", "verdict") for r in later)


def features(
    url: str, refit: str | None, sequence: int, settings: Settings, *, mapper: Mapper
) -> dict[str, Features]:
    """Find periods, orders and tolerances where a refit is due; empty: too few captures."""
    repository = Repository.open(url).at(sequence)
    return find_features(repository, refit=refit, share=settings.refit_share, mapper=mapper)


def forecast(url: str, found: dict[str, Features], sequence: int, *, mapper: Mapper) -> Learnt:
    """Bring the forecaster up to the newest capture, as of the commit that `found` is of."""
    return learn_chunks(Repository.open(url).at(sequence), found, mapper)


def keep_doubts(
    url: str, learnt: Learnt, channels: tuple[str, ...] = ()
) -> tuple[Learnt, list[dict[str, Any]]]:
    """Commit what history itself did not believe: it is suspect from now on.

    Returns what was learnt, as of that commit, and the incidents as JSON.

    Parameters
    ----------
    channels
        Where the incidents are to be told, once they are committed.
    """
    chunks = [
        {"variable": name, "step": step, "chunk": list(index), "status": SUSPECT, "p_value": p}
        for name, gated in learnt.gated.items()
        for step, index, p in gated
    ]
    if not chunks:
        return learnt, []
    repository = Repository.open(url)
    reason = "departs from the chunk's own history beyond belief"
    doubted = doubted_incidents(repository, chunks, reason)
    incidents = [incident.to_json() for incident in doubted.values()]
    report = {"incidents": incidents} | ({"alerts": list(channels)} if channels else {})
    body = {"chunks": chunks, "reason": reason, "report": report}
    kept = repository.commit("verdict", body, _now(), work=learnt.work(repository.era))
    return replace(learnt, sequence=kept.records[-1].sequence), incidents


def materialize(url: str, learnt: Learnt, *, mapper: Mapper) -> Shadowed:
    """Write the shadow; commits nothing yet."""
    return predict_chunks(Repository.open(url), learnt, mapper)


def check_prediction(url: str, found: Shadowed, settings: Settings) -> Judgement:
    """Validate the predicted chunks, and say which must not be kept."""
    from gnomon.validations.context import open_context
    from gnomon.validations.prediction import validate_prediction
    from gnomon.validations.table import prediction_frame

    calendar = Repository.open(url).settings.calendar
    times = [format_instant(i, calendar) for i in found.instants]
    frame = prediction_frame(_long(found.statistics, times, leads=True, drop=("predicted",)))
    reference = format_instant(found.reference, calendar)
    context = open_context(settings.docs, run_name=f"{reference}-shadow")
    validation = validate_prediction(frame, context=context)
    refused = tuple(
        (f.variable, f.lead or 0, tuple(int(n) for n in f.chunk.split("/") if n))
        for f in validation.findings
        if f.severity == "critical"
    )
    findings = tuple(f.to_json() for f in validation.findings[:KEPT_FINDINGS])
    return Judgement(refused, (), findings, validation.rows)


def withhold(url: str, found: Shadowed, judgement: Judgement, *, mapper: Mapper) -> Shadowed:
    """Write the shadow again, without the chunks of which a prediction was refused."""
    names = {name for name, _, _ in judgement.suspect}
    refused = {n: frozenset(i for name, _, i in judgement.suspect if name == n) for n in names}
    return rewrite_shadow(Repository.open(url), found, refused, mapper)


def next_update(url: str, found: Shadowed, settings: Settings) -> Due:
    """Decide when the next update is due; at once while the newest capture is suspect."""
    repository = Repository.open(url)
    calendar = repository.settings.calendar
    doubts = sum(map(len, suspects(repository, found.learnt.step).values()))
    confidence = dataset_confidence(list(found.variables.values()))
    times = [format_instant(i, calendar) for i in found.instants]
    return next_due(confidence, times, target=settings.target_confidence, suspects=doubts)


def keep_shadow(url: str, found: Shadowed, judgement: Judgement, due: Due) -> int:
    """Commit a shadow; returns the sequence of its record."""
    report = judgement.to_json() | {"due": due.to_json()}
    kept = commit_shadow(Repository.open(url), found, report=report, committed_at=_now())
    return kept.records[-1].sequence


def forecast_excuse(url: str) -> str:
    """Say why there is nothing to forecast from."""
    count = len(Repository.open(url).timeline)
    if count < MIN_CAPTURES:
        word = "capture" if count == 1 else "captures"
        return f"no forecast yet: {count} {word}, at least {MIN_CAPTURES} are needed"
    return "no forecast: no variable has enough valid values"


ON_CHUNKS = {revisions, capture, features, forecast, materialize, withhold}
"""Steps that work on chunks, and so take a mapper."""
