"""How a campaign is created or changed: in the store and in the engine together, or in neither."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

from auction.campaigns.desk import CapsInForce, Desk
from auction.campaigns.model import Campaign, CampaignStatus
from auction.campaigns.store import CampaignStore, StoreUnavailable

Make = Callable[[Campaign], Campaign]
"""Makes the next version of a campaign, or answers with the one that it was given; what it raises ends the change."""


class Changes(Protocol):
    """Where changes of campaigns are decided. Called from any thread."""

    def create(self, draft: Campaign, idempotency_key: str) -> Campaign:
        """Make a campaign of a checked draft, or answer with the one that this creator made with the same key.

        Raises:
            CampaignLimit: the creator has as many open campaigns as one may have.
            StoreUnavailable: it cannot be made now.
        """

    def change(self, campaign_id: int, make: Make) -> tuple[Campaign, CapsInForce | None]:
        """Replace a campaign by what `make` makes of it; answers with it, and the budgets in force if it changed.

        Raises:
            NoSuchCampaign: there is none.
            StoreUnavailable: it cannot be changed now.
        """


class LocalChanges:
    """Changes of a server that shares its campaigns with nobody."""

    def __init__(self, store: CampaignStore, desk: Desk) -> None:
        self._store = store
        self._desk = desk

    def create(self, draft: Campaign, idempotency_key: str) -> Campaign:
        """See `Changes.create`."""
        with self._one_step() as told:
            campaign = self._store.find_by_key(draft.creator_id, idempotency_key) if idempotency_key else None
            if campaign is None:
                campaign = replace(draft, campaign_id=self._store.insert(draft, idempotency_key))
                self._desk.campaign_changed(campaign, opening=True)
                told.append(replace(campaign, status=CampaignStatus.ENDED))
        return campaign

    def change(self, campaign_id: int, make: Make) -> tuple[Campaign, CapsInForce | None]:
        """See `Changes.change`."""
        with self._one_step() as told:
            before = self._store.get(campaign_id)
            after = make(before)
            if after is before:
                return before, None
            self._store.update(after)
            caps = self._desk.campaign_changed(after)
            told.append(before)
        return after, caps

    @contextmanager
    def _one_step(self) -> Iterator[list[Campaign]]:
        """One change of store and engine. What is put into the list is told to the engine if the store then fails."""
        told: list[Campaign] = []
        try:
            with self._store.change():
                yield told
        except StoreUnavailable:
            for before in told:
                self._desk.campaign_changed(before)
            raise
