"""Past departures: what the forecast would have missed at the captures before, at the same lead.

They are of the same kind as the departures that are healed, so they tell which cells are missed
together, and by how much.  Pure arrays: nothing here reads, and nothing later than the captures
given is known.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gnomon.tasks.forecasting import CANDIDATES, Specification, learn
from gnomon.tasks.forecasting.calibration import Sequence
from gnomon.tasks.forecasting.hindcasts import Hindcasts, rolling
from gnomon.tasks.forecasting.learning import positions
from gnomon.tasks.forecasting.specification import clip

__all__ = ["Record", "changes", "past_departures"]

Floats = NDArray[np.float64]

MOST_DEPARTURES = 48
"""Past departures, the latest, at most: more add little to what they say of the present."""
LEAST_LEARNT = 1 / 3
"""Share of the record before the first of them: models of fewer captures miss by more."""
SAMPLE_CELLS = 1024
"""Cells that the modes are found on, as at a refit."""
TILE_BYTES = 2**27
"""Memory of the cells that are hindcast together, about."""


@dataclass(frozen=True, slots=True)
class Record:
    """Captures of some chunks, oldest first."""

    slots: NDArray[np.int64]
    """(T,) cadence indices, increasing."""
    times_s: Floats
    """(T,) valid times, seconds."""
    values: Floats
    """(T, N) variable's units; NaN where missing or not trusted."""
    starts: NDArray[np.int64]
    """(G + 1,) first cell of each chunk, and N."""

    def take(self, chunks: slice) -> "Record":
        """Return the record of a run of its chunks."""
        starts = self.starts[chunks.start : chunks.stop + 1]
        values = self.values[:, int(starts[0]) : int(starts[-1])]
        return replace(self, values=values, starts=starts - starts[0])


def past_departures(
    spec: Specification,
    record: Record,
    lead: int,
    unseen: NDArray[np.int64] | None = None,
) -> Floats:
    """Return captured minus predicted at past captures, shape (D, N), oldest first; D may be 0.

    Parameters
    ----------
    spec
        Of the variable.
    record
        What was captured before the time that is healed.
    lead
        Capture intervals from the reference time, >= 1.
    unseen
        (G,) slots up to the reference time, it included, that nothing is known of a chunk at: it is
        hidden there from the forecasts of the past as well. None: all are known.

    Notes
    -----
    At each origin everything but the candidates' weights is fitted anew to the captures up to it,
    as the hindcasts of a refit are; the weights are those that a refit would find from them.
    Chunks go in tiles, so memory is bounded; every tile knows the same sample, and with it the
    same modes and weights.
    """
    ahead = replace(spec, leads=lead)
    rows = positions(record.slots, lead)
    origins = _origins(rows, lead)
    departures = np.full((len(origins), record.values.shape[1]), np.nan)
    cells = record.values.shape[1]
    sample = np.unique(np.linspace(0, cells - 1, min(cells, SAMPLE_CELLS)).astype(np.intp))
    per_cell = 8 * (2 * len(origins) * lead * len(CANDIDATES) + 3 * len(record.values))
    for chunks in _tiles(record.starts, max(1, TILE_BYTES // per_cell)):
        tile = record.take(chunks)
        count = tile.values.shape[1]
        starts = np.append(tile.starts, count + len(sample))
        values = np.concatenate([tile.values, record.values[:, sample]], axis=1)
        every = np.ones((len(values), len(starts) - 1), bool)
        captured = learn(
            ahead, record.slots, record.times_s, values, starts, trusted=every, gated=~every
        ).captured
        hindcasts = rolling(
            ahead,
            captured,
            origins,
            sampled=count + np.arange(len(sample)),
            unseen=None if unseen is None else np.append(unseen[chunks], 0),
        )
        weights = _weights(ahead, hindcasts, count)
        predicted = np.einsum("c,ocn->on", weights, hindcasts.predictions[:, -1, :, :count])
        truth = captured.values[origins + lead, :count]
        first = int(record.starts[chunks.start])
        departures[:, first : first + count] = truth - clip(ahead, predicted)
    return departures[np.isfinite(departures).any(axis=1)]


def _weights(spec: Specification, hindcasts: Hindcasts, first: int) -> Floats:
    """Return the candidates' weights (C,) at the last lead, from the cells from `first` on."""
    sampled = replace(
        hindcasts,
        predictions=hindcasts.predictions[..., first:],
        errors=hindcasts.errors[..., first:],
        spread=hindcasts.spread[..., first:],
    )
    starts = np.array([0, sampled.spread.shape[-1]])
    last = int(hindcasts.origins[-1]) + spec.leads
    calibration = Sequence(spec, sampled, starts).at(last, len(hindcasts.origins))
    return np.asarray(calibration.weights[-1])


def changes(record: Record, lead: int, unseen: NDArray[np.int64] | None = None) -> Floats:
    """Return the changes from one capture to the next but `lead`, shape (D, N).

    They stand for the departures where no forecaster can be read. Of a chunk that is `unseen` (G,)
    for so many slots before, the change is from the last capture before those.
    """
    hidden = np.zeros(len(record.starts) - 1, np.int64) if unseen is None else unseen
    first = lead + int(hidden.max(initial=0))
    parts = [
        record.values[first:, a:b] - record.values[first - lead - k : -(lead + k), a:b]
        for a, b, k in zip(record.starts[:-1], record.starts[1:], hidden, strict=True)
    ]
    return np.concatenate(parts, axis=1)[-MOST_DEPARTURES:]


def _origins(rows: NDArray[np.intp], lead: int) -> NDArray[np.int64]:
    """Return the rows of a window to forecast from: those with a capture `lead` rows later."""
    captured = np.zeros(int(rows[-1]) + 1, bool)
    captured[rows] = True
    origins = np.array([r for r in rows[1:] if r + lead < len(captured) and captured[r + lead]])
    least = rows[int(LEAST_LEARNT * len(rows))]
    late = origins[origins >= least]
    return np.asarray(late[-MOST_DEPARTURES:], np.int64)


def _tiles(starts: NDArray[np.int64], most: int) -> Iterator[slice]:
    """Yield runs of chunks of at most so many cells; more only for a single chunk."""
    first = 0
    while first < len(starts) - 1:
        last = int(np.searchsorted(starts, starts[first] + most, side="right")) - 1
        stop = max(first + 1, last)
        yield slice(first, stop)
        first = stop
