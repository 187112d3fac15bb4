"""The compiled sweep: captures, one after another, into the state of the chunks that they are of.

Each chunk is judged as a whole before any of its cells learns.  The loops run along rows of a tile
of cells that stays in the processor's cache, without branches, so that a compiler makes vector
instructions of them; there are no threads, no fast-math and no sums across chunks, so that the bits
are those of the uncompiled code.  What is unknown is NaN, and the only number not equal to itself.

All of it stands in one file: Numba's cache is renewed when the file of the called function changes,
and not when another one does.
"""

# ruff: noqa: PLR0912, PLR0915, PLR0124 - compiled loops; a NaN is not equal to itself

from __future__ import annotations

from math import exp, log, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.arrays.kernels import compiled
from gnomon.tasks.forecasting.kernels import Floats, Ints

TILE = 512
"""Cells that are worked on at a time: twenty rows of them are 80 KiB, and stay in the cache."""
PRESENCE = 0.7
"""Factor on a cell's presence with each learnt capture that it is missing from: after four in a row
it is below `engine.LEAST_PRESENCE`, and the cell is gone."""
SURPRISE_MEMORY = 200.0
"""Effective number of captures that the departures test remembers: with more, its limit is
steadier; with fewer, it follows a noise that has changed sooner."""
SURPRISE_SCALE = 0.4
"""Prior standard deviation of the log standardised rms departure. While few were scored, a larger
one lets more damage pass, and a smaller one doubts more that is right."""
LEAST_SURPRISES = 6
"""Scored departures below which the departures test gives no p-value: it would be that of the
prior."""
LEAST_CAPTURES = 3
"""Captures that must have been learnt before anything is expected: fewer do not tell how large
changes are."""
LEAST_SIZE = 1e-3
"""Standardised rms below which nothing happened: that says nothing of how large departures are."""
UNUSUAL = 3.0
"""Departures farther than this from the usual size, in its scale, are remembered as this far: a few
stuck captures or spikes would make all later damage believable."""
VARIANCE_MEMORY = 100.0
"""Effective number of innovations that a cell's variance remembers, at most: with more, error bars
are steadier; with fewer, they follow a noise that has changed sooner."""
POOLED_CAPTURES = 4.0
"""Captures' worth of weight of the chunk's pooled innovation variance in a cell's own: with less, a
cell that happened to be quiet a few times gets too small a bar; with more, cells differ less."""
RESOLUTION = float(np.finfo(np.float32).eps)
"""Least standard error relative to the size of the values: that of their rounding, in single
precision."""
SMALLEST = float(np.finfo(np.float32).tiny)
"""Least standard error: what is zero everywhere has one to divide by."""
SHRINKAGE = 20.0
"""Captures' worth of weight of the chunk's pooled damping in a cell's own: an autocorrelation of
few captures is mostly chance. With more weight, cells of one chunk can differ less."""
LARGEST_DAMPING = 0.98
"""Greatest damping per slot of a cell's anomalies, half in 34 slots; the least is 0. At 1 they
would last for ever, which persistence and the local level predict already."""
LATE = 0.25
"""Share of the chunk's captures below which a cell came late, and its mean follows it faster: the
chunk's gains are too small by then for a mean that starts anew. With a larger share, cells with
gaps would follow their noise."""
CAUTION = 100.0
"""Captures' worth of doubt that the season is noise: those in a row are not independent. With less,
healing from neighbours was worse by two thirds in one month of the demo."""
LARGEST_SWING = 1.5
"""Greatest absolute logarithm of the season of the standard error, a factor of 4.5: a larger season
of a short record would leave intervals of next to nothing in a quiet time."""
RATES = (0.02, 0.98)
"""Least and greatest weight of one capture in the local level: at 0 it would never move, and 1 is
persistence. It is that of the chunk: rates of each cell gained nothing on sixteen records, or lost
as much."""
FIRST_RATE = 0.2
"""The same while the changes are not known yet: the level is that of the last five captures or so,
between persistence and a mean."""
RATE_CAPTURES = 10.0
"""Captures' worth of weight of that first rate: an autocorrelation of fewer changes is mostly
chance."""
TINY = 1e-300
"""Sums of squares up to this are none: nothing is divided by them."""
LEARNT, DOUBTED = 1, 2
"""What became of a capture; 0: it was passed over."""


class Captures(NamedTuple):
    """A window of captures, on slots that follow each other."""

    rows: Ints
    """(R,) capture of each slot; -1 where there is none."""
    values: Floats
    """(T, N) NaN where missing."""
    regressors: Floats
    """(P + R, K) of the P slots before and of each slot; 0 where the time is not known."""
    trusted: NDArray[np.bool_]
    """(T, G) False: judged, but not learnt."""
    gated: NDArray[np.bool_]
    """(T, G) Whether too large a departure is not learnt."""
    limits: Floats
    """Departure in units of its predictive scale that is too large, by the number scored before."""


class Tracked(NamedTuple):
    """What a sweep changes of a `State`, under the same names."""

    coefficients: Floats
    recent: Floats
    products: Floats
    level: Floats
    variance: Floats
    count: Floats  # type: ignore[assignment]  # hides tuple.count, which is not needed
    present: Floats
    information: Floats
    pooled: Floats
    surprises: Floats
    swing: Floats


class Memory(NamedTuple):
    """How fast a sweep forgets."""

    captures: float
    """Effective number of captures that the climatology remembers."""
    prior: Floats
    """(K, K) information before the first capture."""


@compiled
def sweep(  # noqa: PLR0913, PLR0917 - compiled code takes arrays
    starts: Ints,
    captures: Captures,
    state: Tracked,
    memory: Memory,
    patience: int,
    learnt: Floats,
    doubts: Ints,
    stops: Ints,
    scores: Floats,
    outcome: Ints,
) -> None:
    """Take captures into chunks, in place.

    A chunk of which `patience` captures in a row were doubted (0: any number) stops after the last
    of them.  Written: ``learnt`` (G,) captures that each chunk has learnt; ``doubts`` (G,) captures
    that it doubted since then; ``stops`` (G,) slots that it passed; ``scores`` (2, T, G), how far
    the log size of a departure is from what is usual, in units of its predictive scale, NaN without
    history, and the degrees of freedom; ``outcome`` (T, G), `LEARNT`, `DOUBTED`, or 0.
    """
    past = state.recent.shape[0]
    widest = 0
    for chunk in range(len(starts) - 1):
        widest = max(widest, starts[chunk + 1] - starts[chunk])
    # Arrays of their own: a compiler does not see that rows of one do not overlap.
    work = np.empty(widest), np.empty(widest), np.empty(widest)
    scratch = np.empty(TILE), np.empty(TILE), np.empty(TILE), np.empty(TILE), np.empty(TILE)
    # By place within a tile: no addition waits for the one before, so that they become vectors.
    sums = np.empty((6, TILE))
    for chunk in range(len(starts) - 1):
        first, last = starts[chunk], starts[chunk + 1]
        head = 0
        variance, count = _totals(state, first, last, sums)
        stops[chunk] = len(captures.rows)
        for slot in range(len(captures.rows)):
            # A ring while captures go in: to move all rows at each slot would cost a pass for each.
            head = (head - 1) % past
            for cell in range(first, last):
                # NaN until learnt: what is doubted must not become the value that persists.
                state.recent[head, cell] = np.nan
            t = captures.rows[slot]
            if t < 0:
                continue
            now = past + slot
            row = captures.regressors[now]
            # Judged by what earlier captures taught, then learnt: none widens the limit for itself.
            swing = season(state.swing, state.surprises, row, chunk)
            mean = variance / count if count > 0.0 else 0.0
            valued, number, standard, damped, level = _depart(
                captures,
                state,
                (t, now, head, chunk, first, last),
                (mean, swing),
                work,
                scratch,
                sums,
            )
            size = np.nan
            if number > 0.0 and learnt[chunk] >= LEAST_CAPTURES:
                rms = sqrt(standard / number)
                # `_score` takes the log sizes as normal: the sizes themselves are skewed.
                size = log(rms) if rms > LEAST_SIZE else np.nan
            score, freedom, location, usual = _score(state.surprises, size, chunk)
            scores[0, t, chunk] = score
            scores[1, t, chunk] = freedom
            doubted = False
            if captures.gated[t, chunk]:
                scored = _scored(state.surprises[0, chunk])
                # A NaN, too little history, compares false: what cannot be judged is not doubted.
                doubted = score > captures.limits[min(scored, len(captures.limits) - 1)]
            if captures.trusted[t, chunk] and valued > 0.0 and not doubted:
                outcome[t, chunk] = LEARNT
                doubts[chunk] = 0
                if np.isfinite(size):
                    far = UNUSUAL * usual
                    size = min(max(size, location - far), location + far)
                    _remember(state.surprises, size, chunk)
                gains, fade = _inform(state, memory, row, learnt[chunk], chunk)
                if np.isfinite(size):
                    # The shrunk season, a variance, is put back: the regression is of the size
                    # itself, and must not have its own estimate taken off.
                    left = size + 0.5 * log(swing)
                    for k in range(len(row)):
                        left -= row[k] * state.swing[k, chunk]
                    for k in range(len(row)):
                        state.swing[k, chunk] += gains[k] * left
                variance, count = _absorb(
                    captures,
                    state,
                    (t, now, head, chunk, first, last),
                    gains,
                    (
                        fade,
                        # With 1 all that is older would be forgotten, and 0 would be divided by.
                        1.0 - 1.0 / min(max(learnt[chunk], 2.0), VARIANCE_MEMORY),
                        _level_rate(state.pooled, learnt[chunk], chunk),
                        LATE * min(learnt[chunk], VARIANCE_MEMORY),
                    ),
                    work,
                    scratch,
                    sums,
                )
                state.pooled[4, chunk] = fade * state.pooled[4, chunk] + damped
                state.pooled[5, chunk] = fade * state.pooled[5, chunk] + level
                learnt[chunk] += 1.0
            elif captures.trusted[t, chunk] and doubted:
                outcome[t, chunk] = DOUBTED
                doubts[chunk] += 1
                if 0 < patience <= doubts[chunk]:
                    stops[chunk] = slot + 1
                    break
        _turn(state.recent, head, first, last)


@compiled
def season(swing: Floats, surprises: Floats, row: Floats, chunk: int) -> float:
    """Variance of a chunk's innovations at a time with regressors (K,), over their mean.

    ``swing`` (K, G) are the coefficients of their log standardised size; they are shrunk by
    ``1 - e / s``, with s the mean square of the season and e that of noise (James and Stein 1961).
    """
    terms = len(row)
    number = max(surprises[0, chunk], 1.0)
    mean = surprises[1, chunk] / number
    # White noise gives each coefficient the variance 2 var / N; half, as below, is var / N.
    noise = max(surprises[2, chunk] / number - mean * mean, 0.0) * (terms - 1) / number
    noise *= 1.0 + CAUTION / number
    size = 0.0
    logarithm = 0.0
    for k in range(1, terms):
        # The mean square of a cosine is a half.
        size += 0.5 * swing[k, chunk] * swing[k, chunk]
        logarithm += row[k] * swing[k, chunk]
    if size <= noise:
        return 1.0
    logarithm *= 1.0 - noise / size
    # The logarithm is that of a standard deviation; what is returned is a variance.
    return exp(2.0 * min(max(logarithm, -LARGEST_SWING), LARGEST_SWING))


@compiled
def seasons(swing: Floats, surprises: Floats, regressors: Floats, result: Floats) -> None:
    """Write `season` (T, G) of chunks at times with regressors (T, K)."""
    for t in range(len(regressors)):
        for chunk in range(swing.shape[1]):
            result[t, chunk] = season(swing, surprises, regressors[t], chunk)


@compiled
def _totals(state: Tracked, first: int, last: int, sums: Floats) -> tuple[float, float]:
    """Sums of the variances and counts of a chunk's cells."""
    sums[:2] = 0.0
    for tile in range(first, last, TILE):
        stop = min(tile + TILE, last)
        _add(sums[0], state.variance[tile:stop])
        _add(sums[1], state.count[tile:stop])
    width = min(TILE, last - first)
    return _sum(sums[0], width), _sum(sums[1], width)


@compiled
def _add(total: Floats, values: Floats) -> None:
    for i in range(len(values)):
        total[i] += values[i]


@compiled
def _add_where(total: Floats, values: Floats, where: Floats) -> None:
    for i in range(len(where)):
        total[i] += values[i] if where[i] == where[i] else 0.0


@compiled
def _sum(row: Floats, width: int) -> float:
    """Sum in the order of the cells, which that of NumPy is not."""
    total = 0.0
    for i in range(width):
        total += row[i]
    return total


@compiled
def _score(surprises: Floats, size: float, chunk: int) -> tuple[float, float, float, float]:
    """Departure of a log size in units of its Student t scale, freedom, location and scale.

    As `uncertainty.predictive`; the departure is NaN where too few were scored.
    """
    count = surprises[0, chunk]
    freedom = count + 4.0
    weight = count + 1.0
    location = surprises[1, chunk] / weight
    # Equal sizes may leave a little less than nothing, by rounding.
    scatter = max(surprises[2, chunk] - weight * location * location, 0.0)
    variance = (4.0 * SURPRISE_SCALE * SURPRISE_SCALE + scatter) / freedom
    scale = sqrt(variance * (1.0 + 1.0 / weight))
    # The count fades: of six captures it is a little less than six.
    few = count < LEAST_SURPRISES * (1.0 - LEAST_SURPRISES / SURPRISE_MEMORY)
    return np.nan if few else (size - location) / scale, freedom, location, scale


@compiled
def _scored(count: float) -> int:
    """Number of departures of which so much is remembered."""
    # The count is a geometric sum. Inverted, as the limits are tabulated by whole numbers.
    left = max(1.0 - count / SURPRISE_MEMORY, 1e-12)
    return int(log(left) / log(1.0 - 1.0 / SURPRISE_MEMORY) + 0.5)


@compiled
def _remember(surprises: Floats, size: float, chunk: int) -> None:
    fade = 1.0 - 1.0 / SURPRISE_MEMORY
    surprises[0, chunk] = surprises[0, chunk] * fade + 1.0
    surprises[1, chunk] = surprises[1, chunk] * fade + size
    surprises[2, chunk] = surprises[2, chunk] * fade + size * size


@compiled
def _inform(
    state: Tracked, memory: Memory, row: Floats, learnt: float, chunk: int
) -> tuple[Floats, float]:
    """Gains (K,) of recursive least squares (Plackett 1950), and the factor on what is older.

    The factor is ``1 - 1 / 8n`` at first, so that the prior and the first captures are forgotten,
    and then that of the memory.
    """
    terms = len(row)
    fade = 1.0 - 1.0 / min(max(8.0 * (learnt + 1.0), 8.0), memory.captures)
    matrix = np.empty((terms, terms))
    trace = 0.0
    for i in range(terms):
        for j in range(terms):
            before = fade * state.information[i, j, chunk]
            if learnt == 0.0:
                before = memory.prior[i, j]
            matrix[i, j] = before + row[i] * row[j]
            state.information[i, j, chunk] = matrix[i, j]
        trace += matrix[i, i]
    gains = row.copy()
    for i in range(terms):
        # On the copy: in what is kept it would add up. The harmonics of a part of a cycle are
        # nearly dependent, and the root of a pivot below zero would be NaN for good.
        matrix[i, i] += 1e-9 * trace
    # Cholesky, in place, and its two substitutions.
    for i in range(terms):
        for j in range(i + 1):
            total = matrix[i, j]
            for k in range(j):
                total -= matrix[i, k] * matrix[j, k]
            matrix[i, j] = sqrt(total) if i == j else total / matrix[j, j]
        for k in range(i):
            gains[i] -= matrix[i, k] * gains[k]
        gains[i] /= matrix[i, i]
    for i in range(terms - 1, -1, -1):
        for k in range(i + 1, terms):
            gains[i] -= matrix[k, i] * gains[k]
        gains[i] /= matrix[i, i]
    return gains, fade


@compiled
def _level_rate(pooled: Floats, learnt: float, chunk: int) -> float:
    """Weight of one capture in the local level: that of the best ARIMA(0, 1, 1).

    The first autocorrelation r of the changes gives the moving-average term by
    ``r = theta / (1 + theta^2)``; the rate is ``1 + theta`` (Box and Jenkins 1976, section 5.3).
    """
    if pooled[2, chunk] <= 0.0:
        return FIRST_RATE
    # No ARIMA(0, 1, 1) has an r beyond -1/2, and with one above 0 the rate would exceed 1.
    r = min(max(pooled[3, chunk] / pooled[2, chunk], -0.4999), 0.0)
    # Near 0 the quotient below is 0 / 0; theta is r there, to first order.
    theta = r
    if r < -1e-6:
        theta = (1.0 - sqrt(1.0 - 4.0 * r * r)) / (2.0 * r)
    trust = learnt / (learnt + RATE_CAPTURES)
    rate = min(max(1.0 + theta, RATES[0]), RATES[1])
    return float(trust * rate + (1.0 - trust) * FIRST_RATE)


@compiled
def _fitted(coefficients: Floats, row: Floats, tile: int, result: Floats) -> None:
    """Climatology of a tile's cells at a time with regressors (K,)."""
    for k in range(len(row)):
        term = coefficients[k, tile : tile + len(result)]
        factor = row[k]
        if k == 0:
            for i in range(len(result)):
                result[i] = factor * term[i]
        else:
            for i in range(len(result)):
                result[i] += factor * term[i]


@compiled
def _depart(
    captures: Captures,
    state: Tracked,
    place: tuple[int, int, int, int, int, int],
    scale: tuple[float, float],
    work: tuple[Floats, Floats, Floats],
    scratch: tuple[Floats, Floats, Floats, Floats, Floats],
    sums: Floats,
) -> tuple[float, float, float, float, float]:
    """Departures of a chunk's capture from what is expected, and their sums.

    Expected is the damped anomaly, or the local level where that has predicted better.  ``scale``
    is the chunk's mean variance of innovations, and its season.  Written to ``work`` (3, n): the
    climatology, the departure, NaN where there is none, and the growth of its variance over that
    of one slot.  Returned: number of values; number of departures, squares over their expected
    variance, and squares of the departures from the damped anomaly and from the local level.
    """
    t, now, head, chunk, first, last = place
    mean, swing = scale
    past = state.recent.shape[0]
    pooled = (
        state.pooled[1, chunk] / state.pooled[0, chunk] if state.pooled[0, chunk] > 0.0 else 0.0
    )
    # Sums, not means: both are over the same departures, faded alike.
    levelled = state.pooled[5, chunk] < state.pooled[4, chunk]
    sums[:5] = 0.0
    for tile in range(first, last, TILE):
        stop = min(tile + TILE, last)
        width, at = stop - tile, tile - first
        fitted, departure, growth = work[0][at:], work[1][at:], work[2][at:]
        base, power, damping, anomaly, searched = scratch
        values, centre = captures.values[t, tile:stop], state.coefficients[0, tile:stop]
        size, product = state.products[0, tile:stop], state.products[1, tile:stop]
        variance, count = state.variance[tile:stop], state.count[tile:stop]
        level = state.level[tile:stop]
        _fitted(state.coefficients, captures.regressors[now], tile, fitted[:width])
        for i in range(width):
            weight = count[i] / (count[i] + SHRINKAGE)
            # Choices of a value instead of branches: the loop stays one of vectors.
            ratio = product[i] / (size[i] if size[i] > TINY else 1.0)
            mixed = weight * ratio + (1.0 - weight) * pooled
            mixed = mixed if size[i] > TINY else pooled
            mixed = mixed if mixed > 0.0 else 0.0
            damping[i] = mixed if mixed < LARGEST_DAMPING else LARGEST_DAMPING
        left = 0
        for i in range(width):
            # Where nothing is expected nothing is looked for.
            searched[i] = 1.0 if fitted[i] == fitted[i] else 0.0
            left += 1 if fitted[i] == fitted[i] else 0
        power[:width] = damping[:width]
        growth[:width] = swing
        anomaly[:width] = 0.0
        for lag in range(1, past):
            if left == 0:
                break
            recent = state.recent[(head + lag) % past, tile:stop]
            _fitted(state.coefficients, captures.regressors[now - lag], tile, base[:width])
            left = 0
            for i in range(width):
                base[i] = recent[i] - base[i]
                left += 1 if searched[i] > 0.0 and base[i] != base[i] else 0
            # Nearly always: every cell has the value before, and the passes below are saved.
            if lag == 1 and left == 0:
                anomaly[:width] = base[:width]
                break
            for i in range(width):
                open_ = searched[i] > 0.0
                passed = open_ and base[i] != base[i]
                anomaly[i] = base[i] if open_ and not passed else anomaly[i]
                # Each slot without a value adds an innovation of mean size, damped since.
                growth[i] += power[i] * power[i] if passed else 0.0
                power[i] *= damping[i] if passed else 1.0
                searched[i] = 1.0 if passed else 0.0
        for i in range(width):
            base[i] = values[i] - fitted[i]
        for i in range(width):
            anomaly[i] = base[i] - power[i] * anomaly[i]
        for i in range(width):
            # To y - s - level: the mean is in `fitted` and in the level, and must count once.
            base[i] -= level[i] - centre[i]
        # Chosen by earlier captures: the nearer one, after the fact, would be too near.
        departure[:width] = base[:width] if levelled else anomaly[:width]
        for i in range(width):
            anomaly[i] *= anomaly[i]
            base[i] *= base[i]
        power[:width] = 1.0
        _add_where(sums[0], power, values)
        _add_where(sums[1], power, departure[:width])
        _add_where(sums[2], anomaly, departure[:width])
        _add_where(sums[3], base, departure[:width])
        for i in range(width):
            # That of `uncertainty.innovation_scale`: test and error bar share one scale.
            pool = variance[i] + POOLED_CAPTURES * mean
            error = sqrt(pool / (count[i] + POOLED_CAPTURES))
            error += RESOLUTION * abs(centre[i]) + SMALLEST
            square = departure[i] * departure[i] / (error * error * growth[i])
            sums[4, i] += square if square == square else 0.0
    width = min(TILE, last - first)
    return (
        _sum(sums[0], width),
        _sum(sums[1], width),
        _sum(sums[4], width),
        _sum(sums[2], width),
        _sum(sums[3], width),
    )


@compiled
def _absorb(
    captures: Captures,
    state: Tracked,
    place: tuple[int, int, int, int, int, int],
    gains: Floats,
    rates: tuple[float, float, float, float],
    work: tuple[Floats, Floats, Floats],
    scratch: tuple[Floats, Floats, Floats, Floats, Floats],
    sums: Floats,
) -> tuple[float, float]:
    """Take a capture into the cells of a chunk, and its sums of products; return `_totals`.

    ``rates`` are the factors on older products and on the older variance, the rate of the local
    level, and the number of innovations below which a cell came late.
    """
    t, now, head, chunk, first, last = place
    fade, forget, rate, late = rates
    past, terms = state.recent.shape[0], len(gains)
    row = captures.regressors[now]
    coefficients = state.coefficients
    sums[:] = 0.0
    for tile in range(first, last, TILE):
        stop = min(tile + TILE, last)
        width, at = stop - tile, tile - first
        fitted, departure, growth = work[0][at:], work[1][at:], work[2][at:]
        rest, seasonal, anomaly, before, older = scratch
        values, centre = captures.values[t, tile:stop], coefficients[0, tile:stop]
        variance, count = state.variance[tile:stop], state.count[tile:stop]
        size, product = state.products[0, tile:stop], state.products[1, tile:stop]
        level, present = state.level[tile:stop], state.present[tile:stop]
        latest = state.recent[head, tile:stop]
        previous = state.recent[(head + 1) % past, tile:stop]
        earlier = state.recent[(head + 2) % past, tile:stop]
        for i in range(width):
            present[i] = 1.0 if values[i] == values[i] else PRESENCE * present[i]
        latest[:] = values
        for i in range(width):
            # What a cell has not, or never had before, moves nothing.
            residual = values[i] - fitted[i]
            rest[i] = residual if residual == residual else 0.0
        # Gains meet the residual from before the update (Plackett 1950): `rest` is not taken anew
        # as coefficients move, so their order does not matter.
        seasonal[:width] = 0.0
        for k in range(1, terms):
            gain, factor, term = gains[k], row[k], coefficients[k, tile:stop]
            for i in range(width):
                term[i] += gain * rest[i]
                seasonal[i] += factor * term[i]
        for i in range(width):
            # A cell that came late knows less than its chunk: its mean follows faster.
            faster = 1.0 / (count[i] + 2.0)
            faster = faster if count[i] < late and faster > gains[0] else gains[0]
            centre[i] += faster * rest[i]
        for i in range(width):
            # By the updated season, which is the one that they are compared with from now on.
            deseasoned = values[i] - seasonal[i]
            anomaly[i] = deseasoned - centre[i]
            moved = level[i] + rate * (deseasoned - level[i])
            level[i] = moved if moved == moved else level[i]
        for i in range(width):
            # From before the update: what is left after it is less than a forecast misses by.
            square = departure[i] * departure[i] / growth[i]
            total, number = forget * variance[i] + square, forget * count[i] + 1.0
            variance[i] = total if square == square else variance[i]
            count[i] = number if square == square else count[i]
        _add(sums[0], variance)
        _add(sums[1], count)
        # Taken anew: from the coefficients of then, each update would look like a change.
        _fitted(coefficients, captures.regressors[now - 1], tile, before[:width])
        _fitted(coefficients, captures.regressors[now - 2], tile, older[:width])
        for i in range(width):
            before[i] = previous[i] - before[i]
        for i in range(width):
            older[i] = before[i] - (earlier[i] - older[i])
        for i in range(width):
            pair = anomaly[i] * before[i]
            # The squares of the pair itself (Burg 1975): gaps cannot take the ratio out of [-1, 1].
            both = 0.5 * (anomaly[i] * anomaly[i] + before[i] * before[i])
            energy, cross = fade * size[i] + both, fade * product[i] + pair
            # Nothing fades without a pair: a cell that is seldom seen keeps what it learnt.
            size[i] = energy if pair == pair else size[i]
            product[i] = cross if pair == pair else product[i]
        # Cells that are gone have no say in the damping of those that are there.
        _add_where(sums[2], size, anomaly[:width])
        _add_where(sums[3], product, anomaly[:width])
        for i in range(width):
            change = anomaly[i] - before[i]
            # Lags 0 and 1 are summed where all three values are known: over the same changes.
            older[i] *= change
            rest[i] = change * change
        _add_where(sums[4], rest, older[:width])
        _add_where(sums[5], older, older[:width])
        # A cell that was never seen begins with its value.
        begun = 0
        for i in range(width):
            begins = values[i] == values[i] and fitted[i] != fitted[i]
            centre[i] = values[i] if begins else centre[i]
            level[i] = values[i] if begins else level[i]
            begun += 1 if begins else 0
        # Without this NaN would stay. New cells are seldom, and most captures need no pass.
        for k in range(1, terms if begun else 1):
            term = coefficients[k, tile:stop]
            for i in range(width):
                begins = values[i] == values[i] and fitted[i] != fitted[i]
                term[i] = 0.0 if begins else term[i]
    width = min(TILE, last - first)
    state.pooled[0, chunk] = _sum(sums[2], width)
    state.pooled[1, chunk] = _sum(sums[3], width)
    state.pooled[2, chunk] = fade * state.pooled[2, chunk] + _sum(sums[4], width)
    state.pooled[3, chunk] = fade * state.pooled[3, chunk] + _sum(sums[5], width)
    return _sum(sums[0], width), _sum(sums[1], width)


@compiled
def _turn(recent: Floats, head: int, first: int, last: int) -> None:
    """Put the newest of a chunk's recent values first."""
    past = recent.shape[0]
    if head:
        turned = np.empty((past, last - first))
        for lag in range(past):
            turned[lag] = recent[(head + lag) % past, first:last]
        recent[:, first:last] = turned
