"""What a bid is computed from: one immutable picture of campaigns, model and prices, swapped whole by reference."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import numpy as np

from auction.bid.columns import CampaignColumns
from auction.landscape.kernels import Landscape
from auction.predictor.kernels import Model
from targeting.match.kernels import MatchIndex


class SupplyCounters:
    """How many viewers each campaign of one snapshot could have bid for, the sum of their probabilities and, where any
    campaign asks for it, that of their probabilities times those of rising to a high tier.

    Every thread adds to arrays of its own, so scoring shares nothing; a reader sums over the threads. Counts only grow.
    """

    def __init__(self, campaigns: int, with_rises: bool = False) -> None:
        self._campaigns = campaigns
        self._with_rises = with_rises
        self._by_thread: dict[int, tuple[np.ndarray, ...]] = {}

    def mine(self) -> tuple[np.ndarray, ...]:
        """This thread's (eligible i8[C], expected f8[C], bids i8[C], rises f8[C] or f8[0])."""
        key = threading.get_ident()
        arrays = self._by_thread.get(key)
        if arrays is None:
            arrays = (
                np.zeros(self._campaigns, np.int64),
                np.zeros(self._campaigns, np.float64),
                np.zeros(self._campaigns, np.int64),
                np.zeros(self._campaigns if self._with_rises else 0, np.float64),
            )
            self._by_thread[key] = arrays
        return arrays

    def totals(self) -> tuple[np.ndarray, ...]:
        """The same four, summed over all threads."""
        eligible = np.zeros(self._campaigns, np.int64)
        expected = np.zeros(self._campaigns, np.float64)
        bids = np.zeros(self._campaigns, np.int64)
        rises = np.zeros(self._campaigns if self._with_rises else 0, np.float64)
        for part_eligible, part_expected, part_bids, part_rises in list(self._by_thread.values()):
            eligible += part_eligible
            expected += part_expected
            bids += part_bids
            rises += part_rises
        return eligible, expected, bids, rises


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One published picture.

    Attributes:
        version: another one with every publication, by which `landscape.archive` finds the landscape again.
        index: the match index; positions are those of `campaigns`.
        campaigns: columns of the C active campaigns.
        id_order: i8[C], positions by ascending campaign id.
        creative_ids: u8[C], the creative that each campaign shows until the next snapshot.
        goals: u1[C].
        lease_slots: i4[C + 1], where the bank keeps each campaign's lease; the last is -1, so that campaign_idx -1
            finds none.
        model: the predictor's state for these campaigns.
        landscape: the price landscapes.
        known_campaign_ids: u8[...], ascending: every campaign that ever was, so that a caller's typing error is told
            from a campaign that ended.
        mark_count: see `marks_needed`.
        mean_discounts: f8[C], what `supply` counts too much: it takes every viewer for one who saw nothing before.
    """

    version: int
    index: MatchIndex
    campaigns: CampaignColumns
    id_order: np.ndarray
    creative_ids: np.ndarray
    goals: np.ndarray
    lease_slots: np.ndarray
    model: Model
    landscape: Landscape
    known_campaign_ids: np.ndarray
    mark_count: int
    mean_discounts: np.ndarray
    supply: SupplyCounters = field(compare=False)
