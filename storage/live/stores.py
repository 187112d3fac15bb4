"""Where the live dataset is written: a folder of objects or files, a bucket, an Icechunk branch.

An object is replaced as a whole: whoever reads it meanwhile has the old bytes or the new ones.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import from_url
from zarr.abc.store import Store
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import LocalStore, ObjectStore

from gnomon.storage.errors import Conflict, Integrity, InvalidInput, Unavailable
from gnomon.storage.live.owned import differences_of, give
from gnomon.storage.log.durable import force
from gnomon.storage.log.location import RETRIES
from gnomon.storage.redaction import one_line
from gnomon.storage.source.files.listing import is_many, local_path, root_of
from gnomon.storage.source.icechunks import icechunk_store, open_icechunk
from gnomon.storage.source.opening import guess_engine
from gnomon.storage.values.model import SourceSpec

__all__ = ["PIECE", "LiveStore", "live_store"]

PIECE = 2**25
"""Bytes of an object that are in memory at a time, where it is a file."""

Pieces = Iterable[bytes]


class LiveStore(Protocol):
    """The objects of one live dataset, by key."""

    is_atomic: bool
    """Whether all that is replaced becomes visible at once, by `finish`."""

    def zarr(self) -> Store | None:
        """Return the Zarr store to read it with; None if the objects are files of another form."""

    def pieces(self, key: str) -> Iterator[bytes] | None:
        """Return the bytes of an object as it is now; None if there is none."""

    def replace(self, key: str, pieces: Pieces | None, mark: str) -> None:
        """Replace an object, make it, or remove it (None).

        Parameters
        ----------
        mark
            Tells what a stopped process leaves beside the object: see `tidy`.
        """

    def remarks(self, key: str) -> tuple[str, ...]:
        """Return what will be otherwise than before when an object was replaced, but its bytes."""

    def tidy(self, key: str, mark: str) -> None:
        """Remove what a stopped `replace` has left beside an object."""

    def finish(self, message: str) -> None:
        """Make what was replaced visible, if it is not yet."""


def live_store(spec: SourceSpec) -> LiveStore:
    """Return the store of a live dataset.

    Raises
    ------
    InvalidInput
        It is of a kind that is only read.
    """
    path = local_path(spec.url)
    if path is None:
        if spec.engine not in (None, "zarr"):
            raise InvalidInput(f"{spec.url} is remote and no Zarr store; it cannot be written")
        return _Bucket(spec.url)
    path = path.expanduser().absolute()
    engine = guess_engine(path)
    if engine == "icechunk":
        return _Branch(path, spec)
    if engine == "zarr":
        return _Folder(path)
    if is_many(spec.url, spec.engine):
        return _Files(root_of(str(path)))
    return _Files(path.parent)


def _refused(place: object, error: Exception) -> Unavailable:
    reason = getattr(error, "strerror", None) or one_line(error)
    return Unavailable(
        f"the live dataset cannot be written: {place}: {reason}; mend that, then run "
        "'gnomon undo' to see whether anything is left half-done"
    )


class _Files:
    """Files in a folder, by their paths from there: of a folder of files, or one alone."""

    is_atomic = False

    def __init__(self, root: Path) -> None:
        self._root = root

    def zarr(self) -> Store | None:
        return None

    def _path(self, key: str) -> Path:
        if key.startswith("/") or ".." in key.split("/") or "\0" in key:
            raise Integrity(f"{key!r} leads out of {self._root}; it was left alone")
        return self._root / key

    def pieces(self, key: str) -> Iterator[bytes] | None:
        path = self._path(key)
        try:
            file = open(path, "rb")  # noqa: SIM115 - closed by whoever reads it to its end
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _refused(path, error) from error
        return _read(file, path)

    def replace(self, key: str, pieces: Pieces | None, mark: str) -> None:
        path = _behind_links(self._path(key))
        try:
            if pieces is None:
                path.unlink(missing_ok=True)
                made = []
            else:
                made = [folder for folder in path.parents if not folder.exists()]
                path.parent.mkdir(parents=True, exist_ok=True)
                self._put(path, pieces, mark)
            for folder in (path.parent, *(folder.parent for folder in made)):
                force(folder)
        except OSError as error:
            raise _refused(path, error) from error

    def _put(self, path: Path, pieces: Pieces, mark: str) -> None:
        beside = _beside(path, mark)
        # Nobody reads meanwhile what the file itself does not let them read.
        private = partial(os.open, mode=0o600) if path.exists() else None
        try:
            with open(beside, "wb", opener=private) as file:
                for piece in pieces:
                    file.write(piece)
                give(beside, path)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
        except BaseException:
            with suppress(OSError):
                beside.unlink(missing_ok=True)
            raise

    def remarks(self, key: str) -> tuple[str, ...]:
        return differences_of(_behind_links(self._path(key)))

    def tidy(self, key: str, mark: str) -> None:
        with suppress(OSError):
            _beside(_behind_links(self._path(key)), mark).unlink(missing_ok=True)

    def finish(self, message: str) -> None:
        pass


def _beside(path: Path, mark: str) -> Path:
    # Readers of Zarr and of folders of files pass over names that begin with a dot.
    return path.with_name(f".{path.name[:100]}.{mark}.partial")


def _behind_links(path: Path) -> Path:
    """Return the file that is meant where a name is a link: the link stays."""
    return path.resolve() if path.is_symlink() else path


def _read(file: Any, path: Path) -> Iterator[bytes]:
    with file:
        try:
            while piece := file.read(PIECE):
                yield piece
        except OSError as error:  # a bad sector, say
            raise _refused(path, error) from error


class _Folder(_Files):
    """A Zarr store in a folder."""

    def zarr(self) -> Store | None:
        return LocalStore(self._root, read_only=True)


class _Bucket:
    """A Zarr store in a bucket."""

    is_atomic = False

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        try:
            self._objects: Any = from_url(self._url, retry_config=RETRIES)
        except (BaseError, ValueError) as error:
            raise InvalidInput(f"{url} is not the URL of a store: {one_line(error)}") from error

    def zarr(self) -> Store | None:
        return ObjectStore(self._objects, read_only=True)

    def pieces(self, key: str) -> Iterator[bytes] | None:
        try:
            return iter((bytes(obstore.get(self._objects, key).bytes()),))
        except (NotFoundError, FileNotFoundError):
            return None
        except (BaseError, OSError, ValueError) as error:
            raise _refused(f"{self._url}/{key}", error) from error

    def replace(self, key: str, pieces: Pieces | None, mark: str) -> None:
        try:
            if pieces is None:
                with suppress(NotFoundError, FileNotFoundError):
                    obstore.delete(self._objects, key)
            else:
                content, attributes = b"".join(pieces), self._attributes(key)
                obstore.put(self._objects, key, content, attributes=attributes)
        except (BaseError, OSError, ValueError) as error:
            raise _refused(f"{self._url}/{key}", error) from error

    def _attributes(self, key: str) -> Any:
        """Return what is told with an object, as its type: a new one is told with the same."""
        try:
            return obstore.get(self._objects, key, options={"head": True}).attributes
        except (NotFoundError, FileNotFoundError):
            return None

    def remarks(self, key: str) -> tuple[str, ...]:
        return ()

    def tidy(self, key: str, mark: str) -> None:
        pass

    def finish(self, message: str) -> None:
        pass


class _Branch:
    """A branch of an Icechunk repository: what is replaced becomes visible in one commit."""

    is_atomic = True

    def __init__(self, path: Path, spec: SourceSpec) -> None:
        if spec.tag or spec.snapshot:
            raise InvalidInput(
                f"{path} is read at a tag or a snapshot, which never change; name a branch"
            )
        self._spec, self._path = spec, path
        icechunk_store(path, spec)  # which refuses a branch that is not there, and says which are
        self._repository = open_icechunk(path)
        # All is read from the branch as it is now: a commit of others from here on is a conflict.
        self._session = self._begun()

    def _begun(self) -> Any:
        with self._telling():
            return self._repository.writable_session(self._spec.branch or "main")

    def zarr(self) -> Store | None:
        return self._session.store  # type: ignore[no-any-return]

    def pieces(self, key: str) -> Iterator[bytes] | None:
        with self._telling():
            buffer = sync(self._session.store.get(key, default_buffer_prototype()))
        return None if buffer is None else iter((buffer.to_bytes(),))

    def replace(self, key: str, pieces: Pieces | None, mark: str) -> None:
        content = None if pieces is None else b"".join(pieces)
        with self._telling():
            store = self._session.store
            if content is None:
                sync(store.delete(key))
            else:
                sync(store.set(key, default_buffer_prototype().buffer.from_bytes(content)))

    @contextmanager
    def _telling(self) -> Iterator[None]:
        import icechunk

        try:
            yield
        except icechunk.IcechunkError as error:
            raise _refused(self._path, error) from error

    def remarks(self, key: str) -> tuple[str, ...]:
        return ()

    def tidy(self, key: str, mark: str) -> None:
        pass

    def finish(self, message: str) -> None:
        if not self._session.has_uncommitted_changes:
            return
        import icechunk

        try:
            self._session.commit(message)
        except icechunk.ConflictError as error:
            raise Conflict(
                f"another commit was made on branch {self._spec.branch or 'main'} of {self._path} "
                "meanwhile; nothing was changed, run it again"
            ) from error
        except icechunk.IcechunkError as error:
            raise _refused(self._path, error) from error
        self._session = self._begun()
