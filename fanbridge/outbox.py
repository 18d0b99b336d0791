"""Outcomes out: charged impressions and attributed conversions, followed in the ledger and handed to the fan service.

The ledger is the queue: the outbox only keeps its position in it, and the few rows that could not be delivered. A row
is handed over at least once and carries the key (lease_id, hold_seq, kind), by which the service applies it once.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from fanbridge.breaker import BackoffSettings, backoff_ms
from fanbridge.delivery import Delivery, Waiting
from fanbridge.events import FAN_OUTCOME, MAX_PUSH_ROWS, PUSHED_KINDS, FanServicePort, FanServiceRefused, Rows
from pacing.facts import OutcomeKind, RowStatus, Verdict

_log = logging.getLogger(__name__)

ReadJudged = Callable[[int, int], tuple[Rows, Rows]]
"""read_judged(after, limit): up to `limit` judged ledger rows behind sequence `after`, as OUTCOME[n], JUDGEMENT[n]."""

AudiencesOf = Callable[[Rows], list[str]]
"""The audience that each of FAN_OUTCOME[n] was bought for; see `protos/fans.proto`."""

_DELIVERED = (RowStatus.ACCEPTED, RowStatus.DUPLICATE)


@dataclass(frozen=True)
class OutboxSettings:
    """How much one tick may do, and how often a row is tried before it counts as dead."""

    push_rows: int = 2_000
    max_pushes_per_tick: int = 8
    max_attempts: int = 10
    retry: BackoffSettings = field(default_factory=lambda: BackoffSettings(base_ms=1_000, cap_ms=600_000))

    def __post_init__(self) -> None:
        if not 1 <= self.push_rows <= MAX_PUSH_ROWS:
            raise ValueError(f"push_rows {self.push_rows}: must be 1..{MAX_PUSH_ROWS}")
        if self.max_pushes_per_tick < 1:
            raise ValueError(f"max_pushes_per_tick {self.max_pushes_per_tick}: must be 1 or more")
        if self.max_attempts < 1:
            raise ValueError(f"max_attempts {self.max_attempts}: must be 1 or more")


@dataclass(frozen=True)
class _Refusal:
    """Why one row was not taken, and whether trying again can help."""

    reason: str
    final: bool


class Outbox:
    """Delivers from its saved position on. One thread ticks; any thread may list and retry dead letters."""

    def __init__(
        self,
        service: FanServicePort,
        delivery: Delivery,
        read_judged: ReadJudged,
        settings: OutboxSettings | None = None,
        seed: int = 0,
        audiences_of: AudiencesOf | None = None,
    ) -> None:
        self._service = service
        self._audiences_of = audiences_of
        self._delivery = delivery
        self._read_judged = read_judged
        self._settings = settings or OutboxSettings()
        self._random = random.Random(seed)
        self._delivered = 0

    @property
    def delivered(self) -> int:
        """How many outcomes were handed over since construction."""
        return self._delivered

    @property
    def position(self) -> int:
        """The last ledger row that was dealt with."""
        return self._delivery.position()

    def tick(self, now_ms: int, max_pushes: int | None = None) -> None:
        """Retry what is due, then deliver what is new, within bounds.

        Raises:
            FanServiceUnavailable: nothing is lost; what was not delivered is delivered by a later tick.
        """
        self._retry_parked(now_ms)
        for _ in range(max_pushes or self._settings.max_pushes_per_tick):
            if not self._deliver_next(now_ms):
                break

    def dead_letters(self, limit: int = 1_000) -> list[Waiting]:
        """Outcomes that the service refused, oldest first, each with the reason."""
        return self._delivery.dead_letters(limit)

    def retry_dead_letters(self, now_ms: int, keys: Sequence[tuple[int, int, int]] | None = None) -> int:
        """Try dead letters again at the next tick, those of `keys` or all; answers how many."""
        return self._delivery.revive(keys, now_ms)

    def _deliver_next(self, now_ms: int) -> bool:
        """Deliver one batch of new rows; answers whether there were any."""
        rows, judgements = self._read_judged(self._delivery.position(), self._settings.push_rows)
        if not len(rows):
            return False
        outcomes = select_outcomes(rows, judgements)
        refusals = self._push(outcomes)
        fresh = {i: Waiting(outcomes[i : i + 1].copy(), 0, now_ms, "", now_ms) for i in refusals}
        parked, dead = self._sort_out(fresh, refusals, now_ms)
        self._delivery.save_outcomes(int(rows["sequence"][-1]), parked, dead)
        self._delivered += len(outcomes) - len(refusals)
        return True

    def _retry_parked(self, now_ms: int) -> None:
        waiting = self._delivery.parked_due(now_ms, self._settings.push_rows)
        if not waiting:
            return
        refusals = self._push(np.concatenate([one.outcome for one in waiting]))
        parked, dead = self._sort_out(dict(enumerate(waiting)), refusals, now_ms)
        delivered = [one for i, one in enumerate(waiting) if i not in refusals]
        self._delivery.settle_parked(delivered, parked, dead)
        self._delivered += len(delivered)

    def _sort_out(
        self, waiting: dict[int, Waiting], refusals: dict[int, _Refusal], now_ms: int
    ) -> tuple[list[Waiting], list[Waiting]]:
        """Refused rows as (parked, dead): each with one more attempt and its reason."""
        parked: list[Waiting] = []
        dead: list[Waiting] = []
        for i, refusal in refusals.items():
            attempts = waiting[i].attempts + 1
            wait_ms = backoff_ms(attempts, self._settings.retry, self._random.random())
            tried = replace(waiting[i], attempts=attempts, due_at_ms=now_ms + wait_ms, reason=refusal.reason)
            (dead if refusal.final or attempts >= self._settings.max_attempts else parked).append(tried)
        if dead:
            _log.warning("%d outcomes are refused for good, the first: %s: %s", len(dead), dead[0].key, dead[0].reason)
        return parked, dead

    def _push(self, outcomes: Rows) -> dict[int, _Refusal]:
        """Hand rows over; answers refusals by index."""
        return self._push_all(outcomes, [] if self._audiences_of is None else self._audiences_of(outcomes))

    def _push_all(self, outcomes: Rows, audiences: list[str]) -> dict[int, _Refusal]:
        """A request that is refused is halved until bad rows are alone."""
        if not len(outcomes):
            return {}
        try:
            statuses = self._service.push_outcomes(outcomes, audiences)
        except FanServiceRefused as refused:
            if len(outcomes) == 1:
                return {0: _Refusal(str(refused), final=True)}
            middle = len(outcomes) // 2
            refusals = self._push_all(outcomes[:middle], audiences[:middle])
            later = self._push_all(outcomes[middle:], audiences[middle:])
            return refusals | {middle + i: refusal for i, refusal in later.items()}
        return {
            int(i): _Refusal(f"status {statuses[i]}", final=statuses[i] == RowStatus.INVALID)
            for i in np.flatnonzero(~np.isin(statuses, _DELIVERED))
        }


def select_outcomes(rows: Rows, judgements: Rows) -> Rows:
    """What the fan service is told of OUTCOME[n] and their JUDGEMENT[n], as FAN_OUTCOME rows in ledger order.

    Charged impressions under their own key; attributed conversions under that of the impression behind them.
    """
    verdicts, kinds = judgements["verdict"], rows["kind"]
    charged = (kinds == OutcomeKind.BILLABLE) & (verdicts == Verdict.CHARGED)
    attributed = (verdicts == Verdict.ATTRIBUTED) & np.isin(kinds, sorted(PUSHED_KINDS - {OutcomeKind.BILLABLE}))
    told = np.flatnonzero(charged | attributed)
    rows, judgements, charged = rows[told], judgements[told], charged[told]
    decisions = rows["decision"]
    outcomes = np.zeros(len(rows), dtype=FAN_OUTCOME)
    for name in ("lease_id", "hold_seq", "campaign_id", "creative_id"):
        outcomes[name] = np.where(charged, decisions[name], judgements[name])
    for name in ("viewer_id", "creator_id"):
        outcomes[name] = np.where(rows[name] == 0, decisions[name], rows[name])
    outcomes["kind"] = rows["kind"]
    outcomes["price_micros"] = np.where(charged, rows["price_micros"], 0)
    outcomes["occurred_at_ms"] = rows["occurred_at_ms"]
    outcomes["ledger_sequence"] = rows["sequence"]
    return outcomes
