"""Joins the bridge to a server's services; called by the command line, which alone knows both halves."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from fanbridge.bridge import Bridge, BridgeSettings
from fanbridge.client import FanServiceClient
from fanbridge.delivery import Delivery
from pacing.clocks import Clock, VirtualClock
from pacing.ledger.log import Ledger
from targeting.graph.follows import FollowGraph
from targeting.segments.store import SegmentStore
from targeting.viewers import ViewerTable

VIRTUAL_PERIOD_MS = 60_000


class Periodic(Protocol):
    """Runs tasks on the server's clock."""

    def every(self, period_ms: int, task: object, name: str) -> None:
        """Add a task."""


class Host(Protocol):
    """What the bridge needs of a server's services."""

    clock: Clock
    folder: Path
    ledger: Ledger
    viewers: ViewerTable
    segments: SegmentStore
    follows: FollowGraph


class AttachedBridge:
    """A bridge with the client and the delivery state that it owns."""

    def __init__(self, host: Host, address: str, scheduler: Periodic, seed: int) -> None:
        """Connect to the fan service at `address`, and write the segments that the last exchange left."""
        self._client = FanServiceClient(address)
        self._delivery = Delivery(host.folder / "delivery.sqlite")
        self.bridge = Bridge(
            self._client,
            self._delivery,
            viewers=host.viewers,
            segments=host.segments,
            append=host.ledger.append,
            read_judged=host.ledger.read_judged,
            follows=host.follows,
            settings=BridgeSettings(seed=seed),
        )
        self.bridge.restore()
        clock = host.clock
        if isinstance(clock, VirtualClock):
            scheduler.every(VIRTUAL_PERIOD_MS, lambda: self.bridge.tick(clock.wall_ms()), "bridge")
        else:
            self.bridge.start(clock)

    def close(self) -> None:
        """Stop exchanging; what is not delivered waits for the next start."""
        self.bridge.close()
        self._client.close()
        self._delivery.close()
