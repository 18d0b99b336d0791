"""Seven days of the market for campaigns that want kept fans: with and without word of who left, and with and without a
worth of fans of a high tier."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from auction.config import ServeConfig
from auction.kept_fans import KEPT_DAYS, KeptFans
from benchmarks.loop.world import LoyalBehaviour, RisingBehaviour
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
    """How large a market is, for how many days it runs, and budgets in those of the market's campaigns.

    Attributes:
        with_tiers: some fans who stay come to be of a high tier, and the engine hears which.
    """

    days: int = DAYS
    budget_share: float = 1.0
    with_tiers: bool = False
    market: MarketSettings = field(
        default_factory=lambda: MarketSettings(slots_per_day=120_000, viewers_per_request=512)
    )


QUICK = LoopSettings(
    days=3, market=MarketSettings(slots_per_day=40_000, viewers_per_request=512, world=WorldSettings(viewers=14_000))
)


@dataclass(frozen=True, slots=True)
class Play:
    """What the arms of a study differ by.

    Attributes:
        tells_unfollows: the engine hears who left.
        high_tier_worth: what campaigns say that a fan of a high tier is worth to them; 0: nothing, as one who is kept.
    """

    tells_unfollows: bool = True
    high_tier_worth: float = 0.0


@dataclass(frozen=True, slots=True)
class Arm:
    """One run: by day, what was paid, fans, kept fans and those of them who come to be of a high tier.

    Attributes:
        spend_micros: i8[days].
        fans, expected_kept, kept: f8[days], f8[days] and i8[days]: follows and kept follows by their true
            probabilities, and kept follows as drawn.
        lost_told, risen_told: how many losses, and how many rises, the engine heard of.
        overspend_micros: beyond a budget.
        expected_high, high: of the kept, those of a high tier.
    """

    spend_micros: np.ndarray
    fans: np.ndarray
    expected_kept: np.ndarray
    kept: np.ndarray
    lost_told: int
    overspend_micros: int
    expected_high: np.ndarray
    high: np.ndarray
    risen_told: int = 0


class LoopMarket(Market):
    """The market's nine campaigns for fans, all after kept fans by automatic bidding, in a world with loyalty."""

    def __init__(self, seed: int, settings: LoopSettings) -> None:
        """Draw it; the same seed and settings make the same market."""
        super().__init__(seed, settings.market)
        self.days = settings.days
        self.with_tiers = settings.with_tiers
        self.behaviour = RisingBehaviour(self.world) if settings.with_tiers else LoyalBehaviour(self.world)
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

    def __init__(
        self, market: LoopMarket, clients: Clients, play: Play, on_tiers: Callable[[np.ndarray], None]
    ) -> None:
        super().__init__(market, clients)
        self._play = play
        self._on_tiers = on_tiers

    def campaign_message(self, campaign: MarketCampaign) -> campaigns_pb2.Campaign:
        """What creates a campaign: for all days, each with the same budget."""
        message = super().campaign_message(campaign)
        message.total_budget_micros = campaign.daily_budget_micros * self.market.days
        message.high_tier_worth = self._play.high_tier_worth
        message.end_at_ms = self.market.spec.start_at_ms + self.market.days * MS_PER_DAY
        return message

    def feed_server(self, feed: Transport) -> FeedServer:
        """Who offers slots; it tells of losses or not, and of tiers where there are any."""
        market = self.market
        return FeedServer(
            market.world, market.behaviour, market.campaigns, self.campaign_ids, feed,
            fan_day_ms=FAN_DAY_MS, tells_unfollows=self._play.tells_unfollows, tells_tiers=market.with_tiers,
        )  # fmt: skip

    def advance(self, to_ms: int) -> None:
        """Move the engine's clock, and report what has become due by then; tiers as the bridge would hand them on."""
        super().advance(to_ms)
        rows = self._feed_server().take_tiers(to_ms)
        if len(rows):
            self._on_tiers(rows)

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
        """Spend, expected fans, then kept fans and those of a high tier, expected and as drawn, so far: f8[6]."""
        tally = self._feed_server().tally
        columns = (
            tally.spend_micros, tally.expected_events, tally.expected_kept, tally.kept_fans, tally.expected_high,
            tally.high_fans,
        )  # fmt: skip
        return np.array([float(column.sum()) for column in columns])


def run_arm(market: LoopMarket, play: Play, tick: Callable[[], None] = lambda: None) -> Arm:
    """One market with one arm's play, in this process, with everything in memory; `tick` is called every day."""
    from auction.services import build_services

    start_at_ms = market.spec.start_at_ms
    config = ServeConfig(virtual_clock=start_at_ms, no_rest=True, no_bridge=True, seed=market.seed)
    services = build_services(config, virtual_stretch=VIRTUAL_STRETCH)
    try:
        services.learner.kept_fans = KeptFans(services.predictor, FAN_DAY_MS)
        tokens = [services.access.create_token(role, 0, start_at_ms) for role in ("feed", "operator")]
        clients = Clients(*(EngineTransport(services, token) for token in tokens))
        run = _LoopRun(market, clients, play, services.learner.kept_fans.told_tiers)
        run.install()
        totals = [np.zeros(6)]
        for day in range(market.days):
            run.run_day(day)
            totals.append(run.totals())
            tick()
        spend, fans, expected_kept, kept, expected_high, high = np.diff(np.array(totals), axis=0).T
        figures = [
            services.learner.kept_fans.figures(campaign_id, services.clock.wall_ms())
            for campaign_id in run.campaign_ids
        ]
        charged = [report.total.spend_micros for report in run.reports()]
        caps = [campaign.daily_budget_micros * market.days for campaign in market.campaigns]
        over = max(max(spent - cap, 0) for spent, cap in zip(charged, caps, strict=True))
        lost, risen = sum(figure.lost for figure in figures), sum(figure.risen for figure in figures)
        return Arm(spend, fans, expected_kept, kept, lost, over, expected_high, high, risen)
    finally:
        services.close()
