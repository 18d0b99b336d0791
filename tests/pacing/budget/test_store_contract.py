"""The contract of budget stores, one rule at a time, on every store: in memory, on Redis, on Redis Cluster.

On Redis also under the account of `fanbid redis account`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from pacing.budget.account import KEPT_DAYS, Account, Balance, EffectiveCaps
from pacing.budget.settle import SettleJudge
from pacing.budget.store import GRANT_BIDS, SETTLEMENT, AccountLost, BudgetStore, CapsRequest, LeaseRequest
from pacing.clocks import MS_PER_DAY
from pacing.days import local_day
from pacing.facts import Verdict
from pacing.ledger.errors import LedgerUnavailable
from pacing.ledger.followers import JudgeFollower
from pacing.money import MAX_AMOUNT_MICROS
from tests.pacing.budget.store_homes import Home, MemoryHome
from tests.pacing.faulty import FaultyLedger
from tests.pacing.rows import START_MS, billables

ZONE = "Asia/Shanghai"
CHARGED, DUPLICATE, CONFLICT, OVER = Verdict.CHARGED, Verdict.DUPLICATE, Verdict.CONFLICT, Verdict.OVER_DELIVERY
TODAY = local_day(START_MS, ZONE)


@pytest.fixture(params=["memory", "redis", "cluster", "account", "cluster_account"])
def home(request: pytest.FixtureRequest) -> Home:
    if request.param == "memory":
        return MemoryHome()
    found: Home = request.getfixturevalue(f"{request.param}_home")
    return found


@pytest.fixture
def store(home: Home) -> Iterator[BudgetStore]:
    store = home.fresh()
    yield store
    store.close()


def caps(daily: int, total: int, now_ms: int = START_MS, revision: int = 0, opening: bool = True) -> CapsRequest:
    return CapsRequest(1, 9, ZONE, daily, total, now_ms, revision, opening)


def open_account(store: BudgetStore, daily: int, total: int) -> None:
    assert store.set_caps(caps(daily, total)) == EffectiveCaps(daily, total)


def account_of(store: BudgetStore, campaign_id: int = 1) -> Account:
    account = store.account(campaign_id)
    assert account is not None
    return account


def request(lease_id: int, want: int, least: int = 1, at_ms: int = START_MS, campaign_id: int = 1) -> LeaseRequest:
    day = local_day(at_ms, ZONE)
    return LeaseRequest(lease_id, campaign_id, day.day_key, at_ms, day.end_at_ms, want, least)


def lease(store: BudgetStore, lease_id: int, want: int, least: int = 1, at_ms: int = START_MS) -> int:
    (grant,) = store.acquire([request(lease_id, want, least, at_ms)])
    return 0 if grant is None else grant.amount_micros


def settle(
    store: BudgetStore,
    *claims: tuple[int, int, int],
    at_ms: int = START_MS,
    campaign_id: int = 1,
    first_sequence: int = 0,
) -> list[int]:
    rows = np.array([(campaign_id, lease_id, seq, amount, at_ms, 0) for lease_id, seq, amount in claims], SETTLEMENT)
    if first_sequence:
        rows["sequence"] = np.arange(first_sequence, first_sequence + len(rows))
    verdicts: list[int] = store.settle(rows).tolist()
    return verdicts


def test_grants_stop_at_either_cap(store: BudgetStore) -> None:
    open_account(store, 1_000, 1_200)
    assert [lease(store, i, 400, least=10) for i in range(1, 5)] == [400, 400, 200, 0]
    tomorrow = START_MS + MS_PER_DAY
    assert lease(store, 9, 400, least=10, at_ms=tomorrow) == 200, "the flight binds, not the new day"


def test_one_grant_gets_half_of_what_is_free_unless_that_is_little(store: BudgetStore) -> None:
    open_account(store, 10_001, 10_001)
    assert lease(store, 1, 9_000) == 5_000
    assert lease(store, 2, 9_000, least=5_001 // GRANT_BIDS + 1) == 5_001


def test_no_grant_below_the_least_and_none_without_an_account(store: BudgetStore) -> None:
    open_account(store, 100, 100)
    assert lease(store, 1, 100, least=101) == 0
    assert lease(store, 1, 2**62, least=2**62) == 0
    assert store.acquire([LeaseRequest(5, 77, 20260225, 0, 1, 10)]) == [None]
    assert store.acquire([]) == []
    assert account_of(store).flight.leased_micros == 0
    assert store.account(77) is None


def test_acquire_is_idempotent(store: BudgetStore) -> None:
    open_account(store, 1_000, 1_000)
    first = store.acquire([request(1, 300)])
    assert store.acquire([request(1, 300), request(1, 999), request(2, 100)])[0] == first[0]
    assert account_of(store).flight.leased_micros == 400
    assert account_of(store).days[TODAY.day_key].leased_micros == 400


def test_a_lease_id_that_is_used_again_gets_nothing(store: BudgetStore) -> None:
    """A holder that dies before it heard of a lease does not know that it used the id."""
    open_account(store, 1_000, 1_000)
    assert lease(store, 1, 300) == 300
    assert lease(store, 1, 300, at_ms=START_MS + 1) == 0
    assert lease(store, 1, 300) == 300
    assert account_of(store).flight.leased_micros == 300


def test_requests_of_many_campaigns_are_answered_in_their_places(store: BudgetStore) -> None:
    for campaign_id in range(1, 9):
        store.set_caps(CapsRequest(campaign_id, campaign_id % 3, ZONE, 1_000, 1_000, START_MS))
    requests = [request(100 + i, 10 + i, campaign_id=1 + 5 * i % 8) for i in range(16)]
    grants = store.acquire(requests)
    assert [grant and (grant.request, grant.amount_micros) for grant in grants] == [
        (wanted, wanted.want_micros) for wanted in requests
    ]
    assert [store.unsettled_micros(r.campaign_id, [r.lease_id, 999]) for r in requests] == list(range(10, 26))
    assert store.unsettled_micros(1, [100, 103, 115]) == 10, "the others are not its own"
    assert [account_of(store, i).flight.leased_micros for i in (1, 6)] == [10 + 18, 11 + 19]


def test_release_gives_back_at_most_what_is_left(store: BudgetStore) -> None:
    open_account(store, 1_000, 1_000)
    lease(store, 1, 300)
    assert settle(store, (1, 1, 100)) == [CHARGED]
    assert [store.release(1, 1, *told) for told in ((150, False), (150, True), (1, True))] == [150, 50, 0]
    assert store.release(1, 2, 5, True) == 0
    flight = account_of(store).flight
    assert (flight.settled_micros, flight.leased_micros, flight.free_micros) == (100, 0, 900)


def test_a_numbered_release_counts_once(store: BudgetStore) -> None:
    open_account(store, 1_000, 1_000)
    lease(store, 1, 300)
    assert [store.release(1, 1, 100, False, serial) for serial in (1, 1, 2, 1, 2)] == [100, 100, 100, 0, 100]
    assert account_of(store).flight.leased_micros == 100
    assert store.release(1, 1, 500, True, serial=7) == 100


def test_claims_are_settled_once(store: BudgetStore) -> None:
    open_account(store, 1_000, 1_000)
    lease(store, 1, 300)
    verdicts = settle(store, (1, 1, 100), (1, 1, 100), (1, 1, 99), (1, 2, 0), (1, 2, 0), (2, 1, 100))
    assert verdicts == [CHARGED, DUPLICATE, CONFLICT, CHARGED, DUPLICATE, CHARGED]
    assert settle(store, (1, 1, 99), (1, 2, 0), (2, 1, 100)) == [CONFLICT, DUPLICATE, DUPLICATE]
    assert account_of(store).flight.settled_micros == 200, "the same sequence of another lease is another claim"


def test_the_same_ledger_row_gets_the_same_verdict_again(store: BudgetStore) -> None:
    open_account(store, 1_000, 1_000)
    lease(store, 1, 300)
    batch = ((1, 1, 100), (1, 2, 950), (1, 1, 100), (1, 3, 5))
    for _ in range(2):
        assert settle(store, *batch, first_sequence=20) == [CHARGED, OVER, DUPLICATE, CHARGED]
    assert settle(store, *batch, first_sequence=40) == [DUPLICATE] * 4
    account = account_of(store)
    assert (account.flight.settled_micros, account.over_delivered_micros) == (105, 950)


def test_a_judge_that_died_before_it_wrote_its_verdicts_gets_the_same_ones(store: BudgetStore) -> None:
    open_account(store, 1_000, 1_000)
    lease(store, 1, 300)
    ledger = FaultyLedger(None)
    ledger.append(np.concatenate([billables([1, 2], 300), billables([3], 500)]))
    died = JudgeFollower(ledger, [SettleJudge(store)])
    ledger.is_full = True
    with pytest.raises(LedgerUnavailable):
        died.step()
    assert (ledger.judged_sequence, account_of(store).flight.settled_micros) == (0, 600)
    ledger.is_full = False
    ledger.append(billables([4], 400))
    assert JudgeFollower(ledger, [SettleJudge(store)]).catch_up() == 4
    assert ledger.read_judged(0, 10)[1]["verdict"].tolist() == [CHARGED, CHARGED, OVER, CHARGED]
    account = account_of(store)
    assert (account.flight.settled_micros, account.over_delivered_micros) == (1_000, 500)
    ledger.close()


def test_what_the_lease_lacks_comes_from_the_pool_or_from_nobody(store: BudgetStore) -> None:
    open_account(store, 1_000, 1_000)
    lease(store, 1, 300)
    lease(store, 2, 300)
    assert settle(store, (1, 1, 250), (1, 2, 400)) == [CHARGED, CHARGED]
    (day,) = account_of(store).days.values()
    assert (day.settled_micros, day.leased_micros, day.free_micros) == (650, 300, 50)
    assert settle(store, (1, 3, 51), (1, 3, 51), (1, 4, 50)) == [OVER, DUPLICATE, CHARGED]
    assert account_of(store).over_delivered_micros == 51
    assert settle(store, (2, 1, 300)) == [CHARGED], "money of other leases is not touched"


def test_a_lost_lease_is_rebuilt_from_its_token(store: BudgetStore) -> None:
    open_account(store, 1_000, 1_000)
    assert settle(store, (66, 1, 600), (66, 1, 600), (66, 2, 401)) == [CHARGED, DUPLICATE, OVER]
    assert settle(store, (66, 3, 1), (67, 3, 1), at_ms=START_MS + MS_PER_DAY) == [CHARGED, CHARGED]
    account = account_of(store)
    assert account.flight.settled_micros == 602
    assert [day.settled_micros for _, day in sorted(account.days.items())] == [601, 1]
    assert lease(store, 66, 10) == 0, "what was rebuilt holds no money"


def test_claims_of_unknown_campaigns_charge_nobody(store: BudgetStore) -> None:
    open_account(store, 1_000, 1_000)
    assert settle(store, (1, 1, 10), campaign_id=5) == [OVER]
    lease(store, 1, 300)
    assert settle(store, (1, 1, 10), campaign_id=5) == [OVER]
    store.set_caps(CapsRequest(5, 9, ZONE, 1_000, 1_000, START_MS))
    assert settle(store, (1, 1, 10), campaign_id=5) == [OVER], "the lease is another campaign's"
    assert settle(store, (1, 1, 10)) == [CHARGED]
    assert account_of(store, 5) == Account(5, 9, ZONE, 1_000, Balance(1_000), {TODAY.day_key: Balance(1_000)}), (
        "and nothing was noted"
    )
    assert store.settle(np.zeros(0, SETTLEMENT)).tolist() == []


def test_a_cut_takes_effect_at_what_is_spent_and_leased(store: BudgetStore) -> None:
    open_account(store, 1_000, 5_000)
    lease(store, 1, 400)
    assert settle(store, (1, 1, 100)) == [CHARGED]
    assert store.set_caps(caps(200, 250)) == EffectiveCaps(400, 400)
    assert lease(store, 2, 1) == 0
    assert settle(store, (1, 2, 300)) == [CHARGED], "leased money stays good"
    assert settle(store, (1, 3, 1)) == [OVER]
    assert store.set_caps(caps(500, 5_000)) == EffectiveCaps(500, 5_000)
    assert lease(store, 3, 1_000, least=10) == 100


def test_a_cut_leaves_past_days_alone(store: BudgetStore) -> None:
    open_account(store, 1_000, 5_000)
    lease(store, 1, 400)
    store.set_caps(caps(100, 5_000, START_MS + MS_PER_DAY))
    assert account_of(store).days[TODAY.day_key].cap_micros == 1_000
    assert settle(store, (1, 1, 300), (1, 2, 500)) == [CHARGED, CHARGED]


@pytest.mark.parametrize(
    ("zone", "daily", "total", "text"),
    [
        (ZONE, 0, 10, "daily_cap_micros 0: not in 1"),
        (ZONE, 10, 10**14 + 1, "total_cap_micros 100000000000001: not in 1"),
        ("Asia/Atlantis", 10, 10, "zone 'Asia/Atlantis'"),
    ],
)
def test_bad_caps_cannot_be_asked_for(zone: str, daily: int, total: int, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        CapsRequest(1, 9, zone, daily, total, START_MS)


@pytest.mark.parametrize(
    ("creator_id", "zone", "text"),
    [
        (9, "UTC", "zone 'UTC': campaign 1 was opened with 'Asia/Shanghai'"),
        (8, ZONE, "creator_id 8: campaign 1 was opened with 9"),
    ],
)
def test_caps_for_another_zone_or_creator_change_nothing(
    store: BudgetStore, creator_id: int, zone: str, text: str
) -> None:
    open_account(store, 1_000, 5_000)
    with pytest.raises(ValueError, match=text):
        store.set_caps(CapsRequest(1, creator_id, zone, 10, 10, START_MS))
    assert account_of(store) == Account(1, 9, ZONE, 1_000, Balance(5_000), {TODAY.day_key: Balance(1_000)}), (
        "the account is as it was"
    )


@pytest.mark.parametrize("amount", [-1, MAX_AMOUNT_MICROS + 1])
def test_claims_beyond_any_account_are_refused_together(store: BudgetStore, amount: int) -> None:
    open_account(store, 1_000, 1_000)
    with pytest.raises(ValueError, match=rf"claims\[1\]\.amount_micros {amount}: not in 0\.\.100000000000000"):
        settle(store, (1, 1, 10), (1, 2, amount))
    assert account_of(store).flight.settled_micros == 0


def test_amounts_and_ids_are_exact_to_their_limits(store: BudgetStore) -> None:
    highest, cap = 2**64 - 1, MAX_AMOUNT_MICROS
    campaigns = (highest, highest - 1)
    for campaign_id in campaigns:
        store.set_caps(CapsRequest(campaign_id, highest - 2, ZONE, cap, cap, START_MS))
    leases = [2**53 + 1, 2**53, highest, highest - 1]
    wanted = [request(leases[0], cap, cap, campaign_id=campaigns[0])]
    wanted += [request(leases[i], cap // 4 - 1 - i, campaign_id=campaigns[1]) for i in (1, 2, 3)]
    assert [grant and grant.amount_micros for grant in store.acquire(wanted)] == [r.want_micros for r in wanted]
    assert settle(store, (leases[0], highest, 1), campaign_id=campaigns[0]) == [CHARGED]
    assert settle(store, (leases[0], highest - 1, cap - 1), campaign_id=campaigns[0]) == [CHARGED]
    assert settle(store, (leases[0], 2**53, cap), (leases[0], 2**53 + 1, cap), campaign_id=campaigns[0]) == [OVER, OVER]
    first, second = (account_of(store, campaign_id) for campaign_id in campaigns)
    assert (first.flight.settled_micros, first.flight.leased_micros) == (cap, 0)
    assert first.over_delivered_micros == 2 * cap
    assert second.flight.leased_micros == 3 * (cap // 4 - 1) - 6
    assert store.unsettled_micros(campaigns[1], leases) == second.flight.leased_micros
    assert store.release(campaigns[1], highest, 1, False) == 1
    assert store.unsettled_micros(campaigns[1], [highest]) == cap // 4 - 4


@pytest.mark.parametrize("creator_id", [9, 10], ids=["of the same creator", "of another"])
def test_a_lease_is_given_back_by_its_own_campaign_alone(store: BudgetStore, creator_id: int) -> None:
    open_account(store, 1_000, 5_000)
    store.set_caps(CapsRequest(2, creator_id, ZONE, 1_000, 5_000, START_MS))
    assert lease(store, 1, 100) == 100
    store.acquire([request(2, 50, campaign_id=2)])
    assert store.release(2, 1, 100, True, serial=1) == 0
    assert [account_of(store, number).flight.leased_micros for number in (1, 2)] == [100, 50]
    assert store.release(1, 1, 100, True, serial=1) == 100
    assert [account_of(store, number).flight.leased_micros for number in (1, 2)] == [0, 50]


def test_a_large_batch_is_decided_in_order(store: BudgetStore) -> None:
    open_account(store, 10_000, 10_000)
    store.set_caps(CapsRequest(2, 10, ZONE, 10_000, 10_000, START_MS))
    lease(store, 1, 1_000)
    rows = np.zeros(5_000, SETTLEMENT)
    rows["campaign_id"] = np.arange(5_000) % 2 + 1
    rows["lease_id"] = np.where(rows["campaign_id"] == 1, 1 + np.arange(5_000) // 10 % 2, 3)
    rows["hold_seq"], rows["amount_micros"], rows["issued_at_ms"] = np.arange(5_000), 5, START_MS
    verdicts = store.settle(rows)
    for campaign_id in (1, 2):
        mine = verdicts[rows["campaign_id"] == campaign_id]
        assert mine.tolist() == [CHARGED] * 2_000 + [OVER] * 500
        account = account_of(store, campaign_id)
        assert (account.flight.settled_micros, account.over_delivered_micros) == (10_000, 2_500)
    assert (store.settle(rows) == DUPLICATE).all()


def test_forgetting_waits_for_settlement(store: BudgetStore) -> None:
    open_account(store, 1_000, 5_000)
    lease(store, 1, 100)
    lease(store, 2, 100)
    settle(store, (1, 1, 40))
    store.release(1, 1, 60, True)
    store.release(1, 2, 60, True)  # 40 are billed and not settled yet
    long_after = TODAY.end_at_ms + 10 * MS_PER_DAY
    store.forget(TODAY.end_at_ms)
    store.forget(long_after)
    assert set(account_of(store).days) == {TODAY.day_key}
    assert store.unsettled_micros(1, [1, 2]) == 40
    assert settle(store, (2, 7, 40)) == [CHARGED]
    store.forget(long_after)
    assert account_of(store).flight.settled_micros == 80
    assert store.release(1, 1, 5, True) == 0


def test_a_day_is_not_granted_anew_when_the_clock_was_days_ahead_for_a_while(store: BudgetStore) -> None:
    open_account(store, 100, 5_000)
    assert lease(store, 1, 100, least=10) == 100
    assert settle(store, (1, 1, 100)) == [CHARGED]
    store.release(1, 1, 0, True)
    store.forget(START_MS + 3 * MS_PER_DAY)
    assert lease(store, 2, 50, at_ms=START_MS + 3 * MS_PER_DAY) == 50
    assert lease(store, 3, 100) == 0, "the clock is right again, and the day is spent"
    assert account_of(store).days[TODAY.day_key].settled_micros == 100


def test_days_long_gone_are_forgotten_but_for_the_newest(store: BudgetStore) -> None:
    open_account(store, 100, 5_000)
    for number in range(KEPT_DAYS + 3):
        at_ms = START_MS + number * MS_PER_DAY
        assert lease(store, number + 1, 10, at_ms=at_ms) == 10
        if number:
            store.release(1, number + 1, 10, True)
    keys = sorted(account_of(store).days)
    store.forget(START_MS + 100 * MS_PER_DAY)
    assert sorted(account_of(store).days) == [keys[0], *keys[3:]], "the first has money out"


def test_what_lost_holders_had_is_taken_back(store: BudgetStore) -> None:
    open_account(store, 1_000, 5_000)
    lease(store, 1, 100)
    lease(store, 2, 100)
    lease(store, 3, 100, at_ms=START_MS + MS_PER_DAY)
    settle(store, (1, 1, 40))
    store.release(1, 2, 70, True)
    assert store.reclaim(TODAY.end_at_ms) == 0
    assert store.reclaim(TODAY.end_at_ms + 1) == 60 + 30
    assert store.reclaim(TODAY.end_at_ms + 1) == 0
    assert store.unsettled_micros(1, [1, 2, 3]) == 100
    account = account_of(store)
    assert account.days[TODAY.day_key] == Balance(1_000, 40, 0)
    assert account.flight == Balance(5_000, 40, 100)
    assert settle(store, (1, 1, 40), (1, 2, 10), (1, 3, 951)) == [DUPLICATE, CHARGED, OVER]


def test_caps_of_an_older_revision_change_nothing(store: BudgetStore) -> None:
    store.set_caps(caps(500, 900, revision=3))
    assert store.set_caps(caps(700, 800, revision=2)) == EffectiveCaps(500, 900)
    assert store.set_caps(caps(600, 950, revision=3)) == EffectiveCaps(600, 950), "told again"
    assert store.set_caps(caps(400, 800, revision=4)) == EffectiveCaps(400, 800)
    assert lease(store, 1, 400) == 200
    assert store.set_caps(caps(700, 800, revision=2)) == EffectiveCaps(400, 800)
    assert store.set_caps(caps(100, 800)) == EffectiveCaps(200, 800), "without a revision, as asked"
    assert account_of(store).revision == 4


def test_accounts_are_opened_only_where_there_may_be_none(store: BudgetStore) -> None:
    with pytest.raises(AccountLost, match="campaign_id 1"):
        store.set_caps(caps(500, 900, revision=1, opening=False))
    assert store.account(1) is None
    store.set_caps(caps(500, 900, revision=1))
    assert store.set_caps(caps(600, 900, revision=2, opening=False)) == EffectiveCaps(600, 900)
