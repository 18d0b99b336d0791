"""What the loops over words mean: a bitset is a set of positions. For tests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def positions(words: Sequence[int]) -> list[int]:
    """Positions of the set bits of words of 64 bits, ascending."""
    return [64 * w + k for w, word in enumerate(words) for k in range(64) if word >> k & 1]


def words_of(bits: Iterable[int], count: int) -> list[int]:
    """The words, `count` of them, whose bits at these positions are set."""
    words = [0] * count
    for bit in bits:
        words[bit // 64] |= 1 << bit % 64
    return words
