"""Compiled arithmetic of the controller. `reference.py` says the same in plain Python.

Shapes: N campaigns in the state, n the rows of a call, T buckets of a day, K curve bins, J multipliers, G groups.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from pacing.control.curves.kernels import add_shifted, interpolate, interpolate_map
from pacing.control.grid import ALPHA_BINS, ALPHA_CENTRE, CURVE_BINS, Z_LOW, Z_STEP
from pacing.control.shades.kernels import add_first_price, log_paid, narrowed

EXACT, ABOVE, BELOW = (
    0,
    1,
    2,
)  # what an auction told of its threshold: its value, or that it lies above or below the bid
NODE_SHIFT = math.sqrt(3.0)  # three-point Gauss-Hermite rule
FREE, BUDGET_BINDS, COST_BINDS, BELOW_GRID, ABOVE_GRID = 0, 1, 2, 3, 4  # what decided a multiplier

# columns of the `sums` of an interval
SUM_ROWS, SUM_LOG_TOLD, SUM_TOLD, SUM_FIRST, SUM_SECOND, SUM_LOG_PRICE, SUM_PRICED = range(7)
SUM_COLUMNS = 7

# rows of the `tables` of a campaign
CURRENT_VALUE, CURRENT_COST, LATER_VALUE, LATER_COST, DAY_COST = range(5)
TABLE_ROWS = 5

# columns of `state` in solve_plans
REMAINING, VALUE_GAIN, COST_GAIN, BUDGET, EVENTS, SPEND, TARGET, DAYS, DAY_CAP, FLIGHT, CENTRE = range(11)
SOLVE_COLUMNS = 11


@njit(cache=True, nogil=True)
def sum_auctions(row, first_price, won, probability, bid, paid, told, out_sums):
    """Add n decided auctions to the sums of their campaigns.

    Args:
        row: i8[n] campaign, or -1 to skip. first_price, won: u1[n]. probability, bid, paid, told: f8[n], micros;
            paid and told are negative where not known.
        out_sums: f8[N, SUM_COLUMNS], added to.
    """
    log_told = np.zeros(len(row))
    for i in range(len(row)):  # apart, so that the processor waits for many places of a large memory at once
        if told[i] >= 0.0:
            log_told[i] = math.log(max(told[i], 1.0))
    for i in range(len(row)):
        c = row[i]
        if c < 0:
            continue
        out_sums[c, SUM_ROWS] += 1.0
        if told[i] >= 0.0:
            out_sums[c, SUM_LOG_TOLD] += log_told[i]
            out_sums[c, SUM_TOLD] += 1.0
        elif won[i]:  # where nothing is told, what a win paid (or offered) is at least near the threshold
            out_sums[c, SUM_LOG_PRICE] += math.log(max(paid[i] if paid[i] >= 0.0 else bid[i], 1.0))
            out_sums[c, SUM_PRICED] += 1.0
        if first_price[i]:
            out_sums[c, SUM_FIRST] += probability[i]
        else:
            out_sums[c, SUM_SECOND] += probability[i]


@njit(cache=True, nogil=True)
def bin_auctions(row, first_price, won, probability, bid, paid, told, log_level, log_price, out_mass):
    """Add n decided auctions to their campaigns' histograms of thresholds, weighted by value in units of level.

    Args:
        log_level, log_price: f8[N] the scales in force.
        out_mass: f4[N, 3, K] by EXACT, ABOVE, BELOW; added to.
    """
    kinds, bins, amounts = np.empty(len(row), np.uint8), np.empty(len(row), np.uint8), np.zeros(len(row))
    for i in range(len(row)):
        c = row[i]
        if c < 0 or probability[i] <= 0.0:
            continue
        kind = EXACT
        threshold = told[i]
        if threshold < 0.0:
            if won[i] and not first_price[i] and paid[i] >= 0.0:
                threshold = paid[i]
            else:
                threshold = bid[i]
                kind = BELOW if won[i] else ABOVE
        log_quotient = math.log(probability[i]) - log_level[c]
        z = math.log(max(threshold, 1.0)) - log_quotient - log_price[c]
        k = math.ceil((z - Z_LOW) / Z_STEP)
        kinds[i], bins[i] = kind, min(max(k, 0), CURVE_BINS - 1)
        amounts[i] = math.exp(log_quotient)
    for i in range(len(row)):  # apart, so that the processor waits for many places of a large memory at once
        if amounts[i] > 0.0:
            out_mass[row[i], kinds[i], bins[i]] += amounts[i]


@njit(cache=True, nogil=True)
def _fit_map(mass, weight, told, prior_rows, expected, density, out_map):
    """Where on the market's curves each bin of the campaign's own thresholds lies.

    Censored mass is spread over the bins where it may lie in proportion to what was fitted before (one step of
    self-consistency, Turnbull 1976); the market's shape counts as `prior_rows` rows.

    Args:
        mass: f4[3, K]. weight: f4[T] the campaign's own rows by bucket. told: f4[T, K].
        expected, density: f8[K] scratch. out_map: f4[K], read (the fit before) and written.
    """
    bins = len(out_map)
    total_weight = 0.0
    for t in range(len(weight)):
        total_weight += weight[t]
    rows = 0.0
    for kind in range(3):
        for k in range(bins):
            rows += mass[kind, k]
    if rows < 1.0:
        for k in range(bins):
            out_map[k] = k
        return
    for k in range(bins):
        expected[k] = 1e-6 * (k + 1) / bins
    for t in range(len(weight)):
        share = weight[t] / total_weight if total_weight > 0.0 else 1.0 / len(weight)
        if share > 0.0:
            for k in range(bins):
                expected[k] += share * told[t, k]
    top = expected[bins - 1]
    for k in range(bins):
        expected[k] /= top
    before = 0.0
    for k in range(bins):  # the fit before, as a density
        upto = interpolate(expected, out_map[k])
        density[k] = max(upto - before, 0.0)
        before = max(before, upto)
    above, below_total = 0.0, 0.0
    survival = 1.0
    for k in range(bins):
        out_map[k] = mass[EXACT, k] + density[k] * above
        survival -= density[k]
        if mass[ABOVE, k] > 0.0:
            above += mass[ABOVE, k] / max(survival, 1e-3)
    cumulative = 1.0
    for k in range(bins - 1, -1, -1):
        if mass[BELOW, k] > 0.0:
            below_total += mass[BELOW, k] / max(cumulative, 1e-3)
        out_map[k] += density[k] * below_total
        cumulative -= density[k]
    total = 0.0
    last = 0.0
    for k in range(bins):
        total += out_map[k] + prior_rows * (expected[k] - last)
        last = expected[k]
    own, last = 0.0, 0.0
    j = 0
    for k in range(bins):  # merge: the bin of `expected` that has as much at or under it
        own += (out_map[k] + prior_rows * (expected[k] - last)) / total
        last = expected[k]
        while j < bins - 1 and expected[j] < own:
            j += 1
        low = expected[j - 1] if j > 0 else 0.0
        step = expected[j] - low
        out_map[k] = j - 1 + min(1.0, (own - low) / step) if step > 0.0 else j


@njit(cache=True, nogil=True)
def refresh_forecasts(
    row,
    group,
    mass,
    weight,
    curves,
    prior_rows,
    current,
    traffic,
    level,
    log_price,
    spread,
    centre,
    first_share,
    lines,
    out_map,
    out_tables,
):
    """Forecast value and cost of the rest of the day, by multiplier, for m campaigns.

    In second price a multiplier is the threshold; in first price bids are shaded, and a winner pays its bid.

    Args:
        row: i8[m] into the state. group: i8[N]. mass: f4[N, 3, K]. weight: f4[N, T].
        curves: f4[3, G, T, K] value, cost and told curve of the market.
        current: the bucket that is running.
        traffic: f8[m, 3, T] impressions: of the current bucket (whole), of later ones today, and of a whole day.
        level, log_price: f8[m, T] log scales. spread: f8[m, T] unknown standard deviation of level over price.
        centre: f8[N] log of the multiplier in the middle of the tables.
        first_share: f8[N] of the supply. lines: f8[m, 3] of shades.lines.shade_lines.
        out_map: f4[N, K]; out_tables: f4[N, TABLE_ROWS, J].
    """
    buckets = curves.shape[2]
    expected = np.empty(CURVE_BINS)
    density = np.empty(CURVE_BINS)
    value_curve = np.empty(CURVE_BINS)
    cost_curve = np.empty(CURVE_BINS)
    below = np.empty(CURVE_BINS, np.int64)
    above = np.empty(CURVE_BINS)
    share_under = np.empty(CURVE_BINS)
    dearer = np.empty(CURVE_BINS)
    ignored = np.zeros(ALPHA_BINS, np.float32)
    for i in range(len(row)):
        c = row[i]
        g = group[c]
        _fit_map(mass[c], weight[c], curves[2, g], prior_rows, expected, density, out_map[c])
        for k in range(CURVE_BINS):
            position = min(max(out_map[c, k], 0.0), CURVE_BINS - 1.0)
            below[k] = min(int(position), CURVE_BINS - 2)
            above[k] = position - below[k]
            share_under[k] = max(1.0 + min(out_map[c, k], 0.0), 0.0)  # between the first bin and nothing
            dearer[k] = math.exp(Z_STEP * (k - out_map[c, k]))
        for part in range(TABLE_ROWS):
            for j in range(ALPHA_BINS):
                out_tables[c, part, j] = 0.0
        for t in range(buckets):
            now, later, day = traffic[i, 0, t], traffic[i, 1, t], traffic[i, 2, t]
            if now <= 0.0 and later <= 0.0 and day <= 0.0:
                continue
            for k in range(CURVE_BINS):
                low, rest = below[k], above[k]
                under = share_under[k]
                value_curve[k] = under * (curves[0, g, t, low] * (1.0 - rest) + curves[0, g, t, low + 1] * rest)
                cost = under * (curves[1, g, t, low] * (1.0 - rest) + curves[1, g, t, low + 1] * rest)
                cost_curve[k] = cost * dearer[k]
            nodes = 3 if spread[i, t] > 1e-6 and t != current else 1
            unit_cost = math.exp(log_price[i, t])
            for node in range(nodes):
                weight_of = 1.0 if nodes == 1 else (2.0 / 3.0 if node == 1 else 1.0 / 6.0)
                first, share = weight_of * first_share[c], weight_of * (1.0 - first_share[c])
                shift = 0.0 if nodes == 1 else (node - 1) * NODE_SHIFT * spread[i, t]
                z = centre[c] - ALPHA_CENTRE * Z_STEP + level[i, t] + shift - log_price[i, t]
                start = (z - Z_LOW) / Z_STEP
                unit_value = math.exp(level[i, t] + shift)
                if first > 0.0:
                    log_alpha = centre[c] - ALPHA_CENTRE * Z_STEP
                    for part, amount in ((CURRENT_VALUE, now), (LATER_VALUE, later), (DAY_COST, day)):
                        if amount > 0.0:
                            values = ignored if part == DAY_COST else out_tables[c, part]
                            costs = out_tables[c, DAY_COST if part == DAY_COST else part + 1]
                            scale = first * amount * unit_value
                            add_first_price(value_curve, start, lines[i], scale, log_alpha, values, costs)
                if share <= 0.0:
                    continue
                if now > 0.0:
                    add_shifted(value_curve, start, share * now * unit_value, out_tables[c, CURRENT_VALUE])
                    add_shifted(cost_curve, start, share * now * unit_cost, out_tables[c, CURRENT_COST])
                if later > 0.0:
                    add_shifted(value_curve, start, share * later * unit_value, out_tables[c, LATER_VALUE])
                    add_shifted(cost_curve, start, share * later * unit_cost, out_tables[c, LATER_COST])
                if day > 0.0:
                    add_shifted(cost_curve, start, share * day * unit_cost, out_tables[c, DAY_COST])


@njit(cache=True, nogil=True)
def expect_outcomes(row, group, curves, bucket, own_map, log_alpha, lines, first_share, level, log_price, out_unit):
    """Value and cost that one impression of this bucket should have brought at a multiplier.

    Args:
        row: i8[m]. own_map: f4[N, K]. lines: f8[m, 3] of shades.lines.shade_lines.
        log_alpha, first_share, level, log_price: f8[m]; the last two as observed.
        out_unit: f8[m, 2] expected events and micros per impression.
    """
    own = np.empty(CURVE_BINS)
    for i in range(len(row)):
        c = row[i]
        g = group[c]
        out_unit[i, 0] = 0.0
        out_unit[i, 1] = 0.0
        bin_at = (log_alpha[i] + level[i] - log_price[i] - Z_LOW) / Z_STEP
        if first_share[i] < 1.0:
            position = interpolate_map(own_map[c], bin_at)
            dearer = math.exp(log_price[i] + Z_STEP * (bin_at - position))
            out_unit[i, 0] += (1.0 - first_share[i]) * math.exp(level[i]) * interpolate(curves[0, g, bucket], position)
            out_unit[i, 1] += (1.0 - first_share[i]) * dearer * interpolate(curves[1, g, bucket], position)
        if first_share[i] > 0.0:
            for k in range(CURVE_BINS):
                own[k] = interpolate(curves[0, g, bucket], own_map[c, k])
            shade = min(lines[i, 0] + lines[i, 1] * (log_alpha[i] + level[i] - log_price[i]), 0.0)
            middle, stretch = narrowed(own, lines[i])
            at = middle + (bin_at + shade / Z_STEP - middle) * stretch
            value = first_share[i] * math.exp(level[i]) * interpolate(own, at)
            out_unit[i, 0] += value
            out_unit[i, 1] += value * math.exp(log_alpha[i] + shade + log_paid(own, at, lines[i], stretch))


@njit(cache=True, nogil=True)
def cost_slopes(row, group, curves, own_map, traffic, level, log_price, log_alpha, out_slope):
    """How much each later bucket's cost moves with the multiplier: the weights by which its uncertainty counts.

    Args:
        traffic, level, log_price: f8[m, T]. log_alpha: f8[m].
        out_slope: f8[m, T + 1]; the cost itself, summed over buckets, in the last column.
    """
    buckets = curves.shape[2]
    for i in range(len(row)):
        c = row[i]
        g = group[c]
        total = 0.0
        for t in range(buckets):
            out_slope[i, t] = 0.0
            if traffic[i, t] <= 0.0:
                continue
            bin_at = (log_alpha[i] + level[i, t] - log_price[i, t] - Z_LOW) / Z_STEP
            scale = traffic[i, t] * math.exp(log_price[i, t])
            cost = 0.0
            for side in range(2):
                at = bin_at + (2.0 if side else -2.0)
                position = interpolate_map(own_map[c], at)
                cost = scale * math.exp(Z_STEP * (at - position)) * interpolate(curves[1, g, t], position)
                out_slope[i, t] += cost if side else -cost
            out_slope[i, t] = max(out_slope[i, t], 0.0) / (4.0 * Z_STEP)
            total += cost
        out_slope[i, buckets] = total


@njit(cache=True, nogil=True)
def solve_plans(row, tables, state, exponent, out_value, out_cost, out_log_alpha, out_limits, out_binding):
    """The largest multiplier that the rest of the horizon can pay for, for n campaigns.

    Second price: one threshold on cost over value is optimal, so the multiplier is the largest whose forecast keeps
    all of budget, flight and target (or, with a finite exponent, the one with the best penalised value within the
    budgets).

    Args:
        row: i8[n] into tables f4[N, TABLE_ROWS, J]. state: f8[n, SOLVE_COLUMNS].
        out_value, out_cost: f8[J] scratch. out_log_alpha: f8[n]. out_binding: u1[n] FREE to ABOVE_GRID.
        out_limits: f8[n, 2] the largest that budgets allow, and that the target allows; infinite: above the grid.
    """
    for i in range(len(row)):
        c = row[i]
        centre = state[i, CENTRE]
        affordable = -1.0
        limited = False
        before = 0.0
        _outlook(tables[c], state[i], out_value, out_cost)
        budget, flight = max(state[i, BUDGET], 1e-9), max(state[i, FLIGHT], 1e-9)
        for j in range(ALPHA_BINS):
            over = out_cost[j] / budget
            if state[i, DAYS] > 0.0:
                day = min(state[i, COST_GAIN] * tables[c, DAY_COST, j], state[i, DAY_CAP])
                over = max(over, (out_cost[j] + day * state[i, DAYS]) / flight)
            if over > 1.0:
                limited = True
                affordable = j - 1 + (1.0 - before) / (over - before) if j > 0 else -1.0
                break
            affordable = j
            before = over
        best, binding = affordable, BUDGET_BINDS if limited else FREE
        out_limits[i, 0] = centre + (affordable - ALPHA_CENTRE) * Z_STEP if limited else math.inf
        out_limits[i, 1] = math.inf
        if affordable < 0.0:
            out_limits[i, 0] = centre - ALPHA_CENTRE * Z_STEP
            out_log_alpha[i] = out_limits[i, 0]
            out_binding[i] = BELOW_GRID
            continue
        if state[i, TARGET] > 0.0:
            if exponent < 1e6:
                wanted = _best_penalised(state[i], out_value, out_cost, affordable, exponent)
            else:
                wanted = _largest_on_target(state[i], out_value, out_cost)
            if wanted < best:
                best, binding = wanted, COST_BINDS
            if wanted < ALPHA_BINS - 1 and (binding == COST_BINDS or exponent >= 1e6):
                out_limits[i, 1] = centre + (wanted - ALPHA_CENTRE) * Z_STEP
        if best >= ALPHA_BINS - 1:
            binding = ABOVE_GRID
        elif best <= 0.0:
            binding = BELOW_GRID
        out_log_alpha[i] = centre + (best - ALPHA_CENTRE) * Z_STEP
        out_binding[i] = binding


@njit(cache=True, nogil=True)
def _outlook(tables, state, out_value, out_cost):
    """Value and cost of the rest of the day at each multiplier."""
    remaining, value_gain, cost_gain = state[REMAINING], state[VALUE_GAIN], state[COST_GAIN]
    for j in range(ALPHA_BINS):
        out_value[j] = value_gain * (remaining * tables[CURRENT_VALUE, j] + tables[LATER_VALUE, j])
        out_cost[j] = cost_gain * (remaining * tables[CURRENT_COST, j] + tables[LATER_COST, j])


@njit(cache=True, nogil=True)
def current_costs(row, tables, centre, log_alpha, out_cost):
    """What the running bucket should cost at a multiplier.

    Args:
        row: i8[m] into tables f4[N, TABLE_ROWS, J] and centre f8[N]. log_alpha: f8[m].
        out_cost: f8[m] micros of a whole bucket.
    """
    for i in range(len(row)):
        c = row[i]
        at = (log_alpha[i] - centre[c]) / Z_STEP + ALPHA_CENTRE
        out_cost[i] = interpolate(tables[c, CURRENT_COST], at)


@njit(cache=True, nogil=True)
def _largest_on_target(state, value, cost):
    """Fractional bin of the largest multiplier that keeps the day on target, or comes nearest to it."""
    nearest, least = 0, math.inf
    after = math.inf
    for j in range(ALPHA_BINS - 1, -1, -1):
        excess = state[SPEND] + cost[j] - state[TARGET] * (state[EVENTS] + value[j])
        if excess <= 0.0:
            if j == ALPHA_BINS - 1:
                return float(j)
            return j + min(1.0, -excess / max(after - excess, 1e-12))
        if excess < least:
            nearest, least = j, excess
        after = excess
    return float(nearest)


@njit(cache=True, nogil=True)
def _best_penalised(state, value, cost, affordable, exponent):
    """Fractional bin, up to `affordable`, with the most value after the penalty for cost over target."""
    last = int(affordable)
    best, most = 0.0, -1.0
    for j in range(last + 2):
        at = float(j)
        if j > last:
            at = affordable
        k = min(int(at), ALPHA_BINS - 1)
        rest = at - k
        upper = min(k + 1, ALPHA_BINS - 1)
        events = state[EVENTS] + value[k] * (1.0 - rest) + value[upper] * rest
        spend = state[SPEND] + cost[k] * (1.0 - rest) + cost[upper] * rest
        worth = events
        if spend > state[TARGET] * events:
            worth = events * (state[TARGET] * events / spend) ** exponent
        if worth >= most:
            best, most = at, worth
    return best
