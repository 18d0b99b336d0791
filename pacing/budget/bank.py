"""The bank: the one object that bidding and reporting talk to about money."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from dataclasses import replace

import numpy as np

from pacing.budget.account import ACCOUNT, EffectiveCaps, fill_balances
from pacing.budget.holds import HoldBook, claims_of
from pacing.budget.kernels import ROUTE_HELD
from pacing.budget.lease import LeaseKeeper, Store
from pacing.budget.recovery import Recovery, check_statements, replay, snapshot_bytes
from pacing.budget.settings import RECLAIM_MS, BankSettings
from pacing.budget.settle import SettleJudge
from pacing.budget.shared import SharedStore
from pacing.budget.store import AccountLost, CapsRequest, StoreUnavailable
from pacing.budget.unbooked import UnbookedHolds
from pacing.clocks import MS_PER_SECOND, Clock
from pacing.facts import OWNER_SHIFT, RowStatus
from pacing.ledger.errors import LedgerError
from pacing.ledger.log import Ledger

logger = logging.getLogger(__name__)

_CHECKPOINT_MS = 5 * MS_PER_SECOND
_FORGET_MS = 60 * MS_PER_SECOND
_REFRESH_MS = MS_PER_SECOND
_STANDINGS_AT_ONCE = 1_024
"""Of more campaigns the standings are read in parts, so that neither bids nor changes of campaigns wait for all."""


class Bank:
    """Budgets, leases, holds and the ledger of one process.

    Bidding (`place_holds`, `close_responses`) waits for one short lock and for no I/O. `report` waits for the ledger.
    Any thread may call any method; `tick`, `set_account` and `close_account` wait for each other.
    """

    def __init__(
        self, ledger: Ledger, clock: Clock, settings: BankSettings | None = None, shared: SharedStore | None = None
    ) -> None:
        """Rebuild the accounts from the ledger; nobody can bid before `set_account` and a `tick`.

        Args:
            shared: the store whose accounts count, if it is not this process's own; `settings.is_shared` goes with it.

        Raises:
            LedgerDamaged: the ledger is not what was acknowledged.
        """
        self.settings = settings or BankSettings()
        self._ledger = ledger
        self._clock = clock
        state = replay(ledger, self.settings.owner_id)
        check_statements(ledger, state.store)
        self._store: Store = state.store
        if shared is not None:
            shared.begin(state.store)
            self._store = shared
        self._shared = shared
        first_seq = self.settings.owner_id << OWNER_SHIFT | state.counters.seq_bound
        self._book = HoldBook(
            self.settings.hold_capacity, first_seq, first_seq, *self.settings.hold_ms, self.settings.is_shared
        )
        self._unbooked = UnbookedHolds(ledger, clock, first_seq)
        self._keeper = LeaseKeeper(self._store, ledger, self._book, self.settings, state.counters)
        self.settle_judge = SettleJudge(self._store)
        self._control = threading.RLock()
        self._slots: dict[int, int] = {}
        self._durable_caps = {
            a.campaign_id: (a.daily_cap_micros, a.flight.cap_micros) for a in state.store.accounts.values()
        }
        self._lost: dict[int, CapsRequest] = {}  # what to open once a shared store has it again
        self._snapshot_sequence = state.snapshot_sequence
        self._forget_at_ms = self._refresh_at_ms = self._reclaim_at_ms = 0
        self._to_forget = (0, 0)  # leases that ended before this, once the ledger is judged up to this row
        self._checkpoint_at_ms = clock.monotonic_ms() + _CHECKPOINT_MS
        self._recovery = self._quarantine_leases(state.rows)

    def _quarantine_leases(self, rows_replayed: int) -> Recovery:
        """Lock what the process before had leased, until no notice about it can be accepted.

        Their last bids were made before now, since only one process opens a ledger; but the wall clock may have been
        set back since, by up to grace_ms, and be right again before it is set back once more. Ends of leases say
        nothing: they were kept on the monotonic clock, and the wall clock may have gone past them long before the last
        bid.
        """
        until_ms = self._clock.wall_ms() + self.settings.grace_ms + self.settings.lock_ms
        left = 0
        mirror = self._store.mirror
        open_leases = [lease for lease in mirror.leases.values() if not lease.closed]
        for lease in open_leases:
            self._keeper.quarantine(lease.lease_id, lease.campaign_id, lease.day_key, until_ms)
            left += lease.remaining_micros
        return Recovery(
            accounts=len(mirror.accounts),
            quarantined_leases=len(open_leases),
            quarantined_micros=left,
            rows_replayed=rows_replayed,
            unjudged_rows=self._ledger.last_sequence - self._ledger.judged_sequence,
        )

    def recover(self) -> Recovery:
        """What the ledger knew at start."""
        return self._recovery

    def set_account(
        self,
        campaign_id: int,
        creator_id: int,
        zone: str,
        daily_cap_micros: int,
        total_cap_micros: int,
        revision: int = 0,
        opening: bool = True,
    ) -> EffectiveCaps:
        """Open a campaign's accounts, or change their caps, and let it bid from the next `tick` on; answers the caps in
        force.

        A cut takes back at once what no bid holds, and takes effect at S + L where that is more. Caps are durable on
        return. A campaign whose accounts a shared store has lost bids nothing until they are back.

        Args:
            revision: of the caps; those of a lower revision than a shared store has change nothing there.
            opening: whether a shared store may have no accounts of the campaign yet.

        Raises:
            ValueError: a cap is out of range, the zone unknown, or zone or creator differ from those at opening.
            LedgerUnavailable: the caps are what they were; in a shared store, what they are to be.
            StoreUnavailable: the shared store cannot be asked; the caps are the old or the new ones.
        """
        with self._control:
            wall_ms, opening = self._clock.wall_ms(), opening or self._shared is None
            caps = (daily_cap_micros, total_cap_micros)
            return self._set_caps(CapsRequest(campaign_id, creator_id, zone, *caps, wall_ms, revision, opening))

    def _set_caps(self, asked: CapsRequest) -> EffectiveCaps:
        campaign_id, caps = asked.campaign_id, (asked.daily_cap_micros, asked.total_cap_micros)
        before = self._durable_caps.get(campaign_id)
        try:
            effective = self._store.set_caps(asked)
        except AccountLost as lost:
            logger.error("%s", lost)
            self._keeper.shut_slot(self._slot(campaign_id))
            self._lost[campaign_id] = asked
            return EffectiveCaps(*caps)
        self._lost.pop(campaign_id, None)
        slot = self._slots.get(campaign_id)
        if slot is not None and before is not None and (caps[0] < before[0] or caps[1] < before[1]):
            self._keeper.recall(slot, asked.now_ms)
            effective = self._store.set_caps(asked)
        if caps != before:
            try:
                self._keeper.write_caps(self._store.mirror.accounts[campaign_id], asked.now_ms)
            except LedgerError:
                if before is not None and self._shared is None:
                    daily, total = before
                    self._store.set_caps(replace(asked, daily_cap_micros=daily, total_cap_micros=total, revision=0))
                raise
            self._durable_caps[campaign_id] = caps
        self._keeper.open_slot(self._slot(campaign_id))
        return effective

    def _slot(self, campaign_id: int) -> int:
        """The campaign's slot, made if it has none."""
        slot = self._slots.get(campaign_id)
        if slot is None:
            slot = self._slots[campaign_id] = self._keeper.add_slot(campaign_id)
        return slot

    def close_account(self, campaign_id: int) -> None:
        """Stop a campaign's bids; its holds go on until their deadlines. Unknown campaigns are passed over."""
        with self._control:
            self._lost.pop(campaign_id, None)
            slot = self._slots.get(campaign_id)
            if slot is not None:
                self._keeper.shut_slot(slot)

    def slot_of(self, campaign_id: int) -> int:
        """The slot under which a campaign bids; stable for the life of the process.

        Raises:
            ValueError: `set_account` was not called for it.
        """
        slot = self._slots.get(campaign_id)
        if slot is None:
            raise ValueError(f"campaign_id {campaign_id}: has no account")
        return slot

    def place_holds(
        self,
        slots: np.ndarray,
        bids_micros: np.ndarray,
        wanted: int,
        out_choice: np.ndarray,
        out_lease_ids: np.ndarray,
        out_hold_seqs: np.ndarray,
    ) -> tuple[int, int]:
        """Hold money for the best bids of n viewers, in order, without I/O.

        Args:
            slots: i4[n, r], each viewer's candidates, best first; negative: no more.
            bids_micros: i8[n, r], positive.
            wanted: bids per viewer; each tries at most three candidates, and each candidate is tried once.
            out_choice: i1[n, wanted], which candidate; -1: none left, or no money; -2: too many undecided holds.
            out_lease_ids, out_hold_seqs: u8[n, wanted], 0 where there is no hold.

        Returns:
            (first, count): the holds of this call, and of no other, have sequences first .. first + count - 1.
        """
        assert out_choice.shape[1] == wanted
        return self._book.place(
            slots, bids_micros, self._clock.monotonic_ms(), self._clock.wall_ms(),
            out_choice, out_lease_ids, out_hold_seqs,
        )  # fmt: skip

    def close_responses(self, first_seqs: np.ndarray, counts: np.ndarray) -> None:
        """Lose every hold of these runs (u8[k], u4[k]) that nothing was told about; unknown ones are passed over."""
        self._book.close_responses(first_seqs, counts)

    def report(self, rows: np.ndarray) -> np.ndarray:
        """Take reported rows, in order; what charges or converts is durable on return.

        Args:
            rows: OUTCOME[n], MAC-checked and range-checked.

        Returns:
            u1[n] RowStatus.

        Raises:
            LedgerUnavailable: nothing of this call is durable; WIN and LOSS rows took effect. Report again.
        """
        now_ms = self._clock.monotonic_ms()
        claims = claims_of(rows)
        self._book.classify(claims, now_ms)
        self._unbooked.judge(rows, claims)
        statuses = claims["status"]
        undecided = np.flatnonzero(statuses == 0)
        charged = np.full(len(rows), -1, np.int64)
        try:
            if len(undecided):
                appended = self._ledger.append_claims(rows[undecided])
                charged[undecided] = appended.amounts_micros
        finally:
            if (claims["route"] == ROUTE_HELD).any():
                self._book.conclude(claims, charged, self._clock.monotonic_ms())
        if len(undecided):
            told_before = appended.sequences == 0
            same = appended.amounts_micros == rows["price_micros"][undecided]
            repeated = np.where(same, RowStatus.DUPLICATE, RowStatus.CONFLICT)
            statuses[undecided] = np.where(told_before, repeated, RowStatus.ACCEPTED)
        return statuses

    def tick(self) -> None:
        """Sweep silent holds, renew leases ahead, release idle ones, turn the local day. Call a few times a second.

        Raises:
            LedgerUnavailable: bidding goes on with the leases that it has.
        """
        with self._control:
            now_ms, wall_ms = self._clock.monotonic_ms(), self._clock.wall_ms()
            if self._shared is not None:
                self._share(self._shared, now_ms, wall_ms)
            self._keeper.attend(now_ms, wall_ms)
            if now_ms >= self._forget_at_ms:
                self._forget_at_ms = now_ms + _FORGET_MS
                self._forget(wall_ms)
            if now_ms >= self._checkpoint_at_ms:
                self._checkpoint_at_ms = now_ms + _CHECKPOINT_MS
                self._ledger.checkpoint()

    def _forget(self, wall_ms: int) -> None:
        """Forget leases on which no claim can come any more, nor waits for its verdict.

        Without its lease a claim counts on the day of its bid, which is not the lease's if the clock was wrong.
        """
        before_at_ms, sequence = self._to_forget
        if self._ledger.judged_sequence >= sequence:
            self._to_forget = (wall_ms - self.settings.kept_ms, self._ledger.last_sequence)
            with suppress(StoreUnavailable):
                self._store.forget(before_at_ms)

    def _share(self, shared: SharedStore, now_ms: int, wall_ms: int) -> None:
        """Tell the shared store what it has not heard; read the accounts again now and then, and take back what servers
        that are gone had leased."""
        shared.tell()
        if now_ms >= self._refresh_at_ms:
            self._refresh_at_ms = now_ms + _REFRESH_MS
            shared.refresh(list(self._slots))
            self._open_found(shared)
        if now_ms >= self._reclaim_at_ms:
            self._reclaim_at_ms = now_ms + RECLAIM_MS
            with suppress(StoreUnavailable):
                shared.reclaim(wall_ms - self.settings.lock_ms - self.settings.grace_ms)

    def _open_found(self, shared: SharedStore) -> None:
        """Let campaigns bid whose accounts a shared store had lost and has again."""
        for campaign_id, asked in list(self._lost.items()):
            if shared.account(campaign_id) is not None:
                with suppress(StoreUnavailable):
                    self._set_caps(replace(asked, now_ms=self._clock.wall_ms(), opening=False))

    def judged(self, judged_sequence: int) -> None:
        """Called by the judge follower after each batch: takes a snapshot when many rows went by since the last one."""
        with self._control:
            sequence = self._ledger.last_sequence
            rows_since = min(sequence, judged_sequence) - self._snapshot_sequence
            if rows_since >= self.settings.snapshot_rows:
                self._keeper.flush()
                sequence = self._ledger.last_sequence
                body = snapshot_bytes(self._store.mirror, self._keeper.counters)
                self._ledger.save_snapshot(sequence, judged_sequence, body)
                self._snapshot_sequence = min(sequence, judged_sequence)

    def accounts(self, campaign_ids: np.ndarray) -> np.ndarray:
        """The present standing of u8[n] campaigns, as ACCOUNT[n].

        Spend counts what is accepted, also where its verdict is still to come; claims on leases of the process before
        count when they are judged, and so do all claims where the store is shared. Of accounts that a shared store has
        lost, all figures are 0.

        Raises:
            ValueError: `set_account` was not called for one of them.
        """
        wall_ms = self._clock.wall_ms()
        out = np.zeros(len(campaign_ids), ACCOUNT)
        # What is locked is looked up for all at once: while there is any, the campaigns are not taken in parts.
        step = max(1, len(out)) if self._keeper.quarantined() else _STANDINGS_AT_ONCE
        for first in range(0, len(out), step):
            with self._control:
                self._fill_standings(campaign_ids[first : first + step], wall_ms, out[first : first + step])
        return out

    def _fill_standings(self, campaign_ids: np.ndarray, wall_ms: int, out: np.ndarray) -> None:
        """Fill in ACCOUNT[n], each true at one moment."""
        ids = campaign_ids.tolist()
        slots = np.fromiter(map(self.slot_of, ids), np.int64, len(ids))
        found = [self._store.account(campaign_id) for campaign_id in ids]
        out["campaign_id"] = campaign_ids
        known = np.array([account is not None for account in found], np.bool_)
        balances = out[known]
        fill_balances([account for account in found if account is not None], wall_ms, balances)
        out[known] = balances
        idle_day, idle_flight, out["held_micros"] = self._book.idle_micros(slots, out["day_end_at_ms"])
        locked_day, locked_flight = self._locked_micros(out)
        for name, idle, locked in (("day", idle_day, locked_day), ("flight", idle_flight, locked_flight)):
            accepted = np.maximum(0, out[f"{name}_leased_micros"] - idle - locked)
            if self._shared is not None:
                accepted[:] = 0  # what is leased is other servers' too; theirs and ours count when they are settled
            out[f"{name}_spend_micros"] = out[f"{name}_settled_micros"] + accepted

    def _locked_micros(self, accounts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What quarantined leases lock of each ACCOUNT[n]: in its day, and in all."""
        in_day, in_flight = np.zeros(len(accounts), np.int64), np.zeros(len(accounts), np.int64)
        quarantined = self._keeper.quarantined()
        if quarantined:
            places = {campaign_id: i for i, campaign_id in enumerate(accounts["campaign_id"].tolist())}
            for lease_id, (campaign_id, day_key) in quarantined.items():
                i = places.get(campaign_id)
                if i is not None:
                    left = self._store.unsettled_micros(campaign_id, [lease_id])
                    in_flight[i] += left
                    in_day[i] += left if day_key == accounts["day_key"][i] else 0
        return in_day, in_flight
