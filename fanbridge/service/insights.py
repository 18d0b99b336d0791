"""What the fan service's file tells about creators and fans, read beside whoever writes it."""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from fanbridge.events import Stage, Tier
from fanbridge.service import lifecycle, tiering
from fanbridge.service.churn import Alarm, ChurnRules, DayCounts, alarms_of
from fanbridge.service.fans import FanRules, catch_up
from fanbridge.service.store import FAN_COLUMNS, fan_of, signed
from fanbridge.service.winback import Bought, WinBack, win_back

LIVE_STAGES = (Stage.GAINED, Stage.ACTIVATED, Stage.RETAINED)
_BOUGHT_DAYS = 30


class Transition(NamedTuple):
    """So many fans of a creator went from one stage to another on a day; UNSPECIFIED: were no fans before."""

    day: int
    from_stage: Stage
    to_stage: Stage
    fans: int


@dataclass(frozen=True)
class CreatorDay:
    """A creator's day: followers who gave a sign of life, what was spent on ads, and the fans that these gained."""

    stirred: int
    spend_micros: int
    fans_bought: int


@dataclass(frozen=True)
class Explained:
    """A fan's tier and stage, each with its reason."""

    tier: Tier
    tier_reason: str
    stage: Stage
    stage_reason: str


class Insights:
    """Reads the file of a FanStore, also while one writes it. Any thread may call any method.

    A day is number `at_ms // day_ms`, so days begin at midnight UTC.
    """

    def __init__(self, path: Path, rules: FanRules, churn: ChurnRules | None = None) -> None:
        """Open the file.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is no file of a fan service, or damaged.
        """
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file; a fan service makes it")
        self._rules = rules
        self.churn_rules = churn or ChurnRules()
        self._lock = threading.Lock()
        self._db = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, check_same_thread=False)
        try:
            self.check()
        except sqlite3.Error as error:
            self._db.close()
            raise ValueError(f"{path}: {error}") from None

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def check(self) -> None:
        """See whether the file can be read.

        Raises:
            sqlite3.Error: it cannot.
        """
        for table in ("fans", "transitions", "creator_days", "creatives"):
            self._fetch(f"SELECT 1 FROM {table} LIMIT 1", ())

    @property
    def day_ms(self) -> int:
        """The length of a day."""
        return self._rules.lifecycle.day_ms

    def explain(self, viewer_id: int, creator_id: int, at_ms: int) -> Explained | None:
        """Why a fan stands where they stand at `at_ms`; None: nothing is known of them."""
        query = f"SELECT {FAN_COLUMNS} FROM fans WHERE viewer_id = ? AND creator_id = ?"
        found = self._fetch(query, (signed(viewer_id), signed(creator_id)))
        if not found:
            return None
        fan, _ = catch_up(fan_of(found[0]), at_ms, self._rules)
        follows = fan.dates.follows
        return Explained(
            tiering.tier_at(fan.engagement, follows, at_ms, self._rules.tiers),
            tiering.tier_reason(fan.engagement, follows, at_ms, self._rules.tiers),
            lifecycle.stage_at(fan.dates, at_ms, self._rules.lifecycle),
            lifecycle.stage_reason(fan.dates, at_ms, self._rules.lifecycle),
        )

    def transitions(self, creator_id: int, first_day: int = 0) -> list[Transition]:
        """Steps between stages from `first_day` on, by day, counted."""
        query = (
            "SELECT day, from_stage, to_stage, fans FROM transitions WHERE creator_id = ? AND day >= ? "
            "ORDER BY day, from_stage, to_stage"
        )
        found = self._fetch(query, (signed(creator_id), first_day))
        return [Transition(day, Stage(old), Stage(new), fans) for day, old, new, fans in found]

    def days(self, creator_id: int, first_day: int = 0) -> dict[int, CreatorDay]:
        """What each day from `first_day` on had; days without anything are left out."""
        query = (
            "SELECT day, stirred, spend_micros, fans_bought FROM creator_days WHERE creator_id = ? AND day >= ? "
            "ORDER BY day"
        )
        return {row[0]: CreatorDay(*row[1:]) for row in self._fetch(query, (signed(creator_id), first_day))}

    def stages(self, creator_id: int) -> dict[Stage, int]:
        """How many fans are in each stage, as last told."""
        counts = dict.fromkeys((stage for stage in Stage if stage), 0)
        for one in self.transitions(creator_id):
            for stage, change in ((one.from_stage, -one.fans), (one.to_stage, one.fans)):
                if stage:
                    counts[stage] += change
        return counts

    def churn_counts(self, creator_id: int, at_ms: int) -> DayCounts:
        """Who turned silent and who left, day by day, until the last day that was over at `at_ms`."""
        moves = self.transitions(creator_id)
        stirred = {day: row.stirred for day, row in self.days(creator_id).items()}
        counts = DayCounts.empty(min([*(one.day for one in moves), *stirred], default=0), at_ms // self.day_ms)
        for one in moves:
            counts.add_moves(
                one.day, one.from_stage in LIVE_STAGES, one.to_stage in LIVE_STAGES, one.to_stage, one.fans
            )
        for day, fans in stirred.items():
            counts.add_stirred(day + self._rules.lifecycle.silent_after_days, fans)
        return counts

    def alarms(self, creator_id: int, at_ms: int) -> list[Alarm]:
        """Every churn alarm until `at_ms`, oldest first."""
        return alarms_of(self.churn_counts(creator_id, at_ms), self.churn_rules)

    def win_back(self, creator_id: int, at_ms: int, zone: str) -> WinBack | None:
        """A campaign that answers the latest alarm of the last 30 days; None: there is no such alarm."""
        today = at_ms // self.day_ms
        recent = [alarm for alarm in self.alarms(creator_id, at_ms) if alarm.day >= today - _BOUGHT_DAYS]
        if not recent:
            return None
        lately = self.days(creator_id, today - _BOUGHT_DAYS).values()
        bought = Bought(sum(day.spend_micros for day in lately), sum(day.fans_bought for day in lately))
        stages = self.stages(creator_id)
        audience = stages[Stage.SILENT] + stages[Stage.LOST]
        return win_back(creator_id, recent[-1], audience, bought, self._best_creative(creator_id), zone)

    def creators(self) -> list[int]:
        """Every creator of whom a step between stages is counted."""
        found = self._fetch("SELECT DISTINCT creator_id FROM transitions", ())
        return sorted(row[0] % 2**64 for row in found)

    def _best_creative(self, creator_id: int) -> int | None:
        """The video that gained this creator most fans."""
        query = "SELECT creative_id FROM creatives WHERE creator_id = ? ORDER BY fans_bought DESC, creative_id LIMIT 1"
        found = self._fetch(query, (signed(creator_id),))
        return found[0][0] % 2**64 if found else None

    def _fetch(self, query: str, arguments: tuple[int, ...]) -> list[tuple[int, ...]]:
        with self._lock:
            return self._db.execute(query, arguments).fetchall()
