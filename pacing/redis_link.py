"""The way to Redis or Redis Cluster: connection, timeouts, scripts, and one exception for all that can go wrong."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.exceptions import (
    ClusterDownError,
    MasterDownError,
    NoPermissionError,
    NoScriptError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.retry import Retry

from pacing.redis_url import shown_url

TIMEOUT_MS = 1_000
MAX_TIMEOUT_MS = 60_000
_SCANNED = 1_000
_AWAY = (ClusterDownError, MasterDownError, TryAgainError)
"""Refusals that have nothing to do with what was asked."""

NOT_LOADED = (
    "a script of this version is not loaded there, and the account may not load it: "
    "run `fanbid redis load` under an account that may"
)

_NO_SELECT = "SELECT is not allowed in cluster mode"

Command = tuple[Any, ...]


class RedisUnavailable(Exception):
    """Redis did not answer, not in time, or not with what was asked for; what was asked may have been done."""


class RedisRefused(RedisUnavailable):
    """Redis answers, but not what was asked for, be it that the account may not, or that it takes no writes now."""


class RedisForeign(RedisUnavailable):
    """Redis answers, but is not the one that it should be, or has lost what it held."""


@dataclass(frozen=True)
class Guard:
    """By which key a Redis is known for the right one.

    Attributes:
        key: what is read.
        why_foreign: says of what stands there why this is not the right one; None: it is.
        when_missing: is written there by `RedisLink.look` where nothing is, so that it shows to others too.
        when_put_back: says why this is not the right one where its content was lost and is there again, in a process
            that had it before: its replication id does not tell that anything happened.
    """

    key: str
    why_foreign: Callable[[bytes | None], str | None]
    when_missing: str
    when_put_back: str


@dataclass(frozen=True)
class Script:
    """A Lua script, called by the hash of its text."""

    text: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        """Hash the text as Redis does."""
        digest = hashlib.sha1(self.text.encode("utf-8"), usedforsecurity=False).hexdigest()
        object.__setattr__(self, "sha", digest)

    @classmethod
    def beside(cls, module_file: str, *names: str) -> Script:
        """The files `lua/NAME.lua` beside a module, one behind the other."""
        folder = Path(module_file).with_name("lua")
        return cls("".join((folder / f"{name}.lua").read_text(encoding="utf-8") for name in names))

    def call(self, keys: Sequence[str], arguments: Sequence[Any]) -> Command:
        """The command that runs the script; all `keys` must lie in one slot."""
        return ("EVALSHA", self, len(keys), *keys, *arguments)


class RedisLink:
    """Connections to one Redis or to a Redis Cluster; which of the two is asked at the start. Any thread may use it.

    Attributes:
        lost_under: the replication id under which `look` last found what it held before lost; "": none.
    """

    def __init__(self, url: str, timeout_ms: int = TIMEOUT_MS) -> None:
        """Connect.

        Args:
            url: `redis://NAME:PASSWORD@HOST:PORT`, or `rediss://...` over TLS; of a cluster, any node.
            timeout_ms: to connect, and for each answer.

        Raises:
            ValueError: the URL or the timeout cannot be used.
            RedisUnavailable: nobody answers there.
        """
        if not 1 <= timeout_ms <= MAX_TIMEOUT_MS:
            raise ValueError(f"timeout_ms {timeout_ms}: not in 1..{MAX_TIMEOUT_MS}")
        self.address = shown_url(url)
        self._guard: Guard | None = None
        self._foreign: str | None = None
        self._right_ids: set[str] = set()  # replication ids under which it was the right one
        self._lost_in: bool | None = None  # whether it became foreign under one of them; None: nobody looked since
        self.lost_under = ""
        self._look_lock = threading.Lock()
        # Nothing is sent twice behind the caller's back: only the caller knows that its request may be repeated.
        options: dict[str, Any] = {
            "socket_timeout": timeout_ms / 1000,
            "socket_connect_timeout": timeout_ms / 1000,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
            "driver_info": None,  # else each connection tells the client's name, which needs a right of its own
        }
        try:
            self._client: Any = Redis.from_url(url, **options)
        except ValueError as error:
            raise ValueError(f"redis URL {self.address!r}: {error}") from None
        try:
            if self._client.info("cluster").get("cluster_enabled"):
                self._client.close()
                self._client = RedisCluster.from_url(url, **options)
        except (RedisError, RedisClusterException, OSError) as error:
            if _NO_SELECT in str(error):
                raise ValueError(f"redis URL {self.address!r}: names a database; a Redis Cluster has only 0") from None
            raise RedisUnavailable(f"redis {self.address}: {error}") from None

    @property
    def is_cluster(self) -> bool:
        """Whether keys are spread over several masters."""
        return isinstance(self._client, RedisCluster)

    def guard(self, guard: Guard) -> None:
        """Believe nothing, from now on, that another Redis answers than the one that is known by `guard`.

        Each `run` on a single Redis reads the key behind its commands. On a cluster, where it may lie at another
        master, `look` and `confirm` do.
        """
        self._guard = guard

    @property
    def foreign(self) -> str | None:
        """Why nothing is sent to this Redis now; None: it is the right one as far as is known."""
        return self._foreign

    def look(self) -> str | None:
        """Find out whether this is the Redis that it should be; answers what `foreign` is from now on.

        What was lost and put back into the same process is not taken for the right one, and is called lost again: it
        may be old, and no replication id says so. It must be there under another one, as it is after a restart.

        Raises:
            RedisUnavailable: it does not answer.
        """
        with self._look_lock:
            return self._look()

    def _look(self) -> str | None:
        assert self._guard is not None
        (found,) = self._ask([("GET", self._guard.key)])
        why = self._guard.why_foreign(found)
        if why is None and self._foreign is None and self._right_ids:
            return None
        before, guard_id = "", self._guard_id()
        while before != guard_id:  # else what was found is perhaps not what stands under this id
            (found,) = self._ask([("GET", self._guard.key)])
            before, guard_id = guard_id, self._guard_id()
        why = self._guard.why_foreign(found)
        is_same = guard_id in self._right_ids
        if why is None and is_same and self._lost_in is not False:
            why = self._guard.when_put_back
            self._ask([("SET", self._guard.key, self._guard.when_missing)])
        elif why is None:
            self._right_ids.add(guard_id)
        elif found is None:
            self._ask([("SETNX", self._guard.key, self._guard.when_missing)])
        if why is not None and is_same:
            self.lost_under = guard_id
        self._lost_in = is_same if why is not None else None
        self._foreign = why
        return why

    def _ask(self, commands: Sequence[Command]) -> list[Any]:
        answers = self._send(commands)
        for answer in answers:
            if isinstance(answer, Exception):
                raise RedisUnavailable(f"redis {self.address}: {answer}")
        return answers

    def _guard_id(self) -> str:
        """Replication id of the master that has the guard's key."""
        assert self._guard is not None
        there = {"target_nodes": self._client.get_node_from_key(self._guard.key)} if self.is_cluster else {}
        return str(self._replication(there)["master_replid"])

    def _replication(self, where: dict[str, Any]) -> Any:
        try:
            return self._client.info("replication", **where)
        except (RedisError, RedisClusterException, OSError) as error:
            raise RedisUnavailable(f"redis {self.address}: {error}") from None

    def confirm(self) -> None:
        """Check what was answered last, where `run` did not.

        Raises:
            RedisForeign: another Redis may have answered it.
            RedisUnavailable: it does not answer.
        """
        if self._guard is not None and self.is_cluster:
            self.look()
        self._refuse_foreign()

    def _refuse_foreign(self) -> None:
        if self._foreign is not None:
            raise RedisForeign(f"redis {self.address}: {self._foreign}")

    def run(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands together and answer what each answered, in order; those of one slot run in order.

        A script that a server does not have is sent along and so is there the next time, if the account may do that.

        Raises:
            RedisForeign: this is another Redis than it should be; nothing is sent once that is known.
            RedisRefused: at least one was refused, and others like it may not be.
            RedisUnavailable: at least one failed; any of them may have been done.
        """
        self._refuse_foreign()
        answers = self._send_guarded([_by_hash(command) for command in commands])
        unknown = [i for i, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if unknown:
            for i, answer in zip(unknown, self._send_guarded([_by_text(commands[i]) for i in unknown]), strict=True):
                answers[i] = answer
                if isinstance(answer, NoPermissionError):
                    raise RedisRefused(f"redis {self.address}: {NOT_LOADED}")
        for answer in answers:
            if isinstance(answer, Exception):
                is_away = isinstance(answer, _AWAY) or not isinstance(answer, ResponseError)
                raise (RedisUnavailable if is_away else RedisRefused)(f"redis {self.address}: {answer}")
        return answers

    def _send_guarded(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands, and behind them the question which Redis this is: one that lost its content in between, or
        another one, is noticed before its answers count."""
        if self._guard is None or self.is_cluster or not commands:
            return self._send(commands)
        *answers, found = self._send([*commands, ("GET", self._guard.key)])
        if not isinstance(found, Exception):
            self._foreign = self._foreign or self._guard.why_foreign(found)
            self._refuse_foreign()
        return answers

    def _send(self, commands: Sequence[Command]) -> list[Any]:
        if not commands:
            return []
        try:
            pipeline = self._client.pipeline() if self.is_cluster else self._client.pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command)
            answers: list[Any] = pipeline.execute(raise_on_error=False)
            return answers
        except (RedisError, RedisClusterException, OSError) as error:
            raise RedisUnavailable(f"redis {self.address}: {error}") from None

    def scan(self, pattern: str) -> list[str]:
        """Every key that matches, on all masters; keys that come or go meanwhile may be missed.

        Raises:
            RedisUnavailable: at least one does not answer.
        """
        try:
            return sorted({key.decode() for key in self._client.scan_iter(match=pattern, count=_SCANNED)})
        except (RedisError, RedisClusterException, OSError) as error:
            raise RedisUnavailable(f"redis {self.address}: {error}") from None

    def load(self, scripts: Sequence[Script]) -> int:
        """Give scripts to every server that is reached from here, replicas of a cluster too; answers to how many.

        Raises:
            RedisUnavailable: a server did not take one.
        """
        everywhere = {"target_nodes": RedisCluster.ALL_NODES} if self.is_cluster else {}
        try:
            for script in scripts:
                self._client.execute_command("SCRIPT LOAD", script.text, **everywhere)
        except (RedisError, RedisClusterException, OSError) as error:
            raise RedisUnavailable(f"redis {self.address}: {error}") from None
        return len(self._client.get_nodes()) if self.is_cluster else 1

    def replication_ids(self) -> frozenset[str]:
        """Of every master, as it says now.

        Raises:
            RedisForeign: this is another Redis than it should be.
            RedisUnavailable: at least one does not answer.
        """
        self._refuse_foreign()
        everywhere = {"target_nodes": RedisCluster.PRIMARIES} if self.is_cluster else {}
        told = self._replication(everywhere)
        if self._guard is not None:
            self.look()
            self._refuse_foreign()
        nodes = [told] if "master_replid" in told else told.values()
        found = frozenset(str(node["master_replid"]) for node in nodes)
        self._right_ids |= found
        return found

    def close(self) -> None:
        """Close all connections."""
        self._client.close()


def _by_hash(command: Command) -> Command:
    return (command[0], command[1].sha, *command[2:]) if command[0] == "EVALSHA" else command


def _by_text(command: Command) -> Command:
    return ("EVAL", command[1].text, *command[2:])
