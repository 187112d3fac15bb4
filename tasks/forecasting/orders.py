"""Which periods, harmonics and orders a variable has, from a window of captures.

Run at a refit, once per variable on a sample of cells: slow, needs pmdarima, and fits no cell.
"""

from __future__ import annotations

import logging
import warnings
from collections import Counter

import numpy as np

from gnomon.storage.errors import InvalidInput
from gnomon.tasks.forecasting import autoregression, climatology
from gnomon.tasks.forecasting.specification import Array, Specification

logger = logging.getLogger(__name__)

DAY_S = 86400.0
"""Seconds in a day."""
MODES = 3
"""Greatest number of EOF modes whose orders are identified."""
LEAST_CAPTURES = 12
"""Captures below which the order is (1, 0), without a search."""
LONGEST_SERIES = 300
"""Captures, the newest, on which an order is searched: bounds the time of a refit."""
DIFFERENCE_GAIN = 1.25
"""Factor by which a difference must reduce the squared error of the modes to be kept."""
GREATEST_ORDER = 3
"""Greatest autoregressive order."""


def identify(  # noqa: PLR0913 - what a user may settle, all keyword-only after the data
    times_s: Array,
    values: Array,
    *,
    interval_s: float,
    leads: int,
    year_s: float,
    periods_s: tuple[float, ...] | None = None,
    bounds: tuple[float | None, float | None] = (None, None),
    tolerance: float | None = None,
    categorical: bool = False,
) -> Specification:
    """Specification of a variable.

    Parameters
    ----------
    times_s : float64, (T,)
        Valid times of the captures, seconds, increasing.
    values : float64, (T, S), variable's units
        A sample of its cells. NaN where missing; a cell that is always NaN is ignored.
    interval_s : float
        Seconds between two slots.
    leads : int
        H, slots ahead to predict.
    year_s : float
        Length of a year in the calendar, seconds.
    periods_s : tuple of float, optional
        Seasonal periods in seconds; None chooses among the day and the year.
    bounds : (float or None, float or None)
        Least and greatest possible value.
    tolerance : float, optional
        RMSE in the variable's units; None: the RMS change over one capture interval.
    categorical : bool
        Whether values are labels.

    Raises
    ------
    InvalidInput
        If the shapes do not agree or the interval is not > 0.
    """
    times = np.asarray(times_s, dtype=np.float64)
    field = np.asarray(values, dtype=np.float64)
    if field.ndim != 2 or field.shape[0] != len(times):
        raise InvalidInput(f"found values {field.shape}, expected ({len(times)}, cells)")
    if not interval_s > 0:
        raise InvalidInput(f"found an interval of {interval_s} s, expected > 0")
    field = np.where(np.isfinite(field), field, np.nan)
    chosen = tuple(periods_s or ())
    if periods_s is None and not categorical:
        chosen = seasonal_periods(times, interval_s, year_s)
    harmonics = tuple(_harmonics(period, interval_s, times) for period in chosen)
    spec = Specification(
        periods_s=chosen,
        harmonics=harmonics,
        order=(1, 0),
        leads=leads,
        origin_s=float(times[0]) if len(times) else 0.0,
        minimum=bounds[0],
        maximum=bounds[1],
        tolerance=usual_change(field) if tolerance is None else float(tolerance),
        categorical=categorical,
    )
    order = (1, 0) if categorical else _order(leading_modes(spec, times, field), leads)
    return Specification.from_json({**spec.to_json(), "order": order})


def seasonal_periods(times_s: Array, interval_s: float, year_s: float) -> tuple[float, ...]:
    """The day and the year, where they are sampled and the record is long enough.

    Parameters
    ----------
    times_s : float64, (T,)
        Valid times, seconds.
    interval_s, year_s : float
        Seconds.

    Returns
    -------
    tuple of float
        A day when the interval is at most 6 h and the record at least 2 days; a year when the
        interval is at most a third of it and the record at least 1.5 years.
    """
    span = float(times_s[-1] - times_s[0]) + interval_s if len(times_s) else 0.0
    periods = []
    if interval_s <= DAY_S / 4 and span >= 2 * DAY_S:
        periods.append(DAY_S)
    if interval_s <= 1.02 * year_s / 3 and span >= 1.5 * year_s:
        periods.append(year_s)
    return tuple(periods)


def _harmonics(period_s: float, interval_s: float, times_s: Array) -> int:
    """Number of harmonics: below the Nyquist limit, and one per 12 captures of record."""
    most = 3 if period_s <= DAY_S else 2
    resolved = int((period_s / interval_s - 1e-6) // 2)
    return max(1, min(most, resolved, len(times_s) // 12))


def usual_change(values: Array) -> float:
    """Root mean square change between two captures in a row, variable's units; 0 when unknown."""
    change = np.diff(values, axis=0)
    change = change[np.isfinite(change)]
    return float(np.sqrt(np.mean(change**2))) if len(change) else 0.0


def leading_modes(spec: Specification, times_s: Array, values: Array) -> Array:
    """Principal components of the climatology's anomalies.

    Parameters
    ----------
    spec : Specification
    times_s : float64, (T,)
    values : float64, (T, S), variable's units
        Missing values are replaced by the cell's mean.

    Returns
    -------
    float64, (T, M)
        Leading first, M <= `MODES`; none with less than 1 % of the variance, none at all with
        fewer than `LEAST_CAPTURES` captures or a constant sample.
    """
    known = np.isfinite(values)
    cells = known.sum(axis=0) >= max(LEAST_CAPTURES, len(values) // 2)
    if not cells.any():
        return np.empty((len(values), 0))
    known = known[:, cells]
    part = np.where(known, values[:, cells], 0.0)
    mean = part.sum(axis=0) / known.sum(axis=0)
    part = np.where(known, part - mean, 0.0)
    regressors = climatology.features(spec, times_s)
    fitted = climatology.coefficients(
        spec, regressors.T @ regressors, regressors.T @ part, float(times_s[-1] - times_s[0])
    )
    left, singular, _ = np.linalg.svd(part - regressors @ fitted, full_matrices=False)
    size = float(np.abs(values[:, cells][known]).max())
    variance = singular**2
    large = (variance > 0.01 * variance.sum()) & (singular > 1e-9 * max(size, 1e-300))
    return np.asarray((left * singular)[:, large][:, :MODES])


def _order(modes: Array, leads: int) -> tuple[int, int]:
    """Order with the greatest variance of modes behind it; (1, 0) when no mode could be fitted.

    A difference must earn its place: it is kept only if it predicts the modes clearly better at the
    leads that are used. A unit root test finds one in most weather, and a wrong one costs more than
    a missed one: persistence and the local level are in the blend anyway.
    """
    votes: Counter[tuple[int, int]] = Counter()
    for mode in modes[-LONGEST_SERIES:].T:
        found = _search(mode)
        if found is not None:
            votes[found] += float(np.var(mode))  # type: ignore[assignment]  # weights, not counts
    if not votes:
        return (1, 0)
    p, d = max(sorted(votes), key=lambda order: votes[order])
    plain = (min(p + 1, GREATEST_ORDER), 0)
    if d == 0:
        return p, d
    gain = hindcast_error(modes, plain, leads) / max(hindcast_error(modes, (p, d), leads), 1e-300)
    return plain if gain < DIFFERENCE_GAIN else (p, d)


def hindcast_error(modes: Array, order: tuple[int, int], leads: int) -> float:
    """Mean squared error of an order over all leads, fitted on 70 % of a record, made on the rest.

    Parameters
    ----------
    modes : float64, (T, M)
        Finite.
    order : (int, int)
        (p, d).
    leads : int
        H; fewer where the record is short.
    """
    p, d = order
    cut = int(0.7 * len(modes))
    leads = min(leads, len(modes) - cut - 1)
    anomalies = modes - modes[:cut].mean(axis=0)
    changes = np.diff(anomalies[:cut], n=d, axis=0)
    sums = [(changes[lag:] * changes[: len(changes) - lag]).sum(axis=0) for lag in range(p + 1)]
    correlation = np.stack(sums)[1:] / np.maximum(sums[0], np.finfo(np.float64).tiny)
    recursion = autoregression.integrate(autoregression.levinson(correlation), d)
    origins = np.arange(cut, len(modes) - leads)
    past = np.stack([anomalies[origins - lag] for lag in range(p + d)])
    total = 0.0
    for lead in range(1, leads + 1):
        following = (recursion[:, None] * past).sum(axis=0)
        past = np.concatenate([following[None], past[:-1]])
        total += float(np.mean((following - anomalies[origins + lead]) ** 2))
    return total / max(leads, 1)


def _search(series: Array) -> tuple[int, int] | None:
    """(p, d) of one mode by pmdarima, or None when the search fails."""
    import pmdarima

    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model = pmdarima.auto_arima(
                series / np.std(series),
                seasonal=False,
                start_p=1,
                start_q=0,
                max_p=GREATEST_ORDER,
                max_q=0,
                max_d=1,
                maxiter=30,
                error_action="ignore",
                suppress_warnings=True,
            )
    except (ValueError, ArithmeticError, IndexError, np.linalg.LinAlgError) as error:
        logger.warning("order search failed error=%s", error)
        return None
    p, d, _ = model.order
    logger.debug("order found p=%d d=%d warnings=%d", p, d, len(caught))
    return max(1, int(p)) if d == 0 else int(p), int(d)
