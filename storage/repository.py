"""A repository pinned to one commit: what all other layers work with.

Opening reads ``gnomon.json`` and the log.  A repository object never changes; a commit returns a
new one.  Readers therefore see one commit, whatever writers do meanwhile.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from gnomon.storage.arrays.shards import forget_packed
from gnomon.storage.arrays.summary import read_summary, write_summary
from gnomon.storage.arrays.tables import forget_tables
from gnomon.storage.errors import (
    Conflict,
    Format,
    GnomonError,
    Integrity,
    InvalidInput,
    NotFound,
    Unavailable,
)
from gnomon.storage.log.bodies.body import Body, Header
from gnomon.storage.log.bodies.shadow import LearntEntry, ShadowBody
from gnomon.storage.log.bodies.source import InitBody
from gnomon.storage.log.conflicts import ATTEMPTS, Work, refuse_stale, removes
from gnomon.storage.log.credentials import refuse_in_source
from gnomon.storage.log.description import Description
from gnomon.storage.log.folding import fold
from gnomon.storage.log.genesis import (
    SETTINGS,
    encode_settings,
    parse_settings,
    refuse_overwriting,
)
from gnomon.storage.log.history import History
from gnomon.storage.log.location import Location
from gnomon.storage.log.records import COPIES, Log, Record, content_hash
from gnomon.storage.log.staging import Batch, sequence_of
from gnomon.storage.log.steps import CapturedStep, Shadow
from gnomon.storage.source.files.index import SourceMemory
from gnomon.storage.source.groupfolder import not_a_repository
from gnomon.storage.stacks.captures import CaptureStack
from gnomon.storage.stacks.fixed import encode_frame, load_described, load_frame
from gnomon.storage.stacks.forecaster import ForecasterState, remove_states
from gnomon.storage.stacks.shadows import ShadowStack, remove_later_leads
from gnomon.storage.values.model import RepositorySettings

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Repository"]

logger = logging.getLogger(__name__)

_PRUNED = "the repository was pruned meanwhile; nothing of this run was kept, run it again"

_OPENED: "OrderedDict[str, Repository]" = OrderedDict()
"""By URL, the repositories that this process opened last: their records are verified and never
change."""
_REMEMBERED = 8


@dataclass(frozen=True)
class Repository:
    """One repository at one commit, and one of its eras."""

    location: Location
    """Where it lives."""
    genesis: str
    """Hash of ``gnomon.json``."""
    records: tuple[Record, ...] = field(repr=False)
    """The log up to the commit that this object is pinned to."""
    eras: tuple[History, ...] = field(repr=False)
    """What the records add up to, by era."""
    era: int = 0
    """The era that is looked at."""

    @classmethod
    def create(
        cls, url: str, settings: RepositorySettings, frame: "xr.Dataset", created_at: str
    ) -> "Repository":
        """Make a repository in a place that is empty.

        Parameters
        ----------
        frame
            The undecoded variables that do not change; stored exactly.

        Raises
        ------
        Conflict
            There is something already.
        InvalidInput
            An attribute or coordinate cannot be stored, the source's URL holds a secret, or the
            store overwrites what it should refuse to.
        """
        refuse_in_source(settings.source)
        location = Location(url)
        if not location.is_vacant():
            raise Conflict(f"{location.url} is not empty; choose a new place for the repository")
        settings, files = encode_frame(replace(settings, created_at=created_at), frame, 0)
        data = encode_settings(settings)
        location.create(SETTINGS, data)
        refuse_overwriting(location)
        for file, stored in {**files, COPIES + SETTINGS: data}.items():
            location.create(file, stored)
        location.flush([*files, SETTINGS, COPIES + SETTINGS])
        repository = cls(location, content_hash(data), (), (History(settings),))
        return repository.commit(InitBody(), created_at)

    @classmethod
    def open(cls, url: str, *, at: int | None = None) -> "Repository":
        """Open a repository at its newest commit, and in its present era.

        Parameters
        ----------
        at
            A commit to be pinned to instead, in the era of that time.  Of what this process has
            read of the log only its record is looked at again.

        Raises
        ------
        NotFound
            There is no repository at this place.
        Format
            It is newer than this program.
        Integrity
            Its settings or its log are damaged.
        """
        location = Location(url)
        try:
            return cls._open(location, SETTINGS, at)
        except (NotFound, Integrity, Format) as error:
            try:
                repository = cls._open(location, COPIES + SETTINGS, at)
            except GnomonError:
                raise error from None
            logger.warning(
                "%s is damaged or gone; its copy was read, run 'gnomon repair'", SETTINGS
            )
            return repository

    @classmethod
    def recall(cls, url: str, *, at: int | None = None) -> "Repository":
        """Return a repository as this process has read it last; raises as `open`.

        The store is asked only where this process has not read as much of it.  For the steps of a
        run, which has opened it when it began: what others commit meanwhile shows when the run
        commits, whatever its steps have seen.
        """
        known = _OPENED.get(url) or _OPENED.get(Location(url).url)
        if known is None or (at is not None and at >= len(known.records)):
            return cls.open(url, at=at)
        return known if at is None else known.at(at)

    @classmethod
    def _open(cls, location: Location, name: str, at: int | None) -> "Repository":
        try:
            data = location.read(name)
        except NotFound as error:
            raise not_a_repository(location, SETTINGS) from error
        genesis = content_hash(data)
        forget_packed(location)
        opened = _OPENED.get(location.url)
        if opened is not None and opened.genesis == genesis:
            log = Log(location, genesis)
            if at is None or not log.still_has(opened.records, at):
                opened = opened.refresh()
            return opened if at is None else opened.at(at)
        settings = parse_settings(location, name, data)
        records = Log(location, genesis).read(recent=read_summary(location))
        if not records:
            raise Integrity(
                f"{location.url} has settings but no log; init was interrupted, "
                "remove the folder and init again"
            )
        repository = cls(location, genesis, (), (History(settings),))._followed_by(records)
        return repository if at is None else repository.at(at)

    def refresh(self) -> "Repository":
        """Return this repository at its newest commit, and in its present era."""
        records = Log(self.location, self.genesis).extend(self.records)
        return self._followed_by(records[len(self.records) :])

    def _followed_by(self, records: tuple[Record, ...]) -> "Repository":
        """Return this repository after further records, in its present era."""
        repository = self
        if records or self.era != len(self.eras) - 1:
            eras = fold(self.eras, records)
            repository = replace(
                self, records=(*self.records, *records), eras=eras, era=len(eras) - 1
            )
        url = self.location.url
        opened = _OPENED.get(url)
        if (
            opened is None
            or opened.genesis != self.genesis
            or len(opened.records) <= len(repository.records)
        ):
            _OPENED[url] = repository
            _OPENED.move_to_end(url)
        while len(_OPENED) > _REMEMBERED:
            _OPENED.popitem(last=False)
        return repository

    def at(self, sequence: int) -> "Repository":
        """Return this repository as it was after a commit, in the era of that time."""
        if sequence == self.records[-1].sequence:
            return self
        records = self.records[: sequence + 1]
        eras = fold((History(self.eras[0].begun or self.eras[0].settings),), records)
        return replace(self, records=records, eras=eras, era=len(eras) - 1)

    def in_era(self, era: int) -> "Repository":
        """Return this repository with an older era in view."""
        return replace(self, era=era)

    def commit(
        self,
        body: Body,
        committed_at: str,
        batch: Batch | None = None,
        work: Work | None = None,
    ) -> "Repository":
        """Append a record and return the repository that includes it.

        Parameters
        ----------
        batch
            What was written for this commit; it is forced to the disk first.
        work
            What the commit was made from: it then stands on top of newer commits too, as long
            as none of them concerns it.  Without it, nothing may have been committed since.

        Raises
        ------
        Conflict
            Another writer committed since this object was opened, or what was written was pruned.
        """
        if work is not None:
            self.refuse_stale(work)
        header = Header()
        if batch is not None:
            self._refuse_pruned(batch)
            header = Header(batch.id, self._sealed(batch))
        newest = self
        for attempt in range(ATTEMPTS):
            is_newest = self.era == len(newest.eras) - 1
            data = body.to_json() | replace(header, era=None if is_newest else self.era).to_json()
            newest._refuse_unreadable(body.kind, data, committed_at)
            try:
                log = Log(self.location, self.genesis)
                record = log.append(newest.records, body.kind, data, committed_at)
                break
            except Conflict:
                if work is None or attempt == ATTEMPTS - 1:
                    raise
                newest = newest.refresh()
                newest.refuse_stale(work)
                if batch is not None:
                    newest._refuse_pruned(batch)
        after = newest._followed_by((record,))
        return after if body.kind == "era" else replace(after, era=self.era)

    def commit_shadow(
        self, body: ShadowBody, committed_at: str, batch: Batch, work: Work
    ) -> "Repository":
        """Commit a shadow, as `commit` does, and remove the states and leads that it supersedes."""
        repository = self.commit(body, committed_at, batch, work)
        remove_states(self.location, self.state.forecasters - repository.state.forecasters)
        remove_later_leads(self.location, repository.state.superseded - self.state.superseded)
        return repository

    def summarise(self) -> None:
        """Put together, for the next process, what this one has read of small objects.

        Only in an object store, where each of them costs a request.
        """
        if self.location.path is None:
            folders = frozenset().union(*(state.folders for state in self.eras))
            write_summary(self.location, self.records, folders)

    def forget_read(self) -> None:
        """Let go of what this process has read: what is to be verified is what is stored."""
        forget_tables(self.location)
        forget_packed(self.location)

    def foreseen(self, body: Body, batch: Batch | None = None) -> "Repository":
        """Return the repository as it would be after a commit, without its record."""
        header = Header(None if batch is None else batch.id, era=self.era)
        data = body.to_json() | header.to_json()
        record = Record(len(self.records), "", body.kind, "", data)
        return replace(self, eras=fold(self.eras, (record,)))

    def _refuse_unreadable(self, kind: str, body: dict[str, Any], committed_at: str) -> None:
        """Raise :class:`InvalidInput` for a record that nobody could read: it is never put."""
        record = Record(len(self.records), "", kind, committed_at, body)
        try:
            fold(self.eras, (record,))
        except Integrity as error:
            raise InvalidInput(f"nothing was committed: {error}") from error

    def refuse_stale(self, work: Work) -> None:
        """Raise :class:`Conflict` if a commit since then concerns some work."""
        refuse_stale(self.records[work.sequence + 1 :], work)

    def _refuse_pruned(self, batch: Batch) -> None:
        first = sequence_of(batch.id)
        if first is None or self._has_pruned(batch, first):
            raise Conflict(_PRUNED)

    def _has_pruned(self, batch: Batch, first: int) -> bool:
        return any(r.kind == "prune" and removes(r, batch.id) for r in self.records[first:])

    def _sealed(self, batch: Batch) -> str:
        """Return the hash of a batch's manifest, everything being on the disk.

        Objects that a prune has removed while they were being written cannot be forced there.
        """
        try:
            return batch.seal()
        except Unavailable as error:
            if self.refresh()._has_pruned(batch, len(self.records)):
                raise Conflict(_PRUNED) from error
            raise

    def retried[R](self, change: "Callable[[Repository], R]") -> R:
        """Return what a change returns, made again from the newest commit where another was first.

        Parameters
        ----------
        change
            Decides from the repository that it is given, in the era of this one, and commits.

        Raises
        ------
        Conflict
            The change cannot be made, or others were first too often.
        """
        seen = self
        for _ in range(ATTEMPTS):
            try:
                return change(seen)
            except Conflict as error:
                newest = self.refresh()
                if len(newest.records) == len(seen.records):
                    raise
                conflict = error
                seen = newest.in_era(self.era)
        raise conflict

    # What the log says -----------------------------------------------------------------------

    @property
    def state(self) -> History:
        """What the era in view holds."""
        return self.eras[self.era]

    @property
    def settings(self) -> RepositorySettings:
        """What was fixed when the era began; units and valid ranges as they were last accepted."""
        return self.state.in_force

    @property
    def memory(self) -> SourceMemory:
        """What the repository remembers of the source, to open it with."""
        return SourceMemory(self.location, self.settings)

    @property
    def captured(self) -> tuple[CapturedStep, ...]:
        """Every capture by number, forgotten ones too."""
        return self.state.captured

    @property
    def timeline(self) -> tuple[CapturedStep, ...]:
        """One kept capture per valid time, in order of time."""
        return self.state.timeline

    @property
    def shadows(self) -> tuple[Shadow, ...]:
        """Every shadow that is still there, oldest first."""
        return self.state.shadows

    def shadow_named(self, shadow: str | None) -> Shadow | None:
        """Return the shadow with an id; None without one, or where it is no longer there."""
        return next((s for s in self.shadows if s.id == shadow), None)

    @property
    def forecaster(self) -> Shadow | None:
        """The shadow that was committed with the newest forecaster state, or None."""
        return self.state.forecaster

    # What is stored ----------------------------------------------------------------------------

    def captures(self, name: str) -> CaptureStack:
        """Return the captures of a variable, or raise :class:`NotFound`."""
        state = self.state
        variable = self.settings.variable(name)
        verdicts = state.verdicts.get(name, {})
        return CaptureStack(
            self.location,
            variable,
            steps=state.captured,
            slabs=state.slabs,
            readings=state.readings(name),
            verdicts=verdicts,
        )

    def shadow(
        self, name: str, shadow: Shadow, captures: CaptureStack | None = None
    ) -> ShadowStack:
        """Return the predictions of a variable in one shadow."""
        stack = captures or self.captures(name)
        return ShadowStack(self.location, self.settings.variable(name), shadow, stack)

    def forecaster_state(self, name: str) -> ForecasterState:
        """Return the newest forecaster state of a variable, or raise :class:`NotFound`."""
        newest = self.forecaster
        if newest is None or name not in newest.learnt:
            raise NotFound(f"{name!r} has no forecaster state; run 'gnomon update'")
        return self.stored_forecaster(name, newest.id, newest.learnt[name])

    def stored_forecaster(self, name: str, commit: str, entry: LearntEntry) -> ForecasterState:
        """Return the forecaster state of a variable that a record names, or is about to name."""
        return ForecasterState(self.location, self.settings.variable(name), commit, entry)

    @cached_property
    def frame(self) -> "xr.Dataset":
        """The undecoded variables that do not change, verified."""
        return load_frame(self.location, self.settings)

    def fixed(self, description: Description) -> "dict[str, xr.Variable]":
        """Return the undecoded variables that do not change, as a capture was made with them."""
        return load_described(self.location, self.frame, self.settings, description)
