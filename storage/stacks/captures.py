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
    digests,
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
from gnomon.storage.values.tiling import chunks_of, parted

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
        status = self.rows(step)[..., STATUS].copy()
        for index, verdict in self._judgements(step).items():
            status[index] = verdict
        return status

    def _judgements(self, step: int) -> Mapping[Index, int]:
        """Return the later judgements on the chunks of a step."""
        if self._judged is None:
            judged: dict[int, dict[Index, int]] = {}
            for (number, index), verdict in self.verdicts.items():
                judged.setdefault(number, {})[index] = verdict
            self._judged = judged
        return self._judged.get(step, {})

    def status_of(self, step: int, index: Index) -> int:
        """Return the status of one chunk, verdicts included; raises as `rows`."""
        verdict = self.verdicts.get((step, index))
        return int(self.rows(step)[index][STATUS]) if verdict is None else verdict

    def statuses(self, step: int, indices: Sequence[Index]) -> NDArray[np.int64]:
        """Return the status of some chunks, int64 (chunk,), verdicts included; raises as `rows`."""
        places = self.variable.grid.places(indices).T
        status = np.asarray(self.rows(step)[*places, np.full(len(indices), STATUS)])
        judged = self._judgements(step)
        for k, index in enumerate(indices if judged else ()):
            status[k] = judged.get(index, status[k])
        return status

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

    def load(self, step: int, indices: Sequence[Index]) -> dict[Index, NDArray[np.generic]]:
        """Return chunks that are compressed together, decoded at once, for `chunk` to have as well.

        Of small chunks, to decode each by itself takes several times as long.  What cannot be read
        is passed over, and so is what the cache has no room for, or what is alone in its unit:
        `chunk` reads it, and says what is wrong.
        """
        if self.variable.is_text or step < self.variable.since or len(indices) < 2:
            return {}
        room = CACHE_BYTES // max(
            1, prod(self.variable.chunks) * self.variable.numpy_dtype.itemsize
        )
        places = self.variable.grid.places(indices[:room])
        loaded: dict[Index, NDArray[np.generic]] = {}
        units = places * self.variable.chunks // self.variable.units
        for members in parted(units):
            if len(members) == 1:
                continue
            with suppress(Integrity):
                for links, alike in self._alike(step, places[members]):
                    loaded |= self._load(step, units[members[0]], links, alike)
        return loaded

    def _alike(
        self, step: int, places: NDArray[np.int64]
    ) -> Iterator[tuple[list[_Link], NDArray[np.int64]]]:
        """Yield the links, as of `chain`, of some chunks, and the (chunk, dim) that they are of."""
        pending: list[tuple[int, list[_Link], NDArray[np.int64]]] = [(step, [], places)]
        while pending:
            at, links, members = pending.pop()
            rows = self.rows(at)[tuple(members.T)][:, [BASE, CODING, FILTER]]
            for part in parted(rows):
                base, coding, bent = rows[part[0]].tolist()
                longer = links if coding == UNCHANGED else [*links, (at, bool(bent))]
                if coding == 0:
                    yield longer, members[part]
                elif 0 <= base < at and len(longer) <= LONGEST_CHAIN:
                    pending.append((base, longer, members[part]))

    def _load(
        self, step: int, unit: NDArray[np.int64], links: list[_Link], places: NDArray[np.int64]
    ) -> dict[Index, NDArray[np.generic]]:
        """Decode chunks of a unit that are sums along the same links, and keep those that agree."""
        holder, expected = links[0][0], self.rows(step)[..., DIGEST]
        indices: list[Index] = [*map(tuple, places.tolist())]
        known = dict(zip(indices, map(self._recent.get, indices), strict=True))
        bases = {-1 if recent is None else recent[0] for recent in known.values()}
        if bases == {holder}:
            told = expected if holder == step else self.rows(holder)[..., DIGEST]
            where = tuple(places.T)
            agree = (told[where] == expected[where]).all(axis=1).tolist()
            recents = zip(known.items(), agree, strict=True)
            return {index: recent[1] for (index, recent), ok in recents if ok and recent}
        steps = [link for link, _ in links]
        base = bases.pop() if len(bases) == 1 else -1
        links = links[: steps.index(base)] if base in steps else links
        sums = self._sums(unit, links)
        loaded: dict[Index, NDArray[np.generic]] = {}
        for shape, run in self.variable.grid.runs(indices):
            chosen, alike = indices[run], places[run]
            parts = {bent: self._of_unit(whole, alike, shape) for bent, whole in sums.items()}
            integers = straightened(parts[True]) if True in parts else parts[False]
            if len(parts) > 1:
                integers = added(integers, parts[False])
            if base in steps:
                below = np.stack([recent[1] for recent in map(known.get, chosen) if recent])
                integers = added(integers, ordered(below))
            values = restored(integers, self.variable.numpy_dtype)
            values.flags.writeable = False
            found = digests(self.variable.name, chosen, values)
            agree = (found == expected[tuple(alike.T)]).all(axis=1).tolist()
            loaded |= {i: v for i, v, ok in zip(chosen, values, agree, strict=True) if ok}
        for index, chunk in loaded.items():
            self._keep(holder, index, chunk)
        return loaded

    def _sums(
        self, unit: NDArray[np.int64], links: list[_Link]
    ) -> dict[bool, NDArray[np.signedinteger]]:
        """Return the sums of what is stored of a unit, bent and not, *not yet verified*."""
        grid = self.variable.stored_grid
        place = (*unit.tolist(), *(0,) * (len(grid.shape) - len(unit)))
        read = partial(self._whole, cells=grid.cells(place))
        sums: dict[bool, NDArray[np.signedinteger]] = {}
        residuals = ahead(read, [link for link, _ in links])
        for (_, bent), residual in zip(links, residuals, strict=True):
            sums[bent] = added(residual, sums[bent]) if bent in sums else residual
        return sums

    def _of_unit(
        self, whole: NDArray[np.signedinteger], places: NDArray[np.int64], shape: Index
    ) -> NDArray[np.signedinteger]:
        """Return chunks of one shape (chunk, *cells) out of what is stored of their unit."""
        variable, width = self.variable, whole.shape[places.shape[1] :]
        local = places % variable.per_unit
        if width:  # values of several numbers
            local = np.pad(local, [(0, 0), (0, 1)])
        return chunks_of(whole[None], (*variable.chunks, *width), local, (*shape, *width))[:, 0]

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
