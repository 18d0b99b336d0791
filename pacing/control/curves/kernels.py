"""Reading the market's curves between their bins, compiled. Curves have K bins, a campaign's tables J multipliers."""

from __future__ import annotations

import math

from numba import njit

from pacing.control.grid import ALPHA_BINS


@njit(cache=True, nogil=True)
def interpolate(curve, position):
    """Linear interpolation on `curve` at a fractional bin; 0 below the first bin, the last value above the last."""
    if position <= -1.0:
        return 0.0
    if position <= 0.0:
        return (position + 1.0) * curve[0]
    last = len(curve) - 1
    if position >= last:
        return float(curve[last])
    k = int(position)
    rest = position - k
    return curve[k] * (1.0 - rest) + curve[k + 1] * rest


@njit(cache=True, nogil=True)
def interpolate_map(own_map, position):
    """The map at a fractional bin, continued with slope 1 on both sides."""
    last = len(own_map) - 1
    if position <= 0.0:
        return own_map[0] + position
    if position >= last:
        return own_map[last] + position - last
    k = int(position)
    rest = position - k
    return own_map[k] * (1.0 - rest) + own_map[k + 1] * rest


@njit(cache=True, nogil=True)
def add_shifted(curve, start, scale, out_row):
    """Add `scale` times a curve, read from fractional bin `start` on, to J bins; at both ends as interpolate."""
    whole = math.floor(start)
    rest = start - whole
    last = len(curve) - 1
    first = min(max(-whole, 0), ALPHA_BINS)  # bins before lie under the curve
    stop = min(max(last - whole, 0), ALPHA_BINS)  # bins from here on lie above it
    if 0 < first <= ALPHA_BINS and stop >= first:
        out_row[first - 1] += scale * rest * curve[0]
    for j in range(first, stop):
        k = whole + j
        out_row[j] += scale * (curve[k] * (1.0 - rest) + curve[k + 1] * rest)
    top = scale * curve[last]
    for j in range(max(stop, first), ALPHA_BINS):
        out_row[j] += top
