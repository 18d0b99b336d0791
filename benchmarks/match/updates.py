"""Campaigns that are created, paused and edited while bids run: how soon bids follow, and what it costs them.

One engine in process, with the parts, the threads and the periods of a server. Bids are made one after the other; every
campaign that counts here wants exactly one viewer, so whether a change is in force shows in that viewer's next bid.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from auction.bid.request import BidBatch
from auction.campaigns.model import BidMode, Campaign, CampaignStatus, Creative, with_status
from auction.config import ServeConfig
from auction.services import Services, build_services
from auction.warmup import warm_up
from benchmarks.match.workload import SEGMENTS, draw_audience
from benchmarks.output import ProgressBar
from benchmarks.workload import make_audience, segment_name
from pacing.facts import AuctionType, Goal
from targeting.attributes import DIMENSION_COUNT, STORED_DIMENSION_COUNT
from targeting.expressions import Expression, Segment
from targeting.segments.store import Change

TARGET_COST_MICROS = 3_000_000
ROUNDS_BEFORE = 3
"""Before the clock runs: what it takes to meet so many campaigns for the first time is no part of an update."""
REQUEST_VIEWERS = 64
VIEWERS = 4_000
DISTINCT_AUDIENCES = 5_000
LATEST_S = 10.0
PAUSE_S = 0.002
_OWN_VIEWER = 10**12
_ZONE = "Asia/Shanghai"


def make_campaign(campaign_id: int, targeting: Expression, now_ms: int) -> Campaign:
    """A campaign as the store would give it."""
    return Campaign(
        creator_id=campaign_id,
        name=f"campaign {campaign_id}",
        goal=Goal.FANS,
        bid_mode=BidMode.TARGET_COST,
        target_cost_micros=TARGET_COST_MICROS,
        daily_budget_micros=10**12,
        total_budget_micros=10**12,
        zone=_ZONE,
        creatives=(Creative(campaign_id),),
        start_at_ms=now_ms - 1_000,
        targeting=targeting,
        campaign_id=campaign_id,
    )


def take_in(services: Services, campaign: Campaign) -> None:
    """Create the campaign, as a server does."""
    with services.store.change():
        stored = replace(campaign, campaign_id=services.store.insert(campaign))
    assert stored.campaign_id == campaign.campaign_id
    services.registry.take_over(stored, opening=True)


@contextmanager
def crowded_engine(campaigns: int, seed: int, bar: ProgressBar) -> Iterator[Services]:
    """An engine with so many campaigns, paced, on real time; its scheduler runs."""
    services = build_services(ServeConfig(no_rest=True, no_bridge=True))
    try:
        rng, now_ms = np.random.default_rng([seed, 6]), services.clock.wall_ms()
        drawn = [draw_audience(rng) for _ in range(min(campaigns, DISTINCT_AUDIENCES))]
        for campaign_id in range(1, campaigns + 1):
            targeting = drawn[campaign_id % len(drawn)]
            take_in(services, make_campaign(campaign_id, targeting, now_ms))
            if campaign_id % 1_000 == 0:
                bar.advance(1_000 / campaigns, f"{campaign_id:,} of {campaigns:,} campaigns are taken over")
        services.bank.tick()
        for _ in range(ROUNDS_BEFORE):
            services.steer()
            services.follow()
            bar.advance(1 / ROUNDS_BEFORE, "planning")
        warm_up(services)
        services.start()
        yield services
    finally:
        services.close()


def request_of(viewer_ids: np.ndarray, context: int) -> BidBatch:
    """A bid request for viewers of whom nothing more is told, with this content category and placement."""
    n = len(viewer_ids)
    dims = np.full((n, DIMENSION_COUNT), -1, np.int32)
    dims[:, STORED_DIMENSION_COUNT:] = context
    return BidBatch(
        request_id="bench",
        at=int(AuctionType.SECOND_PRICE),
        placement=context,
        max_bids_per_viewer=1,
        viewer_ids=viewer_ids.astype(np.uint64),
        dims=dims,
        interest_masks=None,
        floors_micros=np.full(n, 1, np.int64),
        blocked_creator_ids=np.zeros(0, np.uint64),
        prediction_ptr=np.zeros(n + 1, np.int32),
        prediction_campaign_ids=np.zeros(0, np.uint64),
        probabilities=np.zeros(0, np.float32),
    )


@contextmanager
def bidding(services: Services, viewer_ids: np.ndarray, out_ms: list[float]) -> Iterator[None]:
    """Bid for random viewers from a thread, one request after the other; the milliseconds of each go into `out_ms`."""
    stopping = threading.Event()

    def bid_on() -> None:
        rng = np.random.default_rng(8)
        while not stopping.is_set():
            request = request_of(rng.choice(viewer_ids, REQUEST_VIEWERS), 1)
            started_ns = time.perf_counter_ns()
            services.engine.bid(request)
            out_ms.append((time.perf_counter_ns() - started_ns) / 1e6)
            stopping.wait(PAUSE_S)

    thread = threading.Thread(target=bid_on, name="bidder")
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


def has_bid(services: Services, viewer_id: int) -> bool:
    """Whether any campaign bids for the viewer, in answer to a bid request that tells nothing of the content."""
    return len(services.engine.bid(request_of(np.array([viewer_id]), 0)).decisions) > 0


def until(holds: Callable[[], bool], started_s: float) -> float:
    """Milliseconds from an instant until it holds.

    Raises:
        AssertionError: it does not within LATEST_S.
    """
    while not holds():
        if time.perf_counter() - started_s > LATEST_S:
            raise AssertionError(f"a change is not in force after {LATEST_S:.0f} s")
        time.sleep(0.002)
    return 1e3 * (time.perf_counter() - started_s)


def change_and_watch(services: Services, campaign_id: int, viewers: tuple[int, int]) -> list[float]:
    """Create a campaign for the first viewer alone, edit it to want the second alone, pause it: how long each took
    from before it was asked for."""
    first, second = viewers
    assert not has_bid(services, first) and not has_bid(services, second)
    now_ms, taken = services.clock.wall_ms(), []
    wants = [Segment(f"only:{viewer_id}") for viewer_id in viewers]
    created = make_campaign(campaign_id, wants[0], now_ms)
    started_s = time.perf_counter()
    take_in(services, created)
    taken.append(until(lambda: has_bid(services, first), started_s))
    moved = replace(created, targeting=wants[1], version=2)
    started_s = time.perf_counter()
    services.registry.take_over(moved)
    taken.append(until(lambda: has_bid(services, second) and not has_bid(services, first), started_s))
    started_s = time.perf_counter()
    services.registry.take_over(with_status(moved, CampaignStatus.PAUSED, now_ms))
    taken.append(until(lambda: not has_bid(services, second), started_s))
    return taken


def measure_updates(campaigns: int, updates: int, quiet_s: float, seed: int, bar: ProgressBar) -> dict[str, float]:
    """Figures of bids with and without updates, and of how long these took.

    Args:
        campaigns: that run all the time.
        updates: campaigns that are created, edited and paused, one after the other.
        quiet_s: how long bids are measured before.
    """
    with crowded_engine(campaigns, seed, bar) as services:
        people = make_audience(VIEWERS, seed, SEGMENTS)
        services.viewers.put(people.ids, people.attributes, people.interest_masks)
        for number, members in enumerate(people.members):
            services.segments.put(segment_name(number), members, Change.REPLACE)
        own = [_OWN_VIEWER + k for k in range(2)]
        own_rows = services.viewers.ensure(np.array(own, np.uint64))
        for viewer_id, row in zip(own, own_rows, strict=True):
            services.segments.put(f"only:{viewer_id}", np.array([row]), Change.REPLACE)
        services.control.publish_changes()  # with everybody's segments, which is no part of an update
        quiet_ms: list[float] = []
        updating_ms: list[float] = []
        visible_ms: list[float] = []
        audience = people.ids
        with bidding(services, audience, []):
            time.sleep(min(quiet_s, 1.0))
        with bidding(services, audience, quiet_ms):
            time.sleep(quiet_s)
        with bidding(services, audience, updating_ms):
            for k in range(updates):
                visible_ms += change_and_watch(services, campaigns + 1 + k, (own[0], own[1]))
                bar.advance(1 / updates, f"{3 * (k + 1)} changes")
    return {
        "edit_visible_s_p50": float(np.percentile(visible_ms, 50)) / 1e3,
        "edit_visible_s_p99": float(np.percentile(visible_ms, 99)) / 1e3,
        "edit_visible_s_max": max(visible_ms) / 1e3,
        "bid_ms_p50_quiet": float(np.percentile(quiet_ms, 50)),
        "bid_ms_p99_quiet": float(np.percentile(quiet_ms, 99)),
        "bid_ms_p50_while_updating": float(np.percentile(updating_ms, 50)),
        "bid_ms_p99_while_updating": float(np.percentile(updating_ms, 99)),
        "bid_ms_max_quiet": max(quiet_ms),
        "bid_ms_max_while_updating": max(updating_ms),
        "bid_p99_while_updating_to_quiet": float(np.percentile(updating_ms, 99) / np.percentile(quiet_ms, 99)),
        "bids_quiet": len(quiet_ms),
        "bids_while_updating": len(updating_ms),
    }
