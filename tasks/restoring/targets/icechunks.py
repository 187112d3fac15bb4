"""Icechunk repositories, on a disk or in S3: a restore is one commit on the branch ``main``.

Until then ``main`` is empty, and the arrays are on a branch of their own.  Each block is written by
a session that was forked from that branch.  What the fork has changed, which is little more than
the names of chunks, is kept beside the repository under a name of the block, so that a later try
can go on with it; at last all of it is merged.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from math import prod
from typing import Any
from urllib.parse import quote, unquote

import icechunk
import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray

from gnomon.storage.errors import Conflict, InvalidInput, NotFound, TargetFailed
from gnomon.storage.log.location import Location
from gnomon.storage.repository import Repository
from gnomon.tasks.restoring.targets.bucket import MARKS, BucketTarget, location_of
from gnomon.tasks.restoring.targets.file import FileTarget
from gnomon.tasks.restoring.targets.target import Layout, Where
from gnomon.tasks.restoring.targets.zarr import create_arrays, open_array

__all__ = ["IcechunkBucket", "IcechunkTarget"]

_MADE, _MERGED = "gnomon-restore", "gnomon-restore-merged"
"""Branches: of the arrays without blocks, and of all of it, before that is ``main``."""
_BLOCKS = f"{MARKS}/blocks"

if "ICECHUNK_LOG" not in os.environ:  # it warns that a disk knows no writers side by side
    icechunk.set_logs_filter("error")


class _Icechunk:
    """The arrays of a dataset in an Icechunk repository, wherever that is."""

    name: str
    mark: str

    @property
    def beside(self) -> Location:
        """Where the changes of blocks are kept."""
        raise NotImplementedError

    @property
    def storage(self) -> icechunk.Storage:
        """Where the repository is."""
        raise NotImplementedError

    def _create(self, dataset: xr.Dataset, layout: Mapping[str, Layout]) -> None:
        """Make the repository, and the arrays with the values of all that is not in `layout`."""
        with _telling(self, "the repository"):
            # Beside it stands who makes it.
            made = icechunk.Repository.create(self.storage, check_clean_root=False)
            made.create_branch(_MADE, made.lookup_branch("main"))
            session = made.writable_session(_MADE)
            create_arrays(session.store, dataset, layout, 3)
            session.commit("arrays without blocks")

    def write(self, name: str, where: Where, values: NDArray[Any]) -> None:
        """Write a block, and keep what that changes."""
        with _telling(self, name):
            fork = _opened(self).writable_session(_MADE).fork()
            open_array(fork.store, name)[where] = values
            self.beside.replace(_block(name, where), _bytes_of(fork))

    def read(self, name: str, where: Where, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return a part of an array: of a block with what was changed, or of the others."""
        with _telling(self, name):
            session: icechunk.Session
            try:
                session = _fork(self.beside.read(_block(name, where)))
            except NotFound:
                made = _opened(self)
                there = made.list_branches()
                branch = next(b for b in (_MADE, _MERGED, "main") if b in there)
                session = made.readonly_session(branch=branch)
            return np.asarray(zarr.open_array(session.store, path=name, mode="r")[where])

    def _publish(self) -> None:
        """Merge all blocks into one commit, and let ``main`` be that.

        Raises
        ------
        Conflict
            It is something else by now.
        TargetFailed
            A block was lost on the way.
        """
        with _telling(self, "the repository"):
            made = icechunk.Repository.open(self.storage)
            if _MADE in made.list_branches():
                self._merge(made)
                made.delete_branch(_MADE)
            # Without that branch, an earlier try was killed when all was merged.
            if _MERGED in made.list_branches():
                first = made.lookup_branch("main")
                if not _is_empty(made):
                    raise Conflict(f"{self.name} was made by another; choose a new target")
                snapshot = made.lookup_branch(_MERGED)
                made.reset_branch("main", snapshot, from_snapshot_id=first)
                made.delete_branch(_MERGED)

    def _merge(self, made: icechunk.Repository) -> None:
        if _MERGED in made.list_branches():  # of a process that was killed while it merged
            made.delete_branch(_MERGED)
        made.create_branch(_MERGED, made.lookup_branch(_MADE))
        session = made.writable_session(_MERGED)
        names = self.beside.list(_BLOCKS)
        session.merge(*(_fork(self.beside.read(name)) for name in names))
        for array in {unquote(name.split("/")[-2]) for name in names}:
            self._refuse_lost(session, array)
        # In place of the commit of the arrays, so that there is one.
        session.amend(f"gnomon restore: {json.loads(self.mark)[0]['summary']}")

    def _refuse_lost(self, session: icechunk.Session, name: str) -> None:
        array = zarr.open_array(session.store, path=name, mode="r")
        # Shards are counted with all their chunks, those beyond the edge of the array as well.
        sizes = zip(array.shape, array.shards or array.chunks, array.chunks, strict=True)
        expected = prod(-(-cells // shard) * (shard // chunk) for cells, shard, chunk in sizes)
        if array.nchunks_initialized != expected:
            raise TargetFailed(
                f"--to {self.name}: found {array.nchunks_initialized} chunks of {name} in the "
                f"commit and not {expected}, though each was verified; choose another target"
            )


@contextmanager
def _telling(target: _Icechunk, what: str) -> Iterator[None]:
    """Tell what the system or the store refuses as such: the library has one error for all."""
    try:
        yield
    except icechunk.IcechunkError as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is not None:
            raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
        if target.beside.path is None:
            raise target.beside.unavailable(what, error) from error
        raise


def _bytes_of(fork: icechunk.ForkSession) -> bytes:
    """Return the bytes of a fork; a pickle of it would be code to whoever reads it."""
    state = fork.__getstate__()
    assert isinstance(state, dict)
    return bytes(state["_session"])


def _fork(data: bytes) -> icechunk.ForkSession:
    """Return the fork that has these bytes."""
    fork = icechunk.ForkSession.__new__(icechunk.ForkSession)
    fork.__setstate__({"_session": data})
    return fork


def _block(name: str, where: Where) -> str:
    starts = (str(w.start if isinstance(w, slice) else w) for w in where)
    return f"{_BLOCKS}/{quote(name, safe='')}/{'.'.join(starts) or 'all'}"


@lru_cache(maxsize=8)
def _opened(target: _Icechunk) -> icechunk.Repository:
    """Return the repository; each block has a session of its own."""
    return icechunk.Repository.open(target.storage)


def _is_empty(made: icechunk.Repository) -> bool:
    """Tell whether nothing was ever committed to ``main``."""
    return len(list(made.ancestry(branch="main"))) == 1


class IcechunkTarget(_Icechunk, FileTarget):
    """An Icechunk repository on a local disk."""

    is_folder = True
    resumes = True

    @property
    def beside(self) -> Location:
        """Where the changes of blocks are kept."""
        return location_of(str(self.partial.absolute()))

    @property
    def storage(self) -> icechunk.Storage:
        """Where the repository is."""
        return icechunk.local_filesystem_storage(str(self.partial.absolute()))

    def create(self, dataset: xr.Dataset, layout: Mapping[str, Layout]) -> None:
        """Make the repository, with the values of all that is not in `layout`."""
        self._create(dataset, layout)

    def finish(self, written: Sequence[object]) -> None:
        """Commit, force all of it to the disk and give it its name."""
        self._publish()
        if (self.partial / MARKS).is_dir():  # an earlier try may have been killed after this
            shutil.rmtree(self.partial / MARKS)
        super().finish(written)


class IcechunkBucket(_Icechunk, BucketTarget):
    """An Icechunk repository in S3."""

    @property
    def beside(self) -> Location:
        """Where the changes of blocks are kept."""
        return self.location

    @property
    def storage(self) -> icechunk.Storage:
        """Where the repository is; reached as other stores are, by the same variables."""
        bucket, _, prefix = self.name.partition("://")[2].rstrip("/").partition("/")
        endpoint = os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT")
        return icechunk.s3_storage(
            bucket=bucket,
            prefix=prefix,
            region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"),
            endpoint_url=endpoint,
            allow_http=os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("true", "1"),
            force_path_style=endpoint is not None,
            from_env=True,
        )

    def check(self, repository: Repository) -> None:
        """Refuse also other stores than S3."""
        if not self.name.lower().startswith(("s3://", "s3a://")):
            raise InvalidInput(
                f"{self.name}: Icechunk repositories are written to S3 and local paths; restore to "
                "a URL that ends in .zarr"
            )
        super().check(repository)

    def create(self, dataset: xr.Dataset, layout: Mapping[str, Layout]) -> None:
        """Make the repository, with the values of all that is not in `layout`."""
        self._create(dataset, layout)
        self.note_created()

    def is_published(self) -> bool:
        """Tell whether there is a commit that readers see."""
        with _telling(self, "the repository"):
            storage = self.storage
            return icechunk.Repository.exists(storage) and not _is_empty(
                icechunk.Repository.open(storage)
            )

    def finish(self, written: Sequence[object]) -> None:
        """Commit, and say no more that it is in the making."""
        self.refuse_stranger()
        self._publish()
        self.release()
