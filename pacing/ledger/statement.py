"""A campaign's statement: every judged impression with its verdict, and the totals at a row of the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pacing.facts import FLAG_FLAT_WORTH, FLAG_TIER_UPLIFT, AuctionType, worth_micros

MAX_PAGE = 1_000

EXPLAINED = np.dtype(
    [
        ("sequence", "<u8"),  # of the ledger
        ("occurred_at_ms", "<i8"),  # when it was seen
        ("recorded_at_ms", "<i8"),
        ("viewer_id", "<u8"),
        ("creative_id", "<u8"),
        ("at", "u1"),  # AuctionType
        ("verdict", "u1"),
        ("amount_micros", "<i8"),  # reported; charged where the verdict says so
        ("bid_micros", "<i8"),
        ("floor_micros", "<i8"),
        ("probability", "<f8"),  # of a goal event, as predicted
        ("alpha_micros", "<f8"),  # worth of one goal event or, if `flat`, of the impression
        ("flat", "?"),
        ("uplifted", "?"),  # alpha counts what tier the fan may come to be of
        ("value_micros", "<f8"),  # worth of the impression: alpha * p
        ("shade", "<f8"),  # bid / value in a first-price auction; 0 in second price, where bids are not shaded
        ("charged_micros", "<i8"),  # by the campaign in total, this row included
        ("over_delivered_micros", "<i8"),  # in total, this row included
    ]
)
"""One line of a statement with its why."""


class Charges(Protocol):
    """Where charges are listed: a ledger, or the charges of several in one list (`pacing.ledger.arrivals`)."""

    @property
    def judged_sequence(self) -> int:
        """How far the list goes."""

    def charges_of(self, campaign_id: int, after: int, limit: int) -> np.ndarray:
        """A campaign's charges behind the place `after`, as CHARGE[n], oldest first."""

    def charged_at(self, campaign_id: int, place: int) -> tuple[int, int]:
        """What a campaign was charged, and what was delivered over its budgets, in micros, up to a place."""


class Rows(Protocol):
    """Where the rows of charges are."""

    def rows_at(self, sequences: np.ndarray) -> np.ndarray:
        """The rows of these sequences (u8[n], ascending), as OUTCOME[n]."""


@dataclass(frozen=True, slots=True)
class StatementPage:
    """Part of a campaign's statement.

    Attributes:
        charges: CHARGE[n], oldest first.
        next_after: pass it as `after` for the next page; 0: this is the last.
        ledger_sequence: everything up to this row is judged.
        charged_micros, over_delivered_micros: the campaign's totals at `ledger_sequence`.
    """

    charges: np.ndarray
    next_after: int
    ledger_sequence: int
    charged_micros: int
    over_delivered_micros: int


def statement_page(
    ledger: Charges, campaign_id: int, after: int = 0, limit: int = MAX_PAGE, at_sequence: int = 0
) -> StatementPage:
    """One page of a campaign's statement.

    Args:
        after: sequence of the last row of the page before; 0: from the start.
        limit: rows on the page, 1..MAX_PAGE.
        at_sequence: the `ledger_sequence` of an earlier page, to go on with the statement as it was then; 0: as it is.

    Raises:
        ValueError: `limit`, `after` or `at_sequence` is out of range.
    """
    if not 1 <= limit <= MAX_PAGE:
        raise ValueError(f"limit {limit}: not in 1..{MAX_PAGE}")
    if not 0 <= after < 2**63:
        raise ValueError(f"after {after}: not in 0..{2**63 - 1}")
    judged = ledger.judged_sequence
    if not 0 <= at_sequence <= judged:
        raise ValueError(f"ledger_sequence {at_sequence}: not in 0..{judged}, as far as is judged")
    sequence = at_sequence or judged
    charges = ledger.charges_of(campaign_id, after, limit + 1)
    charges = charges[charges["sequence"] <= sequence]
    page = charges[:limit]
    charged, over = ledger.charged_at(campaign_id, sequence)
    return StatementPage(
        charges=page,
        next_after=int(page["sequence"][-1]) if len(charges) > limit else 0,
        ledger_sequence=sequence,
        charged_micros=charged,
        over_delivered_micros=over,
    )


def explained(ledger: Rows, charges: np.ndarray) -> np.ndarray:
    """EXPLAINED[n]: CHARGE[n], ascending, with what their rows of the ledger say about why and how much.

    Raises:
        LedgerDamaged: a row is not what was acknowledged.
    """
    lines = np.zeros(len(charges), EXPLAINED)
    rows = ledger.rows_at(charges["sequence"])
    for source in (rows["decision"], rows, charges):
        for name in {*(source.dtype.names or ())} & {*(EXPLAINED.names or ())}:
            lines[name] = source[name]
    decisions = rows["decision"]
    lines["flat"] = (decisions["flags"] & FLAG_FLAT_WORTH) != 0
    lines["uplifted"] = (decisions["flags"] & FLAG_TIER_UPLIFT) != 0
    values = worth_micros(decisions)
    lines["value_micros"] = values
    shaded = (decisions["at"] == AuctionType.FIRST_PRICE) & (values > 0)
    np.divide(decisions["bid_micros"], values, out=lines["shade"], where=shaded)
    return lines
