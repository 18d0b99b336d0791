"""A day's market seen by three servers, each a third of it: paced as if one server had seen it all."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.redis_servers import RedisServer, redis_server
from pacing.clocks import MS_PER_DAY, MS_PER_MINUTE, VirtualClock
from pacing.control.history import MarketHistory
from pacing.control.pacer import Pacer
from pacing.redis_link import RedisLink
from tests.auction.shared.pacers import PacingServer
from tests.pacing.control.market import DAY_START_MS, Run, draw_day, history_of, run_day

TICKS = 1440
BEGIN = 0.945
BUDGET, TARGET = 5e5, 4e5


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as started:
        yield started


@pytest.fixture(scope="module")
def history() -> MarketHistory:
    return history_of([draw_day(100 + i) for i in range(3)])


class Together:
    """Three servers behind the face of one pacer: everything seen is dealt out among them."""

    def __init__(self, link: RedisLink, history: MarketHistory | None, dies_at_tick: int | None = None) -> None:
        link.run([("FLUSHALL",)])
        self._clock = VirtualClock(DAY_START_MS + int(BEGIN * MS_PER_DAY) - 1)
        self.servers = [PacingServer(link, n, self._clock, 5 * MS_PER_MINUTE, history) for n in (1, 2, 3)]
        self._random = np.random.default_rng(5)
        self._dies_at_tick = dies_at_tick
        self._ticks = 0
        for each in self.servers:
            each.shared.step()

    def tick(self, accounts: npt.NDArray[np.void], now_ms: int) -> npt.NDArray[np.void]:
        """One round; what is seen reaches who paces two rounds later. Every server bids with the same multiplier."""
        self._ticks += 1
        if self._ticks == self._dies_at_tick:
            (pacing,) = (each for each in self.servers if each.shared.paces(accounts["campaign_id"])[0])
            self.servers.remove(pacing)
        self._clock.advance_to(now_ms)
        for each in self.servers:
            each.tick(accounts)
        for each in self.servers:
            each.shared.step()
        self.servers[0].shared.step()
        return np.array(
            [(self.servers[0].alphas.get(int(accounts["campaign_id"][0]), 0.0),)], [("alpha_micros", "<f8")]
        )

    def observe(self, feedback: npt.NDArray[np.void]) -> None:
        to = self._random.integers(0, len(self.servers), len(feedback))
        for number, each in enumerate(self.servers):
            each.shared.observe(feedback[to == number])

    def observe_supply(
        self, campaign_ids: npt.NDArray[np.uint64], eligible: npt.NDArray[np.int64],
        expected_events: npt.NDArray[np.float64], now_ms: int,
    ) -> None:  # fmt: skip
        count = len(self.servers)
        for number, each in enumerate(self.servers):
            part = eligible // count + (number < eligible % count)
            each.shared.observe_supply(campaign_ids, part, expected_events * part / np.maximum(eligible, 1), now_ms)


def evening(pacer: Pacer | Together, budget: float, target: float) -> Run:
    return run_day(pacer, draw_day(1, auctions=100_000), budget, target, TICKS, begin=BEGIN)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("budget", "target", "dies_at_tick"),
    [(BUDGET, 0.0, None), (1e10, TARGET, None), (BUDGET, 0.0, 40)],
    ids=["budget", "target", "who paces dies"],
)
def test_three_servers_pace_as_one(
    budget: float, target: float, dies_at_tick: int | None, server: RedisServer, history: MarketHistory
) -> None:
    """With the multipliers, and for the result, of a server that sees everything, while one tick is a minute."""
    alone = evening(Pacer(history), budget, target)
    link = RedisLink(server.url, timeout_ms=10_000)
    together = evening(Together(link, history, dies_at_tick), budget, target)
    link.close()
    assert together.spend <= budget
    assert together.events == pytest.approx(alone.events, rel=0.02)
    if target:
        assert together.cost <= 1.01 * target
    settled = slice(5, -12)  # in the day's last minutes a multiplier follows each auction
    ratios = np.log(np.array(together.alphas[settled]) / np.array(alone.alphas[settled]))
    assert abs(ratios.mean()) < 0.01, "on average the same; a multiplier alone moves by a hundredth from tick to tick"
    apart = np.abs(ratios)
    assert np.median(apart) < (0.03 if dies_at_tick else 0.02)
    assert apart.max() < 0.08
