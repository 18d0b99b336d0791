"""Past days of a market: who could be bought, when, and for how much. The raw material of a spend plan.

A history is a sample of past auctions. Each row is one impression that a campaign of some group could have bid for: its
probability of a goal event, the prices at which it could have been had, and when it came. A slot with several positions
has a ladder of prices, dearest first, each with the chance that an ad in that position is seen.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pacing.array_state import check_numbers
from pacing.clocks import MS_PER_DAY

FORMAT_VERSION = 1
MAX_BUCKETS = 96
_COLUMNS = ("day", "bucket", "group", "series", "probability", "prices_micros", "told_micros")


@dataclass(frozen=True)
class MarketHistory:
    """A sample of past auctions with the true traffic beside it.

    Attributes:
        day: (n,) which past day, 0 up.
        bucket: (n,) which part of the day, 0..buckets-1; the day is cut into equal parts.
        group: (n,) campaigns that resemble each other, as in PACING_ACCOUNT.history_group.
        series: (n,) which past campaign saw the row; rows of one series and day share its ups and downs.
        probability: (n,) chance of a goal event if the ad is seen, above 0.
        prices_micros: (n, s) the least that wins position 1..s, which is also its second price; non-increasing along s.
        exposure: (s,) chance that position 1..s is seen, non-increasing.
        told_micros: (n,) what a bidder is told as the least bid that wins; the last position's price where nothing
            else is.
        impressions: (days, buckets) how many rows a campaign could have bid for, not only those in the sample.
        midnight_offset_ms: instant of bucket 0 after 00:00 UTC, 0..86,399,999.
    """

    day: npt.NDArray[np.int64]
    bucket: npt.NDArray[np.int64]
    group: npt.NDArray[np.int64]
    series: npt.NDArray[np.int64]
    probability: npt.NDArray[np.float64]
    prices_micros: npt.NDArray[np.float64]
    exposure: npt.NDArray[np.float64]
    impressions: npt.NDArray[np.float64]
    told_micros: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    midnight_offset_ms: int = 0

    def __post_init__(self) -> None:
        """Check shapes and ranges.

        Raises:
            ValueError: a column is out of shape or range; the text names it.
        """
        rows = len(self.day)
        if len(self.told_micros) == 0 and self.prices_micros.ndim == 2 and self.prices_micros.shape[1]:
            object.__setattr__(self, "told_micros", self.prices_micros[:, -1].copy())
        for name in ("day", "bucket", "group", "series", "probability", "told_micros"):
            column = getattr(self, name)
            if column.shape != (rows,):
                raise ValueError(f"{name} {column.shape}: shape is not ({rows},)")
        if self.impressions.ndim != 2 or not 1 <= self.impressions.shape[1] <= MAX_BUCKETS or len(self.impressions) < 1:
            raise ValueError(f"impressions {self.impressions.shape}: not (days, 1..{MAX_BUCKETS} buckets)")
        positions = len(self.exposure)
        if positions < 1 or self.prices_micros.shape != (rows, positions):
            raise ValueError(f"prices_micros {self.prices_micros.shape}: shape is not ({rows}, {positions} positions)")
        _check_range("day", self.day, 0, len(self.impressions) - 1)
        _check_range("bucket", self.bucket, 0, self.impressions.shape[1] - 1)
        _check_range("group", self.group, 0, 2**32 - 1)
        _check_range("series", self.series, 0, 2**32 - 1)
        _check_range("probability", self.probability, 1e-12, 1e6)
        _check_range("prices_micros", self.prices_micros, 0, 1e13)
        _check_range("told_micros", self.told_micros, 0, 1e13)
        _check_range("exposure", self.exposure, 0, 1)
        _check_range("impressions", self.impressions, 0, 1e15)
        if not 0 <= self.midnight_offset_ms < MS_PER_DAY:
            raise ValueError(f"midnight_offset_ms {self.midnight_offset_ms}: outside 0..{MS_PER_DAY - 1}")

    @property
    def buckets(self) -> int:
        """Into how many equal parts a day is cut."""
        return int(self.impressions.shape[1])

    @property
    def days(self) -> int:
        """How many past days there are."""
        return int(self.impressions.shape[0])

    def save(self, path: str | Path) -> None:
        """Write the history to a compressed .npz file, in float32."""
        columns: dict[str, Any] = {name: _narrow(getattr(self, name)) for name in _COLUMNS}
        np.savez_compressed(
            path,
            format_version=np.int64(FORMAT_VERSION),
            exposure=self.exposure.astype(np.float32),
            impressions=self.impressions,
            midnight_offset_ms=np.int64(self.midnight_offset_ms),
            **columns,
        )

    @classmethod
    def load(cls, path: str | Path) -> MarketHistory:
        """Read what `save` wrote.

        Raises:
            ValueError: the file is no such history, or a column is out of range.
            OSError: the file cannot be read.
        """
        with np.load(path, allow_pickle=False) as pack:
            missing = {*_COLUMNS, "exposure", "impressions", "midnight_offset_ms", "format_version"} - set(pack.files)
            if missing:
                raise ValueError(f"history {path}: has no {', '.join(sorted(missing))}")
            if pack["format_version"].tolist() != FORMAT_VERSION:
                raise ValueError(f"history {path}: format_version {pack['format_version']}, not {FORMAT_VERSION}")
            columns = {name: pack[name] for name in _COLUMNS}
            offset = pack["midnight_offset_ms"]
            check_numbers({**columns, "exposure": pack["exposure"], "impressions": pack["impressions"]})
            if offset.shape != () or offset.dtype.kind not in "iu":
                raise ValueError(f"history {path}: midnight_offset_ms {offset}: must be one whole number")
            offset_ms = int(offset)
            exposure, impressions = pack["exposure"].astype(np.float64), pack["impressions"].astype(np.float64)
        for name in ("day", "bucket", "group", "series"):
            columns[name] = columns[name].astype(np.int64)
        for name in ("probability", "prices_micros", "told_micros"):
            columns[name] = columns[name].astype(np.float64)
        return cls(**columns, exposure=exposure, impressions=impressions, midnight_offset_ms=offset_ms)


def _narrow(column: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return column.astype(np.float32) if column.dtype.kind == "f" else column.astype(np.uint32)


def _check_range(name: str, column: npt.NDArray[Any], low: float, high: float) -> None:
    """Refuse NaN and anything outside low..high."""
    if column.size and not bool(np.all((column >= low) & (column <= high))):
        raise ValueError(f"{name}: has a value outside {low}..{high}")
