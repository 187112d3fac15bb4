"""Where a repository lives: a local folder, an object-store prefix, or memory.

Objects are read, listed and created here; nothing is ever overwritten.  Zarr arrays go through
:meth:`Location.zarr_store`, log records through :meth:`Location.create`, which is put-if-absent.
"""

import os
from concurrent.futures import ThreadPoolExecutor
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
from zarr.storage import ObjectStore

from gnomon.storage.errors import Conflict, Integrity, InvalidInput, NotFound, Unavailable

__all__ = ["Location"]

_MEMORY: dict[str, MemoryStore] = {}
"""The ``memory://name`` stores of this process."""


class Location:
    """One folder, bucket prefix or named piece of memory.

    Parameters
    ----------
    url
        A path, or a URL such as ``s3://bucket/prefix`` or ``memory://name``.
        ``memory://`` locations live as long as the process and are seen by it alone.
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
            self.url = url
            try:
                self._objects = from_url(url)
            except (BaseError, ValueError) as error:
                raise InvalidInput(f"cannot open {url!r} as an object store: {error}") from error

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
                raise InvalidInput(f"cannot use {self.path} as a folder: {error}") from error
        return self._objects

    def zarr_store(self, *, read_only: bool = True) -> ObjectStore[Any]:
        """Return this location as a Zarr store."""
        return ObjectStore(self.objects, read_only=read_only)

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

    def create(self, name: str, data: bytes) -> None:
        """Store a new object, or raise :class:`Conflict` if the name is taken.

        The put is atomic: of several writers one wins, and a reader sees all of it or nothing.
        """
        try:
            obstore.put(self.objects, name, data, mode="create")
        except AlreadyExistsError as error:
            raise Conflict(f"{name} exists already in {self.url}") from error
        except ValueError as error:
            raise InvalidInput(f"{name!r} is not a name of an object: {error}") from error
        except (BaseError, OSError) as error:
            raise self.unavailable(name, error) from error

    def read(self, name: str) -> bytes:
        """Return the bytes of an object, or raise :class:`NotFound`.

        A name that would leave the location is refused as :class:`Integrity`: it came from a
        repository that was tampered with.
        """
        if self.path is not None and not self.path.is_dir():
            raise NotFound(f"{self.url} is not a folder")
        try:
            return bytes(obstore.get(self.objects, name).bytes())
        except FileNotFoundError as error:
            raise NotFound(f"{name} is missing in {self.url}") from error
        except ValueError as error:
            raise Integrity(f"{name!r} is not a name of an object in {self.url}") from error
        except (BaseError, OSError) as error:
            if self.is_outage(error):
                raise self.unavailable(name, error) from error
            reason = " ".join(str(error).split())[:160]
            raise Integrity(f"{name} in {self.url} cannot be read: {reason}") from error

    def list(self, prefix: str) -> list[str]:
        """Return the sorted names of all objects under a prefix."""
        if self.path is not None and not self.path.is_dir():
            return []
        try:
            pages = obstore.list(self.objects, prefix or None)
            return sorted(str(item["path"]) for page in pages for item in page)
        except (BaseError, OSError) as error:
            raise self.unavailable(prefix, error) from error

    def flush(self, prefix: str) -> None:
        """Force everything under a prefix to the disk (local folders; others are durable)."""
        if self.path is None:
            return
        top = self.path / prefix
        paths = [top] if top.is_file() else [Path(d) / f for d, _, fs in os.walk(top) for f in fs]
        folders = {folder for path in paths for folder in _folders(path, self.path)}
        try:
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(_fsync, paths))
                list(pool.map(_fsync, folders))
        except OSError as error:
            raise Unavailable(
                f"{self.url}: {prefix} could not be forced to the disk: {error}; "
                "check the disk and its free space"
            ) from error

    def is_outage(self, error: Exception) -> bool:
        """Tell whether a read failed because the store did not answer, not because of damage.

        On a local disk everything but a refused permission counts as damage.
        """
        if isinstance(error, PermissionError | PermissionDeniedError | UnauthenticatedError):
            return True
        absent = isinstance(error, FileNotFoundError | NotFoundError)
        return self.path is None and not absent and isinstance(error, BaseError | OSError)

    def unavailable(self, name: str, error: Exception) -> Unavailable:
        """Return the error that says that the store did not answer."""
        refused = isinstance(error, PermissionError | PermissionDeniedError)
        text = "permission denied" if refused else " ".join(str(error).split())[:300]
        return Unavailable(f"{self.url}: {name or 'listing'} failed: {text}; nothing was changed")


def _folders(path: Path, top: Path) -> list[Path]:
    inside = [parent for parent in path.parents if parent == top or top in parent.parents]
    return [*inside, top.parent] if os.access(top.parent, os.R_OK) else inside


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
