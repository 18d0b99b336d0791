"""What the reference fan service accepts: cursors, limits and rows, each with its range.

A request that is wrong as a whole raises InvalidRequest; a row that is wrong alone is marked, and refused alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fanbridge.events import DEFAULT_PULL_ROWS, EVENT_KINDS, MAX_PULL_ROWS, MAX_PUSH_ROWS, PUSHED_KINDS, Rows
from pacing.facts import OutcomeKind

_CURSOR = re.compile(r"([0-9a-f]{8})\.([0-9]{1,18})")
_AUDIENCE = re.compile(r"[a-z0-9:_.,-]{0,200}")


class InvalidRequest(ValueError):
    """A request that can never succeed; the text names field, value and range."""


def check_limit(limit: int) -> int:
    """The number of rows to answer with.

    Raises:
        InvalidRequest: more than MAX_PULL_ROWS.
    """
    if limit > MAX_PULL_ROWS:
        raise InvalidRequest(f"limit {limit}: must be 1..{MAX_PULL_ROWS}, or 0 for {DEFAULT_PULL_ROWS}")
    return limit or DEFAULT_PULL_ROWS


def parse_cursor(cursor: str, generation: str) -> int:
    """The position that a cursor of this store names; 0, the beginning, for an empty one or one of another store.

    Raises:
        InvalidRequest: this was never a cursor.
    """
    if not cursor:
        return 0
    match = _CURSOR.fullmatch(cursor)
    if match is None:
        raise InvalidRequest(f"cursor {cursor[:64]!r}: must be empty or a next_cursor of an earlier answer")
    return int(match[2]) if match[1] == generation else 0


def format_cursor(position: int, generation: str) -> str:
    """The cursor that names a position in this store."""
    return f"{generation}.{position}"


def check_count(count: int) -> None:
    """Refuse a push that is too large.

    Raises:
        InvalidRequest: more than MAX_PUSH_ROWS rows.
    """
    if count > MAX_PUSH_ROWS:
        raise InvalidRequest(f"rows {count}: must be 0..{MAX_PUSH_ROWS}")


def valid_events(events: Rows, latest_at_ms: int) -> npt.NDArray[np.bool_]:
    """Which FAN_EVENT rows can be taken: ids from 1, a kind of event, and an instant from 1 to `latest_at_ms`."""
    return (events["event_id"] >= 1) & _valid_facts(events, EVENT_KINDS, latest_at_ms)


def valid_outcomes(outcomes: Rows, latest_at_ms: int) -> npt.NDArray[np.bool_]:
    """Which FAN_OUTCOME rows can be taken: as for events, with a campaign, and money only for an impression."""
    charged = outcomes["kind"] == OutcomeKind.BILLABLE
    amounts = outcomes["price_micros"]
    return (
        _valid_facts(outcomes, PUSHED_KINDS, latest_at_ms)
        & (outcomes["campaign_id"] >= 1)
        & np.where(charged, amounts >= 0, amounts == 0)
    )


def check_audiences(audiences: Sequence[str], count: int) -> list[str]:
    """The audience of each of `count` outcomes, empty where none are told.

    Raises:
        InvalidRequest: as many as neither none nor the rows, or one that no names of audiences make.
    """
    if len(audiences) not in (0, count):
        raise InvalidRequest(f"audiences: {len(audiences)} texts, must be none or {count} like the first column")
    for row, audience in enumerate(audiences):
        if not _AUDIENCE.fullmatch(audience):
            raise InvalidRequest(f"audiences[{row}] {audience!r:.80}: must be up to 200 of a-z 0-9 : _ . - and commas")
    return list(audiences) or [""] * count


def _valid_facts(rows: Rows, kinds: frozenset[OutcomeKind], latest_at_ms: int) -> npt.NDArray[np.bool_]:
    occurred_at_ms = rows["occurred_at_ms"]
    valid: npt.NDArray[np.bool_] = (
        (rows["viewer_id"] >= 1)
        & (rows["creator_id"] >= 1)
        & np.isin(rows["kind"], sorted(kinds))
        & (occurred_at_ms >= 1)
        & (occurred_at_ms <= latest_at_ms)
    )
    return valid
