"""The thread of exchanges: one that fails stops no other, and each reason is told once."""

from __future__ import annotations

import logging
import threading

import pytest

from auction.shared.exchange import Exchange
from pacing.redis_link import RedisUnavailable


def test_a_failing_task_stops_no_other_and_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    done: list[str] = []
    texts = ["away", "away", "refused", "away"]
    failures: list[Exception | None] = [*(RedisUnavailable(text) for text in texts), None, ValueError("broken")]

    def failing() -> None:
        failure = failures.pop(0)
        if failure is not None:
            raise failure

    exchange = Exchange({"campaigns": failing, "tokens": lambda: done.append("t")})
    with caplog.at_level(logging.INFO):
        for _ in range(6):
            exchange.tick()
    assert done == ["t"] * 6
    told = [record.getMessage() for record in caplog.records]
    assert told == [
        "campaigns are not exchanged with the other servers now: away",
        "campaigns are not exchanged with the other servers now: refused",
        "campaigns are exchanged again",
        "campaigns are not exchanged with the other servers now: broken",
    ]
    assert [record.exc_info is None for record in caplog.records] == [True, True, True, False], (
        "only what nobody foresaw"
    )


def test_it_runs_until_it_is_stopped() -> None:
    ran = threading.Event()
    exchange = Exchange({"tokens": ran.set})
    exchange.start()
    assert ran.wait(20)
    exchange.stop()
