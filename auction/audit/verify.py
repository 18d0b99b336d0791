"""Checks a whole ledger: the file against its anchor, then each row against what it says, to the first difference."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from auction.audit.bids import BidAudit, BidCounts
from auction.bid.token import TokenKeys
from auction.landscape.archive import LANDSCAPES_FOLDER, RetainedLandscapes
from pacing.budget.audit import Difference, MoneyAudit, earliest, first_where
from pacing.ledger.errors import LedgerDamaged
from pacing.ledger.reading import JUDGED, ROWS, LedgerFile

LEDGER_FILE = "ledger.sqlite"
KEYS_FILE = "keys.json"
_ROWS_AT_A_TIME = 20_000

Progress = Callable[[str, int, int], None]
"""Told what is being done, how many rows of it are done, and how many there are."""


@dataclass(slots=True)
class Verified:
    """What a ledger was found to be.

    Attributes:
        difference: the first, where there is one; the counts are then of what lies before.
        rows: in the file, up to the anchor's mark.
        unjudged: outcomes and rows behind the last verdict; nothing is charged for them yet.
        billables, charges: claims of impressions, and those that were charged.
        charged_micros, over_delivered_micros: in total.
        bids: how far bids could be derived.
    """

    difference: Difference | None = None
    rows: int = 0
    unjudged: int = 0
    billables: int = 0
    charges: int = 0
    charged_micros: int = 0
    over_delivered_micros: int = 0
    campaigns: int = 0
    bids: BidCounts = field(default_factory=BidCounts)


def verify(folder: Path, progress: Progress) -> Verified:
    """Check the ledger in a server's data folder, as it is now; a server may be writing on.

    Raises:
        FileNotFoundError: there is no ledger, or no key file.
        ValueError: the key file is of no use.
    """
    keys = TokenKeys.load(folder / KEYS_FILE)
    try:
        ledger = LedgerFile(folder / LEDGER_FILE)
    except LedgerDamaged as damaged:
        return Verified(Difference(0, "file", str(damaged), "what was acknowledged"))
    try:
        return _verify(ledger, BidAudit(keys, RetainedLandscapes(folder / LANDSCAPES_FOLDER)), progress)
    finally:
        ledger.close()


def _verify(ledger: LedgerFile, bids: BidAudit, progress: Progress) -> Verified:
    found = Verified(
        rows=ledger.last_sequence, unjudged=ledger.last_sequence - ledger.judged_sequence, bids=bids.counts
    )
    found.difference = _check_file(ledger, progress)
    if found.difference is not None:
        return found
    money = MoneyAudit(ledger)
    try:
        for rows, judgements in _judged(ledger, progress):
            told = ledger.find_claims(rows)
            indexed = first_where(rows, told != rows["price_micros"], "told before", told, rows["price_micros"])
            found.difference = earliest(bids.follow(rows), money.follow(rows, judgements), indexed)
            if found.difference is not None:
                break
        found.difference = earliest(money.charged_twice(), found.difference) or money.finish()
    except LedgerDamaged as damaged:
        found.difference = Difference(ledger.judged_sequence, "file", str(damaged), "what was acknowledged")
    found.billables, found.charges = money.billables, money.charges
    found.charged_micros = sum(money.charged.values())
    found.over_delivered_micros = sum(money.over_delivered.values())
    found.campaigns = sum(1 for micros in money.charged.values() if micros)
    return found


def _check_file(ledger: LedgerFile, progress: Progress) -> Difference | None:
    """The hash chains, from the first row to what the anchor says, and that no sequence is missing or out of order."""
    for table, label in ((ROWS, "hash chain of the rows"), (JUDGED, "hash chain of the verdicts")):
        total = ledger.last_sequence if table is ROWS else ledger.judged_sequence
        done = 0
        try:
            for batch in ledger.chain(table):
                sequences = batch.rows["sequence"]
                expected = np.arange(batch.first, batch.last + 1, dtype=np.uint64)
                ascending = bool((np.diff(sequences.astype(np.int64)) > 0).all()) and np.isin(sequences, expected).all()
                if not ascending or (table is ROWS and len(sequences) != len(expected)):
                    stated = f"{len(sequences)} rows"
                    return Difference(batch.first, table.name, stated, f"rows {batch.first} to {batch.last}")
                done = batch.last
                progress(label, done, total)
        except LedgerDamaged as damaged:
            return Difference(done + 1, table.name, str(damaged), "what was acknowledged")
    return None


def _judged(ledger: LedgerFile, progress: Progress) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All judged outcomes with their verdicts, in order."""
    after = 0
    while True:
        rows, judgements = ledger.read_judged(after, _ROWS_AT_A_TIME)
        if not len(rows):
            return
        yield rows, judgements
        after = int(rows["sequence"][-1])
        progress("charges and bids", after, ledger.judged_sequence)
