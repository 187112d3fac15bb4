"""The part of the Python API that looks after a repository: check, repair, forget, prune."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from os import PathLike
from typing import Any

from gnomon.inspecting import Inspecting
from gnomon.progress import Progress
from gnomon.storage.care.forget import Forgotten, forget, tag
from gnomon.storage.care.prune import Pruned, prune, would_free
from gnomon.storage.care.repair import Repaired, repair
from gnomon.storage.care.retention import Policy
from gnomon.storage.care.stats import Stats, stats
from gnomon.storage.changes.moving import move_source
from gnomon.storage.errors import InvalidInput
from gnomon.storage.redaction import redacted
from gnomon.storage.repository import Repository
from gnomon.storage.source.opening import source_path
from gnomon.storage.userpath import place_of
from gnomon.tasks.restoring.locate import capture_named
from gnomon.tasks.restoring.partial import sweep

__all__ = ["Maintenance", "utc"]

GRACE = timedelta(days=1)
"""For so long a prune leaves alone what a run has written and not committed."""
MOST_GRACE = timedelta(days=3650)
"""No run takes longer."""


def utc() -> str:
    """Return the wall-clock time, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class Maintenance(Inspecting):
    """Methods that keep a repository sound and small."""

    def repair(self, *, dry_run: bool = False, progress: Progress | None = None) -> Repaired:
        """Mend damage with the same bytes from copies, from equal chunks or from the source."""
        done = repair(self._repository, committed_at=utc(), dry_run=dry_run, progress=progress)
        self._repository = self._repository.refresh()
        return done

    def source(self) -> dict[str, Any]:
        """Return where the source is, and how it is opened."""
        spec = self._repository.settings.source
        return {n: redacted(v) if n == "url" else v for n, v in asdict(spec).items()}

    def move_source(self, place: str | PathLike[str], **options: str | None) -> tuple[str, ...]:
        """Follow a source that has moved; return what could not be verified.

        Parameters
        ----------
        place
            Its new path, as text or path, or URL, as text.
        options
            ``engine``; default: found.  ``group``, ``branch``, ``tag`` and ``snapshot``; default:
            as before; empty: none.

        Raises
        ------
        InvalidInput
            The new place holds another dataset: other variables, another grid, or other data.
        """
        given: dict[str, Any] = {n: v or None for n, v in options.items() if v is not None}
        if {"branch", "tag", "snapshot"} & given.keys():
            given = dict.fromkeys(("branch", "tag", "snapshot")) | given
        url = source_path(place_of(place))

        def commit(newest: Repository) -> tuple[Repository, tuple[str, ...]]:
            spec = replace(newest.settings.source, url=url, **({"engine": None} | given))
            return move_source(newest, spec, utc())

        repository, notes = self._repository.retried(commit)
        self._adopt(repository)
        return notes

    def tag(
        self, captures: Sequence[int | str], *, add: Sequence[str] = (), remove: Sequence[str] = ()
    ) -> None:
        """Add tags to captures, by number or time, or remove them; policies may name the tags."""
        seen, steps = self._numbers(captures)
        options: dict[str, Any] = {"add": add, "remove": remove, "committed_at": utc()}
        self._adopt(seen.retried(lambda newest: tag(newest, steps, **options)))

    def forget(
        self,
        policy: Policy | None = None,
        *,
        captures: Sequence[int | str] = (),
        dry_run: bool = False,
    ) -> Forgotten:
        """Give up the captures that a policy does not keep, or the captures that are named.

        Their bytes stay until :meth:`prune`.
        """
        seen, steps = self._numbers(captures)
        options: dict[str, Any] = {"policy": policy, "captures": steps, "dry_run": dry_run}
        after, done = seen.retried(lambda newest: forget(newest, committed_at=utc(), **options))
        self._adopt(after)
        return done

    def would_free(self, found: Forgotten) -> int:
        """Return the bytes that a prune would free if these captures were forgotten."""
        seen, since = self._repository.in_era(found.era), datetime.now(UTC) - GRACE
        return would_free(seen, found.steps, spare_since=since)

    def prune(
        self,
        *,
        dry_run: bool = False,
        grace: timedelta = GRACE,
        progress: Progress | None = None,
    ) -> Pruned:
        """Free the bytes of what was forgotten, of old forecasts and of interrupted runs.

        It also removes what restores beside the repository left behind when their process died.

        Parameters
        ----------
        grace
            What was written less than this ago and not committed is left alone, because its run
            may still be working.  If it were removed, that run would begin again.

        Raises
        ------
        InvalidInput
            The grace is negative, or longer than `MOST_GRACE`.
        """
        if not timedelta(0) <= grace <= MOST_GRACE:
            raise InvalidInput(f"grace is {grace}; it must be between 0 and {MOST_GRACE.days} days")
        place = self._repository.location.path
        if place is not None and not dry_run:
            sweep(place.parent)
        options: dict[str, Any] = {"dry_run": dry_run, "progress": progress}
        since = datetime.now(UTC) - grace if grace else None
        repository, done = self._repository.retried(
            lambda newest: prune(newest, committed_at=utc(), spare_since=since, **options)
        )
        self._adopt(repository)
        return done

    def stats(self) -> Stats:
        """Return how many bytes each part takes, and how many were saved."""
        return stats(self._repository)

    def _adopt(self, repository: Repository) -> None:
        """Use the repository after a commit, in its present era."""
        self._repository = repository.in_era(len(repository.eras) - 1)

    def _numbers(self, captures: Sequence[int | str]) -> tuple[Repository, list[int]]:
        """Return the era and the numbers of captures; the present era if there are none."""
        numbered = [capture_named(self._repository, str(capture)) for capture in captures]
        if len({seen.era for seen, _ in numbered}) > 1:
            raise InvalidInput(
                "the captures are in different eras; name captures of one era at a time"
            )
        return numbered[0][0] if numbered else self._repository, [step for _, step in numbered]
