"""The shadow auditors of servers that share their budgets: one truth of the store, and one auditor a server.

The truth is what the store would hold if no write had ever been lost, kept from what its masters did. Money that a
failover made the store forget is still out, or gone, in the truth.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from benchmarks.faults.answers import AnswerBook
from benchmarks.faults.auditor import Auditor
from benchmarks.faults.bids import BidTable
from benchmarks.faults.clock import Timeline
from benchmarks.faults.differs import Differs
from benchmarks.faults.shadow import FLIGHT, Key, OverDelivery, ShadowAccounts, ShadowLease
from pacing.budget.account import Account, EffectiveCaps
from pacing.budget.store import CapsRequest, LeaseRequest, LeaseState
from pacing.facts import Verdict
from pacing.ledger.rows import MoneyKind

_CHARGED, _OVER_DELIVERY = int(Verdict.CHARGED), int(Verdict.OVER_DELIVERY)


class StoreTruth:
    """Watches the masters of a shared store; see `shared_store.StoreWatcher`.

    Attributes:
        accounts: S, L and B as if no write had been lost.
        charged: amount by claim, (lease_id, hold_seq), of all that the store ever charged.
        has_lost_writes: in a failover.
    """

    def __init__(
        self,
        bids: BidTable,
        zones: dict[int, str],
        over: OverDelivery,
        wall_ms: Callable[[], int],
        lease_after_ms: int,
        masters: dict[int, int],
        billed_by: dict[Key, int],
    ) -> None:
        """`wall_ms` is the true time; nothing is charged to a lease `lease_after_ms` after its end; `masters`: which
        one has each campaign's accounts; `billed_by`: claims that some ledger has charged."""
        self._masters = masters
        self._billed_by = billed_by
        self._from_lease: dict[Key, int] = {}
        self._bids = bids
        self._over = over
        self._wall_ms = wall_ms
        self._lease_after_ms = lease_after_ms
        self._revisions: defaultdict[int, int] = defaultdict(int)
        self._serials: defaultdict[Key, int] = defaultdict(int)
        self._open: defaultdict[int, set[int]] = defaultdict(set)
        self._does: dict[str, Callable[..., None]] = {
            "change_caps": self._change_caps,
            "grant": self._grant,
            "give_back": self._give_back,
            "decide": self._decide,
            "take_back": self._take_back,
            "restate": self._restate,
        }
        self.accounts = ShadowAccounts(zones)
        self._taken_early: defaultdict[int, int] = defaultdict(int)
        self._quarantines: list[tuple[int, int, int]] = []
        self.charged: dict[Key, int] = {}
        self.has_lost_writes = False
        self._is_exact = True

    def failed_over(self, master: int, lost_at_ms: int, granting_at_ms: int) -> None:
        """A master was lost; behind the next one nothing is granted before all that was accepted is judged, so that
        claims on leases that were open then may come late. Both on true, monotonic time."""
        self._quarantines.append((master, lost_at_ms, granting_at_ms))

    def latest_verdict_ms(self, campaign_id: int, latest_ms: int) -> int:
        """Until when a campaign's claim must be judged that would have to be by `latest_ms` if no master was lost."""
        for master, lost_at_ms, granting_at_ms in self._quarantines:
            if master == self._masters[campaign_id] and lost_at_ms <= latest_ms:
                latest_ms = max(latest_ms, granting_at_ms)
        return latest_ms

    def store_did(self, owner_id: int, name: str, arguments: tuple[Any, ...], answer: Any) -> None:
        """See `shared_store.StoreWatcher`.

        Raises:
            Differs: S + L exceeds B at a grant, or a charge exceeds the cap in force.
        """
        act = self._does.get(name)
        if act is not None:
            act(answer, *arguments)

    def _change_caps(
        self, told: EffectiveCaps, quarantine_ms: int, asked: CapsRequest, owner_id: int, joined: list[int]
    ) -> None:
        campaign_id, caps = asked.campaign_id, (asked.daily_cap_micros, asked.total_cap_micros)
        if asked.revision < self._revisions[campaign_id]:
            return
        self._revisions[campaign_id] = asked.revision
        in_force = self.accounts.set_caps(campaign_id, *caps, asked.now_ms)
        is_exact = self._is_exact and not self.has_lost_writes
        if is_exact and (told.daily_cap_micros, told.total_cap_micros) != in_force:
            raise Differs(f"caps in force of campaign {campaign_id}: answered {told}, are {in_force}")

    def _grant(
        self,
        amounts: list[int],
        creator_id: int,
        quarantine_ms: int,
        campaign_id: int,
        owner_id: int,
        requests: list[LeaseRequest],
    ) -> None:
        for request, amount in zip(requests, amounts, strict=True):
            if not amount or (campaign_id, request.lease_id) in self.accounts.leases:
                continue
            self._drop_dead_leases(campaign_id)
            lease = ShadowLease(campaign_id, request.day_key, 0, request.end_at_ms)
            self.accounts.enter_grant(request.lease_id, lease, amount)
            self._open[campaign_id].add(request.lease_id)

    def _drop_dead_leases(self, campaign_id: int) -> None:
        """Free what no claim can come on any more, where the store has forgotten the lease, so gives nothing back."""
        if self.has_lost_writes:
            before_ms = self._wall_ms() - self._lease_after_ms
            for lease_id in list(self._open[campaign_id]):
                self._end_if_before(campaign_id, lease_id, before_ms)

    def _end_if_before(self, campaign_id: int, lease_id: int, before_ms: int) -> None:
        lease = self.accounts.leases[campaign_id, lease_id]
        if lease.end_at_ms < before_ms:
            if self._over.is_clock_wrong:
                # Perhaps of a server that lives and bids on it. A failover may lose that it was taken back and lent
                # again; then the holders of both leases tell the store that they have the money, and are believed.
                self._taken_early[lease.campaign_id] += lease.left_micros
            self.accounts.lend(lease, -lease.left_micros)
            self._open[lease.campaign_id].discard(lease_id)

    def _give_back(
        self, released: int, campaign_id: int, lease_id: int, amount: int, closed: bool, serial: int, kept_ms: int
    ) -> None:
        key = (campaign_id, lease_id)
        lease = self.accounts.leases.get(key)
        if lease is None or 0 < serial <= self._serials[key]:
            return
        if serial:
            self._serials[key] = serial
        self.accounts.lend(lease, -min(amount, lease.left_micros))
        if closed and not lease.left_micros:
            self._open[lease.campaign_id].discard(lease_id)

    def _decide(
        self,
        verdicts: list[int],
        creator_id: int,
        quarantine_ms: int,
        owner_id: int,
        claims: list[tuple[int, int, int, int, int, int]],
        kept_ms: int,
        is_known: bool,
    ) -> None:
        for verdict, (campaign_id, lease_id, hold_seq, amount, issued_at_ms, _) in zip(verdicts, claims, strict=True):
            if verdict != _CHARGED:
                continue
            if self.has_lost_writes:
                self.accounts.excused_micros = self._taken_early
            claim = (lease_id, hold_seq)
            before = self.charged.get(claim)
            if before == amount:
                continue
            if before is not None:
                self._charge_was_lost(campaign_id, claim, before, amount)
            self.charged[claim] = amount
            self._from_lease[claim] = self.accounts.charge(campaign_id, lease_id, issued_at_ms, amount)
            if before is not None and lease_id not in self._open[campaign_id]:
                lease = self.accounts.leases[campaign_id, lease_id]
                self.accounts.lend(lease, -lease.left_micros)

    def _charge_was_lost(self, campaign_id: int, claim: Key, before: int, amount: int) -> None:
        """A claim of which servers were told different amounts is charged at another one than a lost master did: right
        where that one's answer was lost, too, so that no ledger has it.

        Raises:
            Differs: some ledger does.
        """
        if claim in self._billed_by or not self.has_lost_writes:
            raise Differs(f"claim {claim}: charged {before}, and {amount} by another master")
        self.accounts.take_back_charge(campaign_id, claim[0], before, self._from_lease[claim])

    def _take_back(self, taken: int, quarantine_ms: int, campaign_id: int, before_at_ms: int, kept_ms: int) -> None:
        if taken < 0:
            return
        for lease_id in list(self._open[campaign_id]):
            self._end_if_before(campaign_id, lease_id, before_at_ms)

    def _restate(self, changed: int, campaign_id: int, owner_id: int, states: list[LeaseState], kept_ms: int) -> None:
        """What a holder does not have is not out; where it has more, the store may reserve more than it needs to."""
        self._is_exact = self._is_exact and not changed
        for state in states:
            lease = self.accounts.leases.get((campaign_id, state.lease_id))
            if changed and lease is not None and lease.left_micros > state.remaining_micros:
                self.accounts.lend(lease, state.remaining_micros - lease.left_micros)

    def compare(self, account: Account) -> None:
        """Compare a campaign's accounts, once everything is settled and given back, with ours.

        Raises:
            Differs: S or L is another.
        """
        flight = account.flight
        settled = self.accounts.settled[account.campaign_id, FLIGHT]
        if (flight.settled_micros, flight.leased_micros) != (settled, 0):
            raise Differs(
                f"campaign {account.campaign_id} in the store: S, L are {flight.settled_micros}, "
                f"{flight.leased_micros} in the end, must be {settled}, 0"
            )


class SharedAuditor(Auditor):
    """Watches the disk of one of several servers; accounts are the store's."""

    def __init__(
        self,
        bids: BidTable,
        answers: AnswerBook,
        zones: dict[int, str],
        over: OverDelivery,
        truth: StoreTruth,
        timeline: Timeline,
        lock_ms: int,
        billed_by: dict[Key, int],
    ) -> None:
        """`billed_by`: claims that some ledger has charged; `lock_ms`: how long after its bid a claim may be judged."""
        super().__init__(bids, answers, zones, over)
        self._truth = truth
        self._timeline = timeline
        self._lock_ms = lock_ms
        self._billed_by = billed_by
        self._charged: defaultdict[int, int] = defaultdict(int)
        self.accounts = truth.accounts

    def caps_set(self, campaign_id: int, daily: int, total: int, wall_ms: int, told: EffectiveCaps | None) -> None:
        """The truth of the store has seen it."""

    def _enter_money(
        self, kind: int, lease_id: int, amount: int, campaign_id: int, day_key: int, start_at_ms: int, end_at_ms: int
    ) -> None:
        if kind == MoneyKind.GRANT:
            self.accounts.check_dates(lease_id, campaign_id, day_key, start_at_ms, end_at_ms)
            if (campaign_id, lease_id) not in self.accounts.leases:
                raise Differs(f"lease {lease_id:#x}: in the ledger, and the store never granted it")

    def _enter_verdict(self, n: int, claim: Key, amount: int, verdict: int) -> None:
        locked_until_ms = self._bids.placed_ms[n] + self._lock_ms
        if self._timeline.now_ms > self._truth.latest_verdict_ms(self._bids.campaign_id[n], locked_until_ms):
            self._bids.unassured[n] = amount
        if verdict == _CHARGED:
            if self._truth.charged.get(claim) != amount:
                raise Differs(f"bid {n}: charged {amount} here, {self._truth.charged.get(claim)} in the store")
            # A clock ahead by more than is assumed makes a bid look like one from behind the failover.
            if claim in self._billed_by and not self.over.is_clock_wrong:
                raise Differs(f"bid {n}: charged on two ledgers, of servers {self._billed_by[claim]} and another")
            self._billed_by[claim] = self._bids.server[n]
            self.billed_micros += amount
            self._charged[self._bids.campaign_id[n]] += amount
        elif verdict == _OVER_DELIVERY:
            self.over.enter(n, amount)
        elif n not in self._bids.foreign_claims:
            raise Differs(f"bid {n}: one claim, judged {Verdict(verdict).name}")

    def _charged_of(self, campaign_id: int) -> int:
        return self._charged[campaign_id]
