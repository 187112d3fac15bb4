"""Where a repository lives: a local folder, an object-store prefix, or memory.

Objects are created, read, listed and removed here, and nowhere else; nothing is ever overwritten,
except by a repair, or where it is only a cache.  :meth:`Location.create` is put-if-absent, and the
commit log relies on it.
"""

import errno
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import batched
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import LocalStore, MemoryStore, from_url

from gnomon.storage.errors import Conflict, Integrity, InvalidInput, NotFound, Unavailable
from gnomon.storage.log.credentials import refuse_credentials
from gnomon.storage.log.durable import force
from gnomon.storage.redaction import one_line

__all__ = ["Location"]

_MEMORY: dict[str, MemoryStore] = {}
"""The ``memory://name`` stores of this process."""

RETRIES: Any = {
    "max_retries": 10,
    "retry_timeout": timedelta(seconds=60),
    "backoff": {
        "init_backoff": timedelta(seconds=0.1),
        "max_backoff": timedelta(seconds=10),
        "base": 3,
    },
}
"""How long an object store is asked again before it counts as gone."""
PASSING = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EINTR, errno.ENOBUFS}
PASSING |= {errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN, errno.EHOSTUNREACH}
"""Failures of a read that say nothing of the file: too many are open, a share is gone."""
MOST_DELETED = 1000
"""Objects that are removed in one request, where the store can do it; S3 takes no more."""
PAUSES_S = (0.1, 0.5, 2.0)
"""Between tries of a put that the client library gives up on, as it must not be done twice."""


class Location:
    """One folder, bucket prefix or named piece of memory.

    Parameters
    ----------
    url
        A path, or a URL such as ``s3://bucket/prefix`` or ``memory://name``.
        ``memory://`` locations live as long as the process and are seen by it alone.

    Raises
    ------
    InvalidInput
        The URL is none, holds a secret, or cannot be opened as an object store.

    Notes
    -----
    Every method raises :class:`Unavailable` where the store does not answer, and names the object.
    """

    __slots__ = ("_objects", "path", "url")

    def __init__(self, url: str) -> None:
        if not url or "\0" in url:
            raise InvalidInput(f"{url!r} is not a path or URL; name the repository's folder")
        self.path: Path | None = None
        scheme = url.partition("://")[0] if "://" in url else ""
        if scheme == "memory":
            self.url = url
            self._objects: Any = _MEMORY.setdefault(url, MemoryStore())
        elif scheme in ("", "file"):
            self.path = Path(url.removeprefix("file://")).expanduser().absolute()
            self.url = str(self.path)
            self._objects = None
        else:
            refuse_credentials("the place", url)
            self.url = url.rstrip("/")
            try:
                self._objects = from_url(self.url, retry_config=RETRIES)
            except (BaseError, ValueError) as error:
                raise InvalidInput(
                    f"cannot open {url!r} as an object store: {_reason(error)}; write it as "
                    "s3://bucket/prefix, gs://, az:// or a path"
                ) from error

    def __reduce__(self) -> tuple[type["Location"], tuple[str]]:
        return Location, (self.url,)

    @property
    def objects(self) -> Any:
        """The object store; a local folder is made when it is first needed."""
        if self._objects is None:
            assert self.path is not None
            try:
                self._objects = LocalStore(self.path, mkdir=True)
            except (BaseError, OSError) as error:
                raise InvalidInput(
                    f"cannot use {self.path} as a folder: {one_line(error)}; name another"
                ) from error
        return self._objects

    def is_vacant(self) -> bool:
        """Tell whether nothing at all is stored here."""
        if self.path is None:
            return not self.list("")
        try:
            return not self.path.exists() or (
                self.path.is_dir() and next(self.path.iterdir(), None) is None
            )
        except OSError as error:
            raise self.unavailable("", error) from error

    def create(self, name: str, data: bytes | memoryview, *, durable: bool = False) -> None:
        """Store a new object, or raise :class:`Conflict` if the name is taken.

        The put is atomic: of several writers one wins, and a reader sees all of it or nothing.
        An object that is there already with these very bytes was put by this caller, and only the
        reply was lost: it counts as stored.

        Parameters
        ----------
        durable
            On a local disk, return only when the object would survive a power failure.  Others
            are forced to the disk together, by :meth:`flush`.

        Raises
        ------
        Conflict
            An object of that name has other bytes.
        InvalidInput
            The store takes no such name.
        """
        for pause in (*PAUSES_S, None):
            try:
                if durable and self.path is not None:
                    self._create_durable(name, data)
                else:
                    obstore.put(self.objects, name, data, mode="create", use_multipart=False)
                return
            except (AlreadyExistsError, FileExistsError) as error:
                cause: Exception = error
            except ValueError as error:
                raise InvalidInput(f"{name!r} is not a name of an object: {error}") from error
            except (BaseError, OSError) as error:
                if self.path is not None:
                    raise self.unavailable(name, error) from error
                cause = error
            # Whatever the store said, the object tells: a reply may be lost, and a put that the
            # client repeated finds its own object; S3 also says "conflict" where nothing was done.
            try:
                if self.read(name) == data:
                    return
            except NotFound:
                if pause is None or self.path is not None:
                    raise self.unavailable(name, cause) from cause
                time.sleep(pause)
            else:
                raise Conflict(f"{name} exists already in {self.url}") from cause

    def _create_durable(self, name: str, data: bytes | memoryview) -> None:
        """Write beside the name, force to the disk, then link: the name never shows half of it."""
        path = self._inside(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Names that end in '#' and digits are what the object store calls unfinished, and skips.
        beside = path.with_name(f"{path.name}#{secrets.randbelow(10**12)}")
        try:
            with open(beside, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            _link(beside, path)
        finally:
            beside.unlink(missing_ok=True)
        for folder in self._around([name]):
            force(folder)

    def _around(self, names: Iterable[str]) -> list[Path]:
        """Return the folders of objects, and those around them that may be new as well."""
        assert self.path is not None
        folders: set[str] = set()
        for name in names:
            folder = name.rpartition("/")[0]
            while folder not in folders:
                folders.add(folder)
                folder = folder.rpartition("/")[0]
        outside = [self.path.parent] if os.access(self.path.parent, os.R_OK) else []
        return [*(self.path / folder for folder in sorted(folders)), *outside]

    def replace(self, name: str, data: bytes) -> None:
        """Overwrite an object, for a repair, or one that may be lost; a reader sees old or new."""
        if self.path is not None and self._inside(name).is_dir():
            raise Integrity(f"{name} is a folder in {self.url}; move it elsewhere")
        try:
            obstore.put(self.objects, name, data)
        except (BaseError, OSError, ValueError) as error:
            raise self.unavailable(name, error) from error
        self.flush([name])

    def delete(self, names: Iterable[str]) -> None:
        """Remove objects, in no order; one that is gone already is no error.

        Object stores that can do it are asked to remove many at once.
        """
        for together in batched(names, 1 if self.path is not None else MOST_DELETED):
            try:
                self._delete(together)
            except FileNotFoundError:  # of a store that tells; the others of the batch may be there
                for name in together:
                    with suppress(FileNotFoundError):
                        self._delete((name,))

    def _delete(self, names: tuple[str, ...]) -> None:
        try:
            if self.path is not None:
                self._inside(names[0]).unlink(missing_ok=True)
            else:
                obstore.delete(self.objects, list(names))
        except FileNotFoundError:
            raise
        except (BaseError, OSError) as error:
            raise self.unavailable(names[0], error) from error

    def _inside(self, name: str) -> Path:
        """Return the path of an object, refusing what leads out of the folder."""
        assert self.path is not None
        path = os.path.join(self.path, name)
        # In the name alone: a user may well say where the folder is by "..".
        leads_out = ".." in name.split("/")
        if leads_out or not _is_below(os.path.realpath(os.path.dirname(path)), self.path):
            raise Integrity(f"{name!r} leads out of {self.url}; it was left alone")
        return Path(path)

    def folders(self) -> list[str]:
        """Return the names of all folders (local); other stores have none."""
        return sorted(folder for folder, _ in self._walked())

    def unfinished(self) -> dict[str, str]:
        """Return what interrupted puts left, and what they were to name (local)."""
        leftovers = {}
        for folder, files in self._walked():
            for file in files:
                if name := _named(file):
                    leftovers[f"{folder}/{file}"] = f"{folder}/{name}"
        return leftovers

    def _walked(self) -> Iterator[tuple[str, list[str]]]:
        """Yield the name of every folder, and what is in it but folders; follows no link."""
        if self.path is not None:
            for place, _, files in os.walk(self.path):
                yield place[len(str(self.path)) + 1 :] or ".", files

    def remove_leftovers(self, folders: Iterable[str]) -> None:
        """Remove folders that became empty, and what interrupted puts left in them (local)."""
        if self.path is None:
            return
        for folder in sorted(folders, key=len, reverse=True):
            place = self._inside(f"{folder}/x").parent
            with suppress(OSError):  # it is gone, or somebody has put something there just now
                with os.scandir(place) as entries:
                    files = [entry.name for entry in entries if entry.is_file()]
                self.delete(f"{folder}/{file}" for file in files if _named(file))
                while not any(place.iterdir()) and self.path in place.parent.parents:
                    place.rmdir()
                    place = place.parent

    def read(self, name: str, part: tuple[int, int] | None = None) -> bytes:
        """Return the bytes of an object.

        Parameters
        ----------
        part
            First byte and number of bytes, if not all are wanted.

        Raises
        ------
        NotFound
            There is no such object.
        Integrity
            It cannot be read, or ends before that part, or its name leads out of the location: such
            a name came from a repository that was tampered with.
        """
        if self.path is not None:
            return self._asked(name, lambda: self._read_file(name, part))
        if part is not None:
            start, length = part
            return self._asked(name, lambda: self._range(name, start, length))
        return self._asked(name, lambda: obstore.get(self.objects, name).bytes())

    def _asked(self, name: str, ask: Callable[[], Any]) -> bytes:
        """Return the bytes that the store gives, its failures told apart."""
        try:
            return bytes(ask())
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotFound(f"{name} is missing in {self.url}") from error
        except ValueError as error:
            raise Integrity(f"{name!r} is not a name of an object in {self.url}") from error
        except (BaseError, OSError) as error:
            if self.is_outage(error):
                raise self.unavailable(name, error) from error
            raise Integrity(f"{name} in {self.url} cannot be read: {one_line(error)}") from error

    def _range(self, name: str, start: int, length: int) -> Any:
        try:
            return obstore.get_range(self.objects, name, start=start, length=length)
        except BaseError as error:
            # Stores say in many ways that an object ends before; asking again would not help.
            if obstore.head(self.objects, name)["size"] <= start:
                raise Integrity(f"{name} in {self.url} ends before byte {start}") from error
            raise

    def _read_file(self, name: str, part: tuple[int, int] | None) -> bytes:
        if ".." in name.split("/") or name.startswith("/"):
            raise ValueError(name)
        with open(f"{self.path}/{name}", "rb") as file:
            if part is None:
                return file.read()
            start, length = part
            file.seek(start)
            # Python makes room for all that is asked for, however little there is.
            return file.read(min(length, max(0, os.fstat(file.fileno()).st_size - start)))

    def read_end(self, name: str, length: int) -> bytes:
        """Return the last bytes of an object, all of a shorter one; raises as :meth:`read` does."""
        if self.path is not None:
            try:
                size = os.stat(f"{self.path}/{name}").st_size
            except OSError:
                return self.read(name)
            return self.read(name, (max(0, size - length), length))
        return self._asked(
            name,
            lambda: obstore.get(self.objects, name, options={"range": {"suffix": length}}).bytes(),
        )

    def list(self, prefix: str, *, after: str | None = None) -> list[str]:
        """Return the sorted names of all objects under a prefix, or only those after a name."""
        return sorted(self.sizes(prefix, after=after))

    def sizes(self, prefix: str, *, after: str | None = None) -> dict[str, int]:
        """Return the size in bytes of all objects under a prefix."""
        return {str(item["path"]): int(item["size"]) for item in self._listed(prefix, after)}

    def written(self, prefix: str) -> dict[str, datetime]:
        """Return when the store took each object under a prefix, in UTC, by its own clock."""
        return {str(item["path"]): item["last_modified"] for item in self._listed(prefix)}

    def _listed(self, prefix: str, after: str | None = None) -> tuple[Any, ...]:
        if self.path is not None and not self.path.is_dir():
            return ()
        try:
            pages = obstore.list(self.objects, prefix or None, offset=after)
            return tuple(item for page in pages for item in page)
        except (BaseError, OSError) as error:
            raise self.unavailable(prefix, error) from error

    def flush(self, names: Iterable[str]) -> None:
        """Force objects to the disk (local folders; others are durable)."""
        if self.path is None:
            return
        names = list(names)
        try:
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(force, (self.path / name for name in names)))
                list(pool.map(force, self._around(names)))
        except OSError as error:
            raise Unavailable(
                f"{self.url}: what was written could not be forced to the disk: {error}; "
                "check the disk and its free space"
            ) from error

    def is_outage(self, error: Exception) -> bool:
        """Tell whether a read failed because the store did not answer, not because of damage.

        On a local disk everything counts as damage, except a refused permission and what the
        system lacks only for the moment.
        """
        if isinstance(error, PermissionError | PermissionDeniedError | UnauthenticatedError):
            return True
        if isinstance(error, OSError) and error.errno in PASSING:
            return True
        absent = isinstance(error, FileNotFoundError | NotFoundError)
        return self.path is None and not absent and isinstance(error, BaseError | OSError)

    def unavailable(self, name: str, error: Exception) -> Unavailable:
        """Return the error that says that the store did not answer."""
        text = _reason(error)
        return Unavailable(f"{self.url}: {name or 'listing'} failed: {text}; mend it and try again")


_MEANINGS = {
    "NoSuchBucket": "there is no such bucket, make it first",
    "builder error": "the endpoint is plain http, set AWS_ALLOW_HTTP=true if that is meant",
    "169.254.169.254": "no credentials were found, set them in the environment "
    "(AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for S3)",
    "SignatureDoesNotMatch": "the secret key is wrong",
    "InvalidAccessKeyId": "the access key is unknown",
}
"""What clients of object stores mean by what they say."""


def _reason(error: Exception) -> str:
    """Return what the operating system said, if it did: stores wrap that in texts of their own."""
    whole = str(error)
    for sign, meaning in _MEANINGS.items():
        if sign in whole:
            return meaning
    text = one_line(error, 1000)
    match = re.search(r"([^:]+) \(os error \d+\)$", text)
    if match is not None:
        text = match[1].strip()
    elif isinstance(error, OSError) and error.strerror:
        text = error.strerror
    refused = isinstance(error, PermissionError | PermissionDeniedError)
    return "permission denied" if refused or text == "Permission denied" else text[:300]


def _link(beside: Path, path: Path) -> None:
    try:
        os.link(beside, path)
    except FileNotFoundError as error:
        if path.exists():  # another writer was first, and a prune has tidied up after both
            raise FileExistsError(f"{path} exists already") from error
        raise


def _named(file: str) -> str | None:
    """Return what an interrupted put was to name; None of any other file."""
    name, _, number = file.rpartition("#")
    return name if number.isascii() and number.isdigit() and name else None


def _is_below(path: str, folder: Path) -> bool:
    """Tell whether a path without links is a folder, or leads into it."""
    real = os.path.realpath(folder).rstrip("/")
    return f"{path}/".startswith(f"{real}/")
