"""The dashboard in a real browser: what it shows is what the report says, and it does what it offers."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
from playwright.sync_api import expect

from auction.campaigns.access import Role
from auction.campaigns.model import BidMode, CampaignStatus
from auction.rest.app import STATIC
from pacing.clocks import MS_PER_HOUR, VirtualClock
from pacing.days import local_day
from pacing.facts import Goal, OutcomeKind, Verdict
from protos.rpc.health_service import NO_GRANTS_METADATA, NO_GRANTS_UNTIL_METADATA
from targeting.expressions import Any, FansOfSimilarCreators, FriendsOfFans
from tests.auction.campaigns.figures import NOON_MS, JudgedRows, a_campaign, charge_some, small_engine, two_days
from tests.auction.rest.browsing import WAIT_MS, pages_of
from tests.auction.rest.serving import running_shim
from tests.browser import open_browser

pytestmark = pytest.mark.browser
NOW_MS = NOON_MS + 6 * MS_PER_HOUR + 1_800_000
TILES = ("spend", "spend-total", "cost", "fans", "impressions", "click-rate", "plays", "per-thousand")
CHARTS = ("spend", "cost", "fans", "impressions", "click-rate", "plays", "per-thousand")


def put(engine, campaign):
    with engine.store.change():
        stored = replace(campaign, campaign_id=engine.store.insert(campaign))
    engine.desk.campaign_changed(stored)
    return stored


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    with small_engine(tmp_path_factory.mktemp("dashboard"), VirtualClock(NOW_MS)) as engine:
        for i, (name, goal) in enumerate([("春季舞蹈 dance", Goal.FANS), ("<b>Noodles</b>", Goal.PLAYS)]):
            automatic = {"bid_mode": BidMode.AUTOMATIC, "target_cost_micros": 0} if goal is Goal.PLAYS else {}
            stored = put(engine, a_campaign(name=name, goal=goal, start_at_ms=NOON_MS - 48 * MS_PER_HOUR, **automatic))
            for hour in range(48):
                at_ms = NOW_MS - (47 - hour) * MS_PER_HOUR
                day = local_day(at_ms, stored.zone)
                planned = stored.daily_budget_micros * (at_ms - day.start_at_ms) // day.length_ms
                engine.book.note_plan(np.array([stored.campaign_id], np.uint64), np.array([planned]), at_ms)
            two_days(engine.book, stored.campaign_id, NOW_MS, seed=i)
        yield engine


@pytest.fixture(scope="module")
def address(engine):
    with running_shim(engine.address) as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    with open_browser() as browser:
        yield browser


@pytest.fixture
def open_page(browser, address):
    with pages_of(browser, address) as opened:
        yield opened


@pytest.fixture
def creator_token(engine):
    return engine.token(Role.CREATOR, 7)


def report_of(address, token, campaign_id):
    url = f"{address}/api/campaigns/{campaign_id}/report"
    return httpx.get(url, params={"hours": 744}, headers={"Authorization": f"Bearer {token}"}).json()


def desk(page):
    expect(page.locator("[data-testid=campaign][data-ledger-sequence]")).to_be_visible(timeout=WAIT_MS)
    return page


def attribute_of(page, testid, name):
    return page.get_by_test_id(testid).get_attribute(f"data-{name}")


def test_the_token_is_asked_for_kept_for_the_tab_and_forgotten(open_page, creator_token):
    page = open_page()
    expect(page.get_by_test_id("welcome")).to_be_visible()
    page.get_by_test_id("token-input").fill("fanbid.1.wrong")
    page.get_by_test_id("token-submit").click()
    expect(page.get_by_test_id("notice")).to_contain_text("not valid")
    page.get_by_test_id("token-input").fill(creator_token)
    page.get_by_test_id("token-submit").click()
    desk(page).reload()
    desk(page).get_by_test_id("sign-out").click()
    expect(page.get_by_test_id("welcome")).to_be_visible()
    page.reload()
    expect(page.get_by_test_id("welcome")).to_be_visible()


def test_a_token_in_the_address_leaves_it(open_page, creator_token):
    page = desk(open_page(f"/#token={creator_token}"))
    assert creator_token not in page.url
    assert "#" not in page.url


@pytest.mark.parametrize("campaign_id", [1, 2])
def test_every_figure_is_the_reports_at_the_same_ledger_row(open_page, address, creator_token, campaign_id):
    page = desk(open_page(f"/#token={creator_token}"))
    page.locator(f"[data-testid=campaign-entry][data-campaign-id='{campaign_id}']").click()
    page.wait_for_selector(f"[data-testid=campaign][data-campaign-id='{campaign_id}'][data-ledger-sequence]")
    report = report_of(address, creator_token, campaign_id)
    today, total = report["today"], report["total"]
    assert total["impressions"] > 300
    for tile in TILES:
        assert attribute_of(page, f"tile-{tile}", "ledger-sequence") == report["ledger_sequence"]
    assert attribute_of(page, "tile-spend", "micros") == str(today["spend_micros"])
    assert attribute_of(page, "tile-spend", "planned-micros") == str(today["planned_spend_micros"])
    assert attribute_of(page, "tile-spend", "budget-micros") == str(report["daily_budget_micros"])
    assert attribute_of(page, "tile-spend-total", "micros") == str(total["spend_micros"])
    for tile, field in (("fans", "fans"), ("impressions", "impressions"), ("plays", "plays"), ("click-rate", "clicks")):
        assert attribute_of(page, f"tile-{tile}", "today") == str(today[field])
        assert attribute_of(page, f"tile-{tile}", "total") == str(total[field])
    cost = (2 * today["spend_micros"] + today["goal_events"]) // (2 * today["goal_events"])
    assert attribute_of(page, "tile-cost", "micros") == str(cost)
    thousand = (2000 * today["spend_micros"] + today["impressions"]) // (2 * today["impressions"])
    assert attribute_of(page, "tile-per-thousand", "micros") == str(thousand)
    shown = page.get_by_test_id("spend-value").inner_text()
    assert shown == f"¥{today['spend_micros'] / 1e6:,.2f}"
    for chart in CHARTS:
        assert page.get_by_test_id(f"chart-{chart}").locator("canvas").count() == 1


def test_the_statement_is_downloaded_as_the_api_gives_it(open_page, engine, address, creator_token):
    campaign_id = put(engine, a_campaign(name="Charged", start_at_ms=NOON_MS)).campaign_id
    charge_some(engine.desk.ledger, campaign_id, 30)
    page = desk(open_page(f"/#token={creator_token}"))
    page.locator(f"[data-testid=campaign-entry][data-campaign-id='{campaign_id}']").click()
    with page.expect_download(timeout=WAIT_MS) as download:
        page.get_by_test_id("statement").click()
    assert download.value.suggested_filename == f"campaign-{campaign_id}-charges.csv"
    url = f"{address}/api/campaigns/{campaign_id}/charges.csv"
    text = httpx.get(url, headers={"Authorization": f"Bearer {creator_token}"}).content
    assert Path(download.value.path()).read_bytes() == text
    assert text.count(b"\r\n") == 31


def test_markup_in_a_name_is_only_text(open_page, creator_token):
    page = desk(open_page(f"/#token={creator_token}"))
    entry = page.get_by_test_id("campaign-entry").nth(1)
    assert "<b>Noodles</b>" in entry.inner_text()
    assert entry.locator("b").count() == 0


def test_figures_follow_the_ledger_while_the_page_is_open(open_page, engine, address, creator_token):
    page = desk(open_page(f"/#token={creator_token}"))
    expect(page.get_by_test_id("link-state")).to_have_attribute("data-state", "live")
    rows = JudgedRows(engine.book.ledger_sequence)
    rows.add(1, OutcomeKind.BILLABLE, Verdict.CHARGED, NOW_MS - 1, 1_230_000, 0.1)
    engine.book.follow(*rows.take())
    expect(page.locator(f"[data-testid=tile-spend][data-ledger-sequence='{rows.sequence}']")).to_be_visible()
    report = report_of(address, creator_token, 1)
    assert attribute_of(page, "tile-spend", "micros") == str(report["today"]["spend_micros"])
    entry = page.locator(f"[data-testid=campaign-entry][data-today-micros='{report['today']['spend_micros']}']")
    expect(entry).to_have_count(1)


def test_both_languages_are_complete_and_remembered(open_page, creator_token):
    page = desk(open_page(f"/#token={creator_token}", locale="zh-CN"))
    assert page.locator("html").get_attribute("lang") == "zh-CN"
    assert "今日花费" in page.get_by_test_id("tile-spend").inner_text()
    page.get_by_test_id("language-toggle").click()
    desk(page)
    assert "Spent today" in page.get_by_test_id("tile-spend").inner_text()
    english_only = page.locator("main").inner_text().replace("春季舞蹈", "")
    assert not re.search(r"[\u4e00-\u9fff]", english_only)
    page.reload()
    assert "Spent today" in desk(page).get_by_test_id("tile-spend").inner_text()


def test_where_several_ledgers_stood_is_told_in_both_languages(open_page, engine, creator_token, monkeypatch):
    monkeypatch.setattr(engine.book, "_owner_id", 3)  # as a server with --redis has it
    engine.book._positions[5] = 77
    try:
        page = desk(open_page(f"/#token={creator_token}"))
        truth, rows = page.get_by_test_id("truth"), f"3#{engine.book.ledger_sequence}, 5#77"
        expect(truth).to_contain_text(f"at these rows of the servers' ledgers (server#row): {rows}, ")
        page.get_by_test_id("language-toggle").click()
        expect(truth).to_contain_text(f"截至各服务器账本的以下行（服务器#行）：{rows}，")
    finally:
        del engine.book._positions._read_to[5]


@pytest.mark.parametrize(("name", "least"), [("words.js", 120), ("words_audiences.js", 80)])
def test_every_sentence_exists_in_both_languages_with_the_same_gaps(name, least):
    english, chinese = (STATIC / "js" / name).read_text("utf-8").split("\n  zh: {")
    sentences = [dict(re.findall(r'(?<=[ {])(\w+): "([^"]*)"', half)) for half in (english, chinese)]
    assert len(sentences[0]) > least
    assert set(sentences[0]) == set(sentences[1])
    for name, text in sentences[0].items():
        assert set(re.findall(r"{(\w+)}", text)) == set(re.findall(r"{(\w+)}", sentences[1][name])), name


def test_a_campaign_is_made_changed_paused_and_ended(open_page, engine, creator_token):
    page = desk(open_page(f"/#token={creator_token}"))
    page.get_by_test_id("new").click()
    page.get_by_test_id("field-name").fill("Made here")
    page.get_by_test_id("sheet-submit").click()
    expect(page.get_by_test_id("sheet-error")).to_contain_text("whole number")
    page.get_by_test_id("field-video").fill(str(2**64 - 1))
    page.get_by_test_id("field-target").fill("2.5")
    page.get_by_test_id("field-daily").fill("0.5")
    page.get_by_test_id("sheet-submit").click()
    expect(page.get_by_test_id("sheet-error")).to_contain_text("daily_budget_micros")
    page.get_by_test_id("field-daily").fill("120.05")
    page.locator("[name=gender][value='1']").check(force=True)
    page.locator("[name=interests][value='3']").check(force=True)
    for half_of_laotie in ("friends_of_fans", "fans_of_similar_creators"):
        page.locator(f"[name={half_of_laotie}]").check()
    page.get_by_test_id("sheet-submit").click()
    expect(page.get_by_test_id("campaign-name")).to_have_text("Made here")
    made = engine.store.all()[-1]
    assert (made.name, made.daily_budget_micros, made.target_cost_micros, made.creatives[0].creative_id) == (
        "Made here",
        120_050_000,
        2_500_000,
        2**64 - 1,
    )
    assert len(made.targeting.of) == 3
    assert made.targeting.of[2] == Any((FriendsOfFans(), FansOfSimilarCreators()))
    expect(page.locator("body")).to_contain_text("friends of your fans or fans of creators similar to you")
    engine.desk.promised_micros[made.campaign_id] = 110_000_000
    page.get_by_test_id("action-editBudget").click()
    page.get_by_test_id("field-daily").fill("100")
    page.get_by_test_id("sheet-submit").click()
    expect(page.get_by_test_id("notice")).to_contain_text("¥110.00")
    assert engine.store.get(made.campaign_id).daily_budget_micros == 100_000_000
    page.get_by_test_id("action-pause").click()
    expect(page.get_by_test_id("action-resume")).to_be_visible()
    assert engine.store.get(made.campaign_id).status is CampaignStatus.PAUSED
    page.get_by_test_id("action-resume").click()
    expect(page.get_by_test_id("action-pause")).to_be_visible()
    page.get_by_test_id("action-end").click()
    page.get_by_test_id("sheet-submit").click()
    expect(page.get_by_test_id("action-end")).to_have_count(0)
    assert engine.store.get(made.campaign_id).status is CampaignStatus.ENDED


def test_a_creator_without_campaigns_is_invited(open_page, engine):
    page = open_page(f"/#token={engine.token(Role.CREATOR, 1234)}")
    expect(page.get_by_test_id("no-campaigns")).to_be_visible()


def test_a_token_of_another_role_is_told_so(open_page, engine):
    page = open_page(f"/#token={engine.token(Role.FEED)}")
    expect(page.get_by_test_id("welcome")).to_be_visible()
    expect(page.get_by_test_id("notice")).to_contain_text("not a creator's or an operator's")
    expect(page.get_by_test_id("link-state")).to_be_hidden()


COLOURED = """([testid, name]) => {
  const canvas = document.querySelector(`[data-testid=${testid}] canvas`);
  const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  const hex = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const [r, g, b] = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  let found = 0;
  for (let i = 0; i < pixels.length; i += 4) {
    const distance = Math.abs(pixels[i] - r) + Math.abs(pixels[i + 1] - g) + Math.abs(pixels[i + 2] - b);
    found += pixels[i + 3] > 200 && distance < 12;
  }
  return found;
}"""  # how many pixels of a chart have a theme's colour


def test_an_hour_old_campaign_shows_its_single_points_and_what_it_has_none_of(open_page, engine):
    young = put(engine, a_campaign(name="Young", creator_id=70, start_at_ms=NOW_MS - 600_000))
    rows = JudgedRows(engine.book.ledger_sequence)
    for second in range(40):
        rows.add(young.campaign_id, OutcomeKind.BILLABLE, Verdict.CHARGED, NOW_MS - 1_000 * second - 1, 2_050, 0.1)
    for kind, number in ((OutcomeKind.FOLLOW, 20), (OutcomeKind.CLICK, 3)):
        for second in range(number):
            rows.add(young.campaign_id, kind, Verdict.ATTRIBUTED, NOW_MS - 1_000 * second - 1)
    engine.book.follow(*rows.take())
    page = desk(open_page(f"/#token={engine.token(Role.CREATOR, 70)}"))
    page.wait_for_function("document.querySelectorAll('canvas').length === 7")
    for chart, name in (("click-rate", "--teal"), ("per-thousand", "--violet"), ("cost", "--violet")):
        assert page.evaluate(COLOURED, [f"chart-{chart}", name]) > 10, chart
    assert page.evaluate(COLOURED, ["chart-plays", "--teal"]) == 0
    none = page.get_by_test_id("chart-plays").locator(".chart-none")
    expect(none).to_have_text("No plays yet.")
    assert none.evaluate("node => getComputedStyle(node).backgroundColor") == "rgb(255, 255, 255)"  # over the grid
    expect(page.get_by_test_id("chart-fans").locator(".chart-none")).to_be_hidden()
    expect(page.get_by_test_id("cost-value")).to_have_text("¥0.0041")
    expect(page.get_by_test_id("chart-cost").locator(".chart-read")).to_have_text("¥0.0041")
    page.get_by_test_id("language-toggle").click()
    expect(none).to_have_text("还没有播放。")


def test_ended_campaigns_show_what_they_spent_in_all(open_page, engine):
    running = put(engine, a_campaign(name="Runs", creator_id=71))
    ended = put(engine, a_campaign(name="Over", creator_id=71, status=CampaignStatus.ENDED))
    rows = JudgedRows(engine.book.ledger_sequence)
    rows.add(ended.campaign_id, OutcomeKind.BILLABLE, Verdict.CHARGED, NOW_MS - 30 * MS_PER_HOUR, 12_340_000, 0.1)
    engine.book.follow(*rows.take())
    page = desk(open_page(f"/#token={engine.token(Role.CREATOR, 71)}"))
    feet = page.locator(".entry-foot span:last-child")
    expect(feet).to_have_text(["¥0.00 of ¥300", "¥12.34 of ¥3,000"])
    assert page.get_by_test_id("campaign").get_attribute("data-campaign-id") == str(running.campaign_id)


def test_an_engine_that_is_away_is_said_so(open_page, address):
    with running_shim("127.0.0.1:9") as lonely:
        page = open_page()
        page.context.route(
            f"{address}/api/**", lambda route: route.fulfill(response=route.fetch(url=lonely + "/api/live"))
        )
        page.get_by_test_id("token-input").fill("fanbid.1.x")
        page.get_by_test_id("token-submit").click()
        expect(page.get_by_test_id("load-failed")).to_contain_text("could not be loaded")


@pytest.mark.parametrize(
    ("locale", "reason", "words"),
    [
        ("en-US", "failover", r"No new money .* until \d\d:\d\d:\d\d: the shared Redis was restarted or replaced"),
        ("zh-CN", "failover", r"\d\d:\d\d:\d\d 之前不发放新的出价额度"),
        ("en-US", "foreign", "has lost what it held, or is another one"),
        ("zh-CN", "owners", "每台服务器报清已花金额之前"),
        ("en-US", "away", "cannot be used now"),
    ],
)
def test_a_banner_says_why_no_new_money_is_granted(open_page, engine, creator_token, locale, reason, words):
    engine.notes[:] = [(NO_GRANTS_METADATA, reason), (NO_GRANTS_UNTIL_METADATA, str(NOW_MS))]
    try:
        page = open_page(f"/#token={creator_token}", locale=locale)
        expect(page.get_by_test_id("grants")).to_have_text(re.compile(words))
    finally:
        engine.notes.clear()
    if locale == "zh-CN" and reason == "failover":
        expect(page.get_by_test_id("grants")).to_be_hidden(timeout=WAIT_MS)


def test_nothing_runs_over_the_edge_and_every_button_has_a_name(open_page, creator_token):
    page = desk(open_page(f"/#token={creator_token}"))
    for width in (360, 800, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        page.wait_for_timeout(150)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert all(text.strip() for text in page.locator("button:not([aria-label])").all_inner_texts())


def test_the_api_page_describes_and_tries_calls(open_page, engine, creator_token):
    page = open_page("/docs")
    described = page.evaluate("fetch('/openapi.json').then(answer => answer.json())")["paths"]
    expect(page.get_by_test_id("call")).to_have_count(sum(len(methods) for methods in described.values()))
    assert "`" not in page.locator("main").evaluate("node => node.textContent")
    expect(page.locator("main > p code")).to_have_text("Authorization: Bearer TOKEN")
    call = page.get_by_test_id("call").filter(has_text="Campaigns by ascending id")
    call.locator("summary").click()
    call.locator("input[type=password]").fill(creator_token)
    call.locator("button[type=submit]").click()
    expect(call.get_by_test_id("answer")).to_contain_text("next_page_token")
    expect(call.get_by_test_id("answer")).to_contain_text("200")
