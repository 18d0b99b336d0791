"""A campaign's statement: every judged impression with its verdict, and the totals at a row of the ledger."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pacing.ledger.log import Ledger

MAX_PAGE = 1_000


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


def statement_page(ledger: Ledger, campaign_id: int, after: int = 0, limit: int = MAX_PAGE) -> StatementPage:
    """One page of a campaign's statement.

    Args:
        after: sequence of the last row of the page before; 0: from the start.
        limit: rows on the page, 1..MAX_PAGE.

    Raises:
        ValueError: `limit` or `after` is out of range.
    """
    if not 1 <= limit <= MAX_PAGE:
        raise ValueError(f"limit {limit}: not in 1..{MAX_PAGE}")
    if not 0 <= after < 2**63:
        raise ValueError(f"after {after}: not in 0..{2**63 - 1}")
    sequence = ledger.judged_sequence
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
