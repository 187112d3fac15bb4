"""Prune: free the bytes of what was forgotten, and of what crashed runs left.

First the captures that stay are stored anew where they need forgotten ones.  Then a record is put
that names the folders that no commit names: from then on their runs cannot commit any more (see
``Repository.commit``), so that nothing that is ever committed is removed.  Then objects are
removed.  A prune that is stopped at any point is completed by the next one.

What was written lately may be a run's that goes on, and is left alone if the caller says since
when.  A clock thus decides how soon leftovers go, and whether a run must begin again; never what
is right.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from itertools import batched
from typing import Any

from gnomon.storage.care.inventory import folder_of, frames, is_expected, unreferenced
from gnomon.storage.care.rewrite import dependent, rewrite
from gnomon.storage.log.bodies.care import PruneBody
from gnomon.storage.log.bodies.choices import ForgetBody
from gnomon.storage.log.history import History
from gnomon.storage.log.location import Location
from gnomon.storage.log.staging import sequence_of
from gnomon.storage.repository import Repository

__all__ = ["Pruned", "prune", "would_free"]

TOGETHER = 500
"""Objects that are removed before progress is told again."""

Progress = Callable[[str, int, int], None]
GivenUp = Callable[[str], bool]
"""Whether the run that wrote a folder, which no commit names, can commit no more."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a prune did, or would do."""

    objects: int
    """Objects removed."""
    nbytes: int
    """Their bytes."""
    rewritten: tuple[int, ...]
    """Captures stored anew, because they needed forgotten ones."""
    dry_run: bool
    """Whether nothing was done; the bytes of what must be stored anew are not known then."""
    spared: int = 0
    """Objects that no commit names, left alone because their run may be going on."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


def prune(
    repository: Repository,
    *,
    committed_at: str,
    dry_run: bool = False,
    spare_since: datetime | None = None,
    progress: Progress | None = None,
) -> tuple[Repository, Pruned]:
    """Remove what no kept capture, no needed shadow and no running writer needs.

    Parameters
    ----------
    spare_since
        Leave alone what a run that has not committed yet has written, if the last of it was
        stored at this time or later; None: remove it, and the run must begin again.

    Raises
    ------
    Integrity
        A capture that must be stored anew is damaged; nothing was removed.
    Conflict
        Another writer was first; nothing was removed, run it again.
    """
    tell = progress or (lambda _what, _done, _total: None)
    rewritten: list[int] = []
    for era in range(len(repository.eras)):
        steps = dependent(repository.in_era(era))
        rewritten += steps
        if steps and not dry_run:
            present = rewrite(repository.in_era(era), steps, committed_at, tell)
            repository = present.in_era(len(present.eras) - 1)
    body = PruneBody()
    if spare_since is not None:
        body = PruneBody(tuple(sorted(_abandoned(repository, spare_since))))
    sequence = len(repository.records)
    if not dry_run:
        repository = repository.commit(body, committed_at)
    is_given_up = partial(body.removes, sequence)
    pruned = tuple(state.pruned() for state in repository.eras)
    there = repository.location.sizes("")
    dead = {name: there[name] for name in _dead(pruned, there, is_given_up)}
    spared = sum(1 for name in unreferenced(repository, there) if name not in dead)
    if not dry_run:
        for number, names in enumerate(batched(sorted(dead), TOGETHER)):
            tell("remove", number * TOGETHER, len(dead))
            repository.location.delete(names)
        _tidy(repository.location, pruned, there, is_given_up)
    return repository, Pruned(len(dead), sum(dead.values()), tuple(rewritten), dry_run, spared)


def _abandoned(repository: Repository, since: datetime) -> Iterator[str]:
    """Yield the folders that no commit names and nobody has written to since a time.

    What a prune has given up before is among them, for it may have been stopped.
    """
    newest: dict[str, datetime] = {}
    for name, written in repository.location.written("").items():
        folder = folder_of(name)
        if folder is not None and sequence_of(folder) is not None:
            newest[folder] = max(written, newest.get(folder, written))
    named = frames(repository.eras).union(*(state.folders for state in repository.eras))
    prunes = [
        partial(PruneBody.from_json(record.body).removes, record.sequence)
        for record in repository.records
        if record.kind == PruneBody.kind
    ]
    for folder in newest.keys() - named:
        if newest[folder] < since or any(removes(folder) for removes in prunes):
            yield folder


def would_free(
    repository: Repository, steps: Sequence[int], *, spare_since: datetime | None = None
) -> int:
    """Return the bytes that a prune would remove if these captures were forgotten.

    What must be stored anew then is not subtracted.
    """
    after = repository.foreseen(ForgetBody(tuple(steps), ""))
    return prune(after, committed_at="", dry_run=True, spare_since=spare_since)[1].nbytes


def _dead(eras: tuple[History, ...], there: Iterable[str], is_given_up: GivenUp) -> Iterator[str]:
    """Yield the objects that nothing needs, of runs that can commit no more."""
    in_use = frames(eras)
    for name in there:
        folder = folder_of(name)
        if folder is None or folder in in_use:
            continue
        owner = next((state for state in eras if folder in state.folders), None)
        if owner is not None:
            if not is_expected(owner, folder, name):
                yield name
        elif sequence_of(folder) is not None and is_given_up(folder):
            yield name


def _tidy(
    location: Location, eras: tuple[History, ...], there: dict[str, int], is_given_up: GivenUp
) -> None:
    """Remove empty folders, and what interrupted puts left beside names that they cannot give."""
    folders = location.folders()
    left = location.unfinished()
    gone = set(_dead(eras, left.values(), is_given_up))
    # Of what belongs to no run, a name that is taken: its writer was stopped, or was second.
    gone |= {name for name in left.values() if folder_of(name) is None and name in there}
    location.delete(beside for beside, name in left.items() if name in gone)
    location.remove_leftovers(_places(eras, folders, is_given_up))


def _places(
    eras: tuple[History, ...], folders: Iterable[str], is_given_up: GivenUp
) -> Iterator[str]:
    """Yield the folders in which nobody writes any more: a prune may have been stopped in them."""
    for folder in folders:
        commit = folder_of(f"{folder}/x")
        if commit is None or sequence_of(commit) is None:
            continue
        if is_given_up(commit) or any(commit in state.folders for state in eras):
            yield folder
