"""Redis servers under the account that `fanbid redis account` makes, with scripts that an administrator has loaded."""

from __future__ import annotations

import shlex
from typing import Any
from urllib.parse import quote

from auction.shared.redis_account import SCRIPTS, acl_line
from pacing.budget.redis_store import RedisStore
from pacing.redis_link import RedisLink
from tests.pacing.budget.store_homes import RedisHome

ACCOUNT = "fanbid-serving"


class AccountHome(RedisHome):
    """Stores that use the account."""

    password = "pass-word of 16+"

    def prepare(self) -> None:
        """Servers that know nothing but the account and the scripts, and have refused nothing."""
        for master in self.masters:
            master.ask(*shlex.split(acl_line(ACCOUNT, self.password)))
            master.ask("FLUSHALL")
            master.ask("SCRIPT", "FLUSH")
            master.ask("ACL", "LOG", "RESET")
        link = RedisLink(self.masters[0].url)
        assert link.load(SCRIPTS) == len(self.masters)
        link.close()

    def fresh(self, **changes: Any) -> RedisStore:
        """See `RedisHome.fresh`."""
        self.prepare()
        return self.another(**changes)

    def refused(self) -> list[Any]:
        """What the servers refused since, to whom and why."""
        return [entry for master in self.masters for entry in master.ask("ACL", "LOG")]

    @property
    def url(self) -> str:
        """With the account's name and password."""
        return f"redis://{ACCOUNT}:{quote(self.password)}@{self.masters[0].address}"
