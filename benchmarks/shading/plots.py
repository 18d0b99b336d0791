"""A picture of the shares, as a PNG file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot

Interval = tuple[float, float]
"""Mean, and half the width of its interval."""


def plot_shares(
    shares: Mapping[tuple[str, str], Interval], worlds: Sequence[str], kinds: Sequence[str], folder: Path
) -> Path:
    """What was lost to the oracle, on a logarithmic axis, in every world with every kind of feedback."""
    folder.mkdir(parents=True, exist_ok=True)
    _, axes = pyplot.subplots(figsize=(1.6 + 1.3 * len(worlds), 4.8))
    width = 0.8 / len(kinds)
    for k, kind in enumerate(kinds):
        places = np.arange(len(worlds)) + (k - (len(kinds) - 1) / 2) * width
        lost = np.array([100.0 * (1.0 - shares[world, kind][0]) for world in worlds])
        spread = np.array([100.0 * shares[world, kind][1] for world in worlds])
        axes.bar(places, lost, width, yerr=spread, label=kind, error_kw={"linewidth": 0.8})
    for percent in (1.0, 3.0):
        axes.axhline(percent, color="black", linewidth=0.8, linestyle=":")
    axes.set_yscale("log")
    axes.set_xticks(np.arange(len(worlds)), worlds)
    axes.set(ylabel="surplus lost to the oracle, %")
    axes.legend(ncols=3)
    path = folder / "shading.png"
    pyplot.tight_layout()
    pyplot.savefig(path, dpi=110)
    pyplot.close()
    return path
