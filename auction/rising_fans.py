"""Who becomes valuable? Fans who come to be of a high tier within 30 days, as lessons while most are younger than that.

The fan service tells tiers. As with losses (see `auction.kept_fans`), a fan who has not risen counts for as much as
their age says by the curve of rises. Only who follows can be of a high tier, and who is kept is known late: so what is
learned is the probability that a kept fan rises, and each fan, whether they left or not, counts for as much as it was
likely that they would be kept.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

import numpy as np

from auction.predictor.delay import DelayCurve, delay_draws
from auction.predictor.features import RISE_ROW
from auction.predictor.predictor import Predictor
from auction.predictor.settings import RISE_PRIOR_VARIANCE
from auction.predictor.waiting.waiting import WaitingRoom
from auction.refits import Refits
from pacing.clocks import MS_PER_HOUR, MS_PER_MINUTE

HIGH_TIERS = (3, 4)
"""High-value and iron, by the numbers of `protos/fans.proto`."""
EARLY_LIMIT = 2**16
"""Rises that are remembered of viewers who are no fans yet: the word of a tier may overtake that of the follow."""
HEARING_MS = 10 * MS_PER_MINUTE
"""From the first word of any tier on, of time that servers were up: a fan service that is new here tells of all its
fans, and only then may those of whom it told nothing count as not risen."""
_NEVER = np.iinfo(np.int64).max
_CLOCKS_MS = MS_PER_HOUR  # whoever is of a high tier follows: a rise so little before the follow is one after it

Pair = tuple[int, int]


class RisingFans:
    """What is known of the tiers of the fans in a room (slots are the room's), and what it teaches. One thread at a
    time, but for `told`, which any may call.

    Until minutes after the first word of any tier nothing is taught: where nobody tells tiers, silence says nothing.

    Attributes:
        risen: b1[capacity], by slot.
    """

    def __init__(self, predictor: Predictor, keep_ms: int, capacity: int, curve: DelayCurve) -> None:
        """Start with nothing known; `curve` is the prior of how late rises come."""
        self._predictor = predictor
        self._keep_ms = keep_ms
        self._curve = curve
        self._due_ms = np.full(capacity, _NEVER)  # by slot, when to count that the fan has not risen
        self._refits = Refits(predictor, RISE_ROW, RISE_PRIOR_VARIANCE, self._kept)
        self.risen = np.zeros(capacity, bool)
        self._is_heard = False
        self._hearing_left_ms = HEARING_MS
        self._heard_until_ms: int | None = None  # up to when this process counted that down
        self._heard: list[np.ndarray] = []
        self._hearing = threading.Lock()
        self._early: dict[Pair, int] = {}

    @property
    def is_told(self) -> bool:
        """Whether tiers are told, and were for long enough."""
        return self._hearing_left_ms == 0

    def told(self, rows: np.ndarray) -> None:
        """Hear fans' tiers: structured rows with viewer_id, creator_id, tier and changed_at_ms, as the fan service
        tells them. They are taken in with the next `tick`; what was heard before changes nothing."""
        high = rows[np.isin(rows["tier"], HIGH_TIERS)]
        with self._hearing:
            self._is_heard |= bool((rows["tier"] > 0).any())
            self._heard.append(high)

    def gained(self, room: WaitingRoom, slots: np.ndarray, pairs: list[Pair], sequences: np.ndarray) -> np.ndarray:
        """Take in fans who were put into these slots; which of the slots have risen already, i8[m]."""
        high, _ = self._predictor.predict_rise(room.features[slots])
        probabilities = high * self._kept(room.campaign_ids[slots], room.features[slots])
        self._curve.add_impressions(int(room.at_ms[slots].max()), float(probabilities.sum()))
        draws = np.modf(delay_draws(sequences) + 0.5)[0]  # other ones than of losses
        self._refits.told(len(slots))
        self._due_ms[slots] = room.at_ms[slots] + self._curve.delays_at(draws)
        self.risen[slots] = False
        early = [
            (slot, self._early.pop(pair))
            for slot, pair in zip(slots.tolist(), pairs, strict=True)
            if pair in self._early
        ]
        risen, at_ms = self._rise(room, *np.array(early, np.int64).reshape(-1, 2).T)
        self._count(room, risen, at_ms, np.ones(len(risen), bool))
        return risen

    def forget(self, room: WaitingRoom, slots: np.ndarray, now_ms: int) -> None:
        """The wait of fans who have to make room is over."""
        waiting = slots[self._due_ms[slots] < _NEVER]
        self._due_ms[slots] = _NEVER
        self._count(room, waiting, np.full(len(waiting), now_ms), np.zeros(len(waiting), bool))

    def tick(self, room: WaitingRoom, slot_of_pair: Mapping[Pair, int], now_ms: int) -> np.ndarray:
        """Take in what was told and fans whose wait is over; who has newly risen: slots i8[m]."""
        with self._hearing:
            self._count_down(now_ms)
            if not self.is_told:
                return np.zeros(0, np.int64)
            heard, self._heard = self._heard, []
        risen, rose_at_ms = self._take(room, slot_of_pair, heard)
        due = np.flatnonzero(self._due_ms[: len(room)] <= now_ms)
        slots, at_ms = np.concatenate([due, risen]), np.concatenate([self._due_ms[due], rose_at_ms])
        self._due_ms[due] = _NEVER
        self._count(room, slots, at_ms, np.arange(len(slots)) >= len(due))
        return risen

    def _kept(self, campaign_ids: np.ndarray, features: np.ndarray) -> np.ndarray:
        return self._predictor.kept_probability(campaign_ids, features)[0]

    def _count_down(self, now_ms: int) -> None:
        """Of the time since the last tick of this process: while none ran, nobody was heard."""
        if not self._is_heard or self.is_told:
            return
        if self._heard_until_ms is not None:
            self._hearing_left_ms = max(self._hearing_left_ms - max(now_ms - self._heard_until_ms, 0), 0)
        self._heard_until_ms = now_ms

    def _take(
        self, room: WaitingRoom, slot_of_pair: Mapping[Pair, int], heard: list[np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mark whom high tiers were told of; their slots and when, i8[m] each."""
        if not heard:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        high = np.concatenate(heard)
        pairs = list(zip(high["viewer_id"].tolist(), high["creator_id"].tolist(), strict=True))
        slots, at_ms = np.array([slot_of_pair.get(pair, -1) for pair in pairs], np.int64), high["changed_at_ms"]
        self._early.update(
            (pair, at) for pair, slot, at in zip(pairs, slots.tolist(), at_ms.tolist(), strict=True) if slot < 0
        )
        while len(self._early) > EARLY_LIMIT:
            del self._early[next(iter(self._early))]
        return self._rise(room, slots[slots >= 0], at_ms[slots >= 0])

    def refresh(self, room: WaitingRoom, now_ms: int) -> None:
        """Publish the curve of how late rises come, and fit who rises to all fans that are remembered, if enough became
        known since the last time."""
        if not self.is_told:
            return
        self._curve.refresh(now_ms)
        self._refits.fit_if_due(room, self.risen, self._curve, self._keep_ms, now_ms)

    def _rise(self, room: WaitingRoom, slots: np.ndarray, at_ms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mark fans as risen, unless they were or it is too late; the slots of those marked, and when, i8[m] each."""
        ages_ms = at_ms - room.at_ms[slots]
        fresh = ~self.risen[slots] & (ages_ms >= -_CLOCKS_MS) & (ages_ms <= self._keep_ms)
        slots, firsts = np.unique(slots[fresh], return_index=True)
        self.risen[slots] = True
        self._refits.told(len(slots))
        self._curve.add_events(np.maximum(ages_ms[fresh][firsts], 0))
        return slots, at_ms[fresh][firsts]

    def _count(self, room: WaitingRoom, slots: np.ndarray, at_ms: np.ndarray, risen: np.ndarray) -> None:
        if len(slots) and self.is_told:
            order = np.argsort(at_ms, kind="stable")
            slots = slots[order]
            self._predictor.count_fans(RISE_ROW, room.campaign_ids[slots], room.features[slots], risen[order])

    def state(self, held: int) -> dict[str, np.ndarray]:
        """Everything known of the first `held` slots, as arrays; not what was told of viewers who are no fans."""
        return {
            "is_heard": np.array(self._is_heard),
            "hearing_left_ms": np.array(self._hearing_left_ms),
            **self._refits.state(),
            "due_ms": self._due_ms[:held].copy(),
            "risen": self.risen[:held].copy(),
            **{f"curve_{name}": values for name, values in self._curve.state().items()},
        }

    def restore(self, state: Mapping[str, np.ndarray], held: int) -> None:
        """Take up what `state` gave, into one with which nothing was done.

        Raises:
            ValueError: it is of another number of fans, of another curve, or out of range.
        """
        if len(state["due_ms"]) != held or len(state["risen"]) != held:
            raise ValueError(
                f"rising fans: {len(state['due_ms'])} instants and {len(state['risen'])} marks of {held} fans"
            )
        is_heard, left_ms = bool(state["is_heard"]), int(state["hearing_left_ms"])
        if not (0 if is_heard else HEARING_MS) <= left_ms <= HEARING_MS:
            raise ValueError(f"rising fans: hearing_left_ms {left_ms}: not in 0..{HEARING_MS}, all unless is_heard")
        try:
            self._refits.restore(state)
        except ValueError as error:
            raise ValueError(f"rising fans: {error}") from None
        self._curve.restore({name.removeprefix("curve_"): state[name] for name in state if name.startswith("curve_")})
        self._due_ms[:held], self.risen[:held] = state["due_ms"], state["risen"]
        self._is_heard, self._hearing_left_ms = is_heard, left_ms
