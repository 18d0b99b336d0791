"""Two servers on one Redis, each in a process of its own: what one is told, both know."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import grpc
import pytest

import fanbid
from auction.campaigns.model import CampaignStatus
from auction.campaigns.store import ID_SHIFT
from benchmarks.redis_servers import redis_server
from benchmarks.serving import RunningServer, running_server
from benchmarks.transport import GrpcTransport
from pacing.facts import DECISION
from protos import bidding_pb2, campaigns_pb2
from tests.auction.bid.engines import a_campaign, a_request

CREATOR = 7
SOON_S = 20.0
"""A change is elsewhere in well under a second; on a machine that is busy with other tests it may take longer."""


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningServer, RunningServer]]:
    folder = tmp_path_factory.mktemp("several")
    with redis_server() as redis:
        flags = ("--redis", redis.url, "--no-rest", "--no-bridge")
        with running_server(folder / "a", *flags) as a, running_server(folder / "b", *flags) as b:
            yield a, b


def soon(ask: Callable[[], Any]) -> Any:
    """The answer of `ask` once it is true; a call that is refused is asked again."""
    deadline_s = time.monotonic() + SOON_S
    while True:
        try:
            answer = ask()
        except grpc.RpcError as error:
            answer, last = None, error.details()
        else:
            last = repr(answer)
        if answer:
            return answer
        assert time.monotonic() < deadline_s, last
        time.sleep(0.02)


def get(transport: GrpcTransport, campaign_id: int) -> campaigns_pb2.Campaign:
    request = campaigns_pb2.GetCampaignRequest(campaign_id=campaign_id)
    return transport.call("Campaigns/GetCampaign", request, campaigns_pb2.Campaign)


def create(transport: GrpcTransport, key: str = "") -> campaigns_pb2.Campaign:
    request = campaigns_pb2.CreateCampaignRequest(campaign=a_campaign(), idempotency_key=key)
    return transport.call("Campaigns/CreateCampaign", request, campaigns_pb2.Campaign)


def rename(transport: GrpcTransport, campaign_id: int, version: int, name: str) -> campaigns_pb2.Campaign:
    changed = campaigns_pb2.Campaign(campaign_id=campaign_id, version=version, name=name)
    request = campaigns_pb2.UpdateCampaignRequest(campaign=changed, update_fields=["name"])
    return transport.call("Campaigns/UpdateCampaign", request, campaigns_pb2.UpdateCampaignResponse).campaign


def test_a_campaign_a_token_and_a_key_of_one_are_the_others_too(servers: tuple[RunningServer, RunningServer]) -> None:
    a, b = servers
    token = a.token("creator", CREATOR)
    at_a, at_b = GrpcTransport(a.channel, token), GrpcTransport(b.channel, token)
    made = create(at_a, "k")
    assert made.campaign_id >> ID_SHIFT in (1, 2)
    assert soon(lambda: get(at_b, made.campaign_id)) == made, "made at the one, with its token, seen at the other"
    assert create(at_b, "k") == made

    request = campaigns_pb2.ChangeStatusRequest(campaign_id=made.campaign_id)
    assert at_b.call("Campaigns/PauseCampaign", request, campaigns_pb2.Campaign).version == 2
    with pytest.raises(grpc.RpcError) as refused:
        rename(at_a, made.campaign_id, 1, "Stale")
    assert refused.value.code() is grpc.StatusCode.ABORTED and "is at version 2" in refused.value.details()
    assert rename(at_b, made.campaign_id, 2, "Later").version == 3
    soon(lambda: get(at_a, made.campaign_id).name == "Later")
    assert get(at_a, made.campaign_id).status == CampaignStatus.PAUSED

    token_id = token.split(".")[1]
    assert fanbid.main(["token", "revoke", "--id", token_id, "--data", str(b.data_dir)]) == 0
    soon(lambda: refuses(at_a, made.campaign_id))


def refuses(transport: GrpcTransport, campaign_id: int) -> bool:
    try:
        get(transport, campaign_id)
    except grpc.RpcError as error:
        return error.code() is grpc.StatusCode.UNAUTHENTICATED
    return False


def test_a_notice_may_reach_the_other_server_also_after_a_rotation(
    servers: tuple[RunningServer, RunningServer],
) -> None:
    a, b = servers
    create(a.transport("operator"))
    feeds = a.transport("feed"), b.transport("feed")

    viewer_ids = count(1)

    def key_id(feed: GrpcTransport) -> int:
        return bid(feed, next(viewer_ids))[1]

    before = [soon(lambda feed=feed: key_id(feed)) for feed in feeds]
    assert before[0] == before[1]
    assert fanbid.main(["keys", "rotate", "--data", str(a.data_dir)]) == 0
    for feed in feeds:
        soon(lambda feed=feed: key_id(feed) == before[0] + 1)
    token = bid(feeds[0], next(viewer_ids))[0]
    request = bidding_pb2.ReportRequest(kinds=[1], tokens=token, prices_micros=[1])
    told = feeds[1].call("Bidding/Report", request, bidding_pb2.ReportResponse)
    assert len(told.statuses) == 1 and told.statuses[0] != bidding_pb2.ROW_STATUS_FORGED


def bid(feed: GrpcTransport, viewer_id: int) -> tuple[bytes, int]:
    """A token for a viewer, and the id of the key that signed it; no id while there is no bid."""
    answer = feed.call("Bidding/Bid", a_request([viewer_id]), bidding_pb2.BidResponse)
    size = DECISION.itemsize
    token = answer.tokens[:size]
    return token, token[1] if token else 0
