"""The bridge to the fan service: outcomes out; tiers, events and retention in; never in bidding's way."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from fanbridge.breaker import BackoffSettings, CircuitBreaker, LinkState
from fanbridge.delivery import Delivery
from fanbridge.event_feed import AppendFacts, EventFeed, FollowWriter
from fanbridge.events import FanServiceError, FanServicePort
from fanbridge.feed import OnTiers, SegmentWriter, TierFeed, ViewerRows
from fanbridge.outbox import AudiencesOf, Outbox, OutboxSettings, ReadJudged
from fanbridge.retention import OnRetention, RetentionFeed
from pacing.clocks import Clock

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BridgeSettings:
    """How often the bridge ticks in real time, how it waits for a service that is away, and what it pulls."""

    tick_interval_ms: int = 1_000
    pull_events: bool = True
    backoff: BackoffSettings = field(default_factory=BackoffSettings)
    outbox: OutboxSettings = field(default_factory=OutboxSettings)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.tick_interval_ms < 1:
            raise ValueError(f"tick_interval_ms {self.tick_interval_ms}: must be 1 or more")


@dataclass(frozen=True)
class BridgeStatus:
    """Where the bridge stands. Counts are since the start of this process; parked and dead are what waits now."""

    link: LinkState
    last_failure: str
    outbox_position: int
    outcomes_delivered: int
    outcomes_parked: int
    outcomes_dead: int
    fans_changed: int
    events_appended: int
    retention_judged: int
    broken: tuple[
        str, ...
    ]  # which of outcomes, fans, events and retention fail on this side, for other reasons than the link


class Bridge:
    """Drives outbox and feeds, either from its own thread (`start`) or by calls of `tick` from one scheduler, not both.

    A fan service that cannot be reached is normal: `tick` returns, the ledger keeps the outcomes, and calls are spaced
    out until it answers again. `status`, `dead_letters` and `retry_dead_letters` may be called from any thread.
    """

    def __init__(
        self,
        service: FanServicePort,
        delivery: Delivery,
        *,
        viewers: ViewerRows,
        segments: SegmentWriter,
        append: AppendFacts,
        read_judged: ReadJudged,
        follows: FollowWriter | None = None,
        on_retention: OnRetention | None = None,
        on_tiers: OnTiers | None = None,
        audiences_of: AudiencesOf | None = None,
        settings: BridgeSettings | None = None,
    ) -> None:
        self._settings = settings or BridgeSettings()
        self._delivery = delivery
        self._breaker = CircuitBreaker("fan service", self._settings.backoff, self._settings.seed)
        seed = self._settings.seed
        self.outbox = Outbox(service, delivery, read_judged, self._settings.outbox, seed, audiences_of)
        self._tiers = TierFeed(service, delivery, viewers, segments, on_tiers=on_tiers)
        self._events = EventFeed(service, delivery, append, follows) if self._settings.pull_events else None
        self._retention = RetentionFeed(service, delivery, on_retention)
        self._broken: set[str] = set()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def restore(self) -> int:
        """Write the segments from what is saved and hand on recent judgements and rises, before the first tick; answers
        how many fans there are."""
        self._retention.restore()
        self._tiers.tell_again()
        return self._tiers.restore()

    def tick(self, now_ms: int) -> None:
        """Push and pull once, bounded; does nothing while a service that failed is left in peace. Never raises."""
        if not self._breaker.allows(now_ms):
            return
        for name, step in self._steps(now_ms):
            try:
                step()
                self._broken.discard(name)
            except FanServiceError as failure:
                self._breaker.failed(now_ms, str(failure))
                return
            except Exception:
                # A full disk, say. The other steps go on; once there is room again, so does this one.
                if name not in self._broken:
                    _log.exception("%s could not be exchanged; trying again at every tick", name)
                self._broken.add(name)
        self._breaker.succeeded()

    def start(self, clock: Clock) -> None:
        """Tick from an own thread until `close`."""
        if self._thread is not None:
            raise RuntimeError("the bridge has been started already")
        self._thread = threading.Thread(target=self._run, args=(clock,), name="fanbridge", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the own thread after the tick under way; what is not delivered waits for the next start."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def status(self) -> BridgeStatus:
        """Where the bridge stands."""
        parked, dead = self._delivery.waiting_counts()
        return BridgeStatus(
            link=self._breaker.state,
            last_failure=self._breaker.last_failure,
            outbox_position=self.outbox.position,
            outcomes_delivered=self.outbox.delivered,
            outcomes_parked=parked,
            outcomes_dead=dead,
            fans_changed=self._tiers.applied,
            events_appended=0 if self._events is None else self._events.appended,
            retention_judged=self._retention.judged,
            broken=tuple(sorted(self._broken)),
        )

    def kept_counts(self, creator_id: int) -> dict[int, tuple[int, int]]:
        """For 1, 7 and 30 days: how many gained fans of this creator were judged, and how many of them were kept."""
        return self._retention.kept_counts(creator_id)

    def _steps(self, now_ms: int) -> list[tuple[str, Callable[[], None]]]:
        """What one tick does, in order; a service that was away gets one push first."""
        max_pushes = None if self._breaker.state is LinkState.UP else 1
        events = self._events
        return [
            ("outcomes", lambda: self.outbox.tick(now_ms, max_pushes)),
            ("fans", self._tiers.tick),
            *([("events", lambda: events.tick(now_ms))] if events is not None else []),
            ("retention", self._retention.tick),
        ]

    def _run(self, clock: Clock) -> None:
        while not self._stopping.wait(self._settings.tick_interval_ms / 1_000):
            self.tick(clock.wall_ms())
