"""A simulated world of several servers on one store: partitions, failovers that lose writes, clocks that disagree."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from benchmarks.faults.answers import AnswerBook
from benchmarks.faults.clock import FIRST_MONOTONIC_MS, SteppingClock
from benchmarks.faults.differs import Differs
from benchmarks.faults.feed import Feed, Report
from benchmarks.faults.scenario import CampaignPlan, CapChange, Scenario
from benchmarks.faults.server import Server
from benchmarks.faults.shadow import Key
from benchmarks.faults.shared_auditor import SharedAuditor, StoreTruth
from benchmarks.faults.shared_scenario import ClockStep, Failover, Partition, SharedPlan
from benchmarks.faults.shared_store import Lost, SharedMasters, SimulatedStore
from benchmarks.faults.world import World

_KNOWN_AFTER_MS = 2_000
_NOTICED_MS = 1_000
_FINISHING_ROUNDS = 8
_CAUGHT_UP_ROUNDS = 3
_ROUND_MS = 61_000
_ROUND_TICKS = 3
_RETRIED_ELSEWHERE = 0.3


class SharedWorld(World):
    """One scenario of several servers, played once with `run`."""

    def __init__(self, scenario: Scenario) -> None:
        assert scenario.shared is not None
        self._shared: SharedPlan = scenario.shared
        self._cut: list[Partition | None] = [None] * scenario.shared.servers
        self._lowest_error_ms = min(scenario.shared.clock_errors_ms)
        self._highest_error_ms = max(scenario.shared.clock_errors_ms)
        self._revisions = {c.campaign_id: 1 for c in scenario.campaigns}
        super().__init__(scenario)

    def _true_wall_ms(self) -> int:
        return self._plan.start_at_ms + self._timeline.now_ms - FIRST_MONOTONIC_MS

    def _open_servers(self) -> None:
        settings, plan = self._plan.settings, self._shared
        lease_after_ms = settings.lock_ms + settings.grace_ms
        masters = {c.campaign_id: c.creator_id % plan.masters for c in self._plan.campaigns}
        billed_by: dict[Key, int] = {}
        self._truth = StoreTruth(
            self._bids, self._zones, self._over, self._true_wall_ms, lease_after_ms, masters, billed_by
        )
        self._masters = SharedMasters(self._true_wall_ms, plan.masters, self._truth)
        self._masters.owners.update(range(1, plan.servers + 1))
        for number in range(plan.servers):
            clock = SteppingClock(self._plan.start_at_ms + plan.clock_errors_ms[number], self._timeline)
            own = replace(settings, owner_id=number + 1)
            answers = AnswerBook(self._bids, own)
            auditor = SharedAuditor(
                self._bids, answers, self._zones, self._over, self._truth, self._timeline, settings.lock_ms, billed_by
            )
            self._add_server(clock, answers, auditor, own, partial(self._new_store, number))
        for campaign in self._plan.campaigns:
            self._know(self._servers[0], campaign, opening=True)

    @staticmethod
    def _know(server: Server, c: CampaignPlan, opening: bool) -> None:
        server.know_campaign(c.campaign_id, c.creator_id, c.zone, c.daily_cap_micros, c.total_cap_micros, opening)

    def _new_store(self, number: int) -> SimulatedStore:
        store = SimulatedStore(self._masters, number + 1, quarantine_ms=self._shared.quarantine_ms)
        store.mishap = partial(self._mishap, number)
        return store

    def _mishap(self, number: int) -> Lost | None:
        self._outcome.events += 1
        cut = self._cut[number]
        if cut is not None:
            return Lost.ANSWER if cut.done_rate and self._rng.random() < cut.done_rate else Lost.REQUEST
        rate = self._shared.lost_call_rate
        if rate and self._rng.random() < rate:
            self._outcome.faults["store calls lost"] += 1
            return Lost.ANSWER if self._rng.random() < 0.5 else Lost.REQUEST
        return None

    def _open_feed(self) -> Feed:
        plan = self._shared
        return Feed(
            self._plan.feed, self._plan.settings, self._bids, self._rng, self._leave_at,
            plan.servers, plan.elsewhere_rate,
        )  # fmt: skip

    def _schedule(self) -> None:
        super()._schedule()
        plan = self._shared
        for number in range(plan.servers):
            self._at(FIRST_MONOTONIC_MS + 3 * number + 2, self._watch, number)
        for campaign in self._plan.campaigns:
            for number in range(1, plan.servers):
                known_ms = _KNOWN_AFTER_MS + self._rng.randrange(plan.caps_delay_ms)
                self._at(FIRST_MONOTONIC_MS + known_ms, self._hear_of, (number, campaign))
        for step in plan.clock_steps:
            self._at(FIRST_MONOTONIC_MS + step.at_ms, self._set_clock, step)
        for partition in plan.partitions:
            self._at(FIRST_MONOTONIC_MS + partition.start_ms, self._cut_off, partition)
            self._at(FIRST_MONOTONIC_MS + partition.end_ms, self._heal, partition)
        for failover in plan.failovers:
            self._at(FIRST_MONOTONIC_MS + failover.at_ms, self._lose_master, failover)
            self._at(FIRST_MONOTONIC_MS + failover.at_ms + failover.down_ms, self._promote, failover)

    def _hear_of(self, what: tuple[int, CampaignPlan]) -> None:
        """A campaign reaches another server than the one that opened it."""
        number, campaign = what
        self._know(self._servers[number], campaign, opening=False)
        self._apply_caps((number, campaign.campaign_id))

    def _apply_later(self, number: int, campaign_id: int) -> None:
        self._at(self._timeline.now_ms + 500, self._apply_caps, (number, campaign_id))

    def _watch(self, number: int) -> None:
        server = self._on(number)
        try:
            if server.bank is not None:
                server.watch()
        finally:
            self._again(self._watch, self._shared.watch_ms, number)

    # --- the feed -----------------------------------------------------------------------------------------------

    def _asked_server(self) -> Server:
        return self._on(self._rng.randrange(len(self._servers)))

    def _reached_server(self, report: Report, copy: int) -> int:
        rate = self._shared.elsewhere_rate if copy else 0.0
        if report.tries > 1:
            rate = _RETRIED_ELSEWHERE
        return self._feed.any_server(report.server, rate)

    # --- faults -------------------------------------------------------------------------------------------------

    def _cut_off(self, partition: Partition) -> None:
        self._cut[partition.server] = partition
        self._outcome.faults["partitions"] += 1

    def _heal(self, partition: Partition) -> None:
        if self._cut[partition.server] is partition:
            self._cut[partition.server] = None

    def _lose_master(self, failover: Failover) -> None:
        self._masters.set_down(failover.master, is_down=True)
        granting_ms = failover.down_ms + self._shared.quarantine_ms + _NOTICED_MS
        self._truth.failed_over(failover.master, self._timeline.now_ms, self._timeline.now_ms + granting_ms)
        self._outcome.faults["failovers"] += 1

    def _promote(self, failover: Failover) -> None:
        lost = self._masters.fail_over(failover.master, failover.lost_ms + failover.down_ms, failover.clock_error_ms)
        self._outcome.faults["writes lost in failovers"] += lost
        self._truth.has_lost_writes |= lost > 0
        self._masters.set_down(failover.master, is_down=False)

    def _set_clock(self, step: ClockStep) -> None:
        error_ms = self._clocks[step.server].wall_ms() - self._true_wall_ms()
        self._clocks[step.server].step(step.error_ms - error_ms)
        self._outcome.faults["clock steps"] += 1
        self._lowest_error_ms = min(self._lowest_error_ms, step.error_ms)
        self._highest_error_ms = max(self._highest_error_ms, step.error_ms)
        if self._highest_error_ms - self._lowest_error_ms > self._plan.settings.grace_ms:
            self._over.is_clock_wrong = True

    def _clock_of_dead_steps(self, number: int, ms: int) -> None:
        """Only by `clock_steps`, which keep to the assumption, or do not."""

    def _change_caps(self, change: CapChange) -> None:
        """New caps are told to one server, and reach the others later; older ones never replace newer ones."""
        campaign_id, caps = self._caps_of(change)
        if campaign_id not in self._servers[change.server].caps:
            return
        self._outcome.faults["cap changes"] += 1
        self._revisions[campaign_id] += 1
        revision = self._revisions[campaign_id]
        self._learn_caps((change.server, campaign_id, revision, caps))
        for number in range(len(self._servers)):
            if number != change.server:
                at_ms = self._timeline.now_ms + self._rng.randrange(self._shared.caps_delay_ms)
                self._at(at_ms, self._learn_caps, (number, campaign_id, revision, caps))

    def _learn_caps(self, what: tuple[int, int, int, tuple[int, int]]) -> None:
        number, campaign_id, revision, caps = what
        server = self._servers[number]
        if campaign_id not in server.caps:
            self._at(self._timeline.now_ms + _KNOWN_AFTER_MS, self._learn_caps, what)
        elif revision > server.revisions[campaign_id]:
            server.caps[campaign_id], server.revisions[campaign_id] = caps, revision
            self._apply_caps((number, campaign_id))

    # --- the end ------------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        """Everybody is up and reaches the store; then nothing is left open, and the store has what the truth has."""
        self._cut = [None] * len(self._servers)
        self._shared = replace(self._shared, lost_call_rate=0.0)
        for number, server in enumerate(self._servers):
            self._masters.set_down(number % len(self._masters), is_down=False)
            self._disks[number].is_full = False
            if server.bank is None:
                server.start()
            server.close_accounts()
        self._pass_rounds(_FINISHING_ROUNDS)
        # What is locked until an instant of a wall clock stays so until that clock, set back since, is there again.
        self._timeline.advance_to(self._timeline.now_ms + self._highest_error_ms - self._lowest_error_ms)
        self._pass_rounds(_CAUGHT_UP_ROUNDS)
        for number, server in enumerate(self._servers):
            if not server.is_settled:
                raise Differs(f"server {number}: does not come to the end of what is to be settled")
        store = SimulatedStore(self._masters, 0)
        for campaign_id in self._zones:
            account = store.account(campaign_id)
            if account is not None:
                self._truth.compare(account)
        for server in self._servers:
            server.audit()

    def _pass_rounds(self, count: int) -> None:
        for _ in range(count * _ROUND_TICKS):
            self._timeline.advance_to(self._timeline.now_ms + _ROUND_MS // _ROUND_TICKS)
            for server in self._servers:
                server.tick()
                server.judge_all()
                server.watch()

    @property
    def _charged_over_micros(self) -> int:
        return self._truth.accounts.charged_over_micros
