"""Price landscapes learned from feedback: what the least winning bid is, by placement, time of day and region."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import ndtr

from auction.landscape.kernels import SURE, Landscape
from auction.landscape.memory.kernels import ESTIMATES, Evidence, refresh_landscapes
from auction.landscape.segments import LEAF_COUNT, ROW_COUNT, ancestry, landscape_idx, parent_rows
from pacing.durable import whole_file
from pacing.facts import AuctionType
from pacing.money import MAX_PRICE_MICROS

__all__ = ["Landscape", "LandscapeLearner", "LandscapeSettings", "landscape_idx"]

_STATE_VERSION = 2
_HELD = (
    "exact", "wins", "losses", "told", "fresh_exact", "fresh_wins", "fresh_losses", "fresh",
    "scores", "win_probs", "level_probs", "shapes",
)  # fmt: skip
_FAMILY_STEP = 0.1
_FAMILY_SIGMAS = (0.1, 0.2, 0.4, 0.6, 0.9, 1.3, 1.9)
_LEVEL_REACH = 1.04
"""How far the price level is looked for at once, in its logarithm: a factor of 2.8."""
_REFRESH_AT_LEAST, _REFRESH_AT_MOST = 20, 2_000


@dataclass(frozen=True, slots=True)
class LandscapeSettings:
    """How prices are binned, remembered and shrunk.

    Attributes:
        lowest_micros, highest_micros: first and last edge; no bid is shaded to more than the last.
        bins: edges, spaced evenly in the logarithm.
        half_lives: lengths of memory, in auctions, between which the likelihood of what follows decides.
        level_half_life: length of one more memory, whose evidence moves along with the price level.
        level_walk: standard deviation of the logarithm of the price level, an auction.
        level_jumps: probability that the price level jumps, an auction.
        score_half_life: how long that likelihood is remembered, in auctions.
        strength: how many auctions a parent's word counts for.
        rounds: of the iteration for mixed feedback, a refresh.
        exploration: standard deviations by which published landscapes are scattered where no prices are told.
    """

    lowest_micros: int = 500
    highest_micros: int = 2_000_000
    bins: int = 512
    half_lives: tuple[float, ...] = (500.0, 2_500.0, 15_000.0, 150_000.0)
    level_half_life: float = 40_000.0
    level_walk: float = 5e-4
    level_jumps: float = 1e-5
    score_half_life: float = 4_000.0
    strength: float = 50.0
    rounds: int = 25
    exploration: float = 0.4

    def __post_init__(self) -> None:
        if not 1 <= self.lowest_micros < self.highest_micros <= MAX_PRICE_MICROS:
            raise ValueError(
                f"lowest_micros {self.lowest_micros}, highest_micros {self.highest_micros}: "
                f"not ascending within 1..{MAX_PRICE_MICROS}"
            )
        if not 2 <= self.bins <= 4096:
            raise ValueError(f"bins {self.bins}: not in 2..4096")
        if not self.half_lives or min(self.half_lives) <= 0:
            raise ValueError(f"half_lives {self.half_lives}: not positive")
        if not 0 < self.level_walk <= 1:
            raise ValueError(f"level_walk {self.level_walk}: not in 0..1, above 0")
        if not 0 < self.level_jumps < 1:
            raise ValueError(f"level_jumps {self.level_jumps}: not between 0 and 1")
        if self.level_half_life <= 0:
            raise ValueError(f"level_half_life {self.level_half_life}: not positive")
        if self.strength <= 0 or self.score_half_life <= 0 or self.rounds < 1:
            raise ValueError("strength, score_half_life, rounds: not positive")
        if not 0 <= self.exploration <= 10:
            raise ValueError(f"exploration {self.exploration}: not in 0..10")


def price_edges(settings: LandscapeSettings) -> np.ndarray:
    """Edges i8[bins], strictly ascending.

    Raises:
        ValueError: so many whole micros do not fit between lowest and highest.
    """
    edges = np.unique(
        np.rint(np.geomspace(settings.lowest_micros, settings.highest_micros, settings.bins)).astype(np.int64)
    )
    if len(edges) != settings.bins:
        raise ValueError(
            f"bins {settings.bins}: more than whole micros in {settings.lowest_micros}..{settings.highest_micros}"
        )
    return edges


def _family_columns(edges_micros: np.ndarray) -> dict[str, np.ndarray]:
    """Log-normal distributions all over the range, as `Evidence` has them."""
    logs = np.log(edges_micros)
    mus = np.arange(logs[0], logs[-1] + _FAMILY_STEP, _FAMILY_STEP)
    mu, sigma = (grid.ravel()[:, None] for grid in np.meshgrid(mus, _FAMILY_SIGMAS, indexing="ij"))
    win_probs = ndtr((logs - mu) / sigma)
    masses = np.diff(win_probs, axis=1, prepend=0.0, append=1.0)
    logs_of = {"masses": masses, "wins": win_probs, "losses": 1.0 - win_probs}
    columns = {
        f"family_log_{name}": np.ascontiguousarray(np.log(np.maximum(chances, SURE)).T)
        for name, chances in logs_of.items()
    }
    return {"family_win_probs": win_probs, **columns}


class LandscapeLearner:
    """Learns from first-price feedback of outside auctions, and publishes landscapes.

    `observe` and `refresh` may be called from any thread; they take a lock. What `snapshot` returns is never written
    to again.
    """

    def __init__(self, settings: LandscapeSettings | None = None) -> None:
        self.settings = settings or LandscapeSettings()
        self.edges_micros = price_edges(self.settings)
        bins, memories = self.settings.bins, len(self.settings.half_lives) + 1
        root = np.arange(1, bins + 1, dtype=np.float64) / (bins + 1)
        bin_width = float(np.log(self.settings.highest_micros / self.settings.lowest_micros)) / (bins - 1)
        reach = min(math.ceil(_LEVEL_REACH / bin_width), bins)
        self._evidence = Evidence(
            parents=parent_rows(),
            root_win_probs=root,
            half_lives=np.array((*self.settings.half_lives, self.settings.level_half_life), np.float64),
            **_family_columns(self.edges_micros),
            exact=np.zeros((memories, ROW_COUNT, bins + 1)),
            wins=np.zeros((memories, ROW_COUNT, bins)),
            losses=np.zeros((memories, ROW_COUNT, bins)),
            told=np.zeros(ROW_COUNT),
            fresh_exact=np.zeros((ROW_COUNT, bins + 1)),
            fresh_wins=np.zeros((ROW_COUNT, bins)),
            fresh_losses=np.zeros((ROW_COUNT, bins)),
            fresh=np.zeros(ROW_COUNT),
            scores=np.zeros((memories, ROW_COUNT, ESTIMATES)),
            win_probs=np.broadcast_to(root, (memories, ROW_COUNT, ESTIMATES, bins)).copy(),
            level_variance=(self.settings.level_walk / bin_width) ** 2,
            level_jumps=self.settings.level_jumps,
            level_probs=np.zeros((ROW_COUNT, 2 * reach + 1)),
            shapes=np.broadcast_to(root, (ROW_COUNT, bins)).copy(),
        )
        self._evidence.level_probs[:, reach] = 1.0
        self._ancestry = ancestry()
        self._lock = threading.Lock()
        self._fresh = 0
        self.observed = 0
        self._wins_are_told = False
        self._published: Landscape | None = None

    def observe(self, feedback: np.ndarray) -> int:
        """Take in FEEDBACK[n]; how many rows told something.

        Only first-price rows count. A stated least winning bid is exact, and so is a lost auction's clearing price;
        else a win says "no more than the bid" and a loss "more than the bid". Rows with a landscape out of range are
        passed over, and so are billed impressions as soon as any win was told: their auctions were told of before.
        """
        rows = feedback[(feedback["at"] == AuctionType.FIRST_PRICE) & (feedback["landscape_idx"] < LEAF_COUNT)]
        rows = rows[(rows["bid_micros"] > 0) & (rows["bid_micros"] <= MAX_PRICE_MICROS)]
        self._wins_are_told |= bool(((rows["won"] == 1) & (rows["exposed"] == 0)).any())
        if self._wins_are_told:
            rows = rows[rows["exposed"] == 0]
        if not len(rows):
            return 0
        won = rows["won"] != 0
        seen_micros = np.where(rows["min_bid_to_win_micros"] > 0, rows["min_bid_to_win_micros"], -1)
        cleared = ~won & (seen_micros < 0) & (rows["price_micros"] >= rows["bid_micros"])
        seen_micros = np.where(cleared, rows["price_micros"], seen_micros)
        # A slot's price is never told below its floor: there, only that the others bid no more than that.
        at_floor = (seen_micros > 0) & (seen_micros <= rows["floor_micros"])
        exact = (seen_micros > 0) & ~at_floor
        # A price is in the first bin whose edge wins it. A win says as much of the bid; a loss, that the price is above
        # the last edge that the bid reaches.
        most_micros = np.where(exact, seen_micros, np.where(at_floor, rows["floor_micros"], rows["bid_micros"]))
        most_bins = np.searchsorted(self.edges_micros, most_micros, side="left")
        least_bins = np.searchsorted(self.edges_micros, rows["bid_micros"], side="right") - 1
        bounded = (won | at_floor) & ~exact & (most_bins < self.settings.bins)
        lost = ~won & ~exact & ~at_floor & (least_bins >= 0)
        told = exact | bounded | lost
        chains = self._ancestry[rows["landscape_idx"]]
        with self._lock:
            for depth in range(chains.shape[1]):
                level = chains[:, depth]
                np.add.at(self._evidence.fresh_exact, (level[exact], most_bins[exact]), 1.0)
                np.add.at(self._evidence.fresh_wins, (level[bounded], most_bins[bounded]), 1.0)
                np.add.at(self._evidence.fresh_losses, (level[lost], least_bins[lost]), 1.0)
                np.add.at(self._evidence.fresh, level[told], 1.0)
            count = int(told.sum())
            self._fresh += count
            self.observed += count
        return count

    def refresh(self) -> Landscape:
        """Bring landscapes up to date and publish them."""
        with self._lock:
            bins = self.settings.bins
            random = np.random.default_rng(self.observed)  # nothing new, nothing else to publish
            win_probs = np.zeros((ROW_COUNT, bins))
            counts = np.zeros(LEAF_COUNT, np.int32)
            starts = np.zeros((LEAF_COUNT, bins + 1))
            bids = np.zeros((LEAF_COUNT, bins + 1), np.int64)
            refresh_landscapes(
                self._evidence,
                self.edges_micros,
                self.settings.strength,
                self.settings.score_half_life,
                self.settings.rounds,
                random.standard_normal(bins),
                random.random(bins),
                self.settings.exploration,
                win_probs,
                counts,
                starts,
                bids,
            )
            self._fresh = 0
            self._published = Landscape(self.edges_micros, win_probs[:LEAF_COUNT], counts, starts, bids)
            return self._published

    def snapshot(self) -> Landscape:
        """The published landscapes; refreshed first when none are, or when enough was observed since to move them."""
        published, fresh = self._published, self._fresh
        enough = min(_REFRESH_AT_LEAST + self.observed // 100, _REFRESH_AT_MOST)
        return published if published is not None and fresh < enough else self.refresh()

    def save(self, path: Path) -> None:
        """Write all evidence to `path` (npz), whole or not at all."""
        with self._lock:
            held = {name: getattr(self._evidence, name).copy() for name in _HELD}
            observed = self.observed
        with whole_file(path) as file:
            np.savez_compressed(
                file,
                version=np.int64(_STATE_VERSION),
                edges_micros=self.edges_micros,
                half_lives=self._evidence.half_lives,
                observed=np.int64(observed),
                **held,
            )

    def load(self, path: Path) -> None:
        """Take up what `save` wrote.

        Raises:
            ValueError: the file is of another version, or was made with other bins or memories; nothing is changed
            then.
        """
        with np.load(path) as saved, self._lock:
            if int(saved["version"]) != _STATE_VERSION:
                raise ValueError(f"{path}: version {int(saved['version'])}, not {_STATE_VERSION}")
            if not np.array_equal(saved["edges_micros"], self.edges_micros) or not np.array_equal(
                saved["half_lives"], self._evidence.half_lives
            ):
                raise ValueError(f"{path}: made with other bins or half-lives")
            held = {name: saved[name] for name in _HELD}
            for name, values in held.items():
                target = getattr(self._evidence, name)
                if values.shape != target.shape:
                    raise ValueError(f"{path}: {name} has shape {values.shape}, not {target.shape}")
            for name, values in held.items():
                getattr(self._evidence, name)[...] = values
            self.observed = int(saved["observed"])
            self._published = None
