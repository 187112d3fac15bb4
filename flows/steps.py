"""The steps of a cycle as plain functions of plain values, for any runner.

Each takes the repository at its newest commit, or at the one that it is told, does one thing and
returns plain values.  The newest is the newest that this process knows of: a run asks the store
when it begins, and again where it was not the only one to commit.  Those that work on chunks take a
mapper, which says where the chunks are worked on.  What commits is called ``keep_...``, and is
never done by a worker.

What captures, forecasts, heals and undoes is loaded by the steps that do it: most runs find nothing
new, and are to end at once.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from gnomon.flows.checks import Judgement
from gnomon.flows.doubts import doubted_incidents
from gnomon.flows.due import decide
from gnomon.flows.schedule import Due
from gnomon.flows.settings import Settings
from gnomon.storage.changes.era import begin_era
from gnomon.storage.checks.check import CRITICAL, Check
from gnomon.storage.errors import Conflict, InvalidInput, Unavailable
from gnomon.storage.log.bodies.choices import RulesBody
from gnomon.storage.log.bodies.report import Report
from gnomon.storage.log.bodies.verdict import JudgedChunk, VerdictBody
from gnomon.storage.log.conflicts import ATTEMPTS
from gnomon.storage.repository import Repository
from gnomon.storage.values.model import SUSPECT
from gnomon.storage.values.times import clock, parse, period
from gnomon.tasks.capturing.moved import refuse_moved
from gnomon.tasks.capturing.plan import CapturePlan, plan_capture
from gnomon.tasks.capturing.revisions import find_repeats, find_revisions
from gnomon.tasks.learning.cadence import MIN_CAPTURES
from gnomon.tasks.work import Mapper

if TYPE_CHECKING:
    from gnomon.tasks.capturing.capture import Capture
    from gnomon.tasks.learning.features import Features
    from gnomon.tasks.learning.learn import PendingState
    from gnomon.tasks.materialize import Shadowed
    from gnomon.tasks.restoring.keeping import Damage, Patched

__all__ = [
    "ON_CHUNKS",
    "capture",
    "damages",
    "estimate",
    "features",
    "forecast",
    "keep_capture",
    "keep_doubts",
    "keep_patches",
    "keep_shadow",
    "last_time",
    "materialize",
    "new_era",
    "newest",
    "next_update",
    "plan",
    "repeats",
    "revisions",
    "settle",
    "valid_time",
    "was_pruned",
    "withhold",
]


SHOWN = 3
"""Objects that a note names."""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def valid_time(url: str, time: str | None) -> int | None:
    """Return the time that is said to be that of the source's state.

    If none is said, it is now for a state source, and None for an append source.

    Raises
    ------
    InvalidInput
        It is no time of the dataset's calendar.
    """
    if not time and Repository.recall(url).settings.source.kind == "append":
        return None  # whatever was committed since
    calendar = Repository.open(url).settings.calendar
    return parse(time, calendar) if time else clock(_now(), calendar)


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
    """Describe the source anew; returns the number of the new era.

    Rules are those of an era; the standing ones are set in the new one as well.
    """
    repository = Repository.open(url)
    rules = repository.state.rules
    era = _begin_era(repository)
    if rules != RulesBody(None):
        Repository.open(url).retried(lambda seen: (seen.commit(rules, _now()), None))
    return era


def _begin_era(repository: Repository) -> int:
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
    return Repository.recall(url).records[-1].sequence


def was_pruned(url: str, sequence: int) -> bool:
    """Tell whether there was a prune after a commit: what it names may be gone."""
    later = Repository.open(url).records[sequence + 1 :]
    return any(record.kind == "prune" for record in later)


def settle(url: str) -> str | None:
    """Take back a rollback that was stopped half way; returns what to note of it.

    Raises
    ------
    Conflict
        It is under way.
    """
    repository = Repository.recall(url)
    if repository.state.open_rollback is None:
        return None
    from gnomon.tasks.rollback.undo import settle as settle_rollback

    undone = settle_rollback(repository, at=_now())
    if undone is None:
        return None
    left = ""
    if undone.left:
        shown = ", ".join(undone.left[:SHOWN]) + (", ..." if undone.left[SHOWN:] else "")
        left = (
            f", but for {len(undone.left)} of {undone.objects + len(undone.left)} objects, which "
            f"others have written since ({shown}): estimates that they hold are known where they "
            "are captured"
        )
    return (
        f"a rollback was stopped half way, and was taken back{left}: {undone.what}; "
        "run the restore again"
    )


def revisions(url: str, count: int | None, *, mapper: Mapper) -> tuple[int, ...]:
    """Find captures that the source has changed since: the newest, and others drawn by lot."""
    return find_revisions(Repository.recall(url), mapper, count=count, rng=np.random.default_rng())


def repeats(url: str, *, mapper: Mapper) -> dict[int, int]:
    """Find times of which the source has several steps, and other data in one of them."""
    return find_repeats(Repository.recall(url), mapper)


def plan(
    url: str,
    now: int | None = None,
    until: int | None = None,
    revised: tuple[int, ...] = (),
    repeated: Mapping[int, int] = {},
    *,
    left_out: frozenset[int] = frozenset(),
    again: bool = False,
) -> CapturePlan | None:
    """Find what the source holds that was never captured, or was changed since.

    Parameters
    ----------
    repeated
        By capture: which of several steps of its time is to be captured as its revision.
    left_out
        Instants that the source cannot give now.
    again
        Another writer was first: it may have captured the state of a state source.

    Raises
    ------
    Conflict
        A rollback is writing into the source, which holds old chunks beside new ones.
    """
    repository = Repository.recall(url)
    if repository.state.open_rollback is not None:
        from gnomon.tasks.rollback.undo import refuse_open

        refuse_open(repository)
    if again and now in {step.instant for step in repository.state.kept}:
        return None
    if now in left_out:
        return None
    began = _now()
    planned = plan_capture(
        repository,
        now=now,
        until=until,
        revised=revised,
        repeats=repeated,
        left_out=left_out,
        clock=clock(began, repository.settings.calendar),
    )
    return None if planned is None else replace(planned, read_at=began)


def capture(
    url: str, planned: CapturePlan, checks: tuple[Check, ...] = (), *, mapper: Mapper
) -> "Capture":
    """Read and write the new states; commits nothing yet.

    Parameters
    ----------
    checks
        Checks beside the built-in ones.

    Raises
    ------
    Moved
        The source was changed meanwhile: what was read may be of other times.
    """
    from gnomon.tasks.capturing.capture import capture as capture_chunks

    repository = Repository.recall(url, at=planned.sequence)
    try:
        captured = capture_chunks(repository, planned, mapper, checks)
    except Unavailable:
        refuse_moved(repository, planned)  # which would be why
        raise
    refuse_moved(repository, planned)
    if not (repository.captured or captured.unread or captured.empty):
        for variable in repository.settings.variables:
            valid = captured.statistics[variable.name]["valid_count"]
            if variable.forecast and not valid.any():
                raise InvalidInput(
                    f"{variable.name} has no valid value in any of {valid.shape[0]} states; "
                    "leave it out: name the others with --variable in 'gnomon init'"
                )
    return captured


def keep_capture(
    url: str, captured: "Capture", judgement: Judgement, channels: tuple[str, ...] = ()
) -> int:
    """Commit a capture; returns the sequence of its record.

    Parameters
    ----------
    channels
        Where its critical incidents are to be told, once it is committed.
    """
    from gnomon.tasks.capturing.capture import commit_capture

    repository = Repository.recall(url)
    report = judgement.to_json()
    if channels and any(i["severity"] == CRITICAL for i in judgement.incidents):
        report["alerts"] = list(channels)
    committed = commit_capture(
        repository,
        captured,
        set(judgement.suspect),
        report=report,
        committed_at=_now(),
    )
    return committed.records[-1].sequence


def features(
    url: str, refit: str | None, sequence: int, settings: Settings, *, mapper: Mapper
) -> dict[str, "Features"]:
    """Find periods, orders and tolerances where a refit is due; empty: too few captures."""
    from gnomon.tasks.learning.features import features as find_features

    repository = Repository.recall(url, at=sequence)
    return find_features(repository, refit=refit, share=settings.refit_share, mapper=mapper)


def forecast(
    url: str,
    by_name: dict[str, "Features"],
    sequence: int,
    trusts_ledger: bool = True,
    *,
    mapper: Mapper,
) -> "PendingState":
    """Bring the forecaster up to the newest capture, as of the commit that the features are of.

    Parameters
    ----------
    trusts_ledger
        Whether what was measured at a capture is not measured again; False: what it was compared
        with has been damaged since.
    """
    from gnomon.tasks.learning.learn import forecast as learn_chunks

    repository = Repository.recall(url, at=sequence)
    return learn_chunks(repository, by_name, mapper, trusts_ledger=trusts_ledger)


def keep_doubts(
    url: str, learnt: "PendingState", channels: tuple[str, ...] = ()
) -> tuple["PendingState", list[dict[str, Any]]]:
    """Commit what history itself did not believe: it is suspect from now on.

    Returns what was learnt, as of that commit, and the incidents as JSON.

    Parameters
    ----------
    channels
        Where the incidents are to be told, once they are committed.
    """
    chunks = tuple(
        JudgedChunk(name, step, index, SUSPECT, p)
        for name, gated in learnt.gated.items()
        for step, index, p in gated
    )
    if not chunks:
        return learnt, []
    repository = Repository.recall(url)
    reason = "departs from the chunk's own history beyond belief"
    doubted = doubted_incidents(repository, chunks, reason)
    incidents = [incident.to_json() for incident in doubted.values()]
    report = {"incidents": incidents} | ({"alerts": list(channels)} if channels else {})
    body = VerdictBody(chunks, reason, report=Report(report))
    committed = repository.commit(body, _now(), work=learnt.work(repository.era))
    return replace(learnt, sequence=committed.records[-1].sequence), incidents


def materialize(url: str, learnt: "PendingState", *, mapper: Mapper) -> "Shadowed":
    """Write the shadow; commits nothing yet."""
    from gnomon.tasks.materialize import materialize as predict_chunks

    return predict_chunks(Repository.recall(url), learnt, mapper)


def withhold(url: str, shadowed: "Shadowed", judgement: Judgement, *, mapper: Mapper) -> "Shadowed":
    """Write the shadow again, without the chunks of which a prediction was refused."""
    from gnomon.tasks.materialize import withhold as rewrite_shadow

    names = {name for name, _, _ in judgement.suspect}
    refused = {n: frozenset(i for name, _, i in judgement.suspect if name == n) for n in names}
    return rewrite_shadow(Repository.recall(url), shadowed, refused, mapper)


def next_update(url: str, shadowed: "Shadowed", settings: Settings) -> Due:
    """Decide when the next update is due; at once while something is wrong."""
    return decide(Repository.recall(url), shadowed, settings)


def keep_shadow(url: str, shadowed: "Shadowed", judgement: Judgement, due: Due) -> int:
    """Commit a shadow; returns the sequence of its record."""
    from gnomon.tasks.materialize import commit_shadow

    report = judgement.to_json() | {"due": due.to_json()}
    committed = commit_shadow(Repository.recall(url), shadowed, report=report, committed_at=_now())
    return committed.records[-1].sequence


def damages(url: str) -> tuple["Damage", ...]:
    """Find captures with suspect chunks that were forecast, and of which no estimate is kept."""
    repository = Repository.recall(url)
    if not any(step.suspects for step in repository.timeline):
        return ()
    from gnomon.tasks.restoring.keeping import find_damage

    return find_damage(repository)


def estimate(url: str, damage: "Damage", *, mapper: Mapper) -> "Patched":
    """Estimate the suspect chunks of a capture and write them; commits nothing yet."""
    from gnomon.tasks.restoring.keeping import estimate as estimate_chunks

    return estimate_chunks(Repository.recall(url, at=damage.sequence), damage, mapper)


def keep_patches(url: str, patched: "Patched") -> int:
    """Commit the estimates of a capture; returns the sequence of their record."""
    from gnomon.tasks.restoring.keeping import commit_patches

    committed = commit_patches(Repository.recall(url), patched, _now())
    return committed.records[-1].sequence


def forecast_excuse(url: str) -> str:
    """Say why there is nothing to forecast from."""
    count = len(Repository.recall(url).timeline)
    if count < MIN_CAPTURES:
        word = "capture" if count == 1 else "captures"
        return f"no forecast yet: {count} {word}, at least {MIN_CAPTURES} are needed"
    return "no forecast: no variable has enough valid values"


ON_CHUNKS = {repeats, revisions, capture, features, forecast, materialize, withhold, estimate}
"""Steps that work on chunks, and so take a mapper."""
