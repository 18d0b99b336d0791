"""What the feed server itself counted, to hold against what the engine says."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from pacing.facts import OutcomeKind, RowStatus


@dataclass
class Tally:
    """Counts by campaign (position in the market's list) and overall.

    Attributes:
        spend_micros: i8[campaigns], clearing prices of impressions that the engine accepted.
        expected_events: f8[campaigns], sum of true probabilities over impressions.
        true_events: i8[campaigns], goal events that happen, also those after the end.
        expected_kept: f8[campaigns], sum over impressions of the true probability of a follow that is kept.
        kept_fans: i8[campaigns], follows that happen and are kept.
        expected_high, high_fans: f8[campaigns] and i8[campaigns], the same of those kept who come to be of a high tier.
        statuses: rows by (kind, status).
        no_bids: slots without a bid, by reason.
    """

    campaigns: int
    requests: int = 0
    slots: int = 0
    organic_follows: int = 0
    statuses: Counter[tuple[int, int]] = field(default_factory=Counter)
    no_bids: Counter[int] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.bids = np.zeros(self.campaigns, np.int64)
        self.wins = np.zeros(self.campaigns, np.int64)
        self.impressions = np.zeros(self.campaigns, np.int64)
        self.spend_micros = np.zeros(self.campaigns, np.int64)
        self.expected_events = np.zeros(self.campaigns)
        self.true_events = np.zeros(self.campaigns, np.int64)
        self.expected_kept = np.zeros(self.campaigns)
        self.kept_fans = np.zeros(self.campaigns, np.int64)
        self.expected_high = np.zeros(self.campaigns)
        self.high_fans = np.zeros(self.campaigns, np.int64)

    def count_statuses(self, kinds: np.ndarray, statuses: np.ndarray) -> None:
        """Add one report's rows: kinds and statuses, i8[n]."""
        pairs, counts = np.unique(kinds * 256 + statuses, return_counts=True)
        for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
            self.statuses[divmod(pair, 256)] += count

    def count_no_bids(self, reasons: np.ndarray) -> None:
        """Add one response's reasons, i8[n]; 0 where there is a bid."""
        codes, counts = np.unique(reasons[reasons != 0], return_counts=True)
        for code, count in zip(codes.tolist(), counts.tolist(), strict=True):
            self.no_bids[code] += count

    def refused_rows(self) -> dict[str, int]:
        """Rows that the engine did not accept, by kind and status."""
        return {
            f"{OutcomeKind(kind).name} {RowStatus(status).name}": count
            for (kind, status), count in sorted(self.statuses.items())
            if status != RowStatus.ACCEPTED
        }
