"""What the compiled book of holds means, in plain objects: no ring, no cursors, every hold remembered for good.

It differs where the book is bounded: here a hold is never forgotten, so nothing is unknown but what was never placed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from pacing.facts import OutcomeKind, RowStatus


class State(Enum):
    """Where a hold stands."""

    OFFERED = "offered"
    WON = "won"
    BILLED = "billed"
    LOST = "lost"
    LAPSED = "lapsed"


@dataclass
class PlainLease:
    """Money to bid with; `live` are the holds on it that are undecided."""

    lease_id: int
    free: int
    end_ms: int
    day_end_at_ms: int
    billed: int = 0
    doubtful: int = 0
    live: dict[int, int] = field(default_factory=dict)  # bid by hold_seq

    @property
    def held(self) -> int:
        """Bid and undecided."""
        return sum(self.live.values())


@dataclass
class PlainHold:
    """One bid."""

    lease: PlainLease
    bid: int
    placed_ms: int
    state: State = State.OFFERED
    told: int = -1
    pins: int = 0


class PlainBook:
    """Holds of all slots; `leases` maps a slot to the lease that its bids use."""

    def __init__(self, first_seq: int, win_notice_ms: int, billing_ms: int, is_shared: bool = False) -> None:
        self.is_shared = is_shared
        self.next_seq = first_seq
        self.win_notice_ms = win_notice_ms
        self.billing_ms = billing_ms
        self.leases: dict[int, PlainLease] = {}
        self.holds: dict[int, PlainHold] = {}

    def place(
        self, candidates: Sequence[int], bids: Sequence[int], wanted: int, now_ms: int, wall_ms: int
    ) -> list[tuple[int, int, int]]:
        """(choice, lease_id, hold_seq) of each wanted bid for one viewer; choice -1: refused."""
        ranked = [(k, slot, bid) for k, (slot, bid) in enumerate(zip(candidates, bids, strict=True))]
        end = next((k for k, slot, _ in ranked if slot < 0), len(ranked))
        queue = ranked[:end]
        answers = []
        for _ in range(wanted):
            tried, queue = queue[:3], queue[3:]
            answer = (-1, 0, 0)
            while tried:
                k, slot, bid = tried.pop(0)
                lease = self.leases.get(slot)
                if lease and lease.free >= bid and now_ms < lease.end_ms and wall_ms < lease.day_end_at_ms:
                    answer = (k, lease.lease_id, self._hold(lease, bid, now_ms))
                    queue = tried + queue
                    break
            answers.append(answer)
        return answers

    def _hold(self, lease: PlainLease, bid: int, now_ms: int) -> int:
        seq = self.next_seq
        self.next_seq += 1
        lease.free -= bid
        lease.live[seq] = bid
        self.holds[seq] = PlainHold(lease, bid, now_ms)
        return seq

    def _decide(self, seq: int, state: State) -> None:
        hold = self.holds[seq]
        bid = hold.lease.live.pop(seq)
        if self.is_shared and state is State.LAPSED:
            hold.lease.doubtful += bid
        else:
            hold.lease.free += bid
        hold.state = state

    def _is_due(self, hold: PlainHold, now_ms: int) -> bool:
        wait_ms = self.win_notice_ms if hold.state is State.OFFERED else self.billing_ms
        return not hold.pins and now_ms > hold.placed_ms + wait_ms

    def sweep(self, now_ms: int) -> None:
        """Lapse every undecided hold past its deadline."""
        for seq, hold in self.holds.items():
            if seq in hold.lease.live and self._is_due(hold, now_ms):
                self._decide(seq, State.LAPSED)

    def report(self, kind: int, seq: int, told: int, now_ms: int) -> int:
        """Status of one reported row; 0: a billable claim that is pinned until `conclude`."""
        hold = self.holds[seq]
        if kind == OutcomeKind.BILLABLE and hold.state is State.BILLED:
            return RowStatus.DUPLICATE if told == hold.told else RowStatus.CONFLICT
        if kind == OutcomeKind.BILLABLE and not 0 <= told <= hold.bid:
            return RowStatus.INVALID
        if kind == OutcomeKind.LOSS:
            return self._lose(seq, hold)
        if hold.state is State.LOST:
            return RowStatus.CONFLICT
        is_open = hold.state is State.OFFERED or (hold.state is State.WON and kind == OutcomeKind.BILLABLE)
        if is_open and self._is_due(hold, now_ms):
            self._decide(seq, State.LAPSED)
        if hold.state is State.LAPSED:
            return RowStatus.EXPIRED
        return self._win(hold, told) if kind == OutcomeKind.WIN else self._pin(hold, told)

    def _lose(self, seq: int, hold: PlainHold) -> int:
        if hold.state is State.BILLED or hold.pins:
            return RowStatus.CONFLICT
        if hold.state is State.LOST:
            return RowStatus.DUPLICATE
        if hold.state is State.LAPSED:
            hold.state = State.LOST
            if self.is_shared:
                hold.lease.doubtful -= hold.bid
                hold.lease.free += hold.bid
        else:
            self._decide(seq, State.LOST)
        return RowStatus.ACCEPTED

    def _win(self, hold: PlainHold, told: int) -> int:
        if hold.state is State.OFFERED:
            hold.state, hold.told = State.WON, told
            return RowStatus.ACCEPTED
        contradicts = hold.state is State.WON and min(told, hold.told) > 0 and told != hold.told
        return RowStatus.CONFLICT if contradicts else RowStatus.DUPLICATE

    def _pin(self, hold: PlainHold, told: int) -> int:
        if hold.state is State.WON and 0 < hold.told < told:
            return RowStatus.CONFLICT
        hold.pins += 1
        return 0

    def conclude(self, seq: int, charged: int, now_ms: int) -> None:
        """Finish a pinned claim: `charged` by the ledger, or negative when it could not be made durable."""
        hold = self.holds[seq]
        hold.pins -= 1
        if hold.state is State.BILLED:
            return
        if charged >= 0:
            self._decide(seq, State.BILLED)
            hold.told = charged
            hold.lease.free -= charged
            hold.lease.billed += charged
        elif self._is_due(hold, now_ms):
            self._decide(seq, State.LAPSED)

    def close_run(self, first_seq: int, count: int) -> None:
        """Lose every hold of a run that is only offered."""
        for seq in range(first_seq, first_seq + count):
            hold = self.holds.get(seq)
            if hold and hold.state is State.OFFERED and not hold.pins:
                self._decide(seq, State.LOST)
