"""`fanbid replay PACK`: a real server bids for the logged auctions of the AuctionNet replay pack."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from auction.array_files import load_arrays
from benchmarks.output import add_output_arguments, print_table, progress, write_json
from benchmarks.replay_feed import (
    DayResult,
    batches,
    bid_request,
    clear_bids,
    total_figures,
    viewer_ids,
)
from benchmarks.replay_pack import TICKS, ReplayCampaign, history_from_log, load_pack, thinned, with_past_day
from benchmarks.serving import RunningServer, running_server
from pacing.clocks import MS_PER_DAY
from pacing.control.history import MarketHistory
from pacing.money import MICROS_PER_UNIT
from protos import audience_pb2, bidding_pb2, campaigns_pb2

START_AT_MS = 1_767_225_600_000  # 2026-01-01 00:00 UTC
TICK_MS = MS_PER_DAY // TICKS
_WITHIN_TICK_MS = 300_000  # impressions come five minutes into their tick, when that part of the day has been planned
_QUICK_CAMPAIGNS = 2
_SCORE_EXPONENT = 2  # a score loses by the square of cost over target, so that is what the engine is told to maximise
_QUICK_THINNING = 20
_LEAD_MS = 10 * 60_000
# One a minute, as long as a won bid waits for its impression: what comes at one instant holds money at the same time.
_STEPS_PER_TICK = 25


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `fanbid replay`."""
    parser.add_argument(
        "pack", type=Path, metavar="PACK", help="replay pack (.npz): logged auctions of several campaigns"
    )
    parser.add_argument(
        "--history", type=Path, metavar="FILE", help="past days of the same market (.npz), for priors and plans"
    )
    parser.add_argument("--campaigns", type=int, metavar="N", help="only the first N campaigns of the pack")
    parser.add_argument(
        "--steps-per-tick",
        type=int,
        default=_STEPS_PER_TICK,
        metavar="N",
        help=f"spread each tick over N moves of the clock (default {_STEPS_PER_TICK}, one a minute)",
    )
    add_output_arguments(parser)


def main(args: argparse.Namespace) -> int:
    """Run the replay and print what each campaign's day came to."""
    try:
        pack = load_arrays("PACK", args.pack, "a replay pack", lambda path: list(load_pack(path)))
        campaigns = _campaigns(args, pack)
        history = None
        if args.history:
            history = load_arrays("--history", args.history, "past days of auctions", history_from_log)
        days = list(_days(campaigns, pack, history, args.quick))
    except (OSError, ValueError) as error:
        print(f"fanbid replay: {error}", file=sys.stderr)
        return 2
    replays = [_replay_day(day, past, args.steps_per_tick) for day, past in days]
    _show(replays, args.json)
    return 0


def _days(
    campaigns: list[ReplayCampaign], pack: list[ReplayCampaign], history: MarketHistory | None, quick: bool
) -> Iterator[tuple[list[ReplayCampaign], MarketHistory | None]]:
    """Each day's campaigns, and the past that may plan them: the history, and the pack's other days beside it.

    Raises:
        ValueError: the history does not fit the pack's days.
    """
    for episode in _episodes(campaigns):
        past = history
        for other in _episodes(pack) if history is not None else ():
            if other != episode and past is not None:
                past = with_past_day(past, [c for c in pack if c.episode == other])
        if past is not None and quick:
            past = replace(past, impressions=past.impressions / _QUICK_THINNING)
        yield [c for c in campaigns if c.episode == episode], past


def _episodes(campaigns: list[ReplayCampaign]) -> list[str]:
    return list(dict.fromkeys(c.episode for c in campaigns))


def _replay_day(campaigns: list[ReplayCampaign], past: MarketHistory | None, steps_per_tick: int) -> Replay:
    """Play one day's campaigns against a server of their own, which knows `past`."""
    with tempfile.TemporaryDirectory(prefix="fanbid-replay-") as folder:
        flags = ["--virtual-clock", str(START_AT_MS - _LEAD_MS), "--no-rest", "--no-bridge"]
        flags += ["--cost-excess-exponent", str(_SCORE_EXPONENT)]
        if past is not None:
            past.save(Path(folder) / "history.npz")
            flags += ["--history", str(Path(folder) / "history.npz")]
        with running_server(Path(folder) / "engine", *flags) as server:
            replay = Replay(server, campaigns)
            replay.create_campaigns()
            replay.run(steps_per_tick)
            replay.collect()
    return replay


def _campaigns(args: argparse.Namespace, pack: list[ReplayCampaign]) -> list[ReplayCampaign]:
    """The campaigns to replay.

    Raises:
        ValueError: --campaigns or --steps-per-tick is out of range.
    """
    wanted = args.campaigns if args.campaigns is not None else (_QUICK_CAMPAIGNS if args.quick else len(pack))
    if not 1 <= wanted <= len(pack):
        raise ValueError(f"--campaigns {wanted}: outside 1..{len(pack)}")
    if not 1 <= args.steps_per_tick <= 30:
        raise ValueError(f"--steps-per-tick {args.steps_per_tick}: outside 1..30")
    campaigns = pack[:wanted]
    return [thinned(c, _QUICK_THINNING) for c in campaigns] if args.quick else campaigns


class Replay:
    """One day of a pack against one server."""

    def __init__(self, server: RunningServer, campaigns: list[ReplayCampaign]) -> None:
        self._creators = [server.transport("creator", 1 + idx) for idx in range(len(campaigns))]
        self._feed, self._operator = server.transport("feed"), server.transport("operator")
        self.results = [DayResult(campaign) for campaign in campaigns]
        self._campaign_ids: list[int] = []
        self.requests = 0
        self.elapsed_s = 0.0

    def create_campaigns(self) -> None:
        """Put each campaign's viewers into a segment of its own and create the campaign, as its creator."""
        for idx, result in enumerate(self.results):
            segment = f"replay.{result.campaign.name.lower()}"
            self._operator.call(
                "Audience/PutSegment",
                audience_pb2.PutSegmentRequest(
                    segment_id=segment, change=audience_pb2.SEGMENT_CHANGE_REPLACE, viewer_ids=viewer_ids(idx)
                ),
                audience_pb2.PutSegmentResponse,
            )
            created = self._creators[idx].call(
                "Campaigns/CreateCampaign", _create_request(result, segment), campaigns_pb2.Campaign
            )
            self._campaign_ids.append(created.campaign_id)
        self._advance(START_AT_MS)

    def run(self, steps_per_tick: int) -> None:
        """Play the day: in each tick move the clock, ask for bids, clear them, report."""
        started_s = time.perf_counter()
        total = sum(len(r.campaign.probability) for r in self.results)
        with progress(total, f"Replaying day {self.results[0].campaign.episode}") as bar:
            for tick in range(TICKS):
                for step in range(steps_per_tick):
                    self._advance(_step_at_ms(tick, step, steps_per_tick))
                    for idx, result in enumerate(self.results):
                        bar.advance(self._play(idx, result, tick, step, steps_per_tick), f"tick {tick + 1} of {TICKS}")
        self.elapsed_s = time.perf_counter() - started_s

    def collect(self) -> None:
        """Ask the engine what it charged."""
        self._advance(START_AT_MS + MS_PER_DAY - 1)
        for idx, result in enumerate(self.results):
            report = self._creators[idx].call(
                "Campaigns/GetReport",
                campaigns_pb2.GetReportRequest(campaign_id=self._campaign_ids[idx]),
                campaigns_pb2.CampaignReport,
            )
            result.reported_micros = report.total.spend_micros

    def _play(self, idx: int, result: DayResult, tick: int, step: int, steps: int) -> int:
        """One campaign's share of a tick; returns how many impressions it was."""
        played = 0
        for impressions in batches(result.campaign, tick, step, steps):
            played += len(impressions)
            request = bid_request(result.campaign, idx, self._campaign_ids[idx], impressions)
            answer = self._feed.call("Bidding/Bid", request, bidding_pb2.BidResponse)
            self.requests += 1
            result.no_bid_budget += int((np.array(answer.nbr) == bidding_pb2.NO_BID_REASON_BUDGET).sum())
            if not answer.viewer_idx:
                continue
            cleared = clear_bids(
                result.campaign,
                impressions,
                np.array(answer.viewer_idx, np.int64),
                np.array(answer.prices_micros, np.int64),
                np.array(answer.floors_micros, np.int64),
            )
            reply = self._feed.call("Bidding/Report", cleared.report(answer.tokens), bidding_pb2.ReportResponse)
            self.requests += 1
            result.count(cleared, np.array(reply.statuses, np.int64))
        return played

    def _advance(self, to_ms: int) -> None:
        self._operator.call("Simulation/Advance", bidding_pb2.AdvanceRequest(to_ms=to_ms), bidding_pb2.AdvanceResponse)


def _step_at_ms(tick: int, step: int, steps: int) -> int:
    """When a part of a tick's impressions comes: early in the tick, the parts evenly apart."""
    return START_AT_MS + tick * TICK_MS + _WITHIN_TICK_MS + step * (TICK_MS - _WITHIN_TICK_MS) // steps


def _create_request(result: DayResult, segment: str) -> campaigns_pb2.CreateCampaignRequest:
    budget_micros = result.budget_micros
    return campaigns_pb2.CreateCampaignRequest(
        campaign=campaigns_pb2.Campaign(
            name=f"Replay {result.campaign.name}",
            goal=campaigns_pb2.GOAL_ORDERS,
            bid_mode=campaigns_pb2.BID_MODE_TARGET_COST,
            target_cost_micros=round(result.campaign.target_cost * MICROS_PER_UNIT),
            daily_budget_micros=budget_micros,
            total_budget_micros=budget_micros,
            start_at_ms=START_AT_MS,
            zone="UTC",
            creatives=[campaigns_pb2.Creative(creative_id=1, title="Replay", category=result.campaign.category + 1)],
            targeting=campaigns_pb2.Targeting(segment=campaigns_pb2.Targeting.Segment(segment_id=segment)),
            include_fans=True,
            frequency_cap_per_day=100,
        )
    )


def _show(replays: list[Replay], json_path: Path | None) -> None:
    results = [result for replay in replays for result in replay.results]
    requests, elapsed_s = sum(r.requests for r in replays), sum(r.elapsed_s for r in replays)
    figures: dict[str, float] = total_figures(results, requests, elapsed_s)
    rows = [
        (
            result.campaign.name,
            f"{result.score:.2f}",
            f"{result.lp_share:.3f}",
            f"{result.spend_micros / max(result.budget_micros, 1):.3f}",
            f"{result.cost_to_target:.3f}",
            f"{result.impressions:,}",
            f"{result.overspend_micros if result.overspend_micros > 0 else 0}",
        )
        for result in results
    ]
    print_table(
        "AuctionNet replay",
        ("campaign", "score", "share of LP", "spend / budget", "cost / target", "impressions", "overspend (micros)"),
        rows,
    )
    print(
        f"share of the hindsight LP {figures['lp_share']:.4f} (least {figures['lp_share_min']:.3f}), "
        f"{figures['requests_per_s']:.0f} requests/s, overspend {figures['overspend_micros_max']:.0f} micros"
    )
    if json_path is not None:
        for result in results:
            figures[f"{result.campaign.name}.lp_share"] = result.lp_share
            figures[f"{result.campaign.name}.cost_to_target"] = result.cost_to_target
            figures[f"{result.campaign.name}.spend_to_budget"] = result.spend_micros / result.budget_micros
        write_json(json_path, figures)
