"""Seven days of the market for campaigns that want kept fans, with and without word of who left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from auction.config import ServeConfig
from auction.kept_fans import KEPT_DAYS, KeptFans
from benchmarks.loop.world import LoyalBehaviour
from benchmarks.market.campaigns import MarketCampaign
from benchmarks.market.feed import FeedServer
from benchmarks.market.run import FLUSH_AFTER_MS, Market, MarketRun, MarketSettings
from benchmarks.market.traffic import Traffic
from benchmarks.market.world import WorldSettings
from benchmarks.transport import Clients, EngineTransport, Transport
from pacing.clocks import MS_PER_DAY
from pacing.facts import Goal
from protos import campaigns_pb2

DAYS = 7
KEPT_MARKET_DAYS = 3
"""The 30 days after which a fan counts as kept last so many days of the market."""
FAN_DAY_MS = KEPT_MARKET_DAYS * MS_PER_DAY // KEPT_DAYS
VIRTUAL_STRETCH = 480
"""The engine plans and publishes every eight minutes of virtual time, since seven days are a long time."""


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """How large a market is, for how many days it runs, and budgets in those of the market's campaigns."""

    days: int = DAYS
    budget_share: float = 1.0
    market: MarketSettings = field(
        default_factory=lambda: MarketSettings(slots_per_day=120_000, viewers_per_request=512)
    )


QUICK = LoopSettings(
    days=3, market=MarketSettings(slots_per_day=40_000, viewers_per_request=512, world=WorldSettings(viewers=14_000))
)


@dataclass(frozen=True, slots=True)
class Arm:
    """One run: by day, what was paid, fans and kept fans.

    Attributes:
        spend_micros: i8[days].
        fans, expected_kept, kept: f8[days], f8[days] and i8[days]: follows and kept follows by their true
            probabilities, and kept follows as drawn.
        lost_told: how many losses the engine heard of.
        overspend_micros: beyond a budget.
    """

    spend_micros: np.ndarray
    fans: np.ndarray
    expected_kept: np.ndarray
    kept: np.ndarray
    lost_told: int
    overspend_micros: int

    def kept_per_yuan(self, drawn: bool = False) -> float:
        """Of all days; by true probabilities, or as drawn."""
        return float((self.kept if drawn else self.expected_kept).sum() / self.spend_micros.sum() * 1e6)


class LoopMarket(Market):
    """The market's nine campaigns for fans, all after kept fans by automatic bidding, in a world with loyalty."""

    def __init__(self, seed: int, settings: LoopSettings) -> None:
        """Draw it; the same seed and settings make the same market."""
        super().__init__(seed, settings.market)
        self.days = settings.days
        self.behaviour = LoyalBehaviour(self.world)
        self.campaigns = tuple(
            replace(
                campaign,
                template=replace(campaign.template, goal=Goal.KEPT_FANS),
                daily_budget_micros=round(settings.budget_share * campaign.daily_budget_micros),
                target_cost_micros=0,
            )
            for campaign in self.campaigns
            if campaign.goal is Goal.FANS
        )


class _LoopRun(MarketRun):
    """Some days of one market against one engine."""

    market: LoopMarket

    def __init__(self, market: LoopMarket, clients: Clients, tells_unfollows: bool) -> None:
        super().__init__(market, clients)
        self._tells_unfollows = tells_unfollows

    def campaign_message(self, campaign: MarketCampaign) -> campaigns_pb2.Campaign:
        """What creates a campaign: for all days, each with the same budget."""
        message = super().campaign_message(campaign)
        message.total_budget_micros = campaign.daily_budget_micros * self.market.days
        message.end_at_ms = self.market.spec.start_at_ms + self.market.days * MS_PER_DAY
        return message

    def feed_server(self, feed: Transport) -> FeedServer:
        """Who offers slots; it tells of losses or not, which is all that the two arms differ by."""
        market = self.market
        return FeedServer(
            market.world, market.behaviour, market.campaigns, self.campaign_ids, feed,
            fan_day_ms=FAN_DAY_MS, tells_unfollows=self._tells_unfollows,
        )  # fmt: skip

    def run_day(self, day: int) -> None:
        """All slots of a day, and what is due until its end."""
        feed = self._feed_server()
        feed.begin_day(day)
        flush_at_ms = 0
        for request in Traffic(self.market.world, self.market.day(day)):
            if flush_at_ms and flush_at_ms < request.at_ms:
                self.advance(flush_at_ms)
            self.advance(request.at_ms)
            feed.offer(request)
            flush_at_ms = request.at_ms + FLUSH_AFTER_MS
        self.advance(max(flush_at_ms, self.market.spec.start_at_ms + (day + 1) * MS_PER_DAY))

    def totals(self) -> np.ndarray:
        """Spend, expected fans, expected kept fans, kept fans, so far: f8[4]."""
        tally = self._feed_server().tally
        columns = (tally.spend_micros, tally.expected_events, tally.expected_kept, tally.kept_fans)
        return np.array([float(column.sum()) for column in columns])


def run_arm(market: LoopMarket, loop: bool, tick: Callable[[], None] = lambda: None) -> Arm:
    """One market with the loop on or off, in this process, with everything in memory; `tick` is called every day."""
    from auction.services import build_services

    start_at_ms = market.spec.start_at_ms
    config = ServeConfig(virtual_clock=start_at_ms, no_rest=True, no_bridge=True, seed=market.seed)
    services = build_services(config, virtual_stretch=VIRTUAL_STRETCH)
    try:
        services.learner.kept_fans = KeptFans(services.predictor, FAN_DAY_MS)
        tokens = [services.access.create_token(role, 0, start_at_ms) for role in ("feed", "operator")]
        run = _LoopRun(market, Clients(*(EngineTransport(services, token) for token in tokens)), loop)
        run.install()
        totals = [np.zeros(4)]
        for day in range(market.days):
            run.run_day(day)
            totals.append(run.totals())
            tick()
        spend, fans, expected_kept, kept = np.diff(np.array(totals), axis=0).T
        figures = [
            services.learner.kept_fans.figures(campaign_id, services.clock.wall_ms())
            for campaign_id in run.campaign_ids
        ]
        charged = [report.total.spend_micros for report in run.reports()]
        caps = [campaign.daily_budget_micros * market.days for campaign in market.campaigns]
        over = max(max(spent - cap, 0) for spent, cap in zip(charged, caps, strict=True))
        return Arm(spend, fans, expected_kept, kept, sum(figure.lost for figure in figures), over)
    finally:
        services.close()
