"""The bid engine: one request in, holds placed, signed bids out."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np

from auction.bid.caps.table import FrequencyCaps
from auction.bid.columns import RANKED_CANDIDATES, BatchColumns, ScoreColumns
from auction.bid.kernels import chosen_features, score_batch
from auction.bid.keyring import KeyRing
from auction.bid.nobid import NBR_BUDGET, NBR_HOLDS_FULL
from auction.bid.request import BidBatch
from auction.bid.snapshot import Snapshot
from auction.bid.token import sign_batch
from auction.landscape.landscape import landscape_idx
from pacing.budget.bank import Bank
from pacing.clocks import Clock
from pacing.days import local_hour
from pacing.facts import (
    DECISION,
    EARLIER_SHIFT,
    FLAG_CALLER_PREDICTION,
    FLAG_FLAT_WORTH,
    FLAG_TIER_UPLIFT,
    MAX_FEATURES,
    TOKEN_VERSION,
    AuctionType,
)
from targeting.attributes import STORED_DIMENSION_COUNT, Dimension
from targeting.expressions import NO_ADS_SEGMENT
from targeting.segments.memberships import with_more
from targeting.segments.store import SegmentStore
from targeting.viewers import ViewerTable

_REFUSED_BUDGET = -1
_REFUSED_FULL = -2
NEVER_KNOWN = 0


class UnknownCampaign(LookupError):
    """A prediction names a campaign that never existed."""


@dataclass(frozen=True, slots=True)
class BidAnswer:
    """The bids of one request: m rows, ordered by viewer, best first within one.

    Attributes:
        decisions: DECISION[m], signed.
        viewer_idx: u4[m].
        nbr: i4[n], 0 where there is a bid.
    """

    decisions: np.ndarray
    viewer_idx: np.ndarray
    nbr: np.ndarray
    hold_first_seq: int
    hold_count: int
    served_at_ms: int
    snapshot_version: int


class _Scratch(threading.local):
    """Each thread's buffers, made anew when a request or a snapshot outgrows them."""

    def __init__(self) -> None:
        self.out: ScoreColumns | None = None

    def columns(self, snapshot: Snapshot, n: int) -> ScoreColumns:
        campaigns, words = len(snapshot.campaigns.campaign_ids), snapshot.index.scratch_words
        eligible, expected, _, rises = snapshot.supply.mine()
        out = self.out
        if (
            out is None
            or len(out.out_nbr) < n
            or len(out.matched) <= campaigns
            or len(out.scratch) < words
            or len(out.marks) < snapshot.mark_count
        ):
            shape = (n, RANKED_CANDIDATES)
            out = ScoreColumns(
                np.empty(shape, np.int32),
                np.empty(shape, np.float64),
                np.empty(shape, np.uint8),
                np.empty(shape, np.uint8),
                np.empty(shape, np.float64),
                np.empty(shape, np.float64),
                np.empty(shape, np.int64),
                np.empty(n, np.int32),
                eligible,
                expected,
                rises,
                np.empty(campaigns + 1, np.int32),
                np.empty(campaigns + 1, np.float64),
                np.empty(campaigns + 1, np.float64),
                np.zeros(snapshot.mark_count, np.uint8),
                np.empty(words, np.uint64),
            )
            self.out = out
        return out._replace(
            out_campaign_idx=out.out_campaign_idx[:n],
            out_nbr=out.out_nbr[:n],
            out_eligible=eligible,
            out_expected=expected,
            out_rises=rises,
        )


class BidEngine:
    """Answers bid requests from the present snapshot. Any number of threads may call `bid`."""

    def __init__(
        self,
        viewers: ViewerTable,
        segments: SegmentStore,
        bank: Bank,
        caps: FrequencyCaps,
        keys: KeyRing,
        clock: Clock,
        zone: str,
    ) -> None:
        self._viewers = viewers
        self._segments = segments
        self._no_ads_segment = segments.segment_idx(NO_ADS_SEGMENT)
        self._bank = bank
        self._caps = caps
        self._keys = keys
        self._clock = clock
        self._zone = zone
        self._scratch = _Scratch()
        self.snapshot: Snapshot | None = None

    def bid(self, request: BidBatch) -> BidAnswer:
        """Score, hold and sign.

        Raises:
            UnknownCampaign: a prediction names a campaign that never existed.
        """
        snapshot = self.snapshot
        assert snapshot is not None, "a snapshot is published before the server answers"
        now_ms = self._clock.wall_ms()
        batch = self._resolve(request, snapshot, now_ms)
        out = self._scratch.columns(snapshot, request.size)
        score_batch(
            snapshot.index, snapshot.campaigns, snapshot.model, snapshot.landscape, self._caps.table, batch, out
        )
        return self._decide(request, snapshot, batch, out, now_ms)

    def _resolve(self, request: BidBatch, snapshot: Snapshot, now_ms: int) -> BatchColumns:
        """Fill in what is known of the viewers; what the request says of them wins."""
        table = self._viewers
        rows = table.rows_of(request.viewer_ids)
        known = rows >= 0
        safe_rows = np.where(known, rows, 0)
        dims = request.dims
        missing = dims[:, :STORED_DIMENSION_COUNT] < 0
        if missing.any():
            stored = np.where(known[:, None], table.attributes[safe_rows], 0)
            np.copyto(dims[:, :STORED_DIMENSION_COUNT], stored, where=missing)
        masks = request.interest_masks
        if masks is None:
            masks = np.where(known, table.interest_masks[safe_rows], 0).astype(np.uint64)
        hour = local_hour(now_ms, self._zone)
        segment_ptr, segments = self._segments.current.of_rows(rows)  # ahead of the snapshot: fresh follows
        if request.brought:
            segment_ptr, segments = self._with_brought(request, segment_ptr, segments)
        return BatchColumns(
            viewer_ids=request.viewer_ids,
            dims=dims,
            interest_masks=masks,
            segment_ptr=segment_ptr,
            segments=segments,
            floors_micros=request.floors_micros,
            prediction_ptr=request.prediction_ptr,
            prediction_idx=_campaign_positions(snapshot, request.prediction_campaign_ids),
            probabilities=request.probabilities,
            blocked_creator_ids=request.blocked_creator_ids,
            landscape_idx=landscape_idx(dims[:, Dimension.PLACEMENT], dims[:, Dimension.REGION], hour),
            at=request.at,
            hour=hour,
            day=self._caps.day(now_ms),
            now_ms=now_ms,
            no_ads_segment=self._no_ads_segment,
        )

    def _with_brought(
        self, request: BidBatch, segment_ptr: np.ndarray, segments: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The viewers' segments with those that the request brings, where any audience could ask for them."""
        known = [(idx, who) for name, who in request.brought if (idx := self._segments.known_idx(name)) >= 0]
        return with_more(segment_ptr, segments, known)

    def _decide(
        self, request: BidBatch, snapshot: Snapshot, batch: BatchColumns, out: ScoreColumns, now_ms: int
    ) -> BidAnswer:
        n, wanted = request.size, request.max_bids_per_viewer
        candidates = out.out_campaign_idx
        slots = snapshot.lease_slots[candidates]
        choice = np.full((n, wanted), -1, np.int8)
        lease_ids = np.zeros((n, wanted), np.uint64)
        hold_seqs = np.zeros((n, wanted), np.uint64)
        bids = np.ascontiguousarray(out.out_bids_micros[:n])
        first_seq, count = self._bank.place_holds(slots, bids, wanted, choice, lease_ids, hold_seqs)
        nbr = out.out_nbr.copy()
        unserved = (choice[:, 0] < 0) & (candidates[:, 0] >= 0)
        nbr[unserved] = np.where(choice[unserved, 0] == _REFUSED_FULL, NBR_HOLDS_FULL, NBR_BUDGET)
        viewer_idx, place = (np.ascontiguousarray(idx) for idx in np.nonzero(choice >= 0))
        decisions = self._decisions(request, snapshot, batch, out, bids, viewer_idx, choice[viewer_idx, place], now_ms)
        decisions["lease_id"] = lease_ids[viewer_idx, place]
        decisions["hold_seq"] = hold_seqs[viewer_idx, place]
        sign_batch(decisions, self._keys.current)
        self._caps.offered(
            np.ascontiguousarray(decisions["viewer_id"]), np.ascontiguousarray(decisions["creator_id"]), now_ms
        )
        return BidAnswer(decisions, viewer_idx, nbr, first_seq, count, now_ms, snapshot.version)

    def _decisions(
        self,
        request: BidBatch,
        snapshot: Snapshot,
        batch: BatchColumns,
        out: ScoreColumns,
        bids: np.ndarray,
        viewer_idx: np.ndarray,
        rank: np.ndarray,
        now_ms: int,
    ) -> np.ndarray:
        """The unsigned decisions of the chosen candidates: viewer i's candidate of this rank."""
        campaign_idx = out.out_campaign_idx[viewer_idx, rank]
        campaigns = snapshot.campaigns
        decisions = np.zeros(len(viewer_idx), DECISION)
        decisions["version"] = TOKEN_VERSION
        decisions["at"] = request.at
        decisions["goal"] = snapshot.goals[campaign_idx]
        decisions["feature_count"] = MAX_FEATURES
        base = campaigns.base_micros[campaign_idx]
        decisions["flags"] = np.where(out.out_caller[viewer_idx, rank] == 1, FLAG_CALLER_PREDICTION, 0)
        decisions["flags"] |= np.where(base != 0.0, FLAG_FLAT_WORTH, 0).astype(np.uint8)
        decisions["flags"] |= out.out_earlier[viewer_idx, rank] << EARLIER_SHIFT
        if len(campaigns.uplifts):
            by_viewer = campaigns.uplifts[campaign_idx, 1] > 0.0
            decisions["flags"] |= np.where(by_viewer, FLAG_TIER_UPLIFT, 0).astype(np.uint8)
        decisions["campaign_id"] = campaigns.campaign_ids[campaign_idx]
        decisions["creative_id"] = snapshot.creative_ids[campaign_idx]
        decisions["creator_id"] = campaigns.creator_ids[campaign_idx]
        decisions["viewer_id"] = request.viewer_ids[viewer_idx]
        decisions["bid_micros"] = bids[viewer_idx, rank]
        decisions["floor_micros"] = _clearing_floors(request, bids, viewer_idx, rank)
        decisions["issued_at_ms"] = now_ms
        decisions["win_notice_ms"] = self._bank.settings.win_notice_ms
        decisions["billing_ms"] = self._bank.settings.billing_ms
        decisions["snapshot_version"] = snapshot.version
        decisions["alpha_micros"] = np.where(base != 0.0, base, out.out_alphas_micros[viewer_idx, rank])
        decisions["probability"] = out.out_probabilities[viewer_idx, rank]
        decisions["landscape_idx"] = batch.landscape_idx[viewer_idx]
        features = np.empty((len(viewer_idx), MAX_FEATURES), np.uint32)
        chosen_features(campaigns, snapshot.model, batch, viewer_idx, campaign_idx, features)
        decisions["features"] = features
        made = snapshot.supply.mine()[2]
        np.add.at(made, campaign_idx, 1)
        return decisions


def _campaign_positions(snapshot: Snapshot, campaign_ids: np.ndarray) -> np.ndarray:
    """campaign_idx of each id, -1 for one that is not active.

    Raises:
        UnknownCampaign: an id never existed.
    """
    if not len(campaign_ids):
        return np.zeros(0, np.int32)
    active = snapshot.campaigns.campaign_ids
    rank = np.searchsorted(active, campaign_ids, sorter=snapshot.id_order)
    found, place = np.zeros(len(campaign_ids), np.bool_), np.zeros(len(campaign_ids), np.int64)
    inside = rank < len(active)
    place[inside] = snapshot.id_order[rank[inside]]
    found[inside] = active[place[inside]] == campaign_ids[inside]
    strange = ~found & ~np.isin(campaign_ids, snapshot.known_campaign_ids)
    if strange.any():
        raise UnknownCampaign(f"predictions.campaign_ids {int(campaign_ids[np.argmax(strange)])}: no such campaign")
    return np.where(found, place, -1).astype(np.int32)


def _clearing_floors(request: BidBatch, bids: np.ndarray, viewer_idx: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """What each bid clears at, at the least: the floor, and in second price the engine's own next bid."""
    floors = request.floors_micros[viewer_idx]
    if request.at != AuctionType.SECOND_PRICE:
        return floors
    after = np.minimum(rank.astype(np.int64) + 1, bids.shape[1] - 1)
    runner_up = np.where(rank + 1 < bids.shape[1], bids[viewer_idx, after], 0)
    return np.maximum(floors, runner_up)
