"""Check: reads and reports, never mends.

Always verified: settings, log, checkpoints and their copies, that every object is there in its
size, and every index against its root.  On request the stored bytes of all objects or of a part
of them, and of all: that every chunk decodes to what was captured.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial
from itertools import batched
from typing import Any

from gnomon.storage.arrays.summary import SUMMARY, misnamed
from gnomon.storage.arrays.tables import Slab
from gnomon.storage.care.inventory import Inventory, take_inventory, unreferenced
from gnomon.storage.care.subset import Subset, remember, select
from gnomon.storage.errors import GnomonError, Integrity, NotFound
from gnomon.storage.log.bodies.body import Header
from gnomon.storage.log.folders import captures_of, ledger_of, patches_of, shadow_of
from gnomon.storage.log.genesis import SETTINGS
from gnomon.storage.log.records import (
    COPIES,
    SPAN,
    checkpoint_name,
    content_hash,
    read_checkpoint,
    record_name,
)
from gnomon.storage.log.staging import object_hash
from gnomon.storage.log.steps import Patches
from gnomon.storage.repository import Repository
from gnomon.storage.stacks.captures import CaptureStack
from gnomon.storage.stacks.ledger import roots_of
from gnomon.storage.stacks.patches import read_patch
from gnomon.storage.stacks.shadows import ShadowStack
from gnomon.storage.values.model import Variable

__all__ = ["CheckReport", "Problem", "check"]

Progress = Callable[[str, int, int], None]
"""Called with what is being read, how much is done, and how much there is."""

BATCH_BYTES = 2**25
"""Chunks are decoded through all captures in batches of about this size."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One object that is not as it was written."""

    file: str
    """The damaged object, by its name in the repository."""
    where: str
    """What it holds: variable, and capture or lead."""
    error: str
    """What was found and expected."""


@dataclass(slots=True)
class CheckReport:
    """What a check read and found."""

    records: int = 0
    """Log records verified, with their copies."""
    objects: int = 0
    """Objects that the repository should hold, beside its log."""
    nbytes: int = 0
    """Their bytes."""
    objects_read: int = 0
    """Of these, how many were read and compared with what was written."""
    nbytes_read: int = 0
    """Their bytes."""
    chunks: int = 0
    """Chunks decoded and verified by digest."""
    unreferenced: int = 0
    """Objects that no commit speaks of: left by a crash, or being written just now."""
    unreferenced_nbytes: int = 0
    """Their bytes; 'gnomon prune' frees those that are dead."""
    problems: tuple[Problem, ...] = ()
    """What is damaged."""

    @property
    def data_read(self) -> bool:
        """Whether every stored byte was read."""
        return self.objects_read == self.objects

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self) | {"data_read": self.data_read}


_REMOVING = ("prune", "shadow")
"""Kinds of records after which objects are removed."""


def check(
    repository: Repository,
    *,
    read_data: bool = False,
    subset: Subset | None = None,
    progress: Progress | None = None,
) -> CheckReport:
    """Verify a repository, and with `read_data` every byte that it may ever return.

    Writers may go on meanwhile: what they commit later is not looked at.

    Parameters
    ----------
    subset
        Read only this part of the stored bytes; nothing is decoded then.
    """
    repository.forget_read()
    while True:
        report = _Check(repository, read_data, subset, progress or _silent).run()
        newer = repository.refresh()
        removing = any(r.kind in _REMOVING for r in newer.records[len(repository.records) :])
        if not removing or not report.problems:
            return report
        repository = newer  # what was missing was removed while it was looked for


def _silent(_what: str, _done: int, _total: int) -> None:
    return None


class _Check:
    """One run of a check."""

    def __init__(
        self,
        repository: Repository,
        read_data: bool,
        subset: Subset | None,
        progress: Progress,
    ) -> None:
        self.repository = repository
        self.location = repository.location
        self.read_data = read_data
        self.subset = subset
        self.progress = progress
        self.report = CheckReport()
        self.problems: list[Problem] = []
        self.named: set[str] = set()
        self.broken: set[str] = set()

    def run(self) -> CheckReport:
        self._log()
        inventory = take_inventory(self.repository)
        for name, error in inventory.damaged.items():
            self._problem(name, "manifest", error)
        there = self.location.sizes("")
        self._structure(inventory, there)
        for name in unreferenced(self.repository, there):
            self.report.unreferenced += 1
            self.report.unreferenced_nbytes += there[name]
        if self.read_data or self.subset is not None:
            self._bytes(inventory, there)
        for era in range(len(self.repository.eras)):
            self._meaning(self.repository.in_era(era))
        if (path := misnamed(self.location)) is not None:
            advice = "remove it: the next update leaves another"
            self._problem(SUMMARY, "summary", f"it has other columns than {path}; {advice}")
        self.progress("done", 1, 1)
        self.report.problems = tuple(self.problems)
        return self.report

    def _problem(self, file: str, where: str, error: str) -> None:
        """Report a file once: the first problem found with it says most."""
        if file not in self.named:
            self.named.add(file)
            self.problems.append(Problem(file, where, error))

    # What vouches for itself -------------------------------------------------------------------

    def _log(self) -> None:
        genesis = self.repository.genesis
        for name in (SETTINGS, COPIES + SETTINGS):
            self._same(name, "settings", lambda d: content_hash(d) == genesis)
        records = self.repository.records
        self.report.records = len(records)
        for record in records:
            if record.sequence % 64 == 0:
                self.progress("log", record.sequence, len(records))
            stored = record.to_json()
            for prefix in ("", COPIES):
                name = prefix + record_name(record.sequence)
                advice = "run 'gnomon repair'"
                if prefix and record is records[-1]:
                    advice = f"a stopped writer leaves it out: the next commit puts it, or {advice}"
                self._same(name, f"{record.kind} record", lambda d, s=stored: d == s, advice)  # type: ignore[misc]
        for start in range(0, len(records) - SPAN + 1, SPAN):
            name = checkpoint_name(start)
            span = records[start : start + SPAN]
            self._same(name, "checkpoint", partial(_holds, name=name, records=span))

    def _same(
        self,
        name: str,
        where: str,
        is_right: Callable[[bytes], bool],
        if_missing: str = "run 'gnomon repair'",
    ) -> None:
        try:
            right = is_right(self.location.read(name))
            error = f"{name} was changed after it was written; run 'gnomon repair'"
        except NotFound:
            right, error = False, f"{name} is missing; {if_missing}"
        except Integrity as failure:
            right, error = False, f"{failure}; run 'gnomon repair'"
        if not right:
            self._problem(name, where, error)

    # What the manifests vouch for --------------------------------------------------------------

    def _structure(self, inventory: Inventory, there: dict[str, int]) -> None:
        for name, (size, _) in inventory.objects.items():
            nbytes = there.get(name)
            if nbytes is None:
                self._problem(name, "object", f"{name} is missing; run 'gnomon repair'")
            elif nbytes != size:
                error = f"{name} has {nbytes} bytes, {size} were written; run 'gnomon repair'"
                self._problem(name, "object", error)
        for state in self.repository.eras:
            for variable, entry in state.settings.frame_entries.items():
                name, expected = str(entry["file"]), entry["hash"]
                self._same(name, variable, lambda d, e=expected: content_hash(d) == e)  # type: ignore[misc]
        self.report.objects = len(inventory.objects)
        self.report.nbytes = sum(size for size, _ in inventory.objects.values())

    def _bytes(self, inventory: Inventory, there: dict[str, int]) -> None:
        sizes = {name: size for name, (size, _) in inventory.objects.items()}
        chosen = sorted(sizes)
        if self.subset is not None:
            chosen = select(self.subset, sizes, self.location)
        for done, name in enumerate(chosen):
            if done % 16 == 0:
                self.progress("stored bytes", done, len(chosen))
            if name in there:
                expected = inventory.objects[name][1]
                self._same(name, "object", lambda d, e=expected: object_hash(d) == e)  # type: ignore[misc]
            self.report.objects_read += 1
            self.report.nbytes_read += sizes[name]
        if self.subset is not None and chosen:
            remember(self.subset, chosen[-1], self.location)

    # What the digests vouch for ----------------------------------------------------------------

    def _meaning(self, repository: Repository) -> None:
        variables = repository.settings.variables
        for number, variable in enumerate(variables):
            self.progress(f"chunks of {variable.name}", number, len(variables))
            stack = repository.captures(variable.name)
            self._captures(repository, stack)
            for shadow in repository.shadows:
                if variable.name in shadow.variables:
                    self._shadow(repository.shadow(variable.name, shadow, stack))
            for patches in repository.state.patches.values() if self.read_data else ():
                self._patches(repository, patches, variable)
            newest = repository.forecaster
            if newest is not None and variable.name in newest.learnt:
                self._state(repository, variable)
        for record in repository.records:
            folder = Header.from_json(record.body).id
            if folder is None or folder not in repository.state.folders:
                continue
            path = ledger_of(folder)
            for key, root in roots_of(record, repository.settings):
                slab = Slab(self.location, path, {key: root})
                self._attempt(f"{path}/{key}", "statistics", partial(slab.table, key))

    def _attempt(self, path: str, where: str, action: Callable[[], object]) -> bool:
        try:
            action()
        except Integrity as error:
            self.broken.add(path)
            # A damaged object below this path may have been named already.
            if not any(name.startswith(f"{path}/") for name in self.named):
                self._problem(path, where, str(error))
            return False
        return True

    def _captures(self, repository: Repository, stack: CaptureStack) -> None:
        variable = stack.variable
        first = variable.since
        slabs = {s.slab for s in repository.state.kept if s.step >= first}
        broken = set()
        for slab in sorted(slabs):
            path = captures_of(slab, variable)
            opened = Slab(self.location, path, {"index": stack.slabs[slab][variable.name]})
            good = [
                self._attempt(f"{prefix}{path}/index", f"index of {variable.name}", table)
                for prefix in ("", COPIES)
                for table in (partial(opened.table, "index", prefix=prefix),)
            ]
            if not any(good):
                broken.add(slab)
        if not self.read_data:
            return
        steps = [s for s in repository.state.kept if s.step >= first and s.slab not in broken]
        # Python allocates a whole batch, however few there are to fill it.
        together = max(1, min(variable.grid.size, BATCH_BYTES // max(1, _nbytes(variable))))
        for indices in batched(variable.grid.indices(), together):
            for captured in steps:
                self._chunks(
                    (partial(stack.chunk, captured.step, index) for index in indices),
                    (partial(stack.file, captured.step, index) for index in indices),
                    f"{variable.name} capture {captured.step}",
                )

    def _chunks(
        self,
        reads: Iterable[Callable[[], object]],
        files: Iterable[Callable[[], str]],
        where: str,
    ) -> None:
        for read, file in zip(reads, files, strict=True):
            try:
                read()
                self.report.chunks += 1
            except GnomonError as error:
                self._chunk(file(), where, error)

    def _chunk(self, file: str, where: str, error: GnomonError) -> None:
        # The file of a chunk lower in the chain is named by its own step.
        if file not in self.named and not self._explained(str(error)):
            self._problem(file, where, str(error))

    def _explained(self, error: str) -> bool:
        return any(name in error for name in (*self.named, *self.broken))

    def _shadow(self, stack: ShadowStack) -> None:
        path = shadow_of(stack.shadow.id, stack.variable)
        where = f"shadow of {stack.variable.name}"
        good = [
            self._attempt(f"{path}/{name}", where, partial(stack.slab.table, name))
            for name in ("index", "score")
        ]
        if self.read_data and all(good):
            leads = range(1, len(stack.shadow.instants) + 1)
            for index in stack.variable.grid.indices():  # all leads of a chunk are stored together
                self._chunks(
                    (partial(stack.chunk, lead, index) for lead in leads),
                    (partial(stack.file, lead, index) for lead in leads),
                    where,
                )

    def _patches(self, repository: Repository, patches: Patches, variable: Variable) -> None:
        entry = patches.variables.get(variable.name)
        path = patches_of(patches.id, variable)
        where = f"estimates of {variable.name} in capture {patches.step}"
        for chunk in entry.chunks if entry is not None else ():
            place = self.location, patches.id, variable, chunk.chunk, chunk.root
            self.report.chunks += self._attempt(path, where, partial(read_patch, *place))

    def _state(self, repository: Repository, variable: Variable) -> None:
        state = repository.forecaster_state(variable.name)
        where = f"forecaster state of {variable.name}"
        good = [
            self._attempt(path, where, getattr(state, name))
            for name, path in state.tables().items()
        ]
        # Of another form than the present one nobody reads the rest: it is learnt anew.
        if all(good) and self.read_data and state.is_current:
            for file, indices in state.by_file(variable.grid.indices()).items():
                damaged: list[Integrity] = []
                try:
                    self.report.chunks += len(state.read(indices, damaged)[0])
                except GnomonError as error:
                    self._chunk(file, where, error)
                for each in damaged:
                    self._chunk(file, where, each)


def _nbytes(variable: Variable) -> int:
    cells = 1
    for n in variable.chunks:
        cells *= n
    return cells * variable.numpy_dtype.itemsize


def _holds(data: bytes, *, name: str, records: tuple[Any, ...]) -> bool:
    return list(read_checkpoint(data, name)) == list(records)
