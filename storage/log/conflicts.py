"""Which commits concern which: what a writer must do again because another was first.

A writer works from one commit and puts its record on top of whatever is newest when it is done.
The records in between were put by others.  Most of them do not concern it, and its commit stands;
:func:`concerns` is the whole rule of which do.
"""

from collections.abc import Iterable, Set
from dataclasses import dataclass
from typing import Literal

from gnomon.storage.errors import Conflict
from gnomon.storage.log.bodies.body import Header
from gnomon.storage.log.bodies.capture import RewriteBody
from gnomon.storage.log.bodies.care import PruneBody
from gnomon.storage.log.bodies.choices import ForgetBody
from gnomon.storage.log.records import Record

__all__ = ["ATTEMPTS", "Work", "concerns", "refuse_stale", "removes"]

ATTEMPTS = 32
"""How often a commit is put on top of a newer one; each time another writer has got on."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a commit was made from, as far as commits of others can change it."""

    kind: Literal["capture", "shadow", "patch"]
    """What is to be committed; doubts that a refit has count as its shadow."""
    sequence: int
    """The newest record that it knows of."""
    era: int
    """The era that it speaks of, the newest one that it knows of."""
    folder: str
    """Where it has written."""
    steps: frozenset[int]
    """Captures that it has read, or that what it has written is coded against."""
    kept: frozenset[int]
    """Captures that must not be given up: what a capture revises, a shadow is counted from."""


def concerns(record: Record, work: Work, given_up: Set[int] = frozenset()) -> bool:
    """Tell whether another writer's record makes it necessary to do some work again.

    =======================  =====================================  =============================
    record                   a capture                              a shadow
    =======================  =====================================  =============================
    tag, repair, rules       no                                     no
    verdict                  no: judged by what was known           yes: it is learnt from
    forget                   if it gives up what is revised         if it gives up a base of it
    rewrite                  if it moves what was read              the same
    prune                    if it removed what was written, or     the same
                             what was read and given up
    capture                  yes: numbers, and what is new          yes: it is not learnt yet
    shadow                   yes: its forecaster judges better      yes
    source                   yes: it is read elsewhere              no
    rollback, rolled         yes: the source was written to         no
    era, kinds not known     yes                                    yes
    patch                    no                                     no
    =======================  =====================================  =============================

    Patches are made from what is trusted: what concerns them is a verdict, a forget of their
    capture or of one beside it that tells of them, and a prune as above.  They are served for what
    they were made from alone, so that nothing else makes them wrong.

    Of another era than that of the work, only a prune or a newer era concerns it.

    Parameters
    ----------
    given_up
        Captures that records in between have given up, in the era of the work.
    """
    if record.kind == "prune":
        return removes(record, work.folder) or not work.steps.isdisjoint(given_up)
    if record.kind in _OF_ONE_ERA and _era(record, work) != work.era:
        return False
    match record.kind:
        case "tag" | "repair" | "rules" | "patch":
            return False
        case "verdict" | "capture" | "shadow" | "source" | "rollback" | "rolled":
            return work.kind in _CONCERNED[record.kind]
        case "forget" | "rewrite":
            relied_on = work.kept if record.kind == "forget" else work.steps
            return not relied_on.isdisjoint(_steps(record))
    return True


_CONCERNED = {
    "verdict": ("shadow", "patch"),
    "capture": ("capture", "shadow"),
    "shadow": ("capture", "shadow"),
    "source": ("capture",),
    "rollback": ("capture",),
    "rolled": ("capture",),
}
"""By kind of record, the kinds of work that any record of it concerns."""
_OF_ONE_ERA = {"capture", "shadow", "patch", "verdict", "rewrite"}
_OF_ONE_ERA |= {"forget", "tag", "rules", "source", "rollback", "rolled"}


def _era(record: Record, work: Work) -> int:
    era = Header.from_json(record.body).era
    return work.era if era is None else era


def _steps(record: Record) -> tuple[int, ...]:
    body = ForgetBody if record.kind == ForgetBody.kind else RewriteBody
    return body.from_json(record.body).steps


def removes(prune: Record, folder: str) -> bool:
    """Tell whether a prune removed a folder that no record named: its run can commit no more."""
    return PruneBody.from_json(prune.body).removes(prune.sequence, folder)


def refuse_stale(records: Iterable[Record], work: Work) -> None:
    """Refuse to commit work that one of the records, all of them newer, concerns.

    Raises
    ------
    Conflict
        It must be done again, from the newest commit.
    """
    given_up: set[int] = set()
    for record in records:
        if record.kind == "forget" and _era(record, work) == work.era:
            given_up.update(_steps(record))
        if concerns(record, work, given_up):
            raise Conflict(
                f"another writer committed record {record.sequence} ({record.kind}), which "
                f"changes what this {work.kind} was made from; nothing of it was kept, run it again"
            )
