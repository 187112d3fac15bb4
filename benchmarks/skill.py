"""Skill of the shadow on any dataset, beside its baselines and beside statsforecast.

    python -m benchmarks.skill SOURCE --variable V [--leads H] [--origins N] [--rivals] [--json]

Ratio of RMSE to restoring the last capture, all leads together, over the last 30 % of the record.
``--rivals`` fits AutoARIMA, AutoETS and Theta to single cells at some of the same origins, in the
environment that ``make rivals`` makes, and scores everything on those cells and origins alone.
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

from gnomon.hindcasting import read_series
from gnomon.tasks.forecasting import CANDIDATES
from gnomon.tasks.hindcast import Issued, Series, hindcast, issue

RIVALS = ("AutoARIMA", "AutoETS", "Theta")
ENVIRONMENT = Path(".venv-rivals/bin/python")


def run_rivals(
    environment: Path, models: list[str], values: Any, origins: list[int], leads: int, season: int
) -> dict[str, tuple[Any, float]]:
    """Forecasts (O, H, N) of series (T, N) by each model, and its fits per second, on one core."""
    found = {}
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
            one = json.loads(line)
            made = np.load(path.with_name(f"{path.stem}-{one['model']}.npy"))
            found[one["model"]] = made, one["fits"] / one["seconds"]
    return found


def compare(
    options: argparse.Namespace, spec: Any, series: Series, issued: list[Issued]
) -> dict[str, Any]:
    """Ratios to persistence of everything on the same cells and origins, and series per second."""
    whole = np.flatnonzero(np.isfinite(series.values).all(axis=0))
    rng = np.random.default_rng(0)
    cells = np.sort(rng.choice(whole, min(options.cells, len(whole)), replace=False))
    places = np.unique(np.linspace(0, len(issued) - 1, options.rival_origins).astype(int))
    chosen = [issued[place] for place in places]
    season = options.season or _season(spec)
    models = [m for m in RIVALS if m not in options.without]
    origins = [one.origin for one in chosen]
    found = run_rivals(
        options.environment, models, series.values[:, cells], origins, spec.leads, season
    )
    ratios: dict[str, float] = {}
    for name, (made, _) in found.items():
        cut = [m[: len(o.truth)] for m, o in zip(made, chosen, strict=True)]
        ratios[name] = _ratio(chosen, cells, cut)
    speeds = {name: speed for name, (_, speed) in found.items()}
    ratios["shadow"] = _ratio(chosen, cells, [one.mean[:, cells] for one in chosen])
    for k, name in enumerate(CANDIDATES):
        ratios[name] = _ratio(chosen, cells, [one.candidates[:, k, cells] for one in chosen])
    return {
        "cells": len(cells),
        "origins": len(chosen),
        "season": season,
        "ratio_to_persistence": ratios,
        "series_per_second": speeds,
    }


def _season(spec: Any) -> int:
    slots = [round(period / spec.interval_s) for period in spec.periods_s]
    return min((s for s in slots if 1 < s <= 366), default=1)


def _ratio(chosen: list[Issued], cells: Any, made: list[Any]) -> float:
    square, still = 0.0, 0.0
    for one, predicted in zip(chosen, made, strict=True):
        truth = one.truth[:, cells]
        known = np.isfinite(truth)
        square += float(((predicted - truth)[known] ** 2).sum())
        still += float(((one.candidates[:, 0, cells] - truth)[known] ** 2).sum())
    return float(np.sqrt(square / still))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source")
    parser.add_argument("--variable", required=True)
    parser.add_argument("--leads", type=int)
    parser.add_argument("--origins", type=int, default=30)
    parser.add_argument("--rivals", action="store_true", help="compare with statsforecast")
    parser.add_argument("--cells", type=int, default=40, help="cells that rivals are fitted to")
    parser.add_argument("--rival-origins", type=int, default=8)
    parser.add_argument("--season", type=int, help="slots of the rivals' season; 1: none")
    parser.add_argument("--without", nargs="*", default=[], choices=RIVALS, help="too slow here")
    parser.add_argument("--environment", type=Path, default=ENVIRONMENT)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    spec, series = read_series(options.source, options.variable, leads=options.leads)
    report = hindcast(spec, series, origins=options.origins).to_json()
    if options.rivals:
        begun = perf_counter()
        issued, _ = issue(spec, series, origins=options.origins)
        report["rivals"] = compare(options, spec, series, issued)
        report["rivals"]["seconds_of_all_own_hindcasts"] = perf_counter() - begun
    if options.json:
        print(json.dumps(report))
        return
    print(f"{report['cells']} cells, {report['captures']} captures, {report['origins']} origins")
    print("ratio of RMSE to the last capture's, all leads together:")
    own = report["ratio_to_persistence"]
    print(f"  {'shadow':20}{own:8.3f}")
    for name, ratio in report["ratio_to"].items():
        print(f"  {name:20}{own / ratio if ratio else float('nan'):8.3f}")
    print(f"coverage {report['coverage90']:.3f}, ece {report['ece']:.3f}; {report['verdict']}")
    if options.rivals:
        rivals = report["rivals"]
        print(f"on {rivals['cells']} cells at {rivals['origins']} origins:")
        for name, ratio in sorted(rivals["ratio_to_persistence"].items(), key=lambda x: x[1]):
            speed = rivals["series_per_second"].get(name)
            print(f"  {name:20}{ratio:8.3f}" + (f"{speed:12.1f} series/s" if speed else ""))


if __name__ == "__main__":
    main()
