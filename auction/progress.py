"""What each campaign has bought so far today, in events: the half of pacing's question that money does not answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pacing.facts import GOAL_OF_KIND, OutcomeKind, Verdict

_GOAL_OF_KIND = np.zeros(256, np.uint8)
for _kind, _goal in GOAL_OF_KIND.items():
    _GOAL_OF_KIND[_kind] = _goal


@dataclass(slots=True)
class DayProgress:
    """One campaign's day: expected events (sum of p over billed impressions) and observed goal events."""

    day_key: int = 0
    expected_events: float = 0.0
    observed_events: float = 0.0


class Progress:
    """Follows judged rows and counts expected and observed goal events of each campaign's local day.

    One thread follows and reads.
    """

    def __init__(self, day_key_of: Callable[[int, int], int], goal_of: Callable[[int], int]) -> None:
        """`day_key_of(campaign_id, at_ms)` and `goal_of(campaign_id)` say how each campaign counts; 0: it is not known."""
        self._day_key_of = day_key_of
        self._goal_of = goal_of
        self._days: dict[int, DayProgress] = {}

    def follow(self, rows: np.ndarray, judgements: np.ndarray) -> None:
        """Count judged rows (OUTCOME[n], JUDGEMENT[n])."""
        charged = (rows["kind"] == OutcomeKind.BILLABLE) & (judgements["verdict"] == Verdict.CHARGED)
        attributed = judgements["verdict"] == Verdict.ATTRIBUTED
        relevant = charged | attributed
        for campaign_id in np.unique(judgements["campaign_id"][relevant]).tolist():
            mine = relevant & (judgements["campaign_id"] == campaign_id)
            goal = self._goal_of(campaign_id)
            days = rows["recorded_at_ms"][mine]
            # A batch rarely spans a day's turn; its last instant decides, and the day's first rows count once it turned.
            progress = self._day_of(campaign_id, int(days[-1]))
            progress.expected_events += float(rows["decision"]["probability"][mine & charged].sum())
            progress.observed_events += int((_GOAL_OF_KIND[rows["kind"][mine & attributed]] == goal).sum())

    def of(self, campaign_id: int, day_key: int) -> tuple[float, float]:
        """(expected, observed) events of that day; zeros when nothing happened yet."""
        progress = self._days.get(campaign_id)
        if progress is None or progress.day_key != day_key:
            return 0.0, 0.0
        return progress.expected_events, progress.observed_events

    def state(self) -> dict[str, list[float]]:
        """Everything counted, as JSON values."""
        return {
            str(campaign_id): [day.day_key, day.expected_events, day.observed_events]
            for campaign_id, day in self._days.items()
        }

    def restore(self, state: dict[str, list[float]]) -> None:
        """Take up what `state` gave."""
        self._days = {
            int(campaign_id): DayProgress(int(day_key), float(expected), float(observed))
            for campaign_id, (day_key, expected, observed) in state.items()
        }

    def _day_of(self, campaign_id: int, at_ms: int) -> DayProgress:
        progress = self._days.setdefault(campaign_id, DayProgress())
        day_key = self._day_key_of(campaign_id, at_ms)
        if day_key > progress.day_key:
            progress.day_key, progress.expected_events, progress.observed_events = day_key, 0.0, 0.0
        return progress
