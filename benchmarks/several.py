"""`fanbid bench several`: servers on one Redis spend one budget to the last bid that fits, killed again and again.

Real `fanbid serve --redis` processes; a feed server's client for each, which bids at its server and tells impressions
to any of them. Whoever is killed is started again on its folder. In the end what all servers were told must be what
Redis settled and what any server's report says; and no more money may be left than one bid would have cost.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from benchmarks.output import ProgressBar, Scalar, add_output_arguments, print_table, progress, write_json
from benchmarks.redis_servers import redis_server
from benchmarks.serving import RunningServer, start_server
from benchmarks.several_edits import edits_seen_ms
from pacing.budget.redis_store import RedisStore
from pacing.facts import DECISION, OutcomeKind, RowStatus
from protos import bidding_pb2, campaigns_pb2

SERVERS = 4
KILLS, QUICK_KILLS = 12, 1
BID_MICROS = 20_000
BUDGET_BIDS, QUICK_BUDGET_BIDS = 3_000, 300
EDITS, QUICK_EDITS = 20, 2
SPARE_MICROS = 7_000
"""Of the budget: less than one bid, so that it can never be spent."""
_VIEWERS = 2
_PAUSE_S = 0.05
_KILL_S = (2.0, 8.0)
_END_S = 300.0
_SETTLE_S = 60.0
_QUIET_S = 2.0
_FLAGS = ("--no-rest", "--no-bridge", "--policy", "fixed", "--fixed-bid-micros", str(BID_MICROS), "--calls-per-s", "0")
_TIMES = ("--win-notice-ms", "500", "--billing-ms", "2000")
EXIT_WRONG = 1


@dataclass
class Told:
    """What the clients were answered. `unknown_micros` were reported without an answer: charged or not."""

    accepted_micros: int = 0
    unknown_micros: int = 0
    strange: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, accepted_micros: int = 0, unknown_micros: int = 0) -> None:
        """Add."""
        with self.lock:
            self.accepted_micros += accepted_micros
            self.unknown_micros += unknown_micros


class Cluster:
    """The servers, each on its folder; one may be away for a moment."""

    def __init__(self, url: str, folder: Path) -> None:
        self._url, self._folder = url, folder
        self.servers: list[RunningServer | None] = []
        self.restarts = 0
        self._killed: list[RunningServer] = []

    def add(self) -> None:
        """Start one more."""
        self.servers.append(self._start(len(self.servers)))

    def _start(self, i: int) -> RunningServer:
        return start_server(self._folder / str(i), "--redis", self._url, *_FLAGS, *_TIMES)

    def kill(self, i: int) -> None:
        """End a server at once, and start it again on its folder."""
        server = self.servers[i]
        assert server is not None
        self.servers[i] = None
        server.kill()
        self._killed.append(server)  # its channel stays open for calls that are just being made
        self.servers[i] = self._start(i)
        self.restarts += 1

    def close(self) -> None:
        """Stop all."""
        for server in [*self.servers, *self._killed]:
            if server is not None:
                server.close()


class Client(threading.Thread):
    """Asks one server for bids, and tells each impression to that or to another one."""

    def __init__(self, cluster: Cluster, i: int, told: Told, stop: threading.Event, seed: int) -> None:
        super().__init__(daemon=True, name=f"client {i}")
        self._cluster, self._i, self._told, self._stop_event = cluster, i, told, stop
        self._draw = random.Random(seed)
        self._next_viewer = 1 + i * 10**9
        self.bids = 0
        self.bid_at_s = time.monotonic()

    def run(self) -> None:
        """Until stopped."""
        while not self._stop_event.wait(_PAUSE_S):
            server = self._cluster.servers[self._i]
            if server is None:
                continue
            try:
                tokens = self._bid(server)
            except grpc.RpcError as error:
                self._note(error)
                continue
            for token in tokens:
                self._tell(token)

    def _bid(self, server: RunningServer) -> list[bytes]:
        ids = range(self._next_viewer, self._next_viewer + _VIEWERS)
        self._next_viewer += _VIEWERS
        request = bidding_pb2.BidRequest(
            id="r", at=bidding_pb2.AUCTION_TYPE_SECOND_PRICE, viewers=bidding_pb2.Viewers(ids=ids)
        )
        answer = server.transport("feed").call("Bidding/Bid", request, bidding_pb2.BidResponse)
        size = DECISION.itemsize
        tokens = [answer.tokens[k : k + size] for k in range(0, len(answer.tokens), size)]
        self.bids += len(tokens)
        if tokens:
            self.bid_at_s = time.monotonic()
        return tokens

    def _tell(self, token: bytes) -> None:
        """Tell an impression until somebody answers, at whichever server."""
        request = bidding_pb2.ReportRequest(kinds=[OutcomeKind.BILLABLE], tokens=token, prices_micros=[BID_MICROS])
        was_sent = False
        for _ in range(40):
            i = self._i if self._draw.random() < 0.7 else self._draw.randrange(len(self._cluster.servers))
            server = self._cluster.servers[i]
            try:
                if server is not None:
                    was_sent = True
                    answer = server.transport("feed").call("Bidding/Report", request, bidding_pb2.ReportResponse)
                    return self._answered(int(answer.statuses[0]), was_sent)
            except grpc.RpcError as error:
                self._note(error)
            time.sleep(_PAUSE_S)
        self._told.count(unknown_micros=BID_MICROS)

    def _answered(self, status: int, was_sent: bool) -> None:
        if status == RowStatus.ACCEPTED:
            self._told.count(accepted_micros=BID_MICROS)
        elif status in (RowStatus.DUPLICATE, RowStatus.EXPIRED):
            self._told.count(unknown_micros=BID_MICROS)
        else:
            self._told.strange.append(RowStatus(status).name)

    def _note(self, error: grpc.RpcError) -> None:
        if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
            self._told.strange.append(f"{error.code()}: {error.details()}")


@dataclass
class Spent:
    """What it came to, in micros but for `bids` and `restarts`; `edits_seen_ms` see `several_edits`."""

    budget_micros: int
    bids: int
    restarts: int
    accepted_micros: int
    unknown_micros: int
    settled_micros: int
    reported_micros: tuple[int, ...]
    strange: tuple[str, ...]
    edits_seen_ms: tuple[float, ...]

    @property
    def lost_micros(self) -> int:
        """Acknowledged, and not settled."""
        return max(0, self.accepted_micros - self.settled_micros)

    @property
    def charged_over_micros(self) -> int:
        """Beyond the budget."""
        return max(0, self.settled_micros - self.budget_micros)

    @property
    def left_bids(self) -> int:
        """Whole bids that still fit."""
        return (self.budget_micros - self.settled_micros) // BID_MICROS


def play(kills: int, budget_bids: int, seed: int, to_the_end: bool = True, edits: int = 1) -> Spent:
    """Spend a budget from all servers, killing one of them `kills` times; `to_the_end`: wait for the last bid.

    Ahead of that, `edits` rounds of changes of another campaign are timed.
    """
    budget_micros = budget_bids * BID_MICROS + SPARE_MICROS
    draw, told, stop = random.Random(seed), Told(), threading.Event()
    with (
        redis_server() as redis,
        tempfile.TemporaryDirectory(prefix="fanbid-several-") as folder,
        ExitStack() as ending,
    ):
        cluster = Cluster(redis.url, Path(folder))
        ending.callback(cluster.close)
        with progress(SERVERS, "servers start") as bar:
            for _ in range(SERVERS):
                cluster.add()
                bar.advance(1)
        seen_ms = edits_seen_ms([server for server in cluster.servers if server is not None], edits, seed)
        campaign_id = _create(cluster, budget_micros)
        clients = [Client(cluster, i, told, stop, seed * 100 + i) for i in range(SERVERS)]
        for client in clients:
            client.start()
        with progress(kills, "kills") as bar:
            for _ in range(kills):
                time.sleep(draw.uniform(*_KILL_S))
                cluster.kill(draw.randrange(SERVERS))
                bar.advance(1)
        store = RedisStore(redis.url, 0)
        ending.callback(store.close)
        if to_the_end:
            with progress(budget_bids, "bids settled", even=False) as bar:
                _wait_until_spent(store, campaign_id, budget_micros, clients, bar)
        stop.set()
        for client in clients:
            client.join()
        with progress(1 + SERVERS, "settling, then reports of all servers") as bar:
            settled = _wait_until_settled(store, campaign_id, told.accepted_micros)
            bar.advance(1)
            reported = []
            for server in cluster.servers:
                if server is not None:
                    reported.append(_reported(server, campaign_id, settled))
                bar.advance(1)
    return Spent(
        budget_micros, sum(client.bids for client in clients), cluster.restarts, told.accepted_micros,
        told.unknown_micros, settled, tuple(reported), tuple(told.strange), tuple(seen_ms),
    )  # fmt: skip


def _create(cluster: Cluster, budget_micros: int) -> int:
    server = cluster.servers[0]
    assert server is not None
    campaign = campaigns_pb2.Campaign(
        name="Dance", creator_id=17, goal=campaigns_pb2.GOAL_FANS, bid_mode=campaigns_pb2.BID_MODE_AUTOMATIC,
        daily_budget_micros=budget_micros, total_budget_micros=budget_micros, zone="UTC",
        frequency_cap_per_day=100, creatives=[campaigns_pb2.Creative(creative_id=7001, title="Dance", category=3)],
    )  # fmt: skip
    request = campaigns_pb2.CreateCampaignRequest(campaign=campaign)
    return server.transport("operator").call("Campaigns/CreateCampaign", request, campaigns_pb2.Campaign).campaign_id


def _settled_micros(store: RedisStore, campaign_id: int) -> int:
    account = store.account(campaign_id)
    return 0 if account is None else account.flight.settled_micros


def _wait_until_spent(
    store: RedisStore, campaign_id: int, budget_micros: int, clients: Sequence[Client], bar: ProgressBar
) -> None:
    """Until the budget is spent to the last bid, or nobody got a bid for so long that it never will be."""
    shown = 0
    while True:
        settled = _settled_micros(store, campaign_id)
        quiet_s = time.monotonic() - max(client.bid_at_s for client in clients)
        bar.advance(settled // BID_MICROS - shown, _what_is_waited_for(quiet_s))
        shown = settled // BID_MICROS
        if budget_micros - settled < BID_MICROS or quiet_s > _END_S:
            return
        time.sleep(0.2)


def _what_is_waited_for(quiet_s: float) -> str:
    """Why nothing goes on: a killed server's leases come back when nobody can claim them any more."""
    if quiet_s < _QUIET_S:
        return "bidding"
    return f"no bid for {quiet_s:.0f} s: what killed servers had leased comes back after some minutes"


def _wait_until_settled(store: RedisStore, campaign_id: int, accepted_micros: int) -> int:
    """Until nothing was settled for three seconds; answers what was. A server that was killed may take longer to be
    back with what it accepted, so that is waited for up to a minute."""
    settled, since_s = -1, time.monotonic()
    end_s = since_s + _SETTLE_S
    while time.monotonic() < (end_s if settled < accepted_micros else min(end_s, since_s + 3)):
        found = _settled_micros(store, campaign_id)
        if found != settled:
            settled, since_s = found, time.monotonic()
        time.sleep(0.2)
    return settled


def _reported(server: RunningServer, campaign_id: int, settled_micros: int) -> int:
    """What a server's report says was spent, once it says so much or after a while."""
    request = campaigns_pb2.GetReportRequest(campaign_id=campaign_id)
    end_s = time.monotonic() + 15
    while True:
        report = server.transport("operator").call("Campaigns/GetReport", request, campaigns_pb2.CampaignReport)
        if report.total.spend_micros == settled_micros or time.monotonic() > end_s:
            return int(report.total.spend_micros)
        time.sleep(0.2)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `bench several`."""
    add_output_arguments(parser)
    parser.add_argument("--kills", type=int, metavar="N", help=f"of servers; default {KILLS}")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="draws whom and when; default 1")


def main(args: argparse.Namespace) -> int:
    """Run it; 0 if the budget was spent to the last bid and not past it, 1 otherwise.

    Raises:
        ValueError: --kills is negative.
        NoRedisServer: there is no redis-server here.
    """
    kills = args.kills if args.kills is not None else QUICK_KILLS if args.quick else KILLS
    if kills < 0:
        raise ValueError(f"--kills {kills}: must be 0 or more")
    edits = QUICK_EDITS if args.quick else EDITS
    spent = play(kills, QUICK_BUDGET_BIDS if args.quick else BUDGET_BIDS, args.seed, edits=edits)
    figures: dict[str, Scalar] = {
        "servers": SERVERS,
        "kills": spent.restarts,
        "bids": spent.bids,
        "budget_micros": spent.budget_micros,
        "settled_micros": spent.settled_micros,
        "left_bids": spent.left_bids,
        "lost_micros": spent.lost_micros,
        "charged_over_micros": spent.charged_over_micros,
        "reports_differ_micros": sum(abs(micros - spent.settled_micros) for micros in spent.reported_micros),
        "strange_answers": len(spent.strange),
        "edit_seen_ms": round(statistics.median(spent.edits_seen_ms)),
        "edit_seen_max_ms": round(max(spent.edits_seen_ms)),
    }
    print_table("several servers, one budget", ("figure", "value"), [[name, value] for name, value in figures.items()])
    for line in spent.strange[:10]:
        print(line)
    write_json(args.json, figures)
    wrong = ("left_bids", "lost_micros", "charged_over_micros", "reports_differ_micros", "strange_answers")
    return EXIT_WRONG if any(figures[name] for name in wrong) else 0
