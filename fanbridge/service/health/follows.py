"""Who followed a creator from when to when, and through which campaign, from the bare follows and unfollows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from pacing.facts import OutcomeKind

OPEN_MS = 2**63 - 1
"""The end of a spell that has none yet."""
ORGANIC = 0
"""The source of fans whom no campaign gained."""

SPELL = np.dtype([("viewer_id", "<i8"), ("began_at_ms", "<i8"), ("ended_at_ms", "<i8"), ("campaign_id", "<i8")])
"""A viewer followed from `began_at_ms` until `ended_at_ms`. Ids are as SQLite keeps them, signed."""

Spells = npt.NDArray[np.void]


def spells_of(
    viewer_ids: npt.NDArray[np.int64],
    at_ms: npt.NDArray[np.int64],
    kinds: npt.NDArray[np.int64],
    bought: Mapping[tuple[int, int], int],
) -> Spells:
    """The spells of following in FOLLOW and UNFOLLOW facts, whatever order these came in.

    A follow of who follows changes nothing, nor does an unfollow of who does not; of a follow and an unfollow at the
    same instant, the unfollow is the later one.

    Args:
        viewer_ids, at_ms, kinds: i8[n], one fact each.
        bought: (viewer_id, at_ms) of each follow that a campaign was judged to have gained, with the campaign's id.

    Returns:
        SPELL[m], by viewer and time.
    """
    unfollows = kinds == OutcomeKind.UNFOLLOW
    order = np.lexsort((unfollows, at_ms, viewer_ids))
    viewers, instants, ends = viewer_ids[order], at_ms[order], unfollows[order]
    follows_before = np.zeros(len(order), np.bool_)
    follows_before[1:] = (viewers[1:] == viewers[:-1]) & ~ends[:-1]
    gains = np.flatnonzero(~ends & ~follows_before)
    losses = np.flatnonzero(ends & follows_before)
    spells = np.zeros(len(gains), SPELL)
    spells["viewer_id"], spells["began_at_ms"] = viewers[gains], instants[gains]
    # Gains and losses of a viewer alternate, so the first loss behind a gain is its own, if it is the same viewer's.
    behind = np.searchsorted(losses, gains)
    ended = np.zeros(len(gains), np.bool_)
    has_one = behind < len(losses)
    ended[has_one] = viewers[losses[behind[has_one]]] == spells["viewer_id"][has_one]
    spells["ended_at_ms"] = OPEN_MS
    spells["ended_at_ms"][ended] = instants[losses[behind[ended]]]
    if bought:
        keys = zip(spells["viewer_id"].tolist(), spells["began_at_ms"].tolist(), strict=True)
        spells["campaign_id"] = [bought.get(key, ORGANIC) for key in keys]
    return spells


def following(spells: Spells, at_ms: int) -> npt.NDArray[np.bool_]:
    """Which spells span the instant: b1[m]; one that begins then does not, one that ends then does."""
    spans: npt.NDArray[np.bool_] = (spells["began_at_ms"] < at_ms) & (spells["ended_at_ms"] >= at_ms)
    return spans


def within(instants: npt.NDArray[np.int64], begin_at_ms: int, end_at_ms: int) -> npt.NDArray[np.bool_]:
    """Which instants lie in the half-open period: b1[m]."""
    return (instants >= begin_at_ms) & (instants < end_at_ms)
