"""Pictures of bidding, as PNG files: shares by scenario, and a day's spend and multiplier beside the optimum's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot

from benchmarks.bidding.market import TICKS
from benchmarks.bidding.study import MODES, SHIPPED, Result


def save_all(results: Sequence[Result], folder: Path) -> list[Path]:
    """Every picture that the results allow."""
    folder.mkdir(parents=True, exist_ok=True)
    made = [_shares(results, pricing, folder) for pricing in dict.fromkeys(r.pricing for r in results)]
    first = min(r.seed for r in results)
    shown = [r for r in results if r.method == SHIPPED and r.seed == first]
    for scenario in dict.fromkeys(r.scenario for r in shown):
        made.append(_day([r for r in shown if r.scenario == scenario], scenario, folder))
    return made


def _save(path: Path) -> Path:
    pyplot.tight_layout()
    pyplot.savefig(path, dpi=110)
    pyplot.close()
    return path


def _shares(results: Sequence[Result], pricing: str, folder: Path) -> Path:
    """Share against cost over target under a cost cap: one dot a method and scenario, means over the seeds."""
    names = list(dict.fromkeys(r.scenario for r in results))
    _, rows = pyplot.subplots(1, 2, figsize=(13, 0.5 * len(names) + 2), sharey=True)
    for axes, figure in zip(rows, ("share", "cost_to_target"), strict=True):
        for method in dict.fromkeys(r.method for r in results):
            means = [
                np.mean(
                    [
                        getattr(r, figure)
                        for r in results
                        if (r.scenario, r.mode, r.pricing, r.method) == (name, "cap", pricing, method)
                    ]
                )
                for name in names
            ]
            shipped = method == SHIPPED
            axes.plot(means, np.arange(len(names)), "D" if shipped else "o", alpha=1 if shipped else 0.5, label=method)
        axes.axvline(1.0, color="black", linewidth=0.8)
        axes.set_yticks(np.arange(len(names)), names)
        axes.set_xlabel("share of the optimum" if figure == "share" else "cost over target")
    rows[0].set_title(f"cost cap, {pricing} price")
    rows[0].invert_yaxis()
    rows[1].legend(fontsize=8)
    return _save(folder / f"bidding_{pricing}.png")


def _day(results: Sequence[Result], scenario: str, folder: Path) -> Path:
    """One seed: spend beside the optimum's, and the multiplier."""
    hours = np.arange(TICKS + 1) * 24 / TICKS
    _, (left, right) = pyplot.subplots(1, 2, figsize=(12, 4))
    for r in sorted(results, key=lambda r: (r.pricing, MODES.index(r.mode))):
        line = left.plot(hours, r.curve / 1e6, label=f"{r.mode}, {r.pricing} price")[0]
        left.plot(hours, r.best_curve / 1e6, "--", color=line.get_color(), linewidth=0.8)
        right.plot(hours[:-1], r.alphas / 1e6, color=line.get_color(), linewidth=0.8)
    left.set(title=f"{scenario}, seed {results[0].seed}", xlabel="hour", ylabel="spend (dashed: the optimum's)")
    left.legend(fontsize=8)
    right.set(title="multiplier", xlabel="hour", ylabel="units per event")
    return _save(folder / f"bidding_{scenario}.png")
