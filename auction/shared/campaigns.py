"""Campaigns that several servers serve: any of them takes a change, and each has a durable copy of all.

A change is decided in Redis, by one script that replaces a record only if it is still the one that the change was made
from; then it is written to this server's file, then told to its engine, then acknowledged. So after a crash at any
point the others, and this server when it is back, have either the old campaign or the new one. A Redis that lost what
it had acknowledged gets it again from whoever has it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from auction.campaigns.changes import Make
from auction.campaigns.desk import CapsInForce, Desk
from auction.campaigns.model import Campaign, CampaignStatus
from auction.campaigns.record import Record, joined
from auction.campaigns.store import (
    MAX_OPEN_CAMPAIGNS_PER_CREATOR,
    CampaignLimit,
    CampaignStore,
    NoSuchCampaign,
    StoreUnavailable,
)
from auction.shared.campaigns_redis import BEGINNING, CampaignsRedis, Put, PutResult
from pacing.budget.store import StoreUnavailable as BudgetsAway
from pacing.redis_link import RedisForeign, RedisLink, RedisUnavailable

COMPARE_PERIOD_S = 30.0
"""How often all marks are compared, in case something was lost in silence."""
_ATTEMPTS = 8
_CHUNK = 500

_log = logging.getLogger(__name__)


class SharedCampaigns:
    """The `Changes` of a server among several. Any thread may create and change; one calls `poll`.

    No lock is held while Redis decides about a change; one is while the engine is told.
    """

    def __init__(
        self, store: CampaignStore, link: RedisLink, owner_id: int, desk: Desk, announce: Callable[[], object]
    ) -> None:
        """Share the campaigns of `store`; `announce` is called after others' changes were taken over."""
        self._store = store
        self._redis = CampaignsRedis(link)
        self._owner_id = owner_id
        self._desk = desk
        self._announce = announce
        self._apply_lock = threading.RLock()
        self._untold: set[int] = set()
        self._read_to = self._written = BEGINNING
        self._master = ""
        self._put_again = 0
        self._compare_at_s = 0.0

    # --- changes ------------------------------------------------------------------------------------------------

    def create(self, draft: Campaign, idempotency_key: str) -> Campaign:
        """See `Changes.create`; the key is checked over all servers."""
        with _refused_while_away("no campaign was made"):
            made = self._made_with(draft.creator_id, idempotency_key) if idempotency_key else None
            if made is not None:
                return made
            self._check_limit(draft.creator_id, self._redis.open_count(draft.creator_id))
        campaign = replace(draft, campaign_id=self._store.reserve_campaign_id())
        # Accounts first, for an id that nobody else can have: a campaign that others see always has them.
        with _refused_while_away("no campaign was made"):
            self._desk.campaign_changed(replace(campaign, status=CampaignStatus.PAUSED), opening=True)
        put = self._put_new(Record(campaign, idempotency_key))
        if put.result is not PutResult.DONE:
            return self._made_by_another(campaign, put)
        self._keep(Record(campaign, idempotency_key), put, "was made, and bids when it answers")
        return campaign

    def change(self, campaign_id: int, make: Make) -> tuple[Campaign, CapsInForce | None]:
        """See `Changes.change`; made from the last version that any server acknowledged and Redis has."""
        for _ in range(_ATTEMPTS):
            with _refused_while_away(f"campaign_id {campaign_id}: nothing was changed"):
                before = self._current(campaign_id)
            after = make(before.campaign)
            if after is before.campaign:
                return after, None
            record = before.changed(after, self._owner_id)
            with _refused_while_away(f"campaign_id {campaign_id}: whether it was changed shows when it answers"):
                put = self._redis.put(record, before.mark)
            if put.result is PutResult.DONE:
                self._keep(record, put, "was changed, and its budgets follow")
                return after, self._desk.live(campaign_id).caps
        text = f"campaign_id {campaign_id}: others keep changing it; try again"
        raise StoreUnavailable(text, told=text)

    def _keep(self, record: Record, put: Put, what: str) -> None:
        """Take in what was put."""
        try:
            with _refused_while_away(f"campaign_id {record.campaign.campaign_id}: {what}"):
                self._take_in([record])
        finally:  # not before it is in the file, from where it can be put again
            self._written = put.entry or self._written

    def _made_with(self, creator_id: int, idempotency_key: str) -> Campaign | None:
        """The campaign that was made with this key at any server."""
        here = self._store.find_by_key(creator_id, idempotency_key)
        if here is not None:
            return here
        campaign_id = self._redis.holder_of_key(creator_id, idempotency_key)
        return self._holder(campaign_id) if campaign_id else None

    def _holder(self, campaign_id: int) -> Campaign:
        """The campaign that has an idempotency key."""
        try:
            return self._current(campaign_id).campaign
        except NoSuchCampaign:
            text = f"campaign_id {campaign_id}: made with this key, but Redis lost it; the server that made it has it"
            raise StoreUnavailable(text, told=text) from None

    def _put_new(self, record: Record) -> Put:
        """Write a new campaign to Redis; if it was not done, the engine forgets it."""
        done = False
        try:
            with _refused_while_away("whether the campaign was made shows later; try again with the same key"):
                put = self._redis.put(record, "", MAX_OPEN_CAMPAIGNS_PER_CREATOR)
            done = put.result is PutResult.DONE
            return put
        finally:
            if not done:
                self._unmake(record.campaign)

    def _made_by_another(self, campaign: Campaign, put: Put) -> Campaign:
        """Another call was faster, with the same key or to the last campaign that its creator may have."""
        if put.result is PutResult.KEY:
            with _refused_while_away("try again with the same key"):
                return self._holder(put.detail)
        if put.result is PutResult.LIMIT:
            self._check_limit(campaign.creator_id, put.detail)
        text = f"campaign_id {campaign.campaign_id}: Redis has another campaign of this id"
        raise StoreUnavailable(text, told=text)

    def _check_limit(self, creator_id: int, open_count: int) -> None:
        if open_count >= MAX_OPEN_CAMPAIGNS_PER_CREATOR:
            raise CampaignLimit(
                f"creator_id {creator_id}: {open_count} open campaigns; at most {MAX_OPEN_CAMPAIGNS_PER_CREATOR}"
            )

    def _current(self, campaign_id: int) -> Record:
        """The record as Redis has it, after it got what this server knows better.

        Raises:
            NoSuchCampaign: neither has it.
            RedisUnavailable: nobody answers, or others keep changing it.
        """
        for _ in range(_ATTEMPTS):
            settled = self._settle([campaign_id])
            if settled is not None:
                if campaign_id not in settled:
                    raise NoSuchCampaign(campaign_id)
                return settled[campaign_id]
        raise RedisUnavailable(f"campaign_id {campaign_id}: others keep changing it")

    # --- what others changed ------------------------------------------------------------------------------------

    def poll(self) -> None:
        """Take over what others changed since the last call, and give Redis what it lost.

        Raises:
            RedisUnavailable: nobody answers.
            StoreUnavailable: this server's file cannot be written.
        """
        failures = self._tell_again()
        while not self._read_on():
            pass
        if self._put_again:
            _log.warning("%d campaigns were put into Redis, which did not have what this server has", self._put_again)
            self._put_again = 0
        if failures:
            raise failures[0]

    def _read_on(self) -> bool:
        """Take over the next changes; whether there are no more now."""
        written = self._written
        polled = self._redis.poll(self._read_to, written)
        lost = polled.missed or polled.master != self._master
        if lost or time.monotonic() >= self._compare_at_s:
            self._compare(polled.master)
            return True
        here = self._store.marks(polled.marks)
        changed = [campaign_id for campaign_id, mark in polled.marks.items() if here.get(campaign_id) != mark]
        if self._settle(changed) is None:
            self._compare_at_s = 0.0
        self._read_to = polled.read_to
        if polled.is_last and self._written == written:
            self._written = BEGINNING  # it was read
        return polled.is_last

    def _compare(self, master: str) -> None:
        """Compare everything, and settle what differs."""
        self._written = BEGINNING
        read_to = self._redis.end()
        there, here = self._redis.marks(), self._store.marks()
        differing = sorted(
            campaign_id for campaign_id in there.keys() | here.keys() if there.get(campaign_id) != here.get(campaign_id)
        )
        settled = True
        for first in range(0, len(differing), _CHUNK):
            settled &= self._settle(differing[first : first + _CHUNK]) is not None
        self._read_to, self._master = read_to, master
        self._compare_at_s = time.monotonic() + (COMPARE_PERIOD_S if settled else 0.0)

    def _settle(self, campaign_ids: Collection[int]) -> dict[int, Record] | None:
        """Join what Redis and this server have of some campaigns, and give it to both.

        Answers with the records; None: at least one was changed by others meanwhile.
        """
        wanted = list(campaign_ids)
        there, here = self._redis.read(wanted), self._store.records(wanted)
        both: dict[int, Record] = {}
        puts: list[tuple[Record, str]] = []
        for campaign_id in there.keys() | here.keys():
            remote, own = there.get(campaign_id), here.get(campaign_id)
            if campaign_id in there and remote is None:
                continue
            record = own if remote is None else remote if own is None else joined(remote, own)
            assert record is not None
            both[campaign_id] = record
            if remote is None or record.mark != remote.mark:
                puts.append((record, "" if remote is None else remote.mark))
        done = self._redis.put_all(puts)
        self._put_again += sum(done)
        for (record, _), was_done in zip(puts, done, strict=True):
            if not was_done:
                del both[record.campaign.campaign_id]
        self._take_in(both.values())
        return both if all(done) else None

    def _take_in(self, records: Collection[Record]) -> None:
        """Write records to this server's file, then tell the engine, unless they are known."""
        with self._apply_lock:
            here = self._store.records([record.campaign.campaign_id for record in records])
            fresh = []
            for record in records:
                known = here.get(record.campaign.campaign_id)
                record = record if known is None else joined(known, record)
                if known is None or record.mark != known.mark:
                    fresh.append(record)
            if not fresh:
                return
            self._store.put_records(fresh)
            self._untold |= {record.campaign.campaign_id for record in fresh}
            failures = self._tell([record.campaign for record in fresh])
        self._announce()
        if failures:
            raise failures[0]

    def _tell(self, campaigns: Collection[Campaign]) -> list[Exception]:
        """Tell the engine about stored campaigns; what it could not take now, it is told again at the next poll."""
        failures: list[Exception] = []
        for campaign in campaigns:
            try:
                self._desk.campaign_changed(campaign)
            except Exception as error:
                failures.append(error)
                if not isinstance(error, ValueError):
                    continue
                _log.error("campaign %d: the engine goes on with what it had: %s", campaign.campaign_id, error)
            self._untold.discard(campaign.campaign_id)
        return failures

    def _tell_again(self) -> list[Exception]:
        with self._apply_lock:
            return self._tell([record.campaign for record in self._store.records(self._untold).values()])

    def _unmake(self, campaign: Campaign) -> None:
        """Let the engine forget a campaign that was not made, unless it shows that it was."""
        with self._apply_lock:
            known = self._store.records([campaign.campaign_id]).get(campaign.campaign_id)
            if known is not None:
                self._untold.add(campaign.campaign_id)
                self._tell([known.campaign])
                return
            with suppress(BudgetsAway):  # then it stays paused
                self._desk.campaign_changed(replace(campaign, status=CampaignStatus.ENDED))


@contextmanager
def _refused_while_away(what: str) -> Iterator[None]:
    """Redis is away, or another one: the caller is told so, and `what` that means."""
    try:
        yield
    except RedisForeign as error:
        lost = "the Redis that all servers share has lost what it held, or is another one"
        told = f"{lost}; an operator must put that right, as the server's log says: {what}"
        raise StoreUnavailable(f"{lost} ({error}): {what}", told=told) from None
    except (RedisUnavailable, BudgetsAway) as error:
        away = "the Redis that all servers share does not answer now"
        raise StoreUnavailable(f"{away} ({error}): {what}", told=f"{away}: {what}") from None
