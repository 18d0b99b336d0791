"""The `Bidding` service: bytes in, bytes out."""

from __future__ import annotations

import threading

import grpc
import numpy as np

from auction.bid.caps.table import FrequencyCaps
from auction.bid.engine import BidAnswer, BidEngine, UnknownCampaign
from auction.bid.keyring import KeyRing
from auction.bid.outcomes import ReportBatch, encode_report_response, feedback_of, parse_report
from auction.bid.request import BidBatch, parse_bid_request
from auction.bid.wire import encode
from auction.campaigns.access import Principal
from auction.rpc_service import UnaryCall
from auction.status import Refused
from pacing.budget.bank import Bank
from pacing.clocks import Clock
from pacing.facts import OutcomeKind, RowStatus
from pacing.ledger.log import Ledger

MAX_PENDING_FEEDBACK = 1_000
"""Reports whose lessons wait for the next control tick; beyond, the oldest are forgotten: feedback is best effort."""


class FeedbackQueue:
    """Lessons of reports, from the threads that take them to the control loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._parts: list[np.ndarray] = []

    def put(self, feedback: np.ndarray) -> None:
        """Add FEEDBACK rows."""
        with self._lock:
            self._parts.append(feedback)
            if len(self._parts) > MAX_PENDING_FEEDBACK:
                del self._parts[0]

    def take(self) -> list[np.ndarray]:
        """All that waits, oldest first."""
        with self._lock:
            parts, self._parts = self._parts, []
        return parts


class BiddingService:
    """Answers `Bid` and `Report`. Any thread may call."""

    def __init__(
        self,
        engine: BidEngine,
        bank: Bank,
        ledger: Ledger,
        caps: FrequencyCaps,
        keys: KeyRing,
        feedback: FeedbackQueue,
        clock: Clock,
        currency: str,
    ) -> None:
        self._engine = engine
        self._bank = bank
        self._ledger = ledger
        self._caps = caps
        self._keys = keys
        self._feedback = feedback
        self._clock = clock
        self._currency = currency
        self.calls: dict[str, UnaryCall] = {"Bid": self.bid, "Report": self.report}

    def bid(self, raw: bytes, _: Principal) -> bytes:
        """Bids for the viewers of a BidRequest."""
        request = parse_bid_request(raw, self._currency)
        try:
            answer = self._engine.bid(request)
        except UnknownCampaign as unknown:
            raise Refused(grpc.StatusCode.NOT_FOUND, str(unknown), "predictions.campaign_ids") from None
        return self._encode_bids(request, answer)

    def report(self, raw: bytes, _: Principal) -> bytes:
        """Take a ReportRequest: charges and conversions are durable when this returns."""
        batch = parse_report(raw, self._keys.current, self._clock.wall_ms())
        sound = batch.statuses == 0
        if sound.any():
            batch.statuses[sound] = self._bank.report(batch.rows[sound])
            batch.explain_conflicts()
            self._learn(batch)
        if len(batch.closed_first_seqs):
            self._bank.close_responses(batch.closed_first_seqs, batch.closed_counts)
        return encode_report_response(batch, self._ledger.last_sequence)

    def _learn(self, batch: ReportBatch) -> None:
        accepted = batch.rows[batch.statuses == RowStatus.ACCEPTED]
        kinds, now_ms = accepted["kind"], self._clock.wall_ms()
        won = accepted[kinds == OutcomeKind.WIN]
        if len(won):
            self._caps.won(won["viewer_id"].copy(), won["creator_id"].copy(), now_ms)
        decided = accepted[(kinds == OutcomeKind.BILLABLE) | (kinds == OutcomeKind.LOSS)]
        if len(decided):
            shown = decided["kind"] == OutcomeKind.BILLABLE
            self._caps.decided(decided["viewer_id"].copy(), decided["creator_id"].copy(), shown, now_ms)
        feedback = feedback_of(batch)
        if len(feedback):
            self._feedback.put(feedback)

    def _encode_bids(self, request: BidBatch, answer: BidAnswer) -> bytes:
        decisions = answer.decisions
        settings = self._bank.settings
        return encode(
            "BidResponse",
            {
                "id": request.request_id,
                "tokens": decisions.tobytes(),
                "hold_first_seq": answer.hold_first_seq,
                "hold_count": answer.hold_count,
                "served_at_ms": answer.served_at_ms,
                "win_notice_ms": settings.win_notice_ms,
                "billing_ms": settings.billing_ms,
                "snapshot_version": answer.snapshot_version,
            },
            {
                "viewer_idx": answer.viewer_idx,
                "campaign_ids": decisions["campaign_id"],
                "creator_ids": decisions["creator_id"],
                "creative_ids": decisions["creative_id"],
                "prices_micros": decisions["bid_micros"],
                "floors_micros": decisions["floor_micros"],
                "nbr": answer.nbr,
            },
        )
