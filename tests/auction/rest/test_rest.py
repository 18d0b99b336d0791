"""The REST shim against a real engine: every answer, and every refusal, as JSON."""

from __future__ import annotations

import csv
import io
import json
import socket
from decimal import Decimal

import httpx
import pytest
from grpc_health.v1 import health_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from auction.campaigns.access import Role
from auction.campaigns.limits import RateLimits
from auction.campaigns.store import StoreUnavailable
from auction.rest.guards import MAX_BODY_BYTES
from auction.rest.shapes import NewCampaign
from pacing.facts import OutcomeKind, Verdict
from protos.rpc.health_service import NO_GRANTS_METADATA, NO_GRANTS_UNTIL_METADATA
from tests.auction.campaigns.figures import NOON_MS, JudgedRows, charge_some, small_engine
from tests.auction.rest.serving import running_shim

JSON = {"Content-Type": "application/json"}
NEW = {
    "name": "春季 dance",
    "goal": "fans",
    "bid_mode": "target_cost",
    "target_cost_micros": 3_000_000,
    "daily_budget_micros": 300_000_000,
    "total_budget_micros": 10**14,
    "zone": "Asia/Shanghai",
    "creatives": [{"creative_id": str(2**64 - 1), "title": "Roof", "category": 1}],
    "targeting": {
        "all": [
            {"any": [{"interests": [3]}, {"segment": "vip"}]},
            {"none": {"attribute": {"dimension": "region", "codes": [7, 8]}}},
            {"fans_of": [str(2**64 - 2)]},
            {"any": [{"friends_of_fans": True}, {"fans_of_similar_creators": True}]},
        ]
    },
}


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    with small_engine(tmp_path_factory.mktemp("rest")) as engine:
        yield engine


@pytest.fixture(scope="module")
def address(engine):
    with running_shim(engine.address) as address:
        yield address


@pytest.fixture(scope="module")
def client(engine, address):
    headers = {"Authorization": f"Bearer {engine.token(Role.CREATOR, 7)}"}
    with httpx.Client(base_url=address, headers=headers, timeout=20) as client:
        yield client


def fails(response, status, code, field=None):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    error = response.json()["error"]
    assert set(error) == {"code", "message", "field"}
    assert error["code"] == code
    assert error["field"] == field
    assert error["message"] and "Traceback" not in response.text and ".py" not in response.text
    return error["message"]


def create(client, **changes):
    response = client.post("/api/campaigns", json=NEW | changes)
    assert response.status_code == 201, response.text
    return response.json()


def test_a_campaign_is_created_and_read_back(client):
    response = client.post("/api/campaigns", json=NEW, headers={"Idempotency-Key": "first"})
    assert response.status_code == 201
    made = response.json()
    assert {key: made[key] for key in NEW} == NEW
    assert (made["creator_id"], made["status"], made["version"], made["cur"]) == ("7", "active", 1, "CNY")
    assert client.get(response.headers["location"]).json() == made
    again = client.post("/api/campaigns", json=NEW | {"name": "x"}, headers={"Idempotency-Key": "first"})
    assert again.json() == made


def test_lists_are_paged(client):
    made = [create(client)["campaign_id"] for _ in range(3)]
    seen, token = [], ""
    while True:
        page = client.get("/api/campaigns", params={"page_size": 2, "page_token": token}).json()
        assert page["creator_id"] == "7", "whom the token stands for"
        seen += [c["campaign_id"] for c in page["campaigns"]]
        token = page["next_page_token"]
        if not token:
            break
    assert seen[-3:] == made
    assert seen == sorted(seen, key=int)


def test_a_patch_changes_what_it_names(client):
    made = create(client)
    url = f"/api/campaigns/{made['campaign_id']}"
    answer = client.patch(url, json={"version": 1, "daily_budget_micros": 5_000_000, "targeting": {}}).json()
    assert answer["campaign"] == made | {
        "daily_budget_micros": 5_000_000,
        "targeting": {},
        "version": 2,
        "updated_at_ms": answer["campaign"]["updated_at_ms"],
    }
    assert answer["effective_daily_budget_micros"] == 5_000_000
    fails(client.patch(url, json={"version": 1, "name": "late"}), 409, "aborted", "version")
    for nothing in ({}, {"version": 2}):
        message = fails(client.patch(url, json=nothing), 422, "invalid_argument", "body")
        assert "must name one or more of name, target_cost_micros" in message and "update_fields" not in message
    for field, value in (("zone", "Asia/Tokyo"), ("goal", "plays"), ("creator_id", "8")):
        message = fails(client.patch(url, json={field: value}), 422, "invalid_argument", field)
        assert message == f"{field}: cannot change after creation"
    assert "/pause" in fails(client.patch(url, json={"status": "paused"}), 422, "invalid_argument", "status")
    assert fails(client.patch(url, json={"bogus": 1}), 422, "invalid_argument", "bogus") == "bogus: no such field"
    fails(client.patch(url, json={"name": None}), 422, "invalid_argument", "name")
    assert client.get(url).json() == answer["campaign"]


def test_a_change_of_status_takes_no_fields(client):
    url = f"/api/campaigns/{create(client)['campaign_id']}"
    for verb in ("pause", "resume", "end"):
        message = fails(client.post(f"{url}/{verb}", json={"until_ms": 1}), 422, "invalid_argument", "until_ms")
        assert message == "until_ms: no such field"
        fails(client.post(f"{url}/{verb}", json=[]), 422, "invalid_argument", "body")
        fails(client.post(f"{url}/{verb}", content=b"{", headers=JSON), 400, "bad_request")
    assert client.get(url).json()["version"] == 1
    assert client.post(f"{url}/pause", json={}).json()["status"] == "paused"


def test_pause_resume_end(client):
    url = f"/api/campaigns/{create(client)['campaign_id']}"
    assert client.post(f"{url}/pause").json()["status"] == "paused"
    assert client.post(f"{url}/resume").json()["status"] == "active"
    assert client.post(f"{url}/end").json()["status"] == "ended"
    message = fails(client.post(f"{url}/resume"), 409, "failed_precondition")
    assert "has ended" in message


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 81}, "name"),
        ({"name": " "}, "name"),
        ({"name": 7}, "name"),
        ({"goal": "fame"}, "goal"),
        ({"bid_mode": 2}, "bid_mode"),
        ({"daily_budget_micros": "300000000"}, "daily_budget_micros"),
        ({"daily_budget_micros": 300000000.0}, "daily_budget_micros"),
        ({"daily_budget_micros": -1}, "daily_budget_micros"),
        ({"daily_budget_micros": True}, "daily_budget_micros"),
        ({"total_budget_micros": 10**14 + 1}, "total_budget_micros"),
        ({"total_budget_micros": 299_999_999}, "total_budget_micros"),
        ({"target_cost_micros": 999}, "target_cost_micros"),
        ({"bid_mode": "automatic"}, "target_cost_micros"),
        ({"zone": "Nowhere/Land"}, "zone"),
        ({"end_at_ms": 1}, "end_at_ms"),
        ({"creatives": []}, "creatives"),
        ({"creatives": [{"creative_id": 7}]}, "creatives[0].creative_id"),
        ({"creatives": [{"creative_id": "0"}]}, "creatives[0].creative_id"),
        ({"creatives": [{"creative_id": str(2**64)}]}, "creatives[0].creative_id"),
        ({"creatives": [{"creative_id": "1", "category": 64}]}, "creatives[0].category"),
        ({"creatives": [{"creative_id": "1"}, {"creative_id": "1"}]}, "creatives[1].creative_id"),
        ({"include_fans": "yes"}, "include_fans"),
        ({"frequency_cap_per_day": 101}, "frequency_cap_per_day"),
        ({"high_tier_worth": 11}, "high_tier_worth"),
        ({"high_tier_worth": 0.5, "goal": "kept_fans"}, "high_tier_worth"),
        ({"high_tier_worth": 2.0}, "high_tier_worth"),
        ({"surprise": 1}, "surprise"),
        ({"creator_id": "-1"}, "creator_id"),
        ({"targeting": {"any": [{"interests": [64]}]}}, "targeting.any[0].interests[0]"),
        ({"targeting": {"interests": [1], "segment": "a"}}, "targeting"),
        ({"targeting": {"segment": "Not Allowed"}}, "targeting.segment"),
        ({"targeting": {"friends_of_fans": False}}, "targeting.friends_of_fans"),
        ({"targeting": {"attribute": {"dimension": "mood", "codes": [1]}}}, "targeting.attribute.dimension"),
    ],
)
def test_a_bad_field_is_named_and_nothing_is_created(engine, client, change, field):
    count = len(engine.store.all())
    message = fails(client.post("/api/campaigns", json=NEW | change), 422, "invalid_argument", field)
    assert message.startswith(field)
    assert len(engine.store.all()) == count


def test_an_audience_too_deep_is_refused(client):
    node = {"interests": [1]}
    for _ in range(9):
        node = {"none": node}
    response = client.post("/api/campaigns", json=NEW | {"targeting": node})
    assert response.status_code == 422
    assert response.json()["error"]["field"].startswith("targeting")


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b'{"name": NaN}', b"[" * 20_000, b'{"targeting":' * 20_000, b"{}"],
)
def test_a_body_that_is_none_is_refused(client, body):
    response = client.post("/api/campaigns", content=body, headers=JSON)
    assert response.status_code in (400, 422), response.text
    assert response.json()["error"]["code"] in ("bad_request", "invalid_argument")


def test_not_a_number_is_no_amount(client):
    body = json.dumps(NEW | {"daily_budget_micros": float("nan")})
    response = client.post("/api/campaigns", content=body, headers=JSON)
    fails(response, 422, "invalid_argument", "daily_budget_micros")


def test_large_bodies_are_refused_whether_announced_or_not(client):
    body = b" " * (MAX_BODY_BYTES + 1)
    fails(client.post("/api/campaigns", content=body), 413, "too_large")
    fails(client.post("/api/campaigns", content=iter([body[:1000], body])), 413, "too_large")
    padded = b" " * 1000 + json.dumps(NEW).encode()
    assert client.post("/api/campaigns", content=padded, headers=JSON).status_code == 201


@pytest.mark.parametrize("campaign_id", ["0", "-1", "abc", "1.5", "01", str(2**64), "9" * 30, "%00", "1%20"])
def test_an_id_that_is_none_is_refused(client, campaign_id):
    fails(client.get(f"/api/campaigns/{campaign_id}"), 422, "invalid_argument", "campaign_id")


def test_what_does_not_exist_is_not_found(client, engine, address):
    foreign = {"Authorization": f"Bearer {engine.token(Role.CREATOR, 8)}"}
    made = httpx.post(f"{address}/api/campaigns", json=NEW, headers=foreign).json()
    for campaign_id in (made["campaign_id"], "99999", str(2**64 - 1)):
        for method, path in (("GET", ""), ("POST", "/pause"), ("POST", "/end"), ("GET", "/report")):
            fails(client.request(method, f"/api/campaigns/{campaign_id}{path}"), 404, "not_found")
        fails(client.patch(f"/api/campaigns/{campaign_id}", json={"name": "mine"}), 404, "not_found")
        fails(client.get("/api/live", params={"campaign_id": campaign_id}), 404, "not_found")
    fails(client.get("/api/nothing"), 404, "not_found")
    fails(client.delete("/api/campaigns"), 405, "method_not_allowed")


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/api/campaigns?page_size=0", "page_size"),
        ("/api/campaigns?page_size=x", "page_size"),
        ("/api/campaigns?page_token=bad", "page_token"),
        ("/api/campaigns?surprise=1", "surprise"),
        ("/api/campaigns/1/report?hours=745", "hours"),
        ("/api/live", "campaign_id"),
        ("/api/live?campaign_id=1&interval_ms=1", "interval_ms"),
        ("/api/live?campaign_id=x", "campaign_id[0]"),
    ],
)
def test_a_bad_query_is_named(client, path, field):
    fails(client.get(path), 422, "invalid_argument", field)


@pytest.mark.parametrize("value", [None, "", "Bearer", "Bearer x", "Basic eDp5", "Bearer fanbid.1.wrong", "Bearer é"])
def test_without_a_valid_token_nothing_is_shown(address, value):
    headers = {} if value is None else {"Authorization": value.encode()}
    for path in ("/api/campaigns", "/api/campaigns/1", "/api/live?campaign_id=1"):
        response = httpx.get(address + path, headers=headers)
        fails(response, 401, "unauthenticated")
        assert response.headers["www-authenticate"] == "Bearer"


def test_a_feed_may_not_look(engine, address):
    headers = {"Authorization": f"Bearer {engine.token(Role.FEED)}"}
    fails(httpx.get(f"{address}/api/campaigns", headers=headers), 403, "permission_denied")


def test_an_operator_may_name_the_creator(engine, address):
    headers = {"Authorization": f"Bearer {engine.token(Role.OPERATOR)}"}
    fails(httpx.post(f"{address}/api/campaigns", json=NEW, headers=headers), 422, "invalid_argument", "creator_id")
    made = httpx.post(f"{address}/api/campaigns", json=NEW | {"creator_id": str(2**64 - 1)}, headers=headers)
    assert made.json()["creator_id"] == str(2**64 - 1)
    listed = httpx.get(f"{address}/api/campaigns", params={"creator_id": str(2**64 - 1)}, headers=headers).json()
    assert listed["creator_id"] is None, "an operator stands for no creator"
    assert [c["campaign_id"] for c in listed["campaigns"]] == [made.json()["campaign_id"]]


def bill(engine, campaign_id, micros):
    rows = JudgedRows(engine.book.ledger_sequence)
    rows.add(int(campaign_id), OutcomeKind.BILLABLE, Verdict.CHARGED, NOON_MS - 1, micros, 0.25)
    engine.book.follow(*rows.take())


def test_a_report_names_its_ledger_row(engine, client):
    made = create(client)
    bill(engine, made["campaign_id"], 1234)
    report = client.get(f"/api/campaigns/{made['campaign_id']}/report").json()
    assert report["ledger_sequence"] == str(engine.book.ledger_sequence)
    assert (report["total"]["spend_micros"], report["total"]["impressions"]) == (1234, 1)
    assert report["hours"][0]["figures"]["expected_goal_events"] == 0.25
    assert report["status"] == "active"


def events_of(response):
    event = {}
    for line in response.iter_lines():
        if not line:
            if event:
                yield event
            event = {}
        elif not line.startswith(":"):
            key, _, value = line.partition(": ")
            event[key] = value


def test_live_figures_of_several_campaigns_stream(engine, client):
    ids = [create(client)["campaign_id"] for _ in range(2)]
    with client.stream("GET", "/api/live", params={"campaign_id": ids, "interval_ms": 250}) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        events = events_of(response)
        first = [json.loads(next(events)["data"]) for _ in ids]
        assert [report["campaign_id"] for report in first] == ids
        bill(engine, ids[1], 77)
        event = next(events)
        report = json.loads(event["data"])
        assert (event["event"], report["campaign_id"], report["today"]["spend_micros"]) == ("report", ids[1], 77)
        assert event["id"] == report["ledger_sequence"] == str(engine.book.ledger_sequence)


def test_health_is_the_engines(engine, client):
    assert client.get("/healthz").json() == {"status": "serving"}
    engine.health.set(health_pb2.HealthCheckResponse.NOT_SERVING, ("",))
    fails(client.get("/healthz"), 503, "unavailable")
    engine.health.set(health_pb2.HealthCheckResponse.SERVING, ("",))
    assert client.get("/healthz").status_code == 200


def test_health_says_why_no_new_money_is_granted(engine, client):
    engine.notes[:] = [(NO_GRANTS_METADATA, "failover"), (NO_GRANTS_UNTIL_METADATA, "1772600000000")]
    answer = client.get("/healthz")
    assert answer.status_code == 200
    assert answer.json() == {
        "status": "serving", "no_grants": {"reason": "failover", "until_ms": 1_772_600_000_000}
    }  # fmt: skip
    engine.notes.clear()
    assert client.get("/healthz").json() == {"status": "serving"}


def test_who_calls_too_often_is_told_when_to_come_back(tmp_path):
    with small_engine(tmp_path, limits=RateLimits(1, 2)) as engine, running_shim(engine.address) as address:
        headers = {"Authorization": f"Bearer {engine.token(Role.CREATOR, 7)}"}
        answers = [httpx.get(f"{address}/api/campaigns", headers=headers) for _ in range(20)]
        refused = next(answer for answer in answers if answer.status_code != 200)
        assert "more than 1 calls a second" in fails(refused, 429, "resource_exhausted")
        assert refused.headers["retry-after"] == "1"
        other = {"Authorization": f"Bearer {engine.token(Role.CREATOR, 8)}"}
        assert httpx.get(f"{address}/api/campaigns", headers=other).status_code == 200


def test_without_an_engine_the_shim_says_so():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nowhere = f"127.0.0.1:{closed.getsockname()[1]}"
    with running_shim(nowhere) as address:
        headers = {"Authorization": "Bearer x"}
        fails(httpx.get(f"{address}/healthz"), 503, "unavailable")
        message = fails(httpx.get(f"{address}/api/campaigns", headers=headers), 503, "unavailable")
        assert nowhere not in message
        fails(httpx.get(f"{address}/api/live?campaign_id=1", headers=headers), 503, "unavailable")
        assert httpx.get(f"{address}/").status_code == 200


def test_why_the_engine_cannot_answer_is_told_without_its_inside(engine, client, monkeypatch):
    def away(*_):
        raise StoreUnavailable("redis 10.0.0.9:6379 refused: nothing was changed", told="away: nothing was changed")

    monkeypatch.setattr(engine.store, "get", away)
    assert fails(client.get("/api/campaigns/5"), 503, "unavailable") == "away: nothing was changed"


def test_pages_need_no_other_host(client):
    for path in ("/", "/docs"):
        page = client.get(path)
        assert page.status_code == 200
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert "http://" not in page.text and "https://" not in page.text
    assert "MIT" in client.get("/static/vendor/uplot/LICENSE").text
    assert client.get("/static/../app.py").status_code == 404
    assert client.get("/static/%2e%2e/app.py").status_code == 404


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=40)
@given(field=st.sampled_from(sorted(NewCampaign.model_fields)), value=json_values)
def test_no_value_of_any_field_makes_the_shim_stumble(client, field, value):
    response = client.post("/api/campaigns", content=json.dumps(NEW | {field: value}), headers=JSON)
    assert response.status_code in (201, 400, 422), response.text
    if response.status_code != 201:
        assert set(response.json()["error"]) == {"code", "message", "field"}


def test_charges_are_listed_with_their_why_at_one_row_of_the_ledger(engine, client):
    campaign_id = create(client)["campaign_id"]
    url = f"/api/campaigns/{campaign_id}/charges"
    empty = client.get(url).json()
    assert (empty["charges"], empty["next_after"], empty["charged_micros"]) == ([], "", 0)
    rows = charge_some(engine.desk.ledger, int(campaign_id), 5)
    first = client.get(url, params={"limit": 3}).json()
    assert [c["sequence"] for c in first["charges"]] == [str(s) for s in rows["sequence"][:3]]
    charge_some(engine.desk.ledger, int(campaign_id), 4)
    rest = {"after": first["next_after"], "ledger_sequence": first["ledger_sequence"]}
    then = client.get(url, params=rest).json()
    assert [c["sequence"] for c in then["charges"]] == [str(s) for s in rows["sequence"][3:]]
    assert {k: then[k] for k in ("ledger_sequence", "charged_micros", "over_delivered_micros", "next_after")} == {
        "ledger_sequence": first["ledger_sequence"],
        "charged_micros": int(rows["price_micros"][:4].sum()),
        "over_delivered_micros": int(rows["price_micros"][4]),
        "next_after": "",
    }
    decision = rows["decision"][1]
    value = decision["alpha_micros"] * float(decision["probability"])
    assert first["charges"][1] == {
        "sequence": str(rows["sequence"][1]),
        "occurred_at_ms": NOON_MS + 1,
        "recorded_at_ms": NOON_MS + 1,
        "viewer_id": str(decision["viewer_id"]),
        "creative_id": "7001",
        "at": "first_price",
        "verdict": "charged",
        "amount_micros": int(rows["price_micros"][1]),
        "bid_micros": int(decision["bid_micros"]),
        "floor_micros": 101,
        "probability": float(decision["probability"]),
        "alpha_micros": 3e6,
        "flat": False,
        "uplifted": False,
        "value_micros": value,
        "shade": decision["bid_micros"] / value,
        "charged_micros": int(rows["price_micros"][:2].sum()),
        "over_delivered_micros": 0,
    }
    assert len(client.get(url).json()["charges"]) == 9


def test_a_statement_is_a_file_of_exact_amounts_at_one_row(engine, client):
    campaign_id = create(client)["campaign_id"]
    rows = charge_some(engine.desk.ledger, int(campaign_id), 2_345)
    with client.stream("GET", f"/api/campaigns/{campaign_id}/charges.csv") as response:
        assert response.headers["content-type"] == "text/csv; charset=utf-8"
        assert f"campaign-{campaign_id}-charges.csv" in response.headers["content-disposition"]
        chunks = response.iter_text()
        text = next(chunks)
        charge_some(engine.desk.ledger, int(campaign_id), 50)  # does not come into this file
        text += "".join(chunks)
    lines = list(csv.DictReader(io.StringIO(text)))
    assert response.headers["ledger-sequence"] == str(rows["sequence"][-1]) == lines[-1]["ledger row"]
    assert [int(Decimal(line["price"]) * 1_000_000) for line in lines] == rows["price_micros"].tolist()
    assert sum(Decimal(line["price"]) for line in lines[:-1]) == Decimal(lines[-1]["charged so far"])
    assert [line["verdict"] for line in lines[-2:]] == ["charged", "over-delivery"]
    assert lines[0]["auction"] == "second" and lines[0]["bid / worth"] == ""
    assert lines[1]["auction"] == "first" and lines[1]["bid / worth"].startswith("0.75")
    assert lines[0]["seen at (UTC)"] == "2026-03-04 04:00:00" and lines[0]["floor"] == "0.000101"


def test_foreign_and_impossible_statements_are_refused(engine, client, address):
    campaign_id = create(client)["campaign_id"]
    other = {"Authorization": f"Bearer {engine.token(Role.CREATOR, 8)}"}
    for path in ("charges", "charges.csv"):
        fails(client.get(f"/api/campaigns/{campaign_id}/{path}", headers=other), 404, "not_found")
        fails(httpx.get(f"{address}/api/campaigns/{campaign_id}/{path}"), 401, "unauthenticated")
    url = f"/api/campaigns/{campaign_id}/charges"
    for field, value in (("limit", 0), ("limit", 1_001), ("after", "-1"), ("after", "1" * 19), ("page", 1)):
        fails(client.get(url, params={field: value}), 422, "invalid_argument", field)
    message = fails(client.get(url, params={"ledger_sequence": 10**9}), 422, "invalid_argument", "ledger_sequence")
    assert message.startswith("ledger_sequence 1000000000: not in 0..")
