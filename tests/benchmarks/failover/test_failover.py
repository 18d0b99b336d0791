"""A slice of `bench failover`, and that it would notice a loss."""

from __future__ import annotations

import socket

import numpy as np
import pytest

from benchmarks.failover.command import Spent, play
from benchmarks.failover.pair import redis_pair
from benchmarks.output import progress
from pacing.budget.redis_store import RedisStore


def played(kills: int) -> Spent:
    with progress(kills, "kills") as bar:
        return play(kills, 5, bar)


def test_nothing_is_lost_or_overcharged() -> None:
    spent = played(1)
    assert spent.acknowledged > 20
    assert (spent.lost_micros, spent.charged_over_micros, spent.over_delivered_micros) == (0, 0, 0)


def test_it_notices_when_lost_charges_are_not_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RedisStore, "settle_again", lambda self, claims: np.ones(len(claims), np.uint8))
    monkeypatch.setattr("benchmarks.failover.command._CUT_S", (0.5, 0.5))
    monkeypatch.setattr("benchmarks.failover.command.CAP_MICROS", 10**9)
    assert played(1).lost_micros > 0


def test_the_address_leads_to_the_replica_after_a_failover() -> None:
    with redis_pair() as pair:
        pair.wait_in_step()
        pair.primary.ask("SET", "a", 1)
        pair.primary.ask("WAIT", 1, 1_000)
        pair.cut_replication()
        pair.primary.ask("SET", "b", 1)
        pair.fail_over()
        pair.wait_in_step()
        with socket.create_connection(("127.0.0.1", pair.address.port)) as connection:
            connection.sendall(b"MGET a b\r\n")
            assert connection.recv(100) == b"*2\r\n$1\r\n1\r\n$-1\r\n"
