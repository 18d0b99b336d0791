"""Every bid of a simulated world, by number: what its token says, and what the world knows beside it."""

from __future__ import annotations

import numpy as np

from pacing.facts import DECISION, OUTCOME

OFFERED, WON, BILLED, LOST, LAPSED = "offered", "won", "billed", "lost", "lapsed"
GONE = "gone"
"""Lapsed, or closed after its deadline and before the bank looked at it: then it is lost."""

_FIRST_BIDS = 4_096


class BidTable:
    """Bids in the order in which they were placed. Lists are indexed by bid number.

    Attributes:
        decisions: DECISION[at least as many], as signed.
        placed_ms: on the monotonic clock.
        life: which process made it.
        server: on which server that was.
        state, told: what that process was told of it, while it lived: a word, and the price of a WIN (-1: none).
        number_of: bid number by (lease_id, hold_seq).
        foreign_claims: amount by bid number, of claims that became durable through another process.
        unassured: those of them for which the money had been given free: the feed had lost the bid or not won it in
            time, or it lapsed and the wall clock went back, or the claim was judged too late, or several servers were
            told of different amounts. Nobody could know, so
            that money may have been bid again.
        lives: processes so far.
    """

    def __init__(self, win_notice_ms: int, billing_ms: int) -> None:
        self.decisions = np.zeros(_FIRST_BIDS, DECISION)
        self.decisions["win_notice_ms"], self.decisions["billing_ms"] = win_notice_ms, billing_ms
        self.campaign_id: list[int] = []
        self.lease_id: list[int] = []
        self.hold_seq: list[int] = []
        self.bid_micros: list[int] = []
        self.issued_at_ms: list[int] = []
        self.placed_ms: list[int] = []
        self.life: list[int] = []
        self.server: list[int] = []
        self.state: list[str] = []
        self.told: list[int] = []
        self.number_of: dict[tuple[int, int], int] = {}
        self.foreign_claims: dict[int, int] = {}
        self.unassured: dict[int, int] = {}
        self.lives = 0

    def __len__(self) -> int:
        return len(self.campaign_id)

    def add(
        self,
        campaign_ids: np.ndarray,
        lease_ids: np.ndarray,
        hold_seqs: np.ndarray,
        bids_micros: np.ndarray,
        issued_at_ms: int,
        placed_ms: int,
        life: int,
        server: int,
    ) -> int:
        """Enter bids that were placed at one moment; answers the first one's number."""
        first, count = len(self), len(campaign_ids)
        while first + count > len(self.decisions):
            self.decisions = np.concatenate([self.decisions, self.decisions])
        placed = self.decisions[first : first + count]
        placed["campaign_id"], placed["creative_id"] = campaign_ids, campaign_ids
        placed["lease_id"], placed["hold_seq"] = lease_ids, hold_seqs
        placed["bid_micros"], placed["issued_at_ms"] = bids_micros, issued_at_ms
        leases, seqs = lease_ids.tolist(), hold_seqs.tolist()
        self.campaign_id += campaign_ids.tolist()
        self.lease_id += leases
        self.hold_seq += seqs
        self.bid_micros += bids_micros.tolist()
        self.issued_at_ms += [issued_at_ms] * count
        self.placed_ms += [placed_ms] * count
        self.life += [life] * count
        self.server += [server] * count
        self.state += [OFFERED] * count
        self.told += [-1] * count
        self.number_of.update(zip(zip(leases, seqs, strict=True), range(first, first + count), strict=True))
        return first

    def rows(self, numbers: list[int], kinds: list[int], prices_micros: list[int]) -> np.ndarray:
        """What a report says about some bids, OUTCOME[n]."""
        rows = np.zeros(len(numbers), OUTCOME)
        rows["kind"], rows["has_token"], rows["price_micros"] = kinds, 1, prices_micros
        rows["decision"] = self.decisions[numbers]
        rows["occurred_at_ms"] = rows["recorded_at_ms"] = rows["decision"]["issued_at_ms"]
        return rows
