"""The recovery bench: a past of the shipped engine's own making, and both sides started."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import fanbid
from auction.audit.verify import verify
from benchmarks.crashes.past import CAMPAIGNS, leave_past
from benchmarks.crashes.recovery import figures_of
from pacing.clocks import MS_PER_DAY
from pacing.facts import OutcomeKind, Verdict
from pacing.ledger.reading import LedgerFile


def test_a_past_is_judged_mixed_and_left_as_by_a_crash(tmp_path: Path) -> None:
    end_at_ms = 1_772_596_800_000
    told: list[float] = []
    count = leave_past(tmp_path / "full", 4_000, end_at_ms, 3, told.append)
    assert [path.name for path in tmp_path.iterdir()] == ["full"] and sum(told) == pytest.approx(count, abs=2_000)
    assert (tmp_path / "full" / "ledger.sqlite-wal").stat().st_size > 0
    assert verify(tmp_path / "full", lambda *_: None).difference is None
    ledger = LedgerFile(tmp_path / "full" / "ledger.sqlite")
    rows, judgements = ledger.read_judged(0, 10**6)
    ledger.close()
    kinds, counts = np.unique(rows["kind"], return_counts=True)
    shares = dict(zip(kinds.tolist(), (counts / len(rows)).tolist(), strict=True))
    assert 4_000 <= count < 4_000 + 2_000 and len(np.unique(rows["decision"]["campaign_id"])) == CAMPAIGNS + 1
    assert 0.7 < shares[OutcomeKind.BILLABLE] < 0.9 and 0.05 < shares[OutcomeKind.CLICK] < 0.2
    assert shares[OutcomeKind.FOLLOW] > 0.01 and OutcomeKind.UNFOLLOW in shares
    assert {Verdict.CHARGED, Verdict.ATTRIBUTED, Verdict.ORGANIC} <= set(judgements["verdict"].tolist())
    recorded = rows["recorded_at_ms"]
    assert recorded.min() < end_at_ms - MS_PER_DAY // 2 and 0 <= recorded.max() - end_at_ms < 10


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "figures.json"
    assert fanbid.main(["bench", "recovery", "--rows", "1000", "--rounds", "1", "--json", str(path)]) == 0
    assert "opening the services" in capsys.readouterr().out
    figures = json.loads(path.read_text())
    assert figures["rows"] >= 1_000 and figures["rounds"] == 1
    assert figures["open_s_empty"] < figures["ready_s_empty"] and figures["open_s_full"] < figures["ready_s_full"]
    assert fanbid.main(["bench", "recovery", "--rows", "0"]) == fanbid.EXIT_BAD_INPUT


def test_extra_is_between_medians() -> None:
    full = np.array([[3.0, 1.5, 0.5], [9.0, 1.0, 0.5], [4.0, 2.0, 0.5]])
    figures = figures_of(7, {"full": full, "empty": np.array([[2.0, 0.5, 0.25]] * 3)})
    assert (figures["ready_extra_s"], figures["recovery_extra_s"], figures["recovery_extra_cpu_s"]) == (2.0, 1.0, 0.25)
    assert (figures["rows"], figures["rounds"], figures["open_s_full"]) == (7, 3, 1.5)
