"""Affinities to tags of content, written as segments: one for each tag and tenth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pyroaring import BitMap

from targeting.content import LEVELS, level_of, tag_segment
from targeting.segments.store import Change, SegmentStore


def check_affinities(tags: int, viewers: int, tag_idx: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The levels (i8[m], 0..LEVELS) of m affinities.

    Args:
        tags: how many tags there are to point at.
        viewers: m.
        tag_idx, weights: u4[m], f4[m].

    Raises:
        ValueError: lengths differ, or an index or weight is out of range.
    """
    if not viewers == len(tag_idx) == len(weights):
        raise ValueError(
            f"affinities: {viewers} viewers, {len(tag_idx)} tag_idx, {len(weights)} weights; must be equally many"
        )
    if not viewers:
        return np.zeros(0, np.int64)
    if int(tag_idx.max()) >= tags:
        raise ValueError(f"tag_idx {int(tag_idx.max())}: not in 0..{tags - 1}")
    bad = ~((weights >= 0) & (weights <= 1))
    if bad.any():
        k = int(np.argmax(bad))
        raise ValueError(f"weights[{k}] {weights[k]}: not in 0..1")
    return np.array([level_of(weight) for weight in weights.tolist()], np.int64)


def put_affinities(
    segments: SegmentStore, tags: Sequence[str], rows: np.ndarray, tag_idx: np.ndarray, levels: np.ndarray
) -> None:
    """Put the levels of viewers (rows, i8[m]) for tags (i8[m]) in place of those that they had; the last one counts."""
    last = {(int(t), int(row)): int(level) for t, row, level in zip(tag_idx, rows, levels, strict=True)}
    of_tag: dict[int, dict[int, list[int]]] = {}
    for (t, row), level in last.items():
        of_tag.setdefault(t, {}).setdefault(level, []).append(row)
    for t, by_level in of_tag.items():
        told = BitMap([row for inside in by_level.values() for row in inside])
        for level in range(1, LEVELS + 1):
            name, inside = tag_segment(tags[t], level), BitMap(by_level.get(level, []))
            gone = (told - inside) & segments.members(name)
            if gone:
                segments.put_members(name, gone, Change.REMOVE)
            if inside:
                segments.put_members(name, inside, Change.ADD)
