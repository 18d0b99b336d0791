"""Judged rows of several ledgers in the order of time, so that an impression comes before what it explains."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pacing.facts import JUDGEMENT, OUTCOME
from pacing.ledger.owners import Positions
from pacing.ledger.reading import JudgedReads

Batch = tuple[np.ndarray, np.ndarray]


def read_merged(ledgers: Mapping[int, JudgedReads], after: Positions, limit: int) -> Batch:
    """The next judged rows, up to `limit` of each ledger, as OUTCOME[n] and JUDGEMENT[n], sorted by when they were
    recorded; those of one ledger stay in its order.

    A ledger of which there is more than `limit` bounds the others: of them only what was recorded up to its last row
    is answered, so that no row comes long before an earlier one of another ledger.

    Args:
        ledgers: by owner.
        after: by owner, the position (in the ledger's own sequences) to go on from.
    """
    parts = {owner_id: ledger.read_judged(after[owner_id], limit) for owner_id, ledger in ledgers.items()}
    instants = {owner_id: np.maximum.accumulate(rows["recorded_at_ms"]) for owner_id, (rows, _) in parts.items()}
    full = [at_ms[-1] for at_ms in instants.values() if len(at_ms) == limit]
    if full:
        for owner_id, (rows, judgements) in parts.items():
            count = int(np.searchsorted(instants[owner_id], min(full), side="right"))
            parts[owner_id] = rows[:count], judgements[:count]
            instants[owner_id] = instants[owner_id][:count]
    told = [part for part in parts.values() if len(part[0])]
    if not told:
        return np.zeros(0, OUTCOME), np.zeros(0, JUDGEMENT)
    if len(told) == 1:
        return told[0]
    order = np.argsort(np.concatenate([at_ms for at_ms in instants.values() if len(at_ms)]), kind="stable")
    return np.concatenate([rows for rows, _ in told])[order], np.concatenate([words for _, words in told])[order]
