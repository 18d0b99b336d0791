"""Campaigns between the wire and the model.

What comes in is checked where the two differ (enums, ids, the shape of an audience); ranges are the model's to check.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any as AnyValue
from typing import TypeVar

import numpy as np

from auction.campaigns.desk import LiveFigures
from auction.campaigns.model import EDITABLE_FIELDS, BidMode, Campaign, Creative, InvalidField, InvalidTargeting
from auction.campaigns.report import BookedFigures, Figures
from auction.kept_fans import KeptFigures
from pacing.facts import Goal
from pacing.ledger.statement import StatementPage
from pacing.money import micros_from_float
from protos import campaigns_pb2 as pb
from targeting.attributes import Dimension
from targeting.content import check_tag
from targeting.expressions import (
    EVERYBODY,
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

MAX_TARGETING_DEPTH = 8

Member = TypeVar("Member", bound=IntEnum)


def draft_from_message(message: pb.Campaign, creator_id: int, now_ms: int) -> Campaign:
    """The campaign that a caller asks to create; output-only fields of the message are ignored.

    Args:
        creator_id: whose campaign it becomes.
        now_ms: the creation's instant, and the start when none is named.

    Raises:
        InvalidField: an enum or the audience is not one that exists. Other ranges are checked by `model.validate`.
    """
    return Campaign(
        creator_id=creator_id,
        name=message.name,
        goal=_member("goal", message.goal, Goal),
        bid_mode=_member("bid_mode", message.bid_mode, BidMode),
        daily_budget_micros=message.daily_budget_micros,
        total_budget_micros=message.total_budget_micros,
        zone=message.zone,
        creatives=_creatives_from(message.creatives),
        target_cost_micros=message.target_cost_micros,
        start_at_ms=message.start_at_ms or now_ms,
        end_at_ms=message.end_at_ms,
        targeting=targeting_from_message(message.targeting),
        include_fans=message.include_fans,
        frequency_cap_per_day=message.frequency_cap_per_day,
        high_tier_worth=message.high_tier_worth or 1.0,
        created_at_ms=now_ms,
        updated_at_ms=now_ms,
    )


def changes_from_message(message: pb.Campaign, update_fields: Sequence[str]) -> dict[str, AnyValue]:
    """The fields named in `update_fields`, as the model holds them.

    Raises:
        InvalidField: no field, one twice, or one that may not change.
    """
    if not update_fields:
        raise InvalidField("update_fields", [], f"one or more of {', '.join(EDITABLE_FIELDS)}")
    changes: dict[str, AnyValue] = {}
    for field in update_fields:
        if field not in EDITABLE_FIELDS or field in changes:
            raise InvalidField("update_fields", field, f"each at most once, and one of {', '.join(EDITABLE_FIELDS)}")
        if field == "creatives":
            changes[field] = _creatives_from(message.creatives)
        elif field == "targeting":
            changes[field] = targeting_from_message(message.targeting)
        elif field == "high_tier_worth":
            changes[field] = message.high_tier_worth or 1.0
        else:
            changes[field] = getattr(message, field)
    return changes


def campaign_to_message(campaign: Campaign, currency: str) -> pb.Campaign:
    """A stored campaign as callers see it."""
    return pb.Campaign(
        campaign_id=campaign.campaign_id,
        creator_id=campaign.creator_id,
        name=campaign.name,
        goal=campaign.goal.value,  # type: ignore[arg-type]
        bid_mode=campaign.bid_mode.value,  # type: ignore[arg-type]
        target_cost_micros=campaign.target_cost_micros,
        daily_budget_micros=campaign.daily_budget_micros,
        total_budget_micros=campaign.total_budget_micros,
        start_at_ms=campaign.start_at_ms,
        end_at_ms=campaign.end_at_ms,
        zone=campaign.zone,
        creatives=[
            pb.Creative(creative_id=c.creative_id, title=c.title, category=c.category) for c in campaign.creatives
        ],
        targeting=targeting_to_message(campaign.targeting),
        include_fans=campaign.include_fans,
        frequency_cap_per_day=campaign.frequency_cap_per_day,
        high_tier_worth=campaign.high_tier_worth,
        status=campaign.status.value,  # type: ignore[arg-type]
        version=campaign.version,
        created_at_ms=campaign.created_at_ms,
        updated_at_ms=campaign.updated_at_ms,
        cur=currency,
    )


def targeting_from_message(message: pb.Targeting, path: str = "targeting", depth: int = 1) -> Expression:
    """An audience from the wire; a message without a node is everybody.

    Raises:
        InvalidField: a node that means nothing, or nodes nested too deep. Sizes and codes are checked by
            `targeting.validation.validate`.
    """
    if depth > MAX_TARGETING_DEPTH:
        raise InvalidField(path, "a deeper node", f"at most {MAX_TARGETING_DEPTH} levels deep")
    match message.WhichOneof("node"):
        case None:
            return EVERYBODY
        case "all":
            return All(_nodes_from(message.all.of, f"{path}.all", depth))
        case "any":
            return Any(_nodes_from(message.any.of, f"{path}.any", depth))
        case "none":
            return Not(targeting_from_message(message.none, f"{path}.none", depth + 1))
        case "attribute":
            dimension = _dimension_from(message.attribute.dimension, f"{path}.attribute.dimension")
            return Attribute(dimension, tuple(message.attribute.codes))
        case "interests":
            return Interests(tuple(message.interests.codes))
        case "segment":
            return Segment(message.segment.segment_id)
        case "fans_of":
            return FansOf(tuple(message.fans_of.creator_ids))
        case "viewers_of":
            return ViewersOf(tuple(message.viewers_of.creator_ids))
        case "live_visitors_of":
            return LiveVisitorsOf(tuple(message.live_visitors_of.creator_ids))
        case "content":
            return _content_from(message.content, f"{path}.content")
        case node:
            if not getattr(message, node):
                raise InvalidField(f"{path}.{node}", False, "true, or left out")
            return FriendsOfFans() if node == "friends_of_fans" else FansOfSimilarCreators()


def targeting_to_message(expression: Expression) -> pb.Targeting:
    """An audience for the wire; everybody is a message without a node."""
    match expression:
        case All(of=()):
            return pb.Targeting()
        case All(of=of):
            return pb.Targeting(all=pb.Targeting.All(of=[targeting_to_message(node) for node in of]))
        case Any(of=of):
            return pb.Targeting(any=pb.Targeting.Any(of=[targeting_to_message(node) for node in of]))
        case Not(of=of):
            return pb.Targeting(none=targeting_to_message(of))
        case Attribute(dimension=dimension, codes=codes):
            number: AnyValue = int(dimension) + 1
            return pb.Targeting(attribute=pb.Targeting.Attribute(dimension=number, codes=codes))
        case Interests(codes=codes):
            return pb.Targeting(interests=pb.Targeting.Interests(codes=codes))
        case Segment(name=name):
            return pb.Targeting(segment=pb.Targeting.Segment(segment_id=name))
        case FansOf(creator_ids=creator_ids):
            return pb.Targeting(fans_of=pb.Targeting.FansOf(creator_ids=creator_ids))
        case ViewersOf(creator_ids=creator_ids):
            return pb.Targeting(viewers_of=pb.Targeting.ViewersOf(creator_ids=creator_ids))
        case LiveVisitorsOf(creator_ids=creator_ids):
            return pb.Targeting(live_visitors_of=pb.Targeting.LiveVisitorsOf(creator_ids=creator_ids))
        case Content(tags=tags, min_tenths=min_tenths):
            return pb.Targeting(content=_content_to(tags, min_tenths))
        case FansOfSimilarCreators():
            return pb.Targeting(fans_of_similar_creators=True)
        case _:
            return pb.Targeting(friends_of_fans=True)


def report_to_message(campaign: Campaign, booked: BookedFigures, live: LiveFigures, at_ms: int) -> pb.CampaignReport:
    """What the ledger says about a campaign, together with what the running engine knows."""
    total = _figures_to_message(booked.total)
    total.bids = live.bids
    return pb.CampaignReport(
        campaign_id=campaign.campaign_id,
        ledger_sequence=booked.ledger_sequence,
        at_ms=at_ms,
        total=total,
        today=_figures_to_message(booked.today),
        hours=[
            pb.HourFigures(hour_start_at_ms=start_at_ms, figures=_figures_to_message(figures))
            for start_at_ms, figures in booked.hours
        ],
        over_delivered_micros=booked.over_delivered_micros,
        daily_budget_micros=live.caps.daily_budget_micros,
        total_budget_micros=live.caps.total_budget_micros,
        multiplier_micros=live.multiplier_micros,
        status=campaign.status.value,  # type: ignore[arg-type]
        true_at=booked.true_at,
        kept_fans=_kept_to_message(live.kept_fans, booked.total.spend_micros),
    )


def _kept_to_message(kept: KeptFigures, spend_micros: int) -> pb.KeptFans:
    expected = round(kept.expected, 1)  # it moves with every second, and a report is told again when it changes
    cost_micros = micros_from_float(spend_micros / expected) if expected else 0
    counts = {"gained": kept.gained, "lost": kept.lost, "kept": kept.kept, "risen": kept.risen}
    return pb.KeptFans(expected=expected, cost_micros=cost_micros, **counts)


def charges_to_message(page: StatementPage, charges: np.ndarray) -> pb.ListChargesResponse:
    """A page of a statement whose charges are explained: EXPLAINED[n]."""
    names = charges.dtype.names or ()
    return pb.ListChargesResponse(
        charges=[pb.Charge(**dict(zip(names, line, strict=True))) for line in charges.tolist()],
        next_after=page.next_after,
        ledger_sequence=page.ledger_sequence,
        charged_micros=page.charged_micros,
        over_delivered_micros=page.over_delivered_micros,
    )


def _figures_to_message(figures: Figures) -> pb.Figures:
    return pb.Figures(**figures._asdict())


_TAG_FIELDS = {"keyword": "keywords", "bgm": "bgm", "visual": "visual_tags"}
_DEFAULT_PERCENT = 50


def _content_from(message: pb.Targeting.Content, path: str) -> Content:
    percent = message.min_weight_percent or _DEFAULT_PERCENT
    if percent % 10:
        raise InvalidField(f"{path}.min_weight_percent", percent, "10, 20, .. 100")
    try:
        tags = [check_tag(f"{kind}:{text}") for kind, field in _TAG_FIELDS.items() for text in getattr(message, field)]
    except ValueError as refused:
        raise InvalidTargeting(f"{path}: {refused}") from None
    return Content(tuple(dict.fromkeys(tags)), percent // 10)


def _content_to(tags: Sequence[str], min_tenths: int) -> pb.Targeting.Content:
    texts: dict[str, list[str]] = {field: [] for field in _TAG_FIELDS.values()}
    for tag in tags:
        kind, _, text = tag.partition(":")
        texts[_TAG_FIELDS[kind]].append(text)
    return pb.Targeting.Content(min_weight_percent=10 * min_tenths, **texts)


def _nodes_from(messages: Sequence[pb.Targeting], path: str, depth: int) -> tuple[Expression, ...]:
    if not messages:
        raise InvalidField(path, [], "one or more nodes")
    return tuple(targeting_from_message(node, f"{path}[{i}]", depth + 1) for i, node in enumerate(messages))


def _dimension_from(number: int, path: str) -> Dimension:
    try:
        return Dimension(number - 1)
    except ValueError:
        raise InvalidField(path, number, f"one of 1 to {len(Dimension)}") from None


def _creatives_from(messages: Sequence[pb.Creative]) -> tuple[Creative, ...]:
    return tuple(Creative(message.creative_id, message.title, message.category) for message in messages)


def _member(field: str, number: int, members: type[Member]) -> Member:
    try:
        return members(number)
    except ValueError:
        names = ", ".join(f"{member.value} ({member.name})" for member in members)
        raise InvalidField(field, number, f"one of {names}") from None
