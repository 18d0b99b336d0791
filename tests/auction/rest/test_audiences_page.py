"""The page of lists, driven as an operator would: a list goes up, a lookalike is made of it, a campaign buys that."""

from __future__ import annotations

import re

import httpx
import pytest
from playwright.sync_api import expect

from auction.campaigns.access import Role
from benchmarks.lookalike.graphs import made_up_graph
from protos import audience_pb2
from tests.auction.bid.engines import Engine
from tests.auction.rest.browsing import pages_of
from tests.auction.rest.serving import served_engine
from tests.browser import open_browser

pytestmark = pytest.mark.browser
OWN = 7
CSV = {"Content-Type": "text/csv"}
SEEDS = "viewer_id,name\n" + "\n".join(f"{viewer},x" for viewer in range(1, 41))


@pytest.fixture(scope="module")
def engine():
    running = Engine()
    links = made_up_graph(2_500, 8, 1)
    follows = audience_pb2.PutFollowsRequest(follower_ids=links.followers + 1, followed_ids=links.followed + 1)
    running.call("Audience/PutFollows", follows, audience_pb2.PutFollowsResponse, Role.OPERATOR)
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
def operator(engine, address):
    headers = {"Authorization": f"Bearer {engine.token(Role.OPERATOR)}"}
    with httpx.Client(base_url=address, headers=headers, timeout=60) as client:
        yield client


def upload(page, name, text):
    page.get_by_test_id("field-list_name").fill(name)
    csv = {"name": f"{name}.csv", "mimeType": "text/csv", "buffer": text.encode()}
    page.get_by_test_id("field-file").set_input_files(csv)
    page.get_by_test_id("upload-now").click()


@pytest.mark.parametrize(
    ("locale", "title", "lines"),
    [
        (
            "en-US",
            "Nothing was taken: 24 lines are wrong.",
            ["Line 3: “three” is no viewer's number", "Line 4: 1 stands in line 2 already", "and 4 more"],
        ),
        (
            "zh-CN",
            "没有收下任何内容：有 24 行不对。",
            ["第 3 行: “three” 不是观众编号", "第 4 行: 1 在第 2 行已经出现过", "另有 4 行"],
        ),
    ],
    ids=["en", "zh"],
)
def test_wrong_lines_are_named_and_nothing_is_taken(open_page, engine, operator, locale, title, lines):
    page = open_page(f"/audiences#token={engine.token(Role.OPERATOR)}", locale=locale)
    page.get_by_test_id("upload-now").click()
    expect(page.get_by_test_id("field-list_name")).to_have_attribute("aria-invalid", "true")
    many = "".join(f"it's {n}\n" for n in range(22))
    upload(page, "wrong", f"viewer_id\n1\nthree\n1\n{many}")
    told = page.get_by_test_id("upload-told")
    expect(told).to_contain_text(title)
    expect(page.get_by_test_id("rejected")).to_have_count(20)
    expect(page.get_by_test_id("rejected").nth(2)).to_contain_text("“it's 0”")
    for line in lines:
        expect(told).to_contain_text(line)
    assert "wrong" not in [one["segment_id"] for one in operator.get("/api/audiences/segments").json()["segments"]]
    upload(page, "fans:7", "1\n")
    expect(told).to_contain_text("are reserved")


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
def test_a_list_then_its_lookalike_then_a_campaign(open_page, engine, operator, locale):
    seeds, like = f"seeds-{locale[:2]}", f"like-{locale[:2]}"
    page = open_page(f"/audiences#token={engine.token(Role.OPERATOR)}", locale=locale)
    upload(page, seeds, SEEDS)
    listed = page.locator(f"[data-testid=list][data-name={seeds}]")
    expect(listed).to_have_attribute("data-members", "40")
    page.get_by_test_id("field-seeds").select_option(seeds)
    page.get_by_test_id("field-size").fill("0")
    page.get_by_test_id("like-now").click()
    expect(page.get_by_test_id("field-size")).to_have_attribute("aria-invalid", "true")
    page.get_by_test_id("field-size").fill("60")
    page.get_by_test_id("field-like_name").fill(like)

    told, may_tell = page.get_by_test_id("like-told"), []
    making = {"segment_id": like, "state": "making", "done_percent": 42, "made": None, "error": ""}
    page.route(f"**/lookalikes/{like}", lambda route: route.continue_() if may_tell else route.fulfill(json=making))
    page.get_by_test_id("like-now").click()
    expect(page.get_by_test_id("like-progress")).to_have_js_property("value", 42)
    expect(told).to_contain_text("42%")
    expect(told).to_contain_text("Working … " if locale == "en-US" else "正在计算")
    expect(page.get_by_test_id("like-now")).to_be_disabled()
    page.get_by_test_id("language-toggle").click()  # what is written and what is under way outlive another language
    page.get_by_test_id("language-toggle").click()
    expect(page.get_by_test_id("field-like_name")).to_have_value(like)
    expect(told.locator(".working")).to_be_visible()
    page.reload()  # so does it a page that is opened again
    expect(page.get_by_test_id("like-progress")).to_have_js_property("value", 42)
    may_tell.append(True)
    expect(page.locator("[data-testid=like-told].good")).to_be_visible(timeout=60_000)
    made = operator.get(f"/api/audiences/lookalikes/{like}").json()["made"]

    assert (made["members"], made["seeds"], made["held_out"]) == (60, 40, 8)
    found, active = round(8 * made["recall"]), round(8 * made["activity_recall"])
    if locale == "en-US":
        expect(told).to_contain_text(f"“{like}” holds the 60 viewers most like the 40 of “{seeds}”.")
        expect(told).to_contain_text(f"Found again: {found} of 8")
        expect(told).to_contain_text(f"most active viewers: {active} of 8")
    else:
        expect(told).to_contain_text(f"“{like}”是与“{seeds}”的 40 人最相似的 60 位观众。")
        expect(told).to_contain_text(f"找回 {found} 人")
        expect(told).to_contain_text(f"能找回 {active} 人")
    rows = {one["segment_id"]: one for one in operator.get("/api/audiences/segments").json()["segments"]}
    assert rows[like] == {"segment_id": like, "members": 60, "is_lookalike": True}
    assert rows[seeds]["is_lookalike"] is False

    told.get_by_test_id(f"use-{like}").click()
    expect(page.get_by_test_id("field-lists")).to_have_value(like)
    expect(page.get_by_test_id("reach")).to_contain_text("100")
    page.get_by_test_id("field-creator").fill(str(OWN))
    page.get_by_test_id("field-name").fill(f"Like them {locale}")
    page.get_by_test_id("field-video").fill("7001")
    page.get_by_test_id("sheet-submit").click()
    expect(page.get_by_test_id("campaign-name")).to_have_text(f"Like them {locale}")
    made = operator.get("/api/campaigns?page_size=200").json()["campaigns"][-1]
    assert (made["targeting"], made["creator_id"]) == ({"segment": like}, str(OWN))
    engine.go_round()
    segments = engine.services.segments
    members = engine.services.viewers.ids[segments.rows(like)].tolist()
    assert list(engine.bid([members[0], members[-1], 1]).nbr) == [0, 0, 501]
    operator.post(f"/api/campaigns/{made['campaign_id']}/end")


def test_the_quality_is_told_as_what_it_is(open_page, engine):
    page = open_page(f"/audiences#token={engine.token(Role.OPERATOR)}")
    upload(page, "quality", SEEDS)
    told = page.get_by_test_id("like-told")
    said = {}
    page.route("**/api/audiences/lookalikes", lambda route: route.fulfill(json={}))
    made = {"segment_id": "like-quality", "state": "made", "done_percent": 100, "error": ""}
    page.route("**/lookalikes/like-quality", lambda route: route.fulfill(json=made | {"made": said}))
    answer = {"members": 60, "seeds": 40, "held_out": 8, "recall": 0.5, "activity_recall": 0.2, "learned": True}
    for changed, words in (
        ({}, "2.5 times as many as by activity alone."),
        ({"activity_recall": 0}, "Activity alone finds none of them."),
        ({"recall": 0.2}, "No better than activity alone"),
        ({"learned": False}, "too few follows to learn from"),
        ({"members": 50}, "Fewer than the 60 wanted"),
        ({"held_out": 0}, "too short to measure"),
    ):
        said |= answer | changed
        page.get_by_test_id("field-seeds").select_option("quality")
        page.get_by_test_id("field-size").fill("60")
        page.get_by_test_id("field-like_name").fill("like-quality")
        page.get_by_test_id("like-now").click()
        expect(told).to_contain_text(words)


def test_a_creator_uploads_a_list_makes_its_lookalike_and_is_offered_both(open_page, engine, operator):
    segment = f"own:{OWN}:fans"
    assert operator.put("/api/audiences/lists/operators", content=b"1\n2\n").status_code == 200
    page = open_page(f"/audiences#token={engine.token(Role.CREATOR, OWN)}", locale="zh-CN")
    upload(page, "fans", SEEDS)
    expect(page.get_by_test_id("upload-told")).to_contain_text("1000")  # so many viewers are too few
    upload(page, "fans", "\n".join(map(str, range(1, 1_101))))
    expect(page.locator(f"[data-testid=list][data-name='{segment}']")).to_have_attribute("data-members", "1095")
    expect(page.get_by_test_id("upload-told")).to_contain_text("有 5 个编号不是已知观众")
    page.get_by_test_id("language-toggle").click()
    expect(page.get_by_test_id("upload-told")).to_contain_text("5 numbers belong to nobody who is known here")
    page.get_by_test_id("field-seeds").select_option(segment)
    page.get_by_test_id("field-size").fill("1000")
    page.get_by_test_id("field-like_name").fill("like")
    page.get_by_test_id("like-now").click()
    expect(page.locator(f"[data-testid=list][data-name='own:{OWN}:like']")).to_have_attribute("data-members", "1000")
    expect(page.get_by_test_id("list")).to_have_count(2)  # nobody else's
    page.locator("[data-testid=list]").get_by_test_id(f"use-{segment}").click()
    expect(page.get_by_test_id("field-lists")).to_have_value(segment)
    expect(page.locator("datalist#lists option")).to_have_count(2)
    expect(page.get_by_test_id("reach")).to_contain_text("Viewers reached")


def test_a_creators_list_is_deleted_once_that_is_confirmed(open_page, engine):
    segment = f"own:{OWN}:gone"
    page = open_page(f"/audiences#token={engine.token(Role.CREATOR, OWN)}")
    upload(page, "gone", "\n".join(map(str, range(1, 1_101))))
    listed = page.locator(f"[data-testid=list][data-name='{segment}']")
    listed.get_by_test_id(f"delete-{segment}").click()
    expect(page.get_by_test_id("confirm-delete")).to_contain_text(segment)
    page.get_by_test_id("confirm-delete").get_by_role("button", name="Cancel").click()
    expect(listed).to_be_visible()
    listed.get_by_test_id(f"delete-{segment}").click()
    page.get_by_test_id("sheet-submit").click()
    expect(page.get_by_test_id("notice")).to_contain_text(f"“{segment}” is deleted.")
    expect(listed).to_have_count(0)
    assert len(engine.services.segments.members(segment)) == 0


def test_how_good_a_lookalike_is_is_told_again_later_and_operators_lists_stay(open_page, engine, operator):
    ids = "\n".join(map(str, range(1, 41)))
    assert operator.put("/api/audiences/lists/base", content=ids, headers={"Content-Type": "text/csv"}).is_success
    wanted = {"segment_id": "told-later", "seed_segment_id": "base", "size": 60}
    made = operator.post("/api/audiences/lookalikes", json=wanted).json()
    page = open_page(f"/audiences#token={engine.token(Role.OPERATOR)}")
    expect(page.locator("[data-testid=list][data-name=base]").get_by_test_id("delete-base")).to_have_count(0)
    page.get_by_test_id("quality-told-later").click()
    found = round(8 * made["recall"])
    expect(page.get_by_test_id("like-told")).to_contain_text(f"Found again: {found} of 8")


def test_a_later_one_that_failed_is_told_beside_the_figures_of_the_one_that_is_in_force(open_page, engine, operator):
    operator.put("/api/audiences/lists/base", content="\n".join(map(str, range(1, 41))), headers=CSV)
    wanted = {"segment_id": "in-force", "seed_segment_id": "base", "size": 60}
    made = operator.post("/api/audiences/lookalikes", json=wanted).json()
    failed = {"segment_id": "in-force", "state": "failed", "done_percent": 0, "error": "no space", "made": made}
    page = open_page(f"/audiences#token={engine.token(Role.OPERATOR)}")
    page.route("**/lookalikes/in-force", lambda route: route.fulfill(json=failed))
    page.get_by_test_id("quality-in-force").click()
    told = page.get_by_test_id("like-told")
    expect(told).to_contain_text("none was made: no space")
    expect(told).to_contain_text(f"Found again: {round(8 * made['recall'])} of 8")


def test_a_creators_list_that_is_too_small_is_not_offered(open_page, engine, operator):
    segment = "own:70:few"
    assert operator.put(f"/api/audiences/lists/{segment}", content="1\n2\n", headers=CSV).is_success
    page = open_page(f"/audiences#token={engine.token(Role.CREATOR, 70)}")
    expect(page.get_by_test_id(f"small-{segment}")).to_have_text("Fewer than 1,000 viewers: too few to be used.")
    expect(page.get_by_test_id(f"use-{segment}")).to_have_count(0)
    expect(page.locator(f"[data-testid=field-seeds] option[value='{segment}']")).to_have_count(0)
    expect(page.get_by_test_id(f"delete-{segment}")).to_be_visible()
    page = open_page(f"/?list=x#token={engine.token(Role.CREATOR, 70)}")
    with page.expect_response("**/api/audiences/segments*"):
        page.reload()
    expect(page.get_by_test_id("field-lists")).to_have_value("x")
    expect(page.locator("datalist#lists option")).to_have_count(0)


def test_a_wrong_token_is_asked_again(open_page, engine):
    page = open_page(f"/audiences#token={engine.token(Role.CREATOR, OWN)}")
    page.get_by_test_id("sign-out").click()
    page.get_by_test_id("token-input").fill("fanbid.1.wrong")
    page.get_by_test_id("token-submit").click()
    expect(page.get_by_test_id("notice")).to_contain_text("not valid")


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
def test_the_page_fits_narrow_and_wide(open_page, engine, locale):
    page = open_page(f"/audiences#token={engine.token(Role.OPERATOR)}", locale=locale)
    upload(page, "w" * 64, "1\n2\n")
    expect(page.locator("[data-testid=upload-told].good")).to_be_visible()
    shown = page.locator("main").inner_text()
    assert bool(re.search(r"[\u4e00-\u9fff]", shown)) == (locale == "zh-CN")
    assert not re.search(r"\b(aud|cmp)[A-Z]\w+", shown), "a raw name"
    for width in (360, 800, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        page.wait_for_timeout(100)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
