"""Much that is remembered, oldest first: most of it at rest in rows of numbers, what is in use awake as objects.

Rows are saved and restored as they are, a million of them in a tenth of a second; as many objects would take seconds
to make at every start, and be most of what the garbage collector looks at.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

import numpy as np

Key = tuple[int, int]
Row = Sequence[int]
Value = TypeVar("Value")

_ASLEEP, _AWAKE, _GONE = 0, 1, 2
_MASK = 2**64 - 1


def as_rows(rows: Sequence[Row], width: int) -> np.ndarray:
    """Rows of 64-bit numbers, signed or not, as u8[n, width]."""
    return np.array([[value & _MASK for value in row] for row in rows], np.uint64).reshape(-1, width)


def signed(value: int) -> int:
    """A number of a row that was written from a signed one."""
    return value - 2**64 if value >= 2**63 else value


def key_columns(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Two columns of 64-bit numbers as keys, u8[n, 2]."""
    return np.stack([first.astype(np.uint64), second.astype(np.uint64)], axis=1)


class _Finder:
    """Finds rows by two of their columns."""

    def __init__(self, rows: np.ndarray, columns: Key) -> None:
        self._rows, self._columns = rows, columns
        # A hash's upper bits with the row's position below them: numpy sorts such words several times as fast as it
        # finds the order that would sort the hashes.
        self._shift = np.uint64(len(rows).bit_length())
        packed = _hashes(*(rows[:, column] for column in columns)) >> self._shift << self._shift
        packed |= np.arange(len(rows), dtype=np.uint64)
        packed.sort()
        self._hashes = packed >> self._shift
        self._order = (packed ^ (self._hashes << self._shift)).astype(np.int64)

    def find(self, keys: np.ndarray) -> np.ndarray:
        """Positions, i8[m], of all rows that have one of these keys (u8[n, 2])."""
        if not len(self._hashes) or not len(keys):
            return np.zeros(0, np.int64)
        wanted = _hashes(keys[:, 0], keys[:, 1]) >> self._shift
        first = np.searchsorted(self._hashes, wanted, side="left")
        counts = np.searchsorted(self._hashes, wanted, side="right") - first
        asked = np.repeat(np.arange(len(keys)), counts)
        within = np.arange(len(asked)) - np.repeat(np.cumsum(counts) - counts, counts)
        positions = self._order[first[asked] + within]
        is_it = np.ones(len(positions), np.bool_)
        for k, column in enumerate(self._columns):
            is_it &= self._rows[positions, column] == keys[asked, k]
        return positions[is_it]


def _hashes(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    mixed = first * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(32)
    mixed += second
    mixed *= np.uint64(0xC2B2AE3D27D4EB4F)
    return mixed ^ (mixed >> np.uint64(29))


class Remembered(Generic[Value]):
    """Values in the order in which they were added, each under a key of two numbers. One thread at a time.

    `get` and `pop` know what was added since the last `rest`, and what `wake` woke: wake the keys of a batch first.
    """

    def __init__(
        self,
        width: int,
        row_of: Callable[[Value], Row],
        value_of: Callable[[Row], Value],
        lookups: Sequence[Key] = ((0, 1),),
    ) -> None:
        """Start empty.

        Args:
            width: numbers in a row.
            row_of, value_of: from a value to its row and back; a row's values may be signed where `value_of` minds it.
            lookups: pairs of columns by which `wake` finds rows; the first is the key, which is unique.
        """
        self.width = width
        self._row_of = row_of
        self._value_of = value_of
        self._lookups = tuple(lookups)
        self.restore(np.zeros((0, width), np.uint64))

    def __len__(self) -> int:
        return self._resting + len(self._fresh)

    @property
    def awake(self) -> int:
        """How many are objects at present."""
        return len(self._woken) + len(self._fresh)

    def restore(self, rows: np.ndarray) -> None:
        """Remember these rows (u8[n, width], oldest first), which are not copied, and nothing else; all are at rest."""
        self._rows = rows
        self._states = np.zeros(len(rows), np.uint8)
        self._front = 0
        self._resting = len(rows)
        self._finders = [_Finder(self._rows, columns) for columns in self._lookups]
        self._woken: dict[Key, tuple[int, Value]] = {}
        self._fresh: OrderedDict[Key, Value] = OrderedDict()

    def rows(self) -> np.ndarray:
        """Everything remembered, u8[n, width], oldest first."""
        kept = self._states != _GONE
        resting = self._rows[kept]
        if self._woken:
            places = np.cumsum(kept)[[position for position, _ in self._woken.values()]] - 1
            resting[places] = as_rows([self._row_of(value) for _, value in self._woken.values()], self.width)
        return np.concatenate([resting, as_rows([self._row_of(value) for value in self._fresh.values()], self.width)])

    def rest(self) -> None:
        """Let everything rest."""
        self.restore(self.rows())

    def wake(self, keys: np.ndarray, lookup: int = 0) -> list[Value]:
        """Wake what has one of these keys (u8[n, 2]) in a pair of columns; answers with what was asleep until now."""
        positions = self._finders[lookup].find(keys)
        positions = np.unique(positions[self._states[positions] == _ASLEEP])
        self._states[positions] = _AWAKE
        values = []
        first, second = self._lookups[0]
        for position, row in zip(positions.tolist(), self._rows[positions].tolist(), strict=True):
            value = self._value_of(row)
            self._woken[row[first], row[second]] = position, value
            values.append(value)
        return values

    def get(self, key: Key) -> Value | None:
        """The value under a key, or None."""
        value = self._fresh.get(key)
        if value is None and key in self._woken:
            return self._woken[key][1]
        return value

    def add(self, key: Key, value: Value) -> None:
        """Add the youngest; nothing may be there under its key."""
        self._fresh[key] = value

    def pop(self, key: Key) -> Value | None:
        """Forget and answer with the value under a key; None: there is none."""
        if key in self._woken:
            position, value = self._woken.pop(key)
            self._states[position] = _GONE
            self._resting -= 1
            return value
        return self._fresh.pop(key, None)

    def forget(self, most: int, is_expired: Callable[[Value], bool]) -> Iterator[Value]:
        """Forget from the oldest on what is beyond `most` or expired, up to the first that is neither.

        Yields:
            Those that were awake.
        """
        while self._resting:
            while self._states[self._front] == _GONE:
                self._front += 1
            row = self._rows[self._front].tolist()
            key = row[self._lookups[0][0]], row[self._lookups[0][1]]
            is_awake = self._states[self._front] == _AWAKE
            value = self._woken[key][1] if is_awake else self._value_of(row)
            if len(self) <= most and not is_expired(value):
                return
            self._states[self._front] = _GONE
            self._resting -= 1
            if is_awake:
                del self._woken[key]
                yield value
        while self._fresh:
            key, value = next(iter(self._fresh.items()))
            if len(self) <= most and not is_expired(value):
                return
            del self._fresh[key]
            yield value
