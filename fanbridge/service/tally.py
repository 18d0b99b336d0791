"""Counts per creator and day that a change of the store adds to: steps between stages and tiers, signs of life, what
happened by kind, fans bought."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from fanbridge.events import Rows
from fanbridge.service.fans import Happening, Moved, Ranked, Stirred
from pacing.facts import OutcomeKind

_MOVED = (
    "INSERT INTO transitions VALUES (?, ?, ?, ?, ?) ON CONFLICT (creator_id, day, from_stage, to_stage) "
    "DO UPDATE SET fans = fans + excluded.fans"
)
_RANKED = (
    "INSERT INTO tier_steps VALUES (?, ?, ?, ?, ?) ON CONFLICT (creator_id, day, from_tier, to_tier) "
    "DO UPDATE SET fans = fans + excluded.fans"
)
_KINDS = (
    "INSERT INTO kind_days VALUES (?, ?, ?, ?) ON CONFLICT (creator_id, day, kind) "
    "DO UPDATE SET facts = facts + excluded.facts"
)
_DAYS = (
    "INSERT INTO creator_days VALUES (?, ?, ?, ?, ?) ON CONFLICT (creator_id, day) DO UPDATE SET "
    "stirred = stirred + excluded.stirred, spend_micros = spend_micros + excluded.spend_micros, "
    "fans_bought = fans_bought + excluded.fans_bought"
)
_CREATIVES = (
    "INSERT INTO creatives VALUES (?, ?, ?) ON CONFLICT (creator_id, creative_id) "
    "DO UPDATE SET fans_bought = fans_bought + excluded.fans_bought"
)


class Tally:
    """What one transaction adds. A day is number `at_ms // day_ms`; creators are as SQLite keeps them, signed."""

    def __init__(self, day_ms: int) -> None:
        self._day_ms = day_ms
        self._moved: Counter[tuple[int, int, int, int]] = Counter()
        self._ranked: Counter[tuple[int, int, int, int]] = Counter()
        self._kinds: Counter[tuple[int, int, int]] = Counter()
        self._stirred: Counter[tuple[int, int]] = Counter()
        self._spend_micros: Counter[tuple[int, int]] = Counter()
        self._bought: Counter[tuple[int, int]] = Counter()
        self._creatives: Counter[tuple[int, int]] = Counter()

    def add(self, creator_id: int, happened: Sequence[Happening]) -> None:
        """Count what happened to one fan of a creator."""
        for one in happened:
            if isinstance(one, Moved):
                self._moved[creator_id, one.moved_at_ms // self._day_ms, one.from_stage, one.to_stage] += 1
            elif isinstance(one, Ranked):
                self._ranked[creator_id, one.ranked_at_ms // self._day_ms, one.from_tier, one.to_tier] += 1
            elif isinstance(one, Stirred):
                self._stirred[creator_id, one.stirred_at_ms // self._day_ms] += 1

    def add_fact(self, creator_id: int, kind: int, occurred_at_ms: int) -> None:
        """Count something new that a viewer did."""
        self._kinds[creator_id, occurred_at_ms // self._day_ms, kind] += 1

    def add_bought(self, outcomes: Rows) -> None:
        """Count what FAN_OUTCOME[n] cost, and the follows among them."""
        columns = (outcomes[name].tolist() for name in ("kind", "occurred_at_ms", "price_micros"))
        signed = (outcomes[name].astype("i8").tolist() for name in ("creator_id", "creative_id"))
        for kind, at_ms, price_micros, creator_id, creative_id in zip(*columns, *signed, strict=True):
            if kind == OutcomeKind.BILLABLE:
                self._spend_micros[creator_id, at_ms // self._day_ms] += price_micros
            elif kind == OutcomeKind.FOLLOW:
                self._bought[creator_id, at_ms // self._day_ms] += 1
                self._creatives[creator_id, creative_id] += 1

    def statements(self) -> Iterator[tuple[str, list[tuple[int, ...]]]]:
        """What to execute, and with which rows."""
        days = dict.fromkeys((*self._stirred, *self._spend_micros, *self._bought))
        yield _MOVED, [(*key, fans) for key, fans in self._moved.items()]
        yield _RANKED, [(*key, fans) for key, fans in self._ranked.items()]
        yield _KINDS, [(*key, facts) for key, facts in self._kinds.items()]
        yield _DAYS, [(*day, self._stirred[day], self._spend_micros[day], self._bought[day]) for day in days]
        yield _CREATIVES, [(*key, fans) for key, fans in self._creatives.items()]
