"""What a market needs before its first slot, kept between runs: made once for a seed, then read in a moment."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shutil import rmtree

from benchmarks.market.campaigns import MarketCampaign
from benchmarks.market.history import Priors, write_priors
from benchmarks.market.run import Market, MarketSettings

ROOT = Path(__file__).resolve().parent.parent.parent
SOURCES = ("benchmarks/market", "auction/predictor", "pacing/control/history.py", "pacing/facts.py")
"""What decides the content of what is kept; an edit of any makes it anew."""
MAX_KEPT = 20
_AMOUNTS, _HISTORY, _MODEL = "amounts.json", "history.npz", "model.npz"


def kept_folder(seed: int, settings: MarketSettings) -> Path:
    """Where a market's preparation is kept: under $XDG_CACHE_HOME/fanbid, or ~/.cache/fanbid."""
    digest = hashlib.blake2b(repr((seed, settings)).encode(), digest_size=10)
    for source in SOURCES:
        path = ROOT / source
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(file.read_bytes())
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "fanbid" / f"market-{digest.hexdigest()}"


def prepare_market(
    seed: int, settings: MarketSettings, tick: Callable[[float, str], None], folder: Path | None = None
) -> tuple[Market, Priors]:
    """The market of a seed and what is known before its day, from what an earlier run kept if there is any.

    Args:
        tick: told of three units of work.
        folder: where it is kept; default `kept_folder`.
    """
    folder = kept_folder(seed, settings) if folder is None else folder
    priors = Priors(folder / _HISTORY, folder / _MODEL)
    if (folder / _AMOUNTS).is_file() and priors.history_path.is_file() and priors.model_path.is_file():
        amounts = json.loads((folder / _AMOUNTS).read_text(encoding="utf-8"))
        market = Market(seed, settings, lambda bare: _with_amounts(bare, amounts))
        tick(3, "the market as it was kept")
        return market, priors
    market = Market(seed, settings)
    tick(1, "a market of twelve campaigns")
    partial = folder.with_name(f"{folder.name}.{os.getpid()}")
    write_priors(market, partial)
    tick(2, "what is known from the three days before")
    (partial / _AMOUNTS).write_text(json.dumps([list(_amounts(c)) for c in market.campaigns]), encoding="utf-8")
    rmtree(folder, ignore_errors=True)
    partial.replace(folder)
    _forget_oldest(folder.parent)
    return market, priors


def _amounts(campaign: MarketCampaign) -> tuple[int, int]:
    return campaign.daily_budget_micros, campaign.target_cost_micros


def _with_amounts(bare: tuple[MarketCampaign, ...], amounts: list[list[int]]) -> tuple[MarketCampaign, ...]:
    return tuple(
        replace(campaign, daily_budget_micros=budget, target_cost_micros=target)
        for campaign, (budget, target) in zip(bare, amounts, strict=True)
    )


def _forget_oldest(parent: Path) -> None:
    kept = sorted(parent.glob("market-*"), key=lambda path: path.stat().st_mtime)
    for path in kept[:-MAX_KEPT]:
        rmtree(path, ignore_errors=True)
