"""Campaigns in Redis or Redis Cluster: a record of each, and a stream of changes, written together by one script.

All keys carry one hash tag, so they lie in one slot.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from auction.campaigns.model import CampaignStatus
from auction.campaigns.record import Record, record_of
from pacing.redis_link import Command, RedisLink, Script

KEPT_CHANGES = 100_000
"""Changes in the stream, about; who missed more compares everything."""
POLLED_CHANGES = 1_000
BEGINNING = "0-0"
_SCANNED = 1_000
_CHUNK = 200

_RECORDS = "fanbid:{campaigns}:records"
_MARKS = "fanbid:{campaigns}:marks"
_CHANGES = "fanbid:{campaigns}:changes"
_KEYS = "fanbid:{campaigns}:keys"

_log = logging.getLogger(__name__)

PUT_CAMPAIGN = Script.beside(__file__, "put_campaign")
POLL_CAMPAIGNS = Script.beside(__file__, "poll_campaigns")

SCRIPTS = (PUT_CAMPAIGN, POLL_CAMPAIGNS)
"""All of them, for who loads them ahead."""


class PutResult(StrEnum):
    """What became of a record that was to be written."""

    DONE = "done"
    CHANGED = "changed"
    KEY = "key"
    LIMIT = "limit"


@dataclass(frozen=True, slots=True)
class Put:
    """Answer of a put.

    Attributes:
        detail: of KEY the campaign that has the idempotency key, of LIMIT the number of open campaigns; else 0.
        entry: of DONE, the change in the stream; empty if it was done before.
    """

    result: PutResult
    detail: int = 0
    entry: str = ""


@dataclass(frozen=True, slots=True)
class Poll:
    """What is new.

    Attributes:
        master: names the Redis that answered; another one may lack what was written last.
        missed: changes may have been lost, or dropped before they were read.
        marks: by campaign id, the mark of its last change that was read.
        read_to: where to go on.
        is_last: nothing more waits to be read.
    """

    master: str
    missed: bool
    marks: dict[int, str]
    read_to: str
    is_last: bool


class CampaignsRedis:
    """The campaigns that all servers of one Redis share. Any thread may call; every call raises RedisUnavailable."""

    def __init__(self, link: RedisLink) -> None:
        self.link = link

    def put(self, record: Record, expected_mark: str, limit: int = 0) -> Put:
        """Write one record (see `put_all`).

        Args:
            limit: not 0: it is a new campaign, its idempotency key must be free, and its creator may have so many.
        """
        (answer,) = self.link.run([_put_command(record, expected_mark, limit)])
        result = PutResult(answer[0].decode())
        if result is PutResult.DONE:
            return Put(result, entry=answer[1].decode())
        return Put(result, 0 if result is PutResult.CHANGED else int(answer[1]))

    def put_all(self, records: Sequence[tuple[Record, str]]) -> list[bool]:
        """Write each record, if the mark beside it is that of the record that is there (empty: there is none).

        Says of each whether it is there now. Repeating it is safe.
        """
        done: list[bool] = []
        for first in range(0, len(records), _CHUNK):
            commands = [_put_command(record, expected) for record, expected in records[first : first + _CHUNK]]
            done += [answer[0].decode() == PutResult.DONE for answer in self.link.run(commands)]
        return done

    def read(self, campaign_ids: Sequence[int]) -> dict[int, Record | None]:
        """Records by id; unknown ids are left out. None: it cannot be read here; it may be a newer version's."""
        found: dict[int, Record | None] = {}
        for first in range(0, len(campaign_ids), _CHUNK):
            chunk = campaign_ids[first : first + _CHUNK]
            (texts,) = self.link.run([("HMGET", _RECORDS, *chunk)])
            for campaign_id, text in zip(chunk, texts, strict=True):
                if text is not None:
                    found[campaign_id] = _readable(campaign_id, text)
        return found

    def holder_of_key(self, creator_id: int, idempotency_key: str) -> int:
        """The campaign that this creator made with this key; 0: none."""
        (found,) = self.link.run([("HGET", _KEYS, _key_field(creator_id, idempotency_key))])
        return int(found or 0)

    def open_count(self, creator_id: int) -> int:
        """How many campaigns of this creator have not ended."""
        (count,) = self.link.run([("SCARD", _open_key(creator_id))])
        return int(count)

    def poll(self, read_to: str, written: str = BEGINNING) -> Poll:
        """What changed after `read_to`, of an earlier poll or of `end`; if `written` is not there, some was missed."""
        (answer,) = self.link.run([POLL_CAMPAIGNS.call([_CHANGES], [read_to, POLLED_CHANGES, written])])
        master, there, entries = answer
        marks = {}
        for _, fields in entries:
            marks[int(fields[1])] = fields[3].decode()
        return Poll(
            master=master.decode(),
            missed=not there,
            marks=marks,
            read_to=entries[-1][0].decode() if entries else read_to,
            is_last=len(entries) < POLLED_CHANGES,
        )

    def end(self) -> str:
        """The entry of the last change."""
        (last,) = self.link.run([("XREVRANGE", _CHANGES, "+", "-", "COUNT", 1)])
        return str(last[0][0].decode()) if last else BEGINNING

    def marks(self) -> dict[int, str]:
        """By id, the mark of every record, read in batches."""
        found: dict[int, str] = {}
        cursor: Any = 0
        while True:
            ((cursor, flat),) = self.link.run([("HSCAN", _MARKS, cursor, "COUNT", _SCANNED)])
            pairs = flat.items() if isinstance(flat, dict) else zip(flat[::2], flat[1::2], strict=True)
            found.update({int(campaign_id): mark.decode() for campaign_id, mark in pairs})
            if not int(cursor):
                return found


def _put_command(record: Record, expected_mark: str, limit: int = 0) -> Command:
    campaign, key = record.campaign, record.idempotency_key
    keys = [_RECORDS, _MARKS, _CHANGES, _KEYS, _open_key(campaign.creator_id)]
    field = _key_field(campaign.creator_id, key) if key else ""
    is_open = int(campaign.status is not CampaignStatus.ENDED)
    arguments = (campaign.campaign_id, expected_mark, record.mark, record.text, field, is_open, limit, KEPT_CHANGES)
    return PUT_CAMPAIGN.call(keys, arguments)


def _readable(campaign_id: int, text: bytes) -> Record | None:
    try:
        record = record_of(text)
        if record.campaign.campaign_id != campaign_id:
            raise ValueError(f"it is of campaign {record.campaign.campaign_id}")
    except ValueError as error:
        _log.error("campaign %d: what Redis has of it is passed over: %s", campaign_id, error)
        return None
    return record


def _key_field(creator_id: int, idempotency_key: str) -> str:
    return f"{creator_id}:{idempotency_key}"


def _open_key(creator_id: int) -> str:
    return f"fanbid:{{campaigns}}:open:{creator_id}"
