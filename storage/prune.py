"""Prune: free the bytes of what was forgotten, and of what crashed runs left.

First the captures that stay are stored anew where they need forgotten ones.  Then a record is put:
from then on no run that began earlier can commit (see ``Repository.commit``), so that whatever no
commit names, and was begun before, is dead for certain, without looking at a clock.  Then objects
are removed.  A prune that is stopped at any point is completed by the next one.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from gnomon.storage.batch import sequence_of
from gnomon.storage.inventory import folder_of, frames, is_expected
from gnomon.storage.location import Location
from gnomon.storage.log import Record
from gnomon.storage.repository import Repository
from gnomon.storage.rewrite import dependent, rewrite
from gnomon.storage.state import State, fold

__all__ = ["Pruned", "prune", "would_free"]

Progress = Callable[[str, int, int], None]


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

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


def prune(
    repository: Repository,
    *,
    committed_at: str,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> tuple[Repository, Pruned]:
    """Remove what no kept capture, no needed shadow and no running writer needs.

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
    if not dry_run:
        repository = repository.commit("prune", {}, committed_at)
    pruned = tuple(state.pruned() for state in repository.eras)
    there = repository.location.sizes("")
    fence = len(repository.records) - (0 if dry_run else 1)  # the number of the prune's record
    dead = {name: there[name] for name in _dead(pruned, there, fence)}
    if not dry_run:
        for done, name in enumerate(sorted(dead)):
            if done % 64 == 0:
                tell("remove", done, len(dead))
            repository.location.delete([name])
        _tidy(repository.location, pruned, there, fence)
    return repository, Pruned(len(dead), sum(dead.values()), tuple(rewritten), dry_run)


def would_free(repository: Repository, steps: Sequence[int]) -> int:
    """Return the bytes that a prune would remove if these captures were forgotten.

    What must then be stored anew is not counted.
    """
    body = {"steps": list(steps), "era": repository.era}
    record = Record(len(repository.records), "", "forget", "", body)
    after = replace(repository, eras=fold(repository.eras, (record,)))
    return prune(after, committed_at="", dry_run=True)[1].nbytes


def _dead(eras: tuple[State, ...], there: Iterable[str], fence: int) -> Iterator[str]:
    """Yield the objects that nothing needs, of runs that can commit no more."""
    in_use = frames(eras)
    for name in there:
        folder = folder_of(name)
        if folder is None or folder in in_use:
            continue
        owner = next((state for state in eras if folder in state.folders), None)
        begun = sequence_of(folder)
        if owner is not None:
            if not is_expected(owner, folder, name):
                yield name
        elif begun is not None and begun <= fence:
            yield name


def _tidy(location: Location, eras: tuple[State, ...], there: dict[str, int], fence: int) -> None:
    """Remove empty folders, and what interrupted puts left beside names that they cannot give."""
    folders = location.folders()
    left = {b: name for folder in folders for b, name in location.unfinished(folder).items()}
    gone = set(_dead(eras, left.values(), fence))
    # Of what belongs to no run, a name that is taken: its writer was stopped, or was second.
    gone |= {name for name in left.values() if folder_of(name) is None and name in there}
    location.delete(beside for beside, name in left.items() if name in gone)
    location.remove_leftovers(_places(folders, fence))


def _places(folders: Iterable[str], fence: int) -> Iterator[str]:
    """Yield the folders in which nobody writes any more: a prune may have been stopped in them."""
    for folder in folders:
        commit = folder_of(f"{folder}/x")
        begun = None if commit is None else sequence_of(commit)
        if begun is not None and begun <= fence:
            yield folder
