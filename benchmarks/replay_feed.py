"""A feed server whose slots are logged auctions: what it asks of the engine, and what it reports of the answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.replay_pack import PRICE_MIN, TICKS, ReplayCampaign, clear_slots, day_score
from pacing.money import MICROS_PER_UNIT
from protos import bidding_pb2 as pb

MAX_VIEWERS = 1_000
VIEWERS_PER_CAMPAIGN = 20_000
"""Ids that a campaign's impressions rotate through: 25 impressions a viewer and day, well under any frequency cap."""

LOSS_REASON_OUTBID = 102
TOKEN_BYTES = 192
_VIEWER_BASE = 1 << 40
_VIEWER_STRIDE = 1 << 20

FloatArray = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def viewer_ids(campaign_idx: int) -> npt.NDArray[np.uint64]:
    """u8[VIEWERS_PER_CAMPAIGN]: the viewers that only this campaign of the replay sees."""
    first = _VIEWER_BASE + campaign_idx * _VIEWER_STRIDE
    return np.arange(first, first + VIEWERS_PER_CAMPAIGN, dtype=np.uint64)


def batches(campaign: ReplayCampaign, tick: int, step: int = 0, steps: int = 1) -> Iterator[Ints]:
    """Yield the impressions of one of `steps` equal parts of a tick, up to MAX_VIEWERS at a time.

    Each batch is i8 indices into the campaign's columns.
    """
    span = campaign.tick(tick)
    length = span.stop - span.start
    first, last = (span.start + length * part // steps for part in (step, step + 1))
    for start in range(first, last, MAX_VIEWERS):
        yield np.arange(start, min(start + MAX_VIEWERS, last))


def bid_request(campaign: ReplayCampaign, campaign_idx: int, campaign_id: int, impressions: Ints) -> pb.BidRequest:
    """Ask for bids on these impressions, with the log's probabilities as the caller's predictions."""
    count = len(impressions)
    ids = viewer_ids(campaign_idx)[impressions % VIEWERS_PER_CAMPAIGN]
    return pb.BidRequest(
        id=f"{campaign.name}-{impressions[0]}",
        at=pb.AUCTION_TYPE_SECOND_PRICE,
        viewers=pb.Viewers(ids=ids),
        predictions=pb.Predictions(
            viewer_idx=np.arange(count, dtype=np.uint32),
            campaign_ids=np.full(count, campaign_id, np.uint64),
            probabilities=campaign.probability[impressions].astype(np.float32),
        ),
    )


@dataclass(frozen=True)
class Cleared:
    """How the bids of one answer cleared, and the rows that say so.

    Attributes:
        kinds, prices_micros, min_bids_micros, loss_reasons: (r,) columns of a ReportRequest.
        bid_idx: (r,) which of the m bids each row is about.
        impression: (r,) which impression.
    """

    kinds: Ints
    bid_idx: Ints
    impression: Ints
    prices_micros: Ints
    min_bids_micros: Ints
    loss_reasons: Ints

    def report(self, tokens: bytes) -> pb.ReportRequest:
        """The rows as a request; `tokens` are those of the answer, TOKEN_BYTES each."""
        table = np.frombuffer(tokens, np.uint8).reshape(-1, TOKEN_BYTES)
        return pb.ReportRequest(
            kinds=self.kinds.astype(np.uint32),
            tokens=table[self.bid_idx].tobytes(),
            prices_micros=self.prices_micros,
            min_bids_to_win_micros=self.min_bids_micros,
            loss_reasons=self.loss_reasons.astype(np.uint32),
        )


def clear_bids(campaign: ReplayCampaign, impressions: Ints, viewer_idx: Ints, bids: Ints, floors: Ints) -> Cleared:
    """Clear the bids of one answer against the campaign's logged rivals: three slots, second price.

    A bid that wins a slot which is not seen is reported as won and never billed. Rows come in order: wins, then what
    was billed, then losses; every decided bid is told the fourth-highest rival bid as the least that could have won.

    Args:
        impressions: i8[n] those asked about. viewer_idx: i8[m] into them, one per bid. bids, floors: i8[m] micros.
    """
    rows = impressions[viewer_idx]
    slot, seen_price = clear_slots(bids / MICROS_PER_UNIT, campaign.rivals[rows])
    charged = np.maximum(np.floor(seen_price * MICROS_PER_UNIT).astype(np.int64), floors)
    told = np.maximum(campaign.fourth[rows], PRICE_MIN) * MICROS_PER_UNIT
    won = np.flatnonzero(slot > 0)
    billed = won[campaign.seen[rows[won], slot[won] - 1]]
    lost = np.flatnonzero(slot == 0)
    bid_idx = np.concatenate([won, billed, lost])
    kinds = np.concatenate(
        [
            np.full(len(won), pb.OUTCOME_KIND_WIN),
            np.full(len(billed), pb.OUTCOME_KIND_BILLABLE),
            np.full(len(lost), pb.OUTCOME_KIND_LOSS),
        ]
    ).astype(np.int64)
    is_loss = kinds == pb.OUTCOME_KIND_LOSS
    return Cleared(
        kinds=kinds,
        bid_idx=bid_idx,
        impression=rows[bid_idx],
        prices_micros=np.where(is_loss, 0, charged[bid_idx]),
        min_bids_micros=np.where(kinds == pb.OUTCOME_KIND_BILLABLE, 0, np.round(told[bid_idx])).astype(np.int64),
        loss_reasons=np.where(is_loss, LOSS_REASON_OUTBID, 0),
    )


@dataclass
class DayResult:
    """What one campaign's day came to.

    Attributes:
        spend_micros: sum of the charges that the engine accepted.
        reported_micros: what the engine's own report says was charged.
        refused: billable rows that it did not accept.
        no_bid_budget: impressions for which it had a bid but no free money.
    """

    campaign: ReplayCampaign
    expected_conversions: float = 0.0
    spend_micros: int = 0
    reported_micros: int = 0
    impressions: int = 0
    refused: int = 0
    no_bid_budget: int = 0

    def count(self, cleared: Cleared, statuses: Ints) -> None:
        """Add the billed rows that the engine accepted.

        Raises:
            ValueError: there are not as many statuses as rows.
        """
        if len(statuses) != len(cleared.kinds):
            raise ValueError(f"statuses: {len(statuses)}, not one for each of {len(cleared.kinds)} rows")
        billable = cleared.kinds == pb.OUTCOME_KIND_BILLABLE
        accepted = billable & (statuses == pb.ROW_STATUS_ACCEPTED)
        self.expected_conversions += float(self.campaign.probability[cleared.impression[accepted]].sum())
        self.spend_micros += int(cleared.prices_micros[accepted].sum())
        self.impressions += int(accepted.sum())
        self.refused += int((billable & ~accepted).sum())

    @property
    def budget_micros(self) -> int:
        """The day's budget as the engine was told it."""
        return round(self.campaign.budget * MICROS_PER_UNIT)

    @property
    def overspend_micros(self) -> int:
        """How far charges passed the budget, by its own count or the engine's, whichever is more."""
        return max(self.spend_micros, self.reported_micros) - self.budget_micros

    @property
    def score(self) -> float:
        """Conversions after the penalty for cost over target."""
        return day_score(self.expected_conversions, self.spend_micros / MICROS_PER_UNIT, self.campaign.target_cost)

    @property
    def lp_share(self) -> float:
        """Score as a share of the linear program's that knows the day."""
        return self.score / self.campaign.lp_score

    @property
    def cost_to_target(self) -> float:
        """Spend per expected conversion over the target."""
        cost = self.spend_micros / MICROS_PER_UNIT / max(self.expected_conversions, 1e-12)
        return cost / self.campaign.target_cost


def total_figures(results: list[DayResult], requests: int, elapsed_s: float) -> dict[str, float]:
    """The figures of a whole replay under the names of its JSON."""
    return {
        "lp_share": sum(r.score for r in results) / sum(r.campaign.lp_score for r in results),
        "lp_share_min": min(r.lp_share for r in results),
        "lp_share_p10": float(np.quantile([r.lp_share for r in results], 0.1)),
        "overspend_micros_max": max(0, *(r.overspend_micros for r in results)),
        "refused_billable": sum(r.refused for r in results),
        "no_bid_budget": sum(r.no_bid_budget for r in results),
        "requests": requests,
        "requests_per_s": requests / max(elapsed_s, 1e-9),
        "elapsed_s": elapsed_s,
        "campaigns": len(results),
        "ticks": TICKS,
    }
