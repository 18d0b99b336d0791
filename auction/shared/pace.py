"""Pacing among several servers: each campaign is paced by one of them, from what all see; all bid with its multiplier.

Campaigns are dealt into shards, and each shard has at most one server that paces it, by a lease in Redis. The others
tell it what they saw, and apply what it publishes. Nobody paces without a lease in force: who sees a part of the
traffic only would take it for the whole and raise its multipliers. Where nobody publishes, or Redis is away, the last
multiplier stays in force: budgets are kept by leases of money all the same, and cost stays near where it was.
"""

from __future__ import annotations

import logging
import threading
import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from auction.shared.observations import Message, Observations, by_shard
from auction.shared.pace_redis import SHARDS, PaceBoard, Publication, Reading, Round, shard_of
from auction.shared.plans import PUBLISHED, pack, published, unpack
from pacing.clocks import Clock
from pacing.control.pacer import Pacer
from pacing.control.saved import PacerMemory
from pacing.outage import Outage
from pacing.redis_link import RedisForeign, RedisUnavailable

MEMORY_PERIOD_MS = 10_000
"""A successor goes on from what was remembered at most so long ago, or a little more where there is very much of it."""
ROUND_MEMORY_BYTES = 2**21
ROUND_GIVEN_BACK = 16
_ROUND_S = 1.0
_LEAVE_S = 5.0

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Lease:
    """Of one shard, as this server knows it.

    Attributes:
        until_ms: on this server's monotonic clock, counted from before it was asked for.
        taken: number of the last message that was taken.
        memory_at_ms: when its pacer's memory was last published, on the same clock.
        plan: what was last to be published; empty before the first tick.
    """

    fence: int
    until_ms: int
    memory_at_ms: int
    taken: int = 0
    plan: bytes = b""


class SharedPacer:
    """Stands in for the `Pacer` of a server that is one of several.

    Threads: any thread may call `observe`, `observe_supply`, `begin`, `tick`, `paces` and `in_force`; they never wait
    for Redis. `step` and `leave` do; a thread of their own calls them, see `start`.
    """

    def __init__(self, pacer: Pacer, board: PaceBoard, clock: Clock, seed: int = 0) -> None:
        self._pacer = pacer
        self._board = board
        self._clock = clock
        self._random = np.random.default_rng(seed)
        self._lock = threading.Lock()
        self._leases: dict[int, _Lease] = {}
        self._ticked_at_ms = clock.monotonic_ms()
        self._planned = np.zeros(SHARDS, np.bool_)  # shards that the tick under way is about
        self._fresh: set[int] = set()  # shards with a plan that was not published yet
        self._outbox = Observations(seed)
        self._inbox: list[Message] = []
        self._in_force: dict[int, npt.NDArray[np.void]] = {}
        # Of the exchange alone.
        self._pacers = 1
        self._unsent: list[tuple[int, int, bytes]] = []
        self._number = 0
        self._marks: dict[int, bytes] = {}
        self._others_after_ms: int | None = 0
        self._outage = Outage()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    # --- the control loop's side ----------------------------------------------------------------------------------

    def begin(self, campaign_ids: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
        """Which of these campaigns the next `tick` is to plan: bool[n]."""
        with self._lock:
            self._planned = self._held()
            return self._planned[shard_of(campaign_ids)]

    def paces(self, campaign_ids: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
        """Which of these campaigns this server paces now: bool[n]."""
        with self._lock:
            return self._held()[shard_of(campaign_ids)]

    def observe(self, feedback: npt.NDArray[np.void]) -> None:
        """See `Pacer.observe`; rows of campaigns that another server paces are kept for it."""
        mine = self.paces(feedback["campaign_id"])
        self._pacer.observe(feedback[mine])
        with self._lock:
            self._outbox.add_feedback(feedback[~mine])

    def observe_supply(
        self,
        campaign_ids: npt.NDArray[np.uint64],
        eligible: npt.NDArray[np.int64],
        expected_events: npt.NDArray[np.float64],
        now_ms: int,
    ) -> None:
        """See `Pacer.observe_supply`; counts of campaigns that another server paces are kept for it."""
        mine = self.paces(campaign_ids)
        self._pacer.observe_supply(campaign_ids[mine], eligible[mine], expected_events[mine], now_ms)
        with self._lock:
            self._outbox.add_supply(campaign_ids[~mine], eligible[~mine], expected_events[~mine])

    def tick(self, accounts: npt.NDArray[np.void], now_ms: int) -> npt.NDArray[np.void]:
        """See `Pacer.tick`; the plan is in force, here as elsewhere, when it is published.

        Args:
            accounts: PACING_ACCOUNT[n] of the campaigns that `begin` named.
        """
        with self._lock:
            inbox, self._inbox = self._inbox, []
        for message in inbox:
            supply = message.supply
            self._pacer.observe_supply(supply["campaign_id"], supply["eligible"], supply["expected_events"], now_ms)
            self._pacer.observe(message.feedback)
        plans = self._pacer.tick(accounts, now_ms)
        rows = published(plans, accounts, now_ms)
        shards = shard_of(rows["campaign_id"])
        with self._lock:
            self._ticked_at_ms = self._clock.monotonic_ms()
            for shard, lease in self._leases.items():
                if self._planned[shard]:
                    lease.plan = pack(rows[shards == shard])
                    self._fresh.add(shard)
        self._wake.set()
        return plans

    def in_force(self) -> npt.NDArray[np.void]:
        """PUBLISHED[n]: the last that was published of every campaign, here or elsewhere; what all servers bid with."""
        with self._lock:
            parts = list(self._in_force.values())
        return np.concatenate(parts) if parts else np.zeros(0, PUBLISHED)

    def _held(self) -> npt.NDArray[np.bool_]:
        """bool[SHARDS]: whose leases are in force here."""
        now_ms, held = self._clock.monotonic_ms(), np.zeros(SHARDS, np.bool_)
        for shard, lease in self._leases.items():
            held[shard] = now_ms < lease.until_ms
        return held

    # --- the exchange ---------------------------------------------------------------------------------------------

    def step(self) -> None:
        """Publish, tell, read, and take or give back leases: one exchange with Redis, or two.

        Raises:
            RedisUnavailable: it does not answer; nothing that was to be told is lost.
        """
        asked_at_ms = self._clock.monotonic_ms()
        with self._lock:
            does_pace = asked_at_ms < self._ticked_at_ms + self._board.ttl_ms
            held = self._held()
            publishing = {shard: self._leases[shard] for shard in sorted(self._fresh) if shard in self._leases}
            self._fresh.clear()
            self._collect(held)
        publications = self._publications(publishing, asked_at_ms)
        marks = {shard: self._marks.get(shard, b"") for shard in range(SHARDS) if not held[shard]}
        try:
            met = self._board.meet(publications, self._unsent, marks, does_pace)
        except RedisUnavailable:
            self._others_after_ms = None
            raise
        self._unsent = []
        if self._others_after_ms is None:
            self._others_after_ms = asked_at_ms + self._board.ttl_ms
        self._pacers = max(met.pacers, 1)
        self._settle(publications, met, asked_at_ms)
        for shard, reading in met.readings.items():
            self._hear(shard, reading)
        if does_pace:
            self._claim({shard for shard, reading in met.readings.items() if reading.is_free})

    @property
    def _share(self) -> int:
        """As many shards as this server should have."""
        return -(-SHARDS // self._pacers)

    def _collect(self, held: npt.NDArray[np.bool_]) -> None:
        """Pack what is to be told; what was not sent for certain goes first, alone, under the numbers it had."""
        if self._unsent:
            return
        message = self._outbox.take()
        parts = by_shard(message, shard_of(message.supply["campaign_id"]), shard_of(message.feedback["campaign_id"]))
        for shard, part in parts.items():
            if held[shard]:  # gathered before this server got the lease
                self._inbox.append(part)
            else:
                self._number += 1
                self._unsent.append((shard, self._number, part.to_bytes()))

    def _publications(self, publishing: dict[int, _Lease], now_ms: int) -> dict[int, Publication]:
        surplus = max(len(self._leases) - self._share, 0)
        leaving = set(list(publishing)[: min(surplus, ROUND_GIVEN_BACK)])
        publications, memory_bytes = {}, 0
        for shard in sorted(publishing, key=lambda shard: (shard not in leaving, publishing[shard].memory_at_ms)):
            lease, memory = publishing[shard], b""
            is_due = now_ms >= lease.memory_at_ms + MEMORY_PERIOD_MS and memory_bytes < ROUND_MEMORY_BYTES
            if shard in leaving or is_due:
                memory = self._memory_of(shard)
                memory_bytes += len(memory)
            publications[shard] = Publication(lease.fence, lease.plan, memory, lease.taken, shard in leaving)
        return publications

    def _memory_of(self, shard: int) -> bytes:
        memory = self._pacer.memory(self._clock.wall_ms(), lambda ids: shard_of(ids) == shard)
        return zlib.compress(memory.to_bytes(), 1)

    def _settle(self, publications: dict[int, Publication], met: Round, asked_at_ms: int) -> None:
        """Renew what was published; who was refused has lost the lease."""
        with self._lock:
            for shard, publication in publications.items():
                answer = met.accepted.get(shard)
                if answer is None:
                    del self._leases[shard]
                    continue
                lease = self._leases[shard]
                self._in_force[shard] = unpack(publication.plan)
                self._marks.pop(shard, None)
                if publication.gives_back:
                    del self._leases[shard]
                    continue
                first, messages = answer
                lease.until_ms = asked_at_ms + self._board.ttl_ms
                lease.taken = first + len(messages) - 1
                if publication.memory:
                    lease.memory_at_ms = asked_at_ms
                self._inbox += [message for packed in messages if (message := _message(packed)) is not None]

    def _hear(self, shard: int, reading: Reading) -> None:
        self._marks[shard] = reading.mark
        if not reading.plan:
            return
        try:
            rows = unpack(reading.plan)
        except ValueError as error:
            logger.warning("plan of shard %d: %s; the one before stays", shard, error)
            return
        with self._lock:
            self._in_force[shard] = rows

    def _claim(self, free: set[int]) -> None:
        """Take leases up to this server's share: those that it had and let run out first, then what nobody has.

        After an outage it waits with the latter until the others may be back, so that each keeps what it had.
        """
        asked_at_ms = self._clock.monotonic_ms()
        if self._others_after_ms is None or asked_at_ms < self._others_after_ms:
            free = set()
        with self._lock:
            held = self._held()
            lapsed = [shard for shard in self._leases if not held[shard]]
        others = sorted(free - set(self._leases))
        wanted = [*lapsed, *self._random.permutation(others).tolist()][: max(self._share - int(held.sum()), 0)]
        if not wanted:
            return
        claimed = self._board.claim(wanted)
        for shard, (fence, memory) in claimed.items():
            before = self._leases.get(shard)
            if before is None or before.fence != fence:
                self._take_over(shard, memory)
                before = _Lease(fence, 0, asked_at_ms)
            before.until_ms = asked_at_ms + self._board.ttl_ms
            with self._lock:
                self._leases[shard] = before
        with self._lock:
            for shard in set(lapsed) & set(wanted) - set(claimed):
                del self._leases[shard]

    def _take_over(self, shard: int, memory: bytes) -> None:
        """Go on from what the last pacer of a shard remembered; without that, its campaigns begin anew."""
        if not memory:
            return
        try:
            unpacked = PacerMemory.from_bytes(zlib.decompress(memory), self._pacer.memory_layout)
            self._pacer.restore(unpacked, self._clock.wall_ms())
        except (ValueError, zlib.error) as error:
            logger.warning("memory of shard %d: %s; its campaigns begin anew", shard, error)

    # --- its thread -----------------------------------------------------------------------------------------------

    def try_step(self) -> None:
        """`step`, with an outage of Redis told in the log, each reason once."""
        try:
            self.step()
        except RedisUnavailable as error:
            if not isinstance(error, RedisForeign) and self._outage.failed(str(error)):
                logger.warning("pacing: %s; multipliers stay as they are", error)
        else:
            if self._outage.answered():
                logger.warning("pacing: Redis is back")

    def start(self) -> None:
        """Exchange from a thread: after each tick, and at least every second."""
        self._thread = threading.Thread(target=self._loop, name="pace", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and leave."""
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(_LEAVE_S)
        self.leave()

    def leave(self) -> None:
        """Give back all leases, with what was learned, so that somebody else goes on at once; if Redis answers."""
        with self._lock:
            leases, self._leases = dict(self._leases), {}
        publications = {
            shard: Publication(lease.fence, lease.plan, self._memory_of(shard), lease.taken, True)
            for shard, lease in leases.items()
        }
        try:
            self._board.meet(publications, paces=False)
        except RedisUnavailable as error:
            logger.warning("pacing: %s; leases run out by themselves", error)

    def _loop(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait(_ROUND_S)
            self._wake.clear()
            try:
                self.try_step()
            except Exception:
                logger.exception("pacing: an exchange failed; the next one follows")


def _message(packed: bytes) -> Message | None:
    try:
        return Message.from_bytes(packed)
    except ValueError as error:
        logger.warning("what a server saw: %s; left out", error)
        return None
