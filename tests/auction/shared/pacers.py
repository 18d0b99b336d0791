"""Servers that pace together on one redis-server and one virtual clock, without anything else of a server."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from auction.shared.pace import SharedPacer
from auction.shared.pace_redis import PaceBoard
from pacing.clocks import VirtualClock
from pacing.control.history import MarketHistory
from pacing.control.pacer import Pacer
from pacing.redis_link import RedisLink


class PacingServer:
    """One server: what its control loop and its exchange do, called one after the other."""

    def __init__(
        self, link: RedisLink, owner_id: int, clock: VirtualClock, ttl_ms: int, history: MarketHistory | None = None
    ) -> None:
        self.clock = clock
        self.own = Pacer(history)
        self.board = PaceBoard(link, owner_id, ttl_ms, clock.wall_ms)
        self.shared = SharedPacer(self.own, self.board, clock, owner_id)
        self.plans = 0

    def tick(self, accounts: npt.NDArray[np.void]) -> None:
        """As `Control` does it."""
        mine = accounts[self.shared.begin(accounts["campaign_id"])]
        self.plans += len(self.shared.tick(mine, self.clock.wall_ms()))

    @property
    def alphas(self) -> dict[int, float]:
        """With what it bids."""
        rows = self.shared.in_force()
        return dict(zip(rows["campaign_id"].tolist(), rows["alpha_micros"].tolist(), strict=True))

    @property
    def shards(self) -> int:
        """How many shards it paces now."""
        return len(self.paced_shards)

    @property
    def paced_shards(self) -> set[int]:
        """Those that it paces now."""
        return set(np.flatnonzero(self.shared._held()).tolist())


def rounds(servers: list[PacingServer], accounts: npt.NDArray[np.void], count: int, period_ms: int = 1_000) -> None:
    """Let time pass: each round every server ticks, then every server exchanges."""
    for _ in range(count):
        clock = servers[0].clock
        clock.advance_to(clock.wall_ms() + period_ms)
        for server in servers:
            server.tick(accounts)
        for server in servers:
            server.shared.try_step()
