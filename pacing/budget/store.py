"""The contract of a budget store: the one place that decides who may spend what."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pacing.budget.account import Account, EffectiveCaps
from pacing.days import zone_of
from pacing.money import MAX_AMOUNT_MICROS

GRANT_SHARE = 2
GRANT_BIDS = 64
"""g_max: one lease gets at most this fraction of what is free, so that a crash locks up only a part until its deadlines
pass; but what would not do for this many bids is granted whole."""

SETTLEMENT = np.dtype(
    [
        ("campaign_id", "<u8"),
        ("lease_id", "<u8"),
        ("hold_seq", "<u8"),
        ("amount_micros", "<i8"),
        ("issued_at_ms", "<i8"),
        ("sequence", "<u8"),  # of the ledger row that makes the claim; 0: none
    ]
)
"""One durable billable claim, put to a store for its verdict. All but the sequence stands in the claim's token."""


class StoreUnavailable(Exception):
    """The store did not answer, or not in time. What was asked may have been done, wholly or in part: ask again.

    Every method may be repeated with the same arguments until it answers, and then answers as if it had been asked
    once; but a release only if it is numbered, and `reclaim` answers what the last call took.
    """


class StoreRefused(StoreUnavailable):
    """The store answers, but does not do this one thing now; it may do others."""


class NotDecided(StoreUnavailable):
    """After a failover some claims have no verdict yet: they may have one already, or money may look leased that was
    given back."""

    def __init__(self, claims: int) -> None:
        super().__init__(f"{claims} claims wait until every owner has said what it has, after a failover")


class AccountLost(StoreUnavailable):
    """The store has no account of a campaign that had one; opening it anew would let its budget be spent twice."""

    def __init__(self, campaign_id: int) -> None:
        super().__init__(f"campaign_id {campaign_id}: the budget store has lost its account; put back what it held")
        self.campaign_id = campaign_id


@dataclass(frozen=True, slots=True)
class CapsRequest:
    """A creator wants a campaign to spend no more than this.

    Attributes:
        zone: whose days have the daily cap; like `creator_id` the same at every request.
        daily_cap_micros, total_cap_micros: 1..MAX_AMOUNT_MICROS.
        now_ms: on the wall clock; past days keep their cap.
        revision: of the caps; those of a lower revision than the store has change nothing. 0: of none.
        opening: whether there may be no accounts yet.

    Raises:
        ValueError: a cap is out of range, or the zone unknown.
    """

    campaign_id: int
    creator_id: int
    zone: str
    daily_cap_micros: int
    total_cap_micros: int
    now_ms: int
    revision: int = 0
    opening: bool = True

    def __post_init__(self) -> None:
        """Check the caps and the zone."""
        for name in ("daily_cap_micros", "total_cap_micros"):
            micros = getattr(self, name)
            if not 1 <= micros <= MAX_AMOUNT_MICROS:
                raise ValueError(f"{name} {micros}: not in 1..{MAX_AMOUNT_MICROS}")
        zone_of(self.zone)

    def check_opened_with(self, name: str, opened_with: int | str) -> None:
        """Hold our creator_id or zone against that of the account.

        Raises:
            ValueError: it is another.
        """
        given = getattr(self, name)
        if given != opened_with:
            raise ValueError(f"{name} {given!r}: campaign {self.campaign_id} was opened with {opened_with!r}, for good")

    @classmethod
    def again(cls, account: Account, now_ms: int, opening: bool) -> CapsRequest:
        """What an account was told last."""
        caps = (account.daily_cap_micros, account.flight.cap_micros)
        return cls(account.campaign_id, account.creator_id, account.zone, *caps, now_ms, account.revision, opening)


@dataclass(frozen=True, slots=True)
class LeaseRequest:
    """Somebody wants money to bid with.

    Attributes:
        lease_id: chosen by the holder, never used twice.
        day_key: the budget day whose money it is.
        start_at_ms, end_at_ms: on the wall clock, inside that day; no bid is made on the lease after its end.
        want_micros: at least 1.
        least_micros: no grant rather than one below this.
    """

    lease_id: int
    campaign_id: int
    day_key: int
    start_at_ms: int
    end_at_ms: int
    want_micros: int
    least_micros: int = 1


@dataclass(frozen=True, slots=True)
class Grant:
    """A lease: `amount_micros` are counted as leased in both accounts until they are settled or released."""

    request: LeaseRequest
    amount_micros: int


@dataclass(frozen=True, slots=True)
class LeaseState:
    """What a lease's holder has of it; `remaining_micros` are neither settled nor given back, as far as it knows."""

    lease_id: int
    campaign_id: int
    day_key: int
    amount_micros: int
    remaining_micros: int
    start_at_ms: int
    end_at_ms: int
    closed: bool


@dataclass(frozen=True, slots=True)
class Epoch:
    """The time during which one master has the accounts of a creator.

    Attributes:
        number: counts them, from 1.
        refused_ms: for how long from now on nothing is granted.
        owners_behind: who has not settled again yet; until they have, nothing is granted either.
    """

    number: int
    refused_ms: int
    owners_behind: tuple[int, ...]


class BudgetStore(Protocol):
    """Accounts and leases. Every method is atomic, over both accounts of a campaign, and may be called from any thread.

    The promise: at every grant settled + leased <= cap in both accounts, and no charge makes settled + leased exceed
    max(cap, what was settled and leased when the cap was cut).

    Every method raises StoreUnavailable when the store is another program that cannot be reached or does not answer.
    """

    def set_caps(self, caps: CapsRequest) -> EffectiveCaps:
        """Open a campaign's accounts, or change their caps from the day of `caps.now_ms` on.

        A cut below S + L takes effect at S + L; the answer says so.

        Raises:
            ValueError: another zone or creator than at opening.
            AccountLost: there are no accounts, and `caps.opening` is not set.
        """

    def acquire(self, requests: Sequence[LeaseRequest]) -> list[Grant | None]:
        """Grant each request min(want, B - S - L, g_max) over both accounts, in order.

        Idempotent by `lease_id`: a repeated request gets the grant that it got before; another one, told by its start,
        gets None. None, too: there is less than `least_micros`, or the campaign is unknown, or the store refuses grants
        for a while since it may have lost some.
        `g_max` is the store's bound on one lease, a share of the cap.
        """

    def release(self, campaign_id: int, lease_id: int, amount_micros: int, closed: bool, serial: int = 0) -> int:
        """Give back up to `amount_micros` of a lease; answers how much that was.

        `closed` promises that nothing is held on the lease any more; claims that are accepted and not settled yet stay
        covered. A lease that is unknown, or another campaign's, gives back 0.

        Args:
            campaign_id, lease_id: which lease. An id whose grant nobody heard of may be another campaign's as well.
            amount_micros: at least 0.
            closed: see above.
            serial: the holder numbers the releases of a lease 1, 2, ...; the last one told again moves nothing and gets
                the answer it got, an older one gets 0. 0: not numbered, each one counts.
        """

    def settle(self, claims: np.ndarray) -> np.ndarray:
        """Decide billable claims, those of a campaign in the order given.

        Told before, a claim is DUPLICATE, or CONFLICT at another amount; but the same ledger row told again gets the
        verdict that it got.

        Claims are told apart by (lease_id, hold_seq), until the lease is forgotten. One on a lease of another campaign
        of the same creator is OVER_DELIVERY. A charge is taken from the lease. What the lease does not have (it was
        closed, or lost) comes from the free pool of both accounts, and if that lacks it too, the claim is
        OVER_DELIVERY and nothing is charged.

        Args:
            claims: SETTLEMENT[n].

        Returns:
            u1[n], each a Verdict of billable claims.

        Raises:
            ValueError: an amount is not in 0..MAX_AMOUNT_MICROS.
        """

    def account(self, campaign_id: int) -> Account | None:
        """The present accounts of a campaign, not to be changed; None: unknown."""

    def unsettled_micros(self, campaign_id: int, lease_ids: Iterable[int]) -> int:
        """What is left of some leases of a campaign, in total: neither settled nor released."""

    def forget(self, before_at_ms: int) -> None:
        """Drop days and tombstones that no claim can ask for any more.

        These are days that ended more than a day before an instant and have nothing leased, but for the newest
        KEPT_DAYS; and closed leases that ended before it and are settled in full (or those after a time of their own).
        """

    def reclaim(self, before_at_ms: int) -> int:
        """Take back what is left of leases that ended before an instant, because their holders are gone; answers how
        much. Later claims on them are charged from the free pool. After a failover nothing is, for as long as nothing
        is granted: claims that wait are charged to their leases."""

    def close(self) -> None:
        """Give up connections; nothing may be asked afterwards."""


def check_claims(claims: np.ndarray) -> None:
    """Refuse SETTLEMENT[n] with an amount that no account can have.

    Raises:
        ValueError: an amount is not in 0..MAX_AMOUNT_MICROS.
    """
    amounts = claims["amount_micros"]
    wrong = (amounts < 0) | (amounts > MAX_AMOUNT_MICROS)
    if wrong.any():
        i = int(np.argmax(wrong))
        raise ValueError(f"claims[{i}].amount_micros {amounts[i]}: not in 0..{MAX_AMOUNT_MICROS}")
