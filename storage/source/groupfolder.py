"""A folder of repositories, one for each group of a source, and the index that names them.

The index is one small object, so that a folder is told from any other by one request, also in an
object store, and a repository that was damaged is still named.  It is only a cache: `init` makes it
anew.  No repository lies inside another one's folder: that of group ``a`` is ``a.gnomon``, that of
``a/b`` is ``a/b.gnomon``, that of the root ``_root.gnomon``.
"""

import json
from dataclasses import dataclass, field, replace

from gnomon.storage.errors import Conflict, Format, GnomonError, Integrity, InvalidInput, NotFound
from gnomon.storage.log.location import Location
from gnomon.storage.values.documents import NONSENSE, items, members, parse, text

__all__ = ["INDEX", "ROOT", "GroupFolder", "not_a_repository", "place_of", "shown"]

INDEX = "gnomon-groups.json"
ROOT = "/"
"""What the root of a source is called among its groups; others have no slash before."""
VERSION = 1
_ENDING = ".gnomon"
_ROOT_PLACE = f"_root{_ENDING}"
_UNFIT = set('\\%#?*:"<>|')
"""What file systems or URLs read as something else than a name."""
_SHOWN = 12


@dataclass(frozen=True, slots=True)
class GroupFolder:
    """The repositories of the groups of one source."""

    location: Location
    """Where they lie."""
    groups: tuple[str, ...] = ()
    """That have a repository, or are about to get one; the root as `ROOT`."""
    passed_over: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Groups that had nothing to protect at the last init, and the variables that they had."""

    @classmethod
    def open(cls, url: str) -> "GroupFolder | None":
        """Return what the index of a folder says; None if it has no index.

        Raises
        ------
        Integrity
            The index is damaged.
        Format
            It is newer than this program.
        """
        location = Location(url)
        try:
            document = parse(location.read(INDEX))
            version = document["version"]
            if version != VERSION:
                raise Format(
                    f"{location.url}/{INDEX} has version {version!r:.20}, this Gnomon reads "
                    f"{VERSION}; use a newer one"
                )
            groups = items(document["groups"], "the groups", _group)
            passed_over = members(document["passed_over"], "the groups passed over", _names)
        except NotFound:
            return None
        except NONSENSE as error:
            raise Integrity(
                f"{location.url}/{INDEX} is damaged ({str(error)[:100]}); run 'gnomon init "
                "FOLDER SOURCE --group all' again, which makes it anew"
            ) from error
        return cls(location, groups, passed_over)

    @classmethod
    def begin(cls, url: str) -> "GroupFolder":
        """Return what is known of a folder that repositories are to be made in.

        Raises
        ------
        Conflict
            It holds something else.
        """
        location = Location(url)
        try:
            folder = cls.open(url)
        except Integrity:
            return cls(location)
        if folder is None and not location.is_vacant():
            raise Conflict(
                f"{location.url} is not empty, and not a folder of repositories (no {INDEX}); "
                "choose a new place for them"
            )
        return folder or cls(location)

    def place(self, group: str) -> str:
        """Return the path or URL of the repository of a group."""
        return f"{self.location.url}/{place_of(group)}"

    def including(self, *groups: str) -> "GroupFolder":
        """Return the folder with further groups."""
        return replace(self, groups=tuple(sorted({*self.groups, *groups})))

    def save(self) -> None:
        """Write the index; without any group there is none."""
        if not self.groups:
            if not self.location.is_vacant():
                self.location.delete([INDEX])
            return
        document = {
            "version": VERSION,
            "groups": list(self.groups),
            "passed_over": {group: list(names) for group, names in self.passed_over.items()},
        }
        self.location.replace(INDEX, json.dumps(document, indent=1).encode())


def _group(value: object, what: str) -> str:
    group = text(value, what)
    place_of(group)  # it may have been written by anyone, and must not lead elsewhere
    return group


def _names(value: object, what: str) -> tuple[str, ...]:
    return items(value, what, text)


def place_of(group: str) -> str:
    """Return where in a folder the repository of a group lies.

    Raises
    ------
    InvalidInput
        The name of the group cannot be that of a folder.
    """
    if group == ROOT:
        return _ROOT_PLACE
    place = group + _ENDING
    for part in group.split("/"):
        if part in ("", ".", "..") or part.endswith(_ENDING) or not _is_fit(part):
            raise InvalidInput(
                f"the name of the group, {group!r}, cannot be that of a folder; protect it by "
                "itself: gnomon init REPOSITORY SOURCE --group NAME"
            )
    if place == _ROOT_PLACE:
        raise InvalidInput(
            f"the place of the group {group!r} is that of the root; protect it by itself: "
            "gnomon init REPOSITORY SOURCE --group NAME"
        )
    return place


def shown(group: str) -> str:
    """Return a group as it may be printed in a line."""
    return group if group.isprintable() else repr(group)


def _is_fit(part: str) -> bool:
    return part.isprintable() and not _UNFIT & set(part)


def not_a_repository(location: Location, settings: str) -> NotFound:
    """Return the error that says that a place is no repository, and which lie in it.

    Parameters
    ----------
    settings
        The object that a repository would have.
    """
    try:
        folder = GroupFolder.open(location.url)
    except GnomonError:
        folder = None
    if folder is None or not folder.groups:
        return NotFound(
            f"{location.url} is not a Gnomon repository (no {settings}); make one with "
            "'gnomon init'"
        )
    places = [place_of(group) for group in folder.groups]
    more = f" and {len(places) - _SHOWN} more" if len(places) > _SHOWN else ""
    return NotFound(
        f"{location.url} is a folder of repositories, not one itself; name one of "
        f"{', '.join(places[:_SHOWN])}{more} in it"
    )
