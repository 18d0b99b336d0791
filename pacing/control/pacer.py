"""The controller: one multiplier per campaign that keeps budget, flight and target cost, solved anew at every tick."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from pacing.clocks import MS_PER_DAY
from pacing.control import kernels
from pacing.control.auctions import Auctions, add_to_shapes, sum_up
from pacing.control.forecast import Forecaster
from pacing.control.grid import ALPHA_BINS, ALPHA_CENTRE, Z_STEP
from pacing.control.history import MarketHistory
from pacing.control.prior import MarketPrior
from pacing.control.saved import PacerMemory, prior_digest
from pacing.control.settings import PacerSettings
from pacing.control.state import NEVER_MS, CampaignState
from pacing.control.turns.kernels import EDITED_SHARE
from pacing.control.turns.turns import plans_in_force, whose_turn
from pacing.facts import PACING_ACCOUNT

FloatArray = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
Wanted = Callable[[npt.NDArray[np.uint64]], npt.NDArray[np.bool_]]
"""Which of these campaigns (u8[n]) are wanted: bool[n]."""

_RECENTRE_STEPS = 8
_GAIN_MEMORY_MS = 7_200_000
_SHOWN_PRIOR_SHARE = 0.002  # the plan that is shown follows what is bought, long before the controller believes it
# How much spending must disagree before it counts as much as the forecast: the least of a share of the day's budget and
# of so many impressions at the mean price, since what is bought scatters by its number.
_GAIN_PRIOR_SHARE = 0.1
_GAIN_PRIOR_IMPRESSIONS = 1_000.0
_COST_UNCERTAINTY_SHARE = 0.1  # mean cost at a multiplier hardly depends on how much is for sale
_YOUNG_REFRESHES = 10  # so much oftener for as many periods: a new campaign learns fast
_FIRST_SHARE_STEP = 0.1  # the mix of first and second price has become another one
_EXPLORE_MS = 5_000  # a blind multiplier grows e-fold in this time
_REMEMBERED_MS = 7 * MS_PER_DAY  # what has not run for longer begins anew after a restart
_EXPLORE_LOG_STEP_MOST = 1.4  # but not more than fourfold from one tick to the next


class Pacer:
    """Sets the multiplier alpha of every campaign: how many micros one expected goal event is worth to it now.

    Maximise the sum of expected events subject to spend <= budget (of the day and of the flight) and
    spend <= target * events. In second price the best policy is one threshold on cost over value for the rest of the
    horizon, so alpha is the largest whose forecast of remaining value and cost satisfies every constraint. The forecast
    is the market's curve by time of day (from past days, where there are any), moved to the campaign's own scale and
    shape by what it has seen. While the forecast is uncertain, alpha of a campaign with a target is drawn towards the
    target (a normal prior on log alpha). In first price the bidder shades alpha * p; cost then follows from the shade
    that is observed, value from the thresholds.

    Nothing is integrated over time, so an edited budget takes effect at the next tick and cannot wind up.

    Threads: every method takes the same lock; any thread may call. `observe` only stores; `tick` does the work.
    """

    def __init__(self, history: MarketHistory | None = None, settings: PacerSettings | None = None) -> None:
        self._settings = settings or PacerSettings()
        prior = MarketPrior.unknown() if history is None else MarketPrior.from_history(history)
        self._prior = prior
        self._state = CampaignState(prior.buckets)
        self._forecaster = Forecaster(prior, self._settings, self._state)
        self._pending: list[npt.NDArray[np.void]] = []
        self._lock = threading.Lock()
        self._digest = b""
        self._last_ids: npt.NDArray[np.uint64] = np.zeros(0, np.uint64)
        self._last_rows: Rows = np.zeros(0, np.int64)
        self._paced_rows: Rows = np.zeros(0, np.int64)  # of the last tick
        self._ticked_at_ms = 0

    def observe(self, feedback: npt.NDArray[np.void]) -> None:
        """Learn from decided auctions, FEEDBACK[n]; rows of campaigns that no tick has named are dropped."""
        if len(feedback):
            with self._lock:
                self._pending.append(feedback.copy())

    def observe_supply(
        self,
        campaign_ids: npt.NDArray[np.uint64],
        eligible: npt.NDArray[np.int64],
        expected_events: FloatArray,
        now_ms: int,
    ) -> None:
        """Learn how many viewers each campaign could have bid for since the last call, and the sum of their
        probabilities.

        Args:
            campaign_ids: u8[c], none twice. eligible: i8[c]. expected_events: f8[c].
            now_ms: the supply came between the last tick and this instant.

        Raises:
            ValueError: the columns differ in length.
        """
        if not len(campaign_ids) == len(eligible) == len(expected_events):
            raise ValueError(f"eligible, expected_events: not {len(campaign_ids)} long like campaign_ids")
        with self._lock:
            rows = self._rows_of(campaign_ids)
            known = rows >= 0
            supply = np.stack(
                [eligible[known].astype(np.float64), np.asarray(expected_events, np.float64)[known]], axis=1
            )
            self._state.tick_supply[rows[known]] += supply

    def tick(self, accounts: npt.NDArray[np.void], now_ms: int) -> npt.NDArray[np.void]:
        """Plan every campaign: up to `solve_all` of them are solved anew, of more those whose turn it is.

        The others keep their multiplier, but bid nothing while nothing is left to spend.

        Args:
            accounts: PACING_ACCOUNT[n], no campaign twice; days are the campaigns' own.
            now_ms: not before the last tick.

        Returns:
            PACING_PLAN[n] in the same order.

        Raises:
            ValueError: `accounts` has another layout.
        """
        if accounts.dtype != PACING_ACCOUNT:
            raise ValueError(f"accounts {accounts.dtype}: layout is not PACING_ACCOUNT")
        with self._lock:
            rows = self._admit(accounts, now_ms)
            crowded = len(rows) > self._settings.solve_all
            heard = [sum_up(self._state, feedback) for feedback in self._pending]
            self._pending = []
            if crowded:
                turn, plans = whose_turn(self._state, rows, accounts, now_ms, self._settings.solve_limit)
                plans[turn] = self._solve_some(rows[turn], accounts[turn], heard, crowded, now_ms)
            else:
                plans = self._solve_some(rows, accounts, heard, crowded, now_ms)
            self._ticked_at_ms = now_ms
        return plans

    def plan_ahead(self, accounts: npt.NDArray[np.void], now_ms: int) -> npt.NDArray[np.void]:
        """Plan a few campaigns ahead of the next tick: new and edited ones, which need not wait for all the others.

        Args:
            accounts: PACING_ACCOUNT[n], no campaign twice.
            now_ms: not before the last tick, nor after the next.

        Returns:
            PACING_PLAN[n] in the same order.
        """
        with self._lock:
            rows = self._state.rows(accounts["campaign_id"])
            self._add_new(rows, accounts, now_ms)
            rows = self._state.rows(accounts["campaign_id"])
            return self._solve_some(rows, accounts, [], True, now_ms)

    def _solve_some(
        self, rows: Rows, accounts: npt.NDArray[np.void], heard: list[Auctions], crowded: bool, now_ms: int
    ) -> npt.NDArray[np.void]:
        """Bring these campaigns up to date and solve them anew."""
        self._absorb(rows, accounts, heard, now_ms)
        self._turn_days(rows, accounts)
        end_ms = _horizon_end(accounts)
        stale = self._stale(rows, accounts, end_ms, crowded, now_ms)
        self._solve(rows, accounts, end_ms, stale, crowded, now_ms)
        return plans_in_force(self._state, rows, accounts, now_ms)

    def deficit_micros(self, campaign_id: int) -> float:
        """What a campaign must make good today for having ended yesterday over its target; 0 for a stranger."""
        with self._lock:
            row = self._state.row_of.get(campaign_id)
            return 0.0 if row is None else float(self._state.deficit[row])

    def memory(self, now_ms: int, wanted: Wanted | None = None) -> PacerMemory:
        """What is remembered of campaigns that ran lately: of all, or of those among them that are `wanted`."""
        with self._lock:
            state = self._state
            rows = np.flatnonzero(state.solved_at_ms[: state.count] >= now_ms - _REMEMBERED_MS)
            if wanted is not None:
                rows = rows[wanted(state.campaign_id[rows])]
            return PacerMemory(now_ms, self._forecaster.bucket, self._prior_digest(), state.taken(rows))

    def restore(self, memory: PacerMemory, now_ms: int) -> None:
        """Go on with what another pacer remembered; what this one knew of the same campaigns is forgotten.

        Raises:
            ValueError: it is told in terms of other past days; nothing changed.
        """
        if memory.prior != self._prior_digest():
            raise ValueError("of a pacer that knew other past days of the market")
        if not bool((memory.rows["group"] < len(self._prior.value_curve)).all() and (memory.rows["group"] >= 0).all()):
            raise ValueError("group: not one of the market's")
        if not len(memory.rows):
            return
        elsewhere = CampaignState(self._prior.buckets)
        memory = memory.brought_forward(now_ms, elsewhere, Forecaster(self._prior, self._settings, elsewhere))
        with self._lock:
            state = self._state
            if not self._forecaster.has_begun:
                self._forecaster.begin(memory.bucket)
            state.put(memory.rows)

    @property
    def memory_layout(self) -> np.dtype:
        """Dtype of one campaign's row in a `PacerMemory`."""
        return self._state.layout

    def _prior_digest(self) -> bytes:
        if not self._digest:
            self._digest = prior_digest(self._prior)
        return self._digest

    def _rows_of(self, campaign_ids: npt.NDArray[np.uint64]) -> Rows:
        if len(campaign_ids) != len(self._last_ids) or not np.array_equal(campaign_ids, self._last_ids):
            rows = self._state.rows(campaign_ids)
            if (rows < 0).any():
                return rows
            self._last_ids, self._last_rows = campaign_ids.copy(), rows
        return self._last_rows

    def _admit(self, accounts: npt.NDArray[np.void], now_ms: int) -> Rows:
        """Rows of the accounts, new ones added."""
        self._add_new(self._rows_of(accounts["campaign_id"]), accounts, now_ms)
        rows = self._rows_of(accounts["campaign_id"])
        if rows is not self._paced_rows:
            self._note_absent(rows)
            self._paced_rows = rows
        return rows

    def _add_new(self, rows: Rows, accounts: npt.NDArray[np.void], now_ms: int) -> None:
        """Give rows to accounts that have none (-1)."""
        for i in np.flatnonzero(rows < 0):
            row = self._state.add(int(accounts["campaign_id"][i]))
            self._state.joined_at_ms[row] = now_ms
            self._state.solved_at_ms[row] = now_ms
            self._state.day_start_at_ms[row] = accounts["day_start_at_ms"][i]
            self._state.last_spend[row] = accounts["day_spend_micros"][i]
            self._state.last_events[row] = accounts["day_predicted_events"][i]
            self._state.planned[row] = accounts["day_planned_micros"][i]
            self._forecaster.admit(row, int(accounts["history_group"][i]), now_ms)

    def _note_absent(self, rows: Rows) -> None:
        """Nothing is planned of a campaign while it does not run, nor is the time held against its forecast."""
        state = self._state
        paced, before = np.zeros(state.count, np.bool_), np.zeros(state.count, np.bool_)
        paced[rows], before[self._paced_rows] = True, True
        gone = np.flatnonzero(before & ~paced)
        state.planned[gone] += state.plan_rate[gone] * (self._ticked_at_ms - state.solved_at_ms[gone])
        state.plan_rate[gone] = 0.0
        state.away[gone] = True
        back = np.flatnonzero(paced & ~before & state.away[: state.count])
        state.solved_at_ms[back] = np.maximum(state.solved_at_ms[back], self._ticked_at_ms)

    def _absorb(self, rows: Rows, accounts: npt.NDArray[np.void], heard: list[Auctions], now_ms: int) -> None:
        """Take in what came since the last solve: supply, auctions, and what was spent on them."""
        state, forecaster = self._state, self._forecaster
        bucket, reached = state.bucket[rows], forecaster.bucket_reached(now_ms)
        groups = [(b, np.flatnonzero(bucket == b)) for b in np.unique(bucket).tolist()]
        for running, at in groups:
            forecaster.begin(running)
            self._count_outcomes(rows[at], accounts[at], forecaster.absorb(rows[at], now_ms), now_ms)
        for auctions in heard:
            add_to_shapes(state, auctions)
        for running, at in groups:
            forecaster.begin(running)
            forecaster.roll(rows[at], reached)
        forecaster.begin(reached)

    def _count_outcomes(self, rows: Rows, accounts: npt.NDArray[np.void], expected: FloatArray, now_ms: int) -> None:
        """Set what came against what was `expected`, f8[m, 2] of Forecaster.absorb."""
        state = self._state
        same_day = (state.day_start_at_ms[rows] == accounts["day_start_at_ms"]) & ~state.away[rows]
        state.away[rows] = False
        active = rows[same_day]
        spent = np.maximum(accounts["day_spend_micros"][same_day] - state.last_spend[active], 0.0)
        gained = np.maximum(accounts["day_predicted_events"][same_day] - state.last_events[active], 0.0)
        elapsed_ms = now_ms - state.solved_at_ms[active]
        expected = expected[same_day]
        # Accounts may be seen late: what was expected before the first spending showed is no measure of it.
        state.outcome[active[(state.last_spend[active] <= 0) & (spent > 0)]] = 0.0
        fade = np.exp(-elapsed_ms / _GAIN_MEMORY_MS)[:, None]
        state.outcome[active] = state.outcome[active] * fade + np.stack(
            [gained, spent, expected[:, 0], expected[:, 1]], axis=1
        )
        state.planned[active] += state.plan_rate[active] * elapsed_ms
        state.solved_at_ms[rows] = now_ms

    def _turn_days(self, rows: Rows, accounts: npt.NDArray[np.void]) -> None:
        """Where a new budget day has begun: carry a bounded deficit, fold the day into the campaign's own profile."""
        state = self._state
        turned = state.day_start_at_ms[rows] != accounts["day_start_at_ms"]
        moved = rows[turned]
        if len(moved):
            excess = state.deficit[moved] + state.last_spend[moved] - state.target[moved] * state.last_expected[moved]
            bound = self._settings.max_deficit_share * accounts["day_cap_micros"][turned]
            state.deficit[moved] = np.where(state.target[moved] > 0, np.clip(excess, 0.0, bound), 0.0)
            state.planned[moved] = 0.0
            state.plan_rate[moved] = 0.0
            state.day_start_at_ms[moved] = accounts["day_start_at_ms"][turned]
            self._forecaster.turn_day(moved)
        state.last_spend[rows] = accounts["day_spend_micros"]
        state.last_events[rows] = accounts["day_predicted_events"]
        state.last_expected[rows] = accounts["day_expected_events"]

    def _stale(
        self, rows: Rows, accounts: npt.NDArray[np.void], end_ms: npt.NDArray[np.int64], crowded: bool, now_ms: int
    ) -> npt.NDArray[np.bool_]:
        """Which forecasts must be made anew; at most `refresh_limit`, the oldest first.

        On a crowded platform, those of new and of edited campaigns are, and few others. A forecast that must wait into
        another bucket takes the mean of what was to come for that bucket.
        """
        state = self._state
        target = accounts["target_cost_micros"].astype(np.float64)
        age_ms = now_ms - state.refreshed_at_ms[rows]
        begun_ms = self._forecaster.bucket_start_ms(state.bucket[rows])
        tolerated = EDITED_SHARE * target if crowded else 0.0
        edited = (np.abs(state.target[rows] - target) > tolerated) | (state.day_end_at_ms[rows] != end_ms)
        state.target[rows], state.day_end_at_ms[rows] = target, end_ms
        young = now_ms - state.joined_at_ms[rows] < _YOUNG_REFRESHES * self._settings.refresh_ms
        due_ms = np.where(young, self._settings.refresh_ms // _YOUNG_REFRESHES, self._settings.refresh_ms)
        stale = edited | (age_ms >= due_ms) | (state.refreshed_at_ms[rows] < begun_ms)
        stale |= np.abs(state.first_share[rows] - state.forecast_first_share[rows]) > _FIRST_SHARE_STEP
        at_once = crowded & (edited | (state.refreshed_at_ms[rows] == NEVER_MS))
        limit = self._settings.crowded_refresh_limit // 2 if crowded else self._settings.refresh_limit
        if int(stale.sum()) > limit:
            oldest = np.argsort(-age_ms / due_ms if crowded else -age_ms, kind="stable")[:limit]
            keep = at_once.copy()
            keep[oldest] = True
            stale &= keep
        return np.asarray(stale, np.bool_)

    def _solve(
        self,
        rows: Rows,
        accounts: npt.NDArray[np.void],
        end_ms: npt.NDArray[np.int64],
        stale: npt.NDArray[np.bool_],
        crowded: bool,
        now_ms: int,
    ) -> None:
        state, forecaster = self._state, self._forecaster
        left = self._settings.crowded_refresh_limit // 2 if crowded else _RECENTRE_STEPS * len(rows)
        further = accounts["end_at_ms"] > accounts["day_end_at_ms"]
        forecaster.refresh(rows[stale], end_ms[stale], further[stale], now_ms)
        inputs = self._solver_inputs(rows, accounts, end_ms, now_ms)
        log_alpha, limits, binding = self._run_solver(rows, inputs)
        for _ in range(_RECENTRE_STEPS):
            edge = (binding >= kernels.BELOW_GRID) & forecaster.may_recentre(rows, binding, inputs[:, kernels.BUDGET])
            edge &= np.cumsum(edge) <= left
            left -= int(edge.sum())
            if not edge.any():
                break
            forecaster.recentre(rows[edge], log_alpha[edge])
            forecaster.refresh(rows[edge], end_ms[edge], further[edge], now_ms)
            stale |= edge
            inputs[:, kernels.CENTRE] = state.centre[rows]
            log_alpha[edge], limits[edge], binding[edge] = self._run_solver(rows[edge], inputs[edge])
        state.log_solved[rows] = log_alpha
        if stale.any():
            state.variance[rows[stale]] = forecaster.variance(rows[stale], inputs[stale, kernels.REMAINING])
            drifted = stale & (np.abs(log_alpha - state.centre[rows]) > Z_STEP * ALPHA_CENTRE / 2)
            forecaster.recentre(
                rows[drifted & (binding < kernels.BELOW_GRID)], log_alpha[drifted & (binding < kernels.BELOW_GRID)]
            )
        self._plan(rows, accounts, limits, log_alpha, binding, inputs, now_ms)

    def _solver_inputs(
        self, rows: Rows, accounts: npt.NDArray[np.void], end_ms: npt.NDArray[np.int64], now_ms: int
    ) -> FloatArray:
        """f8[n, SOLVE_COLUMNS] of kernels.solve_plans."""
        state = self._state
        inputs = np.zeros((len(rows), kernels.SOLVE_COLUMNS))
        events, spend, events_meant, spend_meant = state.outcome[rows].T
        cap = np.maximum(accounts["day_cap_micros"].astype(np.float64), 1.0)
        weight = np.minimum(_GAIN_PRIOR_SHARE * cap, _GAIN_PRIOR_IMPRESSIONS * np.exp(state.log_price[rows]))
        weight = np.where(spend > 0, weight, _GAIN_PRIOR_SHARE * cap)
        value_weight = weight * events_meant / np.maximum(spend_meant, 1e-9)
        inputs[:, kernels.REMAINING] = self._forecaster.remaining_share(rows, end_ms, now_ms)
        inputs[:, kernels.COST_GAIN] = np.clip((spend + weight) / (spend_meant + weight), 0.2, 5.0)
        inputs[:, kernels.VALUE_GAIN] = np.clip(
            (events + value_weight) / np.maximum(events_meant + value_weight, 1e-12), 0.2, 5.0
        )
        inputs[events_meant <= 0, kernels.VALUE_GAIN] = 1.0
        inputs[:, kernels.VALUE_GAIN] *= accounts["events_ratio"]
        inputs[:, kernels.BUDGET] = np.minimum(
            accounts["day_cap_micros"] - accounts["day_spend_micros"],
            accounts["flight_cap_micros"] - accounts["flight_spend_micros"],
        )
        inputs[:, kernels.DAY_CAP] = cap
        inputs[:, kernels.FLIGHT] = accounts["flight_cap_micros"] - accounts["flight_spend_micros"]
        ends = accounts["end_at_ms"]
        inputs[:, kernels.DAYS] = np.where(
            ends > accounts["day_end_at_ms"], (ends - accounts["day_end_at_ms"]) / MS_PER_DAY, 0.0
        )
        inputs[:, kernels.EVENTS] = accounts["day_expected_events"]
        inputs[:, kernels.SPEND] = accounts["day_spend_micros"] + state.deficit[rows]
        inputs[:, kernels.TARGET] = accounts["target_cost_micros"]
        inputs[:, kernels.CENTRE] = state.centre[rows]
        return inputs

    def _run_solver(self, rows: Rows, inputs: FloatArray) -> tuple[FloatArray, FloatArray, npt.NDArray[np.uint8]]:
        log_alpha, limits = np.zeros(len(rows)), np.zeros((len(rows), 2))
        binding = np.zeros(len(rows), np.uint8)
        scratch = np.zeros((2, ALPHA_BINS))
        kernels.solve_plans(
            rows,
            self._state.tables,
            inputs,
            self._settings.cost_excess_exponent,
            scratch[0],
            scratch[1],
            log_alpha,
            limits,
            binding,
        )
        return log_alpha, limits, binding

    def _plan(
        self,
        rows: Rows,
        accounts: npt.NDArray[np.void],
        limits: FloatArray,
        log_alpha: FloatArray,
        binding: npt.NDArray[np.uint8],
        inputs: FloatArray,
        now_ms: int,
    ) -> None:
        state = self._state
        target = accounts["target_cost_micros"].astype(np.float64)
        alpha = np.exp(
            np.minimum(self._drawn(rows, limits, log_alpha, target), np.log(self._settings.max_alpha_micros))
        )
        alpha *= np.where(target > 0, 1.0, self._forecaster.caution(rows))
        blind = self._forecaster.blind(rows)
        automatic = blind & (target <= 0)
        alpha[automatic] = self._explore(rows[automatic], inputs[automatic], now_ms)
        alpha[blind & (target > 0)] = target[blind & (target > 0)]
        alpha[(inputs[:, kernels.BUDGET] <= 0) | (inputs[:, kernels.REMAINING] < 0)] = 0.0
        state.alpha[rows] = alpha
        _, spend, _, spend_meant = state.outcome[rows].T
        weight = _SHOWN_PRIOR_SHARE * np.maximum(accounts["day_cap_micros"].astype(np.float64), 1.0)
        state.plan_rate[rows] = self._forecaster.cost_rate(rows, alpha) * (spend + weight) / (spend_meant + weight)
        state.last_left[rows] = inputs[:, kernels.BUDGET]
        positive = alpha > 0
        by_budget = positive & (binding == kernels.BUDGET_BINDS)
        state.budget_dual[rows] = np.where(by_budget, 1 / np.where(by_budget, alpha, 1.0), 0.0)
        margin = np.maximum(alpha - target, 1e-3 * np.maximum(target, 1.0))
        state.cost_dual[rows] = np.where(positive & (binding == kernels.COST_BINDS), 1 / margin, 0.0)

    def _drawn(self, rows: Rows, limits: FloatArray, log_alpha: FloatArray, target: FloatArray) -> FloatArray:
        """Log multipliers, drawn towards the target as far as the forecast behind each limit is uncertain."""
        prior_variance = self._forecaster.target_deviation() ** 2
        log_target = np.log(np.maximum(target, 1.0))
        drawn = np.full(len(rows), np.inf)
        for limit, share in enumerate((1.0, _COST_UNCERTAINTY_SHARE)):
            variance = share * self._state.variance[rows] + self._state.cold_variance[rows]
            pull = variance / (variance + prior_variance)
            drawn = np.minimum(drawn, (1 - pull) * limits[:, limit] + pull * log_target)
        return np.where((target > 0) & np.isfinite(drawn), drawn, log_alpha)

    def _explore(self, rows: Rows, inputs: FloatArray, now_ms: int) -> FloatArray:
        """Multipliers of automatic campaigns that know no price yet: from what all viewers could be paid, upwards."""
        state = self._state
        level = np.exp(state.log_level[rows])
        even = inputs[:, kernels.BUDGET] / np.maximum(self._forecaster.remaining_impressions(rows), 1.0) / level
        most = 0.01 * inputs[:, kernels.BUDGET] / level
        step = np.exp(np.minimum((now_ms - state.explored_at_ms[rows]) / _EXPLORE_MS, _EXPLORE_LOG_STEP_MOST))
        state.explored_at_ms[rows] = now_ms
        raised = np.maximum(state.alpha[rows] * step, even)
        unseen = state.supply[rows, 0] <= 0
        return np.asarray(np.minimum(np.where(unseen, np.maximum(state.alpha[rows], 1.0), raised), most), np.float64)


def _horizon_end(accounts: npt.NDArray[np.void]) -> npt.NDArray[np.int64]:
    """When each campaign's present budget day, or its flight, ends."""
    ends = accounts["end_at_ms"]
    return np.where(ends > 0, np.minimum(ends, accounts["day_end_at_ms"]), accounts["day_end_at_ms"])
