"""Judged rows for tests of copies: a ledger that is told outcomes and verdicts, with rows about money between them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pacing.facts import JUDGEMENT, Verdict
from pacing.ledger.copies import JudgedPart
from pacing.ledger.log import Ledger
from pacing.ledger.rows import MoneyKind, money_rows
from tests.pacing.rows import START_MS, billables


def judge(
    ledger: Ledger,
    hold_seqs: Sequence[int],
    money: int = 0,
    price_micros: int = 7,
    campaign_id: int = 1,
    lease_id: int = 1,
    at_ms: int = START_MS,
) -> None:
    """Append one charged impression for each of `hold_seqs`, then `money` rows of the ledger's own, all judged."""
    rows = billables(hold_seqs, price_micros, lease_id, campaign_id)
    rows["recorded_at_ms"] = at_ms
    ledger.append(rows)
    if money:
        own = money_rows(money)
        own["kind"] = MoneyKind.CAPS
        ledger.append_money(own)
    judge_all(ledger)


def judge_all(ledger: Ledger) -> None:
    """Call everything that has no verdict yet charged."""
    rows = ledger.read(ledger.judged_sequence, 10**6)
    words = np.zeros(len(rows), JUDGEMENT)
    words["sequence"] = words["billed_sequence"] = rows["sequence"]
    words["verdict"], words["campaign_id"] = Verdict.CHARGED, rows["decision"]["campaign_id"]
    ledger.append_judgements(ledger.last_sequence, rows, words)


def part_of(ledger: Ledger, first: int, last: int) -> JudgedPart:
    """What was judged from row `first` to row `last`."""
    rows, judgements = ledger.read_judged(first - 1, last)
    inside = rows["sequence"] <= last
    return JudgedPart(first, last, rows[inside], judgements[inside])
