"""What a health report is made of, read from the fan service's file beside whoever writes it."""

from __future__ import annotations

import sqlite3
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fanbridge.events import Stage
from fanbridge.service.health.follows import Spells, spells_of
from fanbridge.service.health.peers import Everybody
from fanbridge.service.store import FOLLOW_KINDS_SQL, signed
from pacing.facts import OutcomeKind

FAN_STAGES = (Stage.GAINED, Stage.ACTIVATED, Stage.RETAINED, Stage.SILENT)
_IN_FAN_STAGES = f"({', '.join(str(int(stage)) for stage in FAN_STAGES)})"


class HealthReader:
    """Reads the file of a FanStore. Any thread may call any method; calls run one after the other."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._db = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, check_same_thread=False)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def spells(self, creator_id: int) -> Spells:
        """Who followed the creator from when to when: SPELL[m] (see `follows`)."""
        facts = self._fetch(
            f"SELECT viewer_id, occurred_at_ms, kind FROM facts WHERE creator_id = ? AND kind IN {FOLLOW_KINDS_SQL}",
            (signed(creator_id),),
        )
        bought = self._fetch(
            "SELECT viewer_id, occurred_at_ms, campaign_id FROM outcomes "
            f"WHERE creator_id = ? AND kind = {int(OutcomeKind.FOLLOW)}",
            (signed(creator_id),),
        )
        columns = np.array(facts, np.int64).reshape(-1, 3).T
        return spells_of(
            columns[0], columns[1], columns[2], {(viewer, at_ms): campaign for viewer, at_ms, campaign in bought}
        )

    def kinds(self, creator_id: int, first_day: int, end_day: int) -> Counter[int]:
        """How often each kind of thing happened on the days first_day .. end_day - 1."""
        query = "SELECT kind, sum(facts) FROM kind_days WHERE creator_id = ? AND day >= ? AND day < ? GROUP BY kind"
        return Counter(self._pairs(query, (signed(creator_id), first_day, end_day)))

    def active_fan_days(self, creator_id: int, first_day: int, end_day: int) -> int:
        """Followers with a sign of life, of each day, summed."""
        query = "SELECT sum(stirred) FROM creator_days WHERE creator_id = ? AND day >= ? AND day < ?"
        return self._fetch(query, (signed(creator_id), first_day, end_day))[0][0] or 0

    def stages(self, creator_id: int, end_day: int) -> Counter[int]:
        """How many fans were in each stage when `end_day` began."""
        return self._standing("transitions", "stage", creator_id, end_day)

    def tiers(self, creator_id: int, end_day: int) -> Counter[int]:
        """How many viewers were in each tier when `end_day` began."""
        return self._standing("tier_steps", "tier", creator_id, end_day)

    def everybody(self, first_day: int, end_day: int) -> Everybody:
        """All creators on the days first_day .. end_day - 1."""
        fans = self._pairs(
            f"SELECT creator_id, sum(fans * ((to_stage IN {_IN_FAN_STAGES}) - (from_stage IN {_IN_FAN_STAGES}))) "
            "FROM transitions WHERE day < ? GROUP BY creator_id",
            (first_day,),
        )
        active = self._pairs(
            "SELECT creator_id, sum(stirred) FROM creator_days WHERE day >= ? AND day < ? GROUP BY creator_id",
            (first_day, end_day),
        )
        creators = sorted(fans)

        def column(counts: dict[int, int]) -> npt.NDArray[np.int64]:
            return np.array([counts.get(creator, 0) for creator in creators], np.int64)

        return Everybody(
            creator_ids=np.array(creators, np.int64),
            fans=column(fans),
            follows=column(self._facts_by_creator(OutcomeKind.FOLLOW, first_day, end_day)),
            unfollows=column(self._facts_by_creator(OutcomeKind.UNFOLLOW, first_day, end_day)),
            active_fan_days=column(active),
            days=end_day - first_day,
        )

    def _standing(self, table: str, name: str, creator_id: int, end_day: int) -> Counter[int]:
        query = (
            f"SELECT from_{name}, to_{name}, sum(fans) FROM {table} "
            f"WHERE creator_id = ? AND day < ? GROUP BY from_{name}, to_{name}"
        )
        counts: Counter[int] = Counter()
        for old, new, fans in self._fetch(query, (signed(creator_id), end_day)):
            counts[old] -= fans
            counts[new] += fans
        return counts

    def _facts_by_creator(self, kind: OutcomeKind, first_day: int, end_day: int) -> dict[int, int]:
        query = (
            "SELECT creator_id, sum(facts) FROM kind_days WHERE kind = ? AND day >= ? AND day < ? GROUP BY creator_id"
        )
        return self._pairs(query, (kind, first_day, end_day))

    def _pairs(self, query: str, arguments: tuple[int, ...]) -> dict[int, int]:
        return {key: count for key, count in self._fetch(query, arguments)}

    def _fetch(self, query: str, arguments: tuple[int, ...]) -> list[tuple[int, ...]]:
        with self._lock:
            return self._db.execute(query, arguments).fetchall()
