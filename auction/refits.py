"""When what becomes of fans is learned anew, from all that are remembered: once enough of it is new."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from auction.predictor.delay import DelayCurve
from auction.predictor.features import FEATURE_COUNT
from auction.predictor.fit import Examples
from auction.predictor.predictor import Predictor
from auction.predictor.waiting.waiting import WaitingRoom

Possible = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Of fans gained by campaigns (u8[n]) through impressions with these features (u4[n, 16]): probability f8[n]."""
_NEW_SHARE = 0.02  # of the fans; so much must be new for them to be learned from anew


class Refits:
    """Fits one row of a predictor, and keeps what the last fit found of its features. One thread at a time."""

    def __init__(self, predictor: Predictor, row: int, prior_variance: float, possible: Possible | None = None) -> None:
        """Start with nothing new; `row` and its `prior_variance` are as in `Predictor.fit_fans`. What is fitted happens
        only to those to whom it is `possible`, by default all."""
        self._possible = possible
        self._predictor = predictor
        self._row = row
        self._told_since = 0  # fans, and what became of some, since the last fit
        self._prior_variances = np.full(FEATURE_COUNT, prior_variance)

    def told(self, count: int) -> None:
        """So many fans are new, or something became of them."""
        self._told_since += count

    def fit_if_due(self, room: WaitingRoom, came: np.ndarray, curve: DelayCurve, keep_ms: int, now_ms: int) -> None:
        """Fit the row to all fans of a room, if enough became known of them since the last time.

        Args:
            came: b1[capacity], by slot: whether the fan has been lost, or has risen, so far.
            curve: of how late that comes.
            keep_ms: the age from which on it counts no more.
        """
        n = len(room)
        if self._told_since < _NEW_SHARE * n:
            return
        ages_ms = np.clip(now_ms - room.at_ms[:n], 0, keep_ms)
        arrived = curve.arrived_share(ages_ms)
        if self._possible is not None:  # it has come by now with probability p F, if it can come at all
            arrived = arrived * self._possible(room.campaign_ids[:n], room.features[:n])
        fans = Examples(room.features[:n], came[:n], arrived)
        self._prior_variances = self._predictor.fit_fans(self._row, fans, self._prior_variances)
        self._told_since = 0

    def state(self) -> dict[str, np.ndarray]:
        """Everything held, as arrays."""
        return {"told_since": np.array(self._told_since), "prior_variances": self._prior_variances.copy()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take up what `state` gave.

        Raises:
            ValueError: it is of other features, or out of range; nothing is changed then.
        """
        told_since, variances = int(state["told_since"]), state["prior_variances"]
        if variances.shape != self._prior_variances.shape:
            raise ValueError(f"{len(variances)} prior variances of {len(self._prior_variances)} features")
        if not (np.isfinite(variances) & (variances > 0)).all():
            raise ValueError("a prior variance is not positive")
        if told_since < 0:
            raise ValueError(f"told_since {told_since}: below 0")
        self._told_since, self._prior_variances = told_since, variances.copy()
