"""Everything that a server consists of, put together; over gRPC or in process, it is the same object."""

from __future__ import annotations

import gc
import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import numpy as np

from auction.array_files import load_arrays
from auction.attribution import AttributionJudge
from auction.audience.journal import Journal
from auction.audience.service import AudienceService
from auction.bid.caps.table import FrequencyCaps
from auction.bid.engine import BidEngine
from auction.bid.keyring import KeyRing
from auction.bid.service import BiddingService, FeedbackQueue
from auction.campaigns.access import Access
from auction.campaigns.desk import CapsInForce, LiveFigures
from auction.campaigns.health_service import HealthSource, no_health
from auction.campaigns.limits import RateLimits
from auction.campaigns.model import Campaign
from auction.campaigns.report import ReportBook
from auction.campaigns.service import CampaignsService
from auction.campaigns.store import CampaignStore
from auction.config import ServeConfig
from auction.control import Control
from auction.followers import Followers, ReadAhead
from auction.kept_pacing import keep_pacing, take_up_pacing
from auction.landscape.archive import LANDSCAPES_FOLDER, LandscapeArchive
from auction.landscape.landscape import LandscapeLearner
from auction.learning import Learner
from auction.matched_audience import MatchedAudiences
from auction.predictor.predictor import Predictor
from auction.progress import Progress
from auction.publisher import NextVersion, Publisher
from auction.registry import Registry
from auction.rpc_service import Calls
from auction.scheduler import Scheduler
from auction.shared.membership import Membership
from auction.simulation_service import SimulationService
from auction.uplift import TierUplift
from pacing.budget.bank import Bank, BankSettings
from pacing.budget.owner_redis import ForeignFolder, is_shared
from pacing.budget.quarantine import NoGrants
from pacing.budget.store import StoreUnavailable as BudgetsAway
from pacing.clocks import Clock, SystemClock, VirtualClock
from pacing.control.history import MarketHistory
from pacing.control.pacer import Pacer
from pacing.control.settings import PacerSettings
from pacing.ledger.followers import JudgeFollower
from pacing.ledger.log import Ledger
from pacing.ledger.owners import OWN
from pacing.ledger.statement import StatementPage, explained, statement_page
from targeting.expressions import Expression
from targeting.graph.follows import FollowGraph
from targeting.segments.store import SegmentStore
from targeting.viewers import ViewerTable
from targeting.visits import Visits

_log = logging.getLogger(__name__)

MONEY_PERIOD_MS = 200
FOLLOW_PERIOD_MS = 500
PEERS_PERIOD_MS = 100
CONTROL_PERIOD_MS = 1_000
NOTICE_PERIOD_MS = 250
EXPIRY_PERIOD_MS = 250
KEY_PERIOD_MS = 500
SAVE_PERIOD_MS = 60_000
LANDSCAPE_PERIOD_MS = 5_000
EPOCH_PERIOD_MS = 1_000
NEW_SIMILAR_PERIOD_MS = 1_000
SIMILAR_PERIOD_MS = 300_000
VISITS_PERIOD_MS = 1_000
PLANS_NOTED = 10_000
"""Of more campaigns than this, so many plans are noted for the reports in a round, in turn."""
FREQUENCY_CAPACITY = 2**20
LEASE_SHARE = 2
"""A single server leases half of what is free at a time: a crash locks that for a minute; bids of large batches fit."""
VIRTUAL_STRETCH = 120
"""On virtual time tasks run this many times more rarely: hours pass in seconds there, and bids come seconds apart."""


class Services:
    """One server's parts. `handle` answers any call; `scheduler` does what is periodic.

    `start` begins periodic work on real time; on virtual time the Simulation service drives it. Close it in the end.
    """

    def __init__(self, config: ServeConfig, virtual_stretch: int = VIRTUAL_STRETCH) -> None:
        """Open or create everything under `config.data` (or in memory) and recover what an earlier process left.

        Long studies may have a larger `virtual_stretch`; money is looked after as often as ever.

        Raises:
            ValueError: a file is of no use; the text names it.
            LedgerInUse, LedgerDamaged: see `pacing.ledger`.
        """
        self.config = config
        self.health_source: HealthSource = no_health  # who runs the bridge to a fan service puts it here
        self._virtual_stretch = virtual_stretch
        self._open_learning()  # before anything is made: a file that is of no use leaves nothing behind
        self._temporary: Path | None = None
        folder = config.data
        if folder is None:
            self._temporary = folder = Path(tempfile.mkdtemp(prefix="fanbid-"))
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # tokens, keys and figures: the account's own
        self.folder = folder
        self._was_shared = is_shared(folder)
        try:
            with _without_garbage_collection():
                self._open()
        except BaseException:
            self.tell_what_stays()
            self._remove_temporary()
            raise

    def _open(self) -> None:
        config, folder = self.config, self.folder
        ahead = None if config.data is None else ReadAhead(folder)
        self.clock: Clock = VirtualClock(config.virtual_clock) if config.virtual_clock else SystemClock()
        self.store = CampaignStore(folder / "campaigns.sqlite")
        self.access = Access(self.store, RateLimits(config.calls_per_s, config.call_burst))
        self.keys = KeyRing(folder)
        self._join()
        self._open_money()
        self._open_audience()
        self._open_bidding(ahead)
        self._open_calls()
        self._recover()
        self._schedule()

    def _join(self) -> None:
        """Find the other servers, if there are to be any."""
        self.membership: Membership | None = None
        if self.config.redis:
            self.membership = Membership(self.config.redis, self.folder, self.store, self.keys, self.clock)
        elif is_shared(self.folder):
            raise ForeignFolder(f"{self.folder}: its budgets are in a Redis; start with --redis URL")

    def _open_money(self) -> None:
        config = self.config
        self.ledger = Ledger(None if config.data is None else self.folder / "ledger.sqlite")
        if isinstance(self.clock, VirtualClock):
            # A demonstration that is started again goes on where it stood: money must not see time go back.
            last = self.ledger.read(max(self.ledger.last_sequence - 1_000, 0), 1_000)["recorded_at_ms"]
            self.clock.advance_to(max(config.virtual_clock, int(last.max(initial=0))))
        self.settings = BankSettings(
            win_notice_ms=config.win_notice_ms, billing_ms=config.billing_ms, lease_share=LEASE_SHARE
        )
        budgets, self.peers = None, None
        if self.membership is not None:
            self.settings = self.membership.settings(self.settings)
            budgets = self.membership.budgets(self.settings, self.ledger)
            self.peers = self.membership.open_peers(self.ledger)
        self.attribution = AttributionJudge()
        self.bank = Bank(self.ledger, self.clock, self.settings, budgets)
        self.judge = JudgeFollower(self.ledger, [self.bank.settle_judge, self.attribution], on_judged=self.bank.judged)

    def _open_audience(self) -> None:
        self.viewers = ViewerTable()
        self.segments = SegmentStore()
        self.follows = FollowGraph(self.viewers, self.segments)
        self.visits = Visits(self.viewers, self.segments)
        self.journal: Journal | None = None if self.config.data is None else Journal(self.folder / "audience.journal")
        self.audience = AudienceService(
            self, lambda creator_id: self.registry.has_campaigns(creator_id), self._campaign_of
        )
        self.audience.replay()
        self._expire_segments()

    def _open_learning(self) -> None:
        config = self.config
        self.predictor = Predictor()
        if config.model is not None:
            load_arrays("--model", config.model, "a predictor state of fanbid", self.predictor.load)
        self.learner = Learner(self.predictor)
        self.landscapes = LandscapeLearner()
        history = None
        if config.history is not None:
            history = load_arrays("--history", config.history, "a history file of fanbid", MarketHistory.load)
        self.pacer = Pacer(history, PacerSettings(cost_excess_exponent=config.cost_excess_exponent))

    def _open_bidding(self, ahead: ReadAhead | None) -> None:
        config, clock = self.config, self.clock
        self.caps = FrequencyCaps(FREQUENCY_CAPACITY, config.zone, config.win_notice_ms, config.billing_ms)
        self.engine = BidEngine(self.viewers, self.segments, self.bank, self.caps, self.keys, clock, config.zone)
        self.registry = Registry(self.bank, self.follows, self.visits)
        self.uplift = TierUplift(self.learner, self.predictor)
        self.audiences = MatchedAudiences(self.registry.clauses_if_known, self.viewers, self.segments)
        self.publisher = Publisher(
            self.engine, self.registry, self.bank, self.segments, self.follows, self.predictor, self.landscapes,
            self.uplift, clock, config.frequency_cap, config.seed, self._next_version(),
        )  # fmt: skip
        self.progress = Progress(
            self.registry.day_start_of, self.registry.goal_of, kept_worth_of=self.learner.kept_worths
        )
        self.feedback = FeedbackQueue()
        self.book = ReportBook(self._campaign_of, OWN if self.membership is None else self.membership.owner.owner_id)
        together = self.membership if config.policy == "engine" else None
        self.control = Control(
            config,
            self.bank,
            self.pacer,
            self.landscapes,
            self.publisher,
            self.progress,
            self.learner,
            self.uplift,
            self.feedback,
            clock,
            self.book.planned_micros,
            None if together is None else together.pace(self.pacer),
        )
        self.followers = Followers(
            self.ledger, self.book, self.learner, self.progress, self.follows, self.visits, self.attribution,
            clock,
            None if config.data is None else self.folder, self.peers, ahead,
        )  # fmt: skip

    def _campaign_of(self, campaign_id: int) -> Campaign:
        """A campaign as this server runs it, or else as it is stored; NoSuchCampaign: neither."""
        return self.registry.get(campaign_id) or self.store.get(campaign_id)

    def _next_version(self) -> NextVersion:
        """Numbers snapshots; where there is a ledger on disk, their landscapes are kept beside it."""
        self.archive: LandscapeArchive | None = None
        if self.config.data is None:
            counted = count(1)
            return lambda _: next(counted)
        self.archive = LandscapeArchive(self.folder / LANDSCAPES_FOLDER, self.clock, self.config.zone)
        return self.archive.next_version

    def _open_calls(self) -> None:
        config, clock = self.config, self.clock
        self.scheduler = Scheduler(clock)
        self.notices = Scheduler(clock)
        self.studies = Scheduler(clock)
        self.calls = Calls(self.access)
        bidding = BiddingService(
            self.engine, self.bank, self.ledger, self.caps, self.keys, self.feedback, clock, config.currency
        )
        self.calls.add("Bidding", bidding.calls)
        self.calls.add("Audience", self.audience.calls)
        if config.virtual_clock:
            self.calls.add("Simulation", SimulationService(self.scheduler, clock).calls)
        changes = None
        if self.membership is not None:
            changes = self.membership.campaigns(self.access, self, self.book.announce_change)
        self.campaigns = CampaignsService(self.store, self.access, self, self.book, clock, config.currency, changes)

    def _recover(self) -> None:
        self.bank.recover()
        if self.membership is not None:
            self.membership.catch_up()
        for campaign in self.store.all():
            self.registry.take_over(campaign)
        self.followers.load()
        take_up_pacing(self.pacer, self.folder, self.clock.wall_ms())
        self.bank.tick()
        self.follow()
        # Twice: a campaign has a multiplier in the round after it was published, and the first call wants bids.
        for _ in range(2):
            if self.membership is not None:
                self.membership.meet_pacers()
            self.control.tick()

    def _schedule(self) -> None:
        stretch = self._virtual_stretch if self.config.virtual_clock else 1
        every = self.scheduler.every
        every(MONEY_PERIOD_MS * min(stretch, VIRTUAL_STRETCH), self.bank.tick, "money")
        every(FOLLOW_PERIOD_MS * stretch, self.follow, "followers")
        if self.membership is None:
            every(KEY_PERIOD_MS * stretch, self.keys.refresh, "keys")
        else:
            every(EPOCH_PERIOD_MS, self.membership.epochs.tick, "epochs")
            every(PEERS_PERIOD_MS, self.followers.take_peers, "peers")
        every(LANDSCAPE_PERIOD_MS * stretch, self.landscapes.refresh, "landscapes")
        every(CONTROL_PERIOD_MS * stretch, self.steer, "control")
        every(NOTICE_PERIOD_MS * stretch, self._steer_for_changes, "changes")
        self.notices.every(NOTICE_PERIOD_MS, self._publish_changes, "changes of many campaigns")
        self._schedule_studies(stretch)
        every(EXPIRY_PERIOD_MS * stretch, self._expire_segments, "expiry")
        every(SAVE_PERIOD_MS * stretch, self.save, "save")

    def _schedule_studies(self, stretch: int) -> None:
        """What may take long has a thread of its own on real time, so that money and bids wait for none of it."""
        every = (self.scheduler if self.config.virtual_clock else self.studies).every
        every(NEW_SIMILAR_PERIOD_MS * stretch, self._find_due_similar, "first similar creators")
        every(SIMILAR_PERIOD_MS * stretch, self._find_similar, "similar creators")
        every(VISITS_PERIOD_MS * stretch, self.visits.take_up, "visits before the start")

    def _find_due_similar(self) -> None:
        self.follows.similar.renew_due(self.clock.monotonic_ms())

    def _find_similar(self) -> None:
        self.follows.forget_asked()
        self.follows.similar.forget_others(self.registry.ask_for_similar(self.clock.wall_ms()))
        self.follows.similar.renew(self.clock.monotonic_ms())

    def _steer_for_changes(self) -> None:
        """Plan and publish ahead of the next round when a campaign was created, edited, paused or ended."""
        if self.publisher.is_stale and not self._publishes_at_once:
            self.steer()

    def _publish_changes(self) -> None:
        """Publish ahead of the next round, from a thread of its own: a round with very many campaigns takes long. What
        is new gets money to bid with first."""
        if self.publisher.is_stale and self._publishes_at_once:
            self.bank.tick()
            self.control.publish_changes()

    @property
    def _publishes_at_once(self) -> bool:
        return self.control.is_crowded and not self.config.virtual_clock

    def _expire_segments(self) -> None:
        self.audience.expire(self.clock.wall_ms())

    def steer(self) -> None:
        """One round of control, with its plan booked for the reports."""
        self.control.tick()
        self.book.note_plan(*self.control.planned(PLANS_NOTED))

    def handle(self, service_method: str, raw: bytes, token: str) -> bytes:
        """Answer one call, such as "Bidding/Bid", in its wire form; raises what `auction.status` maps to a status."""
        metadata = (("authorization", f"Bearer {token}"),)
        service, _, method = service_method.partition("/")
        if service == "Campaigns":
            return self.campaigns.handle(method, raw, self.access.authenticate(metadata))
        return self.calls.answer(service_method, raw, metadata)

    def campaign_changed(self, campaign: Campaign, opening: bool = False) -> CapsInForce:
        """Take over a campaign that was created or changed (see `auction.campaigns.desk`)."""
        return self.registry.take_over(campaign, opening)

    def check_lists(self, audience: Expression, creator_id: int) -> None:
        """See to it that an audience's lists may be used (see `auction.campaigns.desk`)."""
        self.audience.check_lists(audience, creator_id)

    def live(self, campaign_id: int) -> LiveFigures:
        """What only the running engine knows about a campaign (see `auction.campaigns.desk`)."""
        campaign = self.registry.get(campaign_id)
        kept_fans = self.learner.kept_fans.figures(campaign_id, self.clock.wall_ms())
        if campaign is None:
            campaign = self.store.get(campaign_id)
            caps = CapsInForce(campaign.daily_budget_micros, campaign.total_budget_micros)
            return LiveFigures(bids=0, multiplier_micros=0.0, caps=caps, kept_fans=kept_fans)
        account = self.bank.accounts(_ids(campaign_id))[0]
        return LiveFigures(
            bids=self.control.bids(campaign_id),
            multiplier_micros=self.control.multiplier_micros(campaign_id),
            caps=CapsInForce(int(account["day_cap_micros"]), int(account["flight_cap_micros"])),
            kept_fans=kept_fans,
        )

    def statement(self, campaign_id: int, after: int, limit: int, at_sequence: int) -> tuple[StatementPage, np.ndarray]:
        """A page of a campaign's charges, explained (see `auction.campaigns.desk`)."""
        if self.peers is not None:
            return self.peers.statement(campaign_id, after, limit, at_sequence)
        page = statement_page(self.ledger, campaign_id, after, limit, at_sequence)
        return page, explained(self.ledger, page.charges)

    def no_grants(self) -> NoGrants | None:
        """Why a shared store grants no new money now; None: it does, as far as is known, or there is none."""
        return None if self.membership is None else self.membership.no_grants()

    def follow(self) -> None:
        """Judge what is new in the ledger, knowing what others judged, and tell everybody who learns from it."""
        self.followers.take_peers()
        with suppress(BudgetsAway):  # logged where it is noticed; what is accepted waits for its verdict
            self.judge.catch_up()
        self.followers.tick()

    def save(self) -> None:
        """Write down what was learned and booked, so that a restart begins where this process stands."""
        self.followers.save()
        if self.config.data is not None:
            keep_pacing(self.pacer, self.folder, self.clock.wall_ms())

    def start(self) -> None:
        """Begin periodic work on real time; on virtual time this does nothing."""
        if not self.config.virtual_clock:
            self.scheduler.start()
            self.notices.start()
            self.studies.start()
        if self.membership is not None:
            self.membership.start()

    def tell_what_stays(self) -> None:
        """After a start that failed: what it made and nobody takes back, since others may count on it already."""
        if self.config.redis and is_shared(self.folder) and not self._was_shared:
            _log.warning(
                "%s: has joined the servers of this Redis, and stays one of them: start again with it, or let it leave "
                "with `fanbid owners retire --data %s`", self.folder, self.folder,
            )  # fmt: skip

    def close(self) -> None:
        """Stop periodic work, write everything down, close the files."""
        if self.membership is not None:
            self.membership.stop()
        self.notices.stop()
        self.follows.similar.stop()
        self.studies.stop()
        self.scheduler.stop()
        self.follow()
        self.save()
        if self.membership is not None:
            self.membership.close()
        self.ledger.close()
        self.store.close()
        if self.journal is not None:
            self.journal.close()
        if self.archive is not None:
            self.archive.close()
        self._remove_temporary()

    def _remove_temporary(self) -> None:
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Nearly all that is made while a folder is opened stays: looking through it for garbage only takes time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _ids(campaign_id: int) -> np.ndarray:
    return np.array([campaign_id], np.uint64)


def build_services(config: ServeConfig, virtual_stretch: int = VIRTUAL_STRETCH) -> Services:
    """A server's services in this process, recovered and ready to answer."""
    return Services(config, virtual_stretch)
