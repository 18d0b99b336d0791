"""Traffic through the shipped ledger, outbox and gRPC to the shipped fan service, with everything in its way."""

from __future__ import annotations

import socket
import sqlite3
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fans.relay import Relay
from benchmarks.fans.truth import START_AT_MS, Audit, KnownJudge, Traffic, audit
from benchmarks.output import ProgressBar
from benchmarks.serving import Child, start_child
from fanbridge.bridge import Bridge, BridgeSettings
from fanbridge.client import FanServiceClient
from fanbridge.delivery import DELIVERY_FILE, Delivery
from fanbridge.events import MAX_PUSH_ROWS
from fanbridge.outbox import OutboxSettings
from pacing.ledger.followers import JudgeFollower
from pacing.ledger.log import Ledger
from targeting.graph.follows import FollowGraph
from targeting.segments.store import SegmentStore
from targeting.viewers import ViewerTable

TICK_MS = 1_000
SPAN_MS = 1_100_000
"""How long traffic comes, in virtual time."""
OUTAGE_TICKS = 600
"""Ten minutes of virtual time."""
_OUTAGE_FROM = 0.23
"""When the outage begins, as a share of the time in which traffic comes."""
_DEAD_TICKS = 3
"""How many ticks find the service dead before somebody starts it again."""
_ROWS_AT_ONCE = 20_000
_SERVICE_FILE = "fans.sqlite"


@dataclass(frozen=True)
class Trouble:
    """What stands in the way: faults by probability, deaths of the service and of the follower by number."""

    fault_share: float = 0.3
    service_deaths: int = 12
    follower_deaths: int = 12
    outage_ticks: int = OUTAGE_TICKS
    seed: int = 1


NO_TROUBLE = Trouble(0.0, service_deaths=0, follower_deaths=0, outage_ticks=0)


@dataclass
class Played:
    """What a run came to.

    Attributes:
        audit: what the service holds.
        taken_twice: outcomes that the service called new more than once.
        waiting: outcomes that the outbox had not handed over in the end, dead ones included.
        backlog: the most ledger rows that waited at once.
        counts: of calls and faults.
        wall_s: from the first row to the last answer, the starts of programs not counted.
    """

    audit: Audit
    taken_twice: int
    waiting: int
    backlog: int
    counts: dict[str, int]
    wall_s: float
    ticks: int
    fans_pulled: int


class FollowerDies(BaseException):
    """The engine's process ends between a push and the note that it was made."""


class MortalDelivery(Delivery):
    """Delivery state whose process can be made to die before it saves what was delivered."""

    def __init__(self, path: Path | None) -> None:
        super().__init__(path)
        self.dies_next = False

    def save_outcomes(self, sequence: int, parked: Any, dead: Any) -> None:
        """Save, or die instead."""
        if self.dies_next:
            raise FollowerDies
        super().save_outcomes(sequence, parked, dead)


class Service:
    """The program `fan-service` on one port, as often as it is started; its time is that of what it is told."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._child: Child | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"

    @property
    def path(self) -> Path:
        """Its file."""
        return self._folder / _SERVICE_FILE

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._child is not None and self._child.process_handle.poll() is None

    def start(self) -> None:
        """Start it; returns when it serves."""
        flags = ["--data", str(self._folder), "--listen", self.address, "--virtual-clock", str(START_AT_MS)]
        self._child = start_child("fan-service", ["fan-service", *flags], self._folder)

    def kill(self) -> None:
        """kill -9."""
        if self._child is not None:
            self._child.kill()

    def stop(self) -> None:
        """Ask it to end."""
        if self._child is not None:
            self._child.stop()


@dataclass
class Follower:
    """One life of the engine's side: what is lost when its process ends, over the file that is not."""

    folder: Path
    ledger: Ledger
    address: str
    push_rows: int
    ending: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        client = FanServiceClient(self.address, deadline_ms=60_000)
        self.ending.callback(client.close)
        self.delivery = MortalDelivery(self.folder / DELIVERY_FILE)
        self.ending.callback(self.delivery.close)
        viewers, segments = ViewerTable(), SegmentStore()
        self.bridge = Bridge(
            client,
            self.delivery,
            viewers=viewers,
            segments=segments,
            append=self.ledger.append,
            read_judged=self.ledger.read_judged,
            follows=FollowGraph(viewers, segments),
            settings=BridgeSettings(outbox=OutboxSettings(push_rows=self.push_rows)),
        )
        self.bridge.restore()

    def close(self) -> None:
        """End this life."""
        self.ending.close()


class Run:
    """A run from the first row to the last answer. Use by one thread."""

    def __init__(self, folder: Path, traffic: Traffic, trouble: Trouble, push_rows: int) -> None:
        self._traffic, self._trouble, self._folder, self._push_rows = traffic, trouble, folder, push_rows
        self._service = Service(folder / "service")
        self._ledger = Ledger(folder / "ledger.sqlite")
        self._judging = JudgeFollower(self._ledger, [KnownJudge()])
        self._relay = Relay(traffic.rows, trouble.fault_share, trouble.seed, self._service.kill)
        self._follower = Follower(folder, self._ledger, self._relay.address, push_rows)
        self._fans_pulled = self._backlog = self._dead_ticks = self._tick = 0
        self._away_s = 0.0
        rng = np.random.default_rng(trouble.seed)
        self._span_ticks = max(1, traffic.span_ms // TICK_MS)
        self._outage_from_tick = int(_OUTAGE_FROM * self._span_ticks)
        self._service_dies_at, self._follower_dies_at = (
            sorted(rng.integers(1, traffic.rows, deaths).tolist())
            for deaths in (trouble.service_deaths, trouble.follower_deaths)
        )

    def play(self, bar: ProgressBar) -> Played:
        """Everything, in lockstep: each virtual second some rows are written and judged, and the bridge ticks once."""
        try:
            self._start_service()
            began_s, self._away_s = time.perf_counter(), 0.0
            while not self._is_done():
                self._step(bar)
            wall_s = time.perf_counter() - began_s - self._away_s
            status = self._follower.bridge.status()
        finally:
            self._close()
        return Played(
            audit=audit(self._service.path, self._traffic),
            taken_twice=int((self._relay.taken > 1).sum()),
            waiting=status.outcomes_parked + status.outcomes_dead,
            backlog=self._backlog,
            counts=dict(self._relay.counts),
            wall_s=wall_s,
            ticks=self._tick,
            fans_pulled=self._fans_pulled + status.fans_changed,
        )

    def play_at_once(self, bar: ProgressBar) -> Played:
        """The same with all rows written and judged beforehand: what is timed is the handing over alone."""
        while self._ledger.last_sequence < self._traffic.rows:
            rows_from = self._ledger.last_sequence
            rows_to = min(rows_from + _ROWS_AT_ONCE, self._traffic.rows)
            self._ledger.append(self._traffic.ledger_rows(rows_from, rows_to))
        self._judging.catch_up()
        return self.play(bar)

    def _is_done(self) -> bool:
        return self._position() >= self._traffic.rows and not self._in_outage()

    def _position(self) -> int:
        return self._follower.bridge.outbox.position

    def _in_outage(self) -> bool:
        return 0 <= self._tick - self._outage_from_tick < self._trouble.outage_ticks

    def _step(self, bar: ProgressBar) -> None:
        self._let_fate_act()
        self._write_rows()
        before = self._position()
        try:
            self._follower.bridge.tick(START_AT_MS + self._tick * TICK_MS)
        except FollowerDies:
            self._relay.counts["follower_deaths"] += 1
            self._begin_follower()
        self._tick += 1
        waiting = self._ledger.judged_sequence - self._position()
        self._backlog = max(self._backlog, waiting)
        bar.advance(self._position() - before, f"{waiting:,} rows wait, {self._relay.counts['deaths']} deaths")

    def _write_rows(self) -> None:
        rows_from = self._ledger.last_sequence
        rows_to = min(self._traffic.rows, self._traffic.rows * (self._tick + 1) // self._span_ticks)
        if rows_to > rows_from:
            self._ledger.append(self._traffic.ledger_rows(rows_from, rows_to))
            self._judging.catch_up()

    def _let_fate_act(self) -> None:
        """Begin and end the outage, kill whose time has come, and start again what has been dead for a while."""
        if self._in_outage():
            if not self._relay.is_cut:
                self._relay.is_cut = True
                self._service.kill()
            return
        if not self._service.is_alive:
            self._dead_ticks += 1
            if self._relay.is_cut or self._dead_ticks > _DEAD_TICKS:
                self._start_service()
        self._relay.is_cut = False
        if self._service_dies_at and self._position() >= self._service_dies_at[0]:
            self._service_dies_at.pop(0)
            self._relay.want_death()
        if self._follower_dies_at and self._position() >= self._follower_dies_at[0]:
            self._follower_dies_at.pop(0)
            self._follower.delivery.dies_next = True

    def _start_service(self) -> None:
        began_s = time.perf_counter()
        self._service.start()
        self._relay.connect(self._service.address)
        self._dead_ticks = 0
        self._away_s += time.perf_counter() - began_s

    def _begin_follower(self) -> None:
        began_s = time.perf_counter()
        self._fans_pulled += self._follower.bridge.status().fans_changed
        self._follower.close()
        self._follower = Follower(self._folder, self._ledger, self._relay.address, self._push_rows)
        self._away_s += time.perf_counter() - began_s

    def _close(self) -> None:
        self._follower.close()
        self._relay.close()
        self._service.stop()
        self._ledger.close()


def raw_inserts_per_s(path: Path, traffic: Traffic, push_rows: int, advance: Callable[[float], None]) -> float:
    """The same outcomes inserted into the same table by SQLite alone, in transactions as large as the pushes."""
    db = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode = WAL", "synchronous = FULL"):
        db.execute(f"PRAGMA {pragma}")
    db.execute(
        "CREATE TABLE outcomes (lease_id INTEGER, hold_seq INTEGER, kind INTEGER, viewer_id INTEGER, "
        "creator_id INTEGER, campaign_id INTEGER, creative_id INTEGER, price_micros INTEGER, occurred_at_ms INTEGER, "
        "ledger_sequence INTEGER, PRIMARY KEY (lease_id, hold_seq, kind)) WITHOUT ROWID"
    )
    taken_s = 0.0
    try:
        for rows_from in range(0, traffic.rows, push_rows):
            rows_to = min(rows_from + push_rows, traffic.rows)
            rows = traffic.expected(rows_from, rows_to)[traffic.told(rows_from, rows_to)].tolist()
            began_s = time.perf_counter()
            db.execute("BEGIN IMMEDIATE")
            db.executemany("INSERT INTO outcomes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
            db.execute("COMMIT")
            taken_s += time.perf_counter() - began_s
            advance(len(rows))
    finally:
        db.close()
    return traffic.outcomes / taken_s


def check_push_rows(push_rows: int) -> int:
    """The size of a push, if there can be one.

    Raises:
        ValueError: it is out of range.
    """
    if not 1 <= push_rows <= MAX_PUSH_ROWS:
        raise ValueError(f"--push-rows {push_rows}: not in 1..{MAX_PUSH_ROWS}")
    return push_rows
