"""What the predictor's kernels mean, feature by feature with dictionaries and whole numbers. Used by tests only."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import NormalDist

from auction.predictor.features import NOISE_VARIANCE, PRIOR_SD, PRIOR_VARIANCE

_WORD = 2**64


def tail_cdf(x: float) -> float:
    """Phi(x), precise far below 0 too, where `NormalDist.cdf` is not."""
    return math.erfc(-x / 2**0.5) / 2


def hash_code(salt: int, code: int) -> int:
    """The upper half of splitmix64's finaliser over a salted code."""
    h = code ^ ((salt + 1) << 56) % _WORD
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        h = (h ^ (h >> shift)) * factor % _WORD
    return (h ^ (h >> 31)) >> 32


@dataclass(frozen=True)
class Impression:
    """One viewer in one slot, shown one campaign, in words."""

    region: int
    age_band: int
    gender: int
    hour: int
    placement: int
    content_category: int
    interest_mask: int
    campaign_id: int
    creator_id: int
    creative_id: int
    category: int
    laotie: bool


def features_of(seen: Impression) -> list[int]:
    """The sixteen hashes in order."""
    age_gender = seen.age_band * 64 + seen.gender
    interested = seen.category > 0 and seen.interest_mask >> seen.category & 1
    alone = [
        (0, 0),
        (1, seen.region),
        (2, seen.age_band),
        (3, seen.gender),
        (4, seen.hour),
        (5, seen.placement),
        (6, seen.campaign_id),
        (7, seen.creator_id),
        (8, seen.creative_id),
        (9, seen.category),
    ]
    crosses = [
        hash_code(10, seen.creator_id) ^ hash_code(20, age_gender),
        hash_code(11, seen.creator_id) ^ hash_code(21, seen.region),
        hash_code(12, seen.category) ^ hash_code(22, age_gender),
        hash_code(15 if interested else 14, seen.category),
        hash_code(17 if seen.laotie else 16, seen.creator_id),
        hash_code(13, seen.category) ^ hash_code(23, seen.content_category),
    ]
    return [hash_code(salt, code) for salt, code in alone] + crosses


@dataclass
class ReferenceModel:
    """adPredictor as a dictionary from slot to (mean, variance), and one from slot to every mean that it had."""

    slots: int
    weights: dict[int, tuple[float, float]] = field(default_factory=dict)
    means: dict[int, list[float]] = field(default_factory=dict)

    def _weight(self, feature: int) -> tuple[float, float]:
        return self.weights.get(feature % self.slots, (0.0, PRIOR_VARIANCE))

    def _average(self, feature: int) -> float:
        """The n means that a slot had, the k-th of them weighing k (k + 1)."""
        had = self.means.get(feature % self.slots)
        if not had:
            return self._weight(feature)[0]
        weights = [k * (k + 1) for k in range(1, len(had) + 1)]
        return math.fsum(weight * mean for weight, mean in zip(weights, had, strict=True)) / sum(weights)

    def score(self, features: list[int]) -> tuple[float, float]:
        """Mean and variance of the score, noise included, by the present means."""
        pairs = [self._weight(feature) for feature in features]
        mean = math.fsum(sd * m for sd, (m, _) in zip(PRIOR_SD, pairs, strict=True))
        return mean, NOISE_VARIANCE + math.fsum(sd * sd * v for sd, (_, v) in zip(PRIOR_SD, pairs, strict=True))

    def probability(self, features: list[int]) -> float:
        """Phi(mean / sqrt(variance)), by the average means."""
        _, variance = self.score(features)
        mean = math.fsum(sd * self._average(feature) for sd, feature in zip(PRIOR_SD, features, strict=True))
        return tail_cdf(mean / math.sqrt(variance))

    def train(self, features: list[int], positive: bool, weight: float, fake_negatives: bool) -> float:
        """One message-passing step; the probability before it."""
        mean, variance = self.score(features)
        told = self.probability(features)
        p = tail_cdf(mean / math.sqrt(variance))
        if fake_negatives:
            weight *= 1 + p if positive else 1 - p**2
        sign = 1 if positive else -1
        t = sign * mean / math.sqrt(variance)
        v_of_t = NormalDist().pdf(t) / tail_cdf(t)
        w_of_t = v_of_t * (v_of_t + t)
        for sd, feature in zip(PRIOR_SD, features, strict=True):
            m, v = self._weight(feature)
            step = weight * sd * v / math.sqrt(variance) * v_of_t
            kept = 1 - min(weight * sd * sd * v / variance * w_of_t, 0.99)
            self.weights[feature % self.slots] = (m + sign * step, v * kept)
            self.means.setdefault(feature % self.slots, []).append(m + sign * step)
        return told
