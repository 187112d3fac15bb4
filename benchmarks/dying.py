"""A process that does not survive one of its store operations, on a disk that may lose its power.

Every operation of a repository goes through :class:`~gnomon.storage.log.location.Location`; those
of a restored dataset through Zarr's store for local folders, and the renaming that ends it.
"""

from __future__ import annotations

import os
import shutil
import stat
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr.storage

from gnomon.storage.log.location import Location
from gnomon.storage.log.records import Log, Record

DIED = 99
"""Exit code of a process that was ended."""

# A disk that may lose its power ------------------------------------------------------------------


_RENAME = os.rename  # as it is before it is watched


@dataclass(slots=True)
class Unforced:
    """An entry of a folder that was made, replaced or removed, and not yet forced to the disk."""

    before: bytes | None
    """What the file held; None if there was nothing, or it is a folder."""
    origin: Path | None = None
    """The name that it had, if it was renamed."""
    forced: bool = False
    """Whether its own bytes are on the disk."""


class Disk:
    """Remembers what was not forced to the disk, and what a power failure would make of it."""

    def __init__(self, generator: np.random.Generator) -> None:
        self.generator = generator
        self.changes: dict[Path, Unforced] = {}
        self.forced: set[tuple[int, int]] = set()
        """Device and inode of files whose bytes are on the disk."""
        self._lock = threading.Lock()

    @contextmanager
    def change(self, path: Path) -> Iterator[None]:
        """An entry changes; folders above it may be made."""
        before = path.read_bytes() if path.is_file() else None
        new_folders = [folder for folder in path.parents if not folder.exists()]
        yield
        with self._lock:
            for folder in new_folders:
                self.changes.setdefault(folder, Unforced(None))
            earlier = self.changes.get(path)
            forced = path.is_file() and _identity(path.stat()) in self.forced
            self.changes[path] = Unforced(earlier.before if earlier else before, None, forced)

    def rename(self, origin: Path, path: Path) -> None:
        """An entry was renamed, and all below it."""
        with self._lock:
            moved = {p: c for p, c in self.changes.items() if origin in (p, *p.parents)}
            for old, change in moved.items():
                del self.changes[old]
                if old != origin:
                    self.changes[path / old.relative_to(origin)] = change
            self.changes[path] = Unforced(None, origin)

    def force(self, about: os.stat_result) -> None:
        """A file, or the entries of a folder, are on the disk from now on."""
        with self._lock:
            self.forced.add(_identity(about))
            for path, change in list(self.changes.items()):
                if stat.S_ISDIR(about.st_mode):
                    if _is(path.parent, about) and (change.forced or not path.is_file()):
                        del self.changes[path]
                elif _is(path, about):
                    change.forced = True

    def fail(self) -> None:
        """Lose power: what was not forced to the disk is by lot what it was, is, or half of it."""
        with self._lock:
            # What is below first, so that it is found under its name.
            for path in sorted(self.changes, key=lambda p: len(p.parts), reverse=True):
                change = self.changes[path]
                choices = ["as it is", "as it was"]
                if path.is_file() and not change.forced:
                    choices += ["half", "empty"]
                self._settle(path, change, str(self.generator.choice(choices)))

    def _settle(self, path: Path, change: Unforced, choice: str) -> None:
        if choice == "half":
            halve(path, path.read_bytes(), self.generator)
        elif choice == "empty":
            halve(path, b"", self.generator)
        elif choice == "as it was" and change.origin is not None:
            _RENAME(path, change.origin)
        elif choice == "as it was" and change.before is not None:
            halve(path, change.before, None)
        elif choice == "as it was" and path.is_dir():
            shutil.rmtree(path)
        elif choice == "as it was":
            path.unlink(missing_ok=True)


def _identity(about: os.stat_result) -> tuple[int, int]:
    return about.st_dev, about.st_ino


def _is(path: Path, about: os.stat_result) -> bool:
    with suppress(OSError):
        return _identity(path.stat()) == _identity(about)
    return False


def halve(path: Path, data: bytes, generator: np.random.Generator | None) -> None:
    """Leave a file with its first bytes, or with all of them; never through another name of it."""
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    cut = len(data) if generator is None else int(generator.integers(max(1, len(data))))
    path.write_bytes(data[:cut])


# A process that does not survive an operation ----------------------------------------------------


@dataclass(slots=True)
class Doom:
    """Counts the store operations of this process, and ends it at one of them."""

    disk: Disk
    way: str = ""
    at: int = 0
    """Number of the last operation; 0: none."""
    kinds: list[str] = field(default_factory=list)
    """What was done so far."""
    acknowledged: Callable[[Record], None] = lambda _record: None
    """Called after each commit."""
    _lock: Any = field(default_factory=threading.RLock)
    _over: bool = False

    @contextmanager
    def operation(self, kind: str, half: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Count an operation; end the process before, after or during it."""
        with self._lock:
            while self._over:
                time.sleep(1.0)  # another thread is ending the process
            self.kinds.append(kind)
            last = len(self.kinds) == self.at
            if last and self.way == "before":
                os._exit(DIED)
            if last and self.way == "half":
                self._over = True
                try:
                    half()
                    self.disk.fail()
                    os._exit(DIED)
                finally:  # a mistake of this program must not let the others wait for ever
                    traceback.print_exc()
                    os._exit(1)
        yield
        if last:
            os._exit(DIED)

    def watch(self) -> None:
        """Let every store operation of this process go through :meth:`operation`."""
        self._watch_location()
        self._watch_datasets()
        self._watch_system()
        appended = Log.append

        def append_record(log: Log, *arguments: Any) -> Record:
            record = appended(log, *arguments)
            self.acknowledged(record)
            return record

        setattr(Log, "append", append_record)  # noqa: B010 - a patch, not an assignment

    def _watch_location(self) -> None:
        create, delete, flush = Location.create, Location.delete, Location.flush
        replace, sweep = Location.replace, Location.remove_leftovers
        disk, draw = self.disk, self.disk.generator

        def create_object(place: Location, name: str, data: bytes, **options: Any) -> None:
            path = Path(place.url, name)
            if options.get("durable"):
                beside = path.with_name(f"{path.name}#{draw.integers(10**12)}")
                with self.operation("record", partial(halve, beside, data, draw)):
                    create(place, name, data, **options)  # its link is noted by itself
                return
            with self.operation("put", partial(halve, path, data, draw)), disk.change(path):
                create(place, name, data, **options)

        def replace_object(place: Location, name: str, data: bytes) -> None:
            path = Path(place.url, name)
            with self.operation("replace", partial(halve, path, data, draw)), disk.change(path):
                replace(place, name, data)

        def delete_objects(place: Location, names: Any) -> None:
            for name in names:
                with self.operation("delete"), disk.change(Path(place.url, name)):
                    delete(place, [name])

        def flush_objects(place: Location, names: Any) -> None:
            every = list(names)
            some = [name for name in every if draw.integers(2)]
            with self.operation("flush", partial(flush, place, some)):
                flush(place, every)

        def remove_leftovers(place: Location, *folders: Any) -> None:
            with self.operation("sweep"):
                sweep(place, *folders)

        for name, function in (
            ("create", create_object),
            ("replace", replace_object),
            ("delete", delete_objects),
            ("flush", flush_objects),
            ("remove_leftovers", remove_leftovers),
        ):
            setattr(Location, name, function)

    def _watch_datasets(self) -> None:
        """Objects of a dataset that Zarr writes to a folder: a restored one."""
        store, disk, draw = zarr.storage.LocalStore, self.disk, self.disk.generator

        @contextmanager
        def watched(place: Any, key: str, value: Any) -> Iterator[None]:
            path = Path(place.root, key)
            half = partial(halve, path, bytes(value.to_bytes()), draw)
            with self.operation("put", half), disk.change(path):
                yield

        def later(put: Callable[..., Any]) -> Callable[..., Any]:
            async def put_object(place: Any, key: str, value: Any) -> None:
                with watched(place, key, value):
                    await put(place, key, value)

            return put_object

        def at_once(put: Callable[..., Any]) -> Callable[..., Any]:
            def put_object(place: Any, key: str, value: Any) -> None:
                with watched(place, key, value):
                    put(place, key, value)

            return put_object

        for name, wrap in (("set", later), ("set_if_not_exists", later), ("set_sync", at_once)):
            setattr(store, name, wrap(getattr(store, name)))

    def _watch_system(self) -> None:
        link, rename, fsync = os.link, os.rename, os.fsync

        def link_file(source: Any, target: Any, **options: Any) -> None:
            def half() -> None:
                with suppress(FileExistsError), self.disk.change(Path(target)):
                    link(source, target)

            with self.operation("link", half), self.disk.change(Path(target)):
                link(source, target, **options)

        def rename_entry(source: Any, target: Any, **options: Any) -> None:
            def go() -> None:
                rename(source, target, **options)
                self.disk.rename(Path(source).absolute(), Path(target).absolute())

            with self.operation("rename", go):
                go()

        def force(descriptor: Any) -> None:
            fsync(descriptor)
            if isinstance(descriptor, int):
                self.disk.force(os.fstat(descriptor))

        for name, function in (("link", link_file), ("rename", rename_entry), ("fsync", force)):
            setattr(os, name, function)
