"""The bench plays what it says: money kept, shares sane, the same seed the same, every method in every price."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.bidding import command
from benchmarks.bidding.days import draw_day, past_days
from benchmarks.bidding.market import TICKS, Account, Offer, View, play
from benchmarks.bidding.rivals import make_plan
from benchmarks.bidding.scenarios import SCENARIOS
from benchmarks.bidding.study import METHODS, SHIPPED, Case, run_case
from pacing.clocks import MS_PER_DAY

AUCTIONS = 4_000


class _Greedy:
    """Bids more than anything costs."""

    def __init__(self) -> None:
        self.views: list[View] = []

    def plan(self, view: View) -> list[Offer]:
        self.views.append(view)
        return [Offer(alpha=1e12)]


def test_a_day_is_cleared_to_the_last_micro() -> None:
    day = draw_day(SCENARIOS["stationary"], 5, 0, AUCTIONS)
    account, bidder = Account(cap_micros=3e7, target_cost_micros=0.0), _Greedy()
    (trace,) = play(day, SCENARIOS["stationary"], bidder, [account], None)
    assert 2.9e7 < account.spend_micros <= 3e7
    won = np.cumsum(day.least_micros) <= 3e7
    assert trace.true_events[-1] == pytest.approx(day.probability[: int(won.sum())].sum(), rel=0.05)
    ends = day.at_ms + day.delay_ms
    came = [view.accounts[0].arrived_events for view in bidder.views]
    assert (np.diff(came) >= 0).all()
    assert came[-1] <= (day.converts & (ends < MS_PER_DAY)).sum()
    assert came[-1] >= 0.9 * day.converts[: int(won.sum())].sum() - 3


def test_accounts_are_seen_late_where_the_scenario_says_so() -> None:
    day = draw_day(SCENARIOS["stale_10min"], 5, 0, AUCTIONS)
    bidder = _Greedy()
    play(day, SCENARIOS["stale_10min"], bidder, [Account(1e9, 0.0)], None)
    seen = [view.accounts[0].spend_micros for view in bidder.views]
    paid = np.cumsum([0] + [int(view.played[0].paid_micros.sum()) for view in bidder.views[1:]])
    assert seen[5:100] == pytest.approx(paid[:95])


def test_budgets_are_edited_at_noon() -> None:
    for name, wanted in (("budget_doubled", 2e7), ("budget_halved", None)):
        day, bidder = draw_day(SCENARIOS[name], 5, 0, AUCTIONS), _Greedy()
        account = Account(1e7, 0.0)
        play(day, SCENARIOS[name], bidder, [account], None)
        caps = [view.accounts[0].cap_micros for view in bidder.views]
        noon = TICKS // 2
        spent = bidder.views[noon].accounts[0].spend_micros
        assert caps[noon - 1] == 1e7
        assert caps[noon] == wanted if wanted else spent + (1e7 - spent) / 2


def test_past_days_are_other_days_of_the_usual_market() -> None:
    shock = SCENARIOS["price_shock"]
    past = past_days(shock, 4, AUCTIONS)
    today = draw_day(shock, 4, 0, AUCTIONS)
    late = [np.median(day.least_micros[day.hours >= 14]) for day in (*past.days, today)]
    assert max(late[:-1]) < 0.7 * late[-1]
    assert past.history.days == 3
    plan = make_plan(past, None)
    assert plan.best(1e7, 0.0) < plan.best(2e7, 0.0)


@pytest.mark.parametrize(("pricing", "methods"), [("second", METHODS), ("first", (SHIPPED,))])
def test_every_method_keeps_the_budget_and_a_seed_repeats(pricing: str, methods: tuple[str, ...]) -> None:
    results = run_case("stationary", 2, pricing, methods, AUCTIONS)
    assert {r.method for r in results} == set(methods)
    assert all(r.overspend_micros == 0 and 0.3 < r.share < 1.1 and 0 < r.ks <= 1 for r in results)
    shipped = [r for r in results if r.method == SHIPPED]
    assert all(r.share > 0.8 and 0.7 < r.cost_to_target < 1.2 for r in shipped)
    again = Case(SCENARIOS["stationary"], 2, pricing, AUCTIONS).run(SHIPPED)
    assert [r.share for r in again] == [r.share for r in shipped]


def test_who_trusts_predictions_pays_for_it_and_the_shipped_controller_does_not() -> None:
    played = run_case("over_prediction", 1, "second", (SHIPPED, "pid"), 12_000)
    results = {r.method: r for r in played if r.mode == "cap"}
    assert results["pid"].cost_to_target > 1.15
    assert results[SHIPPED].cost_to_target < 1.08


def test_the_way_back_after_a_shock_is_timed() -> None:
    results = run_case("budget_doubled", 1, "second", (SHIPPED,), AUCTIONS)
    assert all(r.recovery_minutes is not None and 0 <= r.recovery_minutes <= 720 for r in results)


def test_the_command_ends_with_figures_and_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "QUICK_AUCTIONS", AUCTIONS)
    monkeypatch.setattr(command, "METHODS", (SHIPPED, "pid"))
    monkeypatch.setattr(command, "PRICES", ("second",))
    parser = argparse.ArgumentParser()
    command.configure(parser)
    arguments = ["--quick", "--seeds", "1", "--workers", "1", "--scenarios", "stationary"]
    arguments += ["--json", str(tmp_path / "b.json"), "--plots", str(tmp_path)]
    assert command.main(parser.parse_args(arguments)) == 0
    figures = json.loads((tmp_path / "b.json").read_text())
    assert 0.8 < figures["stationary.auto.second.share"] <= 1.01
    assert figures["overspend_micros_max"] == 0
    assert {"stationary.cap.second.cost_to_target", "stationary.cap.second.pid.share", "tick_2k_ms"} <= set(figures)
    assert "tick_100k_ms" not in figures
    assert (tmp_path / "bidding_second.png").stat().st_size > 5_000


@pytest.mark.parametrize("flags", [["--scenarios", "rain"], ["--seeds", "0"], ["--workers", "0"]])
def test_bad_flags_are_refused(flags: list[str]) -> None:
    parser = argparse.ArgumentParser()
    command.configure(parser)
    with pytest.raises(ValueError, match=flags[0]):
        command.main(parser.parse_args(flags))
