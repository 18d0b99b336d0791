"""The shipped controller as a bidder: pacer, day estimate and delay curve, told what the engine would tell them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from auction.accounts import aimed_target_micros
from auction.predictor.delay import PRIOR_MEDIANS_MS, DelayCurve
from auction.progress import Progress
from auction.trust import Trust
from benchmarks.bidding.days import DAY_START_MS, Day, Past
from benchmarks.bidding.market import TICK_MS, Account, Offer, Played, View
from pacing.clocks import MS_PER_DAY
from pacing.control.pacer import Pacer
from pacing.facts import FEEDBACK, JUDGEMENT, OUTCOME, PACING_ACCOUNT, AuctionType, Goal, OutcomeKind, Verdict

_DAY_KEY = 20241004
_FIRST_ID = 1
_FLIGHT_MICROS = 10**13
_PAST_EVERY = 2  # impressions of past days that the platform bought, and learned its delays from: one in so many
_CURVE_STEP_MS = 600_000


class ShippedBidder:
    """Campaigns on one server; campaign k has id k + 1. Probabilities count as the engine's own.

    Args:
        past: what the server learned of prices, traffic and delays; None: nothing.
        records: f8[k, 2] events predicted and observed of the platform's campaigns on their days before.
        stale_ms: how late charges and events reach this server.
    """

    def __init__(self, day: Day, first_price: bool, past: Past | None, records: np.ndarray, stale_ms: int = 0) -> None:
        self._day = day
        self._at = AuctionType.FIRST_PRICE if first_price else AuctionType.SECOND_PRICE
        self._pacer = Pacer(None if past is None else past.history)
        trust = Trust()
        for expected, observed in records:
            trust.learn(float(expected), float(observed))
        self._progress = Progress(
            lambda campaign_id, at_ms: (_DAY_KEY, DAY_START_MS), lambda campaign_id: Goal.FANS, trust
        )
        self._curve = DelayCurve(PRIOR_MEDIANS_MS[Goal.FANS])
        self.planned_micros: list[list[int]] = []
        # Beside all that a platform's other campaigns tell of delays, what these tell is nothing.
        self._platform_tells = past is not None
        self._stale_ticks = -(-stale_ms // TICK_MS)
        self._unseen: list[tuple[Played, ...]] = []
        self._told_at_ms: list[np.ndarray] = []
        self._told_delays_ms: list[np.ndarray] = []
        self._told_until_ms = 0
        if past is not None:
            for number, earlier in enumerate(past.days):
                self._learn_delays(earlier, DAY_START_MS - (len(past.days) - number) * MS_PER_DAY)
            self._tell_past_events(DAY_START_MS)
            self._curve.refresh(DAY_START_MS)

    def _learn_delays(self, day: Day, start_ms: int) -> None:
        """What a past day's impressions taught of how late events come."""
        shown = np.arange(0, day.size, _PAST_EVERY)
        edges = np.searchsorted(day.at_ms[shown], np.arange(0, MS_PER_DAY + 1, _CURVE_STEP_MS))
        for step in range(len(edges) - 1):
            mass = float(day.predicted[shown[edges[step] : edges[step + 1]]].sum())
            self._curve.add_impressions(start_ms + step * _CURVE_STEP_MS + _CURVE_STEP_MS // 2, mass)
        came = shown[day.converts[shown]]
        self._told_at_ms.append(start_ms + day.at_ms[came] + day.delay_ms[came])
        self._told_delays_ms.append(day.delay_ms[came])

    def _tell_past_events(self, now_ms: int) -> None:
        """Events of past days' impressions that have come since the last time, also late ones of yesterday."""
        for told_at_ms, delays_ms in zip(self._told_at_ms, self._told_delays_ms, strict=True):
            fresh = (told_at_ms >= self._told_until_ms) & (told_at_ms < now_ms)
            self._curve.add_events(delays_ms[fresh])
        self._told_until_ms = now_ms

    def plan(self, view: View) -> list[Offer]:
        """What the server's control loop does at a tick."""
        if view.played:
            self._take_in(view)
        accounts = self._accounts(view.accounts, view.now_ms)
        plans = self._pacer.tick(accounts, view.now_ms)
        self.planned_micros.append(plans["planned_day_spend_micros"].tolist())
        return [Offer(alpha=float(alpha)) for alpha in plans["alpha_micros"]]

    def _take_in(self, view: View) -> None:
        for k, part in enumerate(view.played):
            self._pacer.observe(self._feedback(_FIRST_ID + k, part))
        self._unseen.append(tuple(view.played))
        if len(self._unseen) > self._stale_ticks:
            for k, part in enumerate(self._unseen.pop(0)):
                self._follow(_FIRST_ID + k, part, view.now_ms)
        self._tell_past_events(view.now_ms)
        self._curve.refresh(view.now_ms)
        ids = np.arange(_FIRST_ID, _FIRST_ID + len(view.played), dtype=np.uint64)
        eligible = np.array([part.rows.stop - part.rows.start for part in view.played])
        expected = np.array([float(self._day.predicted[part.rows].sum()) for part in view.played])
        self._pacer.observe_supply(ids, eligible, expected, view.now_ms)

    def _feedback(self, campaign_id: int, part: Played) -> np.ndarray:
        rows = np.zeros(part.rows.stop - part.rows.start, FEEDBACK)
        rows["campaign_id"], rows["at"] = campaign_id, self._at
        rows["won"] = rows["exposed"] = part.won
        rows["probability"], rows["alpha_micros"] = self._day.predicted[part.rows], part.offer.alpha
        rows["bid_micros"] = part.bids_micros
        rows["price_micros"] = np.where(part.won, part.paid_micros, -1)
        rows["min_bid_to_win_micros"] = self._day.least_micros[part.rows]
        rows["issued_at_ms"] = DAY_START_MS + self._day.at_ms[part.rows]
        return rows[part.bids_micros > 0]

    def _follow(self, campaign_id: int, part: Played, now_ms: int) -> None:
        """Judged ledger rows of the stretch: impressions charged, and events attributed to the campaign."""
        won = np.flatnonzero(part.won) + part.rows.start
        count = len(won) + len(part.delays_ms)
        rows, judgements = np.zeros(count, OUTCOME), np.zeros(count, JUDGEMENT)
        if not len(rows):
            return
        billed, told = slice(0, len(won)), slice(len(won), None)
        rows["kind"][billed], rows["kind"][told] = OutcomeKind.BILLABLE, OutcomeKind.FOLLOW
        rows["recorded_at_ms"] = now_ms - 1
        rows["occurred_at_ms"] = now_ms - 1 - self._stale_ticks * TICK_MS
        rows["decision"]["probability"][billed] = self._day.predicted[won]
        rows["decision"]["issued_at_ms"][billed] = DAY_START_MS + self._day.at_ms[won]
        judgements["campaign_id"] = campaign_id
        judgements["verdict"][billed], judgements["verdict"][told] = Verdict.CHARGED, Verdict.ATTRIBUTED
        self._progress.follow(rows, judgements)
        if self._platform_tells:
            return
        self._curve.add_events(part.delays_ms)
        if len(won):
            self._curve.add_impressions(now_ms - 1, float(self._day.predicted[won].sum()))

    def _accounts(self, accounts: Sequence[Account], now_ms: int) -> np.ndarray:
        rows = np.zeros(len(accounts), PACING_ACCOUNT)
        rows["campaign_id"] = np.arange(_FIRST_ID, _FIRST_ID + len(accounts))
        rows["day_start_at_ms"], rows["day_end_at_ms"] = DAY_START_MS, DAY_START_MS + MS_PER_DAY
        rows["start_at_ms"] = DAY_START_MS
        rows["flight_cap_micros"] = _FLIGHT_MICROS
        for k, account in enumerate(accounts):
            bought = self._progress.estimate(
                _FIRST_ID + k, _DAY_KEY, now_ms, lambda goal, ages_ms: self._curve.arrived_share(ages_ms)
            )
            rows["day_cap_micros"][k] = account.cap_micros
            rows["day_spend_micros"][k] = rows["flight_spend_micros"][k] = account.spend_micros
            rows["day_expected_events"][k] = bought.events
            rows["day_predicted_events"][k] = bought.predicted_events
            rows["events_ratio"][k] = bought.ratio
            rows["target_cost_micros"][k] = aimed_target_micros(round(account.target_cost_micros), bought)
        return rows
