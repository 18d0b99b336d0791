"""A tiny engine that knows the truth: answers a market's calls by true probabilities and keeps exact budgets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.market.behaviour import KIND_OF_GOAL, Behaviour, Context
from benchmarks.market.campaigns import audience_rows
from benchmarks.market.run import Market
from benchmarks.market.traffic import local_hour
from pacing.facts import TOKEN_BYTES, Goal, OutcomeKind, RowStatus
from protos import audience_pb2, bidding_pb2, campaigns_pb2

TOKEN = np.dtype([("campaign_id", "<u8"), ("sequence", "<u8"), ("bid_micros", "<i8"), ("rest", "V168")])
assert TOKEN.itemsize == TOKEN_BYTES


@dataclass
class TruthBidder:
    """Bids alpha times the true probability while a campaign has money. Implements both roles' transport."""

    market: Market
    alphas_micros: np.ndarray
    now_ms: int = 0
    sequence: int = 0
    viewers_put: int = 0
    follows_put: int = 0
    campaigns: list[campaigns_pb2.Campaign] = field(default_factory=list)
    reports: dict[int, campaigns_pb2.CampaignReport] = field(default_factory=dict)
    billed: set[int] = field(default_factory=set)
    closed: list[tuple[int, int]] = field(default_factory=list)
    rows_by_kind: dict[int, int] = field(default_factory=dict)
    occurred_at_ms: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.now_ms = self.market.spec.start_at_ms
        self._behaviour: Behaviour = self.market.behaviour
        world = self.market.world
        self._row_of = {int(viewer_id): row for row, viewer_id in enumerate(world.viewers.ids)}
        self._wanted = np.stack([audience_rows(world, c) for c in self.market.campaigns], axis=1)

    def call(self, method: str, request: Any, response_class: type[Any]) -> Any:
        answers = {
            "Audience/PutViewers": self._put_viewers,
            "Audience/PutFollows": self._put_follows,
            "Campaigns/CreateCampaign": self._create,
            "Campaigns/GetReport": lambda r: self.reports[r.campaign_id],
            "Simulation/Advance": self._advance,
            "Bidding/Bid": self._bid,
            "Bidding/Report": self._report,
        }
        answer = answers[method](request)
        assert isinstance(answer, response_class)
        return answer

    def _put_viewers(self, request: Any) -> Any:
        assert len(request.viewers.ids) <= 8_000
        assert len(request.viewers.regions) == len(request.viewers.interest_masks) == len(request.viewers.ids)
        self.viewers_put += len(request.viewers.ids)
        return audience_pb2.PutViewersResponse(known_viewers=self.viewers_put)

    def _put_follows(self, request: Any) -> Any:
        assert len(request.follower_ids) == len(request.followed_ids) <= 50_000
        self.follows_put += len(request.follower_ids)
        return audience_pb2.PutFollowsResponse(follows=self.follows_put)

    def _create(self, request: Any) -> Any:
        created = request.campaign
        created.campaign_id = 100 + len(self.campaigns)
        self.campaigns.append(created)
        self.reports[created.campaign_id] = campaigns_pb2.CampaignReport(campaign_id=created.campaign_id)
        return created

    def _advance(self, request: Any) -> Any:
        assert request.to_ms >= self.now_ms
        self.now_ms = request.to_ms
        return bidding_pb2.AdvanceResponse(now_ms=self.now_ms)

    def _bid(self, request: Any) -> Any:
        rows = np.array([self._row_of[i] for i in request.viewers.ids])
        floors = np.array(request.viewers.bidfloors_micros)
        context = Context(local_hour(self.now_ms), request.placement, request.content_category)
        values = np.zeros((len(rows), len(self.campaigns)))
        for k, campaign in enumerate(self.market.campaigns):
            creators = np.full(len(rows), campaign.creator_row)
            kind = KIND_OF_GOAL[campaign.goal]
            spent = self.reports[self.campaigns[k].campaign_id].total.spend_micros
            affords = campaign.daily_budget_micros - spent > 60_000_000 // 256
            chance = self._behaviour.probability(kind, rows, creators, campaign.qualities[0], context)
            values[:, k] = chance * self._wanted[rows, k] * self.alphas_micros[k] * affords
        best = values.argmax(axis=1)
        bids = values[np.arange(len(rows)), best].astype(np.int64)
        chosen = np.flatnonzero((bids >= floors) & (bids > 0))
        tokens = np.zeros(len(chosen), TOKEN)
        tokens["campaign_id"] = [self.campaigns[k].campaign_id for k in best[chosen]]
        tokens["sequence"] = self.sequence + np.arange(len(chosen))
        tokens["bid_micros"] = bids[chosen]
        self.sequence += len(chosen)
        nbr = np.full(len(rows), 502)
        nbr[chosen] = 0
        return bidding_pb2.BidResponse(
            id=request.id,
            viewer_idx=chosen.tolist(),
            campaign_ids=tokens["campaign_id"].tolist(),
            creator_ids=[self.campaigns[k].creator_id for k in best[chosen]],
            creative_ids=[self.market.campaigns[k].creative_ids[0] for k in best[chosen]],
            prices_micros=bids[chosen].tolist(),
            floors_micros=floors[chosen].tolist(),
            tokens=tokens.tobytes(),
            nbr=nbr.tolist(),
            hold_first_seq=self.sequence - len(chosen),
            hold_count=len(chosen),
        )

    def _report(self, request: Any) -> Any:
        tokens = np.frombuffer(request.tokens, TOKEN)
        assert len(tokens) in (0, len(request.kinds))
        statuses = []
        for i, kind in enumerate(request.kinds):
            self.rows_by_kind[kind] = self.rows_by_kind.get(kind, 0) + 1
            if request.occurred_at_ms:
                assert request.occurred_at_ms[i] <= self.now_ms
                self.occurred_at_ms.append(request.occurred_at_ms[i])
            statuses.append(self._take(kind, tokens[i], request.prices_micros[i]))
        self.closed += zip(request.closed_hold_first_seqs, request.closed_hold_counts, strict=True)
        return bidding_pb2.ReportResponse(statuses=statuses)

    def _take(self, kind: int, token: Any, clearing_micros: int) -> int:
        campaign_id = int(token["campaign_id"])
        if campaign_id == 0:
            assert kind in (OutcomeKind.FOLLOW, OutcomeKind.UNFOLLOW)
            return RowStatus.ACCEPTED
        total = self.reports[campaign_id].total
        if kind == OutcomeKind.BILLABLE:
            assert 0 <= clearing_micros <= token["bid_micros"]
            if int(token["sequence"]) in self.billed:
                return RowStatus.DUPLICATE
            self.billed.add(int(token["sequence"]))
            total.spend_micros += int(clearing_micros)
            total.impressions += 1
        goal = Goal(self.campaigns[campaign_id - 100].goal)
        if kind == KIND_OF_GOAL[goal]:
            total.goal_events += 1
        return RowStatus.ACCEPTED
