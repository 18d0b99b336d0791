"""`fanbid bench money`: what budgets and the ledger cost, beside the bare storage underneath doing the same writes.

Three pairs, the sides in turn: claims settled, and leases granted, by the Redis store beside pipelined HSET and
HINCRBY; outcomes made durable by the ledger beside rows inserted into SQLite.
"""

from __future__ import annotations

import argparse
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from redis import Redis

from benchmarks.output import ProgressBar, Scalar, add_output_arguments, print_table, progress, write_json
from benchmarks.redis_servers import NoRedisServer, redis_server
from pacing.budget.redis_store import RedisStore
from pacing.budget.store import SETTLEMENT, CapsRequest, LeaseRequest
from pacing.clocks import MS_PER_HOUR
from pacing.days import local_day
from pacing.facts import OUTCOME, OutcomeKind, Verdict
from pacing.ledger.log import Ledger
from pacing.money import MAX_AMOUNT_MICROS

CREATORS = 10
CLAIMS = 100
"""Claims of one creator in a batch; the batches of all creators travel together."""
CAMPAIGNS = 100
"""Campaigns that ask for a lease each, together."""
REPORT_ROWS = 256
NOW_MS = 1_772_467_200_000
ZONE = "Asia/Shanghai"
DAY_KEY = local_day(NOW_MS, ZONE).day_key
PRICE_MICROS = 20_000

Side = Callable[[Any], None]
"""Does one piece of work."""


@dataclass(frozen=True)
class Pair:
    """The same work done by the shipped code and by bare storage.

    Attributes:
        key: in the figures.
        size: how many of the things that are counted one piece of work has.
        make_work: the n-th piece, unlike any other; not timed.
    """

    key: str
    label: str
    size: int
    make_work: Callable[[int], Any]
    ours: Side
    yardsticks: Mapping[str, Side]


def times(pair: Pair, rounds: int, pieces: int, bar: ProgressBar) -> dict[str, list[float]]:
    """Seconds per thing of each side, by name, in each of the rounds, in which the sides take turns."""
    sides = {"ours": pair.ours, **pair.yardsticks}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        names = list(sides) if number % 2 else list(reversed(sides))
        for name in names:
            work = [pair.make_work(number * pieces + i) for i in range(pieces)]
            started_s = time.perf_counter()
            for piece in work:
                sides[name](piece)
            if number:  # the first round warms up
                seconds[name].append((time.perf_counter() - started_s) / (pair.size * pieces))
            bar.advance(1, pair.label)
    return seconds


# --- settling and leasing on Redis ------------------------------------------------------------------------------


def _settlements(number: int) -> np.ndarray:
    """CLAIMS new claims on one lease of each creator's one campaign."""
    count = CREATORS * CLAIMS
    claims = np.zeros(count, SETTLEMENT)
    claims["campaign_id"] = claims["lease_id"] = np.repeat(np.arange(1, CREATORS + 1), CLAIMS)
    claims["hold_seq"] = claims["sequence"] = number * count + np.arange(1, count + 1)
    claims["amount_micros"], claims["issued_at_ms"] = PRICE_MICROS, NOW_MS
    return claims


def _lease_requests(number: int) -> list[LeaseRequest]:
    """A new lease for each campaign."""
    first = 1_000 + number * CAMPAIGNS
    return [
        LeaseRequest(first + i, i + 1, DAY_KEY, NOW_MS, NOW_MS + MS_PER_HOUR, 10 * PRICE_MICROS)
        for i in range(CAMPAIGNS)
    ]


def open_store(store: RedisStore) -> None:
    """Accounts with all the money there is, and one large lease for each campaign whose claims are settled."""
    for i in range(CAMPAIGNS):
        store.set_caps(CapsRequest(i + 1, i % CREATORS + 1, ZONE, MAX_AMOUNT_MICROS, MAX_AMOUNT_MICROS, NOW_MS))
    share = MAX_AMOUNT_MICROS // 4
    requests = [LeaseRequest(i, i, DAY_KEY, NOW_MS, NOW_MS + MS_PER_HOUR, share) for i in range(1, CREATORS + 1)]
    if None in store.acquire(requests):
        raise RuntimeError("the store granted no lease")


def settle_pair(store: RedisStore, client: Redis) -> Pair:
    """Claims, beside a HSET for each and a HINCRBY for each amount that a batch changes."""

    def ours(claims: np.ndarray) -> None:
        if (store.settle(claims) != Verdict.CHARGED).any():
            raise RuntimeError("the store did not charge every claim")

    def pipelined(claims: np.ndarray) -> None:
        _raw_settle(client, claims, is_packed=False)

    def packed(claims: np.ndarray) -> None:
        _raw_settle(client, claims, is_packed=True)

    yardsticks = {"raw": pipelined, "packed_raw": packed}
    return Pair("settle", "claims settled, Redis", CREATORS * CLAIMS, _settlements, ours, yardsticks)


def _raw_settle(client: Redis, claims: np.ndarray, is_packed: bool) -> None:
    """The fields that settling writes, without looking at anything; packed: one HSET for all claims of a batch."""
    pipeline = client.pipeline(transaction=False)
    for i in range(CREATORS):
        batch = claims[i * CLAIMS : (i + 1) * CLAIMS]
        kind = "packed" if is_packed else "raw"
        lease, account = f"{kind}:lease:{i}", f"{kind}:account:{i}"
        pairs = zip(batch["hold_seq"].tolist(), batch["amount_micros"].tolist(), strict=True)
        if is_packed:
            pipeline.execute_command("HSET", lease, *(word for pair in pairs for word in pair))
        else:
            for seq, amount in pairs:
                pipeline.execute_command("HSET", lease, seq, amount)
        total = CLAIMS * PRICE_MICROS
        pipeline.execute_command("HINCRBY", lease, "remaining", -total)
        for field, amount in (("settled", total), ("leased", -total)):
            pipeline.execute_command("HINCRBY", account, field, amount)
            pipeline.execute_command("HINCRBY", account, f"{field}:{DAY_KEY}", amount)
    pipeline.execute()


def lease_pair(store: RedisStore, client: Redis) -> Pair:
    """Leases, beside the same keys and fields written without looking at anything."""

    def ours(requests: list[LeaseRequest]) -> None:
        if None in store.acquire(requests):
            raise RuntimeError("the store granted no lease")

    def raw(requests: list[LeaseRequest]) -> None:
        pipeline = client.pipeline(transaction=False)
        for request in requests:
            account, lease = f"raw:account:{request.campaign_id}", f"raw:lease:{request.lease_id}"
            amount = request.want_micros
            fields: tuple[Any, ...] = (
                "campaign_id", request.campaign_id, "day_key", DAY_KEY, "amount", amount, "remaining", amount,
                "start", NOW_MS, "end", request.end_at_ms, "closed", 0,
            )  # fmt: skip
            pipeline.execute_command("HSET", lease, *fields)
            pipeline.execute_command("HINCRBY", account, "leased", amount)
            pipeline.execute_command("HINCRBY", account, f"leased:{DAY_KEY}", amount)
            pipeline.execute_command("ZADD", f"raw:ends:{request.campaign_id}", request.end_at_ms, request.lease_id)
            entry = f"raw:entry:{request.lease_id}"
            pipeline.execute_command("SET", entry, request.campaign_id, "PX", MS_PER_HOUR)
        pipeline.execute()

    return Pair("leases", "leases granted, Redis", CAMPAIGNS, _lease_requests, ours, {"raw": raw})


# --- the ledger on SQLite ---------------------------------------------------------------------------------------


def _outcomes(number: int) -> np.ndarray:
    """A report of new billable rows."""
    rows = np.zeros(REPORT_ROWS, OUTCOME)
    rows["kind"], rows["has_token"], rows["price_micros"] = OutcomeKind.BILLABLE, 1, PRICE_MICROS
    rows["occurred_at_ms"] = rows["recorded_at_ms"] = rows["decision"]["issued_at_ms"] = NOW_MS
    rows["decision"]["lease_id"] = rows["decision"]["campaign_id"] = 1
    rows["decision"]["hold_seq"] = number * REPORT_ROWS + np.arange(1, REPORT_ROWS + 1)
    rows["decision"]["features"] = np.random.default_rng(number).integers(0, 2**32, (REPORT_ROWS, 16))
    return rows


@contextmanager
def _raw_table(path: Path) -> Iterator[sqlite3.Connection]:
    db = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "cache_size = -65536", "wal_autocheckpoint = 16384"):
        db.execute(f"PRAGMA {pragma}")
    db.execute("CREATE TABLE rows (sequence INTEGER PRIMARY KEY, body BLOB NOT NULL)")
    try:
        yield db
    finally:
        db.close()


def ledger_pair(ledger: Ledger, db: sqlite3.Connection) -> Pair:
    """Outcomes told apart, chained and anchored, beside rows of their size inserted in the same transactions."""

    def ours(rows: np.ndarray) -> None:
        if not ledger.append_claims(rows).sequences.all():
            raise RuntimeError("the ledger took new outcomes for old ones")

    def raw(rows: np.ndarray) -> None:
        bodies = [(row.tobytes(),) for row in rows]
        db.execute("BEGIN IMMEDIATE")
        db.executemany("INSERT INTO rows (body) VALUES (?)", bodies)
        db.execute("COMMIT")

    return Pair("ledger", "outcomes durable, SQLite", REPORT_ROWS, _outcomes, ours, {"raw": raw})


# --- the command ------------------------------------------------------------------------------------------------


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `bench money`."""
    add_output_arguments(parser)


def main(args: argparse.Namespace) -> int:
    """Run the pairs one after the other; answers the exit code."""
    rounds, pieces = (3, 4) if args.quick else (15, 20)
    with ExitStack() as ending:
        try:
            server = ending.enter_context(redis_server())
        except NoRedisServer as missing:
            raise ValueError(str(missing)) from None
        folder = Path(ending.enter_context(TemporaryDirectory(prefix="fanbid-bench-")))
        store = RedisStore(server.url, owner_id=1)
        ending.callback(store.close)
        open_store(store)
        client = ending.enter_context(Redis.from_url(server.url, protocol=2))
        ledger = Ledger(folder / "ledger.sqlite")
        ending.callback(ledger.close)
        db = ending.enter_context(_raw_table(folder / "raw.sqlite"))
        pairs = [settle_pair(store, client), lease_pair(store, client), ledger_pair(ledger, db)]
        sides = sum(1 + len(pair.yardsticks) for pair in pairs)
        with progress(sides * (rounds + 1), "money") as bar:
            found = [(pair, times(pair, rounds, pieces, bar)) for pair in pairs]
    _show(args, found)
    return 0


def _show(args: argparse.Namespace, found: Sequence[tuple[Pair, dict[str, list[float]]]]) -> None:
    """Print and write medians; a ratio is the median of the rounds' own, so that a slow minute does not count."""
    figures: dict[str, Scalar] = {}
    rows: list[list[object]] = []
    for pair, seconds in found:
        per_s = {name: 1 / statistics.median(taken) for name, taken in seconds.items()}
        figures[f"{pair.key}_per_s"] = per_s["ours"]
        for name in pair.yardsticks:
            both = zip(seconds[name], seconds["ours"], strict=True)
            ratio = statistics.median(theirs / ours for theirs, ours in both)
            figures[f"{pair.key}_{name}_per_s"] = per_s[name]
            figures[f"{pair.key}_to_{name}"] = ratio
            rows.append([pair.label, name.replace("_", " "), per_s["ours"], per_s[name], ratio])
    print_table("money beside bare storage", ("what", "beside", "a second", "bare, a second", "ratio"), rows)
    write_json(args.json, figures)
