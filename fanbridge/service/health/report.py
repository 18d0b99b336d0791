"""A creator's week or month with their fans: growth, engagement, mix, who left, and where that stands among peers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fanbridge.events import EVENT_KINDS, STAGE_NAMES, TIER_NAMES
from fanbridge.service.health import peers
from fanbridge.service.health.associations import CONFIDENCE, SMALLEST_GROUP, Association, associations_of
from fanbridge.service.health.follows import ORGANIC, Spells, following, within
from fanbridge.service.health.reader import HealthReader
from fanbridge.service.store import signed
from fanbridge.service.validation import InvalidRequest
from pacing.facts import OutcomeKind
from protos import fans_pb2 as pb

PERIODS = (7, 30)
DEFAULT_DAYS = 7
NEW_DAYS = 30
"""Fans gained so many days before the period, or fewer, are new ones."""
NEW_FANS = 0
"""Stands for the new fans where a campaign's id stands for those whom it gained."""
_FOLLOW_KINDS = (OutcomeKind.FOLLOW, OutcomeKind.UNFOLLOW)  # told as growth
_MAX_ID = 2**64 - 1


class _Period(NamedTuple):
    """The days first .. end - 1, counted from 1970."""

    first: int
    end: int


class HealthReports:
    """Makes reports from a FanStore's file. A day is number `at_ms // day_ms`. Any thread may ask.

    All creators' figures of the last period that was asked for are kept, for KEPT_MS: peers need them, and they are
    the only part whose cost grows with the number of creators.
    """

    KEPT_MS = 60_000

    def __init__(self, reader: HealthReader, day_ms: int, now_ms: Callable[[], int]) -> None:
        self._reader = reader
        self._day_ms = day_ms
        self._now_ms = now_ms
        self._kept: tuple[_Period, int, peers.Everybody] | None = None

    def close(self) -> None:
        """Close the file."""
        self._reader.close()

    def report(self, request: pb.HealthRequest) -> pb.CreatorHealth:
        """The report.

        Raises:
            InvalidRequest: a field is out of range, or the period is not over yet.
        """
        period = self._period(request)
        days = period.end - period.first
        before = _Period(period.first - days, period.first)
        spells = self._reader.spells(request.creator_id)
        report = pb.CreatorHealth(
            creator_id=request.creator_id,
            days=days,
            begin_at_ms=period.first * self._day_ms,
            end_at_ms=period.end * self._day_ms,
            period=self._figures(request.creator_id, spells, period),
            before=self._figures(request.creator_id, spells, before),
            by_day=self._by_day(spells, period),
            associations=[_association(one) for one in self._who_left(spells, period)],
            smallest_group=SMALLEST_GROUP,
            confidence=CONFIDENCE,
            smallest_cohort=peers.SMALLEST_COHORT,
        )
        standing = peers.standing_of(self._everybody(period), signed(request.creator_id))
        if standing is not None:
            report.peers.CopyFrom(_peers(standing))
        return report

    def _period(self, request: pb.HealthRequest) -> _Period:
        if not 1 <= request.creator_id <= _MAX_ID:
            raise InvalidRequest(f"creator_id {request.creator_id}: must be 1..{_MAX_ID}")
        days = request.days or DEFAULT_DAYS
        if days not in PERIODS:
            raise InvalidRequest(f"days {days}: must be {' or '.join(map(str, PERIODS))}")
        today = self._now_ms() // self._day_ms
        end = request.end_day or today
        if not 2 * days <= end <= today:
            raise InvalidRequest(f"end_day {end}: must be {2 * days}..{today}: the period must be over")
        return _Period(end - days, end)

    def _figures(self, creator_id: int, spells: Spells, period: _Period) -> pb.PeriodFigures:
        begin_at_ms, end_at_ms = (day * self._day_ms for day in period)
        gained = within(spells["began_at_ms"], begin_at_ms, end_at_ms)
        lost = within(spells["ended_at_ms"], begin_at_ms, end_at_ms)
        fan_days = sum(
            int(following(spells, day * self._day_ms).sum())
            + int(within(spells["began_at_ms"], day * self._day_ms, (day + 1) * self._day_ms).sum())
            for day in range(*period)
        )
        active_fan_days = self._reader.active_fan_days(creator_id, *period)
        kinds = self._reader.kinds(creator_id, *period)
        return pb.PeriodFigures(
            fans_at_begin=int(following(spells, begin_at_ms).sum()),
            fans_at_end=int(following(spells, end_at_ms).sum()),
            gained=int(gained.sum()),
            lost=int(lost.sum()),
            sources=_sources(spells, gained, lost),
            fan_days=fan_days,
            active_fan_days=active_fan_days,
            active_share=active_fan_days / fan_days if fan_days else 0.0,
            kinds=[
                pb.KindFigures(kind=kind, events=kinds[kind], per_100_fan_days=_per(100 * kinds[kind], fan_days))
                for kind in sorted(EVENT_KINDS)
                if kinds[kind] and kind not in _FOLLOW_KINDS
            ],
            tiers=_mix(self._reader.tiers(creator_id, period.end), [int(tier) for tier in TIER_NAMES]),
            stages=_mix(self._reader.stages(creator_id, period.end), [int(stage) for stage in STAGE_NAMES]),
        )

    def _by_day(self, spells: Spells, period: _Period) -> list[pb.HealthDay]:
        found = []
        for day in range(*period):
            begin_at_ms, end_at_ms = day * self._day_ms, (day + 1) * self._day_ms
            gained = within(spells["began_at_ms"], begin_at_ms, end_at_ms)
            bought = int((gained & (spells["campaign_id"] != ORGANIC)).sum())
            found.append(
                pb.HealthDay(
                    day_start_at_ms=begin_at_ms,
                    fans_at_end=int(following(spells, end_at_ms).sum()),
                    gained_by_campaigns=bought,
                    gained_otherwise=int(gained.sum()) - bought,
                    lost=int(within(spells["ended_at_ms"], begin_at_ms, end_at_ms).sum()),
                )
            )
        return found

    def _who_left(self, spells: Spells, period: _Period) -> list[Association]:
        """Of the fans at the beginning, who left, by the campaign that gained them, and new ones beside old ones."""
        begin_at_ms, end_at_ms = (day * self._day_ms for day in period)
        fans = spells[following(spells, begin_at_ms)]
        left = within(fans["ended_at_ms"], begin_at_ms, end_at_ms)
        groups = {int(i): fans["campaign_id"] == i for i in np.unique(fans["campaign_id"]) if i != ORGANIC}
        groups[NEW_FANS] = fans["began_at_ms"] >= begin_at_ms - NEW_DAYS * self._day_ms
        return associations_of(left, groups)

    def _everybody(self, period: _Period) -> peers.Everybody:
        now_ms = self._now_ms()
        kept = self._kept
        if kept is not None and kept[0] == period and now_ms - kept[1] < self.KEPT_MS:
            return kept[2]
        everybody = self._reader.everybody(*period)
        self._kept = (period, now_ms, everybody)
        return everybody


def _sources(spells: Spells, gained: npt.NDArray[np.bool_], lost: npt.NDArray[np.bool_]) -> list[pb.SourceFigures]:
    """Gains and losses by source, the campaigns that gained most first; no campaign always, and last."""
    ids = spells["campaign_id"]
    found = [
        pb.SourceFigures(
            campaign_id=int(i) % 2**64, gained=int((gained & (ids == i)).sum()), lost=int((lost & (ids == i)).sum())
        )
        for i in np.unique(ids[gained | lost])
        if i != ORGANIC
    ]
    found.sort(key=lambda one: (-one.gained, one.campaign_id))
    organic = ids == ORGANIC
    return [*found, pb.SourceFigures(gained=int((gained & organic).sum()), lost=int((lost & organic).sum()))]


def _mix(counts: Mapping[int, int], codes: list[int]) -> list[pb.MixFigures]:
    total = sum(counts[code] for code in codes)
    return [pb.MixFigures(code=code, fans=max(counts[code], 0), share=_per(counts[code], total)) for code in codes]


def _per(part: int, whole: int) -> float:
    return part / whole if whole > 0 else 0.0


def _association(found: Association) -> pb.Association:
    campaign_id = found.group % 2**64
    who = f"Fans gained through campaign {campaign_id}"
    if found.group == NEW_FANS:
        who = f"Fans gained in the {NEW_DAYS} days before"
    return pb.Association(
        campaign_id=campaign_id,
        left=found.left,
        fans=found.fans,
        others_left=found.others_left,
        others=found.others,
        ratio=found.ratio,
        ratio_low=found.ratio_low,
        ratio_high=found.ratio_high,
        is_clear=found.is_clear,
        sentence=found.sentence(who),
    )


def _peers(standing: peers.Standing) -> pb.Peers:
    figures = zip(peers.FIGURES, standing.values, standing.percentiles, strict=True)
    return pb.Peers(
        creators=standing.creators,
        least_fans=standing.least_fans,
        most_fans=standing.most_fans,
        figures=[pb.PeerFigure(name=name, value=value, percentile=percentile) for name, value, percentile in figures],
    )
