"""The times and sizes of the money protocol."""

from __future__ import annotations

from dataclasses import dataclass

from pacing.budget.kernels import WAYS

RECLAIM_MS = 5_000
"""How often a server takes back what others that are gone had leased."""


@dataclass(frozen=True, slots=True)
class BankSettings:
    """How long money waits.

    Attributes:
        win_notice_ms: how long a bid waits for its WIN.
        billing_ms: how long after the bid an impression is billable. The longer, the longer the money of a crashed
            server stays locked: until `billing_ms + 2 * grace_ms` after the restart.
        grace_ms: on top of that, for clocks that disagree and notices on their way. Embedded, one process accepts all
            notices and its own clock decides about its holds, so grace only counts after a restart.
        lease_ttl_ms: how long a lease may be bid on; every open campaign renews its lease about that often, idle ones
            too, so that bidding never waits for the first one.
        hold_capacity: holds kept, a power of two; above bids per second times win_notice_ms.
        owner_id: who holds the leases, told apart in every lease id and hold sequence.
        lease_share: a lease is at least this fraction of what is free in a day.
        retry_ms: how long a campaign without free money waits before it asks again.
        snapshot_rows: ledger rows between two snapshots.
        is_shared: the budgets are shared with other servers, which may take notices about this one's bids. So a bid
            that nothing was told about stays reserved until `billing_ms + grace_ms`, and its money is not bid again
            but goes back to the store `doubt_ms` after its lease has no undecided bid.
        doubt_ms: how long another server may take to settle what it accepted: its restart, or its way to the store.
    """

    win_notice_ms: int = 2_000
    billing_ms: int = 60_000
    grace_ms: int = 5_000
    lease_ttl_ms: int = 3_600_000
    hold_capacity: int = 2**18
    owner_id: int = 1
    lease_share: int = 16
    retry_ms: int = 1_000
    snapshot_rows: int = 25_000
    is_shared: bool = False
    doubt_ms: int = 60_000

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ValueError: a setting is out of range.
        """
        ranges = {
            "win_notice_ms": (1, 600_000),
            "billing_ms": (self.win_notice_ms, 3_600_000),
            "grace_ms": (0, 3_600_000),
            "lease_ttl_ms": (1_000, 86_400_000),
            "hold_capacity": (WAYS, 2**24),
            "owner_id": (0, 2**16 - 1),
            "lease_share": (1, 1_000_000),
            "retry_ms": (0, 3_600_000),
            "snapshot_rows": (1, 200_000),
            "doubt_ms": (0, 3_600_000),
        }
        for name, (low, high) in ranges.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} {getattr(self, name)}: not in {low}..{high}")
        if self.hold_capacity & (self.hold_capacity - 1):
            raise ValueError(f"hold_capacity {self.hold_capacity}: not a power of two")

    @property
    def kept_ms(self) -> int:
        """How long a lease is remembered after its end: until no claim on it can be accepted any more."""
        return self.billing_ms + 2 * self.grace_ms

    @property
    def lock_ms(self) -> int:
        """How long after its last bid the money of a lease may still be claimed, by whoever accepts a notice."""
        return self.billing_ms + self.grace_ms + (self.doubt_ms if self.is_shared else 0)

    @property
    def hold_ms(self) -> tuple[int, int]:
        """How long the book keeps a hold that nothing was told about, and one that was won."""
        if self.is_shared:
            return self.billing_ms + self.grace_ms, self.billing_ms + self.grace_ms
        return self.win_notice_ms, self.billing_ms

    @property
    def quarantine_ms(self) -> int:
        """How long a shared store grants nothing after it may have lost its last grants.

        Until then every lease from before is over, no claim on it can come any more, and the money of those that it
        does not know to be given back is taken back.
        """
        return self.lease_ttl_ms + self.lock_ms + 2 * self.grace_ms + RECLAIM_MS
