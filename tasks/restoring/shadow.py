"""The shadow itself: all leads of one forecast, as a dataset, and written as one."""

from dataclasses import asdict, dataclass
from os import PathLike
from typing import Any

from gnomon.storage.errors import InvalidInput, NotFound
from gnomon.storage.log.steps import Shadow
from gnomon.storage.repository import Repository
from gnomon.storage.serve.planes import Plane
from gnomon.storage.serve.view import Notes, raw_dataset
from gnomon.storage.values.attributes import NOTE
from gnomon.storage.values.times import format_instant, period
from gnomon.tasks.restoring.known import units_of
from gnomon.tasks.restoring.restore import checked_target, deliver
from gnomon.tasks.restoring.targets.target import Target
from gnomon.tasks.work import Mapper, serial

__all__ = ["Exported", "export_shadow", "find_shadow", "newest_shadow", "shadow_planes"]

_METHOD = "forecast"


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export of a shadow wrote."""

    target: str
    """Path of the new dataset."""
    reference_time: str
    """When the forecast was made, ISO 8601."""
    valid_times: tuple[str, ...]
    """Times that it is of, one per lead."""
    chunks: int
    """Chunks that were read back and verified."""

    def __str__(self) -> str:
        """Say in one line what was written."""
        return f"exported to {self.target}: {self._summary()}; {self.chunks} chunks verified"

    def _summary(self) -> str:
        first, last = self.valid_times[0], self.valid_times[-1]
        return _told(self.reference_time, len(self.valid_times), first, last)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


def find_shadow(repository: Repository, reference: str | None = None) -> tuple[Repository, Shadow]:
    """Return the shadow made at a reference time, the newest by default, and its era.

    Parameters
    ----------
    reference
        Time, ISO 8601, as partial as is unique.  A time at which several shadows were made, such as
        before and after a refit, names the last one.

    Raises
    ------
    NotFound
        There is no such shadow, or it was pruned; the message says which there are.
    InvalidInput
        The text names several reference times, or is no time.
    """
    eras = [repository, *(repository.in_era(k) for k in reversed(range(repository.era)))]
    calendar = repository.settings.calendar
    eras = [seen for seen in eras if seen.settings.calendar == calendar]
    # Of two shadows with one reference time, the newer one is kept.
    every = {s.reference: (seen, s) for seen in reversed(eras) for s in seen.shadows}
    if reference is None:
        if not repository.shadows:
            raise NotFound("there is no shadow yet; a forecast needs at least 3 captures")
        return repository, repository.shadows[-1]
    start, stop = period(reference, calendar)
    times = sorted(instant for instant in every if start <= instant < stop)
    if not times:
        raise NotFound(
            f"no shadow made at {reference!r} is there; {_listed(sorted(every), calendar)}"
        )
    if len(times) > 1:
        raise InvalidInput(
            f"{reference!r} names {len(times)} shadows; {_listed(times, calendar)}; name one of "
            "them"
        )
    return every[times[0]]


def _listed(references: list[int], calendar: str) -> str:
    times = [format_instant(instant, calendar) for instant in references]
    if not times:
        return "there is none yet, a forecast needs at least 3 captures"
    if len(times) > 4:
        times = [*times[:1], f"... {len(times) - 3} more ...", *times[-2:]]
    return f"there are those made at {', '.join(times)}"


def shadow_planes(repository: Repository, shadow: Shadow) -> tuple[tuple[Plane, ...], Notes]:
    """Return all leads of a shadow, to be served together, and what they say of themselves."""
    calendar = repository.settings.calendar
    reference, *times = (format_instant(i, calendar) for i in (shadow.reference, *shadow.instants))
    leads = range(1, len(times) + 1)
    whole: dict[str, Any] = {
        "method": _METHOD,
        "reference_time": reference,
        "leads": len(times),
        "estimated_share": 1.0,
        "summary": _told(reference, len(times), times[0], times[-1]),
    }
    units = units_of(repository)
    each: dict[str, dict[str, Any]] = {
        name: {
            "method": _METHOD,
            "tolerance": entry.tolerance,
            "expected_error_units": units[name],
        }
        for name, entry in shadow.variables.items()
    }
    notes = {
        name: {f"{NOTE}{key}": value for key, value in facts.items()}
        for name, facts in {"": whole, **each}.items()
    }
    planes = zip(shadow.instants, leads, strict=True)
    return tuple(Plane(i, shadow=shadow.id, lead=lead) for i, lead in planes), notes


def _told(reference: str, count: int, first: str, last: str) -> str:
    leads = f"{count} leads" if count > 1 else "1 lead"
    return f"forecast made at {reference}, {leads} from {first} to {last}"


def newest_shadow(
    repository: Repository, *, accept_predicted: bool
) -> tuple[tuple[Plane, ...], Notes]:
    """Return all leads of the newest shadow, and what they say of themselves.

    Raises
    ------
    NotFound
        There is no shadow yet.
    InvalidInput
        Predictions were not accepted.
    """
    seen, shadow = find_shadow(repository)
    if not accept_predicted:
        time = format_instant(shadow.reference, seen.settings.calendar)
        raise InvalidInput(
            f"the shadow made at {time} holds predicted cells; allow that with --accept-predicted"
        )
    return shadow_planes(seen, shadow)


def export_shadow(
    repository: Repository,
    to: str | PathLike[str] | Target,
    *,
    reference: str | None = None,
    mapper: Mapper = serial,
) -> Exported:
    """Write a shadow along its leads to a target, and read back all that was written.

    It raises what :func:`find_shadow` and :func:`gnomon.tasks.restoring.restore.restore` raise.

    Parameters
    ----------
    to
        A target, or the path or URL of one; its ending or scheme says of which kind.
    reference
        When the forecast was made; default: the newest.
    """
    seen, shadow = find_shadow(repository, reference)
    target = checked_target(seen, to)
    planes, notes = shadow_planes(seen, shadow)
    dataset = raw_dataset(seen, planes, by_lead=True, notes=notes)
    chunks, _ = deliver(
        seen, dataset, planes, target, summary=notes[""][f"{NOTE}summary"], mapper=mapper
    )
    calendar = seen.settings.calendar
    times = [format_instant(i, calendar) for i in (shadow.reference, *shadow.instants)]
    return Exported(str(target), times[0], tuple(times[1:]), chunks)
