"""The shadow auditor: its own plain bookkeeping of every account, from what becomes durable, checked as it does."""

from __future__ import annotations

import numpy as np

from benchmarks.faults.answers import AnswerBook
from benchmarks.faults.bids import BidTable
from benchmarks.faults.differs import Differs
from benchmarks.faults.shadow import FLIGHT, Key, OverDelivery, ShadowAccounts, ShadowLease
from pacing.budget.account import ACCOUNT, EffectiveCaps
from pacing.facts import OutcomeKind, Verdict
from pacing.ledger.log import Ledger
from pacing.ledger.rows import FIRST_MONEY_KIND, MoneyKind, as_money
from pacing.ledger.statement import statement_page

_MUCH = 0.15
_MONEY_FIELDS = ["kind", "lease_id", "amount_micros", "campaign_id", "day_key", "start_at_ms", "end_at_ms"]
_GRANT, _RELEASE = int(MoneyKind.GRANT), int(MoneyKind.RELEASE)
_BILLABLE = int(OutcomeKind.BILLABLE)
_CHARGED, _OVER_DELIVERY = int(Verdict.CHARGED), int(Verdict.OVER_DELIVERY)
_ALL_ROWS = 2**40


class Auditor:
    """Watches one server's disk.

    Attributes:
        accounts: as its ledger leads to them.
        over: over-delivery.
        billed_micros: charged.
        lost_micros: acknowledged and without a verdict at the end.
    """

    def __init__(self, bids: BidTable, answers: AnswerBook, zones: dict[int, str], over: OverDelivery) -> None:
        self._bids = bids
        self._answers = answers
        self._campaigns = tuple(zones)
        self._granted: dict[int, int] = {}  # campaign by lease
        self._claims: dict[Key, tuple[int, int]] = {}  # (sequence, amount) by (lease, hold)
        self._verdicts: dict[Key, int] = {}
        self._follows: set[Key] = set()
        self._last_row = self._last_judged = 0
        self.accounts = ShadowAccounts(zones)
        self.over = over
        self.billed_micros = self.lost_micros = 0

    def is_nearly_committed(self, share: float, wall_ms: int) -> bool:
        """Whether a campaign has spent or won this share of today's or of the whole budget, a good part of it not
        billed yet: the moment at which a crash hurts most."""
        won = self._answers.won_micros()
        books = self.accounts
        keys = [(c, day_key) for c in won for day_key in (FLIGHT, books.date_key(c, wall_ms))]
        return any(
            won[key[0]] > _MUCH * books.cap(key) and books.settled[key] + won[key[0]] > share * books.cap(key)
            for key in keys
        )

    def caps_set(self, campaign_id: int, daily: int, total: int, wall_ms: int, told: EffectiveCaps | None) -> None:
        """A campaign's caps were changed; `told` is what was answered, where the accounts stood as they do here.

        Raises:
            Differs: the caps in force are others.
        """
        in_force = self.accounts.set_caps(campaign_id, daily, total, wall_ms)
        if told is not None and (told.daily_cap_micros, told.total_cap_micros) != in_force:
            raise Differs(f"caps in force of campaign {campaign_id}: answered {told}, are {in_force}")

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
        books = self.accounts
        if kind == _RELEASE:
            lease = books.leases[self._granted[lease_id], lease_id]
            if not 0 <= amount <= lease.left_micros:
                raise Differs(f"lease {lease_id:#x}: {amount} released of {lease.left_micros}")
            books.lend(lease, -amount)
        elif kind == _GRANT:
            books.check_dates(lease_id, campaign_id, day_key, start_at_ms, end_at_ms)
            books.enter_grant(lease_id, ShadowLease(campaign_id, day_key, 0, end_at_ms), amount)
            self._granted[lease_id] = campaign_id

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
            self._enter_verdict(self._bids.number_of[claim], claim, self._claims[claim][1], verdict)

    def _enter_verdict(self, n: int, claim: Key, amount: int, verdict: int) -> None:
        if verdict == _CHARGED:
            self.billed_micros += amount
            self.accounts.charge(self._bids.campaign_id[n], claim[0], self._bids.issued_at_ms[n], amount)
        elif verdict == _OVER_DELIVERY:
            self.over.enter(n, amount)
        else:
            raise Differs(f"bid {n}: one claim, judged {Verdict(verdict).name}")

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
            ours = (self.accounts.settled[key], self.accounts.leased[key])
            if told != ours:
                raise Differs(f"account {key}: S, L are {told}, must be {ours}")
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
        for campaign_id in self._campaigns:
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
        if not page.charged_micros == charged == self._charged_of(campaign_id):
            raise Differs(
                f"statement of {campaign_id}: {page.charged_micros} in all, its rows are {charged}, "
                f"charged were {self._charged_of(campaign_id)}"
            )

    def _charged_of(self, campaign_id: int) -> int:
        """What this ledger charged a campaign."""
        return self.accounts.settled[campaign_id, FLIGHT]
