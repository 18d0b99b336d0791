"""A server's part in a deployment of several: all that it shares with the others of one Redis."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from auction.bid.keyring import KeyRing
from auction.campaigns.access import Access
from auction.campaigns.desk import Desk
from auction.campaigns.store import CampaignStore
from auction.shared.campaigns import SharedCampaigns
from auction.shared.deployment import DeploymentWatch
from auction.shared.exchange import Exchange
from auction.shared.judged import PeerRows
from auction.shared.keys_redis import SharedKeys
from auction.shared.pace import SharedPacer
from auction.shared.pace_redis import PaceBoard
from auction.shared.tokens_redis import SharedTokens
from pacing.budget.epochs import EpochWatch
from pacing.budget.owner_redis import ForeignFolder, is_shared, join
from pacing.budget.quarantine import NoGrants
from pacing.budget.redis_store import RedisStore
from pacing.budget.settings import BankSettings
from pacing.budget.shared import SharedStore
from pacing.clocks import Clock
from pacing.control.pacer import Pacer
from pacing.ledger.log import Ledger
from pacing.redis_link import RedisLink

LEASE_MS = 120_000
"""Leases of shared budgets are short: after a failover nothing is granted for as long as one may live and be billed."""
LEASE_SHARE = 16
"""What one server has leased the others must ask for."""
HOLDS = 2**20
"""Where a notice may reach any server, a bid that nothing was told about is held for a minute, not for two seconds."""


class Membership:
    """What is shared, part by part: opened one after the other as the server's own parts come up, closed together.

    Attributes:
        owner: who this server is among the others.
        epochs: tells a new master again what this server settled; once `budgets` was called.
        peers: what the other servers judged; once `open_peers` was called.
        pacer: paces together with the others; once `pace` was called.
    """

    epochs: EpochWatch
    peers: PeerRows

    def __init__(self, url: str, folder: Path, store: CampaignStore, keys: KeyRing, clock: Clock) -> None:
        """Join the others.

        Raises:
            ForeignFolder: the folder belongs to another deployment, or has campaigns that are not shared.
            RedisUnavailable: nobody answers.
        """
        if not is_shared(folder) and not store.is_unused:
            raise ForeignFolder(f"{folder}: has campaigns that are not shared; begin with a new folder")
        self._folder, self._store, self._clock = folder, store, clock
        self._link = RedisLink(url)
        self.owner = join(self._link, folder)
        self._deployment = DeploymentWatch(self._link, self.owner, folder, clock)
        store.share(self.owner.owner_id)
        self._keys = SharedKeys(keys, self._link, clock)
        self.pacer: SharedPacer | None = None
        self._exchange = Exchange({})

    def settings(self, alone: BankSettings) -> BankSettings:
        """The times and sizes of the money protocol, from those of a server that is alone."""
        return replace(
            alone, owner_id=self.owner.owner_id, is_shared=True, lease_ttl_ms=LEASE_MS, hold_capacity=HOLDS,
            lease_share=LEASE_SHARE,
        )  # fmt: skip

    def budgets(self, settings: BankSettings, ledger: Ledger) -> SharedStore:
        """The store of the budgets that all share."""
        remote = RedisStore(self._link, self.owner.owner_id, quarantine_ms=settings.quarantine_ms)
        self._budgets = SharedStore(remote, self._clock, self.owner.owner_id)
        self.epochs = EpochWatch(self._budgets, remote, ledger, self._clock)
        return self._budgets

    def no_grants(self) -> NoGrants | None:
        """Why no new money is granted now; None: it is, as far as is known."""
        if self._link.foreign is not None:
            return NoGrants("foreign")
        return self.epochs.quarantine.state if self._budgets.is_granting else NoGrants("away")

    def open_peers(self, ledger: Ledger) -> PeerRows:
        """Have what the other servers judged."""
        self.peers = PeerRows(self._link, self.owner, ledger, self._folder, self._clock)
        return self.peers

    def pace(self, pacer: Pacer) -> SharedPacer:
        """Pace together with the others."""
        board = PaceBoard(self._link, self.owner.owner_id)
        self.pacer = SharedPacer(pacer, board, self._clock, self.owner.owner_id)
        return self.pacer

    def campaigns(self, access: Access, desk: Desk, announce: Callable[[], object]) -> SharedCampaigns:
        """The campaigns of all; with them, access tokens and keys are exchanged from now on."""
        campaigns = SharedCampaigns(self._store, self._link, self.owner.owner_id, desk, announce)
        tokens = SharedTokens(self._store, self._link, access.refresh)
        self._exchange = Exchange(
            {
                "deployment": self._deployment.tick, "campaigns": campaigns.poll, "tokens": tokens.poll,
                "keys": self._keys.poll,
            }
        )  # fmt: skip
        return campaigns

    def catch_up(self) -> None:
        """Take in what the others changed since this server was last here."""
        self._exchange.tick()

    def meet_pacers(self) -> None:
        """Learn what the others pace, before the first plan."""
        if self.pacer is not None:
            self.pacer.try_step()

    def start(self) -> None:
        """Begin to exchange, each kind of news on a thread of its own."""
        self.peers.start()
        self._exchange.start()
        if self.pacer is not None:
            self.pacer.start()

    def stop(self) -> None:
        """End what changes this server's parts."""
        self._exchange.stop()
        if self.pacer is not None:
            self.pacer.stop()

    def close(self) -> None:
        """Give up files and connections."""
        self.peers.close()
        self._link.close()
