"""Forecasts of single series by statsforecast; runs in an environment of its own.

    python benchmarks/rivals.py SERIES.npz MODEL...

SERIES.npz holds ``values`` (T, N), ``origins`` (O,), ``leads`` and ``season`` (slots, 1 for none).
For each model it writes SERIES-MODEL.npy, (O, H, N), and prints the seconds it took as JSON.
`benchmarks/skill.py` calls it; nothing of Gnomon is imported.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
from statsforecast.models import AutoARIMA, AutoETS, DynamicOptimizedTheta

MODELS = {"AutoARIMA": AutoARIMA, "AutoETS": AutoETS, "Theta": DynamicOptimizedTheta}


def main() -> None:
    path = Path(sys.argv[1])
    with np.load(path) as given:
        values, origins = given["values"], given["origins"]
        leads, season = int(given["leads"]), int(given["season"])
    short = values[: min(len(values), 30), 0]
    for name in sys.argv[2:]:
        MODELS[name](season_length=1).forecast(short, leads)  # compile outside the clock
        made = np.empty((len(origins), leads, values.shape[1]))
        failed = 0
        begun = time.perf_counter()
        for i, origin in enumerate(origins):
            for cell in range(values.shape[1]):
                history = values[: origin + 1, cell]
                try:
                    found = MODELS[name](season_length=season).forecast(history, leads)["mean"]
                except Exception:  # noqa: BLE001 - a model that fails counts as the last value
                    found, failed = np.full(leads, history[-1]), failed + 1
                made[i, :, cell] = found
        seconds = time.perf_counter() - begun
        np.save(path.with_name(f"{path.stem}-{name}.npy"), made)
        fits = len(origins) * values.shape[1]
        print(json.dumps({"model": name, "seconds": seconds, "fits": fits, "failed": failed}))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
