"""A replica takes over without the last change: both servers' changes are there in the end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from auction.campaigns.store import StoreUnavailable
from benchmarks.redis_servers import SLOTS, RedisClusterServers, RedisServer, redis_cluster, wait_until
from pacing.redis_link import RedisLink, RedisUnavailable
from tests.auction.shared.sharing import SharingServer


def test_a_change_that_a_failover_lost_comes_back(tmp_path: Path) -> None:
    with redis_cluster(masters=3, replicas=3) as cluster:
        link = RedisLink(cluster.url, timeout_ms=500)
        opened: set[int] = set()
        a, b = (SharingServer(tmp_path, link, owner_id, opened) for owner_id in (1, 2))
        made = a.create(name="First", key="k")
        b.campaigns.poll()
        master = master_of_campaigns(cluster)
        master.ask("WAIT", 1, 2_000)
        cut_off_replicas(master)
        assert a.edit(made.campaign_id, name="Acknowledged").version == 2
        master.kill()

        def edited_at_b() -> bool:
            return b.edit(made.campaign_id, include_fans=True).version > 0

        wait_until(lambda: answers(edited_at_b), "the replica to take over")
        assert b.store.get(made.campaign_id).name == "First", "the new master lacks the change"
        for server in (a, b):
            wait_until(lambda server=server: answers(lambda: server.campaigns.poll() is None), "a poll")
        assert a.copies() == b.copies()
        both = a.store.get(made.campaign_id)
        assert (both.name, both.include_fans) == ("Acknowledged", True) and both.version >= 3
        for server in (a, b):
            server.close()
        link.close()


def master_of_campaigns(cluster: RedisClusterServers) -> RedisServer:
    slot = cluster.servers[0].ask("CLUSTER", "KEYSLOT", "{campaigns}")
    return next(master for i, master in enumerate(cluster.masters) if slot < SLOTS * (i + 1) // 3)


def cut_off_replicas(master: RedisServer) -> None:
    """Let nothing that is written from now on reach a replica."""
    master.ask("ACL", "SETUSER", "default", "-psync", "-sync")
    master.ask("CLIENT", "KILL", "TYPE", "replica")


def answers(call: Callable[[], bool]) -> bool:
    """Whether the call says yes; only the documented exceptions may come instead."""
    try:
        return call()
    except (StoreUnavailable, RedisUnavailable):
        return False
