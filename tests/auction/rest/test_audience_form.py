"""The audience of a new campaign, filled in as a creator would: what is told before the start, and what is made."""

from __future__ import annotations

import re

import httpx
import numpy as np
import pytest
from playwright.sync_api import expect

from auction.campaigns.access import Role
from pacing.facts import OutcomeKind
from protos import audience_pb2, bidding_pb2, campaigns_pb2
from tests.auction.bid.engines import Engine, tokens_of
from tests.auction.rest.browsing import pages_of
from tests.auction.rest.serving import served_engine
from tests.browser import open_browser

pytestmark = pytest.mark.browser
OWN, STAR, RIVAL, WORN = 7, 900, 901, 904
WANTED = 540  # the one viewer who is in every part of the audience below
MEN = 2


def put(engine, call, request):
    answer = getattr(audience_pb2, type(request).__name__.replace("Request", "Response"))
    engine.call(f"Audience/{call}", request, answer, Role.OPERATOR)


def put_segment(engine, name, viewer_ids):
    rows = engine.services.viewers.ensure(np.array(viewer_ids, np.uint64))
    engine.services.segments.put(name, rows, audience_pb2.SEGMENT_CHANGE_REPLACE)


@pytest.fixture(scope="module")
def engine():
    running = Engine()
    people = range(1, 1_201)
    viewers = bidding_pb2.Viewers(ids=people, genders=[1 + viewer % 2 for viewer in range(0, 1_200)])
    viewers.genders[WANTED - 1] = MEN
    put(running, "PutViewers", audience_pb2.PutViewersRequest(viewers=viewers))
    visits = [*((viewer, STAR) for viewer in range(1, 601)), *((viewer, RIVAL) for viewer in range(401, 1_201))]
    visits += [(viewer, WORN) for viewer in range(2_001, 2_121)]
    for kind, seen in ((OutcomeKind.LIVE_VISIT, visits), (OutcomeKind.PLAY, [(viewer, 902) for viewer in people])):
        viewer_ids, creator_ids = zip(*seen, strict=True)
        running.report([kind] * len(seen), viewer_ids=viewer_ids, creator_ids=creator_ids)
    follows = [*((viewer, 903) for viewer in range(400, 800)), (801, OWN), (WANTED, 801)]
    followers, followed = zip(*follows, strict=True)
    put(running, "PutFollows", audience_pb2.PutFollowsRequest(follower_ids=followers, followed_ids=followed))
    likes = audience_pb2.PutAffinitiesRequest(
        tags=["keyword:dance"], viewer_ids=range(500, 600), tag_idx=[0] * 100, weights=[0.9] * 100
    )
    put(running, "PutAffinities", likes)
    put_segment(running, f"tier:iron:{OWN}", range(520, 580))
    put_segment(running, f"stage:silent:{OWN}", range(530, 570))
    put_segment(running, f"tier:active:{STAR}", range(1, 9))
    put_segment(running, "vip", [WANTED, WANTED + 1, 990])
    put_segment(running, "not-again", [WANTED + 1])
    everybody = running.create(name="Everybody", creator_id=OWN)
    answer = running.bid(range(2_001, 2_121))
    tokens = tokens_of(answer)
    assert len(tokens) == 120
    for kind in (OutcomeKind.WIN, OutcomeKind.BILLABLE):
        running.report([kind] * 120, tokens, prices_micros=[10_000] * 120)
    ending = campaigns_pb2.ChangeStatusRequest(campaign_id=everybody.campaign_id)
    running.call("Campaigns/EndCampaign", ending, campaigns_pb2.Campaign, Role.OPERATOR)
    running.go_round()
    yield running
    running.close()


@pytest.fixture(scope="module")
def address(engine):
    with served_engine(engine) as address:
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
def creator(engine, address):
    headers = {"Authorization": f"Bearer {engine.token(Role.CREATOR, OWN)}"}
    with httpx.Client(base_url=address, headers=headers, timeout=20) as client:
        yield client


@pytest.fixture
def open_form(open_page, engine):
    def opened(locale="en-US", role=Role.CREATOR, query=""):
        token = engine.token(role, OWN if role is Role.CREATOR else 0)
        page = open_page(f"/{query}#token={token}", locale=locale)
        if not query:
            page.get_by_test_id("new").click()
        return page

    return opened


def tick(page, name, value):
    page.locator(f"[name={name}][value='{value}']").check(force=True)


EVERY_PART = {
    "all": [
        {"attribute": {"dimension": "gender", "codes": [MEN]}},
        {"fans_of": ["903"]},
        {"viewers_of": ["902"]},
        {"live_visitors_of": [str(STAR), str(RIVAL)]},
        {"content": {"keywords": ["dance", "舞蹈"], "bgm": ["夜曲"], "visual_tags": ["sea"], "min_weight_percent": 80}},
        {"segment": f"tier:iron:{OWN}"},
        {"any": [{"segment": f"stage:retained:{OWN}"}, {"segment": f"stage:silent:{OWN}"}]},
        {"segment": "vip"},
        {"none": {"segment": "not-again"}},
        {"friends_of_fans": True},
    ]
}


@pytest.mark.parametrize(
    ("locale", "reached", "shared", "about"),
    [
        (
            "en-US",
            "Viewers reached: fewer than 100, perhaps nobody",
            "900 and 901 share 200–300 viewers: about 38% of 900, 29% of 901.",
            "Iron fans of creator 7",
        ),
        (
            "zh-CN",
            "可触达观众不到 100 位，也可能没有",
            "900 和 901 有 200–300 位共同观众：约占 900 的 38%，901 的 29%。",
            "主播 7 的粉丝（铁粉）",
        ),
    ],
    ids=["en", "zh"],
)
def test_every_part_of_an_audience_is_asked_for_told_and_bid_on(
    open_form, engine, creator, locale, reached, shared, about
):
    page = open_form(locale)
    page.get_by_test_id("field-name").fill(f"Every part {locale}")
    page.get_by_test_id("field-video").fill("7001")
    tick(page, "gender", MEN)
    texts = {"fans_of": "903", "viewers_of": "902", "live_visitors_of": f"{STAR}，{RIVAL}", "keywords": "dance, 舞蹈"}
    texts |= {"bgm": "夜曲", "visual_tags": "sea", "lists": "vip", "not_lists": "not-again"}
    for name, text in texts.items():
        page.get_by_test_id(f"field-{name}").fill(text)
    page.get_by_test_id("field-how_much").select_option("80")
    tick(page, "tier", "iron")
    tick(page, "stage", "retained")
    tick(page, "stage", "silent")
    expect(page.get_by_test_id("field-fans")).to_be_checked()
    page.get_by_test_id("field-friends_of_fans").check()

    asked = creator.post("/api/audiences/reach", json={"targeting": EVERY_PART, "include_fans": True}).json()
    assert asked == {"low": 0, "high": 100}, "so few are not told apart"
    expect(page.get_by_test_id("reach")).to_have_text(reached)
    expect(page.get_by_test_id("shared")).to_have_text(shared)
    few = re.compile("^(fewer than|不到) 100$")
    compared = page.get_by_test_id("compared-live_visitors_of").locator("tbody tr")
    expect(compared).to_have_count(3)
    expect(compared.first.locator("th, td")).to_have_text([str(STAR), "600–700", "400–500", few, few])
    expect(page.get_by_test_id("compared-fans_of").locator("tbody td").first).to_have_text("400–500")

    page.get_by_test_id("sheet-submit").click()
    expect(page.get_by_test_id("campaign-name")).to_have_text(f"Every part {locale}")
    expect(page.locator(".facts dd").first).to_contain_text(about)
    made = creator.get("/api/campaigns?page_size=200").json()["campaigns"][-1]
    assert (made["name"], made["targeting"], made["include_fans"]) == (f"Every part {locale}", EVERY_PART, True)
    engine.go_round()
    assert list(engine.bid([WANTED, WANTED - 1, WANTED + 1]).nbr) == [0, 501, 501]
    creator.post(f"/api/campaigns/{made['campaign_id']}/end")


def test_an_audience_that_saw_the_ads_already_is_called_worn(open_form):
    page = open_form()
    page.get_by_test_id("field-live_visitors_of").fill(str(WORN))
    told = page.get_by_test_id("compared-live_visitors_of")
    expect(told.get_by_test_id("saturation")).to_contain_text("few are new to you")
    expect(told.get_by_test_id("shared")).to_have_count(0)
    page.get_by_test_id("field-live_visitors_of").fill(f"{STAR}, {WORN}")
    expect(told.get_by_test_id("shared")).to_have_text("No two of them share 100 viewers.")
    expect(told.get_by_test_id("saturation")).not_to_contain_text("few are new to you")
    page.get_by_test_id("field-live_visitors_of").fill("12345")
    expect(told).to_contain_text("Fewer than 100 viewers are known of these creators yet.")
    expect(page.get_by_test_id("reach")).to_have_text("Viewers reached: fewer than 100, perhaps nobody")
    page.get_by_test_id("field-live_visitors_of").fill("")
    expect(page.get_by_test_id("compared")).to_be_hidden()
    expect(page.get_by_test_id("reach")).to_contain_text("Viewers reached: ")


WRONG = [
    ("fans_of", "somebody", "named by their numbers", "请填写主播编号"),
    ("viewers_of", ", ".join(map(str, range(1, 18))), "16 at most", "最多 16 个"),
    ("keywords", ", ".join(f"k{n}" for n in range(17)), "At most 16 tags", "标签合计最多 16 个"),
    ("bgm", "x" * 65, "64 characters each", "不超过 64 个字符"),
    ("lists", "Vip!", "Names of lists hold only", "人群包名称只能包含"),
    ("not_lists", "a b c?", "Names of lists hold only", "人群包名称只能包含"),
]


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
def test_what_cannot_be_meant_is_said_at_its_field(open_form, creator, locale):
    before = len(creator.get("/api/campaigns?page_size=200").json()["campaigns"])
    page = open_form(locale)
    page.get_by_test_id("field-name").fill("Wrong")
    page.get_by_test_id("field-video").fill("7001")
    for name, text, english, chinese in WRONG:
        words, wrong = english if locale == "en-US" else chinese, page.get_by_test_id(f"field-{name}")
        wrong.fill(text)
        expect(page.get_by_test_id("reach")).to_contain_text(words)
        page.get_by_test_id("sheet-submit").click()
        expect(page.get_by_test_id("sheet-error")).to_contain_text(words)
        expect(wrong).to_have_attribute("aria-invalid", "true")
        wrong.fill("")
    assert len(creator.get("/api/campaigns?page_size=200").json()["campaigns"]) == before


def test_present_fans_follow_the_tiers_that_are_chosen(open_form):
    page = open_form()
    fans = page.get_by_test_id("field-fans")
    tick(page, "tier", "potential")  # viewers who do not follow yet
    expect(fans).not_to_be_checked()
    tick(page, "tier", "iron")
    expect(fans).to_be_checked()
    page.locator("[name=tier][value=iron]").uncheck(force=True)
    expect(fans).not_to_be_checked()
    expect(page.get_by_test_id("field-tiers_of")).to_be_hidden()  # a creator asks for the own fans' only


def test_an_operator_asks_for_tiers_of_any_creators_fans(open_form):
    page = open_form(role=Role.OPERATOR)
    fans = page.get_by_test_id("field-fans")
    page.get_by_test_id("field-tiers_of").fill(str(STAR))  # another creator's fans are not the own ones
    tick(page, "tier", "potential")
    page.locator("[name=tier][value=potential]").uncheck(force=True)
    tick(page, "tier", "active")
    expect(fans).not_to_be_checked()
    expect(page.get_by_test_id("reach")).to_have_text("Viewers reached: fewer than 100, perhaps nobody")


def test_an_operator_says_whose_campaign_it_is_and_begins_with_a_list(open_form, engine, creator):
    page = open_form(role=Role.OPERATOR, query="?list=vip")
    expect(page.get_by_test_id("field-lists")).to_have_value("vip")
    assert "list" not in page.url
    expect(page.locator("#lists option")).to_have_count(2)
    expect(page.get_by_test_id("reach")).to_have_text("Viewers reached: fewer than 100, perhaps nobody")
    tick(page, "stage", "silent")
    expect(page.get_by_test_id("reach")).to_contain_text("Please say whose fans you mean.")
    page.get_by_test_id("field-creator").fill(str(OWN))
    expect(page.get_by_test_id("reach")).to_have_text("Viewers reached: fewer than 100, perhaps nobody")
    page.get_by_test_id("field-name").fill("For a list")
    page.get_by_test_id("field-video").fill("7002")
    page.get_by_test_id("sheet-submit").click()
    expect(page.get_by_test_id("campaign-name")).to_have_text("For a list")
    made = creator.get("/api/campaigns?page_size=200").json()["campaigns"][-1]
    assert (made["name"], made["creator_id"]) == ("For a list", str(OWN))
    assert made["targeting"] == {"all": [{"segment": f"stage:silent:{OWN}"}, {"segment": "vip"}]}
    creator.post(f"/api/campaigns/{made['campaign_id']}/end")


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
def test_the_form_fits_narrow_and_wide(open_form, locale):
    page = open_form(locale)
    page.get_by_test_id("field-live_visitors_of").fill(f"{STAR}, {RIVAL}")
    expect(page.get_by_test_id("shared")).to_be_visible()
    shown = page.locator("dialog").inner_text()
    assert bool(re.search(r"[\u4e00-\u9fff]", shown)) == (locale == "zh-CN")
    assert not re.search(r"\b(f[A-Z]\w+|cmp\w*|(tier|stage|like)_\w+)\b", shown), "a raw name"
    for width in (360, 800, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        page.wait_for_timeout(100)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("(node => node.scrollWidth - node.clientWidth)(document.querySelector('dialog'))") == 0
