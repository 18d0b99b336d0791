"""The fault simulator: shipped code passes, a seed is one world, and the auditor is not blind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fanbid
from benchmarks.faults.answers import AnswerBook
from benchmarks.faults.auditor import Auditor
from benchmarks.faults.bids import BidTable
from benchmarks.faults.clock import SteppingClock
from benchmarks.faults.command import figures_of, play_seed
from benchmarks.faults.differs import Differs
from benchmarks.faults.disk import Crash, CrashPoint, Disk, FolderDisk, MemoryDisk
from benchmarks.faults.drawing import draw_world
from benchmarks.faults.scenario import draw_scenario
from benchmarks.faults.shadow import OverDelivery
from pacing.budget.settings import BankSettings
from pacing.facts import JUDGEMENT, OutcomeKind, RowStatus, Verdict
from pacing.ledger.errors import LedgerUnavailable
from pacing.ledger.rows import MoneyKind, as_outcomes, money_rows
from tests.pacing.rows import START_MS, billables
from tests.sources import ROOT

SEEDS = range(300, 304)
SHARED_SEEDS = (1, 2)
SLICE = range(1_000, 1_192)
"""About two minutes of worlds as `fanbid bench faults` draws them."""
_CHUNK = 16


class Silent:
    """A watcher that only counts."""

    rows = verdicts = 0

    def rows_durable(self, rows: np.ndarray) -> None:
        self.rows += len(rows)

    def verdicts_durable(self, rows: np.ndarray, judgements: np.ndarray) -> None:
        self.verdicts += len(rows)


def test_shipped_code_passes() -> None:
    outcomes = [play_seed(seed, servers=1) for seed in SEEDS]
    assert [outcome.failure for outcome in outcomes] == [""] * len(SEEDS)
    assert sum(outcome.billed_micros for outcome in outcomes) > 0
    assert sum(outcome.faults["crashes in a commit"] for outcome in outcomes) > 0


@pytest.mark.parametrize("first", SLICE[::_CHUNK])
def test_a_slice_of_the_soak_passes(first: int) -> None:
    outcomes = [play_seed(seed) for seed in range(first, first + _CHUNK)]
    assert {outcome.seed: outcome.failure for outcome in outcomes if outcome.failure} == {}
    figures = figures_of(outcomes, elapsed_s=1.0)
    for name in ("lost_micros", "charged_over_micros", "over_delivered_micros"):
        assert figures[name] == 0
    assert int(figures["billed_micros"]) > 0


def test_shipped_code_passes_on_several_servers() -> None:
    outcomes = [play_seed(seed, servers=3) for seed in SHARED_SEEDS]
    assert [outcome.failure for outcome in outcomes] == [""] * len(SHARED_SEEDS)
    assert min(outcome.billed_micros for outcome in outcomes) > 0
    assert sum(outcome.faults["writes lost in failovers"] for outcome in outcomes) > 0


def test_a_seed_is_one_world() -> None:
    first, second = play_seed(301, servers=1), play_seed(301, servers=1)
    assert first == second
    assert first != play_seed(302, servers=1)
    assert play_seed(0, servers=2) == play_seed(0, servers=2)


def test_seeds_draw_one_server_or_several_and_all_faults_of_a_shared_store() -> None:
    plans = [draw_world(seed, 120).shared for seed in range(300)]
    shared = [plan for plan in plans if plan is not None]
    assert 100 < len(shared) < 200
    assert {plan.servers for plan in shared} == {2, 3, 4}
    assert {plan.masters for plan in shared} == {1, 3}
    failovers = [plan.failovers for plan in shared]
    assert {len(some) for some in failovers} == {0, 1, 2}
    assert any(failover.lost_ms for some in failovers for failover in some)
    assert any(plan.partitions and plan.failovers for plan in shared)


def test_scenarios_cover_what_they_promise() -> None:
    scenarios = [draw_scenario(seed, 120) for seed in range(300)]
    rates = [scenario.feed.win_rate for scenario in scenarios]
    assert min(rates) == 0.01 and max(rates) == 1.0
    assert len({campaign.zone for scenario in scenarios for campaign in scenario.campaigns}) >= 10
    assert {crash.point for scenario in scenarios for crash in scenario.crashes} == {None, *CrashPoint}
    assert any(scenario.is_folder for scenario in scenarios)
    assert any(scenario.bursts[-1].end_ms > 3 * 86_400_000 for scenario in scenarios)


def test_the_wall_clock_steps_and_the_other_goes_on() -> None:
    clock = SteppingClock(START_MS)
    began_ms = clock.monotonic_ms()
    clock.advance_to(began_ms + 500)
    clock.step(-2_000)
    clock.advance_to(began_ms + 400)
    assert (clock.wall_ms(), clock.monotonic_ms(), clock.lag_ms) == (START_MS - 1_500, began_ms + 500, 2_000)


@pytest.mark.parametrize("disk_type", [MemoryDisk, FolderDisk])
@pytest.mark.parametrize("point", list(CrashPoint))
def test_a_crash_leaves_what_was_durable(disk_type: type[Disk], point: CrashPoint) -> None:
    watcher = Silent()
    disk = disk_type(watcher)
    ledger = disk.open()
    ledger.append(billables([1, 2]))
    disk.arm(1, point)
    ledger.append(billables([3]))
    with pytest.raises(Crash):
        ledger.append(billables([4, 5]))
    disk.crash()
    again = disk.open()
    assert again.last_sequence == (3 if point is CrashPoint.BEFORE_COMMIT else 5)
    assert again.find_claims(billables([3, 4])).tolist() == [7, -1 if point is CrashPoint.BEFORE_COMMIT else 7]
    assert watcher.rows == 3, "of the commit in which it died nobody was told"
    disk.is_full = True
    with pytest.raises(LedgerUnavailable):
        again.append(billables([9]))
    disk.close()


def audited() -> tuple[Auditor, AnswerBook]:
    """An auditor of campaign 1 with caps 100 and 100, and two bids of 60 on a lease of 100."""
    bids = BidTable(2_000, 60_000)
    answers = AnswerBook(bids, BankSettings(hold_capacity=64))
    auditor = Auditor(bids, answers, {1: "Asia/Shanghai"}, OverDelivery(bids, 60))
    auditor.caps_set(1, 100, 100, START_MS, None)
    grant(auditor, 1, 100)
    u8 = np.ones(2, np.uint64)
    bids.add(u8, u8, np.array([1, 2], np.uint64), np.full(2, 60), START_MS, 0, 0, 0)
    answers.placed(0)
    return auditor, answers


def grant(auditor: Auditor, lease_id: int, amount: int) -> None:
    row = money_rows(1)
    row["sequence"], row["kind"], row["lease_id"], row["amount_micros"] = 1, MoneyKind.GRANT, lease_id, amount
    row["campaign_id"], row["day_key"] = 1, 20260225
    row["start_at_ms"], row["end_at_ms"] = START_MS, START_MS + 1_000
    auditor.rows_durable(as_outcomes(row))


def judge(auditor: Auditor, seq: int, amount: int, verdict: Verdict) -> None:
    rows = billables([seq], amount)
    rows["sequence"] = seq + 10
    auditor.rows_durable(rows)
    judgements = np.zeros(1, JUDGEMENT)
    judgements["verdict"] = verdict
    auditor.verdicts_durable(rows, judgements)


def test_the_auditor_sees_a_grant_too_many() -> None:
    auditor, _ = audited()
    with pytest.raises(Differs, match="S \\+ L is 101 at a grant, B is 100"):
        grant(auditor, 2, 1)


def test_the_auditor_sees_a_charge_beyond_the_cap_and_an_amount_above_the_bid() -> None:
    auditor, _ = audited()
    judge(auditor, 1, 60, Verdict.CHARGED)
    with pytest.raises(Differs, match="charged 120, B is 100"):
        judge(auditor, 2, 60, Verdict.CHARGED)
    assert auditor.accounts.charged_over_micros == 20
    with pytest.raises(Differs, match="claimed at 61"):
        judge(audited()[0], 2, 61, Verdict.CHARGED)


def test_the_auditor_sees_a_claim_twice_and_over_delivery() -> None:
    auditor, _ = audited()
    judge(auditor, 1, 60, Verdict.CHARGED)
    with pytest.raises(Differs, match="claimed twice"):
        judge(auditor, 1, 60, Verdict.CHARGED)
    with pytest.raises(Differs, match="over-delivered"):
        judge(auditor, 2, 60, Verdict.OVER_DELIVERY)
    with pytest.raises(Differs, match="judged DUPLICATE"):
        judge(audited()[0], 2, 60, Verdict.DUPLICATE)


def test_the_auditor_misses_what_was_acknowledged() -> None:
    auditor, answers = audited()
    answers.answered([(0, OutcomeKind.BILLABLE, 60)], [RowStatus.ACCEPTED], 5, START_MS)
    disk = MemoryDisk(Silent())
    with pytest.raises(Differs, match="acknowledged and lost, 60 micros of 1 bids"):
        auditor.finish(disk.open())
    assert auditor.lost_micros == 60
    disk.close()


@pytest.mark.parametrize(
    ("now_ms", "status", "allowed"),
    [
        (2_000, RowStatus.ACCEPTED, True),
        (2_001, RowStatus.ACCEPTED, False),
        (2_001, RowStatus.EXPIRED, True),
        (2_000, RowStatus.EXPIRED, False),
    ],
)
def test_answers_are_held_to_the_deadline(now_ms: int, status: RowStatus, allowed: bool) -> None:
    _, answers = audited()
    row = (0, int(OutcomeKind.BILLABLE), 60)
    if allowed:
        answers.answered([row], [status], now_ms, START_MS)
        return
    with pytest.raises(Differs, match=f"answered {status.name}"):
        answers.answered([row], [status], now_ms, START_MS)


def bench(*flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "fanbid.py", "bench", "faults", *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_the_command_ends_with_a_table_and_flat_figures(tmp_path: Path) -> None:
    file = tmp_path / "faults.json"
    done = bench("--seeds", "6", "--first-seed", "300", "--servers", "1", "--workers", "2", "--json", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "lost_micros" in done.stdout and "worlds" in done.stderr
    figures = json.loads(file.read_text())
    assert figures["lost_micros"] == figures["charged_over_micros"] == figures["over_delivered_micros"] == 0
    assert figures["seeds"] == 6 and figures["events"] > 0 and figures["events_per_s"] > 0


def test_a_failed_world_is_named_and_replays_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert fanbid.main(["bench", "faults", "--seed", "300", "--servers", "1", "--without", "replay"]) == 1
    assert "seed 300, step" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--seeds", "0"), "--seeds 0: not in 1.."),
        (("--seed", "-1"), "--seed -1: not in 0.."),
        (("--servers", "5"), "--servers 5: not in 1..4"),
        (("--workers", "0"), "--workers 0: not in 1..256"),
        (("--without", "luck"), "--without luck: must be one of"),
    ],
)
def test_flags_out_of_range_are_refused(flags: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert fanbid.main(["bench", "faults", *flags]) == 2
    assert told in capsys.readouterr().err
