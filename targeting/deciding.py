"""Which conditions of an audience decided that it holds a viewer, and how many of them may be told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from targeting.expressions import (
    All,
    Any,
    Attribute,
    Content,
    Expression,
    Interests,
    Laotie,
    Not,
    OfCreators,
    Segment,
    ViewerFacts,
    matches,
)


@dataclass(frozen=True, slots=True)
class Alternatives:
    """So many alternatives, of which one holds or more."""

    count: int


@dataclass(frozen=True, slots=True)
class Reason:
    """One condition that decided.

    Attributes:
        condition: an expression without parts; or alternatives, of which it is not told which hold.
        holds: whether the audience wanted it to hold, or not to.
        is_all_told: whether the sentence says of the viewer what of the condition holds; else what the audience asks.
    """

    condition: Attribute | Interests | Segment | OfCreators | Content | Laotie | Alternatives
    holds: bool
    is_all_told: bool = True

    @property
    def tells_which(self) -> bool:
        """Whether the sentence picks out of the condition's codes, accounts or tags those that hold."""
        return self.holds and self.is_all_told


def reasons_of(expression: Expression, facts: ViewerFacts, creator_id: int) -> tuple[Reason, ...] | None:
    """Conditions that together make the audience hold the viewer, each once; None if it does not.

    Of alternatives, the one that takes the fewest conditions is told, the first among equals; where it is one half of
    laotie and the other half is an alternative that holds, too, both are.
    """
    found = _witness(expression, facts, creator_id, holds=True)
    return None if found is None else tuple(dict.fromkeys(found))


def bounded_reasons_of(expression: Expression, facts: ViewerFacts, creator_id: int) -> tuple[Reason, ...] | None:
    """Conditions that the viewer meets, as the audience asks them; None if it does not hold the viewer.

    What differs between viewers is which alternative is told, of one node only: so there are no more different answers
    than the audience has nodes, and None, and both halves of laotie, however the audience is written. A conjunction of
    what always holds would else ask as many questions at once as it has parts.
    """
    if not matches(expression, facts, creator_id):
        return None
    return tuple(dict.fromkeys(_asked(expression, facts, creator_id, holds=True, may_choose=True)))


def _witness(node: Expression, facts: ViewerFacts, creator_id: int, holds: bool) -> list[Reason] | None:
    """Reasons why `node` is as `holds` says; None if it is not."""
    match node:
        case Not(of=part):
            return _witness(part, facts, creator_id, not holds)
        case All(of=of) | Any(of=of):
            parts = [_witness(part, facts, creator_id, holds) for part in of]
            given = [part for part in parts if part is not None]
            if isinstance(node, All) is holds:
                return [reason for part in given for reason in part] if len(given) == len(parts) else None
            return _with_other_half(min(given, key=len, default=None), given)
        case _:
            return [Reason(node, holds)] if matches(node, facts, creator_id) is holds else None


def _asked(node: Expression, facts: ViewerFacts, creator_id: int, holds: bool, may_choose: bool) -> list[Reason]:
    """What `node`, which is as `holds` says, asks of the viewer; `may_choose`: it may say which alternative it is."""
    match node:
        case Not(of=part):
            return _asked(part, facts, creator_id, not holds, may_choose)
        case All(of=of) | Any(of=of) if isinstance(node, All) is holds:
            chosen = _chooser(of, holds) if may_choose else -1
            parts = [_asked(part, facts, creator_id, holds, k == chosen) for k, part in enumerate(of)]
            return [reason for part in parts for reason in part]
        case All(of=of) | Any(of=of):
            if not may_choose and len(of) > 1:
                return [Reason(Alternatives(len(of)), True)]
            given = [
                _asked(part, facts, creator_id, holds, may_choose)
                for part in of
                if matches(part, facts, creator_id) is holds
            ]
            return _with_other_half(min(given, key=len), given) or []
        case _:
            return [Reason(node, holds, is_all_told=False)]


def _chooser(parts: Sequence[Expression], holds: bool) -> int:
    """Which part of a conjunction may say which alternative it is: the first, but laotie first; -1: there is none."""
    choosing = [k for k, part in enumerate(parts) if _has_choice(part, holds)]
    return min(choosing, key=lambda k: not _wants_laotie(parts[k]), default=-1)


def _has_choice(node: Expression, holds: bool) -> bool:
    match node:
        case Not(of=part):
            return _has_choice(part, not holds)
        case All(of=of) | Any(of=of):
            is_choice = isinstance(node, All) is not holds and len(of) > 1
            return is_choice or any(_has_choice(part, holds) for part in of)
        case _:
            return False


def _wants_laotie(node: Expression) -> bool:
    match node:
        case Not(of=part):
            return _wants_laotie(part)
        case All(of=of) | Any(of=of):
            return any(map(_wants_laotie, of))
        case _:
            return isinstance(node, Laotie)


def _with_other_half(told: list[Reason] | None, given: list[list[Reason]]) -> list[Reason] | None:
    """What is told of the alternatives that hold, with what else makes the viewer laotie if that is what it says."""
    halves = [part for part in given if len(part) == 1 and isinstance(part[0].condition, Laotie) and part[0].holds]
    return [reason for half in halves for reason in half] if told in halves else told
