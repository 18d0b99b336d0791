"""Who may name which segment of an audience."""

from __future__ import annotations

import pytest

from targeting.expressions import All, Any, FansOf, Interests, Not, Segment
from targeting.naming import check_named, creator_of

OF_CREATOR_7 = ("tier:iron:7", "stage:lost:7", "members:7", "own:7:vip")
OF_CREATOR_8 = (*(name.replace("7", "8") for name in OF_CREATOR_7), "own:77:vip", "tier:iron:77")
OF_NOBODY = (
    "members:no-ads",
    "members:7:x",
    f"members:{7 + 2**64}",
    "tier:iron:07",
    "tier:7",
    "tier:",
    "stage:a:7:8",
    "own:7",
)


@pytest.mark.parametrize("name", [*OF_CREATOR_7, "vip", "my:list", "tiers:iron:8"])
def test_a_creator_names_what_is_the_creators_own_or_everybodys(name: str) -> None:
    check_named(Segment(name), 7)


@pytest.mark.parametrize("name", [*OF_CREATOR_8, *OF_NOBODY])
def test_what_is_of_others_is_refused_wherever_it_stands(name: str) -> None:
    may = r"creator 7, who may name tier:TIER:7, .* own:7:NAME; .*fans_of"
    for audience, path in (
        (Segment(name), "targeting.segment"),
        (All((Interests((1,)), Not(Any((FansOf((8,)), Segment(name)))))), "targeting.all[1].none.any[1].segment"),
    ):
        with pytest.raises(ValueError, match=may) as refused:
            check_named(audience, 7)
        assert str(refused.value).startswith(f"{path}: segment_id {name!r}: ")
        check_named(audience, 0)


@pytest.mark.parametrize(
    ("name", "spelled"),
    [
        ("fans:19", '{"fans_of": ["19"]}'),
        ("fans:x", '{"fans_of": ["CREATOR_ID"]}'),
        ("viewers:19", '{"viewers_of": ["19"]}'),
        ("live:19", '{"live_visitors_of": ["19"]}'),
        ("laotie:18", '{"friends_of_fans": true}'),
        ("similar:18", '{"fans_of_similar_creators": true}'),
        ("tag:abc:3", '{"content": {"keywords": [..], "bgm": [..], "visual_tags": [..]}}'),
        ("interest:3", '{"interests": [3]}'),
    ],
)
def test_what_the_engine_fills_for_other_nodes_is_no_segment_for_anybody(name: str, spelled: str) -> None:
    for asking in (0, 18, 19):
        with pytest.raises(ValueError) as refused:
            check_named(Not(Segment(name)), asking)
        assert str(refused.value) == f"targeting.none.segment: segment_id {name!r}: is written {spelled}"


@pytest.mark.parametrize(("name", "words"), [("tier:nosuch:7", "high-value, iron"), ("stage:iron:7", "silent, lost")])
def test_a_creator_names_tiers_and_stages_that_there_can_be(name: str, words: str) -> None:
    with pytest.raises(ValueError, match=f"targeting.segment: segment_id '{name}': no such .* one of .*{words}"):
        check_named(Segment(name), 7)
    check_named(Segment(name), 0)


def test_whose_a_segment_is() -> None:
    assert [creator_of(name) for name in OF_CREATOR_7] == [7, 7, 7, 7]
    assert creator_of(f"members:{2**64 - 1}") == 2**64 - 1
    assert creator_of(f"members:{2**64}") == creator_of("members:no-ads") == 0
    assert creator_of("vip") is creator_of("fans:7") is creator_of("iron:7") is None
