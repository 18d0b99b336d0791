"""Judged rows on their way through Redis: each origin tells what its ledger judged, every other server copies it.

An origin has one stream that all read: its latest rows, trimmed at the front. Whoever needs rows that are not in there,
since it is new, was away, or Redis lost them, is told them from the ledger in a stream of its own, a window at a time,
until it is back in the common one. What is to be told follows from two facts, asked anew at every step: where streams
begin and end, and up to where each consumer says that its copy goes. So Redis may lose any of it at any time.

Whoever holds all rows of an origin may stand in for it (`judged_relay.py`): entries are the same, whoever writes them.

Entries carry the rows first..last of the origin's ledger under the id "last-first". Within a stream each begins where
the one before it ended.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from pacing.facts import JUDGEMENT, OUTCOME
from pacing.ledger.copies import Copies, GapInRows, JudgedPart
from pacing.redis_link import RedisLink, Script

logger = logging.getLogger(__name__)

ENTRY_ROWS = 512
CALL_ENTRIES = 16
KEPT_SEQUENCES = 32_768
"""So much of the ledger's latest rows the common stream holds: about 10 MB where every sequence is an outcome."""
WINDOW_SEQUENCES = 32_768
"""So far ahead of its position a consumer is told what the common stream has no more."""
LIVE_MS = 10_000
"""A consumer that was not heard of for so long is told nothing until it comes back."""
_OWN_STREAM_TTL_MS = 6 * LIVE_MS
ORIGINS = "fanbid:judged:origins"
"""Hash of every owner of whom anybody has rows, also of those that left: nothing but its fields counts."""

_SPAN = Script.beside(__file__, "judged_span")
_APPEND = Script.beside(__file__, "judged_append")
_READ = Script.beside(__file__, "judged_read")

SCRIPTS = (_SPAN, _APPEND, _READ)
"""All of them, for who loads them ahead."""


def _stream_key(origin_id: int, consumer_id: int = 0) -> str:
    """The origin's common stream, or the one for a single consumer."""
    return f"fanbid:{{judged:{origin_id}}}:rows" + (f":{consumer_id}" if consumer_id else "")


def _positions_key(origin_id: int) -> str:
    return f"fanbid:{{judged:{origin_id}}}:positions"


class _Span(NamedTuple):
    """A stream holds rows first..last, all of them."""

    first: int
    last: int
    last_id: str

    def continues(self, position: int) -> bool:
        """Whether whoever has everything up to `position` can go on here, now or when more comes."""
        return self.first <= position + 1 <= self.last + 1


def _span(answer: Sequence[bytes]) -> _Span | None:
    if not answer:
        return None
    first_id, last_id = (entry_id.decode() for entry_id in answer)
    return _Span(_rows_of(first_id)[0], _rows_of(last_id)[1], last_id)


def _rows_of(entry_id: str) -> tuple[int, int]:
    """First and last row of an entry."""
    last, _, first = entry_id.partition("-")
    return int(first), int(last)


def list_origins(link: RedisLink, known: Collection[int]) -> set[int]:
    """Every owner of whom anybody has rows. The list is whole again though Redis lost it: who knows more adds that.

    Args:
        known: owners of whom this server has rows, itself among them.

    Raises:
        RedisUnavailable: nobody answers.
    """
    (answer,) = link.run([("HGETALL", ORIGINS)])
    listed = {int(origin_id) for origin_id in _by_field(answer)}
    missing = sorted(set(known) - listed)
    if missing:
        link.run([("HSET", ORIGINS, *(word for origin_id in missing for word in (origin_id, 1)))])
    return listed | set(known)


def told_positions(link: RedisLink, origin_ids: Iterable[int]) -> dict[int, dict[int, int]]:
    """By origin, up to where each consumer last said that its copy goes, be it there now or not.

    Raises:
        RedisUnavailable: nobody answers.
    """
    ids = list(origin_ids)
    answers = link.run([("HGETALL", _positions_key(origin_id)) for origin_id in ids]) if ids else []
    return {
        origin_id: {int(consumer): int(word.split()[0]) for consumer, word in _by_field(answer).items()}
        for origin_id, answer in zip(ids, answers, strict=True)
    }


def _by_field(answer: Any) -> dict[bytes, bytes]:
    """What HGETALL answered, in either protocol."""
    return dict(zip(answer[::2], answer[1::2], strict=True)) if isinstance(answer, list) else answer


class Judged(Protocol):
    """Rows with verdicts, with sequences as their origin has them."""

    @property
    def judged_sequence(self) -> int:
        """Every row up to this one has its verdict."""

    def read_judged(self, after: int, limit: int) -> tuple[np.ndarray, np.ndarray]:
        """Up to `limit` rows behind sequence `after`, as OUTCOME[n] and JUDGEMENT[n]."""


class JudgedPublisher:
    """Tells what one ledger judged. One thread at a time.

    Attributes:
        present: the servers that were heard of lately, at the last step.
    """

    present: Collection[int] = ()

    def __init__(self, ledger: Judged, link: RedisLink, owner_id: int, monotonic_ms: Callable[[], int]) -> None:
        self._ledger = ledger
        self._link = link
        self._owner_id = owner_id
        self._monotonic_ms = monotonic_ms
        self._heard: dict[int, tuple[bytes, int]] = {}  # by consumer: its last word, and when it was new
        self._is_ahead = False

    def step(self) -> int:
        """Tell the next rows to everybody and to those that lag; answers how many rows were written into streams.

        Raises:
            RedisUnavailable: any of it may have been written; the next step sees what was.
            LedgerDamaged: what is stored is not what was acknowledged.
        """
        positions = self._live_positions()
        self.present = frozenset(positions)
        return self.tell(positions, self._check_ends)

    def tell(self, positions: Mapping[int, int], check: Callable[[int, Sequence[int]], None] | None = None) -> int:
        """Tell the next rows to everybody, and to these consumers what they lack; answers and raises as `step`.

        Args:
            positions: by consumer, up to where its copy goes.
            check: is told how far this ledger is judged and up to where others have rows of it.
        """
        judged = self._ledger.judged_sequence
        consumers = list(positions)
        keys = [_stream_key(self._owner_id), *(_stream_key(self._owner_id, consumer) for consumer in consumers)]
        (found,) = self._link.run([_SPAN.call(keys, [])])
        common, *owned = map(_span, found)
        if check is not None:
            check(judged, [common.last if common else 0, *positions.values()])
        count, common = self._publish(keys[0], common, judged)
        for consumer, key, span in zip(consumers, keys[1:], owned, strict=True):
            count += self._help(key, span, common, min(positions[consumer], judged), judged)
        return count

    def _live_positions(self) -> dict[int, int]:
        """Up to where the copies of the consumers go that were heard of lately."""
        (answer,) = self._link.run([("HGETALL", _positions_key(self._owner_id))])
        words = _by_field(answer)
        now_ms = self._monotonic_ms()
        positions: dict[int, int] = {}
        for name, word in words.items():
            consumer = int(name)
            if self._heard.get(consumer, (b"", 0))[0] != word:
                self._heard[consumer] = word, now_ms
            if now_ms - self._heard[consumer][1] < LIVE_MS:
                positions[consumer] = int(word.split()[0])
        return positions

    def _check_ends(self, judged: int, known: Sequence[int]) -> None:
        """Say it once when others know rows that this ledger has not: somebody put an older folder in its place."""
        is_ahead = max(known) > judged
        if is_ahead and not self._is_ahead:
            logger.critical(
                "ledger of owner %d: judged up to row %d, but others have rows up to %d of it: this folder is older "
                "than what was published from it; what it writes up to there will not reach them",
                self._owner_id, judged, max(known),
            )  # fmt: skip
        self._is_ahead = is_ahead

    def _publish(self, key: str, common: _Span | None, judged: int) -> tuple[int, _Span | None]:
        """Add to the common stream; answers how many rows, and how far it reaches now."""
        begin = common.last if common else max(judged - KEPT_SEQUENCES, 0)
        last_id = common.last_id if common else ""
        entries = self._entries(begin, judged)
        if not entries or not self._append(key, last_id, entries[-1].last - KEPT_SEQUENCES, 0, entries):
            return 0, common
        first = common.first if common else entries[0].first
        end = _Span(max(first, entries[-1].last - KEPT_SEQUENCES), entries[-1].last, _id(entries[-1]))
        return sum(len(entry.rows) for entry in entries), end

    def _help(self, key: str, span: _Span | None, common: _Span | None, position: int, judged: int) -> int:
        """Tell one consumer what the common stream does not hold; answers how many rows."""
        if position == judged or (common is not None and common.continues(position)):
            if span is not None:
                self._link.run([("DEL", key)])
            return 0
        goes_on = span is not None and span.continues(position)
        begin, last_id = (span.last, span.last_id) if span is not None and goes_on else (position, "")
        entries = self._entries(begin, min(position + WINDOW_SEQUENCES, judged))
        if not entries or not self._append(key, last_id, position, _OWN_STREAM_TTL_MS, entries):
            return 0
        return sum(len(entry.rows) for entry in entries)

    def _entries(self, after: int, until: int) -> list[JudgedPart]:
        """What was judged behind row `after` up to row `until`, as much of it as goes into one call."""
        if after >= until:
            return []
        rows, judgements = self._ledger.read_judged(after, ENTRY_ROWS * CALL_ENTRIES)
        is_full = len(rows) == ENTRY_ROWS * CALL_ENTRIES and int(rows["sequence"][-1]) < until
        until = int(rows["sequence"][-1]) if is_full else until
        count = int(np.searchsorted(rows["sequence"], until, side="right"))
        entries = []
        for start in range(0, max(count, 1), ENTRY_ROWS):
            end = min(start + ENTRY_ROWS, count)
            last = until if end == count else int(rows["sequence"][end - 1])
            entries.append(JudgedPart(after + 1, last, rows[start:end], judgements[start:end]))
            after = last
        return entries

    def _append(self, key: str, last_id: str, keep_from: int, ttl_ms: int, entries: Sequence[JudgedPart]) -> bool:
        arguments: list[Any] = [last_id, max(keep_from, 0), ttl_ms]
        for entry in entries:
            arguments += [_id(entry), entry.rows.tobytes(), entry.judgements.tobytes()]
        (added,) = self._link.run([_APPEND.call([key], arguments)])
        return bool(added)


def _id(entry: JudgedPart) -> str:
    return f"{entry.last}-{entry.first}"


class JudgedConsumer:
    """Copies what the other owners' ledgers judged. One thread at a time."""

    def __init__(self, copies: Copies, link: RedisLink, owner_id: int) -> None:
        self._copies = copies
        self._link = link
        self._owner_id = owner_id
        self._beat = 0
        self._refused: set[int] = set()

    def step(self, origin_ids: Sequence[int]) -> int:
        """Say how far the copies of these origins go and take what follows; answers how many rows were taken.

        Raises:
            RedisUnavailable: nothing was taken.
            LedgerUnavailable: a copy could not be written.
        """
        copies = [self._copies.of(origin_id) for origin_id in origin_ids]
        self._beat += 1
        commands = []
        for copy in copies:
            origin_id, position = copy.origin_id, copy.judged_sequence
            word = f"{position} {self._beat}"
            commands.append(("HSET", _positions_key(origin_id), self._owner_id, word))
            streams = [_stream_key(origin_id), _stream_key(origin_id, self._owner_id)]
            commands.append(_READ.call(streams, [position + 1, CALL_ENTRIES]))
        answers = self._link.run(commands)[1::2]
        return sum(self._take(copy.origin_id, entries) for copy, entries in zip(copies, answers, strict=True))

    def _take(self, origin_id: int, entries: Sequence[Any]) -> int:
        """Write an origin's entries into its copy; what is none of ours is told once and waits."""
        try:
            count = self._copies.of(origin_id).take(map(_part, entries)) if entries else 0
        except (GapInRows, ValueError, LookupError) as error:
            if origin_id not in self._refused:
                logger.error("judged rows of owner %d: %s", origin_id, error)
            self._refused.add(origin_id)
            return 0
        self._refused.discard(origin_id)
        return count


def _part(entry: Any) -> JudgedPart:
    """An entry of a stream as rows.

    Raises:
        ValueError, LookupError: it is none.
    """
    entry_id, (_, rows, _, judgements) = entry
    first, last = _rows_of(entry_id.decode())
    return JudgedPart(first, last, np.frombuffer(rows, OUTCOME), np.frombuffer(judgements, JUDGEMENT))
