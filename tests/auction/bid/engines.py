"""A whole engine in this process on a virtual clock, called by the same bytes as over gRPC."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from auction.campaigns.access import Role
from auction.config import ServeConfig
from auction.services import Services, build_services
from pacing.clocks import VirtualClock
from pacing.facts import DECISION, OutcomeKind
from protos import bidding_pb2, campaigns_pb2

NOON_MS = 1_772_596_800_000  # 4 March 2026, 12:00 in Shanghai
NO_TOKEN = bytes(DECISION.itemsize)
FIXED_BID_MICROS = 20_000


def a_campaign(**changes: Any) -> campaigns_pb2.Campaign:
    """A campaign for everybody, with 16 times the least budget."""
    fields: dict[str, Any] = {
        "name": "Spring dance",
        "creator_id": 7,
        "goal": campaigns_pb2.GOAL_FANS,
        "bid_mode": campaigns_pb2.BID_MODE_AUTOMATIC,
        "daily_budget_micros": 16_000_000,
        "total_budget_micros": 160_000_000,
        "zone": "Asia/Shanghai",
        "creatives": [campaigns_pb2.Creative(creative_id=7001, title="Dance", category=3)],
        "frequency_cap_per_day": 100,
    }
    return campaigns_pb2.Campaign(**(fields | changes))


def a_request(viewer_ids: Sequence[int], **changes: Any) -> bidding_pb2.BidRequest:
    """A second-price request for these viewers."""
    fields: dict[str, Any] = {"id": "r", "at": bidding_pb2.AUCTION_TYPE_SECOND_PRICE}
    return bidding_pb2.BidRequest(**(fields | {"viewers": bidding_pb2.Viewers(ids=viewer_ids)} | changes))


class Engine:
    """Services on a folder (None: in memory) that bid 20,000 micros for everybody, and tokens to call them."""

    def __init__(self, folder: Path | None = None, start_at_ms: int = NOON_MS, **settings: Any) -> None:
        chosen = {"policy": "fixed", "fixed_bid_micros": FIXED_BID_MICROS} | settings
        self.services: Services = build_services(ServeConfig(data=folder, virtual_clock=start_at_ms, **chosen))
        self._tokens: dict[tuple[Role, int], str] = {}

    @property
    def now_ms(self) -> int:
        return self.services.clock.wall_ms()

    def token(self, role: Role, creator_id: int = 0) -> str:
        key = role, creator_id
        if key not in self._tokens:
            self._tokens[key] = self.services.access.create_token(role, creator_id, self.now_ms)
        return self._tokens[key]

    def call(self, method: str, request: Any, answer: Any, role: Role, creator_id: int = 0) -> Any:
        raw = request if isinstance(request, bytes) else request.SerializeToString()
        return answer.FromString(self.services.handle(method, raw, self.token(role, creator_id)))

    def create(self, **changes: Any) -> campaigns_pb2.Campaign:
        """Create a campaign and let it bid."""
        request = campaigns_pb2.CreateCampaignRequest(campaign=a_campaign(**changes))
        made = self.call("Campaigns/CreateCampaign", request, campaigns_pb2.Campaign, Role.OPERATOR)
        self.go_round()
        return made

    def go_round(self) -> None:
        """All that is periodic, once: move money, judge what is new, publish a snapshot."""
        self.services.bank.tick()
        self.services.follow()
        self.services.steer()

    def bid(self, viewer_ids: Sequence[int], **changes: Any) -> bidding_pb2.BidResponse:
        request = a_request(viewer_ids, **changes)
        return self.call("Bidding/Bid", request, bidding_pb2.BidResponse, Role.FEED)

    def send_bid(self, request: bidding_pb2.BidRequest | bytes) -> bidding_pb2.BidResponse:
        return self.call("Bidding/Bid", request, bidding_pb2.BidResponse, Role.FEED)

    def report(
        self, kinds: Sequence[int], tokens: Sequence[bytes] = (), **columns: Sequence[int]
    ) -> bidding_pb2.ReportResponse:
        return self.send_report(bidding_pb2.ReportRequest(kinds=kinds, tokens=b"".join(tokens), **columns))

    def send_report(self, request: bidding_pb2.ReportRequest) -> bidding_pb2.ReportResponse:
        return self.call("Bidding/Report", request, bidding_pb2.ReportResponse, Role.FEED)

    def status(self, kind: OutcomeKind, token: bytes, price_micros: int = 0) -> int:
        """The status of one row."""
        return self.report([kind], [token], prices_micros=[price_micros]).statuses[0]

    def advance(self, step_ms: int) -> None:
        request = bidding_pb2.AdvanceRequest(to_ms=self.now_ms + step_ms)
        self.call("Simulation/Advance", request, bidding_pb2.AdvanceResponse, Role.FEED)

    def jump(self, step_ms: int) -> None:
        """Let time pass while nothing periodic runs."""
        clock = self.services.clock
        assert isinstance(clock, VirtualClock)
        clock.advance_to(clock.wall_ms() + step_ms)

    def campaign_report(self, campaign_id: int) -> campaigns_pb2.CampaignReport:
        request = campaigns_pb2.GetReportRequest(campaign_id=campaign_id)
        return self.call("Campaigns/GetReport", request, campaigns_pb2.CampaignReport, Role.OPERATOR)

    def account(self, campaign_id: int) -> np.void:
        """The present row of the campaign's accounts."""
        return self.services.bank.accounts(np.array([campaign_id], np.uint64))[0]

    def close(self) -> None:
        self.services.close()


def tokens_of(answer: bidding_pb2.BidResponse) -> list[bytes]:
    """The tokens of a response, one by one."""
    size = DECISION.itemsize
    return [answer.tokens[k : k + size] for k in range(0, len(answer.tokens), size)]


def decisions_of(answer: bidding_pb2.BidResponse) -> np.ndarray:
    """What the tokens of a response say, DECISION[m]."""
    return np.frombuffer(answer.tokens, DECISION)
