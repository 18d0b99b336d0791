"""What a feed server was told while it lasted, held against the ledger in the end."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pacing.facts import OutcomeKind, Verdict
from pacing.ledger.reading import LedgerFile
from pacing.ledger.rows import MoneyKind

CLAIM = np.dtype([("lease_id", "<u8"), ("hold_seq", "<u8"), ("kind", "u1"), ("amount_micros", "<i8")])
"""One row that a report told with a token."""
_KEY = ["lease_id", "hold_seq", "kind"]
_READ_ROWS = 50_000


def claims_of(kinds: np.ndarray, decisions: np.ndarray, amounts_micros: np.ndarray) -> np.ndarray:
    """CLAIM[n] of kinds u1[n], DECISION[n] and amounts i8[n]."""
    claims = np.zeros(len(kinds), CLAIM)
    claims["lease_id"], claims["hold_seq"] = decisions["lease_id"], decisions["hold_seq"]
    claims["kind"], claims["amount_micros"] = kinds, amounts_micros
    return claims


@dataclass(frozen=True, slots=True)
class Caps:
    """What a campaign may be charged, in micros."""

    daily_micros: int
    total_micros: int


class Told:
    """Bids that were answered, rows that were acknowledged, and the campaigns' caps. Any thread may add."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._acknowledged: list[np.ndarray] = []
        self._bids: list[np.ndarray] = []
        self.caps: dict[int, Caps] = {}
        self.billed_micros = 0

    def acknowledge(self, claims: np.ndarray) -> None:
        """Note CLAIM[n] that a report acknowledged."""
        with self._lock:
            self._acknowledged.append(claims)
            billed = claims["kind"] == OutcomeKind.BILLABLE
            self.billed_micros += int(claims["amount_micros"][billed].sum())

    def note_bids(self, life: int, decisions: np.ndarray) -> None:
        """Note the bids, DECISION[n], that a server answered in one of its lives."""
        bids = np.zeros(len(decisions), [("lease_id", "<u8"), ("hold_seq", "<u8"), ("life", "<i8")])
        bids["lease_id"], bids["hold_seq"], bids["life"] = decisions["lease_id"], decisions["hold_seq"], life
        with self._lock:
            self._bids.append(bids)

    @property
    def acknowledged(self) -> np.ndarray:
        """CLAIM[n], all that was acknowledged, each once."""
        return np.unique(np.concatenate([np.zeros(0, CLAIM), *self._acknowledged]))

    def used_twice(self) -> int:
        """Bids that have a hold sequence of an earlier one, and leases that two lives bid on."""
        if not self._bids:
            return 0
        bids = np.concatenate(self._bids)
        again = len(bids) - len(np.unique(bids["hold_seq"]))
        leases = np.unique(bids[["lease_id", "life"]])
        return again + len(leases) - len(np.unique(leases["lease_id"]))


@dataclass(frozen=True, slots=True)
class Held:
    """What became of what was told.

    Attributes:
        acknowledged: rows that were acknowledged.
        lost: of those, rows that are not in the ledger once, with their amount and a verdict.
        charged_micros, charged_over_micros: in total, and beyond a cap of a day or of all.
        over_delivered_micros: shown, and not charged.
    """

    acknowledged: int
    lost: int
    charged_micros: int
    charged_over_micros: int
    over_delivered_micros: int


def hold_against_ledger(told: Told, path: Path) -> Held:
    """Compare with the ledger that a server left."""
    ledger = LedgerFile(path)
    try:
        stored, charged, over = [np.zeros(0, CLAIM)], [np.zeros(0, _CHARGED)], 0
        for rows, judgements in _judged(ledger):
            decisions, verdicts = rows["decision"], judgements["verdict"]
            stored.append(claims_of(rows["kind"], decisions, rows["price_micros"])[verdicts != 0])
            billed = rows["kind"] == OutcomeKind.BILLABLE
            over += int(rows["price_micros"][billed & (verdicts == Verdict.OVER_DELIVERY)].sum())
            charged.append(_charges(rows[billed & (verdicts == Verdict.CHARGED)]))
        charges = np.concatenate(charged)
        days = {int(row["lease_id"]): int(row["day_key"]) for row in _grants(ledger)}
    finally:
        ledger.close()
    acknowledged = told.acknowledged
    return Held(
        acknowledged=len(acknowledged),
        lost=count_lost(acknowledged, np.concatenate(stored)),
        charged_micros=int(charges["amount_micros"].sum()),
        charged_over_micros=charged_over(charges, told.caps, days),
        over_delivered_micros=over,
    )


def count_lost(acknowledged: np.ndarray, stored: np.ndarray) -> int:
    """How many of CLAIM[n] are not among CLAIM[m], or are there more than once under their key."""
    keys, counts = np.unique(stored[_KEY], return_counts=True)
    repeated = np.isin(acknowledged[_KEY], keys[counts > 1])
    return int((repeated | ~np.isin(acknowledged, stored)).sum())


_CHARGED = np.dtype([("campaign_id", "<u8"), ("lease_id", "<u8"), ("amount_micros", "<i8")])


def _charges(rows: np.ndarray) -> np.ndarray:
    charges = np.zeros(len(rows), _CHARGED)
    charges["campaign_id"], charges["lease_id"] = rows["decision"]["campaign_id"], rows["decision"]["lease_id"]
    charges["amount_micros"] = rows["price_micros"]
    return charges


def charged_over(charges: np.ndarray, caps: dict[int, Caps], days: dict[int, int]) -> int:
    """Micros by which the charges pass caps: of campaigns, and of their days, which are those of the leases.

    A campaign or lease that nobody knows has a cap of 0.
    """
    over = 0
    for campaign_id in np.unique(charges["campaign_id"]).tolist():
        mine = charges[charges["campaign_id"] == campaign_id]
        cap = caps.get(campaign_id, Caps(0, 0))
        over += max(0, int(mine["amount_micros"].sum()) - cap.total_micros)
        keys = np.array([days.get(lease_id, 0) for lease_id in mine["lease_id"].tolist()], np.int64)
        for day_key in np.unique(keys).tolist():
            spent = int(mine["amount_micros"][keys == day_key].sum())
            over += max(0, spent - (cap.daily_micros if day_key else 0))
    return over


def _grants(ledger: LedgerFile) -> np.ndarray:
    rows: np.ndarray = ledger.read_money(0)
    return rows[rows["kind"] == MoneyKind.GRANT]


def _judged(ledger: LedgerFile) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    after = 0
    while True:
        rows, judgements = ledger.read_judged(after, _READ_ROWS)
        if not len(rows):
            return
        yield rows, judgements
        after = int(rows["sequence"][-1])


def sums(parts: Sequence[Held]) -> Held:
    """All of them together."""
    return Held(*(sum(getattr(part, name) for part in parts) for name in Held.__slots__))
