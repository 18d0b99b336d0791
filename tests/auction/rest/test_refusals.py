"""The words of the shim's refusals: field, value and range, never those of the library behind it."""

from __future__ import annotations

import json

import httpx
import pytest

from auction.campaigns.access import Role
from tests.auction.campaigns.figures import small_engine
from tests.auction.rest.serving import running_shim
from tests.auction.rest.test_rest import NEW, fails


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with small_engine(tmp_path_factory.mktemp("refusals")) as engine, running_shim(engine.address) as address:
        headers = {"Authorization": f"Bearer {engine.token(Role.CREATOR, 7)}"}
        with httpx.Client(base_url=address, headers=headers, timeout=20) as client:
            yield client


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bogus": 1}, "bogus: no such field"),
        ({"name": ""}, 'name: ""; must be 1 or more characters long'),
        ({"zone": "z" * 65}, f'zone: "{"z" * 65}"; must be at most 64 characters long'),
        ({"name": None}, "name: null; must be a string"),
        ({"daily_budget_micros": 3}, "daily_budget_micros: 3; must be at least 1000000"),
        ({"daily_budget_micros": 10**14}, "daily_budget_micros: 100000000000000; must be at most 10000000000000"),
        ({"daily_budget_micros": True}, "daily_budget_micros: true; must be a whole number"),
        ({"daily_budget_micros": 1.5}, "daily_budget_micros: 1.5; must be a whole number"),
        ({"include_fans": "yes"}, 'include_fans: "yes"; must be true or false'),
        ({"bid_mode": "free"}, "bid_mode: \"free\"; must be 'automatic' or 'target_cost'"),
        ({"creatives": []}, "creatives: no items; must be at least 1"),
        ({"creatives": [{"creative_id": str(k)} for k in range(1, 18)]}, "creatives: 17 items; must be at most 16"),
        ({"creatives": {}}, "creatives: {}; must be a list"),
        ({"creatives": [3]}, "creatives[0]: 3; must be a JSON object"),
        ({"creatives": [{}]}, "creatives[0].creative_id: required"),
        ({"creator_id": "x"}, f'creator_id: "x"; must be a decimal number from 1 to {2**64 - 1}, as a string'),
        (
            {"creator_id": str(2**64)},
            f'creator_id: "{2**64}"; must be a decimal number from 1 to {2**64 - 1}, as a string',
        ),
        ({"targeting": {"friends_of_fans": False}}, "targeting.friends_of_fans: false; must be true"),
    ],
)
def test_refusals_say_field_value_and_range_in_plain_words(client, change, message):
    field = message.split(":")[0]
    assert fails(client.post("/api/campaigns", json=NEW | change), 422, "invalid_argument", field) == message


def test_refusals_never_speak_pydantic(client):
    two_nodes = fails(
        client.post("/api/campaigns", json=NEW | {"targeting": {"interests": [1], "segment": "a"}}),
        422, "invalid_argument", "targeting",
    )  # fmt: skip
    assert "interests, segment: one node each" in two_nodes and "Value error" not in two_nodes
    assert fails(client.post("/api/campaigns", json={}), 422, "invalid_argument", "name") == "name: required"
    for headers in ({}, {"Content-Type": "application/x-www-form-urlencoded"}):
        answer = client.post("/api/campaigns", content=json.dumps(NEW), headers=headers)
        message = fails(answer, 422, "invalid_argument", "body")
        assert message == "body: send Content-Type: application/json"
    surprise = client.get("/api/campaigns", params={"surprise": 1})
    assert fails(surprise, 422, "invalid_argument", "surprise") == "surprise: no such parameter"
