"""Billed impressions whose goal events may still come: their features, and when each is to be told as a negative."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from auction.predictor.features import FEATURE_COUNT
from auction.predictor.waiting.kernels import pop_due, push_all
from pacing.facts import MOST_EARLIER

_GOALS_PER_TICKET = 8
_MAX_TICKET = 2**59
_MAX_ITEM = _MAX_TICKET * _GOALS_PER_TICKET
_PER_IMPRESSION = ("sequences", "campaign_ids", "at_ms", "features", "earlier", "pending")
_POP_AT_ONCE = 65_536


class Released(NamedTuple):
    """Impressions whose wait is over, in the order in which it ended: goals u1[n], slots i8[n] of `WaitingRoom`,
    when i8[n]."""

    goals: np.ndarray
    slots: np.ndarray
    due_ms: np.ndarray


class WaitingRoom:
    """The last `capacity` billed impressions, and a due instant for each of their goals.

    When an impression has to make room, what it still waits for is released at once. One thread at a time.

    Attributes:
        features: u4[capacity, 16].
        campaign_ids: u8[capacity].
        at_ms: i8[capacity].
        earlier: u1[capacity], impressions of the creator that the viewer had before, 0..MOST_EARLIER.
    """

    def __init__(self, capacity: int = 2**18) -> None:
        if not 1 <= capacity <= 2**26:
            raise ValueError(f"capacity {capacity}: not in 1..{2**26}")
        self.capacity = capacity
        self.features = np.zeros((capacity, FEATURE_COUNT), np.uint32)
        self.campaign_ids = np.zeros(capacity, np.uint64)
        self.at_ms = np.zeros(capacity, np.int64)
        self.earlier = np.zeros(capacity, np.uint8)
        self._sequences = np.zeros(capacity, np.uint64)
        self._pending = np.zeros(capacity, np.uint8)  # bit goal: not yet released
        self._slot_of: dict[int, int] = {}  # of those that came since the last restore; the others are found below
        self._restored = (np.zeros(0, np.uint64), np.zeros(0, np.int64))  # sequences, ascending, and their slots
        self._next_ticket = 0
        self._due_ms = np.zeros(1024, np.int64)
        self._items = np.zeros(1024, np.int64)
        self._size = 0

    def __len__(self) -> int:
        return min(self._next_ticket, self.capacity)

    def slot_of(self, sequence: int) -> int:
        """Where the impression of a ledger row is; -1: gone or never here."""
        slot = self._slot_of.get(sequence, -1)
        if slot < 0:
            sequences, slots = self._restored
            place = int(np.searchsorted(sequences, np.uint64(sequence)))
            if place < len(sequences) and sequences[place] == sequence:
                slot = int(slots[place])
                return slot if self._sequences[slot] == sequence else -1
        return slot

    def next_slots(self, count: int) -> np.ndarray:
        """The slots of impressions that the next `count` (at most `capacity`) displace, i8[m]."""
        tickets = self._next_ticket + np.arange(min(count, self.capacity))
        return tickets[tickets >= self.capacity] % self.capacity

    def make_room(self, count: int, now_ms: int) -> Released:
        """Release what the next `count` (at most `capacity`) impressions displace, as of now."""
        slots = self.next_slots(count)
        slots = slots[self._pending[slots] != 0]
        goals = np.arange(_GOALS_PER_TICKET)
        waiting = (self._pending[slots][:, None] >> goals[None, :]) & 1
        which, goal = np.nonzero(waiting)
        self._pending[slots] = 0
        return Released(goal.astype(np.uint8), slots[which], np.full(len(which), now_ms, np.int64))

    def add(
        self,
        sequences: np.ndarray,
        campaign_ids: np.ndarray,
        at_ms: np.ndarray,
        features: np.ndarray,
        earlier: np.ndarray,
        goals: np.ndarray,
        due_ms: np.ndarray,
    ) -> None:
        """Add n impressions, after `make_room(n)`.

        Args:
            sequences, campaign_ids, at_ms: u8[n], u8[n], i8[n]; n at most `capacity`.
            features: u4[n, 16].
            earlier: u1[n].
            goals: [g], each within 1..7.
            due_ms: i8[n, g].

        Raises:
            ValueError: more impressions than capacity.
        """
        n = len(sequences)
        if n > self.capacity:
            raise ValueError(f"impressions {n}: more than capacity {self.capacity}")
        tickets = self._next_ticket + np.arange(n)
        slots = tickets % self.capacity
        for slot in slots[tickets >= self.capacity].tolist():
            self._slot_of.pop(int(self._sequences[slot]), None)
        self._sequences[slots] = sequences
        self.campaign_ids[slots] = campaign_ids
        self.at_ms[slots] = at_ms
        self.features[slots] = features
        self.earlier[slots] = earlier
        self._pending[slots] = sum(1 << int(goal) for goal in goals)
        self._slot_of.update(zip(sequences.tolist(), slots.tolist(), strict=True))
        self._next_ticket += n
        items = tickets[:, None] * _GOALS_PER_TICKET + np.asarray(goals, np.int64)[None, :]
        self._push(due_ms.ravel(), items.ravel())

    def _push(self, due_ms: np.ndarray, items: np.ndarray) -> None:
        wanted = self._size + len(items)
        if wanted > len(self._items):
            self._drop_stale()
            wanted = self._size + len(items)
            if wanted > len(self._items):
                room = max(2 * len(self._items), wanted)
                self._due_ms = np.concatenate([self._due_ms, np.zeros(room - len(self._due_ms), np.int64)])
                self._items = np.concatenate([self._items, np.zeros(room - len(self._items), np.int64)])
        self._size = push_all(
            self._due_ms, self._items, self._size, np.ascontiguousarray(due_ms, np.int64), np.ascontiguousarray(items)
        )

    def _drop_stale(self) -> None:
        """Forget entries of impressions that made room: memory stays bounded by capacity."""
        fresh = self._items[: self._size] // _GOALS_PER_TICKET >= self._next_ticket - self.capacity
        due_ms, items = self._due_ms[: self._size][fresh], self._items[: self._size][fresh]
        self._size = push_all(self._due_ms, self._items, 0, due_ms, items)

    def release_due(self, now_ms: int) -> Released:
        """What has waited until `now_ms`, earliest first."""
        parts = []
        while True:
            out = np.empty((2, min(self._size, _POP_AT_ONCE)), np.int64)
            taken = int(pop_due(self._due_ms, self._items, self._size, now_ms, out[0], out[1]))
            self._size -= taken
            parts.append(out[:, :taken])
            if taken < out.shape[1] or not self._size:
                break
        due_ms, items = np.concatenate(parts, axis=1)
        tickets, goals = items // _GOALS_PER_TICKET, (items % _GOALS_PER_TICKET).astype(np.uint8)
        slots = tickets % self.capacity
        bits = np.left_shift(np.uint8(1), goals).astype(np.uint8)
        valid = (tickets >= self._next_ticket - self.capacity) & (self._pending[slots] & bits != 0)
        slots, goals, bits = slots[valid], goals[valid], bits[valid]
        np.bitwise_and.at(self._pending, slots, np.invert(bits))
        return Released(goals, slots, due_ms[valid])

    def state(self) -> dict[str, np.ndarray]:
        """Everything held, as arrays; impressions by slot."""
        held = slice(len(self))
        return {
            "capacity": np.array(self.capacity),
            "next_ticket": np.array(self._next_ticket),
            "sequences": self._sequences[held].copy(),
            "campaign_ids": self.campaign_ids[held].copy(),
            "at_ms": self.at_ms[held].copy(),
            "features": self.features[held].copy(),
            "earlier": self.earlier[held].copy(),
            "pending": self._pending[held].copy(),
            "due_ms": self._due_ms[: self._size].copy(),
            "items": self._items[: self._size].copy(),
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take up what `state` gave. Its arrays are not copied where that can be helped: they are this room's now.

        Raises:
            ValueError: another capacity, or shapes that do not fit; nothing is changed then.
        """
        if int(state["capacity"]) != self.capacity:
            raise ValueError(f"waiting impressions: capacity {int(state['capacity'])}, not {self.capacity}")
        next_ticket = int(state["next_ticket"])
        if not 0 <= next_ticket < _MAX_TICKET:
            raise ValueError(f"waiting impressions: next_ticket {next_ticket}; not in 0..{_MAX_TICKET - 1}")
        if len(state["due_ms"]) != len(state["items"]):
            raise ValueError(f"waiting impressions: {len(state['due_ms'])} instants for {len(state['items'])} entries")
        if len(state["items"]) and not 0 <= int(state["items"].min()) <= int(state["items"].max()) < _MAX_ITEM:
            raise ValueError(f"waiting impressions: an entry is not in 0..{_MAX_ITEM - 1}")
        count = min(next_ticket, self.capacity)
        if any(len(state[name]) != count for name in _PER_IMPRESSION) or state["features"].shape != (
            count,
            FEATURE_COUNT,
        ):
            raise ValueError(f"waiting impressions: {len(state['sequences'])} rows, not {count}")
        most = int(state["earlier"].max(initial=0))
        if most > MOST_EARLIER:
            raise ValueError(f"waiting impressions: earlier {most}; not in 0..{MOST_EARLIER}")
        self._sequences = self._whole(state["sequences"], self._sequences)
        self.campaign_ids = self._whole(state["campaign_ids"], self.campaign_ids)
        self.at_ms = self._whole(state["at_ms"], self.at_ms)
        self.features = self._whole(state["features"], self.features)
        self.earlier = self._whole(state["earlier"], self.earlier)
        self._pending = self._whole(state["pending"], self._pending)
        self._slot_of = {}
        order = np.argsort(state["sequences"], kind="stable")
        self._restored = (state["sequences"][order], order)
        self._next_ticket = next_ticket
        self._due_ms, self._items = (np.ascontiguousarray(state[name], np.int64) for name in ("due_ms", "items"))
        self._size = len(self._items)

    def _whole(self, held: np.ndarray, present: np.ndarray) -> np.ndarray:
        """A column of the room's capacity, of the present one's kind, that begins with these rows."""
        if len(held) == self.capacity:
            return np.ascontiguousarray(held, present.dtype)
        column = np.zeros_like(present)
        column[: len(held)] = held
        return column
