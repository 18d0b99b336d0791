"""A real server over gRPC: health, reflection, roles, and refusals that name what is wrong and move nothing."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

import fanbid
from benchmarks.serving import RunningServer, start_server
from benchmarks.transport import GrpcTransport
from pacing.facts import TOKEN_BYTES, OutcomeKind, RowStatus
from protos import audience_pb2, bidding_pb2, campaigns_pb2
from targeting.segments.portable import ids_to_bytes
from tests.auction.bid.engines import a_campaign, a_request, tokens_of

CREATOR, OTHER_CREATOR = 7, 8
SERVICES = ("fanbid.v1.Bidding", "fanbid.v1.Campaigns", "fanbid.v1.Audience")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    flags = ("--no-rest", "--no-bridge", "--policy", "fixed", "--fixed-bid-micros", "20000")
    running = start_server(tmp_path_factory.mktemp("server"), *flags)
    yield running
    running.close()


@pytest.fixture(scope="module")
def campaign(server: RunningServer) -> campaigns_pb2.Campaign:
    draft = a_campaign(creator_id=0)
    request = campaigns_pb2.CreateCampaignRequest(campaign=draft)
    made = server.transport("creator", CREATOR).call("Campaigns/CreateCampaign", request, campaigns_pb2.Campaign)
    feed = server.transport("feed")
    for attempt in range(500):  # it bids within moments
        answer = feed.call("Bidding/Bid", a_request([10_000 + attempt]), bidding_pb2.BidResponse)
        if answer.tokens:
            return made
    raise AssertionError("the campaign does not bid")


def report_of(server: RunningServer, campaign: campaigns_pb2.Campaign) -> campaigns_pb2.CampaignReport:
    request = campaigns_pb2.GetReportRequest(campaign_id=campaign.campaign_id)
    return server.transport("operator").call("Campaigns/GetReport", request, campaigns_pb2.CampaignReport)


def refused(transport: GrpcTransport, method: str, request: Any, code: grpc.StatusCode, text: str = "") -> None:
    with pytest.raises(grpc.RpcError) as error:
        transport.call(method, request, bidding_pb2.BidResponse)
    assert error.value.code() is code, error.value.details()
    assert text in error.value.details()


def still_answers(server: RunningServer) -> None:
    answer = server.transport("feed").call("Bidding/Bid", a_request([1]), bidding_pb2.BidResponse)
    assert len(answer.nbr) == 1


class Raw:
    """Bytes in the place of a message."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def SerializeToString(self) -> bytes:  # noqa: N802
        return self._raw


def test_a_ready_server_is_healthy(server: RunningServer) -> None:
    health = health_pb2_grpc.HealthStub(server.channel)
    for service in ("", *SERVICES):
        answer = health.Check(health_pb2.HealthCheckRequest(service=service))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING, service
    with pytest.raises(grpc.RpcError) as unknown:
        health.Check(health_pb2.HealthCheckRequest(service="fanbid.v1.Nothing"))
    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND


def test_reflection_lists_and_describes_the_services(server: RunningServer) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(server.channel)
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="fanbid.v1.Bidding"),
    ]
    listed, described = stub.ServerReflectionInfo(iter(requests))
    names = {service.name for service in listed.list_services_response.service}
    assert {*SERVICES, "grpc.health.v1.Health"} <= names
    assert described.file_descriptor_response.file_descriptor_proto


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("Bidding/Bid", a_request([1])),
        ("Bidding/Report", bidding_pb2.ReportRequest()),
        ("Campaigns/ListCampaigns", campaigns_pb2.ListCampaignsRequest()),
        ("Audience/PutFollows", audience_pb2.PutFollowsRequest()),
    ],
)
@pytest.mark.parametrize("token", ["", "x", "fanbid.1.wrong", "fanbid.999.wrong", "fanbid.1." + "x" * 200])
def test_without_a_valid_token_nobody_is_served(server: RunningServer, method: str, request_: Any, token: str) -> None:
    refused(GrpcTransport(server.channel, token), method, request_, grpc.StatusCode.UNAUTHENTICATED, "authorization")


def test_without_any_token_nobody_is_served(server: RunningServer) -> None:
    call = server.channel.unary_unary("/fanbid.v1.Bidding/Bid")
    with pytest.raises(grpc.RpcError) as error:
        call(a_request([1]).SerializeToString())
    assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize(
    ("role", "method", "request_"),
    [
        ("feed", "Campaigns/CreateCampaign", campaigns_pb2.CreateCampaignRequest(campaign=a_campaign())),
        ("feed", "Campaigns/GetReport", campaigns_pb2.GetReportRequest(campaign_id=1)),
        ("feed", "Audience/PutViewers", audience_pb2.PutViewersRequest()),
        ("feed", "Audience/EstimateReach", audience_pb2.EstimateReachRequest()),
        ("creator", "Bidding/Bid", a_request([1])),
        ("creator", "Bidding/Report", bidding_pb2.ReportRequest()),
        ("creator", "Audience/PutFollows", audience_pb2.PutFollowsRequest()),
        ("creator", "Audience/PutFollows", audience_pb2.PutFollowsRequest()),
        ("operator", "Bidding/Bid", a_request([1])),
        ("operator", "Bidding/Report", bidding_pb2.ReportRequest()),
    ],
)
def test_roles_open_their_own_calls_only(server: RunningServer, role: str, method: str, request_: Any) -> None:
    transport = server.transport(role, CREATOR if role == "creator" else 0)
    refused(transport, method, request_, grpc.StatusCode.PERMISSION_DENIED, role)


def test_a_foreign_creators_campaign_is_not_found(server: RunningServer, campaign: campaigns_pb2.Campaign) -> None:
    stranger, owner = server.transport("creator", OTHER_CREATOR), server.transport("creator", CREATOR)
    status = campaigns_pb2.ChangeStatusRequest(campaign_id=campaign.campaign_id)
    calls = {
        "Campaigns/GetCampaign": campaigns_pb2.GetCampaignRequest(campaign_id=campaign.campaign_id),
        "Campaigns/GetReport": campaigns_pb2.GetReportRequest(campaign_id=campaign.campaign_id),
        "Campaigns/ListCharges": campaigns_pb2.ListChargesRequest(campaign_id=campaign.campaign_id),
        "Campaigns/PauseCampaign": status,
        "Campaigns/EndCampaign": status,
        "Campaigns/UpdateCampaign": campaigns_pb2.UpdateCampaignRequest(
            campaign=campaigns_pb2.Campaign(campaign_id=campaign.campaign_id, name="Mine"), update_fields=["name"]
        ),
    }
    for method, request in calls.items():
        refused(stranger, method, request, grpc.StatusCode.NOT_FOUND)
    listed = stranger.call(
        "Campaigns/ListCampaigns", campaigns_pb2.ListCampaignsRequest(), campaigns_pb2.ListCampaignsResponse
    )
    assert list(listed.campaigns) == []
    got = owner.call("Campaigns/GetCampaign", calls["Campaigns/GetCampaign"], campaigns_pb2.Campaign)
    assert got == campaign


@pytest.mark.parametrize("method", ["BidStream", "Explain"])
def test_what_is_not_served_yet_says_so(server: RunningServer, method: str) -> None:
    refused(server.transport("feed"), f"Bidding/{method}", a_request([1]), grpc.StatusCode.UNIMPLEMENTED)
    refused(server.transport("operator"), f"Bidding/{method}", a_request([1]), grpc.StatusCode.UNIMPLEMENTED)


def test_real_time_cannot_be_moved(server: RunningServer) -> None:
    request = bidding_pb2.AdvanceRequest(to_ms=2**62)
    refused(server.transport("feed"), "Simulation/Advance", request, grpc.StatusCode.UNIMPLEMENTED)


BAD_BYTES = (b"\xff", b"\x0a\x05abc", b"\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01")


@pytest.mark.parametrize("raw", BAD_BYTES)
def test_bad_bytes_are_an_invalid_argument_everywhere(server: RunningServer, raw: bytes) -> None:
    calls = {
        "feed": ["Bidding/Bid", "Bidding/Report"],
        "operator": [
            *(
                f"Audience/{name}"
                for name in ("PutViewers", "PutSegment", "PutFollows", "EstimateReach", "ImportSegment")
            ),
            *(f"Campaigns/{name}" for name in ("CreateCampaign", "GetCampaign", "ListCampaigns", "UpdateCampaign")),
            *(f"Campaigns/{name}" for name in ("PauseCampaign", "ResumeCampaign", "EndCampaign", "GetReport")),
            "Campaigns/ListCharges",
        ],
    }
    for role, methods in calls.items():
        for method in methods:
            with pytest.raises(grpc.RpcError) as error:
                server.transport(role).call(method, Raw(raw), bidding_pb2.BidResponse)
            assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT, method
    still_answers(server)


BAD_REQUESTS: dict[str, tuple[bidding_pb2.BidRequest, grpc.StatusCode, str]] = {
    "no auction type": (a_request([1], at=0), grpc.StatusCode.INVALID_ARGUMENT, "at 0: must be 1"),
    "unknown auction type": (a_request([1], at=9), grpc.StatusCode.INVALID_ARGUMENT, "at 9"),
    "no viewers": (a_request([]), grpc.StatusCode.INVALID_ARGUMENT, "viewers.ids count 0: not in 1..1000"),
    "1,001 viewers": (a_request(range(1_001)), grpc.StatusCode.INVALID_ARGUMENT, "viewers.ids count 1001"),
    "duplicate viewer": (a_request([5, 5]), grpc.StatusCode.INVALID_ARGUMENT, "viewers.ids 5: given twice"),
    "negative floor": (a_request([1], bidfloor_micros=-1), grpc.StatusCode.INVALID_ARGUMENT, "bidfloor_micros -1"),
    "NaN": (
        a_request([1], predictions={"viewer_idx": [0], "campaign_ids": [1], "probabilities": [float("nan")]}),
        grpc.StatusCode.INVALID_ARGUMENT,
        "predictions.probabilities[0] nan: not in 0..1",
    ),
    "unknown campaign": (
        a_request([1], predictions={"viewer_idx": [0], "campaign_ids": [404], "probabilities": [0.5]}),
        grpc.StatusCode.NOT_FOUND,
        "predictions.campaign_ids 404: no such campaign",
    ),
}


@pytest.mark.parametrize(("request_", "code", "text"), BAD_REQUESTS.values(), ids=BAD_REQUESTS.keys())
def test_bad_bid_requests_name_field_value_and_range(
    server: RunningServer,
    campaign: campaigns_pb2.Campaign,
    request_: bidding_pb2.BidRequest,
    code: grpc.StatusCode,
    text: str,
) -> None:
    refused(server.transport("feed"), "Bidding/Bid", request_, code, text)
    still_answers(server)


BAD_CAMPAIGNS: dict[str, tuple[dict[str, Any], str]] = {
    "goal": ({"goal": 99}, "goal"),
    "daily budget": ({"daily_budget_micros": -1}, "daily_budget_micros"),
    "total below daily": ({"total_budget_micros": 15_999_999}, "total_budget_micros"),
    "zone": ({"zone": "Mars/Olympus"}, "zone"),
    "no creatives": ({"creatives": []}, "creatives"),
    "targeting": ({"targeting": {"attribute": {"dimension": 1, "codes": [512]}}}, "targeting"),
}


@pytest.mark.parametrize(("changes", "field"), BAD_CAMPAIGNS.values(), ids=BAD_CAMPAIGNS.keys())
def test_bad_campaigns_are_refused_with_their_field(
    server: RunningServer, campaign: campaigns_pb2.Campaign, changes: dict[str, Any], field: str
) -> None:
    request = campaigns_pb2.CreateCampaignRequest(campaign=a_campaign(**changes))
    refused(server.transport("operator"), "Campaigns/CreateCampaign", request, grpc.StatusCode.INVALID_ARGUMENT, field)


BAD_AUDIENCES: dict[str, tuple[str, Any, str]] = {
    "no viewers": ("PutViewers", audience_pb2.PutViewersRequest(), "viewers.ids count 0: not in 1..8000"),
    "floors": (
        "PutViewers",
        audience_pb2.PutViewersRequest(viewers={"ids": [1], "bidfloors_micros": [1]}),
        "viewers.bidfloors_micros: must be empty here",
    ),
    "age": (
        "PutViewers",
        audience_pb2.PutViewersRequest(viewers={"ids": [1], "age_bands": [8]}),
        "viewers.age_bands[0] 8: not in 0..7",
    ),
    "segment name": ("PutSegment", audience_pb2.PutSegmentRequest(segment_id="A b", change=1), "segment_id 'A b'"),
    "reserved segment": (
        "PutSegment",
        audience_pb2.PutSegmentRequest(segment_id="fans:7", change=1),
        "are reserved",
    ),
    "change": ("PutSegment", audience_pb2.PutSegmentRequest(segment_id="vip"), "change 0: must be 1"),
    "unknown change": ("PutSegment", audience_pb2.PutSegmentRequest(segment_id="vip", change=9), "change 9"),
    "follows": ("PutFollows", audience_pb2.PutFollowsRequest(follower_ids=[1]), "followed_ids: 0 for 1 follower_ids"),
    "reach": (
        "EstimateReach",
        audience_pb2.EstimateReachRequest(targeting={"interests": {"codes": [64]}}),
        "targeting",
    ),
}


@pytest.mark.parametrize(("method", "request_", "text"), BAD_AUDIENCES.values(), ids=BAD_AUDIENCES.keys())
def test_bad_audiences_are_refused(server: RunningServer, method: str, request_: Any, text: str) -> None:
    refused(server.transport("operator"), f"Audience/{method}", request_, grpc.StatusCode.INVALID_ARGUMENT, text)


def test_forged_rows_and_malformed_reports_move_nothing(
    server: RunningServer, campaign: campaigns_pb2.Campaign
) -> None:
    feed = server.transport("feed")
    before = report_of(server, campaign).ledger_sequence
    forged = bidding_pb2.ReportRequest(
        kinds=[OutcomeKind.BILLABLE] * 2, tokens=b"\x01" * TOKEN_BYTES + bytes(TOKEN_BYTES), prices_micros=[1, 1]
    )
    answer = feed.call("Bidding/Report", forged, bidding_pb2.ReportResponse)
    assert list(answer.statuses) == [RowStatus.FORGED, RowStatus.INVALID]
    short = bidding_pb2.ReportRequest(kinds=[2], tokens=bytes(10))
    refused(feed, "Bidding/Report", short, grpc.StatusCode.INVALID_ARGUMENT, "tokens: 10 bytes for 1 rows")
    assert answer.ledger_sequence >= before
    after = report_of(server, campaign)
    assert after.total.impressions == 0 and after.total.spend_micros == 0


def test_an_impression_reaches_its_campaigns_report(server: RunningServer, campaign: campaigns_pb2.Campaign) -> None:
    feed = server.transport("feed")
    answer = feed.call("Bidding/Bid", a_request([77]), bidding_pb2.BidResponse)
    (token,) = tokens_of(answer)
    request = bidding_pb2.ReportRequest(kinds=[OutcomeKind.BILLABLE], tokens=token, prices_micros=[123])
    told = feed.call("Bidding/Report", request, bidding_pb2.ReportResponse)
    assert list(told.statuses) == [RowStatus.ACCEPTED]
    for report in server.channel.unary_stream(
        "/fanbid.v1.Campaigns/WatchReport",
        request_serializer=campaigns_pb2.WatchReportRequest.SerializeToString,
        response_deserializer=campaigns_pb2.CampaignReport.FromString,
    )(
        campaigns_pb2.WatchReportRequest(campaign_ids=[campaign.campaign_id], interval_ms=250),
        metadata=(("authorization", f"Bearer {server.token('creator', CREATOR)}"),),
        timeout=30,
    ):
        if report.ledger_sequence >= told.ledger_sequence:
            break
    assert (report.total.impressions, report.total.spend_micros) == (1, 123)
    charges = server.transport("creator", CREATOR).call(
        "Campaigns/ListCharges",
        campaigns_pb2.ListChargesRequest(campaign_id=campaign.campaign_id),
        campaigns_pb2.ListChargesResponse,
    )
    (charge,) = charges.charges
    assert (charge.viewer_id, charge.amount_micros, charge.bid_micros, charges.charged_micros) == (77, 123, 20_000, 123)
    assert charge.flat and charge.value_micros == 20_000.0 and charges.ledger_sequence >= charge.sequence


def test_keys_rotate_while_it_serves(server: RunningServer, campaign: campaigns_pb2.Campaign) -> None:
    feed = server.transport("feed")
    (old,) = tokens_of(feed.call("Bidding/Bid", a_request([88]), bidding_pb2.BidResponse))
    assert fanbid.main(["keys", "rotate", "--data", str(server.data_dir)]) == 0
    deadline_s = time.monotonic() + 20
    viewer_id = 20_000
    while True:
        viewer_id += 1
        (token,) = tokens_of(feed.call("Bidding/Bid", a_request([viewer_id]), bidding_pb2.BidResponse))
        if token[1] != old[1]:
            break
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    request = bidding_pb2.ReportRequest(kinds=[OutcomeKind.WIN] * 2, tokens=old + token, prices_micros=[1, 1])
    told = feed.call("Bidding/Report", request, bidding_pb2.ReportResponse)
    assert RowStatus.FORGED not in told.statuses and told.statuses[1] == RowStatus.ACCEPTED


def test_segments_go_in_and_out_as_files(server: RunningServer, tmp_path: Path, capsys: Any) -> None:
    ids = np.array([3, 4, 5, *range(10**6, 10**6 + 6 * 10**6, 7)], np.uint64)
    given, back = tmp_path / "given.bin", tmp_path / "back.bin"
    given.write_bytes(ids_to_bytes(ids))
    assert given.stat().st_size > 2 * 300_000  # goes in parts
    flags = ["--server", server.grpc_address, "--token", server.token("operator")]

    def command(*words: str) -> tuple[int, str]:
        code = fanbid.main(["segments", *words, *flags])
        said = capsys.readouterr()
        return code, said.out + said.err

    code, said = command("import", "filed", str(given))
    assert code == 0 and said.startswith(f"segment filed: {len(ids):,} members\n")
    code, said = command("export", "filed", str(back))
    assert (code, back.read_bytes()) == (0, given.read_bytes()), said
    assert command("export", "filed", str(back))[0] == 2
    assert "no such segment" in command("export", "nobody", str(tmp_path / "other"))[1]
    assert "are reserved" in command("import", "fans:7", str(given))[1]
    back.write_bytes(b"noise")
    assert "5 bytes that are no portable Roaring bitmap" in command("import", "filed", str(back))[1]
    assert command("export", "filed", str(tmp_path / "same"))[0] == 0
    assert (tmp_path / "same").read_bytes() == given.read_bytes()
    past = ("--change", "add", "--expires-at", "2001-01-01T00:00:00Z")
    assert "must be later than now" in command("import", "filed", str(given), *past)[1]
