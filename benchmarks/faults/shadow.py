"""Shadow accounts: S, L and B of every account, kept in plain Python beside the code under test, and over-delivery.

An account is (campaign_id, day_key), the flight's under day_key 0. Local dates are taken from `zoneinfo` itself.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

from benchmarks.faults.bids import BidTable
from benchmarks.faults.differs import Differs

FLIGHT = 0
Key = tuple[int, int]


@lru_cache(maxsize=4_096)
def _date_key(zone: ZoneInfo, at_s: int) -> int:
    local = datetime.fromtimestamp(at_s, zone)
    return local.year * 10_000 + local.month * 100 + local.day


@dataclass(slots=True)
class ShadowLease:
    """A lease, and what is left of it."""

    campaign_id: int
    day_key: int
    left_micros: int
    end_at_ms: int = 0


class ShadowAccounts:
    """The accounts of all campaigns.

    Attributes:
        leases: by (campaign_id, lease_id): a lease id whose grant died with who asked for it may be asked for again.
        settled: S by account; `leased`: L.
        charged_over_micros: charged beyond a cap in force.
        excused_micros: by campaign, how much may be charged beyond its caps outside of the assumptions.
    """

    def __init__(self, zones: dict[int, str]) -> None:
        self._zones = {campaign_id: ZoneInfo(zone) for campaign_id, zone in zones.items()}
        self._asked: dict[int, list[tuple[int, int]]] = {campaign_id: [] for campaign_id in zones}
        self._total: dict[int, int] = {}
        self._limit: dict[Key, int] = {}
        self._asked_at_opening: dict[Key, int] = {}
        self.settled: defaultdict[Key, int] = defaultdict(int)
        self.leased: defaultdict[Key, int] = defaultdict(int)
        self.leases: dict[Key, ShadowLease] = {}
        self.charged_over_micros = 0
        self.excused_micros: defaultdict[int, int] = defaultdict(int)

    def date_key(self, campaign_id: int, at_ms: int) -> int:
        """The campaign's local date, 20260301 for 1 March 2026."""
        return _date_key(self._zones[campaign_id], at_ms // 1_000)

    def cap(self, key: Key) -> int:
        """B of an account, as asked for last.

        A day that is opened when the daily cap was asked for on a day to come, by a wall clock ahead, may have either.
        """
        campaign_id, day_key = key
        if day_key == FLIGHT:
            return self._total.get(campaign_id, 0)
        asked = self._asked[campaign_id]
        if not asked:
            return 0
        opened = self._asked_at_opening.get(key, len(asked))
        later = [cap for from_key, cap in asked[opened:] if from_key <= day_key]
        if later:
            return later[-1]
        before = [cap for from_key, cap in asked[:opened] if from_key <= day_key]
        return max([asked[opened - 1][1], *before[-1:]]) if opened else asked[-1][1]

    def bound(self, key: Key) -> int:
        """S + L."""
        return self.settled[key] + self.leased[key]

    def set_caps(self, campaign_id: int, daily: int, total: int, wall_ms: int) -> tuple[int, int]:
        """Change a campaign's caps from the day of an instant on; answers those in force, of the day and in all."""
        today = self.date_key(campaign_id, wall_ms)
        self._total[campaign_id] = total
        self._asked[campaign_id].append((today, daily))
        # A clock that is set back makes the day begun already, with leases of its own, a day to come.
        for key in {(campaign_id, FLIGHT), (campaign_id, today), *self._limit, *self.leased}:
            if key[0] == campaign_id and (key[1] == FLIGHT or key[1] >= today):
                self._limit[key] = max(self.cap(key), self.bound(key))
        return self._limit[campaign_id, today], self._limit[campaign_id, FLIGHT]

    def lend(self, lease: ShadowLease, amount: int) -> None:
        """Move money into a lease, or with a negative amount out of it."""
        lease.left_micros += amount
        self.leased[lease.campaign_id, FLIGHT] += amount
        self.leased[lease.campaign_id, lease.day_key] += amount

    def enter_grant(self, lease_id: int, lease: ShadowLease, amount: int) -> None:
        """A new lease.

        Raises:
            Differs: it is granted twice, or S + L exceeds B.
        """
        key = (lease.campaign_id, lease_id)
        if key in self.leases:
            raise Differs(f"lease {lease_id:#x}: granted twice")
        self.leases[key] = lease
        self._asked_at_opening.setdefault((lease.campaign_id, lease.day_key), len(self._asked[lease.campaign_id]))
        self.lend(lease, amount)
        for key in ((lease.campaign_id, FLIGHT), (lease.campaign_id, lease.day_key)):
            if self.bound(key) > self.cap(key):
                raise Differs(f"account {key}: S + L is {self.bound(key)} at a grant, B is {self.cap(key)}")

    def check_dates(self, lease_id: int, campaign_id: int, day_key: int, start_at_ms: int, end_at_ms: int) -> None:
        """Raises Differs where a lease crosses its day's end."""
        dates = [self.date_key(campaign_id, at_ms) for at_ms in (start_at_ms, end_at_ms - 1)]
        if dates != [day_key, day_key]:
            raise Differs(f"lease {lease_id:#x} of day {day_key}: lasts from {dates[0]} to {dates[1]}")

    def charge(self, campaign_id: int, lease_id: int, issued_at_ms: int, amount: int) -> int:
        """Charge a claim; a lease that nobody knows is rebuilt, empty. Answers what came out of the lease.

        Raises:
            Differs: an account is charged beyond its cap in force.
        """
        lease = self.leases.get((campaign_id, lease_id))
        if lease is None:
            lease = ShadowLease(campaign_id, self.date_key(campaign_id, issued_at_ms), 0)
            self.leases[campaign_id, lease_id] = lease
        from_lease = min(amount, lease.left_micros)
        self.lend(lease, -from_lease)
        for key in ((campaign_id, FLIGHT), (campaign_id, lease.day_key)):
            self.settled[key] += amount
            limit = self._limit.setdefault(key, self.cap(key))
            if self.settled[key] > limit + self.excused_micros[campaign_id]:
                self.charged_over_micros += min(amount, self.settled[key] - limit)
                raise Differs(f"account {key}: charged {self.settled[key]}, B is {limit}")
        return from_lease

    def take_back_charge(self, campaign_id: int, lease_id: int, amount: int, from_lease: int) -> None:
        """A charge is lost, and nobody will tell it again."""
        lease = self.leases[campaign_id, lease_id]
        self.lend(lease, from_lease)
        for key in ((campaign_id, FLIGHT), (campaign_id, lease.day_key)):
            self.settled[key] -= amount


class OverDelivery:
    """What was judged as over-delivery, and how much of it the stated assumptions do not exclude.

    Attributes:
        over_delivered_micros, excused_micros: in all; and outside of the assumptions.
        is_clock_wrong: a wall clock erred by more than grace_ms, so over-delivery is no failure from here on.
    """

    def __init__(self, bids: BidTable, largest_bid_micros: int) -> None:
        self._bids = bids
        self._largest_bid_micros = largest_bid_micros
        self._over: defaultdict[int, int] = defaultdict(int)
        self.over_delivered_micros = self.excused_micros = 0
        self.is_clock_wrong = False

    def enter(self, n: int, amount: int) -> None:
        """Bid n was shown and cannot be charged.

        Raises:
            Differs: the assumptions exclude that.
        """
        campaign_id = self._bids.campaign_id[n]
        self.over_delivered_micros += amount
        self._over[campaign_id] += amount
        if not self.is_clock_wrong and self._over[campaign_id] > self._excusable(campaign_id):
            raise Differs(f"bid {n} of campaign {campaign_id}: {amount} over-delivered")
        self.excused_micros += amount

    def _excusable(self, campaign_id: int) -> int:
        """How much over-delivery unassured impressions may have caused.

        Each lacks its own amount somewhere; and since a claim is charged whole or not at all, one that does not fit may
        leave up to its amount unused there.
        """
        bids = self._bids
        amounts = [amount for n, amount in bids.unassured.items() if bids.campaign_id[n] == campaign_id]
        return sum(amounts) + len(amounts) * self._largest_bid_micros
