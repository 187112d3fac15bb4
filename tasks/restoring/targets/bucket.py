"""What targets in object stores share: a place that one restore has claimed, and clearing up.

There is no name to give at last: objects stand where they will be read.  What makes a dataset of
them is put last, and not before all else is verified.  Beside them, under ``.gnomon-restore/``,
stands who writes there:

::

    claim-00000000.json    what is restored, and the token of the process that does it
    created-00000000.json  that all but the blocks is there, and what is still to be put
    claim-00000001.json    another process has taken the same restore over

A claim is put only if it is absent, so of several processes one wins.  A restore of anything else
never gets a place that is not empty: a process that seems dead may still write there.  One of the
same may: whatever a survivor writes there are the same values.
"""

import json
import logging
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Self

from obstore.exceptions import BaseError

from gnomon.storage.errors import Conflict, InvalidInput, Unavailable
from gnomon.storage.log.location import Location
from gnomon.storage.repository import Repository
from gnomon.tasks.restoring.partial import lock_file, take_lock
from gnomon.tasks.restoring.targets.file import mark_of

__all__ = ["MARKS", "BucketTarget", "location_of", "refuse_inside"]

logger = logging.getLogger(__name__)

MARKS = ".gnomon-restore"
SILENCE = timedelta(minutes=15)
"""How long nothing has been written where a process on another machine counts as dead.

Blocks are written every few seconds.  S3 takes no request that is signed a quarter of an hour ago,
so what a process that hung so long still sends is refused.
"""
_ALIASES = {"s3a": "s3", "azure": "az", "adl": "az", "abfs": "az", "abfss": "az"}


@dataclass(frozen=True)
class BucketTarget:
    """A dataset of many objects under one prefix."""

    name: str
    """URL as it was given."""
    mark: str = ""
    """Of which restore it is."""
    turn: int = 0
    """How many processes had begun it before; set while it is in the making, as those below."""
    token: str = ""
    """Of the process that makes it."""
    resumed: bool = False
    """Whether an earlier one was through with `create`."""

    def __str__(self) -> str:
        return self.name

    @property
    def location(self) -> Location:
        """Where it is."""
        return location_of(self.name)

    def check(self, repository: Repository) -> None:
        """Refuse a place that is taken, or in the repository or its source.

        Raises
        ------
        Conflict
            Something is there already that is no unfinished restore.
        InvalidInput
            Nothing can or should be written there.
        Unavailable
            The store does not answer, or refuses to.
        """
        refuse_inside(self.name, repository)
        names = self.location.list("")
        if names and self.is_published():
            self._tidy(names)
            raise Conflict(f"{self.name} exists already; choose a new target")
        if names and not any(name.startswith(f"{MARKS}/") for name in names):
            raise Conflict(
                f"{self.name} is not empty: it has {names[0]!r}; choose a new target, or remove "
                "what is there"
            )

    def is_published(self) -> bool:
        """Tell whether a dataset is there for all to see."""
        raise NotImplementedError

    def _tidy(self, names: Sequence[str]) -> None:
        """Remove what a process of this machine left that died when all was published."""
        dead = False
        for lock in _lock_of("*").parent.glob(_lock_of("*").name):
            with suppress(OSError):
                if lock.read_bytes() != self._lock_text():
                    continue
                descriptor = take_lock(lock)
                if descriptor is not None:
                    lock.unlink(missing_ok=True)
                    os.close(descriptor)
                    dead = True
        if dead and any(name.startswith(f"{MARKS}/") for name in names):
            self.release()

    def _lock_text(self) -> bytes:
        return f"gnomon: {self.name} is being restored\n".encode()

    def marked(self, mark: str) -> Self:
        """Return the target for a restore; the mark also has all options of the target."""
        return replace(self, mark=mark_of(self, mark, self.name.rstrip("/").rpartition("/")[2]))

    @contextmanager
    def making(self) -> Iterator[Self]:
        """Claim the place; what is there after a failure is removed, if the claim still holds."""
        token = secrets.token_hex(16)
        lock = _lock_of(token)
        descriptor = lock_file(lock, self._lock_text())
        try:
            draft = self._claimed(token)
            try:
                draft._refuse_overwriting()
                yield draft._cleansed()
            except BaseException:
                draft.clear()
                raise
        finally:
            lock.unlink(missing_ok=True)
            os.close(descriptor)

    def _claimed(self, token: str) -> Self:
        """Return the target with a claim of its own, which none but the same restore may follow."""
        last = max(self._claims(), default=-1)
        if last >= 0:
            self._refuse_other(self.location.read(_claim(last)))
        claim = json.dumps({"restore": self.mark, "token": token}).encode()
        try:
            self.location.create(_claim(last + 1), claim)
        except Conflict as error:
            raise self._busy("at this moment") from error
        return replace(self, turn=last + 1, token=token)

    def _cleansed(self) -> Self:
        """Return the target with what an earlier process has made, if it was through with that."""
        resumed = bool(self._created())
        if self.turn and not resumed:
            self._remove(lambda name: not name.startswith(f"{MARKS}/"))
        return replace(self, resumed=resumed)

    def _refuse_overwriting(self) -> None:
        with suppress(Conflict):
            self.location.create(_claim(self.turn), b"a second restore")
            raise InvalidInput(
                f"--to {self.name}: the store does not honour put-if-absent, so two restores could "
                "be mixed there; restore to another store, or to a local path"
            )

    def _refuse_other(self, claim: bytes) -> None:
        """Refuse to go on with what is another restore's, or that of a process that may live."""
        try:
            document = json.loads(claim)
            mark, token = str(document["restore"]), str(document["token"])
        except (ValueError, LookupError, TypeError):
            mark = token = ""
        if mark != self.mark or not token.isalnum():
            raise Conflict(
                f"{self.name} has an unfinished restore of something else; choose a new target, or "
                "remove what is there once no process writes there any more"
            )
        lock = _lock_of(token)
        if lock.exists():  # its process is, or was, on this machine
            descriptor = take_lock(lock)
            if descriptor is None:
                raise self._busy("at this moment")
            os.close(descriptor)
            lock.unlink(missing_ok=True)
            return
        silence = self._silence()
        if silence < SILENCE:
            raise self._busy(f"{silence.total_seconds():.0f} s ago")

    def _busy(self, when: str) -> Conflict:
        return Conflict(
            f"{self.name}: another restore wrote there {when}; if its process is dead, run the "
            f"same restore {SILENCE.total_seconds() / 60:.0f} minutes after that, or choose a new "
            "target"
        )

    def _silence(self) -> timedelta:
        """Return how long ago the newest object was put, by the clock of the store."""
        probe = f"{MARKS}/now-{secrets.token_hex(8)}"
        before = max(self.location.written("").values())
        self.location.create(probe, b"")
        try:
            return self.location.written(MARKS)[probe] - before
        finally:
            self.location.delete([probe])

    def _claims(self) -> list[int]:
        """Return the turns that are claimed."""
        prefix = f"{MARKS}/claim-"
        names = [n for n in self.location.list(MARKS) if n.startswith(prefix)]
        return [int(n.removeprefix(prefix).partition(".")[0]) for n in names]

    def _created(self) -> list[str]:
        return [n for n in self.location.list(MARKS) if n.startswith(f"{MARKS}/created-")]

    def note_created(self, text: str = "") -> None:
        """Note that all but the blocks is there, with a text for :meth:`told_created`."""
        self.location.create(f"{MARKS}/created-{self.turn:08}.json", text.encode())

    def told_created(self) -> str:
        """Return what was noted."""
        return self.location.read(self._created()[-1]).decode()

    def created(self) -> None:
        """Do nothing: `create` has noted it."""

    @contextmanager
    def asking(self, name: str) -> Iterator[None]:
        """Tell a failure of the store as one, with the name of what it failed for."""
        try:
            yield
        except (BaseError, OSError) as error:
            raise self.location.unavailable(name, error) from error

    def is_ours(self) -> bool:
        """Tell whether no other process has taken the restore over."""
        return max(self._claims(), default=None) == self.turn

    def refuse_stranger(self) -> None:
        """Refuse to finish what another process has taken over."""
        if not self.is_ours():
            raise self.overtaken()

    def overtaken(self) -> Conflict:
        """Return the error that says that another process was first."""
        return Conflict(f"{self.name} was made by another meanwhile; choose a new target")

    def release(self) -> None:
        """Remove all that stands beside the dataset; what cannot be removed does no harm."""
        try:
            names = self.location.list(MARKS)
            claims = [name for name in names if name.startswith(f"{MARKS}/claim-")]
            self.location.delete(name for name in names if name not in claims)
            # At last, and ours, the newest, before older ones: until then nobody else writes here.
            for claim in sorted(claims, reverse=True):
                self.location.delete([claim])
        except Unavailable as error:
            logger.warning("%s; what is left of the restore under %s is not needed", error, MARKS)

    def clear(self) -> None:
        """Remove all that was written, by whatever thread; the claim at last.

        Raises
        ------
        GnomonError
            The store refuses that.
        """
        if not self.is_ours() or self.is_published():
            return
        self.location.delete(self._created())
        gone = 0
        for _ in range(100):  # threads that have not heard of the failure may add to it
            gone = (
                0 if self._remove(lambda name: not name.startswith(f"{MARKS}/claim-")) else gone + 1
            )
            if gone > 1:
                break
            time.sleep(0.05)
        self.release()

    def _remove(self, chosen: Callable[[str], bool]) -> Sequence[str]:
        names = [name for name in self.location.list("") if chosen(name)]
        self.location.delete(names)
        return names


def refuse_inside(url: str, repository: Repository) -> None:
    """Refuse a URL in the repository or in its source, or without a name in a bucket.

    Raises
    ------
    InvalidInput
        Says which.
    """
    if len(_parts(url)) < 3:
        raise InvalidInput(f"--to {url} names no place in a bucket; write it as s3://bucket/name")
    if _is_within(url, repository.location.url):
        raise InvalidInput(f"{url} is inside the repository; choose a target elsewhere")
    if _is_within(url, repository.settings.source.url):
        raise InvalidInput(
            f"{url} would be a part of the source, and what is predicted would be taken for data; "
            "choose a target elsewhere"
        )


def _is_within(url: str, place: str) -> bool:
    return "://" in place and _parts(url)[: len(_parts(place))] == _parts(place)


def _parts(url: str) -> list[str]:
    """Return the scheme, the bucket and the folders of a URL; of several schemes for one, one."""
    scheme, _, rest = url.partition("://")
    scheme = scheme.lower()
    return [_ALIASES.get(scheme, scheme), *(part for part in rest.split("/") if part)]


@lru_cache(maxsize=8)
def location_of(url: str) -> Location:
    """Return the place of a URL; its connections are kept."""
    return Location(url)


def _claim(turn: int) -> str:
    return f"{MARKS}/claim-{turn:08}.json"


def _lock_of(token: str) -> Path:
    """Return the file that the process with a token has locked, on its own machine."""
    return Path(tempfile.gettempdir(), f"gnomon-restore-{token}.lock")
