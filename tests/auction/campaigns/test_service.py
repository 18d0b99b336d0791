"""`Campaigns` over a real gRPC server: who sees what, what is refused and how, and that nothing is half done."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auction.campaigns import service as service_module
from auction.campaigns.access import Role
from auction.campaigns.model import CampaignStatus
from auction.campaigns.store import StoreUnavailable
from auction.campaigns.wire import campaign_to_message
from auction.kept_fans import KeptFigures
from auction.status import FIELD_METADATA
from pacing.clocks import MS_PER_HOUR
from pacing.facts import Goal, OutcomeKind, Verdict
from protos import campaigns_pb2 as pb
from protos.campaigns_pb2_grpc import CampaignsStub
from tests.auction.campaigns.figures import NOON_MS, JudgedRows, a_campaign, small_engine

CODE = grpc.StatusCode
REQUESTS = {
    "CreateCampaign": pb.CreateCampaignRequest,
    "GetCampaign": pb.GetCampaignRequest,
    "ListCampaigns": pb.ListCampaignsRequest,
    "UpdateCampaign": pb.UpdateCampaignRequest,
    "PauseCampaign": pb.ChangeStatusRequest,
    "ResumeCampaign": pb.ChangeStatusRequest,
    "EndCampaign": pb.ChangeStatusRequest,
    "GetReport": pb.GetReportRequest,
}


class Caller:
    """A client with one token."""

    def __init__(self, channel, token):
        self._stub = CampaignsStub(channel)
        self._channel = channel
        self.metadata = (("authorization", f"Bearer {token}"),) if token else ()

    def __getattr__(self, name):
        method = getattr(self._stub, name)
        timeout = None if name == "WatchReport" else 10
        return lambda request: method(request, metadata=self.metadata, timeout=timeout)

    def raw(self, name, body):
        return self._channel.unary_unary(f"/fanbid.v1.Campaigns/{name}")(body, metadata=self.metadata, timeout=10)

    def create(self, key="", **changes):
        message = campaign_to_message(a_campaign(**changes), "")
        return self.CreateCampaign(pb.CreateCampaignRequest(campaign=message, idempotency_key=key))


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    with small_engine(tmp_path_factory.mktemp("service")) as engine:
        yield engine


@pytest.fixture(scope="module")
def channel(engine):
    with grpc.insecure_channel(engine.address) as channel:
        yield channel


@pytest.fixture(scope="module")
def creator(engine, channel):
    return Caller(channel, engine.token(Role.CREATOR, 7))


@pytest.fixture(scope="module")
def other(engine, channel):
    return Caller(channel, engine.token(Role.CREATOR, 8))


@pytest.fixture(scope="module")
def operator(engine, channel):
    return Caller(channel, engine.token(Role.OPERATOR))


@contextmanager
def refused(code, field=None, text=""):
    with pytest.raises(grpc.RpcError) as caught:
        yield
    error = caught.value
    assert error.code() is code, error
    assert text in error.details()
    if field is not None:
        assert dict(error.trailing_metadata()).get(FIELD_METADATA) == field


def test_a_created_campaign_is_stored_and_handed_to_the_engine(engine, creator):
    made = creator.create(creator_id=99, name="Mine")
    assert (made.creator_id, made.name, made.status, made.version, made.cur) == (7, "Mine", 1, 1, "CNY")
    assert creator.GetCampaign(pb.GetCampaignRequest(campaign_id=made.campaign_id)) == made
    assert engine.desk.campaigns[made.campaign_id] == engine.store.get(made.campaign_id)


def test_the_same_key_answers_with_the_first_campaign(creator, other):
    first = creator.create(key="k1", name="One")
    assert creator.create(key="k1", name="Two") == first
    assert other.create(key="k1").campaign_id != first.campaign_id
    with refused(CODE.INVALID_ARGUMENT, "idempotency_key"):
        creator.create(key="x" * 65)


def test_one_key_sent_at_once_by_many_makes_one_campaign(creator):
    made = []
    threads = [threading.Thread(target=lambda: made.append(creator.create(key="rush").campaign_id)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8
    assert len(set(made)) == 1


@pytest.mark.parametrize("call", [*REQUESTS, "WatchReport"])
def test_a_foreign_campaign_is_not_found(creator, other, call):
    foreign = other.create().campaign_id
    if call == "CreateCampaign" or call == "ListCampaigns":
        seen = creator.ListCampaigns(pb.ListCampaignsRequest(page_size=200)).campaigns
        assert foreign not in {c.campaign_id for c in seen}
        assert {c.creator_id for c in seen} <= {7}
        return
    if call == "UpdateCampaign":
        request = pb.UpdateCampaignRequest(campaign=pb.Campaign(campaign_id=foreign, name="x"), update_fields=["name"])
    elif call == "WatchReport":
        request = pb.WatchReportRequest(campaign_ids=[foreign])
    else:
        request = REQUESTS[call](campaign_id=foreign)
    before = other.GetCampaign(pb.GetCampaignRequest(campaign_id=foreign))
    with refused(CODE.NOT_FOUND, text=f"campaign_id {foreign}"):
        answer = getattr(creator, call)(request)
        if call == "WatchReport":
            next(answer)
    assert other.GetCampaign(pb.GetCampaignRequest(campaign_id=foreign)) == before


def test_without_a_valid_token_nothing_is_answered(channel, engine):
    for token in ("", "nonsense", "fanbid.1.wrong"):
        caller = Caller(channel, token)
        with refused(CODE.UNAUTHENTICATED):
            caller.ListCampaigns(pb.ListCampaignsRequest())
        with refused(CODE.UNAUTHENTICATED):
            next(caller.WatchReport(pb.WatchReportRequest()))
    feed = Caller(channel, engine.token(Role.FEED))
    with refused(CODE.PERMISSION_DENIED, text="role feed"):
        feed.ListCampaigns(pb.ListCampaignsRequest())
    with refused(CODE.PERMISSION_DENIED):
        next(feed.WatchReport(pb.WatchReportRequest()))


def test_an_operator_acts_for_any_creator(operator, creator):
    made = operator.create(creator_id=7, name="By the operator")
    assert creator.GetCampaign(pb.GetCampaignRequest(campaign_id=made.campaign_id)).name == "By the operator"
    with refused(CODE.INVALID_ARGUMENT, "creator_id"):
        operator.create(creator_id=0)
    listed = operator.ListCampaigns(pb.ListCampaignsRequest(creator_id=7, page_size=200)).campaigns
    assert {c.creator_id for c in listed} == {7}
    with refused(CODE.INVALID_ARGUMENT, "creator_id"):
        creator.ListCampaigns(pb.ListCampaignsRequest(creator_id=8))


def test_lists_come_in_pages(operator, other):
    for _ in range(3):
        other.create()
    every = [c.campaign_id for c in operator.ListCampaigns(pb.ListCampaignsRequest(page_size=200)).campaigns]
    seen, token = [], ""
    while True:
        page = operator.ListCampaigns(pb.ListCampaignsRequest(page_size=2, page_token=token))
        seen += [c.campaign_id for c in page.campaigns]
        token = page.next_page_token
        if not token:
            break
    assert seen == every
    for bad in (pb.ListCampaignsRequest(page_size=201), pb.ListCampaignsRequest(page_token="-1")):
        with refused(CODE.INVALID_ARGUMENT):
            operator.ListCampaigns(bad)
    with refused(CODE.INVALID_ARGUMENT, "page_token"):
        operator.ListCampaigns(pb.ListCampaignsRequest(page_token="9" * 40))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "x" * 81),
        ("goal", 77),
        ("bid_mode", 0),
        ("daily_budget_micros", -5),
        ("total_budget_micros", 10**15),
        ("target_cost_micros", 1),
        ("zone", "Nowhere/Land"),
        ("end_at_ms", 5),
        ("frequency_cap_per_day", 101),
        ("high_tier_worth", 3.0),
        ("high_tier_worth", -1.0),
        ("high_tier_worth", float("nan")),
    ],
)
def test_a_bad_field_is_named_and_nothing_is_stored(engine, creator, field, value):
    count = len(engine.store.all())
    message = campaign_to_message(a_campaign(), "")
    setattr(message, field, value)
    with refused(CODE.INVALID_ARGUMENT, field, text="must be"):
        creator.CreateCampaign(pb.CreateCampaignRequest(campaign=message))
    assert len(engine.store.all()) == count


def test_an_update_changes_the_named_fields_and_says_what_is_in_force(engine, creator):
    made = creator.create()
    engine.desk.promised_micros[made.campaign_id] = 250_000_000
    asked = pb.Campaign(campaign_id=made.campaign_id, version=1, daily_budget_micros=100_000_000, name="ignored")
    answer = creator.UpdateCampaign(pb.UpdateCampaignRequest(campaign=asked, update_fields=["daily_budget_micros"]))
    assert (answer.campaign.daily_budget_micros, answer.campaign.name, answer.campaign.version) == (
        100_000_000,
        "Spring dance",
        2,
    )
    assert answer.effective_daily_budget_micros == 250_000_000
    assert answer.effective_total_budget_micros == 3_000_000_000
    assert engine.desk.campaigns[made.campaign_id].daily_budget_micros == 100_000_000


def test_an_update_of_an_older_version_is_aborted(creator):
    made = creator.create()
    asked = pb.Campaign(campaign_id=made.campaign_id, version=1, name="A")
    creator.UpdateCampaign(pb.UpdateCampaignRequest(campaign=asked, update_fields=["name"]))
    with refused(CODE.ABORTED, "version", text="version 2"):
        creator.UpdateCampaign(pb.UpdateCampaignRequest(campaign=asked, update_fields=["name"]))
    asked.version = 0
    asked.name = "B"
    assert (
        creator.UpdateCampaign(pb.UpdateCampaignRequest(campaign=asked, update_fields=["name"])).campaign.version == 3
    )


def test_what_the_engine_refuses_is_not_stored(engine, creator):
    made = creator.create()
    engine.desk.refuses = "targeting: the engine cannot serve this"
    try:
        with refused(CODE.INVALID_ARGUMENT, text="cannot serve"):
            creator.create(key="again")
        asked = pb.Campaign(campaign_id=made.campaign_id, name="New")
        with refused(CODE.INVALID_ARGUMENT):
            creator.UpdateCampaign(pb.UpdateCampaignRequest(campaign=asked, update_fields=["name"]))
    finally:
        engine.desk.refuses = ""
    assert creator.GetCampaign(pb.GetCampaignRequest(campaign_id=made.campaign_id)) == made
    assert creator.create(key="again").campaign_id > made.campaign_id


def test_pause_resume_and_the_end_is_final(engine, creator):
    made = creator.create()
    request = pb.ChangeStatusRequest(campaign_id=made.campaign_id)
    assert creator.PauseCampaign(request).status == CampaignStatus.PAUSED
    assert creator.PauseCampaign(request).version == 2
    assert creator.ResumeCampaign(request).status == CampaignStatus.ACTIVE
    assert creator.EndCampaign(request).status == CampaignStatus.ENDED
    assert engine.desk.campaigns[made.campaign_id].status is CampaignStatus.ENDED
    assert creator.EndCampaign(request).version == 4
    asked = pb.UpdateCampaignRequest(
        campaign=pb.Campaign(campaign_id=made.campaign_id, name="x"), update_fields=["name"]
    )
    for call in (lambda: creator.ResumeCampaign(request), lambda: creator.UpdateCampaign(asked)):
        with refused(CODE.FAILED_PRECONDITION, text="has ended"):
            call()


def test_a_store_that_fails_leaves_engine_and_store_as_they_were(engine, creator, monkeypatch):
    made = creator.create()
    before = engine.desk.campaigns[made.campaign_id]

    @contextmanager
    def failing():
        yield
        raise StoreUnavailable("disk full")

    monkeypatch.setattr(engine.store, "change", failing)
    monkeypatch.setattr(engine.store, "update", lambda campaign: None)
    with refused(CODE.UNAVAILABLE):
        creator.PauseCampaign(pb.ChangeStatusRequest(campaign_id=made.campaign_id))
    assert engine.desk.campaigns[made.campaign_id] == before


@pytest.mark.parametrize("call", list(REQUESTS))
def test_malformed_bytes_are_invalid(creator, call):
    with refused(CODE.INVALID_ARGUMENT, text=f"fanbid.v1.{REQUESTS[call].DESCRIPTOR.name}"):
        creator.raw(call, b"\xff\xff\xff nonsense")


@settings(max_examples=35)
@given(call=st.sampled_from(list(REQUESTS)), body=st.binary(max_size=60))
def test_no_bytes_make_the_server_stumble(creator, call, body):
    try:
        creator.raw(call, body)
    except grpc.RpcError as error:
        assert error.code() in (CODE.INVALID_ARGUMENT, CODE.NOT_FOUND, CODE.FAILED_PRECONDITION), error


def bill(engine, campaign_id, micros):
    rows = JudgedRows(engine.book.ledger_sequence)
    rows.add(campaign_id, OutcomeKind.BILLABLE, Verdict.CHARGED, NOON_MS - 1, micros, 0.5)
    rows.add(campaign_id, OutcomeKind.FOLLOW, Verdict.ATTRIBUTED, NOON_MS - MS_PER_HOUR)
    engine.book.follow(*rows.take())


def test_a_report_joins_ledger_and_engine(engine, creator):
    made = creator.create()
    engine.desk.bids[made.campaign_id] = 12
    bill(engine, made.campaign_id, 700)
    report = creator.GetReport(pb.GetReportRequest(campaign_id=made.campaign_id))
    assert report.ledger_sequence == engine.book.ledger_sequence
    assert (report.total.spend_micros, report.total.fans, report.total.goal_events, report.total.bids) == (
        700,
        1,
        1,
        12,
    )
    assert report.today.expected_goal_events == 0.5
    assert [hour.hour_start_at_ms for hour in report.hours] == [NOON_MS - MS_PER_HOUR]
    assert report.hours[0].figures.spend_micros == 700
    assert (report.daily_budget_micros, report.multiplier_micros, report.at_ms) == (300_000_000, 2_500_000.0, NOON_MS)
    assert report.kept_fans == pb.KeptFans()
    engine.desk.kept_fans = KeptFigures(gained=9, lost=2, kept=3, expected=5.04, risen=4)
    kept = creator.GetReport(pb.GetReportRequest(campaign_id=made.campaign_id)).kept_fans
    assert kept == pb.KeptFans(gained=9, lost=2, kept=3, expected=5.0, cost_micros=140, risen=4)
    with refused(CODE.INVALID_ARGUMENT, "hours"):
        creator.GetReport(pb.GetReportRequest(campaign_id=made.campaign_id, hours=745))


def test_a_campaign_for_kept_fans_counts_the_fans_it_gains(engine, creator):
    made = creator.create(goal=Goal.KEPT_FANS)
    bill(engine, made.campaign_id, 700)
    report = creator.GetReport(pb.GetReportRequest(campaign_id=made.campaign_id))
    assert (report.total.fans, report.total.goal_events) == (1, 1)


def test_a_watch_tells_what_changes_and_only_that(engine, creator):
    one, two = creator.create().campaign_id, creator.create().campaign_id
    stream = creator.WatchReport(pb.WatchReportRequest(campaign_ids=[one, two], interval_ms=250))
    assert [next(stream).campaign_id for _ in range(2)] == [one, two]
    bill(engine, two, 900)
    report = next(stream)
    assert (report.campaign_id, report.total.spend_micros) == (two, 900)
    creator.PauseCampaign(pb.ChangeStatusRequest(campaign_id=one))
    report = next(stream)
    assert (report.campaign_id, report.status) == (one, CampaignStatus.PAUSED)
    stream.cancel()


@pytest.mark.parametrize(
    ("request_fields", "field"),
    [
        ({}, "campaign_ids"),
        ({"campaign_ids": [1, 1]}, "campaign_ids"),
        ({"campaign_ids": list(range(1, 102))}, "campaign_ids"),
        ({"campaign_ids": [1], "interval_ms": 249}, "interval_ms"),
        ({"campaign_ids": [1], "interval_ms": 60_001}, "interval_ms"),
        ({"campaign_ids": [1], "hours": 745}, "hours"),
    ],
)
def test_a_watch_of_nonsense_is_refused(creator, request_fields, field):
    with refused(CODE.INVALID_ARGUMENT, field):
        next(creator.WatchReport(pb.WatchReportRequest(**request_fields)))


def wait_until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_watches_are_bounded_and_end_when_the_caller_leaves(engine, creator, monkeypatch):
    free = service_module.MAX_WATCHERS
    wait_until(lambda: engine.service.open_watchers == 0)
    made = creator.create().campaign_id
    request = pb.WatchReportRequest(campaign_ids=[made], interval_ms=250)
    streams = [creator.WatchReport(request) for _ in range(free)]
    for stream in streams:
        assert next(stream).campaign_id == made
    with refused(CODE.RESOURCE_EXHAUSTED):
        next(creator.WatchReport(request))
    assert creator.GetCampaign(pb.GetCampaignRequest(campaign_id=made)).campaign_id == made
    for stream in streams:
        stream.cancel()
    wait_until(lambda: engine.service.open_watchers == 0)
    stream = creator.WatchReport(request)
    assert next(stream).campaign_id == made
    stream.cancel()


def test_a_revoked_token_ends_its_watch(engine, channel):
    token = engine.token(Role.CREATOR, 7)
    caller = Caller(channel, token)
    made = caller.create().campaign_id
    stream = caller.WatchReport(pb.WatchReportRequest(campaign_ids=[made], interval_ms=250))
    assert next(stream).campaign_id == made
    engine.access.revoke(int(token.split(".")[1]), NOON_MS)
    with refused(CODE.UNAUTHENTICATED):
        for _ in stream:
            pass
