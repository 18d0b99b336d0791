"""A data folder with a past: a day of bids, impressions, clicks and follows, by the shipped engine on a virtual clock.

The folder is left as a crash leaves it: a write-ahead log, and saved state that is a step older than the ledger.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from auction.campaigns.access import Role
from auction.config import ServeConfig
from auction.services import Services, build_services
from benchmarks.crashes.load import create_campaign
from benchmarks.crashes.told import Caps
from benchmarks.transport import EngineTransport
from pacing.clocks import MS_PER_DAY, MS_PER_MINUTE, VirtualClock
from pacing.facts import DECISION, OutcomeKind, RowStatus
from protos import bidding_pb2

CAMPAIGNS = 40
VIEWERS = 200_000
VIEWERS_PER_REQUEST = 1_000
BID_MICROS = 20_000
_CAPS = Caps(10**12, 10**13)
CLICK_PROB, FOLLOW_PROB, LEAVE_PROB = 0.2, 0.03, 0.1
"""Of an impression, of an impression, and of a follow: that it comes."""
_OWN_FOLLOWS = 5
"""Of viewers who found the creator without an impression, in each step."""


@dataclass
class _Shown:
    """Impressions of a step, DECISION[n], whose clicks and follows come with the next one, and when they were seen."""

    decisions: np.ndarray = field(default_factory=lambda: np.zeros(0, DECISION))
    at_ms: int = 0


class Day:
    """Steps of a day at an engine in this process."""

    def __init__(self, services: Services, seed: int) -> None:
        self.services = services
        self._rng = np.random.default_rng(seed)
        assert isinstance(services.clock, VirtualClock)
        self._clock = services.clock
        made_at_ms = services.clock.wall_ms()
        self.feed = EngineTransport(services, services.access.create_token(Role.FEED, 0, made_at_ms))
        self.operator = EngineTransport(services, services.access.create_token(Role.OPERATOR, 0, made_at_ms))
        self._shown = _Shown()

    def go_round(self) -> None:
        """All that is periodic, once."""
        self.services.bank.tick()
        self.services.follow()
        self.services.steer()

    def step(self, to_ms: int) -> None:
        """Let time pass; then one request of bids, all of them shown, and what the viewers of the last one did."""
        self._clock.advance_to(to_ms)
        self.services.bank.tick()
        ids = self._rng.choice(VIEWERS, VIEWERS_PER_REQUEST, replace=False) + 1
        request = bidding_pb2.BidRequest(
            id="past",
            at=bidding_pb2.AUCTION_TYPE_SECOND_PRICE,
            viewers=bidding_pb2.Viewers(
                ids=ids.tolist(),
                regions=self._rng.integers(0, 30, len(ids)).tolist(),
                age_bands=self._rng.integers(0, 6, len(ids)).tolist(),
                genders=self._rng.integers(0, 3, len(ids)).tolist(),
            ),
        )
        answer = self.feed.call("Bidding/Bid", request, bidding_pb2.BidResponse)
        decisions = np.frombuffer(answer.tokens, DECISION)
        self._report(decisions, to_ms)
        self._shown = _Shown(decisions, to_ms)
        self.go_round()

    def _report(self, billed: np.ndarray, now_ms: int) -> None:
        """Tell of new impressions, and of what viewers did about those of the step before."""
        draw = self._rng.random((3, len(self._shown.decisions)))
        clicked = self._shown.decisions[draw[0] < CLICK_PROB]
        followed = self._shown.decisions[draw[1] < FOLLOW_PROB]
        left = self._shown.decisions[(draw[1] < FOLLOW_PROB) & (draw[2] < LEAVE_PROB)]
        parts = [
            (OutcomeKind.BILLABLE, billed),
            (OutcomeKind.CLICK, clicked),
            (OutcomeKind.FOLLOW, followed),
            (OutcomeKind.UNFOLLOW, left),
        ]
        kinds = [int(kind) for kind, decisions in parts for _ in range(len(decisions))]
        floors = billed["floor_micros"]
        prices = np.concatenate([floors + (BID_MICROS - floors) // 2, np.zeros(len(kinds) - len(billed), np.int64)])
        at_ms = np.full(len(kinds), now_ms)
        if len(self._shown.decisions):
            most_ms = min(now_ms - self._shown.at_ms, MS_PER_MINUTE)
            at_ms[len(billed) :] = self._shown.at_ms + self._rng.integers(0, most_ms + 1, len(at_ms) - len(billed))
        request = bidding_pb2.ReportRequest(
            kinds=kinds,
            tokens=b"".join(decisions.tobytes() for _, decisions in parts),
            prices_micros=prices.tolist(),
            occurred_at_ms=at_ms.tolist(),
        )
        answer = self.feed.call("Bidding/Report", request, bidding_pb2.ReportResponse)
        refused = set(answer.statuses) - {RowStatus.ACCEPTED, RowStatus.DUPLICATE}
        if refused:
            raise RuntimeError(f"rows of this past were refused: {sorted(refused)}")
        own = bidding_pb2.ReportRequest(
            kinds=[OutcomeKind.FOLLOW] * _OWN_FOLLOWS,
            viewer_ids=(self._rng.integers(1, VIEWERS, _OWN_FOLLOWS)).tolist(),
            creator_ids=(self._rng.integers(1, CAMPAIGNS, _OWN_FOLLOWS)).tolist(),
        )
        self.feed.call("Bidding/Report", own, bidding_pb2.ReportResponse)


def leave_past(folder: Path, rows: int, end_at_ms: int, seed: int, advance: Callable[[float], None]) -> int:
    """Fill `folder` with a day that ended at `end_at_ms` and has at least so many ledger rows, as a crash leaves it.

    0 rows: the campaigns and their budgets, and no traffic. `advance` is told of new rows.

    Returns:
        Rows in the ledger.
    """
    live = folder.with_name(f"{folder.name}.live")
    start_at_ms = end_at_ms - MS_PER_DAY
    config = ServeConfig(
        data=live, virtual_clock=start_at_ms, policy="fixed", fixed_bid_micros=BID_MICROS, calls_per_s=0
    )
    services = build_services(config)
    try:
        day = Day(services, seed)
        for number in range(1, CAMPAIGNS + 1):
            create_campaign(day.operator, number, _CAPS)
        day.go_round()
        expected = VIEWERS_PER_REQUEST * (1 + CLICK_PROB + FOLLOW_PROB)
        done = services.ledger.last_sequence
        while done < rows:
            if rows - done <= expected:
                services.save()  # what comes with the last step, a restart finds in the ledger alone
            share = min(1.0, (done + expected) / rows)
            day.step(max(services.clock.wall_ms() + 1, start_at_ms + int(share * MS_PER_DAY)))
            advance(services.ledger.last_sequence - done)
            done = services.ledger.last_sequence
        shutil.copytree(live, folder)
        return services.ledger.last_sequence
    finally:
        services.close()
        shutil.rmtree(live)
