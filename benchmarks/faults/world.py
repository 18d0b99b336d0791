"""A simulated world: a server, the network before it, a feed and its viewers, stepped from event to event.

This is the world of one server whose store is its own ledger; `shared_world` has several on one store.
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
from benchmarks.faults.clock import FIRST_MONOTONIC_MS, SteppingClock, Timeline
from benchmarks.faults.differs import Differs
from benchmarks.faults.disk import Crash, Disk, FolderDisk, MemoryDisk
from benchmarks.faults.feed import Feed, Report
from benchmarks.faults.network import Network
from benchmarks.faults.scenario import Burst, CapChange, CrashPlan, Scenario
from benchmarks.faults.server import Server
from benchmarks.faults.shadow import OverDelivery
from benchmarks.faults.shared_store import SimulatedStore
from pacing.budget.settings import BankSettings

_IDLE_TICKS = 60
_GIVE_UP = 40
_REMEMBERED_EVENTS = 24
_PATIENCE_STEPS = 3
_IDLE_STEPS = 10_000
_RETRY_CAPS_MS = 500


Act = Callable[[Any], None]


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
        self._timeline = Timeline()
        settings = scenario.settings
        self._bids = BidTable(settings.win_notice_ms, settings.billing_ms)
        self._zones = {c.campaign_id: c.zone for c in scenario.campaigns}
        self._over = OverDelivery(self._bids, scenario.feed.largest_bid_micros)
        self._clocks: list[SteppingClock] = []
        self._auditors: list[Auditor] = []
        self._disks: list[Disk] = []
        self._servers: list[Server] = []
        self._open_servers()
        self._network = Network(scenario.network, self._rng)
        self._feed = self._open_feed()
        self._heap: list[tuple[int, int, Act, Any]] = []
        self._pushed = self._step = 0
        self._end_ms = FIRST_MONOTONIC_MS + scenario.end_ms
        self._trail: deque[tuple[int, Act, Any]] = deque(maxlen=_REMEMBERED_EVENTS)
        self._stalls = [0] * len(self._servers)
        self._deaths: list[CrashPlan | None] = [None] * len(self._servers)
        self._acting = 0
        self._outcome = Outcome(scenario.seed)

    def _open_servers(self) -> None:
        answers = AnswerBook(self._bids, self._plan.settings)
        auditor = Auditor(self._bids, answers, self._zones, self._over)
        server = self._add_server(SteppingClock(self._plan.start_at_ms, self._timeline), answers, auditor)
        for c in self._plan.campaigns:
            server.know_campaign(c.campaign_id, c.creator_id, c.zone, c.daily_cap_micros, c.total_cap_micros)

    def _add_server(
        self,
        clock: SteppingClock,
        answers: AnswerBook,
        auditor: Auditor,
        settings: BankSettings | None = None,
        new_store: Callable[[], SimulatedStore] | None = None,
    ) -> Server:
        plan = self._plan
        disk = (FolderDisk if plan.is_folder else MemoryDisk)(auditor)
        server = Server(
            disk, clock, settings or plan.settings, plan.judge_rows, self._bids, answers, auditor,
            len(self._servers), new_store,
        )  # fmt: skip
        self._clocks.append(clock)
        self._auditors.append(auditor)
        self._disks.append(disk)
        self._servers.append(server)
        return server

    def _open_feed(self) -> Feed:
        return Feed(self._plan.feed, self._plan.settings, self._bids, self._rng, self._leave_at)

    def run(self) -> Outcome:
        """Play the scenario until everything is told, judged and audited, or something differs."""
        try:
            self._schedule()
            self._play()
            for disk in self._disks:
                disk.disarm()
            self._finish()
        except Differs as differs:
            return self.outcome(str(differs))
        finally:
            for disk in self._disks:
                disk.close()
        return self.outcome()

    def _finish(self) -> None:
        self._servers[0].finish()

    @property
    def _charged_over_micros(self) -> int:
        return self._auditors[0].accounts.charged_over_micros

    def outcome(self, failure: str = "") -> Outcome:
        """What the world came to so far."""
        outcome = self._outcome
        outcome.failure, outcome.step = failure, self._step
        outcome.trail = tuple(self._line(*entry) for entry in self._trail) if failure else ()
        outcome.lost_micros = sum(auditor.lost_micros for auditor in self._auditors)
        outcome.charged_over_micros = self._charged_over_micros
        outcome.over_delivered_micros = self._over.over_delivered_micros
        outcome.excused_micros = self._over.excused_micros
        outcome.billed_micros = sum(auditor.billed_micros for auditor in self._auditors)
        return outcome

    def _line(self, at_ms: int, act: Act, what: object) -> str:
        if isinstance(what, Report):
            what = f"{len(what.rows)} rows, {len(what.closed_runs)} responses closed, try {what.tries}"
        elif isinstance(what, tuple) and isinstance(what[0], Report):
            what = f"{len(what[0].rows)} rows"
        return f"{at_ms - FIRST_MONOTONIC_MS:,} ms: {act.__name__.strip('_').replace('_', ' ')} {what or ''}".rstrip()

    def _at(self, at_ms: int, act: Act, what: Any = None) -> None:
        self._pushed += 1
        heapq.heappush(self._heap, (at_ms, self._pushed, act, what))

    def _schedule(self) -> None:
        plan = self._plan
        timed: list[tuple[int, Act, Any]] = []
        for number in range(len(self._servers)):
            timed += [(3 * number, self._start, number), (3 * number + 1, self._tick, number)]
            timed += [(3 * number + 2, self._judge, number)]
        timed += [(burst.start_ms, self._begin_burst, burst) for burst in plan.bursts]
        timed += [(crash.at_ms, self._strike, crash) for crash in plan.crashes]
        timed += [(change.at_ms, self._change_caps, change) for change in plan.cap_changes]
        timed += [(at_ms, self._step_clock, ms) for at_ms, ms in plan.clock_steps]
        for i, (start_ms, end_ms) in enumerate(plan.stalls):
            number = i % len(self._servers)
            timed += [(start_ms, self._stall, (number, 1)), (end_ms, self._stall, (number, -1))]
        for i, (start_ms, end_ms) in enumerate(plan.full_disk):
            number = i % len(self._servers)
            timed += [(start_ms, self._fill_disk, (number, True)), (end_ms, self._fill_disk, (number, False))]
        for at_ms, act, what in timed:
            self._at(FIRST_MONOTONIC_MS + at_ms, act, what)

    def _play(self) -> None:
        heap, timeline, trail, outcome = self._heap, self._timeline, self._trail, self._outcome
        while heap:
            at_ms, _, act, what = heapq.heappop(heap)
            if at_ms > timeline.now_ms:
                timeline.now_ms = at_ms
            self._step += 1
            outcome.events += 1
            trail.append((at_ms, act, what))
            try:
                act(what)
            except Crash:
                outcome.faults["crashes in a commit"] += 1
                self._die(self._acting)

    def _on(self, number: int) -> Server:
        """The server that acts now, and dies of what its disk does."""
        self._acting = number
        return self._servers[number]

    @property
    def _is_busy(self) -> bool:
        now_ms = self._timeline.now_ms - FIRST_MONOTONIC_MS
        lasting_ms = self._plan.settings.billing_ms
        return any(burst.start_ms <= now_ms < burst.end_ms + lasting_ms for burst in self._plan.bursts)

    def _again(self, act: Act, busy_ms: int, what: Any) -> None:
        """Come again soon while there is traffic, else seldom, but not later than the next burst begins."""
        now_ms = self._timeline.now_ms
        if now_ms >= self._end_ms:
            return
        if self._is_busy:
            self._at(now_ms + busy_ms, act, what)
            return
        starts = [FIRST_MONOTONIC_MS + burst.start_ms for burst in self._plan.bursts]
        next_ms = min((start_ms for start_ms in starts if start_ms > now_ms), default=self._end_ms)
        self._at(now_ms + max(busy_ms, (next_ms - now_ms) // _IDLE_TICKS), act, what)

    def _start(self, number: int) -> None:
        server = self._on(number)
        if server.bank is None:
            self._disks[number].is_full = False
            for campaign_id in server.start():
                self._apply_later(number, campaign_id)

    def _apply_later(self, number: int, campaign_id: int) -> None:
        """Only where a store may be away."""

    def _tick(self, number: int) -> None:
        server = self._on(number)
        try:
            if server.bank is not None:
                server.tick()
        except Crash:
            self._goes_on(self._tick, self._plan.tick_ms, number)
            raise
        self._again(self._tick, self._plan.tick_ms, number)

    def _judge(self, number: int) -> None:
        server = self._on(number)
        steps = _PATIENCE_STEPS if self._plan.shared is None or self._is_busy else _IDLE_STEPS
        try:
            if server.bank is not None and not self._stalls[number]:
                while steps and server.judge():
                    steps -= 1
        except Crash:
            self._goes_on(self._judge, self._plan.judge_ms, number)
            raise
        self._again(self._judge, self._plan.judge_ms, number)

    def _goes_on(self, act: Act, busy_ms: int, number: int) -> None:
        """The next process of one of several servers does so, too; one that is alone is judged at the end."""
        if self._plan.shared is not None:
            self._again(act, busy_ms, number)

    def _stall(self, what: tuple[int, int]) -> None:
        number, more = what
        self._stalls[number] += more
        self._outcome.faults["judge stalls"] += more > 0

    def _fill_disk(self, what: tuple[int, bool]) -> None:
        number, is_full = what
        self._disks[number].is_full = is_full
        self._outcome.faults["full disks"] += is_full

    def _begin_burst(self, burst: Burst) -> None:
        for _ in range(burst.requests):
            at_ms = burst.start_ms + self._rng.randrange(burst.end_ms - burst.start_ms)
            self._at(FIRST_MONOTONIC_MS + at_ms, self._ask)

    def _ask(self, _: None) -> None:
        server = self._asked_server()
        if server.bank is None:
            return
        campaign_ids, bids = self._feed.draw_request(list(server.caps), self._numbers)
        first, count, *run = server.place(campaign_ids, bids)
        self._outcome.events += len(bids)
        self._feed.placed(first, count, (run[0], run[1]), self._timeline.now_ms)

    def _asked_server(self) -> Server:
        return self._servers[0]

    def _leave_at(self, at_ms: int, report: Report) -> None:
        self._at(at_ms, self._leave, report)

    def _leave(self, report: Report) -> None:
        self._feed.leaves(report, self._timeline.now_ms)
        self._send(report)

    def _send(self, report: Report) -> None:
        if report.is_answered or report.tries > _GIVE_UP:
            return
        now_ms = self._timeline.now_ms
        self._outcome.faults["reports sent again"] += report.tries > 0
        report.tries += 1
        for copy, delay_ms in enumerate(self._network.arrivals_ms()):
            self._at(now_ms + delay_ms, self._arrive, (report, self._reached_server(report, copy)))
        self._at(now_ms + self._network.retry_ms * min(report.tries, 8), self._send, report)

    def _reached_server(self, report: Report, copy: int) -> int:
        """To which server a copy of a report goes; later copies and tries may go to others."""
        return report.server

    def _arrive(self, arrived: tuple[Report, int]) -> None:
        report, number = arrived
        server = self._on(number)
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
            self._at(self._timeline.now_ms + answer_ms, self._answer, (report, statuses))

    def _answer(self, answer: tuple[Report, list[int]]) -> None:
        self._feed.answered(*answer, self._timeline.now_ms)

    def _strike(self, crash: CrashPlan) -> None:
        number = crash.server
        wall_ms, share = self._clocks[number].wall_ms(), crash.committed_share
        if share and self._is_busy and not self._auditors[number].is_nearly_committed(share, wall_ms):
            self._at(self._timeline.now_ms + self._plan.tick_ms, self._strike, crash)
            return
        self._deaths[number] = crash
        if crash.point is None:
            if self._servers[number].bank is not None:
                self._outcome.faults["crashes"] += 1
                self._die(number)
        else:
            self._disks[number].arm(crash.commits, crash.point)

    def _die(self, number: int) -> None:
        self._servers[number].crash()
        down_ms, death = 1, self._deaths[number]
        if death is not None:
            down_ms = death.down_ms
            if death.clock_step_ms:
                self._clock_of_dead_steps(number, death.clock_step_ms)
        self._at(self._timeline.now_ms + down_ms, self._start, number)

    def _clock_of_dead_steps(self, number: int, ms: int) -> None:
        self._step_clock(ms)

    def _caps_of(self, change: CapChange) -> tuple[int, tuple[int, int]]:
        """A campaign and its new caps."""
        campaigns = self._plan.campaigns
        campaign = campaigns[change.campaign_number % len(campaigns)]
        shares = ((campaign.daily_cap_micros, change.daily_share), (campaign.total_cap_micros, change.total_share))
        daily, total = (int(cap * share) for cap, share in shares)
        return campaign.campaign_id, (daily, max(1, total))

    def _change_caps(self, change: CapChange) -> None:
        campaign_id, caps = self._caps_of(change)
        self._outcome.faults["cap changes"] += 1
        self._servers[0].caps[campaign_id] = caps
        self._apply_caps((0, campaign_id))

    def _apply_caps(self, what: tuple[int, int]) -> None:
        """Let a server take the caps that it knows of; what a full disk or the store refuses is tried again."""
        server = self._on(what[0])
        if server.bank is not None and not server.apply_caps(what[1]):
            self._at(self._timeline.now_ms + _RETRY_CAPS_MS, self._apply_caps, what)

    def _step_clock(self, ms: int) -> None:
        allowed_ms, clock = self._plan.clock_error_ms, self._clocks[0]
        if allowed_ms >= 0 and ms < 0:
            ms = -min(-ms, allowed_ms - clock.lag_ms)
        clock.step(ms)
        self._outcome.faults["clock steps"] += 1
        if clock.lag_ms > self._plan.settings.grace_ms:
            self._over.is_clock_wrong = True
