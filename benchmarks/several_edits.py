"""How soon a campaign's creation, pause, resumption and edit at one server show at the others, in what they bid."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence

from benchmarks.output import progress
from benchmarks.serving import RunningServer
from protos import bidding_pb2, campaigns_pb2

CREATOR_ID = 18
_BUDGET_MICROS = 10**12
NEVER_MS = 30_000
_STEP_S = 0.01
_REST_S = 3.0
"""A server that lacked money for a moment looks paused before it is; no other bids may be mixed with the probe's."""
_FIRST_VIEWER = 10**12


class _Probe:
    """A campaign of its own, changed at one server and looked for at all others."""

    def __init__(self, servers: Sequence[RunningServer], draw: random.Random) -> None:
        self._servers, self._draw = servers, draw
        self._viewer = _FIRST_VIEWER
        self.seen_ms: list[float] = []

    def create(self) -> campaigns_pb2.Campaign:
        """A new campaign, until every server bids for it."""
        campaign = campaigns_pb2.Campaign(
            name="Probe", creator_id=CREATOR_ID, goal=campaigns_pb2.GOAL_FANS,
            bid_mode=campaigns_pb2.BID_MODE_AUTOMATIC, daily_budget_micros=_BUDGET_MICROS,
            total_budget_micros=_BUDGET_MICROS, zone="UTC", frequency_cap_per_day=100,
            creatives=[campaigns_pb2.Creative(creative_id=7002, title="Probe", category=3)],
        )  # fmt: skip
        request = campaigns_pb2.CreateCampaignRequest(campaign=campaign)
        server = self._draw.choice(self._servers)
        made = server.transport("operator").call("Campaigns/CreateCampaign", request, campaigns_pb2.Campaign)
        self._wait(server, self._bids)
        return made

    def switch(self, campaign_id: int, is_running: bool) -> None:
        """Pause or resume it, until every server bids or none does."""
        server = self._draw.choice(self._servers)
        verb = "Resume" if is_running else "Pause"
        request = campaigns_pb2.ChangeStatusRequest(campaign_id=campaign_id)
        server.transport("operator").call(f"Campaigns/{verb}Campaign", request, campaigns_pb2.Campaign)
        self._wait(server, lambda other: self._bids(other) is is_running)

    def edit(self, campaign_id: int, daily_micros: int) -> None:
        """Change its daily budget, until every server says so."""
        server = self._draw.choice(self._servers)
        request = campaigns_pb2.UpdateCampaignRequest(
            campaign=campaigns_pb2.Campaign(campaign_id=campaign_id, daily_budget_micros=daily_micros),
            update_fields=["daily_budget_micros"],
        )
        server.transport("operator").call("Campaigns/UpdateCampaign", request, campaigns_pb2.UpdateCampaignResponse)
        self._wait(server, lambda other: self._daily(other, campaign_id) == daily_micros)

    def _wait(self, changed_at: RunningServer, is_seen: Callable[[RunningServer], bool]) -> None:
        since_s = time.monotonic()
        waiting = [server for server in self._servers if server is not changed_at]
        while waiting and time.monotonic() < since_s + NEVER_MS / 1_000:
            for server in list(waiting):
                if is_seen(server):
                    waiting.remove(server)
                    self.seen_ms.append(1_000 * (time.monotonic() - since_s))
            time.sleep(_STEP_S)
        self.seen_ms += [float(NEVER_MS)] * len(waiting)

    def _bids(self, server: RunningServer) -> bool:
        self._viewer += 1
        request = bidding_pb2.BidRequest(
            id="p", at=bidding_pb2.AUCTION_TYPE_SECOND_PRICE, viewers=bidding_pb2.Viewers(ids=[self._viewer])
        )
        return bool(server.transport("feed").call("Bidding/Bid", request, bidding_pb2.BidResponse).tokens)

    @staticmethod
    def _daily(server: RunningServer, campaign_id: int) -> int:
        request = campaigns_pb2.GetCampaignRequest(campaign_id=campaign_id)
        found = server.transport("operator").call("Campaigns/GetCampaign", request, campaigns_pb2.Campaign)
        return int(found.daily_budget_micros)


def edits_seen_ms(servers: Sequence[RunningServer], rounds: int, seed: int) -> list[float]:
    """Milliseconds from the answer of who made a change until each other server acts by it; NEVER_MS: it did not.

    A round is an edit of the budget, a pause and a resumption; ahead of them a campaign is created, behind them paused.
    """
    probe = _Probe(servers, random.Random(seed))
    with progress(2 + 3 * rounds, "changes seen elsewhere") as bar:
        campaign = probe.create()
        bar.advance(1)
        for number in range(rounds):
            probe.edit(campaign.campaign_id, _BUDGET_MICROS // 2 + number)
            bar.advance(1)
            probe.switch(campaign.campaign_id, is_running=False)
            bar.advance(1)
            probe.switch(campaign.campaign_id, is_running=True)
            bar.advance(1)
        probe.switch(campaign.campaign_id, is_running=False)
        bar.advance(1)
    time.sleep(_REST_S)
    return probe.seen_ms
