"""The verdict on a hindcast: is a shadow worth having, and do its error bars hold, in words."""

from math import isfinite, isnan

from gnomon.tasks.hindcasting.noise import Interval

__all__ = ["BASELINES", "verdict"]

BASELINES = ("persistence", "climatology", "damped_anomaly")
"""What the shadow must beat."""
WORTH = 0.98
"""Ratio of errors above which the shadow is hardly better than a baseline."""
ALLOWED = {"50": 0.05, "90": 0.03, "99": 0.01}
"""How far the coverage of an interval may be from what it claims."""
LEAST_SEASON = 0.85
"""Coverage of the 90 % interval in the worst season, below which it is told."""
ALLOWED_ECE = 0.05
"""Calibration error that is no matter, however certain it is."""


def verdict(
    ratio: dict[str, float],
    ratio_interval: dict[str, Interval],
    coverage: dict[str, float] | None,
    coverage_interval: dict[str, Interval],
    season: tuple[float, Interval],
    ece: tuple[float, float, float],
    *,
    compared: bool = True,
) -> tuple[bool, str]:
    """Return whether predictions are worth keeping, and why, in words.

    Parameters
    ----------
    ratio, ratio_interval
        RMSE over that of each baseline, all leads together.
    coverage, coverage_interval
        Of the nominal 50, 90 and 99 % intervals; None of flags, which have none.
    season
        Coverage of the 90 % interval in the worst season.
    ece
        Calibration error, that of a perfect confidence, and the limit of what chance would show.
    compared
        Whether anything was captured that was forecast.
    """
    if not compared:
        return False, "unsuitable: nothing was captured that a forecast could be compared with"
    if not isfinite(ratio["persistence"]):
        return False, "unsuitable: the last capture is never wrong; nothing is to be gained"
    honest = _honesty(coverage, coverage_interval, season, ece)
    # The greatest ratio is to the smallest error: this one is the hardest to beat.
    best = max(BASELINES, key=lambda name: ratio[name])
    to_persistence, high = ratio["persistence"], ratio_interval["persistence"][1]
    percent = (
        f"{to_persistence:.0%} of the last capture's error{_range(ratio_interval['persistence'])}"
    )
    if to_persistence > WORTH:
        why = f"predictions have {percent}; restore the last capture"
        if coverage is None:
            why = "the forecast of flags is the last capture itself"
        return False, f"unsuitable: {why}{honest}"
    if not high < 1.0:  # unknown too, where only one origin counts
        tie = "which so few origins cannot tell from all of it"
        return False, f"unsuitable so far: predictions have {percent}, {tie}{honest}"
    if ratio[best] > WORTH or not ratio_interval[best][1] < 1.0:
        name = best.replace("_", " ")
        words = "no better than" if ratio[best] > WORTH else "a tie with"
        return True, f"of some use: predictions have {percent}, {words} the {name} alone{honest}"
    return True, f"suitable: predictions have {percent}{honest}"


def _honesty(
    coverage: dict[str, float] | None,
    intervals: dict[str, Interval],
    season: tuple[float, Interval],
    ece: tuple[float, float, float],
) -> str:
    """What can be said of the error bars and the confidence."""
    wrong: list[str] = []
    unsure: list[str] = []
    for level, share in (coverage or {}).items():
        nominal, allowed, (low, high) = int(level) / 100, ALLOWED[level], intervals[level]
        if abs(share - nominal) <= allowed:
            continue
        words = f"{level} % intervals cover {share:.0%}{_range((low, high))}"
        # Only if all of the interval is outside: few origins are no fault of the error bars.
        certain = high < nominal - allowed or low > nominal + allowed
        (wrong if certain else unsure).append(words)
    worst, (_, high) = season
    if worst < LEAST_SEASON:
        words = f"90 % intervals cover {worst:.0%} in the worst season{_range(season[1])}"
        (wrong if high < LEAST_SEASON else unsure).append(words)
    off, usual, limit = ece
    # Both: chance makes a short record look wrong, and a long one makes trifles certain.
    if off > ALLOWED_ECE and off > limit:
        wrong.append(f"the confidence is off by {off:.2f}, a perfect one would be by {usual:.2f}")
    parts = []
    if wrong:
        parts.append(f"; take care: {' and '.join(wrong)}")
    if unsure:
        parts.append(f"; too few origins to be sure: {' and '.join(unsure)}")
    holds = "confidence holds" if coverage is None else "error bars hold"
    return "".join(parts) or f"; the {holds}"


def _range(interval: Interval) -> str:
    low, high = interval
    return "" if isnan(low) else f" ({max(low, 0.0):.0%} to {high:.0%})"
