"""A picture of recall by size, as a PNG file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot

from benchmarks.lookalike.judge import SIZES


def plot_recall(curves: Mapping[str, np.ndarray], folder: Path) -> Path:
    """Draw each method's mean recall (f8[len(SIZES)]) by the size of the audience; answers where it lies."""
    folder.mkdir(parents=True, exist_ok=True)
    _, axes = pyplot.subplots(figsize=(7.0, 4.5))
    for name, curve in curves.items():
        axes.plot(SIZES, curve, marker="o", label=name)
    axes.set_xscale("log", base=2)
    axes.set(xlabel="size of the audience, in held-out followers", ylabel="share of them found, mean over creators")
    axes.legend()
    path = folder / "lookalike.png"
    pyplot.tight_layout()
    pyplot.savefig(path, dpi=110)
    pyplot.close()
    return path
