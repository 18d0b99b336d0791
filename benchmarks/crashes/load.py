"""A feed server's steady load on an engine that may die at any moment."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np

from auction.campaigns.access import Access, Role
from auction.campaigns.store import CampaignStore
from auction.campaigns.token_command import STORE_FILE
from benchmarks.crashes.told import Caps, Told, claims_of
from benchmarks.transport import GrpcTransport, Transport
from pacing.facts import DECISION, OutcomeKind, RowStatus
from protos import bidding_pb2, campaigns_pb2

VIEWERS_PER_REQUEST = 20
_ENDINGS = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
_CLICKED, _FOLLOWED = 5, 2


def make_tokens(folder: Path) -> dict[Role, str]:
    """Bearer tokens for a feed server and an operator, in a new data folder that no server has open yet."""
    folder.mkdir(parents=True)
    store = CampaignStore(folder / STORE_FILE)
    access, now_ms = Access(store), time.time_ns() // 1_000_000
    tokens = {role: access.create_token(role, 0, now_ms) for role in (Role.FEED, Role.OPERATOR)}
    store.close()
    return tokens


def create_campaign(operator: Transport, number: int, caps: Caps) -> int:
    """A campaign for everybody, of a creator of its own; its id."""
    campaign = campaigns_pb2.Campaign(
        name=f"Dance {number}", creator_id=number, goal=campaigns_pb2.GOAL_FANS,
        bid_mode=campaigns_pb2.BID_MODE_AUTOMATIC, daily_budget_micros=caps.daily_micros,
        total_budget_micros=caps.total_micros, zone="Asia/Shanghai", frequency_cap_per_day=100,
        creatives=[campaigns_pb2.Creative(creative_id=7_000 + number, title="Dance", category=3)],
    )  # fmt: skip
    request = campaigns_pb2.CreateCampaignRequest(campaign=campaign)
    return int(operator.call("Campaigns/CreateCampaign", request, campaigns_pb2.Campaign).campaign_id)


@dataclass(frozen=True, slots=True)
class Report:
    """Impressions and what their viewers did: kinds u1[n], DECISION[n], prices i8[n]."""

    kinds: np.ndarray
    decisions: np.ndarray
    prices_micros: np.ndarray

    def message(self) -> bidding_pb2.ReportRequest:
        """The rows as a request."""
        return bidding_pb2.ReportRequest(
            kinds=self.kinds.tolist(), tokens=self.decisions.tobytes(), prices_micros=self.prices_micros.tolist()
        )


@dataclass
class Feed:
    """What outlives a server: reports that it left without an answer, statuses, and the viewers seen so far."""

    told: Told
    rng: np.random.Generator
    unanswered: deque[Report] = field(default_factory=deque)
    statuses: Counter[str] = field(default_factory=Counter)
    strange: list[str] = field(default_factory=list)
    next_viewer: int = 1
    lock: threading.Lock = field(default_factory=threading.Lock)

    def viewers(self, count: int) -> tuple[range, np.ndarray]:
        """New viewers, and a draw of [0, 1) for each."""
        with self.lock:
            first, self.next_viewer = self.next_viewer, self.next_viewer + count
            return range(first, first + count), self.rng.random(count)


def send(feed: Feed, transport: GrpcTransport, report: Report, is_again: bool) -> None:
    """Report rows, and note what is acknowledged; without an answer they are kept for the next life.

    Raises:
        grpc.RpcError: there was no answer.
    """
    try:
        answer = transport.call("Bidding/Report", report.message(), bidding_pb2.ReportResponse)
    except grpc.RpcError:
        feed.unanswered.append(report)
        raise
    statuses = np.array(answer.statuses, np.uint8)
    known = statuses == RowStatus.ACCEPTED
    # A repeated row that is a duplicate is acknowledged too: it is in the ledger, under this amount.
    known |= (statuses == RowStatus.DUPLICATE) & is_again
    feed.told.acknowledge(claims_of(report.kinds, report.decisions, report.prices_micros)[known])
    with feed.lock:
        feed.statuses.update(RowStatus(status).name for status in statuses.tolist())
        wrong = statuses[~known & (statuses != RowStatus.EXPIRED)].tolist()
        feed.strange += [f"a {'repeated' if is_again else 'first'} notice was {RowStatus(x).name}" for x in wrong]


class Client(threading.Thread):
    """Asks for bids and reports WIN, then the impression with a click or follow here and there, until it gets no
    answer or is told to stop."""

    def __init__(self, feed: Feed, transport: GrpcTransport, life: int) -> None:
        super().__init__(daemon=True)
        self._feed = feed
        self._transport = transport
        self._life = life
        self.stopping = threading.Event()

    def run(self) -> None:
        """See the class."""
        try:
            while not self.stopping.is_set():
                self.go_round()
        except grpc.RpcError as error:
            if error.code() not in _ENDINGS:
                self._feed.strange.append(f"{error.code()}: {error.details()}")

    def go_round(self) -> None:
        """Bids for some viewers, and what became of them.

        Raises:
            grpc.RpcError: there was no answer.
        """
        ids, draws = self._feed.viewers(VIEWERS_PER_REQUEST)
        request = bidding_pb2.BidRequest(
            id="kills", at=bidding_pb2.AUCTION_TYPE_FIRST_PRICE, viewers=bidding_pb2.Viewers(ids=ids)
        )
        answer = self._transport.call("Bidding/Bid", request, bidding_pb2.BidResponse)
        decisions = np.frombuffer(answer.tokens, DECISION)
        if not len(decisions):
            self.stopping.wait(0.01)  # no money is free at the moment
            return
        self._feed.told.note_bids(self._life, decisions)
        floors = decisions["floor_micros"]
        prices = floors + (draws[: len(decisions)] * (decisions["bid_micros"] - floors + 1)).astype(np.int64)
        won = bidding_pb2.ReportRequest(
            kinds=[OutcomeKind.WIN] * len(decisions), tokens=answer.tokens, prices_micros=prices.tolist()
        )
        self._transport.call("Bidding/Report", won, bidding_pb2.ReportResponse)
        send(self._feed, self._transport, _seen(decisions, prices), is_again=False)


def _seen(decisions: np.ndarray, prices: np.ndarray) -> Report:
    clicked, followed = decisions[:_CLICKED], decisions[:_FOLLOWED]
    parts = (
        (OutcomeKind.BILLABLE, decisions),
        (OutcomeKind.CLICK, clicked),
        (OutcomeKind.FOLLOW, followed),
    )
    kinds = np.concatenate([np.full(len(part), kind, np.uint8) for kind, part in parts])
    amounts = np.zeros(len(kinds), np.int64)
    amounts[: len(prices)] = prices
    return Report(kinds, np.concatenate([part for _, part in parts]), amounts)
