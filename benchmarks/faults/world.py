"""A simulated world: a server, the network before it, a feed and its viewers, stepped from event to event.

Today's deployment is one server whose store is its own ledger, so a world has one server and each report goes to it.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.faults.answers import AnswerBook
from benchmarks.faults.auditor import Auditor
from benchmarks.faults.bids import BidTable
from benchmarks.faults.clock import FIRST_MONOTONIC_MS, SteppingClock
from benchmarks.faults.differs import Differs
from benchmarks.faults.disk import Crash, Disk, FolderDisk, MemoryDisk
from benchmarks.faults.feed import Feed, Report
from benchmarks.faults.network import Network
from benchmarks.faults.scenario import Burst, CapChange, CrashPlan, Scenario
from benchmarks.faults.server import Server

_IDLE_TICKS = 60
_GIVE_UP = 40
_REMEMBERED_EVENTS = 24
_PATIENCE_STEPS = 3


@dataclass(slots=True)
class Outcome:
    """What one seed came to.

    Attributes:
        over_delivered_micros, excused_micros: in all, and outside of the stated assumptions.
        billed_micros: charged in all.
        events: viewers asked for, rows reported, and everything else that happened.
        failure: what differed; empty: nothing.
        step: of the failure.
        trail: the last events before it.
        faults: how often each kind of fault struck.
    """

    seed: int
    events: int = 0
    lost_micros: int = 0
    charged_over_micros: int = 0
    over_delivered_micros: int = 0
    excused_micros: int = 0
    billed_micros: int = 0
    failure: str = ""
    step: int = 0
    trail: tuple[str, ...] = ()
    faults: Counter[str] = field(default_factory=Counter)


class World:
    """One scenario, played once with `run`."""

    def __init__(self, scenario: Scenario) -> None:
        self._plan = scenario
        self._rng = random.Random(scenario.seed ^ 0x5EED)
        self._numbers = np.random.default_rng(scenario.seed)
        self._clock = SteppingClock(scenario.start_at_ms)
        settings = scenario.settings
        bids = BidTable(settings.win_notice_ms, settings.billing_ms)
        answers = AnswerBook(bids, settings.win_notice_ms, settings.billing_ms, settings.hold_capacity)
        zones = {c.campaign_id: c.zone for c in scenario.campaigns}
        self._auditor = Auditor(bids, answers, zones, scenario.feed.largest_bid_micros)
        disk_type = FolderDisk if scenario.is_folder else MemoryDisk
        self._disk: Disk = disk_type(self._auditor)
        self._server = Server(self._disk, self._clock, settings, scenario.judge_rows, bids, answers, self._auditor)
        for c in scenario.campaigns:
            self._server.know_campaign(c.campaign_id, c.creator_id, c.zone, c.daily_cap_micros, c.total_cap_micros)
        self._network = Network(scenario.network, self._rng)
        self._feed = Feed(scenario.feed, settings, bids, self._rng, self._leave_at)
        self._heap: list[tuple[int, int, Callable[[Any], None], Any]] = []
        self._pushed = self._step = 0
        self._end_ms = FIRST_MONOTONIC_MS + scenario.end_ms
        self._trail: deque[tuple[int, Callable[[Any], None], Any]] = deque(maxlen=_REMEMBERED_EVENTS)
        self._is_stalled = 0
        self._death: CrashPlan | None = None
        self._outcome = Outcome(scenario.seed)

    def run(self) -> Outcome:
        """Play the scenario until everything is told, judged and audited, or something differs."""
        try:
            self._schedule()
            self._play()
            self._disk.disarm()
            self._server.finish()
        except Differs as differs:
            return self.outcome(str(differs))
        finally:
            self._disk.close()
        return self.outcome()

    def outcome(self, failure: str = "") -> Outcome:
        """What the world came to so far."""
        outcome, auditor = self._outcome, self._auditor
        outcome.failure, outcome.step = failure, self._step
        outcome.trail = tuple(self._line(*entry) for entry in self._trail) if failure else ()
        outcome.lost_micros = auditor.lost_micros
        outcome.charged_over_micros = auditor.charged_over_micros
        outcome.over_delivered_micros = auditor.over_delivered_micros
        outcome.excused_micros = auditor.excused_micros
        outcome.billed_micros = auditor.billed_micros
        return outcome

    def _line(self, at_ms: int, act: Callable[[Any], None], what: object) -> str:
        if isinstance(what, Report):
            what = f"{len(what.rows)} rows, {len(what.closed_runs)} responses closed, try {what.tries}"
        elif isinstance(what, tuple) and isinstance(what[0], Report):
            what = f"{len(what[0].rows)} rows"
        return f"{at_ms - FIRST_MONOTONIC_MS:,} ms: {act.__name__.strip('_').replace('_', ' ')} {what or ''}".rstrip()

    def _at(self, at_ms: int, act: Callable[[Any], None], what: Any = None) -> None:
        self._pushed += 1
        heapq.heappush(self._heap, (at_ms, self._pushed, act, what))

    def _schedule(self) -> None:
        plan = self._plan
        timed: list[tuple[int, Callable[[Any], None], Any]] = [(0, self._start, None), (1, self._tick, None)]
        timed += [(2, self._judge, None)]
        timed += [(burst.start_ms, self._begin_burst, burst) for burst in plan.bursts]
        timed += [(crash.at_ms, self._strike, crash) for crash in plan.crashes]
        timed += [(change.at_ms, self._change_caps, change) for change in plan.cap_changes]
        timed += [(at_ms, self._step_clock, ms) for at_ms, ms in plan.clock_steps]
        for start_ms, end_ms in plan.stalls:
            timed += [(start_ms, self._stall, 1), (end_ms, self._stall, -1)]
        for start_ms, end_ms in plan.full_disk:
            timed += [(start_ms, self._fill_disk, True), (end_ms, self._fill_disk, False)]
        for at_ms, act, what in timed:
            self._at(FIRST_MONOTONIC_MS + at_ms, act, what)

    def _play(self) -> None:
        heap, clock, trail, outcome = self._heap, self._clock, self._trail, self._outcome
        while heap:
            at_ms, _, act, what = heapq.heappop(heap)
            clock.advance_to(at_ms)
            self._step += 1
            outcome.events += 1
            trail.append((at_ms, act, what))
            try:
                act(what)
            except Crash:
                outcome.faults["crashes in a commit"] += 1
                self._die()

    @property
    def _is_busy(self) -> bool:
        now_ms = self._clock.monotonic_ms() - FIRST_MONOTONIC_MS
        lasting_ms = self._plan.settings.billing_ms
        return any(burst.start_ms <= now_ms < burst.end_ms + lasting_ms for burst in self._plan.bursts)

    def _again(self, act: Callable[[Any], None], busy_ms: int) -> None:
        """Come again soon while there is traffic, else seldom, but not later than the next burst begins."""
        now_ms = self._clock.monotonic_ms()
        if now_ms >= self._end_ms:
            return
        if self._is_busy:
            self._at(now_ms + busy_ms, act)
            return
        starts = [FIRST_MONOTONIC_MS + burst.start_ms for burst in self._plan.bursts]
        next_ms = min((start_ms for start_ms in starts if start_ms > now_ms), default=self._end_ms)
        self._at(now_ms + max(busy_ms, (next_ms - now_ms) // _IDLE_TICKS), act)

    def _start(self, _: None) -> None:
        if self._server.bank is None:
            self._disk.is_full = False
            self._server.start()

    def _tick(self, _: None) -> None:
        if self._server.bank is not None:
            self._server.tick()
        self._again(self._tick, self._plan.tick_ms)

    def _judge(self, _: None) -> None:
        if self._server.bank is not None and not self._is_stalled:
            for _step in range(_PATIENCE_STEPS):
                if not self._server.judge():
                    break
        self._again(self._judge, self._plan.judge_ms)

    def _stall(self, more: int) -> None:
        self._is_stalled += more
        self._outcome.faults["judge stalls"] += more > 0

    def _fill_disk(self, is_full: bool) -> None:
        self._disk.is_full = is_full
        self._outcome.faults["full disks"] += is_full

    def _begin_burst(self, burst: Burst) -> None:
        for _ in range(burst.requests):
            at_ms = burst.start_ms + self._rng.randrange(burst.end_ms - burst.start_ms)
            self._at(FIRST_MONOTONIC_MS + at_ms, self._ask)

    def _ask(self, _: None) -> None:
        server = self._server
        if server.bank is None:
            return
        campaign_ids, bids = self._feed.draw_request(list(server.caps), self._numbers)
        first, count, *run = server.place(campaign_ids, bids)
        self._outcome.events += len(bids)
        self._feed.placed(first, count, (run[0], run[1]), self._clock.monotonic_ms())

    def _leave_at(self, at_ms: int, report: Report) -> None:
        self._at(at_ms, self._leave, report)

    def _leave(self, report: Report) -> None:
        self._feed.leaves(report, self._clock.monotonic_ms())
        self._send(report)

    def _send(self, report: Report) -> None:
        if report.is_answered or report.tries > _GIVE_UP:
            return
        now_ms = self._clock.monotonic_ms()
        self._outcome.faults["reports sent again"] += report.tries > 0
        report.tries += 1
        for delay_ms in self._network.arrivals_ms():
            self._at(now_ms + delay_ms, self._arrive, report)
        self._at(now_ms + self._network.retry_ms * min(report.tries, 8), self._send, report)

    def _arrive(self, report: Report) -> None:
        server = self._server
        if server.bank is None:
            return
        assert report.outcomes is not None
        statuses: list[int] | None = []
        if report.rows:
            self._outcome.events += len(report.rows)
            statuses = server.report(report.rows, report.outcomes)
        if statuses is None:
            return
        if report.closed_runs:
            server.close_responses(report.closed_runs, report.closed)
        answer_ms = self._network.answer_ms()
        if answer_ms is None:
            self._outcome.faults["lost answers"] += 1
        else:
            self._at(self._clock.monotonic_ms() + answer_ms, self._answer, (report, statuses))

    def _answer(self, answer: tuple[Report, list[int]]) -> None:
        self._feed.answered(*answer, self._clock.monotonic_ms())

    def _strike(self, crash: CrashPlan) -> None:
        wall_ms, share = self._clock.wall_ms(), crash.committed_share
        if share and self._is_busy and not self._auditor.is_nearly_committed(share, wall_ms):
            self._at(self._clock.monotonic_ms() + self._plan.tick_ms, self._strike, crash)
            return
        self._death = crash
        if crash.point is None:
            if self._server.bank is not None:
                self._outcome.faults["crashes"] += 1
                self._die()
        else:
            self._disk.arm(crash.commits, crash.point)

    def _die(self) -> None:
        self._server.crash()
        down_ms = 1
        if self._death is not None:
            down_ms = self._death.down_ms
            if self._death.clock_step_ms:
                self._step_clock(self._death.clock_step_ms)
        self._at(self._clock.monotonic_ms() + down_ms, self._start)

    def _change_caps(self, change: CapChange) -> None:
        campaigns = self._plan.campaigns
        campaign = campaigns[change.campaign_number % len(campaigns)]
        shares = ((campaign.daily_cap_micros, change.daily_share), (campaign.total_cap_micros, change.total_share))
        daily, total = (int(cap * share) for cap, share in shares)
        self._server.caps[campaign.campaign_id] = (daily, max(1, total))
        self._outcome.faults["cap changes"] += 1
        if self._server.bank is not None and not self._server.apply_caps(campaign.campaign_id):
            self._at(self._clock.monotonic_ms() + 500, self._apply_caps, campaign.campaign_id)

    def _apply_caps(self, campaign_id: int) -> None:
        """Try again what a full disk refused."""
        if self._server.bank is not None and not self._server.apply_caps(campaign_id):
            self._at(self._clock.monotonic_ms() + 500, self._apply_caps, campaign_id)

    def _step_clock(self, ms: int) -> None:
        allowed_ms = self._plan.clock_error_ms
        if allowed_ms >= 0 and ms < 0:
            ms = -min(-ms, allowed_ms - self._clock.lag_ms)
        self._clock.step(ms)
        self._outcome.faults["clock steps"] += 1
        if self._clock.lag_ms > self._plan.settings.grace_ms:
            self._auditor.is_clock_wrong = True
