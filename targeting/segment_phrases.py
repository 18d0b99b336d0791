"""What it says of a viewer to be in a segment whose name has a meaning: tiers, stages, lookalikes."""

from __future__ import annotations

from collections.abc import Mapping, Set

_ENGLISH: Mapping[tuple[str, str], str] = {
    ("tier", "potential"): "a potential fan of creator {}",
    ("tier", "active"): "an active fan of creator {}",
    ("tier", "high-value"): "a high-value fan of creator {}",
    ("tier", "iron"): "an iron fan of creator {}",
    ("stage", "gained"): "a new fan of creator {}",
    ("stage", "activated"): "an activated fan of creator {}",
    ("stage", "retained"): "a retained fan of creator {}",
    ("stage", "silent"): "a fan of creator {} who fell silent",
    ("stage", "lost"): "a fan whom creator {} lost",
}
_CHINESE: Mapping[tuple[str, str], str] = {
    ("tier", "potential"): "主播{}的潜力粉",
    ("tier", "active"): "主播{}的活跃粉",
    ("tier", "high-value"): "主播{}的高价值粉",
    ("tier", "iron"): "主播{}的铁粉",
    ("stage", "gained"): "主播{}的新粉",
    ("stage", "activated"): "主播{}的已激活粉丝",
    ("stage", "retained"): "主播{}的留存粉丝",
    ("stage", "silent"): "主播{}的沉默粉丝",
    ("stage", "lost"): "主播{}流失的粉丝",
}


def words_of(kind: str) -> tuple[str, ...]:
    """What a fan service may say of fans in a kind of segment, such as the tiers; none if the kind is no such."""
    return tuple(word for of, word in _ENGLISH if of == kind)


def english_phrase(name: str, holds: bool, lookalikes: Set[str]) -> str | None:
    """The segment in English, as part of a sentence; None if its name has no meaning of its own."""
    if name in lookalikes:
        return f"{'among' if holds else 'not among'} the viewers most like the list of lookalike {name}"
    phrase = _of_fans(name, _ENGLISH)
    return None if phrase is None else f"{'is' if holds else 'is not'} {phrase}"


def chinese_phrase(name: str, holds: bool, lookalikes: Set[str]) -> str | None:
    """The segment in Chinese, as part of a sentence; None if its name has no meaning of its own."""
    if name in lookalikes:
        return f"{'属于' if holds else '不属于'}与种子名单最相似的人群（相似人群{name}）"
    phrase = _of_fans(name, _CHINESE)
    return None if phrase is None else f"{'是' if holds else '不是'}{phrase}"


def _of_fans(name: str, phrases: Mapping[tuple[str, str], str]) -> str | None:
    kind, _, rest = name.partition(":")
    which, _, creator_id = rest.partition(":")
    phrase = phrases.get((kind, which))
    return None if phrase is None or not creator_id.isdecimal() else phrase.format(creator_id)
