"""Pictures of a market and of a study, as PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes

from benchmarks.market.results import MarketResult
from benchmarks.market.run import Market
from benchmarks.market.traffic import Traffic


def _save(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.png"
    pyplot.tight_layout()
    pyplot.savefig(path, dpi=110)
    pyplot.close()
    return path


def plot_market(market: Market, folder: Path) -> Path:
    """Traffic by hour, and the rivals' bids."""
    requests = list(Traffic(market.world, market.spec))
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4))
    figure.suptitle(f"market of seed {market.seed}")
    hours = np.bincount([r.context.hour for r in requests], minlength=24) * market.spec.viewers_per_request
    left.bar(np.arange(24), hours)
    left.set(xlabel="local hour", ylabel="slots")
    bids = np.concatenate([r.rivals_micros for r in requests]) / 1e6
    right.hist(bids[bids > 0], bins=np.geomspace(0.002, 0.5, 160))
    right.set(xscale="log", xlabel="highest rival bid, units per impression", ylabel="slots")
    return _save(folder, "market")


def _bars(axes: Axes, labels: Sequence[str], values: Sequence[float], line: float, title: str) -> None:
    axes.barh(np.arange(len(labels)), values)
    axes.set_yticks(np.arange(len(labels)), labels)
    axes.invert_yaxis()
    axes.axvline(line, color="black", linewidth=0.8)
    axes.set_title(title)


def plot_campaigns(results: Sequence[MarketResult], folder: Path) -> Path:
    """Spend over budget, and expected cost over target, of every campaign: means over the seeds."""
    names = [campaign.name for campaign in results[0].campaigns]
    spend = np.mean([[c.charged_micros / c.budget_micros for c in r.campaigns] for r in results], axis=0)
    ratios = np.array([[c.expected_cost_to_target or np.nan for c in r.campaigns] for r in results])
    held = [k for k, campaign in enumerate(results[0].campaigns) if campaign.target_cost_micros]
    _, (left, right) = pyplot.subplots(1, 2, figsize=(12, 4.5))
    _bars(left, names, spend.tolist(), 1.0, "spend / budget")
    _bars(right, [names[k] for k in held], np.nanmean(ratios[:, held], axis=0).tolist(), 1.0, "expected cost / target")
    return _save(folder, "campaigns")


def plot_policies(by_policy: dict[str, Sequence[MarketResult]], folder: Path) -> Path:
    """Expected fans of each seed under each policy."""
    _, axes = pyplot.subplots(figsize=(9, 4))
    width = 0.8 / len(by_policy)
    for k, (policy, results) in enumerate(by_policy.items()):
        places = np.arange(len(results)) + (k - (len(by_policy) - 1) / 2) * width
        axes.bar(places, [result.fans() for result in results], width, label=policy)
    first = next(iter(by_policy.values()))
    axes.set_xticks(np.arange(len(first)), [str(result.seed) for result in first])
    axes.set(xlabel="seed", ylabel="expected fans")
    axes.legend()
    return _save(folder, "policies")
