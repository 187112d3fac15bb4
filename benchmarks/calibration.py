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

import gnomon
from gnomon.hindcasting import open_replay
from gnomon.tasks.hindcasting.hindcast import first_origin, truth_of
from gnomon.tasks.hindcasting.replay import Replay

Z90 = 1.6448536269514722
FEW = (4, 6, 10, 20, 40)


def piece(replay: Replay, first: int, values: Any = None) -> Replay:
    """A repository that begins with a later capture, or has other values in their place."""
    series = replay.series
    rows = series.values if values is None else values
    part = replace(series, instants=series.instants[series.offset + first :], values=rows[first:])
    return Replay(replay.traits, part, replay.calendar, replay.interval_s, share=replay.share)


def covered(replay: Replay) -> float:
    """Share of cells within the nominal 90 % intervals of the newest forecast, all leads."""
    issued = replay.forecast()
    if issued is None:
        return np.nan
    came = truth_of(replay, issued, replay.series.values)
    mean, error = issued.forecast.mean, issued.forecast.standard_error
    verified = np.isfinite(came) & np.isfinite(mean)
    return (
        float((np.abs(mean - came) <= Z90 * error)[verified].mean()) if verified.any() else np.nan
    )


def few_captures(replay: Replay, pieces: int) -> dict[int, float]:
    """Coverage from repositories with so many captures, begun all over the record."""
    result = {}
    values = replay.series.values
    for size in FEW:
        room = len(values) - size - replay.traits.leads
        if room < 1:
            continue
        shares = []
        for first in np.unique(np.linspace(0, room, pieces).astype(int)):
            begun = piece(replay, int(first))
            begun.update(size - 1)
            shares.append(covered(begun))
        result[size] = float(np.nanmean(shares))
    return result


def louder(replay: Replay, specification: dict[str, Any], jump: int) -> Any:
    """Values of the record with departures from the mean cycle doubled from a capture on."""
    series = replay.series
    times = series.instants[series.offset :] / 1e6 - specification["origin_s"]
    columns = [np.ones(len(times))]
    for period, harmonics in zip(
        specification["periods_s"], specification["harmonics"], strict=True
    ):
        for k in range(1, harmonics + 1):
            angle = 2 * np.pi * k * times / period
            columns += [np.cos(angle), np.sin(angle)]
    rows = np.stack(columns, axis=1)
    mean = np.nanmean(series.values, axis=0)
    filled = np.nan_to_num(series.values - mean)
    gram = rows[:jump].T @ rows[:jump] + 1e-3 * np.eye(rows.shape[1])
    cycle = rows @ np.linalg.solve(gram, rows[:jump].T @ filled[:jump]) + mean
    values = series.values.copy()
    values[jump:] = cycle[jump:] + 2.0 * (values[jump:] - cycle[jump:])
    return values


def after_jump(replay: Replay, specification: dict[str, Any]) -> list[float]:
    """Coverage by capture after departures doubled, at the first origin of a hindcast."""
    jump = first_origin(len(replay.series.instants)) - replay.series.offset
    values = louder(replay, specification, jump)
    begun = piece(replay, 0, values)
    begun.update(jump - 1)
    result = []
    for k in range(jump, len(values) - replay.traits.leads):
        result.append(covered(begun))
        begun.update(k)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source")
    parser.add_argument("--variable", required=True)
    parser.add_argument("--leads", type=int)
    parser.add_argument("--origins", type=int, default=30)
    parser.add_argument("--pieces", type=int, default=30)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    given = options.source, options.variable
    report = gnomon.hindcast(*given, leads=options.leads, origins=options.origins)
    replay = open_replay(*given, leads=options.leads)
    jump = after_jump(replay, report.specification)
    figures: dict[str, Any] = {
        "coverage": report.coverage,
        "coverage90": report.coverage90,
        "coverage90_worst_lead": report.coverage90_worst,
        "coverage90_worst_season": report.coverage90_season,
        "ece": report.ece,
        "brier": report.brier,
        "reliability": report.reliability,
        "ece_floor": report.ece_floor,
        "few_captures": few_captures(replay, options.pieces),
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
