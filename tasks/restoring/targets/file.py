"""What targets on a local disk share: a hidden name while they are written, and a new one at last.

A format of files needs a class that adds `create`, `write` and `read` to :class:`FileTarget`.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Self

from gnomon.storage.errors import Conflict, InvalidInput, TargetFailed
from gnomon.storage.log.durable import force_name, force_tree
from gnomon.storage.repository import Repository
from gnomon.storage.source.opening import would_be_part
from gnomon.storage.userpath import blaming, check_output
from gnomon.tasks.restoring.partial import in_the_making, is_created, note_created, sweep_beside

__all__ = ["FileTarget", "mark_of"]


@dataclass(frozen=True)  # without slots: what a subclass adds is pickled too
class FileTarget:
    """A file or a folder that appears when it is complete, verified and forced to the disk."""

    name: str
    """Path as it was given."""
    partial: Path = Path()
    """Where it is written: a hidden path beside it; set while it is in the making."""
    mark: str = ""
    """Of which restore it is; empty if it is always begun anew."""
    resumed: bool = False
    """Whether an earlier try of that restore was through with `create`."""

    is_folder: ClassVar[bool] = False
    """Whether the format is a folder of files."""
    resumes: ClassVar[bool] = False
    """Whether a restore that was killed after `create` can be gone on with."""

    def __str__(self) -> str:
        return self.name

    @property
    def path(self) -> Path:
        """Where it will be."""
        return Path(self.name).expanduser()

    def check(self, repository: Repository) -> None:
        """Refuse a path that exists, cannot be written, or is in the repository or its source.

        Raises
        ------
        Conflict
            Something is there already.
        InvalidInput
            Nothing can or should be written there.
        """
        path = self.path
        if "\0" not in self.name and os.path.lexists(path):
            sweep_beside(path)
            raise Conflict(f"{self.name} exists already; choose a new target")
        check_output("--to", path, folder=self.is_folder)
        place = repository.location.path
        if place is not None and path.resolve().is_relative_to(place.resolve()):
            raise InvalidInput(f"{self.name} is inside the repository; choose a target elsewhere")
        if would_be_part(path, repository.settings.source):
            raise InvalidInput(
                f"{self.name} would be a part of the source, and what is predicted would be taken "
                "for data; choose a target elsewhere"
            )

    def marked(self, mark: str) -> Self:
        """Return the target for a restore; the mark also has all options of the target."""
        return replace(self, mark=mark_of(self, mark, self.path.name)) if self.resumes else self

    @contextmanager
    def making(self) -> Iterator[Self]:
        """Give the target under its hidden path; what is there after a failure is removed.

        Missing folders above it are made, as for every file that a command writes.
        """
        with _folders_of(self.path), in_the_making(self.path, self.mark) as partial:
            yield replace(self, partial=partial, resumed=is_created(partial))
            if os.path.lexists(partial) or not os.path.lexists(self.path):
                raise TargetFailed(f"{self.name} did not get its name; mend the target's finish")

    def created(self) -> None:
        """Force to the disk what is there before the blocks, and note that it is."""
        if self.mark:
            force_tree(self.partial)
            note_created(self.partial)

    def finish(self, written: Sequence[object]) -> None:
        """Force all of it to the disk and give it its name.

        Raises
        ------
        Conflict
            Something has that name by now.
        """
        if os.path.lexists(self.path):
            raise Conflict(f"{self.name} was made by another meanwhile; choose a new target")
        force_tree(self.partial)
        os.rename(self.partial, self.path)
        with suppress(OSError):  # some file systems force no folders; all that is in it was forced
            force_name(self.path)


@contextmanager
def _folders_of(path: Path) -> Iterator[None]:
    """Make the missing folders above a target; after a failure those that are empty go again."""
    missing = [folder for folder in path.absolute().parents if not folder.exists()]
    try:
        with blaming("--to", path):
            for folder in reversed(missing):
                folder.mkdir(exist_ok=True)
                with suppress(OSError):  # as of the target: some file systems force no folders
                    force_name(folder)
        yield
    except BaseException:
        with suppress(OSError):  # another has put something there
            for folder in missing:
                folder.rmdir()
        raise


def mark_of(target: Any, mark: str, name: str) -> str:
    """Return the mark of a restore to a target: of its last name, its kind, and its options."""
    apart = ("name", "partial", "mark", "turn", "token", "resumed")
    options = {f.name: repr(getattr(target, f.name)) for f in fields(target) if f.name not in apart}
    kind = f"{type(target).__module__}:{type(target).__qualname__}"
    return json.dumps([json.loads(mark), kind, name, options])
