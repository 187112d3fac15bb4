"""The past of a first guess: what it would have missed at the captures before, at the same lead.

That of the forecast are its past departures, that of the last capture the changes, that of the
climatology the anomalies.  They are of the same kind as what is in-painted, so they tell which
cells are missed together, and by how much.  Pure arrays: nothing here reads, and nothing later than
the captures given is known.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gnomon.tasks.forecasting import CANDIDATES, Specification, blend, climatology, tracking
from gnomon.tasks.forecasting.hindcasts import Window, rolling
from gnomon.tasks.forecasting.learning import consecutive, positions
from gnomon.tasks.forecasting.specification import clip, usable
from gnomon.tasks.forecasting.state import empty

__all__ = ["PastCaptures", "changes", "past_anomalies", "past_departures"]

Floats = NDArray[np.float64]

MOST_DEPARTURES = 48
"""Past departures, the latest, at most: more add little to what they say of the present."""
MOST_FITS = 600_000
"""Cells times past departures, about, which is what takes the time: of many cells there are fewer
departures, but no fewer than `LEAST_DEPARTURES`."""
LEAST_DEPARTURES = 16
"""With fewer, the parts of the past that a hole is tried in hold two or three fields each."""
LEAST_LEARNT = 1 / 3
"""Share of the record before the first of them: models of fewer captures miss by more. With .15
the healed error of A1B after 40 captures was 1.19 of the simple system's, and 1.14 with 1/3."""
SAMPLE_CELLS = 1024
"""Cells that the modes are found on, as at a refit: more cost time at every origin and tile."""
PIECE_CELLS = 2**14
"""A larger chunk is hindcast in pieces, each as if it were a chunk: bounds the memory. With smaller
ones, fewer cells share what is pooled."""
TILE_BYTES = 2**27
"""Memory of the cells that are hindcast together, about. Each tile fits the sample again, so that
smaller ones take longer."""


@dataclass(frozen=True, slots=True)
class PastCaptures:
    """Captures of some chunks, oldest first."""

    slots: NDArray[np.int64]
    """(T,) cadence indices, increasing."""
    times_s: Floats
    """(T,) valid times, seconds."""
    values: Floats
    """(T, N) variable's units; NaN where missing or not trusted."""
    starts: NDArray[np.int64]
    """(G + 1,) first cell of each chunk, and N."""

    def cells(self, chunk: int) -> slice:
        """Return the cells of a chunk."""
        return slice(int(self.starts[chunk]), int(self.starts[chunk + 1]))

    def window(self, values: Floats, starts: NDArray[np.int64], lead: int) -> Window:
        """Return values (T, n) of some cells on consecutive slots."""
        return consecutive(self.slots, self.times_s, usable(values), starts, lead)


def past_departures(spec: Specification, record: PastCaptures, leads: NDArray[np.int64]) -> Floats:
    """Return captured minus predicted at past captures, shape (T, N); NaN where none was made.

    Parameters
    ----------
    spec
        Of the variable.
    record
        What was captured before the time that is healed.
    leads
        (G,) capture intervals, >= 1, between the newest capture that is known of a chunk and the
        time that is healed.

    Notes
    -----
    At each origin everything but the candidates' weights is fitted anew to the captures up to it,
    as the hindcasts of a refit are; the weights are those that a refit would find from them.
    Chunks go in tiles, so memory is bounded; every tile knows the same sample, and with it the
    same modes and weights.
    """
    departures = np.full(record.values.shape, np.nan)
    # Land costs as much as sea, and makes all of it look as if it had gaps, which costs more.
    cells = np.flatnonzero(np.isfinite(record.values).any(axis=0))
    if not len(cells):
        return departures
    places = np.linspace(0, len(cells) - 1, min(len(cells), SAMPLE_CELLS)).astype(np.intp)
    sample = cells[np.unique(places)]
    for lead in map(int, np.unique(leads)):
        # Which cells are missed together hardly depends on who predicts; the built-in are quick.
        quick = replace(spec.plain(), leads=lead, lags=0)
        _depart(quick, record, np.flatnonzero(leads == lead), sample, departures)
    return departures


def changes(record: PastCaptures, leads: NDArray[np.int64]) -> Floats:
    """Return the changes (T, N) over as many captures as the leads (G,), NaN at the first.

    They stand for the departures where it is not known how the variable is forecast.
    """
    result = np.full(record.values.shape, np.nan)
    for chunk, lead in enumerate(map(int, leads)):
        values = record.values[:, record.cells(chunk)]
        result[lead:, record.cells(chunk)] = values[lead:] - values[:-lead]
    return result


def past_anomalies(
    spec: Specification, record: PastCaptures, valid_s: float
) -> tuple[Floats, Floats]:
    """Return captured minus usual at past captures, and what is usual at the time that is healed.

    Parameters
    ----------
    spec, record
        As for :func:`past_departures`.
    valid_s
        The time that is healed, seconds.

    Returns
    -------
    tuple
        Shapes (T, N) and (N,), variable's units; NaN where nothing is known.

    Notes
    -----
    What is usual is the climatology of the captures before: fitted to all of them, past anomalies
    would look smaller, and more alike, than the one that is healed.
    """
    plain = replace(spec.plain(), lags=0)
    values = usable(record.values)
    anomalies = np.full(values.shape, np.nan)
    regressors = climatology.features(plain, np.append(record.times_s, valid_s))
    state = empty(plain, record.starts)
    captures = tracking.CaptureRun(
        np.arange(len(values)), record.times_s, values, np.ones((len(values), state.chunks), bool)
    )
    for row in range(len(values)):
        if row > LEAST_LEARNT * len(values):
            anomalies[row] = values[row] - regressors[row] @ state.coefficients
        tracking.advance(plain, state, captures.take(slice(row, row + 1)))
    return anomalies, np.asarray(regressors[-1] @ state.coefficients)


def _depart(
    spec: Specification,
    record: PastCaptures,
    chunks: NDArray[np.intp],
    sample: NDArray[np.intp],
    departures: Floats,
) -> None:
    """Write the departures of some chunks at the last lead of a specification, in place."""
    rows = positions(record.slots, spec.leads)
    most = MOST_FITS // max(1, record.values.shape[1])
    origins = _origins(rows, spec.leads, min(MOST_DEPARTURES, max(LEAST_DEPARTURES, most)))
    if not len(origins):
        return
    sample_values = record.values[:, sample]
    weights: Floats | None = None
    targets = np.searchsorted(rows, origins + spec.leads)
    per_cell = 8 * (2 * len(origins) * len(CANDIDATES) + 3 * int(rows[-1] + 1))
    for cells, starts in _tiles(record, chunks, max(1, TILE_BYTES // per_cell)):
        # The sample goes along with every tile, or modes would depend on where a tile ends.
        values = np.concatenate([record.values[:, cells], sample_values], axis=1)
        window = record.window(values, np.append(starts, values.shape[1]), spec.leads)
        sampled = len(cells) + np.arange(len(sample))
        hindcasts = rolling(spec, window, origins, sampled=sampled, passed=spec.leads - 1)
        if weights is None:
            # From all origins, as today's are: the past has to miss as today's forecast does.
            errors = hindcasts.errors[..., sampled]
            if spec.leads > 1:  # weights of one lead know of those before
                alone = record.window(sample_values, np.array([0, len(sample)]), spec.leads)
                errors = rolling(spec, alone, origins).errors
            weights = _weights(spec, errors, origins)
        predicted = np.einsum("c,ocn->on", weights, hindcasts.predictions[:, 0, :, : len(cells)])
        truth = window.values[origins + spec.leads, : len(cells)]
        departures[np.ix_(targets, cells)] = truth - clip(spec, predicted)


def _weights(spec: Specification, errors: Floats, origins: NDArray[np.int64]) -> Floats:
    """Return the candidates' weights (C,) at the last lead that a refit would find of a sample.

    Parameters
    ----------
    errors
        (O, H, C, n) of the sample's hindcasts.
    """
    products, verified = blend.moments(errors)
    now = int(origins[-1]) + spec.leads
    weight = blend.faded(origins, now, spec.leads) * verified
    return np.asarray(blend.weights(products, weight)[-1])


def _origins(rows: NDArray[np.int64], lead: int, most: int) -> NDArray[np.int64]:
    """Return the latest rows of a window with a capture `lead` rows later, to forecast from."""
    captured = np.zeros(int(rows[-1]) + 1, bool)
    captured[rows] = True
    # One capture alone says nothing of how a variable changes.
    origins = np.array([r for r in rows[1:] if r + lead < len(captured) and captured[r + lead]])
    late = origins[origins >= rows[int(LEAST_LEARNT * len(rows))]]
    return np.asarray((late if len(late) else origins)[-most:], np.int64)


def _tiles(
    record: PastCaptures, chunks: NDArray[np.intp], most: int
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.int64]]]:
    """Yield cells of chunks that ever had a value, at most so many, and where each chunk begins.

    More only for a single chunk, of which the pieces of a large one are each one.
    """
    tile: list[NDArray[np.intp]] = []
    for chunk in chunks:
        first = int(record.starts[chunk])
        cells = first + np.flatnonzero(
            np.isfinite(record.values[:, record.cells(chunk)]).any(axis=0)
        )
        pieces = np.array_split(cells, max(1, -(-len(cells) // PIECE_CELLS)))
        for piece in pieces if len(cells) else ():
            if tile and sum(map(len, tile)) + len(piece) > most:
                yield _join(tile)
                tile = []
            tile.append(piece)
    if tile:
        yield _join(tile)


def _join(parts: list[NDArray[np.intp]]) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    return np.concatenate(parts), np.cumsum([0, *map(len, parts)])
