"""The nouns that the engine and a fan service share: tiers, stages, and the layout of each kind of row.

Numbers are those of `protos/fans.proto`; a test holds the two together. Kinds of events are `pacing.facts.OutcomeKind`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from pacing.facts import OutcomeKind

Rows = npt.NDArray[Any]
"""A one-dimensional structured array of one of the layouts below."""

MAX_PULL_ROWS = 10_000
DEFAULT_PULL_ROWS = 1_000
MAX_PUSH_ROWS = 5_000


class Tier(IntEnum):
    """How much a fan is worth to one creator."""

    UNSPECIFIED = 0
    POTENTIAL = 1
    ACTIVE = 2
    HIGH_VALUE = 3
    IRON = 4


class Stage(IntEnum):
    """Where a fan stands in the life of the relation to one creator."""

    UNSPECIFIED = 0
    GAINED = 1
    ACTIVATED = 2
    RETAINED = 3
    SILENT = 4
    LOST = 5


TIER_NAMES = {Tier.POTENTIAL: "potential", Tier.ACTIVE: "active", Tier.HIGH_VALUE: "high-value", Tier.IRON: "iron"}
STAGE_NAMES = {
    Stage.GAINED: "gained",
    Stage.ACTIVATED: "activated",
    Stage.RETAINED: "retained",
    Stage.SILENT: "silent",
    Stage.LOST: "lost",
}
RETENTION_DAYS = (1, 7, 30)

EVENT_KINDS = frozenset(kind for kind in OutcomeKind if kind >= OutcomeKind.CLICK)
"""What a viewer can do: the kinds that `PushEvents` and `PullEvents` carry."""

PUSHED_KINDS = EVENT_KINDS | {OutcomeKind.BILLABLE}
"""What `PushOutcomes` carries: charged impressions, and what they led to."""


HIGH_TIERS = (Tier.HIGH_VALUE, Tier.IRON)


def tier_segment(tier: Tier, creator_id: int) -> str:
    """The name of the segment of a creator's fans of this tier."""
    return f"tier:{TIER_NAMES[tier]}:{creator_id}"


def stage_segment(stage: Stage, creator_id: int) -> str:
    """The name of the segment of a creator's fans in this stage."""
    return f"stage:{STAGE_NAMES[stage]}:{creator_id}"


FAN_CHANGE = np.dtype(
    [
        ("viewer_id", "<u8"),
        ("creator_id", "<u8"),
        ("tier", "<u4"),
        ("stage", "<u4"),
        ("changed_at_ms", "<i8"),
    ]
)
"""A fan's tier and stage from `changed_at_ms` on."""

FAN_EVENT = np.dtype(
    [
        ("event_id", "<u8"),
        ("viewer_id", "<u8"),
        ("creator_id", "<u8"),
        ("kind", "<u4"),
        ("occurred_at_ms", "<i8"),
    ]
)
"""Something that a viewer did, as the platform tells it."""

RETENTION = np.dtype(
    [
        ("viewer_id", "<u8"),
        ("creator_id", "<u8"),
        ("days", "<u4"),
        ("kept", "<u4"),
        ("judged_at_ms", "<i8"),
    ]
)
"""Whether a gained fan was still there after `days` days."""

FAN_OUTCOME = np.dtype(
    [
        ("lease_id", "<u8"),
        ("hold_seq", "<u8"),
        ("kind", "<u4"),
        ("viewer_id", "<u8"),
        ("creator_id", "<u8"),
        ("campaign_id", "<u8"),
        ("creative_id", "<u8"),
        ("price_micros", "<i8"),
        ("occurred_at_ms", "<i8"),
        ("ledger_sequence", "<u8"),
    ]
)
"""A charged impression, or a conversion that one explains. The idempotency key is (lease_id, hold_seq, kind)."""


@dataclass(frozen=True)
class Page:
    """One answer to a pull: rows of one layout, oldest first, and the cursor of the next pull. No rows: up to date."""

    rows: Rows
    next_cursor: str


class FanServiceError(Exception):
    """A call to the fan service did not succeed; the text says which call and why."""


class FanServiceUnavailable(FanServiceError):
    """The service is away, too slow or not set up for this caller: the same call may succeed later."""


class FanServiceRefused(FanServiceError):
    """The service says that this request can never succeed: something in it is wrong."""


class FanServicePort(Protocol):
    """What the bridge asks of a fan service. Every method may raise FanServiceUnavailable or FanServiceRefused."""

    def pull_tiers(self, cursor: str, limit: int) -> Page:
        """Rows FAN_CHANGE after the cursor."""

    def pull_events(self, cursor: str, limit: int) -> Page:
        """Rows FAN_EVENT after the cursor."""

    def pull_retention(self, cursor: str, limit: int) -> Page:
        """Rows RETENTION after the cursor."""

    def push_outcomes(self, outcomes: Rows, audiences: Sequence[str] = ()) -> npt.NDArray[np.uint8]:
        """Hand over rows FAN_OUTCOME, with the audience of each where these are told; answers one RowStatus per row."""
