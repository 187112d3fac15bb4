"""How far the figures of a hindcast are chance: its origins are few, and overlap.

Intervals are from a bootstrap over blocks of origins in a row, as long as their forecasts overlap
(Kunsch 1989), stretched by Student's t for how few blocks there are.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray
from scipy import special

__all__ = ["BINS", "Blocks", "calibration_error", "chance_error", "reliability"]

DRAWS = 1000
"""Resamples of the origins."""
WORLDS = 200
"""Simulated records of a perfect confidence."""
LEVEL = 0.95
"""Of the intervals."""
BINS = 10
"""Bins of confidence in the reliability."""
LARGEST_LIKENESS = 0.95
"""Correlation of the outcomes of one block, at most: all alike would say nothing of each."""

Floats = NDArray[np.float64]
type Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Blocks:
    """Origins of a hindcast, in order, and how they hang together."""

    count: int
    """Number of origins."""
    length: int
    """Origins in a row whose forecasts overlap, 1 at least."""

    @classmethod
    def of(cls, origins: NDArray[np.int64], leads: int) -> "Blocks":
        """Return the blocks of origins at these slots, whose forecasts are so many slots long."""
        count = len(origins)
        if count < 2:
            return cls(count, 1)
        steps = np.diff(origins)
        # Where most origins share their slot with the one before, the median says nothing.
        stride = float(np.median(steps) or np.mean(steps))
        return cls(count, min(count, ceil(leads / stride)) if stride else count)

    @property
    def independent(self) -> float:
        """How many independent origins they are worth."""
        return self.count / self.length

    def draws(self) -> NDArray[np.intp]:
        """Return the same resamples (B, O) every time, of blocks that begin anywhere."""
        rng = np.random.default_rng(0)
        blocks = ceil(self.independent)
        heads = rng.integers(0, self.count, (DRAWS, blocks, 1))
        # Round a circle: the first and last origins are drawn as often as the others.
        rows = (heads + np.arange(self.length)) % self.count
        return np.asarray(rows.reshape(DRAWS, -1)[:, : self.count])

    def interval(self, sums: Floats, figure: Callable[[Floats], Floats]) -> Interval:
        """Return the interval of a figure of the origins' sums.

        Parameters
        ----------
        sums
            float64 (O, K), what each origin adds.
        figure
            From sums (..., K) to figures (...).

        Returns
        -------
        tuple
            NaN, NaN where fewer than two origins are independent.
        """
        if self.independent < 2:
            return float("nan"), float("nan")
        with np.errstate(all="ignore"):
            best = float(figure(sums.sum(axis=0)))
            drawn = figure(sums[self.draws()].sum(axis=1))
        drawn = drawn[np.isfinite(drawn)]
        if not drawn.size or not np.isfinite(best):
            return float("nan"), float("nan")
        tail = (1.0 - LEVEL) / 2.0
        low, high = np.quantile(drawn, [tail, 1.0 - tail])
        freedom = self.independent - 1.0
        stretch = float(special.stdtrit(freedom, 1.0 - tail) / special.ndtri(1.0 - tail))
        # A resample scatters about the mean of the blocks, which scatters itself.
        stretch *= (self.independent / freedom) ** 0.5
        # Each side by itself: shares near 1 and ratios are skewed.
        return best - stretch * max(0.0, best - low), best + stretch * max(0.0, high - best)


def reliability(stated: Floats, within: Floats) -> list[dict[str, float]]:
    """Return by bin of stated confidence: its mean, the share within tolerance, and the number."""
    bins = _bins(stated)
    return [
        {
            "confidence": float(stated[bins == k].mean()),
            "within": float(within[bins == k].mean()),
            "number": float((bins == k).sum()),
        }
        for k in np.unique(bins)
    ]


def calibration_error(stated: Floats, within: Floats) -> float:
    """Return the expected calibration error: mean distance of confidence and share, by bin."""
    if not len(stated):
        return 0.0
    number = np.bincount(_bins(stated), minlength=BINS)
    # Number times the distance of the means: bins without any need no division.
    off = np.bincount(_bins(stated), weights=stated - within, minlength=BINS)
    return float(np.abs(off).sum() / number.sum())


def chance_error(
    stated: Floats, within: Floats, origins: NDArray[np.int64], blocks: Blocks
) -> Interval:
    """Return the calibration error that a perfect confidence would show: mean, and limit.

    Parameters
    ----------
    stated, within
        float64 (P,), confidences, and 1 where the chunk was within its tolerance.
    origins
        int64 (P,), the origin of each, from 0.
    blocks
        How the origins hang together.

    Returns
    -------
    mean, limit
        Mean, and what is exceeded by chance in one of 20 records.

    Notes
    -----
    Records are simulated in which each stated confidence is the probability. The outcomes of one
    block are alike as far as those of this record are: a normal factor that they share, with the
    correlation that the sums of the blocks' departures from the observed shares show.
    """
    if not len(stated):
        return 0.0, 0.0
    block = origins // blocks.length
    likeness = _likeness(stated, within, block)
    rng = np.random.default_rng(0)
    threshold = special.ndtri(np.clip(stated, 1e-12, 1.0 - 1e-12))
    errors = np.empty(WORLDS)
    for world in range(WORLDS):
        common = rng.standard_normal(int(block.max()) + 1)[block]
        noise = rng.standard_normal(len(stated))
        drawn = np.sqrt(likeness) * common + np.sqrt(1.0 - likeness) * noise < threshold
        errors[world] = calibration_error(stated, drawn.astype(np.float64))
    return float(errors.mean()), float(np.quantile(errors, 0.95))


def _bins(stated: Floats) -> NDArray[np.intp]:
    return np.clip((stated * BINS).astype(np.intp), 0, BINS - 1)


def _likeness(stated: Floats, within: Floats, block: NDArray[np.int64]) -> float:
    """Correlation of the outcomes of one block, from the variance of its sum."""
    bins = _bins(stated)
    number = np.bincount(bins, minlength=BINS)
    share = np.bincount(bins, weights=within, minlength=BINS) / np.maximum(number, 1)
    # About what was observed in the bin: a confidence that is off must not pass for likeness.
    left = within - share[bins]
    spread = np.sqrt(share * (1.0 - share))[bins]
    squares = np.bincount(block, weights=spread**2)
    # The variance of a block's sum is its variances plus likeness times the cross products.
    together = np.bincount(block, weights=spread) ** 2 - squares
    total = np.bincount(block, weights=left) ** 2
    if not together.sum() > 0:
        return 0.0
    return float(np.clip((total - squares).sum() / together.sum(), 0.0, LARGEST_LIKENESS))
