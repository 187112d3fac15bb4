"""Which periods, harmonics and orders a variable has, from a window of captures.

Run at a refit, once per variable on a sample of cells: slow, needs pmdarima, and fits no cell.
"""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from dataclasses import replace

import numpy as np

from gnomon.storage.errors import InvalidInput
from gnomon.tasks.forecasting import arima, climatology
from gnomon.tasks.forecasting.changes import default_tolerance, usual_change
from gnomon.tasks.forecasting.eof import principal_components
from gnomon.tasks.forecasting.specification import Array, Specification

logger = logging.getLogger(__name__)

DAY_S = 86400.0
"""Seconds in a day."""
MODES = 3
"""Greatest number of EOF modes on which periods and orders must show their worth: later ones are
mostly noise, of which no order predicts anything."""
SEARCHED = 2
"""Those whose orders are searched for: each costs a search by pmdarima."""
LEAST_CAPTURES = 12
"""Captures below which the order is (1, 0, 0), without a search: with less, 70 % of the record
would have to fit up to five coefficients."""
LONGEST_SERIES = 200
"""Captures, the newest, on which an order is searched: bounds the time of a refit."""
GAIN = 1.05
"""Factor by which the squared error of the first order must exceed that of another for the other to
be preferred: less is within what chance makes of some origins."""
ORIGINS = 30
"""Reference times, about, at which orders are compared: more make the choice surer, and cost a
filter of the past each."""
GREATEST_ORDER = 3
"""Greatest autoregressive order: more take longer to search, and fit chance in short records."""
GREATEST_MOVING = 2
"""Greatest moving-average order, for the same reasons."""
TIDE_S = 44714.16
"""The principal lunar semidiurnal tide, M2, in seconds. It is tried beside the strongest line:
the frequencies that are searched lie half a cycle of the record apart."""
LEAST_CYCLES = 6
"""Cycles of a period that is not of the calendar, below which it is not believed: short records
show some by chance."""
LINE_GAIN = 1.1
"""Factor by which such a period must reduce the squared error on data it was not fitted to: a
period that is believed takes two coefficients or more of every cell."""
LINE_CHANCE = 10.0
"""What is added to it over the number of those data: the best of many periods fits some noise."""
LINES = 2
"""Periods that are found in the data, at most: each costs every cell coefficients, and the next
lines of a spectrum are weaker ones."""


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
    resolution: float = 0.0,
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
        RMSE in the variable's units, of labels the share of cells with another one; None: that of
        `changes.default_tolerance`.
    resolution : float
        Least difference of two values, variable's units; 0 if there is none.
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
        raise InvalidInput(
            f"found values of shape {field.shape}, expected ({len(times)}, cells), a row a time"
        )
    if not interval_s > 0:
        raise InvalidInput(f"found an interval of {interval_s} s, expected > 0")
    field = np.where(np.isfinite(field), field, np.nan)
    chosen = tuple(periods_s or ())
    if periods_s is None and not categorical:
        chosen = seasonal_periods(times, interval_s, year_s)
    harmonics = tuple(_harmonics(period, interval_s, times) for period in chosen)
    usual = usual_change(field, categorical=categorical)
    if tolerance is None:
        tolerance = default_tolerance(field, usual, resolution=resolution, categorical=categorical)
    spec = Specification(
        periods_s=chosen,
        harmonics=harmonics,
        order=(1, 0, 0),
        interval_s=interval_s,
        leads=leads,
        origin_s=float(times[0]) if len(times) else 0.0,
        minimum=bounds[0],
        maximum=bounds[1],
        tolerance=float(tolerance),
        usual_change=usual,
        categorical=categorical,
    )
    if categorical or len(times) < LEAST_CAPTURES:
        return spec
    if periods_s is None:
        for period in line_periods(spec, times, field):
            harmonics = (*spec.harmonics, 1)
            spec = replace(spec, periods_s=(*spec.periods_s, period), harmonics=harmonics)
    return replace(spec, order=_order(leading_modes(spec, times, field), leads))


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
    # Below the Nyquist limit, not at it: a sine may be zero at every capture there.
    resolved = int((period_s / interval_s - 1e-6) // 2)
    return max(1, min(most, resolved, len(times_s) // 12))


def line_periods(spec: Specification, times_s: Array, values: Array) -> tuple[float, ...]:
    """Periods, seconds, of cycles in the data that are not of the calendar: tides, for one.

    A period is believed if a cycle that is fitted to the first 60 % of the leading modes predicts
    the rest clearly better than none: only a cycle that keeps its phase does.
    """
    periods: list[float] = []
    for _ in range(LINES):
        with_lines = replace(
            spec,
            periods_s=(*spec.periods_s, *periods),
            harmonics=(*spec.harmonics, *(1 for _ in periods)),
        )
        modes = leading_modes(with_lines, times_s, values)
        if not modes.shape[1]:
            break
        best = _line(modes, times_s, spec)
        if best is None:
            break
        periods.append(best)
    return tuple(periods)


def _line(modes: Array, times_s: Array, spec: Specification) -> float | None:
    """Most predictive period of the modes, or None."""
    span = float(times_s[-1] - times_s[0])
    # Fitted to the first part and judged on the rest: only a cycle that keeps its phase predicts.
    cut = int(0.6 * len(modes))
    # Three captures or more in a cycle: clear of the Nyquist limit and its aliases.
    frequencies = np.arange(LEAST_CYCLES, span / (3.0 * spec.interval_s), 0.5) / max(span, 1e-300)
    if not len(frequencies):
        return None
    # Not an FFT: captures may be missing, or unevenly spaced.
    phase = np.exp(-2j * np.pi * np.multiply.outer(frequencies, times_s - times_s[0]))
    # Picked on all of the record, so the part that judges it has had a say: `LINE_CHANCE`.
    power = (np.abs(phase @ modes) ** 2).sum(axis=1)
    trials = [float(frequencies[power.argmax()])]
    if trials[0] * TIDE_S > 0.5 and frequencies[-1] > 1.0 / TIDE_S:
        trials.append(1.0 / TIDE_S)
    total = float((modes[cut:] ** 2).sum())
    gains = {}
    for frequency in trials:
        angle = 2.0 * np.pi * frequency * (times_s - times_s[0])
        columns = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
        fitted, *_ = np.linalg.lstsq(columns[:cut], modes[:cut], rcond=None)
        left = float(((modes[cut:] - columns[cut:] @ fitted) ** 2).sum())
        gains[1.0 / frequency] = total / max(left, 1e-300)
    best = max(gains, key=lambda period: gains[period])
    needed = LINE_GAIN + LINE_CHANCE / max(1, len(modes) - cut)
    return best if gains[best] > needed else None


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
    has_value = np.isfinite(values)
    # Gaps become the mean below: a cell with more of them would look calmer than it is.
    cells = has_value.sum(axis=0) >= max(LEAST_CAPTURES, len(values) // 2)
    if not cells.any():
        return np.empty((len(values), 0))
    has_value = has_value[:, cells]
    part = np.where(has_value, values[:, cells], 0.0)
    mean = part.sum(axis=0) / has_value.sum(axis=0)
    part = np.where(has_value, part - mean, 0.0)
    regressors = climatology.features(spec, times_s)
    # The prior of the recursive fit: orders are for the anomalies that it will leave.
    gram = regressors.T @ regressors + climatology.prior(spec)
    part = part - regressors @ np.linalg.solve(gram, regressors.T @ part)
    amplitudes, singular = principal_components(part)
    size = float(np.abs(values[:, cells][has_value]).max())
    variance = singular**2
    # The second: of a constant sample only rounding is left, which may look like a process.
    large = (variance > 0.01 * variance.sum()) & (singular > 1e-9 * max(size, 1e-300))
    return np.asarray(amplitudes[:, large][:, :MODES])


def _order(modes: Array, leads: int) -> tuple[int, int, int]:
    """Order that predicts the modes best, of those that pmdarima finds and two that seldom fail.

    A unit root test finds one in most weather, and a criterion of the next step says little of the
    later ones: so each order must show its worth at the leads that are used.
    """
    plain = [(GREATEST_ORDER, 0, 0), (0, 1, 1), (1, 0, 0)]
    if not modes.shape[1]:
        return plain[-1]
    votes: Counter[tuple[int, int, int]] = Counter()
    for mode in modes[-LONGEST_SERIES:, :SEARCHED].T:
        winner = _search(mode)
        if winner is not None:
            votes[winner] += float(np.var(mode))  # type: ignore[assignment]  # weights, not counts
    tried = [*sorted(votes, key=lambda order: -votes[order])[:2], *plain]
    losses = {order: hindcast_error(modes, order, leads) for order in dict.fromkeys(tried)}
    first = tried[0]
    best = min(losses, key=lambda order: losses[order])
    return best if losses[first] > GAIN * losses[best] else first


def hindcast_error(modes: Array, order: tuple[int, int, int], leads: int) -> float:
    """Mean squared error of an order over all leads, fitted on 70 % of a record, made on the rest.

    Parameters
    ----------
    modes : float64, (T, M)
        Finite.
    order : (int, int, int)
        (p, d, q).
    leads : int
        H; fewer where the record is short.
    """
    p, d, _ = order
    cut = int(0.7 * len(modes))
    leads = min(leads, len(modes) - cut - 1)
    # Fitted once, and used from every origin: all orders have the same handicap, at little cost.
    process = arima.fit(modes[:cut], order)
    total, count = 0.0, 0
    for origin in range(cut, len(modes) - leads, max(1, (len(modes) - leads - cut) // ORIGINS)):
        past = modes[: origin + 1]
        shocks = arima.innovate(process, past, d)
        predicted = arima.predict(process, past[::-1][: max(p + d, 1) + 1], shocks, d, leads)
        total += float(((predicted - modes[origin + 1 : origin + 1 + leads]) ** 2).sum())
        count += 1
    return total / max(count, 1)


def _search(series: Array) -> tuple[int, int, int] | None:
    """(p, d, q) of one mode by pmdarima, or None when the search fails."""
    import pmdarima

    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model = pmdarima.auto_arima(
                # Of unit variance: the optimiser's tolerances then mean the same in any units.
                series / np.std(series),
                seasonal=False,
                start_p=1,
                start_q=0,
                max_p=GREATEST_ORDER,
                max_q=GREATEST_MOVING,
                max_d=1,
                maxiter=30,
                error_action="ignore",
                suppress_warnings=True,
            )
    except (ValueError, ArithmeticError, IndexError, np.linalg.LinAlgError) as error:
        logger.warning("order search failed error=%s", error)
        return None
    p, d, q = (int(n) for n in model.order)
    logger.debug("order found p=%d d=%d q=%d warnings=%d", p, d, q, len(caught))
    return max(1, p) if d == 0 else p, d, q
