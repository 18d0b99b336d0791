"""What is reported of holds that are not in the book: long decided, or of the process before, or of another server."""

from __future__ import annotations

import threading
from collections import OrderedDict

import numpy as np

from pacing.budget.kernels import ROUTE_UNKNOWN
from pacing.clocks import Clock
from pacing.facts import OWNER_SHIFT, OutcomeKind, RowStatus
from pacing.ledger.log import Ledger

MAX_REMEMBERED_LOSSES = 2**16


class UnbookedHolds:
    """Decides about their rows from the token, the ledger, and the losses that were told. Any thread may ask."""

    def __init__(self, ledger: Ledger, clock: Clock, first_seq: int) -> None:
        """`first_seq`: holds of this owner from here on were in this process's book once."""
        self._ledger = ledger
        self._clock = clock
        self._first_seq = first_seq
        self._losses: OrderedDict[tuple[int, int], None] = OrderedDict()
        self._losses_lock = threading.Lock()

    def judge(self, rows: np.ndarray, claims: np.ndarray) -> None:
        """Fill in the status of claims (CLAIM[n], one for each of OUTCOME[n]) on holds that the book does not know.

        Deadlines of holds of others are those of the token, on the wall clock. Their billable claims stay undecided:
        they become durable and are charged to their lease by the settle judge.
        """
        unknown = np.flatnonzero(claims["route"] == ROUTE_UNKNOWN)
        if not len(unknown):
            return
        decisions = rows["decision"][unknown]
        kinds, age_ms = rows["kind"][unknown], self._clock.wall_ms() - decisions["issued_at_ms"]
        seqs, owner = decisions["hold_seq"], np.uint64(OWNER_SHIFT)
        is_ours = (seqs >= np.uint64(self._first_seq)) & (seqs >> owner == np.uint64(self._first_seq) >> owner)
        statuses = np.zeros(len(unknown), np.uint8)
        wins, billables = kinds == OutcomeKind.WIN, kinds == OutcomeKind.BILLABLE
        is_late = is_ours | (age_ms > np.where(wins, decisions["win_notice_ms"], decisions["billing_ms"]))
        statuses[wins] = np.where(is_late[wins], RowStatus.EXPIRED, RowStatus.ACCEPTED)
        amounts = rows["price_micros"][unknown]
        statuses[billables & ((amounts < 0) | (amounts > decisions["bid_micros"]))] = RowStatus.INVALID
        self._check_losses(rows[unknown], statuses)
        late = np.flatnonzero(billables & is_late & (statuses == 0))
        if len(late):
            told = self._ledger.find_claims(rows[unknown[late]])
            repeated = np.where(told == amounts[late], RowStatus.DUPLICATE, RowStatus.CONFLICT)
            statuses[late] = np.where(told < 0, RowStatus.EXPIRED, repeated)
        claims["status"][unknown] = statuses

    def _check_losses(self, rows: np.ndarray, statuses: np.ndarray) -> None:
        """Remember those that are told lost, and refuse what contradicts it. Changes `statuses`, u1[n]."""
        losses = np.flatnonzero(rows["kind"] == OutcomeKind.LOSS)
        billed = rows[losses]
        billed["kind"] = OutcomeKind.BILLABLE
        is_billed = dict(zip(losses.tolist(), (self._ledger.find_claims(billed) >= 0).tolist(), strict=True))
        keys = zip(rows["decision"]["lease_id"].tolist(), rows["decision"]["hold_seq"].tolist(), strict=True)
        with self._losses_lock:
            for i, key in enumerate(keys):
                if i not in is_billed:
                    if key in self._losses and statuses[i] in (0, RowStatus.ACCEPTED):
                        statuses[i] = RowStatus.CONFLICT
                elif is_billed[i]:
                    statuses[i] = RowStatus.CONFLICT
                else:
                    statuses[i] = RowStatus.DUPLICATE if key in self._losses else RowStatus.ACCEPTED
                    self._losses[key] = None
            while len(self._losses) > MAX_REMEMBERED_LOSSES:
                self._losses.popitem(last=False)
