"""What each campaign has bought so far today, in events: the half of pacing's question that money does not answer."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from auction.trust import Arrivals, Trust
from pacing.clocks import MS_PER_DAY, MS_PER_HOUR, MS_PER_MINUTE
from pacing.facts import FLAG_CALLER_PREDICTION, GOAL_OF_KIND, Goal, OutcomeKind, Verdict

BUCKET_MS = 10 * MS_PER_MINUTE
ESTIMATE_ALL, ESTIMATE_LIMIT = 2_000, 500
"""Up to so many campaigns' days are all estimated anew at a time; of more, so many."""
_DAY_BUCKETS = 26 * 6  # the longest local day
_KEPT_MS = 2 * MS_PER_DAY
"""From its start a day is kept so long, if no later one begins."""
_TOLD_SHARE = 0.02  # of a day: before that, its rest cannot be foretold from it

_GOAL_OF_KIND = np.zeros(256, np.uint8)
for _kind, _goal in GOAL_OF_KIND.items():
    _GOAL_OF_KIND[_kind] = _goal

WorthOf = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Of attributed follows (OUTCOME[n], JUDGEMENT[n]), how many kept fans each is expected to be: f8[n]."""
ArrivedShare = Callable[[Goal, np.ndarray], np.ndarray]
"""Share of a goal's events (f8[n]) that have come when their impressions are this old (i8[n] ms)."""


@dataclass(slots=True)
class DayProgress:
    """One campaign's day.

    Attributes:
        caller_events: sum of the callers' own p over billed impressions.
        own_events: sum of the engine's p by time of day, f8[_DAY_BUCKETS] of BUCKET_MS each.
        observed_events: goal events attributed to the day's impressions of the engine's own p (of kept fans: follows,
            each by how likely it is kept), by the time at which they came, f8[_DAY_BUCKETS].
        scanned_bucket, broke_at: when it was last looked whether predictions broke, and where they did; -1: not yet.
        own_total: sum of own_events.
        known: the last estimate, with own_total and caller_events as they were then; None: none yet.
        known_at_ms: when that was.
    """

    day_key: int = 0
    day_start_at_ms: int = 0
    caller_events: float = 0.0
    own_events: np.ndarray = field(default_factory=lambda: np.zeros(_DAY_BUCKETS))
    observed_events: np.ndarray = field(default_factory=lambda: np.zeros(_DAY_BUCKETS))
    scanned_bucket: int = -1
    broke_at: int = -1
    own_total: float = 0.0
    known: tuple[DayEstimate, float, float] | None = None
    known_at_ms: int = 0

    def brought_forward(self, bias_sd: float) -> tuple[float, float, float, float]:
        """The last estimate, and what was bought since at the ratio that was thought then: fields of DayEstimate.

        Before the first one, predictions are taken for right within `bias_sd`.
        """
        known, own_total, caller_events = self.known or (DayEstimate(0.0, 0.0, 1.0, bias_sd), 0.0, 0.0)
        own, by_caller = self.own_total - own_total, self.caller_events - caller_events
        events = known.events + known.ratio * own + by_caller
        return events, known.predicted_events + own + by_caller, known.ratio, known.relative_sd

    def buckets(self, at_ms: np.ndarray) -> np.ndarray:
        """i8[n]: the bucket of each instant, the nearest where it lies outside."""
        return np.clip((at_ms - self.day_start_at_ms) // BUCKET_MS, 0, _DAY_BUCKETS - 1)


@dataclass(frozen=True, slots=True)
class DayEstimate:
    """What a campaign's day is thought to have brought.

    Attributes:
        events: expected goal events of the impressions billed so far, in the light of what has arrived.
        predicted_events: the same as they were predicted.
        ratio: true over predicted events of what is bought now.
        relative_sd: how uncertain the engine's own part of the events will be when the day ends, as a share of all.
    """

    events: float
    predicted_events: float
    ratio: float
    relative_sd: float


class Progress:
    """Follows judged rows and estimates the goal events of each campaign's local day. Any thread may call."""

    def __init__(
        self,
        day_start_of: Callable[[int, int], tuple[int, int]],
        goal_of: Callable[[int], int],
        trust: Trust | None = None,
        kept_worth_of: WorthOf | None = None,
    ) -> None:
        """`day_start_of(campaign_id, at_ms)` answers (day_key, day_start_at_ms), `goal_of(campaign_id)` a goal or 0.

        Whether a fan is kept shows after 30 days: till then, for a campaign that wants kept fans, each follow counts
        for what `kept_worth_of` says, by default 1.
        """
        self._kept_worth_of = kept_worth_of
        self._day_start_of = day_start_of
        self._goal_of = goal_of
        self._trust = trust or Trust()
        self._days: dict[int, DayProgress] = {}
        self._finished: list[tuple[int, DayProgress]] = []
        self._forget_at_ms = 0
        self._lock = threading.RLock()  # what is counted of a day in one step is read in one

    def follow(self, rows: np.ndarray, judgements: np.ndarray) -> None:
        """Count judged rows (OUTCOME[n], JUDGEMENT[n])."""
        charged = (rows["kind"] == OutcomeKind.BILLABLE) & (judgements["verdict"] == Verdict.CHARGED)
        attributed = judgements["verdict"] == Verdict.ATTRIBUTED
        relevant = charged | attributed
        for campaign_id in np.unique(judgements["campaign_id"][relevant]).tolist():
            with self._lock:
                self._follow_one(campaign_id, rows, judgements, relevant & (judgements["campaign_id"] == campaign_id))

    def _follow_one(self, campaign_id: int, rows: np.ndarray, judgements: np.ndarray, mine: np.ndarray) -> None:
        progress = self._day_of(campaign_id, int(rows["recorded_at_ms"][mine][-1]))
        if progress is None:
            return
        mine = mine & (rows["recorded_at_ms"] >= progress.day_start_at_ms)
        attributed = judgements["verdict"] == Verdict.ATTRIBUTED
        goal, charged, events = self._goal_of(campaign_id), mine & ~attributed, mine & attributed
        self._count(progress, rows[charged], rows[events], judgements[events], goal)

    def _count(
        self, progress: DayProgress, charged: np.ndarray, attributed: np.ndarray, judgements: np.ndarray, goal: int
    ) -> None:
        decisions = charged["decision"]
        probabilities = decisions["probability"].astype(np.float64)
        by_caller = (decisions["flags"] & FLAG_CALLER_PREDICTION) != 0
        progress.caller_events += float(probabilities[by_caller].sum())
        buckets = progress.buckets(decisions["issued_at_ms"])
        np.add.at(progress.own_events, buckets[~by_caller], probabilities[~by_caller])
        progress.own_total += float(probabilities[~by_caller].sum())
        told = attributed["decision"]
        counts_as = Goal.FANS if goal == Goal.KEPT_FANS else goal
        counted = (_GOAL_OF_KIND[attributed["kind"]] == counts_as) & ((told["flags"] & FLAG_CALLER_PREDICTION) == 0)
        # An event whose token names an impression of the day before belongs to that day.
        counted &= (told["issued_at_ms"] == 0) | (told["issued_at_ms"] >= progress.day_start_at_ms)
        worth = np.ones(int(counted.sum()))
        if goal == Goal.KEPT_FANS and self._kept_worth_of is not None and len(worth):
            worth = self._kept_worth_of(attributed[counted], judgements[counted])
        np.add.at(progress.observed_events, progress.buckets(attributed["occurred_at_ms"])[counted], worth)

    def estimate(self, campaign_id: int, day_key: int, now_ms: int, arrived_share: ArrivedShare) -> DayEstimate:
        """The campaign's day so far, and how well it will be known in the end.

        See `auction.trust` for how events that arrived correct predictions. The callers' predictions are theirs to
        calibrate, so they are taken as they are.
        """
        with self._lock:
            return self._estimate(campaign_id, day_key, now_ms, arrived_share)

    def _estimate(self, campaign_id: int, day_key: int, now_ms: int, arrived_share: ArrivedShare) -> DayEstimate:
        self._learn_finished(now_ms, arrived_share)
        progress = self._days.get(campaign_id)
        if progress is None or progress.day_key != day_key:
            return DayEstimate(0.0, 0.0, 1.0, self._trust.bias_sd)
        goal = Goal(self._goal_of(campaign_id) or Goal.FANS)
        running = int(progress.buckets(np.array([now_ms]))[0])
        arrivals = _arrivals(progress, running, now_ms, lambda ages_ms: arrived_share(goal, ages_ms))
        if running != progress.scanned_bucket:
            progress.scanned_bucket, progress.broke_at = running, self._trust.broke_at(arrivals)
        ratio = self._trust.ratio(arrivals, progress.broke_at)
        predicted = float(arrivals.predicted.sum())
        total, total_predicted = ratio.events + progress.caller_events, predicted + progress.caller_events
        own_part = ratio.events / total if total else 1.0
        present = ratio.present
        if total_predicted:
            present = (present * predicted + progress.caller_events) / total_predicted
        known = ratio.known_events + _still_to_come(arrivals, now_ms - progress.day_start_at_ms)
        return DayEstimate(total, total_predicted, present, own_part / math.sqrt(known))

    def estimates(
        self, campaign_ids: np.ndarray, day_keys: np.ndarray, now_ms: int, arrived_share: ArrivedShare
    ) -> np.ndarray:
        """`estimate` of many campaigns (u8[n], i8[n]): f8[n, 4], the fields of DayEstimate in their order.

        Of more than ESTIMATE_ALL that have bought something today, ESTIMATE_LIMIT are estimated anew, the longest ago
        first; to the last estimate of the others is added what they bought since, at the ratio that was thought then.
        """
        with self._lock:
            return self._estimates(campaign_ids, day_keys, now_ms, arrived_share)

    def _estimates(
        self, campaign_ids: np.ndarray, day_keys: np.ndarray, now_ms: int, arrived_share: ArrivedShare
    ) -> np.ndarray:
        self._learn_finished(now_ms, arrived_share)
        found = np.tile(np.array([0.0, 0.0, 1.0, self._trust.bias_sd]), (len(campaign_ids), 1))
        days, ids, keys = self._days, campaign_ids.tolist(), day_keys.tolist()
        bought = [k for k, i in enumerate(ids) if i in days and days[i].day_key == keys[k]]
        anew = bought
        if len(bought) > ESTIMATE_ALL:
            known_at_ms = np.array([days[ids[k]].known_at_ms for k in bought], np.int64)
            anew = np.array(bought)[np.argsort(known_at_ms, kind="stable")[:ESTIMATE_LIMIT]].tolist()
        for k in anew:
            day = days[ids[k]]
            estimate = self.estimate(ids[k], keys[k], now_ms, arrived_share)
            day.known, day.known_at_ms = (estimate, day.own_total, day.caller_events), now_ms
        if bought:
            found[bought] = [days[ids[k]].brought_forward(self._trust.bias_sd) for k in bought]
        return found

    def _learn_finished(self, now_ms: int, arrived_share: ArrivedShare) -> None:
        if now_ms >= self._forget_at_ms:
            self._forget_at_ms = now_ms + MS_PER_HOUR
            for campaign_id, day in list(self._days.items()):
                if day.day_start_at_ms < now_ms - _KEPT_MS:  # ended, or bought nothing since
                    self._finished.append((campaign_id, self._days.pop(campaign_id)))
        finished, self._finished = self._finished, []
        for campaign_id, day in finished:
            goal = Goal(self._goal_of(campaign_id) or Goal.FANS)
            ages_ms = now_ms - day.day_start_at_ms - BUCKET_MS * np.arange(_DAY_BUCKETS) - BUCKET_MS // 2
            shares = arrived_share(goal, np.maximum(ages_ms, 0))
            self._trust.learn(float((day.own_events * shares).sum()), float(day.observed_events.sum()))

    def state(self) -> dict[str, Any]:
        """Everything counted and learned, as JSON values."""
        with self._lock:
            days = {str(campaign_id): _saved(day) for campaign_id, day in self._days.items()}
            return {"trust": self._trust.state(), "days": days}

    def restore(self, state: Any) -> None:
        """Take up what `state` gave.

        Raises:
            ValueError: it is no such state; nothing changed.
        """
        if not isinstance(state, dict) or not isinstance(state.get("days"), dict):
            raise ValueError("progress: must be an object with days")
        days = {int(campaign_id): _day_from(saved) for campaign_id, saved in state["days"].items()}
        try:
            self._trust.restore(state["trust"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"trust: {type(error).__name__}: {error}") from None
        self._days = days

    def _day_of(self, campaign_id: int, at_ms: int) -> DayProgress | None:
        """The campaign's day at an instant, begun if it is a new one; None: it is over, and rows of it came late."""
        day_key, day_start_at_ms = self._day_start_of(campaign_id, at_ms)
        progress = self._days.get(campaign_id)
        if progress is not None and day_key < progress.day_key:
            return None
        if progress is None or day_key > progress.day_key:
            if progress is not None:
                self._finished.append((campaign_id, progress))
            progress = self._days[campaign_id] = DayProgress(day_key, day_start_at_ms)
        return progress


def _saved(day: DayProgress) -> dict[str, Any]:
    return {
        "day_key": day.day_key,
        "day_start_at_ms": day.day_start_at_ms,
        "caller_events": day.caller_events,
        "observed_events": day.observed_events.tolist(),
        "own_events": day.own_events.tolist(),
    }


def _day_from(saved: Any) -> DayProgress:
    """One campaign's day, as `Progress.state` wrote it.

    Raises:
        ValueError: it is no such thing.
    """
    try:
        columns = {name: np.array(saved[name], np.float64) for name in ("own_events", "observed_events")}
        names = ("day_key", "day_start_at_ms", "caller_events")
        day = DayProgress(**{name: _finite(name, saved[name]) for name in names}, **columns)  # type: ignore[arg-type]
        day.own_total = float(columns["own_events"].sum())
    except (KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"a campaign's day: {type(error).__name__}: {error}") from None
    for name, column in columns.items():
        if column.shape != (_DAY_BUCKETS,) or not np.isfinite(column).all():
            raise ValueError(f"{name}: must be {_DAY_BUCKETS} finite numbers")
    return day


def _finite(name: str, value: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} {value!r}: must be a finite number")
    return value


def _arrivals(
    progress: DayProgress, running: int, now_ms: int, arrived_share: Callable[[np.ndarray], np.ndarray]
) -> Arrivals:
    """The day up to its running bucket; impressions count from the middle of theirs."""
    own, observed = progress.own_events[: running + 1], progress.observed_events[: running + 1]
    middles_ms = progress.day_start_at_ms + BUCKET_MS * np.arange(running + 1) + BUCKET_MS // 2
    arrived = own * arrived_share(np.maximum(now_ms - middles_ms, 0))
    by_age = arrived_share(BUCKET_MS * np.arange(running + 1) + BUCKET_MS // 2)
    total = np.append(np.convolve(own, by_age)[:running], arrived.sum())
    return Arrivals(own, np.maximum(np.diff(total, prepend=0.0), 0.0), observed, arrived)


def _still_to_come(arrivals: Arrivals, elapsed_ms: int) -> float:
    """Events that may still arrive before the day ends, if it goes on as it went; none while too little was seen."""
    share = elapsed_ms / MS_PER_DAY
    if share < _TOLD_SHARE:
        return 0.0
    return float(arrivals.arrived.sum()) * max(1 / share - 1, 0.0)
