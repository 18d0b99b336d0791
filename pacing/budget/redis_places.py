"""Where a creator's accounts and leases lie in Redis or Redis Cluster, and the way there.

All keys of a creator carry one hash tag, so they lie in one slot and a script may touch several of them. Whose a
campaign is, is told by a directory, which lies anywhere. Scripts are `lua/*.lua`; they hold the
layouts of what is stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pacing.budget.store import StoreRefused, StoreUnavailable
from pacing.clocks import MS_PER_HOUR
from pacing.redis_link import TIMEOUT_MS, Command, RedisLink, RedisRefused, RedisUnavailable

KEPT_MS = 2 * MS_PER_HOUR
QUARANTINE_MS = MS_PER_HOUR + 5 * 60_000
"""After a failover nothing is granted for this long: a lease's life, its grace, and the time until it is noticed."""

CLOCK_ERROR_MS = 5_000
"""By how much a server's clock may differ from that of Redis, where a bid is from before or after a failover."""


def campaign_entry(campaign_id: int) -> str:
    """Key of the directory's answer to: whose is this campaign?"""
    return f"fanbid:campaign:{campaign_id}"


def home_key(creator_id: int, noun: str, number: int | str) -> str:
    """Key of something of a creator's; the braces hold the hash tag."""
    return f"fanbid:{{{creator_id}}}:{noun}:{number}"


def epoch_key(creator_id: int) -> str:
    """Key of the epoch of a creator's keys."""
    return f"fanbid:{{{creator_id}}}:epoch"


class RedisPlaces:
    """The directory, and the connection. Any thread may call any method."""

    def __init__(
        self,
        url: str | RedisLink,
        owner_id: int,
        timeout_ms: int = TIMEOUT_MS,
        kept_ms: int = KEPT_MS,
        quarantine_ms: int = QUARANTINE_MS,
    ) -> None:
        """Connect.

        Args:
            url: of the Redis, or of any node of the cluster; or a link that is there.
            owner_id: of the ledger whose rows are settled here, 0..65535; no two servers share one.
            timeout_ms: to connect, and for each answer.
            kept_ms: how long a lease and what was told about it are remembered after it is closed and settled.
            quarantine_ms: how long nothing is granted after a failover; longer than any lease lives, with its grace.

        Raises:
            ValueError: a time or the URL cannot be used.
            StoreUnavailable: nobody answers there.
        """
        if not 0 <= owner_id < 2**16:
            raise ValueError(f"owner_id {owner_id}: not in 0..{2**16 - 1}")
        if not 0 <= quarantine_ms < kept_ms:
            raise ValueError(f"quarantine_ms {quarantine_ms}: not in 0..{kept_ms - 1}, below kept_ms")
        self._owner_id = owner_id
        self._kept_ms = kept_ms
        self._quarantine_ms = quarantine_ms
        self._creators: dict[int, int] = {}
        self._zones: dict[int, str] = {}
        with told_as_unavailable():
            self._link = RedisLink(url, timeout_ms) if isinstance(url, str) else url

    def _run(self, commands: Sequence[Command]) -> list[Any]:
        with told_as_unavailable():
            return self._link.run(commands)

    def _find_creators(self, campaign_ids: Iterable[int]) -> dict[int, int]:
        """The creators of campaigns; unknown campaigns are left out."""
        wanted = set(campaign_ids)
        missing = [campaign_id for campaign_id in wanted if campaign_id not in self._creators]
        for campaign_id, found in zip(
            missing, self._run([("GET", campaign_entry(campaign_id)) for campaign_id in missing]), strict=True
        ):
            if found is not None:
                self._creators[campaign_id] = int(found)
        return {campaign_id: self._creators[campaign_id] for campaign_id in wanted if campaign_id in self._creators}

    def _find_zones(self, creators: dict[int, int]) -> dict[int, str]:
        """The zones of campaigns, by their creators; those without accounts are left out."""
        missing = [campaign_id for campaign_id in creators if campaign_id not in self._zones]
        commands = [("HGET", home_key(creators[number], "account", number), "zone") for number in missing]
        for campaign_id, found in zip(missing, self._run(commands), strict=True):
            if found is not None:
                self._zones[campaign_id] = found.decode()
        return {campaign_id: self._zones[campaign_id] for campaign_id in creators if campaign_id in self._zones}

    def close(self) -> None:
        """See `BudgetStore.close`."""
        self._link.close()


@contextmanager
def told_as_unavailable() -> Iterator[None]:
    """Tell what Redis did not answer, or refused, as a store does."""
    try:
        yield
    except RedisRefused as error:
        raise StoreRefused(str(error)) from None
    except RedisUnavailable as error:
        raise StoreUnavailable(str(error)) from None
