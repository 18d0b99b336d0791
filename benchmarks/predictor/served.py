"""The shipped predictor as a server runs it: ledger rows in, step by step, and every impression predicted before
anything of its step is known."""

from __future__ import annotations

import numpy as np

from auction.learning import Learner
from auction.predictor.predictor import Predictor
from auction.predictor.settings import goal_row
from benchmarks.predictor.stream import Stream
from pacing.clocks import MS_PER_MINUTE
from pacing.facts import EARLIER_SHIFT, JUDGEMENT, MAX_FEATURES, OUTCOME, Goal, OutcomeKind, Verdict

LEAST_STEP_MS = 2 * MS_PER_MINUTE
_ROWS_A_STEP = 100


def serve_stream(stream: Stream, features: np.ndarray | None = None, step_ms: int | None = None) -> np.ndarray:
    """What was predicted of each impression when it was bid for, f8[n].

    Args:
        stream: what comes.
        features: u4[n, 16], in place of its own.
        step_ms: how often the learner is told; by default as often as there is something to tell.
    """
    hashes = stream.features if features is None else features
    learner = Learner(Predictor())
    ledger = _Ledger(stream, hashes)
    predicted = np.empty(len(stream))
    ids = stream.campaigns.ids
    goals = np.full(len(ids), int(Goal.FANS))
    first_ms = int(stream.at_ms[0])
    step_ms = step_ms or told_every_ms(stream)
    for low_ms in range(first_ms, int(stream.at_ms[-1]) + 1, step_ms):
        now_ms = low_ms + step_ms
        shown = slice(*np.searchsorted(stream.at_ms, [low_ms, now_ms]).tolist())
        raw, _ = learner.predictor.predict(int(Goal.FANS), hashes[shown])
        factors = learner.predictor.calibration_factors(goals, ids)
        discounts = learner.predictor.earlier_discounts().by_goal[goal_row(Goal.FANS)][stream.earlier[shown]]
        predicted[shown] = np.minimum(raw * factors[stream.campaign[shown]], 1.0) * discounts
        learner.learn(*ledger.told(shown, now_ms), now_ms)
    return predicted


def told_every_ms(stream: Stream) -> int:
    """How often the learner is told: a server does it every second, but to no use where nothing came meanwhile."""
    span_ms = int(stream.at_ms[-1] - stream.at_ms[0])
    return max(LEAST_STEP_MS, span_ms * _ROWS_A_STEP // len(stream))


class _Ledger:
    """The rows that a server's ledger would have, and what the judges would say of them."""

    def __init__(self, stream: Stream, features: np.ndarray) -> None:
        self._stream, self._features = stream, features
        came = np.flatnonzero(stream.labels)
        arrivals = stream.at_ms[came] + stream.delays_ms[came]
        order = np.argsort(arrivals, kind="stable")
        self._came, self._arrivals = came[order], arrivals[order]
        self._told = 0
        self._sequences = np.zeros(len(stream), np.int64)
        self._next = 1

    def told(self, shown: slice, now_ms: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows and judgements of the impressions `shown` and of every follow that has come by `now_ms`."""
        stream = self._stream
        until = int(np.searchsorted(self._arrivals, now_ms))
        events = self._came[self._told : until]
        count = shown.stop - shown.start
        rows, judged = np.zeros(count + len(events), OUTCOME), np.zeros(count + len(events), JUDGEMENT)
        rows["sequence"] = judged["sequence"] = self._next + np.arange(len(rows))
        billed, follows = rows[:count], rows[count:]
        billed["kind"], billed["occurred_at_ms"] = OutcomeKind.BILLABLE, stream.at_ms[shown]
        judged["verdict"][:count] = Verdict.CHARGED
        decisions = billed["decision"]
        decisions["campaign_id"] = stream.campaigns.ids[stream.campaign[shown]]
        decisions["feature_count"], decisions["features"] = MAX_FEATURES, self._features[shown]
        decisions["flags"] = stream.earlier[shown] << EARLIER_SHIFT
        self._sequences[shown] = billed["sequence"]
        follows["kind"], follows["occurred_at_ms"] = OutcomeKind.FOLLOW, self._arrivals[self._told : until]
        judged["verdict"][count:] = Verdict.ATTRIBUTED
        judged["billed_sequence"][count:] = self._sequences[events]
        judged["campaign_id"][count:] = stream.campaigns.ids[stream.campaign[events]]
        self._next += len(rows)
        self._told = until
        return rows, judged
