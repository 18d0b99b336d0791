"""What each campaign should expect of the rest of its horizon, kept up to date from supply and decided auctions."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from pacing.clocks import MS_PER_DAY
from pacing.control import kernels
from pacing.control.grid import ALPHA_CENTRE, CURVE_BINS, Z_LOW, Z_STEP
from pacing.control.kernels import (
    CURRENT_COST,
    CURRENT_VALUE,
    LATER_COST,
    LATER_VALUE,
    SUM_FIRST,
    SUM_LOG_PRICE,
    SUM_LOG_TOLD,
    SUM_PRICED,
    SUM_ROWS,
    SUM_SECOND,
    SUM_TOLD,
)
from pacing.control.outlook import Outlook
from pacing.control.prior import MarketPrior
from pacing.control.settings import PacerSettings
from pacing.control.shades.lines import shade_lines, shades_at
from pacing.control.shifts import notice_shifts
from pacing.control.state import LEVEL, PRICE, TRAFFIC, CampaignState

FloatArray = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

_SPREAD_SHARE = 0.5  # the curve is solved for a typical day more than for the mean of all days
_SCALE_SD = 4.0  # a campaign this far from the market's mean has a scale of its own
_SCALE_LEAST = 0.4
_SCALE_BUCKETS = 0.1  # and is believed to be after this much of a bucket
_TARGET_Z = -1.3  # where on an unknown market's curve a target cost is first taken to lie
_WON_PRICE_Z = -1.0  # and the mean of the prices at which a blind bidder won
_BLIND_ROWS = 30
_CAUTION_SD = 1.5
_COLD_VARIANCE = 1.0
_HISTORY_DAYS = 3.0
_HALF_RANGE = Z_STEP * (ALPHA_CENTRE - 1)
_TOP_Z = Z_LOW + Z_STEP * (CURVE_BINS - 1)


class Forecaster:
    """Keeps the campaigns' scales, shapes and tables. Called by the Pacer alone, under its lock."""

    def __init__(self, prior: MarketPrior, settings: PacerSettings, state: CampaignState) -> None:
        self._prior, self._settings, self._state = prior, settings, state
        self._outlook = Outlook(prior)
        self._curves = np.stack([prior.value_curve, prior.cost_curve, prior.told_cdf])
        self._bucket_ms = MS_PER_DAY / prior.buckets
        self._prior_rows = settings.prior_rows if prior.known.all() else settings.cold_prior_rows
        self._current: int | None = None  # absolute number of the bucket that runs for the campaigns in work

    # time -----------------------------------------------------------------------------------------------------------

    def _bucket_at(self, at_ms: float) -> float:
        return (at_ms - self._prior.midnight_offset_ms) / self._bucket_ms

    @property
    def _running(self) -> int:
        """Time-of-day bucket that is running."""
        return (self._current or 0) % self._prior.buckets

    @property
    def bucket(self) -> int:
        """Absolute number of the bucket that is running; 0 before `begin`."""
        return self._current or 0

    def bucket_reached(self, now_ms: int) -> int:
        """Absolute number of the bucket that runs now; the clock may stand back, a bucket does not."""
        return max(self.bucket, math.floor(self._bucket_at(now_ms)))

    @property
    def has_begun(self) -> bool:
        """Whether any campaign was ever placed."""
        return self._current is not None

    def begin(self, bucket: int) -> None:
        """Take `bucket` for the one that is running for all campaigns that are named until the next call."""
        self._current = bucket

    def bucket_start_ms(self, bucket: Rows) -> FloatArray:
        """First instants of buckets, f8[n]."""
        return np.asarray(self._prior.midnight_offset_ms + bucket * self._bucket_ms, np.float64)

    def bucket_end_ms(self, bucket: Rows) -> FloatArray:
        """First instants after buckets, f8[n]."""
        return self.bucket_start_ms(bucket) + self._bucket_ms

    def admit(self, row: int, history_group: int, now_ms: int) -> None:
        """Place a new campaign."""
        if self._current is None:
            self.begin(math.floor(self._bucket_at(now_ms)))
        state, prior = self._state, self._prior
        state.bucket[row] = self.bucket
        group = prior.group_of.get(history_group, 0)
        state.group[row] = group
        state.scaled[row] = ~prior.known
        state.log_level[row] = prior.mean_log[LEVEL, group, self._running]
        state.log_price[row] = prior.mean_log[PRICE, group, self._running]

    # observations ---------------------------------------------------------------------------------------------------

    def absorb(self, rows: Rows, now_ms: int) -> FloatArray:
        """Take in the supply and the auctions since these campaigns were solved last, all in the running bucket.

        Returns:
            f8[m, 2]: events and micros that this supply should have brought at their alphas.
        """
        state = self._state
        state.sums[rows] += state.tick_sums[rows]
        state.supply[rows] += state.tick_supply[rows]
        self._update_scales(rows, now_ms)
        self._update_shade(rows)
        state.weight[rows, self._running] += state.tick_sums[rows, SUM_ROWS]
        state.rows_seen[rows] += state.tick_sums[rows, SUM_ROWS]
        expected = self._expected_outcome(rows)
        state.tick_supply[rows] = 0.0
        state.tick_sums[rows] = 0.0
        return expected

    def _base(self, rows: Rows, bucket: int) -> FloatArray:
        """f8[m, 3]: mean log traffic, level and price of a bucket, the campaign's own past days included."""
        state = self._state
        return self._prior.mean_log[:, state.group[rows], bucket].T + state.profile[rows, :, bucket]

    def _update_scales(self, rows: Rows, now_ms: int) -> None:
        """The campaigns' constant offsets from the market, and the scales on which auctions are binned."""
        state = self._state
        base = self._base(rows, self._running)
        eligible, events = state.tick_supply[rows].T
        elapsed = np.maximum(now_ms - state.solved_at_ms[rows], 0) / self._bucket_ms
        fed = eligible > 0
        state.seen[rows, TRAFFIC] += eligible
        state.meant[rows, TRAFFIC] += np.exp(base[:, TRAFFIC]) * elapsed
        state.seen[rows, LEVEL] += events
        state.meant[rows, LEVEL] += np.where(fed, eligible * np.exp(base[:, LEVEL]), 0.0)
        told, priced = state.tick_sums[rows, SUM_TOLD], state.tick_sums[rows, SUM_PRICED]
        state.seen[rows, PRICE] += state.tick_sums[rows, SUM_LOG_TOLD] - told * base[:, PRICE]
        state.meant[rows, PRICE] += told
        first_price = (
            (state.meant[rows, PRICE] <= 0) & (priced > 0) & ~self._prior.known[PRICE] & (state.target[rows] <= 0)
        )
        guess = state.tick_sums[rows, SUM_LOG_PRICE] / np.maximum(priced, 1.0) - base[:, PRICE] - _WON_PRICE_Z
        state.seen[rows[first_price], PRICE] = guess[first_price]
        state.meant[rows[first_price], PRICE] = 1.0
        with np.errstate(divide="ignore", invalid="ignore"):
            offset = np.where(
                (state.seen[rows] > 0) & (state.meant[rows] > 0), np.log(state.seen[rows] / state.meant[rows]), 0.0
            )
        offset[:, PRICE] = state.seen[rows, PRICE] / np.maximum(state.meant[rows, PRICE], 1e-9)
        deviation = np.sqrt(self._prior.covariance[:, self._running, self._running])
        enough = np.stack(
            [
                state.meant[rows, TRAFFIC] > _SCALE_BUCKETS * np.exp(base[:, TRAFFIC]),
                state.supply[rows, 0] > 100,
                state.meant[rows, PRICE] > 100,
            ],
            axis=1,
        )
        apart = enough & (np.abs(offset) > np.maximum(_SCALE_SD * deviation, _SCALE_LEAST))
        state.scaled[rows] = apart | ~self._prior.known
        state.scale[rows] = np.where(state.scaled[rows], offset, 0.0)
        self._guess_price(rows, base)
        self._update_bin_scales(rows, base)

    def _guess_price(self, rows: Rows, base: FloatArray) -> None:
        """Until a price is seen on an unknown market, the target is taken to lie low on its curve."""
        state = self._state
        guess = state.scaled[rows, PRICE] & (state.meant[rows, PRICE] <= 0) & (state.target[rows] > 0)
        level = base[:, LEVEL] + state.scale[rows, LEVEL]
        wanted = np.log(np.maximum(state.target[rows], 1.0)) + level - base[:, PRICE] - _TARGET_Z
        state.scale[rows[guess], PRICE] = wanted[guess]

    def _update_bin_scales(self, rows: Rows, base: FloatArray) -> None:
        state = self._state
        expected = base + state.forecast[rows, :, self._running] + state.scale[rows]
        eligible, events = state.supply[rows].T
        seen = (eligible >= 5) & (events > 0)
        level = np.log(np.maximum(events, 1e-12) / np.maximum(eligible, 1.0))
        state.log_level[rows] = np.where(seen, level, expected[:, LEVEL])
        told = state.sums[rows, SUM_TOLD]
        state.log_price[rows] = (state.sums[rows, SUM_LOG_TOLD] + 20 * expected[:, PRICE]) / (told + 20)

    def _update_shade(self, rows: Rows) -> None:
        """Share of first-price supply, and the log of bid over worth in it at the multipliers in force."""
        state = self._state
        sums = state.sums[rows]
        known = sums[:, SUM_FIRST] + sums[:, SUM_SECOND] > 0
        total = np.maximum(sums[:, SUM_FIRST] + sums[:, SUM_SECOND], 1e-12)
        state.first_share[rows] = np.where(known, sums[:, SUM_FIRST] / total, state.first_share[rows])
        log_worth = np.log(np.maximum(state.alpha[rows], 1e-9)) + state.log_level[rows] - state.log_price[rows]
        state.log_shade[rows] = shades_at(shade_lines(state.shade[rows]), log_worth)

    def _expected_outcome(self, rows: Rows) -> FloatArray:
        """f8[m, 2]: events and micros that the supply since the last solve should have brought at these alphas."""
        state = self._state
        unit = np.zeros((len(rows), 2))
        eligible, events = state.tick_supply[rows].T
        told = state.tick_sums[rows, SUM_TOLD]
        level = np.where(
            (eligible >= 5) & (events > 0),
            np.log(np.maximum(events, 1e-12) / np.maximum(eligible, 1.0)),
            state.log_level[rows],
        )
        mean_told = state.tick_sums[rows, SUM_LOG_TOLD] / np.maximum(told, 1.0)
        observed = np.where(told >= 20, mean_told, state.log_price[rows])
        log_alpha = np.log(np.maximum(state.alpha[rows], 1e-9))
        kernels.expect_outcomes(
            rows, state.group, self._curves, self._running, state.own_map, log_alpha,
            shade_lines(state.shade[rows]), state.first_share[rows], level, observed, unit,
        )  # fmt: skip
        return np.asarray(unit * (eligible * (state.alpha[rows] > 0))[:, None], np.float64)

    # the turn of a bucket, of a day -----------------------------------------------------------------------------------

    def roll(self, rows: Rows, reached: int) -> None:
        """Close the running bucket of these campaigns if it is not the one that was `reached`; that one runs now."""
        if self._current is None or reached <= self._current:
            return
        passed = reached - self._current
        self._close_bucket(rows)
        self._carry_tables(rows, reached)
        for skipped in range(self._current + 1, min(reached, self._current + self._prior.buckets)):
            self._state.deviation[rows, :, skipped % self._prior.buckets] = self._state.forecast[
                rows, :, skipped % self._prior.buckets
            ] + self._state.scale[rows].astype(np.float32)
        self._current = reached
        state = self._state
        state.bucket[rows] = reached
        state.foretold[rows] = state.forecast[rows, :, self._running]
        fade = math.exp(-passed * self._bucket_ms / self._settings.memory_ms)
        slow_fade = math.exp(-passed * self._bucket_ms / MS_PER_DAY)
        state.mass[rows] *= np.float32(fade)
        state.weight[rows] *= np.float32(fade)
        state.shade[rows] *= fade
        state.seen[rows] *= slow_fade
        state.meant[rows] *= slow_fade
        state.supply[rows] = 0.0
        state.sums[rows] = 0.0

    def _carry_tables(self, rows: Rows, reached: int) -> None:
        """Until their forecasts are made anew: the bucket that runs is a mean one of those that were to come."""
        state = self._state
        begun = self.bucket + 1
        to_come = (state.day_end_at_ms[rows] - self._prior.midnight_offset_ms) / self._bucket_ms - begun
        running = 1.0 / np.maximum(to_come, 0.01)
        left = np.clip((to_come - (reached + 1 - begun)) * running, 0.0, 1.0)
        tables = state.tables[rows]
        for current, later in ((CURRENT_VALUE, LATER_VALUE), (CURRENT_COST, LATER_COST)):
            tables[:, current] = tables[:, later] * running[:, None]
            tables[:, later] *= left[:, None]
        state.tables[rows] = tables

    def _raw_deviation(self, rows: Rows, end_bucket: float) -> tuple[FloatArray, FloatArray]:
        """Deviation of the running bucket so far, scale included, and its variance (infinite: not seen), f8[m, 3]."""
        state = self._state
        current = self._current or 0
        base = self._base(rows, self._running)
        start = np.maximum(self._bucket_at(0) + state.joined_at_ms[rows] / self._bucket_ms, current)
        covered = np.clip(end_bucket - start, 1e-3, 1.0)
        eligible, events = state.supply[rows].T
        told = state.sums[rows, SUM_TOLD]
        raw, variance = np.zeros((len(rows), 3)), np.full((len(rows), 3), np.inf)
        fed = eligible > 0
        raw[:, TRAFFIC] = np.log((eligible + 0.5) / np.maximum(covered, 1e-3)) - base[:, TRAFFIC]
        variance[fed, TRAFFIC] = (1 / np.maximum(eligible, 1.0) + 0.02 * (1 - covered) / covered)[fed]
        seen = fed & (events > 0)
        raw[seen, LEVEL] = np.log(events[seen] / eligible[seen]) - base[seen, LEVEL]
        variance[seen, LEVEL] = 0.7 / eligible[seen]
        priced = told > 0
        raw[priced, PRICE] = state.sums[rows[priced], SUM_LOG_TOLD] / told[priced] - base[priced, PRICE]
        variance[priced, PRICE] = 0.4 / told[priced] + 0.02 * (1 - covered[priced])
        return raw, variance

    def _notice_shifts(self, rows: Rows, raw: FloatArray, raw_variance: FloatArray) -> None:
        state = self._state
        own = self._prior.covariance[:, self._running, self._running]
        fresh = state.refreshed_at_ms[rows] >= np.maximum(self.bucket_start_ms(state.bucket[rows]), 1.0)
        notice_shifts(state, rows, own, self.bucket, fresh, raw - state.scale[rows], raw_variance)

    def _close_bucket(self, rows: Rows) -> None:
        state = self._state
        current = self._current or 0
        raw, variance = self._raw_deviation(rows, current + 1.0)
        expected = state.forecast[rows, :, self._running] + state.scale[rows]
        own = np.maximum(self._prior.covariance[:, self._running, self._running], 1e-9)
        self._notice_shifts(rows, raw, variance)
        gain = np.where(np.isfinite(variance), own / (own + variance), 0.0)
        surprise = np.where(np.isfinite(variance), raw - expected, 0.0)
        state.deviation[rows, :, self._running] = expected + gain * surprise
        starts = (state.first_bucket[rows] < 0) & (state.supply[rows, 0] > 0)
        state.first_bucket[rows[starts]] = current

    def turn_day(self, rows: Rows) -> None:
        """Fold the day's deviations into the campaigns' own profiles, and begin a new day."""
        state, buckets = self._state, self._prior.buckets
        current = self._current or 0
        for row in rows:
            first = int(state.first_bucket[row])
            count = min(max(current - first, 0), buckets) if first >= 0 else 0
            if count:
                order = (first + np.arange(count)) % buckets
                trust = _HISTORY_DAYS if self._prior.known.all() else 0.0
                step = (state.deviation[row][:, order] - state.scale[row][:, None]) / (state.days_seen[row] + 1 + trust)
                state.profile[row][:, order] += step
                state.days_seen[row] += 1
            state.first_bucket[row] = -1
            state.shifted[row] = False

    # forecasts --------------------------------------------------------------------------------------------------------

    def refresh(self, rows: Rows, end_ms: npt.NDArray[np.int64], further: npt.NDArray[np.bool_], now_ms: int) -> None:
        """Make these forecasts anew, up to `end_ms`, and of a whole day where `further` ones follow."""
        if not len(rows):
            return
        state = self._state
        logs, spread = self._expect(rows, now_ms)
        traffic = self._traffic_weights(rows, logs[:, TRAFFIC], end_ms)
        traffic[:, 2] *= further[:, None]
        self._place(rows, logs)
        kernels.refresh_forecasts(
            rows, state.group, state.mass, state.weight, self._curves, self._prior_rows, self._running,
            traffic, np.ascontiguousarray(logs[:, LEVEL]), np.ascontiguousarray(logs[:, PRICE]), spread, state.centre,
            state.first_share, shade_lines(state.shade[rows]), state.own_map, state.tables,
        )  # fmt: skip
        state.refreshed_at_ms[rows] = now_ms
        state.forecast_first_share[rows] = state.first_share[rows]
        self._last = (rows, logs, traffic)

    def _observed(self, rows: Rows) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """First bucket and number of complete buckets observed today."""
        first = self._state.first_bucket[rows]
        count = np.where(first >= 0, np.clip((self._current or 0) - first, 0, self._prior.buckets - 1), 0)
        return np.where(first >= 0, first % self._prior.buckets, 0), count

    def _expect(self, rows: Rows, now_ms: int) -> tuple[FloatArray, FloatArray]:
        """Log traffic, level and price of every bucket, f8[m, 3, T], and the spread of the ratio, f8[m, T]."""
        state, buckets = self._state, self._prior.buckets
        logs, spread = np.zeros((len(rows), 3, buckets)), np.zeros((len(rows), buckets))
        raw, raw_variance = self._raw_deviation(rows, self._bucket_at(now_ms))
        first, count = self._observed(rows)
        scale = state.scale[rows]
        self._notice_shifts(rows, raw, raw_variance)
        keys = self._outlook_keys(rows, first, count)
        for key in np.unique(keys):
            same = np.flatnonzero(keys == key)
            begun, complete, shifted, since = self._outlook_of(int(key))
            mean, covariance = self._outlook.expect(
                begun, complete, state.deviation[rows[same]] - scale[same][:, :, None], self._running,
                raw[same] - scale[same], raw_variance[same], shifted, since,
            )  # fmt: skip
            state.forecast[rows[same]] = mean
            base = self._prior.mean_log[:, state.group[rows[same]]].transpose(1, 0, 2) + state.profile[rows[same]]
            logs[same] = base + mean + scale[same][:, :, None]
            uncertain = np.maximum(np.diagonal(covariance[LEVEL]) + np.diagonal(covariance[PRICE]), 0.0)
            spread[same] = _SPREAD_SHARE * np.sqrt(uncertain)
        return logs, spread

    def _outlook_keys(self, rows: Rows, first: Rows, count: Rows) -> Rows:
        """One number for everything that decides an outlook's conditional."""
        state, base = self._state, self._prior.buckets + 1
        shifted = state.shifted[rows] @ np.array([1, 2, 4])
        # The bucket of the shift itself is of two minds, so it is left out once there is a later one.
        since = (self._current or 0) - state.shift_bucket[rows]
        since = np.clip(since - (since > 1), 0, count) * (shifted > 0)
        return np.asarray(((first * base + count) * 8 + shifted) * base + since, np.int64)

    def _outlook_of(self, key: int) -> tuple[int, int, int, int]:
        """First and number of observed buckets, which series have shifted, and buckets observed since."""
        base = self._prior.buckets + 1
        rest, since = divmod(key, base)
        observed, shifted = divmod(rest, 8)
        return *divmod(observed, base), shifted, since

    def _traffic_weights(self, rows: Rows, log_traffic: FloatArray, end_ms: npt.NDArray[np.int64]) -> FloatArray:
        """f8[m, 3, T]: impressions of the running bucket, of later buckets up to the end, of a whole day."""
        buckets, current = self._prior.buckets, self._current or 0
        weights = np.zeros((len(rows), 3, buckets))
        impressions = np.exp(log_traffic)
        weights[:, 0, self._running] = impressions[:, self._running]
        weights[:, 2] = impressions
        ends = (end_ms - self._prior.midnight_offset_ms) / self._bucket_ms
        last = math.ceil(min(float(ends.max()), current + 2.0 * buckets))
        for bucket in range(current + 1, last):
            t = bucket % buckets
            weights[:, 1, t] += impressions[:, t] * np.clip(ends - bucket, 0.0, 1.0)
        return weights

    def _place(self, rows: Rows, logs: FloatArray) -> None:
        """Choose the centre of the tables of campaigns that have none."""
        state = self._state
        new = ~state.placed[rows]
        if new.any():
            target = state.target[rows]
            market = logs[:, PRICE, self._running] - logs[:, LEVEL, self._running] + _TARGET_Z
            state.centre[rows[new]] = np.where(target > 0, np.log(np.maximum(target, 1.0)), market)[new]
            state.placed[rows[new]] = True

    def recentre(self, rows: Rows, log_alpha: FloatArray) -> None:
        """Put these multipliers in the middle of the tables, from the next refresh on."""
        self._state.centre[rows] = log_alpha

    def may_recentre(self, rows: Rows, binding: npt.NDArray[np.uint8], budget: FloatArray) -> npt.NDArray[np.bool_]:
        """Whether moving the tables would help: something is left to spend, and more could be won above."""
        state = self._state
        top = state.log_price[rows] - state.log_level[rows] + _TOP_Z - state.log_shade[rows]
        above = (binding == kernels.ABOVE_GRID) & (state.centre[rows] < top - _HALF_RANGE)
        below = (binding == kernels.BELOW_GRID) & (state.centre[rows] > -20.0)
        return np.asarray((above | below) & (budget > 0), np.bool_)

    def variance(self, rows: Rows, remaining: FloatArray) -> FloatArray:
        """f8[m]: variance of the log multiplier that would have been right, given what may still come.

        Symbols: with cost C_t of bucket t and weights w_t proportional to dC_t / d log alpha, a deviation d_t of the
            log ratio of
        price to level moves log alpha by sum w_t d_t, one of log traffic by sum w_t d_t / elasticity.
        """
        state, buckets = self._state, self._prior.buckets
        seen_rows, logs, traffic = self._last
        position = {int(r): i for i, r in enumerate(seen_rows)}
        missing = [int(r) for r in rows if int(r) not in position]
        variance = np.zeros(len(rows))
        if missing:
            variance[[int(r) not in position for r in rows]] = state.variance[missing]
        found = np.array([i for i, r in enumerate(rows) if int(r) in position], np.int64)
        if not len(found):
            return variance
        at = np.array([position[int(rows[i])] for i in found], np.int64)
        chosen = rows[found]
        impressions = traffic[at, 1].copy()
        impressions[:, self._running] += traffic[at, 0, self._running] * remaining[found]
        slope = np.zeros((len(chosen), buckets + 1))
        log_alpha = state.log_solved[chosen] + state.first_share[chosen] * state.log_shade[chosen]
        kernels.cost_slopes(
            chosen, state.group, self._curves, state.own_map, impressions, np.ascontiguousarray(logs[at, LEVEL]),
            np.ascontiguousarray(logs[at, PRICE]), log_alpha, slope,
        )  # fmt: skip
        total = np.maximum(slope[:, :buckets].sum(1), 1e-12)
        share = slope[:, :buckets] / total[:, None]
        elasticity = np.maximum(total / np.maximum(slope[:, buckets], 1e-12), 1.0)
        first, count = self._observed(chosen)
        keys = self._outlook_keys(chosen, first, count)
        for key in np.unique(keys):
            same = np.flatnonzero(keys == key)
            covariance = self._outlook.given(*self._outlook_of(int(key))).covariance
            ratio = np.einsum("mt,tu,mu->m", share[same], covariance[LEVEL] + covariance[PRICE], share[same])
            traffic_part = np.einsum("mt,tu,mu->m", share[same], covariance[TRAFFIC], share[same])
            variance[found[same]] = np.maximum(ratio, 0.0) + np.maximum(traffic_part, 0.0) / elasticity[same] ** 2
        cold = _COLD_VARIANCE * self._prior_rows / (self._prior_rows + state.rows_seen[chosen])
        state.cold_variance[chosen] = np.where(state.scaled[chosen].any(1), cold, 0.0)
        return variance

    def remaining_share(self, rows: Rows, end_ms: npt.NDArray[np.int64], now_ms: int) -> FloatArray:
        """f8[m]: which part of the running bucket is still to come before the horizon ends."""
        end = np.minimum((end_ms - self._prior.midnight_offset_ms) / self._bucket_ms, (self._current or 0) + 1.0)
        return np.clip(end - self._bucket_at(now_ms), 0.0, 1.0)

    def remaining_impressions(self, rows: Rows) -> FloatArray:
        """f8[m]: viewers that these campaigns may still bid for, roughly a day's worth at the present rate."""
        state = self._state
        return np.asarray(
            np.exp(self._base(rows, self._running)[:, TRAFFIC] + state.scale[rows, TRAFFIC]) * self._prior.buckets
        )

    def target_deviation(self) -> float:
        """Standard deviation of log(alpha / target) before anything is seen."""
        return self._settings.target_sd if self._prior.known.all() else self._settings.cold_target_sd

    def caution(self, rows: Rows) -> FloatArray:
        """f8[m]: by how much to bid less, without a target to start from, until the first supply tells the level."""
        spread = math.sqrt(self._prior.covariance[LEVEL, self._running, self._running])
        unseen = self._prior.known[LEVEL] & (self._state.meant[rows, LEVEL] <= 0)
        return np.asarray(np.where(unseen, math.exp(-_CAUTION_SD * spread), 1.0), np.float64)

    def blind(self, rows: Rows) -> npt.NDArray[np.bool_]:
        """Campaigns on a market of unknown prices that have seen too few yet."""
        state = self._state
        unpriced = np.where(state.target[rows] > 0, state.rows_seen[rows] < _BLIND_ROWS, state.meant[rows, PRICE] <= 0)
        return np.asarray(~self._prior.known[PRICE] & unpriced, np.bool_)

    def cost_rate(self, rows: Rows, alpha: FloatArray) -> FloatArray:
        """f8[m]: micros per ms that the running bucket should cost at these multipliers."""
        state = self._state
        log_alpha = np.log(np.maximum(alpha, 1e-9))
        cost = np.zeros(len(rows))
        kernels.current_costs(rows, state.tables, state.centre, log_alpha, cost)
        return np.asarray(cost * (alpha > 0) / self._bucket_ms, np.float64)
