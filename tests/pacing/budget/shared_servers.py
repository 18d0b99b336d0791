"""Several banks on one Redis, on one virtual clock."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pacing.budget.bank import Bank
from pacing.budget.epochs import EpochWatch
from pacing.budget.redis_store import RedisStore
from pacing.budget.settings import BankSettings
from pacing.budget.shared import SharedStore
from pacing.clocks import VirtualClock
from pacing.facts import OutcomeKind, RowStatus
from pacing.ledger.followers import JudgeFollower
from pacing.ledger.log import Ledger
from tests.pacing.budget.store_homes import RedisHome
from tests.pacing.rows import START_MS, told

ZONE = "UTC"
CREATOR = 9
BID = 1_000
ACCEPTED, EXPIRED = RowStatus.ACCEPTED, RowStatus.EXPIRED
WIN, BILLABLE, LOSS = OutcomeKind.WIN, OutcomeKind.BILLABLE, OutcomeKind.LOSS
Bid = tuple[int, int, int]


class Server:
    """A bank with a ledger of its own, on a shared store."""

    def __init__(self, url: str, owner_id: int, clock: VirtualClock, path: Path | None = None) -> None:
        self.url, self.clock, self.path = url, clock, path
        self.settings = BankSettings(owner_id=owner_id, is_shared=True, lease_ttl_ms=120_000)
        self.boot()

    def boot(self) -> None:
        self.ledger = Ledger(self.path)
        # No quarantine by the real time of Redis: time is virtual here.
        self.remote = RedisStore(self.url, self.settings.owner_id, timeout_ms=300, quarantine_ms=0)
        self.store = SharedStore(self.remote, self.clock, self.settings.owner_id)
        self.bank = Bank(self.ledger, self.clock, self.settings, self.store)
        self.judge = JudgeFollower(self.ledger, [self.bank.settle_judge], on_judged=self.bank.judged)
        self.epochs = EpochWatch(self.store, self.remote, self.ledger, self.clock)

    def restart(self) -> None:
        """As after a kill: what was in memory is gone."""
        self.close()
        self.boot()

    def close(self) -> None:
        self.ledger.close()
        self.remote.close()

    def open(self, daily: int, total: int = 0, revision: int = 1, opening: bool = True) -> None:
        self.bank.set_account(1, CREATOR, ZONE, daily, total or 10 * daily, revision, opening)

    def bid(self, count: int = 1, bid: int = BID) -> list[Bid]:
        slots = np.full((count, 1), self.bank.slot_of(1), np.int32)
        choice = np.zeros((count, 1), np.int8)
        lease_ids, seqs = np.zeros((count, 1), np.uint64), np.zeros((count, 1), np.uint64)
        self.bank.place_holds(slots, np.full((count, 1), bid, np.int64), 1, choice, lease_ids, seqs)
        placed = choice[:, 0] == 0
        now = self.clock.wall_ms()
        return [(int(lease), int(seq), now) for lease, seq in zip(lease_ids[placed, 0], seqs[placed, 0], strict=True)]

    def tell(self, kind: OutcomeKind, bid: Bid, amount: int = 0) -> int:
        lease_id, seq, issued = bid
        times = (self.settings.win_notice_ms, self.settings.billing_ms)
        return int(self.bank.report(told(kind, lease_id, seq, amount, 1, BID, issued, *times))[0])

    def verdicts(self) -> list[int]:
        rows, judgements = self.ledger.read_judged(0, 10_000)
        billed: list[int] = judgements["verdict"][rows["kind"] == BILLABLE].tolist()
        return billed


class Deployment:
    """Servers on one Redis and one virtual clock."""

    def __init__(self, home: RedisHome, count: int, folder: Path | None = None) -> None:
        self.home = home
        self.truth = home.fresh()
        self.clock = VirtualClock(START_MS)
        url = home.masters[0].url
        self.servers = [
            Server(url, owner_id, self.clock, folder / f"{owner_id}.sqlite" if folder else None)
            for owner_id in range(1, count + 1)
        ]

    def tick(self, ms: int = 200) -> None:
        self.clock.advance_to(self.clock.wall_ms() + ms)
        for server in self.servers:
            server.bank.tick()

    def wait(self, ms: int) -> None:
        for _ in range(0, ms, 5_000):
            self.tick(5_000)

    def bid_all(self, server: Server) -> list[Bid]:
        """Every bid for which a server finds money in four seconds."""
        bids = []
        for _ in range(20):
            self.tick()
            bids += server.bid(9)
        return bids

    def judge(self) -> None:
        for server in self.servers:
            server.judge.catch_up()

    def remember(self) -> dict[bytes, bytes]:
        """What Redis holds now, as a replica that lags behind would."""
        master = self.home.masters[0]
        return {key: master.ask("DUMP", key) for key in master.ask("KEYS", "*")}

    def fail_over(self, replica: dict[bytes, bytes], is_noticed: bool = True) -> None:
        """Let the replica take over: what was written since is lost. Not `is_noticed`: under the same id."""
        master = self.home.masters[0]
        master.ask("FLUSHALL")
        for key, dump in replica.items():
            master.ask("RESTORE", key, 0, dump)
        if is_noticed:
            master.ask("DEBUG", "CHANGE-REPL-ID")

    def amounts(self) -> tuple[int, int]:
        """Settled and leased, as Redis has them."""
        account = self.truth.account(1)
        assert account is not None
        return account.flight.settled_micros, account.flight.leased_micros

    def close(self) -> None:
        for server in self.servers:
            server.close()
