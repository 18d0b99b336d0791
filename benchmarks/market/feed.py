"""The platform's feed server: offers slots, clears them against other demand, and reports what became of every bid.

Time is virtual and belongs to the caller: `offer` and `flush` are called with the engine's clock standing at the
instants they name, one call outstanding at a time.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from benchmarks.market.behaviour import KIND_OF_GOAL, KINDS, Behaviour, draw_delays_ms, draw_unfollow_delays_ms
from benchmarks.market.campaigns import MarketCampaign
from benchmarks.market.tally import Tally
from benchmarks.market.traffic import SlotRequest
from benchmarks.market.world import World
from benchmarks.transport import Transport
from fanbridge.events import FAN_CHANGE, Tier
from pacing.clocks import MS_PER_DAY
from pacing.facts import TOKEN_BYTES, AuctionType, OutcomeKind, RowStatus
from protos import bidding_pb2

SHOWN_SHARE = 0.97
"""Of won slots: how many are seen. The others stay silent, and their holds run out."""
CLOSED_SHARE = 0.99
"""Of responses: how many are closed at once. The others' losing bids stay silent too."""
TOKENLESS_FOLLOW_SHARE = 0.3
ORGANIC_FOLLOWS_PER_REQUEST = 0.12
MAX_REPORT_ROWS = 4_000
LOST_TO_HIGHER_BID = 102
_NO_TOKEN = bytes(TOKEN_BYTES)
_FOLLOW_COLUMN = KINDS.index(OutcomeKind.FOLLOW)


class _Event(NamedTuple):
    """Something that is to be reported once its time has come; ordered by time, then by when it was drawn."""

    at_ms: int
    order: int
    kind: int
    token: bytes
    paid_micros: int
    viewer_row: int
    creator_row: int
    campaign: int  # position; -1: none


@dataclass(frozen=True, slots=True)
class _Won:
    """What of one response was won, a column per field: k bids."""

    campaign: np.ndarray
    quality: np.ndarray
    slot: np.ndarray
    viewer_row: np.ndarray
    creator_row: np.ndarray
    paid_micros: np.ndarray
    tokens: np.ndarray


class FeedServer:
    """One platform's slots and viewers, and the engine's outside view of them. One thread calls it.

    Args:
        feed: calls the engine as a feed server.
        campaign_ids: the engine's ids of `campaigns`.
    """

    def __init__(
        self,
        world: World,
        behaviour: Behaviour,
        campaigns: Sequence[MarketCampaign],
        campaign_ids: Sequence[int],
        feed: Transport,
        day: int = 0,
        fan_day_ms: int = MS_PER_DAY,
        tells_unfollows: bool = True,
        tells_tiers: bool = False,
    ) -> None:
        """See slots of `day` until `begin_day`; a fan's day may be shorter, and its losses never be told. With
        `tells_tiers`, tiers of new fans are there for `take_tiers`, as a fan service would have them."""
        self._world, self._behaviour, self._campaigns, self.feed, self._day = world, behaviour, campaigns, feed, day
        self._fan_day_ms, self._tells_unfollows, self._tells_tiers = fan_day_ms, tells_unfollows, tells_tiers
        self._tiers: list[tuple[int, int, int, Tier]] = []  # instant, viewer row, creator row
        self._position = {campaign_id: k for k, campaign_id in enumerate(campaign_ids)}
        self._quality = {i: q for c in campaigns for i, q in zip(c.creative_ids, c.qualities, strict=True)}
        self._creator_row_of = np.array([campaign.creator_row for campaign in campaigns], np.int64)
        self._goal_column = np.array([KINDS.index(KIND_OF_GOAL[campaign.goal]) for campaign in campaigns])
        self._follows = world.fans.copy()
        self._exposures = np.zeros(world.fans.shape, np.uint8)
        self._events: list[_Event] = []
        self._order = 0
        self._new_follows: list[tuple[int, int]] = []
        self.tally = Tally(len(campaigns))

    def begin_day(self, day: int) -> None:
        """Go on with the slots of another day, on which nobody has seen anything yet."""
        self._day = day
        self._exposures[:] = 0

    def next_event_at_ms(self) -> int | None:
        """When the next event is due to be reported, if there is one."""
        return self._events[0].at_ms if self._events else None

    def take_new_follows(self) -> tuple[np.ndarray, np.ndarray]:
        """Follows reported since the last call: viewer ids and creator ids, u8[k]."""
        pairs = np.array(self._new_follows, np.int64).reshape(-1, 2)
        self._new_follows = []
        return self._world.viewers.ids[pairs[:, 0]], self._world.creators.ids[pairs[:, 1]]

    def take_tiers(self, now_ms: int) -> np.ndarray:
        """What fans became up to now and was not taken before: FAN_CHANGE[n], oldest first."""
        due = []
        while self._tiers and self._tiers[0][0] <= now_ms:
            due.append(heapq.heappop(self._tiers))
        rows = np.zeros(len(due), FAN_CHANGE)
        if due:
            rows["changed_at_ms"], viewers, creators, rows["tier"] = np.array(due, np.int64).T
            rows["viewer_id"], rows["creator_id"] = self._world.viewers.ids[viewers], self._world.creators.ids[creators]
        return rows

    def offer(self, request: SlotRequest) -> None:
        """Ask for bids for the request's slots, clear them, and report wins and losses."""
        response = self.feed.call("Bidding/Bid", self._message(request), bidding_pb2.BidResponse)
        self.tally.requests += 1
        self.tally.slots += len(request.viewer_rows)
        self.tally.count_no_bids(np.array(response.nbr, np.int64))
        rng = np.random.default_rng([self._world.seed, 5, self._day + 1_000, request.number])
        # Drawn for every slot, whatever is won, so that policies meet the same luck.
        uniforms = rng.random((len(request.viewer_rows), len(KINDS) + 2))
        closes = rng.random() < CLOSED_SHARE
        won = self._clear(request, response, closes)
        if len(won.slot):
            self._show(request, won, uniforms, rng)
        self._draw_organic_follows(request, rng)

    def _message(self, request: SlotRequest) -> bidding_pb2.BidRequest:
        viewers, rows = self._world.viewers, request.viewer_rows
        at: Any = int(request.at)
        return bidding_pb2.BidRequest(
            id=f"d{self._day}-{request.number}",
            at=at,
            placement=request.context.placement,
            content_category=request.context.content_category,
            bidfloor_micros=int(request.floors_micros.min()),
            viewers=bidding_pb2.Viewers(
                ids=viewers.ids[rows].tolist(),
                bidfloors_micros=request.floors_micros.tolist(),
                networks=viewers.networks[rows].tolist(),
            ),
        )

    def _clear(self, request: SlotRequest, response: bidding_pb2.BidResponse, closes: bool) -> _Won:
        """Decide each slot and report wins and losses; answers with what was won."""
        slot = np.array(response.viewer_idx, np.int64)
        bids = np.array(response.prices_micros, np.int64)
        floors = np.array(response.floors_micros, np.int64)
        campaign = np.array([self._position[i] for i in response.campaign_ids], np.int64)
        tokens = np.frombuffer(response.tokens, np.uint8).reshape(len(slot), TOKEN_BYTES)
        rivals, reserves = request.rivals_micros[slot], request.floors_micros[slot]
        won = (bids > rivals) & (bids >= floors)
        paid = bids if request.at is AuctionType.FIRST_PRICE else np.maximum(rivals, floors)
        least = np.maximum(rivals + 1, reserves)
        self.tally.bids += np.bincount(campaign, minlength=len(self._campaigns))
        self.tally.wins += np.bincount(campaign[won], minlength=len(self._campaigns))
        report = bidding_pb2.ReportRequest(
            closed_hold_first_seqs=[response.hold_first_seq] if response.hold_count and closes else [],
            closed_hold_counts=[response.hold_count] if response.hold_count and closes else [],
        )
        told = won | closes
        if told.any():
            report.kinds.extend(np.where(won, int(OutcomeKind.WIN), int(OutcomeKind.LOSS))[told].tolist())
            report.tokens = tokens[told].tobytes()
            report.prices_micros.extend(np.where(won, paid, 0)[told].tolist())
            report.min_bids_to_win_micros.extend(least[told].tolist())
            report.loss_reasons.extend(np.where(won, 0, LOST_TO_HIGHER_BID)[told].tolist())
        if told.any() or report.closed_hold_counts:
            self._report(report)
        qualities = np.array([self._quality[i] for i in response.creative_ids])
        return _Won(
            campaign=campaign[won],
            quality=qualities[won],
            slot=slot[won],
            viewer_row=request.viewer_rows[slot[won]],
            creator_row=self._creator_row_of[campaign[won]],
            paid_micros=paid[won],
            tokens=tokens[won],
        )

    def _report(self, report: bidding_pb2.ReportRequest) -> np.ndarray:
        """Send a report; answers with its statuses, u1[n]."""
        response = self.feed.call("Bidding/Report", report, bidding_pb2.ReportResponse)
        statuses = np.array(response.statuses, np.int64)
        self.tally.count_statuses(np.array(report.kinds, np.int64), statuses)
        return statuses

    def _show(self, request: SlotRequest, won: _Won, uniforms: np.ndarray, rng: np.random.Generator) -> None:
        """Draw which wins are seen and what those viewers do, and queue the events."""
        drawn = uniforms[won.slot]
        seen = np.flatnonzero(drawn[:, -1] < SHOWN_SHARE)
        at_ms = request.at_ms + 500 + (drawn[:, -2] * 7_500).astype(np.int64)
        for i in seen.tolist():
            self._queue(int(at_ms[i]), OutcomeKind.BILLABLE, won, i, int(won.paid_micros[i]))
        viewers, creators = won.viewer_row[seen], won.creator_row[seen]
        earlier = self._exposures[viewers, creators]
        chances = np.stack(
            [
                self._behaviour.probability(kind, viewers, creators, won.quality[seen], request.context, earlier)
                for kind in KINDS
            ],
            axis=1,
        )
        chances[self._follows[viewers, creators], _FOLLOW_COLUMN] = 0.0
        self._exposures[viewers, creators] = np.minimum(earlier, 254) + 1
        happens = drawn[seen, : len(KINDS)] < chances
        count = len(self._campaigns)
        goal = self._goal_column[won.campaign[seen]], np.arange(len(seen))
        self.tally.expected_events += np.bincount(won.campaign[seen], chances[goal[1], goal[0]], count)
        self.tally.true_events += np.bincount(won.campaign[seen], happens[goal[1], goal[0]], count).astype(np.int64)
        kept = chances[:, _FOLLOW_COLUMN] * self._behaviour.kept_probability(viewers, creators)
        self.tally.expected_kept += np.bincount(won.campaign[seen], kept, count)
        high = kept * self._behaviour.high_probability(viewers, creators)
        self.tally.expected_high += np.bincount(won.campaign[seen], high, count)
        for column, kind in enumerate(KINDS):
            who = seen[happens[:, column]]
            happens_at_ms = at_ms[who] + draw_delays_ms(kind, rng, len(who))
            if kind is OutcomeKind.FOLLOW:
                self._queue_follows(happens_at_ms, won, who, rng)
            else:
                for i, when in zip(who.tolist(), happens_at_ms.tolist(), strict=True):
                    self._queue(when, kind, won, i)

    def _queue_follows(self, at_ms: np.ndarray, won: _Won, who: np.ndarray, rng: np.random.Generator) -> None:
        viewers, creators = won.viewer_row[who], won.creator_row[who]
        self._follows[viewers, creators] = True
        tokenless = rng.random(len(who)) < TOKENLESS_FOLLOW_SHARE
        kept = self._behaviour.kept_probability(viewers, creators)
        stays = draw_unfollow_delays_ms(kept, rng, self._fan_day_ms)
        self.tally.kept_fans += np.bincount(won.campaign[who][stays < 0], minlength=len(self._campaigns))
        for k, i in enumerate(who.tolist()):
            self._queue(int(at_ms[k]), OutcomeKind.FOLLOW, won, i, with_token=not tokenless[k])
            if stays[k] >= 0 and self._tells_unfollows:
                self._queue(int(at_ms[k] + stays[k]), OutcomeKind.UNFOLLOW, won, i, with_token=False)
        rises = np.where(stays < 0, self._behaviour.rise_delays_ms(viewers, creators, self._fan_day_ms), -1)
        self.tally.high_fans += np.bincount(won.campaign[who][rises >= 0], minlength=len(self._campaigns))
        if self._tells_tiers:
            pairs = list(zip(viewers.tolist(), creators.tolist(), strict=True))
            for (viewer, creator), when, delay in zip(pairs, at_ms.tolist(), rises.tolist(), strict=True):
                heapq.heappush(self._tiers, (when, viewer, creator, Tier.POTENTIAL))
                if delay >= 0:
                    heapq.heappush(self._tiers, (when + delay, viewer, creator, Tier.HIGH_VALUE))

    def _queue(
        self, at_ms: int, kind: OutcomeKind, won: _Won, i: int, paid_micros: int = 0, with_token: bool = True
    ) -> None:
        token = won.tokens[i].tobytes() if with_token else _NO_TOKEN
        viewer, creator, campaign = int(won.viewer_row[i]), int(won.creator_row[i]), int(won.campaign[i])
        self._push(at_ms, kind, token, paid_micros, viewer, creator, campaign)

    def _push(
        self, at_ms: int, kind: int, token: bytes, paid_micros: int, viewer_row: int, creator_row: int, campaign: int
    ) -> None:
        self._order += 1
        event = _Event(at_ms, self._order, int(kind), token, paid_micros, viewer_row, creator_row, campaign)
        heapq.heappush(self._events, event)

    def _draw_organic_follows(self, request: SlotRequest, rng: np.random.Generator) -> None:
        """Now and then somebody follows a creator without any of this."""
        for _ in range(int(rng.poisson(ORGANIC_FOLLOWS_PER_REQUEST))):
            viewer = int(rng.choice(request.viewer_rows))
            creator = int(rng.integers(self._world.creators.size))
            if not self._follows[viewer, creator]:
                self._follows[viewer, creator] = True
                self.tally.organic_follows += 1
                self._push(request.at_ms + 1_000, OutcomeKind.FOLLOW, _NO_TOKEN, 0, viewer, creator, -1)

    def flush(self, now_ms: int) -> None:
        """Report every event that is due at `now_ms`, oldest first."""
        due = []
        while self._events and self._events[0].at_ms <= now_ms:
            due.append(heapq.heappop(self._events))
        for start in range(0, len(due), MAX_REPORT_ROWS):
            self._report_events(due[start : start + MAX_REPORT_ROWS])

    def _report_events(self, events: list[_Event]) -> None:
        ids, creators = self._world.viewers.ids, self._world.creators.ids
        report = bidding_pb2.ReportRequest(
            kinds=[event.kind for event in events],
            tokens=b"".join(event.token for event in events),
            prices_micros=[event.paid_micros for event in events],
            occurred_at_ms=[event.at_ms for event in events],
            viewer_ids=[int(ids[event.viewer_row]) for event in events],
            creator_ids=[int(creators[event.creator_row]) for event in events],
        )
        statuses = self._report(report)
        for event, status in zip(events, statuses.tolist(), strict=True):
            if event.kind == OutcomeKind.BILLABLE and status == RowStatus.ACCEPTED:
                self.tally.impressions[event.campaign] += 1
                self.tally.spend_micros[event.campaign] += event.paid_micros
            elif event.kind == OutcomeKind.FOLLOW:
                self._new_follows.append((event.viewer_row, event.creator_row))
