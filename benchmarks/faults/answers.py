"""What a server has to answer to each reported row, from a plain memory of all bids: no ring, no leases, no ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from benchmarks.faults.bids import BILLED, GONE, LAPSED, LOST, OFFERED, WON, BidTable
from benchmarks.faults.differs import Differs
from pacing.budget.settings import BankSettings
from pacing.facts import OutcomeKind, RowStatus

_ACCEPTED, _DUPLICATE = int(RowStatus.ACCEPTED), int(RowStatus.DUPLICATE)
_EXPIRED, _CONFLICT, _INVALID = int(RowStatus.EXPIRED), int(RowStatus.CONFLICT), int(RowStatus.INVALID)
_WIN, _BILLABLE, _LOSS = int(OutcomeKind.WIN), int(OutcomeKind.BILLABLE), int(OutcomeKind.LOSS)

_NEWEST = 1_000

Row = tuple[int, int, int]
"""(bid number, kind, price_micros)."""


class AnswerBook:
    """Remembers what one server was told about every bid.

    Deadlines of a bid are those of the process that made it while that lives, and those of its token on the wall clock
    afterwards, and at every other server.

    Attributes:
        acknowledged: amount by bid number, of billable rows that were answered ACCEPTED or DUPLICATE.
        followed: bid numbers whose FOLLOW was.
    """

    def __init__(self, bids: BidTable, settings: BankSettings) -> None:
        self._bids = bids
        self._offered_ms, self._won_ms = settings.hold_ms
        self._win_notice_ms = settings.win_notice_ms
        self._billing_ms = settings.billing_ms
        self._hold_capacity = settings.hold_capacity
        self._state = bids.state
        self._told = bids.told
        self._durable: dict[int, int] = {}
        self._durable_here: dict[int, int] = {}
        self._lost_here: set[int] = set()
        self._contradicted_here: set[int] = set()  # billed and lost in one report
        self._seqs: set[int] = set()
        self._newest_seq = 0
        self.life = 0
        self.acknowledged: dict[int, int] = {}
        self.followed: set[int] = set()

    def life_begins(self, life: int, died_ms: int) -> None:
        """A new process reads the ledger; the one before died at `died_ms`."""
        for n in range(len(self._state)):
            if self._bids.life[n] == self.life:
                self._lapse(n, died_ms)
        self._report_ends()
        self.life = life
        self._lost_here.clear()
        self._contradicted_here.clear()
        self._newest_seq = 0

    def placed(self, first: int) -> None:
        """Bids from number `first` on were placed."""
        seqs = self._bids.hold_seq[first:]
        if not seqs:
            return
        before = len(self._seqs)
        self._seqs.update(seqs)
        if len(self._seqs) != before + len(seqs):
            raise Differs(f"hold sequences {seqs[0]}..{seqs[-1]}: used before")
        self._newest_seq = max(self._newest_seq, seqs[-1])

    def won_micros(self) -> Counter[int]:
        """What is bid, won and not billed yet, by campaign, among the newest bids."""
        won: Counter[int] = Counter()
        for n in range(max(0, len(self._state) - _NEWEST), len(self._state)):
            if self._state[n] is WON and self._bids.life[n] == self.life:
                won[self._bids.campaign_id[n]] += self._bids.bid_micros[n]
        return won

    def durable(self, n: int, amount_micros: int) -> None:
        """The ledger has a billable claim on bid n, put there by the report that is under way."""
        if self._bids.life[n] != self.life:
            self._bids.foreign_claims[n] = amount_micros
            if self._state[n] in (LOST, LAPSED, GONE):
                self._bids.unassured[n] = amount_micros
        self._durable_here[n] = amount_micros

    def _report_ends(self) -> None:
        self._durable.update(self._durable_here)
        self._durable_here.clear()

    def _lapse(self, n: int, now_ms: int) -> str:
        state = self._state[n]
        if (state is OFFERED and now_ms > self._bids.placed_ms[n] + self._offered_ms) or (
            state is WON and now_ms > self._bids.placed_ms[n] + self._won_ms
        ):
            state = self._state[n] = LAPSED
        return state

    def responses_closed(self, numbers: Sequence[int], now_ms: int) -> None:
        """What is still only offered among these bids is lost."""
        for n in numbers:
            if self._bids.life[n] == self.life and self._state[n] is OFFERED:
                if self._lapse(n, now_ms) is OFFERED:
                    self._give_up(n)
                else:
                    self._state[n] = GONE

    def _give_up(self, n: int) -> None:
        """Its money is free again, also where another server has billed it."""
        self._state[n] = LOST
        if n in self._bids.foreign_claims:
            self._bids.unassured[n] = self._bids.foreign_claims[n]

    def refused(self, rows: Sequence[Row], now_ms: int, wall_ms: int) -> None:
        """A report failed for want of a disk: what it said of wins and losses took effect all the same."""
        pinned = set()
        for n, kind, told in rows:
            if kind == _BILLABLE:
                if self._is_pinned(n, told, now_ms):
                    pinned.add(n)
            elif kind == _WIN or (kind == _LOSS and n not in pinned):
                self._allowed(n, kind, told, now_ms, wall_ms, set())

    def _is_pinned(self, n: int, told: int, now_ms: int) -> bool:
        """Whether an impression had only the ledger before it; then a LOSS beside it contradicts it."""
        if self._bids.life[n] != self.life or not 0 <= told <= self._bids.bid_micros[n]:
            return False
        state = self._lapse(n, now_ms)
        return state is OFFERED or (state is WON and not 0 < self._told[n] < told)

    def answered(self, rows: Sequence[Row], statuses: Sequence[int], now_ms: int, wall_ms: int) -> None:
        """Compare the answers to a report with what they have to be.

        Raises:
            Differs: one is another.
        """
        billed: set[int] = set()
        for (n, kind, told), status in zip(rows, statuses, strict=True):
            if kind > _LOSS:
                self.followed.add(n)
                if status not in (_ACCEPTED, _DUPLICATE):
                    raise Differs(f"kind {kind} of {self._name(n)}: answered {RowStatus(status).name}")
                continue
            before = self._state[n]
            allowed = self._allowed(n, kind, told, now_ms, wall_ms, billed)
            if status not in allowed:
                wanted = " or ".join(RowStatus(code).name for code in allowed)
                raise Differs(
                    f"{OutcomeKind(kind).name} at {told} of {self._name(n)}, {before}, "
                    f"{now_ms - self._bids.placed_ms[n]} ms old: answered {RowStatus(status).name}, must be {wanted}"
                )
            if kind == _BILLABLE and status <= _DUPLICATE:
                self.acknowledged[n] = told
        self._report_ends()

    def _name(self, n: int) -> str:
        bids = self._bids
        return f"bid {n} (lease {bids.lease_id[n]:#x}, hold {bids.hold_seq[n]:#x}, life {bids.life[n]})"

    def _allowed(self, n: int, kind: int, told: int, now_ms: int, wall_ms: int, billed: set[int]) -> tuple[int, ...]:
        """The answers that are right for a row; remembers what the row says. `billed`: earlier in the same report."""
        if self._bids.life[n] != self.life:
            return self._allowed_of_others(n, kind, told, wall_ms, billed)
        state = self._lapse(n, now_ms)
        is_gone = self._newest_seq >= self._bids.hold_seq[n] + self._hold_capacity  # its place may hold another bid
        if kind == _WIN:
            return self._win(n, state, told, is_gone, n in billed)
        if kind == _LOSS:
            return self._lose(n, state, is_gone)
        return self._bill(n, state, told, is_gone, billed)

    def _win(self, n: int, state: str, told: int, is_gone: bool, is_billed_here: bool) -> tuple[int, ...]:
        if state is OFFERED:
            self._state[n], self._told[n] = WON, told
            return (_ACCEPTED,)
        if state is WON:
            contradicts = min(told, self._told[n]) > 0 and told != self._told[n]
            return (_CONFLICT,) if contradicts else (_DUPLICATE,)
        if state is BILLED:
            if is_billed_here:
                return (_ACCEPTED, _DUPLICATE, _CONFLICT)
            return (_DUPLICATE, _EXPIRED) if is_gone else (_DUPLICATE,)
        if state is LOST:
            return (_CONFLICT, _EXPIRED) if is_gone else (_CONFLICT,)
        if self._told[n] >= 0:
            return (_EXPIRED, _DUPLICATE, _CONFLICT)  # it was won, and the bank may not have swept it yet
        return (_EXPIRED, _CONFLICT) if state is GONE else (_EXPIRED,)

    def _lose(self, n: int, state: str, is_gone: bool) -> tuple[int, ...]:
        if state is BILLED:
            return (_CONFLICT,)
        self._give_up(n)
        if state is LOST:
            return (_DUPLICATE, _ACCEPTED) if is_gone else (_DUPLICATE,)
        return (_ACCEPTED, _DUPLICATE) if is_gone or state is GONE else (_ACCEPTED,)

    def _bill(self, n: int, state: str, told: int, is_gone: bool, billed: set[int]) -> tuple[int, ...]:
        is_over = not 0 <= told <= self._bids.bid_micros[n]
        if state is BILLED:
            if n in billed:
                return (_DUPLICATE, _CONFLICT, _INVALID)
            if told == self._durable.get(n, -1):
                return (_DUPLICATE,)
            return (_CONFLICT, _INVALID) if is_gone and is_over else (_CONFLICT,)
        if is_over:
            return (_INVALID,)
        if state is LOST:
            return (_CONFLICT, _EXPIRED) if is_gone else (_CONFLICT,)
        if state is LAPSED or state is GONE:
            return (_EXPIRED,) if state is LAPSED else (_EXPIRED, _CONFLICT)
        if state is WON and 0 < self._told[n] < told:
            return (_CONFLICT,)
        self._state[n] = BILLED
        billed.add(n)
        return (_ACCEPTED,)

    def _allowed_of_others(self, n: int, kind: int, told: int, wall_ms: int, billed: set[int]) -> tuple[int, ...]:
        """For a bid of a process that is gone."""
        age_ms = wall_ms - self._bids.issued_at_ms[n]
        durable = self._durable.get(n, -1)
        is_lost = n in self._lost_here
        if kind == _LOSS:
            if n in billed:
                self._contradicted_here.add(n)
                return (_CONFLICT, _ACCEPTED)
            if durable >= 0:
                return (_CONFLICT,)
            self._lost_here.add(n)
            return (_DUPLICATE,) if is_lost else (_ACCEPTED,)
        if n in self._contradicted_here:
            return (_ACCEPTED, _DUPLICATE, _CONFLICT, _EXPIRED, _INVALID)
        if kind == _WIN:
            if age_ms > self._win_notice_ms:
                return (_EXPIRED,)
            return (_CONFLICT,) if is_lost else (_ACCEPTED,)
        if not 0 <= told <= self._bids.bid_micros[n]:
            return (_INVALID,)
        if n in billed:
            return (_DUPLICATE, _CONFLICT)
        if is_lost:
            return (_CONFLICT,)
        if durable >= 0:
            return (_DUPLICATE,) if told == durable else (_CONFLICT,)
        if age_ms > self._billing_ms:
            return (_EXPIRED,)
        billed.add(n)
        return (_ACCEPTED,)
