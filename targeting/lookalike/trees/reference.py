"""What splitting rows and walking a tree mean, in plain Python. For tests and benches."""

from __future__ import annotations

from collections.abc import Sequence


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
