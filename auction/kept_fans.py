"""Who stays? Fans that were gained become lessons of how likely a fan is kept, while most are younger than 30 days.

A fan is lost when it is told within 30 days of the follow that the viewer follows no longer: by an unfollow in the
ledger, or by a retention judgement of the fan service. Losses come late, as goal events do, and are corrected for in
by the curve of losses: a fan who follows still counts for as much as their age says (see `auction.predictor.fit`). So
the fans of this week count for what they are known to be, no more.
Which of them rise to a high tier is followed beside that, in `auction.rising_fans`.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from auction.predictor.delay import DelayCurve, delay_draws, remaining_probability
from auction.predictor.features import LOSS_ROW, MOST_LOSS
from auction.predictor.predictor import Predictor
from auction.predictor.settings import LOSS_PRIOR_VARIANCE
from auction.predictor.waiting.waiting import Released, WaitingRoom
from auction.refits import Refits
from auction.rising_fans import RisingFans
from pacing.clocks import MS_PER_DAY, MS_PER_MINUTE
from pacing.facts import Goal

KEPT_DAYS = 30
"""A fan who still follows after so many days is kept."""
CAPACITY = 2**17
_MEDIAN_SHARE = 1 / 2  # of the 30 days; of the prior over losses, whose tail beyond them is cut off
_CURVE_PERIOD_MS = MS_PER_MINUTE
_FOLLOWS, _LOST, _KEPT = 0, 1, 2
_GAINED, _OF_THEM_LOST, _OF_THEM_KEPT, _OF_THEM_FORGOTTEN, _OF_THEM_RISEN = range(5)


class KeptFigures(NamedTuple):
    """What became of the fans that a campaign gained.

    Attributes:
        gained: fans, of impressions that were remembered when the follow was told.
        lost: left within 30 days.
        kept: followed for 30 days.
        expected: how many are kept in the end: those kept, and what is to be expected of those who are younger.
        risen: came to be of a high tier within 30 days, whatever became of them then.
    """

    gained: int = 0
    lost: int = 0
    kept: int = 0
    expected: float = 0.0
    risen: int = 0


NO_FANS = KeptFigures()
"""Of a campaign that gained none."""


class GainedFans(NamedTuple):
    """n new fans, a column per field: sequences of their billed impressions u8[n], viewers and creators u8[n],
    campaigns u8[n], instants of the follows i8[n], features of the impressions u4[n, 16]."""

    sequences: np.ndarray
    viewer_ids: np.ndarray
    creator_ids: np.ndarray
    campaign_ids: np.ndarray
    at_ms: np.ndarray
    features: np.ndarray


class _Lessons(NamedTuple):
    """n examples: when i8[n], slots i8[n] of the room, lost b1[n]."""

    at_ms: np.ndarray
    slots: np.ndarray
    lost: np.ndarray


class KeptFans:
    """Remembers the last `capacity` fans, trains the predictor's loss row, and counts. One thread at a time, but for
    `judged`, `told_tiers` and `figures`, which any may call.

    Until the first word of a loss or a judgement nothing is taught: where nobody tells who leaves, silence says
    nothing. So it is with tiers.
    """

    def __init__(self, predictor: Predictor, fan_day_ms: int = MS_PER_DAY, capacity: int = CAPACITY) -> None:
        """Start with no fans; `fan_day_ms` is the length of a day in retention, shorter in studies."""
        if not MS_PER_MINUTE <= fan_day_ms <= MS_PER_DAY:
            raise ValueError(f"fan_day_ms {fan_day_ms}: not in {MS_PER_MINUTE}..{MS_PER_DAY}")
        self._predictor = predictor
        self._keep_ms = KEPT_DAYS * fan_day_ms
        self._room = WaitingRoom(capacity)
        self._curve = self._new_curve()
        self._rising = self._new_rising()
        self._pairs = np.zeros((capacity, 2), np.uint64)
        self._fates = np.zeros(capacity, np.uint8)
        self._slot_of_pair: dict[tuple[int, int], int] = {}
        self._counts: dict[int, np.ndarray] = {}  # by campaign, f8[5]
        self._is_told = False
        self._curve_at_ms = 0
        self._begun_at_ms: int | None = None  # first tick of this process
        self._refits = self._new_refits()
        self._judgements: list[np.ndarray] = []
        self._judging = threading.Lock()

    def _new_curve(self) -> DelayCurve:
        day_ms = self._keep_ms / KEPT_DAYS
        # The first day by ratios, as most leave soon or late; then day by day, for what comes late comes slowly.
        edges = [0.0, *np.geomspace(day_ms / 1_024, day_ms, 11), *(day_ms * np.arange(2, KEPT_DAYS + 1))]
        return DelayCurve(self._keep_ms * _MEDIAN_SHARE, edges_ms=np.array(edges))

    def _new_refits(self) -> Refits:
        return Refits(self._predictor, LOSS_ROW, LOSS_PRIOR_VARIANCE)

    def _new_rising(self) -> RisingFans:
        return RisingFans(self._predictor, self._keep_ms, self._room.capacity, self._new_curve())

    @property
    def knows_tiers(self) -> bool:
        """Whether fans' tiers are told, and were long enough to learn from."""
        return self._rising.is_told

    def __len__(self) -> int:
        return len(self._room)

    def gained(self, fans: GainedFans, now_ms: int) -> None:
        """Take in fans whose follow was attributed, each once."""
        for start in range(0, len(fans.sequences), self._room.capacity):
            part = slice(start, start + self._room.capacity)
            self._take(GainedFans(*(column[part] for column in fans)), now_ms)

    def _take(self, fans: GainedFans, now_ms: int) -> None:
        n = len(fans.sequences)
        if not n:
            return
        self._forget_before(n, now_ms)
        lost, _ = self._predictor.predict_loss(fans.features)
        self._curve.add_impressions(int(fans.at_ms.max()), float(lost.sum()))
        due_ms = fans.at_ms + self._curve.delays_at(np.modf(delay_draws(fans.sequences))[0])
        none = np.zeros(n, np.uint8)
        goals = np.array([Goal.KEPT_FANS])
        self._room.add(fans.sequences, fans.campaign_ids, fans.at_ms, fans.features, none, goals, due_ms[:, None])
        for sequence, viewer_id, creator_id, campaign_id in zip(*(column.tolist() for column in fans[:4]), strict=True):
            slot = self._room.slot_of(sequence)
            self._pairs[slot] = viewer_id, creator_id
            self._fates[slot] = _FOLLOWS
            self._slot_of_pair[viewer_id, creator_id] = slot
            self._count(campaign_id)[_GAINED] += 1
        self._refits.told(n)
        slots = np.array([self._room.slot_of(sequence) for sequence in fans.sequences.tolist()], np.int64)
        pairs = list(zip(fans.viewer_ids.tolist(), fans.creator_ids.tolist(), strict=True))
        self._count_risen(self._rising.gained(self._room, slots, pairs, fans.sequences))

    def _count_risen(self, slots: np.ndarray) -> None:
        for campaign_id in self._room.campaign_ids[slots].tolist():
            self._count(campaign_id)[_OF_THEM_RISEN] += 1

    def _forget_before(self, n: int, now_ms: int) -> None:
        """Make room for n fans: what is expected of the oldest is booked, and their wait is over."""
        self._settle(now_ms)
        leaving = self._room.next_slots(n)
        if len(leaving):
            expected = self._expected(leaving, now_ms)
            for slot, kept in zip(leaving.tolist(), expected.tolist(), strict=True):
                pair = (int(self._pairs[slot, 0]), int(self._pairs[slot, 1]))
                if self._slot_of_pair.get(pair) == slot:
                    del self._slot_of_pair[pair]
                if self._fates[slot] == _FOLLOWS:
                    self._count(int(self._room.campaign_ids[slot]))[_OF_THEM_FORGOTTEN] += kept
            self._rising.forget(self._room, leaving, now_ms)
        self._teach([_not_lost(self._room.make_room(n, now_ms))])

    def left(self, sequences: np.ndarray, at_ms: np.ndarray) -> None:
        """Viewers follow no longer: by the billed impressions (u8[n]) that their follow was attributed to, and when
        (i8[n])."""
        slots = np.array([self._room.slot_of(sequence) for sequence in sequences.tolist()], np.int64)
        self._lose(slots[slots >= 0], at_ms[slots >= 0])

    def judged(self, rows: np.ndarray) -> None:
        """Hear retention judgements: structured rows with viewer_id, creator_id, days, kept and judged_at_ms, as the
        fan service tells them. They are taken in with the next `tick`; what was heard before changes nothing."""
        with self._judging:
            self._judgements.append(rows.copy())

    def told_tiers(self, rows: np.ndarray) -> None:
        """Hear fans' tiers: see `RisingFans.told`."""
        self._rising.told(rows)

    def _take_judgements(self) -> None:
        with self._judging:
            heard, self._judgements = self._judgements, []
        for rows in heard:
            self._is_told |= len(rows) > 0
            gone = rows[rows["kept"] == 0]
            pairs = zip(gone["viewer_id"].tolist(), gone["creator_id"].tolist(), strict=True)
            slots = np.array([self._slot_of_pair.get(pair, -1) for pair in pairs], np.int64)
            known = slots >= 0
            self._lose(slots[known], gone["judged_at_ms"][known])

    def _lose(self, slots: np.ndarray, at_ms: np.ndarray) -> None:
        """Mark fans as lost, unless that is known or they had been kept by then, and learn from it. The word on a fan's
        last day may come when they were booked as kept."""
        self._is_told |= len(slots) > 0
        ages_ms = at_ms - self._room.at_ms[slots]
        order = np.argsort(ages_ms, kind="stable")
        slots, ages_ms, at_ms = slots[order], ages_ms[order], at_ms[order]
        fresh = (self._fates[slots] != _LOST) & (ages_ms >= 0) & (ages_ms <= self._keep_ms)
        _, firsts = np.unique(slots, return_index=True)
        fresh[np.setdiff1d(np.arange(len(slots)), firsts)] = False
        slots, ages_ms, at_ms = slots[fresh], ages_ms[fresh], at_ms[fresh]
        if not len(slots):
            return
        for campaign_id, fate in zip(self._room.campaign_ids[slots].tolist(), self._fates[slots].tolist(), strict=True):
            self._count(campaign_id)[_OF_THEM_LOST] += 1
            self._count(campaign_id)[_OF_THEM_KEPT] -= fate == _KEPT
        self._fates[slots] = _LOST
        self._curve.add_events(ages_ms)
        self._teach([_Lessons(at_ms, slots, np.ones(len(slots), bool))])

    def tick(self, now_ms: int) -> None:
        """Learn from what was judged, from tiers that were told, and from fans whose wait is over.

        Fits wait for a minute after the first tick: a start goes on with what was learned before.
        """
        if self._begun_at_ms is None:
            self._begun_at_ms = now_ms
        self._take_judgements()
        self._count_risen(self._rising.tick(self._room, self._slot_of_pair, now_ms))
        if self._is_told:
            self._teach([_not_lost(self._room.release_due(now_ms))])
        if now_ms - self._curve_at_ms >= _CURVE_PERIOD_MS:
            self._curve_at_ms = now_ms
            if self._is_told:
                self._curve.refresh(now_ms)
            self._settle(now_ms)
            if now_ms - self._begun_at_ms >= _CURVE_PERIOD_MS:
                self._rising.refresh(self._room, now_ms)
                if self._is_told:
                    self._refits.fit_if_due(self._room, self._fates == _LOST, self._curve, self._keep_ms, now_ms)

    def _settle(self, now_ms: int) -> None:
        """Book those who have followed for 30 days."""
        held = slice(len(self._room))
        kept = np.flatnonzero((self._fates[held] == _FOLLOWS) & (self._room.at_ms[held] + self._keep_ms < now_ms))
        self._fates[kept] = _KEPT
        for campaign_id in self._room.campaign_ids[kept].tolist():
            self._count(campaign_id)[_OF_THEM_KEPT] += 1

    def _teach(self, parts: list[_Lessons]) -> None:
        at_ms, slots, lost = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        if not len(slots) or not self._is_told:
            return
        order = np.argsort(at_ms, kind="stable")
        slots, lost = slots[order], lost[order]
        self._predictor.count_fans(LOSS_ROW, self._room.campaign_ids[slots], self._room.features[slots], lost)
        self._refits.told(int(lost.sum()))

    def _expected(self, slots: np.ndarray, now_ms: int) -> np.ndarray:
        """Probability f8[n] that fans who follow still will have done so for 30 days, at their present ages."""
        kept, _ = self._predictor.kept_probability(self._room.campaign_ids[slots], self._room.features[slots])
        arrived = self._curve.arrived_share(np.maximum(now_ms - self._room.at_ms[slots], 0))
        return 1.0 - np.asarray(remaining_probability(np.minimum(1.0 - kept, MOST_LOSS), arrived))

    def figures(self, campaign_id: int, now_ms: int) -> KeptFigures:
        """What became of a campaign's fans so far; any thread may ask."""
        counts = self._counts.get(campaign_id)
        if counts is None:
            return NO_FANS
        held = slice(len(self._room))
        mine = self._room.campaign_ids[held] == campaign_id
        slots = np.flatnonzero(mine & (self._fates[held] == _FOLLOWS))
        expected = counts[_OF_THEM_KEPT] + counts[_OF_THEM_FORGOTTEN] + float(self._expected(slots, now_ms).sum())
        gained, lost, kept = (int(count) for count in counts[:3])
        return KeptFigures(gained, lost, kept, float(expected), int(counts[_OF_THEM_RISEN]))

    def _count(self, campaign_id: int) -> np.ndarray:
        return self._counts.setdefault(campaign_id, np.zeros(5))

    def state(self) -> dict[str, np.ndarray]:
        """Everything held, as arrays."""
        held = slice(len(self._room))
        return {
            "keep_ms": np.array(self._keep_ms),
            "is_told": np.array(self._is_told),
            "curve_at_ms": np.array(self._curve_at_ms),
            **self._refits.state(),
            "pairs": self._pairs[held].copy(),
            "fates": self._fates[held].copy(),
            "counted_ids": np.array(list(self._counts), np.uint64),
            "counts": np.array(list(self._counts.values()), np.float64).reshape(-1, 5),
            **{f"room_{name}": values for name, values in self._room.state().items()},
            **{f"curve_{name}": values for name, values in self._curve.state().items()},
            **{f"rising_{name}": values for name, values in self._rising.state(len(self._room)).items()},
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take up what `state` gave.

        Raises:
            ValueError: of another length of day or capacity, or shapes that do not fit; nothing is changed then.
        """
        if int(state["keep_ms"]) != self._keep_ms:
            raise ValueError(f"kept fans: kept after {int(state['keep_ms'])} ms, not {self._keep_ms}")
        room, curve = WaitingRoom(self._room.capacity), self._new_curve()
        room.restore({name.removeprefix("room_"): state[name] for name in state if name.startswith("room_")})
        curve.restore({name.removeprefix("curve_"): state[name] for name in state if name.startswith("curve_")})
        rising = self._new_rising()
        told = {name.removeprefix("rising_"): state[name] for name in state if name.startswith("rising_")}
        rising.restore(told, len(room))
        pairs, fates, counts = state["pairs"], state["fates"], state["counts"]
        if len(pairs) != len(room) or len(fates) != len(room) or len(counts) != len(state["counted_ids"]):
            raise ValueError(f"kept fans: {len(pairs)} pairs and {len(fates)} fates of {len(room)} fans")
        if int(fates.max(initial=0)) > _KEPT or not np.isfinite(counts).all() or (counts < 0).any():
            raise ValueError("kept fans: a fate or a count is out of range")
        refits = self._new_refits()
        try:
            refits.restore(state)
        except ValueError as error:
            raise ValueError(f"kept fans: {error}") from None
        self._room, self._curve, self._rising, self._refits = room, curve, rising, refits
        self._pairs[: len(pairs)], self._fates[: len(fates)] = pairs, fates
        order = np.argsort(room.at_ms[: len(pairs)], kind="stable")  # of a viewer's several follows, the last one
        self._slot_of_pair = {(int(pairs[slot, 0]), int(pairs[slot, 1])): slot for slot in order.tolist()}
        ids = state["counted_ids"].tolist()
        self._counts = {campaign_id: counts[i].copy() for i, campaign_id in enumerate(ids)}
        self._is_told, self._curve_at_ms = bool(state["is_told"]), int(state["curve_at_ms"])


def _not_lost(released: Released) -> _Lessons:
    return _Lessons(released.due_ms, released.slots, np.zeros(len(released.slots), bool))
