"""Shades of first-price bids, compiled: sums behind the line that is fitted to them, and what bids along it bring."""

from __future__ import annotations

import math

from numba import njit

from pacing.control.curves.kernels import interpolate
from pacing.control.grid import ALPHA_BINS, Z_LOW, Z_STEP

SHADE_COLUMNS = 6


@njit(cache=True, nogil=True)
def sum_shades(row, first_price, probability, alpha, bid, log_level, log_price, out_sums):
    """Add n decided auctions to the sums behind their campaigns' lines; second price is left out.

    Args:
        row: i8[n] campaign, or -1 to skip. first_price: u1[n]. probability, alpha, bid: f8[n], micros.
        log_level, log_price: f8[N] the scales in force.
        out_sums: f8[N, SHADE_COLUMNS] sums of weight, shade, dearness, its square, its product with the shade, and log
            probability over level; added to.
    """
    for i in range(len(row)):
        c = row[i]
        if c < 0 or not first_price[i] or bid[i] <= 0.0 or alpha[i] <= 0.0 or probability[i] <= 0.0:
            continue
        log_worth = math.log(alpha[i] * probability[i])
        shade = min(0.0, math.log(bid[i]) - log_worth)
        dearness = log_worth - log_price[c]
        out_sums[c, 0] += probability[i]
        out_sums[c, 1] += probability[i] * shade
        out_sums[c, 2] += probability[i] * dearness
        out_sums[c, 3] += probability[i] * dearness * dearness
        out_sums[c, 4] += probability[i] * dearness * shade
        out_sums[c, 5] += probability[i] * (math.log(probability[i]) - log_level[c])


@njit(cache=True, nogil=True)
def add_first_price(curve, start, line, scale, log_alpha, out_value, out_cost):
    """Add what first-price impressions bring and cost at each of J multipliers: a winner pays its shaded bid.

    Args:
        curve: f8[K] value of an impression by threshold. start: fractional bin of the first multiplier's worth.
        line: f8[2] of lines.shade_lines. scale: value of the impressions, in units of the curve.
        log_alpha: of the first multiplier.
        out_value, out_cost: f4[J], added to.
    """
    shade = line[0] + line[1] * (Z_LOW + start * Z_STEP)
    bid = math.exp(log_alpha + shade)
    growth, unshaded_growth = math.exp((1.0 + line[1]) * Z_STEP), math.exp(Z_STEP)
    worth = math.exp(log_alpha)
    for j in range(ALPHA_BINS):
        value = scale * interpolate(curve, start + j + min(shade, 0.0) / Z_STEP)
        out_value[j] += value
        out_cost[j] += value * min(bid, worth)
        shade += line[1] * Z_STEP
        bid *= growth
        worth *= unshaded_growth
