"""Who may name which segment: the one place that decides, for audiences of campaigns, questions and lookalikes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from targeting.expressions import MAX_CREATOR_ID, Expression, Segment
from targeting.own_lists import OWN_KIND, own_prefix, owner_of
from targeting.segment_phrases import words_of
from targeting.validation import parts_of

OF_ONE_CREATOR = ("tier", "stage", "members", OWN_KIND)
"""What names of segments begin with that tell of one creator's fans, members or customers. This creator may name them,
and operators may; of others' fans an audience may ask by `fans_of`, which tells no tier."""
FILLED_FOR: Mapping[str, str] = {
    "fans": "fans_of",
    "viewers": "viewers_of",
    "live": "live_visitors_of",
    "laotie": "friends_of_fans",
    "similar": "fans_of_similar_creators",
    "tag": "content",
    "interest": "interests",
}
"""Segments that the engine fills for other nodes of an audience, by what their names begin with: those nodes, as the
wire and JSON call them. Nobody names such a segment: it is filled only where the node is there."""
_OF_CREATORS = ("fans", "viewers", "live")
_OF_FANS = re.compile(r"(?:(?:tier|stage):[a-z0-9_.-]+|members):([1-9][0-9]{0,19})")


def creator_of(segment: str) -> int | None:
    """The creator whose segment it is.

    0: it can be no creator's, though its name begins as theirs do; None: it is of no creator in particular.
    """
    if kind_of(segment) not in OF_ONE_CREATOR:
        return None
    found = _OF_FANS.fullmatch(segment)
    creator_id = int(found[1]) if found else owner_of(segment)
    return creator_id if creator_id <= MAX_CREATOR_ID else 0


def kind_of(segment: str) -> str:
    """What the name begins with, up to its first colon; empty without one."""
    kind, colon, _ = segment.partition(":")
    return kind if colon else ""


def nameable(creator_id: int) -> str:
    """In words: the segments of its kind that a creator may name."""
    return f"tier:TIER:{creator_id}, stage:STAGE:{creator_id}, members:{creator_id} and {own_prefix(creator_id)}NAME"


def check_named(expression: Expression, asking_creator_id: int) -> None:
    """See to it that who asks may name the segments of an audience, whether there are such segments or not; creators
    name tiers and stages that there can be.

    Args:
        expression: a validated one.
        asking_creator_id: the creator whose token asks; 0: an operator's, who may name every creator's.

    Raises:
        ValueError: names the path of the node, the segment, and what may be named.
    """
    for path, node in parts_of(expression):
        if not isinstance(node, Segment):
            continue
        kind, whose = kind_of(node.name), creator_of(node.name)
        if kind in FILLED_FOR:
            raise ValueError(f"{path}.segment: segment_id {node.name!r}: is written {_spelled(kind, node.name)}")
        if asking_creator_id and whose is not None and whose != asking_creator_id:
            raise ValueError(
                f"{path}.segment: segment_id {node.name!r}: is not of creator {asking_creator_id}, who may name "
                f"{nameable(asking_creator_id)}; fans of other creators are chosen by fans_of"
            )
        words = words_of(kind)
        if asking_creator_id and words and node.name.split(":")[1] not in words:
            raise ValueError(
                f"{path}.segment: segment_id {node.name!r}: no such {kind}; must be {kind}:{kind.upper()}:"
                f"{asking_creator_id}, with {kind.upper()} one of {', '.join(words)}"
            )


def _spelled(kind: str, name: str) -> str:
    """The node that a segment is filled for, as JSON."""
    node, rest = FILLED_FOR[kind], name.partition(":")[2]
    if kind in _OF_CREATORS:
        return json.dumps({node: [rest if rest.isdecimal() else "CREATOR_ID"]})
    if kind == "interest":
        return json.dumps({node: [int(rest) if rest.isdecimal() else 0]})
    if kind == "tag":
        return '{"content": {"keywords": [..], "bgm": [..], "visual_tags": [..]}}'
    return json.dumps({node: True})
