"""Standardised fields of members: about zero, of unit variance in each cell, chunk by chunk.

What a chunk holds depends on its place alone, and not on what was computed before it.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

from gnomon.tasks.forecasting.uncertainty import NOMINAL, NOMINAL_Z
from gnomon.tasks.simulating.departing import PastFields
from gnomon.tasks.simulating.draws import generator

__all__ = ["Waves", "resemble", "roughen", "stretch"]

Floats = NDArray[np.float64]

WAVES = 256
"""Waves that a member's stationary field is made of: with few, it would look like waves."""
STRETCH = 2.146
"""Of the argument of Matern 3/2 in `healing.covariance.correlate`: 1/e at a distance of 1."""


def resemble(seed: int, member: int, lead: int, past: PastFields) -> Floats:
    """Return a random combination of past departures at a lead, (N,); NaN where none is known.

    Notes
    -----
    With independent normal weights of the origins its covariance over members is the sample
    covariance, between leads and variables as in space, scaled to unit variance in each cell. The
    weight of an origin belongs to its slot, and so is the same in all variables and chunks.
    """
    fields = np.nan_to_num(past.values[:, lead - 1])
    total = np.zeros(fields.shape[1])
    power = np.zeros(fields.shape[1])
    # One after another: the order of additions must not depend on the number of cells.
    for slot, field in zip(past.slots, fields.astype(np.float64), strict=True):
        weight = generator(seed, "origins", member, int(slot)).standard_normal()
        total += weight * field
        power += field**2
    return np.where(power > 0.0, total / np.sqrt(np.where(power > 0.0, power, 1.0)), np.nan)


@dataclass(frozen=True, slots=True, eq=False)
class Waves:
    """The stationary part of all variables on one grid: J rows, of each variable its leads."""

    shape: tuple[int, ...]
    """Cells of each axis."""
    cyclic: tuple[bool, ...]
    """Whether it wraps around."""
    lengths: Floats
    """(parts, dims) correlation lengths in cells, each of a Matern 3/2."""
    weights: Floats
    """(J, parts) shares of the parts, sum 1."""
    mixing: Floats
    """(J, J) square root of the correlations between rows."""

    def field(self, seed: int, member: int, row: int, cells: tuple[slice, ...]) -> Floats:
        """Return the field of one row, in the shape of the cells.

        Notes
        -----
        A sum of plane waves with random frequencies and normal amplitudes (Shinozuka and Deodatis
        1991; Rahimi and Recht 2007). The spectrum of a Matern covariance is a multivariate t
        density. Frequencies are drawn from the mean spectrum of all rows, and weighted by the one
        of each row: rows of other lengths have the same waves, and so go together in every place.
        Along an axis that wraps around, frequencies are whole numbers of cycles.
        """
        frequencies, amplitudes = _waves(self, seed, member)
        shape = tuple(s.stop - s.start for s in cells)
        if not shape:
            return np.asarray(amplitudes[row, 0].sum())
        *first, last = (
            np.exp(1j * np.multiply.outer(frequencies[:, axis], np.arange(s.start, s.stop)))
            for axis, s in enumerate(cells)
        )
        above = (amplitudes[row, 0] - 1j * amplitudes[row, 1])[:, None]
        for phase in first:
            above = (above[:, :, None] * phase[:, None, :]).reshape(WAVES, -1)
        # Not by matrix products, whose order of additions depends on threads and machine.
        field = np.einsum("wr,wc->rc", above.real, last.real)
        field -= np.einsum("wr,wc->rc", above.imag, last.imag)
        return np.asarray(field.reshape(shape))


@lru_cache(maxsize=64)
def _waves(waves: Waves, seed: int, member: int) -> tuple[Floats, Floats]:
    """Return radians per cell (waves, dims), and amplitudes of cosines and sines (J, 2, waves)."""
    rows, dims = len(waves.weights), len(waves.shape)
    draws = generator(seed, "waves", member)
    # `correlate` is 1/e at a distance of 1: its argument is stretched.
    scale, weights = waves.lengths * (np.sqrt(3.0) / STRETCH), waves.weights
    usual = np.cumsum(weights.mean(axis=0))
    # In strata, so that each part has its share of the waves.
    place = (np.arange(WAVES) + draws.random(WAVES)) / WAVES * usual[-1]
    source = np.minimum(np.searchsorted(usual, place), len(usual) - 1)
    spread = np.sqrt(draws.chisquare(3.0, WAVES) / 3.0)
    frequencies = draws.standard_normal((WAVES, dims)) / spread[:, None] / scale[source]
    distance = ((frequencies[None] * scale[:, None]) ** 2).sum(axis=-1)
    density = scale.prod(axis=1)[:, None] * (1.0 + distance / 3.0) ** (-(3.0 + dims) / 2)
    weight = (weights @ density) / (weights.mean(axis=0) @ density)
    weight /= weight.sum(axis=1, keepdims=True)
    turns = np.where(waves.cyclic, 2 * np.pi / np.array(waves.shape), 0.0)
    whole = np.rint(frequencies / np.where(turns > 0, turns, 1.0)) * turns
    frequencies = np.where(turns > 0, whole, frequencies)
    each = [
        generator(seed, "amplitudes", member, j).standard_normal((2, WAVES)) for j in range(rows)
    ]
    mixed = np.einsum("ij,jpw->ipw", waves.mixing, np.stack(each))
    return frequencies, np.asarray(mixed * np.sqrt(weight)[:, None])


def roughen(
    seed: int, name: str, member: int, lead: int, mixing: Floats, chunk: int, shape: tuple[int, ...]
) -> Floats:
    """Return independent normal numbers in the shape of a chunk, correlated between leads.

    Parameters
    ----------
    mixing : float64, (H, H)
        Square root of the correlations between the leads.
    chunk
        Its number in the grid.
    """
    total = np.zeros(shape)
    for j, share in enumerate(mixing[lead - 1]):
        total += share * generator(seed, f"cells/{name}", member, j, chunk).standard_normal(shape)
    return total


def stretch(seed: int, member: int, independent: float) -> float:
    """Return by how much all of a member departs more, or less, than normal: Student's t.

    Parameters
    ----------
    independent
        Number of independent hindcasts that the size of the departures is known from.

    Notes
    -----
    With 4 degrees of freedom more, as `uncertainty.predictive` has them. The size of what is missed
    is uncertain for the whole field together, so cells stay correlated. Of all members 90 % are
    within 1.645 standard errors, as the shadow states; few hindcasts widen what is beyond.
    """
    freedom = independent + 4.0
    uniform = generator(seed, "size", member).random()
    squares = 2.0 * special.gammaincinv(freedom / 2.0, uniform)
    width = special.stdtrit(freedom, 0.5 + NOMINAL / 2) / NOMINAL_Z
    return float(np.sqrt(freedom / squares) / width)
