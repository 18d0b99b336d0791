"""What is asked of a shared budget store in Redis after a failover, and noted for the next one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pacing.budget.account import Account
from pacing.budget.marks_redis import mark_call, newest_at_ms, newest_marks, oldest_mark, sequence_of
from pacing.budget.owner_redis import OWNERS, RETIRED
from pacing.budget.redis_places import RedisPlaces, campaign_entry, epoch_key, home_key, told_as_unavailable
from pacing.budget.scripts_redis import NOTE_EPOCH, REOPEN, RESTATE, SETTLED_AGAIN, NotedEpoch, epoch_from
from pacing.budget.store import Epoch, LeaseState
from pacing.redis_link import Command, RedisLink

CALL_LEASES = 500
"""Leases in one call, at most."""
_REOPENED = "fanbid:reopened"
LIST_OWNERS: tuple[Command, Command] = (("HKEYS", OWNERS), ("SMEMBERS", RETIRED))


class RedisEpochs(RedisPlaces):
    """Epochs: the time during which one master has the keys of a creator."""

    _seen_ids: frozenset[str] = frozenset()
    _joined: frozenset[int] = frozenset()

    def epochs(self, creator_ids: Iterable[int]) -> dict[int, Epoch]:
        """In which epoch the keys of each creator are.

        A new one begins when another Redis has taken over the keys, or the same one was started again. `acquire`
        notices that by itself; this is for owners, who then settle again what they settled lately.
        """
        wanted = list(creator_ids)
        calls = [NOTE_EPOCH.call([epoch_key(creator_id)], [self._quarantine_ms]) for creator_id in wanted]
        return {
            creator_id: Epoch(number, refused_ms, tuple(sorted(behind)))
            for creator_id, (number, refused_ms, behind) in zip(wanted, self._run(calls), strict=True)
        }

    def settled_again(self, creator_id: int, epoch_number: int) -> int:
        """Say that this owner has, in an epoch, settled again all that Redis may have lost; answers the present one.

        Grants wait for every owner that ever had one from the creator's keys. If what was told has begun another epoch,
        the creator is listed for those who would not look.
        """
        arguments = (self._quarantine_ms, self._owner_id, epoch_number)
        (number,) = self._run([SETTLED_AGAIN.call([epoch_key(creator_id)], arguments)])
        if int(number) > epoch_number:
            self.list_reopened({creator_id: int(number)})
        return int(number)

    def list_reopened(self, notes: Mapping[int, int]) -> None:
        """See `RemoteStore.list_reopened`."""
        self._run(self._listing(notes))

    def _listing(self, notes: Mapping[int, int]) -> list[Command]:
        """The commands that list creators as ones in whose epoch something is to be told again."""
        fields = [field for creator_id, note in notes.items() for field in (creator_id, note)]
        return [("HSET", _REOPENED, *fields), ("PEXPIRE", _REOPENED, self._kept_ms)]

    def restate(self, leases: Sequence[LeaseState]) -> None:
        """Say what is left of this owner's leases, in case their grants, or what was given back of them, are lost.

        Charges that may be lost are to be told before.
        """
        creators = self._find_creators(lease.campaign_id for lease in leases)
        by_campaign: dict[int, list[LeaseState]] = {}
        for lease in leases:
            if lease.campaign_id in creators:
                by_campaign.setdefault(lease.campaign_id, []).append(lease)
        calls: list[Command] = []
        for campaign_id, mine in by_campaign.items():
            for first in range(0, len(mine), CALL_LEASES):
                calls.append(self._restate_call(campaign_id, creators[campaign_id], mine[first : first + CALL_LEASES]))
        self._run(calls)

    def _restate_call(self, campaign_id: int, creator_id: int, leases: Sequence[LeaseState]) -> Command:
        keys = [home_key(creator_id, "account", campaign_id), home_key(creator_id, "ends", campaign_id)]
        arguments: list[Any] = [campaign_id, self._kept_ms, self._owner_id]
        for lease in leases:
            keys.append(home_key(creator_id, "lease", lease.lease_id))
            arguments += (lease.lease_id, lease.day_key, lease.amount_micros, lease.remaining_micros)
            arguments += (lease.start_at_ms, lease.end_at_ms, int(lease.closed))
        return RESTATE.call(keys, arguments)

    def reopen(self, account: Account) -> bool:
        """See `RemoteStore.reopen`."""
        campaign_id, creator_id = account.campaign_id, account.creator_id
        entry, key = campaign_entry(campaign_id), home_key(creator_id, "account", campaign_id)
        _, found, is_there = self._run([("SETNX", entry, creator_id), ("GET", entry), ("EXISTS", key)])
        if is_there or int(found) != creator_id:
            return False
        _, _, *joined = self._run([*self._listing({creator_id: account.opened_at_ms}), *LIST_OWNERS])
        owners = self._joined_of(*joined) | {self._owner_id}
        caps = (account.daily_cap_micros, account.flight.cap_micros, account.revision)
        arguments = (self._quarantine_ms, creator_id, account.zone, *caps, account.opened_at_ms, *sorted(owners))
        (opened,) = self._run([REOPEN.call([key, epoch_key(creator_id)], arguments)])
        return bool(opened)

    def reopened(self) -> dict[int, int]:
        """See `RemoteStore.reopened`."""
        (found,) = self._run([("HGETALL", _REOPENED)])
        return {int(creator_id): int(note) for creator_id, note in found.items()}

    def mark(self, judged_sequence: int) -> None:
        """See `RemoteStore.mark`."""
        self._run([mark_call(self._owner_id, judged_sequence)])

    def marked_sequence(self) -> int:
        """See `RemoteStore.marked_sequence`."""
        (found,) = self._run([oldest_mark(self._owner_id)])
        return sequence_of(found)

    def last_mark_at_ms(self) -> int:
        """See `RemoteStore.last_mark_at_ms`."""
        joined = self._joined_of(*self._run(LIST_OWNERS))
        return newest_at_ms(self._run(newest_marks(joined | {self._owner_id})))

    def replication_ids(self) -> frozenset[str]:
        """Of all masters; another set means that one was replaced or started again, and may lack its last writes."""
        with told_as_unavailable():
            found = self._link.replication_ids()
        if found == self._seen_ids:
            listed, _ = self._run(LIST_OWNERS)
            self._joined = frozenset(map(int, listed))
        self._seen_ids = found
        return found

    def _joined_of(self, listed: Iterable[bytes], retired: Iterable[bytes]) -> frozenset[int]:
        """Every owner that is listed now, and those that were until the last failover, which may have lost some, and
        did not retire since."""
        return frozenset(map(int, listed)) | (self._joined - frozenset(map(int, retired)))

    def retire(self, creator_ids: Iterable[int]) -> None:
        """Let no grant wait for this owner any more: its claims are settled for good, or somebody else's to settle."""
        self._run([("HDEL", epoch_key(creator_id), f"owner:{self._owner_id}") for creator_id in creator_ids])


def noted_epochs(link: RedisLink, creator_ids: Sequence[int]) -> list[NotedEpoch]:
    """What servers noted of each creator's keys; no epoch begins by this. Raises RedisUnavailable: no answer."""
    return [epoch_from(stored) for stored in link.run([("HGETALL", epoch_key(number)) for number in creator_ids])]


def creator_ids(link: RedisLink) -> list[int]:
    """Every creator who has accounts in this Redis, found by looking at all keys.

    Raises:
        RedisUnavailable: it does not answer.
    """
    return sorted(int(key.split("{")[1].split("}")[0]) for key in link.scan("fanbid:{*}:epoch"))
