"""Skill of the shadow on any dataset, beside its baselines and beside statsforecast.

    python -m benchmarks.skill SOURCE --variable V [--leads H] [--origins N] [--candidate NAME]
                               [--rivals] [--json]

Ratio of RMSE to restoring the last capture, all leads together, over the last 30 % of the record,
as `gnomon hindcast` has it, with the interval that its origins allow. ``--rivals`` fits AutoARIMA,
AutoETS and Theta to single cells at some of the same origins, in the environment that ``make
rivals`` makes, and scores everything on those cells and origins alone.

Cells are drawn from those with the fewest gaps. A rival gets a history without gaps: what a cell
lacks before its first value is left out, and gaps after it are filled in a straight line. Where a
model fails, its forecast is the last value, and the table says how often.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

import gnomon
from gnomon.hindcasting import forecasts, open_replay
from gnomon.tasks.forecasting import names_of
from gnomon.tasks.hindcasting.score import Scored

RIVALS = ("AutoARIMA", "AutoETS", "Theta")
ENVIRONMENT = Path(".venv-rivals/bin/python")


def run_rivals(
    environment: Path, models: list[str], values: Any, origins: list[int], leads: int, season: int
) -> dict[str, tuple[Any, dict[str, Any]]]:
    """Forecasts (O, H, N) of series (T, N) by each model, with fits, failures, and seconds."""
    runs = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "series.npz"
        np.savez(path, values=values, origins=origins, leads=leads, season=season)
        command = [str(environment), str(Path(__file__).with_name("rivals.py")), str(path)]
        # One core for each: what is compared is work, not the number of cores.
        alone = os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
        done = subprocess.run(
            [*command, *models], check=True, capture_output=True, text=True, env=alone
        )
        for line in done.stdout.splitlines():
            figures = json.loads(line)
            predicted = np.load(path.with_name(f"{path.stem}-{figures['model']}.npy"))
            runs[figures["model"]] = predicted, figures
    return runs


def pick_cells(values: Any, count: int) -> Any:
    """Cells (N,) of a record (T, N), drawn from those that have a value most often."""
    counts = np.isfinite(values).sum(axis=0)
    best = np.flatnonzero(counts >= max(1, 0.98 * counts.max(initial=0)))
    rng = np.random.default_rng(0)
    return np.sort(rng.choice(best, min(count, len(best)), replace=False))


def compare(
    options: argparse.Namespace, replay: Any, scored: list[Scored], specification: dict[str, Any]
) -> dict[str, Any]:
    """Ratios to persistence of everything on the same cells and origins, and series per second."""
    series = replay.series
    cells = pick_cells(series.values, options.cells)
    places = np.unique(np.linspace(0, len(scored) - 1, options.rival_origins).astype(int))
    chosen = [scored[place] for place in places]
    season = options.season or season_of(specification)
    models = [m for m in RIVALS if m not in options.without]
    runs = run_rivals(
        options.environment,
        models,
        series.values[:, cells],
        [s.issued.origin - series.offset for s in chosen],
        replay.traits.leads,
        season,
    )
    predictions = {name: list(predicted) for name, (predicted, _) in runs.items()}
    predictions["shadow"] = [s.issued.forecast.mean[:, cells] for s in chosen]
    for k, name in enumerate(names_of(chosen[-1].issued.specification)):
        predictions[name] = [s.issued.candidates[:, k, cells] for s in chosen]
    return {
        "cells": len(cells),
        "origins": len(chosen),
        "season": season,
        "ratio_to_persistence": ratios(predictions, [s.truth[:, cells] for s in chosen]),
        "series_per_second": {n: run["fits"] / run["seconds"] for n, (_, run) in runs.items()},
        "failed": {n: [run["failed"], run["fits"]] for n, (_, run) in runs.items()},
    }


def ratios(predictions: dict[str, list[Any]], truths: list[Any]) -> dict[str, float]:
    """RMSE of each over that of persistence, where all of them and the truth are known."""
    squares = dict.fromkeys(predictions, 0.0)
    for place, truth in enumerate(truths):
        complete = np.isfinite(truth)
        for predicted in predictions.values():
            complete &= np.isfinite(predicted[place])
        for name, predicted in predictions.items():
            squares[name] += float(((predicted[place] - truth)[complete] ** 2).sum())
    still = squares["persistence"] or float("nan")
    return {name: float(np.sqrt(square / still)) for name, square in squares.items()}


def season_of(specification: dict[str, Any]) -> int:
    """Slots of the shortest season that a rival can be given; 1: none."""
    interval_s = specification["interval_s"]
    slots = [round(period / interval_s) for period in specification["periods_s"]]
    return min((s for s in slots if 1 < s <= 366), default=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source")
    parser.add_argument("--variable", required=True)
    parser.add_argument("--leads", type=int)
    parser.add_argument("--origins", type=int, default=30)
    parser.add_argument(
        "--candidate", action="append", default=[], help="model beside the built-in ones; repeat"
    )
    parser.add_argument("--rivals", action="store_true", help="compare with statsforecast")
    parser.add_argument("--cells", type=int, default=40, help="cells that rivals are fitted to")
    parser.add_argument("--rival-origins", type=int, default=8)
    parser.add_argument("--season", type=int, help="slots of the rivals' season; 1: none")
    parser.add_argument("--without", nargs="*", default=[], choices=RIVALS, help="too slow here")
    parser.add_argument("--environment", type=Path, default=ENVIRONMENT)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    begun = perf_counter()
    given = options.source, options.variable
    asked = {"leads": options.leads, "candidates": options.candidate}
    if options.rivals:
        replay = open_replay(*given, **asked)
        scored, hindcast_report = forecasts(replay, origins=options.origins)
        report = hindcast_report.to_json()
        report["seconds_of_all_own_hindcasts"] = perf_counter() - begun
        report["rivals"] = compare(options, replay, scored, report["specification"])
    else:
        report = gnomon.hindcast(*given, origins=options.origins, **asked).to_json()
    if options.json:
        print(json.dumps(report))
        return
    print(f"{report['cells']} cells, {report['captures']} captures, {report['origins']} origins")
    print("ratio of RMSE to the last capture's, all leads together:")
    low, high = report["ratio_to_persistence_interval"]
    print(f"  {'shadow':20}{_number(report['ratio_to_persistence'])}", end="")
    print(f"   ({_number(low).strip()} to {_number(high).strip()})")
    for name, ratio in report["ratio_to"].items():
        to_persistence = report["ratio_to_persistence"]
        print(f"  {name:20}{_number(to_persistence / ratio if to_persistence and ratio else None)}")
    for level, share in report["coverage_overall"].items():
        low, high = report["coverage_interval"][level]
        print(f"{level} % covers {_number(share)}   ({_number(low)} to {_number(high)})")
    print(f"ece {report['ece']:.3f}, by chance {report['ece_floor']:.3f}; {report['verdict']}")
    if options.rivals:
        print_rivals(report["rivals"])


def print_rivals(rivals: dict[str, Any]) -> None:
    print(f"on {rivals['cells']} cells at {rivals['origins']} origins:")
    for name, ratio in sorted(rivals["ratio_to_persistence"].items(), key=lambda x: x[1]):
        speed = rivals["series_per_second"].get(name)
        line = f"  {name:20}{ratio:8.3f}" + (f"{speed:12.1f} series/s" if speed else "")
        failed, fits = rivals["failed"].get(name, (0, 0))
        print(line + (f"; {failed} of {fits} fits failed: the last value counts" if failed else ""))


def _number(value: float | None) -> str:
    return f"{'-':>8}" if value is None else f"{value:8.3f}"


if __name__ == "__main__":
    main()
