"""Audiences as expressions: what they mean, what is allowed, and the clauses that the match index is built from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, replace
from itertools import product

from targeting.attributes import CARDINALITIES, Dimension
from targeting.content import segments_from

MAX_NODES = 64
MAX_DEPTH = 8
MAX_CODES = 256
MAX_CREATORS = 16
MAX_TAGS = 16
MAX_CLAUSES = 64
MAX_CREATOR_ID = 2**64 - 1
INTEREST_PREFIX = "interest:"
NO_ADS_SEGMENT = "members:no-ads"
"""Viewers who bought "no ads": the auction sells none of their slots, whatever a campaign wants."""
_SEGMENT_NAME = re.compile(r"[a-z0-9:_.-]{1,64}")


@dataclass(frozen=True, slots=True)
class All:
    """Viewers whom every part holds; everybody if there is no part."""

    of: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Any:
    """Viewers whom at least one part holds."""

    of: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """Viewers whom the part does not hold; those of whom nothing is known included."""

    of: Expression


@dataclass(frozen=True, slots=True)
class Attribute:
    """Viewers with one of these codes in a dimension; code 0 is "unknown"."""

    dimension: Dimension
    codes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Interests:
    """Viewers with at least one of these interests."""

    codes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Segment:
    """Members of a named segment."""

    name: str


@dataclass(frozen=True, slots=True)
class FansOf:
    """Followers of at least one of these creators."""

    creator_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ViewersOf:
    """Who played a video of at least one of these creators in the last 30 days."""

    creator_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LiveVisitorsOf:
    """Who was in the live room of at least one of these creators in the last 30 days."""

    creator_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Content:
    """Viewers who like at least one of these tags (see `targeting.content`) so much, or watch one now.

    Attributes:
        tags: such as "keyword:dance".
        min_tenths: least affinity, 1..10 tenths.
    """

    tags: tuple[str, ...]
    min_tenths: int


@dataclass(frozen=True, slots=True)
class FriendsOfFans:
    """Laotie: viewers who follow a fan of the campaign's creator or are followed by one, and are no fans themselves."""


@dataclass(frozen=True, slots=True)
class FansOfSimilarCreators:
    """Laotie, too: viewers who follow a creator whose fans overlap most with those of the campaign's creator."""


OfCreators = FansOf | ViewersOf | LiveVisitorsOf
Laotie = FriendsOfFans | FansOfSimilarCreators
Expression = All | Any | Not | Attribute | Interests | Segment | OfCreators | Content | Laotie

EVERYBODY = All(())
CREATOR_NODES: Mapping[type[OfCreators], str] = {
    FansOf: "fans_of",
    ViewersOf: "viewers_of",
    LiveVisitorsOf: "live_visitors_of",
}
"""What a node is called on the wire and where it is stored."""


@dataclass(frozen=True, slots=True)
class ViewerFacts:
    """What a viewer is, for `matches`.

    Attributes:
        codes: attribute code in each dimension.
        interests: interest codes.
        segments: names of the segments that hold the viewer.
    """

    codes: tuple[int, ...]
    interests: Set[int]
    segments: Set[str]


@dataclass(frozen=True, slots=True)
class Clause:
    """One way to belong to an audience: every part must hold.

    Attributes:
        allowed: codes by dimension; a dimension that is missing allows all.
        groups: of each group, at least one membership is required.
        excluded: no membership of these is allowed.

    A membership is a segment's name, or "interest:K".
    """

    allowed: Mapping[Dimension, frozenset[int]]
    groups: tuple[frozenset[str], ...]
    excluded: frozenset[str]


def fans_segment(creator_id: int) -> str:
    """Name of the segment of a creator's fans."""
    return f"fans:{creator_id}"


def viewers_segment(creator_id: int) -> str:
    """Name of the segment of who played a creator's videos lately."""
    return f"viewers:{creator_id}"


def live_segment(creator_id: int) -> str:
    """Name of the segment of who was in a creator's live room lately."""
    return f"live:{creator_id}"


def segments_of(node: OfCreators) -> frozenset[str]:
    """The segments of which the node wants any."""
    named = {FansOf: fans_segment, ViewersOf: viewers_segment, LiveVisitorsOf: live_segment}[type(node)]
    return frozenset(map(named, node.creator_ids))


def named_creators(expression: Expression) -> frozenset[int]:
    """The creators whose segments the expression asks for by their ids."""
    match expression:
        case All(of=of) | Any(of=of):
            return frozenset().union(*map(named_creators, of))
        case Not(of=part):
            return named_creators(part)
        case FansOf() | ViewersOf() | LiveVisitorsOf():
            return frozenset(expression.creator_ids)
        case _:
            return frozenset()


def wants_similar(expression: Expression) -> bool:
    """Whether the expression asks who follows creators similar to the campaign's."""
    match expression:
        case All(of=of) | Any(of=of):
            return any(map(wants_similar, of))
        case Not(of=part):
            return wants_similar(part)
        case _:
            return isinstance(expression, FansOfSimilarCreators)


def members_segment(creator_id: int) -> str:
    """Name of the segment of a creator's paying members."""
    return f"members:{creator_id}"


def own_segments(creator_id: int) -> frozenset[str]:
    """Whom a campaign leaves out unless it includes fans: the creator's fans and paying members."""
    return frozenset({fans_segment(creator_id), members_segment(creator_id)})


def laotie_segment(creator_id: int) -> str:
    """Name of the segment of a creator's friends of fans."""
    return f"laotie:{creator_id}"


def similar_segment(creator_id: int) -> str:
    """Name of the segment of who follows creators similar to a creator."""
    return f"similar:{creator_id}"


def interest_segment(code: int) -> str:
    """Name under which an interest counts as a membership."""
    return f"{INTEREST_PREFIX}{code}"


def check_segment_name(name: str) -> str:
    """`name`, if it can name a segment.

    Raises:
        ValueError: it cannot.
    """
    if not isinstance(name, str) or not _SEGMENT_NAME.fullmatch(name):
        raise ValueError(f"segment_id {name!r:.80}: must be 1 to 64 of a-z 0-9 : _ . -")
    return name


def matches(expression: Expression, facts: ViewerFacts, creator_id: int) -> bool:
    """Whether the expression holds the viewer: its meaning, in the plainest form."""
    match expression:
        case All(of=of):
            return all(matches(part, facts, creator_id) for part in of)
        case Any(of=of):
            return any(matches(part, facts, creator_id) for part in of)
        case Not(of=of):
            return not matches(of, facts, creator_id)
        case Attribute(dimension=dimension, codes=codes):
            return facts.codes[dimension] in codes
        case Interests(codes=codes):
            return any(code in facts.interests for code in codes)
        case Segment(name=name):
            return name in facts.segments
        case FansOf() | ViewersOf() | LiveVisitorsOf():
            return bool(segments_of(expression) & facts.segments)
        case Content(tags=tags, min_tenths=min_tenths):
            return bool(segments_from(tags, min_tenths) & facts.segments)
        case FriendsOfFans():
            return laotie_segment(creator_id) in facts.segments
        case FansOfSimilarCreators():
            return similar_segment(creator_id) in facts.segments


def compile_clauses(expression: Expression, creator_id: int, include_fans: bool) -> tuple[Clause, ...]:
    """The audience as alternatives (disjunctive normal form), without the creator's fans and paying members unless they
    are wanted.

    An audience that can hold nobody has none.

    Args:
        expression: one that `targeting.validation.validate` takes.
        creator_id: the campaign's creator.
        include_fans: whether the creator's present fans and paying members may see the campaign.

    Raises:
        ValueError: it takes more than MAX_CLAUSES alternatives.
    """
    excluded = frozenset() if include_fans else own_segments(creator_id)
    found = _alternatives(expression, creator_id, positive=True)
    clauses = (tidied(replace(clause, excluded=clause.excluded | excluded)) for clause in found)
    return tuple(_once(clause for clause in clauses if clause is not None))


_TRUE = Clause({}, (), frozenset())


def _alternatives(node: Expression, creator_id: int, positive: bool) -> list[Clause]:
    """The node (or its negation) as alternatives."""
    match node:
        case Not(of=part):
            return _alternatives(part, creator_id, not positive)
        case All(of=of) | Any(of=of):
            parts = [_alternatives(part, creator_id, positive) for part in of]
            if isinstance(node, All) is positive:
                return _every(parts)
            return _checked(_any_of([clause for part in parts for clause in part]))
        case Attribute(dimension=dimension, codes=codes):
            wanted = frozenset(codes) if positive else frozenset(range(CARDINALITIES[dimension])) - frozenset(codes)
            return [Clause({dimension: wanted}, (), frozenset())]
        case Interests(codes=codes):
            names = frozenset(interest_segment(code) for code in codes)
        case Segment(name=name):
            names = frozenset({name})
        case FansOf() | ViewersOf() | LiveVisitorsOf():
            names = segments_of(node)
        case Content(tags=tags, min_tenths=min_tenths):
            names = segments_from(tags, min_tenths)
        case FriendsOfFans():
            names = frozenset({laotie_segment(creator_id)})
        case FansOfSimilarCreators():
            names = frozenset({similar_segment(creator_id)})
    return [Clause({}, (names,), frozenset()) if positive else Clause({}, (), names)]


def _every(parts: list[list[Clause]]) -> list[Clause]:
    """Alternatives of a conjunction: one of each part, joined; what can hold nobody is left out."""
    joined = [_TRUE]
    for part in parts:
        joined = [both for a, b in product(joined, part) if not _is_empty(both := _both(a, b))]
        _checked(joined)
    return joined


def _any_of(clauses: list[Clause]) -> list[Clause]:
    """Alternatives joined where one clause can say both: memberships into one group, codes of a dimension into one."""
    group: frozenset[str] = frozenset()
    codes_of: dict[Dimension, frozenset[int]] = {}
    others = []
    for clause in clauses:
        if not clause.excluded and not clause.allowed and len(clause.groups) == 1:
            group |= clause.groups[0]
        elif not clause.excluded and not clause.groups and len(clause.allowed) == 1:
            ((dimension, codes),) = clause.allowed.items()
            codes_of[dimension] = codes_of.get(dimension, frozenset()) | codes
        else:
            others.append(clause)
    joined = [Clause({dimension: codes}, (), frozenset()) for dimension, codes in codes_of.items()]
    if group:
        joined.append(Clause({}, (group,), frozenset()))
    everything = _TRUE in others or any(len(codes) == CARDINALITIES[d] for d, codes in codes_of.items())
    return [_TRUE] if everything else _once(joined + others)


def _once(clauses: Iterable[Clause]) -> list[Clause]:
    """The clauses without repetitions."""
    kept: list[Clause] = []
    for clause in clauses:
        if clause not in kept:
            kept.append(clause)
    return kept


def tidied(clause: Clause) -> Clause | None:
    """The same clause without what says nothing: dimensions that allow all, and groups that another one implies; None
    if it can hold nobody."""
    allowed = {d: codes for d, codes in clause.allowed.items() if len(codes) < CARDINALITIES[d]}
    wanted = _minimal(tuple(group - clause.excluded for group in clause.groups))
    found = Clause(allowed, wanted, clause.excluded)
    return None if _is_empty(found) else found


def _minimal(groups: tuple[frozenset[str], ...]) -> tuple[frozenset[str], ...]:
    """The groups without those that hold all of another one."""
    once = tuple(dict.fromkeys(groups))
    return tuple(group for group in once if not any(other < group for other in once))


def _both(a: Clause, b: Clause) -> Clause:
    allowed = dict(a.allowed)
    for dimension, codes in b.allowed.items():
        allowed[dimension] = allowed[dimension] & codes if dimension in allowed else codes
    groups = tuple(dict.fromkeys(a.groups + b.groups))
    return Clause(allowed, groups, a.excluded | b.excluded)


def _is_empty(clause: Clause) -> bool:
    """Whether no viewer can satisfy the clause."""
    return any(not codes for codes in clause.allowed.values()) or any(
        group <= clause.excluded for group in clause.groups
    )


def _checked(clauses: list[Clause]) -> list[Clause]:
    if len(clauses) > MAX_CLAUSES:
        raise ValueError(f"targeting: {len(clauses)} alternatives once multiplied out; at most {MAX_CLAUSES}")
    return clauses
