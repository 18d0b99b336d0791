"""Every RPC of the descriptors and every route of OpenAPI, called with another creator's token: nothing leaks.

The calls are read from the protocol, so that one which is added later is walked too, and must be refused unless it is
named here as harmless.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import httpx
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from benchmarks.serving import RunningServer, running_server
from pacing.facts import OutcomeKind
from protos import audience_pb2, bidding_pb2, campaigns_pb2
from tests.auction.bid.engines import a_campaign, a_request, tokens_of

OWNER, STRANGER = 1_234_567_890_123, 2_345_678_901_234
SECRET = "Nobody else may read this name"
SECRET_CREATIVE = 7_654_321_098_765
CODES = {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNIMPLEMENTED}
HARMLESS_CALLS = {
    "Campaigns/CreateCampaign",  # makes a campaign of the stranger's own, whatever creator the request names
    "Campaigns/ListCampaigns",  # lists the stranger's own
    "Audience/EstimateReach",  # answers a rounded range of viewers, which is nobody's secret
    "Audience/ListSegments",  # lists the stranger's own
    "Audience/CompareCreators",  # the same of named creators' audiences, and how much the stranger's own ads reached
}
HARMLESS_ROUTES = {
    ("get", "/healthz"),
    ("get", "/api/campaigns"),
    ("post", "/api/campaigns"),
    ("post", "/api/audiences/reach"),
    ("post", "/api/audiences/creators"),
    ("get", "/api/audiences/segments"),  # the stranger's own
}
OWN_LIST, ABSENT_LIST = f"own:{OWNER}:regulars", f"own:{OWNER}:absent"
OF_THE_OWNER = (OWN_LIST, f"tier:iron:{OWNER}", f"stage:lost:{OWNER}", f"members:{OWNER}")
SEGMENTS = {"segment_id", "seed_segment_id"}
IDS = {"campaign_id", "campaign_ids"}
CREATORS = {"creator_id", "creator_ids", "fans_of", "blocked_creator_ids"}


@dataclass(frozen=True)
class Call:
    """One RPC of the protocol."""

    name: str
    request: Descriptor
    streams: bool


def all_calls() -> list[Call]:
    return [
        Call(f"{service.name}/{method.name}", method.input_type, method.server_streaming)
        for module in (bidding_pb2, campaigns_pb2, audience_pb2)
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    ]


CALLS = all_calls()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    flags = ("--no-bridge", "--policy", "fixed", "--fixed-bid-micros", "20000")
    with running_server(tmp_path_factory.mktemp("foreign"), *flags) as server:
        yield server


@pytest.fixture(scope="module")
def campaign(server: RunningServer) -> campaigns_pb2.Campaign:
    """A campaign of the owner's that has spent 123,457 micros."""
    creative = campaigns_pb2.Creative(creative_id=SECRET_CREATIVE, title=SECRET)
    draft = a_campaign(creator_id=0, name=SECRET, creatives=[creative])
    request = campaigns_pb2.CreateCampaignRequest(campaign=draft)
    made = server.transport("creator", OWNER).call("Campaigns/CreateCampaign", request, campaigns_pb2.Campaign)
    feed = server.transport("feed")
    for viewer_id in range(1, 1_000):
        answer = feed.call("Bidding/Bid", a_request([viewer_id]), bidding_pb2.BidResponse)
        if answer.tokens:
            row = bidding_pb2.ReportRequest(
                kinds=[OutcomeKind.BILLABLE], tokens=tokens_of(answer)[0], prices_micros=[12_345]
            )
            feed.call("Bidding/Report", row, bidding_pb2.ReportResponse)
            put = audience_pb2.PutSegmentRequest(segment_id=OWN_LIST, change=1, viewer_ids=range(1, 1_000))
            operator = server.transport("operator")
            assert operator.call("Audience/PutSegment", put, audience_pb2.PutSegmentResponse).members == 999
            return made
    raise AssertionError("the campaign does not bid")


def fill(descriptor: Descriptor, campaign_id: int, depth: int = 0, segment_id: str = OWN_LIST) -> Any:
    """A message whose every field about a campaign, a creator or a list names the owner's."""
    message = message_factory.GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if field.name in SEGMENTS:
            setattr(message, field.name, segment_id)
        elif field.name in IDS or field.name in CREATORS:
            value = campaign_id if field.name in IDS else OWNER
            if field.is_repeated:
                getattr(message, field.name).append(value)
            elif field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
                continue
            else:
                setattr(message, field.name, value)
        elif field.message_type is not None and not field.is_repeated and depth < 2:
            getattr(message, field.name).CopyFrom(fill(field.message_type, campaign_id, depth + 1, segment_id))
    return message


def request_of(call: Call, campaign_id: int, segment_id: str = OWN_LIST) -> Any:
    """A request that the owner could make."""
    if call.name == "Campaigns/CreateCampaign":
        return campaigns_pb2.CreateCampaignRequest(campaign=a_campaign(creator_id=OWNER, campaign_id=campaign_id))
    if call.name == "Campaigns/UpdateCampaign":
        changed = campaigns_pb2.Campaign(campaign_id=campaign_id, creator_id=OWNER, name="Mine")
        return campaigns_pb2.UpdateCampaignRequest(campaign=changed, update_fields=["name"])
    if call.name == "Audience/EstimateReach":
        return audience_pb2.EstimateReachRequest(targeting={"fans_of": {"creator_ids": [OWNER]}}, creator_id=STRANGER)
    if call.name == "Audience/ExplainViewer":
        return audience_pb2.ExplainViewerRequest(viewer_id=777, campaign_id=campaign_id)
    return fill(call.request, campaign_id, segment_id=segment_id)


def answer_to(server: RunningServer, call: Call, request: Any, token: str) -> tuple[grpc.StatusCode, str, bytes]:
    """Status, text and answer of a call."""
    path, metadata = f"/fanbid.v1.{call.name}", (("authorization", f"Bearer {token}"),)
    try:
        if call.streams:
            stream = server.channel.unary_stream(path)(request.SerializeToString(), metadata=metadata, timeout=10)
            answer = next(iter(stream))
            stream.cancel()
        else:
            answer = server.channel.unary_unary(path)(request.SerializeToString(), metadata=metadata, timeout=10)
    except grpc.RpcError as error:
        trailers = " ".join(f"{key}={value!r}" for key, value in error.trailing_metadata() or ())
        return error.code(), f"{error.details()} {trailers}", b""
    return grpc.StatusCode.OK, "", answer


def says_nothing_secret(text: str, campaign: campaigns_pb2.Campaign) -> None:
    text = text.replace(OWN_LIST, "")  # whose list it would be is what the caller said
    for secret in (SECRET, SECRET_CREATIVE, campaign.daily_budget_micros, campaign.total_budget_micros, 12_345):
        assert str(secret) not in text


def blind(text: str, campaign_id: int) -> str:
    """The text without the ids that the caller named."""
    return re.sub(rf"\b{campaign_id}\b", "ID", text.replace(ABSENT_LIST, OWN_LIST))


def with_audience(descriptor: Descriptor, audience: campaigns_pb2.Targeting, depth: int = 0) -> Any:
    """A message with this audience, where it has room for one; None: it has none."""
    for field in descriptor.fields:
        if field.message_type is None or field.is_repeated or depth > 2:
            continue
        is_audience = field.message_type is campaigns_pb2.Targeting.DESCRIPTOR
        inner = audience if is_audience else with_audience(field.message_type, audience, depth + 1)
        if inner is not None:
            message = message_factory.GetMessageClass(descriptor)()
            getattr(message, field.name).CopyFrom(inner)
            return message
    return None


BY_CAMPAIGN = "Audience/ExplainViewer"  # takes no audience of a creator's, but a campaign
WITH_AUDIENCES = [
    call
    for call in CALLS
    if with_audience(call.request, campaigns_pb2.Targeting()) is not None and call.name != BY_CAMPAIGN
]


@pytest.mark.parametrize("call", WITH_AUDIENCES, ids=lambda call: call.name)
def test_no_call_takes_an_audience_that_names_what_is_anothers(server: RunningServer, call: Call) -> None:
    token = server.token("creator", STRANGER)
    for name in OF_THE_OWNER:
        told = set()
        for segment in (name, name.replace(str(OWNER), str(OWNER + 1))):
            request = with_audience(call.request, campaigns_pb2.Targeting(none={"segment": {"segment_id": segment}}))
            if call.name == "Campaigns/CreateCampaign":
                request = campaigns_pb2.CreateCampaignRequest(campaign=a_campaign(targeting=request.campaign.targeting))
            if call.name == "Campaigns/UpdateCampaign":
                request.update_fields.append("targeting")
            code, text, _ = answer_to(server, call, request, token)
            assert code is grpc.StatusCode.INVALID_ARGUMENT and f"is not of creator {STRANGER}" in text, text
            told.add(text.replace(segment, "SEGMENT"))
        assert len(told) == 1


def test_a_creator_asks_why_by_no_other_audience_than_a_campaigns(server: RunningServer) -> None:
    call = next(call for call in CALLS if call.name == BY_CAMPAIGN)
    request = audience_pb2.ExplainViewerRequest(viewer_id=777, targeting={"fans_of": {"creator_ids": [OWNER]}})
    code, text, _ = answer_to(server, call, request, server.token("creator", STRANGER))
    assert code is grpc.StatusCode.INVALID_ARGUMENT and text.startswith("campaign_id: 0; must be a campaign of yours")


def test_the_harmless_calls_exist() -> None:
    assert {call.name for call in CALLS} >= HARMLESS_CALLS
    assert len(CALLS) >= 18
    assert len(WITH_AUDIENCES) >= 3 and BY_CAMPAIGN in {call.name for call in CALLS}


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
def test_a_stranger_learns_nothing_from_a_call(
    server: RunningServer, campaign: campaigns_pb2.Campaign, call: Call
) -> None:
    token = server.token("creator", STRANGER)
    code, text, raw = answer_to(server, call, request_of(call, campaign.campaign_id), token)
    assert SECRET.encode() not in raw
    if call.name in HARMLESS_CALLS:
        assert code in (grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, *CODES), text
        return
    assert code in CODES, (code, text)
    says_nothing_secret(text, campaign)
    # What is another's looks exactly like what is not there.
    absent = campaign.campaign_id + 1_000_000
    other_code, other_text, _ = answer_to(server, call, request_of(call, absent, ABSENT_LIST), token)
    assert (other_code, blind(other_text, absent)) == (code, blind(text, campaign.campaign_id))


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
@pytest.mark.parametrize("token", ["", "fanbid.1.guessed", "x" * 5_000])
def test_without_a_good_token_no_call_is_answered(
    server: RunningServer, campaign: campaigns_pb2.Campaign, call: Call, token: str
) -> None:
    code, text, _ = answer_to(server, call, request_of(call, campaign.campaign_id), token)
    assert code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNIMPLEMENTED), (code, text)
    says_nothing_secret(text, campaign)


def test_what_a_stranger_creates_is_the_strangers_own(server: RunningServer, campaign: campaigns_pb2.Campaign) -> None:
    stranger = server.transport("creator", STRANGER)
    request = campaigns_pb2.CreateCampaignRequest(campaign=a_campaign(creator_id=OWNER, name="Mine"))
    made = stranger.call("Campaigns/CreateCampaign", request, campaigns_pb2.Campaign)
    assert made.creator_id == STRANGER and made.campaign_id != campaign.campaign_id
    listed = stranger.call(
        "Campaigns/ListCampaigns", campaigns_pb2.ListCampaignsRequest(), campaigns_pb2.ListCampaignsResponse
    )
    assert {each.creator_id for each in listed.campaigns} == {STRANGER}


def test_the_owners_campaign_is_as_before(server: RunningServer, campaign: campaigns_pb2.Campaign) -> None:
    request = campaigns_pb2.GetCampaignRequest(campaign_id=campaign.campaign_id)
    assert server.transport("creator", OWNER).call("Campaigns/GetCampaign", request, campaigns_pb2.Campaign) == campaign


NEW = {
    "name": "Mine",
    "goal": "fans",
    "bid_mode": "automatic",
    "daily_budget_micros": 300_000_000,
    "total_budget_micros": 3_000_000_000,
    "zone": "UTC",
    "creatives": [{"creative_id": "7001", "title": "Dance", "category": 12}],
}


BODIES: dict[tuple[str, str], Any] = {
    ("post", "/api/campaigns"): NEW,
    ("patch", "/api/campaigns/{campaign_id}"): {"name": "Mine"},
    ("post", "/api/audiences/reach"): {"targeting": {"fans_of": [str(OWNER)]}},
    ("post", "/api/audiences/creators"): {"audience": "fans_of", "creator_ids": [str(OWNER)]},
    ("post", "/api/audiences/why"): {"viewer_id": "777"},
    ("put", "/api/audiences/segments/{segment_id}"): {"viewer_ids": ["1"]},
    ("post", "/api/audiences/lookalikes"): {"segment_id": "like", "seed_segment_id": OWN_LIST, "size": 10},
}


def rest_answer(
    server: RunningServer, method: str, path: str, campaign_id: int, token: str, segment_id: str = OWN_LIST
) -> tuple[int, str]:
    body = BODIES.get((method, path))
    if body is not None and "seed_segment_id" in body:
        body = body | {"seed_segment_id": segment_id}
    if path.endswith("/why"):
        body = body | {"campaign_id": str(campaign_id)}
    places = {"campaign_id": campaign_id, "creator_id": OWNER, "segment_id": segment_id}
    with httpx.stream(
        method,
        f"{server.rest_address}{path.format(**places)}",
        params={"campaign_id": str(campaign_id)} if path == "/api/live" else {},
        content=None if body is None else json.dumps(body),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        timeout=10,
    ) as answer:
        return answer.status_code, "" if answer.headers[
            "content-type"
        ] == "text/event-stream" else answer.read().decode()


def test_a_stranger_learns_nothing_from_any_route(server: RunningServer, campaign: campaigns_pb2.Campaign) -> None:
    paths = httpx.get(f"{server.rest_address}/openapi.json").json()["paths"]
    routes = {(method, path) for path, methods in paths.items() for method in methods}
    assert routes >= HARMLESS_ROUTES and len(routes) >= 10
    token = server.token("creator", STRANGER)
    for method, path in sorted(routes):
        status, text = rest_answer(server, method, path, campaign.campaign_id, token)
        assert SECRET not in text, path
        if path != "/healthz":
            refused, _ = rest_answer(server, method, path, campaign.campaign_id, "fanbid.1.guessed")
            assert refused == 401, (method, path)
        if (method, path) in HARMLESS_ROUTES:
            assert status in (200, 201), (method, path, text)
            continue
        assert status in (403, 404), (method, path, status, text)
        says_nothing_secret(text, campaign)
        absent = campaign.campaign_id + 1_000_000
        other_status, other_text = rest_answer(server, method, path, absent, token, ABSENT_LIST)
        assert (other_status, blind(other_text, absent)) == (status, blind(text, campaign.campaign_id))


@pytest.mark.parametrize("path", ["/api/campaigns", "/api/audiences/reach"])
def test_no_route_takes_an_audience_that_names_what_is_anothers(server: RunningServer, path: str) -> None:
    headers = {"Authorization": f"Bearer {server.token('creator', STRANGER)}"}
    for name in OF_THE_OWNER:
        body = BODIES[("post", path)] | {"targeting": {"none": {"segment": name}}}
        answer = httpx.post(f"{server.rest_address}{path}", json=body, headers=headers, timeout=20)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (422, "invalid_argument"), answer.text
        assert error["field"] == "targeting.none.segment"
        assert f"is not of creator {STRANGER}" in error["message"] and "fans_of" in error["message"]
