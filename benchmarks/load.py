"""`fanbid bench load`: a real server under load, beside a raw gRPC echo of the same payload in the same run."""

from __future__ import annotations

import argparse
import queue
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np

from benchmarks.echo import METHOD as ECHO_METHOD
from benchmarks.echo import echo_server
from benchmarks.openloop import LoadResult, LoadTarget, cpu_seconds
from benchmarks.output import Scalar, add_output_arguments, print_table, progress, write_json
from benchmarks.serving import RunningServer, running_server
from benchmarks.transport import CHANNEL_OPTIONS, Transport
from benchmarks.workload import (
    Audience,
    draw_bid_requests,
    draw_targetings,
    make_audience,
    segment_name,
    targeting_message,
    viewers_message,
)
from pacing.facts import TOKEN_BYTES, OutcomeKind
from protos import audience_pb2, bidding_pb2, campaigns_pb2

DISTINCT_REQUESTS = 64
WORKERS = 4
OUTSTANDING = 8
PUT_VIEWERS = 8_000
WIN_SHARE = 0.02
CLOSE_AT_ONCE = 32
WARM_UP_REPORTS = 20
WARM_UP_TIMEOUT_S = 120.0
OPEN_LOOP_SHARES = (0.3, 0.5, 0.7)
"""Of the rate at which the server is busy all the time."""
_SEED = 4
_DAY_BUDGET_MICROS = 10**13


@dataclass(frozen=True, slots=True)
class LoadSettings:
    """How large a load."""

    campaigns: int = 1_000
    viewers: int = 50_000
    viewers_per_request: int = 256
    seconds: float = 8.0


QUICK = LoadSettings(campaigns=100, viewers=5_000, viewers_per_request=128, seconds=1.0)


class Reporter:
    """Tells the server what became of its bids, from a thread of its own, so that holds come free as in real traffic.

    A few bids of each response win and are shown at their floor; the rest of the response is closed.
    """

    def __init__(self, feed: Transport) -> None:
        self._feed = feed
        self._answers: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._rng = np.random.default_rng(_SEED)
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)
        self.viewers = 0
        self.bids = 0
        self.billed = 0
        self.reports = 0
        self.latest = b""
        self.failure: Exception | None = None
        self._thread.start()

    def take(self, raw: bytes) -> None:
        """Take an answer's bytes; returns at once."""
        self._answers.put(raw)

    def close(self) -> None:
        """Report what is left, and end.

        Raises:
            Exception: what went wrong while reporting.
        """
        self._answers.put(None)
        self._thread.join()
        if self.failure is not None:
            raise self.failure

    def _run(self) -> None:
        ended = False
        while not ended:
            batch = [self._answers.get()]
            while len(batch) < CLOSE_AT_ONCE and not self._answers.empty():
                batch.append(self._answers.get())
            ended = None in batch
            if self.failure is None:
                try:
                    self._report([raw for raw in batch if raw is not None])
                except Exception as failure:
                    self.failure = failure

    def _report(self, answers: list[bytes]) -> None:
        report = bidding_pb2.ReportRequest()
        tokens = []
        for raw in answers:
            response = bidding_pb2.BidResponse.FromString(raw)
            self.latest = raw
            self.viewers += len(response.nbr)
            self.bids += len(response.viewer_idx)
            if response.hold_count:
                report.closed_hold_first_seqs.append(response.hold_first_seq)
                report.closed_hold_counts.append(response.hold_count)
            for i in np.flatnonzero(self._rng.random(len(response.viewer_idx)) < WIN_SHARE).tolist():
                clearing = response.floors_micros[i]
                tokens.append(response.tokens[i * TOKEN_BYTES : (i + 1) * TOKEN_BYTES])
                report.kinds.append(OutcomeKind.BILLABLE)
                report.prices_micros.append(clearing)
        report.tokens = b"".join(tokens)
        self.billed += len(tokens)
        if tokens or report.closed_hold_counts:
            self._feed.call("Bidding/Report", report, bidding_pb2.ReportResponse)
            self.reports += 1


def install(
    server: RunningServer, settings: LoadSettings, audience: Audience, tick: Callable[[float, str], None]
) -> None:
    """Put viewers and segments, and create the campaigns."""
    operator = server.transport("operator")
    for start in range(0, audience.size, PUT_VIEWERS):
        rows = np.arange(start, min(start + PUT_VIEWERS, audience.size))
        request = audience_pb2.PutViewersRequest(viewers=viewers_message(audience, rows))
        operator.call("Audience/PutViewers", request, audience_pb2.PutViewersResponse)
    for number, rows in enumerate(audience.members):
        segment = audience_pb2.PutSegmentRequest(
            segment_id=segment_name(number),
            change=audience_pb2.SEGMENT_CHANGE_REPLACE,
            viewer_ids=audience.ids[rows].tolist(),
        )
        operator.call("Audience/PutSegment", segment, audience_pb2.PutSegmentResponse)
    tick(0, f"creating {settings.campaigns:,} campaigns")
    for number, targeting in enumerate(draw_targetings(settings.campaigns, _SEED)):
        campaign = campaigns_pb2.Campaign(
            creator_id=1 + number // 2,
            name=f"load {number}",
            goal=campaigns_pb2.GOAL_FANS,
            bid_mode=campaigns_pb2.BID_MODE_AUTOMATIC,
            daily_budget_micros=_DAY_BUDGET_MICROS,
            total_budget_micros=_DAY_BUDGET_MICROS,
            zone="Asia/Shanghai",
            creatives=[campaigns_pb2.Creative(creative_id=number + 1, title="video", category=1 + number % 63)],
            targeting=targeting_message(targeting),
            frequency_cap_per_day=100,
        )
        create = campaigns_pb2.CreateCampaignRequest(campaign=campaign)
        operator.call("Campaigns/CreateCampaign", create, campaigns_pb2.Campaign)


def _warm_up(bids: LoadTarget, reporter: Reporter, seconds: float) -> bytes:
    """Load the server until it has answered and taken reports for a while; answers with a typical answer's bytes.

    Raises:
        TimeoutError: no report was taken.
    """
    until_s = time.monotonic() + WARM_UP_TIMEOUT_S
    while reporter.reports < WARM_UP_REPORTS:
        bids.saturate(OUTSTANDING, seconds)
        if time.monotonic() > until_s:
            raise TimeoutError(f"reports: {reporter.reports} taken within {WARM_UP_TIMEOUT_S:.0f} s")
    return reporter.latest


@dataclass(frozen=True, slots=True)
class LoadFigures:
    """Both servers' answers under the same load."""

    engine: LoadResult
    echo: LoadResult
    open_loop: list[LoadResult]
    engine_cpu_us: float
    echo_cpu_us: float
    bids: int
    viewers: int
    billed: int
    request_bytes: int
    answer_bytes: int

    def flat(self, settings: LoadSettings) -> dict[str, Scalar]:
        """One flat object; latencies are those of the middle open-loop rate."""
        middle = self.open_loop[len(self.open_loop) // 2]
        echo_per_s = self.echo.answered_per_s
        return {
            "requests_per_s": self.engine.answered_per_s,
            "viewers_per_s": self.engine.answered_per_s * settings.viewers_per_request,
            "echo_requests_per_s": echo_per_s,
            "bid_to_echo": self.engine.answered_per_s / echo_per_s if echo_per_s else 0.0,
            "server_cpu_us_per_request": self.engine_cpu_us,
            "echo_cpu_us_per_request": self.echo_cpu_us,
            "open_loop_per_s": middle.offered_per_s,
            **{f"p{name}_ms": middle.latency.percentile_us(p) / 1e3 for name, p in PERCENTILES},
            "failed": self.engine.failed + sum(result.failed for result in self.open_loop),
            "bids_per_viewer": self.bids / self.viewers if self.viewers else 0.0,
            "billed": self.billed,
            "campaigns": settings.campaigns,
            "viewers_per_request": settings.viewers_per_request,
            "request_bytes": self.request_bytes,
            "answer_bytes": self.answer_bytes,
        }


PERCENTILES = (("50", 50.0), ("90", 90.0), ("99", 99.0), ("99_9", 99.9))


def measure(
    settings: LoadSettings, folder: Path, rate: float | None, tick: Callable[[float, str], None]
) -> LoadFigures:
    """Load a server and an echo in turn; `tick` is told of 3 + len(OPEN_LOOP_SHARES) units of work."""
    audience = make_audience(settings.viewers, _SEED)
    requests = draw_bid_requests(audience, DISTINCT_REQUESTS, settings.viewers_per_request, _SEED)
    with running_server(folder, "--no-rest", "--no-bridge", "--workers", str(WORKERS)) as server:
        install(server, settings, audience, tick)
        tick(1, "warming up")
        reporter = Reporter(server.transport("feed"))
        metadata = (("authorization", f"Bearer {server.token('feed')}"),)
        bids = LoadTarget(server.channel, "/fanbid.v1.Bidding/Bid", requests, metadata, reporter.take)
        answer = _warm_up(bids, reporter, settings.seconds / 4)
        with echo_server(answer, WORKERS) as echo, _channel(echo.address) as channel:
            echoes = LoadTarget(channel, ECHO_METHOD, requests, metadata)
            echoes.saturate(OUTSTANDING, settings.seconds / 4)
            tick(0, "echo, as fast as it goes")
            echo_result, echo_cpu_us = _saturated(echoes, echo.pid, settings.seconds)
            tick(1, "bids, as fast as they go")
            engine_result, engine_cpu_us = _saturated(bids, server.child.pid, settings.seconds)
            tick(1, "open loop")
        rates = [rate] if rate is not None else [share * engine_result.answered_per_s for share in OPEN_LOOP_SHARES]
        stretches = []
        for per_s in rates:
            stretches.append(bids.open_loop(per_s, settings.seconds))
            tick(len(OPEN_LOOP_SHARES) / len(rates), f"open loop at {per_s:,.0f}/s")
        reporter.close()
    return LoadFigures(
        engine=engine_result,
        echo=echo_result,
        open_loop=stretches,
        engine_cpu_us=engine_cpu_us,
        echo_cpu_us=echo_cpu_us,
        bids=reporter.bids,
        viewers=reporter.viewers,
        billed=reporter.billed,
        request_bytes=len(requests[0]),
        answer_bytes=len(answer),
    )


def _channel(address: str) -> grpc.Channel:
    return grpc.insecure_channel(address, options=CHANNEL_OPTIONS)


def _saturated(target: LoadTarget, pid: int, seconds: float) -> tuple[LoadResult, float]:
    """Saturate for `seconds`; the result, and the server's processor time per answer in microseconds."""
    before_s = cpu_seconds(pid)
    result = target.saturate(OUTSTANDING, seconds)
    return result, (cpu_seconds(pid) - before_s) / max(result.answered, 1) * 1e6


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `bench load`."""
    add_output_arguments(parser)
    parser.add_argument(
        "--campaigns", type=int, metavar="N", help=f"active campaigns; default {LoadSettings().campaigns}"
    )
    parser.add_argument(
        "--viewers",
        type=int,
        metavar="N",
        help=f"viewers per request, 1..1000; default {LoadSettings().viewers_per_request}",
    )
    parser.add_argument(
        "--rate", type=float, metavar="N", help="open-loop requests per second; default: shares of the most"
    )
    parser.add_argument("--seconds", type=float, metavar="S", help="length of each stretch")


def settings_from(args: argparse.Namespace) -> LoadSettings:
    """What the flags ask for.

    Raises:
        ValueError: a flag is out of range.
    """
    base = QUICK if args.quick else LoadSettings()
    chosen = LoadSettings(
        campaigns=base.campaigns if args.campaigns is None else args.campaigns,
        viewers=base.viewers,
        viewers_per_request=base.viewers_per_request if args.viewers is None else args.viewers,
        seconds=base.seconds if args.seconds is None else args.seconds,
    )
    if not 1 <= chosen.campaigns <= 20_000:
        raise ValueError(f"--campaigns {chosen.campaigns}: not in 1..20000")
    if not 1 <= chosen.viewers_per_request <= 1_000:
        raise ValueError(f"--viewers {chosen.viewers_per_request}: not in 1..1000")
    if not 0.2 <= chosen.seconds <= 3_600:
        raise ValueError(f"--seconds {chosen.seconds}: not in 0.2..3600")
    if args.rate is not None and not 0.1 <= args.rate <= 1e6:
        raise ValueError(f"--rate {args.rate}: not in 0.1..1000000")
    return chosen


def main(args: argparse.Namespace) -> int:
    """Run the load test; answers the exit code."""
    settings = settings_from(args)
    with (
        tempfile.TemporaryDirectory(prefix="fanbid-load-") as folder,
        progress(3 + len(OPEN_LOOP_SHARES), "load") as bar,
    ):
        figures = measure(settings, Path(folder), args.rate, bar.advance)
    flat = figures.flat(settings)
    rows: list[list[object]] = [
        ["echo, saturated", None, figures.echo.answered_per_s, figures.echo_cpu_us, *_percentiles(figures.echo)],
        ["bid, saturated", None, figures.engine.answered_per_s, figures.engine_cpu_us, *_percentiles(figures.engine)],
    ]
    rows += [
        ["bid, open loop", result.offered_per_s, result.answered_per_s, None, *_percentiles(result)]
        for result in figures.open_loop
    ]
    columns = (
        "load",
        "offered/s",
        "answered/s",
        "server CPU us",
        *(f"p{name.replace('_', '.')} ms" for name, _ in PERCENTILES),
    )
    title = (
        f"{settings.campaigns:,} campaigns, {settings.viewers_per_request} viewers a request, "
        f"{figures.request_bytes:,} bytes out, {figures.answer_bytes:,} back"
    )
    print_table(title, columns, rows)
    write_json(args.json, flat)
    return 0


def _percentiles(result: LoadResult) -> list[float]:
    return [result.latency.percentile_us(percent) / 1e3 for _, percent in PERCENTILES]
