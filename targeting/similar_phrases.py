"""How far a similar creator's fans are the creator's too, in words; in ranges, as these are other people's fans."""

from __future__ import annotations

from targeting.graph.similar.lists import SimilarCreator
from targeting.reach.ranges import LEAST_TOLD, told_range

_TENTHS_FROM = 10 * LEAST_TOLD
"""Fans from which on a tenth of them is a crowd that may be told."""
_LIFTS = (2, 5, 10, 20, 50, 100, 200, 500, 1_000)


def english_similar(similar: SimilarCreator) -> str:
    """The creator's id, and how many of the fans follow the campaign's creator too."""
    low, high = _shared(similar)
    many = f"fewer than {high:,}" if not low else f"{low:,} to {high:,}"
    among = " in a hundred" if _in_tenths(similar) else ""
    return (
        f"{similar.creator_id} ({many}{among} of their fans follow the creator too, over {_lift(similar):,} times what "
        "chance gives)"
    )


def chinese_similar(similar: SimilarCreator) -> str:
    """As `english_similar`."""
    low, high = _shared(similar)
    among = "每100位粉丝中" if _in_tenths(similar) else "其粉丝中"
    told = f"{low}至{high}人" if low else f"不到{high}人"
    return f"{similar.creator_id}（{among}有{told}也关注主播，是随机情况的{_lift(similar)}倍以上）"


def _in_tenths(similar: SimilarCreator) -> bool:
    return similar.fans >= _TENTHS_FROM


def _shared(similar: SimilarCreator) -> tuple[int, int]:
    """How many of a hundred fans, by tens; how many of all, by hundreds, of whom there are few."""
    if not _in_tenths(similar):
        return told_range(similar.common, similar.common)
    tenths = min(10 * similar.common // similar.fans, 9)
    return 10 * tenths, 10 * (tenths + 1)


def _lift(similar: SimilarCreator) -> int:
    return max((lift for lift in _LIFTS if lift <= similar.lift), default=1)
