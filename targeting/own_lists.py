"""Lists of viewers that belong to one creator: how their segments are called."""

from __future__ import annotations

import re

from targeting.expressions import MAX_CREATOR_ID

OWN_KIND = "own"
OWN_PREFIX = f"{OWN_KIND}:"
MAX_NAME_CHARACTERS = 39
"""As many as fit behind the longest creator id into a segment's name."""
_NAME = re.compile(rf"[a-z0-9_.-]{{1,{MAX_NAME_CHARACTERS}}}")
_SEGMENT = re.compile(rf"{OWN_PREFIX}([1-9][0-9]{{0,19}}):{_NAME.pattern}")


def own_prefix(creator_id: int) -> str:
    """What the names of all segments of a creator's lists begin with."""
    return f"{OWN_PREFIX}{creator_id}:"


def own_segment(creator_id: int, name: str) -> str:
    """Name of the segment of a creator's list.

    Raises:
        ValueError: no list can be called so.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"segment_id {name!r:.80}: a list's name must be 1 to {MAX_NAME_CHARACTERS} of a-z 0-9 _ . -")
    return own_prefix(creator_id) + name


def owner_of(segment: str) -> int:
    """The creator whose list the segment is; 0: it is nobody's."""
    found = _SEGMENT.fullmatch(segment)
    creator_id = int(found[1]) if found else 0
    return creator_id if creator_id <= MAX_CREATOR_ID else 0
