"""Leading modes of past fields, evaluated only where they are asked for.

They say which places vary together, however distant; nothing here weighs or validates that.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gnomon.tasks.forecasting.eof import gram_vectors

Floats = NDArray[np.float64]

_MOST_CELLS = 20_000
"""Cells that modes are found on: the products of fields hardly change with more, their cost
does."""
_MOST_SHARE = 0.9
"""Of the variance, for modes: as many modes as fields explain all of the past, and would leave no
error. The rest keeps one, and what neighbours say of it."""
_NONE = np.empty(0, np.intp)


@dataclass(frozen=True, slots=True)
class PastModes:
    """Leading modes of past fields, to be evaluated at any cells.

    Parameters
    ----------
    fields : ndarray of float64, shape (T, n cells)
        Past standardised fields; unknown values are 0.
    combination : ndarray of float64, shape (T, modes)
        Column j turns the fields into mode j, so that covariance = sum of mode x mode.
    shares : ndarray of float64, shape (modes,)
        Cumulated share of the variance that modes 0..j explain; at most 1.
    """

    fields: Floats
    combination: Floats
    shares: Floats

    def explain(self, rank: int) -> float:
        """Return the share of the variance given to so many leading modes, in [0, 0.9]."""
        return min(float(self.shares[:rank][-1]), _MOST_SHARE) if rank else 0.0

    def scale(self, rank: int) -> float:
        """Return the factor on the loadings of so many leading modes; 0 if they explain nothing."""
        share = self.explain(rank)
        # Beyond `_MOST_SHARE` all are scaled down alike: with the 1 - a of the stationary part the
        # variance is 1 again.
        return float(np.sqrt(share / self.shares[:rank][-1])) if share > 0.0 else 0.0

    def at(self, cells: NDArray[np.intp], rank: int) -> Floats:
        """Return the loadings of the leading modes before that factor, shape (n, rank).

        Parameters
        ----------
        cells : ndarray of intp, shape (n,)
            Flat cell numbers.
        rank : int
            Number of modes; all of them if there are fewer.
        """
        return np.asarray(self.fields[:, cells].T @ self.combination[:, :rank])


def find_modes(
    fields: Floats, intact: NDArray[np.bool_], without: NDArray[np.intp] = _NONE
) -> PastModes:
    """Return the modes of past fields, scaled to a mean variance of 1 over the intact cells.

    Parameters
    ----------
    fields : ndarray of float64, shape (T, n cells)
        Standardised past fields about zero; finite, 0 where unknown.
    intact : ndarray of bool, shape (n cells,)
        Cells that are intact now; they set the scale.
    without : ndarray of intp, optional
        Numbers of fields that the modes must not know.

    Notes
    -----
    Empirical orthogonal functions (Lorenz 1956) from the T x T Gram matrix over at most 20,000
    evenly spread cells. The mean is not removed: a departure's expectation is zero.
    """
    stride = max(1, -(-fields.shape[1] // _MOST_CELLS))
    used = np.setdiff1d(np.arange(len(fields)), without)
    thinned = fields[used, ::stride]
    values, vectors = gram_vectors(thinned)
    combination = np.zeros((len(fields), len(used)))
    # A sum over fields, as a mode's square is one over them: their ratio has the mean 1.
    power = sum(float(np.sum(fields[k, intact] ** 2)) for k in used)
    power /= max(1, int(np.count_nonzero(intact)))
    if not (power > 0.0 and values[0] > 0.0):
        return PastModes(fields, combination, np.zeros(len(values)))
    combination[used] = vectors / np.sqrt(power)
    shares = np.minimum(np.cumsum(values) / float(np.sum(values)), 1.0)
    return PastModes(fields, combination, shares)
