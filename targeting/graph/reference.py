"""The follow graph as a plain set of pairs. For tests and benches."""

from __future__ import annotations

from collections.abc import Set

Follows = Set[tuple[int, int]]
"""Pairs (who follows, who is followed)."""


def fans(follows: Follows, creator_id: int) -> set[int]:
    """Who follows the creator."""
    return {follower for follower, followed in follows if followed == creator_id}


def close(follows: Follows, creator_id: int) -> set[int]:
    """Who follows a fan of the creator, or is followed by one."""
    of_creator = fans(follows, creator_id)
    return {follower for follower, followed in follows if followed in of_creator} | {
        followed for follower, followed in follows if follower in of_creator
    }


def laotie(follows: Follows, creator_id: int) -> set[int]:
    """Friends of fans: who is close to the creator, and neither a fan nor the creator."""
    return close(follows, creator_id) - fans(follows, creator_id) - {creator_id}
