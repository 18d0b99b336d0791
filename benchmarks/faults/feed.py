"""The feed of a simulated world: decides what becomes of every bid, and when and how it is reported."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from benchmarks.faults.answers import Row
from benchmarks.faults.bids import BidTable
from benchmarks.faults.scenario import FeedPlan
from pacing.budget.settings import BankSettings
from pacing.facts import OutcomeKind, RowStatus

_WIN, _BILLABLE, _LOSS = int(OutcomeKind.WIN), int(OutcomeKind.BILLABLE), int(OutcomeKind.LOSS)
_FOLLOW = int(OutcomeKind.FOLLOW)
_FOLLOW_RATE = 0.02
_RANKED = 4
_GOOD = (RowStatus.ACCEPTED, RowStatus.DUPLICATE)


@dataclass(eq=False, slots=True)
class Report:
    """One report, sent until it is answered.

    Attributes:
        server: to whom it goes.
        closed_runs: (first sequence, count) of decided responses; `closed`: the bids in them.
        outcomes: the rows as the server gets them.
    """

    server: int = 0
    rows: list[Row] = field(default_factory=list)
    closed_runs: list[tuple[int, int]] = field(default_factory=list)
    closed: list[int] = field(default_factory=list)
    outcomes: np.ndarray | None = None
    is_answered: bool = False
    tries: int = 0


class Feed:
    """Collects rows into reports, one for each server and `flush_ms` in which something is due.

    A row goes to the server that bid or, at a rate, to any other. But what closes a response names what was won in it,
    so the two go in one report, to the server that bid.
    """

    def __init__(
        self,
        plan: FeedPlan,
        settings: BankSettings,
        bids: BidTable,
        rng: random.Random,
        send_at: Callable[[int, Report], None],
        servers: int = 1,
        elsewhere_rate: float = 0.0,
    ) -> None:
        """`send_at` is told when a new report has to leave; rows that are due until then are added to it."""
        self._plan = plan
        self._win_notice_ms = settings.win_notice_ms
        self._billing_ms = settings.billing_ms
        self._late_ms = 0.1 * settings.billing_ms + settings.grace_ms
        self._bids = bids
        self._rng = rng
        self._send_at = send_at
        self._outbox: dict[tuple[int, int], Report] = {}
        self._servers = servers
        self._elsewhere_rate = elsewhere_rate
        self._paid: dict[int, int] = {}  # what a won bid that is to be shown will cost, until it is

    def draw_request(self, campaign_ids: list[int], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Campaigns and bids, ranked, for the viewers of one request: u8[n, r], i8[n, r]."""
        n = 1 + int(self._rng.random() * self._plan.viewers)
        self._rng.shuffle(campaign_ids)
        del campaign_ids[_RANKED:]
        bids = rng.integers(1, self._plan.largest_bid_micros, (n, len(campaign_ids)), endpoint=True)
        return np.tile(np.array(campaign_ids, np.int64), (n, 1)), bids

    def any_server(self, but: int, rate: float) -> int:
        """Another server than this one, at a rate; else this one."""
        if self._servers == 1 or not rate or self._rng.random() >= rate:
            return but
        return (but + 1 + self._rng.randrange(self._servers - 1)) % self._servers

    def _report_at(self, at_ms: int, server: int) -> Report:
        slot = int(at_ms) // self._plan.flush_ms
        report = self._outbox.get((server, slot))
        if report is None:
            report = self._outbox[server, slot] = Report(server)
            self._send_at((slot + 1) * self._plan.flush_ms, report)
        return report

    def leaves(self, report: Report, now_ms: int) -> None:
        """A report is sent for the first time; nothing more is added."""
        self._outbox.pop((report.server, now_ms // self._plan.flush_ms - 1), None)
        numbers, kinds, told = map(list, zip(*report.rows, strict=True)) if report.rows else ([], [], [])
        report.outcomes = self._bids.rows(numbers, kinds, told)

    def _say(self, at_ms: float, row: Row, is_bound: bool = False) -> None:
        home = self._bids.server[row[0]]
        server = home if is_bound else self.any_server(home, self._elsewhere_rate)
        self._report_at(int(at_ms), server).rows.append(row)
        if self._plan.repeat_rate and self._rng.random() < self._plan.repeat_rate:
            later_ms = int(at_ms + self._rng.random() * self._billing_ms)
            self._report_at(later_ms, self.any_server(home, self._elsewhere_rate)).rows.append(row)

    def placed(self, first: int, count: int, run: tuple[int, int], now_ms: int) -> None:
        """Decide what becomes of bids first .. first + count - 1, the answer to one request."""
        if not count:
            return
        random_, plan = self._rng.random, self._plan
        is_closing = random_() < plan.close_rate
        decided_ms = now_ms + random_() ** 2 * self._win_notice_ms
        for n in range(first, first + count):
            at_ms = decided_ms if random_() >= plan.late_rate else now_ms + self._win_notice_ms * (0.9 + random_())
            if random_() < plan.win_rate:
                self._win(n, at_ms, is_closing)
            elif not is_closing and random_() < plan.loss_row_rate:
                self._say(at_ms, (n, _LOSS, 0))
            if plan.contradict_rate and random_() < plan.contradict_rate:
                self._contradict(n, at_ms)
        if is_closing:
            report = self._report_at(int(decided_ms), self._bids.server[first])
            report.closed_runs.append(run)
            report.closed += range(first, first + count)

    def _win(self, n: int, at_ms: float, is_bound: bool) -> None:
        random_, bid = self._rng.random, self._bids.bid_micros[n]
        paid = bid if random_() < 0.5 else int(bid * random_())
        self._say(at_ms, (n, _WIN, paid if random_() < 0.5 else 0), is_bound)
        if random_() >= self._plan.show_rate:
            return
        if random_() < self._plan.instant_rate:
            self._show(n, paid, at_ms)
        else:
            self._paid[n] = paid

    def _contradict(self, n: int, at_ms: float) -> None:
        """Give a bid up, and bill it all the same."""
        self._say(at_ms, (n, _LOSS, 0))
        later_ms = at_ms + self._rng.random() * self._win_notice_ms
        self._say(later_ms, (n, _WIN, 0))
        self._show(n, self._bids.bid_micros[n], later_ms + self._rng.random() * self._billing_ms / 2)

    def _show(self, n: int, paid: int, at_ms: float) -> None:
        random_ = self._rng.random
        self._say(at_ms, (n, _BILLABLE, paid))
        if random_() < _FOLLOW_RATE:
            self._say(at_ms + random_() * 10 * self._billing_ms, (n, _FOLLOW, 0))
        if self._plan.wrong_amount_rate and random_() < self._plan.wrong_amount_rate:
            wrong = self._bids.bid_micros[n] + 1 if random_() < 0.5 else paid // 2
            if self._servers > 1:  # two servers may each believe another amount, and give back what it leaves
                self._bids.unassured[n] = paid
            self._say(at_ms + random_() * self._billing_ms, (n, _BILLABLE, wrong))

    def answered(self, report: Report, statuses: list[int], now_ms: int) -> None:
        """A report was answered: what was won in time is shown."""
        if report.is_answered:
            return
        report.is_answered = True
        random_, plan = self._rng.random, self._plan
        for (n, kind, _), status in zip(report.rows, statuses, strict=True):
            if kind != _WIN:
                continue
            paid = self._paid.pop(n, None)
            if paid is None or status not in _GOOD:
                continue
            placed_ms = self._bids.placed_ms[n]
            if random_() < plan.late_rate:
                at_ms = placed_ms + 0.9 * self._billing_ms + random_() * self._late_ms
            else:
                at_ms = placed_ms + self._billing_ms * plan.show_within * random_()
            self._show(n, paid, max(at_ms, now_ms))
