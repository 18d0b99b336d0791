"""The settle judge: gets every durable billable claim its verdict from the budget store."""

from __future__ import annotations

import numpy as np

from pacing.budget.store import SETTLEMENT, BudgetStore
from pacing.facts import OutcomeKind


def settlements_of(rows: np.ndarray) -> np.ndarray:
    """What a store needs of billable OUTCOME[n], as SETTLEMENT[n]."""
    claims = np.zeros(len(rows), SETTLEMENT)
    decisions = rows["decision"]
    for name in ("campaign_id", "lease_id", "hold_seq", "issued_at_ms"):
        claims[name] = decisions[name]
    claims["amount_micros"] = rows["price_micros"]
    claims["sequence"] = rows["sequence"]
    return claims


class SettleJudge:
    """A `Judge` of billable rows. Used by the one thread that judges."""

    def __init__(self, store: BudgetStore) -> None:
        self._store = store

    def judge(self, rows: np.ndarray, judgements: np.ndarray) -> np.ndarray:
        """Settle the billable rows.

        Args:
            rows: OUTCOME[n] in ledger order.
            judgements: JUDGEMENT[n] so far.

        Returns:
            JUDGEMENT[n] with verdict, campaign, creative, lease, hold and billed row of each billable row filled in.
        """
        billable = np.flatnonzero(rows["kind"] == OutcomeKind.BILLABLE)
        if not len(billable):
            return judgements
        judged = judgements.copy()
        billed = rows[billable]
        judged["verdict"][billable] = self._store.settle(settlements_of(billed))
        for name in ("campaign_id", "creative_id", "lease_id", "hold_seq"):
            judged[name][billable] = billed["decision"][name]
        judged["billed_sequence"][billable] = billed["sequence"]
        return judged
