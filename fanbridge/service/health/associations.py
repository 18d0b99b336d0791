"""Did fans of one origin leave more often than the others? Told as an association, with an interval, or not at all.

Of the fans at the beginning of the period, a group is held against all others by the ratio of the shares that left. The
interval is that of the logarithm with a half added to every count (Walter, "The distribution of Levin's measure of
attributable risk", Biometrika 62(2), 1975), so that it exists with zeros too; Bonferroni's correction makes all
intervals of a report hold at once.

Symbols: a of n in the group left, b of m others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

SMALLEST_GROUP = 30
"""Fans that a group and its others must have to be compared."""
FEWEST_LEFT = 5
"""Fans that must have left in all, else a ratio says nothing."""
CONFIDENCE = 0.95
"""That all intervals of a report hold at once, at least."""


@dataclass(frozen=True)
class Association:
    """How often one group left, beside all others; ratio 0: none of the others left."""

    group: int
    left: int
    fans: int
    others_left: int
    others: int
    ratio: float
    ratio_low: float
    ratio_high: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves 1 out."""
        return not self.ratio_low <= 1 <= self.ratio_high

    def sentence(self, who: str) -> str:
        """The comparison in words; `who` names the group."""
        counts = f"({self.left} of {self.fans} against {self.others_left} of {self.others})"
        if not self.is_clear:
            return f"{who} left about as often as all others, as far as can be told {counts}."
        if not self.ratio:
            return f"{who} left, and none of the others did {counts}; an association, not a cause."
        times = f"{self.ratio:.1f} times as often as all others"
        return (
            f"{who} left {times} {counts}, between {self.ratio_low:.1f} and {self.ratio_high:.1f} times; "
            "an association, not a cause."
        )


def associations_of(left: npt.NDArray[np.bool_], groups: Mapping[int, npt.NDArray[np.bool_]]) -> list[Association]:
    """Every group that is large enough, beside the others; those that left most often first.

    Args:
        left: b1[n], which of the fans at the beginning left.
        groups: b1[n] each, which of them belong to the group.
    """
    large = {
        group: members
        for group, members in groups.items()
        if min(members.sum(), (~members).sum()) >= SMALLEST_GROUP and left.sum() >= FEWEST_LEFT
    }
    if not large:
        return []
    z = NormalDist().inv_cdf(1 - (1 - CONFIDENCE) / (2 * len(large)))
    found = [_compare(group, left, members, z) for group, members in large.items()]
    return sorted(found, key=lambda one: (-one.ratio_low, one.group))


def _compare(group: int, left: npt.NDArray[np.bool_], members: npt.NDArray[np.bool_], z: float) -> Association:
    a, n = int(left[members].sum()), int(members.sum())
    b, m = int(left[~members].sum()), int((~members).sum())
    log_ratio = math.log((a + 0.5) / (n + 0.5)) - math.log((b + 0.5) / (m + 0.5))
    deviation = math.sqrt(1 / (a + 0.5) - 1 / (n + 0.5) + 1 / (b + 0.5) - 1 / (m + 0.5))
    ratio = (a / n) / (b / m) if b else 0.0
    low, high = math.exp(log_ratio - z * deviation), math.exp(log_ratio + z * deviation)
    return Association(group, a, n, b, m, ratio, low, high)
