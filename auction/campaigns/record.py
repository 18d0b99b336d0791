"""A campaign as it is stored, and as servers exchange it: its columns, and a record that says which change set what.

A shared campaign may come to differ between servers that could not hear each other, or when a Redis lost what it had
acknowledged. Two such records are joined field by field: each group of fields that are checked together is a register
whose later write wins (Shapiro et al., Conflict-free Replicated Data Types, 2011), so a change is lost only to a later
one of the same fields, and an end is never undone.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from auction.campaigns.model import BidMode, Campaign, CampaignStatus, Creative, check_int, validate
from pacing.facts import Goal
from targeting import expression_json

STORED_FIELDS = (
    "creator_id",
    "status",
    "version",
    "goal",
    "bid_mode",
    "name",
    "zone",
    "target_cost_micros",
    "daily_budget_micros",
    "total_budget_micros",
    "start_at_ms",
    "end_at_ms",
    "include_fans",
    "frequency_cap_per_day",
    "high_tier_worth",
    "creatives",
    "targeting",
    "created_at_ms",
    "updated_at_ms",
)

REGISTERS: dict[str, tuple[str, ...]] = {
    "name": ("name",),
    "target_cost": ("target_cost_micros",),
    "budgets": ("daily_budget_micros", "total_budget_micros"),
    "end": ("end_at_ms",),
    "creatives": ("creatives",),
    "audience": ("targeting", "include_fans"),
    "frequency_cap": ("frequency_cap_per_day",),
    "high_tier_worth": ("high_tier_worth",),
    "status": ("status",),
}
"""The fields that may change, in groups whose values are checked against each other."""

_LEFT_OUT: dict[str, Any] = {"high_tier_worth": 1.0}
"""Fields that a record leaves out when they hold this: so it is read, and marked, as before there were any."""

_MAX_STORED = 2**63 - 1

Stamp = tuple[int, int, int]
"""(version, updated_at_ms, owner_id) of the change that set a register; the greater one is the later write."""
_NEVER_CHANGED: Stamp = (1, 0, 0)


def columns_of(campaign: Campaign) -> dict[str, object]:
    """The campaign's STORED_FIELDS as numbers and text."""
    columns: dict[str, object] = {name: getattr(campaign, name) for name in STORED_FIELDS}
    creatives = [[c.creative_id, c.title, c.category] for c in campaign.creatives]
    return columns | {
        "creator_id": str(campaign.creator_id),
        "status": int(campaign.status),
        "goal": int(campaign.goal),
        "bid_mode": int(campaign.bid_mode),
        "include_fans": int(campaign.include_fans),
        "high_tier_worth": float(campaign.high_tier_worth),
        "creatives": json.dumps(creatives, ensure_ascii=False),
        "targeting": json.dumps(expression_json.to_json(campaign.targeting)),
    }


def campaign_of(campaign_id: int, columns: Mapping[str, Any]) -> Campaign:
    """The campaign whose columns these are; nothing is checked.

    Raises:
        ValueError, LookupError, TypeError: they are no campaign's.
    """
    fields = _LEFT_OUT | {name: columns[name] for name in STORED_FIELDS if name in columns or name not in _LEFT_OUT}
    fields |= {
        "campaign_id": campaign_id,
        "creator_id": int(str(fields["creator_id"])),
        "status": CampaignStatus(fields["status"]),
        "goal": Goal(fields["goal"]),
        "bid_mode": BidMode(fields["bid_mode"]),
        "include_fans": bool(fields["include_fans"]),
        "creatives": tuple(Creative(*creative) for creative in json.loads(str(fields["creatives"]))),
        "targeting": expression_json.from_json(json.loads(str(fields["targeting"]))),
    }
    return Campaign(**fields)


@dataclass(frozen=True)
class Record:
    """One campaign as servers exchange it.

    Attributes:
        idempotency_key: of the call that created it; empty: none.
        stamps: by register, which change set it; a register that is not named is as it was created.
        change_id: of the last change, so that two changes to the same values are still two.
    """

    campaign: Campaign
    idempotency_key: str = ""
    stamps: Mapping[str, Stamp] = field(default_factory=dict)
    change_id: str = ""

    @cached_property
    def text(self) -> str:
        """The record as JSON; the same text for the same record."""
        stamps = {name: list(stamp) for name, stamp in self.stamps.items()}
        content: dict[str, object] = {"campaign_id": self.campaign.campaign_id, "key": self.idempotency_key}
        content |= {"stamps": stamps, "change_id": self.change_id}
        columns = {
            name: v for name, v in columns_of(self.campaign).items() if name not in _LEFT_OUT or v != _LEFT_OUT[name]
        }
        return json.dumps(columns | content, ensure_ascii=False, sort_keys=True)

    @cached_property
    def mark(self) -> str:
        """Tells this record from every other one of its campaign: its version, and a digest of its text."""
        return f"{self.campaign.version}.{_digest(self.text)}"

    def changed(self, campaign: Campaign, owner_id: int) -> Record:
        """The record after a change that this owner made."""
        stamp = campaign.version, campaign.updated_at_ms, owner_id
        set_now = {name: stamp for name in REGISTERS if _values(campaign, name) != _values(self.campaign, name)}
        return Record(campaign, self.idempotency_key, {**self.stamps, **set_now}, secrets.token_hex(8))


def record_of(text: str | bytes) -> Record:
    """What `Record.text` gave, checked.

    Raises:
        ValueError: it is no record of a valid campaign.
    """
    try:
        content = json.loads(text)
        stamps = {name: _stamp_of(*stamp) for name, stamp in content["stamps"].items() if name in REGISTERS}
        campaign = campaign_of(int(content["campaign_id"]), content)
        key, change_id = str(content["key"]), str(content["change_id"])
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"not a record of a campaign: {error!r}") from None
    check_int("campaign_id", campaign.campaign_id, 1, _MAX_STORED)
    for name in ("version", "created_at_ms", "updated_at_ms"):
        check_int(name, getattr(campaign, name), 0, _MAX_STORED)
    return Record(validate(campaign), key, stamps, change_id)


def joined(one: Record, other: Record) -> Record:
    """What two records of a campaign are together, in either order.

    It is the newer one where that knows of every change of the other. Else it is of a version above both, so that
    whoever holds one of them takes it over.
    """
    older, newer = sorted((one, other), key=lambda record: (record.campaign.version, record.mark))
    if older.mark == newer.mark:
        return newer
    stamps: dict[str, Stamp] = dict(newer.stamps)
    kept: dict[str, Any] = {}
    for name in REGISTERS:
        if _stamp(older, name) > _stamp(newer, name):
            stamps[name] = _stamp(older, name)
            kept.update(dict(zip(REGISTERS[name], _values(older.campaign, name), strict=True)))
    if CampaignStatus.ENDED in (older.campaign.status, newer.campaign.status):
        kept["status"] = CampaignStatus.ENDED
    campaign = replace(newer.campaign, **kept)
    knows_all = campaign == newer.campaign and stamps == newer.stamps
    if knows_all and older.campaign.version < newer.campaign.version:
        return newer
    updated_at_ms = max(older.campaign.updated_at_ms, newer.campaign.updated_at_ms)
    campaign = replace(campaign, version=newer.campaign.version + 1, updated_at_ms=updated_at_ms)
    key = newer.idempotency_key or older.idempotency_key
    return Record(campaign, key, stamps, change_id=_digest(f"{older.mark} {newer.mark}"))


def _stamp_of(version: int, updated_at_ms: int, owner_id: int) -> Stamp:
    return int(version), int(updated_at_ms), int(owner_id)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _stamp(record: Record, register: str) -> Stamp:
    return record.stamps.get(register, _NEVER_CHANGED)


def _values(campaign: Campaign, register: str) -> tuple[object, ...]:
    return tuple(getattr(campaign, name) for name in REGISTERS[register])
