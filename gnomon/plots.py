"""Pictures."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Heal", "plot_heal"]

Floats = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Heal:
    """A healed field with its truth: arrays (y, x), NaN where missing."""

    truth: Floats
    """What should have been captured, variable's units."""
    captured: Floats
    """What was captured, damage included."""
    healed: Floats
    """What is restored."""
    confidence: Floats
    """Probability to be within tolerance; 1 where captured."""
    variable: str
    """Name for the titles."""
    valid_time: str
    """Time for the titles."""
    units: str
    """Units for the colour bars."""


def plot_heal(heal: Heal, path: Path) -> Path:
    """Draw truth, damage, healed field, error and confidence, one above the other.

    Returns
    -------
    Path
        The PNG that was written.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    low, high = np.nanpercentile(heal.truth, [1, 99])
    error = heal.healed - heal.truth
    largest = float(np.nanmax(np.abs(error))) or 1.0
    field: dict[str, Any] = {"vmin": low, "vmax": high, "cmap": "viridis"}
    panels: list[tuple[str, Floats, dict[str, Any], str]] = [
        ("truth", heal.truth, field, heal.units),
        ("captured, one block damaged", heal.captured, field, heal.units),
        ("healed", heal.healed, field, heal.units),
        (
            "error of the healed field",
            error,
            {"vmin": -largest, "vmax": largest, "cmap": "RdBu_r"},
            heal.units,
        ),
        (
            "confidence (1: captured)",
            np.where(np.isfinite(heal.truth), heal.confidence, np.nan),
            {"vmin": 0.0, "vmax": 1.0, "cmap": "magma"},
            "probability",
        ),
    ]
    figure, axes = plt.subplots(len(panels), 1, figsize=(11, 8), layout="constrained")
    figure.suptitle(f"{heal.variable}, {heal.valid_time}")
    for axis, (title, values, style, label) in zip(axes, panels, strict=True):
        shown = axis.imshow(values, origin="lower", aspect="auto", interpolation="none", **style)
        axis.set_facecolor("0.8")
        axis.set_title(title, loc="left", fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])
        figure.colorbar(shown, ax=axis, label=label, pad=0.01, extend="both")
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path
