"""What is done for every campaign at every tick, compiled, against its plain meaning."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacing.control.settings import PACING_PLAN
from pacing.control.state import CampaignState
from pacing.control.turns import kernels, reference
from pacing.facts import PACING_ACCOUNT

pytestmark = pytest.mark.kernels

NOW_MS = 50_000
ACCOUNT = {
    "target_cost_micros": st.sampled_from([0, 400, 403]),
    "day_start_at_ms": st.sampled_from([10_000, 20_000]),
    "day_end_at_ms": st.sampled_from([90_000, 100_000]),
    "end_at_ms": st.sampled_from([0, 90_000, 200_000]),
    "day_cap_micros": st.sampled_from([1_000, 5_000]),
    "day_spend_micros": st.sampled_from([0, 400, 1_000]),
    "flight_cap_micros": st.sampled_from([1_000, 9_000]),
    "flight_spend_micros": st.sampled_from([0, 400, 1_000]),
}
KNOWN = {
    "solved_at_ms": st.sampled_from([20_000, 49_000, NOW_MS]),
    "refreshed_at_ms": st.sampled_from([-(10**18), 30_000]),
    "explored_at_ms": st.sampled_from([0, 20_000]),
    "day_start_at_ms": st.sampled_from([10_000, 20_000]),
    "day_end_at_ms": st.sampled_from([90_000, 100_000]),
    "target": st.sampled_from([0.0, 400.0]),
    "last_spend": st.sampled_from([0.0, 400.0]),
    "last_left": st.sampled_from([0.0, 600.0, 1_000.0, 4_600.0, 5_000.0]),
    "alpha": st.sampled_from([0.0, 350.0]),
    "away": st.booleans(),
    "planned": st.sampled_from([0.0, 300.5, 4_000.0]),
    "plan_rate": st.sampled_from([0.0, 0.02]),
    "budget_dual": st.sampled_from([0.0, 0.25]),
    "cost_dual": st.sampled_from([0.0, 0.5]),
}


def _filled(account: dict[str, float], known: dict[str, float]) -> tuple[CampaignState, np.ndarray, np.ndarray]:
    """A state whose last of three campaigns is `known`, its row, and PACING_ACCOUNT[1]."""
    state = CampaignState(4)
    for campaign_id in (5, 6, 7):
        row = state.add(campaign_id)
    for name, value in known.items():
        getattr(state, name)[row] = value
    accounts = np.zeros(1, PACING_ACCOUNT)
    accounts["campaign_id"] = 7
    for name, value in account.items():
        accounts[name] = value
    return state, np.array([row]), accounts


def _rated(account: dict[str, float], known: dict[str, float]) -> tuple[float, float]:
    state, rows, accounts = _filled(account, known)
    change, age_ms = np.zeros(1), np.zeros(1)
    kernels.rate_change(
        rows, accounts, NOW_MS, state.solved_at_ms, state.refreshed_at_ms, state.explored_at_ms, state.day_start_at_ms,
        state.day_end_at_ms, state.target, state.last_spend, state.last_left, state.alpha, state.away, change, age_ms,
    )  # fmt: skip
    return float(change[0]), float(age_ms[0])


@given(st.fixed_dictionaries(ACCOUNT), st.fixed_dictionaries(KNOWN))
def test_change_is_rated_as_by_its_plain_meaning(account: dict[str, float], known: dict[str, float]) -> None:
    change, age_ms = _rated(account, known)
    assert change == pytest.approx(reference.change(account, known, NOW_MS), rel=1e-12)
    assert age_ms == NOW_MS - known["solved_at_ms"]


SETTLED_ACCOUNT = {
    "target_cost_micros": 400, "day_start_at_ms": 10_000, "day_end_at_ms": 90_000, "end_at_ms": 0,
    "day_cap_micros": 5_000, "day_spend_micros": 400, "flight_cap_micros": 9_000, "flight_spend_micros": 400,
}  # fmt: skip
SETTLED = {
    "solved_at_ms": 30_000, "refreshed_at_ms": 30_000, "explored_at_ms": 0, "day_start_at_ms": 10_000,
    "day_end_at_ms": 90_000, "target": 400.0, "last_spend": 0.0, "last_left": 5_000.0, "alpha": 350.0, "away": False,
}  # fmt: skip


def test_the_changes_come_in_their_order() -> None:
    def rated(account: dict[str, float] | None = None, known: dict[str, float] | None = None) -> float:
        return _rated({**SETTLED_ACCOUNT, **(account or {})}, {**SETTLED, **(known or {})})[0]

    quiet = rated()
    assert quiet == pytest.approx(400 / 5_000 + 20_000 / 60_000)
    busy = rated({"day_spend_micros": 2_000, "flight_spend_micros": 2_000})
    assert rated({"target_cost_micros": 405}) == quiet  # a day that is known better is no edit
    exploring = rated(known={"explored_at_ms": 30_000})
    at_once = [
        rated({"target_cost_micros": 300}),
        rated({"day_cap_micros": 4_000}),
        rated({"flight_cap_micros": 900}),
        rated({"day_start_at_ms": 40_000}),
        rated({"end_at_ms": 80_000}),
        rated({"day_spend_micros": 5_000, "flight_spend_micros": 5_000}),
        rated(known={"alpha": 0.0}),
        rated(known={"away": True}),
    ]
    assert quiet < busy < exploring < min(at_once)
    assert max(at_once) < rated(known={"refreshed_at_ms": -(10**18)})


@given(st.fixed_dictionaries(ACCOUNT), st.fixed_dictionaries(KNOWN))
def test_plans_are_shown_as_by_their_plain_meaning(account: dict[str, float], known: dict[str, float]) -> None:
    state, rows, accounts = _filled(account, known)
    plans = np.empty(1, PACING_PLAN)
    kernels.show_plans(
        rows, accounts, NOW_MS, state.solved_at_ms, state.day_start_at_ms, state.alpha, state.planned, state.plan_rate,
        state.budget_dual, state.cost_dual, plans,
    )  # fmt: skip
    assert plans[0].item() == (7, *reference.plan(account, known, NOW_MS))


@pytest.mark.parametrize("count", [0, 1, kernels.BLOCK_ROWS, kernels.BLOCK_ROWS + 3])
def test_everybody_is_looked_over_as_one_by_one(count: int) -> None:
    rng, state = np.random.default_rng(count), CampaignState(1)
    for campaign_id in range(count + 5):
        state.add(campaign_id)
    accounts = np.zeros(count, PACING_ACCOUNT)
    accounts["campaign_id"] = rows = rng.permutation(count + 5)[:count]
    accounts["day_end_at_ms"] = state.day_end_at_ms[:] = 90_000
    accounts["day_cap_micros"] = accounts["flight_cap_micros"] = 1_000
    state.last_left[:], state.refreshed_at_ms[:], state.budget_dual[:], state.plan_rate[:] = 1_000, 1, 0.5, 0.01
    state.alpha[: count + 5] = rng.integers(0, 3, count + 5)
    state.solved_at_ms[: count + 5] = rng.integers(1, NOW_MS, count + 5)
    rating = (
        NOW_MS, state.solved_at_ms, state.refreshed_at_ms, state.explored_at_ms, state.day_start_at_ms,
        state.day_end_at_ms, state.target, state.last_spend, state.last_left, state.alpha, state.away,
    )  # fmt: skip
    showing = state.planned, state.plan_rate, state.budget_dual, state.cost_dual
    change, age_ms, plans = np.zeros(count), np.zeros(count), np.zeros(count, PACING_PLAN)
    kernels.look_over(rows, accounts, *rating, *showing, change, age_ms, plans)
    expected = np.zeros(count), np.zeros(count), np.zeros(count, PACING_PLAN)
    kernels.rate_change(rows, accounts, *rating, *expected[:2])
    kernels.show_plans(
        rows, accounts, NOW_MS, state.solved_at_ms, state.day_start_at_ms, state.alpha, *showing, expected[2]
    )
    assert change.tolist() == expected[0].tolist()
    assert age_ms.tolist() == expected[1].tolist()
    assert plans.tobytes() == expected[2].tobytes()


@given(st.lists(st.integers(0, 2**64 - 1), unique=True, max_size=40), st.data())
def test_rows_are_found_among_the_campaigns_entered(ids: list[int], data: st.DataObject) -> None:
    campaign_ids, table = np.array(ids, np.uint64), np.full(64, -1, np.int64)
    before = data.draw(st.integers(0, len(ids)))
    kernels.insert_ids(campaign_ids[:before], 0, table)
    kernels.insert_ids(campaign_ids, before, table)
    asked = data.draw(st.lists(st.sampled_from(ids) if ids else st.nothing())) + data.draw(
        st.lists(st.integers(0, 2**64 - 1), max_size=5)
    )
    rows = np.full(len(asked), -7, np.int64)
    kernels.find_rows(campaign_ids, table, np.array(asked, np.uint64), rows)
    assert rows.tolist() == reference.rows_of(ids, asked)


def test_a_state_finds_its_rows_while_it_grows() -> None:
    state = CampaignState(4)
    for campaign_id in range(1, 400):
        assert state.add(campaign_id * 64) == campaign_id - 1
        if campaign_id % 37 == 0:
            assert state.rows(np.array([64, campaign_id * 64, 1], np.uint64)).tolist() == [0, campaign_id - 1, -1]
    assert state.rows(state.campaign_id[:399]).tolist() == list(range(399))
