"""The account under which a server may use Redis: fanbid's keys, the commands that it really sends, each with why, and
the scripts that somebody must have loaded.

An account may be kept to the scripts that fanbid ships: EVALSHA runs only what somebody has loaded, so one that has it,
but neither EVAL nor SCRIPT LOAD, runs nothing that an administrator has not loaded.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

from auction.shared import campaigns_redis, judged_redis, keys_redis, pace_redis, tokens_redis
from pacing.budget import scripts_redis

SCRIPTS = (
    *scripts_redis.SCRIPTS,
    *campaigns_redis.SCRIPTS,
    *tokens_redis.SCRIPTS,
    *keys_redis.SCRIPTS,
    *judged_redis.SCRIPTS,
    *pace_redis.SCRIPTS,
)
"""Every script that a server runs."""

KEY_PATTERN = "fanbid:*"
"""Every key of fanbid."""

CONNECTING = {
    "auth": "name and password",
    "select": "a URL may name a database",
    "ping": "a URL may ask for health checks",
    "info|cluster": "whether this is one Redis or a cluster",
    "info|replication": "whether another master took over since",
    "cluster|slots": "which master has which keys",
    "command": "where the keys of a command are; the client of a cluster asks",
    "asking": "a key that is just moving to another master",
    "evalsha": "a script that has been loaded, by its hash",
    "get": "which deployment this Redis holds, behind everything else that is sent",
    "setnx": "that it has lost one",
    "set": "the same, of one that was put back unnoticed",
}
"""What the way to Redis sends, and the client under it."""

PLACES = {
    "get": "the directory of campaigns",
    "hget": "the zone of an account",
}

BUDGETS = {
    "get": "whose a campaign is",
    "setnx": "a campaign is opened once",
    "exists": "the same, when it is only looked for",
    "hmget": "what is left of a lease",
    "hgetall": "an account",
    "zcount": "which campaigns have leases that ended",
    "zrangebyscore": "which leases ended",
}

EPOCHS = {
    "get": "whose a campaign is",
    "setnx": "a campaign is opened anew after a failover, once",
    "exists": "whether the failover lost its account",
    "hset": "creators of whose accounts one was opened anew after a failover",
    "hkeys": "the same, and who may have charged to it",
    "smembers": "who has left",
    "pexpire": "until when anybody may need to know",
    "hgetall": "an epoch",
    "hdel": "an owner retires",
}

MARKS = {
    "lindex": "how far a ledger was judged, and when",
}

OWNERS = {
    "get": "which deployment this Redis belongs to",
    "setnx": "the same, told once",
    "set": "that it was lost, where it was put back into the process that had lost it",
    "incr": "the next owner id",
    "hset": "which data folder an owner id belongs to",
    "hgetall": "which owners there are, whose judged rows are copied",
    "hdel": "an owner retires",
    "sadd": "the same",
    "sismember": "whether an owner was taken for lost",
    "srem": "one that was taken for gone is back",
}

CAMPAIGNS = {
    "hget": "which campaign was made with an idempotency key",
    "hmget": "records that changed",
    "hscan": "the marks of all records, in batches, when everything is compared",
    "scard": "how many campaigns of a creator are open",
    "xrevrange": "where the stream of changes ends",
}

TOKENS = {
    "get": "whether any access token changed",
    "hgetall": "access tokens and revocations",
}

JUDGED = {
    "hgetall": "how far the others' copies of the judged rows go; of which owners there are any",
    "hset": "how far this server's copies go; of which owners it has rows",
    "del": "a stream for one server that is back in the common one",
}

BUDGET_SCRIPTS = {
    "hget": "a lease that was granted before",
    "hmget": "balances, days and leases",
    "hgetall": "an account; an epoch",
    "hset": "balances, days, leases and epochs",
    "hdel": "days that are forgotten",
    "hincrby": "what was delivered and cannot be charged",
    "zadd": "when a lease ends",
    "zrem": "the same, when its money is back",
    "lpush": "how far a ledger was judged, and when",
    "ltrim": "the same, once it is old",
    "llen": "the same, counted",
    "pexpire": "tombstones of leases",
    "persist": "a lease that is told again after a failover is no tombstone",
    "info|replication": "the replication id, which tells that another master took over",
    "time": "how long nothing is granted after that",
}

SHARED_SCRIPTS = {
    "get": "what is published of a shard, what its last pacer remembered; the revision of the tokens",
    "set": "the same, written",
    "del": "a stream of judged rows begins anew",
    "pexpire": "a stream for one server goes when nobody needs it",
    "hget": "a campaign's mark, a revocation, the last number of a teller",
    "hmget": "the document of keys; the lease of a shard",
    "hset": "records and marks, revocations, the document of keys, the lease of a shard",
    "hsetnx": "an access token, which never changes",
    "hincrby": "publications and messages of a shard, counted",
    "sadd": "a campaign is open",
    "srem": "the same, when it has ended",
    "scard": "how many campaigns of a creator are open",
    "zadd": "which servers pace",
    "zrem": "the same, when one leaves",
    "zremrangebyscore": "the same, when one is not heard of",
    "zcard": "how many they are",
    "rpush": "what other servers saw of a shard, told to who paces it",
    "lrange": "the same, read",
    "ltrim": "the same, once it was taken",
    "llen": "how much of it there is",
    "xadd": "changes of campaigns and judged rows, in order",
    "xread": "changes, from where one has read to",
    "xrange": "judged rows; whether a change is still there",
    "xrevrange": "where a stream of judged rows ends",
    "xtrim": "no more of them than are kept",
    "info|replication": "the replication id, which tells that another master took over",
    "time": "for how long a key has been adopted, and until when a shard is leased",
}

LOADING = {
    "eval": "a script by its text, which is also kept by its hash",
}
"""Only for accounts that load scripts themselves; such a one may run any script, within its keys and commands."""

OPERATING = {
    "scan": "`fanbid owners` looks for every creator's epoch",
    "script|load": "`fanbid redis load`",
}
"""What only an operator's commands send. No server's account may: SCAN shows the names of everybody's keys."""

MIN_PASSWORD = 16
"""Characters: a hash of the password is in the line that is printed, and must not be worth guessing at."""
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def commands(may_load: bool = False) -> list[str]:
    """What an account needs, each once."""
    sent = (CONNECTING, PLACES, BUDGETS, EPOCHS, MARKS, OWNERS, CAMPAIGNS, TOKENS, JUDGED)
    groups: Iterable[dict[str, str]] = (*sent, BUDGET_SCRIPTS, SHARED_SCRIPTS, *([LOADING] if may_load else []))
    return list(dict.fromkeys(name for group in groups for name in group))


def acl_line(account: str, password: str, may_load: bool = False) -> str:
    """The command that makes the account, or makes it anew, for Redis 6.2 and later; it holds only the password's hash.

    Raises:
        ValueError: the name or the password cannot be used.
    """
    if not _NAME.fullmatch(account):
        raise ValueError(f"account {account!r}: must be 1 to 64 letters, digits, and any of _ . -")
    if account == "default":
        raise ValueError("account 'default': is the administrator's; name another one")
    if len(password) < MIN_PASSWORD:
        raise ValueError(f"a password of {len(password)} characters: must be {MIN_PASSWORD} or more")
    digest = hashlib.sha256(password.encode("utf-8")).hexdigest()
    rights = " ".join(f"+{name}" for name in commands(may_load))
    return f"ACL SETUSER {account} reset on #{digest} resetchannels ~{KEY_PATTERN} -@all {rights}"
