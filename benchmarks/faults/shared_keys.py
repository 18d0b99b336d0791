"""What one simulated Redis master holds: accounts, leases with the claims told on them, epochs, and directories.

The semantics are those of `pacing/budget/lua`; accounts and leases themselves are those of the embedded store. Every
change is one call of a method with `at`, the moment and the master's replication id, so that the same calls on empty
keys lead to the same keys again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from benchmarks.faults.shared_moments import At, CreatorEpoch, OwnersRows
from pacing.budget.account import Account, Balance, EffectiveCaps
from pacing.budget.memory import MemoryStore, StoredLease, ToldClaim
from pacing.budget.redis_places import CLOCK_ERROR_MS
from pacing.budget.remote import MARKS_KEPT, NO_ACCOUNT
from pacing.budget.store import CapsRequest, Epoch, LeaseRequest, LeaseState
from pacing.clocks import MS_PER_DAY
from pacing.facts import OWNER_SHIFT, SEQUENCE_MASK, Verdict

Claim = tuple[int, int, int, int, int, int]
"""(campaign_id, lease_id, hold_seq, amount_micros, issued_at_ms, teller); teller 0: nobody in particular."""
UNDECIDED = 0


class SharedKeys(MemoryStore):
    """The keys of one master. Used by one thread.

    Attributes:
        creators: by campaign.
    """

    def __init__(self) -> None:
        super().__init__()
        self.creators: dict[int, int] = {}
        self._reopened: dict[int, tuple[int, int]] = {}
        self._marks: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
        self._epochs: dict[int, CreatorEpoch] = {}
        self._rows: defaultdict[tuple[int, int], OwnersRows] = defaultdict(OwnersRows)
        self._seqs_told: defaultdict[int, list[int]] = defaultdict(list)
        self._expires_at_ms: dict[int, int] = {}
        self._ends: defaultdict[int, dict[int, int]] = defaultdict(dict)
        self._decided: set[int] = set()

    # --- directories --------------------------------------------------------------------------------------------

    def enter_campaign(self, at: At, campaign_id: int, creator_id: int) -> int:
        """Whose the campaign is: the first creator that was entered."""
        return self.creators.setdefault(campaign_id, creator_id)

    def list_reopened(self, at: At, notes: Mapping[int, int], kept_ms: int) -> None:
        """See `RemoteStore.list_reopened`."""
        self._reopened.update({creator_id: (note, at.at_ms + kept_ms) for creator_id, note in notes.items()})

    def reopened(self, at: At) -> dict[int, int]:
        """See `RedisStore.reopened`."""
        return {creator_id: note for creator_id, (note, until_ms) in self._reopened.items() if at.at_ms < until_ms}

    def mark(self, at: At, owner_id: int, judged_sequence: int) -> None:
        """See `RemoteStore.mark`."""
        marks = self._marks[owner_id]
        marks.append((at.at_ms, judged_sequence))
        del marks[:-MARKS_KEPT]

    def marked_sequence(self, owner_id: int) -> int:
        """See `RemoteStore.marked_sequence`."""
        marks = self._marks[owner_id]
        return marks[0][1] if len(marks) == MARKS_KEPT else 0

    def last_mark_at_ms(self) -> int:
        """See `RemoteStore.last_mark_at_ms`; of the owners whose marks are here."""
        return max((marks[-1][0] for marks in self._marks.values() if marks), default=0)

    # --- epochs -------------------------------------------------------------------------------------------------

    def _note_epoch(self, at: At, creator_id: int, quarantine_ms: int) -> CreatorEpoch:
        epoch = self._epochs.setdefault(creator_id, CreatorEpoch())
        if epoch.replication_id != at.replication_id:
            if epoch.replication_id:
                epoch.since_ms, epoch.refuse_until_ms = at.at_ms, at.at_ms + quarantine_ms
            epoch.replication_id = at.replication_id
            epoch.number += 1
        return epoch

    def note_epoch(self, at: At, creator_id: int, quarantine_ms: int) -> Epoch:
        """See `RedisStore.epochs`."""
        return self._note_epoch(at, creator_id, quarantine_ms).standing(at.at_ms)

    def settled_again(self, at: At, creator_id: int, quarantine_ms: int, owner_id: int, number: int) -> int:
        """See `RedisStore.settled_again`."""
        epoch = self._note_epoch(at, creator_id, quarantine_ms)
        if owner_id in epoch.owners and epoch.owners[owner_id] < number <= epoch.number:
            epoch.owners[owner_id] = number
            epoch.told_at_ms = at.at_ms
        return epoch.number

    def retire_owner(self, at: At, creator_id: int, owner_id: int) -> None:
        """See `RedisStore.retire`."""
        if creator_id in self._epochs:
            self._epochs[creator_id].owners.pop(owner_id, None)

    # --- the contract -------------------------------------------------------------------------------------------

    def change_caps(
        self, at: At, quarantine_ms: int, caps: CapsRequest, owner_id: int, joined: Sequence[int]
    ) -> EffectiveCaps:
        """See `BudgetStore.set_caps`."""
        effective = self.set_caps(caps)
        epoch = self._note_epoch(at, caps.creator_id, quarantine_ms)
        is_open = at.at_ms < epoch.refuse_until_ms or not epoch.is_told
        for joined_id in (owner_id, *joined):
            epoch.owners.setdefault(joined_id, epoch.number - is_open)
        return effective

    def reopen(self, at: At, quarantine_ms: int, lost: Account, owners: Sequence[int]) -> bool:
        """See `RedisStore.reopen`."""
        if lost.campaign_id in self.accounts:
            return False
        epoch = self._note_epoch(at, lost.creator_id, quarantine_ms)
        for owner_id in owners:
            epoch.owners.setdefault(owner_id, epoch.number)
        epoch.number += 1
        epoch.since_ms, epoch.refuse_until_ms = at.at_ms, at.at_ms + quarantine_ms
        flight = Balance(lost.flight.cap_micros)
        self.accounts[lost.campaign_id] = Account(
            lost.campaign_id, lost.creator_id, lost.zone, lost.daily_cap_micros, flight,
            revision=lost.revision, opened_at_ms=lost.opened_at_ms,
        )  # fmt: skip
        return True

    def grant(
        self,
        at: At,
        creator_id: int,
        quarantine_ms: int,
        campaign_id: int,
        owner_id: int,
        requests: Sequence[LeaseRequest],
    ) -> list[int]:
        """The amounts granted to requests of one campaign; 0: none."""
        account = self.accounts.get(campaign_id)
        if account is None:
            return [0] * len(requests)
        epoch = self._note_epoch(at, creator_id, quarantine_ms)
        is_refused = self.is_refused(epoch.standing(at.at_ms))
        amounts, before, is_hungry = [], len(self._ends[campaign_id]), False
        for request in requests:
            self._expire(request.lease_id, at)
            amount = 0
            known = self.leases.get(request.lease_id)
            if known is not None:
                amount = self.amount_of(known, request)
            elif is_refused:
                account.day(request.day_key)
            else:
                granted = self._acquire(request)
                amount = granted.amount_micros if granted else 0
                is_hungry |= not amount
            amounts.append(amount)
        if is_hungry:
            account.hunger += 1
            account.hungry_owner = owner_id
        if len(self._ends[campaign_id]) > before:
            epoch.owners.setdefault(owner_id, epoch.number)
        return amounts

    def amount_of(self, known: StoredLease, request: LeaseRequest) -> int:
        """What a lease that exists got, if it is the same request."""
        return known.amount_micros if known.start_at_ms == request.start_at_ms else 0

    def is_refused(self, standing: Epoch) -> bool:
        """Whether nothing is granted."""
        return standing.refused_ms > 0 or bool(standing.owners_behind)

    def _open(self, request: LeaseRequest, amount: int) -> None:
        super()._open(request, amount)
        self._ends[request.campaign_id][request.lease_id] = request.end_at_ms

    def give_back(
        self, at: At, campaign_id: int, lease_id: int, amount_micros: int, closed: bool, serial: int, kept_ms: int
    ) -> int:
        """See `BudgetStore.release`."""
        self._expire(lease_id, at)
        lease = self.leases.get(lease_id)
        if lease is not None and lease.campaign_id != campaign_id:
            return 0
        is_repeated = lease is not None and 0 < serial <= lease.release_serial
        released = self.release(campaign_id, lease_id, amount_micros, closed, serial)
        if lease is not None and not is_repeated:
            self._bury_if_over(lease, at, kept_ms)
        return released

    def decide(
        self,
        at: At,
        creator_id: int,
        quarantine_ms: int,
        owner_id: int,
        claims: Sequence[Claim],
        kept_ms: int,
        is_known: bool,
    ) -> list[int]:
        """See `RemoteStore.decide`; verdicts of claims of one campaign, 0 where nothing is decided yet.

        Args:
            is_known: they were charged before.
        """
        first_bids_at_ms: dict[int, int] = {}
        for _, lease_id, _, _, issued_at_ms, _ in claims:
            self._expire(lease_id, at)
            first_bids_at_ms[lease_id] = min(issued_at_ms, first_bids_at_ms.get(lease_id, issued_at_ms))
        if claims[0][0] not in self.accounts:
            return [NO_ACCOUNT] * len(claims)
        epoch = self._note_epoch(at, creator_id, quarantine_ms)
        told_again = epoch.owners.setdefault(owner_id, epoch.number - self.may_lack_writes(epoch, at))
        rows = self._rows[claims[0][0], owner_id]
        told_to = rows.told_to(told_again)
        verdicts, last_row, was_lost = [], 0, False
        for claim in claims:
            first_bid_at_ms = first_bids_at_ms[claim[1]]
            if is_known:
                was_lost |= (claim[1], claim[2]) not in self._told and not self.is_counted(
                    told_to, claim[5] & SEQUENCE_MASK
                )
                verdict = self._settle_known(told_to, *claim[:4], first_bid_at_ms, claim[5])
            elif self.must_wait(epoch, at, claim, first_bid_at_ms):
                verdict = UNDECIDED
            else:
                verdict = int(self._settle(*claim[:4], first_bid_at_ms, claim[5]))
            verdicts.append(verdict)
            if UNDECIDED not in verdicts:
                last_row = max(last_row, claim[5] & SEQUENCE_MASK)
        if was_lost and told_again >= epoch.number:
            epoch.number += 1
            epoch.since_ms, epoch.refuse_until_ms = at.at_ms, at.at_ms + quarantine_ms
        if is_known or told_again >= epoch.number:
            rows.row = max(told_to, last_row)
        elif last_row:
            rows.late_epoch, rows.late_row = epoch.number, max(rows.late_row, last_row)
        for lease_id in self._decided:
            self._bury_if_over(self.leases[lease_id], at, kept_ms)
        self._decided.clear()
        return verdicts

    def may_lack_writes(self, epoch: CreatorEpoch, at: At) -> bool:
        """Whether somebody has still to tell what the master before this one knew."""
        return at.at_ms < epoch.refuse_until_ms or not epoch.is_told

    def is_counted(self, told_to: int, sequence: int) -> bool:
        """Whether the account has a charge of its owner, by how far the owner's rows are told."""
        return 0 < sequence <= told_to

    def must_wait(self, epoch: CreatorEpoch, at: At, claim: Claim, issued_at_ms: int) -> bool:
        """Whether a claim could come out otherwise with what the master before this one knew."""
        campaign_id, lease_id, hold_seq, amount, _, _ = claim
        lease = self.leases.get(lease_id)
        if not self.may_lack_writes(epoch, at) or (lease_id, hold_seq) in self._told:
            return False
        if lease is not None and lease.campaign_id != campaign_id:
            return False
        if not epoch.is_told and self.is_from_before(epoch, issued_at_ms):
            return True
        account = self.accounts[campaign_id]
        day_key = lease.day_key if lease is not None else account.day_at(issued_at_ms).day_key
        lacking = amount - (lease.remaining_micros if lease is not None else 0)
        return lacking > 0 and lacking > account.free_micros(day_key)

    def is_from_before(self, epoch: CreatorEpoch, issued_at_ms: int) -> bool:
        """Whether a bid may be from before the failover, so that another owner may have told it to be billed."""
        return issued_at_ms < epoch.since_ms + CLOCK_ERROR_MS

    def _settle_known(
        self, told_to: int, campaign_id: int, lease_id: int, hold_seq: int, amount: int, *rest: int
    ) -> int:
        if (lease_id, hold_seq) not in self._told and self.is_counted(told_to, rest[1] & SEQUENCE_MASK):
            return Verdict.CHARGED
        lease = self._lease_of(campaign_id, lease_id, rest[0])
        if lease is None or (lease_id, hold_seq) in self._told:
            return self._settle(campaign_id, lease_id, hold_seq, amount, *rest)
        self._charge(self.accounts[campaign_id], lease, amount)
        self._remember(lease_id, hold_seq, ToldClaim(amount, rest[1], Verdict.CHARGED))
        return Verdict.CHARGED

    def restate(self, at: At, campaign_id: int, owner_id: int, states: Sequence[LeaseState], kept_ms: int) -> int:
        """See `RedisStore.restate`; of one campaign; answers how many leases were changed."""
        if campaign_id not in self.accounts:
            return 0
        return sum(self._restate(at, owner_id, state, kept_ms) for state in states)

    def _restate(self, at: At, owner_id: int, state: LeaseState, kept_ms: int) -> bool:
        self._expire(state.lease_id, at)
        lease = self.leases.get(state.lease_id)
        is_lost = lease is None or lease.amount_micros == 0
        is_closed = state.closed or (lease is not None and not is_lost and lease.closed)
        remaining = lease.remaining_micros if lease is not None else 0
        left = state.remaining_micros
        if is_lost:
            left = max(0, left - self._charged_through_others(state.lease_id, owner_id))
        moved = left if is_lost else min(0, left - remaining)
        is_foreign = lease is not None and lease.campaign_id != state.campaign_id
        if is_foreign or not (moved or (lease is not None and is_closed and not lease.closed)):
            return False
        if lease is None:
            lease = self.leases[state.lease_id] = StoredLease(
                state.lease_id, state.campaign_id, state.day_key, 0, 0, state.start_at_ms, state.end_at_ms
            )
        self.accounts[state.campaign_id].lease(lease.day_key, moved)
        lease.amount_micros, lease.remaining_micros, lease.closed = state.amount_micros, remaining + moved, is_closed
        lease.start_at_ms, lease.end_at_ms = state.start_at_ms, state.end_at_ms
        self._expires_at_ms.pop(state.lease_id, None)
        self._ends[state.campaign_id][state.lease_id] = state.end_at_ms
        self._bury_if_over(lease, at, kept_ms)
        return True

    def _charged_through_others(self, lease_id: int, owner_id: int) -> int:
        told = (self._told[lease_id, hold_seq] for hold_seq in self._seqs_told.get(lease_id, ()))
        return sum(
            t.amount_micros for t in told if t.verdict == Verdict.CHARGED and t.sequence >> OWNER_SHIFT != owner_id
        )

    def _remember(self, lease_id: int, hold_seq: int, told: ToldClaim) -> None:
        self._told[lease_id, hold_seq] = told
        self._seqs_told[lease_id].append(hold_seq)
        self._decided.add(lease_id)

    def _bury_if_over(self, lease: StoredLease, at: At, kept_ms: int) -> None:
        """Make a lease that is closed and settled a tombstone, for a while."""
        if lease.closed and not lease.remaining_micros:
            self._bury(lease, at, kept_ms)

    def _bury(self, lease: StoredLease, at: At, kept_ms: int) -> None:
        self._expires_at_ms[lease.lease_id] = at.at_ms + kept_ms
        self._ends[lease.campaign_id].pop(lease.lease_id, None)

    def _expire(self, lease_id: int, at: At) -> None:
        expires_at_ms = self._expires_at_ms.get(lease_id)
        if expires_at_ms is not None and at.at_ms >= expires_at_ms:
            self._forget_lease(lease_id)

    def _forget_lease(self, lease_id: int) -> None:
        del self._expires_at_ms[lease_id], self.leases[lease_id]
        for hold_seq in self._seqs_told.pop(lease_id, ()):
            del self._told[lease_id, hold_seq]

    def take_back(self, at: At, quarantine_ms: int, campaign_id: int, before_at_ms: int, kept_ms: int) -> int:
        """See `BudgetStore.reclaim`; of one campaign; -1: nothing now, as it is after a failover."""
        epoch = self._note_epoch(at, self.accounts[campaign_id].creator_id, quarantine_ms)
        if self.is_refused(epoch.standing(at.at_ms)) or self.may_wait(epoch, at, quarantine_ms):
            return -1
        taken = 0
        for lease_id, end_at_ms in list(self._ends[campaign_id].items()):
            if end_at_ms < before_at_ms:
                lease = self.leases[lease_id]
                taken += self._take_back(lease, lease.remaining_micros, closed=True)
                self._bury(lease, at, kept_ms)
        return taken

    def may_wait(self, epoch: CreatorEpoch, at: At, quarantine_ms: int) -> bool:
        """Whether claims that waited for the last owner to tell what it has may still be undecided."""
        return at.at_ms < epoch.told_at_ms + quarantine_ms

    def has_ended(self, campaign_id: int, before_at_ms: int) -> bool:
        """Whether a campaign has leases to take back."""
        return any(end_at_ms < before_at_ms for end_at_ms in self._ends[campaign_id].values())

    def forget_days(self, at: At, campaign_id: int, before_at_ms: int) -> None:
        """See `BudgetStore.forget`."""
        account = self.accounts.get(campaign_id)
        if account is not None:
            account.forget_days(before_at_ms - MS_PER_DAY)

    def left_micros(self, at: At, campaign_id: int, lease_id: int) -> int:
        """What is left of a lease."""
        self._expire(lease_id, at)
        return self.unsettled_micros(campaign_id, [lease_id])

    def copied_account(self, campaign_id: int) -> Account | None:
        """A campaign's accounts as they are now."""
        found = self.accounts.get(campaign_id)
        if found is None:
            return None
        flight = found.flight
        return Account(
            campaign_id,
            found.creator_id,
            found.zone,
            found.daily_cap_micros,
            Balance(flight.cap_micros, flight.settled_micros, flight.leased_micros),
            {key: Balance(day.cap_micros, day.settled_micros, day.leased_micros) for key, day in found.days.items()},
            found.over_delivered_micros,
            found.revision,
            found.hunger,
            found.hungry_owner,
            found.opened_at_ms,
        )
