"""What each campaign has bought so far today, in events: the half of pacing's question that money does not answer."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pacing.clocks import MS_PER_MINUTE
from pacing.facts import FLAG_CALLER_PREDICTION, GOAL_OF_KIND, Goal, OutcomeKind, Verdict

BUCKET_MS = 10 * MS_PER_MINUTE
_DAY_BUCKETS = 26 * 6  # the longest local day

_GOAL_OF_KIND = np.zeros(256, np.uint8)
for _kind, _goal in GOAL_OF_KIND.items():
    _GOAL_OF_KIND[_kind] = _goal

ArrivedShare = Callable[[Goal, np.ndarray], np.ndarray]
"""Share of a goal's events (f8[n]) that have come when their impressions are this old (i8[n] ms)."""


@dataclass(slots=True)
class DayProgress:
    """One campaign's day.

    Attributes:
        caller_events: sum of the callers' own p over billed impressions.
        own_events: sum of the engine's p by time of day, f8[_DAY_BUCKETS] of BUCKET_MS each.
        observed_events: goal events attributed so far to impressions of the engine's own p.
    """

    day_key: int = 0
    day_start_at_ms: int = 0
    caller_events: float = 0.0
    observed_events: float = 0.0
    own_events: np.ndarray = field(default_factory=lambda: np.zeros(_DAY_BUCKETS))


@dataclass(frozen=True, slots=True)
class DayEstimate:
    """What a campaign's day is thought to have brought.

    Attributes:
        events: expected goal events of the impressions billed so far, in the light of what has arrived.
        relative_sd: how uncertain the engine's own part of them is, as a share of all.
    """

    events: float
    relative_sd: float


@dataclass(frozen=True, slots=True)
class Trust:
    """How far predictions are believed before their events arrive.

    Attributes:
        bias_sd: standard deviation of a campaign's ratio of true to predicted events, before anything was observed.
    """

    bias_sd: float = 0.15

    @property
    def pseudo_events(self) -> float:
        """As many arrived events say as much about the ratio as is known beforehand."""
        return 1.0 / (self.bias_sd * self.bias_sd)


class Progress:
    """Follows judged rows and estimates the goal events of each campaign's local day. One thread follows and reads."""

    def __init__(
        self,
        day_start_of: Callable[[int, int], tuple[int, int]],
        goal_of: Callable[[int], int],
        trust: Trust | None = None,
    ) -> None:
        """`day_start_of(campaign_id, at_ms)` answers (day_key, day_start_at_ms), `goal_of(campaign_id)` a goal or 0."""
        self._day_start_of = day_start_of
        self._goal_of = goal_of
        self._trust = trust or Trust()
        self._days: dict[int, DayProgress] = {}

    def follow(self, rows: np.ndarray, judgements: np.ndarray) -> None:
        """Count judged rows (OUTCOME[n], JUDGEMENT[n])."""
        charged = (rows["kind"] == OutcomeKind.BILLABLE) & (judgements["verdict"] == Verdict.CHARGED)
        attributed = judgements["verdict"] == Verdict.ATTRIBUTED
        relevant = charged | attributed
        for campaign_id in np.unique(judgements["campaign_id"][relevant]).tolist():
            mine = relevant & (judgements["campaign_id"] == campaign_id)
            # A batch rarely spans a day's turn; its last instant decides, and the day's first rows count once it
            # turned.
            progress = self._day_of(campaign_id, int(rows["recorded_at_ms"][mine][-1]))
            self._count(progress, rows[mine & charged], rows[mine & attributed], self._goal_of(campaign_id))

    def _count(self, progress: DayProgress, charged: np.ndarray, attributed: np.ndarray, goal: int) -> None:
        decisions = charged["decision"]
        probabilities = decisions["probability"].astype(np.float64)
        by_caller = (decisions["flags"] & FLAG_CALLER_PREDICTION) != 0
        progress.caller_events += float(probabilities[by_caller].sum())
        buckets = (decisions["issued_at_ms"] - progress.day_start_at_ms) // BUCKET_MS
        np.add.at(progress.own_events, np.clip(buckets, 0, _DAY_BUCKETS - 1)[~by_caller], probabilities[~by_caller])
        of_goal = _GOAL_OF_KIND[attributed["kind"]] == goal
        told_by_caller = (attributed["decision"]["flags"] & FLAG_CALLER_PREDICTION) != 0
        progress.observed_events += int((of_goal & ~told_by_caller).sum())

    def estimate(self, campaign_id: int, day_key: int, now_ms: int, arrived_share: ArrivedShare) -> DayEstimate:
        """The campaign's day so far.

        The ratio of true to predicted events has a Gamma prior of mean 1; arrived events update it (Gamma-Poisson). The
        callers' predictions are theirs to calibrate, so they are taken as they are.
        """
        progress = self._days.get(campaign_id)
        if progress is None or progress.day_key != day_key:
            return DayEstimate(0.0, self._trust.bias_sd)
        own = float(progress.own_events.sum())
        ages_ms = np.maximum(now_ms - progress.day_start_at_ms - BUCKET_MS * (np.arange(_DAY_BUCKETS) + 0.5), 0)
        goal = Goal(self._goal_of(campaign_id) or Goal.FANS)
        arrived = float((progress.own_events * arrived_share(goal, ages_ms.astype(np.int64))).sum())
        prior = self._trust.pseudo_events
        corrected = own * (prior + progress.observed_events) / (prior + arrived)
        total = corrected + progress.caller_events
        own_part = corrected / total if total else 1.0
        return DayEstimate(total, own_part / math.sqrt(prior + arrived))

    def state(self) -> dict[str, dict[str, object]]:
        """Everything counted, as JSON values."""
        return {
            str(campaign_id): {
                "day_key": day.day_key,
                "day_start_at_ms": day.day_start_at_ms,
                "caller_events": day.caller_events,
                "observed_events": day.observed_events,
                "own_events": day.own_events.tolist(),
            }
            for campaign_id, day in self._days.items()
        }

    def restore(self, state: Any) -> None:
        """Take up what `state` gave.

        Raises:
            ValueError: it is no such state; nothing changed.
        """
        if not isinstance(state, dict):
            raise ValueError(f"days: {type(state).__name__}; must be an object")
        self._days = {int(campaign_id): _day_from(saved) for campaign_id, saved in state.items()}

    def _day_of(self, campaign_id: int, at_ms: int) -> DayProgress:
        day_key, day_start_at_ms = self._day_start_of(campaign_id, at_ms)
        progress = self._days.get(campaign_id)
        if progress is None or day_key > progress.day_key:
            progress = self._days[campaign_id] = DayProgress(day_key, day_start_at_ms)
        return progress


def _day_from(saved: Any) -> DayProgress:
    """One campaign's day, as `Progress.state` wrote it.

    Raises:
        ValueError: it is no such thing.
    """
    try:
        own_events = np.array(saved["own_events"], np.float64)
        numbers = {name: saved[name] for name in ("day_key", "day_start_at_ms", "caller_events", "observed_events")}
        day = DayProgress(**{name: _finite(name, value) for name, value in numbers.items()}, own_events=own_events)  # type: ignore[arg-type]
    except (KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"a campaign's day: {type(error).__name__}: {error}") from None
    if day.own_events.shape != (_DAY_BUCKETS,) or not np.isfinite(day.own_events).all():
        raise ValueError(f"own_events: must be {_DAY_BUCKETS} finite numbers")
    return day


def _finite(name: str, value: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} {value!r}: must be a finite number")
    return value
