"""A creator's health report through the engine: REST, file and page, from a real fan service."""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect

from auction.campaigns.access import Role
from auction.campaigns.health_service import no_health
from fanbridge.bridge import Bridge
from fanbridge.delivery import Delivery
from fanbridge.health_service import HealthClient
from pacing.clocks import VirtualClock
from targeting.segments.store import SegmentStore
from targeting.viewers import ViewerTable
from tests.auction.campaigns.figures import small_engine
from tests.auction.rest.browsing import WAIT_MS, pages_of
from tests.auction.rest.serving import running_shim
from tests.browser import open_browser
from tests.fanbridge.fan_history import CREATOR, END_AT_MS, FIRM, LEAKY, tell_history
from tests.fanbridge.services import RowLog, connected, running_service

LAST_DAY = (datetime.fromtimestamp(END_AT_MS / 1_000, UTC) - timedelta(days=1)).date()


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("health")
    with (
        running_service(folder / "fans") as service,
        connected(service.address) as client,
        small_engine(folder, VirtualClock(END_AT_MS + 3_600_000)) as engine,
    ):
        tell_history(client)
        log, delivery = RowLog(), Delivery(None)
        bridge = Bridge(
            client,
            delivery,
            viewers=ViewerTable(),
            segments=SegmentStore(),
            append=log.append,
            read_judged=log.read_judged,
        )
        bridge.tick(END_AT_MS)
        engine.desk.health_source = HealthClient(client, bridge).report
        yield engine
        bridge.close()
        delivery.close()


@pytest.fixture(scope="module")
def address(engine):
    with running_shim(engine.address) as address:
        yield address


@pytest.fixture(scope="module")
def token(engine):
    return engine.token(Role.CREATOR, CREATOR)


def get(address, token, path=f"/api/creators/{CREATOR}/health", **query):
    return httpx.get(address + path, params=query, headers={"Authorization": f"Bearer {token}"})


def test_a_creator_reads_the_own_report(address, token):
    report = get(address, token).json()
    assert report["creator_id"] == str(CREATOR)
    assert (report["days"], report["end_at_ms"]) == (7, END_AT_MS)
    period = report["period"]
    assert period["net"] == period["gained"] - period["lost"] == period["fans_at_end"] - period["fans_at_begin"]
    assert [one["campaign_id"] for one in period["sources"]][-1] is None
    assert {one["campaign_id"] for one in period["sources"]} == {str(LEAKY), str(FIRM), None}
    assert [one["tier"] for one in period["tiers"]] == ["potential", "active", "high_value", "iron"]
    assert "like" in {one["kind"] for one in period["kinds"]}
    assert period["active_share"] == period["active_fan_days"] / period["fan_days"]
    assert "not a cause" in report["associations"][0]["sentence"]
    assert report["peers"]["creators"] >= report["smallest_cohort"]
    assert {name for one in report["peers"]["figures"] for name in one} == {"name", "value", "percentile"}, (
        "no peer is named"
    )
    assert [one["days"] for one in report["kept"]] == [1, 7, 30]
    assert all(0 < one["kept"] <= one["judged"] for one in report["kept"])
    assert get(address, token, "/api/creators/self/health").json() == report


def test_a_month_and_an_earlier_week_are_other_periods(address, token):
    month = get(address, token, period="month").json()
    assert month["days"] == len(month["by_day"]) == 30
    week = get(address, token).json()
    earlier = get(address, token, end=str(LAST_DAY - timedelta(days=7))).json()
    assert earlier["period"] == week["before"]
    assert get(address, token, end=str(LAST_DAY)).json() == week


def test_another_creators_report_is_refused(engine, address, token):
    foreign = get(address, token, f"/api/creators/{CREATOR + 1}/health")
    assert foreign.status_code == 403
    assert foreign.json()["error"]["code"] == "permission_denied"
    assert "own report only" in foreign.json()["error"]["message"]
    assert get(address, token, f"/api/creators/{CREATOR + 1}/health.csv").status_code == 403
    assert get(address, engine.token(Role.FEED)).status_code == 403
    assert get(address, "fanbid.1.wrong").status_code == 401
    operator = engine.token(Role.OPERATOR)
    assert get(address, operator).json()["creator_id"] == str(CREATOR)
    unnamed = get(address, operator, "/api/creators/self/health")
    assert (unnamed.status_code, unnamed.json()["error"]["field"]) == (422, "creator_id")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"period": "year"}, "period"),
        ({"end": "yesterday"}, "end"),
        ({"end": "2025-02-30"}, "end"),
        ({"end": "1969-12-31"}, "end"),
        ({"end": str(LAST_DAY + timedelta(days=1))}, "end"),
        ({"end": "2099-01-01"}, "end"),
        ({"days": 7}, "days"),
    ],
)
def test_a_wrong_period_is_refused_by_its_field(address, token, query, field):
    answer = get(address, token, **query)
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert (error["code"], error["field"]) == ("invalid_argument", field)
    assert error["message"].startswith(f"{field}: ")


def test_without_a_fan_service_there_is_no_report(tmp_path):
    with small_engine(tmp_path) as engine, running_shim(engine.address) as address:
        answer = get(address, engine.token(Role.CREATOR, CREATOR))
        assert answer.status_code == 404
        assert answer.json()["error"]["message"].startswith("no fan service is set up")


def test_the_file_holds_the_reports_figures(address, token):
    answer = get(address, token, f"/api/creators/{CREATOR}/health.csv", period="month")
    assert answer.headers["content-type"].startswith("text/csv")
    assert f"creator-{CREATOR}-month.csv" in answer.headers["content-disposition"]
    lines = list(csv.DictReader(io.StringIO(answer.text)))
    report = get(address, token, period="month").json()
    found = {(line["section"], line["name"], line["figure"]): line for line in lines}
    assert len(found) == len(lines)
    lost = {one["campaign_id"]: one["lost"] for one in report["period"]["sources"]}
    growth = found["growth", "", "gained"]
    assert (growth["value"], growth["before"]) == (str(report["period"]["gained"]), str(report["before"]["gained"]))
    assert found["growth", str(LEAKY), "lost"]["value"] == str(lost[str(LEAKY)])
    assert found["kept", "30 days", "kept"]["value"] == str(report["kept"][2]["kept"])
    assert float(found["association", str(LEAKY), "ratio"]["value"]) == report["associations"][0]["ratio"]


@pytest.fixture(scope="module")
def browser():
    with open_browser() as browser:
        yield browser


@pytest.fixture
def open_page(browser, address):
    with pages_of(browser, address) as opened:
        yield opened


@pytest.mark.browser
def test_the_page_shows_the_reports_figures_in_both_languages(open_page, address, token):
    page = open_page(f"/health#token={token}")
    shown = page.get_by_test_id("report")
    expect(shown).to_be_visible()
    assert token not in page.url
    report = get(address, token).json()
    period = report["period"]
    for tile, value in (("fans", "fans_at_end"), ("gained", "gained"), ("lost", "lost")):
        expect(page.get_by_test_id(f"tile-{tile}")).to_have_attribute("data-value", str(period[value]))
    for chart in ("chart-growth", "chart-fans"):
        expect(page.get_by_test_id(chart).locator("canvas")).to_have_count(1)
    expect(page.get_by_test_id("sources").locator("tbody tr")).to_have_count(3)
    expect(page.get_by_test_id("kept").locator("tbody tr")).to_have_count(3)
    expect(page.get_by_test_id("scales").locator(".scale")).to_have_count(3)
    expect(page.get_by_test_id("association")).to_have_count(len(report["associations"]))
    expect(page.get_by_test_id("churn")).to_contain_text("An association, not a cause")
    assert not re.search(r"[\u4e00-\u9fff]", page.locator("main").inner_text())
    assert not re.search(r"\b(h[A-Z]\w+|assoc[A-Z]\w+|\w+_\w+)\b", page.locator("main").inner_text()), "no raw names"
    page.get_by_test_id("language-toggle").click()
    expect(page.get_by_test_id("churn")).to_contain_text("这是关联，不是因果")
    page.get_by_test_id("period-month").click()
    expect(page.locator("[data-testid=report][data-days='30']")).to_be_visible()
    for width in (360, 800, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        page.wait_for_timeout(150)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.browser
def test_the_page_refuses_as_the_engine_does_and_saves_the_file(open_page, address, token):
    page = open_page(f"/health#token={token}")
    with page.expect_download(timeout=WAIT_MS) as download:
        page.get_by_test_id("health-csv").click()
    text = get(address, token, f"/api/creators/{CREATOR}/health.csv").content
    assert Path(download.value.path()).read_bytes() == text
    page.get_by_test_id("field-creator").fill(str(CREATOR + 1))
    page.get_by_test_id("show").click()
    expect(page.get_by_test_id("notice")).to_contain_text("own report only")
    expect(page.get_by_test_id("report")).to_have_count(0)
    page.get_by_test_id("field-creator").fill("")
    page.get_by_test_id("field-end").fill("2099-01-01")
    page.get_by_test_id("show").click()
    expect(page.get_by_test_id("notice")).to_contain_text("must be a day that is over")
    page.get_by_test_id("sign-out").click()
    expect(page.get_by_test_id("welcome")).to_be_visible()


@pytest.mark.browser
@pytest.mark.parametrize(("locale", "nothing"), [("en-US", "Nothing in this period."), ("zh-CN", "这段时间没有数据。")])
def test_a_creator_without_fans_sees_that_there_is_nothing(open_page, engine, locale, nothing):
    page = open_page(f"/health#token={engine.token(Role.CREATOR, 424_242)}", locale=locale)
    for part in ("chart-growth", "chart-fans", "engagement"):
        expect(page.get_by_test_id(part)).to_contain_text(nothing)
        expect(page.get_by_test_id(part).locator("canvas, table")).to_have_count(0)
    assert bool(re.search(r"[\u4e00-\u9fff]", page.locator("main").inner_text())) == (locale == "zh-CN")


@pytest.mark.browser
@pytest.mark.parametrize(
    ("role", "english", "chinese"),
    [
        (Role.CREATOR, "no fan service is set up", "没有配置粉丝服务"),
        (Role.FEED, "own report only", "只能查看自己的报告"),
    ],
)
def test_why_there_is_no_report_is_said_in_both_languages(open_page, engine, monkeypatch, role, english, chinese):
    monkeypatch.setattr(engine.desk, "health_source", no_health)
    page = open_page(f"/health#token={engine.token(role, CREATOR if role is Role.CREATOR else 0)}")
    expect(page.get_by_test_id("notice")).to_contain_text(english)
    page.get_by_test_id("language-toggle").click()
    expect(page.get_by_test_id("notice")).to_contain_text(chinese)


@pytest.mark.browser
def test_an_operator_is_asked_whose_fans_are_meant_and_offered_creators_with_campaigns(open_page, engine, address):
    new = {
        "name": "Fans", "goal": "fans", "bid_mode": "automatic", "daily_budget_micros": 10**7,
        "total_budget_micros": 10**8, "zone": "UTC", "creatives": [{"creative_id": "1"}],
    }  # fmt: skip
    headers = {"Authorization": f"Bearer {engine.token(Role.CREATOR, CREATOR)}"}
    assert httpx.post(f"{address}/api/campaigns", json=new, headers=headers).status_code == 201
    page = open_page(f"/health#token={engine.token(Role.OPERATOR)}")
    asked = page.get_by_test_id("pick-creator")
    expect(asked).to_contain_text("Whose fans do you want to see?")
    expect(page.get_by_test_id("notice")).to_be_hidden()  # nothing went wrong
    page.get_by_test_id("language-toggle").click()
    expect(asked).to_contain_text("想看谁的粉丝？")
    page.get_by_test_id(f"pick-{CREATOR}").click()
    expect(page.get_by_test_id("report")).to_have_attribute("data-creator-id", str(CREATOR))
