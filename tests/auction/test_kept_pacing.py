"""What pacing learned outlives a server; a file of it that cannot be used is told and left aside."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from auction.kept_pacing import PACING_FILE
from pacing.facts import OutcomeKind
from tests.auction.bid.engines import Engine, tokens_of

ROUNDS = 30


def buy(engine: Engine, rounds: int) -> None:
    """Rounds of auctions a minute apart; every other bid wins at a third of its price."""
    for _ in range(rounds):
        engine.jump(60_000)
        answer = engine.bid(range(engine.now_ms, engine.now_ms + 40))
        tokens = tokens_of(answer)
        if tokens:
            kinds = [OutcomeKind.BILLABLE if k % 2 else OutcomeKind.LOSS for k in range(len(tokens))]
            prices = [micros // 3 if k % 2 else 0 for k, micros in enumerate(answer.prices_micros)]
            engine.report(kinds, tokens, prices_micros=prices)
        engine.go_round()


def learned(engine: Engine) -> Engine:
    campaign_id = engine.create().campaign_id
    buy(engine, ROUNDS)
    assert engine.services.control.multiplier_micros(campaign_id) > 0
    return engine


@pytest.mark.parametrize("damage", ["none", "cut", "text", "none there"])
def test_a_restart_bids_as_before(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    engine = learned(Engine(tmp_path, policy="engine"))
    campaign_id = int(engine.services.publisher.campaigns[0].campaign_id)
    before = engine.services.control.multiplier_micros(campaign_id)
    now_ms = engine.now_ms
    engine.close()
    path = tmp_path / PACING_FILE
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    elif damage == "text":
        path.write_text("hello", encoding="utf-8")
    elif damage == "none there":
        path.unlink()

    with caplog.at_level(logging.WARNING):
        again = Engine(tmp_path, start_at_ms=now_ms, policy="engine")
    told = [record.getMessage() for record in caplog.records if PACING_FILE in record.getMessage()]
    after = again.services.control.multiplier_micros(campaign_id)
    seen = float(again.services.pacer.memory(now_ms).rows["rows_seen"][0])
    again.close()
    if damage == "none":
        assert (told, seen > 0) == ([], True)
        assert after == pytest.approx(before, rel=0.05)
    else:
        assert (len(told), seen) == (0 if damage == "none there" else 1, 0)
        assert after != pytest.approx(before, rel=0.05), "a cold start is told from a warm one"
    assert path.is_file()
