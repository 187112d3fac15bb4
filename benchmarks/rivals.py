"""Forecasts of single series by statsforecast; runs in an environment of its own.

    python benchmarks/rivals.py SERIES.npz MODEL...

SERIES.npz holds ``values`` (T, N), ``origins`` (O,), ``leads`` and ``season`` (slots, 1 for none).
For each model it writes SERIES-MODEL.npy, (O, H, N), and prints the seconds it took as JSON, and of
how many fits how many failed: there the last value is the forecast. A history begins with its first
value, and its gaps are filled in a straight line; values after the last one repeat it.
`benchmarks/skill.py` calls it; nothing of Gnomon is imported.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
from statsforecast.models import AutoARIMA, AutoETS, DynamicOptimizedTheta

MODELS = {"AutoARIMA": AutoARIMA, "AutoETS": AutoETS, "Theta": DynamicOptimizedTheta}


def without_gaps(history):
    """Return a series from its first value on, gaps filled; nothing if there is no value."""
    positions = np.flatnonzero(np.isfinite(history))
    if not positions.size:
        return history[:0]
    return np.interp(np.arange(positions[0], len(history)), positions, history[positions])


def main() -> None:
    path = Path(sys.argv[1])
    with np.load(path) as given:
        values, origins = given["values"], given["origins"]
        leads, season = int(given["leads"]), int(given["season"])
    short = np.sin(np.arange(30.0))
    for name in sys.argv[2:]:
        MODELS[name](season_length=1).forecast(short, leads)  # compile outside the clock
        forecasts = np.empty((len(origins), leads, values.shape[1]))
        failed = 0
        begun = time.perf_counter()
        for i, origin in enumerate(origins):
            for cell in range(values.shape[1]):
                history = without_gaps(values[: origin + 1, cell])
                last = history[-1] if history.size else np.nan
                try:
                    mean = MODELS[name](season_length=season).forecast(history, leads)["mean"]
                except Exception:  # noqa: BLE001 - a model that fails counts as the last value
                    mean, failed = np.full(leads, last), failed + 1
                if not np.isfinite(mean).all():
                    mean, failed = np.full(leads, last), failed + 1
                forecasts[i, :, cell] = mean
        seconds = time.perf_counter() - begun
        np.save(path.with_name(f"{path.stem}-{name}.npy"), forecasts)
        fits = len(origins) * values.shape[1]
        print(json.dumps({"model": name, "seconds": seconds, "fits": fits, "failed": failed}))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
