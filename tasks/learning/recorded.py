"""What the log says of the newest forecaster; the forecaster itself is not needed to read it."""

from gnomon.storage.errors import Integrity
from gnomon.storage.log.bodies.shadow import LearntEntry
from gnomon.storage.repository import Repository
from gnomon.storage.values.documents import NONSENSE
from gnomon.tasks.learning.cadence import Cadence

__all__ = ["cadence_of", "entry_of", "is_believed", "nonsense", "unreadable"]


def entry_of(repository: Repository, name: str) -> LearntEntry | None:
    """Return what the log says of the newest forecaster of a variable."""
    record = repository.forecaster
    return None if record is None else record.learnt.get(name)


def cadence_of(repository: Repository, name: str) -> Cadence | None:
    """Return the cadence of a variable's captures; None before the first forecast."""
    entry = entry_of(repository, name)
    if entry is None:
        return None
    try:
        cadence = Cadence.from_json(dict(entry.cadence))
        if cadence.calendar != repository.settings.calendar:
            raise ValueError(f"it has the calendar {cadence.calendar!r:.40}")
    except NONSENSE as error:
        raise nonsense(repository, name, "cadence", error) from error
    return cadence


def nonsense(repository: Repository, name: str, part: str, error: BaseException) -> Integrity:
    """Return the error that says that a sealed record holds what no forecaster has written."""
    record = repository.forecaster
    number = None if record is None else record.sequence
    return Integrity(
        f"log record {number} (shadow) does not hold what it should: the {part} of {name} is none "
        f"({str(error)[:200]}); run 'gnomon update --refit' to learn it anew"
    )


def unreadable(repository: Repository) -> tuple[str, ...]:
    """Return, per variable of which what was learnt is damaged, what that means, in a sentence.

    Only the small objects that stand for the whole are read; a check reads the rest.
    """
    record = repository.forecaster
    notes = []
    for name in record.learnt if record else ():
        stored = repository.forecaster_state(name)
        # Not the numbers per chunk, which may be many: a check reads them.
        for part in (name for name in stored.tables() if name not in {"shared", "carried"}):
            try:
                getattr(stored, part)()
            except Integrity as error:
                notes.append(
                    f"what was learnt of {name} cannot be read, the next update learns it anew: "
                    f"{error}"
                )
                break
    return tuple(notes)


def is_believed(repository: Repository, step: int) -> bool:
    """Tell whether the time of a capture is believed: else nothing may depend on it."""
    return repository.captured[step].instant not in repository.state.doubted
