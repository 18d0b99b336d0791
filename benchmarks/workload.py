"""Made-up campaigns and viewers for benchmarks of the bid path: many campaigns, none of which wants everybody."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any as AnyValue

import numpy as np

from protos import bidding_pb2, campaigns_pb2
from targeting.attributes import CARDINALITIES, INTEREST_COUNT, STORED_DIMENSION_COUNT, Dimension
from targeting.expressions import All, Any, Attribute, Expression, Interests, Not, Segment

PROVINCES = 32
REGIONS_PER_PROVINCE = 10
SEGMENTS = 1_000
SPARSEST_SEGMENT, DENSEST_SEGMENT = 0.0005, 0.1
INTERESTS_PER_VIEWER = 8
FIRST_VIEWER_ID = 8_000_000_001

_INCLUDES_SEGMENTS = 0.5
_EXCLUDES_SEGMENT = 0.6
# How often a campaign's next condition is on each: region, age, gender, system, network, device, content, interests.
_CONDITIONS = ("region", "age", "gender", "os", "network", "device", "content", "interests")
_CONDITION_SHARES = np.array([0.24, 0.17, 0.17, 0.06, 0.06, 0.06, 0.06, 0.18])


@dataclass(frozen=True)
class Audience:
    """n viewers.

    Attributes:
        ids: u8[n].
        attributes: u2[n, 6].
        interest_masks: u8[n].
        members: rows of each segment, i8[...] each.
    """

    ids: np.ndarray
    attributes: np.ndarray
    interest_masks: np.ndarray
    members: tuple[np.ndarray, ...]

    @property
    def size(self) -> int:
        """How many viewers."""
        return len(self.ids)


def segment_name(number: int) -> str:
    """Name of one of the SEGMENTS segments."""
    return f"bench:{number}"


def make_audience(n: int, seed: int, segments: int = SEGMENTS) -> Audience:
    """Draw viewers: skewed regions, a few interests, and segments from one viewer in 2,000 to one in ten."""
    rng = np.random.default_rng([seed, 1])
    weights = 1.0 / np.arange(1, PROVINCES * REGIONS_PER_PROVINCE + 1) ** 0.7
    attributes = np.empty((n, STORED_DIMENSION_COUNT), np.uint16)
    attributes[:, Dimension.REGION] = 1 + rng.choice(len(weights), n, p=weights / weights.sum())
    for dimension in range(1, STORED_DIMENSION_COUNT):
        attributes[:, dimension] = rng.integers(1, CARDINALITIES[dimension], n)
    masks = np.zeros(n, np.uint64)
    for _ in range(INTERESTS_PER_VIEWER):
        masks |= np.uint64(1) << rng.integers(0, INTEREST_COUNT, n).astype(np.uint64)
    densities = np.exp(rng.uniform(np.log(SPARSEST_SEGMENT), np.log(DENSEST_SEGMENT), segments))
    return Audience(
        ids=(FIRST_VIEWER_ID + np.arange(n)).astype(np.uint64),
        attributes=attributes,
        interest_masks=masks,
        members=tuple(np.flatnonzero(rng.random(n) < density) for density in densities),
    )


def _condition(kind: str, rng: np.random.Generator) -> Expression:
    if kind == "region":
        provinces = rng.choice(PROVINCES, int(rng.integers(1, 6)), replace=False)
        codes = (provinces[:, None] * REGIONS_PER_PROVINCE + np.arange(1, REGIONS_PER_PROVINCE + 1)).ravel()
        return Attribute(Dimension.REGION, tuple(sorted(codes.tolist())))
    if kind == "interests":
        return Interests(tuple(rng.choice(INTEREST_COUNT, int(rng.integers(1, 4)), replace=False).tolist()))
    dimension = {
        "age": Dimension.AGE_BAND,
        "gender": Dimension.GENDER,
        "os": Dimension.OS,
        "network": Dimension.NETWORK,
        "device": Dimension.DEVICE_TIER,
        "content": Dimension.CONTENT_CATEGORY,
    }[kind]
    known = CARDINALITIES[dimension] - 1
    wanted = rng.choice(known, int(rng.integers(1, max(2, known // 2 + 1))), replace=False) + 1
    return Attribute(dimension, tuple(sorted(wanted.tolist())))


def draw_targeting(rng: np.random.Generator) -> Expression:
    """An audience as creators choose them: one to four conditions, often segments to be in, or one to be out of."""
    kinds = rng.choice(_CONDITIONS, int(rng.integers(1, 5)), replace=False, p=_CONDITION_SHARES)
    parts = [_condition(str(kind), rng) for kind in kinds]
    if rng.random() < _INCLUDES_SEGMENTS:
        numbers = rng.choice(SEGMENTS, int(rng.integers(1, 4)), replace=False).tolist()
        segments = tuple(Segment(segment_name(number)) for number in numbers)
        parts.append(segments[0] if len(segments) == 1 else Any(segments))
    if rng.random() < _EXCLUDES_SEGMENT:
        parts.append(Not(Segment(segment_name(int(rng.integers(SEGMENTS))))))
    return All(tuple(parts))


def draw_targetings(n: int, seed: int) -> list[Expression]:
    """n audiences."""
    rng = np.random.default_rng([seed, 2])
    return [draw_targeting(rng) for _ in range(n)]


def targeting_message(expression: Expression) -> campaigns_pb2.Targeting:
    """The expression in its wire form; only the kinds that `draw_targeting` makes."""
    match expression:
        case All(of=()):
            return campaigns_pb2.Targeting()
        case All(of=of):
            return campaigns_pb2.Targeting(all=campaigns_pb2.Targeting.All(of=[targeting_message(part) for part in of]))
        case Any(of=of):
            return campaigns_pb2.Targeting(any=campaigns_pb2.Targeting.Any(of=[targeting_message(part) for part in of]))
        case Not(of=part):
            return campaigns_pb2.Targeting(none=targeting_message(part))
        case Attribute(dimension=dimension, codes=codes):
            number: AnyValue = int(dimension) + 1
            attribute = campaigns_pb2.Targeting.Attribute(dimension=number, codes=codes)
            return campaigns_pb2.Targeting(attribute=attribute)
        case Interests(codes=codes):
            return campaigns_pb2.Targeting(interests=campaigns_pb2.Targeting.Interests(codes=codes))
        case Segment(name=name):
            return campaigns_pb2.Targeting(segment=campaigns_pb2.Targeting.Segment(segment_id=name))
    raise ValueError(f"targeting {expression!r:.80}: not one that this workload draws")


def viewers_message(audience: Audience, rows: np.ndarray) -> bidding_pb2.Viewers:
    """Some viewers with all their attributes in wire form."""
    columns = audience.attributes[rows].T.tolist()
    return bidding_pb2.Viewers(
        ids=audience.ids[rows].tolist(),
        regions=columns[Dimension.REGION],
        age_bands=columns[Dimension.AGE_BAND],
        genders=columns[Dimension.GENDER],
        os=columns[Dimension.OS],
        networks=columns[Dimension.NETWORK],
        device_tiers=columns[Dimension.DEVICE_TIER],
        interest_masks=audience.interest_masks[rows].tolist(),
    )


def draw_bid_requests(audience: Audience, count: int, viewers_per_request: int, seed: int) -> list[bytes]:
    """`count` serialised BidRequests, mostly second price, with floors from 5 to 20 thousand micros."""
    rng = np.random.default_rng([seed, 3])
    requests = []
    for number in range(count):
        rows = rng.choice(audience.size, viewers_per_request, replace=False)
        at: AnyValue = 1 if rng.random() < 0.2 else 2
        request = bidding_pb2.BidRequest(
            id=f"load-{number}",
            at=at,
            placement=int(rng.integers(1, 5)),
            content_category=int(rng.integers(1, 64)),
            bidfloor_micros=int(rng.integers(5, 20)) * 1_000,
            viewers=bidding_pb2.Viewers(ids=audience.ids[rows].tolist()),
        )
        requests.append(request.SerializeToString())
    return requests
