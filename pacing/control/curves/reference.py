"""Reading the market's curves in plain Python."""

from __future__ import annotations

import math
from collections.abc import Sequence

Curve = Sequence[float]


def at_bin(curve: Curve, position: float) -> float:
    """A curve at a fractional bin: 0 one bin below the first, the last value from the last on."""
    points = [0.0, *(float(x) for x in curve)]
    where = min(max(position + 1.0, 0.0), len(points) - 1.0)
    left = min(math.floor(where), len(points) - 2)
    return points[left] + (where - left) * (points[left + 1] - points[left])


def map_at(own_map: Curve, position: float) -> float:
    """The map at a fractional bin, with slope 1 outside it."""
    last = len(own_map) - 1
    inside = min(max(position, 0.0), float(last))
    left = min(math.floor(inside), last - 1)
    value = own_map[left] + (inside - left) * (own_map[left + 1] - own_map[left])
    return value + position - inside
