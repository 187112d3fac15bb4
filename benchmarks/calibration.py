"""How honest the error bars are: python -m benchmarks.calibration SOURCE --variable V [--json].

Coverage of the nominal 50, 90 and 99 % intervals, by lead and season; calibration of the
confidence; coverage with few captures, from short pieces of the record; and coverage after the
variance jumps fourfold, which is made by doubling the departures from the mean cycle before.
"""

import argparse
import json
from dataclasses import replace
from typing import Any

import numpy as np

from gnomon.hindcasting import read_series
from gnomon.tasks.forecasting import Specification, fit_outlook, forecast, learn, roll
from gnomon.tasks.forecasting.climatology import features, prior
from gnomon.tasks.hindcast import Series, hindcast

Z90 = 1.6448536269514722
FEW = (4, 6, 10, 20, 40)


def fitted(spec: Specification, series: Series, window: slice) -> tuple[Any, ...]:
    """Specification, state and outlook of a piece of the record."""
    values = series.values[window]
    shape = len(values), len(series.starts) - 1
    given = series.slots[window], series.times_s[window], values, series.starts
    options = {"trusted": np.ones(shape, bool), "gated": np.ones(shape, bool)}
    # A piece shorter than one and a half cycles knows of no season.
    span = float(series.times_s[window][-1] - series.times_s[window][0])
    kept = [k for k, period in enumerate(spec.periods_s) if span >= 1.5 * period]
    spec = replace(
        spec,
        periods_s=tuple(spec.periods_s[k] for k in kept),
        harmonics=tuple(spec.harmonics[k] for k in kept),
    )
    spec, outlook = fit_outlook(spec, *given, **options)
    learnt = learn(spec, *given, **options, amplitudes=outlook.amplitudes)
    return spec, learnt.state, outlook


def covered(spec: Specification, state: Any, outlook: Any, series: Series, last: int) -> float:
    """Share of cells within the nominal 90 % intervals, all leads together."""
    ahead = slice(last + 1, last + 1 + spec.leads)
    made = forecast(spec, state, outlook, series.times_s[ahead])
    truth = series.values[ahead]
    known = np.isfinite(truth) & np.isfinite(made.mean)
    inside = np.abs(made.mean - truth) <= Z90 * made.standard_error
    return float(inside[known].mean()) if known.any() else np.nan


def few_captures(spec: Specification, series: Series, pieces: int) -> dict[int, float]:
    """Coverage from pieces of so many captures, spread over the record."""
    result = {}
    count = len(series.slots)
    for size in FEW:
        room = count - size - spec.leads
        if room < 1:
            continue
        found = []
        for first in np.unique(np.linspace(0, room, pieces).astype(int)):
            window = slice(int(first), int(first) + size)
            own, state, outlook = fitted(spec, series, window)
            found.append(covered(own, state, outlook, series, window.stop - 1))
        result[size] = float(np.nanmean(found))
    return result


def after_jump(spec: Specification, series: Series) -> list[float]:
    """Coverage by capture after departures doubled, at 70 % of the record."""
    count = len(series.slots)
    jump = int(0.7 * count)
    rows = features(spec, series.times_s)
    filled = np.nan_to_num(series.values - np.nanmean(series.values, axis=0))
    gram = rows[:jump].T @ rows[:jump] + prior(spec)
    cycle = rows @ np.linalg.solve(gram, rows[:jump].T @ filled[:jump])
    cycle += np.nanmean(series.values, axis=0)
    values = series.values.copy()
    values[jump:] = cycle[jump:] + 2.0 * (values[jump:] - cycle[jump:])
    louder = replace(series, values=values)
    spec, state, outlook = fitted(spec, louder, slice(max(0, jump - 512), jump))
    cells = outlook.patterns.shape[1]
    result = []
    for k in range(jump, count - spec.leads):
        result.append(covered(spec, state, outlook, louder, k - 1))
        slot, time_s = int(series.slots[k]), float(series.times_s[k])
        state = roll(spec, state, outlook, slot, time_s, values[k])
        outlook = outlook.roll(spec, slot, time_s, values[k, :cells])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source")
    parser.add_argument("--variable", required=True)
    parser.add_argument("--leads", type=int)
    parser.add_argument("--origins", type=int, default=60)
    parser.add_argument("--pieces", type=int, default=30)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    spec, series = read_series(options.source, options.variable, leads=options.leads)
    report = hindcast(spec, series, origins=options.origins)
    jump = after_jump(spec, series)
    figures: dict[str, Any] = {
        "coverage": report.coverage,
        "coverage90": report.coverage90,
        "coverage90_worst_lead": report.coverage90_worst,
        "coverage90_worst_season": report.coverage90_season,
        "ece": report.ece,
        "brier": report.brier,
        "reliability": report.reliability,
        "few_captures": few_captures(spec, series, options.pieces),
        "after_jump": {
            "1-10": float(np.nanmean(jump[:10])) if jump else None,
            "21-30": float(np.nanmean(jump[20:30])) if len(jump) > 20 else None,
            "31-60": float(np.nanmean(jump[30:60])) if len(jump) > 30 else None,
        },
    }
    if options.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        if name == "coverage":
            for level, shares in value.items():
                print(f"{level:>3} % intervals by lead: {' '.join(f'{s:.3f}' for s in shares)}")
        elif name == "reliability":
            print("confidence  within  number")
            for row in value:
                print(f"{row['confidence']:10.3f}{row['within']:8.3f}{row['number']:8.0f}")
        elif isinstance(value, dict):
            shown = ", ".join(
                f"{k}: {v:.3f}" if v is not None else f"{k}: -" for k, v in value.items()
            )
            print(f"{name.replace('_', ' ')}: {shown}")
        else:
            print(f"{name.replace('_', ' ')}: {value:.3f}")


if __name__ == "__main__":
    main()
