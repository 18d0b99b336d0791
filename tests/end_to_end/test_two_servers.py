"""Two `serve --redis` processes: what one sells is in the other's statement and report, though the one be dead."""

from __future__ import annotations

import csv
import io
import shutil
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest

from auction.bid.keyring import KEY_FILE
from benchmarks.redis_servers import redis_server
from benchmarks.serving import RunningServer, start_server
from pacing.facts import OutcomeKind, RowStatus, row_text
from protos import bidding_pb2, campaigns_pb2
from tests.auction.bid.engines import a_campaign, a_request, tokens_of

FLAGS = ("--no-bridge", "--policy", "fixed", "--fixed-bid-micros", "20000")
WAIT_S = 30.0
Charges = dict[int, tuple[int, int]]


class Pair:
    """Two servers of one Redis, which sign with the same keys and have the same campaign. Only the second has REST."""

    def __init__(self, folder: Path, redis_url: str, ending: ExitStack) -> None:
        self.folder = folder
        self._flags = (*FLAGS, "--redis", redis_url)
        self._ending = ending
        self.servers: list[RunningServer] = [self.start(0)]
        (folder / "1").mkdir()
        shutil.copyfile(folder / "0" / KEY_FILE, folder / "1" / KEY_FILE)
        self.servers.append(self.start(1))
        self.campaign_id = self._create(self.servers[0])
        if not self._knows_within(2.0, self.servers[1]):
            assert self._create(self.servers[1]) == self.campaign_id

    def start(self, number: int) -> RunningServer:
        flags = self._flags if number else (*self._flags, "--no-rest")
        server = start_server(self.folder / str(number), *flags)
        self._ending.callback(server.close)
        return server

    @staticmethod
    def _create(server: RunningServer) -> int:
        request = campaigns_pb2.CreateCampaignRequest(campaign=a_campaign())
        created = server.transport("operator").call("Campaigns/CreateCampaign", request, campaigns_pb2.Campaign)
        return int(created.campaign_id)

    def _knows_within(self, seconds: float, server: RunningServer) -> bool:
        """Whether a server has the campaign, from the other one."""
        request = campaigns_pb2.GetCampaignRequest(campaign_id=self.campaign_id)
        deadline_s = time.monotonic() + seconds
        while time.monotonic() < deadline_s:
            try:
                server.transport("operator").call("Campaigns/GetCampaign", request, campaigns_pb2.Campaign)
                return True
            except grpc.RpcError as error:
                assert error.code() is grpc.StatusCode.NOT_FOUND
                time.sleep(0.1)
        return False

    def sell(self, number: int, viewer_ids: range, price_micros: int) -> None:
        """Have a server bid for these viewers, each once, and report every bid as seen."""
        feed = self.servers[number].transport("feed")
        waiting, sold = list(viewer_ids), 0
        deadline_s = time.monotonic() + WAIT_S
        while waiting and time.monotonic() < deadline_s:
            answer = feed.call("Bidding/Bid", a_request(waiting), bidding_pb2.BidResponse)
            tokens = tokens_of(answer)
            request = bidding_pb2.ReportRequest(
                kinds=[OutcomeKind.BILLABLE] * len(tokens),
                tokens=b"".join(tokens),
                prices_micros=[price_micros] * len(tokens),
            )
            if tokens:
                told = feed.call("Bidding/Report", request, bidding_pb2.ReportResponse)
                assert set(told.statuses) == {RowStatus.ACCEPTED}
                waiting = [waiting[i] for i, reason in enumerate(answer.nbr) if reason]
                sold += len(tokens)
            else:
                time.sleep(0.05)
        assert sold == len(viewer_ids)

    def charges(self, number: int) -> Charges:
        """A server's whole statement, by the name of each charge: viewer and price."""
        operator = self.servers[number].transport("operator")
        request = campaigns_pb2.ListChargesRequest(campaign_id=self.campaign_id, limit=7)
        charges: Charges = {}
        count = 0
        while True:
            page = operator.call("Campaigns/ListCharges", request, campaigns_pb2.ListChargesResponse)
            charges |= {charge.sequence: (charge.viewer_id, charge.amount_micros) for charge in page.charges}
            count += len(page.charges)
            if not page.next_after:
                assert count == len(charges)
                assert sum(amount for _, amount in charges.values()) == page.charged_micros
                return charges
            request.after, request.ledger_sequence = page.next_after, page.ledger_sequence

    def totals(self, number: int) -> tuple[int, int, int]:
        """Impressions, spend and fans in a server's report."""
        request = campaigns_pb2.GetReportRequest(campaign_id=self.campaign_id)
        operator = self.servers[number].transport("operator")
        total = operator.call("Campaigns/GetReport", request, campaigns_pb2.CampaignReport).total
        return total.impressions, total.spend_micros, total.fans

    def whole(self, number: int, count: int) -> Charges:
        """A server's statement once it has so many charges."""
        wait_for(lambda: len(self.charges(number)) == count, f"{count} charges at server {number}")
        return self.charges(number)


def wait_for(is_so: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.05)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with redis_server() as redis, ExitStack() as ending:
        yield Pair(tmp_path, redis.url, ending)


def test_each_shows_everything_and_one_goes_on_while_the_other_is_dead(pair: Pair) -> None:
    pair.sell(0, range(1, 21), 1_000)
    pair.sell(1, range(101, 111), 2_000)
    assert pair.whole(0, 30) == pair.whole(1, 30)
    follow = bidding_pb2.ReportRequest(kinds=[OutcomeKind.FOLLOW], viewer_ids=[1], creator_ids=[7])
    told = pair.servers[1].transport("feed").call("Bidding/Report", follow, bidding_pb2.ReportResponse)
    assert list(told.statuses) == [RowStatus.ACCEPTED]
    for number in (0, 1):
        wait_for(
            lambda n=number: pair.totals(n) == (30, 40_000, 1), f"totals at server {number}: {pair.totals(number)}"
        )

    pair.servers[0].kill()
    assert len(pair.charges(1)) == 30
    pair.sell(1, range(111, 121), 2_000)
    alone = pair.whole(1, 40)
    with urllib.request.urlopen(rest_request(pair)) as answer:
        lines = list(csv.DictReader(io.StringIO(answer.read().decode())))
    assert {line["ledger row"]: int(line["viewer"]) for line in lines} == {
        row_text(sequence): viewer_id for sequence, (viewer_id, _) in alone.items()
    }
    assert float(lines[-1]["charged so far"]) == pytest.approx(0.06)

    pair.servers[0] = pair.start(0)
    assert pair.whole(0, 40) == alone
    wait_for(lambda: pair.totals(0) == pair.totals(1) == (40, 60_000, 1), "totals after the restart")


def rest_request(pair: Pair) -> urllib.request.Request:
    server = pair.servers[1]
    url = f"{server.rest_address}/api/campaigns/{pair.campaign_id}/charges.csv"
    return urllib.request.Request(url, headers={"Authorization": f"Bearer {server.token('operator')}"})
