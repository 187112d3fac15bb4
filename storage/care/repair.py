"""Repair: put back what was written, where it can be proved to be the same.

Small objects come from their copies.  A damaged chunk comes from another capture that has the same
digest, or from the live source if what that holds now has it; everything else stays damaged, and
reported.  Nothing is ever replaced by bytes of another content.  Where the same content is packed
otherwise than it was, by a later release of a codec, a log record says what the object is now.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.arrays.encoding import BASE, CODING, DIGEST, FILTER, UNCHANGED
from gnomon.storage.arrays.layout import residual_metadata
from gnomon.storage.arrays.residuals import digest, ordered, planar, residual_dtype, subtracted
from gnomon.storage.arrays.text import pack_text
from gnomon.storage.care.check import CheckReport, check
from gnomon.storage.care.inventory import Inventory, take_inventory
from gnomon.storage.errors import Conflict, GnomonError, Integrity
from gnomon.storage.log.bodies.body import Header
from gnomon.storage.log.bodies.capture import CaptureBody, RewriteBody
from gnomon.storage.log.bodies.care import RepairBody
from gnomon.storage.log.folders import GROUPS, is_mark
from gnomon.storage.log.genesis import SETTINGS
from gnomon.storage.log.records import COPIES, SPAN, Record, content_hash, write_checkpoint
from gnomon.storage.log.staging import Entry, load_manifest, object_hash, write_manifest
from gnomon.storage.log.steps import CapturedStep
from gnomon.storage.repository import Repository
from gnomon.storage.source.files.index import SourceMemory
from gnomon.storage.source.opening import open_source
from gnomon.storage.source.states import read_state
from gnomon.storage.source.timeaxis import read_axis
from gnomon.storage.stacks.captures import CaptureStack
from gnomon.storage.stacks.fixed import encode_variable
from gnomon.storage.stacks.patches import CURE
from gnomon.storage.stacks.writing import ShardPacker, described_captures, units_of
from gnomon.storage.values.grid import Index
from gnomon.storage.values.model import Variable

__all__ = ["Repaired", "repair"]

Progress = Callable[[str, int, int], None]


@dataclass(slots=True)
class Repaired:
    """What a repair did."""

    mended: dict[str, str] = field(default_factory=dict)
    """Objects that are again what was written, and where the bytes came from."""
    left: dict[str, str] = field(default_factory=dict)
    """Objects that stay damaged, and why."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


def repair(
    repository: Repository,
    *,
    committed_at: str,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Repaired:
    """Find what is damaged, as ``check`` with its data does, and mend what can be mended.

    Parameters
    ----------
    dry_run
        Say what could be mended, and change nothing.

    Raises
    ------
    Conflict
        Another repair committed meanwhile; what was mended is in its place, run it again.
    """
    report = check(repository, read_data=True, progress=progress)
    run = _Repair(repository, report, dry_run)
    repaired = run.run()
    if run.restated:
        repository.retried(partial(_restate, len(repository.records), run.restated, committed_at))
    return repaired


def _restate(
    count: int, objects: dict[str, Entry], committed_at: str, repository: Repository
) -> Repository:
    """Say what objects are now; what others committed meanwhile says nothing of their bytes."""
    if any(record.kind == "repair" for record in repository.records[count:]):
        raise Conflict("another repair has committed meanwhile; run it again")
    return repository.commit(RepairBody(objects), committed_at)


class _Repair:
    """One run of a repair."""

    def __init__(self, repository: Repository, report: CheckReport, dry_run: bool) -> None:
        self.repository = repository
        self.location = repository.location
        self.problems = {p.file: p.error for p in report.problems}
        self.dry_run = dry_run
        self.done = Repaired()
        self.restated: dict[str, Entry] = {}
        """Size and hash of objects that hold what they held, packed otherwise."""

    def run(self) -> Repaired:
        # In this order, since each needs those before it.
        names = sorted(self.problems, key=self._rank)
        for name in names:
            try:
                original = self._bytes_of(name)
                if original is not None and not self.dry_run:
                    self._put(name, original[0])
            except Integrity as error:  # what it is made of is damaged too, or it is no file
                self.done.left[name] = str(error)
                continue
            if original is None:
                self.done.left[name] = self._advice(name)
            else:
                self.done.mended[name] = original[1]
        return self.done

    def _put(self, name: str, data: bytes) -> None:
        self.location.replace(name, data)
        entry = (len(data), object_hash(data))
        if "/residual/c/" in name and self.inventory.objects[name] != entry:
            self.restated[name] = entry

    def _rank(self, name: str) -> tuple[int, str]:
        vouched = (SETTINGS, "log/", "checkpoints/", "manifests/", "frame/")
        plain = name.removeprefix(COPIES)
        return (0 if plain.startswith(vouched) else 2 if "/residual/c/" in plain else 1), name

    def _advice(self, name: str) -> str:
        group = name.split("/", maxsplit=1)[0]
        if group in ("shadows", "forecaster"):
            return "a prediction: 'gnomon update --refit' makes a new one"
        if group == "patches":
            return f"an estimate of suspect chunks: {CURE}"
        if group == "ledger":
            return "statistics of a capture; its data is not concerned"
        if group == "replaced":
            if is_mark(name.split("/")[2:]):
                return (
                    "which cells a rollback wrote as estimates: updates refuse to take them for "
                    "data; restore it from a copy of the repository"
                )
            return "what a rollback replaced: it cannot be taken back; no other data is concerned"
        return "no intact copy was found; restore it from a copy of the repository"

    def _bytes_of(self, name: str) -> tuple[bytes, str] | None:
        """Return the bytes that were written, proved to be the same, and where they were found."""
        plain = name.removeprefix(COPIES)
        sources: dict[str, Callable[[str], tuple[bytes, str] | None]] = {
            SETTINGS: self._settings,
            "log": self._record,
            "checkpoints": self._checkpoint,
            "manifests": self._manifest,
            "frame": self._frame,
        }
        source = sources.get(plain.split("/", maxsplit=1)[0])
        if source is not None:
            return source(plain)
        expected = self.inventory.objects.get(name)
        if expected is None:
            return None
        twin = plain if name != plain else COPIES + name
        intact = self._intact(twin, expected)
        if intact is not None:
            return intact, f"its copy {twin}"
        parts = plain.split("/")
        if parts[0] == "captures" and parts[-1] == "zarr.json":
            return self._described(parts, expected)
        return self._residual(parts) if "residual" in parts else None

    def _record(self, name: str) -> tuple[bytes, str] | None:
        sequence = int(name.removeprefix("log/").removesuffix(".json"))
        return self.repository.records[sequence].to_json(), "the log as it was read"

    def _record_of(self, folder: str) -> Record:
        """Return the record of the commit that a folder was written for."""
        numbers = (state.folders.get(folder) for state in self.repository.eras)
        return self.repository.records[next(n for n in numbers if n is not None)]

    @cached_property
    def inventory(self) -> Inventory:
        """The objects that should be there, by the manifests, which are mended by now."""
        return take_inventory(self.repository)

    def _intact(self, name: str, expected: Entry) -> bytes | None:
        try:
            data = self.location.read(name)
        except GnomonError:
            return None
        return data if object_hash(data) == expected[1] else None

    def _settings(self, _name: str) -> tuple[bytes, str] | None:
        for name in (SETTINGS, COPIES + SETTINGS):
            try:
                data = self.location.read(name)
            except GnomonError:
                continue
            if content_hash(data) == self.repository.genesis:
                return data, name
        return None

    def _checkpoint(self, name: str) -> tuple[bytes, str] | None:
        start = int(name.removeprefix("checkpoints/").split(".")[0])
        records = self.repository.records[start : start + SPAN]
        return (write_checkpoint(records), "its records") if len(records) == SPAN else None

    def _manifest(self, name: str) -> tuple[bytes, str] | None:
        folder = name.removeprefix("manifests/").removesuffix(".json.gz")
        expected = str(Header.from_json(self._record_of(folder).body).manifest)
        for place in (name, COPIES + name):
            try:
                data = self.location.read(place)
                load_manifest(data, expected, place)
            except GnomonError:
                continue
            return data, place
        # Made again from the objects: it is right if its hash is.
        groups = (*GROUPS, f"{COPIES}captures")
        there = [n for group in groups for n in self.location.list(f"{group}/{folder}/")]
        entries = {}
        for place in there:
            data = self.location.read(place)
            entries[place] = (len(data), object_hash(data))
        data = write_manifest(entries)
        try:
            load_manifest(data, expected, name)
        except Integrity:
            return None
        return data, "the objects that it lists"

    def _frame(self, name: str) -> tuple[bytes, str] | None:
        for state in self.repository.eras:
            frames = [state.settings.frame_entries, *(change.fixed for change in state.changes)]
            for variable, entry in (item for entries in frames for item in entries.items()):
                if entry is None or entry["file"] != name:
                    continue
                try:
                    memory = SourceMemory(self.location, state.settings)
                    with open_source(state.settings.source, memory) as dataset:
                        data = encode_variable(variable, dataset.variables[variable])[0]
                except (GnomonError, KeyError):
                    return None
                return (data, "the source") if content_hash(data) == entry["hash"] else None
        return None

    # Chunks ------------------------------------------------------------------------------------

    def _residual(self, parts: list[str]) -> tuple[bytes, str] | None:
        place = (parts[1], int(parts[5]))
        for era, state in enumerate(self.repository.eras):
            step = next((s for s in state.captured if (s.slab, s.local) == place), None)
            variable = next((v for v in state.settings.variables if v.folder == parts[2]), None)
            if step is not None and variable is not None:
                seen = self.repository.in_era(era)
                return _Shard(seen, variable, step, tuple(map(int, parts[6:]))).mended()
        return None

    def _described(self, parts: list[str], expected: Entry) -> tuple[bytes, str] | None:
        """Return the description of a slab of captures, or of its array, made again."""
        record = self._record_of(parts[1])
        name = "/".join(parts[3:])
        # As they were when it was begun: units may have been accepted since.
        begun = self.repository.at(max(0, int(parts[1].split("-")[0]) - 1))
        for state in begun.eras:
            settings = state.in_force
            variable = next((v for v in settings.variables if v.folder == parts[2]), None)
            if variable is None:
                continue
            instants = _instants_in(record, state.captured)
            described = described_captures(variable, instants, settings.calendar)
            forms = [described[name]] if name in described else []
            if name == "residual/zarr.json":  # before dimensions had names
                dtype = residual_dtype(variable.numpy_dtype)
                forms.append(residual_metadata(len(instants), variable.stored_grid, dtype))
            for data in forms:
                if object_hash(data) == expected[1]:
                    return data, "the settings"
        return None


def _instants_in(record: Record, captured: Sequence[CapturedStep]) -> list[int]:
    """Return the valid times of the states that a record has put into its slab."""
    if record.kind == RewriteBody.kind:
        steps = RewriteBody.from_json(record.body).steps
        return [captured[step].instant for step in steps if step < len(captured)]
    return list(CaptureBody.from_json(record.body).instants)


class _Shard:
    """One damaged shard of a captured step."""

    def __init__(
        self, repository: Repository, variable: Variable, step: CapturedStep, shard: Index
    ) -> None:
        self.repository = repository
        self.variable = variable
        self.stack: CaptureStack = repository.captures(variable.name)
        self.step = step
        self.shard = shard
        self.origins: set[str] = set()

    def mended(self) -> tuple[bytes, str] | None:
        """Return a shard of what was written; None if a chunk of it is found nowhere."""
        if self.variable.is_text:
            return self._text()
        grid = self.variable.grid
        start = tuple(s * n for s, n in zip(self.shard, grid.shards, strict=False))
        block = next((b for b in grid.blocks() if b.start == start), None)
        if block is None:
            return None
        packer = ShardPacker(self.variable)
        for unit in units_of(self.variable, block):
            residuals, bent = {}, False
            for index, _, _ in unit:
                row = self.stack.rows(self.step.step)[index]
                if row[CODING] != UNCHANGED:
                    bent = bool(row[FILTER])
                    residual = self._residual(index)
                    if residual is None:
                        return None
                    residuals[index] = residual
            packer.put(residuals, bent=bent)
        data = next(iter(packer.shards().values()), None)
        return None if data is None else (data, ", ".join(sorted(self.origins)))

    def _residual(self, index: Index) -> NDArray[np.signedinteger] | None:
        """Return what is stored for a chunk, from its values; None if these are found nowhere."""
        row = self.stack.rows(self.step.step)[index]
        values = self._values(self.step.step, index)
        if values is None:
            return None
        key = ordered(values)
        if row[CODING] > 0:
            base = self._values(int(row[BASE]), index)
            if base is None:
                return None
            key = subtracted(key, ordered(base))
        return planar(key) if row[FILTER] else key

    def _text(self) -> tuple[bytes, str] | None:
        values = self._values(self.step.step, self.shard)
        return None if values is None else (pack_text(values), ", ".join(sorted(self.origins)))

    def _values(self, step: int, index: Index) -> NDArray[np.generic] | None:
        """Return a chunk with the digest that was written, from wherever it still is."""
        try:
            values = self.stack.chunk(step, index)
        except GnomonError:
            twin = self._from_another_step(step, index)
            return self._from_source(step, index) if twin is None else twin
        if step == self.step.step:
            self.origins.add("its intact chunks")
        return values

    def _from_another_step(self, step: int, index: Index) -> NDArray[np.generic] | None:
        row = self.stack.rows(step)[index]
        for other in self.repository.captured:
            try:
                other_row = self.stack.rows(other.step)[index]
                same = np.array_equal(other_row[DIGEST], row[DIGEST])
                if not same or step in self.stack.chain(other.step, index):
                    continue
                values = self.stack.chunk(other.step, index)
            except GnomonError:
                continue
            self.origins.add(f"capture {other.step}, which holds the same")
            return values
        return None

    def _from_source(self, step: int, index: Index) -> NDArray[np.generic] | None:
        row = self.stack.rows(step)[index]
        settings = self.repository.settings
        try:
            with open_source(settings.source, self.repository.memory) as dataset:
                position = None
                if settings.source.kind == "append":
                    axis = read_axis(dataset, settings)
                    instant = self.repository.captured[step].instant
                    there = np.flatnonzero((axis.instants == instant) & ~axis.missing)
                    if not there.size:
                        return None
                    position = int(there[0])
                cells = self.variable.grid.cells(index)
                values = read_state(dataset, self.variable, position, cells)
        except (GnomonError, LookupError):
            return None
        if digest(self.variable.name, index, values) != row[DIGEST].tobytes():
            return None
        self.origins.add("the source")
        return values
