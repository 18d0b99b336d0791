"""Which landscape a slot belongs to: placement, time of day and region tier, and what each leans on while it knows
little."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

PLACEMENTS = 16
HOUR_BLOCKS = 8
HOURS_PER_BLOCK = 3
REGION_TIERS = 4
REGION_CODES = 512

LEAF_COUNT = PLACEMENTS * HOUR_BLOCKS * REGION_TIERS
_BLOCK_COUNT = PLACEMENTS * HOUR_BLOCKS
ROW_COUNT = LEAF_COUNT + _BLOCK_COUNT + PLACEMENTS + 1
"""Leaves, then (placement, hours), then placements, then everything."""

ONE_TIER = np.zeros(REGION_CODES, np.int32)
ONE_TIER.setflags(write=False)


def landscape_idx(
    placements: np.ndarray, regions: np.ndarray, hour: int, region_tiers: np.ndarray = ONE_TIER
) -> np.ndarray:
    """The leaf (i4[n]) of each slot.

    Args:
        placements: integers [n], codes 0..15.
        regions: integers [n], codes 0..511.
        hour: local hour 0..23.
        region_tiers: i4[512], the tier 0..3 of each region, where a deployment knows them.
    """
    block = hour // HOURS_PER_BLOCK
    tiers = region_tiers[np.asarray(regions, np.int64)]
    return ((np.asarray(placements, np.int32) * HOUR_BLOCKS + block) * REGION_TIERS + tiers).astype(np.int32)


def leaves_of_blocks(blocks: Sequence[int]) -> np.ndarray:
    """Which leaves (b1[LEAF_COUNT]) belong to some blocks of hours."""
    return np.isin(np.arange(LEAF_COUNT) // REGION_TIERS % HOUR_BLOCKS, blocks)


def parent_rows() -> np.ndarray:
    """What each row leans on: i4[ROW_COUNT], always a higher row; -1 for the last."""
    rows = np.arange(ROW_COUNT)
    first_placement = LEAF_COUNT + _BLOCK_COUNT
    parents = np.where(rows < LEAF_COUNT, LEAF_COUNT + rows // REGION_TIERS, first_placement + PLACEMENTS)
    in_blocks = (rows >= LEAF_COUNT) & (rows < first_placement)
    parents = np.where(in_blocks, first_placement + (rows - LEAF_COUNT) // HOUR_BLOCKS, parents)
    parents[-1] = -1
    return parents.astype(np.int32)


def ancestry() -> np.ndarray:
    """Each leaf with all that it leans on: i4[LEAF_COUNT, 4]."""
    parents = parent_rows()
    chain = [np.arange(LEAF_COUNT, dtype=np.int32)]
    for _ in range(3):
        chain.append(parents[chain[-1]])
    return np.stack(chain, axis=1)
