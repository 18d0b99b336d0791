"""The money bench does the work that it counts, on both sides."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from redis import Redis

from benchmarks.money import CREATORS, PRICE_MICROS, lease_pair, main, open_store, settle_pair
from benchmarks.redis_servers import redis_server
from pacing.budget.redis_store import RedisStore


def test_both_sides_move_the_same_money() -> None:
    with redis_server() as server, Redis.from_url(server.url, protocol=2) as client:
        store = RedisStore(server.url, owner_id=1)
        open_store(store)
        settling, leasing = settle_pair(store, client), lease_pair(store, client)
        for number in range(2):
            for pair in (settling, leasing):
                work = pair.make_work(number)
                for side in (pair.ours, *pair.yardsticks.values()):
                    side(work)
        assert settling.size == len(settling.make_work(0)) and leasing.size == len(leasing.make_work(0))
        charged = 2 * settling.size // CREATORS * PRICE_MICROS
        account = store.account(1)
        assert account is not None and account.flight.settled_micros == charged
        for kind in ("raw", "packed"):
            assert int(client.hget(f"{kind}:account:0", "settled") or 0) == charged
            assert client.hlen(f"{kind}:lease:0") == charged // PRICE_MICROS + 1
        assert len(np.unique(np.concatenate([settling.make_work(n)["hold_seq"] for n in range(3)]))) == 3_000
        assert client.zcard("fanbid:{1}:ends:1") == 3 and client.zcard("raw:ends:1") == 2
        store.close()


def test_the_command_ends_with_figures(tmp_path: Path) -> None:
    assert main(argparse.Namespace(quick=True, json=tmp_path / "money.json")) == 0
    figures = json.loads((tmp_path / "money.json").read_text())
    assert {"settle_to_raw", "settle_to_packed_raw", "leases_to_raw", "ledger_to_raw"} < set(figures)
    assert all(figure > 0 for figure in figures.values())
