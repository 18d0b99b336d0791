"""`fanbid bench failover`: shared budgets while their Redis dies, and its replica lacks the last writes.

Three servers spend the same small budgets on one real Redis. Again and again replication is cut, the servers go on for
a while, the primary is killed and the replica, which lacks all of that, takes over. In the end every account of Redis
must equal what the ledgers charged, and lie within its cap. Then primaries of a Redis Cluster are killed while claims
are settled, and the time until they are settled again is measured.
"""

from __future__ import annotations

import argparse
import logging
import random
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.failover.pair import RedisPair, redis_pair
from benchmarks.failover.servers import BID_MICROS, CREATOR, ZONE, Spender, charged_by_campaign
from benchmarks.output import ProgressBar, Scalar, add_output_arguments, print_table, progress, write_json
from benchmarks.redis_servers import redis_cluster
from pacing.budget.redis_store import RedisStore
from pacing.budget.store import SETTLEMENT, CapsRequest, NotDecided, StoreUnavailable
from pacing.clocks import SystemClock

KILLS, QUICK_KILLS = 100, 2
CLUSTER_KILLS, QUICK_CLUSTER_KILLS = 5, 1
SERVERS = 3
CAP_MICROS = 250 * BID_MICROS
_KILLS_PER_CAMPAIGN = 2
_LIVES_S = (0.5, 12.0)
_CUT_S = (0.05, 0.8)
_DRAIN_S = 60.0
_GIVE_UP_S = 30.0
EXIT_WRONG = 1


@dataclass
class Spent:
    """What the kills came to.

    Attributes:
        acknowledged: impressions that were accepted.
        lost_micros: by how much Redis and the ledgers differ, and accepted impressions without a verdict at a bid each.
        charged_over_micros: beyond caps.
        exhausted: campaigns that spent all but less than a bid.
        resumed_s: of each kill, how long until claims were settled again.
    """

    acknowledged: int = 0
    charged_micros: int = 0
    lost_micros: int = 0
    charged_over_micros: int = 0
    over_delivered_micros: int = 0
    campaigns: int = 0
    exhausted: int = 0
    resumed_s: tuple[float, ...] = ()


def play(kills: int, seed: int, bar: ProgressBar) -> Spent:
    """Kill the primary this many times under load, and audit."""
    draw = random.Random(seed)
    with redis_pair() as pair, tempfile.TemporaryDirectory(prefix="fanbid-failover-") as folder, ExitStack() as ending:
        spenders = []
        for owner_id in range(1, SERVERS + 1):
            spender = Spender(pair.address.url, owner_id, Path(folder), seed * 100 + owner_id)
            ending.callback(spender.stop)
            spenders.append(spender)
        for spender in spenders:
            spender.peers = [peer for peer in spenders if peer is not spender]
            spender.start()
        resumed_s = []
        for kill in range(kills):
            pair.wait_in_step()
            if kill % _KILLS_PER_CAMPAIGN == 0:
                _open_campaign(spenders, 1 + kill // _KILLS_PER_CAMPAIGN)
                pair.wait_in_step()
            time.sleep(draw.uniform(*_LIVES_S))
            resumed_s.append(_kill(pair, spenders, draw.uniform(*_CUT_S)))
            bar.advance(1)
        bar.advance(0, "waiting for the last verdicts")
        _drain(spenders)
        return _audit(pair, spenders, tuple(resumed_s))


def _open_campaign(spenders: list[Spender], campaign_id: int) -> None:
    for i, spender in enumerate(spenders):
        _insist(lambda s=spender, first=i == 0: s.open(campaign_id, CAP_MICROS, first))  # type: ignore[misc]


def _insist(action: Callable[[], None]) -> None:
    """Do it as soon as the store can be asked."""
    end_s = time.monotonic() + _GIVE_UP_S
    while True:
        try:
            return action()
        except StoreUnavailable:
            if time.monotonic() > end_s:
                raise
            time.sleep(0.1)


def _kill(pair: RedisPair, spenders: list[Spender], cut_s: float) -> float:
    """Cut replication, wait, fail over; how long until every server settles again."""
    pair.cut_replication()
    time.sleep(cut_s)
    killed_at_s = time.monotonic()
    pair.fail_over()
    end_s = killed_at_s + _GIVE_UP_S
    while any(spender.epochs.is_behind or spender.judged_at_s < killed_at_s for spender in spenders):
        if time.monotonic() > end_s or not any(s.ledger.judged_sequence < s.ledger.last_sequence for s in spenders):
            break  # nobody has anything to settle: the budgets are spent
        time.sleep(0.01)
    return time.monotonic() - killed_at_s


def _drain(spenders: list[Spender]) -> None:
    for spender in spenders:
        spender.rest()
    end_s = time.monotonic() + _DRAIN_S
    time.sleep(2)  # what was bid last may still be told and judged
    while not all(spender.is_done for spender in spenders):
        if time.monotonic() > end_s:
            raise TimeoutError(f"claims that nobody judged after {_DRAIN_S:.0f} s")
        time.sleep(0.1)


def _audit(pair: RedisPair, spenders: list[Spender], resumed_s: tuple[float, ...]) -> Spent:
    charged, over, missing = charged_by_campaign(spenders)
    truth = RedisStore(pair.address.url, 0)
    accounts = truth.accounts(charged)
    truth.close()
    settled = {number: account.flight.settled_micros for number, account in accounts.items()}
    spent = Spent(campaigns=len(charged), over_delivered_micros=over, resumed_s=resumed_s)
    spent.acknowledged = sum(len(spender.acknowledged) for spender in spenders)
    spent.charged_micros = sum(charged.values())
    spent.lost_micros = missing * BID_MICROS + sum(abs(settled.get(n, 0) - micros) for n, micros in charged.items())
    spent.charged_over_micros = sum(max(0, micros - CAP_MICROS) for micros in charged.values())
    spent.exhausted = sum(CAP_MICROS - micros < BID_MICROS for micros in charged.values())
    return spent


def cluster_resumes_s() -> float:
    """Kill a primary of a new cluster of 3 + 3; how long until claims on its creators' campaigns are settled again."""
    with redis_cluster(masters=3, replicas=3, node_timeout_ms=1_000) as cluster:
        store = RedisStore(cluster.url, 1, timeout_ms=500)
        now_ms = SystemClock().wall_ms()
        store.set_caps(CapsRequest(1, CREATOR, ZONE, 10**12, 10**12, now_ms))
        sequence = 0

        def settle() -> bool:
            nonlocal sequence
            sequence += 1
            claim = np.array([(1, 7, sequence, 10, now_ms, sequence)], SETTLEMENT)
            try:
                return bool(len(store.settle(claim)))
            except NotDecided:  # until this owner, as its epoch watch would, has told what it has: nothing
                (epoch,) = store.epochs([CREATOR]).values()
                store.settled_again(CREATOR, epoch.number)
                return False
            except StoreUnavailable:
                return False

        assert settle()
        slot = cluster.masters[0].ask("CLUSTER", "KEYSLOT", f"{{{CREATOR}}}")
        for master in cluster.masters:
            master.ask("WAIT", 1, 1_000)
        killed_at_s = time.monotonic()
        cluster.masters[slot * 3 // 16_384].kill()
        while not settle():
            if time.monotonic() - killed_at_s > _GIVE_UP_S:
                break
            time.sleep(0.02)
        store.close()
        return time.monotonic() - killed_at_s


def _cluster_kills(kills: int) -> list[float]:
    resumed_s = []
    with progress(kills, "kills in a cluster") as bar:
        for _ in range(kills):
            resumed_s.append(cluster_resumes_s())
            bar.advance(1)
    return resumed_s


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `bench failover`."""
    add_output_arguments(parser)
    parser.add_argument("--kills", type=int, metavar="N", help=f"of the primary with its replica; default {KILLS}")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="draws when; default 1")


def main(args: argparse.Namespace) -> int:
    """Run it; 0 if nothing was lost and nothing overcharged, 1 otherwise.

    Raises:
        ValueError: --kills is not at least 1.
        NoRedisServer: there is no redis-server here.
    """
    kills = args.kills if args.kills is not None else QUICK_KILLS if args.quick else KILLS
    if kills < 1:
        raise ValueError(f"--kills {kills}: must be 1 or more")
    clusters = QUICK_CLUSTER_KILLS if args.quick else CLUSTER_KILLS
    logging.disable(logging.ERROR)  # that Redis is away is what is made here, and told again and again
    try:
        with progress(kills, "kills") as bar:
            spent = play(kills, args.seed, bar)
        resumed_s = _cluster_kills(clusters)
    finally:
        logging.disable(logging.NOTSET)
    figures: dict[str, Scalar] = {
        "kills": kills,
        "acknowledged": spent.acknowledged,
        "charged_micros": spent.charged_micros,
        "lost_micros": spent.lost_micros,
        "charged_over_micros": spent.charged_over_micros,
        "over_delivered_micros": spent.over_delivered_micros,
        "campaigns": spent.campaigns,
        "campaigns_exhausted": spent.exhausted,
        "resumed_s_p50": round(float(np.median(spent.resumed_s)), 3),
        "resumed_s_max": round(max(spent.resumed_s), 3),
        "cluster_kills": clusters,
        "cluster_resumed_s_max": round(max(resumed_s), 3),
    }
    print_table("a Redis that fails over", ("figure", "value"), [[name, value] for name, value in figures.items()])
    write_json(args.json, figures)
    is_wrong = spent.lost_micros or spent.charged_over_micros or spent.over_delivered_micros
    return EXIT_WRONG if is_wrong else 0
