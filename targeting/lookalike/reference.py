"""What the lookalike's kernels mean, in plain Python over sets of pairs. For tests and benches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log, sqrt

Weights = Mapping[tuple[int, int], float]
"""What each follow (who follows, who is followed) counts for."""


def cosine_to_seeds(
    weights: Weights, rarity: Sequence[float], seeds: Mapping[int, float], skipped: frozenset[int], node: int
) -> float:
    """Sum over the seeds, times what each counts for, of the cosine between its follows and the node's.

    A followed account weighs its rarity times the follow's weight; skipped ones count for the lengths only.
    """

    def vector(row: int) -> dict[int, float]:
        return {end: rarity[end] * weight for (start, end), weight in weights.items() if start == row}

    def length(row: int) -> float:
        return sqrt(sum(part * part for part in vector(row).values()))

    own, total = vector(node), 0.0
    for seed, counted in seeds.items():
        other = vector(seed)
        shared = sum(part * other[end] for end, part in own.items() if end in other and end not in skipped)
        if shared:
            total += counted * shared / (length(node) * length(seed))
    return total


def linked(weights: Weights, seeds: Sequence[int], node: int) -> tuple[float, float]:
    """Seeds that the node follows and seeds that follow it, by what those follows count for."""
    to = sum(weight for (start, end), weight in weights.items() if start == node and end in seeds)
    return to, sum(weight for (start, end), weight in weights.items() if end == node and start in seeds)


def idf(count: int, followers: int) -> float:
    """What an account counts for that has so many followers among so many accounts."""
    return max(log(count / (1.0 + followers)), 0.1)
