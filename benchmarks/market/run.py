"""One seed of the market, driven through an engine in lockstep with its virtual clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.market.amounts import make_campaigns
from benchmarks.market.behaviour import Behaviour
from benchmarks.market.campaigns import MarketCampaign, bare_campaigns, campaign_message
from benchmarks.market.feed import FeedServer
from benchmarks.market.oracle import Optimum, collect_slots, equilibrium
from benchmarks.market.results import CampaignResult, MarketResult
from benchmarks.market.traffic import DaySpec, Traffic, day_spec
from benchmarks.market.world import World, WorldSettings, make_world
from benchmarks.transport import Answer, Clients, Transport
from pacing.clocks import MS_PER_HOUR, MS_PER_MINUTE
from protos import audience_pb2, bidding_pb2, campaigns_pb2

PUT_VIEWERS = 8_000
PUT_FOLLOWS = 50_000
FLUSH_AFTER_MS = 10_000
"""Impressions are seen within eight seconds of the bid, and reported by then."""
FOLLOWS_EVERY_MS = MS_PER_HOUR
DRAIN_STEP_MS = 10 * MS_PER_MINUTE


@dataclass(frozen=True, slots=True)
class MarketSettings:
    """How large a market is, and how long it runs.

    Attributes:
        drain_hours: after the last slot, how long follows are still waited for.
    """

    hours: float = 24.0
    slots_per_day: int = 300_000
    viewers_per_request: int = 256
    drain_hours: float = 6.0
    world: WorldSettings = field(default_factory=WorldSettings)


QUICK = MarketSettings(
    slots_per_day=40_000, viewers_per_request=128, drain_hours=3.0, world=WorldSettings(viewers=8_000)
)
"""The same market at an eighth of its size."""


Amounts = Callable[[tuple[MarketCampaign, ...]], tuple[MarketCampaign, ...]]


class Market:
    """World, behaviour, traffic and campaigns of one seed; the same seed and settings make the same market."""

    def __init__(
        self, seed: int, settings: MarketSettings | None = None, choose_amounts: Amounts | None = None
    ) -> None:
        """Make the market; `choose_amounts` gives the campaigns budgets and targets, by default the day before does."""
        self.seed = seed
        self.settings = settings or MarketSettings()
        self.world: World = make_world(seed, self.settings.world)
        self.behaviour = Behaviour(self.world)
        self.spec: DaySpec = self.day(0)
        self.campaigns: tuple[MarketCampaign, ...] = (
            make_campaigns(self.world, self.behaviour, self.spec)
            if choose_amounts is None
            else choose_amounts(bare_campaigns(self.world))
        )

    def day(self, day: int) -> DaySpec:
        """The stretch of a day: 0 for the one that is run, negative for earlier ones, which are whole."""
        settings = self.settings
        hours = settings.hours if day == 0 else 24.0
        return day_spec(day, settings.slots_per_day, hours, settings.viewers_per_request)

    def optima(self) -> tuple[Optimum, Optimum]:
        """What could have been bought on the day: with the budgets alone, and with the target costs too."""
        slots = collect_slots(self.world, self.behaviour, self.campaigns, Traffic(self.world, self.spec))
        budgets = np.array([campaign.daily_budget_micros for campaign in self.campaigns], float)
        targets = np.array([campaign.target_cost_micros or np.inf for campaign in self.campaigns], float)
        return equilibrium(slots, budgets, np.full(len(budgets), np.inf)), equilibrium(slots, budgets, targets)


class _Timed:
    """Passes calls on, and adds up how long they took."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner
        self.elapsed_s = 0.0

    def call(self, method: str, request: Any, response_class: type[Answer]) -> Answer:
        started_s = time.perf_counter()
        answer = self._inner.call(method, request, response_class)
        self.elapsed_s += time.perf_counter() - started_s
        return answer


Observer = Callable[["MarketRun", int], None]
"""Told after every request: the run, and the virtual instant."""


class MarketRun:
    """One market against one engine, whose virtual clock stands at the market's start. One thread calls it."""

    def __init__(self, market: Market, clients: Clients, policy: str = "engine") -> None:
        self.market = market
        self.policy = policy
        self._feed_calls, self._operator_calls = _Timed(clients.feed), _Timed(clients.operator)
        self._started_s = time.perf_counter()
        self.campaign_ids: list[int] = []
        self.feed: FeedServer | None = None
        self._follows_at_ms = market.spec.start_at_ms + FOLLOWS_EVERY_MS

    def install(self) -> None:
        """Tell the engine the viewers and follows, and create the campaigns."""
        world = self.market.world
        for start in range(0, world.viewers.size, PUT_VIEWERS):
            self._put_viewers(slice(start, start + PUT_VIEWERS))
        fan_rows, creator_rows = np.nonzero(world.fans)
        ids = world.viewers.ids
        followers = np.r_[ids[fan_rows], ids[world.friend_from]]
        followed = np.r_[world.creators.ids[creator_rows], ids[world.friend_to]]
        self._put_follows(followers, followed)
        for campaign in self.market.campaigns:
            message = self.campaign_message(campaign)
            key = f"market-{self.market.seed}-{campaign.name}"
            request = campaigns_pb2.CreateCampaignRequest(campaign=message, idempotency_key=key)
            created = self._operator_calls.call("Campaigns/CreateCampaign", request, campaigns_pb2.Campaign)
            self.campaign_ids.append(created.campaign_id)
        self.feed = self.feed_server(self._feed_calls)

    def campaign_message(self, campaign: MarketCampaign) -> campaigns_pb2.Campaign:
        """What creates a campaign: for the market's day."""
        return campaign_message(self.market.world, campaign, self.market.spec.end_at_ms)

    def feed_server(self, feed: Transport) -> FeedServer:
        """Who offers slots, once campaigns have ids."""
        return FeedServer(self.market.world, self.market.behaviour, self.market.campaigns, self.campaign_ids, feed)

    def _put_viewers(self, part: slice) -> None:
        viewers = self.market.world.viewers
        message = bidding_pb2.Viewers(
            ids=viewers.ids[part].tolist(),
            regions=viewers.regions[part].tolist(),
            age_bands=viewers.age_bands[part].tolist(),
            genders=viewers.genders[part].tolist(),
            os=viewers.os[part].tolist(),
            networks=viewers.networks[part].tolist(),
            device_tiers=viewers.device_tiers[part].tolist(),
            interest_masks=viewers.interest_masks[part].tolist(),
        )
        request = audience_pb2.PutViewersRequest(viewers=message)
        self._operator_calls.call("Audience/PutViewers", request, audience_pb2.PutViewersResponse)

    def _put_follows(self, followers: np.ndarray, followed: np.ndarray) -> None:
        for start in range(0, len(followers), PUT_FOLLOWS):
            part = slice(start, start + PUT_FOLLOWS)
            request = audience_pb2.PutFollowsRequest(
                follower_ids=followers[part].tolist(), followed_ids=followed[part].tolist()
            )
            self._operator_calls.call("Audience/PutFollows", request, audience_pb2.PutFollowsResponse)

    def advance(self, to_ms: int) -> None:
        """Move the engine's clock, and report what has become due by then."""
        request = bidding_pb2.AdvanceRequest(to_ms=to_ms)
        self._operator_calls.call("Simulation/Advance", request, bidding_pb2.AdvanceResponse)
        feed = self._feed_server()
        feed.flush(to_ms)
        if to_ms >= self._follows_at_ms:
            self._follows_at_ms = to_ms + FOLLOWS_EVERY_MS
            self._put_follows(*feed.take_new_follows())

    def run(self, observer: Observer | None = None) -> None:
        """The whole day, then the wait for late follows."""
        feed = self._feed_server()
        flush_at_ms: int | None = None
        for request in Traffic(self.market.world, self.market.spec):
            if flush_at_ms is not None and flush_at_ms < request.at_ms:
                self.advance(flush_at_ms)
            self.advance(request.at_ms)
            feed.offer(request)
            flush_at_ms = request.at_ms + FLUSH_AFTER_MS
            if observer is not None:
                observer(self, request.at_ms)
        if flush_at_ms is not None:
            self.advance(flush_at_ms)
        self._drain(max(self.market.spec.end_at_ms, flush_at_ms or 0))

    def _drain(self, from_ms: int) -> None:
        until_ms = from_ms + round(self.market.settings.drain_hours * MS_PER_HOUR)
        for at_ms in range(from_ms, until_ms + 1, DRAIN_STEP_MS):
            self.advance(at_ms)

    def reports(self) -> list[campaigns_pb2.CampaignReport]:
        """The engine's report of every campaign."""
        return [
            self._operator_calls.call(
                "Campaigns/GetReport", campaigns_pb2.GetReportRequest(campaign_id=i), campaigns_pb2.CampaignReport
            )
            for i in self.campaign_ids
        ]

    def result(self, optima: tuple[Optimum, Optimum] | None = None) -> MarketResult:
        """Everything that was bought so far, held against the optima where given."""
        feed = self._feed_server()
        tally = feed.tally
        return MarketResult(
            seed=self.market.seed,
            policy=self.policy,
            campaigns=tuple(self._campaign_result(k, report, optima) for k, report in enumerate(self.reports())),
            requests=tally.requests,
            slots=tally.slots,
            refused_rows=tally.refused_rows(),
            no_bids={str(code): count for code, count in sorted(tally.no_bids.items())},
            elapsed_s=time.perf_counter() - self._started_s,
            engine_s=self._feed_calls.elapsed_s + self._operator_calls.elapsed_s,
        )

    def _campaign_result(
        self, k: int, report: campaigns_pb2.CampaignReport, optima: tuple[Optimum, Optimum] | None
    ) -> CampaignResult:
        campaign, tally = self.market.campaigns[k], self._feed_server().tally
        free, constrained = optima if optima is not None else (None, None)
        return CampaignResult(
            name=campaign.name,
            campaign_id=self.campaign_ids[k],
            goal=campaign.goal,
            is_target_cost=campaign.target_cost_micros > 0,
            is_tight=campaign.is_tight,
            budget_micros=campaign.daily_budget_micros,
            target_cost_micros=campaign.target_cost_micros,
            charged_micros=report.total.spend_micros,
            market_micros=int(tally.spend_micros[k]),
            over_delivered_micros=report.over_delivered_micros,
            bids=int(tally.bids[k]),
            impressions=report.total.impressions,
            events=report.total.goal_events,
            true_events=int(tally.true_events[k]),
            expected_events=float(tally.expected_events[k]),
            predicted_events=report.total.expected_goal_events,
            optimum_micros=float(free.spend_micros[k]) if free else 0.0,
            optimum_events=float(free.events[k]) if free else 0.0,
            constrained_micros=float(constrained.spend_micros[k]) if constrained else 0.0,
            constrained_events=float(constrained.events[k]) if constrained else 0.0,
        )

    def _feed_server(self) -> FeedServer:
        if self.feed is None:
            raise ValueError("install: must be called first")
        return self.feed
