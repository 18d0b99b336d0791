"""The killer's bench: a few real kills lose nothing; what is lost, charged over or used twice would be seen."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import fanbid
from benchmarks.crashes import kills, lives
from benchmarks.crashes.told import CLAIM, Caps, Told, charged_over, count_lost, hold_against_ledger
from benchmarks.serving import NotReady
from pacing.budget.memory import MemoryStore
from pacing.budget.settle import SettleJudge
from pacing.budget.store import CapsRequest, LeaseRequest
from pacing.facts import DECISION, OutcomeKind
from pacing.ledger.followers import JudgeFollower
from pacing.ledger.log import Ledger
from pacing.ledger.rows import MoneyKind, money_rows
from tests.pacing.rows import START_MS, billables

MUST_BE_0 = ("acknowledged_lost", "charged_over_micros", "over_delivered_micros", "used_twice", "problems")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "figures.json"
    assert fanbid.main(["bench", "kills", "--kills", "2", "--workers", "1", "--json", str(path)]) == 0
    assert "acknowledged_lost" in capsys.readouterr().out
    figures = json.loads(path.read_text())
    assert figures["kills"] == 2 and figures["acknowledged"] > 0 and figures["charged_micros"] > 0
    assert 0 < figures["restart_s_p50"] <= figures["restart_s_max"]
    for name in MUST_BE_0:
        assert figures[name] == 0
    assert fanbid.main(["bench", "kills", "--kills", "0"]) == fanbid.EXIT_BAD_INPUT


def test_what_is_compiled_once_is_compiled_before_a_start_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    monkeypatch.setattr(kills, "compile_kernels", lambda _: order.append("compiled"))
    monkeypatch.setattr(kills, "run", lambda *_: order.append("measured") or [])
    monkeypatch.setattr(kills, "figures_of", lambda _: dict.fromkeys(["acknowledged"], 0) | dict.fromkeys(MUST_BE_0, 0))
    fanbid.main(["bench", "kills", "--quick"])
    assert order == ["compiled", "measured"]
    monkeypatch.setattr(lives, "start_child", never_ready)
    lives.compile_kernels(tmp_path)


def never_ready(*_: object) -> None:
    raise NotReady("no")


def claims(*rows: tuple[int, int, int, int]) -> np.ndarray:
    return np.array(list(rows), CLAIM)


def test_a_lost_row_counts() -> None:
    told = claims((1, 1, 2, 50), (1, 2, 2, 60), (1, 2, 4, 0))
    assert count_lost(told, np.concatenate([told, claims((1, 3, 2, 9))])) == 0
    assert count_lost(told, told[1:]) == 1
    assert count_lost(told, claims((1, 1, 2, 51), (1, 2, 2, 60), (1, 2, 4, 0))) == 1, "under another amount"
    assert count_lost(told, np.concatenate([told, claims((1, 2, 2, 61))])) == 1, "twice"


def test_a_charge_beyond_a_cap_counts() -> None:
    charges = np.zeros(3, [("campaign_id", "<u8"), ("lease_id", "<u8"), ("amount_micros", "<i8")])
    charges["campaign_id"], charges["lease_id"], charges["amount_micros"] = 1, [5, 5, 6], 10
    days = {5: 20_000, 6: 20_001}
    assert charged_over(charges, {1: Caps(20, 30)}, days) == 0
    assert charged_over(charges, {1: Caps(20, 29)}, days) == 1
    assert charged_over(charges, {1: Caps(17, 30)}, days) == 3
    assert charged_over(charges, {}, days) == 60, "nobody knows the campaign: 30 of it, 20 and 10 of its days"


def test_a_lease_or_sequence_used_twice_counts() -> None:
    told = Told()
    bids = np.zeros(3, DECISION)
    bids["lease_id"], bids["hold_seq"] = [7, 7, 8], [1, 2, 3]
    told.note_bids(0, bids[:1])
    told.note_bids(0, bids[1:])
    assert told.used_twice() == 0
    told.note_bids(1, bids[2:])
    assert told.used_twice() == 2, "the sequence, and the lease in another life"


def test_what_was_told_is_held_against_the_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger, store = Ledger(path), MemoryStore()
    store.set_caps(CapsRequest(1, 9, "Asia/Shanghai", 100, 100, START_MS))
    day = store.accounts[1].day_at(START_MS)
    store.acquire([LeaseRequest(1, 1, day.day_key, START_MS, day.end_at_ms, 50)])
    grant = money_rows(1)
    grant["kind"], grant["campaign_id"], grant["lease_id"], grant["day_key"] = MoneyKind.GRANT, 1, 1, day.day_key
    ledger.append_money(grant)
    ledger.append(billables(range(1, 4), 30))
    follower = JudgeFollower(ledger, [SettleJudge(store)])
    follower.catch_up()
    ledger.append(billables([9], 30))
    ledger.close()
    told = Told()
    told.caps[1] = Caps(100, 100)
    lease = int(billables([1], 30)["decision"]["lease_id"][0])
    told.acknowledge(claims(*((lease, seq, int(OutcomeKind.BILLABLE), 30) for seq in (1, 2, 3))))
    held = hold_against_ledger(told, path)
    assert (held.acknowledged, held.lost, held.charged_over_micros) == (3, 0, 0)
    assert (held.charged_micros, held.over_delivered_micros) == (90, 0)
    told.caps[1] = Caps(80, 100)
    told.acknowledge(claims((lease, 9, int(OutcomeKind.BILLABLE), 30), (lease, 10, int(OutcomeKind.BILLABLE), 30)))
    held = hold_against_ledger(told, path)
    assert (held.acknowledged, held.lost, held.charged_over_micros) == (5, 2, 10), (
        "one has no verdict, one is not there"
    )
