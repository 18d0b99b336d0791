"""A small ledger that a killed server left: rows and verdicts in the main file, and more in the write-ahead log."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from auction.campaigns.access import Role
from benchmarks.crashes.lives import FLAGS
from benchmarks.crashes.load import Client, Feed, create_campaign, make_tokens
from benchmarks.crashes.told import Caps, Told
from benchmarks.serving import Child, start_child
from benchmarks.transport import CHANNEL_OPTIONS, GrpcTransport
from protos import campaigns_pb2
from protos.rpc.tls import open_channel

LEDGER_FILES = ("ledger.sqlite", "ledger.sqlite-wal", "ledger.anchor")
_CAMPAIGNS = 2
_CAPS = Caps(10**10, 10**11)
_QUIET_TIMEOUT_S = 60.0


class _Server:
    """One life of a server, and a client that asks it."""

    def __init__(self, folder: Path, tokens: dict[Role, str], feed: Feed, life: int) -> None:
        arguments = ["serve", "--data", str(folder), *FLAGS]
        self.child: Child = start_child("serve", arguments, folder)
        self.channel = open_channel(str(self.child.ready["grpc"]), None, CHANNEL_OPTIONS)
        self.operator = GrpcTransport(self.channel, tokens[Role.OPERATOR])
        self._feed = feed
        self._client = Client(feed, GrpcTransport(self.channel, tokens[Role.FEED]), life)

    def bill(self, reports: int) -> None:
        """Reports of impressions, clicks and follows, all of them judged when this returns."""
        deadline_s = time.monotonic() + _QUIET_TIMEOUT_S
        wanted = self._feed.statuses["ACCEPTED"]
        for _ in range(reports):
            before = wanted
            while self._feed.statuses["ACCEPTED"] == before and time.monotonic() < deadline_s:
                self._client.go_round()
            wanted = self._feed.statuses["ACCEPTED"]
        while self._booked() < len(self._feed.told.acknowledged):
            if time.monotonic() > deadline_s:
                raise RuntimeError("the server did not judge what it acknowledged")
            time.sleep(0.02)

    def _booked(self) -> int:
        count = 0
        for campaign_id in self._feed.told.caps:
            request = campaigns_pb2.GetReportRequest(campaign_id=campaign_id)
            total = self.operator.call("Campaigns/GetReport", request, campaigns_pb2.CampaignReport).total
            count += total.impressions + total.clicks + total.fans
        return count


def leave_killed(folder: Path, reports: tuple[int, int], seed: int) -> None:
    """Fill a new folder: some reports to a server that is stopped, and some to one that is killed.

    Raises:
        NotReady, RuntimeError: a server did not do its part.
    """
    told = Told()
    feed = Feed(told, np.random.default_rng(seed))
    tokens = make_tokens(folder)
    for life, count in enumerate(reports):
        server = _Server(folder, tokens, feed, life)
        try:
            while len(told.caps) < _CAMPAIGNS:
                told.caps[create_campaign(server.operator, len(told.caps) + 1, _CAPS)] = _CAPS
            server.bill(count)
            if life:
                server.child.kill()
        finally:
            server.channel.close()
            server.child.stop()
    if feed.strange:
        raise RuntimeError(f"answers of this server: {feed.strange[0]}")
    if not (folder / LEDGER_FILES[1]).stat().st_size:
        raise RuntimeError("the killed server left no write-ahead log")
