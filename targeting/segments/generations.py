"""Members with a date: a segment whose parts expire."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pyroaring import BitMap

NEVER_MS = 0
"""`expires_at_ms` of members that stay until they are taken away."""
MAX_GENERATIONS = 64
"""Expiry dates that one segment may have at a time."""


class Generations:
    """The parts of segments that have any with an expiry date; members of a segment are those of all its parts.

    Callers take turns.
    """

    def __init__(self) -> None:
        self._parts: dict[int, dict[int, BitMap]] = {}  # by segment: members by expires_at_ms
        self._next_expiry_ms = 0  # of all; 0: none

    def dates(self, segment: int) -> frozenset[int]:
        """The expiry dates that the segment has."""
        return frozenset(self._parts.get(segment, {})) - {NEVER_MS}

    def concerns(self, segment: int, expires_at_ms: int) -> bool:
        """Whether a change with this expiry date has to be kept here."""
        return expires_at_ms != NEVER_MS or segment in self._parts

    def replaced(self, segment: int, rows: BitMap, expires_at_ms: int) -> BitMap:
        """The members after `rows` took the place of all others."""
        return self._kept(segment, {expires_at_ms: rows})

    def added(self, segment: int, present: BitMap, rows: BitMap, expires_at_ms: int) -> BitMap:
        """The members after `rows` joined the part with this date. `present`: the members before."""
        parts = dict(self._parts.get(segment, {NEVER_MS: present}))
        parts[expires_at_ms] = parts.get(expires_at_ms, BitMap()) | rows
        return self._kept(segment, parts)

    def removed(self, segment: int, rows: BitMap) -> BitMap:
        """The members after `rows` left every part."""
        return self._kept(segment, {date: part - rows for date, part in self._parts[segment].items()})

    def due(self, now_ms: int) -> list[tuple[int, int]]:
        """(segment, how many members `expired` will leave) of each that has a part whose date has come."""
        if not 0 < self._next_expiry_ms <= now_ms:
            return []
        return [
            (segment, len(BitMap.union(BitMap(), *_left(parts, now_ms).values())))
            for segment, parts in self._parts.items()
            if len(_left(parts, now_ms)) < len(parts)
        ]

    def expired(self, now_ms: int) -> Iterator[tuple[int, BitMap]]:
        """Drop the parts whose date has come; (segment, members that are left) of each that had one."""
        if not 0 < self._next_expiry_ms <= now_ms:
            return
        for segment, parts in list(self._parts.items()):
            left = _left(parts, now_ms)
            if len(left) < len(parts):
                yield segment, self._kept(segment, left)
        self._next_expiry_ms = min((date for parts in self._parts.values() for date in parts if date), default=0)

    def _kept(self, segment: int, parts: Mapping[int, BitMap]) -> BitMap:
        held = {date: part for date, part in parts.items() if part}
        if set(held) <= {NEVER_MS}:
            self._parts.pop(segment, None)
        else:
            self._parts[segment] = held
            soonest_ms = min(date for date in held if date != NEVER_MS)
            self._next_expiry_ms = min(self._next_expiry_ms or soonest_ms, soonest_ms)
        return BitMap.union(*held.values()) if held else BitMap()


def _left(parts: Mapping[int, BitMap], now_ms: int) -> dict[int, BitMap]:
    return {date: part for date, part in parts.items() if date == NEVER_MS or date > now_ms}
