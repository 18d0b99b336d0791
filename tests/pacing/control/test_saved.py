"""A controller that goes on from what another one remembered: to the bit at once, and sensibly after a pause."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacing.clocks import MS_PER_DAY, MS_PER_HOUR, MS_PER_MINUTE
from pacing.control.history import MarketHistory
from pacing.control.pacer import Pacer
from pacing.control.saved import PacerMemory
from pacing.control.settings import PacerSettings
from tests.pacing.control.market import DAY_START_MS, account, draw_day, history_of, run_day

BUDGET = 2e7
TARGET = 4e5
TICKS = 96


class Restarting(Pacer):
    """Is another process after each of these ticks."""

    def __init__(self, history: MarketHistory | None, after_ticks: set[int]) -> None:
        super().__init__(history)
        self._of = history
        self._after = after_ticks
        self._ticks = 0

    def tick(self, accounts: npt.NDArray[np.void], now_ms: int) -> npt.NDArray[np.void]:
        plan = super().tick(accounts, now_ms)
        self._ticks += 1
        if self._ticks in self._after:
            packed = self.memory(now_ms).to_bytes()
            super().__init__(self._of)
            self.restore(PacerMemory.from_bytes(packed, self.memory_layout), now_ms)
        return plan


@pytest.fixture(scope="module")
def history() -> MarketHistory:
    return history_of([draw_day(100 + i) for i in range(3)])


def remembered(pacer: Pacer, now_ms: int) -> PacerMemory:
    return PacerMemory.from_bytes(pacer.memory(now_ms).to_bytes(), pacer.memory_layout)


@pytest.mark.parametrize("known", [True, False], ids=["history", "no history"])
@pytest.mark.parametrize(("budget", "target"), [(BUDGET, 0.0), (1e10, TARGET)])
def test_restarts_change_no_multiplier(budget: float, target: float, known: bool, history: MarketHistory) -> None:
    past = history if known else None
    day = draw_day(1, auctions=20_000)
    through = run_day(Pacer(past), day, budget, target, TICKS)
    restarted = run_day(Restarting(past, {1, 2, 30, 31, 70}), day, budget, target, TICKS)
    assert restarted.alphas == through.alphas
    assert len(set(through.alphas)) > 10


def test_a_deficit_outlives_the_process() -> None:
    settings = PacerSettings(max_deficit_share=0.05)
    before = Pacer(None, settings)
    row = account(BUDGET, TARGET)
    before.tick(row, DAY_START_MS)
    row["day_spend_micros"], row["day_expected_events"] = BUDGET, BUDGET / TARGET / 2
    evening_ms = DAY_START_MS + 23 * MS_PER_HOUR
    before.tick(row, evening_ms)
    after = Pacer(None, settings)
    after.restore(remembered(before, evening_ms), evening_ms + 30 * MS_PER_MINUTE)
    row["day_spend_micros"], row["day_expected_events"] = 0, 0
    row["day_start_at_ms"] += MS_PER_DAY
    row["day_end_at_ms"] += MS_PER_DAY
    after.tick(row, DAY_START_MS + MS_PER_DAY)
    assert after.deficit_micros(7) == pytest.approx(0.05 * BUDGET)


def steady(pacer: Pacer, row: npt.NDArray[np.void], from_ms: int, minutes: int) -> float:
    """The same supply each minute; answers the last multiplier."""
    alpha = 0.0
    for minute in range(minutes):
        pacer.observe_supply(row["campaign_id"], np.array([200]), np.array([4.0]), from_ms + minute * MS_PER_MINUTE)
        alpha = float(pacer.tick(row, from_ms + minute * MS_PER_MINUTE)["alpha_micros"][0])
    return alpha


@pytest.mark.parametrize("pause_minutes", [7, 50, 200])
def test_the_silence_of_a_pause_is_no_lack_of_viewers(pause_minutes: int, history: MarketHistory) -> None:
    """Traffic and its forecast are as they were, while a pacer that sat through the pause thinks viewers stay away."""
    noon_ms = DAY_START_MS + 12 * MS_PER_HOUR
    row = account(BUDGET, 0.0)
    pacer = Pacer(history)
    steady(pacer, row, noon_ms, 100)
    memory = remembered(pacer, noon_ms + 99 * MS_PER_MINUTE)
    again_ms = noon_ms + (100 + pause_minutes) * MS_PER_MINUTE
    restarted = Pacer(history)
    restarted.restore(memory, again_ms)
    steady(restarted, row, again_ms, 3)
    steady(pacer, row, again_ms, 3)
    before, after, sat = (
        float(p.memory(again_ms).rows["seen"][0, 0] / p.memory(again_ms).rows["meant"][0, 0])
        for p in (_as_of(memory, history), restarted, pacer)
    )
    assert after == pytest.approx(before, rel=0.03)
    assert sat < 0.95 * before
    seen = restarted.memory(again_ms).rows["deviation"][0, 0]
    assert seen.min() > memory.rows["deviation"][0, 0].min() - 0.1  # no bucket looks as if viewers had left


def _as_of(memory: PacerMemory, history: MarketHistory) -> Pacer:
    pacer = Pacer(history)
    pacer.restore(memory, memory.saved_at_ms)
    return pacer


def test_the_plan_stands_still_while_nobody_paces() -> None:
    noon_ms = DAY_START_MS + 12 * MS_PER_HOUR
    row = account(BUDGET, 0.0)
    pacer = Pacer()
    steady(pacer, row, noon_ms, 60)
    planned = int(pacer.tick(row, noon_ms + 60 * MS_PER_MINUTE)["planned_day_spend_micros"][0])
    restarted = Pacer()
    later_ms = noon_ms + 3 * MS_PER_HOUR
    restarted.restore(remembered(pacer, noon_ms + 60 * MS_PER_MINUTE), later_ms)
    assert planned > 0
    assert int(restarted.tick(row, later_ms)["planned_day_spend_micros"][0]) == planned


def test_what_was_spent_during_a_pause_is_not_held_against_the_forecast() -> None:
    noon_ms = DAY_START_MS + 12 * MS_PER_HOUR
    row = account(BUDGET, 0.0)
    pacer = Pacer()
    steady(pacer, row, noon_ms, 60)
    memory = remembered(pacer, noon_ms + 59 * MS_PER_MINUTE)
    row["day_spend_micros"], row["day_expected_events"] = BUDGET / 2, 10.0
    restarted = Pacer()
    restarted.restore(memory, noon_ms + 90 * MS_PER_MINUTE)
    restarted.tick(row, noon_ms + 90 * MS_PER_MINUTE)
    assert restarted.memory(0).rows["outcome"].tolist() == memory.rows["outcome"].tolist()
    restarted.tick(row, noon_ms + 91 * MS_PER_MINUTE)
    assert restarted.memory(0).rows["outcome"][0, 1] <= memory.rows["outcome"][0, 1]


def test_a_campaign_that_changes_hands_joins_those_that_are_there(history: MarketHistory) -> None:
    """Restored into a pacer that runs, in another bucket than the one of the memory."""
    noon_ms = DAY_START_MS + 12 * MS_PER_HOUR
    moved, own = account(BUDGET, 0.0, campaign_id=7), account(BUDGET, TARGET, campaign_id=8)
    giving, taking, stayed = Pacer(history), Pacer(history), Pacer(history)
    for pacer in (giving, stayed):
        steady(pacer, moved, noon_ms, 29)
    steady(taking, own, noon_ms, 29)
    before_ms, now_ms = noon_ms + 1_799_000, noon_ms + 1_801_000
    stayed.tick(moved, before_ms)
    giving.tick(moved, before_ms)
    taking.tick(own, before_ms)
    taking.restore(remembered(giving, before_ms), now_ms)
    both = taking.tick(np.concatenate([own, moved]), now_ms)
    kept = float(stayed.tick(moved, now_ms)["alpha_micros"][0])
    assert both["alpha_micros"][1] == pytest.approx(kept, rel=1e-4)
    assert both["alpha_micros"][0] > 0


def test_a_memory_of_other_past_days_is_refused_whole(history: MarketHistory) -> None:
    pacer, other = Pacer(history), Pacer()
    row = account(BUDGET, TARGET)
    pacer.tick(row, DAY_START_MS)
    with pytest.raises(ValueError, match="past days"):
        other.restore(remembered(pacer, DAY_START_MS), DAY_START_MS)
    assert len(other.memory(DAY_START_MS).rows) == 0


@given(st.data())
def test_damaged_bytes_are_refused(data: st.DataObject) -> None:
    pacer = Pacer()
    pacer.tick(account(BUDGET, TARGET), DAY_START_MS)
    packed = pacer.memory(DAY_START_MS).to_bytes()
    at = data.draw(st.integers(0, len(packed) - 1))
    if data.draw(st.booleans()):
        broken = packed[:at]
    else:
        broken = packed[:at] + bytes([packed[at] ^ data.draw(st.integers(1, 255))]) + packed[at + 1 :]
    with pytest.raises(ValueError, match=r"memory of a pacer|damaged"):
        PacerMemory.from_bytes(broken, pacer.memory_layout)


def test_a_file_is_whole_or_not_at_all(tmp_path: Path) -> None:
    pacer = Pacer()
    pacer.tick(account(BUDGET, TARGET), DAY_START_MS)
    pacer.memory(DAY_START_MS).save(tmp_path / "pacing.bin")
    assert [path.name for path in tmp_path.iterdir()] == ["pacing.bin"]
    read = PacerMemory.from_bytes((tmp_path / "pacing.bin").read_bytes(), pacer.memory_layout)
    assert read.rows.tobytes() == pacer.memory(DAY_START_MS).rows.tobytes()


def test_campaigns_that_have_not_run_for_long_are_left_behind() -> None:
    pacer = Pacer()
    pacer.tick(account(BUDGET, TARGET), DAY_START_MS)
    later_ms = DAY_START_MS + 8 * MS_PER_DAY
    pacer.tick(account(BUDGET, TARGET, 8, campaign_id=8), later_ms)
    assert pacer.memory(later_ms).rows["campaign_id"].tolist() == [8]
    assert len(pacer.memory(later_ms, lambda ids: ids == 7).rows) == 0
    assert pacer.memory(DAY_START_MS, lambda ids: ids == 7).rows["campaign_id"].tolist() == [7]
