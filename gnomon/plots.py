"""Pictures."""

from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gnomon.tasks.hindcasting.score import BASELINES, HindcastReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Heal", "plot_heal", "plot_hindcast"]

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


def plot_hindcast(report: HindcastReport, variable: str, path: Path) -> Path:
    """Draw error and coverage by lead, weights of the candidates, and reliability.

    Returns
    -------
    Path
        The PNG that was written.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(10, 7), layout="constrained")
    figure.suptitle(fill(f"{variable}: {report.verdict}", 100), fontsize=10)
    leads = report.leads
    labels = bool(report.specification["categorical"])
    for name in BASELINES[:1] if labels else BASELINES:
        axes[0, 0].plot(leads, report.rmse[name], label=name.replace("_", " "))
    axes[0, 0].plot(leads, report.rmse["shadow"], "k", lw=2, label="shadow")
    measure = "share of cells with another label" if labels else "RMSE"
    axes[0, 0].set(title="error", ylabel=measure, ylim=(0, None))
    axes[0, 0].legend(fontsize=8)
    _plot_coverage(axes[0, 1], {} if labels else report.coverage, leads)
    axes[1, 0].stackplot(
        leads, list(report.weights.values()), labels=[n.replace("_", " ") for n in report.weights]
    )
    axes[1, 0].set(title="weights of the candidates", xlabel="lead", ylim=(0, 1))
    axes[1, 0].legend(fontsize=7, loc="lower right")
    axes[1, 1].plot([0, 1], [0, 1], color="0.8", lw=1)
    axes[1, 1].scatter(
        [r["confidence"] for r in report.reliability],
        [r["within"] for r in report.reliability],
        s=[10 + 2 * r["number"] ** 0.5 for r in report.reliability],
    )
    off = f"off by {report.ece:.2f}, a perfect one by {report.ece_floor:.2f}"
    axes[1, 1].set(
        title=f"reliability: {off}", xlabel="confidence", ylabel="share within tolerance"
    )
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def _plot_coverage(axes: "Axes", coverage: dict[str, list[float]], leads: list[int]) -> None:
    """Draw how often the truth was within the intervals, by lead; of flags there are none."""
    if not coverage:
        axes.set_axis_off()
        return
    for name, covered in coverage.items():
        axes.axhline(float(name) / 100, color="0.8", lw=1)
        axes.plot(leads, covered, label=f"{name} %")
    axes.set(title="coverage of the intervals", ylim=(0, 1.02))
    axes.legend(fontsize=8)
