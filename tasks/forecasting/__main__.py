"""Compile what is compiled: the first forecast on a machine, and a large restore, need not wait."""

import numpy as np

from gnomon.storage.arrays.kernels import straighten
from gnomon.tasks.forecasting import Specification, fit_outlook, forecast, learn, roll


def main() -> None:
    """Fit, roll and forecast a little of everything, and add up a little of each width."""
    for width in ("i1", "i2", "i4", "i8"):
        bent = np.ones((1, 2, 2), width)
        straighten(bent, np.empty_like(bent))
    values = np.random.default_rng(0).standard_normal((40, 6))
    slots, times_s, starts = np.arange(40), 3600.0 * np.arange(40.0), np.array([0, 6])
    options = {"trusted": np.ones((40, 1), bool), "gated": np.ones((40, 1), bool)}
    for order in ((1, 0, 0), (0, 1, 1)):
        spec = Specification((), (), order, 3600.0, 6, 0.0, None, None, 1.0)
        spec, outlook = fit_outlook(spec, slots, times_s, values, starts, **options)
        record = slots, times_s, values, starts
        state = learn(spec, *record, **options, amplitudes=outlook.amplitudes).state
        forecast(spec, state, outlook, times_s[-1] + 3600.0 * np.arange(1.0, 7.0))
        roll(spec, state, outlook, 40, 40 * 3600.0, values[0])


if __name__ == "__main__":
    main()
