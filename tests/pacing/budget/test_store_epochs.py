"""What a shared store does once its master is lost: on a real Redis that is started again, on a simulated master."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Protocol

import numpy as np
import pytest

from benchmarks.faults.shared_store import Lost, SharedMasters, SimulatedStore
from benchmarks.redis_servers import RedisServer, redis_server
from pacing.budget.account import Account, Balance
from pacing.budget.owner_redis import OWNERS
from pacing.budget.redis_places import KEPT_MS
from pacing.budget.redis_store import RedisStore
from pacing.budget.remote import MARKS_KEPT, NO_ACCOUNT
from pacing.budget.store import SETTLEMENT, CapsRequest, Epoch, LeaseRequest, LeaseState, NotDecided, StoreUnavailable
from pacing.days import local_day
from pacing.facts import Verdict
from tests.pacing.budget.store_homes import SimulatedHome
from tests.pacing.rows import START_MS

ZONE = "UTC"
CREATOR = 9
TODAY = local_day(START_MS, ZONE)
LATER_MS = 2**42
"""Later than any clock here."""
CHARGED, DUPLICATE = Verdict.CHARGED, Verdict.DUPLICATE
SharedStore = RedisStore | SimulatedStore


class EpochHome(Protocol):
    """One master with an empty store, which can be lost."""

    def store(self, owner_id: int, quarantine_ms: int, kept_ms: int = KEPT_MS) -> SharedStore:
        """A store of one owner."""

    def lose_master(self) -> None:
        """Let another master take over, which lacks nothing."""

    def pass_ms(self, ms: int) -> None:
        """Let time pass."""

    def join(self, owner_id: int) -> None:
        """Enter one in the list of owners."""

    def lose_all(self) -> None:
        """Let another master take over, which has nothing."""


class RestartedRedis:
    """A redis-server that writes everything to its disk."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._stores: list[RedisStore] = []

    def store(self, owner_id: int, quarantine_ms: int, kept_ms: int = KEPT_MS) -> SharedStore:
        self._stores.append(RedisStore(self._server.url, owner_id, kept_ms=kept_ms, quarantine_ms=quarantine_ms))
        return self._stores[-1]

    def lose_master(self) -> None:
        self._server.kill()
        self._server.start()

    def pass_ms(self, ms: int) -> None:
        time.sleep(ms / 1_000)

    def join(self, owner_id: int) -> None:
        self._server.ask("HSET", OWNERS, str(owner_id), "folder")

    def lose_all(self) -> None:
        self._server.ask("FLUSHALL")
        self.lose_master()

    def close(self) -> None:
        for store in self._stores:
            store.close()


class FailedOver(SimulatedHome):
    """A simulated master."""

    def store(self, owner_id: int, quarantine_ms: int, kept_ms: int = KEPT_MS) -> SharedStore:
        return self.another(owner_id, quarantine_ms=quarantine_ms, kept_ms=kept_ms)

    def lose_master(self) -> None:
        assert self.masters.fail_over(0, lost_ms=0) == 0

    def join(self, owner_id: int) -> None:
        self.masters.owners.add(owner_id)

    def lose_all(self) -> None:
        assert self.masters.fail_over(0, lost_ms=1) > 0


@pytest.fixture(params=["redis", "simulated"])
def epoch_home(request: pytest.FixtureRequest) -> Iterator[EpochHome]:
    if request.param == "simulated":
        yield FailedOver()
        return
    with redis_server("--appendonly", "yes", "--appendfsync", "always") as server:
        home = RestartedRedis(server)
        yield home
        home.close()


def request(lease_id: int, want: int = 100) -> LeaseRequest:
    return LeaseRequest(lease_id, 1, TODAY.day_key, START_MS, START_MS + 60_000, want)


def open_account(store: SharedStore) -> None:
    store.set_caps(CapsRequest(1, CREATOR, ZONE, 1_000, 5_000, START_MS))


def granted(store: SharedStore, lease_id: int) -> int:
    (grant,) = store.acquire([request(lease_id)])
    return grant.amount_micros if grant else 0


def claims(*told: tuple[int, int, int], first_sequence: int = 1) -> np.ndarray:
    rows = np.array([(1, lease_id, seq, amount, START_MS, 0) for lease_id, seq, amount in told], SETTLEMENT)
    rows["sequence"] = np.arange(first_sequence, first_sequence + len(rows))
    return rows


def test_the_oldest_of_the_marks_that_are_kept_is_told_to_their_owner(epoch_home: EpochHome) -> None:
    mine, other = (epoch_home.store(owner_id, quarantine_ms=0) for owner_id in (1, 2))
    for owner_id in (1, 2):
        epoch_home.join(owner_id)
    assert (mine.marked_sequence(), mine.last_mark_at_ms()) == (0, 0)
    for minute in range(MARKS_KEPT - 1):
        mine.mark(2**47 + minute)
    assert mine.marked_sequence() == 0, "as far as the store knows, the owner began just now"
    mine.mark(2**47 + MARKS_KEPT)
    mine.mark(2**47 + MARKS_KEPT)
    assert mine.marked_sequence() == 2**47 + 1
    marked_at_ms = mine.last_mark_at_ms()
    epoch_home.pass_ms(100)
    other.mark(7)
    assert other.marked_sequence() == 0
    assert mine.last_mark_at_ms() == other.last_mark_at_ms() >= marked_at_ms + 100


def told_again(store: SharedStore, *sequences: int) -> int:
    """Tell claims of one micro, by their rows; answers what is settled then."""
    told = [claims((1, 100 + sequence, 1), first_sequence=sequence) for sequence in sequences]
    assert store.settle_again(np.concatenate(told)).tolist() == [CHARGED] * len(sequences)
    account = store.account(1)
    assert account is not None
    return account.flight.settled_micros


def test_a_row_that_is_told_again_after_its_lease_was_forgotten_is_charged_once(epoch_home: EpochHome) -> None:
    store = epoch_home.store(1, quarantine_ms=0, kept_ms=1)
    open_account(store)
    assert store.settle(claims((1, 1, 1), (2, 1, 1), first_sequence=5)).tolist() == [CHARGED] * 2
    epoch_home.pass_ms(10)
    assert told_again(store, 5, 6) == 2
    epoch_home.lose_master()
    young = claims((3, 1, 1), first_sequence=9)
    young["issued_at_ms"] = LATER_MS
    assert store.settle(young).tolist() == [CHARGED], "though it has not told again what is older"
    epoch_home.pass_ms(10)
    assert told_again(store, 4, 5, 6, 7) == 4, "row 7 was lost"
    assert told_again(store, 7, 8) == 5
    (epoch,) = store.epochs([CREATOR]).values()
    store.settled_again(CREATOR, epoch.number)
    assert told_again(store, 9) == 5, "charged before it had told again"
    assert store.settle(claims((4, 1, 1), first_sequence=12)).tolist() == [CHARGED]
    epoch_home.pass_ms(10)
    assert told_again(store, 10, 11, 12) == 6


def test_a_claim_without_an_account_is_told_apart_from_one_without_money(epoch_home: EpochHome) -> None:
    store = epoch_home.store(1, quarantine_ms=0)
    assert store.decide(claims((1, 1, 1))).tolist() == [NO_ACCOUNT]
    assert store.settle(claims((1, 1, 1))).tolist() == [Verdict.OVER_DELIVERY]
    open_account(store)
    assert store.decide(claims((1, 1, 6_000))).tolist() == [Verdict.OVER_DELIVERY]


def test_behind_a_new_master_nothing_is_granted_for_a_while(epoch_home: EpochHome) -> None:
    store = epoch_home.store(1, quarantine_ms=1_500)
    open_account(store)
    assert granted(store, 1) == 100
    assert store.epochs([CREATOR]) == {CREATOR: Epoch(1, 0, ())}
    epoch_home.lose_master()
    assert [granted(store, 2), granted(store, 1)] == [0, 100], "what is out stays out"
    (epoch,) = store.epochs([CREATOR]).values()
    assert epoch == Epoch(2, epoch.refused_ms, (1,)) and 0 < epoch.refused_ms <= 1_500
    assert store.settled_again(CREATOR, epoch.number) == 2
    assert store.settle(claims((1, 1, 30), (5, 1, 10))).tolist() == [CHARGED, CHARGED], "and is settled"
    assert granted(store, 2) == 0
    epoch_home.pass_ms(1_600)
    assert granted(store, 2) == 100
    assert store.epochs([CREATOR]) == {CREATOR: Epoch(2, 0, ())}


def test_behind_a_new_master_grants_wait_for_every_owner_that_ever_had_one(epoch_home: EpochHome) -> None:
    stores = [epoch_home.store(owner_id, quarantine_ms=0) for owner_id in (1, 2, 3)]
    first, second, idle = stores
    open_account(first)
    assert [granted(first, 1), granted(second, 2)] == [100, 100]
    epoch_home.lose_master()
    assert first.epochs([CREATOR]) == {CREATOR: Epoch(2, 0, (1, 2))}
    tellings = ((first, 2), (second, 1), (idle, 2))
    assert [store.settled_again(CREATOR, number) for store, number in tellings] == [2] * 3
    assert [granted(store, 3) for store in stores] == [0, 0, 0]
    assert first.epochs([CREATOR]) == {CREATOR: Epoch(2, 0, (2,))}, "the second did so in an epoch before"
    second.settled_again(CREATOR, 3)
    assert granted(first, 3) == 0, "nobody can be ahead of time"
    second.settled_again(CREATOR, 2)
    assert granted(idle, 3) == 100
    epoch_home.lose_master()
    first.settled_again(CREATOR, 3)
    second.retire([CREATOR])
    assert granted(first, 4) == 0, "now the third had one, too"
    idle.settled_again(CREATOR, 3)
    assert granted(first, 4) == 100


def test_claims_are_told_apart_behind_a_new_master(epoch_home: EpochHome) -> None:
    first, second = epoch_home.store(1, quarantine_ms=0), epoch_home.store(2, quarantine_ms=0)
    open_account(first)
    assert granted(first, 1) == 100
    assert first.settle(claims((1, 1, 30), (1, 2, 10))).tolist() == [CHARGED, CHARGED]
    assert first.release(1, 1, 20, False, serial=1) == 20
    epoch_home.lose_master()
    first.settled_again(CREATOR, 2)
    assert second.settle(claims((1, 1, 30), (1, 3, 5))).tolist() == [DUPLICATE, CHARGED]
    assert first.settle(claims((1, 1, 30), (1, 2, 10), (1, 3, 5))).tolist() == [CHARGED, CHARGED, DUPLICATE]
    assert first.release(1, 1, 20, False, serial=1) == 20, "and so are releases"
    assert first.unsettled_micros(1, [1]) == 35


def test_behind_a_new_master_claims_wait_until_every_owner_has_told_its_charges_again(epoch_home: EpochHome) -> None:
    first, second = (epoch_home.store(owner_id, quarantine_ms=0) for owner_id in (1, 2))
    open_account(first)
    assert [granted(first, 1), granted(second, 2)] == [100, 100]
    assert first.settle(claims((1, 1, 10))).tolist() == [CHARGED]
    epoch_home.lose_master()
    for store in (first, second):
        with pytest.raises(NotDecided, match="1 claims wait"):
            first.settle(claims((1, 1, 10), (1, 2, 30)))
        assert store.settle_again(claims((2, 1, 5), first_sequence=2)).tolist() == [
            CHARGED if store is first else DUPLICATE
        ]
        store.settled_again(CREATOR, 2)
    assert first.settle(claims((1, 1, 10), (1, 2, 30), first_sequence=7)).tolist() == [DUPLICATE, CHARGED]


def test_behind_a_new_master_claims_wait_for_money_that_may_have_been_given_back(epoch_home: EpochHome) -> None:
    store = epoch_home.store(1, quarantine_ms=1_500)
    open_account(store)
    assert sum(granted(store, lease_id) for lease_id in range(1, 12)) == 1_000
    epoch_home.lose_master()
    assert store.settled_again(CREATOR, 2) == 2
    with pytest.raises(NotDecided, match="2 claims wait"):
        store.settle(claims((1, 1, 60), (77, 1, 30), (1, 2, 50)))
    account = store.account(1)
    assert account is not None
    assert (account.flight.settled_micros, account.over_delivered_micros) == (60, 0)
    store.restate([LeaseState(2, 1, TODAY.day_key, 100, 70, START_MS, START_MS + 60_000, closed=True)])
    store.restate([LeaseState(78, 1, TODAY.day_key, 20, 20, START_MS, START_MS + 60_000, closed=False)])
    account = store.account(1)
    assert account is not None and account.flight.leased_micros == 1_000 - 60 - 30 + 20
    epoch_home.pass_ms(1_600)
    told = store.settle(claims((1, 1, 60), (77, 1, 30), (1, 2, 50))).tolist()
    assert told == [CHARGED, Verdict.OVER_DELIVERY, CHARGED]


def test_nothing_is_taken_back_before_claims_that_waited_had_time_to_be_decided(epoch_home: EpochHome) -> None:
    store = epoch_home.store(1, quarantine_ms=1_500)
    open_account(store)
    assert granted(store, 1) == 100
    long_after = START_MS + 10**9
    epoch_home.lose_master()
    assert store.epochs([CREATOR])[CREATOR].number == 2
    epoch_home.pass_ms(1_600)
    assert store.settled_again(CREATOR, 2) == 2
    assert store.reclaim(long_after) == 0 and store.unsettled_micros(1, [1]) == 100
    assert store.settle(claims((1, 1, 30))).tolist() == [CHARGED]
    epoch_home.pass_ms(1_600)
    assert store.reclaim(long_after) == 70


def test_a_lost_lease_gets_back_only_what_nobody_charged_to_it_meanwhile(epoch_home: EpochHome) -> None:
    holder, other = (epoch_home.store(owner_id, quarantine_ms=0) for owner_id in (1, 2))
    open_account(holder)
    other.settle_again(claims((77, 1, 30), first_sequence=1))
    holder.settle_again(claims((77, 2, 20), (78, 1, 10), first_sequence=1))
    lasts = (START_MS, START_MS + 60_000)
    left_by_lease = {77: 100 - 20, 78: 100 - 10, 79: 100}  # as the holder knows it
    holder.restate([LeaseState(n, 1, TODAY.day_key, 100, left, *lasts, False) for n, left in left_by_lease.items()])
    assert [holder.unsettled_micros(1, [lease_id]) for lease_id in left_by_lease] == [50, 90, 100]
    account = holder.account(1)
    assert account is not None and account.flight.settled_micros + account.flight.leased_micros == 300


def test_charges_told_again_count_once_and_whatever_the_caps(epoch_home: EpochHome) -> None:
    store = epoch_home.store(1, quarantine_ms=0)
    open_account(store)
    assert granted(store, 1) == 100
    assert store.settle(claims((1, 1, 60))).tolist() == [CHARGED]
    store.set_caps(CapsRequest(1, CREATOR, ZONE, 100, 100, START_MS))
    lost = claims((8, 1, 50), first_sequence=2)
    for _ in range(2):
        assert store.settle_again(lost).tolist() == [CHARGED], "on a lease that is lost, beyond a cap that was cut"
    account = store.account(1)
    assert account is not None
    assert (account.flight.settled_micros, account.flight.leased_micros) == (110, 40)
    (epoch,) = store.epochs([CREATOR]).values()
    assert (epoch.number, epoch.owners_behind) == (2, (1,)), "it was lost in the very epoch in which it was charged"
    assert store.settled_again(CREATOR, 1) == 2 and list(store.reopened()) == [CREATOR]
    store.settled_again(CREATOR, 2)
    assert store.settle(claims((8, 2, 1), first_sequence=9)).tolist() == [Verdict.OVER_DELIVERY]


def test_a_lost_account_that_is_opened_anew_waits_for_whoever_may_have_charged_to_it(epoch_home: EpochHome) -> None:
    first, second = (epoch_home.store(owner_id, quarantine_ms=1_500) for owner_id in (1, 2))
    open_account(first)
    opened = first.account(1)
    assert opened is not None and opened.opened_at_ms == START_MS
    assert not first.reopen(opened) and first.reopened() == {}
    assert granted(first, 1) == 100
    epoch_home.lose_all()
    epoch_home.join(2)
    assert granted(first, 2) == 0
    assert first.settle(claims((1, 1, 10))).tolist() == [Verdict.OVER_DELIVERY]
    assert first.reopen(opened) and not second.reopen(opened)
    assert list(second.reopened()) == [CREATOR]
    account = second.account(1)
    assert account == Account(1, CREATOR, ZONE, 1_000, Balance(5_000), opened_at_ms=START_MS)
    (epoch,) = second.epochs([CREATOR]).values()
    assert epoch.owners_behind == (1, 2) and 0 < epoch.refused_ms <= 1_500
    with pytest.raises(NotDecided):
        first.settle(claims((1, 2, 10), first_sequence=3))
    assert second.settle_again(claims((1, 1, 10))).tolist() == [CHARGED]
    assert [store.settled_again(CREATOR, epoch.number) for store in (first, second)] == [epoch.number] * 2
    assert granted(first, 2) == 0
    epoch_home.pass_ms(1_600)
    assert granted(first, 2) == 100
    assert first.settle(claims((1, 1, 10), (1, 2, 10), first_sequence=2)).tolist() == [DUPLICATE, CHARGED]


def test_who_asks_in_vain_is_heard(epoch_home: EpochHome) -> None:
    store, other = epoch_home.store(4, quarantine_ms=0), epoch_home.store(5, quarantine_ms=0)
    open_account(store)
    assert sum(granted(store, lease_id) for lease_id in range(1, 12)) == 1_000
    account = store.account(1)
    assert account is not None and account.hunger == 0
    assert granted(other, 12) == 0
    account = store.accounts([1, 77])[1]
    assert (account.hunger, account.hungry_owner) == (1, 5)


def test_behind_a_new_master_leases_are_not_taken_back_while_claims_may_wait(epoch_home: EpochHome) -> None:
    store = epoch_home.store(1, quarantine_ms=400)
    open_account(store)
    assert granted(store, 1) == 100
    epoch_home.lose_master()
    assert store.reclaim(START_MS + 60_001) == 0, "the owner has not told again"
    (epoch,) = store.epochs([CREATOR]).values()
    store.settled_again(CREATOR, epoch.number)
    assert store.reclaim(START_MS + 60_001) == 0, "and nothing is granted yet"
    epoch_home.pass_ms(500)
    assert store.reclaim(START_MS + 60_001) == 100


def test_a_replica_lacks_what_was_written_last() -> None:
    home = SimulatedHome()
    store = home.fresh(quarantine_ms=5_000)
    open_account(store)
    assert granted(store, 1) == 100
    assert store.settle(claims((1, 1, 30))).tolist() == [CHARGED]
    home.pass_ms(1_000)
    assert granted(store, 2) == 100
    assert store.settle(claims((1, 2, 20), first_sequence=2)).tolist() == [CHARGED]
    assert store.release(1, 1, 50, True, serial=1) == 50
    assert home.masters.fail_over(0, lost_ms=500) == 3, "the lease, the claim and the release"
    account = store.account(1)
    assert account is not None and (account.flight.settled_micros, account.flight.leased_micros) == (30, 70)
    assert granted(store, 2) == 0, "it is not known any more, and there are no grants"
    assert store.settled_again(CREATOR, 2) == 2
    assert store.settle(claims((1, 1, 30), (1, 2, 20), (2, 1, 10))).tolist() == [CHARGED, CHARGED, CHARGED]
    assert store.settled_again(CREATOR, 2) == 2
    home.pass_ms(5_000)
    assert granted(store, 3) == 100
    assert home.masters.fail_over(0, lost_ms=10_000) > 0
    assert store.account(1) is None and store.epochs([CREATOR]) == {CREATOR: Epoch(1, 0, ())}, "all was lost"


def test_a_master_that_is_away_and_calls_that_get_lost_are_one_exception() -> None:
    masters = SharedMasters(lambda: START_MS, masters=3)
    store, other = SimulatedStore(masters, 1), SimulatedStore(masters, 2)
    open_account(store)
    for lost, left in ((Lost.REQUEST, 0), (Lost.ANSWER, 100)):
        store.mishap = lambda lost=lost: lost  # type: ignore[misc]
        with pytest.raises(StoreUnavailable):
            store.acquire([request(1)])
        account = other.account(1)
        assert account is not None and account.flight.leased_micros == left
    store.mishap = lambda: None
    assert granted(store, 1) == 100, "as if it had been asked once"
    masters.set_down(CREATOR % 3, is_down=True)
    with pytest.raises(StoreUnavailable):
        other.account(1)
    masters.set_down(CREATOR % 3, is_down=False)
    assert other.unsettled_micros(1, [1]) == 100
