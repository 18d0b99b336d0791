"""What only a store in another program can do: be away, answer late, lose its master, be shared."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest

from benchmarks.redis_servers import RedisServer, redis_cluster, redis_server, wait_until
from pacing.budget.account import Account, Balance
from pacing.budget.redis_store import RedisStore
from pacing.budget.store import SETTLEMENT, CapsRequest, LeaseRequest, StoreUnavailable
from pacing.days import local_day
from pacing.facts import Verdict
from tests.pacing.budget.store_homes import RedisHome
from tests.pacing.rows import START_MS

ZONE = "UTC"
CREATOR = 9
TODAY = local_day(START_MS, ZONE)
CHARGED, DUPLICATE = Verdict.CHARGED, Verdict.DUPLICATE


def request(lease_id: int, want: int = 100, campaign_id: int = 1) -> LeaseRequest:
    return LeaseRequest(lease_id, campaign_id, TODAY.day_key, START_MS, START_MS + 60_000, want)


def open_account(store: RedisStore, campaign_id: int = 1, creator_id: int = CREATOR) -> None:
    store.set_caps(CapsRequest(campaign_id, creator_id, ZONE, 1_000, 5_000, START_MS))


def granted(store: RedisStore, lease_id: int) -> int:
    (grant,) = store.acquire([request(lease_id)])
    return grant.amount_micros if grant else 0


def claims(*told: tuple[int, int, int], first_sequence: int = 1) -> np.ndarray:
    rows = np.array([(1, lease_id, seq, amount, START_MS, 0) for lease_id, seq, amount in told], SETTLEMENT)
    rows["sequence"] = np.arange(first_sequence, first_sequence + len(rows))
    return rows


def every_call(store: RedisStore) -> list[Callable[[], object]]:
    return [
        lambda: store.set_caps(CapsRequest(2, CREATOR, ZONE, 1_000, 5_000, START_MS)),
        lambda: store.acquire([request(7)]),
        lambda: store.release(1, 1, 10, False, serial=1),
        lambda: store.settle(claims((1, 1, 10))),
        lambda: store.account(1),
        lambda: store.unsettled_micros(1, [1]),
        lambda: store.forget(START_MS),
        lambda: store.reclaim(START_MS),
        lambda: store.epochs([CREATOR]),
        lambda: store.settled_again(CREATOR, 1),
        lambda: store.retire([CREATOR]),
        lambda: store.reopen(Account(3, CREATOR, ZONE, 10, Balance(20))),
        store.reopened,
    ]


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match=r"owner_id 65536: not in 0\.\.65535"):
        RedisStore("redis://127.0.0.1:1", 65_536)
    with pytest.raises(ValueError, match=r"quarantine_ms 10: not in 0\.\.9, below kept_ms"):
        RedisStore("redis://127.0.0.1:1", 1, kept_ms=10, quarantine_ms=10)
    with pytest.raises(ValueError, match=r"timeout_ms 0: not in 1\.\.60000"):
        RedisStore("redis://127.0.0.1:1", 1, timeout_ms=0)
    with pytest.raises(ValueError, match="redis URL 'http://x'"):
        RedisStore("http://x", 1)
    with pytest.raises(StoreUnavailable, match=r"redis redis://127\.0\.0\.1:1/0: ") as failure:
        RedisStore("redis://name:secret@127.0.0.1:1/0?password=secret", 1)
    assert "secret" not in repr(failure.value) and failure.value.__suppress_context__


def test_a_server_that_is_gone_is_one_exception_and_a_new_one_is_found() -> None:
    with redis_server() as server:
        store = RedisStore(server.url, 1)
        open_account(store)
        assert granted(store, 1) == 100
        server.kill()
        for call in every_call(store):
            with pytest.raises(StoreUnavailable, match=f"redis {server.url}: "):
                call()
        server.start()
        assert store.account(1) is None, "without persistence it comes back empty"
        assert store.settle(claims((1, 1, 10))).tolist() == [Verdict.OVER_DELIVERY]
        store.close()


def test_answers_that_come_too_late_may_be_asked_for_again(redis_home: RedisHome) -> None:
    store, other = redis_home.fresh(timeout_ms=300), redis_home.another()
    open_account(store)
    assert granted(store, 1) == 100
    store.settle(claims((1, 9, 0)))  # all scripts are there
    assert store.release(1, 1, 0, False) == 0
    rows = claims((1, 1, 30), (1, 2, 900), (1, 3, 900), first_sequence=2)
    calls: list[tuple[Callable[[], object], object, tuple[int, int]]] = [
        (lambda: store.settle(rows).tolist(), [CHARGED, CHARGED, Verdict.OVER_DELIVERY], (930, 0)),
        (lambda: granted(store, 2), 64, (930, 64)),
        (lambda: store.release(1, 2, 5, False, serial=1), 5, (930, 59)),
    ]
    for call, answer, balances in calls:
        with redis_home.masters[0].suspended(), pytest.raises(StoreUnavailable):
            call()
        wait_until(lambda wanted=balances: balances_of(other) == wanted, "the late request to be carried out")
        assert call() == answer, "as if it had been asked once"
        assert balances_of(other) == balances
    store.close()
    other.close()


def balances_of(store: RedisStore) -> tuple[int, int]:
    account = store.account(1)
    assert account is not None
    return account.flight.settled_micros, account.flight.leased_micros


def test_a_server_that_refuses_writes_is_not_available() -> None:
    with redis_server() as server:
        store = RedisStore(server.url, 1)
        open_account(store)
        server.ask("CONFIG", "SET", "maxmemory", 1)
        with pytest.raises(StoreUnavailable, match="maxmemory"):
            store.acquire([request(1)])
        server.ask("CONFIG", "SET", "maxmemory", 0)
        assert granted(store, 1) == 100
        store.close()


def test_scripts_that_a_server_lost_are_sent_again(shared_home: RedisHome) -> None:
    store = shared_home.fresh()
    for number in range(3):
        for master in shared_home.masters:
            master.ask("SCRIPT", "FLUSH")
        open_account(store, number + 1, number)
        assert store.acquire([request(10 + number, campaign_id=number + 1)])[0] is not None
    for master in shared_home.masters:
        master.ask("SCRIPT", "FLUSH")
    assert store.reclaim(START_MS + 60_001) == 300
    store.close()


def test_what_one_store_did_another_knows(shared_home: RedisHome) -> None:
    first, second = shared_home.fresh(), shared_home.another(owner_id=4)
    open_account(first)
    assert granted(first, 1) == 100
    assert first.settle(claims((1, 1, 30))).tolist() == [CHARGED]
    assert second.settle(claims((1, 1, 30), (1, 2, 10))).tolist() == [DUPLICATE, CHARGED], "its row 1 is another row"
    assert first.settle(claims((1, 1, 30), (1, 2, 10))).tolist() == [CHARGED, DUPLICATE]
    assert second.unsettled_micros(1, [1, 2]) == 60
    assert second.release(1, 1, 20, False, serial=1) == 20
    assert granted(second, 1) == 100 and granted(second, 2) == 100
    assert first.account(1) == second.account(1)
    assert first.unsettled_micros(1, [1, 2]) == 140
    with pytest.raises(ValueError, match="creator_id 8"):
        second.set_caps(CapsRequest(1, 8, ZONE, 10, 10, START_MS))
    first.close()
    second.close()


def test_many_threads_never_grant_or_charge_too_much(shared_home: RedisHome) -> None:
    store = shared_home.fresh()
    open_account(store)

    def work(number: int) -> None:
        for i in range(20):
            lease_id = 100 * number + i
            granted(store, lease_id)
            store.settle(claims((lease_id, 1, 7), (1, number * 50 + i, 5), first_sequence=1_000 * number + 2 * i + 1))
            store.release(1, lease_id, 90, True, serial=1)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    account = store.account(1)
    assert account is not None
    day = account.days[TODAY.day_key]
    assert day.settled_micros > 500
    assert day.settled_micros + day.leased_micros <= 1_000
    assert day.settled_micros + account.over_delivered_micros == 4 * 20 * 12, "every claim has one verdict"
    store.close()


def keys(home: RedisHome, pattern: str) -> dict[str, int]:
    """The time to live, in ms, of the keys that match; -1: for ever."""
    found = {}
    for master in home.masters:
        for key in master.ask("KEYS", pattern):
            found[key.decode()] = int(master.ask("PTTL", key))
    return found


def test_tombstones_expire_once_nothing_is_left(shared_home: RedisHome) -> None:
    store = shared_home.fresh(kept_ms=1_500, quarantine_ms=0)
    open_account(store)
    assert [granted(store, lease_id) for lease_id in (1, 2, 3)] == [100] * 3
    store.release(1, 1, 60, True)
    store.release(1, 2, 100, True)
    store.settle(claims((3, 1, 100), (77, 1, 5)))
    lives = keys(shared_home, "fanbid:{9}:lease:*")
    assert {key for key, life in lives.items() if life == -1} == {"fanbid:{9}:lease:1", "fanbid:{9}:lease:3"}
    assert all(0 < life <= 1_500 for life in lives.values() if life != -1)
    assert store.settle(claims((1, 1, 40))).tolist() == [CHARGED]
    assert store.reclaim(START_MS + 60_001) == 0, "but the open lease with nothing left is closed"
    wait_until(lambda: not keys(shared_home, "fanbid:{9}:lease:*"), "tombstones to expire", 5)
    assert keys(shared_home, "fanbid:{9}:ends:*") == {}
    store.close()


def test_a_replica_that_took_over_grants_nothing_for_a_while() -> None:
    with redis_cluster(masters=3, replicas=3, node_timeout_ms=1_000) as cluster:
        store = RedisStore(cluster.url, 1, timeout_ms=500, quarantine_ms=2_000)
        creators = range(1, 10)
        for creator_id in creators:
            open_account(store, creator_id, creator_id)
        leases = [request(100 + creator_id, campaign_id=creator_id) for creator_id in creators]
        before = store.acquire(leases)
        assert None not in before
        lost = master_of(cluster.masters, f"fanbid:{{{CREATOR}}}:epoch")
        for master in cluster.masters:
            master.ask("WAIT", 1, 1_000)
        lost.kill()
        with pytest.raises(StoreUnavailable):
            store.acquire([request(200 + CREATOR, campaign_id=CREATOR)])
        wait_until(lambda: answers(lambda: store.acquire(leases) == before), "the replica to take over", 15)
        epochs = store.epochs(creators)
        for creator_id, epoch in epochs.items():
            store.settled_again(creator_id, epoch.number)
        assert {epoch.number for epoch in epochs.values()} == {1, 2}, (
            "only the lost master's creators are in a new epoch"
        )
        again = store.acquire([request(200 + creator_id, campaign_id=creator_id) for creator_id in creators])
        assert [grant is None for grant in again] == [epoch.number == 2 for epoch in epochs.values()]
        wait_until(lambda: granted_to(store, 300 + CREATOR), "grants after the quarantine", 10)
        store.close()


def answers(call: Callable[[], bool]) -> bool:
    """Whether the call says yes; only the documented exception may come instead."""
    try:
        return call()
    except StoreUnavailable:
        return False


def granted_to(store: RedisStore, lease_id: int) -> bool:
    return store.acquire([request(lease_id, campaign_id=CREATOR)])[0] is not None


def master_of(masters: list[RedisServer], key: str) -> RedisServer:
    slot = masters[0].ask("CLUSTER", "KEYSLOT", key)
    owners = [master for i, master in enumerate(masters) if 16384 * i // 3 <= slot < 16384 * (i + 1) // 3]
    return owners[0]


def test_more_leases_than_one_call_takes_are_taken_back(redis_home: RedisHome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pacing.budget.redis_store.CALL_LEASES", 2)
    store = redis_home.fresh()
    open_account(store)
    assert [grant and grant.amount_micros for grant in store.acquire([request(i, 10) for i in range(1, 8)])] == [10] * 7
    assert store.reclaim(START_MS + 60_001) == 70
    store.close()


def test_charges_told_again_count_once_and_whatever_the_caps(shared_home: RedisHome) -> None:
    store = shared_home.fresh(owner_id=1, quarantine_ms=0)
    open_account(store)
    assert granted(store, 1) == 100
    assert store.settle(claims((1, 1, 60))).tolist() == [CHARGED]
    store.set_caps(CapsRequest(1, CREATOR, ZONE, 100, 100, START_MS))
    lost = claims((8, 1, 50), first_sequence=2)
    assert store.settle(claims((1, 1, 60))).tolist() == [CHARGED]
    assert store.settle_again(lost).tolist() == [CHARGED], "on a lease that is lost, beyond a cap that was cut"
    assert store.settle_again(lost).tolist() == [CHARGED]
    account = store.account(1)
    assert account is not None
    assert (account.flight.settled_micros, account.flight.leased_micros) == (110, 40)
    (epoch,) = store.epochs([CREATOR]).values()
    assert (epoch.number, epoch.owners_behind) == (2, (1,)), "it was lost in the very epoch in which it was charged"
    assert store.settled_again(CREATOR, 1) == 2 and list(store.reopened()) == [CREATOR]
    store.settled_again(CREATOR, 2)
    assert store.settle(claims((8, 2, 1), first_sequence=9)).tolist() == [Verdict.OVER_DELIVERY]
    store.close()


def test_who_asks_in_vain_is_heard(shared_home: RedisHome) -> None:
    store, other = shared_home.fresh(owner_id=4), shared_home.another(owner_id=5)
    open_account(store)
    assert sum(granted(store, lease_id) for lease_id in range(1, 12)) == 1_000
    account = store.account(1)
    assert account is not None and account.hunger == 0
    assert granted(other, 12) == 0
    account = store.accounts([1, 77])[1]
    assert (account.hunger, account.hungry_owner) == (1, 5)
    store.close()
    other.close()


def test_a_restart_has_another_replication_id(redis_home: RedisHome, shared_home: RedisHome) -> None:
    store = shared_home.fresh()
    before = store.replication_ids()
    assert len(before) == len(shared_home.masters)
    shared_home.masters[0].ask("DEBUG", "CHANGE-REPL-ID")
    assert len(store.replication_ids() & before) == len(shared_home.masters) - 1
    store.close()
