"""The score of a hindcast: its forecasts, one after another, beside what came; and the report."""

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from gnomon.storage.values.times import SECOND
from gnomon.tasks.forecasting import CANDIDATES, Specification, labels, names_of
from gnomon.tasks.forecasting.engine import chunk_rms
from gnomon.tasks.hindcasting.noise import (
    Blocks,
    Interval,
    calibration_error,
    chance_error,
    reliability,
)
from gnomon.tasks.hindcasting.replay import Issued, Replay
from gnomon.tasks.hindcasting.verdict import BASELINES, verdict
from gnomon.tasks.learning.cadence import identify_cadence

__all__ = ["BASELINES", "HindcastReport", "Score", "Scored"]

LEVELS = {"50": 0.6744897501960817, "90": 1.6448536269514722, "99": 2.5758293035489004}
"""Nominal coverage in percent, and the half width of its interval in standard errors."""
SEASONS = 4

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(slots=True)
class HindcastReport:
    """What a hindcast found. Lists are by lead; intervals hold the truth with 95 %."""

    leads: list[int]
    rmse: dict[str, list[float]]
    """Of the shadow and of the baselines, variable's units; of labels the share of cells with
    another one, NaN of baselines that are no labels."""
    skill: dict[str, list[float]]
    """One less the ratio of the shadow's RMSE to that of each baseline."""
    ratio_to_persistence: float
    """RMSE over that of the last capture, all leads together."""
    ratio_to_persistence_interval: Interval
    ratio_to: dict[str, float]
    """The same over each baseline and each candidate."""
    ratio_to_interval: dict[str, Interval]
    crps: list[float]
    """Continuous ranked probability score, variable's units; NaN of labels."""
    coverage: dict[str, list[float]]
    """Share of cells within the nominal 50, 90 and 99 % intervals; NaN of labels."""
    coverage_overall: dict[str, float]
    """The same, all leads together."""
    coverage_interval: dict[str, Interval]
    coverage90: float
    coverage90_interval: Interval
    coverage90_worst: float
    """Of the worst lead."""
    coverage90_season: float
    """Of the worst quarter of the year, or of the day."""
    coverage90_season_interval: Interval
    ece: float
    """Expected calibration error of the chunks' confidence."""
    ece_floor: float
    """The same of a perfect confidence, which so few origins would show: the mean."""
    ece_limit: float
    """What a perfect confidence would show in one of 20 such records, or more."""
    brier: float
    reliability: list[dict[str, float]]
    """By bin: mean confidence, share within tolerance, number."""
    cells: int
    captures: int
    origins: int
    independent_origins: float
    """How many they are worth, as their forecasts overlap."""
    doubted: float
    """Share of the captured chunks that are not believed, and neither learnt nor scored."""
    refits: int
    """How often everything was learnt anew."""
    cells_per_second: dict[str, float]
    verdict: str
    suitable: bool
    weights: dict[str, list[float]]
    """Of the candidates, mean over the origins."""
    specification: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types, NaN as None."""
        document = _plain(asdict(self))
        assert isinstance(document, dict)
        return document


@dataclass(frozen=True, slots=True)
class Scored:
    """One forecast beside what came."""

    issued: Issued
    truth: Floats
    """(H, N) captured; NaN where missing, not captured, or not believed."""
    doubted: float
    """Share of the record's captured chunks that are not believed."""


class Score:
    """What each origin adds to the figures: sums over cells, by origin (first axis) and lead."""

    def __init__(self, replay: Replay) -> None:
        self.replay = replay
        self.labels = replay.traits.categorical
        self.names: tuple[str, ...] = CANDIDATES
        """Of the candidates, of the newest forecast."""
        series = replay.series
        # One grid for all origins: that of their own refits moves.
        self.cadence = identify_cadence(series.instants, replay.calendar, replay.interval_s)
        self.last: Scored | None = None
        self.origins: list[int] = []
        """Slots of the reference times."""
        self.rows: list[dict[str, Floats]] = []
        self.pairs: list[Floats] = []
        self.weights: list[Floats] = []

    def add(self, scored: Scored) -> None:
        """Score one forecast; cells count where truth, forecast and all candidates are known."""
        self.last, self.names = scored, names_of(scored.issued.specification)
        mean, truth, predictions = (
            scored.issued.forecast.mean,
            scored.truth,
            scored.issued.candidates,
        )
        # The same cells for all: none must gain by having nothing to say where it is hard.
        verified = np.isfinite(truth) & np.isfinite(predictions).all(axis=1) & np.isfinite(mean)
        departure = np.where(verified, mean - truth, np.nan)
        every = np.concatenate([mean[:, None], predictions], axis=1)
        row: dict[str, Floats] = {
            "number": verified.sum(axis=1).astype(np.float64),
            "squares": np.where(verified[:, None], self._squares(every, truth), 0.0).sum(axis=2),
            **self._bars(departure, scored.issued.forecast.standard_error),
        }
        phase = (scored.issued.instants / SECOND / self._cycle()) % 1.0
        in_season = (SEASONS * phase).astype(int)[:, None] == np.arange(SEASONS)
        row["seasons"] = np.stack([row["90"] @ in_season, row["number"] @ in_season], axis=1)
        self.rows.append(row)
        compared, within = self._within(np.where(verified, mean, np.nan), truth)
        # What was doubted has no truth to be scored with: its share is not held against it.
        stated = scored.issued.forecast.confidence / (
            1.0 - scored.issued.outlook.calibration.doubted
        )
        # Where all was doubted this is 0 / 0, NaN, and left out.
        usable = compared & np.isfinite(stated)
        origin = np.full(usable.sum(), len(self.origins))
        self.pairs.append(np.stack([stated[usable], within[usable], origin], axis=1))
        reference = int(self.replay.series.instants[scored.issued.origin])
        self.origins.append(self.cadence.slot(reference))
        self.weights.append(scored.issued.outlook.calibration.weights)

    def _squares(self, every: Floats, truth: Floats) -> Floats:
        """Squared errors (H, 1 + C, N) of the forecast and the candidates.

        A label is wrong, whichever another one is. Only the forecast and the last capture are
        labels: between them nothing lies.
        """
        if not self.labels:
            return np.asarray((every - truth[:, None]) ** 2)
        wrong: Floats = (every != truth[:, None]).astype(np.float64)
        wrong[:, 1:][:, [name != "persistence" for name in self.names]] = np.nan
        return wrong

    def _bars(self, departure: Floats, error: Floats) -> dict[str, Floats]:
        """Sums over cells (H,) of what is scored of error bars, which labels have not."""
        if self.labels:
            return dict.fromkeys(("crps", *LEVELS), np.full(len(departure), np.nan))
        covered = {
            name: (np.abs(departure) <= width * error).sum(axis=1).astype(np.float64)
            for name, width in LEVELS.items()
        }
        return {"crps": np.nansum(_crps(departure, error), axis=1), **covered}

    def _within(self, mean: Floats, truth: Floats) -> tuple[Flags, Flags]:
        """Chunks (H, G) of which something was compared, and those within the tolerance."""
        starts = self.replay.series.starts
        if self.labels:
            cells, changed = labels.compare(mean, truth, starts)
            return cells > 0, labels.is_within(self._spec, cells, changed)
        rmse = chunk_rms(mean - truth, starts)
        return np.isfinite(rmse), rmse <= self._spec.tolerance

    def _sums(self, name: str) -> Floats:
        return np.stack([row[name] for row in self.rows])

    @property
    def blocks(self) -> Blocks:
        """How the origins hang together."""
        return Blocks.of(np.array(self.origins), self.replay.traits.leads)

    def _cycle(self) -> float:
        """Seconds of the cycle whose quarters are the seasons: the longest there is, or a year."""
        return max(self._spec.periods_s, default=self.replay.traits.year_s)

    @property
    def _spec(self) -> Specification:
        assert self.last is not None
        return self.last.issued.specification

    def _ratios(self) -> tuple[dict[str, float], dict[str, Interval]]:
        """Ratio of RMSE to each candidate's, all leads together, and its interval."""
        # Each lead counts once for each capture that verified it.
        sums = self._sums("squares").sum(axis=1)
        compare = _quotient if self.labels else _root_ratio
        ratios: dict[str, float] = {}
        intervals: dict[str, Interval] = {}
        for k, name in enumerate(self.names, start=1):
            pair = sums[:, [0, k]]
            with np.errstate(divide="ignore", invalid="ignore"):
                # Of sums, not the mean of ratios: an origin that is nearly perfect has any ratio.
                ratios[name] = float(compare(pair.sum(axis=0)))
            intervals[name] = self.blocks.interval(pair, compare)
        return ratios, intervals

    def _coverage(self, name: str) -> tuple[float, Interval]:
        """Coverage of a nominal interval, all leads together."""
        sums = np.stack([self._sums(n).sum(axis=1) for n in (name, "number")], axis=1)
        return self._share(sums)

    def _share(self, sums: Floats) -> tuple[float, Interval]:
        with np.errstate(divide="ignore", invalid="ignore"):
            share = float(_quotient(sums.sum(axis=0)))
        low, high = self.blocks.interval(sums, _quotient)
        return share, (max(low, 0.0), min(high, 1.0)) if np.isfinite(low) else (low, high)

    def _worst_season(self) -> tuple[float, Interval]:
        """Coverage of the 90 % interval in the season where it is least."""
        sums = self._sums("seasons")
        shares = [self._share(sums[:, season]) for season in range(SEASONS)]
        nothing = float("nan"), (float("nan"), float("nan"))
        return min((f for f in shares if np.isfinite(f[0])), key=lambda f: f[0], default=nothing)

    def _confidence(self) -> dict[str, Any]:
        """How well the confidence is calibrated, and a perfect one would be."""
        stated, within, origins = np.concatenate(self.pairs).T
        floor, limit = chance_error(stated, within, origins.astype(np.int64), self.blocks)
        return {
            "ece": calibration_error(stated, within),
            "ece_floor": floor,
            "ece_limit": limit,
            "brier": float(np.mean((stated - within) ** 2)) if len(stated) else np.nan,
            "reliability": reliability(stated, within),
        }

    def report(self) -> HindcastReport:
        """Return everything as plain numbers."""
        total = self._sums("number").sum(axis=0)
        number = np.where(total > 0, total, np.nan)
        names = ("shadow", *self.names)
        rmse = self._sums("squares").sum(axis=0) / number[:, None]
        rmse = rmse if self.labels else np.sqrt(rmse)
        with np.errstate(divide="ignore", invalid="ignore"):
            skill = {b: 1.0 - rmse[:, 0] / rmse[:, names.index(b)] for b in BASELINES}
        ratio, ratio_interval = self._ratios()
        coverage = {name: self._sums(name).sum(axis=0) / number for name in LEVELS}
        overall = {name: self._coverage(name) for name in LEVELS}
        shares = {name: share for name, (share, _) in overall.items()}
        intervals = {name: interval for name, (_, interval) in overall.items()}
        season, sure = self._worst_season(), self._confidence()
        suitable, words = verdict(
            ratio,
            ratio_interval,
            None if self.labels else shares,
            intervals,
            season,
            (sure["ece"], sure["ece_floor"], sure["ece_limit"]),
            compared=bool(total.any()),
        )
        mean = np.mean(self.weights, axis=0)
        assert self.last is not None
        return HindcastReport(
            leads=list(range(1, self.replay.traits.leads + 1)),
            rmse={n: rmse[:, names.index(n)].tolist() for n in ("shadow", *BASELINES)},
            skill={name: values.tolist() for name, values in skill.items()},
            ratio_to_persistence=ratio["persistence"],
            ratio_to_persistence_interval=ratio_interval["persistence"],
            ratio_to=ratio,
            ratio_to_interval=ratio_interval,
            crps=(self._sums("crps").sum(axis=0) / number).tolist(),
            coverage={name: values.tolist() for name, values in coverage.items()},
            coverage_overall=shares,
            coverage_interval=intervals,
            coverage90=overall["90"][0],
            coverage90_interval=overall["90"][1],
            coverage90_worst=_least(coverage["90"]),
            coverage90_season=season[0],
            coverage90_season_interval=season[1],
            cells=int(np.isfinite(self.replay.series.values).any(axis=0).sum()),
            captures=len(self.replay.series.instants),
            origins=len(self.origins),
            independent_origins=self.blocks.independent,
            doubted=self.last.doubted,
            refits=len(self.replay.seconds["refit"]),
            cells_per_second=self._speed(),
            verdict=words,
            suitable=suitable,
            weights={name: mean[:, k].tolist() for k, name in enumerate(self.names)},
            specification=self._spec.to_json(),
            **sure,
        )

    def _speed(self) -> dict[str, float]:
        """Cells per second of a usual refit, and of a usual roll."""
        cells = self.replay.series.values.shape[1]
        return {
            name: cells / float(np.median(seconds)) if seconds else float("nan")
            for name, seconds in self.replay.seconds.items()
        }


def _root_ratio(sums: Floats) -> Floats:
    return np.asarray(np.sqrt(sums[..., 0] / sums[..., 1]))


def _quotient(sums: Floats) -> Floats:
    return np.asarray(sums[..., 0] / sums[..., 1])


def _least(values: Floats) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.min()) if finite.size else float("nan")


def _crps(departure: Floats, error: Floats) -> Floats:
    """Score of a Gaussian forecast (Gneiting et al. 2005, eq. 5)."""
    z = departure / error
    density = np.exp(-0.5 * z**2) / np.sqrt(2.0 * np.pi)
    return np.asarray(
        error * (z * (2.0 * special.ndtr(z) - 1.0) + 2.0 * density - 1.0 / np.sqrt(np.pi))
    )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
