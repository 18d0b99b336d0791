"""The homes of a budget store, real ones: this process, a redis-server, a Redis Cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.redis_servers import RedisServer
from pacing.budget.memory import MemoryStore
from pacing.budget.redis_store import RedisStore
from pacing.budget.store import BudgetStore

OWNER_ID = 3


class MemoryHome:
    """Stores in this process."""

    def fresh(self) -> BudgetStore:
        """A store that knows nothing."""
        return MemoryStore()


class RedisHome:
    """Stores in servers that are emptied for each new one."""

    def __init__(self, masters: Sequence[RedisServer]) -> None:
        self.masters = masters

    def fresh(self, **changes: Any) -> RedisStore:
        """A store that knows nothing; its servers, too, know nothing, no script either."""
        for master in self.masters:
            master.ask("FLUSHALL")
            master.ask("SCRIPT", "FLUSH")
        return self.another(**changes)

    def another(self, owner_id: int = OWNER_ID, **changes: Any) -> RedisStore:
        """One more store on the same servers, as another process would have it."""
        return RedisStore(self.url, owner_id, **changes)

    @property
    def url(self) -> str:
        """As clients take it."""
        return self.masters[0].url


Home = MemoryHome | RedisHome
