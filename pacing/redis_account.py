"""The account under which a server may use Redis: fanbid's keys, and the commands that it really sends, each with why.

An account may be kept to the scripts that fanbid ships: EVALSHA runs only what somebody has loaded, so one that has it,
but neither EVAL nor SCRIPT LOAD, runs nothing that an administrator has not loaded.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

KEY_PATTERN = "fanbid:*"
"""Every key and every channel of fanbid."""

CONNECTING = {
    "auth": "name and password",
    "hello": "the same, and the protocol's version",
    "ping": "whether a connection still lives",
    "select": "a URL may name a database",
    "info|cluster": "whether this is one Redis or a cluster",
    "cluster|slots": "which master has which keys",
    "cluster|shards": "the same, as newer clients ask",
    "command": "where the keys of a command are; clients of a cluster ask",
    "asking": "a key that is just moving to another master",
}

STORE = {
    "get": "the directories of campaigns and leases",
    "set": "the directory of leases, with its expiry",
    "setnx": "a campaign is opened once",
    "exists": "the same, when it is only looked for",
    "hget": "the zone of an account; what is left of a lease",
    "hgetall": "an account; an epoch",
    "hdel": "an owner retires; days are forgotten",
    "hset": "creators of whose accounts one was opened anew after a failover",
    "hkeys": "the same, and who may have charged to it",
    "pexpire": "until when anybody may need to know",
    "zcount": "which campaigns have leases that ended",
    "zrangebyscore": "which leases ended",
    "evalsha": "a script that has been loaded, by its hash",
}

OWNERS = {
    "get": "which deployment this Redis belongs to",
    "setnx": "the same, told once",
    "incr": "the next owner id",
    "hset": "which data folder an owner id belongs to",
    "hgetall": "which owner ids there are",
    "hdel": "one that has left",
    "info|replication": "whether another master took over since",
}

SCRIPTS = {
    "hget": "a lease that was granted before",
    "hmget": "balances, days and leases",
    "hgetall": "an account; an epoch",
    "hset": "balances, days, leases and epochs",
    "hdel": "days that are forgotten",
    "hincrby": "what was delivered and cannot be charged",
    "zadd": "when a lease ends",
    "zrem": "the same, when its money is back",
    "pexpire": "tombstones of leases",
    "persist": "a lease that is told again after a failover is no tombstone",
    "info|replication": "the replication id, which tells that another master took over",
    "time": "how long nothing is granted after that",
}

SHARING = {
    "xadd": "what servers tell each other, in order",
    "xread": "the same, from where one has read to",
    "xrange": "the same, after a restart",
    "xtrim": "no more of it than anybody needs",
    "publish": "that there is something new",
    "subscribe": "the same, heard",
    "unsubscribe": "the same, no more",
    "pexpire": "which server lives",
    "pttl": "for how much longer",
}

LOADING = {
    "eval": "a script by its text, which is also kept by its hash",
    "script|load": "the same, without running it",
}
"""Only for accounts that load scripts themselves; such a one may run any script, within its keys and commands."""

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def commands(may_load: bool = False) -> list[str]:
    """What an account needs, each once."""
    groups: Iterable[dict[str, str]] = (CONNECTING, STORE, OWNERS, SCRIPTS, SHARING, *([LOADING] if may_load else []))
    return list(dict.fromkeys(name for group in groups for name in group))


def acl_line(account: str, password: str, may_load: bool = False) -> str:
    """The command that makes the account, or makes it anew, for Redis 6.2 and later; it holds only the password's hash.

    Raises:
        ValueError: the name or the password cannot be used.
    """
    if not _NAME.fullmatch(account):
        raise ValueError(f"account {account!r}: must be 1 to 64 letters, digits, and any of _ . -")
    if len(password) < 16:
        raise ValueError(f"a password of {len(password)} characters: must be 16 or more")
    digest = hashlib.sha256(password.encode("utf-8")).hexdigest()
    rights = " ".join(f"+{name}" for name in commands(may_load))
    return f"ACL SETUSER {account} reset on #{digest} resetchannels ~{KEY_PATTERN} &{KEY_PATTERN} -@all {rights}"
