"""The demo that is watched: a real server with its dashboard, the reference fan service, and a market."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from benchmarks.market.history import Priors
from benchmarks.market.prepared import prepare_market
from benchmarks.market.results import CampaignResult, MarketResult
from benchmarks.market.run import Market, MarketRun, MarketSettings
from benchmarks.market.world import ZONE
from benchmarks.output import make_table, progress
from benchmarks.serving import RunningServer, start_child, start_server
from pacing.days import zone_of
from pacing.money import text_from_micros

_REFRESH_S = 0.5
_PLAIN_REFRESH_S = 10.0


@dataclass(frozen=True, slots=True)
class LiveSettings:
    """What to show.

    Attributes:
        speed: virtual seconds per second; 0: as fast as it goes.
        folder: where everything that the demo makes is kept.
        stay: keep the dashboard up after the last slot, until interrupted.
    """

    seed: int
    market: MarketSettings
    speed: float
    folder: Path
    stay: bool = False


@contextmanager
def _running(settings: LiveSettings, market: Market, priors: Priors) -> Iterator[RunningServer]:
    """The fan service and the server on the market's virtual clock, stopped at the end in the other order."""
    start_at_ms = str(market.spec.start_at_ms)
    fans = start_child(
        "fan-service",
        ["fan-service", "--data", str(settings.folder / "fans"), "--virtual-clock", start_at_ms],
        settings.folder,
    )
    try:
        server = start_server(
            settings.folder / "server",
            *("--virtual-clock", start_at_ms),
            *("--fan-service", str(fans.ready["grpc"])),
            *("--history", str(priors.history_path)),
            *("--model", str(priors.model_path)),
            *("--seed", str(settings.seed)),
        )
        try:
            yield server
        finally:
            server.close()
    finally:
        fans.stop()


def run_live(settings: LiveSettings) -> MarketResult:
    """Play the market's day, with live figures on the terminal; answers with what each campaign got.

    Raises:
        NotReady: a program did not come up.
    """
    console = Console()
    started_s = time.monotonic()
    with progress(3, "setting up") as bar:
        market, priors = prepare_market(settings.seed, settings.market, bar.advance)
    console.print("starting the server ...")
    with _running(settings, market, priors) as server:
        run = MarketRun(market, server.clients())
        run.install()
        console.print(f"ready after {time.monotonic() - started_s:.1f} s; the first bid is next")
        if server.rest_address is not None:
            console.print(f"dashboard: {server.rest_address}/#token={server.token('operator')}", soft_wrap=True)
        view = _View(settings, run, console)
        try:
            with view:
                run.run(view.observe)
        except KeyboardInterrupt:
            console.print("interrupted: figures so far")
        console.print("comparing with the best that could have been bought ...")
        result = run.result(market.optima())
        if settings.stay and sys.stdin.isatty():
            console.print(make_table(*results_table(result)))
            console.print("the market has closed; the dashboard stays up until Ctrl-C")
            _wait_for_interrupt()
    return result


def _wait_for_interrupt() -> None:
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        return


class _View:
    """Slows the market down to the wanted speed, and shows it: a live table on a terminal, else a line now and then."""

    def __init__(self, settings: LiveSettings, run: MarketRun, console: Console) -> None:
        self._settings, self._run, self._console = settings, run, console
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._started_s = time.monotonic()
        self._shown_at_s = 0.0

    def __enter__(self) -> _View:
        self._started_s = time.monotonic()
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def observe(self, run: MarketRun, at_ms: int) -> None:
        """After a request: wait until its time has come, and show where things stand."""
        if self._settings.speed > 0:
            due_s = self._started_s + (at_ms - run.market.spec.start_at_ms) / 1_000 / self._settings.speed
            time.sleep(max(0.0, due_s - time.monotonic()))
        now_s = time.monotonic()
        if now_s - self._shown_at_s < (_REFRESH_S if self._live else _PLAIN_REFRESH_S):
            return
        self._shown_at_s = now_s
        if self._live is not None:
            self._live.update(self._picture(at_ms), refresh=True)
        else:
            self._console.print(self._line(at_ms))

    def _clock(self, at_ms: int) -> str:
        return datetime.fromtimestamp(at_ms / 1_000, zone_of(ZONE)).strftime("%H:%M")

    def _line(self, at_ms: int) -> str:
        tally = self._run.feed.tally if self._run.feed else None
        if tally is None:
            return self._clock(at_ms)
        spend = text_from_micros(int(tally.spend_micros.sum()))
        impressions = int(tally.impressions.sum())
        return f"{self._clock(at_ms)}  {tally.slots:,} slots  {impressions:,} impressions  spend {spend}"

    def _picture(self, at_ms: int) -> Group:
        spec = self._run.market.spec
        share = (at_ms - spec.start_at_ms) / (spec.end_at_ms - spec.start_at_ms)
        bar = ProgressBar(total=1.0, completed=share, width=60)
        return Group(Text(self._line(at_ms)), bar, self._table())

    def _table(self) -> Table:
        rows = []
        for campaign, report in zip(self._run.market.campaigns, self._run.reports(), strict=True):
            total = report.total
            cost = total.spend_micros / total.goal_events if total.goal_events else None
            rows.append(
                (
                    campaign.name,
                    campaign.goal.name.lower().replace("_", " "),
                    _units(campaign.daily_budget_micros),
                    f"{total.spend_micros / campaign.daily_budget_micros:.0%}",
                    total.impressions,
                    total.goal_events,
                    _units(cost),
                    _units(campaign.target_cost_micros or None),
                )
            )
        return make_table("", ("campaign", "goal", "budget", "spent", "impressions", "events", "cost", "target"), rows)


def _units(micros: float | None) -> str:
    """Micros as currency units with two to four decimals."""
    if micros is None:
        return "-"
    units = micros / 1e6
    return f"{units:,.2f}" if units >= 1 else f"{units:.4f}"


RESULT_COLUMNS = (
    "campaign", "goal", "bidding", "budget", "spend", "impressions", "events", "cost (95 % interval)", "expected cost",
    "target",
)  # fmt: skip


def results_table(result: MarketResult) -> tuple[str, tuple[str, ...], list[tuple[object, ...]]]:
    """Title, columns and rows of what each campaign got."""
    title = f"seed {result.seed}, policy {result.policy}: {result.slots:,} slots in {result.requests:,} requests"
    return title, RESULT_COLUMNS, [_result_row(campaign) for campaign in result.campaigns]


def _result_row(campaign: CampaignResult) -> tuple[object, ...]:
    interval = campaign.cost_interval_micros()
    cost = _units(campaign.cost_micros)
    return (
        campaign.name,
        campaign.goal.name.lower().replace("_", " "),
        "target cost" if campaign.is_target_cost else "automatic",
        _units(campaign.budget_micros),
        _units(campaign.charged_micros),
        campaign.impressions,
        campaign.events,
        cost if interval is None else f"{cost} ({_units(interval[0])} - {_units(interval[1])})",
        _units(campaign.expected_cost_micros),
        _units(campaign.target_cost_micros or None),
    )
