"""What a restart knows: accounts, leases and counters, from the ledger's snapshot and the rows behind it."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pacing.array_state import arrays_from, check_like
from pacing.budget.account import Account, Balance
from pacing.budget.memory import MemoryStore, StoredLease
from pacing.budget.settle import settlements_of
from pacing.budget.store import CapsRequest, LeaseRequest
from pacing.facts import OWNER_SHIFT, SEQUENCE_MASK, OutcomeKind
from pacing.ledger.errors import LedgerDamaged
from pacing.ledger.reading import LedgerReads
from pacing.ledger.rows import MoneyKind

_REPLAY_ROWS = 50_000
_SNAPSHOT_VERSION = 1


@dataclass(slots=True)
class Counters:
    """What must never be used twice.

    Attributes:
        next_lease: counter of the next lease id.
        seq_bound: sequences below it may have been used.
    """

    next_lease: int = 1
    seq_bound: int = 1


@dataclass(frozen=True, slots=True)
class Recovery:
    """What was found at start.

    Attributes:
        accounts: how many campaigns have accounts.
        quarantined_leases, quarantined_micros: leases of the process before, and what is left of them; their money is
        locked
            until no notice about them can be accepted any more.
        rows_replayed: ledger rows and verdicts read behind the snapshot.
        unjudged_rows: rows that still wait for their verdict.
    """

    accounts: int
    quarantined_leases: int
    quarantined_micros: int
    rows_replayed: int
    unjudged_rows: int


@dataclass(slots=True)
class Replayed:
    """The state that a ledger leads to."""

    store: MemoryStore = field(default_factory=MemoryStore)
    counters: Counters = field(default_factory=Counters)
    rows: int = 0
    snapshot_sequence: int = 0


def replay(ledger: LedgerReads, owner_id: int) -> Replayed:
    """Rebuild accounts, leases and counters.

    Money rows and verdicts are applied one after the other although they were interleaved: both only add, and a verdict
    that the ledger has is never decided again.

    Raises:
        LedgerDamaged: the ledger is not what was acknowledged.
    """
    snapshot = ledger.load_snapshot()
    sequence, judged = (snapshot[0], snapshot[1]) if snapshot else (0, 0)
    state = Replayed() if snapshot is None else _restored(snapshot[2])
    state.snapshot_sequence = min(sequence, judged)
    for row in ledger.read_money(sequence):
        _apply_money(state, row, owner_id)
        state.rows += 1
    while True:
        rows, judgements = ledger.read_judged(judged, _REPLAY_ROWS)
        if not len(rows):
            return state
        billable = rows["kind"] == OutcomeKind.BILLABLE
        state.store.restore_verdicts(settlements_of(rows[billable]), judgements["verdict"][billable])
        judged = int(rows["sequence"][-1])
        state.rows += len(rows)


def check_statements(ledger: LedgerReads, store: MemoryStore) -> None:
    """Compare what the statements say was charged with the accounts, whose part before a snapshot is under its digest.

    Raises:
        LedgerDamaged: they differ.
    """
    for account in store.accounts.values():
        stated, _ = ledger.charged_at(account.campaign_id, ledger.judged_sequence)
        settled = account.flight.settled_micros
        if stated != settled:
            text = f"campaign {account.campaign_id}: its statement ends at {stated} micros, its account at {settled}"
            raise LedgerDamaged(f"ledger {ledger.path}: {text}")


def _apply_money(state: Replayed, row: np.void, owner_id: int) -> None:
    kind, campaign_id, lease_id = int(row["kind"]), int(row["campaign_id"]), int(row["lease_id"])
    if kind == MoneyKind.CAPS:
        caps = CapsRequest(
            campaign_id,
            int(row["creator_id"]),
            row["zone"].decode("ascii"),
            int(row["daily_cap_micros"]),
            int(row["total_cap_micros"]),
            int(row["recorded_at_ms"]),
        )
        state.store.set_caps(caps)
        state.store.accounts[campaign_id].opened_at_ms = int(row["start_at_ms"])
    elif kind == MoneyKind.GRANT:
        amount = int(row["amount_micros"])
        request = LeaseRequest(
            lease_id, campaign_id, int(row["day_key"]), int(row["start_at_ms"]), int(row["end_at_ms"]), amount
        )
        state.store.restore_lease(request, amount)
        if lease_id >> OWNER_SHIFT == owner_id:
            state.counters.next_lease = max(state.counters.next_lease, (lease_id & SEQUENCE_MASK) + 1)
            state.counters.seq_bound = max(state.counters.seq_bound, int(row["seq_bound"]) & SEQUENCE_MASK)
    elif kind == MoneyKind.RELEASE:
        released = int(row["amount_micros"])
        state.store.release(state.store.campaign_of(lease_id), lease_id, released, bool(row["closed"]))


_ACCOUNTS = np.dtype(
    [
        ("campaign_id", "<u8"), ("creator_id", "<u8"), ("zone", "S64"), ("daily_cap", "<i8"),
        ("total_cap", "<i8"), ("settled", "<i8"), ("leased", "<i8"), ("over_delivered", "<i8"),
    ]
)  # fmt: skip
_DAYS = np.dtype([("campaign_id", "<u8"), ("day_key", "<i8"), ("cap", "<i8"), ("settled", "<i8"), ("leased", "<i8")])
_LEASES = np.dtype(
    [
        ("lease_id", "<u8"), ("campaign_id", "<u8"), ("day_key", "<i8"), ("amount", "<i8"), ("remaining", "<i8"),
        ("start_at_ms", "<i8"), ("end_at_ms", "<i8"), ("closed", "?"),
    ]
)  # fmt: skip


def snapshot_bytes(store: MemoryStore, counters: Counters) -> bytes:
    """The whole state as bytes; read back by `replay`."""
    accounts, leases = store.accounts.values(), store.leases.values()
    tables: dict[str, Any] = {
        "accounts": np.array(
            [
                (
                    a.campaign_id, a.creator_id, a.zone.encode("ascii"), a.daily_cap_micros, a.flight.cap_micros,
                    a.flight.settled_micros, a.flight.leased_micros, a.over_delivered_micros,
                )
                for a in accounts
            ],
            _ACCOUNTS,
        ),
        "days": np.array(
            [
                (a.campaign_id, key, day.cap_micros, day.settled_micros, day.leased_micros)
                for a in accounts
                for key, day in a.days.items()
            ],
            _DAYS,
        ),
        "leases": np.array(
            [
                (
                    x.lease_id, x.campaign_id, x.day_key, x.amount_micros, x.remaining_micros,
                    x.start_at_ms, x.end_at_ms, x.closed,
                )
                for x in leases
            ],
            _LEASES,
        ),
        "counters": np.array([_SNAPSHOT_VERSION, counters.next_lease, counters.seq_bound], np.int64),
    }  # fmt: skip
    out = io.BytesIO()
    np.savez(out, **tables)
    return out.getvalue()


def _restored(body: bytes) -> Replayed:
    """The state of a snapshot's bytes.

    Raises:
        LedgerDamaged: they are no such snapshot.
    """
    try:
        return _restored_from(arrays_from(body))
    except (ValueError, KeyError, OverflowError) as error:
        raise LedgerDamaged(f"budget snapshot: {error}") from None


def _restored_from(tables: dict[str, np.ndarray]) -> Replayed:
    state = Replayed()
    model = {"accounts": np.zeros(0, _ACCOUNTS), "days": np.zeros(0, _DAYS), "leases": np.zeros(0, _LEASES)}
    check_like(tables, {**model, "counters": np.zeros(3, np.int64)})
    if len(tables["counters"]) != 3:
        raise ValueError(f"counters: {len(tables['counters'])} numbers; must be 3")
    version, state.counters.next_lease, state.counters.seq_bound = tables["counters"].tolist()
    if version != _SNAPSHOT_VERSION:
        raise ValueError(f"budget snapshot version {version}: must be {_SNAPSHOT_VERSION}")
    for campaign_id, creator_id, zone, daily, total, settled, leased, over in tables["accounts"].tolist():
        flight = Balance(total, settled, leased)
        state.store.accounts[campaign_id] = Account(
            campaign_id, creator_id, zone.decode("ascii"), daily, flight, over_delivered_micros=over
        )
    for campaign_id, day_key, *amounts in tables["days"].tolist():
        state.store.accounts[campaign_id].days[day_key] = Balance(*amounts)
    for fields in tables["leases"].tolist():
        state.store.leases[fields[0]] = StoredLease(*fields)
    return state
