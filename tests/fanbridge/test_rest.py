"""The fan service over HTTP: reasons, transitions, churn and win-back, and what it refuses."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fanbridge.service.fans import FanRules
from fanbridge.service.insights import Insights
from fanbridge.service.rest import Backend, RestServer
from fanbridge.service.server import RunningService, ServiceSettings
from fanbridge.service.store import FanStore
from pacing.facts import OutcomeKind
from tests.fanbridge.services import connected, events
from tests.fanbridge.test_churn import CREATOR, DAY_MS, FIRST_DAY, bought, lives

FOLLOW, LIKE, ORDER, GIFT = OutcomeKind.FOLLOW, OutcomeKind.LIKE, OutcomeKind.ORDER, OutcomeKind.GIFT
START_AT_MS = FIRST_DAY * DAY_MS


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """A service on days of a second, with creator 7's few fans, and a creator whose fans stopped."""
    settings = ServiceSettings(
        tmp_path_factory.mktemp("fans"), virtual_start_at_ms=START_AT_MS, day_ms=DAY_MS, rest_listen="127.0.0.1:0"
    )
    running = RunningService(settings)
    rows = lives(40, 75, np.random.default_rng(9))
    with connected(running.address) as client:
        client.push_events(events((10**6, 5, 7, FOLLOW, START_AT_MS), (10**6 + 1, 6, 7, LIKE, START_AT_MS)))
        for day in range(75):
            client.push_events(rows[rows["occurred_at_ms"] // DAY_MS == FIRST_DAY + day])
            client.pull_tiers("", 1)
        client.push_outcomes(bought(6))
        now_ms = START_AT_MS + 75 * DAY_MS
        given = [(10**6 + 2 + i, 5, 7, kind, now_ms + i) for i, kind in enumerate([ORDER, ORDER, GIFT])]
        client.push_events(events(*given))
    yield running
    running.stop()


def get(service: RunningService, path: str) -> tuple[int, Any]:
    return got(f"{service.rest_address}{path}")


def got(address: str) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(address, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        return refused.code, json.load(refused)


def test_why_a_fan_is_iron(service: RunningService) -> None:
    status, told = get(service, "/api/creators/7/fans/5")
    assert (status, told["tier"], told["stage"]) == (200, "iron", "retained")
    assert told["tier_reason"].startswith("Iron: follows, with 40.1 points and 3.0 gifts and orders")
    assert told["stage_reason"] == "Retained: last engaged 75.0 days after the follow; retained takes 30 days."
    assert get(service, "/api/creators/7/fans/6")[1]["tier"] is None


def test_transitions_by_day_and_the_stages_that_they_add_up_to(service: RunningService) -> None:
    status, told = get(service, "/api/creators/7/transitions?days=400")
    assert status == 200
    steps = [(one["day_start_at_ms"], one["from"], one["to"], one["fans"]) for one in told["transitions"]]
    day = [START_AT_MS + number * DAY_MS for number in range(76)]
    assert steps == [
        (day[0], None, "gained", 1),
        (day[14], "gained", "silent", 1),
        (day[60], "silent", "lost", 1),
        (day[75], "lost", "retained", 1),
    ]
    assert told["stages"] == {"gained": 0, "activated": 0, "retained": 1, "silent": 0, "lost": 0}
    assert len(get(service, "/api/creators/7/transitions?days=5")[1]["transitions"]) == 1


def test_an_alarm_with_its_rate_and_the_campaign_that_answers_it(service: RunningService) -> None:
    status, told = get(service, f"/api/creators/{CREATOR}/churn")
    assert status == 200
    assert "at most one false alarm in 365 days" in told["false_alarms"]
    (alarm,) = told["alarms"]
    assert "fans turned silent in" in alarm["sentence"]
    status, suggested = get(service, f"/api/creators/{CREATOR}/winback?zone=Asia/Tokyo")
    assert (status, suggested["alarm"]) == (200, alarm)
    assert suggested["campaign"]["zone"] == "Asia/Tokyo"
    assert suggested["campaign"]["targeting"]["any"][0] == {"segment": f"stage:silent:{CREATOR}"}
    assert get(service, "/api/creators/7/churn")[1]["alarms"] == []


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/api/creators/7/winback", 404, "creator 7 has no churn alarm of the last 30 days"),
        ("/api/creators/7/winback?zone=Mars", 422, "zone 'Mars'"),
        ("/api/creators/7/fans/99", 404, "nothing is known of viewer 99"),
        ("/api/creators/0/churn", 422, "creator_id '0'"),
        (f"/api/creators/{2**64}/churn", 422, f"creator_id {2**64}"),
        ("/api/creators/7/transitions?days=0", 422, "days '0'"),
        ("/nowhere", 404, "Not Found"),
    ],
)
def test_refusals_name_what_is_wrong(service: RunningService, path: str, status: int, message: str) -> None:
    found, told = get(service, path)
    assert found == status
    assert message in told["error"]["message"]


def test_a_file_that_cannot_be_read_is_unavailable_and_says_nothing_internal(tmp_path: Path) -> None:
    FanStore(tmp_path / "fans.sqlite", FanRules.with_day()).close()
    insights = Insights(tmp_path / "fans.sqlite", FanRules.with_day())
    insights.close()
    backend = Backend(insights, lambda: 1, lambda _: pytest.fail("no file"), lambda _: pytest.fail("no file"))
    server = RestServer(backend, "127.0.0.1:0", None)
    try:
        for path in ("/healthz", "/api/creators/7/churn"):
            status, told = got(f"{server.address}{path}")
            assert status == 503
            assert told == {"error": {"code": "unavailable", "message": "the store cannot answer now; try again later"}}
    finally:
        server.stop()


def test_health_and_an_address_that_cannot_be_had(service: RunningService, tmp_path: Path) -> None:
    assert get(service, "/healthz") == (200, {"status": "serving"})
    assert service.rest_address is not None
    taken = service.rest_address.removeprefix("http://")
    for listen in (taken, "nonsense"):
        with pytest.raises(ValueError, match=f"--rest-listen {listen}"):
            RunningService(ServiceSettings(tmp_path, rest_listen=listen))
