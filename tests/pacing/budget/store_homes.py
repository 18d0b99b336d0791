"""The homes of a budget store: this process, Redis, a Redis Cluster, and the masters of the fault simulator."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from benchmarks.faults.shared_store import SharedMasters, SimulatedStore
from benchmarks.redis_servers import RedisServer
from pacing.budget.memory import MemoryStore
from pacing.budget.redis_store import RedisStore
from pacing.budget.scripts_redis import SCRIPTS
from pacing.budget.store import BudgetStore
from pacing.redis_account import acl_line
from pacing.redis_link import RedisLink
from tests.pacing.rows import START_MS

OWNER_ID = 3
ACCOUNT = "fanbid-serving"


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


class AccountHome(RedisHome):
    """The same under the account that `fanbid redis account` makes, with scripts that an administrator has loaded."""

    password = "pass-word of 16+"

    def fresh(self, **changes: Any) -> RedisStore:
        """See `RedisHome.fresh`."""
        for master in self.masters:
            master.ask(*shlex.split(acl_line(ACCOUNT, self.password)))
            master.ask("FLUSHALL")
            master.ask("SCRIPT", "FLUSH")
        link = RedisLink(self.masters[0].url)
        assert link.load(SCRIPTS) == len(self.masters)
        link.close()
        return self.another(**changes)

    @property
    def url(self) -> str:
        """With the account's name and password."""
        return f"redis://{ACCOUNT}:{quote(self.password)}@{self.masters[0].address}"


class SimulatedHome:
    """Stores on simulated masters that split the creators between them; time stands still but for `pass_ms`."""

    def __init__(self, masters: int = 1) -> None:
        self._count = masters
        self.now_ms = START_MS
        self.masters = self._empty()

    def _empty(self) -> SharedMasters:
        return SharedMasters(lambda: self.now_ms, self._count)

    def fresh(self, **changes: Any) -> SimulatedStore:
        """A store that knows nothing, on masters that know nothing."""
        self.masters = self._empty()
        return self.another(**changes)

    def another(self, owner_id: int = OWNER_ID, **changes: Any) -> SimulatedStore:
        """One more store on the same masters, as another process would have it."""
        return SimulatedStore(self.masters, owner_id, **changes)

    def pass_ms(self, ms: int) -> None:
        """Let time pass."""
        self.now_ms += ms


Home = MemoryHome | RedisHome | SimulatedHome
