"""The shadow auditor: its own plain bookkeeping of every account, from what becomes durable, checked as it does.

An account is (campaign_id, day_key), the flight's under day_key 0. Local dates are taken from `zoneinfo` itself.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np

from benchmarks.faults.answers import AnswerBook
from benchmarks.faults.bids import BidTable
from benchmarks.faults.differs import Differs
from pacing.budget.account import ACCOUNT, EffectiveCaps
from pacing.facts import OutcomeKind, Verdict
from pacing.ledger.log import Ledger
from pacing.ledger.rows import FIRST_MONEY_KIND, MoneyKind, as_money
from pacing.ledger.statement import statement_page

FLIGHT = 0
_MUCH = 0.15
_MONEY_FIELDS = ["kind", "lease_id", "amount_micros", "campaign_id", "day_key", "start_at_ms", "end_at_ms"]
_GRANT, _RELEASE = int(MoneyKind.GRANT), int(MoneyKind.RELEASE)
_BILLABLE = int(OutcomeKind.BILLABLE)
_CHARGED, _OVER_DELIVERY = int(Verdict.CHARGED), int(Verdict.OVER_DELIVERY)
_ALL_ROWS = 2**40
Key = tuple[int, int]


@dataclass(slots=True)
class _Lease:
    campaign_id: int
    day_key: int
    left_micros: int


class Auditor:
    """Watches one server's disk.

    Attributes:
        over_delivered_micros, excused_micros: judged as over-delivery; and the part of it that the stated assumptions
            do not exclude.
        billed_micros, charged_over_micros: charged, and charged beyond a cap.
        lost_micros: acknowledged and without a verdict at the end.
        is_clock_wrong: the wall clock went back by more than grace_ms, so over-delivery is no failure from here on.
    """

    def __init__(self, bids: BidTable, answers: AnswerBook, zones: dict[int, str], largest_bid_micros: int) -> None:
        self._largest_bid_micros = largest_bid_micros
        self._over: defaultdict[int, int] = defaultdict(int)
        self._bids = bids
        self._answers = answers
        self._zones = {campaign_id: ZoneInfo(zone) for campaign_id, zone in zones.items()}
        self._asked: dict[int, list[tuple[int, int]]] = {campaign_id: [] for campaign_id in zones}
        self._total: dict[int, int] = {}
        self._limit: dict[Key, int] = {}
        self._settled: defaultdict[Key, int] = defaultdict(int)
        self._leased: defaultdict[Key, int] = defaultdict(int)
        self._leases: dict[int, _Lease] = {}
        self._claims: dict[Key, tuple[int, int]] = {}  # (sequence, amount) by (lease, hold)
        self._verdicts: dict[Key, int] = {}
        self._follows: set[Key] = set()
        self._last_row = self._last_judged = 0
        self.billed_micros = self.charged_over_micros = self.lost_micros = 0
        self.over_delivered_micros = self.excused_micros = 0
        self.is_clock_wrong = False

    def date_key(self, campaign_id: int, at_ms: int) -> int:
        """The campaign's local date, 20260301 for 1 March 2026."""
        local = datetime.fromtimestamp(at_ms // 1_000, self._zones[campaign_id])
        return local.year * 10_000 + local.month * 100 + local.day

    def _cap(self, key: Key) -> int:
        campaign_id, day_key = key
        if day_key == FLIGHT:
            return self._total.get(campaign_id, 0)
        asked = self._asked[campaign_id]
        return next((cap for from_key, cap in reversed(asked) if from_key <= day_key), asked[-1][1] if asked else 0)

    def _bound(self, key: Key) -> int:
        """S + L."""
        return self._settled[key] + self._leased[key]

    def is_nearly_committed(self, share: float, wall_ms: int) -> bool:
        """Whether a campaign has spent or won this share of today's or of the whole budget, a good part of it not
        billed yet: the moment at which a crash hurts most."""
        won = self._answers.won_micros()
        keys = [(c, day_key) for c in won for day_key in (FLIGHT, self.date_key(c, wall_ms))]
        return any(
            won[key[0]] > _MUCH * self._cap(key) and self._settled[key] + won[key[0]] > share * self._cap(key)
            for key in keys
        )

    def caps_set(self, campaign_id: int, daily: int, total: int, wall_ms: int, told: EffectiveCaps | None) -> None:
        """A campaign's caps were changed; `told` is what was answered, where the accounts stood as they do here.

        Raises:
            Differs: the caps in force are others.
        """
        today = self.date_key(campaign_id, wall_ms)
        self._total[campaign_id] = total
        self._asked[campaign_id].append((today, daily))
        for key in [(campaign_id, FLIGHT), (campaign_id, today), *self._limit]:
            if key[0] == campaign_id and (key[1] == FLIGHT or key[1] >= today):
                self._limit[key] = max(self._cap(key), self._bound(key))
        if told is not None:
            for key, answer in (
                ((campaign_id, today), told.daily_cap_micros),
                ((campaign_id, FLIGHT), told.total_cap_micros),
            ):
                if answer != self._limit[key]:
                    raise Differs(f"cap in force of {key}: answered {answer}, is {self._limit[key]}")

    def rows_durable(self, rows: np.ndarray) -> None:
        """See `disk.Watcher`.

        Raises:
            Differs: a grant exceeds a cap, a lease crosses its day's end, or a claim is in the ledger twice.
        """
        self._last_row = max(self._last_row, int(rows["sequence"][-1])) if len(rows) else self._last_row
        if len(rows) and rows["kind"][0] >= FIRST_MONEY_KIND:
            for fields in as_money(rows)[_MONEY_FIELDS].tolist():
                self._enter_money(*fields)
            return
        decisions = rows["decision"]
        columns = (rows["kind"], decisions["lease_id"], decisions["hold_seq"], rows["sequence"], rows["price_micros"])
        for kind, lease_id, hold_seq, sequence, amount in zip(*(c.tolist() for c in columns), strict=True):
            claim = (lease_id, hold_seq)
            if kind != _BILLABLE:
                self._follows.add(claim)
                continue
            n = self._bids.number_of.get(claim)
            if n is None:
                raise Differs(f"claim on lease {lease_id:#x}, hold {hold_seq:#x}: nobody bid that")
            if claim in self._claims:
                raise Differs(f"bid {n}: claimed twice, rows {self._claims[claim][0]} and {sequence}")
            if not 0 <= amount <= self._bids.bid_micros[n]:
                raise Differs(f"bid {n} of {self._bids.bid_micros[n]}: claimed at {amount}")
            self._claims[claim] = (sequence, amount)
            self._answers.durable(n, amount)

    def _enter_money(
        self, kind: int, lease_id: int, amount: int, campaign_id: int, day_key: int, start_at_ms: int, end_at_ms: int
    ) -> None:
        if kind == _RELEASE:
            lease = self._leases[lease_id]
            if not 0 <= amount <= lease.left_micros:
                raise Differs(f"lease {lease_id:#x}: {amount} released of {lease.left_micros}")
            self._lend(lease, -amount)
        elif kind == _GRANT:
            if lease_id in self._leases:
                raise Differs(f"lease {lease_id:#x}: granted twice")
            lease = self._leases[lease_id] = _Lease(campaign_id, day_key, 0)
            dates = [self.date_key(campaign_id, at_ms) for at_ms in (start_at_ms, end_at_ms - 1)]
            if dates != [day_key, day_key]:
                raise Differs(f"lease {lease_id:#x} of day {day_key}: lasts from {dates[0]} to {dates[1]}")
            self._lend(lease, amount)
            for key in ((campaign_id, FLIGHT), (campaign_id, day_key)):
                if self._bound(key) > self._cap(key):
                    raise Differs(f"account {key}: S + L is {self._bound(key)} at a grant, B is {self._cap(key)}")

    def _lend(self, lease: _Lease, amount: int) -> None:
        lease.left_micros += amount
        self._leased[lease.campaign_id, FLIGHT] += amount
        self._leased[lease.campaign_id, lease.day_key] += amount

    def verdicts_durable(self, rows: np.ndarray, judgements: np.ndarray) -> None:
        """See `disk.Watcher`.

        Raises:
            Differs: an account is charged beyond its cap, a claim is judged twice or not charged although it is known
                but once, or there is over-delivery that the assumptions exclude.
        """
        if not len(rows):
            return
        self._last_judged = max(self._last_judged, int(rows["sequence"][-1]))
        billable = rows["kind"] == _BILLABLE
        decisions = rows["decision"][billable]
        columns = (decisions["lease_id"], decisions["hold_seq"], judgements["verdict"][billable])
        for lease_id, hold_seq, verdict in zip(*(c.tolist() for c in columns), strict=True):
            claim = (lease_id, hold_seq)
            if claim in self._verdicts or claim not in self._claims:
                raise Differs(f"claim {claim}: judged twice, or never made")
            self._verdicts[claim] = verdict
            n, amount = self._bids.number_of[claim], self._claims[claim][1]
            if verdict == _CHARGED:
                self._charge(n, lease_id, amount)
            elif verdict == _OVER_DELIVERY:
                self._over_deliver(n, amount)
            else:
                raise Differs(f"bid {n}: one claim, judged {Verdict(verdict).name}")

    def _charge(self, n: int, lease_id: int, amount: int) -> None:
        campaign_id = self._bids.campaign_id[n]
        lease = self._leases.get(lease_id)
        if lease is None:
            day_key = self.date_key(campaign_id, self._bids.issued_at_ms[n])
            lease = self._leases[lease_id] = _Lease(campaign_id, day_key, 0)
        self._lend(lease, -min(amount, lease.left_micros))
        self.billed_micros += amount
        for key in ((campaign_id, FLIGHT), (campaign_id, lease.day_key)):
            self._settled[key] += amount
            limit = self._limit.setdefault(key, self._cap(key))
            if self._settled[key] > limit:
                self.charged_over_micros += min(amount, self._settled[key] - limit)
                raise Differs(f"account {key}: charged {self._settled[key]}, B is {limit}")

    def _over_deliver(self, n: int, amount: int) -> None:
        campaign_id = self._bids.campaign_id[n]
        self.over_delivered_micros += amount
        self._over[campaign_id] += amount
        if not self.is_clock_wrong and self._over[campaign_id] > self._excusable(campaign_id):
            raise Differs(f"bid {n} of campaign {campaign_id}: {amount} over-delivered")
        self.excused_micros += amount

    def _excusable(self, campaign_id: int) -> int:
        """How much over-delivery unassured impressions may have caused.

        Each lacks its own amount somewhere; and since a claim is charged whole or not at all, one that does not fit may
        leave up to its amount unused there.
        """
        bids = self._bids
        amounts = [amount for n, amount in self._answers.unassured.items() if bids.campaign_id[n] == campaign_id]
        return sum(amounts) + len(amounts) * self._largest_bid_micros

    def restarted(self, ledger: Ledger) -> None:
        """Take in what the dead process made durable without saying so, before the next one does anything.

        Raises:
            Differs: the ledger is shorter than it was.
        """
        if ledger.last_sequence < self._last_row or ledger.judged_sequence < self._last_judged:
            raise Differs(
                f"ledger ends at rows {ledger.last_sequence} and {ledger.judged_sequence} judged, "
                f"{self._last_row} and {self._last_judged} were durable"
            )
        money = ledger.read_money(self._last_row)
        outcomes = ledger.read(self._last_row, _ALL_ROWS)
        for rows in (money.view(outcomes.dtype), outcomes):
            if len(rows):
                self.rows_durable(rows)
        self.verdicts_durable(*ledger.read_judged(self._last_judged, _ALL_ROWS))

    def compare(self, standing: np.void) -> None:
        """Compare a campaign's ACCOUNT, as the bank tells it while all that it decided is durable, with ours.

        Raises:
            Differs: S or L is another, or the spend is not between S and the cap in force.
        """
        assert standing.dtype == ACCOUNT
        for name, day_key in (("flight", FLIGHT), ("day", int(standing["day_key"]))):
            key = (int(standing["campaign_id"]), day_key)
            told = (int(standing[f"{name}_settled_micros"]), int(standing[f"{name}_leased_micros"]))
            if told != (self._settled[key], self._leased[key]):
                raise Differs(f"account {key}: S, L are {told}, must be {(self._settled[key], self._leased[key])}")
            spend, cap = int(standing[f"{name}_spend_micros"]), int(standing[f"{name}_cap_micros"])
            if not told[0] <= spend <= cap:
                raise Differs(f"account {key}: spend {spend} not in {told[0]}..{cap}")

    def finish(self, ledger: Ledger) -> None:
        """Check all that was acknowledged against the verdicts and the statements, once everything is judged.

        Raises:
            Differs: something acknowledged is missing, or charged at another amount or not exactly once.
        """
        lost = []
        for n, amount in self._answers.acknowledged.items():
            claim = (self._bids.lease_id[n], self._bids.hold_seq[n])
            if claim not in self._verdicts or self._claims[claim][1] != amount:
                self.lost_micros += amount
                lost.append(n)
        if lost:
            raise Differs(f"bids {lost[:5]}: acknowledged and lost, {self.lost_micros} micros of {len(lost)} bids")
        followed = {(self._bids.lease_id[n], self._bids.hold_seq[n]) for n in self._answers.followed}
        if followed - self._follows:
            raise Differs(f"{len(followed - self._follows)} conversions: acknowledged and lost")
        rows, judgements = ledger.read_judged(0, _ALL_ROWS)
        billable = rows["kind"] == _BILLABLE
        if int(billable.sum()) != len(self._claims):
            raise Differs(f"ledger has {int(billable.sum())} claims, {len(self._claims)} were durable")
        if not np.array_equal(judgements["verdict"][billable] == 0, np.zeros(int(billable.sum()), np.bool_)):
            raise Differs("claims without a verdict")
        for campaign_id in self._zones:
            self._check_statement(ledger, campaign_id)

    def _check_statement(self, ledger: Ledger, campaign_id: int) -> None:
        expected = {
            self._claims[claim][0]: (self._claims[claim][1], verdict)
            for claim, verdict in self._verdicts.items()
            if self._bids.campaign_id[self._bids.number_of[claim]] == campaign_id
        }
        after, charged = 0, 0
        while True:
            page = statement_page(ledger, campaign_id, after)
            for sequence, verdict, amount in page.charges[["sequence", "verdict", "amount_micros"]].tolist():
                if expected.pop(sequence, None) != (amount, verdict):
                    raise Differs(f"statement of {campaign_id}, row {sequence}: {amount}, verdict {verdict}")
                charged += amount * (verdict == _CHARGED)
            after = page.next_after
            if not after:
                break
        if expected:
            raise Differs(f"statement of {campaign_id}: rows {list(expected)[:5]} are missing")
        if not page.charged_micros == charged == self._settled[campaign_id, FLIGHT]:
            raise Differs(
                f"statement of {campaign_id}: {page.charged_micros} in all, its rows are {charged}, "
                f"charged were {self._settled[campaign_id, FLIGHT]}"
            )
