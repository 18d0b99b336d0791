"""Lists of viewers that belong to one creator: how their segments are called, and how large they must be."""

from __future__ import annotations

import re
from collections.abc import Callable

from targeting.expressions import MAX_CREATOR_ID, Expression, Segment
from targeting.validation import parts_of

OWN_KIND = "own"
OWN_PREFIX = f"{OWN_KIND}:"
MAX_NAME_CHARACTERS = 39
"""As many as fit behind the longest creator id into a segment's name."""
MIN_MEMBERS = 1_000
"""Known viewers that a list needs, or it cannot be used: what is told of fewer would be told of each of them."""
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


def names_own_list(expression: Expression) -> bool:
    """Whether an audience asks who is in a creator's list."""
    return any(isinstance(node, Segment) and owner_of(node.name) for _, node in parts_of(expression))


def check_large_enough(field: str, segment: str, members: int) -> None:
    """See to it that a list may be used.

    Raises:
        ValueError: it is too small.
    """
    if members < MIN_MEMBERS:
        raise ValueError(
            f"{field} {segment!r}: {members} viewers who are known; a creator's list must have {MIN_MEMBERS} to be used"
        )


def check_lookalike_size(size: int) -> None:
    """See to it that a creator may want a lookalike of this size.

    Raises:
        ValueError: it could not be used.
    """
    if size < MIN_MEMBERS:
        raise ValueError(f"size {size}: a creator's lookalike must have {MIN_MEMBERS} viewers to be used")


def check_found(segment: str, found: int) -> None:
    """See to it that a creator's lookalike for which so many were found can be used.

    Raises:
        ValueError: it cannot; how many were found is not told.
    """
    if found < MIN_MEMBERS:
        raise ValueError(
            f"seed_segment_id: fewer than {MIN_MEMBERS} viewers like its members were found, which is what "
            f"{segment!r} needs to be used; nothing was changed"
        )


def is_too_small(members: int) -> bool:
    """Whether a list of so many may not be left as it is: it has members, and not enough to be used."""
    return 0 < members < MIN_MEMBERS


def check_lists(expression: Expression, members_of: Callable[[str], int], creator_id: int) -> None:
    """See to it that every list in a creator's audience may be used, and that it is called by its whole name.

    A plain name is a segment of the platform's. Where there is none of that name, but a list of the creator's, the list
    is what was meant; a name that nobody has yet is taken, and holds nobody.

    Raises:
        ValueError: a list is too small, or called by half its name; the text names the path of the node and the
            segment.
    """
    for path, node in parts_of(expression):
        if not isinstance(node, Segment):
            continue
        if owner_of(node.name):
            check_large_enough(f"{path}.segment: segment_id", node.name, members_of(node.name))
        elif _NAME.fullmatch(node.name) and not members_of(node.name):
            own = own_segment(creator_id, node.name)
            if members_of(own):
                raise ValueError(f"{path}.segment: segment_id {node.name!r}: must be {own!r}, the name of your list")
