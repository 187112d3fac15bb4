"""Captures: one delta stack per variable, append-only, every chunk verified when it is read.

The index of a slab has one row of six integers per step and chunk:

``base``      step whose chunk this one is read against: itself for a key
``coding``    0 key, n > 0 delta at the end of a chain of n, -1 unchanged since ``base``
``status``    trusted, suspect or missing, as judged at the capture
``digest``    two columns: content hash of the chunk at its address
``filter``    0 the residual is as it is, 1 as differences along the last two axes
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from math import prod

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.arrays.ahead import ahead
from gnomon.storage.arrays.encoding import (
    BASE,
    CODING,
    COLUMNS,
    DIGEST,
    FILTER,
    STATUS,
    UNCHANGED,
    Held,
)
from gnomon.storage.arrays.residuals import (
    added,
    digest,
    ordered,
    residual_dtype,
    restored,
    straightened,
)
from gnomon.storage.arrays.shards import Shards
from gnomon.storage.arrays.tables import Slab, StoredColumn
from gnomon.storage.arrays.text import text_name, unpack_text
from gnomon.storage.errors import Integrity, NotFound
from gnomon.storage.log.folders import captures_of
from gnomon.storage.log.location import Location
from gnomon.storage.log.steps import CapturedStep
from gnomon.storage.values.grid import Index
from gnomon.storage.values.model import MISSING, Variable
from gnomon.storage.values.scaling import Packing

__all__ = ["CaptureStack"]

_WANTED = [StoredColumn(name) for name in COLUMNS[:5]] + [StoredColumn("filter", default=0)]
"""Before there was a filter, residuals were as they are; the digest tells if that is wrong."""
LONGEST_CHAIN = 16
"""Deltas that a reader takes; no format allows for more."""

CACHE_BYTES = 2**26
"""Decoded chunks that a stack keeps, so that reading step after step decodes each chain once."""

INDEX_BYTES = 2**26
"""Opened indices that a stack keeps, beside the last few."""


_ADVICE = "run 'gnomon repair'"

type _Link = tuple[int, bool]
"""A step whose bytes are added up, and whether they are planar differences."""


@dataclass(slots=True)
class CaptureStack:
    """All captures of one variable, open for reading."""

    location: Location
    """Where the repository lives."""
    variable: Variable
    """The variable."""
    steps: tuple[CapturedStep, ...]
    """Every capture, by number."""
    slabs: Mapping[str, Mapping[str, str]]
    """Per slab id and variable, the root of the index."""
    readings: Sequence[Packing]
    """How the variable is read by the number of times that its description had changed."""
    verdicts: Mapping[tuple[int, Index], int] = field(default_factory=dict)
    """Later judgements: status by (step, chunk)."""
    _judged: dict[int, dict[Index, int]] | None = None
    _slabs: dict[str, Slab] = field(default_factory=dict)
    _recent: OrderedDict[Index, tuple[int, NDArray[np.generic]]] = field(
        default_factory=OrderedDict
    )

    def rows(self, step: int) -> NDArray[np.int64]:
        """Return the index rows of a step, int64 (*chunk grid, 6), verified.

        In a step before the variable was added, all chunks are missing.

        Raises
        ------
        NotFound
            There is no such capture.
        Integrity
            The index is damaged, and so is its copy.
        """
        if 0 <= step < min(self.variable.since, len(self.steps)):
            absent = np.zeros((*self.variable.grid.counts, len(COLUMNS)), np.int64)
            absent[..., BASE], absent[..., STATUS] = step, MISSING
            return absent
        slab, local = self._slab(step)
        index = slab.index()
        if local >= len(index) or index.dtype.kind != "i":
            raise Integrity(
                f"{slab.path}/index holds {len(index)} captures, expected capture {step} at "
                f"position {local}; the repository was tampered with, restore it from a copy"
            )
        rows: NDArray[np.int64] = index[local]
        return rows

    def status(self, step: int) -> NDArray[np.int64]:
        """Return the status of all chunks, int64 (*chunk grid), with verdicts; raises as `rows`."""
        if self._judged is None:
            judged: dict[int, dict[Index, int]] = {}
            for (number, index), verdict in self.verdicts.items():
                judged.setdefault(number, {})[index] = verdict
            self._judged = judged
        status = self.rows(step)[..., STATUS].copy()
        for index, verdict in self._judged.get(step, {}).items():
            status[index] = verdict
        return status

    def status_of(self, step: int, index: Index) -> int:
        """Return the status of one chunk, verdicts included; raises as `rows`."""
        verdict = self.verdicts.get((step, index))
        return int(self.rows(step)[index][STATUS]) if verdict is None else verdict

    def chunk(self, step: int, index: Index) -> NDArray[np.generic]:
        """Return a chunk exactly as it was captured: raw values of the stored type, read-only.

        Raises
        ------
        NotFound
            There is no such capture, or it was made before the variable was added.
        Integrity
            Stored bytes are not what was written; names variable, chunk, capture and file.
        """
        if step < self.variable.since:
            raise NotFound(
                f"capture {step} was made before {self.variable.name} was added; "
                "'gnomon update --compare -1' captures what the source still has"
            )
        row = self.rows(step)[index]
        holder = self._holder(step, index)
        values = self._values(holder, index)
        if holder != step and not np.array_equal(self.rows(holder)[index][DIGEST], row[DIGEST]):
            raise Integrity(
                f"{self.variable.name} chunk {index} of capture {step} refers to capture {holder}, "
                "whose digest differs; the repository is inconsistent, restore it from a copy"
            )
        return values

    def load(self, step: int, indices: Sequence[Index]) -> None:
        """Decode chunks that are compressed together at once, for `chunk` to have them at hand.

        Of small chunks, to decode each by itself takes several times as long.  What cannot be read
        is passed over, and so is what the cache has no room for: `chunk` reads it, and says what is
        wrong.
        """
        if self.variable.is_text or step < self.variable.since:
            return
        room = CACHE_BYTES // max(
            1, prod(self.variable.chunks) * self.variable.numpy_dtype.itemsize
        )
        units: dict[Index, list[Index]] = {}
        for index in indices[:room]:
            units.setdefault(self.variable.unit_of(index), []).append(index)
        for unit, members in units.items():
            if len(members) == 1:
                continue
            with suppress(Integrity):
                for links, alike in self._alike(step, members):
                    self._load(step, unit, links, alike)

    def _alike(self, step: int, indices: list[Index]) -> Iterator[tuple[list[_Link], list[Index]]]:
        """Yield the links, as of `chain`, of some chunks, and those of them that they are of."""
        pending: list[tuple[int, list[_Link], list[Index]]] = [(step, [], indices)]
        while pending:
            at, links, members = pending.pop()
            rows = self.rows(at)[tuple(np.array(members).T)]
            parts: dict[tuple[int, int, int], list[Index]] = {}
            for index, row in zip(members, rows[:, [BASE, CODING, FILTER]].tolist(), strict=True):
                parts.setdefault(tuple(row), []).append(index)
            for (base, coding, bent), part in parts.items():
                longer = links if coding == UNCHANGED else [*links, (at, bool(bent))]
                if coding == 0:
                    yield longer, part
                elif 0 <= base < at and len(longer) <= LONGEST_CHAIN:
                    pending.append((base, longer, part))

    def _load(self, step: int, unit: Index, links: list[_Link], indices: list[Index]) -> None:
        """Decode chunks of a unit that are sums along the same links, and keep those that agree."""
        holder = links[0][0]
        known = [self._recent.get(index, (-1, None)) for index in indices]
        bases = {recent for recent, _ in known}
        if bases == {holder}:
            return
        steps = [link for link, _ in links]
        base = bases.pop() if len(bases) == 1 else -1
        links = links[: steps.index(base)] if base in steps else links
        grid = self.variable.stored_grid
        place = (*unit, *(0,) * (len(grid.shape) - len(unit)))
        cells = tuple(
            slice(i * n, min((i + 1) * n, size))
            for i, n, size in zip(place, grid.chunks, grid.shape, strict=True)
        )
        sums: dict[bool, NDArray[np.signedinteger]] = {}
        residuals = ahead(partial(self._whole, cells=cells), [link for link, _ in links])
        for (_, bent), residual in zip(links, residuals, strict=True):
            sums[bent] = added(residual, sums[bent]) if bent in sums else residual
        expected = self.rows(step)
        for index, (_, below) in zip(indices, known, strict=True):
            inside = tuple(
                slice(c.start - u.start, c.stop - u.start)
                for c, u in zip(self.variable.stored_cells(index), cells, strict=True)
            )
            parts = {bent: np.asarray(whole[inside]) for bent, whole in sums.items()}
            integers = straightened(parts[True]) if True in parts else parts[False]
            if len(parts) > 1:
                integers = added(integers, parts[False])
            if base in steps and below is not None:
                integers = added(integers, ordered(below))
            values = restored(integers, self.variable.numpy_dtype)
            if digest(self.variable.name, index, values) == expected[index][DIGEST].tobytes():
                self._keep(holder, index, values)

    def _whole(self, step: int, cells: tuple[slice, ...]) -> NDArray[np.signedinteger]:
        slab, local = self._slab(step)
        return self._shards(slab).read(local, cells)

    def reading(self, step: int) -> Packing:
        """Return how the raw values of a step stand for numbers."""
        return self.readings[self.steps[step].description]

    def physical(self, step: int, index: Index) -> NDArray[np.float64]:
        """Return a chunk as float64 in the units of init, NaN where missing; raises as `chunk`."""
        return self.reading(step).to_physical(self.chunk(step, index))

    def held(self, step: int, index: Index, beside: Sequence[Index] = ()) -> Held:
        """Return a chunk as the base of the capture that follows.

        Parameters
        ----------
        beside
            Chunks that are wanted as soon as this one is.
        """
        holder = self._holder(step, index)
        chunk_digest = self.rows(step)[index][DIGEST]

        def values() -> NDArray[np.generic]:
            if self._recent.get(index, (-1,))[0] != holder:
                self.load(step, beside)
            return self.chunk(step, index)

        return Held(values, chunk_digest, holder, partial(self._deltas, holder, index))

    def _deltas(self, holder: int, index: Index) -> int:
        return len(self.chain(holder, index)) - 1

    def chain(self, step: int, index: Index) -> list[int]:
        """Return the steps whose bytes a chunk is made of: its holder first, a key last.

        Raises
        ------
        Integrity
            A step refers to itself or forward, or the chain is longer than any is written.
        """
        links = [self._holder(step, index)]
        while self.rows(links[-1])[index][CODING] > 0:
            if len(links) > LONGEST_CHAIN:
                raise Integrity(
                    f"{self._address(step, index)} is a sum of more than {LONGEST_CHAIN} "
                    "differences; the repository is inconsistent, restore it from a copy"
                )
            base = int(self.rows(links[-1])[index][BASE])
            links.append(self._holder(self._below(links[-1], base, index), index))
        return links

    def _holder(self, step: int, index: Index) -> int:
        """Return the step that holds the bytes of a chunk."""
        while (row := self.rows(step)[index])[CODING] == UNCHANGED:
            step = self._below(step, int(row[BASE]), index)
        return step

    def _below(self, step: int, base: int, index: Index) -> int:
        if not 0 <= base < step:
            raise Integrity(
                f"{self._address(step, index)} refers to capture {base}, which is not before it; "
                "the repository is inconsistent, restore it from a copy"
            )
        return base

    def file(self, step: int, index: Index) -> str:
        """Return the stored object that holds a chunk's own bytes."""
        slab, local = self._slab(step)
        if self.variable.is_text:
            return text_name(slab.path, local, index)
        return self._shards(slab).name(local, self.variable.stored_cells(index))

    def _values(self, holder: int, index: Index) -> NDArray[np.generic]:
        recent = self._recent.get(index)
        if recent is not None and recent[0] == holder:
            return recent[1]
        values = self._decode(holder, index)
        self._keep(holder, index, values)
        return values

    def _keep(self, holder: int, index: Index, values: NDArray[np.generic]) -> None:
        values.flags.writeable = False
        # Threads share a stack: each of these calls is atomic, and another may have come between.
        self._recent.pop(index, None)
        self._recent[index] = (holder, values)
        while len(self._recent) * max(1, values.nbytes) > CACHE_BYTES:
            try:
                self._recent.popitem(last=False)
            except KeyError:
                break

    def _decode(self, holder: int, index: Index) -> NDArray[np.generic]:
        """Return a chunk from the bytes of its chain; only the sum has a digest to meet."""
        if self.variable.is_text:
            return self._text(holder, index)
        links = self.chain(holder, index)
        recent = self._recent.get(index)
        integers = None
        if recent is not None and recent[0] in links:
            integers = ordered(recent[1])
            links = links[: links.index(recent[0])]
        integers = self._added(links, index, integers)
        values = restored(integers, self.variable.numpy_dtype)
        expected = self.rows(holder)[index][DIGEST].tobytes()
        chunk_digest = digest(self.variable.name, index, values)
        if chunk_digest != expected:
            culprit = self._culprit(self.chain(holder, index), index)
            raise Integrity(
                f"{self._address(culprit, index)}: digest {chunk_digest.hex()[:12]} "
                f"found, {expected.hex()[:12]} expected; the file is damaged or missing, "
                "run 'gnomon repair'"
            )
        return values

    def _text(self, holder: int, index: Index) -> NDArray[np.generic]:
        slab, local = self._slab(holder)
        shape = tuple(s.stop - s.start for s in self.variable.grid.cells(index))
        name = text_name(slab.path, local, index)
        try:
            values = unpack_text(self.location.read(name), shape)
            chunk_digest = digest(self.variable.name, index, values)
        except NotFound as error:
            raise Integrity(f"{self._address(holder, index)} is missing; {_ADVICE}") from error
        except (ValueError, TypeError, RecursionError) as error:
            raise Integrity(f"{self._address(holder, index)} is damaged; {_ADVICE}") from error
        if chunk_digest != self.rows(holder)[index][DIGEST].tobytes():
            raise Integrity(f"{self._address(holder, index)}: digest differs; {_ADVICE}")
        return values

    def _culprit(self, links: list[int], index: Index) -> int:
        """Return the lowest step of a chain whose sum is not what was written."""
        for position in reversed(range(len(links))):
            values = restored(self._added(links[position:], index, None), self.variable.numpy_dtype)
            chunk_digest = np.frombuffer(digest(self.variable.name, index, values), "<i8")
            if not np.array_equal(chunk_digest, self.rows(links[position])[index][DIGEST]):
                return links[position]
        return links[0]

    def _added(
        self, links: list[int], index: Index, below: NDArray[np.signedinteger] | None
    ) -> NDArray[np.signedinteger]:
        """Return the sum of residuals and of what is below them; the bent ones are undone once."""
        sums: dict[bool, NDArray[np.signedinteger]] = {} if below is None else {False: below}
        fresh: set[bool] = set()
        residuals = ahead(partial(self._residual, index=index), links)
        for step, residual in zip(links, residuals, strict=True):
            bent = bool(self.rows(step)[index][FILTER])
            if bent in fresh:
                with np.errstate(over="ignore"):
                    sums[bent] += residual
            elif bent in sums:
                sums[bent] = added(residual, sums[bent])
                fresh.add(bent)
            else:
                sums[bent] = residual
        if True not in sums:
            return sums[False]
        straight = straightened(sums[True])
        return added(straight, sums[False]) if False in sums else straight

    def _residual(self, step: int, index: Index) -> NDArray[np.signedinteger]:
        slab, local = self._slab(step)
        try:
            return self._shards(slab).read(local, self.variable.stored_cells(index))
        except Integrity as error:
            raise Integrity(f"{self._address(step, index)}: {error}; {_ADVICE}") from error

    def _shards(self, slab: Slab) -> Shards:
        variable = self.variable
        dtype = residual_dtype(variable.numpy_dtype)
        return slab.shards("residual", variable.stored_grid, dtype)

    def _address(self, step: int, index: Index) -> str:
        return f"{self.variable.name} chunk {index} of capture {step} ({self.file(step, index)})"

    def _slab(self, step: int) -> tuple[Slab, int]:
        if not 0 <= step < len(self.steps):
            raise NotFound(f"there is no capture {step}; 'gnomon captures' lists them")
        captured = self.steps[step]
        slab = self._slabs.get(captured.slab)
        if slab is None:
            path = captures_of(captured.slab, self.variable)
            roots = {"index": self.slabs[captured.slab][self.variable.name]}
            slab = self._slabs[captured.slab] = Slab(
                self.location,
                path,
                roots,
                columns={"index": _WANTED},
                sizes={"index": (None, *self.variable.grid.counts)},
            )
            self._drop_slabs()
        return slab, captured.local

    def _drop_slabs(self) -> None:
        """Forget the indices that were opened first, so that memory does not grow with history."""
        while len(self._slabs) > 8 and sum(s.nbytes for s in [*self._slabs.values()]) > INDEX_BYTES:
            try:
                self._slabs.pop(next(iter(self._slabs)))
            except (KeyError, StopIteration, RuntimeError):  # another thread's turn
                return
