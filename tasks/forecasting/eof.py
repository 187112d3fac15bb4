"""Empirical orthogonal functions (Lorenz 1956): three ways to have them, each for what it is used.

Fields are (T, S): a row for each time.  Nothing is centred or weighted here.
"""

from __future__ import annotations

import numpy as np
from scipy import linalg

from gnomon.tasks.forecasting.specification import Array

__all__ = ["gram_vectors", "leading_patterns", "principal_components"]


def principal_components(fields: Array) -> tuple[Array, Array]:
    """Amplitudes (T, K) of all patterns, leading first, and their singular values (K,).

    By the singular values themselves: squares, as a Gram matrix has them, would not tell a constant
    sample from its rounding.
    """
    left, singular, _ = np.linalg.svd(fields, full_matrices=False)
    return np.asarray(left * singular), singular


def gram_vectors(fields: Array) -> tuple[Array, Array]:
    """Variances (T,), leading first, and what combines the fields to each pattern (T, T).

    Patterns that are combinations of fields can be evaluated at any cells, and at a few alone.
    """
    variance, vectors = np.linalg.eigh(fields @ fields.T)
    # Eigenvalues that are zero may be a little less, by rounding.
    return np.maximum(variance[::-1], 0.0), vectors[:, ::-1]


def leading_patterns(weighted: Array, largest: int) -> Array:
    """Patterns (M, S) of the greatest variance of weighted anomalies (T, S), `largest` at most."""
    slots, cells = weighted.shape
    # Both products have the same eigenvalues beside zeros; the smaller one is cheap.
    gram = weighted @ weighted.T if slots <= cells else weighted.T @ weighted
    top = [max(0, len(gram) - largest), len(gram) - 1]
    variance, left = linalg.eigh(gram, subset_by_index=top)
    variance, left = variance[::-1], left[:, ::-1]
    # Rounding leaves some variance in a constant sample; a mode of it would be noise.
    least = max(1e-3 * float(variance[:1].sum()), 1e-18 * float((weighted**2).sum()), 1e-300)
    keep = min(largest, int((variance > least).sum()))
    if slots <= cells:
        patterns = (left[:, :keep] / np.sqrt(variance[:keep])).T @ weighted
    else:
        patterns = left[:, :keep].T
    # Eigenvectors have no sign of their own; the largest weight is positive, whatever the library.
    largest_at = np.abs(patterns).argmax(axis=1)[:, None]
    return np.asarray(patterns * np.sign(np.take_along_axis(patterns, largest_at, axis=1)))
