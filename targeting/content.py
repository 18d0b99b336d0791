"""Tags of content - keywords, BGM, visual tags - and how much a viewer likes each, as memberships.

A viewer's affinity to a tag is a weight within 0..1. It is kept in tenths: each tag has a segment for every tenth, and
a viewer is in one of them at most; who likes a tag at least so much is in any of those from there up.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable

TAG_KINDS = ("keyword", "bgm", "visual")
LEVELS = 10
"""A weight counts in tenths, rounded down; under one tenth it does not count."""
MAX_TAG_CHARACTERS = 64
TAG_PREFIX = "tag:"
_ROUNDING = 1e-6  # 0.3 as a single-precision number is a little more or less than three tenths


def check_tag(tag: str) -> str:
    """The tag, such as "keyword:dance", in the one form that counts: NFKC, case folded, without spaces around.

    Raises:
        ValueError: it is none.
    """
    kind, separator, text = tag.partition(":")
    text = unicodedata.normalize("NFKC", text).casefold().strip()
    if not separator or kind not in TAG_KINDS or not 1 <= len(text) <= MAX_TAG_CHARACTERS:
        kinds = ", ".join(f"{known}:" for known in TAG_KINDS)
        raise ValueError(f"tag {tag!r:.80}: must be one of {kinds} and 1 to {MAX_TAG_CHARACTERS} characters")
    return f"{kind}:{text}"


def level_of(weight: float) -> int:
    """Tenths of a weight within 0..1."""
    return int(weight * LEVELS + _ROUNDING * LEVELS)


def tag_segment(tag: str, level: int) -> str:
    """The segment of the viewers whose affinity to the tag, from `check_tag`, is so many tenths (1..LEVELS).

    Segments' names are short and plain, and tags are not: so the name has a digest of the tag (BLAKE2b, 8 bytes).
    """
    digest = hashlib.blake2b(tag.encode(), digest_size=8).hexdigest()
    return f"{TAG_PREFIX}{digest}:{level}"


def segments_from(tags: Iterable[str], level: int) -> frozenset[str]:
    """The segments of the viewers who like any of the tags at least so many tenths."""
    return frozenset(tag_segment(tag, at) for tag in tags for at in range(level, LEVELS + 1))
