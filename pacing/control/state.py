"""What the controller remembers of each campaign, in columns that grow."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pacing.control.grid import ALPHA_BINS, CURVE_BINS
from pacing.control.kernels import SUM_COLUMNS, TABLE_ROWS
from pacing.control.shades.kernels import SHADE_COLUMNS
from pacing.control.turns.kernels import find_rows, insert_ids

TRAFFIC, LEVEL, PRICE = 0, 1, 2
NEVER_MS = int(np.iinfo(np.int64).min // 2)


class CampaignState:
    """Columns by campaign row. Rows are given in order of first sight and never move.

    Attributes:
        deviation: f4[N, 3, T] how far traffic, level and price of a bucket lay from their mean, in logs; today's.
        profile: f4[N, 3, T] the same, averaged over the campaign's own past days.
        forecast: f4[N, 3, T] the deviations expected at the last refresh (observed ones stay).
        scale: f8[N, 3] the campaign's constant offset from the market, in logs.
        scaled: bool[N, 3] the offset is the campaign's own, not the market's.
        foretold: f8[N, 3] the deviation expected of the running bucket when it began.
        shifted: bool[N, 3] the series left today what past days span.
        seen, meant: f8[N, 3] observed and expected sums behind `scale`, with memory.
        bucket: i8[N] absolute number of the bucket in which the campaign was last solved; its running bucket.
        supply: f8[N, 2] eligible viewers and their expected events in this bucket; tick_supply: since the last solve.
        sums, tick_sums: f8[N, SUM_COLUMNS] of auctions, in this bucket and since the last solve.
        shade: f8[N, SHADE_COLUMNS] sums of shades.kernels.sum_shades, with memory.
        outcome: f8[N, 4] with memory: events and spend that came, events and spend that were expected.
        layout: dtype of one row as a record.
    """

    def __init__(self, buckets: int) -> None:
        self.buckets = buckets
        self.count = 0
        self.row_of: dict[int, int] = {}
        self._columns: dict[str, tuple[str, tuple[int, ...]]] = {
            "campaign_id": ("u8", ()),
            "group": ("i8", ()),
            "bucket": ("i8", ()),
            "deviation": ("f4", (3, buckets)),
            "profile": ("f4", (3, buckets)),
            "forecast": ("f4", (3, buckets)),
            "days_seen": ("f8", ()),
            "first_bucket": ("i8", ()),  # absolute number of the first bucket observed today; -1: none
            "joined_at_ms": ("i8", ()),
            "scale": ("f8", (3,)),
            "scaled": ("?", (3,)),
            "foretold": ("f8", (3,)),
            "shifted": ("?", (3,)),
            "shift_bucket": ("i8", ()),  # absolute number of the bucket of the last shift
            "seen": ("f8", (3,)),
            "meant": ("f8", (3,)),
            "supply": ("f8", (2,)),
            "tick_supply": ("f8", (2,)),
            "sums": ("f8", (SUM_COLUMNS,)),
            "tick_sums": ("f8", (SUM_COLUMNS,)),
            "outcome": ("f8", (4,)),
            "mass": ("f4", (3, CURVE_BINS)),
            "weight": ("f4", (buckets,)),
            "own_map": ("f4", (CURVE_BINS,)),
            "tables": ("f4", (TABLE_ROWS, ALPHA_BINS)),
            "rows_seen": ("f8", ()),
            "first_share": ("f8", ()),
            "log_shade": ("f8", ()),
            "shade": ("f8", (SHADE_COLUMNS,)),
            "forecast_first_share": ("f8", ()),  # in the tables
            "log_level": ("f8", ()),  # scales on which auctions are binned now
            "log_price": ("f8", ()),
            "centre": ("f8", ()),
            "placed": ("?", ()),  # the centre has been chosen
            "refreshed_at_ms": ("i8", ()),
            "alpha": ("f8", ()),
            "log_solved": ("f8", ()),
            "variance": ("f8", ()),
            "cold_variance": ("f8", ()),
            "day_start_at_ms": ("i8", ()),
            "day_end_at_ms": ("i8", ()),
            "target": ("f8", ()),
            "deficit": ("f8", ()),  # micros over target, carried from the day before
            "last_spend": ("f8", ()),
            "last_events": ("f8", ()),  # as predicted
            "last_expected": ("f8", ()),  # as thought in the light of what arrived
            "last_left": ("f8", ()),  # micros of day and flight that were left
            "planned": ("f8", ()),
            "plan_rate": ("f8", ()),  # micros per ms until the next solve
            "budget_dual": ("f8", ()),
            "cost_dual": ("f8", ()),
            "solved_at_ms": ("i8", ()),
            "explored_at_ms": ("i8", ()),
            "away": ("?", ()),  # nobody paced it for a while: what came until its next solve says nothing
        }
        self.layout = np.dtype([(name, f"<{kind}", shape) for name, (kind, shape) in self._columns.items()])
        self._table: npt.NDArray[np.int64] = np.full(256, -1, np.int64)  # rows by campaign id
        self._entered = 0  # so many rows are in the table
        self._capacity = 0
        self._grow(64)

    campaign_id: npt.NDArray[np.uint64]
    group: npt.NDArray[np.int64]
    bucket: npt.NDArray[np.int64]
    deviation: npt.NDArray[np.float32]
    profile: npt.NDArray[np.float32]
    forecast: npt.NDArray[np.float32]
    days_seen: npt.NDArray[np.float64]
    first_bucket: npt.NDArray[np.int64]
    joined_at_ms: npt.NDArray[np.int64]
    scale: npt.NDArray[np.float64]
    scaled: npt.NDArray[np.bool_]
    foretold: npt.NDArray[np.float64]
    shifted: npt.NDArray[np.bool_]
    shift_bucket: npt.NDArray[np.int64]
    seen: npt.NDArray[np.float64]
    meant: npt.NDArray[np.float64]
    supply: npt.NDArray[np.float64]
    tick_supply: npt.NDArray[np.float64]
    sums: npt.NDArray[np.float64]
    tick_sums: npt.NDArray[np.float64]
    outcome: npt.NDArray[np.float64]
    mass: npt.NDArray[np.float32]
    weight: npt.NDArray[np.float32]
    own_map: npt.NDArray[np.float32]
    tables: npt.NDArray[np.float32]
    rows_seen: npt.NDArray[np.float64]
    first_share: npt.NDArray[np.float64]
    log_shade: npt.NDArray[np.float64]
    shade: npt.NDArray[np.float64]
    forecast_first_share: npt.NDArray[np.float64]
    log_level: npt.NDArray[np.float64]
    log_price: npt.NDArray[np.float64]
    centre: npt.NDArray[np.float64]
    placed: npt.NDArray[np.bool_]
    refreshed_at_ms: npt.NDArray[np.int64]
    alpha: npt.NDArray[np.float64]
    log_solved: npt.NDArray[np.float64]
    variance: npt.NDArray[np.float64]
    cold_variance: npt.NDArray[np.float64]
    day_start_at_ms: npt.NDArray[np.int64]
    day_end_at_ms: npt.NDArray[np.int64]
    target: npt.NDArray[np.float64]
    deficit: npt.NDArray[np.float64]
    last_spend: npt.NDArray[np.float64]
    last_events: npt.NDArray[np.float64]
    last_expected: npt.NDArray[np.float64]
    last_left: npt.NDArray[np.float64]
    planned: npt.NDArray[np.float64]
    plan_rate: npt.NDArray[np.float64]
    budget_dual: npt.NDArray[np.float64]
    cost_dual: npt.NDArray[np.float64]
    solved_at_ms: npt.NDArray[np.int64]
    explored_at_ms: npt.NDArray[np.int64]
    away: npt.NDArray[np.bool_]

    def _grow(self, capacity: int) -> None:
        for name, (kind, shape) in self._columns.items():
            column = np.zeros((capacity, *shape), kind)
            if self._capacity:
                column[: self._capacity] = getattr(self, name)
            setattr(self, name, column)
        self.own_map[self._capacity :] = np.arange(CURVE_BINS, dtype=np.float32)
        self.first_bucket[self._capacity :] = -1
        self.refreshed_at_ms[self._capacity :] = NEVER_MS
        self._capacity = capacity

    def rows(self, campaign_ids: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """Rows of these campaigns, -1 for those never added."""
        if 2 * self.count > len(self._table):
            self._table, self._entered = np.full(4 * self._capacity, -1, np.int64), 0
        if self._entered < self.count:
            insert_ids(self.campaign_id[: self.count], self._entered, self._table)
            self._entered = self.count
        rows = np.empty(len(campaign_ids), np.int64)
        find_rows(self.campaign_id, self._table, np.ascontiguousarray(campaign_ids, np.uint64), rows)
        return rows

    def add(self, campaign_id: int) -> int:
        """Give a new campaign its row."""
        if self.count == self._capacity:
            self._grow(2 * self._capacity)
        row = self.count
        self.count += 1
        self.row_of[campaign_id] = row
        self.campaign_id[row] = campaign_id
        return row

    def taken(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.void]:
        """A copy of these rows as records of `layout`."""
        records = np.zeros(len(rows), self.layout)
        for name in self._columns:
            records[name] = getattr(self, name)[rows]
        return records

    def put(self, records: npt.NDArray[np.void]) -> npt.NDArray[np.int64]:
        """Set the rows of these campaigns, adding those that are new; answers which rows they are."""
        ids = records["campaign_id"]
        for campaign_id in ids.tolist():
            if campaign_id not in self.row_of:
                self.add(campaign_id)
        rows = self.rows(ids)
        for name in self._columns:
            getattr(self, name)[rows] = records[name]
        return rows
