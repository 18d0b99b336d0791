"""Audiences as plain JSON values, as they are stored."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any as AnyValue

from targeting.attributes import Dimension
from targeting.content import check_tag
from targeting.expressions import (
    CREATOR_NODES,
    All,
    Any,
    Attribute,
    Content,
    Expression,
    FansOf,
    FansOfSimilarCreators,
    FriendsOfFans,
    Interests,
    LiveVisitorsOf,
    Not,
    Segment,
    ViewersOf,
)


def to_json(expression: Expression) -> dict[str, AnyValue]:
    """The expression as plain JSON values."""
    match expression:
        case All(of=of):
            return {"all": [to_json(part) for part in of]}
        case Any(of=of):
            return {"any": [to_json(part) for part in of]}
        case Not(of=of):
            return {"not": to_json(of)}
        case Attribute(dimension=dimension, codes=codes):
            return {"attribute": dimension.name.lower(), "codes": list(codes)}
        case Interests(codes=codes):
            return {"interests": list(codes)}
        case Segment(name=name):
            return {"segment": name}
        case FansOf(creator_ids=ids) | ViewersOf(creator_ids=ids) | LiveVisitorsOf(creator_ids=ids):
            return {CREATOR_NODES[type(expression)]: [str(creator_id) for creator_id in ids]}
        case Content(tags=tags, min_tenths=min_tenths):
            return {"content": list(tags), "min_tenths": min_tenths}
        case FriendsOfFans():
            return {"friends_of_fans": True}
        case FansOfSimilarCreators():
            return {"fans_of_similar_creators": True}


def from_json(value: AnyValue) -> Expression:
    """What `to_json` gave.

    Raises:
        ValueError: it is no expression.
    """
    try:
        return _from_json(value)
    except (KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        raise ValueError(f"targeting: {reprlib.repr(value)[:80]} is no audience") from None


def _from_json(value: Mapping[str, AnyValue]) -> Expression:
    if "all" in value:
        return All(tuple(_from_json(part) for part in value["all"]))
    if "any" in value:
        return Any(tuple(_from_json(part) for part in value["any"]))
    if "not" in value:
        return Not(_from_json(value["not"]))
    if "attribute" in value:
        return Attribute(Dimension[value["attribute"].upper()], tuple(int(code) for code in value["codes"]))
    if "interests" in value:
        return Interests(tuple(int(code) for code in value["interests"]))
    if "segment" in value:
        return Segment(value["segment"])
    for node, name in CREATOR_NODES.items():
        if name in value:
            return node(tuple(int(creator_id) for creator_id in value[name]))
    if "content" in value:
        return Content(tuple(check_tag(tag) for tag in value["content"]), int(value["min_tenths"]))
    if value.get("fans_of_similar_creators") is True:
        return FansOfSimilarCreators()
    if value["friends_of_fans"] is True:
        return FriendsOfFans()
    raise KeyError("friends_of_fans")
