"""A campaign's two accounts: the whole flight, and each local day. Per account S is settled, L leased, B the cap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter

import numpy as np

from pacing.days import LocalDay, day_of_key, local_day

KEPT_DAYS = 8
"""Days with money that an account remembers, however long ago they ended."""

ACCOUNT = np.dtype(
    [
        ("campaign_id", "<u8"),
        ("day_key", "<i8"),
        ("day_start_at_ms", "<i8"),
        ("day_end_at_ms", "<i8"),
        ("day_cap_micros", "<i8"),  # in force
        ("day_settled_micros", "<i8"),
        ("day_leased_micros", "<i8"),
        ("day_spend_micros", "<i8"),  # settled, and accepted but not settled yet
        ("flight_cap_micros", "<i8"),  # in force
        ("flight_settled_micros", "<i8"),
        ("flight_leased_micros", "<i8"),
        ("flight_spend_micros", "<i8"),
        ("held_micros", "<i8"),  # bid and undecided, in leases of any day
        ("over_delivered_micros", "<i8"),
    ]
)
"""The present standing of one campaign's accounts."""


@dataclass(frozen=True, slots=True)
class EffectiveCaps:
    """The caps in force: those asked for or, while more is already settled and leased, that."""

    daily_cap_micros: int
    total_cap_micros: int


@dataclass(slots=True)
class Balance:
    """One account. At every grant `settled + leased <= cap`; a cap may be cut below that, which stops grants."""

    cap_micros: int
    settled_micros: int = 0
    leased_micros: int = 0

    @property
    def free_micros(self) -> int:
        """What may still be granted or charged from the pool."""
        return max(0, self.cap_micros - self.settled_micros - self.leased_micros)

    @property
    def cap_in_force_micros(self) -> int:
        """The cap, or S + L while that is more."""
        return max(self.cap_micros, self.settled_micros + self.leased_micros)


@dataclass(slots=True)
class Account:
    """A campaign's accounts: the flight, and the days by key."""

    campaign_id: int
    creator_id: int
    zone: str
    daily_cap_micros: int
    flight: Balance
    days: dict[int, Balance] = field(default_factory=dict)
    over_delivered_micros: int = 0
    revision: int = 0  # of the caps
    hunger: int = 0  # counts requests that got nothing because too little was left
    hungry_owner: int = 0  # who asked for the last of them
    opened_at_ms: int = field(default=0, compare=False)  # on the wall clock; 0: not known, so long ago

    def day(self, day_key: int) -> Balance:
        """The account of a day, opened with the present daily cap when first asked for."""
        balance = self.days.get(day_key)
        if balance is None:
            balance = self.days[day_key] = Balance(self.daily_cap_micros)
        return balance

    def day_at(self, at_ms: int) -> LocalDay:
        """The campaign's budget day that holds an instant."""
        return local_day(at_ms, self.zone)

    def set_caps(self, daily_cap_micros: int, total_cap_micros: int, from_day_key: int) -> None:
        """Change the caps, of the flight and of the days from `from_day_key` on."""
        self.daily_cap_micros = daily_cap_micros
        self.flight.cap_micros = total_cap_micros
        for day_key, balance in self.days.items():
            if day_key >= from_day_key:
                balance.cap_micros = daily_cap_micros

    def lease(self, day_key: int, amount_micros: int) -> None:
        """Move money into (or, negative, out of) a lease, in both accounts."""
        self.flight.leased_micros += amount_micros
        self.day(day_key).leased_micros += amount_micros

    def settle(self, day_key: int, amount_micros: int) -> None:
        """Add to what is settled, in both accounts."""
        self.flight.settled_micros += amount_micros
        self.day(day_key).settled_micros += amount_micros

    def free_micros(self, day_key: int) -> int:
        """What both accounts have free."""
        return min(self.flight.free_micros, self.day(day_key).free_micros)

    def forget_days(self, before_at_ms: int) -> None:
        """Drop days that ended before an instant and have nothing leased, but for the newest ones.

        A clock that is days ahead for a while must not make today's spend forgotten.
        """
        for day_key in sorted(self.days)[:-KEPT_DAYS]:
            if not self.days[day_key].leased_micros and day_of_key(day_key, self.zone).end_at_ms < before_at_ms:
                del self.days[day_key]


_BALANCE_FIELDS = ("cap_micros", "settled_micros", "leased_micros")


def fill_balances(accounts: Sequence[Account], wall_ms: int, out: np.ndarray) -> None:
    """Fill in what ACCOUNT[n] says of days and balances, of the local days that hold an instant.

    By columns, since pacing asks for every campaign once a second, and bids wait for the interpreter meanwhile.
    """
    n = len(accounts)
    zones = list(map(attrgetter("zone"), accounts))
    days = {zone: local_day(wall_ms, zone) for zone in set(zones)}
    keys = [days[zone].day_key for zone in zones]
    out["day_key"] = keys
    out["day_start_at_ms"] = [days[zone].start_at_ms for zone in zones]
    out["day_end_at_ms"] = [days[zone].end_at_ms for zone in zones]
    out["over_delivered_micros"] = np.fromiter(map(attrgetter("over_delivered_micros"), accounts), np.int64, n)
    balances = {"day": list(map(Account.day, accounts, keys)), "flight": list(map(attrgetter("flight"), accounts))}
    for name, some in balances.items():
        cap, settled, leased = (np.fromiter(map(attrgetter(field), some), np.int64, n) for field in _BALANCE_FIELDS)
        out[f"{name}_cap_micros"] = np.maximum(cap, settled + leased)  # `Balance.cap_in_force_micros`
        out[f"{name}_settled_micros"], out[f"{name}_leased_micros"] = settled, leased
