"""A served engine with a market running on it: the dashboard shows what the ledger says, and a kill loses nothing."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from benchmarks.market.run import QUICK, Market, MarketRun
from benchmarks.market.world import WorldSettings
from benchmarks.serving import RunningServer, start_server
from pacing.ledger.log import Ledger
from protos import bidding_pb2, campaigns_pb2
from tests.browser import open_browser

SMALL = replace(QUICK, hours=3.0, slots_per_day=100_000, drain_hours=0.5, world=WorldSettings(viewers=2_000))
PAGE_WAIT_MS = 30_000
AT_ONCE = 15


def serve(folder: Path, market: Market, *flags: str) -> RunningServer:
    return start_server(folder, "--virtual-clock", str(market.spec.start_at_ms), "--no-bridge", *flags)


def report_of(server: RunningServer, campaign_id: int) -> campaigns_pb2.CampaignReport:
    request = campaigns_pb2.GetReportRequest(campaign_id=campaign_id)
    return server.transport("operator").call("Campaigns/GetReport", request, campaigns_pb2.CampaignReport)


@pytest.mark.browser
def test_dashboard_shows_what_the_ledger_says_while_a_market_runs(tmp_path):
    market = Market(3, SMALL)
    folder = tmp_path / "server"
    server = serve(folder, market, "--rest-listen", "127.0.0.1:0")
    try:
        run = MarketRun(market, server.clients())
        run.install()
        playing = threading.Thread(target=run.run)
        playing.start()
        with open_browser() as browser:
            page = browser.new_page()
            page.goto(f"{server.rest_address}/#token={server.token('operator')}")
            tile = page.get_by_test_id("tile-spend-total")
            page.wait_for_function(
                "() => Number(document.querySelector('[data-testid=tile-spend-total]')?.dataset.micros) > 0",
                timeout=PAGE_WAIT_MS,
            )
            shown_while_running = int(tile.get_attribute("data-micros"))
            playing.join()
            campaign_id = int(page.locator("[data-testid=campaign]").get_attribute("data-campaign-id"))
            final = report_of(server, campaign_id)
            page.wait_for_function(
                f"() => document.querySelector('[data-testid=tile-spend-total]').dataset.micros"
                f" === '{final.total.spend_micros}'"
                # The last fan may come after the last charge.
                f" && document.querySelector('[data-testid=tile-fans]').dataset.total === '{final.total.fans}'",
                timeout=PAGE_WAIT_MS,
            )
            shown = int(tile.get_attribute("data-micros"))
            shown_at = int(tile.get_attribute("data-ledger-sequence"))
            fans = int(page.get_by_test_id("tile-fans").get_attribute("data-total"))
    finally:
        server.close()
    assert 0 < shown_while_running <= shown == final.total.spend_micros
    assert fans == final.total.fans
    ledger = Ledger(folder / "ledger.sqlite")
    try:
        charged, over_delivered = ledger.charged_at(campaign_id, shown_at)
    finally:
        ledger.close()
    assert charged == shown
    assert over_delivered == final.over_delivered_micros


class Killer:
    """Ends the server in the middle of the market's day, as a crash would."""

    def __init__(self, server: RunningServer) -> None:
        self._server = server
        self._requests = 0

    def observe(self, run: MarketRun, at_ms: int) -> None:
        self._requests += 1
        if self._requests == AT_ONCE:
            self._server.kill()


def bids_at_once(server: RunningServer, market: Market) -> int:
    """How many bids the first call gets, before the clock has moved."""
    viewers = bidding_pb2.Viewers(ids=market.world.viewers.ids[:500].tolist())
    request = bidding_pb2.BidRequest(id="first", at=bidding_pb2.AUCTION_TYPE_SECOND_PRICE, viewers=viewers)
    answer = server.transport("feed").call("Bidding/Bid", request, bidding_pb2.BidResponse)
    return len(answer.viewer_idx)


def test_killed_in_mid_market_nothing_acknowledged_is_lost(tmp_path):
    market = Market(4, SMALL)
    folder = tmp_path / "server"
    server = serve(folder, market, "--no-rest")
    try:
        run = MarketRun(market, server.clients())
        run.install()
        with pytest.raises(grpc.RpcError):
            run.run(Killer(server).observe)
    finally:
        server.close()
    tally = run.feed.tally
    assert tally.impressions.sum() > 0
    again = serve(folder, market, "--no-rest")
    try:
        assert bids_at_once(again, market) > 0
        reports = [report_of(again, campaign_id) for campaign_id in run.campaign_ids]
    finally:
        again.close()
    for campaign, report, spend_micros in zip(market.campaigns, reports, tally.spend_micros.tolist(), strict=True):
        assert report.total.spend_micros >= spend_micros  # the last call may have been taken without an answer
        assert report.total.spend_micros <= campaign.daily_budget_micros
        assert report.over_delivered_micros == 0
    unanswered = sum(report.total.impressions for report in reports) - int(tally.impressions.sum())
    assert 0 <= unanswered <= market.settings.viewers_per_request
