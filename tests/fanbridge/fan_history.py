"""A plausible, seeded history of creators' fans, told to a fan service: events, and what campaigns gained."""

from __future__ import annotations

import numpy as np

from fanbridge.client import FanServiceClient
from fanbridge.events import FAN_EVENT, FAN_OUTCOME, Rows
from pacing.clocks import MS_PER_DAY
from pacing.facts import OutcomeKind
from tests.fanbridge.services import START_AT_MS

CREATOR = 7
LEAKY, FIRM = 501, 502
"""Campaigns: one whose fans leave, and one whose fans stay."""
PEERS = tuple(range(100, 112))
FIRST_AT_MS = START_AT_MS // MS_PER_DAY * MS_PER_DAY
DAYS = 60
END_AT_MS = FIRST_AT_MS + DAYS * MS_PER_DAY

_Event = tuple[int, int, int, int]
_ENGAGING = (OutcomeKind.LIKE, OutcomeKind.COMMENT, OutcomeKind.SHARE, OutcomeKind.GIFT, OutcomeKind.LIVE_VISIT)


def tell_history(client: FanServiceClient, seed: int = 1) -> None:
    """Sixty days of CREATOR and PEERS, until END_AT_MS."""
    random = np.random.default_rng(seed)
    events: list[_Event] = []
    bought: list[tuple[int, int, int]] = []
    for creator_id in (CREATOR, *PEERS):
        for i in range(420 if creator_id == CREATOR else 300):
            viewer_id = 1_000 * creator_id + i
            campaign_id = (LEAKY, FIRM, 0, 0)[i % 4] if creator_id == CREATOR else 0
            _live(random, events, viewer_id, creator_id, campaign_id, bought)
    events.append((1, CREATOR, OutcomeKind.PLAY, END_AT_MS))  # so that the last day is over
    events.sort(key=lambda event: event[3])
    _push_events(client, events)
    outcomes = np.zeros(len(bought), FAN_OUTCOME)
    for i, (viewer_id, campaign_id, at_ms) in enumerate(bought):
        outcomes[i] = (1, i + 1, OutcomeKind.FOLLOW, viewer_id, CREATOR, campaign_id, 7001, 0, at_ms, i + 1)
    client.push_outcomes(outcomes)


def _live(
    random: np.random.Generator,
    events: list[_Event],
    viewer_id: int,
    creator_id: int,
    campaign_id: int,
    bought: list[tuple[int, int, int]],
) -> None:
    """One viewer follows, engages now and then, and may leave."""
    begin = int(random.integers(0, DAYS - 1))
    at_ms = FIRST_AT_MS + begin * MS_PER_DAY + int(random.integers(MS_PER_DAY))
    events.append((viewer_id, creator_id, OutcomeKind.FOLLOW, at_ms))
    if campaign_id:
        bought.append((viewer_id, campaign_id, at_ms))
    leaving_rate = 0.04 if campaign_id == LEAKY else 0.008
    for day in range(begin + 1, DAYS):
        day_at_ms = FIRST_AT_MS + day * MS_PER_DAY
        if random.random() < leaving_rate:
            events.append((viewer_id, creator_id, OutcomeKind.UNFOLLOW, day_at_ms + 60_000))
            return
        if random.random() < 0.15 * (1 + viewer_id % 3):
            kind = _ENGAGING[int(random.choice(5, p=(0.6, 0.2, 0.08, 0.06, 0.06)))]
            events.append((viewer_id, creator_id, kind, day_at_ms + int(random.integers(1, MS_PER_DAY))))


def _push_events(client: FanServiceClient, events: list[_Event]) -> None:
    for first in range(0, len(events), 5_000):
        some = events[first : first + 5_000]
        client.push_events(event_rows(some, first_id=first + 1))


def event_rows(events: list[_Event], first_id: int = 1) -> Rows:
    """FAN_EVENT[n] of (viewer, creator, kind, instant)."""
    rows = np.zeros(len(events), FAN_EVENT)
    for i, event in enumerate(events):
        rows[i] = (first_id + i, *event)
    return rows
