"""Ledger rows for tests, as a report would bring them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pacing.facts import OUTCOME, OutcomeKind

START_MS = 1_772_000_000_000  # 25 February 2026, 06:13:20 UTC


def told(
    kind: OutcomeKind,
    lease_id: int,
    hold_seq: int,
    price_micros: int = 0,
    campaign_id: int = 1,
    bid_micros: int = 10**9,
    issued_at_ms: int = START_MS,
    win_notice_ms: int = 2_000,
    billing_ms: int = 60_000,
) -> np.ndarray:
    """One row about a bid, OUTCOME[1], with a token."""
    rows = np.zeros(1, OUTCOME)
    rows["kind"], rows["has_token"], rows["price_micros"] = kind, 1, price_micros
    rows["occurred_at_ms"] = rows["recorded_at_ms"] = issued_at_ms
    decision = rows["decision"]
    fields: dict[str, Any] = {
        "lease_id": lease_id,
        "hold_seq": hold_seq,
        "campaign_id": campaign_id,
        "bid_micros": bid_micros,
        "issued_at_ms": issued_at_ms,
        "win_notice_ms": win_notice_ms,
        "billing_ms": billing_ms,
    }
    for name, value in fields.items():
        decision[name] = value
    return rows


def seen(kind: OutcomeKind, viewer_id: int, creator_id: int, occurred_at_ms: int = START_MS) -> np.ndarray:
    """One row about a viewer, OUTCOME[1], without a token."""
    rows = np.zeros(1, OUTCOME)
    rows["kind"], rows["viewer_id"], rows["creator_id"] = kind, viewer_id, creator_id
    rows["occurred_at_ms"] = rows["recorded_at_ms"] = occurred_at_ms
    return rows


def billables(seqs: Sequence[int], price_micros: int = 7, lease_id: int = 1, campaign_id: int = 1) -> np.ndarray:
    """OUTCOME[n], one billable row for each sequence."""
    rows = np.zeros(len(seqs), OUTCOME)
    rows["kind"], rows["has_token"], rows["price_micros"] = OutcomeKind.BILLABLE, 1, price_micros
    rows["decision"]["lease_id"], rows["decision"]["campaign_id"] = lease_id, campaign_id
    rows["decision"]["hold_seq"] = seqs
    rows["decision"]["bid_micros"] = 10**9
    rows["occurred_at_ms"] = rows["recorded_at_ms"] = rows["decision"]["issued_at_ms"] = START_MS
    return rows
