"""Every store against one plain model: random caps, grants, releases, claims, repeats, and forgetting."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from pacing.budget.store import GRANT_BIDS, GRANT_SHARE, SETTLEMENT, CapsRequest, LeaseRequest
from pacing.clocks import MS_PER_DAY
from pacing.days import day_of_key, local_day
from pacing.facts import Verdict
from pacing.money import MAX_AMOUNT_MICROS
from tests.pacing.budget.store_homes import Home
from tests.pacing.rows import START_MS

ZONE = "America/Santiago"
CREATORS = {2**53 + 1: 2**60 + 1, 2**53 + 2: 2**60 + 1, 7: 2**60 + 2}  # by campaign; as neighbours they are one float
UNKNOWN = 99
FIRST_LEASE = 2**63 + 1
LOST_LEASES = {2**62 + i: campaign_id for i, campaign_id in enumerate([*CREATORS] * 2)}
SEQS = [1, 2, 2**53, 2**53 + 1, 2**64 - 1]
DAYS = 2
KEPT_DAYS = 1

campaigns = st.sampled_from([*CREATORS])
siblings = {2**53 + 1: 2**53 + 2, 2**53 + 2: 2**53 + 1, 7: UNKNOWN}
caps = st.integers(1, 400) | st.integers(MAX_AMOUNT_MICROS - 3, MAX_AMOUNT_MICROS)
amounts = st.integers(0, 150) | st.integers(MAX_AMOUNT_MICROS // 3, MAX_AMOUNT_MICROS)
days = st.integers(0, DAYS - 1)


@dataclass
class Lease:
    """A lease as the model knows it."""

    campaign_id: int
    day_key: int
    end_at_ms: int
    amount: int
    left: int
    is_closed: bool = False
    releases: list[tuple[int, bool, int]] = field(default_factory=list)  # amount, closed, answer; numbered from 1


@dataclass
class Campaign:
    """What was ever done to a campaign; balances are sums over it."""

    daily: int
    total: int
    day_caps: dict[int, int] = field(default_factory=dict)
    charges: list[tuple[int, int]] = field(default_factory=list)  # day_key, amount
    over: int = 0


class StoreMachine(RuleBasedStateMachine):
    """One store under random use."""

    def __init__(self, home: Home) -> None:
        super().__init__()
        self.store = home.fresh()
        self.campaigns: dict[int, Campaign] = {}
        self.leases: dict[int, Lease] = {}
        self.told: dict[tuple[int, int], tuple[int, int, int]] = {}  # amount, sequence, verdict
        self.day_charges: dict[tuple[int, int], int] = {}
        self.forgotten: set[int] = set()
        self.sequence = 0
        self.asked: list[list[LeaseRequest]] = []
        self.settled: list[tuple[np.ndarray, list[int]]] = []

    def teardown(self) -> None:
        self.store.close()

    def leased(self, campaign_id: int, day_key: int | None = None) -> int:
        mine = [lease for lease in self.leases.values() if lease.campaign_id == campaign_id]
        return sum(lease.left for lease in mine if day_key in (None, lease.day_key))

    def free(self, campaign_id: int, day_key: int) -> int:
        campaign = self.campaigns[campaign_id]
        day_cap = campaign.day_caps.setdefault(day_key, campaign.daily)
        day_free = day_cap - self.day_charges.get((campaign_id, day_key), 0) - self.leased(campaign_id, day_key)
        flight = campaign.total - sum(amount for _, amount in campaign.charges) - self.leased(campaign_id)
        return max(0, min(day_free, flight))

    @rule(campaign_id=campaigns, daily=caps, total=caps, day=days)
    def set_caps(self, campaign_id: int, daily: int, total: int, day: int) -> None:
        at_ms = START_MS + day * MS_PER_DAY
        day_key = local_day(at_ms, ZONE).day_key
        campaign = self.campaigns.setdefault(campaign_id, Campaign(daily, total))
        campaign.daily, campaign.total = daily, total
        campaign.day_caps.setdefault(day_key, daily)
        for key in campaign.day_caps:
            if key >= day_key:
                campaign.day_caps[key] = daily
        used_today = self.day_charges.get((campaign_id, day_key), 0) + self.leased(campaign_id, day_key)
        used = sum(amount for _, amount in campaign.charges) + self.leased(campaign_id)
        effective = self.store.set_caps(CapsRequest(campaign_id, CREATORS[campaign_id], ZONE, daily, total, at_ms))
        assert (effective.daily_cap_micros, effective.total_cap_micros) == (max(daily, used_today), max(total, used))

    @rule(
        wanted=st.lists(
            st.tuples(st.sampled_from([*CREATORS, UNKNOWN]), days, amounts, st.integers(0, 40)), min_size=1, max_size=4
        )
    )
    def acquire(self, wanted: list[tuple[int, int, int, int]]) -> None:
        requests = []
        for campaign_id, day, want, least in wanted:
            at_ms = START_MS + day * MS_PER_DAY
            local = local_day(at_ms, ZONE)
            lease_id = FIRST_LEASE + sum(map(len, self.asked)) + len(requests)
            requests.append(
                LeaseRequest(lease_id, campaign_id, local.day_key, at_ms, at_ms + 60_000, max(1, want), max(1, least))
            )
        self.asked.append(requests)
        expected = [self._grant(request) for request in requests]
        grants = self.store.acquire(requests)
        assert [grant.amount_micros if grant else 0 for grant in grants] == expected

    def _grant(self, request: LeaseRequest) -> int:
        if request.campaign_id not in self.campaigns:
            return 0
        free = self.free(request.campaign_id, request.day_key)
        amount = min(request.want_micros, free, max(free // GRANT_SHARE, GRANT_BIDS * request.least_micros))
        if amount < request.least_micros:
            return 0
        self.leases[request.lease_id] = Lease(request.campaign_id, request.day_key, request.end_at_ms, amount, amount)
        return amount

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def ask_again(self, data: Any) -> None:
        known = [r for requests in self.asked for r in requests if r.lease_id in self.leases]
        if known:
            again = data.draw(st.lists(st.sampled_from(known), min_size=1, max_size=3))
            grants = self.store.acquire(again)
            assert [g and g.amount_micros for g in grants] == [self.leases[r.lease_id].amount for r in again]

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), amount=amounts, closed=st.booleans(), repeats=st.integers(1, 2))
    def release(self, data: Any, amount: int, closed: bool, repeats: int) -> None:
        lease_id = data.draw(st.sampled_from(sorted(self.leases)))
        lease = self.leases[lease_id]
        given = min(amount, lease.left)
        lease.left -= given
        lease.is_closed |= closed
        lease.releases.append((amount, closed, given))
        for _ in range(repeats):
            told = (lease_id, amount, closed, len(lease.releases))
            assert self.store.release(siblings[lease.campaign_id], *told) == 0, "another campaign has no such lease"
            assert self.store.release(lease.campaign_id, *told) == given

    def claim(self, data: Any) -> tuple[int, int, int, int, int, int]:
        lost = [lease_id for lease_id in LOST_LEASES if lease_id not in self.forgotten]
        lease_id = data.draw(st.sampled_from([*sorted(self.leases), *lost]))
        lease = self.leases.get(lease_id)
        campaign_id = lease.campaign_id if lease else LOST_LEASES[lease_id]
        if lease and data.draw(st.integers(0, 9)) == 0:
            campaign_id = siblings[campaign_id]
        day_key = lease.day_key if lease else local_day(START_MS, ZONE).day_key
        at_ms = day_of_key(day_key, ZONE).start_at_ms + 1
        seq, amount = data.draw(st.sampled_from(SEQS)), data.draw(amounts)
        self.sequence += 1
        return campaign_id, lease_id, seq, amount, at_ms, data.draw(st.sampled_from([0, self.sequence]))

    @precondition(lambda self: self.leases or not self.forgotten)
    @rule(data=st.data(), count=st.integers(1, 12))
    def settle(self, data: Any, count: int) -> None:
        claims = [self.claim(data) for _ in range(count)]
        expected = [self._verdict(*claim) for claim in claims]
        rows = np.array(claims, SETTLEMENT)
        assert self.store.settle(rows).tolist() == expected
        self.settled.append((rows, expected))

    def _verdict(self, campaign_id: int, lease_id: int, seq: int, amount: int, at_ms: int, sequence: int) -> int:
        lease = self.leases.get(lease_id)
        if campaign_id not in self.campaigns or (lease and lease.campaign_id != campaign_id):
            return Verdict.OVER_DELIVERY
        if lease is None:
            lease = self.leases[lease_id] = Lease(campaign_id, local_day(at_ms, ZONE).day_key, at_ms, 0, 0, True)
        if (lease_id, seq) in self.told:
            before, by, verdict = self.told[lease_id, seq]
            if before != amount:
                return Verdict.CONFLICT
            return verdict if sequence and sequence == by else Verdict.DUPLICATE
        campaign = self.campaigns[campaign_id]
        free = self.free(campaign_id, lease.day_key)
        from_lease = min(lease.left, amount)
        if amount - from_lease > free:
            verdict = Verdict.OVER_DELIVERY
            campaign.over += amount
        else:
            verdict = Verdict.CHARGED
            lease.left -= from_lease
            campaign.charges.append((lease.day_key, amount))
            day = (campaign_id, lease.day_key)
            self.day_charges[day] = self.day_charges.get(day, 0) + amount
        self.told[lease_id, seq] = (amount, sequence, verdict)
        return verdict

    @precondition(lambda self: self.settled)
    @rule()
    def settle_again(self) -> None:
        """The last batch again, as after a lost answer."""
        rows, _ = self.settled[-1]
        assert self.store.settle(rows).tolist() == [self._verdict(*row) for row in rows.tolist()]

    @rule(days=st.integers(0, DAYS))
    def reclaim(self, days: int) -> None:
        before_ms = START_MS + days * MS_PER_DAY
        taken = 0
        for lease in self.leases.values():
            if lease.end_at_ms < before_ms:
                taken += lease.left
                lease.left, lease.is_closed = 0, True
        assert self.store.reclaim(before_ms) == taken

    @rule(days=st.integers(0, DAYS + 2))
    def forget(self, days: int) -> None:
        before_ms = START_MS + days * MS_PER_DAY
        for campaign_id, campaign in self.campaigns.items():
            for day_key in sorted(campaign.day_caps)[:-KEPT_DAYS]:
                ended = day_of_key(day_key, ZONE).end_at_ms < before_ms - MS_PER_DAY
                if ended and not self.leased(campaign_id, day_key):
                    del campaign.day_caps[day_key]
                    self.day_charges.pop((campaign_id, day_key), None)
        self.store.forget(before_ms)
        gone = {lease_id for lease_id, lease in self.leases.items() if self._is_tombstone(lease, before_ms)}
        self.forgotten |= gone  # nobody asks about them any more; a store may still know them
        self.leases = {lease_id: lease for lease_id, lease in self.leases.items() if lease_id not in gone}
        self.settled.clear()

    @staticmethod
    def _is_tombstone(lease: Lease, before_ms: int) -> bool:
        return lease.is_closed and not lease.left and lease.end_at_ms < before_ms

    @invariant()
    def balances_agree(self) -> None:
        for campaign_id, campaign in self.campaigns.items():
            account = self.store.account(campaign_id)
            assert account is not None
            assert (account.creator_id, account.zone, account.daily_cap_micros) == (
                CREATORS[campaign_id], ZONE, campaign.daily,
            )  # fmt: skip
            flight = account.flight
            assert flight.cap_micros == campaign.total
            assert flight.settled_micros == sum(amount for _, amount in campaign.charges)
            assert flight.leased_micros == self.leased(campaign_id)
            assert account.over_delivered_micros == campaign.over
            for day_key, cap in campaign.day_caps.items():
                day = account.days[day_key]
                assert (day.cap_micros, day.settled_micros, day.leased_micros) == (
                    cap, self.day_charges.get((campaign_id, day_key), 0), self.leased(campaign_id, day_key),
                )  # fmt: skip
        assert self.store.account(UNKNOWN) is None
        for campaign_id in {lease.campaign_id for lease in self.leases.values()}:
            left = sum(lease.left for lease in self.leases.values() if lease.campaign_id == campaign_id)
            assert self.store.unsettled_micros(campaign_id, [*self.leases, 5]) == left


def test_the_store_agrees_with_the_model(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pacing.budget.account.KEPT_DAYS", KEPT_DAYS)
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        lambda: StoreMachine(home), settings=settings(max_examples=25, stateful_step_count=25, deadline=None)
    )
