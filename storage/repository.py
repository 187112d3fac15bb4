"""A repository pinned to one commit: the only thing that the other layers hold in their hands.

Opening reads ``gnomon.json`` and the log.  A repository object never changes; a commit returns a
new one.  Readers therefore see one commit, whatever writers do meanwhile.
"""

import json
import logging
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import xarray as xr

from gnomon.storage.batch import Batch, sequence_of
from gnomon.storage.captures import CaptureStack
from gnomon.storage.documents import NONSENSE, parse
from gnomon.storage.errors import (
    Conflict,
    Format,
    GnomonError,
    Integrity,
    InvalidInput,
    NotFound,
    Unavailable,
)
from gnomon.storage.forecaster import ForecasterState
from gnomon.storage.frame import encode_frame, load_frame
from gnomon.storage.location import Location
from gnomon.storage.log import COPIES, Log, Record, content_hash
from gnomon.storage.model import CapturedStep, Settings, Shadow
from gnomon.storage.shadows import ShadowStack
from gnomon.storage.state import State, fold

__all__ = ["SETTINGS", "Repository"]

logger = logging.getLogger(__name__)

SETTINGS = "gnomon.json"

_PRUNED = "the repository was pruned meanwhile; nothing of this run was kept, run it again"

_OPENED: "OrderedDict[tuple[str, str], Repository]" = OrderedDict()
"""The repositories that this process opened last: their records are verified and never change."""
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
    eras: tuple[State, ...] = field(repr=False)
    """What the records add up to, by era."""
    era: int = 0
    """The era that is looked at."""

    @classmethod
    def create(
        cls, url: str, settings: Settings, frame: xr.Dataset, created_at: str
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
            An attribute or coordinate cannot be stored, or the store overwrites what it should
            refuse to.
        """
        location = Location(url)
        if not location.is_vacant():
            raise Conflict(f"{location.url} is not empty; choose a new place for the repository")
        settings, files = encode_frame(replace(settings, created_at=created_at), frame, 0)
        data = json.dumps(settings.to_json(), indent=1, allow_nan=False).encode()
        try:  # nothing is ever put that could not be read
            Settings.from_json(parse(data))
        except NONSENSE as error:
            raise InvalidInput(f"such a dataset cannot be protected: {error}") from error
        location.create(SETTINGS, data)
        _probe(location)
        for file, stored in {**files, COPIES + SETTINGS: data}.items():
            location.create(file, stored)
        location.flush([*files, SETTINGS, COPIES + SETTINGS])
        made = cls(location, content_hash(data), (), (State(settings),))
        return made.commit("init", {}, created_at)

    @classmethod
    def open(cls, url: str) -> "Repository":
        """Open a repository at its newest commit, and in its present era.

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
            return cls._open(location, SETTINGS)
        except (NotFound, Integrity, Format) as error:
            try:
                found = cls._open(location, COPIES + SETTINGS)
            except GnomonError:
                raise error from None
            logger.warning(
                "%s is damaged or gone; its copy was read, run 'gnomon repair'", SETTINGS
            )
            return found

    @classmethod
    def _open(cls, location: Location, name: str) -> "Repository":
        try:
            data = location.read(name)
        except NotFound as error:
            raise NotFound(
                f"{location.url} is not a Gnomon repository (no {SETTINGS}); "
                "make one with 'gnomon init'"
            ) from error
        genesis = content_hash(data)
        known = _OPENED.get((location.url, genesis))
        if known is not None:
            return known.refresh()
        try:
            settings = Settings.from_json(parse(data))
        except NONSENSE as error:
            raise Integrity(
                f"{location.url}/{name} is damaged ({type(error).__name__}: {str(error)[:200]}); "
                "restore it from a copy of the repository"
            ) from error
        records = Log(location, genesis).read()
        if not records:
            raise Integrity(
                f"{location.url} has settings but no log; init was interrupted, "
                "remove the folder and init again"
            )
        return cls(location, genesis, (), (State(settings),))._followed_by(records)

    def refresh(self) -> "Repository":
        """Return this repository at its newest commit, and in its present era."""
        records = Log(self.location, self.genesis).extend(self.records)
        return self._followed_by(records[len(self.records) :])

    def _followed_by(self, records: tuple[Record, ...]) -> "Repository":
        """Return this repository after further records, in its present era."""
        made = self
        if records or self.era != len(self.eras) - 1:
            eras = fold(self.eras, records)
            made = replace(self, records=(*self.records, *records), eras=eras, era=len(eras) - 1)
        key = (self.location.url, self.genesis)
        known = _OPENED.get(key)
        if known is None or len(known.records) <= len(made.records):
            _OPENED[key] = made
        while len(_OPENED) > _REMEMBERED:
            _OPENED.popitem(last=False)
        return made

    def at(self, sequence: int) -> "Repository":
        """Return this repository as it was after a commit, in the era of that time."""
        if sequence == self.records[-1].sequence:
            return self
        records = self.records[: sequence + 1]
        eras = fold((State(self.eras[0].settings),), records)
        return replace(self, records=records, eras=eras, era=len(eras) - 1)

    def in_era(self, era: int) -> "Repository":
        """Return this repository with an older era in view."""
        return replace(self, era=era)

    def commit(
        self, kind: str, body: dict[str, Any], committed_at: str, batch: Batch | None = None
    ) -> "Repository":
        """Append a record and return the repository that includes it.

        Parameters
        ----------
        batch
            What was written for this commit; it is forced to the disk first.

        Raises
        ------
        Conflict
            Another writer committed since this object was opened.
        """
        if batch is not None:
            first = sequence_of(batch.id)
            if first is None or any(r.kind == "prune" for r in self.records[first:]):
                raise Conflict(_PRUNED)
            body = {**body, "id": batch.id, "manifest": self._sealed(batch)}
        body = {**body, "era": self.era} if self.era != len(self.eras) - 1 else body
        try:  # no record is ever put that could not be read
            fold(self.eras, (Record(len(self.records), "", kind, committed_at, body),))
        except Integrity as error:
            raise InvalidInput(f"nothing was committed: {error}") from error
        record = Log(self.location, self.genesis).append(self.records, kind, body, committed_at)
        after = self._followed_by((record,))
        return after if kind == "era" else replace(after, era=self.era)

    def _sealed(self, batch: Batch) -> str:
        """Return the hash of a batch's manifest, everything being on the disk.

        Objects that a prune has removed while they were being written cannot be forced there.
        """
        try:
            return batch.seal()
        except Unavailable as error:
            newer = self.refresh().records[len(self.records) :]
            if any(r.kind == "prune" for r in newer):
                raise Conflict(_PRUNED) from error
            raise

    # What the log says -----------------------------------------------------------------------

    @property
    def state(self) -> State:
        """What the era in view holds."""
        return self.eras[self.era]

    @property
    def settings(self) -> Settings:
        """What was fixed when the era began."""
        return self.state.settings

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

    @property
    def forecaster(self) -> Record | None:
        """The record with the newest forecaster state, or None."""
        return self.state.forecaster

    # What is stored ----------------------------------------------------------------------------

    def captures(self, name: str) -> CaptureStack:
        """Return the captures of a variable, or raise :class:`NotFound`."""
        state = self.state
        variable = state.settings.variable(name)
        verdicts = state.verdicts.get(name, {})
        return CaptureStack(self.location, variable, state.captured, state.slabs, verdicts)

    def shadow(
        self, name: str, shadow: Shadow, captures: CaptureStack | None = None
    ) -> ShadowStack:
        """Return the predictions of a variable in one shadow."""
        stack = captures or self.captures(name)
        return ShadowStack(self.location, self.settings.variable(name), shadow, stack)

    def forecaster_state(self, name: str) -> ForecasterState:
        """Return the newest forecaster state of a variable, or raise :class:`NotFound`."""
        record = self.forecaster
        if record is None or name not in record.body["forecaster"]:
            raise NotFound(f"{name!r} has no forecaster state; run 'gnomon update'")
        entry = record.body["forecaster"][name]
        return ForecasterState(
            self.location,
            self.settings.variable(name),
            str(record.body["id"]),
            str(entry["root"]),
            int(entry["rows"]),
            int(entry["columns"]),
            str(entry.get("outlook", "")),
        )

    @cached_property
    def frame(self) -> xr.Dataset:
        """The undecoded variables that do not change, verified."""
        return load_frame(self.location, self.settings)


def _probe(location: Location) -> None:
    """Refuse a store that overwrites: two writers would lose commits in silence."""
    try:
        location.create(SETTINGS, b"a second writer")
    except Conflict:
        return
    raise InvalidInput(
        f"{location.url} does not honour put-if-absent, so commits could be lost; use a store that "
        "does (S3 with conditional writes, GCS, Azure, a local folder)"
    )
