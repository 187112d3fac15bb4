"""What each candidate beside the built-in ones is worth on any dataset.

    python -m benchmarks.candidates SOURCE --variable V [--candidate NAME ...] [--leads H]
                                    [--origins N] [--json]

For each candidate, of those installed or of those that are named: the ratio of its own RMSE to that
of restoring the last capture; the same of the shadow that is blended with it; and the ratio of that
shadow's RMSE to that of the shadow without it, on the same cells and times, with the interval that
the origins allow.  Above 1 the candidate does harm.  The last row has all of them together.
"""

import argparse
import json
from time import process_time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon.hindcasting import forecasts, open_replay
from gnomon.tasks.forecasting import CANDIDATES, names_of, registry
from gnomon.tasks.hindcasting.noise import Blocks
from gnomon.tasks.hindcasting.score import Scored

Squares = dict[int, dict[str, NDArray[np.float64]]]
"""By origin: squared errors (H, N) of the shadow, of the last capture, and of each candidate."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source")
    parser.add_argument("--variable", required=True)
    parser.add_argument("--candidate", action="append", default=[])
    parser.add_argument("--leads", type=int)
    parser.add_argument("--origins", type=int, default=24)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    names = options.candidate or list(registry.installed())
    plain, slots, leads, seconds = hindcast(options, [])
    rows = [row("none", plain, plain, slots, leads, seconds)]
    for chosen in [*([name] for name in names), *([names] if len(names) > 1 else [])]:
        squares, *_, seconds = hindcast(options, chosen)
        title = chosen[0] if len(chosen) == 1 else "all of them"
        rows.append(row(title, squares, plain, slots, leads, seconds))
        if not options.json:
            show(rows[-1], first=len(rows) == 2, plain=rows[0])
    if options.json:
        print(json.dumps(rows))


def hindcast(options: Any, chosen: list[str]) -> tuple[Squares, NDArray[np.int64], int, float]:
    """Squared errors of a hindcast, slots of its origins, leads, and seconds of processor."""
    begun = process_time()
    replay = open_replay(options.source, options.variable, leads=options.leads, candidates=chosen)
    scored, _ = forecasts(replay, origins=options.origins)
    squares = {forecast.issued.origin: squares_of(forecast) for forecast in scored}
    slots = np.array([replay.series.instants[k] for k in squares])
    step = float(np.median(np.diff(replay.series.instants)))
    seconds = process_time() - begun
    return squares, np.round(slots / step).astype(np.int64), replay.traits.leads, seconds


def squares_of(forecast: Scored) -> dict[str, NDArray[np.float64]]:
    names = names_of(forecast.issued.specification)
    predictions = {name: forecast.issued.candidates[:, k] for k, name in enumerate(names)}
    predictions["shadow"] = forecast.issued.forecast.mean
    return {name: (predicted - forecast.truth) ** 2 for name, predicted in predictions.items()}


def row(
    title: str,
    squares: Squares,
    plain: Squares,
    slots: NDArray[np.int64],
    leads: int,
    seconds: float,
) -> dict[str, Any]:
    """Ratios of root mean squares where everything that is compared is known."""
    sums = []
    for origin in plain:
        chosen, other = squares[origin], plain[origin]
        every = [
            chosen["shadow"],
            chosen.get(title, chosen["shadow"]),
            other["shadow"],
            chosen["persistence"],
        ]
        in_all = np.isfinite(np.stack(every)).all(axis=0)
        sums.append([part[in_all].sum() for part in every])
    table = np.array(sums)
    shadow, alone, without, last = np.sqrt(table.sum(axis=0))
    low, high = Blocks.of(slots, leads).interval(table[:, [0, 2]], root_ratio)
    return {
        "candidate": title,
        "alone": float(alone / last) if title in next(iter(squares.values())) else None,
        "blended": float(shadow / last),
        "over_without": float(shadow / without),
        "interval": [float(low), float(high)],
        "origins": len(table),
        "seconds": seconds,
        "built_in": best_of(plain),
    }


def best_of(squares: Squares) -> dict[str, float]:
    """Ratio of each built-in candidate to the last capture."""
    total = {
        name: sum(float(np.nansum(parts[name])) for parts in squares.values())
        for name in CANDIDATES
    }
    return {name: float(np.sqrt(value / total["persistence"])) for name, value in total.items()}


def root_ratio(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.sqrt(sums[..., 0] / sums[..., 1]))


def show(row: dict[str, Any], *, first: bool, plain: dict[str, Any]) -> None:
    if first:
        print(f"{plain['origins']} origins; RMSE over that of the last capture:")
        print(f"  shadow without them {plain['blended']:.3f}, {plain['seconds']:.0f} s;", end=" ")
        print(", ".join(f"{n} {v:.3f}" for n, v in plain["built_in"].items()))
        print(f"  {'candidate':14}{'alone':>8}{'blended':>9}{'over the shadow without':>35}")
    low, high = row["interval"]
    alone = "-" if row["alone"] is None else f"{row['alone']:.3f}"
    print(
        f"  {row['candidate']:14}{alone:>8}{row['blended']:9.3f}{row['over_without']:13.3f}"
        f"   ({low:.3f} to {high:.3f}){row['seconds']:8.0f} s",
        flush=True,
    )


if __name__ == "__main__":
    main()
