"""What the ledger stores besides outcomes: rows of its own about caps and leases, in the same fixed layout."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from pacing.facts import DECISION, OUTCOME, OutcomeKind, Verdict

FIRST_MONEY_KIND = 200
MAX_ZONE_BYTES = 64


class MoneyKind(IntEnum):
    """Kinds of the ledger's own rows, in one column with `OutcomeKind`; followers never see them."""

    CAPS = 200
    GRANT = 201
    RELEASE = 202


MONEY = np.dtype(
    {
        "names": [
            "sequence", "kind", "closed", "recorded_at_ms",
            "campaign_id", "creator_id", "lease_id", "amount_micros", "start_at_ms", "end_at_ms",
            "day_key", "seq_bound", "daily_cap_micros", "total_cap_micros", "zone",
        ],
        "formats": [
            "<u8", "u1", "u1", "<i8",
            "<u8", "<u8", "<u8", "<i8", "<i8", "<i8",
            "<i8", "<u8", "<i8", "<i8", f"S{MAX_ZONE_BYTES}",
        ],
        "offsets": [0, 8, 9, 24, 56, 64, 72, 80, 88, 96, 104, 112, 120, 128, 136],
        "itemsize": OUTCOME.itemsize,
    }
)  # fmt: skip
"""A row about money, as long as an OUTCOME, with `sequence`, `kind` and `recorded_at_ms` in the same places.

CAPS: caps asked for, of campaign, creator and zone, whose accounts were opened at `start_at_ms` (0: not known). GRANT:
a lease of `amount_micros` for the budget day `day_key`, usable from `start_at_ms` to `end_at_ms` on the wall clock, by
holds with sequences below `seq_bound`. RELEASE: `amount_micros` of a lease went back; `closed` when nothing is held on
it any more.
"""

CLAIM_KEY = np.dtype([("first", "<i8"), ("second", "<i8"), ("third", "<i8"), ("fourth", "<i8")])
"""What makes an outcome the same as one told before."""

_WITH_TOKEN = 256


def money_rows(count: int) -> np.ndarray:
    """MONEY[count] of zeros."""
    return np.zeros(count, MONEY)


def as_outcomes(rows: np.ndarray) -> np.ndarray:
    """MONEY[n] as OUTCOME[n], the same memory."""
    return rows.view(OUTCOME)


def as_money(rows: np.ndarray) -> np.ndarray:
    """OUTCOME[n] as MONEY[n], the same memory."""
    return rows.view(MONEY)


def claim_keys(rows: np.ndarray) -> np.ndarray:
    """Dedupe keys, CLAIM_KEY[n], of OUTCOME[n].

    With a token the key is (lease, sequence, kind), without one (viewer, creator, kind, instant).
    """
    keys = np.zeros(len(rows), CLAIM_KEY)
    tokened = rows["has_token"] != 0
    decisions = rows["decision"]
    keys["first"] = np.where(tokened, decisions["lease_id"], rows["viewer_id"]).view(np.int64)
    keys["second"] = np.where(tokened, decisions["hold_seq"], rows["creator_id"]).view(np.int64)
    keys["third"] = rows["kind"].astype(np.int64) + _WITH_TOKEN * tokened
    keys["fourth"] = np.where(tokened, 0, rows["occurred_at_ms"])
    return keys


def check_outcomes(rows: np.ndarray) -> None:
    """Refuse what is no durable outcome.

    Raises:
        ValueError: another layout, or a kind that is not BILLABLE or something that a viewer did.
    """
    if rows.dtype != OUTCOME or rows.ndim != 1:
        raise ValueError(f"rows: {rows.dtype.itemsize} bytes each, {rows.ndim} dimensions; must be OUTCOME[n]")
    kinds = rows["kind"]
    durable = (kinds == OutcomeKind.BILLABLE) | ((kinds >= OutcomeKind.CLICK) & (kinds <= max(OutcomeKind)))
    if not durable.all():
        worst = int(kinds[np.argmin(durable)])
        raise ValueError(f"kind {worst}: only BILLABLE and what viewers do is kept in the ledger")


def is_charged(verdicts: np.ndarray) -> np.ndarray:
    """Which of u1[n] verdicts moved money."""
    return verdicts == Verdict.CHARGED


assert MONEY.fields is not None and MONEY.itemsize == OUTCOME.itemsize
assert OUTCOME.fields is not None and OUTCOME.fields["decision"][1] == 56 and DECISION.itemsize == 192
