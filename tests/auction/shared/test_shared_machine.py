"""Three servers on one Redis that loses writes and answers: in the end all have all that was acknowledged."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from auction.campaigns.model import CampaignStatus
from auction.campaigns.record import REGISTERS, Stamp
from auction.campaigns.store import NoSuchCampaign, StoreUnavailable
from auction.shared import campaigns as campaigns_module
from benchmarks.redis_servers import RedisServer
from pacing.redis_link import RedisLink, RedisUnavailable
from tests.auction.campaigns.figures import NOON_MS
from tests.auction.shared.sharing import SharingServer

OWNERS = st.integers(1, 3)
EDITS = st.sampled_from(
    [
        {"name": "x"},
        {"name": "y"},
        {"daily_budget_micros": 2_000_000},
        {"daily_budget_micros": 9_000_000, "total_budget_micros": 10_000_000},
        {"include_fans": True},
        {"frequency_cap_per_day": 3},
    ]
)
TAG = "fanbid:{campaigns}:*"


class Ended(Exception):
    """As the service says it of a campaign that has ended."""


class SharedCampaignsMachine(RuleBasedStateMachine):
    """Changes at any server, in any order, beside whatever Redis may do."""

    url = ""
    campaigns = Bundle("campaigns")
    dumps = Bundle("dumps")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(mkdtemp(prefix="fanbid-test-"))
        self.link = RedisLink(self.url)
        self.link.run([("DEL", name) for name in self._names()] or [("PING",)])
        self.opened: set[int] = set()
        self.now_ms = NOON_MS
        self.servers = {owner_id: self._start(owner_id) for owner_id in (1, 2, 3)}
        self.created: dict[int, str] = {}
        self.writes: dict[tuple[int, str], tuple[Stamp, Any]] = {}
        self.keys: dict[str, int] = {}
        self.loses_answers = False

    def _names(self) -> list[bytes]:
        (names,) = self.link.run([("KEYS", TAG)])
        return list(names)

    def _start(self, owner_id: int) -> SharingServer:
        server = SharingServer(self.folder, self.link, owner_id, self.opened)
        server.store._connection.execute("PRAGMA synchronous = OFF")  # nothing crashes here
        server.campaigns.poll()
        for campaign in server.store.all():
            server.desk.campaign_changed(campaign)
        put = server.campaigns._redis.put

        def put_or_lose_the_answer(*arguments: Any) -> Any:
            answer = put(*arguments)
            if self.loses_answers:
                raise RedisUnavailable("redis: timed out")
            return answer

        server.campaigns._redis.put = put_or_lose_the_answer  # type: ignore[method-assign]
        return server

    def _call(self, owner_id: int, lost: bool, call: Callable[[SharingServer], Any]) -> Any:
        """What a server answers; None: it did not acknowledge."""
        self.now_ms += 1
        server = self.servers[owner_id]
        server.now_ms, self.loses_answers = self.now_ms, lost
        try:
            return call(server)
        except (StoreUnavailable, Ended):
            return None
        finally:
            self.loses_answers = False

    @rule(target=campaigns, owner_id=OWNERS, key=st.sampled_from(["", "", "k", "l"]), lost=st.integers(0, 4))
    def create(self, owner_id: int, key: str, lost: int) -> Any:
        made = self._call(owner_id, lost == 4, lambda server: server.create(key=key, name=key or "none"))
        if made is None:
            return multiple()
        assert made.name == (key or "none") or key == "" or made.campaign_id in self.created
        if key and key in self.keys:
            assert made.campaign_id == self.keys[key], "a second campaign under one key"
        if key:
            self.keys[key] = made.campaign_id
        self.created[made.campaign_id] = key
        return made.campaign_id

    @rule(owner_id=OWNERS, campaign_id=campaigns, lost=st.integers(0, 4), fields=EDITS)
    def edit(self, owner_id: int, campaign_id: int, lost: int, fields: dict[str, Any]) -> None:
        self._change(owner_id, campaign_id, lost, lambda server: server.edit(campaign_id, **fields))

    @rule(owner_id=OWNERS, campaign_id=campaigns, lost=st.integers(0, 4), status=st.sampled_from(list(CampaignStatus)))
    def set_status(self, owner_id: int, campaign_id: int, lost: int, status: CampaignStatus) -> None:
        self._change(owner_id, campaign_id, lost, lambda server: server.set_status(campaign_id, status))

    def _change(self, owner_id: int, campaign_id: int, lost: int, call: Callable[[SharingServer], Any]) -> None:
        server = self.servers[owner_id]
        try:
            before = server.campaigns._current(campaign_id).campaign
        except NoSuchCampaign:
            return  # Redis lost it, and this server never saw it
        if before.status is CampaignStatus.ENDED:
            return
        after = self._call(owner_id, lost == 4, call)
        if after is None or after.version == before.version:
            return
        stamp = after.version, after.updated_at_ms, owner_id
        for register, names in REGISTERS.items():
            values = [getattr(after, name) for name in names]
            if values != [getattr(before, name) for name in names]:
                known = self.writes.get((campaign_id, register))
                if known is None or known[0] < stamp:
                    self.writes[campaign_id, register] = stamp, values
                if register == "status" and after.status is CampaignStatus.ENDED:
                    self.writes[campaign_id, "ended"] = stamp, values

    @rule(owner_id=OWNERS)
    def poll(self, owner_id: int) -> None:
        self.servers[owner_id].campaigns.poll()

    @rule(owner_id=OWNERS)
    def restart(self, owner_id: int) -> None:
        self.servers[owner_id].close()
        self.servers[owner_id] = self._start(owner_id)

    @rule(target=dumps)
    def dump(self) -> dict[bytes, bytes]:
        return self._dump()

    @rule(dump=consumes(dumps))
    def restore(self, dump: dict[bytes, bytes]) -> None:
        self._restore(dump)

    @rule(owner_ids=st.permutations([1, 2, 3]), campaign_id=campaigns, one=EDITS, other=EDITS)
    def fail_over_between_two_edits(
        self, owner_ids: list[int], campaign_id: int, one: dict[str, Any], other: dict[str, Any]
    ) -> None:
        dump = self._dump()
        self._change(owner_ids[0], campaign_id, 0, lambda server: server.edit(campaign_id, **one))
        self._restore(dump)
        self._change(owner_ids[1], campaign_id, 0, lambda server: server.edit(campaign_id, **other))

    def _dump(self) -> dict[bytes, bytes]:
        names = self._names()
        return dict(zip(names, self.link.run([("DUMP", name) for name in names]), strict=True))

    def _restore(self, dump: dict[bytes, bytes]) -> None:
        """A master that lacks what was written last takes over."""
        self.link.run([("DEL", name) for name in self._names()] or [("PING",)])
        self.link.run([("RESTORE", name, 0, content) for name, content in dump.items()])
        self.keys = {}  # that a key made a campaign may be known to nobody who is asked

    @rule(nouns=st.sampled_from([("records", "marks"), ("changes",), ("keys",)]))
    def lose(self, nouns: tuple[str, ...]) -> None:
        self.link.run([("DEL", *(f"fanbid:{{campaigns}}:{noun}" for noun in nouns))])
        self.keys = {}

    @invariant()
    def files_and_engines_agree(self) -> None:
        for server in self.servers.values():
            server.copies()

    def teardown(self) -> None:
        for _ in range(3):
            for server in self.servers.values():
                server.compare()
        copies = [server.copies() for server in self.servers.values()]
        assert copies[0] == copies[1] == copies[2]
        records, there = copies[0], self.servers[1].campaigns._redis.marks()
        assert there == {campaign_id: record.mark for campaign_id, record in records.items()}
        assert self.created.keys() <= records.keys()
        for (campaign_id, register), (stamp, values) in self.writes.items():
            record = records[campaign_id]
            if register == "ended":
                assert record.campaign.status is CampaignStatus.ENDED
                continue
            assert record.stamps[register] >= stamp
            if record.stamps[register] == stamp and record.campaign.status is not CampaignStatus.ENDED:
                assert [getattr(record.campaign, name) for name in REGISTERS[register]] == values
        for server in self.servers.values():
            server.close()
        self.link.close()
        shutil.rmtree(self.folder)


def test_servers_come_to_agree(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SharedCampaignsMachine, "url", redis.url)
    monkeypatch.setattr(campaigns_module._log, "disabled", True)
    run_state_machine_as_test(
        SharedCampaignsMachine,
        settings=settings(
            max_examples=10,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
