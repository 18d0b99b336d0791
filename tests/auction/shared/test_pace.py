"""Several servers that pace together: who paces what, what the others bid with, and what becomes of it in a crash."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest

from auction.shared.pace_redis import SHARDS, TTL_MS, PaceBoard, shard_of
from benchmarks.redis_servers import RedisServer, redis_server
from pacing.clocks import VirtualClock
from pacing.facts import FEEDBACK
from pacing.redis_link import RedisLink
from tests.auction.shared.pacers import PacingServer, rounds
from tests.pacing.control.market import DAY_START_MS, account

BUDGET = 2e7
CAMPAIGNS = 150
VIEWERS = 30


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as started:
        yield started


@pytest.fixture
def link(server: RedisServer) -> Iterator[RedisLink]:
    made = RedisLink(server.url, timeout_ms=10_000)
    made.run([("FLUSHALL",)])
    yield made
    made.close()


@pytest.fixture
def accounts() -> npt.NDArray[np.void]:
    return np.concatenate([account(BUDGET, 1e5 * (i % 3), campaign_id=i + 1) for i in range(CAMPAIGNS)])


def started(link: RedisLink, count: int, clock: VirtualClock | None = None) -> list[PacingServer]:
    """Servers one after the other, all before the first tick."""
    clock = clock or VirtualClock(DAY_START_MS)
    servers = [PacingServer(link, number, clock, TTL_MS) for number in range(1, count + 1)]
    for each in servers:
        each.shared.try_step()
    return servers


def see(server: PacingServer, accounts: npt.NDArray[np.void], viewers: int = VIEWERS) -> None:
    """Some supply of every campaign, and two auctions that it lost."""
    ids = accounts["campaign_id"]
    eligible, expected = np.full(len(ids), viewers), np.full(len(ids), viewers * 0.02)
    server.shared.observe_supply(ids, eligible, expected, server.clock.wall_ms())
    feedback = np.zeros(2 * len(ids), FEEDBACK)
    feedback["campaign_id"], feedback["at"], feedback["probability"] = np.repeat(ids, 2), 2, 0.02
    feedback["alpha_micros"], feedback["bid_micros"], feedback["price_micros"] = 1e5, 2_000, -1
    feedback["min_bid_to_win_micros"] = np.tile([2_500, 4_000], len(ids))
    server.shared.observe(feedback)


def busy(servers: list[PacingServer], accounts: npt.NDArray[np.void], count: int) -> None:
    """Rounds in which every server sees viewers, and some until all of that is told."""
    for _ in range(count):
        for each in servers:
            see(each, accounts)
        rounds(servers, accounts, 1)
    rounds(servers, accounts, 2)


def agreed(servers: list[PacingServer]) -> dict[int, float]:
    """The multipliers with which all servers bid, when they have read what the last round published: the same ones."""
    for each in servers:
        each.shared.try_step()
    first = servers[0].alphas
    assert all(each.alphas == first for each in servers)
    return first


def covered(servers: list[PacingServer]) -> bool:
    """Each shard is paced by exactly one."""
    return sorted(shard for each in servers for shard in each.paced_shards) == list(range(SHARDS))


def test_one_server_paces_everything_from_its_first_tick(link: RedisLink, accounts: npt.NDArray[np.void]) -> None:
    (only,) = started(link, 1)
    assert only.shards == SHARDS
    only.tick(accounts)
    only.shared.try_step()
    assert set(only.alphas) == set(accounts["campaign_id"].tolist())


def test_shares_become_even_and_stay(link: RedisLink, accounts: npt.NDArray[np.void]) -> None:
    one, two, three = servers = started(link, 3)
    rounds(servers, accounts, 6)
    assert covered(servers)
    assert [one.shards, two.shards, three.shards] == [22, 22, 20]
    who = [each.paced_shards for each in servers]
    rounds(servers, accounts, 5)
    assert [each.paced_shards for each in servers] == who, "nothing moves without need"
    busy(servers, accounts, 2)
    alphas = agreed(servers)
    assert set(alphas) == set(accounts["campaign_id"].tolist())
    assert min(alphas.values()) > 0


def test_a_dead_servers_shards_are_paced_within_six_seconds(link: RedisLink, accounts: npt.NDArray[np.void]) -> None:
    *living, dead = servers = started(link, 3)
    busy(servers, accounts, 20)
    orphans = dead.paced_shards
    moved = {number for number in accounts["campaign_id"].tolist() if shard(number) in orphans}
    before, counted = agreed(servers), viewers_of(servers)
    assert len(moved) > 20
    rounds(living, accounts, 4)
    assert not orphans & set.union(*(each.paced_shards for each in living)), "a lease runs its time"
    held = agreed(living)
    assert {number: held[number] for number in moved} == {number: before[number] for number in moved}
    rounds(living, accounts, 2)
    assert covered(living)
    assert [each.shards for each in living] == [32, 32]
    rounds(living, accounts, 2)
    after, known = agreed(living), viewers_of(living)
    assert min(known[number] / counted[number] for number in moved) > 0.3, "at most ten seconds are forgotten"
    assert {number: after[number] for number in moved} == pytest.approx(
        {number: before[number] for number in moved}, rel=0.2
    )


def test_a_server_that_stood_still_is_not_heard(link: RedisLink, accounts: npt.NDArray[np.void]) -> None:
    """It wakes after others took over: it does not pace, its publications are refused, and it bids as they say."""
    slow, other = servers = started(link, 2)
    rounds(servers, accounts, 8)
    had = slow.paced_shards
    assert had
    slow.tick(accounts)  # planned, but not yet published
    rounds([other], accounts, 7)
    assert other.shards == SHARDS
    assert slow.shards == 0
    plans = slow.plans
    slow.tick(accounts)
    assert slow.plans == plans
    slow.shared.try_step()
    slow.tick(accounts)
    assert slow.plans == plans
    assert agreed([slow, other])
    rounds(servers, accounts, 8)
    assert covered(servers)
    assert {slow.shards, other.shards} == {32}


def test_a_control_loop_that_hangs_gives_its_shards_away(link: RedisLink, accounts: npt.NDArray[np.void]) -> None:
    hung, other = servers = started(link, 2)
    rounds(servers, accounts, 6)
    for _ in range(8):
        rounds([other], accounts, 1)
        hung.shared.try_step()  # its exchange goes on
    assert (hung.shards, other.shards) == (0, SHARDS)


def test_without_redis_the_last_multipliers_hold(
    server: RedisServer, link: RedisLink, accounts: npt.NDArray[np.void], caplog: pytest.LogCaptureFixture
) -> None:
    servers = started(link, 2)
    busy(servers, accounts, 8)
    before, counted, had = agreed(servers), viewers_of(servers), [each.paced_shards for each in servers]
    impatient = RedisLink(server.url, timeout_ms=100)
    with server.suspended():
        for each in servers:
            each.board._link = impatient
        for _ in range(4):
            for each in servers:
                see(each, accounts)
            rounds(servers, accounts, 1, period_ms=TTL_MS // 2 + 1)
        assert [each.shards for each in servers] == [0, 0], "nobody paces on a part of what is seen"
        assert [each.alphas for each in servers] == [before, before]
    impatient.close()
    for each in servers:
        each.board._link = link
    told = [record.getMessage() for record in caplog.records if "stay as they are" in record.getMessage()]
    assert len(told) == 2, "once an outage and server"
    rounds(servers, accounts, 8)
    assert covered(servers)
    assert [each.paced_shards for each in servers] == had
    seen = {number: count + 4 * 2 * VIEWERS for number, count in counted.items()}
    assert viewers_of(servers) == pytest.approx(seen), "nothing is lost, nothing counted twice"


def viewers_of(servers: list[PacingServer]) -> dict[int, float]:
    """Viewers that pacers counted, of each campaign by who paces it."""
    counted = {}
    for each in servers:
        rows = each.own.memory(each.clock.wall_ms()).rows
        rows = rows[each.shared.paces(rows["campaign_id"])]
        counted |= dict(zip(rows["campaign_id"].tolist(), rows["seen"][:, 0].tolist(), strict=True))
    return counted


def shard(campaign_id: int) -> int:
    return int(shard_of(np.array([campaign_id], np.uint64))[0])


def test_who_leaves_hands_on_what_it_learned(link: RedisLink, accounts: npt.NDArray[np.void]) -> None:
    leaving, staying = servers = started(link, 2)
    busy(servers, accounts, 8)
    counted, before = viewers_of(servers), agreed(servers)
    leaving.shared.stop()
    rounds([staying], accounts, 2)
    assert staying.shards == SHARDS
    assert viewers_of([staying]) == pytest.approx(counted)
    assert agreed([staying]) == pytest.approx(before, rel=0.05)


def test_what_nobody_can_read_is_left_aside(
    link: RedisLink, accounts: npt.NDArray[np.void], caplog: pytest.LogCaptureFixture
) -> None:
    """A memory, a plan, a message of another version: told in the log, and pacing goes on without."""
    shards = sorted(set(shard_of(accounts["campaign_id"]).tolist()))
    for number in shards:
        link.run([
            ("SET", f"fanbid:{{pace:{number}}}:memory", b"what"),
            ("SET", f"fanbid:{{pace:{number}}}:plan", b"is"),
        ])  # fmt: skip
    PaceBoard(link, 99).meet({}, [(number, 1, b"this") for number in shards], paces=False)
    (only,) = servers = started(link, 1)
    rounds(servers, accounts, 3)
    assert set(only.alphas) == set(accounts["campaign_id"].tolist())
    text = caplog.text
    assert ("memory of shard" in text, "what a server saw" in text) == (True, True)
