"""What an audience may be: sizes, codes and names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from targeting.attributes import CARDINALITIES, DIMENSION_COUNT, INTEREST_COUNT, Dimension
from targeting.content import LEVELS, check_tag
from targeting.expressions import (
    CREATOR_NODES,
    INTEREST_PREFIX,
    MAX_CODES,
    MAX_CREATOR_ID,
    MAX_CREATORS,
    MAX_DEPTH,
    MAX_NODES,
    MAX_TAGS,
    All,
    Any,
    Attribute,
    Content,
    Expression,
    FansOf,
    Interests,
    LiveVisitorsOf,
    Not,
    Segment,
    ViewersOf,
    check_segment_name,
)


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


def parts_of(expression: Expression) -> Iterator[tuple[str, Expression]]:
    """Every node of a validated expression, with its path."""
    return ((path, node) for path, _, node in _walk(expression, "targeting", 1))


def _walk(node: Expression, path: str, depth: int) -> Iterator[tuple[str, int, Expression]]:
    yield path, depth, node
    if depth > MAX_DEPTH:
        return
    match node:
        case All(of=of) | Any(of=of):
            name = "all" if isinstance(node, All) else "any"
            for i, part in enumerate(of):
                yield from _walk(part, f"{path}.{name}[{i}]", depth + 1)
        case Not(of=part):
            yield from _walk(part, f"{path}.none", depth + 1)


def _check_node(path: str, node: Expression) -> None:
    match node:
        case Any(of=()):
            raise ValueError(f"{path}.any: empty; must hold at least one part")
        case Attribute(dimension=dimension, codes=codes):
            if not isinstance(dimension, Dimension):
                raise ValueError(f"{path}.attribute.dimension {dimension!r}: not in 1..{DIMENSION_COUNT}")
            _check_codes(f"{path}.attribute.codes", codes, MAX_CODES, 0, CARDINALITIES[dimension] - 1)
        case Interests(codes=codes):
            _check_codes(f"{path}.interests", codes, INTEREST_COUNT, 0, INTEREST_COUNT - 1)
        case Segment(name=name):
            try:
                check_segment_name(name)
            except ValueError as refused:
                raise ValueError(f"{path}.segment: {refused}") from None
            if name.startswith(INTEREST_PREFIX):
                raise ValueError(f"{path}.segment: segment_id {name!r}: interests are chosen by code, not by segment")
        case FansOf() | ViewersOf() | LiveVisitorsOf():
            named = f"{path}.{CREATOR_NODES[type(node)]}"
            _check_codes(named, node.creator_ids, MAX_CREATORS, 1, MAX_CREATOR_ID)
        case Content(tags=tags, min_tenths=min_tenths):
            _check_content(path, tags, min_tenths)


def _check_content(path: str, tags: Sequence[str], min_tenths: int) -> None:
    if not 1 <= len(tags) <= MAX_TAGS:
        raise ValueError(f"{path}.content.tags: {len(tags)} given; must be 1 to {MAX_TAGS}")
    for i, tag in enumerate(tags):
        if not isinstance(tag, str) or check_tag(tag) != tag:
            raise ValueError(f"{path}.content.tags[{i}] {tag!r:.80}: not in the form that counts")
    if isinstance(min_tenths, bool) or not isinstance(min_tenths, int) or not 1 <= min_tenths <= LEVELS:
        raise ValueError(f"{path}.content.min_weight_percent {10 * min_tenths}: must be 10, 20, .. 100")


def _check_codes(path: str, codes: Sequence[int], most: int, low: int, high: int) -> None:
    if not 1 <= len(codes) <= most:
        raise ValueError(f"{path}: {len(codes)} given; must be 1 to {most}")
    for i, code in enumerate(codes):
        if isinstance(code, bool) or not isinstance(code, int) or not low <= code <= high:
            raise ValueError(f"{path}[{i}] {code!r}: not in {low}..{high}")
