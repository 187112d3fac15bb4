"""Shadows: predicted states as small integers against the last capture, with error and confidence.

What a chunk holds at every lead is compressed together, as one stored chunk: from lead to lead it
goes on smoothly.  See :mod:`gnomon.storage.stacks.quantising` for what the integers are.  Only the
leads that will go together, once newer shadows have predicted their times, are stored apart.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.arrays.layout import group_metadata
from gnomon.storage.arrays.residuals import sample, sampled_size, stack
from gnomon.storage.arrays.shards import Shards, pack_chunk, pack_shard
from gnomon.storage.arrays.tables import Slab, StoredColumn, create_residual, create_table
from gnomon.storage.errors import Conflict, GnomonError, Integrity, NotFound
from gnomon.storage.log.folders import LATER, is_later, shadow_of
from gnomon.storage.log.location import Location
from gnomon.storage.log.staging import Batch
from gnomon.storage.log.steps import Shadow
from gnomon.storage.recent import drop_oldest
from gnomon.storage.stacks.captures import CaptureStack
from gnomon.storage.stacks.quantising import (
    NO_BASE,
    Changes,
    Codes,
    QuantisedChunk,
    along_leads,
    dequantise,
    digest_of,
    from_along_leads,
    reference_of,
)
from gnomon.storage.stacks.writing import units_of
from gnomon.storage.values.grid import Block, Index
from gnomon.storage.values.model import Variable
from gnomon.storage.values.tiling import joined

__all__ = [
    "INDEX_COLUMNS",
    "SCORE_COLUMNS",
    "ShadowStack",
    "create_shadow",
    "create_shadow_tables",
    "discard_shadow",
    "remove_later_leads",
    "write_block",
]

INDEX_COLUMNS = ["base", "digest_high", "digest_low", "change_coding", "error_coding"]
SCORE_COLUMNS = ["quantum", "error_scale", "confidence", "expected_rmse"]
_APART, _PLAIN, _ALONG = -1, 0, 1
"""Codings of a chunk's integers: each lead by itself, as before there were codings; all leads
together; all together, as what each adds to the one before."""
_WITHOUT_CODINGS, _CODINGS = slice(0, 3), slice(3, 5)
_INDEX = [StoredColumn(name) for name in INDEX_COLUMNS[_WITHOUT_CODINGS]]
_INDEX += [StoredColumn(name, default=_APART) for name in INDEX_COLUMNS[_CODINGS]]
_SCORE = [StoredColumn("quantum"), StoredColumn("error_scale")]
_SCORE += [
    StoredColumn("confidence", default=np.nan),
    StoredColumn("expected_rmse", default=np.nan),
]
_PARTS: dict[str, np.dtype[Any]] = {"change": np.dtype("<i4"), "error": np.dtype("<i2")}
"""Arrays of a variable, and their types."""
_ERROR_APART: np.dtype[Any] = np.dtype("i1")
"""What errors were stored as where each lead is by itself."""
LARGE = 2**15
"""Integers of a unit of which a sample is compressed both ways; fewer are compressed whole."""
CACHE_BYTES = 2**26
"""Decoded chunks that a stack keeps: one is asked for lead after lead."""

Floats = NDArray[np.float64]
Coded = list[NDArray[Any]]
"""Integers of the chunks of a unit, (chunk, lead, *cells) of those that have one shape."""


def spans_of(leads: int, lasting: int) -> dict[str, slice]:
    """Return which leads, from 0, are stored together, by what their arrays are called beside."""
    spans = {"": slice(0, lasting), LATER: slice(lasting, leads)}
    return {name: span for name, span in spans.items() if span.start < span.stop}


def create_shadow(
    batch: Batch, variable: Variable, leads: int, lasting: int, attributes: Mapping[str, Any]
) -> None:
    """Describe the predicted states of a variable in a commit; their blocks follow.

    Parameters
    ----------
    lasting
        How many leads, the first ones, stay when newer shadows predict the others.
    attributes
        What whoever opens the group is to know of it.
    """
    path = shadow_of(batch.id, variable)
    batch.create(f"{path}/zarr.json", group_metadata(variable.described() | dict(attributes)))
    for name, span in spans_of(leads, lasting).items():
        depth = span.stop - span.start
        along = "lead" if depth == leads else f"lead{name or '_lasting'}"
        for part, dtype in _PARTS.items():
            create_residual(
                batch,
                f"{path}/{part}{name}",
                lead=depth,
                grid=variable.stored_grid,
                dtype=dtype,
                depth=depth,
                names=[along, *variable.dims],
            )


def write_block(
    batch: Batch,
    variable: Variable,
    block: Block,
    chunks: Mapping[Index, QuantisedChunk],
    lasting: int,
) -> NDArray[np.int64]:
    """Store the predictions of one block; returns its part of the index.

    Parameters
    ----------
    chunks
        All of the block's, by index.
    lasting
        How many leads, the first ones, stay when newer shadows predict the others.

    Returns
    -------
    int64 (lead, *chunks of the block, 5)
    """
    path, grid = shadow_of(batch.id, variable), variable.stored_grid
    leads = len(next(iter(chunks.values())).change)
    places = {i: k for k, (i, _, _) in enumerate(variable.grid.inner(block))}
    index = np.zeros((leads, len(places), len(INDEX_COLUMNS)), np.int64)
    packed: dict[str, dict[Index, bytes]] = {}
    for unit in units_of(variable, block):
        indices = [i for i, _, _ in unit]
        here = [places[i] for i in indices]
        corner = [cells.start for cells in variable.stored_cells(indices[0])]
        sizes = zip(corner, grid.shards, grid.chunks, strict=True)
        place = tuple(a % n // c for a, n, c in sizes)
        made = [chunks[i] for i in indices]
        index[:, here, _WITHOUT_CODINGS] = np.stack([chunk.index for chunk in made], axis=1)
        runs = [made[run] for _, run in variable.grid.runs(indices)]
        inside = variable.grid.places(indices) % variable.per_unit
        for name, span in spans_of(leads, lasting).items():
            for k, (part, coded) in enumerate(_coded(runs, span).items()):
                coding = _smaller(*coded)
                index[span, here, _CODINGS.start + k] = coding
                data = pack_chunk(joined(coded[coding], variable.chunks, inside, variable.units))
                if data is not None:
                    packed.setdefault(part + name, {})[place] = data
    shard = [str(a // n) for a, n in zip(block.start, grid.shards, strict=True)]
    for part, units in packed.items():
        batch.create("/".join([path, part, "c", "0", *shard]), pack_shard(grid, units))
    return index.reshape(leads, *block.grid, len(INDEX_COLUMNS))


def _coded(runs: list[list[QuantisedChunk]], span: slice) -> dict[str, tuple[Coded, Coded]]:
    """Return some leads of chunks, by array: as they are, and from lead to lead."""
    changes: Coded = [stack([chunk.change[span] for chunk in run]) for run in runs]
    quanta = [stack([chunk.score[span, 0] for chunk in run]) for run in runs]
    added: Coded = [_along(*both) for both in zip(changes, quanta, strict=True)]
    errors: Coded = [stack([c.error[span] for c in run]).astype(np.int16) for run in runs]
    grown: Coded = [np.diff(e, axis=1, prepend=np.int16(0)) for e in errors]
    return {"change": (changes, added), "error": (errors, grown)}


def _along(changes: Changes, quanta: Floats) -> Changes:
    """Return changes (chunk, lead, *cells) as what leads add, by the quanta (chunk, lead)."""
    by_lead = quanta.T.reshape(*quanta.T.shape, *(1,) * (changes.ndim - 2))
    return along_leads(changes.swapaxes(0, 1), by_lead).swapaxes(0, 1)


def _smaller(plain: Coded, along: Coded) -> int:
    """Return which of two codings of the chunks of a unit is smaller, by a sample if large."""
    if plain[0].shape[1] == 1:
        return _PLAIN
    sizes = []
    for coded in (plain, along):
        parts = [chunks.reshape(-1, *chunks.shape[2:]) for chunks in coded]
        is_large = sum(part.size for part in parts) > LARGE
        sizes.append(sampled_size(sample(parts) if is_large else parts))
    return _ALONG if sizes[1] < sizes[0] else _PLAIN


def create_shadow_tables(
    batch: Batch, variable: Variable, index: NDArray[np.int64], scores: Floats
) -> tuple[str, str]:
    """Store index and scores (lead, *chunk grid, column) of a variable; return their roots."""
    path = shadow_of(batch.id, variable)
    names = ["lead", *(f"chunk_{dim}" for dim in variable.dims), "column"]
    return (
        create_table(batch, f"{path}/index", index, INDEX_COLUMNS, names),
        create_table(batch, f"{path}/score", scores, SCORE_COLUMNS, names),
    )


def discard_shadow(location: Location, commit: str) -> None:
    """Remove the predictions of a shadow that no record names, and that is to be written again."""
    location.delete(location.list(f"{shadow_of(commit)}/"))


def remove_later_leads(location: Location, commits: Iterable[str]) -> None:
    """Remove the leads of shadows whose times newer ones have predicted.

    What a crash or a failing store leaves of them, a prune removes.
    """
    for commit in commits:
        with suppress(GnomonError):
            names = location.list(f"{shadow_of(commit)}/")
            location.delete(name for name in names if is_later(name.split("/")[2:]))


@dataclass(slots=True)
class ShadowStack:
    """The predicted states of one variable in one shadow, open for reading."""

    location: Location
    """Where the repository lives."""
    variable: Variable
    """The variable."""
    shadow: Shadow
    """What the log says of the shadow."""
    captures: CaptureStack
    """The captures that changes are counted from."""
    _slab: Slab | None = field(default=None)
    _recent: dict[tuple[str, Index], tuple[Changes, Codes]] = field(default_factory=dict)

    @property
    def slab(self) -> Slab:
        """The stored arrays."""
        if self._slab is None:
            path = shadow_of(self.shadow.id, self.variable)
            entry = self.shadow.variables[self.variable.name]
            roots = {"index": entry.index_root, "score": entry.score_root}
            sizes = (self.shadow.leads, *self.variable.grid.counts)
            self._slab = Slab(
                self.location,
                path,
                roots,
                columns={"index": _INDEX, "score": _SCORE},
                sizes=dict.fromkeys(("index", "score"), sizes),
                cure="run 'gnomon update --refit' to make a new shadow",
            )
        return self._slab

    def scores(self) -> Floats:
        """Return quantum, error scale, confidence, expected RMSE, float64 (lead, *chunk grid, 4).

        The last two are NaN where they are not known, or not possible.

        Raises
        ------
        Integrity
            The table is damaged.
        """
        scores = np.array(self.slab.index("score"), np.float64)
        confidence, rmse = scores[..., 2], scores[..., 3]
        confidence[~((confidence >= 0) & (confidence <= 1))] = np.nan
        rmse[~((rmse >= 0) & np.isfinite(rmse))] = np.nan
        return scores

    def confidence(self, lead: int, index: Index) -> float:
        """Return the confidence of a chunk at lead 1..H; NaN if it is not known."""
        confidence = float(self.slab.index("score")[(lead - 1, *index, 2)])
        return confidence if 0 <= confidence <= 1 else np.nan

    def file(self, lead: int, index: Index) -> str:
        """Return the stored object that holds the predicted change of a chunk."""
        return self._files(lead, index)[0]

    def _files(self, lead: int, index: Index) -> tuple[str, ...]:
        cells, is_apart = self.variable.stored_cells(index), self._is_apart(index)
        position = lead - 1 if is_apart else 0
        return tuple(part.name(position, cells) for part in self._shards(lead, is_apart))

    def _is_apart(self, index: Index) -> bool:
        return int(self.slab.index()[(0, *index, 3)]) == _APART

    def _span(self, lead: int) -> tuple[str, slice]:
        """Return the leads that are stored together with one, from 0, and their arrays' name."""
        spans = spans_of(self.shadow.leads, self.shadow.lasting).items()
        return next((name, span) for name, span in spans if lead <= span.stop)

    def _shards(self, lead: int, is_apart: bool) -> tuple[Shards, Shards]:
        """Return the arrays of changes and of errors that a lead is in."""
        name, span = self._span(lead)
        dtypes = (_PARTS["change"], _ERROR_APART if is_apart else _PARTS["error"])
        depth = 1 if is_apart else span.stop - span.start
        change, error = (
            self.slab.shards(part + name, self.variable.stored_grid, dtype, depth=depth)
            for part, dtype in zip(_PARTS, dtypes, strict=True)
        )
        return change, error

    def chunk(self, lead: int, index: Index) -> tuple[Floats, Floats]:
        """Return prediction and standard error of a chunk at lead 1..H.

        Both are float64 in the shape of the chunk and the units of init, NaN where nothing is
        predicted.

        Raises
        ------
        NotFound
            The shadow has no such lead.
        Conflict
            Newer shadows have superseded the lead since the shadow was opened.
        Integrity
            Stored bytes, of the shadow or of the capture below it, are not what was written.
        """
        if not 1 <= lead <= len(self.shadow.instants):
            raise NotFound(
                f"the shadow has no lead {lead}; its leads are 1 to {len(self.shadow.instants)}"
            )
        address = (lead - 1, *index)
        row = self.slab.index()[address]
        score = self.slab.index("score")[address]
        name = f"shadow of {self.variable.name} chunk {index} at lead {lead}"
        try:
            change, error = self._integers(lead, index)
        except Integrity as failure:
            self._refuse_superseded(lead)
            raise Integrity(
                f"{name}: {failure}; run 'gnomon update --refit' to make a new shadow"
            ) from failure
        if not np.array_equal(digest_of(self.variable.name, address, change, error), row[1:3]):
            self._refuse_superseded(lead)
            files = " or ".join(self._files(lead, index))
            raise Integrity(
                f"{name} ({files}): digest differs from what was written; "
                "run 'gnomon update --refit' to make a new shadow"
            )
        if not (np.isfinite(score[:2]).all() and (score[:2] > 0).all()):
            raise Integrity(
                f"{name}: found a quantum of {score[0]} and an error scale of {score[1]}, expected "
                "numbers above zero; run 'gnomon update --refit' to make a new shadow"
            )
        base = None
        if row[0] != NO_BASE:
            if int(row[0]) not in self.shadow.bases:
                raise Integrity(
                    f"{name} is counted from capture {row[0]}, expected one of those that its "
                    "record names; run 'gnomon update --refit' to make a new shadow"
                )
            base = self.captures.physical(int(row[0]), index)
        return dequantise(change, error, score, reference_of(base, change.shape))

    def _refuse_superseded(self, lead: int) -> None:
        """Raise :class:`Conflict` if a lead that cannot be read has been removed meanwhile."""
        path, (later, _) = shadow_of(self.shadow.id, self.variable), self._span(lead)
        if later and not self.location.list(f"{path}/change{later}/"):
            raise Conflict(
                f"the forecast of {self.variable.name} at lead {lead} is no longer there: newer "
                "ones have taken its place since it was opened; open it anew"
            )

    def _integers(self, lead: int, index: Index) -> tuple[Changes, Codes]:
        """Return changes and codes of a chunk at one lead, *not yet verified*."""
        cells = self.variable.stored_cells(index)
        if self._is_apart(index):
            change, error = (part.read(lead - 1, cells) for part in self._shards(lead, True))
            return change, error.view(np.uint8)
        name, span = self._span(lead)
        recent = self._recent.get((name, index))
        if recent is None:
            shape = (span.stop - span.start, *(c.stop - c.start for c in cells))
            shards = self._shards(lead, False)
            change, error = (part.read(0, cells).reshape(shape) for part in shards)
            codings = self.slab.index()[(span.start, *index)][_CODINGS]
            if codings[0] == _ALONG:
                some: tuple[Any, ...] = (span, *index, 0)
                change = from_along_leads(change, self.slab.index("score")[some])
            if codings[1] == _ALONG:
                error = np.cumsum(error, axis=0, dtype=error.dtype)
            # Copies: what was read may be part of a unit of many chunks.
            recent = self._recent[name, index] = change.copy(), error.astype(np.uint8)
            drop_oldest(self._recent, max(1, CACHE_BYTES // max(1, 5 * change.size)))
        position = lead - 1 - span.start
        return recent[0][position], recent[1][position]
