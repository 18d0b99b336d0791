"""A picture of the gain by day, as a PNG file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot


def plot_gains(gains: Sequence[np.ndarray], label: str, folder: Path) -> Path:
    """Gains of each market, f8[days], in percent by day: a thin line a market, and their mean."""
    folder.mkdir(parents=True, exist_ok=True)
    percent = 100.0 * np.array(gains)
    days = np.arange(1, percent.shape[1] + 1)
    _, axes = pyplot.subplots(figsize=(7, 4.5))
    axes.plot(days, percent.T, color="tab:blue", alpha=0.25, linewidth=0.8)
    axes.plot(days, percent.mean(axis=0), "o-", color="tab:blue", label="mean of the markets")
    axes.axhline(0.0, color="black", linewidth=0.8)
    axes.set(xlabel="day", ylabel=f"{label}, %")
    axes.legend()
    path = folder / "loop.png"
    pyplot.tight_layout()
    pyplot.savefig(path, dpi=110)
    pyplot.close()
    return path
