"""All groups of a source at once: a repository for each that has something to protect."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import Any

from gnomon.creation import make, prepared, refuse_inside
from gnomon.description import SourceDescription
from gnomon.options import check_forecast
from gnomon.repository import GnomonRepository
from gnomon.storage.care.halfmade import clear_half_made, is_half_made
from gnomon.storage.errors import Conflict, GnomonError, Integrity, InvalidInput, NotFound
from gnomon.storage.log.credentials import refuse_in_source
from gnomon.storage.log.location import Location
from gnomon.storage.repository import Repository
from gnomon.storage.source.describing import NothingThere
from gnomon.storage.source.groupfolder import ROOT, GroupFolder
from gnomon.storage.source.groups import Contents, groups_in
from gnomon.storage.source.identify import listed
from gnomon.storage.source.opening import source_path
from gnomon.storage.userpath import place_of
from gnomon.storage.values.model import SourceSpec

__all__ = ["GroupsCreated", "create_groups", "do_for_each", "group_places", "unprotected_groups"]

_OF_FORECAST = ("kind", "leads", "periods_s", "interval_s")
"""Options that do not concern the source."""


@dataclass(slots=True)
class GroupsCreated:
    """The result for each group of a source, by its path; ``/`` is the root."""

    folder: str
    """Place of the repositories."""
    descriptions: dict[str, SourceDescription] = field(default_factory=dict)
    """What is taken of a group and what is left out; in a dry run, what would be."""
    repositories: dict[str, GnomonRepository] = field(default_factory=dict)
    """Repositories that were made; a dry run makes none."""
    present: dict[str, str] = field(default_factory=dict)
    """Repositories that existed before, and were left as they are."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Groups without anything to protect, and why."""
    failed: dict[str, Exception] = field(default_factory=dict)
    """Groups that have something to protect and could not be protected, and why."""


@dataclass(frozen=True, slots=True)
class _Wishes:
    """Options that name what is in a group; each holds where there is such a thing."""

    variables: tuple[str, ...]
    time: str | None
    chunks: Mapping[str, int]
    tolerances: Mapping[str, float]

    def check(self, source: str, groups: Mapping[str, Contents | None]) -> None:
        """Refuse a name that is in none of the groups."""
        if None in groups.values():
            return  # the group that cannot be read may have it
        readable = [contents for contents in groups.values() if contents]
        variables = {name for contents in readable for name in contents}
        dims = {dim for contents in readable for along in contents.values() for dim in along}
        for what, names, there in (
            ("variable", (*self.variables, *self.tolerances), variables),
            ("dimension", self.chunks, dims),
            (
                "time dimension or coordinate",
                () if self.time is None else (self.time,),
                variables | dims,
            ),
        ):
            for name in (n for n in names if n not in there):
                raise NotFound(
                    f"no group of source {source} has a {what} {name!r}; they have "
                    f"{listed(sorted(there))}"
                )

    def of(self, contents: Contents | None) -> dict[str, Any]:
        """Return the options for a group."""
        if contents is None:
            return {
                "variables": self.variables,
                "time": self.time,
                "chunks": self.chunks,
                "tolerances": self.tolerances,
            }
        dims = {dim for along in contents.values() for dim in along}
        return {
            "variables": tuple(name for name in self.variables if name in contents),
            "time": self.time if self.time in {*contents, *dims} else None,
            "chunks": {dim: size for dim, size in self.chunks.items() if dim in dims},
            "tolerances": {name: t for name, t in self.tolerances.items() if name in contents},
        }


def create_groups(
    folder: str | PathLike[str],
    source: str | PathLike[str],
    *,
    variables: Sequence[str] = (),
    time: str | None = None,
    chunks: Mapping[str, int] | None = None,
    tolerances: Mapping[str, float] | None = None,
    start: str | None = None,
    dry_run: bool = False,
    **options: Any,
) -> GroupsCreated:
    """Make a repository for each group of a source that has something to protect.

    If some exist already, the others are made; so the next run finishes one that was interrupted.

    Parameters
    ----------
    folder
        Place for the repositories: an empty or new folder, an object-store URL, or a folder that an
        earlier run has made; a folder as text or path.  The group ``a/b`` gets ``a/b.gnomon``, the
        root ``_root.gnomon``.
    source
        Path or URL of the dataset to protect, as for `create`, text or path; no folder of files.
    variables, time, chunks, tolerances
        As for `create`.  Each name applies to the groups that have it; a group without any of the
        variables is left out.
    start
        Time of the first step, `interval_s` apart, of the groups that only count their steps.
    dry_run
        Say what would be made; make nothing.
    options
        Other options of `create`, for all groups: kind, engine, branch, tag, snapshot, leads,
        periods_s, interval_s.

    Returns
    -------
    GroupsCreated
        The result for each group.  A group that cannot be protected never stops the others: it is
        in `failed`, with the error that `create` would raise.

    Raises
    ------
    NotFound
        There is no such source; a variable or dimension is in none of its groups.
    InvalidInput
        No group has anything that can be protected, an option makes no sense, or a URL holds a
        secret.
    Conflict
        The folder holds something else, or repositories of another source.
    """
    folder, source = place_of(folder), source_path(place_of(source))
    refuse_inside(folder, source)
    check_forecast(options.get("leads", 6), options.get("periods_s"), options.get("interval_s"))
    place = {name: value for name, value in options.items() if name not in _OF_FORECAST}
    spec = SourceSpec(source, "append", **place)
    refuse_in_source(spec)
    groups = groups_in(spec)
    wishes = _Wishes(tuple(variables), time, chunks or {}, tolerances or {})
    wishes.check(source, groups)
    index = GroupFolder.begin(folder)
    created = GroupsCreated(index.location.url)
    waiting = _waiting(groups, wishes, index, spec, created)
    index = index.including(*created.present)
    # Of a group that is gone, its repository is the only trace, as long as nobody removes it.
    kept = {g for g in index.groups if g in groups or not Location(index.place(g)).is_vacant()}
    earlier = kept - set(waiting) - set(created.left_out)
    for group in waiting:
        settled = {**options, **wishes.of(groups[group]), "group": _option(group), "beside": {}}
        try:
            with _ready(source, start, settled) as ready:
                if not dry_run:
                    index = index.including(group)
                    created.repositories[group] = _make(index, group, ready)
                created.descriptions[group] = ready[2]
        except NothingThere:
            created.left_out[group] = "it has no numeric variable that changes with time"
        except Exception as error:  # noqa: BLE001 - whatever it is, the other groups are made
            created.failed[group] = error
    if not (created.descriptions or created.present or created.failed):
        why = "; ".join(f"{group}: {reason}" for group, reason in created.left_out.items())
        raise InvalidInput(f"no group of source {source} has anything to protect ({why})")
    if not dry_run:
        passed_over = {g: tuple(sorted(c)) for g in created.left_out if (c := groups[g])}
        with_repository = tuple(sorted(earlier | set(created.repositories)))
        replace(index, groups=with_repository, passed_over=passed_over).save()
    return created


def _make(index: GroupFolder, group: str, ready: Any) -> GnomonRepository:
    """Make the repository of a group."""
    index.save()  # before the repository is there: the next run knows the folder by it
    clear_half_made(Location(index.place(group)))
    return make(index.place(group), *ready)


@contextmanager
def _ready(source: str, start: str | None, settled: dict[str, Any]) -> Iterator[Any]:
    """Give what `prepared` gives, with the start of counted steps only where it is needed."""
    with ExitStack() as opened:
        try:
            ready = opened.enter_context(prepared(source, **settled))
        except InvalidInput as error:
            if start is None or isinstance(error, NothingThere):
                raise
            ready = opened.enter_context(prepared(source, **settled, start=start))
        yield ready


def _option(group: str) -> str | None:
    """Return what `create` takes for a group."""
    return None if group == ROOT else group


def _waiting(
    groups: Mapping[str, Contents | None],
    wishes: _Wishes,
    index: GroupFolder,
    spec: SourceSpec,
    created: GroupsCreated,
) -> list[str]:
    """Return the groups that have no repository yet; what becomes of the others is noted."""
    waiting = []
    for group in groups:
        reason = _reason(group, groups, wishes)
        if reason and group not in index.groups:
            created.left_out[group] = reason
            continue
        try:
            place = index.place(group)
            there = _source_of(place)
        except GnomonError as error:
            created.failed[group] = error
            continue
        if there is None and reason:
            created.left_out[group] = reason
            continue
        if there is None:
            waiting.append(group)
            continue
        if there.url.rstrip("/") != spec.url.rstrip("/"):
            raise Conflict(
                f"{place} protects {there.url}, not {spec.url}; choose another folder, or name the "
                f"new place of the source: gnomon source {place} --set PATH"
            )
        created.present[group] = place
    return waiting


def _reason(group: str, groups: Mapping[str, Contents | None], wishes: _Wishes) -> str:
    """Return why there is nothing to protect in a group; empty if there may be."""
    contents = groups[group]
    if contents:
        lacks = wishes.variables and not set(wishes.variables) & set(contents)
        return "it has none of the named variables" if lacks else ""
    if contents is None:
        return ""
    above = "" if group == ROOT else f"{group}/"
    has_groups = any(name.startswith(above) for name in groups if name not in (group, ROOT))
    return "it has no variables, only groups" if has_groups else "it is empty"


def _source_of(place: str) -> SourceSpec | None:
    """Return the source of the repository in a place; None if none was made there, or half of one.

    Raises
    ------
    Conflict
        Something else is there.
    """
    try:
        return Repository.open(place).settings.source
    except (NotFound, Integrity) as error:
        if is_half_made(Location(place)):
            return None
        if isinstance(error, Integrity):
            raise
        raise Conflict(
            f"{place} is not a repository, and not empty; move its content away, and run again"
        ) from error


# What is done with the repositories of a folder ---------------------------------------------------


def group_places(folder: str | PathLike[str]) -> dict[str, str]:
    """Return where the repositories of the groups of a source are, by group; ``/`` is the root.

    Raises
    ------
    NotFound
        The folder was not made by `create_groups`.
    """
    index = GroupFolder.open(place_of(folder))
    if index is None:
        raise NotFound(
            f"{folder} is not a folder of repositories; make one with 'gnomon init FOLDER SOURCE "
            "--group all'"
        )
    return {group: index.place(group) for group in index.groups}


def do_for_each[T](
    places: Mapping[str, str], act: Callable[[str, str], T]
) -> tuple[dict[str, T], dict[str, Exception]]:
    """Return by group what an act on its repository returns, and where it failed.

    Parameters
    ----------
    act
        Takes a group and the place of its repository.
    """
    done: dict[str, T] = {}
    failed: dict[str, Exception] = {}
    for group, place in places.items():
        try:
            done[group] = act(group, place)
        except Exception as error:  # noqa: BLE001 - whatever it is, the others have their turn
            failed[group] = error
    return done, failed


def unprotected_groups(folder: str | PathLike[str]) -> tuple[str, ...]:
    """Return the groups of the source that have variables and no repository, as init saw none.

    Raises
    ------
    GnomonError
        The source cannot be read.
    """
    index = GroupFolder.open(place_of(folder))
    spec = None if index is None else _source_in(index)
    if index is None or spec is None:
        return ()
    return tuple(
        group
        for group, contents in groups_in(spec).items()
        if contents
        and group not in index.groups
        and tuple(sorted(contents)) != index.passed_over.get(group)
    )


def _source_in(index: GroupFolder) -> SourceSpec | None:
    """Return the source, as the first of the repositories that can be opened names it."""
    for group in index.groups:
        with suppress(GnomonError):
            spec = Repository.open(index.place(group)).settings.source
            return replace(spec, group=None)
    return None
