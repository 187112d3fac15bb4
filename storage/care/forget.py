"""Forget: give up captures by policy or by number.

Forgetting is one log record; the bytes stay until a prune.  What the repository still needs is
guarded: the last trusted capture of every chunk, and what the newest shadow is counted from.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gnomon.storage.care.retention import Decision, Policy, TaggedCapture, decide
from gnomon.storage.errors import InvalidInput, NotFound
from gnomon.storage.log.bodies.choices import ForgetBody, TagBody
from gnomon.storage.repository import Repository
from gnomon.storage.values.model import TRUSTED
from gnomon.storage.values.times import format_instant

__all__ = ["Forgotten", "forget", "guards", "tag"]


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What a policy decided."""

    decisions: tuple[Decision, ...]
    """One per kept capture of the present era, in order of time; versions go together."""
    steps: tuple[int, ...]
    """The captures that were given up."""
    lost: tuple[str, ...]
    """Their valid times: restore points that are no more."""
    times: dict[int, str]
    """Valid time by capture."""
    era: int = 0
    """The era of the captures."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "forgotten": list(self.steps),
            "lost": list(self.lost),
            "kept": [
                {"capture": d.step, "reasons": list(d.reasons)} for d in self.decisions if d.keep
            ],
        }


def guards(repository: Repository) -> dict[int, str]:
    """Return the captures that must not be given up, by number, and why."""
    reasons: dict[int, str] = {}
    doubted = repository.state.doubted
    if repository.shadows:
        bases = repository.shadows[-1].bases
        is_used = repository.captured[repository.shadows[-1].step].instant not in doubted
        reasons |= dict.fromkeys(bases if is_used else (), "base of the newest shadow")
    for variable in repository.settings.variables:
        stack = repository.captures(variable.name)
        left = np.ones(variable.grid.counts, bool)
        for captured in reversed(repository.timeline):
            if not left.any():
                break
            trusted = left & (stack.status(captured.step) == TRUSTED)
            if trusted.any():
                reasons[captured.step] = "last trusted capture"
            left &= ~trusted
    return reasons


def forget(
    repository: Repository,
    *,
    policy: Policy | None = None,
    captures: Sequence[int] = (),
    committed_at: str,
    dry_run: bool = False,
) -> tuple[Repository, Forgotten]:
    """Give up the captures that a policy does not keep, or those that are named.

    Raises
    ------
    InvalidInput
        The policy keeps nothing, or a named capture is guarded.
    NotFound
        There is no such capture.
    Conflict
        Another writer was first; nothing was changed.
    """
    guarded = guards(repository)
    if captures:
        decisions = _named(repository, captures, guarded)
    elif policy is None or policy.is_empty:
        raise InvalidInput(
            "the policy keeps nothing; say what to keep, for example --keep-last 10 --keep-daily 30"
        )
    else:
        decisions = _by_policy(repository, policy, guarded)
    going = tuple(d.step for d in decisions if not d.keep)
    calendar = repository.settings.calendar
    times = dict.fromkeys(repository.captured[step].instant for step in going)
    staying = {d.instant for d in decisions if d.keep}
    lost = tuple(format_instant(t, calendar) for t in sorted(times) if t not in staying)
    every = {d.step: format_instant(d.instant, calendar) for d in decisions}
    forgotten = Forgotten(decisions, going, lost, every, repository.era)
    if going and not dry_run:
        body = ForgetBody(going, "named" if captures else repr(policy))
        repository = repository.commit(body, committed_at)
    return repository, forgotten


def _by_policy(
    repository: Repository, policy: Policy, guarded: dict[int, str]
) -> tuple[Decision, ...]:
    """Decide on the timeline; other versions of a time go with the one that is on it."""
    versions: dict[int, list[int]] = {}
    tags: dict[int, set[str]] = {}
    for captured in repository.state.kept:
        versions.setdefault(captured.instant, []).append(captured.step)
        tags.setdefault(captured.instant, set()).update(captured.tags)
    times = {s.instant: s.step for s in repository.timeline}
    protected = {
        times[instant]: reason
        for step, reason in guarded.items()
        if (instant := repository.captured[step].instant) in times
    }
    captures = [TaggedCapture(s, t, tuple(sorted(tags[t]))) for t, s in times.items()]
    decisions = decide(captures, policy, repository.settings.calendar, guarded=protected)
    # What has a doubted time is for a person to give up: by its time no rule can tell.
    doubted = [Decision(0, t, True, ("doubted time",)) for t in sorted(versions.keys() - times)]
    return tuple(
        Decision(step, d.instant, d.keep, d.reasons)
        for d in sorted((*decisions, *doubted), key=lambda d: d.instant)
        for step in versions[d.instant]
    )


def _named(
    repository: Repository, captures: Sequence[int], guarded: dict[int, str]
) -> tuple[Decision, ...]:
    steps = {s.step for s in repository.state.kept}
    for step in captures:
        if step not in steps:
            raise NotFound(f"there is no capture {step}; 'gnomon captures' lists them")
        if step in guarded:
            raise InvalidInput(f"capture {step} cannot be given up: {guarded[step]}; name others")
    return tuple(
        Decision(s.step, s.instant, s.step not in captures, ()) for s in repository.state.kept
    )


def tag(
    repository: Repository,
    captures: Sequence[int],
    *,
    add: Sequence[str] = (),
    remove: Sequence[str] = (),
    committed_at: str,
) -> Repository:
    """Give captures names, or take names away; returns the repository afterwards.

    Raises
    ------
    NotFound
        There is no such capture.
    InvalidInput
        A name is empty or holds a comma or a space.
    """
    steps = {s.step for s in repository.state.kept}
    for step in captures:
        if step not in steps:
            raise NotFound(f"there is no capture {step}; 'gnomon captures' lists them")
    for name in (*add, *remove):
        if not name or "," in name or name.split() != [name]:
            raise InvalidInput(f"{name!r} is not a tag; write a word without spaces and commas")
    if not add and not remove:
        return repository
    body = TagBody(tuple(captures), tuple(add), tuple(remove))
    return repository.commit(body, committed_at)
