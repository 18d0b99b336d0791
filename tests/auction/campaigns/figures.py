"""Rows of a judged ledger, and a small engine behind a real server, for tests of campaigns, REST and the dashboard."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from auction.audience.service import AudienceService
from auction.campaigns.access import Access, Role
from auction.campaigns.desk import CapsInForce, LiveFigures
from auction.campaigns.health_service import HealthSource, no_health
from auction.campaigns.limits import RateLimits
from auction.campaigns.model import BidMode, Campaign, Creative
from auction.campaigns.report import ReportBook
from auction.campaigns.service import CampaignsService
from auction.campaigns.service_handlers import add_campaigns
from auction.campaigns.store import CampaignStore
from auction.kept_fans import NO_FANS
from auction.rpc_service import Calls
from auction.status import refuse
from pacing.clocks import MS_PER_HOUR, Clock, VirtualClock
from pacing.facts import JUDGEMENT, OUTCOME, AuctionType, Goal, OutcomeKind, Verdict
from pacing.ledger.log import Ledger
from pacing.ledger.statement import StatementPage, explained, statement_page
from protos.rpc.health_service import Health, Note, add_health_and_reflection
from protos.rpc.server import RpcServer
from targeting.expressions import Expression
from targeting.graph.follows import FollowGraph
from targeting.segments.store import SegmentStore
from targeting.viewers import ViewerTable
from targeting.visits import Visits

NOON_MS = 1_772_596_800_000  # 4 March 2026, 12:00 in Shanghai


def a_campaign(**changes: object) -> Campaign:
    """A valid campaign that is not stored yet."""
    fields: dict[str, object] = {
        "creator_id": 7,
        "name": "Spring dance",
        "goal": Goal.FANS,
        "bid_mode": BidMode.TARGET_COST,
        "target_cost_micros": 3_000_000,
        "daily_budget_micros": 300_000_000,
        "total_budget_micros": 3_000_000_000,
        "zone": "Asia/Shanghai",
        "creatives": (Creative(7001, "Dance on the roof", 1),),
        "start_at_ms": NOON_MS,
        "created_at_ms": NOON_MS,
        "updated_at_ms": NOON_MS,
    }
    return Campaign(**(fields | changes))  # type: ignore[arg-type]


@dataclass
class JudgedRows:
    """Builds OUTCOME and JUDGEMENT rows in ledger order."""

    sequence: int = 0

    def __post_init__(self) -> None:
        self._rows: list[np.ndarray] = []
        self._judgements: list[np.ndarray] = []

    def add(
        self,
        campaign_id: int,
        kind: OutcomeKind,
        verdict: Verdict,
        at_ms: int,
        price_micros: int = 0,
        probability: float = 0.0,
        issued_at_ms: int | None = None,
        recorded_at_ms: int = 0,
    ) -> None:
        """Add one row and its judgement."""
        self.sequence += 1
        row, judgement = np.zeros(1, OUTCOME), np.zeros(1, JUDGEMENT)
        row["sequence"] = judgement["sequence"] = self.sequence
        row["kind"], judgement["verdict"] = kind, verdict
        row["occurred_at_ms"], row["recorded_at_ms"] = at_ms, recorded_at_ms
        row["price_micros"] = price_micros
        row["decision"]["campaign_id"] = judgement["campaign_id"] = campaign_id
        row["decision"]["probability"] = probability
        row["decision"]["issued_at_ms"] = at_ms if issued_at_ms is None else issued_at_ms
        self._rows.append(row)
        self._judgements.append(judgement)

    def take(self) -> tuple[np.ndarray, np.ndarray]:
        """The rows since the last call: OUTCOME[n], JUDGEMENT[n]."""
        taken = (
            np.concatenate([np.zeros(0, OUTCOME), *self._rows]),
            np.concatenate([np.zeros(0, JUDGEMENT), *self._judgements]),
        )
        self._rows, self._judgements = [], []
        return taken


class SmallDesk:
    """An engine that serves no bids: it keeps to its campaigns' budgets, and to what it was told is promised."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.campaigns: dict[int, Campaign] = {}
        self.promised_micros: dict[int, int] = {}
        self.bids: dict[int, int] = {}
        self.refuses: str = ""
        self.kept_fans = NO_FANS
        self.ledger = Ledger(None)
        self.health_source: HealthSource = no_health

    def campaign_changed(self, campaign: Campaign, opening: bool = False) -> CapsInForce:
        """Take the campaign over."""
        with self._lock:
            if self.refuses:
                raise ValueError(self.refuses)
            self.campaigns[campaign.campaign_id] = campaign
            return self._caps(campaign)

    def check_lists(self, audience: Expression, creator_id: int) -> None:
        """Every list is large enough: there are none."""

    def live(self, campaign_id: int) -> LiveFigures:
        """The present figures."""
        with self._lock:
            caps = self._caps(self.campaigns[campaign_id])
            return LiveFigures(self.bids.get(campaign_id, 0), 2_500_000.0, caps, self.kept_fans)

    def statement(self, campaign_id: int, after: int, limit: int, at_sequence: int) -> tuple[StatementPage, np.ndarray]:
        """A page of the charges in `ledger`."""
        page = statement_page(self.ledger, campaign_id, after, limit, at_sequence)
        return page, explained(self.ledger, page.charges)

    def _caps(self, campaign: Campaign) -> CapsInForce:
        promised = self.promised_micros.get(campaign.campaign_id, 0)
        return CapsInForce(max(campaign.daily_budget_micros, promised), max(campaign.total_budget_micros, promised))


@dataclass
class SmallEngine:
    """A running gRPC server with campaigns and audiences."""

    address: str
    store: CampaignStore
    access: Access
    desk: SmallDesk
    book: ReportBook
    clock: Clock
    service: CampaignsService
    health: Health
    notes: list[Note]
    audience: SmallAudience

    def token(self, role: Role, creator_id: int = 0) -> str:
        """A new token."""
        return self.access.create_token(role, creator_id, self.clock.wall_ms())


class SmallAudience:
    """Nobody is known at first, and nothing is written down."""

    def __init__(self, clock: Clock) -> None:
        self.viewers, self.segments = ViewerTable(), SegmentStore()
        self.follows = FollowGraph(self.viewers, self.segments)
        self.visits = Visits(self.viewers, self.segments)
        self.journal = None
        self.clock = clock


@contextmanager
def small_engine(
    directory: Path, clock: Clock | None = None, limits: RateLimits | None = None
) -> Iterator[SmallEngine]:
    """Start a server on its own store; end it on leaving."""
    clock = clock or VirtualClock(NOON_MS)
    store = CampaignStore(directory / "campaigns.sqlite")
    access, desk, book = Access(store, limits), SmallDesk(), ReportBook(store.get)
    service = CampaignsService(store, access, desk, book, clock)
    server = RpcServer(2, refuse)
    add_campaigns(server, service, access)
    calls = Calls(access)
    audience = SmallAudience(clock)
    calls.add("Audience", AudienceService(audience).calls)
    calls.register(server)
    notes: list[Note] = []
    health = add_health_and_reflection(server, (), lambda: tuple(notes))
    address = server.bind("127.0.0.1:0")
    server.start()
    try:
        yield SmallEngine(address, store, access, desk, book, clock, service, health, notes, audience)
    finally:
        server.stop(0.2)
        store.close()


def two_days(book: ReportBook, campaign_id: int, now_ms: int, seed: int, fans_per_impression: float = 0.02) -> None:
    """Fill a book with two days of plausible, seeded outcomes that end at `now_ms`."""
    random = np.random.default_rng(seed)
    rows = JudgedRows(book.ledger_sequence)
    last_hour = now_ms // MS_PER_HOUR
    for hour in range(last_hour - 47, last_hour + 1):
        busy = 1 + 0.8 * np.sin((hour * MS_PER_HOUR / MS_PER_HOUR + 8 - 15) / 24 * 2 * np.pi)
        for _ in range(int(random.poisson(14 * busy))):
            at_ms = min(hour * MS_PER_HOUR + int(random.integers(MS_PER_HOUR)), now_ms)
            charge = int(random.integers(20_000, 90_000)) * 10
            probability = fans_per_impression * random.uniform(0.5, 1.5) * 10
            rows.add(campaign_id, OutcomeKind.BILLABLE, Verdict.CHARGED, at_ms, charge, probability)
            for kind, chance in ((OutcomeKind.CLICK, 0.12), (OutcomeKind.PLAY, 0.7), (OutcomeKind.FOLLOW, probability)):
                if random.random() < chance:
                    rows.add(campaign_id, kind, Verdict.ATTRIBUTED, at_ms)
    book.follow(*rows.take())


def charge_some(ledger: Ledger, campaign_id: int, count: int) -> np.ndarray:
    """Append and judge so many impressions of a campaign, in both auction types; OUTCOME[count]."""
    random = np.random.default_rng(count)
    rows = np.zeros(count, OUTCOME)
    rows["kind"], rows["has_token"], rows["viewer_id"] = OutcomeKind.BILLABLE, 1, random.integers(1, 2**63, count)
    rows["occurred_at_ms"] = rows["recorded_at_ms"] = NOON_MS + np.arange(count)
    decisions = rows["decision"]
    decisions["campaign_id"], decisions["creative_id"], decisions["viewer_id"] = campaign_id, 7001, rows["viewer_id"]
    decisions["lease_id"], decisions["hold_seq"] = campaign_id, ledger.last_sequence + np.arange(count)
    decisions["at"] = np.where(np.arange(count) % 2, AuctionType.FIRST_PRICE, AuctionType.SECOND_PRICE)
    decisions["alpha_micros"], decisions["probability"] = 3e6, random.uniform(0.01, 0.2, count)
    decisions["bid_micros"] = np.floor(3e6 * decisions["probability"].astype(np.float64) * 0.75)
    decisions["floor_micros"] = 101
    rows["price_micros"] = decisions["bid_micros"] - 1
    ledger.append(rows)
    rows = ledger.read(ledger.judged_sequence, count)
    judgements = np.zeros(count, JUDGEMENT)
    judgements["sequence"], judgements["verdict"] = rows["sequence"], Verdict.CHARGED
    judgements["verdict"][-1] = Verdict.OVER_DELIVERY
    ledger.append_judgements(ledger.last_sequence, rows, judgements)
    return rows
