"""The learning follower: judged ledger rows become labels, labels become weights, calibration and delay curves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from auction.kept_fans import GainedFans, KeptFans
from auction.landscape.landscape import LandscapeLearner
from auction.predictor.delay import PRIOR_MEDIANS_MS, DelayCurve, delay_draws
from auction.predictor.predictor import Predictor, write_state
from auction.predictor.waiting.waiting import Released, WaitingRoom
from pacing.array_state import arrays_from, check_like
from pacing.clocks import MS_PER_DAY, MS_PER_HOUR, MS_PER_MINUTE
from pacing.facts import (
    FLAG_CALLER_PREDICTION,
    GOAL_OF_KIND,
    MAX_FEATURES,
    Goal,
    OutcomeKind,
    Verdict,
    earlier_of,
)
from pacing.ledger.owners import Positions

__all__ = ["LandscapeLearner", "Learner"]

LEARNED_GOALS = tuple(sorted(set(GOAL_OF_KIND.values())))
"""Every goal that has an event of its own; each billed impression teaches all of them."""

_STATE_VERSION = 9
_CURVE_PERIOD_MS = MS_PER_MINUTE
_FORGET_PERIOD_MS = MS_PER_HOUR


class _Lessons(NamedTuple):
    """n examples of one goal: when i8[n], campaign_ids u8[n], features u4[n, 16], earlier impressions u1[n], labels
    f8[n]."""

    goal: Goal
    at_ms: np.ndarray
    campaign_ids: np.ndarray
    features: np.ndarray
    earlier: np.ndarray
    labels: np.ndarray


class Learner:
    """Trains a predictor from billed impressions and the events attributed to them.

    Every charged impression is told once as a (fake) negative of each goal and once more as a positive of the goal
    whose event comes. A negative is told only when a delay drawn from the goal's own delay curve has passed: then,
    whatever the time of day, positives and negatives told so far stand for the same impressions, and late events do
    not bias young campaigns. Delays are drawn from the row's sequence, so the same ledger teaches the same weights.

    Impressions whose probability came from the caller teach nothing. One thread at a time; the predictor has its own
    lock.

    Attributes:
        kept_fans: what becomes of the fans that were gained.
        missed: events whose impression was no longer remembered.
    """

    def __init__(self, predictor: Predictor, capacity: int = 2**18, fan_day_ms: int = MS_PER_DAY) -> None:
        self.predictor = predictor
        self.kept_fans = KeptFans(predictor, fan_day_ms)
        self.missed = 0
        self._room = WaitingRoom(capacity)
        self._curves = {goal: DelayCurve(PRIOR_MEDIANS_MS[goal]) for goal in LEARNED_GOALS}
        self._curves_at_ms = 0
        self._forgot_at_ms = 0

    def learn(self, rows: np.ndarray, judgements: np.ndarray, now_ms: int) -> None:
        """Learn from OUTCOME[n] and their JUDGEMENT[n], in ledger order, and from whatever waited until `now_ms`.

        Raises:
            ValueError: the two are not about the same rows; nothing is learned then.
        """
        if len(rows) != len(judgements) or (rows["sequence"] != judgements["sequence"]).any():
            raise ValueError(f"rows {len(rows)}, judgements {len(judgements)}: not the same sequences")
        decisions = rows["decision"]
        useful = (decisions["feature_count"] == MAX_FEATURES) & (decisions["flags"] & FLAG_CALLER_PREDICTION == 0)
        billed = (rows["kind"] == OutcomeKind.BILLABLE) & (judgements["verdict"] == Verdict.CHARGED) & useful
        lessons: list[_Lessons] = []
        for part in _parts(rows[billed], self._room.capacity):
            lessons += self._take_impressions(part, now_ms)
        lessons += self._negatives(self._room.release_due(now_ms))
        counted = judgements["verdict"] == Verdict.ATTRIBUTED
        for kind, goal in GOAL_OF_KIND.items():
            chosen = counted & (rows["kind"] == kind)
            if chosen.any():
                lessons.append(self._positives(goal, rows[chosen], judgements[chosen]))
        self._teach(lessons)
        self._follow_fans(rows[counted], judgements[counted], now_ms)
        self._keep_time(now_ms)

    def tick(self, now_ms: int) -> None:
        """Learn from what waited until `now_ms`."""
        self._teach(self._negatives(self._room.release_due(now_ms)))
        self.kept_fans.tick(now_ms)
        self._keep_time(now_ms)

    def _take_impressions(self, rows: np.ndarray, now_ms: int) -> list[_Lessons]:
        """Let impressions wait; those that make room for them are negatives now."""
        displaced = self._negatives(self._room.make_room(len(rows), now_ms))
        features, at_ms = rows["decision"]["features"], rows["occurred_at_ms"]
        due_ms = np.empty((len(rows), len(LEARNED_GOALS)), np.int64)
        draws = delay_draws(rows["sequence"])
        latest_ms = int(at_ms.max()) if len(rows) else 0
        for column, goal in enumerate(LEARNED_GOALS):
            curve = self._curves[goal]
            probabilities, _ = self.predictor.predict(goal, features)
            curve.add_impressions(latest_ms, float(probabilities.sum()))
            due_ms[:, column] = at_ms + curve.delays_at(np.modf(draws + 0.17 * column)[0])
        campaign_ids = rows["decision"]["campaign_id"]
        earlier, goals = earlier_of(rows["decision"]), np.array(LEARNED_GOALS)
        self._room.add(rows["sequence"], campaign_ids, at_ms, features, earlier, goals, due_ms)
        return displaced

    def _negatives(self, released: Released) -> list[_Lessons]:
        """Impressions whose wait is over."""
        lessons = []
        for goal in LEARNED_GOALS:
            chosen = released.goals == goal
            if chosen.any():
                slots = released.slots[chosen]
                room = self._room
                columns = room.campaign_ids[slots], room.features[slots], room.earlier[slots]
                lessons.append(_Lessons(goal, released.due_ms[chosen], *columns, np.zeros(len(slots))))
        return lessons

    def _positives(self, goal: Goal, rows: np.ndarray, judgements: np.ndarray) -> _Lessons:
        """Impressions whose goal event came."""
        sequences = judgements["billed_sequence"].tolist()
        found = np.array([self._room.slot_of(sequence) for sequence in sequences], np.int64)
        remembered = found >= 0
        slots = found[remembered]
        delays_ms = rows["occurred_at_ms"][remembered] - self._room.at_ms[slots]
        self._curves[goal].add_events(np.maximum(delays_ms, 0))
        told = ~remembered & _tells_features(rows["decision"], judgements)
        self.missed += int((~remembered & ~told & _is_own(rows["decision"], judgements)).sum())
        at_ms = np.concatenate([rows["occurred_at_ms"][remembered], rows["occurred_at_ms"][told]])
        campaign_ids = np.concatenate([self._room.campaign_ids[slots], judgements["campaign_id"][told]])
        features = np.concatenate([self._room.features[slots], rows["decision"]["features"][told]])
        earlier = np.concatenate([self._room.earlier[slots], earlier_of(rows["decision"][told])])
        return _Lessons(goal, at_ms, campaign_ids, features, earlier, np.ones(len(features)))

    def _follow_fans(self, rows: np.ndarray, judgements: np.ndarray, now_ms: int) -> None:
        """Fans who were gained or lost, of attributed rows; gained first, as they are in the life of every fan."""
        follows, unfollows = rows["kind"] == OutcomeKind.FOLLOW, rows["kind"] == OutcomeKind.UNFOLLOW
        if follows.any():
            self.kept_fans.gained(self._gained(rows[follows], judgements[follows]), now_ms)
        if unfollows.any():
            self.kept_fans.left(judgements["billed_sequence"][unfollows], rows["occurred_at_ms"][unfollows])
        self.kept_fans.tick(now_ms)

    def _gained(self, rows: np.ndarray, judgements: np.ndarray) -> GainedFans:
        """New fans whose impression is remembered or told."""
        decisions = rows["decision"]
        slots = np.array(
            [self._room.slot_of(sequence) for sequence in judgements["billed_sequence"].tolist()], np.int64
        )
        remembered = slots >= 0
        known = remembered | _has_features(decisions, judgements)  # how long fans stay, no caller foretold
        features = np.where(remembered[:, None], self._room.features[slots], decisions["features"])
        ids = [np.where(rows[name] == 0, decisions[name], rows[name]) for name in ("viewer_id", "creator_id")]
        columns = (judgements["billed_sequence"], *ids, judgements["campaign_id"], rows["occurred_at_ms"], features)
        return GainedFans(*(np.ascontiguousarray(column[known]) for column in columns))

    def kept_worths(self, rows: np.ndarray, judgements: np.ndarray) -> np.ndarray:
        """How likely each new fan of attributed follows (OUTCOME[n], JUDGEMENT[n]) is kept: f8[n]; on average of those
        whose impression is remembered, for the others."""
        fans = self._gained(rows, judgements)
        if not len(fans.sequences):
            return np.full(len(rows), self.predictor.settings.kept_share)
        kept, _ = self.predictor.kept_probability(fans.campaign_ids, fans.features)
        by_sequence = dict(zip(fans.sequences.tolist(), kept.tolist(), strict=True))
        mean = float(kept.mean())
        return np.array([by_sequence.get(sequence, mean) for sequence in judgements["billed_sequence"].tolist()])

    def _teach(self, lessons: list[_Lessons]) -> None:
        """Train each goal in the order of time: a run of negatives before their positives would swing the weights."""
        for goal in LEARNED_GOALS:
            parts = [part for part in lessons if part.goal is goal]
            at_ms = np.concatenate([part.at_ms for part in parts]) if parts else np.zeros(0, np.int64)
            if not len(at_ms):
                continue
            order = np.argsort(at_ms, kind="stable")
            campaign_ids = np.concatenate([part.campaign_ids for part in parts])[order]
            features = np.concatenate([part.features for part in parts])[order]
            earlier = np.concatenate([part.earlier for part in parts])[order]
            labels = np.concatenate([part.labels for part in parts])[order]
            probabilities, spread = self.predictor.predict(goal, features)
            negative = labels < 0.5
            self.predictor.count_expected(
                goal, campaign_ids[negative], probabilities[negative], spread[negative], earlier[negative]
            )
            self.predictor.count_observed(goal, campaign_ids[~negative], spread[~negative], earlier[~negative])
            self.predictor.train(goal, features, labels, fake_negatives=True)

    def _keep_time(self, now_ms: int) -> None:
        """Publish delay curves every minute, and forget a little every hour."""
        if now_ms - self._curves_at_ms >= _CURVE_PERIOD_MS:
            self._curves_at_ms = now_ms
            for curve in self._curves.values():
                curve.refresh(now_ms)
        if not self._forgot_at_ms:
            self._forgot_at_ms = now_ms
        elif now_ms - self._forgot_at_ms >= _FORGET_PERIOD_MS:
            self.predictor.forget(now_ms - self._forgot_at_ms)
            self._forgot_at_ms = now_ms

    def arrived_share(self, goal: Goal, ages_ms: np.ndarray) -> np.ndarray:
        """Share of the goal's events (f8[n]) that have come when impressions are this old (i8[n] ms)."""
        return self._curves[Goal.FANS if goal is Goal.KEPT_FANS else goal].arrived_share(ages_ms)

    def save(self, path: Path, positions: Positions) -> None:
        """Write everything learned, and the positions in the ledgers that it is true at, to `path` (npz), whole or not
        at all."""
        write_state(path, self._state(positions))

    def _state(self, positions: Positions) -> dict[str, np.ndarray]:
        state = {
            "learner_version": np.array(_STATE_VERSION),
            "positions": positions.packed(),
            "missed": np.array(self.missed),
            "times_ms": np.array([self._curves_at_ms, self._forgot_at_ms], np.int64),
            **_prefixed("predictor", self.predictor.state()),
            **_prefixed("room", self._room.state()),
            **_prefixed("fans", self.kept_fans.state()),
        }
        for goal, curve in self._curves.items():
            state.update(_prefixed(f"curve{int(goal)}", curve.state()))
        return state

    def load(self, path: Path) -> Positions:
        """Take up what `save` wrote; the positions to go on from.

        Raises:
            ValueError: another version, capacity or set of features, or a damaged file; nothing is changed then.
            OSError: the file cannot be read.
        """
        return self.restore(read_learned(path))

    def restore(self, saved: Mapping[str, np.ndarray]) -> Positions:
        """Take up what `read_learned` found; the positions to go on from. The arrays are this learner's from now on.

        Raises:
            ValueError: as `load`.
        """
        if "learner_version" not in saved or saved["learner_version"].tolist() != _STATE_VERSION:
            raise ValueError(f"not a learner's state of version {_STATE_VERSION}")
        check_like(saved, self._state(Positions()))
        positions = Positions.unpacked(saved["positions"])
        room = WaitingRoom(self._room.capacity)
        room.restore(_without_prefix("room", saved))
        curves = {goal: DelayCurve(PRIOR_MEDIANS_MS[goal]) for goal in LEARNED_GOALS}
        for goal, curve in curves.items():
            curve.restore(_without_prefix(f"curve{int(goal)}", saved))
        curves_at_ms, forgot_at_ms = saved["times_ms"].tolist()
        self.kept_fans.restore(_without_prefix("fans", saved))
        self.predictor.restore(_without_prefix("predictor", saved))
        self._room, self._curves = room, curves
        self.missed = int(saved["missed"])
        self._curves_at_ms, self._forgot_at_ms = curves_at_ms, forgot_at_ms
        return positions


def read_learned(path: Path) -> dict[str, np.ndarray]:
    """The arrays that `Learner.save` wrote.

    Raises:
        ValueError: the file is damaged.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return arrays_from(file)


def _is_own(decisions: np.ndarray, judgements: np.ndarray) -> np.ndarray:
    """Whether the event may count for the engine's own prediction: False where its token says that the caller
    predicted."""
    return (decisions["flags"] & FLAG_CALLER_PREDICTION == 0) & (judgements["billed_sequence"] > 0)


def _tells_features(decisions: np.ndarray, judgements: np.ndarray) -> np.ndarray:
    """`_has_features`, where the engine itself predicted."""
    return _has_features(decisions, judgements) & _is_own(decisions, judgements)


def _has_features(decisions: np.ndarray, judgements: np.ndarray) -> np.ndarray:
    """Whether an event's own token is that of the impression which explains it, with features to learn from."""
    same = (decisions["lease_id"] == judgements["lease_id"]) & (decisions["hold_seq"] == judgements["hold_seq"])
    return same & (decisions["feature_count"] == MAX_FEATURES)


def _parts(rows: np.ndarray, most: int) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), most):
        yield rows[start : start + most]


def _prefixed(prefix: str, state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {f"{prefix}.{name}": values for name, values in state.items()}


def _without_prefix(prefix: str, saved: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    start = prefix + "."
    return {name.removeprefix(start): saved[name] for name in saved if name.startswith(start)}
