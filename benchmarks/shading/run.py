"""One run: bid in a world with the shipped learner and the shipped shading, and count what it is worth."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from auction.landscape.kernels import shade_batch
from auction.landscape.landscape import LandscapeLearner
from auction.services import CONTROL_PERIOD_MS, LANDSCAPE_PERIOD_MS
from benchmarks.shading.worlds import FLOORS, UNIT_MICROS, VALUE_MEDIAN, VALUE_SIGMA, WORLDS, Oracle, World
from pacing.facts import FEEDBACK, AuctionType

KINDS = ("full", "on_win", "on_loss", "win_loss", "missing", "mixed")
"""What is told of an auction: the least winning bid; the same only when won, or only when lost; nothing but won or
lost. "missing": of half of the auctions nothing at all, of the others everything. "mixed": any of the first four."""
BATCH = 200
"""Auctions between two snapshots: what is told of them, they all teach the next ones."""
REFRESH_BATCHES = LANDSCAPE_PERIOD_MS // CONTROL_PERIOD_MS
"""As a server does it that is told of one batch in each control period."""
FRACTIONS = np.linspace(0.3, 1.0, 29)
_YARDSTICK_AUCTIONS = 4_000


@dataclass(frozen=True, slots=True)
class Share:
    """How one run ended.

    Attributes:
        share: expected surplus over the oracle's, from the first auction to the last.
        late_share: the same over the second half.
        fraction_share: what the best of FRACTIONS of the value, chosen in hindsight, would have had.
        violations: bids under their floor or above their value.
    """

    share: float
    late_share: float
    fraction_share: float
    violations: int


@dataclass(frozen=True)
class _Slots:
    """n auctions: segment i8; value f8, floor i8 and price i8 in micros; `floors` f8 in units, `scale_micros` f8 a unit
    there and then."""

    segments: np.ndarray
    values_micros: np.ndarray
    floors: np.ndarray
    floors_micros: np.ndarray
    prices_micros: np.ndarray
    scale_micros: np.ndarray

    def part(self, which: slice) -> _Slots:
        return _Slots(
            self.segments[which],
            self.values_micros[which],
            self.floors[which],
            self.floors_micros[which],
            self.prices_micros[which],
            self.scale_micros[which],
        )


@cache
def _oracle(world: str, floor: float) -> Oracle:
    return Oracle(WORLDS[world].prices, floor)


def _draw_slots(world: World, auctions: int, rng: np.random.Generator) -> _Slots:
    # Prices lie somewhere else among the bins of the learner in every run.
    unit_micros = UNIT_MICROS * np.exp(rng.uniform(-0.5, 0.5))
    factors = world.segment_factors(rng)
    segments = rng.choice(world.segments, auctions, p=world.segment_shares())
    scale = unit_micros * factors[segments]
    values = scale * VALUE_MEDIAN * np.exp(VALUE_SIGMA * rng.standard_normal(auctions))
    floors = rng.choice(FLOORS, auctions) if world.has_floors else np.zeros(auctions)
    scale = scale * world.level((np.arange(auctions) + 0.5) / auctions)
    prices = np.maximum(np.rint(scale * world.prices.draw(rng, auctions)), 1.0).astype(np.int64)
    floors_micros = np.rint(floors * scale).astype(np.int64)
    return _Slots(segments, values, floors, floors_micros, np.maximum(prices, floors_micros), scale)


def _expected_surplus(world: World, slots: _Slots, bids: np.ndarray) -> np.ndarray:
    """(v - b) F(b) of each bid f8[n] or i8[n], in micros; a bid under the floor wins nothing."""
    won = world.prices.win_probs(bids / slots.scale_micros)
    allowed = (bids > 0) & (bids >= slots.floors_micros)
    return np.where(allowed, (slots.values_micros - bids) * won, 0.0)


def _oracle_surplus(name: str, slots: _Slots) -> np.ndarray:
    total = np.zeros(len(slots.values_micros))
    for floor in np.unique(slots.floors).tolist():
        chosen = slots.floors == floor
        scale = slots.scale_micros[chosen]
        total[chosen] = scale * _oracle(name, floor).surplus(slots.values_micros[chosen] / scale)
    return total


def feedback_of(kind: str, slots: _Slots, leaves: np.ndarray, bids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What a feed of this kind reports of bids i8[n]: FEEDBACK rows, one for each auction that it tells of."""
    rows = np.zeros(len(bids), FEEDBACK)
    won = bids >= slots.prices_micros
    told = {
        "full": np.ones(len(bids), bool),
        "on_win": won,
        "on_loss": ~won,
        "win_loss": np.zeros(len(bids), bool),
        "missing": np.ones(len(bids), bool),
        "mixed": np.choose(rng.integers(0, 4, len(bids)), (won | True, won, ~won, won & False)),
    }[kind]
    rows["at"], rows["landscape_idx"] = AuctionType.FIRST_PRICE, leaves[slots.segments]
    rows["bid_micros"], rows["floor_micros"], rows["won"] = bids, slots.floors_micros, won
    rows["price_micros"] = np.where(won, bids, -1)
    rows["min_bid_to_win_micros"] = np.where(told, slots.prices_micros, -1)
    reported = bids > 0
    if kind == "missing":
        reported &= rng.random(len(bids)) < 0.5
    return rows[reported]


def _fraction_share(world: World, slots: _Slots, oracle: np.ndarray) -> float:
    """Of the best fixed fraction of the value, or the floor where that is more; over every so many auctions."""
    every = max(1, len(oracle) // _YARDSTICK_AUCTIONS)
    some = slots.part(slice(None, None, every))
    best = 0.0
    for fraction in FRACTIONS.tolist():
        bids = np.maximum(some.values_micros * fraction, some.floors_micros)
        surplus = np.where(bids <= some.values_micros, _expected_surplus(world, some, bids), 0.0)
        best = max(best, float(surplus.sum()))
    return best / float(oracle[::every].sum())


def run_world(name: str, kind: str, seed: int, auctions: int) -> Share:
    """Bid in `auctions` of a world, learning from feedback of this kind as it comes, from nothing on."""
    share, _ = _run(name, kind, seed, auctions)
    return share


def learned_world(name: str, kind: str, seed: int, auctions: int) -> LandscapeLearner:
    """The learner at the end of such a run."""
    _, learner = _run(name, kind, seed, auctions)
    return learner


def _run(name: str, kind: str, seed: int, auctions: int) -> tuple[Share, LandscapeLearner]:
    world = WORLDS[name]
    # The same slots for every kind of feedback.
    rng, told_rng = np.random.default_rng([seed, 1]), np.random.default_rng([seed, 2])
    slots, leaves, learner = _draw_slots(world, auctions, rng), world.leaves(), LandscapeLearner()
    bids = np.zeros(auctions, np.int64)
    for number, start in enumerate(range(0, auctions, BATCH)):
        if number % REFRESH_BATCHES == 0:
            learner.refresh()
        part = slots.part(slice(start, start + BATCH))
        which, made = leaves[part.segments], bids[start : start + BATCH]
        shade_batch(part.values_micros, part.floors_micros, which, learner.snapshot(), made)
        learner.observe(feedback_of(kind, part, leaves, made, told_rng))
    surplus, oracle = _expected_surplus(world, slots, bids), _oracle_surplus(name, slots)
    half = auctions // 2
    violations = (bids > slots.values_micros) | ((bids > 0) & (bids < slots.floors_micros)) | (bids < 0)
    share = Share(
        share=float(surplus.sum() / oracle.sum()),
        late_share=float(surplus[half:].sum() / oracle[half:].sum()),
        fraction_share=_fraction_share(world, slots, oracle),
        violations=int(violations.sum()),
    )
    return share, learner
