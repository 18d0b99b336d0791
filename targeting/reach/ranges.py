"""How many people a crowd holds, as it is told to creators: never the number itself."""

from __future__ import annotations

LEAST_TOLD = 100
"""Crowds under this are not told apart from each other, nor from nobody."""


def told_range(least: int, most: int) -> tuple[int, int]:
    """(low, high) of a number of people that is `least` to `most`: low <= least and most < high.

    Both are multiples of LEAST_TOLD, and of the second significant digit's unit; they always differ. So one person more
    or fewer is seen only where a crowd stands at the edge of a range; rounding alone does not hide that it does.
    """
    grain = _grain(most)
    return least // _grain(least) * _grain(least), (most // grain + 1) * grain


def _grain(count: int) -> int:
    return max(LEAST_TOLD, 10 ** (len(str(count)) - 2))
