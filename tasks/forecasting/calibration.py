"""What the hindcasts of a sample say of the whole variable: weights, error growth, confidence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from gnomon.tasks.forecasting import blend, uncertainty
from gnomon.tasks.forecasting.candidates import names_of
from gnomon.tasks.forecasting.hindcasts import Hindcasts
from gnomon.tasks.forecasting.specification import Array, Specification


@dataclass(frozen=True, slots=True)
class Calibration:
    """How candidates become a forecast with an error bar, per lead; the same in all chunks."""

    weights: Array
    """(H, C) of the candidates, on the simplex."""
    factors: Array
    """(H,) on the standard error."""
    roots: Array
    """(H,) root mean square of the errors over the scale that the factors are for."""
    ratios: Array
    """(3, H) count, sum, sum of squares of log chunk RMSE over expected RMSE; of labels, and of
    what never changed, what `labels.shares` says."""
    squares: Array
    """(2, H) mean squared error of the last capture and of the forecast over the same hindcasts,
    variable's units; NaN where there were none."""
    doubted: float = 0.0
    """Share of the captured chunks that were doubted, and so not learnt: if they are true, there
    may be more of their kind."""


def uncalibrated(spec: Specification) -> Calibration:
    """Persistence, before anything was verified."""
    weights = np.zeros((spec.leads, len(names_of(spec))))
    weights[:, 0] = 1.0
    number, verified = np.zeros(spec.leads), np.zeros((0, spec.leads))
    factors = uncertainty.factors(np.zeros((0, spec.leads, uncertainty.POINTS)), verified, number)
    factors = factors * uncertainty.student(number)
    return Calibration(
        weights,
        factors,
        uncertainty.roots(np.zeros((0, spec.leads, 2)), verified, number),
        np.zeros((3, spec.leads)),
        np.full((2, spec.leads), np.nan),
    )


class Sequence:
    """Calibrations at one origin after another, each from the hindcasts verified by then."""

    def __init__(
        self, spec: Specification, hindcasts: Hindcasts, starts: NDArray[np.int64]
    ) -> None:
        self.spec, self.made, self.starts = spec, hindcasts, starts
        self.products, self.verified = blend.moments(hindcasts.errors)
        origins, leads = self.verified.shape
        self.points = np.full((origins, leads, uncertainty.POINTS), np.nan)
        self.scaled = np.full((origins, leads, 2), np.nan)
        self.logs = np.full((origins, leads, len(starts) - 1), np.nan)
        self.misses = np.full((origins, leads), np.nan)
        self.squares = np.full((origins, leads, 2), np.nan)

    def at(self, slot: int, upto: int) -> Calibration:
        """Calibration from the first `upto` hindcasts, at a slot not before them."""
        spec = self.spec
        if spec.categorical:
            return uncalibrated(spec)
        past = slice(0, upto)
        weight = blend.faded(self.made.origins[past], slot, spec.leads) * self.verified[past]
        # A shorter memory than that of the weights: error bars have to follow the noise.
        recent, number = self._recent(slot, past)
        factors = uncertainty.factors(self.points[past], recent, number)
        factors *= uncertainty.student(number) * np.exp(self._correction(slot, past))
        ratios = np.zeros((3, spec.leads))
        logs = np.where(recent[..., None] > 0, self.logs[past], np.nan)
        finite = np.isfinite(logs)
        filled = np.where(finite, logs, 0.0)
        # The chunks of one hindcast are wrong together: each hindcast counts once.
        each = finite.sum(axis=2)
        share = np.where(each > 0, 1.0 / np.maximum(each, 1), 0.0)[..., None] * finite
        ratios[0] = (share * recent[..., None]).sum(axis=(0, 2))
        ratios[1] = (share * recent[..., None] * filled).sum(axis=(0, 2))
        ratios[2] = (share * recent[..., None] * filled**2).sum(axis=(0, 2))
        return Calibration(
            blend.weights(self.products[past], weight),
            factors,
            uncertainty.roots(self.scaled[past], recent, number),
            ratios,
            self._squares(recent, past),
        )

    def _squares(self, recent: Array, past: slice) -> Array:
        """Mean squared errors (2, H) of the last capture and of the forecasts that were made."""
        verified = np.isfinite(self.squares[past]) & (recent[..., None] > 0)
        weight = np.where(verified, recent[..., None], 0.0)
        total = weight.sum(axis=0)
        mean = (weight * np.nan_to_num(self.squares[past])).sum(axis=0)
        return np.where(total > 0, mean / np.where(total > 0, total, 1.0), np.nan).T

    def _recent(self, slot: int, past: slice) -> tuple[Array, Array]:
        """Weight (O, H) of hindcasts in the error bars at a slot, and how many (H,) they are."""
        origins = self.made.origins[past]
        weight = blend.faded(origins, slot, self.spec.leads, power=POWER, half=MEMORY)
        # NaN where no cell was verified: no quantile is known.
        weight = np.where(np.isfinite(self.points[past, :, 0]), weight, 0.0)
        return weight, uncertainty.independent(weight, blend.stride(origins))

    def _correction(self, slot: int, past: slice) -> float:
        """Logarithm of the correction of the error bars by what the last hindcasts missed.

        Adaptive conformal inference (Gibbs and Candes 2021), with a memory, and on all leads that
        were verified at a slot. Student's share of the bars is not held against them.
        """
        origins = self.made.origins[past]
        weight = blend.faded(origins, slot, self.spec.leads, power=0.0, half=CORRECTION_MEMORY)
        verified = (weight > 0) & np.isfinite(self.misses[past])
        number = verified.sum(axis=1)
        excess = np.where(verified, self.misses[past] - (1.0 - uncertainty.NOMINAL), 0.0)
        # One step for each hindcast, whatever the leads: they are wrong together.
        total = weight.max(axis=1, initial=0.0) @ (excess.sum(axis=1) / np.maximum(number, 1))
        return float(np.clip(CORRECTION_RATE * total, -GREATEST_CORRECTION, GREATEST_CORRECTION))

    def run(self) -> list[Calibration]:
        """Calibration at every origin, before its own forecast was verified.

        Each hindcast is scored with the weights and the error bars of its own origin.
        """
        result = []
        for place, slot in enumerate(self.made.origins):
            calibration = self.at(int(slot), place)
            result.append(calibration)
            self._score(place, calibration)
        return result

    def _score(self, place: int, calibration: Calibration) -> None:
        """Standardised errors and chunk ratios of one hindcast."""
        blended = np.einsum("hc,hcn->hn", calibration.weights, self.made.errors[place])
        scale = self.made.spread[place]
        # Over the scale without its factors: those are estimated from this.
        self.points[place] = uncertainty.quantiles(blended / scale)
        self.scaled[place] = uncertainty.mean_squares(blended, scale)
        covering = scale * calibration.factors[:, None]
        expected = scale * uncertainty.bars(calibration.factors, calibration.roots, np.zeros(1))
        verified = np.isfinite(blended)
        number = self._recent(int(self.made.origins[place]), slice(0, place))[1]
        width = uncertainty.NOMINAL_Z * covering / uncertainty.student(number)[:, None]
        total = verified.sum(axis=1)
        missed = (verified & (np.abs(blended) > width)).sum(axis=1) / np.maximum(total, 1)
        self.misses[place] = np.where(total > 0, missed, np.nan)
        count = np.add.reduceat(verified, self.starts[:-1], axis=1)
        square = np.add.reduceat(np.where(verified, blended**2, 0.0), self.starts[:-1], axis=1)
        stated = np.add.reduceat(np.where(verified, expected**2, 0.0), self.starts[:-1], axis=1)
        ratio = square / np.where(stated > 0, stated, 1.0)
        # Of squares, so that half of the logarithm is that of an RMSE.
        bounded = np.clip(ratio, LEAST_RATIO, 1.0 / LEAST_RATIO)
        self.logs[place] = np.where(count > 0, 0.5 * np.log(bounded), np.nan)
        last = self.made.errors[place][:, 0]
        # The same cells for both: they are subtracted from each other in `last_capture_rmse`.
        both = verified & np.isfinite(last)
        number = np.maximum(both.sum(axis=1), 1)
        for k, errors in enumerate((last, blended)):
            mean = np.where(both, errors**2, 0.0).sum(axis=1) / number
            self.squares[place, :, k] = np.where(both.any(axis=1), mean, np.nan)


MEMORY = 16.0
"""Half-life of a hindcast's weight in the error bars, in hindcasts: with more, they are steadier;
with fewer, they follow a forecaster that grows better, or a noise that has changed, sooner."""
POWER = 2.0
"""How steeply that weight falls for hindcasts made from less of the record: one from half of it
counts a quarter. Their errors are larger than those of today's forecast will be."""
CORRECTION_RATE = 0.3
"""Step of the logarithm of the error bars with each hindcast, for all of its cells missed: a larger
one follows misses sooner, and chance as well."""
CORRECTION_MEMORY = 5.0
"""Half-life of such a step, in hindcasts: what was missed long ago is in the quantiles by now."""
GREATEST_CORRECTION = 1.0
"""Greatest absolute logarithm of the correction by hindcasts, a factor of e: a run of odd ones
cannot make the bars meaningless."""
LEAST_RATIO = 0.02
"""Of squares, below which a chunk's RMSE is remembered as no smaller; its inverse bounds it too.
Logs are taken: one chunk in which nothing happened would outweigh all others."""
RATIO_SCALE = 0.35
"""Prior standard deviation of log chunk RMSE over expected RMSE. With few hindcasts, a larger one
keeps the confidence nearer to a half."""


def last_capture_rmse(calibration: Calibration, expected: Array) -> Array:
    """Expected RMSE (H,) of restoring the last capture.

    Parameters
    ----------
    expected : float64, (H,), variable's units
        Expected RMSE of the forecast.

    Notes
    -----
    What hindcasts say that the last capture is worse than the forecast, in mean squares, is added
    to what the forecast states of itself; where it is better, the ratio counts. So both share what
    is known of now, and a forecast that is the last capture has its error. At leads that nothing
    was verified at, the gain of the last one before goes on.
    """
    result = np.array(expected, np.float64)
    last = forecast = 0.0
    for lead, (square, issued) in enumerate(calibration.squares.T):
        if np.isfinite(square) and np.isfinite(issued):
            last, forecast = float(square), float(issued)
        # There the forecast is the last capture, and has stated that error already.
        if calibration.weights[lead, 0] == 1.0:
            continue
        if last >= forecast:
            result[lead] = np.sqrt(result[lead] ** 2 + last - forecast)
        else:
            result[lead] *= np.sqrt(last / forecast)
    return result


def confidence(
    calibration: Calibration, nominal: Array, tolerance: float, bars: Array
) -> tuple[Array, Array]:
    """Probability (H, G) of an RMSE within the tolerance, and expected RMSE (H, G).

    Parameters
    ----------
    nominal : float64, (H, G), variable's units
        Root mean square of the chunks' standard errors; NaN where nothing is predicted.
    bars : float64, (H, G)
        Factors on the scale that are in them.

    Notes
    -----
    The expected RMSE is the mean of a lognormal one, and not less than hindcasts had in all: of
    rare events a logarithm sees too little.
    """
    location, scale, freedom = (
        part[:, None] for part in uncertainty.predictive(calibration.ratios, RATIO_SCALE)
    )
    positive = np.maximum(nominal, np.finfo(np.float64).tiny)
    margin = np.log(max(tolerance, np.finfo(np.float64).tiny) / positive)
    sure = special.stdtr(freedom, (margin - location) / scale)
    # Bounded: a t distribution's exponential has no mean, and few hindcasts have a wide scale.
    ratio = np.exp(location + 0.5 * np.minimum(scale, 1.0) ** 2)
    return np.asarray(sure), nominal * np.maximum(ratio, calibration.roots[:, None] / bars)
