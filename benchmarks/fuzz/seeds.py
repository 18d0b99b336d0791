"""Good inputs, from which malformed ones are made."""

from __future__ import annotations

from typing import Any

import numpy as np

from auction.bid.token import TokenKeys, sign_batch
from pacing.facts import DECISION
from protos import audience_pb2, bidding_pb2, campaigns_pb2
from targeting.segments.portable import ids_to_bytes

FIRST_PRICE, SECOND_PRICE = bidding_pb2.AUCTION_TYPE_FIRST_PRICE, bidding_pb2.AUCTION_TYPE_SECOND_PRICE
START_AT_MS = 1_772_596_800_000
CREATOR = 7
CAMPAIGN_JSON: dict[str, Any] = {
    "name": "Dance", "goal": "fans", "bid_mode": "automatic", "daily_budget_micros": 300_000_000,
    "total_budget_micros": 3_000_000_000, "zone": "UTC",
    "creatives": [{"creative_id": "7001", "title": "Dance", "category": 12}],
    "targeting": {"all": [{"interests": [3]}, {"none": {"segment": "vip"}}]},
}  # fmt: skip
ROUTES = (
    ("GET", "/api/campaigns?page_size={}&page_token={}"), ("POST", "/api/campaigns"), ("GET", "/api/campaigns/{}"),
    ("PATCH", "/api/campaigns/{}"), ("POST", "/api/campaigns/{}/pause"), ("POST", "/api/campaigns/{}/resume"),
    ("GET", "/api/campaigns/{}/report?hours={}"), ("GET", "/{}"), ("GET", "/static/{}"), ("DELETE", "/api/{}"),
)  # fmt: skip
ATOMS = (
    "1", "0", "-1", "18446744073709551615", "18446744073709551616", "1e9", "x", "", "../../etc/passwd", "%00", "%s",
    "名",
)  # fmt: skip


def campaign(**changes: Any) -> campaigns_pb2.Campaign:
    """A campaign that bids for everybody."""
    fields: dict[str, Any] = {
        "name": "Spring dance", "creator_id": CREATOR, "goal": campaigns_pb2.GOAL_FANS,
        "bid_mode": campaigns_pb2.BID_MODE_AUTOMATIC, "daily_budget_micros": 16_000_000,
        "total_budget_micros": 160_000_000, "zone": "Asia/Shanghai", "frequency_cap_per_day": 100,
        "creatives": [campaigns_pb2.Creative(creative_id=7001, title="Dance", category=3)],
    }  # fmt: skip
    return campaigns_pb2.Campaign(**(fields | changes))


def bid_seeds() -> list[bytes]:
    """Good bid requests: plain, with every column, and with predictions."""
    everything = bidding_pb2.Viewers(
        ids=[1, 2, 3], bidfloors_micros=[5, 6, 7], regions=[1, 2, 3], age_bands=[1, 2, 3], genders=[0, 1, 2],
        os=[1, 1, 1], networks=[1, 1, 1], device_tiers=[0, 1, 2], interest_masks=[1, 2**63, 3],
    )  # fmt: skip
    predictions = bidding_pb2.Predictions(viewer_idx=[0, 2], campaign_ids=[1, 1], probabilities=[0.5, 0.25])
    requests = [
        bidding_pb2.BidRequest(id="r", at=SECOND_PRICE, viewers=bidding_pb2.Viewers(ids=[1, 2])),
        bidding_pb2.BidRequest(
            id="r",
            at=FIRST_PRICE,
            bidfloor_micros=100,
            viewers=everything,
            max_bids_per_viewer=3,
        ),
        bidding_pb2.BidRequest(
            id="r",
            at=SECOND_PRICE,
            viewers=everything,
            predictions=predictions,
            blocked_creator_ids=[9],
        ),
    ]
    return [request.SerializeToString() for request in requests]


def report_seeds(keys: TokenKeys) -> list[bytes]:
    """Good reports of two rows, by tokens of these keys and without any."""
    decisions = np.zeros(2, DECISION)
    decisions["campaign_id"], decisions["bid_micros"], decisions["lease_id"] = 1, 20_000, 1
    decisions["hold_seq"] = [1, 2]
    sign_batch(decisions, keys)
    reports = [
        bidding_pb2.ReportRequest(kinds=[1, 2], tokens=decisions.tobytes(), prices_micros=[5, 5]),
        bidding_pb2.ReportRequest(
            kinds=[5, 6], viewer_ids=[1, 2], creator_ids=[7, 7], occurred_at_ms=[START_AT_MS] * 2
        ),
        bidding_pb2.ReportRequest(closed_hold_first_seqs=[1], closed_hold_counts=[1]),
    ]
    return [report.SerializeToString() for report in reports]


def call_seeds(keys: TokenKeys) -> dict[str, list[bytes]]:
    """Good requests by call, for those that random fields rarely make."""
    follows = audience_pb2.PutFollowsRequest(follower_ids=[1, 2], followed_ids=[3, 4])
    segment = audience_pb2.PutSegmentRequest(
        segment_id="vip", change=audience_pb2.SEGMENT_CHANGE_ADD, viewer_ids=[1, 2]
    )
    bitmap = ids_to_bytes(np.array([1, 2, 9], np.uint64))
    imported = audience_pb2.ImportSegmentRequest(
        segment_id="vip", change=audience_pb2.SEGMENT_CHANGE_ADD, import_id=1, size=len(bitmap), part=bitmap
    )
    viewers = audience_pb2.PutViewersRequest(viewers=bidding_pb2.Viewers(ids=[1, 2], regions=[3, 4]))
    changed = campaigns_pb2.UpdateCampaignRequest(
        campaign=campaign(campaign_id=1, name="Autumn"), update_fields=["name", "daily_budget_micros"]
    )
    return {
        "Bidding/Bid": bid_seeds(),
        "Bidding/Report": report_seeds(keys),
        "Campaigns/CreateCampaign": [campaigns_pb2.CreateCampaignRequest(campaign=campaign()).SerializeToString()],
        "Campaigns/UpdateCampaign": [changed.SerializeToString()],
        "Audience/PutViewers": [viewers.SerializeToString()],
        "Audience/PutSegment": [segment.SerializeToString()],
        "Audience/PutFollows": [follows.SerializeToString()],
        "Audience/ImportSegment": [imported.SerializeToString()],
        "Audience/ExportSegment": [audience_pb2.ExportSegmentRequest(segment_id="vip").SerializeToString()],
    }
