"""Past departures at all leads together: what a forecast would have missed, by its own error bar.

Of one origin the departures at all leads, in all cells and of all variables belong together: that
is what a member has to resemble.  Pure arrays; nothing later than the captures given is known.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gnomon.tasks.forecasting import CANDIDATES, Specification, blend, uncertainty
from gnomon.tasks.forecasting.calibration import MEMORY, POWER
from gnomon.tasks.forecasting.hindcasts import Hindcasts, Window, rolling
from gnomon.tasks.forecasting.learning import positions
from gnomon.tasks.forecasting.specification import clip
from gnomon.tasks.healing.past import LEAST_LEARNT, PastCaptures

__all__ = ["PastFields", "blend_weights", "changes", "depart", "place_origins"]

Floats = NDArray[np.float64]

MOST_ORIGINS = 48
"""Past departures, at most, spread over the record: more of them overlap more than they tell."""
BATCH_BYTES = 2**28
"""Memory of the candidates' predictions from the origins that are hindcast together, about."""
LEAST_SPREAD = 1e-9
"""Of the greatest error bar of a lead: cells below it never changed, and have no departure."""


@dataclass(frozen=True, slots=True)
class PastFields:
    """Standardised departures of some cells from K origins, at all leads."""

    slots: NDArray[np.int64]
    """(K,) cadence indices of the origins, increasing: with the same one, variables go together."""
    values: NDArray[np.float32]
    """(K, H, N) captured minus predicted over the scale of the forecast, times the root of the
    weight of its origin; NaN where unknown."""
    sizes: NDArray[np.float32] | None = None
    """(H, N) usual scale of a cell, >= 0, 0 where unknown; None: the same for all."""
    weights: NDArray[np.float64] | None = None
    """(K, H) of the origins, of mean 1; None: all 1."""

    def take(self, cells: slice | NDArray[np.intp]) -> "PastFields":
        """Return those of some of the cells."""
        sizes = None if self.sizes is None else self.sizes[:, cells]
        return replace(self, values=self.values[..., cells], sizes=sizes)

    def at(self, places: NDArray[np.intp]) -> "PastFields":
        """Return those of some of the origins."""
        weights = None if self.weights is None else self.weights[places]
        return replace(self, slots=self.slots[places], values=self.values[places], weights=weights)

    def independent(self) -> Floats:
        """Return how many independent fields they are worth at each lead, float64 (H,).

        Forecasts of a longer lead overlap, and fewer of them are news.
        """
        weights = np.ones(self.values.shape[:2]) if self.weights is None else self.weights
        return uncertainty.independent(weights, blend.stride(self.slots))


def place_origins(spec: Specification, record: PastCaptures) -> NDArray[np.int64]:
    """Return the slots of a window (K,) to forecast from: those of captures followed by all leads.

    None lies in the first third of the record, as models of fewer captures miss by more.
    """
    rows = positions(record.slots, spec.leads)
    first, last = rows[int(LEAST_LEARNT * len(rows))], rows[-1] - spec.leads
    origins = rows[(rows >= max(first, rows[min(1, len(rows) - 1)])) & (rows <= last)]
    if not len(origins):
        return np.empty(0, np.int64)
    places = np.linspace(0, len(origins) - 1, min(MOST_ORIGINS, len(origins)))
    return np.asarray(np.unique(origins[places.round().astype(int)]), np.int64)


def blend_weights(spec: Specification, record: PastCaptures, origins: NDArray[np.int64]) -> Floats:
    """Return the weights (H, C) of the built-in candidates that a refit would find."""
    window = record.window(record.values, record.starts, spec.leads)
    products, verified = [], []
    for hindcasts in _batches(spec, window, origins, None):
        moments = blend.moments(hindcasts.errors)
        products.append(moments[0])
        verified.append(moments[1])
    weight = blend.faded(origins, int(origins[-1]) + spec.leads, spec.leads)
    return blend.weights(np.concatenate(products), weight * np.concatenate(verified))


def depart(
    spec: Specification,
    record: PastCaptures,
    origins: NDArray[np.int64],
    weights: Floats,
    sampled: NDArray[np.intp],
) -> PastFields:
    """Return the standardised departures of all cells of a record.

    Parameters
    ----------
    spec
        Of the variable, with the built-in candidates alone.
    record
        Captures up to the reference time.
    origins
        (K,) from `place_origins`.
    weights
        (H, C) from `blend_weights`.
    sampled
        Cells of the record that the modes are found on.

    Notes
    -----
    Origins count as they do in the error bars: from fewer captures more was missed, and other
    cells together, than will be. With equal weights members of OSTIA were too smooth, and those of
    A1B too rough.
    """
    window = record.window(record.values, record.starts, spec.leads)
    rows = positions(record.slots, spec.leads)
    weight = blend.faded(origins, int(rows[-1]), spec.leads, power=POWER, half=MEMORY)
    weight /= weight.mean(axis=0)
    fields, squares = [], np.zeros((spec.leads, window.values.shape[1]))
    for hindcasts in _batches(spec, window, origins, sampled):
        missed = -np.einsum("hc,ohcn->ohn", weights, hindcasts.errors)
        if spec.minimum is not None or spec.maximum is not None:
            predicted = np.einsum("hc,ohcn->ohn", weights, hindcasts.predictions)
            missed += predicted - clip(spec, predicted)
        scale = hindcasts.spread
        squares += np.nansum(scale**2, axis=0)
        greatest = np.nanmax(scale, axis=2, keepdims=True, initial=0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            fields.append(np.where(scale > LEAST_SPREAD * greatest, missed / scale, np.nan))
    values = np.concatenate(fields) * np.sqrt(weight)[..., None]
    sizes = np.sqrt(squares / len(origins))
    places = np.searchsorted(rows, origins)
    return PastFields(
        record.slots[places], values.astype(np.float32), sizes.astype(np.float32), weight
    )


def changes(record: PastCaptures, leads: int, *, labels: bool) -> PastFields:
    """Return the changes over 1..H slots, which stand for departures that are not known.

    Parameters
    ----------
    record
        Captures of some cells; two at least, or there is none.
    leads
        H.
    labels
        Whether values are labels: then what counts is whether it is another one, less how usual
        that is.
    """
    window = record.window(record.values, record.starts, leads).values
    rows = positions(record.slots, leads)
    fields = np.full((len(rows), leads, window.shape[1]), np.nan, np.float32)
    for lead in range(1, min(leads, len(window) - 1) + 1):
        before = np.flatnonzero(rows + lead < len(window))
        now, then = window[rows[before] + lead], window[rows[before]]
        change = now - then
        if labels:
            change = np.where(np.isfinite(change), change != 0, np.nan)
            change -= np.nanmean(change) if np.isfinite(change).any() else 0.0
        fields[before, lead - 1] = change
    known = np.isfinite(fields).any(axis=(1, 2))
    chosen = np.flatnonzero(known)[-MOST_ORIGINS:]
    return PastFields(record.slots[chosen], fields[chosen])


def _batches(
    spec: Specification,
    window: Window,
    origins: NDArray[np.int64],
    sampled: NDArray[np.intp] | None,
) -> Iterator[Hindcasts]:
    """Yield hindcasts from some of the origins after others: bounds the memory."""
    each = 2 * 8 * spec.leads * len(CANDIDATES) * window.values.shape[1]
    count = max(1, BATCH_BYTES // each)
    parts = (origins[k : k + count] for k in range(0, len(origins), count))
    return (rolling(spec, window, part, sampled=sampled) for part in parts)
