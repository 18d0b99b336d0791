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


def split_gain(
    bins: Sequence[Sequence[int]],
    slopes: Sequence[float],
    curvatures: Sequence[float],
    limits: tuple[float, float],
    split: tuple[int, int],
) -> float:
    """By how much a split of all rows lowers the loss, but for a factor; minus infinity where it is not allowed.

    Args:
        bins, slopes, curvatures: by row.
        limits: the ridge, and the least curvature on either side.
        split: feature, and the highest bin that goes left.
    """
    ridge, least = limits
    sides = [[row for row in range(len(bins)) if (bins[row][split[0]] <= split[1]) is left] for left in (True, False)]
    if min(sum(curvatures[row] for row in side) for side in sides) < least:
        return float("-inf")

    def worth(rows: Sequence[int]) -> float:
        return sum(slopes[row] for row in rows) ** 2 / (sum(curvatures[row] for row in rows) + ridge)

    return worth(sides[0]) + worth(sides[1]) - worth(range(len(bins)))


def tree_leaf(features: Sequence[int], highest: Sequence[int], leaves: Sequence[float], row: Sequence[int]) -> float:
    """What a complete tree says of one row of bins."""
    node = 0
    while node < len(features):
        node = 2 * node + 1 + int(row[features[node]] > highest[node])
    return leaves[node - len(features)]


def idf(count: int, followers: int) -> float:
    """What an account counts for that has so many followers among so many accounts."""
    return max(log(count / (1.0 + followers)), 0.1)
