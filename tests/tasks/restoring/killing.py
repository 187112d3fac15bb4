"""Restores that are killed: a program that restores, and dies at a chosen operation.

    python -m tests.tasks.restoring.killing REPOSITORY TARGET FORMAT SHARE...

The first process lives, and restores the second capture to TARGET, in which ``{}`` stands for a
number.  For each SHARE of its operations another one restores to a place of its own and gets
SIGKILL just before that operation; after it one that lives does the same again.  For each process a
line of JSON says how it ended: the operations that were begun, the blocks that were written, and
what `restore` returned or raised.  All that is imported is imported before they are forked.
"""

import json
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import xarray as xr
import zarr
from zarr.storage import LocalStore, ObjectStore

from gnomon.storage.errors import GnomonError
from gnomon.storage.log.location import Location
from gnomon.storage.repository import Repository
from gnomon.tasks.restoring.points import points
from gnomon.tasks.restoring.restore import restore as write
from gnomon.tasks.restoring.states import States
from gnomon.tasks.restoring.targets import file as files
from gnomon.tasks.restoring.targets import netcdf
from gnomon.tasks.restoring.targets import zarr as zarrs


class Watch:
    """Counts the operations of this process, and kills it before one of them."""

    def __init__(self, point: int, pipe: int) -> None:
        self.point, self.pipe = point, pipe
        self.operations = self.blocks = 0
        self.lock = threading.Lock()
        for owner, name in (
            *((Location, n) for n in ("create", "replace", "delete", "flush")),
            *((os, n) for n in ("rename", "fsync", "unlink")),
            (files, "note_created"),
            (xr.Dataset, "to_zarr"),
            (xr.Dataset, "to_netcdf"),
            *((zarr.storage.LocalStore, n) for n in ("set", "set_sync") if hasattr(LocalStore, n)),
            (ObjectStore, "set"),
        ):
            self.wrap(owner, name, self.step)
        from gnomon.tasks.restoring.targets import icechunks  # its threads would survive no fork

        targets = (zarrs.ZarrTarget, zarrs.ZarrBucket, icechunks._Icechunk, netcdf.NetCDFTarget)
        for target in targets:
            self.wrap(target, "write", self.count_block)

    def wrap(self, owner: Any, name: str, before: Callable[[], None]) -> None:
        true = getattr(owner, name)

        def watched(*arguments: Any, **options: Any) -> Any:
            before()
            return true(*arguments, **options)

        setattr(owner, name, watched)

    def step(self) -> None:
        with self.lock:
            self.operations += 1
            if self.operations == self.point:
                self.tell()
                os.kill(os.getpid(), signal.SIGKILL)
                signal.pause()

    def count_block(self) -> None:
        with self.lock:
            self.blocks += 1

    def tell(self, **said: Any) -> None:
        line = json.dumps({"operations": self.operations, "blocks": self.blocks, **said})
        os.write(self.pipe, line.encode())


def run(restore: Callable[[], Any], point: int) -> dict[str, Any]:
    """Restore in a process of its own, and return how it ended."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            watch = Watch(point, writing)
            try:
                restored = restore()
                watch.tell(chunks=restored.chunks, kept=restored.kept)
            except GnomonError as error:
                watch.tell(error=str(error), code=error.exit_code)
            except BaseException as error:  # noqa: BLE001 - whatever it is, the test is to see it
                watch.tell(error=repr(error), code=70)
        os._exit(0)
    os.close(writing)
    _, status = os.waitpid(child, 0)
    with open(reading, "rb") as pipe:
        said: dict[str, Any] = json.loads(pipe.read() or b"{}")
    return {"killed": os.WIFSIGNALED(status), "point": point, **said}


def main(place: str, target: str, form: str, *shares: str) -> None:
    def restore(number: int) -> Any:
        repository = Repository.open(place)
        point = points(repository, repository.captured[1].instant)[0]
        to = target.format(number)
        return write(States(repository, (point,)), to, plain=True, zarr_format=int(form) or None)

    first = run(partial(restore, 0), 0)
    tell(first)
    for number, share in enumerate(map(float, shares), start=1):
        for at in (max(1, round(share * first["operations"])), 0):
            tell(run(partial(restore, number), at))


def tell(end: dict[str, Any]) -> None:
    sys.stdout.write(f"{json.dumps(end)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(*sys.argv[1:])
