"""Pacing's meeting place in Redis: who paces which shard of campaigns, what it publishes, what it is told.

A shard's keys carry one hash tag, so each script touches one slot. Leases are judged by Redis's clock. A publication
names the owner and the fence of its lease and is refused if the lease has gone to somebody else since, however late it
comes. Every call may be repeated: messages are numbered by their teller, and stay until who paces says that it took
them.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from pacing.redis_link import Command, RedisLink, Script

SHARDS = 64
TTL_MS = 5_000
"""A lease that is not renewed for so long is free."""
KEPT_MS = 7 * 86_400_000
KEPT_MESSAGES = 128
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(64 - 6)
_PACERS = "fanbid:{pace}:pacers"

ARRIVE = Script.beside(__file__, "pace_now", "pace_arrive")
CLAIM = Script.beside(__file__, "pace_now", "pace_claim")
PUBLISH = Script.beside(__file__, "pace_now", "pace_publish")
READ = Script.beside(__file__, "pace_now", "pace_read")
TELL = Script.beside(__file__, "pace_tell")

SCRIPTS = (ARRIVE, CLAIM, PUBLISH, READ, TELL)
"""All of them, for who loads them ahead."""


def shard_of(campaign_ids: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """In which shard (0..SHARDS-1) each campaign is: i8[n]. The same in every server, for good."""
    return ((campaign_ids.astype(np.uint64) * _FACTOR) >> _SHIFT).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Publication:
    """What the server that has a shard's lease says.

    Attributes:
        plan, memory: bytes for others to read; where one is empty, the one before stays.
        taken: number of the last message that it took.
        gives_back: it does not want the lease any longer.
    """

    fence: int
    plan: bytes
    memory: bytes = b""
    taken: int = 0
    gives_back: bool = False


@dataclass(frozen=True, slots=True)
class Reading:
    """What is published of a shard; `plan` is empty where nothing is new."""

    is_free: bool
    mark: bytes
    plan: bytes


@dataclass(frozen=True, slots=True)
class Round:
    """What one exchange with Redis brought.

    Attributes:
        pacers: how many servers pace.
        accepted: by shard published: (number of the first message, messages); those refused are left out.
        readings: by shard.
    """

    pacers: int
    accepted: dict[int, tuple[int, list[bytes]]] = field(default_factory=dict)
    readings: dict[int, Reading] = field(default_factory=dict)


class PaceBoard:
    """One server's way to the meeting place. One thread at a time.

    Every method raises `RedisUnavailable` when Redis does not answer; what was asked may have been done.
    """

    def __init__(
        self, link: RedisLink, owner_id: int, ttl_ms: int = TTL_MS, time_ms: Callable[[], int] | None = None
    ) -> None:
        """Meet the others under an owner id and a session of its own: a server that starts again is another one.

        Args:
            time_ms: by what leases are judged; None: Redis's clock.
        """
        self._link = link
        self._teller = str(owner_id)
        self._session = secrets.token_hex(8)
        self.owner = f"{owner_id}.{self._session}"
        self.ttl_ms = ttl_ms
        self._time_ms = time_ms

    def _instant(self) -> str:
        return "" if self._time_ms is None else str(self._time_ms())

    def meet(
        self,
        publications: Mapping[int, Publication],
        messages: Iterable[tuple[int, int, bytes]] = (),
        marks: Mapping[int, bytes] | None = None,
        paces: bool = True,
    ) -> Round:
        """Publish, tell and read, all in one exchange.

        Args:
            publications: by shard.
            messages: (shard, number, bytes); numbers of a shard grow, and one told again keeps its number.
            marks: by shard to be read, the mark of what is known of it.
            paces: whether this server is to count among those that pace.
        """
        now = self._instant()
        calls: list[Command] = [ARRIVE.call([_PACERS], [self.owner, now, self.ttl_ms if paces else 0])]
        calls += [self._tell_call(*message) for message in messages]
        first_publication = len(calls)
        calls += [self._publish_call(shard, publication, now) for shard, publication in publications.items()]
        first_reading = len(calls)
        marks = marks or {}
        calls += [READ.call([_key(shard, "lease"), _key(shard, "plan")], [now, mark]) for shard, mark in marks.items()]
        answers = self._link.run(calls)
        told = zip(publications, answers[first_publication:first_reading], strict=True)
        read = zip(marks, answers[first_reading:], strict=True)
        return Round(
            int(answers[0]),
            {shard: (int(answer[0]), answer[1]) for shard, answer in told if answer is not None},
            {shard: Reading(bool(is_free), mark, plan) for shard, (is_free, mark, plan) in read},
        )

    def claim(self, shards: Iterable[int]) -> dict[int, tuple[int, bytes]]:
        """Take the leases of these shards that nobody has: by shard, the fence, and what its last pacer remembered."""
        wanted = list(shards)
        now = self._instant()
        calls = [
            CLAIM.call([_key(shard, "lease"), _key(shard, "memory")], [self.owner, now, self.ttl_ms])
            for shard in wanted
        ]
        answers = zip(wanted, self._link.run(calls), strict=True)
        return {shard: (int(answer[0]), answer[1]) for shard, answer in answers if answer is not None}

    def _tell_call(self, shard: int, number: int, message: bytes) -> Command:
        keys = [_key(shard, noun) for noun in ("lease", "told", "tellers")]
        return TELL.call(keys, [self._teller, self._session, number, message, KEPT_MESSAGES])

    def _publish_call(self, shard: int, publication: Publication, now: str) -> Command:
        keys = [_key(shard, noun) for noun in ("lease", "plan", "memory", "told")]
        arguments: list[Any] = [
            self.owner,
            publication.fence,
            now,
            0 if publication.gives_back else self.ttl_ms,
            publication.plan,
            publication.memory,
            publication.taken,
            KEPT_MS,
        ]
        return PUBLISH.call(keys, arguments)


def _key(shard: int, noun: str) -> str:
    """Key of something of a shard's; the braces hold the hash tag."""
    return f"fanbid:{{pace:{shard}}}:{noun}"
