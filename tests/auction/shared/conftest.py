"""Redis servers for the tests of what servers share, started when first needed and ended with the session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.redis_servers import RedisServer, redis_cluster, redis_server
from pacing.redis_link import RedisLink


@pytest.fixture(scope="session")
def one_redis() -> Iterator[list[RedisServer]]:
    with redis_server() as server:
        yield [server]


@pytest.fixture(scope="session")
def cluster() -> Iterator[list[RedisServer]]:
    with redis_cluster(masters=3) as cluster:
        yield cluster.masters


def emptied(servers: list[RedisServer]) -> RedisServer:
    for server in servers:
        server.ask("FLUSHALL")
        server.ask("SCRIPT", "FLUSH")
    return servers[0]


@pytest.fixture
def redis(one_redis: list[RedisServer]) -> RedisServer:
    """A redis-server that knows nothing."""
    return emptied(one_redis)


@pytest.fixture(params=["one_redis", "cluster"])
def link(request: pytest.FixtureRequest) -> Iterator[RedisLink]:
    """The way to a redis-server, or to a Redis Cluster, that knows nothing."""
    link = RedisLink(emptied(request.getfixturevalue(request.param)).url)
    yield link
    link.close()


@pytest.fixture
def one_link(redis: RedisServer) -> Iterator[RedisLink]:
    """The way to a redis-server that knows nothing."""
    link = RedisLink(redis.url)
    yield link
    link.close()
