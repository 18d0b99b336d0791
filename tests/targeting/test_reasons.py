from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from targeting.attributes import Dimension
from targeting.content import tag_segment
from targeting.deciding import Alternatives, Reason, bounded_reasons_of, reasons_of
from targeting.expressions import (
    EVERYBODY,
    All,
    Any,
    Attribute,
    Content,
    Expression,
    FansOf,
    FansOfSimilarCreators,
    FriendsOfFans,
    Interests,
    LiveVisitorsOf,
    Not,
    Segment,
    ViewerFacts,
    ViewersOf,
    matches,
    own_segments,
)
from targeting.graph.similar.lists import SimilarCreator
from targeting.reasons import Connections, Labels, Language, why_matched
from targeting.similar_phrases import english_similar
from tests.targeting.audiences import CREATORS, expressions, viewers

REGION = Dimension.REGION
_LIKED = (tag_segment("keyword:dance", 8), tag_segment("bgm:夜曲", 5))
VIEWER = ViewerFacts(
    (12, 3, 0, 1, 1, 1, 1, 1),
    frozenset({3, 7}),
    frozenset(
        {
            "vip",
            "laotie:1",
            "similar:1",
            "fans:9",
            "viewers:8",
            "tier:iron:8",
            tag_segment("keyword:dance", 8),
            tag_segment("bgm:夜曲", 5),
        }
    ),
)
LABELS = Labels({(REGION, 12): "Jilin"}, {3: "dance"}, {"vip": "Big spenders"})


def english(expression: Expression, **more: object) -> str | None:
    return why_matched(expression, VIEWER, 1, True, Language.ENGLISH, **more)  # type: ignore[arg-type]


def chinese(expression: Expression, **more: object) -> str | None:
    return why_matched(expression, VIEWER, 1, True, Language.CHINESE, **more)  # type: ignore[arg-type]


def test_a_whole_sentence() -> None:
    audience = All((Attribute(REGION, (11, 12)), Interests((3, 5)), FriendsOfFans()))
    assert why_matched(audience, VIEWER, 1, False, Language.ENGLISH, LABELS) == (
        "region Jilin (12); interested in dance (3); follows someone who follows the creator, or is followed by one; "
        "does not follow the creator yet"
    )
    assert why_matched(audience, VIEWER, 1, False, Language.CHINESE, LABELS) == (
        "地区Jilin（12）；对dance（3）感兴趣；关注了主播的粉丝，或被主播的粉丝关注；尚未关注主播"
    )


@pytest.mark.parametrize(
    ("expression", "in_english", "in_chinese"),
    [
        (EVERYBODY, "everybody is wanted", "面向所有人"),
        (Attribute(Dimension.GENDER, (0, 1)), "gender unknown", "性别未知"),
        (Attribute(Dimension.AGE_BAND, (3,)), "age band 3", "年龄段3"),
        (Not(Attribute(REGION, (1, 2))), "region 12, which is not excluded", "地区12，不在排除之列"),
        (Interests((7, 3, 1)), "interested in 3 and 7", "对3、7感兴趣"),
        (Not(Interests((5, 4, 1))), "not interested in 1, 4 or 5", "对1、4、5都不感兴趣"),
        (Not(Interests((5,))), "not interested in 5", "对5不感兴趣"),
        (Segment("vip"), "in segment vip", "属于人群包vip"),
        (Segment("tier:iron:8"), "is an iron fan of creator 8", "是主播8的铁粉"),
        (Not(Segment("stage:silent:8")), "is not a fan of creator 8 who fell silent", "不是主播8的沉默粉丝"),
        (Not(Segment("tier:other:8")), "not in segment tier:other:8", "不属于人群包tier:other:8"),
        (Not(Segment("old")), "not in segment old", "不属于人群包old"),
        (FansOf((8, 9)), "follows creator 9", "关注了主播9"),
        (Not(FansOf((7, 8))), "does not follow creator 7 or 8", "未关注主播7、8"),
        (
            ViewersOf((8, 9)),
            "played a video of creator 8 in the last 30 days",
            "近30天看过主播8的视频",
        ),
        (
            Not(LiveVisitorsOf((7,))),
            "was not in the live room of creator 7 in the last 30 days",
            "近30天没进过主播7的直播间",
        ),
        (
            Content(("keyword:dance", "bgm:夜曲", "visual:sea"), 5),
            "likes keyword dance (80 %) and BGM 夜曲 (50 %), at least 50 % is wanted",
            "喜欢关键词“dance”（80%）、背景音乐“夜曲”（50%），要求至少50%",
        ),
        (
            Not(Content(("visual:sea",), 3)),
            "no affinity of 30 % or more to visual tag sea",
            "对画面标签“sea”的喜好度不到30%",
        ),
        (Not(Not(Segment("vip"))), "in segment vip", "属于人群包vip"),
    ],
)
def test_each_condition(expression: Expression, in_english: str, in_chinese: str) -> None:
    assert english(expression) == in_english
    assert chinese(expression) == in_chinese


def test_friends_are_named_where_they_are_known() -> None:
    two, further = Connections(friends=[5, 6]), Connections(friends=[5], has_other_friends=True)
    assert english(FriendsOfFans(), connections=two) == "friend of 5 and 6, who follow the creator"
    assert chinese(FriendsOfFans(), connections=two) == "是主播粉丝5、6的好友"
    assert english(FriendsOfFans(), connections=further) == "friend of 5, who follows the creator, and of other fans"
    assert chinese(FriendsOfFans(), connections=further) == "是主播粉丝5及其他粉丝的好友"
    nobody = Connections(has_other_friends=True)
    assert english(FriendsOfFans(), connections=nobody) == english(FriendsOfFans())
    assert why_matched(Not(FriendsOfFans()), VIEWER, 2, True, Language.ENGLISH) == "no friend of a fan of the creator"


def test_long_lists_are_cut() -> None:
    assert english(Not(FansOf(tuple(range(20, 28))))) == "does not follow creator 20, 21, 22, 23, 24 or 3 more"
    assert "20、21、22、23、24等8个" in str(chinese(Not(FansOf(tuple(range(20, 28))))))


def test_the_shortest_alternative_is_told_and_nothing_twice() -> None:
    vip, region = Segment("vip"), Attribute(REGION, (12,))
    assert english(Any((All((vip, region)), Segment("no"), region))) == "region 12"
    assert english(All((vip, region, vip))) == "in segment vip; region 12"


def test_no_reason_for_who_is_not_held() -> None:
    assert english(Segment("no")) is None
    assert english(Any(())) is None
    assert why_matched(EVERYBODY, VIEWER, 9, False, Language.ENGLISH) is None
    assert why_matched(EVERYBODY, VIEWER, 9, True, Language.ENGLISH) == "everybody is wanted"


def as_expression(reason: Reason) -> Expression:
    return reason.condition if reason.holds else Not(reason.condition)


@settings(max_examples=100)
@given(expressions(), viewers(), viewers(), st.sampled_from(CREATORS))
def test_reasons_are_true_and_enough(
    expression: Expression, viewer: ViewerFacts, another: ViewerFacts, creator_id: int
) -> None:
    reasons = reasons_of(expression, viewer, creator_id)
    assert (reasons is not None) is matches(expression, viewer, creator_id)
    if reasons is None:
        return
    told = All(tuple(as_expression(reason) for reason in reasons))
    assert matches(told, viewer, creator_id)
    if matches(told, another, creator_id):
        assert matches(expression, another, creator_id)


@settings(max_examples=60)
@given(expressions(), viewers(), st.sampled_from(CREATORS), st.booleans(), st.sampled_from(Language))
def test_a_sentence_for_all_who_match(
    expression: Expression, viewer: ViewerFacts, creator_id: int, include_fans: bool, language: Language
) -> None:
    sentence = why_matched(expression, viewer, creator_id, include_fans, language)
    wanted = include_fans or not own_segments(creator_id) & viewer.segments
    assert (sentence is not None) is (wanted and matches(expression, viewer, creator_id))
    assert sentence is None or sentence.strip()


def test_through_which_similar_creators_and_how_far_their_fans_are_shared() -> None:
    node = FansOfSimilarCreators()
    assert english(node) == "follows a creator whose fans overlap with the creator's beyond chance"
    assert chinese(node) == "关注了与主播相似的主播（粉丝重合超出随机水平）"
    one = Connections(similar=[SimilarCreator(5, 12_345, 100_000, 67.8)])
    assert english(node, connections=one) == (
        "follows 5 (10 to 20 in a hundred of their fans follow the creator too, over 50 times what chance gives), "
        "a similar creator"
    )
    assert chinese(node, connections=one) == (
        "关注了与主播相似的主播5（每100位粉丝中有10至20人也关注主播，是随机情况的50倍以上）"
    )
    two = Connections(similar=[*one.similar, SimilarCreator(6, 7, 20, 2.5)], has_other_similar=True)
    assert str(english(node, connections=two)).endswith(
        " and 6 (fewer than 100 of their fans follow the creator too, over 2 times what chance gives), "
        "similar creators, and others"
    )
    assert str(chinese(node, connections=two)).endswith(
        "、6（其粉丝中有不到100人也关注主播，是随机情况的2倍以上）及其他相似主播"
    )
    none, none_zh = (why_matched(Not(node), VIEWER, 2, True, language) for language in Language)
    assert none == "follows no creator whose fans overlap with the creator's beyond chance"
    assert none_zh == "没有关注与主播相似的主播"


@pytest.mark.parametrize(
    ("common", "fans", "told"),
    [
        (0, 1_000, "fewer than 10 in a hundred"), (99, 1_000, "fewer than 10 in a hundred"),
        (100, 1_000, "10 to 20 in a hundred"), (999, 1_000, "90 to 100 in a hundred"),
        (1_000, 1_000, "90 to 100 in a hundred"), (999, 999, "900 to 1,000 of"), (99, 999, "fewer than 100 of"),
    ],
)  # fmt: skip
def test_shares_of_fans_are_told_by_tens_and_never_of_less_than_a_hundred(common: int, fans: int, told: str) -> None:
    assert told in english_similar(SimilarCreator(5, common, fans, 3.0))


def test_of_laotie_both_halves_are_told_where_both_hold() -> None:
    laotie = Any((Segment("vip"), FriendsOfFans(), FansOfSimilarCreators()))
    friends, similar = Reason(FriendsOfFans(), True), Reason(FansOfSimilarCreators(), True)
    assert reasons_of(Any(laotie.of[1:]), VIEWER, 1) == (friends, similar)
    assert reasons_of(laotie, VIEWER, 1) == (Reason(Segment("vip"), True),)
    assert reasons_of(Any((FansOfSimilarCreators(), Segment("none"))), VIEWER, 1) == (similar,)
    assert reasons_of(Not(All((Not(FriendsOfFans()), Not(FansOfSimilarCreators())))), VIEWER, 1) == (friends, similar)
    connections = Connections(friends=[5], similar=[SimilarCreator(6, 7, 20, 2.5)])
    told = str(english(Any(laotie.of[1:]), connections=connections))
    assert told.startswith("friend of 5, who follows the creator; follows 6 (") and told.endswith(", a similar creator")


def leaves(node: Expression) -> int:
    match node:
        case All(of=of) | Any(of=of):
            return sum(map(leaves, of))
        case Not(of=part):
            return leaves(part)
        case _:
            return 1


@settings(max_examples=100)
@given(expressions(), st.lists(viewers(), min_size=1, max_size=12), st.sampled_from(CREATORS))
def test_bounded_reasons_are_true_and_differ_in_one_choice(
    expression: Expression, several: list[ViewerFacts], creator_id: int
) -> None:
    told = set()
    for viewer in several:
        reasons = bounded_reasons_of(expression, viewer, creator_id)
        assert (reasons is not None) is matches(expression, viewer, creator_id)
        if reasons is not None:
            told.add(reasons)
            asked = All(tuple(as_expression(one) for one in reasons if not isinstance(one.condition, Alternatives)))
            assert matches(asked, viewer, creator_id)
    assert len(told) <= max(leaves(expression), 1) + 2


def test_many_choices_in_one_audience_tell_of_one() -> None:
    choices = [Any((Segment(name), Not(Segment(name)))) for name in ("vip", "old", "new", "big")]
    several = [ViewerFacts(VIEWER.codes, VIEWER.interests, frozenset(names)) for names in (["vip", "old"], ["new"], [])]
    audience = All(tuple(choices))
    told = [bounded_reasons_of(audience, viewer, 1) for viewer in several]
    others = (Reason(Alternatives(2), True),)
    assert told[1] == told[2] == (Reason(Segment("vip"), False, False), *others)
    assert told[0] == (Reason(Segment("vip"), True, False), *others)
    laotie = All((choices[0], Any((FriendsOfFans(), FansOfSimilarCreators()))))
    halves = (Reason(FriendsOfFans(), True, False), Reason(FansOfSimilarCreators(), True, False))
    assert bounded_reasons_of(laotie, VIEWER, 1) == (*others, *halves), "laotie is what is told"


@pytest.mark.parametrize(
    ("expression", "in_english", "in_chinese"),
    [
        (Attribute(Dimension.AGE_BAND, (3, 0)), "age band unknown or 3", "年龄段未知、3之一"),
        (Attribute(Dimension.AGE_BAND, (3,)), "age band 3", "年龄段3"),
        (Not(Attribute(REGION, (1, 2))), "region not 1 or 2", "地区不是1、2"),
        (Interests((3, 5)), "interested in 3 or 5", "对3、5中至少一个感兴趣"),
        (FansOf((8, 9)), "follows creator 8 or 9", "关注了主播8、9中至少一个"),
        (
            Content(("keyword:dance", "visual:sea"), 5),
            "likes keyword dance or visual tag sea, at least 50 % is wanted",
            "喜欢关键词“dance”、画面标签“sea”中至少一个，要求至少50%",
        ),
        (
            All((Interests((3,)), Any((Segment("no"), Segment("vip"))), Any((Segment("vip"), Segment("no"))))),
            "interested in 3; in segment vip; meets one of 2 alternatives",
            "对3感兴趣；属于人群包vip；符合2个条件之一",
        ),
    ],
)
def test_bounded_reasons_say_what_is_asked(expression: Expression, in_english: str, in_chinese: str) -> None:
    assert english(expression, is_all_told=False) == in_english
    assert chinese(expression, is_all_told=False) == in_chinese


def test_only_creators_are_told_of_by_their_ids() -> None:
    labels = Labels(is_creator=lambda creator_id: creator_id in range(20, 30))
    assert english(FansOf((9,)), labels=labels) == "follows an account that you named"
    assert chinese(FansOf((9,)), labels=labels) == "关注了你指定的1个账号"
    some = Not(ViewersOf((9, 20, 10, 21)))
    assert english(some, labels=labels) == (
        "played no video of creator 20, 21 or 2 accounts that you named in the last 30 days"
    )
    assert chinese(some, labels=labels) == "近30天没看过主播20、21、你指定的2个账号的视频"
    many = Not(FansOf((2, 3, *range(20, 26))))
    assert english(many, labels=labels) == "does not follow creator 20, 21, 22, 23, 24 or 3 more"
