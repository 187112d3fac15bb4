"""Hindcast: how good would the shadow have been over a record, and how honest?

The engine as it runs in a repository, on plain arrays: at each origin it is fitted to the captures
up to it, and what it then predicts is compared with what came.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from gnomon.storage.errors import InvalidInput
from gnomon.tasks.forecasting import (
    CANDIDATES,
    Specification,
    fit_outlook,
    learn,
    roll,
)
from gnomon.tasks.forecasting.calibration import Calibration, Sequence, confidence
from gnomon.tasks.forecasting.engine import chunk_rms
from gnomon.tasks.forecasting.hindcasts import LONGEST, rolling
from gnomon.tasks.forecasting.learning import positions
from gnomon.tasks.forecasting.outlook import ORIGINS, place_origins
from gnomon.tasks.forecasting.specification import clip
from gnomon.tasks.forecasting.tracking import GATE

__all__ = ["BASELINES", "Issued", "Report", "Series", "first_origin", "hindcast", "issue"]

BASELINES = ("persistence", "climatology", "damped_anomaly")
"""What the shadow must beat."""
LEVELS = {"50": 0.6744897501960817, "90": 1.6448536269514722, "99": 2.5758293035489004}
"""Nominal coverage in percent, and the half width of its interval in standard errors."""
BINS = 10
"""Bins of confidence in the reliability."""
SAMPLE = 1024
"""Cells that stand for the variable in the modes, as in a repository."""
FIRST = 0.7
"""Share of the record before the first origin."""
WORTH = 0.98
"""Ratio of errors above which the shadow is hardly better than a baseline."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Series:
    """Captures of some cells of a variable."""

    slots: NDArray[np.int64]
    """(T,) cadence indices, increasing."""
    times_s: Floats
    """(T,) valid times, seconds."""
    values: Floats
    """(T, N) variable's units; NaN where missing."""
    starts: NDArray[np.int64]
    """(G + 1,) first cell of each chunk, and N."""


@dataclass(slots=True)
class Report:
    """What a hindcast found. Lists are by lead."""

    leads: list[int]
    rmse: dict[str, list[float]]
    """Of the shadow and of the baselines, variable's units."""
    skill: dict[str, list[float]]
    """One less the ratio of the shadow's RMSE to that of each baseline."""
    ratio_to_persistence: float
    """RMSE over that of the last capture, all leads together."""
    ratio_to: dict[str, float]
    """The same over each baseline and each candidate."""
    crps: list[float]
    """Continuous ranked probability score, variable's units."""
    coverage: dict[str, list[float]]
    """Share of cells within the nominal 50, 90 and 99 % intervals."""
    coverage90: float
    coverage90_worst: float
    """Of the worst lead."""
    coverage90_season: float
    """Of the worst quarter of the year, or of the day."""
    ece: float
    """Expected calibration error of the chunks' confidence."""
    brier: float
    reliability: list[dict[str, float]]
    """By bin: mean confidence, share within tolerance, number."""
    cells: int
    captures: int
    origins: int
    doubted: float
    """Share of the captured chunks that are not believed, and neither learnt nor scored."""
    cells_per_second: dict[str, float]
    verdict: str
    suitable: bool
    weights: dict[str, list[float]]
    """Of the candidates, mean over the origins."""
    specification: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types, NaN as None."""
        found = _plain(asdict(self))
        assert isinstance(found, dict)
        return found


def hindcast(
    spec: Specification,
    series: Series,
    *,
    origins: int = 30,
    progress: Callable[[str, int, int], None] | None = None,
) -> Report:
    """Hindcasts over the last 30 % of a record, scored.

    Parameters
    ----------
    spec : Specification
        Identified on captures before the first origin: on `first_origin` of them.
    series : Series
    origins : int
        Reference times, at most.
    progress
        Called with what is done, how much of it, and of how much.

    Raises
    ------
    InvalidInput
        Too few captures.
    """
    issued, doubted = issue(spec, series, origins=origins, progress=progress)
    score = _Score(spec, series, doubted)
    for one in issued:
        score.add(one)
    return score.report(_speed(spec, series))


@dataclass(frozen=True, slots=True)
class Issued:
    """One forecast, and what came: leads that the record does not reach are left out."""

    origin: int
    """Position of its reference capture in the series."""
    times_s: Floats
    """(h,) valid times."""
    mean: Floats
    """(h, N) predicted."""
    error: Floats
    """(h, N) standard error."""
    candidates: Floats
    """(h, C, N) predicted by each candidate."""
    truth: Floats
    """(h, N) captured; NaN where missing, or not believed."""
    calibration: Calibration


def issue(
    spec: Specification,
    series: Series,
    *,
    origins: int = 30,
    progress: Callable[[str, int, int], None] | None = None,
) -> tuple[list[Issued], float]:
    """Forecasts from origins over the last 30 % of a record, and what share of it is doubted."""
    count = len(series.slots)
    first = first_origin(count)
    everything = np.ones((count, len(series.starts) - 1), bool)
    tell = progress or (lambda *_: None)
    tell("learning", 0, 1)
    learnt = learn(
        spec,
        series.slots,
        series.times_s,
        series.values,
        series.starts,
        trusted=everything,
        gated=everything,
    )
    window = learnt.captured
    rows = positions(series.slots, spec.leads)
    # What history itself does not believe is damage: nobody can forecast it, and nobody should.
    truth = window.values
    scored = np.unique(np.linspace(first, count - 2, min(origins, count - 1 - first)).astype(int))
    before = place_origins(min(first, LONGEST), ORIGINS) + max(0, first - LONGEST)
    chosen = np.union1d(rows[before], rows[scored])
    cells = window.values.shape[1]
    sampled = np.unique(np.linspace(0, cells - 1, min(cells, SAMPLE)).astype(np.intp))
    made = rolling(spec, window, chosen, sampled=sampled, progress=tell)
    calibrations = Sequence(spec, made, series.starts).run()
    result = []
    for origin in scored:
        place = int(np.searchsorted(chosen, rows[origin]))
        found = calibrations[place]
        ahead = slice(int(rows[origin]) + 1, int(rows[origin]) + 1 + spec.leads)
        leads = len(truth[ahead])
        predictions = made.predictions[place, :leads]
        result.append(
            Issued(
                int(origin),
                window.times_s[ahead],
                clip(spec, np.einsum("hc,hcn->hn", found.weights[:leads], predictions)),
                made.spread[place, :leads] * found.factors[:leads, None],
                predictions,
                truth[ahead],
                found,
            )
        )
    return result, float(np.mean(learnt.p_values < GATE))


def first_origin(captures: int) -> int:
    """Position of the first capture that a hindcast is made from."""
    if captures < 8:
        raise InvalidInput(f"found {captures} captures, expected at least 8: wait for more")
    return int(FIRST * captures)


def _speed(spec: Specification, series: Series) -> dict[str, float]:
    """Cells per second of a whole refit, and of a roll-forward update."""
    last = slice(-LONGEST, None)
    cells = series.values.shape[1]
    sampled = np.unique(np.linspace(0, cells - 1, min(cells, SAMPLE)).astype(np.intp))
    heads = np.searchsorted(sampled, series.starts)
    kept = np.flatnonzero(np.diff(heads))
    starts = np.concatenate([heads[kept], [len(sampled)]])
    values = np.ascontiguousarray(series.values[last])
    given = spec, series.slots[last], series.times_s[last]
    begun = perf_counter()
    trusted = np.ones((len(values), len(starts) - 1), bool)
    spec, outlook = fit_outlook(
        *given,
        values[:, sampled],
        starts,
        trusted=trusted,
        gated=trusted,
    )
    trusted = np.ones((len(values), len(series.starts) - 1), bool)
    learnt = learn(
        spec,
        *given[1:],
        values,
        series.starts,
        trusted=trusted,
        gated=trusted,
        amplitudes=outlook.amplitudes,
    )
    refitted = perf_counter()
    slot, time_s = int(series.slots[-1]) + 1, float(series.times_s[-1]) + spec.interval_s
    roll(spec, learnt.state, outlook, slot, time_s, values[-1])
    outlook.roll(spec, slot, time_s, values[-1, sampled])
    rolled = perf_counter()
    return {"refit": cells / (refitted - begun), "roll": cells / (rolled - refitted)}


class _Score:
    """Sums over origins, leads and cells."""

    def __init__(self, spec: Specification, series: Series, doubted: float) -> None:
        self.spec, self.series, self.doubted = spec, series, doubted
        leads, count = spec.leads, len(CANDIDATES)
        self.number = np.zeros(leads)
        self.squares = np.zeros((leads, count + 1))
        self.crps = np.zeros(leads)
        self.covered = {name: np.zeros(leads) for name in LEVELS}
        self.seasons = np.zeros((4, 2))
        self.pairs: list[tuple[float, float]] = []
        self.weights: list[Floats] = []

    def add(self, one: Issued) -> None:
        """Score one forecast; cells count where the truth and all candidates are known."""
        truth, predictions, mean, error = one.truth, one.candidates, one.mean, one.error
        leads = len(truth)
        known = np.isfinite(truth) & np.isfinite(predictions).all(axis=1)
        departure = np.where(known, mean - truth, np.nan)
        every = np.concatenate([mean[:, None], predictions], axis=1) - truth[:, None]
        self.number[:leads] += known.sum(axis=1)
        self.squares[:leads] += np.where(known[:, None], every**2, 0.0).sum(axis=2)
        self.crps[:leads] += np.nansum(_crps(departure, error), axis=1)
        for name, width in LEVELS.items():
            self.covered[name][:leads] += (np.abs(departure) <= width * error).sum(axis=1)
        quarter = (np.floor(4 * ((one.times_s / self._cycle()) % 1.0))).astype(int) % 4
        inside = (np.abs(departure) <= LEVELS["90"] * error).sum(axis=1)
        for season in range(4):
            own = quarter == season
            self.seasons[season] += inside[own].sum(), known[own].sum()
        stated = chunk_rms(np.where(known, error, np.nan), self.series.starts)
        rmse = chunk_rms(departure, self.series.starts)
        whole = _padded(stated, self.spec.leads)
        sure = confidence(one.calibration, whole, self.spec.tolerance)[0][:leads]
        within = rmse <= self.spec.tolerance
        usable = np.isfinite(rmse) & np.isfinite(sure)
        self.pairs += list(zip(sure[usable], within[usable].astype(float), strict=True))
        self.weights.append(one.calibration.weights)

    def _cycle(self) -> float:
        """Seconds of the cycle whose quarters are the seasons: the longest there is, or a year."""
        return max(self.spec.periods_s, default=365.2425 * 86400.0)

    def report(self, speed: dict[str, float]) -> Report:
        """Return everything as plain numbers."""
        number = np.where(self.number > 0, self.number, np.nan)
        rmse = np.sqrt(self.squares / number[:, None])
        names = ("shadow", *CANDIDATES)
        # Each lead counts once for each capture that verified it.
        pooled = np.sqrt(self.squares.sum(axis=0) / np.nansum(number))
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = dict(zip(names, pooled[0] / pooled, strict=True))
            skill = {b: 1.0 - rmse[:, 0] / rmse[:, names.index(b)] for b in BASELINES}
            seasons = self.seasons[:, 0] / self.seasons[:, 1]
        coverage = {name: covered / number for name, covered in self.covered.items()}
        pairs = np.array(self.pairs).reshape(-1, 2)
        reliability = _reliability(pairs)
        total = max(1.0, sum(row["number"] for row in reliability))
        ece = sum(abs(r["confidence"] - r["within"]) * r["number"] for r in reliability) / total
        covered = self.covered["90"].sum() / np.nansum(number)
        suitable, verdict = _verdict(ratio, float(covered), float(ece))
        mean = np.mean(self.weights, axis=0)
        return Report(
            leads=list(range(1, self.spec.leads + 1)),
            rmse={n: rmse[:, names.index(n)].tolist() for n in ("shadow", *BASELINES)},
            skill={name: values.tolist() for name, values in skill.items()},
            ratio_to_persistence=float(ratio["persistence"]),
            ratio_to={name: float(value) for name, value in ratio.items() if name != "shadow"},
            crps=(self.crps / number).tolist(),
            coverage={name: values.tolist() for name, values in coverage.items()},
            coverage90=float(covered),
            coverage90_worst=float(np.nanmin(coverage["90"])),
            coverage90_season=float(np.nanmin(seasons)),
            ece=float(ece),
            brier=float(np.mean((pairs[:, 0] - pairs[:, 1]) ** 2)) if len(pairs) else np.nan,
            reliability=reliability,
            cells=self.series.values.shape[1],
            captures=len(self.series.slots),
            origins=len(self.weights),
            doubted=self.doubted,
            cells_per_second=speed,
            verdict=verdict,
            suitable=suitable,
            weights={name: mean[:, k].tolist() for k, name in enumerate(CANDIDATES)},
            specification=self.spec.to_json(),
        )


def _padded(values: Floats, leads: int) -> Floats:
    missing = np.full((leads - len(values), values.shape[1]), np.nan)
    return np.concatenate([values, missing])


def _crps(departure: Floats, error: Floats) -> Floats:
    """Score of a Gaussian forecast (Gneiting et al. 2005, eq. 5)."""
    z = departure / error
    density = np.exp(-0.5 * z**2) / np.sqrt(2.0 * np.pi)
    return np.asarray(
        error * (z * (2.0 * special.ndtr(z) - 1.0) + 2.0 * density - 1.0 / np.sqrt(np.pi))
    )


def _reliability(pairs: Floats) -> list[dict[str, float]]:
    bins = np.minimum((pairs[:, 0] * BINS).astype(int), BINS - 1)
    return [
        {
            "confidence": float(pairs[bins == k, 0].mean()),
            "within": float(pairs[bins == k, 1].mean()),
            "number": float((bins == k).sum()),
        }
        for k in np.unique(bins)
    ]


def _verdict(ratio: dict[str, float], covered: float, ece: float) -> tuple[bool, str]:
    """Whether predictions are worth keeping, and why, in words."""
    best = max(BASELINES, key=lambda name: ratio[name])
    percent = f"{ratio['persistence']:.0%} of the last capture's error"
    doubts = []
    if abs(covered - 0.9) > 0.03:
        doubts.append(f"90 % intervals cover {covered:.0%}")
    if ece > 0.1:
        doubts.append(f"the confidence is off by {ece:.0%}")
    honest = f"; take care: {' and '.join(doubts)}" if doubts else "; the error bars hold"
    if np.isnan(covered):
        return False, "unsuitable: nothing was captured that a forecast could be compared with"
    if not np.isfinite(ratio["persistence"]):
        return False, "unsuitable: the last capture is never wrong; nothing is to be gained"
    if ratio["persistence"] > WORTH:
        return False, f"unsuitable: predictions have {percent}; restore the last capture{honest}"
    if ratio[best] > WORTH:
        name = best.replace("_", " ")
        return True, f"of some use: {percent}, no better than the {name} alone{honest}"
    return True, f"suitable: predictions have {percent}{honest}"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
