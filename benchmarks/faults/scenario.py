"""What one seed means: the campaigns and their zones, the load, the network and the faults, drawn before it begins."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

from benchmarks.faults.disk import CrashPoint
from benchmarks.faults.shared_scenario import SharedPlan
from pacing.budget.settings import BankSettings
from pacing.clocks import MS_PER_DAY, MS_PER_HOUR, MS_PER_MINUTE
from pacing.days import day_of_key

NOTABLE_DAYS = (
    ("Antarctica/Troll", 20260329),  # 22 hours
    ("Antarctica/Troll", 20261025),  # 26 hours
    ("America/New_York", 20260308),  # 23 hours
    ("America/New_York", 20261101),  # 25 hours
    ("America/Sao_Paulo", 20181104),  # starts at 01:00
    ("America/Santiago", 20260906),  # starts at 01:00
    ("America/Havana", 20260308),  # starts at 01:00
    ("Asia/Beirut", 20260329),  # starts at 01:00
    ("Africa/Cairo", 20260424),  # starts at 01:00
    ("Australia/Lord_Howe", 20261004),  # 23.5 hours
    ("Pacific/Apia", 20111231),  # the day before never was
    ("Asia/Kathmandu", 20260301),
    ("Asia/Shanghai", 20260301),
    ("UTC", 20260301),
)
MAX_CAMPAIGNS = 4
TIGHT_RATE = 0.35
_NOTICED_MS = 150_000
CREATORS = 3


@dataclass(frozen=True, slots=True)
class CampaignPlan:
    """A campaign and its first caps."""

    campaign_id: int
    creator_id: int
    zone: str
    daily_cap_micros: int
    total_cap_micros: int


@dataclass(frozen=True, slots=True)
class FeedPlan:
    """How viewers and the feed behave. Rates are probabilities.

    Attributes:
        viewers: at most so many in a request.
        close_rate, loss_row_rate: how a lost bid is told; else there is silence.
        show_rate: of won bids that are shown.
        show_within: share of billing_ms within which most are shown.
        instant_rate: of won bids whose impression is reported together with the WIN, not after its answer.
        late_rate: of rows that are sent after their deadline, or near it.
        repeat_rate: of rows that are sent once more, in another report.
        contradict_rate: of lost bids that are reported as won and shown later: no honest feed does that.
        wrong_amount_rate: of impressions that are repeated at another amount, or above the bid.
    """

    viewers: int
    largest_bid_micros: int
    win_rate: float
    close_rate: float
    loss_row_rate: float
    show_rate: float
    show_within: float
    instant_rate: float
    late_rate: float
    repeat_rate: float
    contradict_rate: float
    wrong_amount_rate: float
    flush_ms: int


@dataclass(frozen=True, slots=True)
class NetworkPlan:
    """What the way between feed and server does to reports and answers. Rates are probabilities."""

    drop_rate: float
    duplicate_rate: float
    lost_answer_rate: float
    slow_rate: float
    delay_ms: int
    slow_ms: int
    retry_ms: int


@dataclass(frozen=True, slots=True)
class Burst:
    """A stretch of traffic; instants are monotonic, counted from the start of the world."""

    start_ms: int
    end_ms: int
    requests: int


@dataclass(frozen=True, slots=True)
class CrashPlan:
    """A death: at once, or at one of the commits that follow; the wall clock may be set while the machine is down.

    Attributes:
        committed_share: not before this share of some budget is spent or won, if that comes to pass.
        commits: how many commits later, at `point` in one; None: between two events.
        server: who dies.
    """

    at_ms: int
    committed_share: float
    down_ms: int
    clock_step_ms: int
    commits: int
    point: CrashPoint | None
    server: int = 0


@dataclass(frozen=True, slots=True)
class CapChange:
    """New caps, as shares of the first ones; 0 pauses the campaign, and any change resumes it. Told to one server."""

    at_ms: int
    campaign_number: int
    daily_share: float
    total_share: float
    server: int = 0


@dataclass(frozen=True, slots=True)
class Scenario:
    """All that happens to one world, but for what is drawn while it runs.

    Attributes:
        is_folder: the ledger is a file with its anchor, not in main memory.
        clock_steps: (at_ms, ms) steps of the wall clock.
        clock_error_ms: how far a step may take the wall clock back behind what it showed before; -1: anything goes.
        stalls, full_disk: stretches without judging; and without a commit.
        judge_ms, judge_rows: the judge wakes that often and takes so many rows in a batch.
        shared: what is different where several servers share the budgets; None: there is one.
    """

    seed: int
    start_at_ms: int
    settings: BankSettings
    campaigns: tuple[CampaignPlan, ...]
    feed: FeedPlan
    network: NetworkPlan
    bursts: tuple[Burst, ...]
    crashes: tuple[CrashPlan, ...]
    cap_changes: tuple[CapChange, ...]
    clock_steps: tuple[tuple[int, int], ...]
    clock_error_ms: int
    stalls: tuple[tuple[int, int], ...]
    full_disk: tuple[tuple[int, int], ...]
    judge_ms: int
    judge_rows: int
    tick_ms: int
    is_folder: bool
    end_ms: int = field(default=0)
    shared: SharedPlan | None = None


def draw_scenario(seed: int, requests: int) -> Scenario:
    """The scenario of a seed, with so many bid requests in all."""
    rng = random.Random(seed)
    zone, day_key = rng.choice(NOTABLE_DAYS)
    feed = _draw_feed(rng)
    settings = _draw_settings(rng, feed.viewers)
    is_tight = rng.random() < TIGHT_RATE
    if is_tight:
        feed, settings = _tightened(rng, feed, settings)
    start_at_ms = day_of_key(day_key, zone).start_at_ms - rng.randrange(MS_PER_HOUR)
    bursts = _draw_bursts(rng, requests, start_at_ms, day_key, zone, settings.billing_ms)
    within = [rng.choice(bursts) for _ in range(16)]
    clock_error_ms = rng.choice((0, settings.grace_ms, settings.grace_ms, settings.grace_ms if is_tight else -1))
    return Scenario(
        seed=seed,
        start_at_ms=start_at_ms,
        settings=settings,
        campaigns=_draw_campaigns(rng, zone, feed, bursts, is_tight),
        feed=feed,
        network=_draw_network(rng, settings),
        bursts=bursts,
        crashes=_draw_crashes(rng, within, settings, clock_error_ms, is_tight),
        cap_changes=_draw_cap_changes(rng, within),
        clock_steps=_draw_steps(rng, within, clock_error_ms, settings),
        clock_error_ms=clock_error_ms,
        stalls=_stretches(rng, within, rng.choice((0, 1, 3)), 2 * settings.billing_ms),
        full_disk=_stretches(rng, within, rng.choice((0, 0, 0, 2)), 5_000),
        judge_ms=max(rng.choice((100, 1_000, 4_000)), settings.billing_ms // 20),
        judge_rows=rng.choice((7, 64, 500, 4_096)),
        tick_ms=max(rng.choice((250, 1_000, 2_000)), settings.billing_ms // 20),
        is_folder=rng.random() < 0.1,
        end_ms=bursts[-1].end_ms + 3 * (settings.billing_ms + settings.grace_ms),
    )


def _draw_settings(rng: random.Random, least_holds: int) -> BankSettings:
    billing_ms = rng.choice((3_000, 10_000, 30_000))
    sizes = [size for size in (64, 256, 1_024, 16_384) if size >= least_holds]
    return BankSettings(
        win_notice_ms=rng.choice((500, 2_000)),
        billing_ms=billing_ms,
        grace_ms=rng.choice((1_000, 5_000, 10_000)),
        lease_ttl_ms=rng.choice((2_000, 20_000, 120_000, 3_600_000)),
        hold_capacity=sizes[0] if rng.random() < 0.5 else rng.choice(sizes),
        lease_share=rng.choice((2, 8, 16)),
        retry_ms=rng.choice((100, 1_000)),
        snapshot_rows=rng.choice((30, 300, 25_000)),
    )


def _draw_feed(rng: random.Random) -> FeedPlan:
    loss_row_rate = rng.choice((0.0, 0.1, 0.5, 1.0))
    is_honest = rng.random() < 0.7
    return FeedPlan(
        viewers=rng.choice((8, 60, 60, 200, 200)),
        largest_bid_micros=rng.choice((50, 3_000_000)),
        win_rate=rng.choice((0.01, 0.05, rng.uniform(0.01, 1.0), rng.uniform(0.01, 1.0), 0.9, 1.0)),
        close_rate=rng.choice((0.0, 0.5, 1.0)),
        loss_row_rate=loss_row_rate,
        show_rate=rng.choice((0.5, 0.9, 1.0)),
        show_within=rng.choice((0.05, 0.3, 1.0, 1.0)),
        instant_rate=rng.choice((0.0, 0.0, 0.0, 0.3)),
        late_rate=rng.choice((0.0, 0.02, 0.5, 0.5)),
        repeat_rate=rng.choice((0.0, 0.02, 0.2)),
        contradict_rate=0.0 if is_honest else rng.choice((0.01, 0.1)),
        wrong_amount_rate=rng.choice((0.0, 0.02)),
        flush_ms=rng.choice((50, 200, 400)),
    )


def _tightened(rng: random.Random, feed: FeedPlan, settings: BankSettings) -> tuple[FeedPlan, BankSettings]:
    """A feed that keeps to the protocol, wins much and shows late, and clocks that err as long as an impression takes.

    A crash while a budget is nearly out then needs every lock on the dead process's leases.
    """
    feed = replace(
        feed,
        viewers=min(feed.viewers, 60),
        win_rate=rng.uniform(0.5, 1.0),
        show_rate=1.0,
        show_within=1.0,
        instant_rate=0.0,
        contradict_rate=0.0,
        late_rate=0.2,
    )
    return feed, replace(settings, billing_ms=rng.choice((3_000, 10_000)), grace_ms=10_000)


def _draw_network(rng: random.Random, settings: BankSettings) -> NetworkPlan:
    is_bad = rng.random() < 0.5
    return NetworkPlan(
        drop_rate=rng.choice((0.02, 0.2)) if is_bad else 0.0,
        duplicate_rate=rng.choice((0.0, 0.1)),
        lost_answer_rate=rng.choice((0.02, 0.2)) if is_bad else 0.0,
        slow_rate=rng.choice((0.0, 0.05)),
        delay_ms=rng.choice((5, 60)),
        slow_ms=rng.choice((settings.win_notice_ms, settings.billing_ms)),
        retry_ms=rng.choice((300, 1_000)),
    )


def _draw_bursts(
    rng: random.Random, requests: int, start_at_ms: int, day_key: int, zone: str, billing_ms: int
) -> tuple[Burst, ...]:
    """Stretches of traffic with gaps from nothing to more than a day; the first runs over the notable day's start."""
    count = rng.randint(2, 6)
    midnight_ms = day_of_key(day_key, zone).start_at_ms - start_at_ms
    bursts = []
    at_ms = max(0, midnight_ms - rng.randrange(30_000)) if rng.random() < 0.9 else 0
    for _ in range(count):
        length_ms = max(8_000, round(billing_ms * rng.uniform(2, 5)))
        bursts.append(Burst(at_ms, at_ms + length_ms, requests // count))
        gap_ms = rng.choice((1_000, 5 * MS_PER_MINUTE, 4 * MS_PER_HOUR, MS_PER_DAY - 60_000, MS_PER_DAY + MS_PER_HOUR))
        at_ms += length_ms + round(gap_ms * (0.2 + 0.8 * rng.random()))
    return tuple(bursts)


def _draw_campaigns(
    rng: random.Random, zone: str, feed: FeedPlan, bursts: tuple[Burst, ...], is_tight: bool
) -> tuple[CampaignPlan, ...]:
    """Campaigns whose budgets are from far too small to nearly twice what the load could spend."""
    count = rng.randint(1, MAX_CAMPAIGNS)
    requests = sum(burst.requests for burst in bursts) / len(bursts)
    shown = max(feed.win_rate * feed.show_rate, rng.choice((0.0, 0.3)))
    worth = requests * feed.viewers / 2 * feed.largest_bid_micros / 2 * shown / count
    plans = []
    for number in range(count):
        pressure = rng.uniform(0.02, 0.2) if is_tight else rng.choice((0.1, 1.0, 2.0)) * rng.random()
        daily = max(4 * feed.largest_bid_micros, round(worth * pressure))
        total = max(4 * feed.largest_bid_micros, round(daily * rng.choice((0.5, 1.0, 1.7, 20.0))))
        where = zone if number == 0 or rng.random() < 0.5 else rng.choice(NOTABLE_DAYS)[0]
        plans.append(CampaignPlan(101 + number, 70 + rng.randrange(CREATORS), where, daily, total))
    return tuple(plans)


def _within(rng: random.Random, burst: Burst) -> int:
    return burst.start_ms + rng.randrange(burst.end_ms - burst.start_ms)


def _draw_crashes(
    rng: random.Random, within: list[Burst], settings: BankSettings, clock_error_ms: int, is_tight: bool
) -> tuple[CrashPlan, ...]:
    crashes = []
    for burst in within[: rng.choice((1, 2, 3) if is_tight else (0, 1, 2, 3, 5))]:
        down_ms = rng.choice(
            (50, 50, 500, 500, settings.win_notice_ms, settings.billing_ms // 2, 2 * settings.billing_ms)
        )
        point = rng.choice((None, *CrashPoint))
        step_ms = -settings.grace_ms if clock_error_ms and rng.random() < 0.9 else 0
        at_ms, committed_share = _within(rng, burst), 0.0
        if is_tight or rng.random() < 0.5:
            at_ms, committed_share = burst.start_ms, rng.uniform(0.4, 1.0)
            down_ms = min(down_ms, 500)
        crashes.append(CrashPlan(at_ms, committed_share, down_ms, step_ms, rng.randrange(4), point))
    return tuple(sorted(crashes, key=lambda crash: crash.at_ms))


def _draw_cap_changes(rng: random.Random, within: list[Burst]) -> tuple[CapChange, ...]:
    shares = (0.0, 0.05, 0.3, 0.8, 1.0, 1.5, 3.0)
    return tuple(
        CapChange(_within(rng, burst), rng.randrange(MAX_CAMPAIGNS), rng.choice(shares), rng.choice(shares[1:]))
        for burst in within[: rng.choice((0, 1, 3, 6))]
    )


def _draw_steps(
    rng: random.Random, within: list[Burst], clock_error_ms: int, settings: BankSettings
) -> tuple[tuple[int, int], ...]:
    """Steps of the wall clock: none, small ones, or up to days; the largest are taken back after a while."""
    if not clock_error_ms:
        return ()
    sizes: tuple[int, ...] = (settings.grace_ms,)
    if clock_error_ms < 0:
        sizes = (settings.grace_ms, settings.billing_ms, MS_PER_HOUR, 6 * MS_PER_DAY, 6 * MS_PER_DAY)
    steps = [
        (_within(rng, burst), round(rng.choice((-1, 1)) * rng.choice(sizes) * rng.random()))
        for burst in within[: rng.randint(1, 6)]
    ]
    return (*steps, *((at_ms + _NOTICED_MS, -ms) for at_ms, ms in steps if abs(ms) > MS_PER_HOUR))


def _stretches(rng: random.Random, within: list[Burst], count: int, longest_ms: int) -> tuple[tuple[int, int], ...]:
    starts = [_within(rng, burst) for burst in within[:count]]
    return tuple((start_ms, start_ms + rng.randrange(1, longest_ms)) for start_ms in starts)
