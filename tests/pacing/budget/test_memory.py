"""The embedded store: grants, settling, caps and days, one rule at a time."""

from __future__ import annotations

import numpy as np
import pytest

from pacing.budget.account import KEPT_DAYS, EffectiveCaps
from pacing.budget.memory import GRANT_BIDS, MemoryStore
from pacing.budget.store import SETTLEMENT, LeaseRequest
from pacing.clocks import MS_PER_DAY
from pacing.facts import Verdict
from tests.pacing.rows import START_MS

ZONE = "Asia/Shanghai"
CHARGED, DUPLICATE, CONFLICT, OVER = Verdict.CHARGED, Verdict.DUPLICATE, Verdict.CONFLICT, Verdict.OVER_DELIVERY


def store_with(daily: int, total: int) -> MemoryStore:
    store = MemoryStore()
    assert store.set_caps(1, 9, ZONE, daily, total, START_MS) == EffectiveCaps(daily, total)
    return store


def request(store: MemoryStore, lease_id: int, want: int, least: int = 1, at_ms: int = START_MS) -> LeaseRequest:
    day = store.accounts[1].day_at(at_ms)
    return LeaseRequest(lease_id, 1, day.day_key, at_ms, day.end_at_ms, want, least)


def lease(store: MemoryStore, lease_id: int, want: int, least: int = 1, at_ms: int = START_MS) -> int:
    (grant,) = store.acquire([request(store, lease_id, want, least, at_ms)])
    return 0 if grant is None else grant.amount_micros


def settle(store: MemoryStore, *claims: tuple[int, int, int], at_ms: int = START_MS) -> list[int]:
    rows = np.array([(1, lease_id, seq, amount, at_ms) for lease_id, seq, amount in claims], SETTLEMENT)
    verdicts: list[int] = store.settle(rows).tolist()
    return verdicts


def test_grants_stop_at_either_cap() -> None:
    store = store_with(1_000, 1_200)
    assert [lease(store, i, 400, least=10) for i in range(1, 5)] == [400, 400, 200, 0]
    tomorrow = START_MS + MS_PER_DAY
    assert lease(store, 9, 400, least=10, at_ms=tomorrow) == 200, "the flight binds, not the new day"


def test_one_grant_gets_half_of_what_is_free_unless_that_is_little() -> None:
    store = store_with(10_000, 10_000)
    assert lease(store, 1, 9_000) == 5_000
    assert lease(store, 2, 9_000, least=5_000 // GRANT_BIDS + 1) == 5_000


def test_no_grant_below_the_least_and_none_without_an_account() -> None:
    store = store_with(100, 100)
    assert lease(store, 1, 100, least=101) == 0
    assert store.acquire([LeaseRequest(5, 77, 20260225, 0, 1, 10)]) == [None]
    assert store.accounts[1].flight.leased_micros == 0


def test_acquire_is_idempotent() -> None:
    store = store_with(1_000, 1_000)
    first = store.acquire([request(store, 1, 300)])
    assert store.acquire([request(store, 1, 300), request(store, 1, 999)])[0] == first[0]
    assert store.accounts[1].flight.leased_micros == 300


def test_release_gives_back_at_most_what_is_left() -> None:
    store = store_with(1_000, 1_000)
    lease(store, 1, 300)
    assert settle(store, (1, 1, 100)) == [CHARGED]
    assert [store.release(1, 150, False), store.release(1, 150, True), store.release(1, 1, True)] == [150, 50, 0]
    assert store.release(2, 5, True) == 0
    flight = store.accounts[1].flight
    assert (flight.settled_micros, flight.leased_micros, flight.free_micros) == (100, 0, 900)


def test_claims_are_settled_once() -> None:
    store = store_with(1_000, 1_000)
    lease(store, 1, 300)
    verdicts = settle(store, (1, 1, 100), (1, 1, 100), (1, 1, 99), (1, 2, 0), (1, 2, 0), (2, 1, 100))
    assert verdicts == [CHARGED, DUPLICATE, CONFLICT, CHARGED, DUPLICATE, CHARGED]
    assert store.accounts[1].flight.settled_micros == 200, "the same sequence of another lease is another claim"


def test_what_the_lease_lacks_comes_from_the_pool_or_from_nobody() -> None:
    store = store_with(1_000, 1_000)
    lease(store, 1, 300)
    lease(store, 2, 300)
    assert settle(store, (1, 1, 250), (1, 2, 400)) == [CHARGED, CHARGED]
    day = next(iter(store.accounts[1].days.values()))
    assert (day.settled_micros, day.leased_micros, day.free_micros) == (650, 300, 50)
    assert settle(store, (1, 3, 51), (1, 3, 51), (1, 4, 50)) == [OVER, DUPLICATE, CHARGED]
    assert store.accounts[1].over_delivered_micros == 51
    assert settle(store, (2, 1, 300)) == [CHARGED], "money of other leases is not touched"


def test_a_lost_lease_is_rebuilt_from_its_token() -> None:
    store = store_with(1_000, 1_000)
    assert settle(store, (66, 1, 600), (66, 1, 600), (66, 2, 401)) == [CHARGED, DUPLICATE, OVER]
    assert store.accounts[1].flight.settled_micros == 600


def test_claims_of_unknown_campaigns_charge_nobody() -> None:
    store = store_with(1_000, 1_000)
    assert store.settle(np.array([(5, 1, 1, 10, START_MS)], SETTLEMENT)).tolist() == [OVER]
    lease(store, 1, 300)
    assert store.settle(np.array([(5, 1, 1, 10, START_MS)], SETTLEMENT)).tolist() == [OVER]
    assert store.settle(np.zeros(0, SETTLEMENT)).tolist() == []


def test_a_cut_takes_effect_at_what_is_spent_and_leased() -> None:
    store = store_with(1_000, 5_000)
    lease(store, 1, 400)
    assert settle(store, (1, 1, 100)) == [CHARGED]
    assert store.set_caps(1, 9, ZONE, 200, 250, START_MS) == EffectiveCaps(400, 400)
    assert lease(store, 2, 1) == 0
    assert settle(store, (1, 2, 300)) == [CHARGED], "leased money stays good"
    assert settle(store, (1, 3, 1)) == [OVER]
    assert store.set_caps(1, 9, ZONE, 500, 5_000, START_MS) == EffectiveCaps(500, 5_000)
    assert lease(store, 3, 1_000, least=10) == 100


def test_a_cut_leaves_past_days_alone() -> None:
    store = store_with(1_000, 5_000)
    yesterday = store.accounts[1].day_at(START_MS).day_key
    lease(store, 1, 400)
    store.set_caps(1, 9, ZONE, 100, 5_000, START_MS + MS_PER_DAY)
    assert store.accounts[1].day(yesterday).cap_micros == 1_000
    assert settle(store, (1, 1, 300), (1, 2, 500)) == [CHARGED, CHARGED]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((1, 9, ZONE, 0, 10), "daily_cap_micros 0: not in 1"),
        ((1, 9, ZONE, 10, 10**14 + 1), "total_cap_micros 100000000000001: not in 1"),
        ((1, 9, "Asia/Atlantis", 10, 10), "zone 'Asia/Atlantis'"),
        ((1, 9, "UTC", 10, 10), "zone 'UTC': campaign 1 was opened with 'Asia/Shanghai'"),
        ((1, 8, ZONE, 10, 10), "creator_id 8: campaign 1 was opened with 9"),
    ],
)
def test_bad_caps_change_nothing(arguments: tuple[int, int, str, int, int], text: str) -> None:
    store = store_with(1_000, 5_000)
    with pytest.raises(ValueError, match=text):
        store.set_caps(*arguments, START_MS)
    assert store.accounts[1].flight.cap_micros == 5_000
    assert store.accounts[1].zone == ZONE


def test_forgetting_waits_for_settlement() -> None:
    store = store_with(1_000, 5_000)
    end = store.accounts[1].day_at(START_MS).end_at_ms
    lease(store, 1, 100)
    lease(store, 2, 100)
    settle(store, (1, 1, 40))
    store.release(1, 60, True)
    store.release(2, 60, True)  # 40 are billed and not settled yet
    store.forget(end)
    assert set(store.leases) == {1, 2}
    store.forget(end + 10 * MS_PER_DAY)
    assert set(store.leases) == {2}
    assert settle(store, (2, 7, 40)) == [CHARGED]
    store.forget(end + 10 * MS_PER_DAY)
    assert store.leases == {}
    assert store.accounts[1].flight.settled_micros == 80


def test_a_day_is_not_granted_anew_when_the_clock_was_days_ahead_for_a_while() -> None:
    store = store_with(100, 5_000)
    day_key = store.accounts[1].day_at(START_MS).day_key
    assert lease(store, 1, 100, least=10) == 100
    assert settle(store, (1, 1, 100)) == [CHARGED]
    store.release(1, 0, True)
    store.forget(START_MS + 3 * MS_PER_DAY)
    assert lease(store, 2, 50, at_ms=START_MS + 3 * MS_PER_DAY) == 50
    assert lease(store, 3, 100) == 0, "the clock is right again, and the day is spent"
    assert store.accounts[1].days[day_key].settled_micros == 100


def test_days_long_gone_are_forgotten_but_for_the_newest() -> None:
    store = store_with(100, 5_000)
    for number in range(KEPT_DAYS + 3):
        at_ms = START_MS + number * MS_PER_DAY
        assert lease(store, number + 1, 10, at_ms=at_ms) == 10
        store.release(number + 1, 10, True)
    keys = sorted(store.accounts[1].days)
    store.forget(START_MS + 100 * MS_PER_DAY)
    assert sorted(store.accounts[1].days) == keys[3:]
