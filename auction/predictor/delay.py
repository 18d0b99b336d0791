"""How late events come: a distribution over delays, learned while most of the late ones are still to come."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

from pacing.clocks import MS_PER_DAY, MS_PER_HOUR, MS_PER_MINUTE, MS_PER_SECOND
from pacing.facts import Goal
from pacing.ledger.owners import SEQUENCE_MASK, owners_of

LONGEST_DELAY_MS = 7 * MS_PER_DAY
_BIN_COUNT = 40
_EDGES_MS = np.concatenate([[0.0], np.geomspace(MS_PER_SECOND, LONGEST_DELAY_MS, _BIN_COUNT)])
_BUCKET_MS = 10 * MS_PER_SECOND
_PRIOR_SIGMA = 1.8
_GOLDEN = 0.6180339887498949
_SILVER = 0.4142135623730951

PRIOR_MEDIANS_MS = {
    Goal.PLAYS: 5 * MS_PER_SECOND,
    Goal.FANS: 8 * MS_PER_MINUTE,
    Goal.PROFILE_VISITS: 30 * MS_PER_SECOND,
    Goal.PRODUCT_CLICKS: MS_PER_MINUTE,
    Goal.LIVE_VISITS: 5 * MS_PER_MINUTE,
    Goal.ORDERS: MS_PER_HOUR,
}
"""What is believed of each goal before the first event."""


def remaining_probability(probability: float | np.ndarray, arrived_share: float | np.ndarray) -> float | np.ndarray:
    """Probability that an impression without an event so far still brings one: p (1 - F) / (1 - p F).

    Args:
        probability: p, that it brings one at all.
        arrived_share: F at the impression's age.
    """
    return probability * (1.0 - arrived_share) / (1.0 - probability * arrived_share)


def delay_draws(sequences: np.ndarray) -> np.ndarray:
    """A number for each row, f8[n], whose fraction is a low-discrepancy draw: over any stretch of a ledger's rows,
    delays are as evenly spread as their distribution allows. A double would round an owner's sequences to nothing."""
    own = (sequences & np.uint64(SEQUENCE_MASK)).astype(np.float64)
    return own * _GOLDEN + owners_of(sequences).astype(np.float64) * _SILVER


class DelayCurve:
    """Distribution of the delay from impression to event, of one goal; or from a fan's gain to its loss.

    Young impressions have had no time for late events, so observed delays alone look too short. Here the rate of
    each bin of age is its events over the expected events of those impressions only that have reached the bin, half of
    them where they have not passed it (a Poisson occurrence/exposure rate), and F is the normalised running sum. Were
    only those counted that are older, the first events of a bin would find nobody exposed, and look like a great rate.
    One thread at a time.

    Args:
        median_ms: median of the log-normal prior.
        strength: events that the prior counts for.
        edges_ms: f8[41], ascending from 0, of the bins of age; no event comes later than the last one.

    Raises:
        ValueError: one of them is out of range.
    """

    def __init__(self, median_ms: float, strength: float = 5.0, edges_ms: np.ndarray = _EDGES_MS) -> None:
        if median_ms <= 0 or strength <= 0:
            raise ValueError(f"median_ms {median_ms}, strength {strength}: not positive")
        if edges_ms.shape != (_BIN_COUNT + 1,) or edges_ms[0] != 0 or (np.diff(edges_ms) <= 0).any():
            raise ValueError(f"edges_ms {edges_ms.shape}: not {_BIN_COUNT + 1} ascending numbers from 0")
        self._edges_ms = edges_ms
        prior = np.array(
            [NormalDist(np.log(median_ms), _PRIOR_SIGMA).cdf(float(np.log(edge))) for edge in self._edges_ms[1:]]
        )
        prior /= prior[-1]
        self._prior = np.diff(prior, prepend=0.0)
        self._strength = strength
        self._events = np.zeros(_BIN_COUNT)
        self._exposed = np.zeros(_BIN_COUNT)  # of impressions that have reached each bin
        # Expected events by the time of their impression, oldest first, and how far each bin has counted them.
        self._bucket_at_ms: list[int] = []
        self._bucket_mass: list[float] = []
        self._counted = np.zeros(_BIN_COUNT, np.int64)
        self._cumulative = prior

    def add_impressions(self, at_ms: int, expected_events: float) -> None:
        """Impressions of about this instant and the sum of their probabilities."""
        bucket = at_ms - at_ms % _BUCKET_MS
        if self._bucket_at_ms and self._bucket_at_ms[-1] >= bucket:
            self._bucket_mass[-1] += expected_events
        else:
            self._bucket_at_ms.append(bucket)
            self._bucket_mass.append(expected_events)

    def add_events(self, delays_ms: np.ndarray) -> None:
        """Events that came this long after their impressions, i8[n]."""
        bins = np.searchsorted(self._edges_ms, np.clip(delays_ms, 0, self._edges_ms[-1] - 1), side="right") - 1
        np.add.at(self._events, np.clip(bins, 0, _BIN_COUNT - 1), 1.0)

    def refresh(self, now_ms: int) -> None:
        """Count impressions that have outgrown further bins, and publish the curve."""
        times = np.array(self._bucket_at_ms, np.int64)
        masses = np.array(self._bucket_mass, np.float64)
        # The newest bucket may still grow, so no bin counts it yet.
        last_ms = now_ms - now_ms % _BUCKET_MS
        reached = np.searchsorted(times, np.minimum(now_ms - self._edges_ms[:-1], last_ms - 1), side="right")
        reached = np.maximum(reached, self._counted)
        running = np.concatenate([[0.0], np.cumsum(masses)])
        self._exposed += running[reached] - running[self._counted]
        self._counted = reached
        done = int(reached.min()) if len(reached) else 0
        if done:
            del self._bucket_at_ms[:done], self._bucket_mass[:done]
            self._counted = reached - done
        # Old evidence fades once there is plenty, so that the curve may change.
        if self._events.sum() > 20_000:
            self._events *= 0.5
            self._exposed *= 0.5
        exposed = 0.5 * (self._exposed + np.append(self._exposed[1:], self._exposed[-1]))
        rates = (self._events + self._strength * self._prior) / (exposed + self._strength)
        self._cumulative = np.cumsum(rates) / rates.sum()

    def arrived_share(self, ages_ms: np.ndarray) -> np.ndarray:
        """F at each age: the share of events that have come by then (f8[n])."""
        return np.interp(ages_ms, self._edges_ms, np.concatenate([[0.0], self._cumulative]))

    def delays_at(self, shares: np.ndarray) -> np.ndarray:
        """The delay by which each share (f8[n], 0..1) of events has come, i8[n] ms."""
        return np.interp(shares, np.concatenate([[0.0], self._cumulative]), self._edges_ms).astype(np.int64)

    def state(self) -> dict[str, np.ndarray]:
        """Everything held, as arrays."""
        return {
            "events": self._events.copy(),
            "exposed": self._exposed.copy(),
            "bucket_at_ms": np.array(self._bucket_at_ms, np.int64),
            "bucket_mass": np.array(self._bucket_mass, np.float64),
            "counted": self._counted.copy(),
            "cumulative": self._cumulative.copy(),
        }

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Take up what `state` gave.

        Raises:
            ValueError: shapes do not fit; nothing is changed then.
        """
        for name in ("events", "exposed", "counted", "cumulative"):
            if state[name].shape != (_BIN_COUNT,):
                raise ValueError(f"delay curve: {name} has shape {state[name].shape}, not ({_BIN_COUNT},)")
        if len(state["bucket_at_ms"]) != len(state["bucket_mass"]):
            raise ValueError(f"delay curve: {len(state['bucket_at_ms'])} instants, {len(state['bucket_mass'])} masses")
        buckets, counted = len(state["bucket_mass"]), state["counted"]
        if not 0 <= counted.min() <= counted.max() <= buckets:
            raise ValueError(f"delay curve: counted {counted.min()}..{counted.max()}; not in 0..{buckets}")
        for name in ("events", "exposed", "cumulative", "bucket_mass"):
            if not np.isfinite(state[name]).all():
                raise ValueError(f"delay curve: {name} is not finite")
        self._events = state["events"].astype(np.float64)
        self._exposed = state["exposed"].astype(np.float64)
        self._counted = state["counted"].astype(np.int64)
        self._cumulative = state["cumulative"].astype(np.float64)
        self._bucket_at_ms = [int(at_ms) for at_ms in state["bucket_at_ms"]]
        self._bucket_mass = [float(mass) for mass in state["bucket_mass"]]
