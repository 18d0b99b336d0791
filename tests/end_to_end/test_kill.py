"""Killed at once in the middle of traffic, again and again: no acknowledged impression is lost, no budget passed."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import grpc
import pytest

from benchmarks.serving import RunningServer, start_server
from benchmarks.transport import GrpcTransport
from pacing.facts import OutcomeKind, RowStatus
from pacing.ledger.log import Ledger
from pacing.ledger.statement import statement_page
from protos import bidding_pb2, campaigns_pb2
from tests.auction.bid.engines import a_campaign, a_request, tokens_of

FLAGS = ("--no-rest", "--no-bridge", "--policy", "fixed", "--fixed-bid-micros", "20000")
ROUNDS = 3
VIEWERS_PER_REQUEST = 20
CONVERTING = 5
DAILY_MICROS, TOTAL_MICROS = 400_000_000, 500_000_000


@dataclass
class Told:
    """What the client was told about its impressions: token and amount of each."""

    accepted: list[tuple[bytes, int]] = field(default_factory=list)
    unanswered: list[tuple[bytes, int]] = field(default_factory=list)
    follows: list[bytes] = field(default_factory=list)


class Traffic(threading.Thread):
    """A feed server's client: asks for bids and reports every one of them as seen, until it gets no answer."""

    def __init__(self, feed: GrpcTransport, viewer_ids: count, told: Told) -> None:
        super().__init__(daemon=True)
        self._feed = feed
        self._viewer_ids = viewer_ids
        self._told = told
        self.reports = 0
        self.strange: list[str] = []

    def run(self) -> None:
        try:
            while True:
                self._round()
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                self.strange.append(f"{error.code()}: {error.details()}")

    def _round(self) -> None:
        ids = [next(self._viewer_ids) for _ in range(VIEWERS_PER_REQUEST)]
        tokens = tokens_of(self._feed.call("Bidding/Bid", a_request(ids), bidding_pb2.BidResponse))
        charged = [1_000 + viewer_id % 1_000 for viewer_id in ids[: len(tokens)]]
        following = tokens[:CONVERTING]
        request = bidding_pb2.ReportRequest(
            kinds=[OutcomeKind.BILLABLE] * len(tokens) + [OutcomeKind.FOLLOW] * len(following),
            tokens=b"".join([*tokens, *following]),
            prices_micros=[*charged, *([0] * len(following))],
        )
        pairs = list(zip(tokens, charged, strict=True))
        try:
            answer = self._feed.call("Bidding/Report", request, bidding_pb2.ReportResponse)
        except grpc.RpcError:
            self._told.unanswered += pairs
            raise
        if set(answer.statuses) - {RowStatus.ACCEPTED}:
            self.strange.append(str(list(answer.statuses)))
        self._told.accepted += pairs
        self._told.follows += following
        self.reports += 1


def create(server: RunningServer) -> campaigns_pb2.Campaign:
    draft = a_campaign(daily_budget_micros=DAILY_MICROS, total_budget_micros=TOTAL_MICROS)
    request = campaigns_pb2.CreateCampaignRequest(campaign=draft)
    return server.transport("operator").call("Campaigns/CreateCampaign", request, campaigns_pb2.Campaign)


def wait_for_a_bid(feed: GrpcTransport, viewer_ids: count) -> float:
    """Seconds until the server bids."""
    started_s = time.monotonic()
    while time.monotonic() - started_s < 60:
        answer = feed.call("Bidding/Bid", a_request([next(viewer_ids)]), bidding_pb2.BidResponse)
        if answer.tokens:
            return time.monotonic() - started_s
        time.sleep(0.02)
    raise AssertionError(f"no bid within a minute; reason {list(answer.nbr)}")


def report_rows(feed: GrpcTransport, rows: list[tuple[bytes, int]]) -> list[int]:
    statuses: list[int] = []
    for k in range(0, len(rows), 4_000):
        part = rows[k : k + 4_000]
        request = bidding_pb2.ReportRequest(
            kinds=[OutcomeKind.BILLABLE] * len(part),
            tokens=b"".join(token for token, _ in part),
            prices_micros=[charged for _, charged in part],
        )
        statuses += feed.call("Bidding/Report", request, bidding_pb2.ReportResponse).statuses
    return statuses


def settled_report(server: RunningServer, campaign_id: int, impressions: int) -> campaigns_pb2.CampaignReport:
    """The campaign's report once so many impressions are judged and booked."""
    request = campaigns_pb2.GetReportRequest(campaign_id=campaign_id)
    operator = server.transport("operator")
    started_s = time.monotonic()
    while time.monotonic() - started_s < 60:
        report = operator.call("Campaigns/GetReport", request, campaigns_pb2.CampaignReport)
        if report.total.impressions >= impressions:
            return report
        time.sleep(0.05)
    raise AssertionError(f"{report.total.impressions} impressions are booked, not {impressions}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("killed")


def test_kills_lose_nothing_that_was_acknowledged(folder: Path) -> None:
    told, viewer_ids = Told(), count(1)
    server = start_server(folder, *FLAGS)
    try:
        campaign = create(server)
        for _ in range(ROUNDS):
            feed = server.transport("feed")
            wait_for_a_bid(feed, viewer_ids)
            clients = [Traffic(feed, viewer_ids, told) for _ in range(2)]
            for client in clients:
                client.start()
            deadline_s = time.monotonic() + 30
            while min(client.reports for client in clients) < 15 and time.monotonic() < deadline_s:
                time.sleep(0.01)
            server.kill()
            for client in clients:
                client.join(30)
            assert [client.strange for client in clients] == [[], []]
            assert min(client.reports for client in clients) >= 15
            server.close()
            server = start_server(folder, *FLAGS)
        check_books(server, campaign.campaign_id, told, viewer_ids)
    finally:
        server.close()
    check_ledger(folder, campaign.campaign_id, told)


def check_books(server: RunningServer, campaign_id: int, told: Told, viewer_ids: count) -> None:
    feed = server.transport("feed")
    wait_for_a_bid(feed, viewer_ids)
    assert len(told.accepted) >= ROUNDS * 2 * 15 * 10
    # What was accepted is known again, down to its amount; what went unanswered was taken whole or not at all.
    assert set(report_rows(feed, told.accepted)) == {RowStatus.DUPLICATE}
    dearer = [(token, amount + 1) for token, amount in told.accepted[:500]]
    assert set(report_rows(feed, dearer)) == {RowStatus.CONFLICT}
    again = report_rows(feed, told.unanswered)
    assert set(again) <= {RowStatus.ACCEPTED, RowStatus.DUPLICATE}
    told.accepted += told.unanswered
    report = settled_report(server, campaign_id, len(told.accepted))
    expected = sum(amount for _, amount in told.accepted)
    assert report.total.impressions == len(told.accepted)
    assert report.total.spend_micros == expected <= TOTAL_MICROS
    assert report.today.spend_micros <= DAILY_MICROS
    assert report.total.fans >= len(told.follows)
    assert report.over_delivered_micros == 0


def check_ledger(folder: Path, campaign_id: int, told: Told) -> None:
    """The statement, read from the file of the stopped server, has every impression once."""
    ledger = Ledger(folder / "ledger.sqlite")
    try:
        page, charges = statement_page(ledger, campaign_id), []
        while True:
            charges.append(page.charges)
            if not page.next_after:
                break
            page = statement_page(ledger, campaign_id, page.next_after)
        assert sum(len(part) for part in charges) == len(told.accepted)
        assert page.charged_micros == sum(amount for _, amount in told.accepted)
        assert page.over_delivered_micros == 0
    finally:
        ledger.close()
