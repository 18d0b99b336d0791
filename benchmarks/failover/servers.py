"""Servers that spend shared budgets while their Redis fails over: the shipped bank, ledger, judge and epoch watch."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pacing.budget.bank import Bank
from pacing.budget.epochs import EpochWatch
from pacing.budget.redis_store import RedisStore
from pacing.budget.settings import BankSettings
from pacing.budget.shared import SharedStore
from pacing.budget.store import StoreUnavailable
from pacing.clocks import SystemClock
from pacing.facts import OUTCOME, OutcomeKind, RowStatus, Verdict
from pacing.ledger.followers import JudgeFollower
from pacing.ledger.log import Ledger

ZONE = "UTC"
CREATOR = 9
BID_MICROS = 1_000
TIMES = {"win_notice_ms": 300, "billing_ms": 800, "grace_ms": 200, "doubt_ms": 3_000, "lease_ttl_ms": 1_500}
"""As shipped, but for scale, so that a quarantine is over in seconds; a failover itself takes up to two of them."""

_TIMEOUT_MS = 300
_ROUND_S = 0.02
_BIDS = 4
_BILLED_SHARE, _ELSEWHERE_SHARE, _TWICE_SHARE = 0.6, 0.25, 0.1


class Spender:
    """One server with its ledger, and a thread that bids on what is open, reports, ticks and judges."""

    def __init__(self, url: str, owner_id: int, folder: Path, seed: int) -> None:
        """Join the Redis at `url`; nothing runs before `start`."""
        self.settings = BankSettings(owner_id=owner_id, is_shared=True, **TIMES)
        self.clock = SystemClock()
        self.ledger = Ledger(folder / f"{owner_id}.sqlite")
        quarantine_ms = self.settings.lease_ttl_ms + self.settings.lock_ms + self.settings.grace_ms
        remote = RedisStore(url, owner_id, timeout_ms=_TIMEOUT_MS, quarantine_ms=quarantine_ms)
        self.store = SharedStore(remote, self.clock, owner_id)
        self.bank = Bank(self.ledger, self.clock, self.settings, self.store)
        self.judge = JudgeFollower(self.ledger, [self.bank.settle_judge], on_judged=self.bank.judged)
        self.epochs = EpochWatch(self.store, remote, self.ledger, self.clock)
        self.peers: Sequence[Spender] = ()
        self.acknowledged: list[tuple[int, int]] = []  # (lease_id, hold_seq) of impressions that were accepted
        self.judged_at_s = time.monotonic()  # when settling last worked
        self._campaigns: list[int] = []
        self._draw = random.Random(seed)
        self._stop = threading.Event()
        self._is_spending = True
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=f"server {owner_id}")

    def open(self, campaign_id: int, cap_micros: int, opening: bool) -> None:
        """Bid for a campaign. Raises StoreUnavailable."""
        self.bank.set_account(campaign_id, CREATOR, ZONE, cap_micros, cap_micros, 1, opening)
        self._campaigns.append(campaign_id)

    def start(self) -> None:
        """Begin to bid."""
        self._thread.start()

    def rest(self) -> None:
        """Bid no more; go on with what was bid."""
        self._is_spending = False

    def stop(self) -> None:
        """End the thread and close the files."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        self.ledger.close()
        self.store.close()

    @property
    def is_done(self) -> bool:
        """Whether everything that was accepted is judged, and everything that may be lost was told again."""
        return self.ledger.judged_sequence == self.ledger.last_sequence and not self.epochs.is_behind

    def _run(self) -> None:
        while not self._stop.wait(_ROUND_S):
            self.bank.tick()
            self.epochs.tick()
            self._judge()
            if self._is_spending:
                for campaign_id in self._campaigns[-2:]:
                    self._spend(campaign_id)

    def _judge(self) -> None:
        try:
            if self.judge.catch_up():
                self.judged_at_s = time.monotonic()
        except StoreUnavailable:
            return

    def _spend(self, campaign_id: int) -> None:
        """Bid a few times, and tell what became of it: here, at another server, or at both."""
        slots = np.full((_BIDS, 1), self.bank.slot_of(campaign_id), np.int32)
        choice = np.zeros((_BIDS, 1), np.int8)
        lease_ids, seqs = np.zeros((_BIDS, 1), np.uint64), np.zeros((_BIDS, 1), np.uint64)
        self.bank.place_holds(slots, np.full((_BIDS, 1), BID_MICROS, np.int64), 1, choice, lease_ids, seqs)
        for i in np.flatnonzero(choice[:, 0] == 0):
            row = self._row(campaign_id, int(lease_ids[i, 0]), int(seqs[i, 0]))
            there = self._draw.choice(self.peers) if self._draw.random() < _ELSEWHERE_SHARE else self
            if self._draw.random() < _BILLED_SHARE:
                row["price_micros"] = self._draw.randint(1, BID_MICROS)
                there.take(row)
                if self._draw.random() < _TWICE_SHARE:
                    self._draw.choice(self.peers).take(row)
            elif self._draw.random() < 0.8:
                row["kind"] = OutcomeKind.LOSS
                there.take(row)

    def _row(self, campaign_id: int, lease_id: int, seq: int) -> np.ndarray:
        row = np.zeros(1, OUTCOME)
        row["kind"], row["has_token"] = OutcomeKind.BILLABLE, 1
        row["occurred_at_ms"] = row["recorded_at_ms"] = self.clock.wall_ms()
        row["creator_id"], row["viewer_id"] = CREATOR, seq
        decision = row["decision"]
        decision["campaign_id"], decision["creator_id"], decision["viewer_id"] = campaign_id, CREATOR, seq
        decision["lease_id"], decision["hold_seq"], decision["bid_micros"] = lease_id, seq, BID_MICROS
        decision["issued_at_ms"] = self.clock.wall_ms()
        decision["win_notice_ms"], decision["billing_ms"] = self.settings.win_notice_ms, self.settings.billing_ms
        return row

    def take(self, row: np.ndarray) -> None:
        """Take a notice; whose bid it was does not matter."""
        status = int(self.bank.report(row)[0])
        if status == RowStatus.ACCEPTED and row["kind"][0] == OutcomeKind.BILLABLE:
            with self._lock:
                self.acknowledged.append((int(row["decision"]["lease_id"][0]), int(row["decision"]["hold_seq"][0])))

    def verdicts(self) -> tuple[np.ndarray, np.ndarray]:
        """Every billed row of this server's ledger with its judgement."""
        parts, after = [], 0
        while True:
            rows, judgements = self.ledger.read_judged(after, 10_000)
            if not len(rows):
                break
            billed = rows["kind"] == OutcomeKind.BILLABLE
            parts.append((rows[billed], judgements[billed]))
            after = int(rows["sequence"][-1])
        if not parts:
            return np.zeros(0, OUTCOME), np.zeros(0, [("verdict", "u1")])
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def charged_by_campaign(spenders: Sequence[Spender]) -> tuple[dict[int, int], int, int]:
    """From all ledgers: what each campaign was charged, what was over-delivered, and how many acknowledged impressions
    have no verdict."""
    charged: dict[int, int] = {}
    over, missing = 0, 0
    for spender in spenders:
        rows, judgements = spender.verdicts()
        told = set(zip(rows["decision"]["lease_id"].tolist(), rows["decision"]["hold_seq"].tolist(), strict=True))
        missing += len(set(spender.acknowledged) - told)
        for campaign_id in np.unique(rows["decision"]["campaign_id"]).tolist():
            mine = (rows["decision"]["campaign_id"] == campaign_id) & (judgements["verdict"] == Verdict.CHARGED)
            charged[campaign_id] = charged.get(campaign_id, 0) + int(rows["price_micros"][mine].sum())
        over += int(rows["price_micros"][judgements["verdict"] == Verdict.OVER_DELIVERY].sum())
    return charged, over, missing
