"""Servers that share campaigns, as far as they do: a file, an engine that serves no bids, and their exchange."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from auction.campaigns.desk import CapsInForce
from auction.campaigns.model import Campaign, edited, with_status
from auction.campaigns.record import Record
from auction.campaigns.store import CampaignStore
from auction.shared.campaigns import SharedCampaigns
from pacing.redis_link import RedisLink
from tests.auction.campaigns.figures import NOON_MS, SmallDesk, a_campaign


class OpeningDesk(SmallDesk):
    """Notes which campaigns' accounts were opened, and refuses to serve others."""

    def __init__(self, opened: set[int]) -> None:
        super().__init__()
        self.opened = opened

    def campaign_changed(self, campaign: Campaign, opening: bool = False) -> CapsInForce:
        if opening:
            assert campaign.campaign_id not in self.opened, "opened twice"
            self.opened.add(campaign.campaign_id)
        assert campaign.campaign_id in self.opened, "serves a campaign without accounts"
        return super().campaign_changed(campaign, opening)


class SharingServer:
    """One of several servers on one Redis."""

    def __init__(self, folder: Path, link: RedisLink, owner_id: int, opened: set[int]) -> None:
        self.store = CampaignStore(folder / f"{owner_id}.sqlite")
        self.store.share(owner_id)
        self.desk = OpeningDesk(opened)
        self.announced = 0
        self.now_ms = NOON_MS
        self.campaigns = SharedCampaigns(self.store, link, owner_id, self.desk, self._note)

    def _note(self) -> None:
        self.announced += 1

    def create(self, key: str = "", **fields: Any) -> Campaign:
        return self.campaigns.create(a_campaign(**fields), key)

    def edit(self, campaign_id: int, **fields: Any) -> Campaign:
        return self.campaigns.change(campaign_id, lambda before: edited(before, fields, self.now_ms))[0]

    def set_status(self, campaign_id: int, status: Any) -> Campaign:
        return self.campaigns.change(campaign_id, lambda before: with_status(before, status, self.now_ms))[0]

    def compare(self) -> None:
        """Poll, and compare everything though it may not be due."""
        self.campaigns._compare_at_s = 0.0
        self.campaigns.poll()

    def copies(self) -> dict[int, Record]:
        """All records of its file, each checked against what the file and the engine serve."""
        marks = self.store.marks()
        records = self.store.records(marks)
        assert {campaign_id: record.mark for campaign_id, record in records.items()} == marks
        assert {c.campaign_id: c for c in self.store.all()} == {i: record.campaign for i, record in records.items()}
        served = {i: campaign for i, campaign in self.desk.campaigns.items() if i in records}
        assert served == {i: record.campaign for i, record in records.items()}
        return records

    def close(self) -> None:
        self.store.close()
