"""`fanbid bench forgery`: notices that nobody should believe, at a bank that holds real money; none of it may move.

An engine in this process bids, is told of some impressions, and charges them. Then come the notices: made up, signed
elsewhere, altered in one bit, signed with a key that was retired, told again, told again at another price, above the
bid, below nothing, and too late. Each must be answered with the status that the protocol documents, and afterwards
every account, the ledger and the reports must read as before.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from auction.bid.keyring import KEPT_MS, change_keys, retired
from auction.bid.token import TokenKeys, sign_batch
from auction.campaigns.access import Role
from auction.config import ServeConfig
from auction.services import Services, build_services
from benchmarks.output import ProgressBar, Scalar, add_output_arguments, print_table, progress, write_json
from pacing.clocks import MS_PER_MINUTE, VirtualClock
from pacing.facts import DECISION, TOKEN_VERSION, OutcomeKind, RowStatus
from protos import bidding_pb2, campaigns_pb2

NOTICES, QUICK_NOTICES = 1_000_000, 9_000
ROWS = 3_000
VIEWERS = 400
CAMPAIGNS = 4
START_AT_MS = 1_772_596_800_000
PAID_MICROS = 12_345
EXIT_MOVED = 1
_SETTLED = ("day_settled_micros", "flight_settled_micros", "over_delivered_micros")

Notices = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Kinds i8[n], decisions DECISION[n], prices i8[n]."""


@dataclass
class Attack:
    """One way to lie.

    Attributes:
        make: makes n notices.
        expected: what each must be answered.
        answers: how often each status was answered.
    """

    name: str
    expected: RowStatus
    make: Callable[[int], Notices]
    answers: dict[int, int] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def notices(self) -> int:
        """How many were sent."""
        return sum(self.answers.values())

    @property
    def wrong(self) -> int:
        """How many were answered with another status."""
        return self.notices - self.answers.get(self.expected, 0)


@dataclass(frozen=True)
class World:
    """An engine in this process, and what it signed.

    Attributes:
        billed, late, old: decisions that were charged, that nobody told of in time, and of a key that was retired.
    """

    services: Services
    feed: str
    operator: str
    billed: np.ndarray
    late: np.ndarray
    old: np.ndarray
    campaign_ids: np.ndarray

    def report(self, notices: Notices) -> np.ndarray:
        """Tell these notices; u1[n] of statuses."""
        return _report(self.services, self.feed, notices)

    def money(self) -> tuple[tuple[int, ...], ...]:
        """Everything that a notice could move: settled money by account, spend by report, rows of the ledger."""
        accounts = self.services.bank.accounts(self.campaign_ids)
        settled = tuple(int(value) for name in _SETTLED for value in accounts[name])
        spend = []
        for campaign_id in self.campaign_ids.tolist():
            raw = campaigns_pb2.GetReportRequest(campaign_id=campaign_id).SerializeToString()
            answer = self.services.handle("Campaigns/GetReport", raw, self.operator)
            total = campaigns_pb2.CampaignReport.FromString(answer).total
            spend += [total.spend_micros, total.impressions]
        return settled, tuple(spend), (self.services.ledger.last_sequence,)


def _report(services: Services, token: str, notices: Notices) -> np.ndarray:
    kinds, decisions, prices = notices
    request = bidding_pb2.ReportRequest(kinds=kinds.tolist(), tokens=decisions.tobytes(), prices_micros=prices.tolist())
    answer = services.handle("Bidding/Report", request.SerializeToString(), token)
    return np.array(bidding_pb2.ReportResponse.FromString(answer).statuses, np.uint8)


@contextmanager
def make_world() -> Iterator[World]:
    """A world in which some bids were charged and a key was retired; closed in the end."""
    with tempfile.TemporaryDirectory(prefix="fanbid-forgery-") as name:
        folder = Path(name)
        config = ServeConfig(
            data=folder, virtual_clock=START_AT_MS, policy="fixed", fixed_bid_micros=20_000, calls_per_s=0
        )
        services = build_services(config)
        try:
            yield _lived(services, folder)
        finally:
            services.close()


def _lived(services: Services, folder: Path) -> World:
    feed = services.access.create_token(Role.FEED, 0, START_AT_MS)
    operator = services.access.create_token(Role.OPERATOR, 0, START_AT_MS)
    ids = [_create(services, operator, creator_id) for creator_id in range(1, CAMPAIGNS + 1)]
    _go_round(services)
    old = _bid(services, feed, 0)
    change_keys(folder, lambda keys: keys.rotated(START_AT_MS))
    services.keys.refresh()
    billed, late = _bid(services, feed, VIEWERS), _bid(services, feed, 2 * VIEWERS)
    kinds, prices = np.full(len(billed), OutcomeKind.BILLABLE), np.full(len(billed), PAID_MICROS)
    told = _report(services, feed, (kinds, billed, prices))
    if not (told == RowStatus.ACCEPTED).all():
        raise RuntimeError(f"the impressions of this world were not accepted: {np.unique(told)}")
    old_id = int(old["key_id"][0])
    change_keys(folder, lambda keys: retired(keys, old_id, START_AT_MS + KEPT_MS))
    services.keys.refresh()
    assert isinstance(services.clock, VirtualClock)
    services.clock.advance_to(services.clock.wall_ms() + 5 * MS_PER_MINUTE)
    _go_round(services)
    return World(services, feed, operator, billed, late, old, np.array(ids, np.uint64))


def _create(services: Services, operator: str, creator_id: int) -> int:
    campaign = campaigns_pb2.Campaign(
        name="Dance", creator_id=creator_id, goal=campaigns_pb2.GOAL_FANS, bid_mode=campaigns_pb2.BID_MODE_AUTOMATIC,
        daily_budget_micros=300_000_000, total_budget_micros=3_000_000_000, zone="Asia/Shanghai",
        frequency_cap_per_day=100, creatives=[campaigns_pb2.Creative(creative_id=7001, title="Dance", category=3)],
    )  # fmt: skip
    raw = campaigns_pb2.CreateCampaignRequest(campaign=campaign).SerializeToString()
    return campaigns_pb2.Campaign.FromString(services.handle("Campaigns/CreateCampaign", raw, operator)).campaign_id


def _go_round(services: Services) -> None:
    services.bank.tick()
    services.follow()
    services.steer()


def _bid(services: Services, feed: str, first_viewer: int) -> np.ndarray:
    """Bids for VIEWERS viewers: each campaign's alone for its share of them, so that no other's bid is its floor."""
    share = VIEWERS // CAMPAIGNS
    creators = range(1, CAMPAIGNS + 1)
    parts = []
    for creator_id in creators:
        first = first_viewer + (creator_id - 1) * share + 1
        request = bidding_pb2.BidRequest(
            id="r",
            at=bidding_pb2.AUCTION_TYPE_SECOND_PRICE,
            viewers=bidding_pb2.Viewers(ids=range(first, first + share)),
            blocked_creator_ids=[other for other in creators if other != creator_id],
        )
        raw = services.handle("Bidding/Bid", request.SerializeToString(), feed)
        parts.append(np.frombuffer(bidding_pb2.BidResponse.FromString(raw).tokens, DECISION))
    decisions = np.concatenate(parts)
    if not len(decisions):
        raise RuntimeError("the campaigns of this world do not bid")
    return decisions


def attacks(world: World, rng: np.random.Generator) -> list[Attack]:
    """Every way to lie, on the world's own tokens."""
    elsewhere = TokenKeys.generate()
    active_id = world.services.keys.current.active_id
    elsewhere = TokenKeys({active_id: elsewhere.keys[elsewhere.active_id]}, active_id)
    everything = np.concatenate([world.billed, world.late])

    def some(decisions: np.ndarray, n: int) -> np.ndarray:
        return decisions[rng.integers(0, len(decisions), n)]

    def billable(decisions: np.ndarray, prices: np.ndarray | int = PAID_MICROS) -> Notices:
        n = len(decisions)
        return np.full(n, OutcomeKind.BILLABLE), decisions, np.broadcast_to(np.asarray(prices, np.int64), n)

    def made_up(n: int) -> Notices:
        decisions = np.frombuffer(rng.bytes(n * DECISION.itemsize), DECISION).copy()
        decisions["bid_micros"] = 10**9
        decisions["version"], decisions["key_id"] = TOKEN_VERSION, active_id
        return billable(decisions)

    def signed_elsewhere(n: int) -> Notices:
        decisions = some(everything, n)
        sign_batch(decisions, elsewhere)
        return billable(decisions)

    def altered(n: int) -> Notices:
        decisions = some(everything, n)
        octets = decisions.view(np.uint8).reshape(n, DECISION.itemsize)
        octets[np.arange(n), rng.integers(0, DECISION.itemsize, n)] ^= (1 << rng.integers(0, 8, n)).astype(np.uint8)
        return billable(decisions, 0)

    def dearer(n: int) -> Notices:
        decisions = some(everything, n)
        decisions["bid_micros"] *= 1_000
        return billable(decisions, 10**7)

    def above_the_bid(n: int) -> Notices:
        decisions = some(everything, n)
        return billable(decisions, decisions["bid_micros"] + rng.integers(1, 10**6, n))

    return [
        Attack("made up", RowStatus.FORGED, made_up),
        Attack("signed elsewhere", RowStatus.FORGED, signed_elsewhere),
        Attack("one bit altered", RowStatus.FORGED, altered),
        Attack("price ceiling altered", RowStatus.FORGED, dearer),
        Attack("key retired", RowStatus.FORGED, lambda n: billable(some(world.old, n))),
        Attack("told again", RowStatus.DUPLICATE, lambda n: billable(some(world.billed, n))),
        Attack("told again, cheaper", RowStatus.CONFLICT, lambda n: billable(some(world.billed, n), PAID_MICROS - 1)),
        Attack("above the bid", RowStatus.INVALID, above_the_bid),
        Attack("below nothing", RowStatus.INVALID, lambda n: billable(some(everything, n), -PAID_MICROS)),
        Attack("too late", RowStatus.EXPIRED, lambda n: billable(some(world.late, n))),
    ]


def run(notices: int, seed: int, bar: ProgressBar) -> tuple[list[Attack], int]:
    """Send this many notices; the attacks with their answers, and the sum of all that moved (micros and rows)."""
    with make_world() as world:
        every = attacks(world, np.random.default_rng(seed))
        before = world.money()
        if not sum(before[0]):
            raise RuntimeError("nothing was charged in this world, so there is nothing to move")
        for attack in every:
            left = max(1, notices // len(every))
            while left:
                n = min(left, ROWS)
                made = attack.make(n)
                began_s = time.perf_counter()
                statuses = world.report(made)
                attack.seconds += time.perf_counter() - began_s
                for status, count in zip(*np.unique(statuses, return_counts=True), strict=True):
                    attack.answers[int(status)] = attack.answers.get(int(status), 0) + int(count)
                left -= n
                bar.advance(n, attack.name)
            _go_round(world.services)
        after = world.money()
    moved = sum(abs(a - b) for was, now in zip(before, after, strict=True) for a, b in zip(was, now, strict=True))
    return every, moved


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `bench forgery`."""
    add_output_arguments(parser)
    parser.add_argument("--notices", type=int, metavar="N", help=f"how many; default {NOTICES}")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="draws them; default 1")


def main(args: argparse.Namespace) -> int:
    """Run it; 0 if nothing moved and every answer was right, 1 otherwise.

    Raises:
        ValueError: --notices is not at least 1.
    """
    notices = args.notices if args.notices is not None else QUICK_NOTICES if args.quick else NOTICES
    if notices < 1:
        raise ValueError(f"--notices {notices}: must be 1 or more")
    with progress(notices, "lying") as bar:
        every, moved = run(notices, args.seed, bar)
    rows = [
        [each.name, each.notices, each.notices / max(each.seconds, 1e-9), each.expected.name, each.wrong]
        for each in every
    ]
    title = f"notices that nobody should believe; moved: {moved} micros"
    print_table(title, ("notice", "sent", "a second", "must be", "answered otherwise"), rows)
    wrong = sum(each.wrong for each in every)
    figures: dict[str, Scalar] = {
        "notices": sum(each.notices for each in every), "moved_micros": moved, "answered_otherwise": wrong,
    }  # fmt: skip
    write_json(args.json, figures)
    return EXIT_MOVED if moved or wrong else 0
