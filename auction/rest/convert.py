"""Between the JSON shapes and the messages of `fanbid.v1`."""

from __future__ import annotations

from typing import Any

from auction.rest.shapes import CampaignChange, CreativeShape, NewCampaign, TargetingShape
from pacing.facts import row_text
from protos import campaigns_pb2 as pb

_CHARGE_FIELDS = tuple(field.name for field in pb.Charge.DESCRIPTOR.fields)
_AUCTIONS = {1: "first_price", 2: "second_price"}
_VERDICTS = {1: "charged", 2: "duplicate", 3: "conflict", 4: "over_delivery"}
_FIGURE_FIELDS = tuple(field.name for field in pb.Figures.DESCRIPTOR.fields)


def _number_of(enum: Any, prefix: str, name: str) -> Any:
    return enum.Value(f"{prefix}_{name.upper()}")


def _name_of(enum: Any, prefix: str, number: int) -> str:
    return str(enum.Name(number)).removeprefix(f"{prefix}_").lower()


def create_request(body: NewCampaign, idempotency_key: str) -> pb.CreateCampaignRequest:
    """The call that creates this campaign."""
    campaign = pb.Campaign(
        creator_id=int(body.creator_id or 0),
        name=body.name,
        goal=_number_of(pb.Goal, "GOAL", body.goal),
        bid_mode=_number_of(pb.BidMode, "BID_MODE", body.bid_mode),
        target_cost_micros=body.target_cost_micros,
        daily_budget_micros=body.daily_budget_micros,
        total_budget_micros=body.total_budget_micros,
        start_at_ms=body.start_at_ms,
        end_at_ms=body.end_at_ms,
        zone=body.zone,
        creatives=_creatives(body.creatives),
        targeting=targeting_message(body.targeting),
        include_fans=body.include_fans,
        frequency_cap_per_day=body.frequency_cap_per_day,
    )
    return pb.CreateCampaignRequest(campaign=campaign, idempotency_key=idempotency_key)


def update_request(campaign_id: str, body: CampaignChange) -> pb.UpdateCampaignRequest:
    """The call that changes exactly the fields that the body names."""
    named = [field for field in CampaignChange.model_fields if field in body.model_fields_set and field != "version"]
    campaign = pb.Campaign(campaign_id=int(campaign_id), version=body.version)
    for field in named:
        if field == "creatives":
            campaign.creatives.extend(_creatives(body.creatives))
        elif field == "targeting":
            campaign.targeting.CopyFrom(targeting_message(body.targeting))
        else:
            setattr(campaign, field, getattr(body, field))
    return pb.UpdateCampaignRequest(campaign=campaign, update_fields=named)


def targeting_message(shape: TargetingShape) -> pb.Targeting:
    """An audience as a message."""
    if shape.all is not None:
        return pb.Targeting(all=pb.Targeting.All(of=[targeting_message(node) for node in shape.all]))
    if shape.any is not None:
        return pb.Targeting(any=pb.Targeting.Any(of=[targeting_message(node) for node in shape.any]))
    if shape.none is not None:
        return pb.Targeting(none=targeting_message(shape.none))
    if shape.attribute is not None:
        dimension = _number_of(pb.Dimension, "DIMENSION", shape.attribute.dimension)
        return pb.Targeting(attribute=pb.Targeting.Attribute(dimension=dimension, codes=shape.attribute.codes))
    if shape.interests is not None:
        return pb.Targeting(interests=pb.Targeting.Interests(codes=shape.interests))
    if shape.segment is not None:
        return pb.Targeting(segment=pb.Targeting.Segment(segment_id=shape.segment))
    if shape.fans_of is not None:
        return pb.Targeting(fans_of=pb.Targeting.FansOf(creator_ids=[int(i) for i in shape.fans_of]))
    if shape.viewers_of is not None:
        return pb.Targeting(viewers_of=pb.Targeting.ViewersOf(creator_ids=[int(i) for i in shape.viewers_of]))
    if shape.live_visitors_of is not None:
        ids = [int(i) for i in shape.live_visitors_of]
        return pb.Targeting(live_visitors_of=pb.Targeting.LiveVisitorsOf(creator_ids=ids))
    if shape.content is not None:
        return pb.Targeting(content=pb.Targeting.Content(**shape.content.model_dump()))
    if shape.fans_of_similar_creators:
        return pb.Targeting(fans_of_similar_creators=True)
    return pb.Targeting(friends_of_fans=True) if shape.friends_of_fans else pb.Targeting()


def campaign_json(campaign: pb.Campaign) -> dict[str, Any]:
    """A campaign as `CampaignShape`."""
    return {
        "campaign_id": str(campaign.campaign_id),
        "creator_id": str(campaign.creator_id),
        "name": campaign.name,
        "goal": _name_of(pb.Goal, "GOAL", campaign.goal),
        "bid_mode": _name_of(pb.BidMode, "BID_MODE", campaign.bid_mode),
        "target_cost_micros": campaign.target_cost_micros,
        "daily_budget_micros": campaign.daily_budget_micros,
        "total_budget_micros": campaign.total_budget_micros,
        "start_at_ms": campaign.start_at_ms,
        "end_at_ms": campaign.end_at_ms,
        "zone": campaign.zone,
        "creatives": [
            {"creative_id": str(c.creative_id), "title": c.title, "category": c.category} for c in campaign.creatives
        ],
        "targeting": targeting_json(campaign.targeting),
        "include_fans": campaign.include_fans,
        "frequency_cap_per_day": campaign.frequency_cap_per_day,
        "status": _name_of(pb.CampaignStatus, "CAMPAIGN_STATUS", campaign.status),
        "version": campaign.version,
        "created_at_ms": campaign.created_at_ms,
        "updated_at_ms": campaign.updated_at_ms,
        "cur": campaign.cur,
    }


def targeting_json(targeting: pb.Targeting) -> dict[str, Any]:
    """An audience as `TargetingShape`, without the nodes that are not there."""
    match targeting.WhichOneof("node"):
        case None:
            return {}
        case "all":
            return {"all": [targeting_json(node) for node in targeting.all.of]}
        case "any":
            return {"any": [targeting_json(node) for node in targeting.any.of]}
        case "none":
            return {"none": targeting_json(targeting.none)}
        case "attribute":
            dimension = _name_of(pb.Dimension, "DIMENSION", targeting.attribute.dimension)
            return {"attribute": {"dimension": dimension, "codes": list(targeting.attribute.codes)}}
        case "interests":
            return {"interests": list(targeting.interests.codes)}
        case "segment":
            return {"segment": targeting.segment.segment_id}
        case "fans_of" | "viewers_of" | "live_visitors_of" as node:
            return {node: [str(i) for i in getattr(targeting, node).creator_ids]}
        case "content":
            of = targeting.content
            tags = {"keywords": list(of.keywords), "bgm": list(of.bgm), "visual_tags": list(of.visual_tags)}
            return {"content": tags | {"min_weight_percent": of.min_weight_percent}}
        case node:
            return {node: True}


def report_json(report: pb.CampaignReport) -> dict[str, Any]:
    """A report as `ReportShape`."""
    return {
        "campaign_id": str(report.campaign_id),
        "ledger_sequence": str(report.ledger_sequence),
        "true_at": [row_text(sequence) for sequence in report.true_at],
        "at_ms": report.at_ms,
        "total": _figures_json(report.total),
        "today": _figures_json(report.today),
        "hours": [
            {"hour_start_at_ms": hour.hour_start_at_ms, "figures": _figures_json(hour.figures)} for hour in report.hours
        ],
        "over_delivered_micros": report.over_delivered_micros,
        "daily_budget_micros": report.daily_budget_micros,
        "total_budget_micros": report.total_budget_micros,
        "multiplier_micros": report.multiplier_micros,
        "status": _name_of(pb.CampaignStatus, "CAMPAIGN_STATUS", report.status),
        "kept_fans": {field.name: getattr(report.kept_fans, field.name) for field in pb.KeptFans.DESCRIPTOR.fields},
    }


def charge_fields(charge: pb.Charge) -> dict[str, Any]:
    """A charge by its fields' names, as numbers."""
    return {field: getattr(charge, field) for field in _CHARGE_FIELDS}


def charges_json(page: pb.ListChargesResponse) -> dict[str, Any]:
    """A page of charges as `ChargePage`."""
    return {
        "charges": [_charge_json(charge) for charge in page.charges],
        "next_after": str(page.next_after or ""),
        "ledger_sequence": str(page.ledger_sequence),
        "charged_micros": page.charged_micros,
        "over_delivered_micros": page.over_delivered_micros,
    }


def _charge_json(charge: pb.Charge) -> dict[str, Any]:
    fields = charge_fields(charge)
    fields |= {name: str(fields[name]) for name in ("viewer_id", "creative_id")}
    fields["sequence"] = row_text(charge.sequence)
    return fields | {"at": _AUCTIONS[charge.at], "verdict": _VERDICTS[charge.verdict]}


def _figures_json(figures: pb.Figures) -> dict[str, Any]:
    return {field: getattr(figures, field) for field in _FIGURE_FIELDS}


def _creatives(shapes: list[CreativeShape]) -> list[pb.Creative]:
    return [pb.Creative(creative_id=int(s.creative_id), title=s.title, category=s.category) for s in shapes]
