"""Servers for the tests of budget stores, started when first needed and ended with the session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.redis_servers import redis_cluster, redis_server
from tests.pacing.budget.account_home import AccountHome
from tests.pacing.budget.shared_servers import Deployment
from tests.pacing.budget.store_homes import Home, MemoryHome, RedisHome, SimulatedHome


@pytest.fixture(scope="session")
def redis_home() -> Iterator[RedisHome]:
    with redis_server() as server:
        yield RedisHome([server])


@pytest.fixture(scope="session")
def cluster_home() -> Iterator[RedisHome]:
    with redis_cluster(masters=3) as cluster:
        yield RedisHome(cluster.masters)


@pytest.fixture(scope="session")
def account_home(redis_home: RedisHome) -> AccountHome:
    return AccountHome(redis_home.masters)


@pytest.fixture(scope="session")
def cluster_account_home(cluster_home: RedisHome) -> AccountHome:
    return AccountHome(cluster_home.masters)


@pytest.fixture(params=["memory", "simulated", "redis", "cluster"])
def home(request: pytest.FixtureRequest) -> Home:
    if request.param == "memory":
        return MemoryHome()
    if request.param == "simulated":
        return SimulatedHome(masters=3)
    found: RedisHome = request.getfixturevalue(f"{request.param}_home")
    return found


@pytest.fixture(params=["redis", "cluster"])
def shared_home(request: pytest.FixtureRequest) -> RedisHome:
    found: RedisHome = request.getfixturevalue(f"{request.param}_home")
    return found


@pytest.fixture
def deployment(redis_home: RedisHome, tmp_path: Path) -> Iterator[Deployment]:
    made = Deployment(redis_home, 4, tmp_path)
    yield made
    made.close()
