"""A repository pinned to one commit: the only thing that the other layers hold in their hands.

Opening reads ``gnomon.json`` and the log.  A repository object never changes; a commit returns a
new one.  Readers therefore see one commit, whatever writers do meanwhile.
"""

import io
import json
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from gnomon.storage.captures import CaptureStack
from gnomon.storage.errors import Conflict, GnomonError, Integrity, InvalidInput, NotFound
from gnomon.storage.grid import Index
from gnomon.storage.location import Location
from gnomon.storage.log import Log, Record, content_hash
from gnomon.storage.model import CapturedStep, Settings, Shadow, check_format
from gnomon.storage.shadows import ShadowStack

__all__ = ["Repository", "fresh_id"]

SETTINGS = "gnomon.json"


def fresh_id(sequence: int) -> str:
    """Return a name for the folder of a commit that no other writer will choose."""
    return f"{sequence:08d}-{secrets.token_hex(6)}"


@dataclass(frozen=True)
class Repository:
    """One repository at one commit."""

    location: Location
    """Where it lives."""
    settings: Settings
    """What was fixed at init."""
    genesis: str
    """Hash of ``gnomon.json``."""
    records: tuple[Record, ...] = field(repr=False)
    """The log up to the commit that this object is pinned to."""

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
        folder = f"frame/{secrets.token_hex(6)}"
        files: dict[str, bytes] = {}
        entries: dict[str, dict[str, Any]] = {}
        for number, (name, variable) in enumerate(frame.variables.items()):
            entry, stored = _encode_frame(str(name), f"{folder}/{number}", variable)
            entries[str(name)] = entry
            files[entry["file"]] = stored
        settings = replace(settings, frame=folder, frame_entries=entries, created_at=created_at)
        data = json.dumps(settings.to_json(), indent=1, allow_nan=False).encode()
        for file, stored in files.items():
            location.create(file, stored)
        location.create(SETTINGS, data)
        _probe(location, data)
        location.flush("")
        return cls(location, settings, content_hash(data), ()).commit("init", {}, created_at)

    @classmethod
    def open(cls, url: str) -> "Repository":
        """Open a repository at its newest commit.

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
            data = location.read(SETTINGS)
        except NotFound as error:
            raise NotFound(
                f"{location.url} is not a Gnomon repository (no {SETTINGS}); "
                "make one with 'gnomon init'"
            ) from error
        genesis = content_hash(data)
        try:
            content = json.loads(data)
            check_format(content)
            records = Log(location, genesis).read()
            if not records:
                raise Integrity(
                    f"{location.url} has settings but no log; init was interrupted, "
                    "remove the folder and init again"
                )
            return cls(location, Settings.from_json(content), genesis, records)
        except GnomonError:
            raise
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise Integrity(
                f"{location.url}/{SETTINGS} is damaged ({type(error).__name__}); "
                "restore it from a copy of the repository"
            ) from error

    def refresh(self) -> "Repository":
        """Return this repository at its newest commit."""
        records = Log(self.location, self.genesis).read(self.records)
        return replace(self, records=records)

    def at(self, sequence: int) -> "Repository":
        """Return this repository as it was after a commit."""
        return replace(self, records=self.records[: sequence + 1])

    def commit(self, kind: str, body: dict[str, Any], committed_at: str) -> "Repository":
        """Append a record and return the repository that includes it.

        Raises
        ------
        Conflict
            Another writer committed since this object was opened.
        """
        for group in ("captures", "shadows", "forecaster", "ledger"):
            if "id" in body:
                self.location.flush(f"{group}/{body['id']}")
        record = Log(self.location, self.genesis).append(self.records, kind, body, committed_at)
        return replace(self, records=(*self.records, record))

    # What the log says -----------------------------------------------------------------------

    def _of(self, kind: str) -> Iterable[Record]:
        return (r for r in self.records if r.kind == kind)

    @cached_property
    def steps(self) -> tuple[CapturedStep, ...]:
        """Every captured state in order of its number."""
        found: list[CapturedStep] = []
        for record in self._of("capture"):
            slab = str(record.body["id"])
            for local, instant in enumerate(record.body["instants"]):
                found.append(
                    CapturedStep(
                        len(found),
                        int(instant),
                        slab,
                        local,
                        record.sequence,
                        record.committed_at,
                    )
                )
        return tuple(found)

    @cached_property
    def shadows(self) -> tuple[Shadow, ...]:
        """Every shadow, oldest first."""
        return tuple(
            Shadow(
                str(r.body["id"]),
                int(r.body["step"]),
                int(r.body["reference"]),
                tuple(r.body["instants"]),
                dict(r.body["variables"]),
                r.sequence,
            )
            for r in self._of("shadow")
        )

    @cached_property
    def forecaster(self) -> Record | None:
        """The record with the newest forecaster state, or None."""
        return next((r for r in reversed(self.records) if r.kind == "shadow"), None)

    @cached_property
    def _verdicts(self) -> dict[str, dict[tuple[int, Index], int]]:
        found: dict[str, dict[tuple[int, Index], int]] = {}
        for record in self._of("verdict"):
            for entry in record.body["chunks"]:
                key = (int(entry["step"]), tuple(entry["chunk"]))
                found.setdefault(entry["variable"], {})[key] = int(entry["status"])
        return found

    # What is stored ----------------------------------------------------------------------------

    def captures(self, name: str) -> CaptureStack:
        """Return the captures of a variable, or raise :class:`NotFound`."""
        variable = self.settings.variable(name)
        roots = {
            str(r.body["id"]): str(r.body["variables"][name]["root"]) for r in self._of("capture")
        }
        verdicts = self._verdicts.get(name, {})
        return CaptureStack(self.location, variable, self.steps, roots, verdicts)

    def shadow(
        self, name: str, shadow: Shadow, captures: CaptureStack | None = None
    ) -> ShadowStack:
        """Return the predictions of a variable in one shadow."""
        stack = captures or self.captures(name)
        return ShadowStack(self.location, self.settings.variable(name), shadow, stack)

    @cached_property
    def frame(self) -> xr.Dataset:
        """The undecoded variables that do not change, verified."""
        return xr.Dataset(
            {
                name: xr.Variable(
                    tuple(entry["dims"]), _load_frame(self.location, entry), entry["attributes"]
                )
                for name, entry in self.settings.frame_entries.items()
            }
        )


def _probe(location: Location, data: bytes) -> None:
    """Refuse a store that overwrites: two writers would lose commits in silence."""
    try:
        location.create(SETTINGS, data)
    except Conflict:
        return
    raise InvalidInput(
        f"{location.url} does not honour put-if-absent, so commits could be lost; use a store that "
        "does (S3 with conditional writes, GCS, Azure, a local folder)"
    )


def _encode_frame(name: str, stem: str, variable: xr.Variable) -> tuple[dict[str, Any], bytes]:
    values = np.asarray(variable.values)
    if values.dtype.kind in "OT":
        texts = values.ravel().tolist()
        wrong = next((text for text in texts if not isinstance(text, str)), None)
        if not all(isinstance(text, str) for text in texts):
            raise InvalidInput(
                f"{name} holds {type(wrong).__name__} objects; only numbers and text can be "
                "stored: leave it out of the source, or convert it"
            )
        content = {"shape": values.shape, "texts": texts}
        file, data = f"{stem}.json", json.dumps(content).encode()
    else:
        buffer = io.BytesIO()
        little = np.asarray(values, values.dtype.newbyteorder("<"), order="C")
        np.save(buffer, little, allow_pickle=False)
        file, data = f"{stem}.npy", buffer.getvalue()
    attributes = {str(k): v for k, v in variable.attrs.items()}
    dims = [str(d) for d in variable.dims]
    entry = {"dims": dims, "attributes": attributes, "file": file, "hash": content_hash(data)}
    return entry, data


def _load_frame(location: Location, entry: dict[str, Any]) -> NDArray[Any]:
    file = str(entry["file"])
    try:
        data = location.read(file)
    except NotFound as error:
        raise Integrity(f"{file} is missing; restore it from a copy of the repository") from error
    if content_hash(data) != entry["hash"]:
        raise Integrity(
            f"{file}: hash {content_hash(data)[:12]} found, {entry['hash'][:12]} expected; "
            "restore it from a copy of the repository"
        )
    if file.endswith(".json"):
        content = json.loads(data)
        return np.array(content["texts"], dtype=object).reshape(content["shape"])
    return np.asarray(np.load(io.BytesIO(data), allow_pickle=False))
