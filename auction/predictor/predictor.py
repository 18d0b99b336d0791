"""The predictor of goal events: one adPredictor table per goal, a calibration, and the pictures that bids are
computed from."""

from __future__ import annotations

import io
import threading
from collections.abc import Mapping
from pathlib import Path
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from auction.predictor.calibration import Calibration
from auction.predictor.features import (
    CAMPAIGN_KEYS,
    FEATURE_COUNT,
    GOAL_COUNT,
    LOSS_ROW,
    MOST_LOSS,
    NOISE_VARIANCE,
    PRIOR_SCORE_VARIANCE,
    PRIOR_VARIANCE,
    RISE_ROW,
    SCALES,
    SLOT_AVERAGE,
    SLOT_COLUMNS,
    SLOT_MEAN,
    SLOT_VARIANCE,
    TABLE_SIZE,
    Feature,
)
from auction.predictor.fit import Examples, fit
from auction.predictor.kernels import (
    Model,
    fill_campaign_keys,
    fill_campaign_sums,
    forget,
    hash_feature,
    predict_batch,
    train_batch,
)
from auction.predictor.settings import (
    INITIAL_RATES,
    LOSS_PRIOR_VARIANCE,
    RISE_PRIOR_VARIANCE,
    PredictorSettings,
    goal_row,
    goal_rows,
)
from pacing.array_state import arrays_from, check_like
from pacing.clocks import MS_PER_DAY
from pacing.durable import whole_file
from pacing.facts import EARLIER_LEVELS, Goal

_STATE_VERSION = 5
_BIAS_HASH = int(hash_feature(int(Feature.BIAS), np.uint64(0)))

_LEAST_LOSS = 0.001
_PRIOR_VARIANCES = np.full(GOAL_COUNT, PRIOR_VARIANCE, np.float32)
_PRIOR_VARIANCES[LOSS_ROW] = LOSS_PRIOR_VARIANCE
_PRIOR_VARIANCES[RISE_ROW] = RISE_PRIOR_VARIANCE


class EarlierDiscounts(NamedTuple):
    """What becomes of a probability when the viewer had impressions of the creator that day.

    Attributes:
        by_goal: f8[G, EARLIER_LEVELS], within 0..1, by goal row; of a probability for the viewers who answer best.
        means: f8[G], the same on average over the impressions that were learned from.
    """

    by_goal: np.ndarray
    means: np.ndarray


class Predictor:
    """Weights and calibration of all goals.

    Every method may be called from any thread: they take a lock. What `snapshot` returns is never written to again.
    """

    def __init__(self, settings: PredictorSettings | None = None) -> None:
        self.settings = settings or PredictorSettings()
        self.calibration = Calibration(self.settings.calibration)
        self._weights = np.zeros((GOAL_COUNT, TABLE_SIZE, SLOT_COLUMNS), np.float32)
        self._weights[:, :, SLOT_VARIANCE] = _PRIOR_VARIANCES[:, None]
        rates = {**INITIAL_RATES, **self.settings.initial_rates}
        rates[Goal.KEPT_FANS] = float(np.clip(1.0 - self.settings.kept_share, _LEAST_LOSS, MOST_LOSS))
        for row, rate in [(int(goal) - 1, rate) for goal, rate in rates.items()] + [
            (RISE_ROW, self.settings.rise_share)
        ]:
            # The marginal probability of a wholly unknown impression is the rate.
            variance = NOISE_VARIANCE + PRIOR_SCORE_VARIANCE / PRIOR_VARIANCE * _PRIOR_VARIANCES[row]
            score = NormalDist().inv_cdf(rate) * variance**0.5
            bias = self._weights[row, _BIAS_HASH & (TABLE_SIZE - 1)]
            bias[[SLOT_MEAN, SLOT_AVERAGE]] = score / SCALES[Feature.BIAS]
        self._biases = self._weights[:, _BIAS_HASH & (TABLE_SIZE - 1), SLOT_MEAN].astype(np.float64)
        self._lock = threading.Lock()
        self._published: np.ndarray | None = None
        self.trained = 0

    def predict(self, goal: int, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Uncalibrated probabilities f8[n] of rows of hashes u4[n, 16], and the relative spread that the weights'
        variance implies."""
        return self._predict(goal_row(goal), features)

    def predict_loss(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`predict` of a new fan being lost within 30 days, from the features of the impressions that gained them."""
        return self._predict(LOSS_ROW, features)

    def _predict(self, row: int, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        features = _rows_of_hashes(features)
        probabilities, spread = np.empty(len(features)), np.empty(len(features))
        with self._lock:
            predict_batch(self._weights[row], features, probabilities, spread)
        return probabilities, spread

    def predict_rise(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`predict` of a fan who is kept coming to be of a high tier within 30 days, likewise."""
        return self._predict(RISE_ROW, features)

    def kept_probability(self, campaign_ids: np.ndarray, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Probability that fans gained by these campaigns (u8[n]) are kept for 30 days, calibrated as in a bid, and its
        standard deviation: f8[n] each.

        Args:
            features: u4[n, 16], of the impressions that gained them.
        """
        lost, spread = self.predict_loss(features)
        lost = np.minimum(lost * self.loss_factors(campaign_ids), MOST_LOSS)
        return 1.0 - lost, lost * spread

    def loss_factors(self, campaign_ids: np.ndarray) -> np.ndarray:
        """What each campaign's probability of losing a fan is to be multiplied by, f8[C]."""
        with self._lock:
            return self.calibration.factors(Goal.KEPT_FANS, campaign_ids)

    def loss_factors_of(self, goals: np.ndarray, campaign_ids: np.ndarray) -> np.ndarray:
        """`loss_factors` of the campaigns (u1[C], u8[C]) that want kept fans, 0 of the others: f8[C]."""
        factors, keeps = np.zeros(len(campaign_ids)), np.flatnonzero(np.asarray(goals) == Goal.KEPT_FANS)
        if len(keeps):
            factors[keeps] = self.loss_factors(campaign_ids[keeps])
        return factors

    def rise_factors(self, campaign_ids: np.ndarray) -> np.ndarray:
        """What each campaign's probability that a kept fan rises is to be multiplied by, f8[C]."""
        with self._lock:
            return self.calibration.factors(RISE_ROW + 1, campaign_ids)

    def train(
        self,
        goal: int,
        features: np.ndarray,
        labels: np.ndarray,
        weights: np.ndarray | None = None,
        fake_negatives: bool = False,
    ) -> np.ndarray:
        """Learn rows in order; what `predict` would have said of each just before, f8[n].

        Args:
            goal: a `Goal`.
            features: u4[n, 16] hashes.
            labels: [n], above 0.5 is a positive.
            weights: [n], how much a row counts, within 0..100; default 1.
            fake_negatives: positives come as a second row of impressions that were told as negatives before.

        Raises:
            ValueError: shapes or values are out of range; nothing is learned then.
        """
        return self._train(goal_row(goal), features, labels, weights, fake_negatives)

    def count_fans(self, row: int, campaign_ids: np.ndarray, features: np.ndarray, happened: np.ndarray) -> None:
        """Calibrate by what became of fans; each is told once as nothing of the kind, and once more when it happens.

        Args:
            row: LOSS_ROW or RISE_ROW.
            campaign_ids: u8[n], that gained them.
            features: u4[n, 16], of the impressions that gained them.
            happened: bool[n].
        """
        probabilities, spread = self._predict(row, features)
        if row == RISE_ROW:
            probabilities *= self.kept_probability(campaign_ids, features)[0]
        none, told = np.zeros(len(features), np.uint8), ~happened
        self.count_expected(row + 1, campaign_ids[told], probabilities[told], spread[told], none[told])
        self.count_observed(row + 1, campaign_ids[happened], spread[happened], none[happened])

    def fit_fans(self, row: int, fans: Examples, prior_variances: np.ndarray) -> np.ndarray:
        """Learn what becomes of fans from all that are remembered, instead of what was learned before.

        Args:
            row: LOSS_ROW or RISE_ROW.
            fans: whether each is lost, or has risen, so far, and which share of that comes by its age; of rises, times
                the probability that the fan is kept.
            prior_variances: f8[16], by feature, as the last fit gave them; at first the row's own.

        Returns:
            The features' prior variances as they are now, f8[16].
        """
        with self._lock:
            start = self._weights[row, :, SLOT_MEAN].astype(np.float64)
        found = fit(fans, start, float(self._biases[row]), prior_variances, float(_PRIOR_VARIANCES[row]))
        with self._lock:
            table = self._weights[row]
            table[found.slots, SLOT_MEAN] = table[found.slots, SLOT_AVERAGE] = found.means
            table[found.slots, SLOT_VARIANCE] = found.variances
            self._published = None
            self.trained += len(fans.came)
        return found.prior_variances

    def _train(
        self, row: int, features: np.ndarray, labels: np.ndarray, weights: np.ndarray | None, fake_negatives: bool
    ) -> np.ndarray:
        features = _rows_of_hashes(features)
        n = len(features)
        labels = np.ascontiguousarray(labels, np.float64)
        weights = np.ones(n) if weights is None else np.ascontiguousarray(weights, np.float64)
        if labels.shape != (n,) or weights.shape != (n,):
            raise ValueError(f"labels {labels.shape}, weights {weights.shape}: not ({n},)")
        if not (np.isfinite(labels).all() and (weights >= 0).all() and (weights <= 100).all()):
            raise ValueError("labels: not finite, or weights: not in 0..100")
        probabilities = np.empty(n)
        with self._lock:
            train_batch(self._weights[row], features, labels, weights, fake_negatives, probabilities)
            self._published = None
            self.trained += n
        return probabilities

    def train_log(self, goal: int, features: np.ndarray, labels: np.ndarray) -> float:
        """Learn a log of impressions with settled labels, in order; the mean log-loss of predicting each before
        learning it.

        Raises:
            ValueError: as `train`.
        """
        p = np.clip(self.train(goal, features, labels), 1e-12, 1 - 1e-12)
        happened = np.asarray(labels) > 0.5
        return float(-np.mean(np.where(happened, np.log(p), np.log1p(-p)))) if len(p) else 0.0

    def forget(self, elapsed_ms: int) -> None:
        """Let what was learned grow uncertain for so long a time."""
        share = 1.0 - (1.0 - self.settings.forget_per_day) ** (max(elapsed_ms, 0) / MS_PER_DAY)
        with self._lock:
            for table, variance in zip(self._weights, _PRIOR_VARIANCES.tolist(), strict=True):
                forget(table, share, variance)
            self._published = None

    def snapshot(
        self,
        campaign_ids: np.ndarray,
        creator_ids: np.ndarray,
        creative_ids: np.ndarray,
        categories: np.ndarray,
        goals: np.ndarray,
        with_rises: bool = False,
    ) -> Model:
        """An immutable picture for C campaigns.

        Args:
            campaign_ids, creator_ids, creative_ids: u8[C].
            categories: [C], 0..63.
            goals: [C], numbers of `Goal`.
            with_rises: whether it can tell who rises; what bids without need not carry this.
        """
        count = len(campaign_ids)
        tables = GOAL_COUNT if with_rises else RISE_ROW
        keys = np.empty((count, CAMPAIGN_KEYS), np.uint32)
        sums = np.empty((count, 4, 2), np.float64)
        # Of all campaigns or of none: what bids for no kept fans need not carry this.
        loss_sums = np.empty((count if (np.asarray(goals) == Goal.KEPT_FANS).any() else 0, 4, 2), np.float64)
        rise_sums = np.empty((count if with_rises else 0, 4, 2), np.float64)
        rows = goal_rows(goals)
        category_column = np.ascontiguousarray(categories, np.int32)
        ids = [np.ascontiguousarray(column, np.uint64) for column in (campaign_ids, creator_ids, creative_ids)]
        with self._lock:
            if self._published is None or len(self._published) < tables:
                self._published = self._weights[:tables, :, : SLOT_VARIANCE + 1].copy()
            weights = self._published if len(self._published) == tables else self._published[:tables]
        fill_campaign_keys(ids[0], ids[1], ids[2], category_column, keys)
        fill_campaign_sums(weights, rows, keys, sums)
        fill_campaign_sums(weights, np.full(count, LOSS_ROW, np.int32), keys[: len(loss_sums)], loss_sums)
        fill_campaign_sums(weights, np.full(count, RISE_ROW, np.int32), keys[: len(rise_sums)], rise_sums)
        return Model(weights, keys, sums, category_column, loss_sums, rise_sums)

    def calibration_factors(self, goals: np.ndarray, campaign_ids: np.ndarray) -> np.ndarray:
        """What each campaign's probabilities are to be multiplied by, f8[C], before `earlier_discounts`; clip the
        product to 1. Of kept fans these are the factors of fans."""
        factors = np.ones(len(campaign_ids))
        with self._lock:
            for told in np.flatnonzero(np.bincount(goals)).tolist():
                goal, of_goal = goal_row(told) + 1, np.flatnonzero(goals == told)
                most = float(self.calibration.earlier_factors(goal).max())
                factors[of_goal] = self.calibration.factors(goal, campaign_ids[of_goal]) * most
        return factors

    def earlier_discounts(self) -> EarlierDiscounts:
        """What the viewer's earlier impressions of the creator take off, as far as is known."""
        by_goal, means = np.ones((GOAL_COUNT, EARLIER_LEVELS)), np.ones(GOAL_COUNT)
        with self._lock:
            for goal in set(_event_goals(np.array(Goal))):
                factors = self.calibration.earlier_factors(goal)
                discounts = factors / factors.max()
                expected = self.calibration.earlier_expected(goal)
                by_goal[goal_row(goal)] = discounts
                means[goal_row(goal)] = expected @ discounts / expected.sum() if expected.any() else discounts[0]
        return EarlierDiscounts(by_goal, means)

    def count_expected(
        self, goal: int, campaign_ids: np.ndarray, probabilities: np.ndarray, spread: np.ndarray, earlier: np.ndarray
    ) -> None:
        """Calibrate: see `Calibration.add_expected`."""
        with self._lock:
            self.calibration.add_expected(goal, campaign_ids, probabilities, spread, earlier)

    def count_observed(self, goal: int, campaign_ids: np.ndarray, spread: np.ndarray, earlier: np.ndarray) -> None:
        """Calibrate: see `Calibration.add_observed`."""
        with self._lock:
            self.calibration.add_observed(goal, campaign_ids, spread, earlier)

    def state(self) -> dict[str, np.ndarray]:
        """Everything learned, as arrays; only slots that were ever touched are held."""
        with self._lock:
            held = {f"calibration_{name}": values for name, values in self.calibration.state().items()}
            learned = self._weights[:, :, SLOT_VARIANCE] != _PRIOR_VARIANCES[:, None]
            goals, slots = np.nonzero(learned | (self._weights[:, :, SLOT_MEAN] != 0))
            return {
                "version": np.array(_STATE_VERSION),
                "table_size": np.array(TABLE_SIZE),
                "scales": SCALES.copy(),
                "goals": goals.astype(np.uint8),
                "slots": slots.astype(np.uint32),
                "weights": self._weights[goals, slots].copy(),
                "trained": np.array(self.trained),
                **held,
            }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take up what `state` gave.

        Raises:
            ValueError: another version, table size or set of features; nothing is changed then.
        """
        if int(state["version"]) != _STATE_VERSION or int(state["table_size"]) != TABLE_SIZE:
            raise ValueError(
                f"predictor state: version {int(state['version'])} with {int(state['table_size'])} slots, "
                f"not {_STATE_VERSION} with {TABLE_SIZE}"
            )
        if not np.array_equal(state["scales"], SCALES):
            raise ValueError("predictor state: made with other feature scales")
        goals, slots = state["goals"], state["slots"]
        if not len(goals) == len(slots) == len(state["weights"]):
            raise ValueError(
                f"predictor state: {len(goals)} goals, {len(slots)} slots, {len(state['weights'])} weights"
            )
        if len(goals) and (int(goals.max()) >= GOAL_COUNT or int(slots.max()) >= TABLE_SIZE):
            raise ValueError(f"predictor state: goal {goals.max()} or slot {slots.max()} is out of range")
        weights = state["weights"]
        if not np.isfinite(weights).all() or (weights[:, SLOT_VARIANCE] <= 0).any():
            raise ValueError("predictor state: a mean is not finite or a variance not positive")
        calibration = Calibration(self.settings.calibration)
        calibration.restore({name: state[f"calibration_{name}"] for name in ("goals", "keys", "sums", "earlier")})
        with self._lock:
            self._weights[:] = 0
            self._weights[:, :, SLOT_VARIANCE] = _PRIOR_VARIANCES[:, None]
            self._weights[goals, slots] = weights
            self.calibration, self._published = calibration, None
            self.trained = int(state["trained"])

    def save(self, path: Path) -> None:
        """Write the state to `path` (npz), whole or not at all."""
        write_state(path, self.state())

    def load(self, path: Path) -> None:
        """Take up what `save` wrote.

        Raises:
            ValueError: see `restore`; or the file is damaged.
            OSError: it cannot be read.
        """
        saved = arrays_from(path.read_bytes())
        check_like(saved, self.state())
        self.restore(saved)


def _event_goals(goals: np.ndarray) -> list[int]:
    """The goal whose events calibrate each: kept fans are predicted as fans."""
    return [goal_row(goal) + 1 for goal in goals.tolist()]


def write_state(path: Path, state: Mapping[str, np.ndarray]) -> None:
    """Write arrays to `path` (npz), whole or not at all: a crash leaves the old file."""
    body = io.BytesIO()
    np.savez(body, **dict(state))  # type: ignore[arg-type]
    with whole_file(path) as file:
        file.write(body.getbuffer())


def _rows_of_hashes(features: np.ndarray) -> np.ndarray:
    """`features` as contiguous u4[n, 16].

    Raises:
        ValueError: another shape.
    """
    rows = np.ascontiguousarray(features, np.uint32)
    if rows.ndim != 2 or rows.shape[1] != FEATURE_COUNT:
        raise ValueError(f"features {rows.shape}: not (n, {FEATURE_COUNT})")
    return rows
