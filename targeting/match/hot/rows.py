"""Makes the caches that `match_hot` keeps static rows in."""

from __future__ import annotations

import numpy as np

from targeting.match.hot.kernels import EMPTY, KEY_SEGMENTS, KEY_WORDS, MOST_SEGMENTS, RowCache
from targeting.match.kernels import MatchIndex

__all__ = ["RowCache", "make_row_cache"]


def make_row_cache(index: MatchIndex, most_bytes: int) -> RowCache:
    """An empty cache for one index, of as many rows, a power of two, as fit into `most_bytes`; at least one."""
    words = index.rows.shape[1]
    place_bytes = 8 * (words + KEY_WORDS) + 4 * MOST_SEGMENTS
    places = 1 << max(0, (most_bytes // place_bytes).bit_length() - 1)
    keys = np.zeros((places, KEY_WORDS), np.uint64)
    keys[:, KEY_SEGMENTS] = EMPTY
    return RowCache(keys, np.zeros((places, MOST_SEGMENTS), np.uint32), np.zeros((places, words), np.uint64))
