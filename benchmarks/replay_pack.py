"""The AuctionNet replay pack: logged auctions of eight advertisers' days, how they clear, and what a day of bidding
scores.

Su et al., AuctionNet (2024). Units of the pack's currency; probabilities are of a conversion given that the ad is seen.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pacing.array_state import check_numbers
from pacing.control.history import MarketHistory
from pacing.money import MICROS_PER_UNIT

TICKS = 48
EXPOSURE = np.array([1.0, 0.8, 0.48])
"""Chance that an ad in slot 1, 2, 3 is seen."""

_THIRD_GIVEN_SECOND = 0.6

PRICE_MIN = 1e-4
PENALTY_EXPONENT = 2.0
"""A day that ends over its target cost is worth min(1, (target / cost) ** 2) of its conversions."""

PROBABILITY_MIN = 1e-6
ROWS_PER_TICK = 3_000
"""Impressions of a tick that a day of the pack brings into a history: as many as AuctionNet's own sampled log has."""

_HISTORY_COLUMNS = ("day", "bucket", "group", "series", "probability", "prices_micros", "told_micros")

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ReplayCampaign:
    """One advertiser's logged day.

    Attributes:
        name: as in the pack, "e0_3": episode 0, campaign 3. Campaigns of one episode saw the same auctions.
        budget, target_cost: currency units; the target is per conversion.
        lp_score: score of the linear program that knows the whole day.
        edges: i8[49] impressions edges[t]..edges[t + 1] came in tick t.
        probability: f8[n]. rivals: f8[n, 3] the three highest competing bids, best first. fourth: f8[n].
        seen: bool[n, 3] whether an ad in slot 1, 2, 3 would be seen, drawn from the campaign's seed.
    """

    name: str
    category: int
    budget: float
    target_cost: float
    lp_score: float
    edges: npt.NDArray[np.int64]
    probability: FloatArray
    rivals: FloatArray
    fourth: FloatArray
    seen: npt.NDArray[np.bool_]

    @property
    def episode(self) -> str:
        """The day that the campaign belongs to."""
        return self.name.split("_")[0]

    def tick(self, tick: int) -> slice:
        """The impressions of one tick."""
        return slice(int(self.edges[tick]), int(self.edges[tick + 1]))


def load_pack(path: str | Path, names: list[str] | None = None) -> Iterator[ReplayCampaign]:
    """Yield the campaigns of a pack, in its order.

    Raises:
        ValueError: the file is no such pack.
        OSError: the file cannot be read.
    """
    with np.load(path, allow_pickle=False) as pack:
        if "meta" not in pack.files:
            raise ValueError(f"pack {path}: has no meta; not a replay pack")
        campaigns = json.loads(str(pack["meta"]))
        if not isinstance(campaigns, dict):
            raise ValueError(f"pack {path}: meta is no JSON object")
        for name, meta in campaigns.items():
            if names is not None and name not in names:
                continue
            check_numbers({column: pack[column] for column in (name + "_x", name + "_n")})
            columns, sizes = pack[name + "_x"].astype(np.float64), pack[name + "_n"].astype(np.int64)
            if columns.ndim != 2 or columns.shape != (6, int(sizes.sum())) or sizes.shape != (TICKS,):
                raise ValueError(f"pack {path}: {name}_x {columns.shape} does not fit {name}_n {sizes.shape}")
            yield ReplayCampaign(
                name=name,
                category=int(meta["category"]),
                budget=float(meta["B"]),
                target_cost=float(meta["C"]),
                lp_score=float(meta["lp_score"]),
                edges=np.concatenate([[0], np.cumsum(sizes)]),
                probability=columns[0] / 1000,
                rivals=np.maximum(columns[2:5].T, PRICE_MIN),
                fourth=columns[5],
                seen=exposure_draws(int(meta["seed"]), columns.shape[1]),
            )


def exposure_draws(seed: int, impressions: int) -> npt.NDArray[np.bool_]:
    """bool[n, 3]: whether an ad in slot 1, 2, 3 is seen. Slot 3 is seen only where slot 2 would be."""
    rng = np.random.default_rng(seed)
    second = rng.random(impressions) < EXPOSURE[1]
    third = second & (rng.random(impressions) < _THIRD_GIVEN_SECOND)
    return np.stack([np.ones(impressions, np.bool_), second, third], axis=1)


def clear_slots(bids: FloatArray, rivals: FloatArray) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """Slot won by each bid (0 none, 1 to 3) and the price if the ad is seen: the best rival bid that it beat.

    Args:
        bids: f8[n]; 0: no bid. rivals: f8[n, 3], best first. Same unit. A tie is lost.
    """
    beaten = bids[:, None] > rivals
    slot = np.where(beaten.any(axis=1), beaten.argmax(axis=1) + 1, 0)
    seen_price = np.where(slot > 0, rivals[np.arange(len(bids)), np.maximum(slot, 1) - 1], 0.0)
    return slot, seen_price


def day_score(expected_conversions: float, spend: float, target_cost: float) -> float:
    """What a day is worth: its conversions, less the penalty for cost over target."""
    if expected_conversions <= 0:
        return 0.0
    within = target_cost * expected_conversions / max(spend, 1e-9)
    return expected_conversions * min(1.0, within**PENALTY_EXPONENT)


def history_from_log(path: str | Path) -> MarketHistory:
    """Read past days: either AuctionNet's sampled log (`log`, `columns`, `impressions`) or a saved MarketHistory.

    Each category of advertisers is one group, numbered category + 1; each agent is one series.

    Raises:
        ValueError: the file is neither.
        OSError: the file cannot be read.
    """
    with np.load(path, allow_pickle=False) as pack:
        if "format_version" in pack.files:
            return MarketHistory.load(path)
        if not {"log", "columns", "impressions"} <= set(pack.files):
            raise ValueError(f"history {path}: has neither format_version nor log, columns and impressions")
        names = [str(name) for name in pack["columns"]]
        log = dict(zip(names, pack["log"].astype(np.float64).T, strict=True))
        impressions = pack["impressions"].astype(np.float64)
    rivals = np.stack([log["rival1"], log["rival2"], log["rival3"]], axis=1)
    return MarketHistory(
        day=log["day"].astype(np.int64),
        bucket=log["tick"].astype(np.int64),
        group=log["category"].astype(np.int64) + 1,
        series=log["agent"].astype(np.int64),
        probability=np.maximum(log["p_x1000"] / 1000, PROBABILITY_MIN),
        prices_micros=np.maximum(rivals, PRICE_MIN) * MICROS_PER_UNIT,
        exposure=EXPOSURE.copy(),
        impressions=impressions,
        told_micros=np.maximum(log["fourth"], PRICE_MIN) * MICROS_PER_UNIT,
    )


def with_past_day(history: MarketHistory, campaigns: list[ReplayCampaign]) -> MarketHistory:
    """The history with one more past day: what each of `campaigns` (one or more, all of one episode) saw on it.

    At most ROWS_PER_TICK impressions of a tick are taken, evenly spaced; each campaign is one series.

    Raises:
        ValueError: the history cuts its days otherwise than the pack, or its slots have other positions.
    """
    same_slots = history.exposure.shape == EXPOSURE.shape and np.allclose(history.exposure, EXPOSURE)
    if history.buckets != TICKS or history.midnight_offset_ms or not same_slots:
        raise ValueError(
            f"history: {history.buckets} parts of a day from {history.midnight_offset_ms} ms on, exposure "
            f"{history.exposure.tolist()}; a day of the pack has {TICKS} from 0 ms on, exposure {EXPOSURE.tolist()}"
        )
    columns: dict[str, Any] = {name: [getattr(history, name)] for name in _HISTORY_COLUMNS}
    first_series = int(history.series.max()) + 1 if len(history.series) else 0
    for number, campaign in enumerate(campaigns):
        rows, buckets = _evenly(campaign, -(-ROWS_PER_TICK // len(campaigns)))
        columns["day"].append(np.full(len(rows), history.days))
        columns["bucket"].append(buckets)
        columns["group"].append(np.full(len(rows), campaign.category + 1))
        columns["series"].append(np.full(len(rows), first_series + number))
        columns["probability"].append(np.maximum(campaign.probability[rows], PROBABILITY_MIN))
        columns["prices_micros"].append(campaign.rivals[rows] * MICROS_PER_UNIT)
        columns["told_micros"].append(np.maximum(campaign.fourth[rows], PRICE_MIN) * MICROS_PER_UNIT)
    impressions = np.vstack([history.impressions, np.diff(campaigns[0].edges)])
    columns = {name: np.concatenate(parts) for name, parts in columns.items()}
    return MarketHistory(**columns, exposure=history.exposure, impressions=impressions)


def _evenly(campaign: ReplayCampaign, most: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """i8[r] up to `most` impressions of each tick, and i8[r] the ticks that they came in."""
    sizes = np.diff(campaign.edges)
    taken = np.minimum(sizes, most)
    rows = [
        first + np.arange(count) * size // max(count, 1)
        for first, size, count in zip(campaign.edges, sizes, taken, strict=False)
    ]
    return np.concatenate(rows).astype(np.int64), np.repeat(np.arange(TICKS), taken)


def thinned(campaign: ReplayCampaign, every: int) -> ReplayCampaign:
    """The same day with one impression in `every`, and budget and score to match: small, for quick runs."""
    keep = np.arange(0, len(campaign.probability), every)
    ticks = np.searchsorted(keep, campaign.edges)
    return replace(
        campaign,
        budget=campaign.budget / every,
        lp_score=campaign.lp_score / every,
        edges=ticks.astype(np.int64),
        probability=campaign.probability[keep],
        rivals=campaign.rivals[keep],
        fourth=campaign.fourth[keep],
        seen=campaign.seen[keep],
    )
