"""Audiences as expressions: what they mean, what is allowed, and the clauses that the match index is built from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from itertools import product

from targeting.attributes import CARDINALITIES, DIMENSION_COUNT, INTEREST_COUNT, Dimension

MAX_NODES = 64
MAX_DEPTH = 8
MAX_CODES = 256
MAX_CREATORS = 16
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
class FriendsOfFans:
    """Laotie: viewers who follow a fan of the campaign's creator or are followed by one, and are no fans themselves."""


Expression = All | Any | Not | Attribute | Interests | Segment | FansOf | FriendsOfFans

EVERYBODY = All(())


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


def members_segment(creator_id: int) -> str:
    """Name of the segment of a creator's paying members."""
    return f"members:{creator_id}"


def own_segments(creator_id: int) -> frozenset[str]:
    """Whom a campaign leaves out unless it includes fans: the creator's fans and paying members."""
    return frozenset({fans_segment(creator_id), members_segment(creator_id)})


def laotie_segment(creator_id: int) -> str:
    """Name of the segment of a creator's friends of fans."""
    return f"laotie:{creator_id}"


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


def validate(expression: Expression) -> Expression:
    """Check sizes, codes and names; answers with the expression.

    Raises:
        ValueError: names the path of the node, its value and the range.
    """
    for count, (path, depth, node) in enumerate(_walk(expression, "targeting", 1), 1):
        if count > MAX_NODES:
            raise ValueError(f"targeting: more than {MAX_NODES} nodes")
        if depth > MAX_DEPTH:
            raise ValueError(f"{path}: at depth {depth}; at most {MAX_DEPTH}")
        _check_node(path, node)
    return expression


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
        case FansOf(creator_ids=creator_ids):
            return any(fans_segment(other) in facts.segments for other in creator_ids)
        case FriendsOfFans():
            return laotie_segment(creator_id) in facts.segments


def compile_clauses(expression: Expression, creator_id: int, include_fans: bool) -> tuple[Clause, ...]:
    """The audience as alternatives (disjunctive normal form), without the creator's fans and paying members unless they
    are wanted.

    An audience that can hold nobody has none.

    Args:
        expression: one that `validate` takes.
        creator_id: the campaign's creator.
        include_fans: whether the creator's present fans and paying members may see the campaign.

    Raises:
        ValueError: it takes more than MAX_CLAUSES alternatives.
    """
    excluded = frozenset() if include_fans else own_segments(creator_id)
    found = _alternatives(expression, creator_id, positive=True)
    clauses = [_tidied(replace(clause, excluded=clause.excluded | excluded)) for clause in found]
    return tuple(_once(clause for clause in clauses if not _is_empty(clause)))


def _walk(node: Expression, path: str, depth: int) -> Iterator[tuple[str, int, Expression]]:
    yield path, depth, node
    if depth > MAX_DEPTH:
        return
    match node:
        case All(of=of) | Any(of=of):
            name = "all" if isinstance(node, All) else "any"
            for i, part in enumerate(of):
                yield from _walk(part, f"{path}.{name}.of[{i}]", depth + 1)
        case Not(of=part):
            yield from _walk(part, f"{path}.none", depth + 1)


def _check_node(path: str, node: Expression) -> None:
    match node:
        case Any(of=()):
            raise ValueError(f"{path}.any.of: empty; must hold at least one part")
        case Attribute(dimension=dimension, codes=codes):
            if not isinstance(dimension, Dimension):
                raise ValueError(f"{path}.attribute.dimension {dimension!r}: not in 1..{DIMENSION_COUNT}")
            _check_codes(f"{path}.attribute.codes", codes, MAX_CODES, 0, CARDINALITIES[dimension] - 1)
        case Interests(codes=codes):
            _check_codes(f"{path}.interests.codes", codes, INTEREST_COUNT, 0, INTEREST_COUNT - 1)
        case Segment(name=name):
            try:
                check_segment_name(name)
            except ValueError as refused:
                raise ValueError(f"{path}.segment: {refused}") from None
            if name.startswith(INTEREST_PREFIX):
                raise ValueError(f"{path}.segment: segment_id {name!r}: interests are chosen by code, not by segment")
        case FansOf(creator_ids=creator_ids):
            _check_codes(f"{path}.fans_of.creator_ids", creator_ids, MAX_CREATORS, 1, MAX_CREATOR_ID)


def _check_codes(path: str, codes: Sequence[int], most: int, low: int, high: int) -> None:
    if not 1 <= len(codes) <= most:
        raise ValueError(f"{path}: {len(codes)} given; must be 1 to {most}")
    for i, code in enumerate(codes):
        if isinstance(code, bool) or not isinstance(code, int) or not low <= code <= high:
            raise ValueError(f"{path}[{i}] {code!r}: not in {low}..{high}")


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
        case FansOf(creator_ids=creator_ids):
            names = frozenset(fans_segment(other) for other in creator_ids)
        case FriendsOfFans():
            names = frozenset({laotie_segment(creator_id)})
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


def _tidied(clause: Clause) -> Clause:
    """The same clause without what says nothing: dimensions that allow all, and groups that another one implies."""
    allowed = {d: codes for d, codes in clause.allowed.items() if len(codes) < CARDINALITIES[d]}
    wanted = _minimal(tuple(group - clause.excluded for group in clause.groups))
    return Clause(allowed, wanted, clause.excluded)


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
