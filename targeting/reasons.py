"""Why an audience holds a viewer, as a plain sentence in English or Chinese."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from enum import StrEnum

from targeting.attributes import Dimension
from targeting.content import LEVELS, tag_segment
from targeting.deciding import Alternatives, Reason, bounded_reasons_of, reasons_of
from targeting.expressions import (
    NO_ADS_SEGMENT,
    Attribute,
    Content,
    Expression,
    FansOf,
    FansOfSimilarCreators,
    FriendsOfFans,
    Interests,
    LiveVisitorsOf,
    OfCreators,
    Segment,
    ViewerFacts,
    ViewersOf,
    own_segments,
    segments_of,
)
from targeting.graph.similar.lists import SimilarCreator
from targeting.segment_phrases import chinese_phrase, english_phrase
from targeting.similar_phrases import chinese_similar, english_similar

MAX_LISTED = 5
"""Codes, names or viewers that one reason lists; of more it says that there are more."""


class Language(StrEnum):
    """A language that reasons are told in."""

    ENGLISH = "en"
    CHINESE = "zh"


@dataclass(frozen=True, slots=True)
class Labels:
    """What codes are called where the sentence is read; a code without a label is told by its number.

    Attributes:
        codes: by dimension and code.
        interests: by interest code.
        segments: by segment name.
        lookalikes: names of the segments that were made to be like a list.
        is_creator: whether an account that the audience names may be told of by its id.
    """

    codes: Mapping[tuple[Dimension, int], str] = field(default_factory=dict)
    interests: Mapping[int, str] = field(default_factory=dict)
    segments: Mapping[str, str] = field(default_factory=dict)
    lookalikes: Set[str] = frozenset()
    is_creator: Callable[[int], bool] = lambda _: True


NO_LABELS = Labels()


@dataclass(frozen=True, slots=True)
class Connections:
    """Through whom a viewer is laotie, as far as it is known.

    Who is named here is named in the sentence. So these are creators who are known as such, never anybody else.

    Attributes:
        friends: ids of fans of the campaign's creator who are friends of the viewer.
        has_other_friends: whether further fans are.
        similar: similar creators whom the viewer follows.
        has_other_similar: whether the viewer follows further ones.
    """

    friends: Sequence[int] = ()
    has_other_friends: bool = False
    similar: Sequence[SimilarCreator] = ()
    has_other_similar: bool = False


NO_CONNECTIONS = Connections()


def why_matched(
    expression: Expression,
    facts: ViewerFacts,
    creator_id: int,
    include_fans: bool,
    language: Language,
    labels: Labels = NO_LABELS,
    connections: Connections = NO_CONNECTIONS,
    is_all_told: bool = True,
) -> str | None:
    """One sentence that says why a campaign's audience holds a viewer; None if it does not.

    Args:
        expression: the audience.
        facts: what the viewer is.
        creator_id: whose campaign it is.
        include_fans: whether the creator's fans are wanted.
        language: of the sentence.
        labels: what codes are called.
        connections: through whom the viewer is laotie.
        is_all_told: whether all is told that holds (`reasons_of`), or as much as `bounded_reasons_of` answers.
    """
    left_out = frozenset() if include_fans else own_segments(creator_id)
    if (left_out | {NO_ADS_SEGMENT}) & facts.segments:
        return None
    reasons = (reasons_of if is_all_told else bounded_reasons_of)(expression, facts, creator_id)
    if reasons is None:
        return None
    speaker = _SPEAKERS[language](facts, labels, connections)
    told = [speaker.say(reason) for reason in reasons] or [speaker.everybody]
    if not include_fans:
        told.append(speaker.no_fan_yet)
    return speaker.separator.join(told)


class _English:
    separator = "; "
    everybody = "everybody is wanted"
    no_fan_yet = "does not follow the creator yet"
    _OF_CREATORS: Mapping[type[OfCreators], tuple[str, str]] = {
        FansOf: ("follows {}", "does not follow {}"),
        ViewersOf: ("played a video of {} in the last 30 days", "played no video of {} in the last 30 days"),
        LiveVisitorsOf: (
            "was in the live room of {} in the last 30 days",
            "was not in the live room of {} in the last 30 days",
        ),
    }

    def __init__(self, facts: ViewerFacts, labels: Labels, connections: Connections) -> None:
        self._facts = facts
        self._labels = labels
        self._connections = connections

    def say(self, reason: Reason) -> str:
        """The reason as part of a sentence."""
        match reason.condition:
            case Alternatives(count=count):
                return f"meets one of {count} alternatives"
            case Attribute(dimension=dimension, codes=codes) if not reason.is_all_told:
                name = dimension.name.lower().replace("_", " ")
                return f"{name} {'' if reason.holds else 'not '}{self._listed(self._codes(dimension, codes), False)}"
            case Attribute(dimension=dimension):
                name = dimension.name.lower().replace("_", " ")
                code = self._facts.codes[dimension]
                own = "unknown" if code == 0 else _labelled(code, self._labels.codes.get((dimension, code)))
                return f"{name} {own}" if reason.holds else f"{name} {own}, which is not excluded"
            case Interests(codes=codes):
                shared = sorted(set(codes) & self._facts.interests) if reason.tells_which else sorted(set(codes))
                names = [_labelled(code, self._labels.interests.get(code)) for code in shared]
                return f"{'' if reason.holds else 'not '}interested in {self._listed(names, reason.tells_which)}"
            case Segment(name=name) if told := english_phrase(name, reason.holds, self._labels.lookalikes):
                return told
            case Segment(name=name):
                return f"{'' if reason.holds else 'not '}in segment {_labelled(name, self._labels.segments.get(name))}"
            case FansOf() | ViewersOf() | LiveVisitorsOf():
                told = self._OF_CREATORS[type(reason.condition)][0 if reason.holds else 1]
                return told.format(self._creators(reason.condition, reason.tells_which))
            case Content(min_tenths=least):
                tags = [_named_tag(tag, ENGLISH_TAGS, "{} {}") for tag in reason.condition.tags]
                if not reason.holds:
                    return f"no affinity of {10 * least} % or more to {self._listed(tags, False)}"
                if not reason.is_all_told:
                    return f"likes {self._listed(tags, False)}, at least {10 * least} % is wanted"
                liked = [
                    f"{_named_tag(tag, ENGLISH_TAGS, '{} {}')} ({10 * tenths} %)"
                    for tag, tenths in _liked(reason.condition, self._facts)
                ]
                return f"likes {self._listed(liked, True)}, at least {10 * least} % is wanted"
            case FriendsOfFans():
                if not reason.holds:
                    return "no friend of a fan of the creator"
                friends = [str(creator) for creator in self._connections.friends]
                if not friends:
                    return "follows someone who follows the creator, or is followed by one"
                verb = "follows" if len(friends) == 1 else "follow"
                others = ", and of other fans" if self._connections.has_other_friends else ""
                return f"friend of {self._listed(friends, True)}, who {verb} the creator{others}"
            case FansOfSimilarCreators():
                if not reason.holds:
                    return "follows no creator whose fans overlap with the creator's beyond chance"
                similar = [english_similar(one) for one in self._connections.similar]
                if not similar:
                    return "follows a creator whose fans overlap with the creator's beyond chance"
                kind = "a similar creator" if len(similar) == 1 else "similar creators"
                others = ", and others" if self._connections.has_other_similar else ""
                return f"follows {self._listed(similar, True)}, {kind}{others}"

    def _codes(self, dimension: Dimension, codes: Sequence[int]) -> list[str]:
        known = self._labels.codes
        return [_labelled(code, known.get((dimension, code))) if code else "unknown" for code in sorted(set(codes))]

    def _creators(self, node: OfCreators, tells_which: bool) -> str:
        named, others = _creators(node, self._facts, tells_which, self._labels.is_creator)
        other = "an account that you named" if others == 1 else f"{others} accounts that you named"
        listed = self._listed(_with_others(named, others, other), tells_which)
        return f"creator {listed}" if named else listed

    def _listed(self, names: Sequence[str], all_hold: bool) -> str:
        shown = list(names[:MAX_LISTED])
        if len(names) > MAX_LISTED:
            shown.append(f"{len(names) - MAX_LISTED} more")
        word = " and " if all_hold else " or "
        return word.join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


class _Chinese:
    separator = "；"
    everybody = "面向所有人"
    no_fan_yet = "尚未关注主播"
    _OF_CREATORS: Mapping[type[OfCreators], tuple[str, str]] = {
        FansOf: ("关注了{}", "未关注{}"),
        ViewersOf: ("近30天看过{}的视频", "近30天没看过{}的视频"),
        LiveVisitorsOf: ("近30天进过{}的直播间", "近30天没进过{}的直播间"),
    }
    _DIMENSIONS = ("地区", "年龄段", "性别", "操作系统", "网络", "设备档次", "内容类别", "广告位")

    def __init__(self, facts: ViewerFacts, labels: Labels, connections: Connections) -> None:
        self._facts = facts
        self._labels = labels
        self._connections = connections

    def say(self, reason: Reason) -> str:
        """The reason as part of a sentence."""
        match reason.condition:
            case Alternatives(count=count):
                return f"符合{count}个条件之一"
            case Attribute(dimension=dimension, codes=codes) if not reason.is_all_told:
                listed = self._listed(self._codes(dimension, codes))
                which = "之一" if reason.holds and len(set(codes)) > 1 else ""
                return f"{self._DIMENSIONS[dimension]}{'' if reason.holds else '不是'}{listed}{which}"
            case Attribute(dimension=dimension):
                name = self._DIMENSIONS[dimension]
                code = self._facts.codes[dimension]
                own = "未知" if code == 0 else _labelled(code, self._labels.codes.get((dimension, code)), "（{}）")
                return f"{name}{own}" if reason.holds else f"{name}{own}，不在排除之列"
            case Interests(codes=codes):
                shared = sorted(set(codes) & self._facts.interests) if reason.tells_which else sorted(set(codes))
                names = [_labelled(code, self._labels.interests.get(code), "（{}）") for code in shared]
                verb = "感" if reason.holds else "都不感" if len(names) > 1 else "不感"
                return f"对{self._listed(names)}{self._any_of(reason, names)}{verb}兴趣"
            case Segment(name=name) if told := chinese_phrase(name, reason.holds, self._labels.lookalikes):
                return told
            case Segment(name=name):
                label = _labelled(name, self._labels.segments.get(name), "（{}）")
                return f"{'属于' if reason.holds else '不属于'}人群包{label}"
            case FansOf() | ViewersOf() | LiveVisitorsOf():
                told = self._OF_CREATORS[type(reason.condition)][0 if reason.holds else 1]
                return told.format(self._creators(reason.condition, reason))
            case Content(min_tenths=least):
                tags = [_named_tag(tag, CHINESE_TAGS, "{}“{}”") for tag in reason.condition.tags]
                if not reason.holds:
                    return f"对{self._listed(tags)}的喜好度不到{10 * least}%"
                if not reason.is_all_told:
                    return f"喜欢{self._listed(tags)}{self._any_of(reason, tags)}，要求至少{10 * least}%"
                liked = [
                    f"{_named_tag(tag, CHINESE_TAGS, '{}“{}”')}（{10 * tenths}%）"
                    for tag, tenths in _liked(reason.condition, self._facts)
                ]
                return f"喜欢{self._listed(liked)}，要求至少{10 * least}%"
            case FriendsOfFans():
                if not reason.holds:
                    return "不是主播粉丝的好友"
                friends = [str(creator) for creator in self._connections.friends]
                if not friends:
                    return "关注了主播的粉丝，或被主播的粉丝关注"
                others = "及其他粉丝" if self._connections.has_other_friends else ""
                return f"是主播粉丝{self._listed(friends)}{others}的好友"
            case FansOfSimilarCreators():
                if not reason.holds:
                    return "没有关注与主播相似的主播"
                similar = [chinese_similar(one) for one in self._connections.similar]
                if not similar:
                    return "关注了与主播相似的主播（粉丝重合超出随机水平）"
                others = "及其他相似主播" if self._connections.has_other_similar else ""
                return f"关注了与主播相似的主播{self._listed(similar)}{others}"

    def _any_of(self, reason: Reason, names: Sequence[str]) -> str:
        return "中至少一个" if reason.holds and not reason.is_all_told and len(names) > 1 else ""

    def _codes(self, dimension: Dimension, codes: Sequence[int]) -> list[str]:
        known = self._labels.codes
        return [
            _labelled(code, known.get((dimension, code)), "（{}）") if code else "未知" for code in sorted(set(codes))
        ]

    def _creators(self, node: OfCreators, reason: Reason) -> str:
        named, others = _creators(node, self._facts, reason.tells_which, self._labels.is_creator)
        told = _with_others(named, others, f"你指定的{others}个账号")
        which = self._any_of(reason, list(map(str, node.creator_ids)))
        return f"{'主播' if named else ''}{self._listed(told)}{which}"

    def _listed(self, names: Sequence[str]) -> str:
        shown = "、".join(names[:MAX_LISTED])
        return f"{shown}等{len(names)}个" if len(names) > MAX_LISTED else shown


_SPEAKERS: Mapping[Language, type[_English] | type[_Chinese]] = {
    Language.ENGLISH: _English,
    Language.CHINESE: _Chinese,
}


def _labelled(code: int | str, label: str | None, in_brackets: str = " ({})") -> str:
    return str(code) if label is None else label + in_brackets.format(code)


ENGLISH_TAGS = {"keyword": "keyword", "bgm": "BGM", "visual": "visual tag"}
CHINESE_TAGS = {"keyword": "关键词", "bgm": "背景音乐", "visual": "画面标签"}


def _named_tag(tag: str, kinds: Mapping[str, str], form: str) -> str:
    kind, _, text = tag.partition(":")
    return form.format(kinds[kind], text)


def _liked(node: Content, facts: ViewerFacts) -> list[tuple[str, int]]:
    """The tags of the node that the viewer likes enough, and how many tenths."""
    levels = range(LEVELS, node.min_tenths - 1, -1)
    most = ((tag, next((at for at in levels if tag_segment(tag, at) in facts.segments), 0)) for tag in node.tags)
    return [(tag, tenths) for tag, tenths in most if tenths]


def _creators(
    node: OfCreators, facts: ViewerFacts, tells_which: bool, is_creator: Callable[[int], bool]
) -> tuple[list[str], int]:
    """The creators that the node names, or those for whom it holds; and how many accounts more, who are not told of."""
    named = [
        i for i in dict.fromkeys(node.creator_ids) if not tells_which or segments_of(type(node)((i,))) & facts.segments
    ]
    creators = [str(i) for i in named if is_creator(i)]
    return creators, len(named) - len(creators)


def _with_others(named: list[str], others: int, told: str) -> list[str]:
    """The names, and the others by what is told of them; one by one where they are only counted."""
    if not others:
        return named
    return [*named, *([told] if len(named) < MAX_LISTED else [told] * others)]
