"""What the refresh of landscapes means, one landscape and one memory at a time. Used by tests only."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from auction.landscape.level import reference as level
from auction.landscape.level.reference import SURE

FAMILY_SURENESS = 4.0
NEGLIGIBLE = 1e-4
SEEN_ENOUGH = 0.01
PUBLISHED_STEPS = 4096

Estimate = Callable[[Sequence[float], Sequence[float], Sequence[float], Sequence[float]], list[float]]
"""estimate(exact, wins, losses, prior): F at each edge, as `estimate_win_probs` finds it."""


@dataclass
class Told:
    """Evidence over B bins: prices seen (B + 1), won bids (B) and lost bids (B), by weight."""

    exact: list[float]
    wins: list[float]
    losses: list[float]

    def total(self) -> float:
        """All weight."""
        return sum(self.exact) + sum(self.wins) + sum(self.losses)

    def faded(self, keep: float, fresh: Told) -> Told:
        """This, weighing `keep` times as much, and what is fresh."""
        columns = ((self.exact, fresh.exact), (self.wins, fresh.wins), (self.losses, fresh.losses))
        return Told(*([keep * old + new for old, new in zip(*pair, strict=True)] for pair in columns))


@dataclass
class Memory:
    """One landscape as one length of memory sees it: its two estimates, the one expected before its evidence is taken
    bin by bin and the one bin by bin, with their scores."""

    half_life: float
    told: Told
    estimates: list[list[float]] = field(default_factory=list)
    scores: list[float] = field(default_factory=lambda: [0.0, 0.0])
    family: float = 0.0
    """Its share in what is expected."""

    def take(self, fresh: Told, strength: float, score_half_life: float) -> None:
        """Score what was foretold, if anything was, then remember what came."""
        count = fresh.total()
        if self.told.total() == 0:
            self.scores = [0.0, math.log(count / strength)]
        else:
            keep = 0.5 ** (count / score_half_life)
            foretold = [log_likelihood(fresh, estimate) for estimate in self.estimates]
            self.scores = [keep * old + new for old, new in zip(self.scores, foretold, strict=True)]
        self.told = self.told.faded(0.5 ** (count / self.half_life), fresh)

    def estimate(self, prior: Sequence[float], family: Sequence[Sequence[float]], estimate: Estimate) -> None:
        """Both estimates, from what is remembered."""
        base, self.family = blended(self.told, prior, family)
        self.estimates = [base, estimate(self.told.exact, self.told.wins, self.told.losses, base)]

    def trials(self) -> list[list[float]]:
        """How many bids at each edge the two estimates rest on."""
        here = [won + lost for won, lost in zip(self.told.wins, self.told.losses, strict=True)]
        return [[FAMILY_SURENESS * self.family * sum(here) + (1.0 - self.family) * own for own in here], here]


@dataclass
class MovingMemory(Memory):
    """A memory that moves along with the price level.

    `walk` is how that moves in so many auctions, from its probabilities to its probabilities; `shape` is F at level 0.
    """

    level_probs: list[float] = field(default_factory=list)
    walk: Callable[[list[float], float], list[float]] = lambda level_probs, count: level_probs
    shape: list[float] = field(default_factory=list)

    def take(self, fresh: Told, strength: float, score_half_life: float) -> None:
        """First move what is remembered to where the level most likely is."""
        moved = None
        if self.told.total() > 0:
            self.level_probs = self.walk(self.level_probs, fresh.total())
            self.level_probs = level.posterior((fresh.exact, fresh.wins, fresh.losses), self.shape, self.level_probs)
            by = self.level_probs.index(max(self.level_probs)) - len(self.level_probs) // 2
            self.level_probs = level.moved_level(self.level_probs, by)
            moved = level.moved_told((self.told.exact, self.told.wins, self.told.losses), by)
        super().take(fresh, strength, score_half_life)
        if moved is not None:
            self.told = Told(*moved).faded(0.5 ** (fresh.total() / self.half_life), fresh)

    def estimate(self, prior: Sequence[float], family: Sequence[Sequence[float]], estimate: Estimate) -> None:
        """The estimates at level 0 make up the shape, as likely as each is; then both, whatever the level is."""
        super().estimate(prior, family, estimate)
        self.shape = mixed(self.estimates, self.scores)
        self.estimates = [level.averaged(one, self.level_probs) for one in self.estimates]


def mixed(columns: Sequence[Sequence[float]], scores: Sequence[float]) -> list[float]:
    """Their mean, each as likely as its score, a logarithm, says."""
    weights = [math.exp(score - max(scores)) for score in scores]
    return [sum(w * f for w, f in zip(weights, row, strict=True)) / sum(weights) for row in zip(*columns, strict=True)]


def log_likelihood(told: Told, win_probs: Sequence[float]) -> float:
    """Of evidence under F at each edge."""
    edges = [0.0, *win_probs, 1.0]
    terms = [(weight, high - low) for weight, (low, high) in zip(told.exact, pairwise(edges), strict=True)]
    terms += zip(told.wins, win_probs, strict=True)
    terms += [(weight, 1.0 - chance) for weight, chance in zip(told.losses, win_probs, strict=True)]
    return sum(weight * math.log(max(chance, SURE)) for weight, chance in terms)


def blended(told: Told, prior: Sequence[float], family: Sequence[Sequence[float]]) -> tuple[list[float], float]:
    """The mean of the prior, which counts as much as the whole family beforehand, and of all members of the family,
    each as likely as it makes what was told; and the share of the family in it."""
    logs = [log_likelihood(told, prior) + math.log(len(family)), *(log_likelihood(told, member) for member in family)]
    weights = [math.exp(one - max(logs)) for one in logs]
    weights = [weights[0], *(w if w > NEGLIGIBLE else 0.0 for w in weights[1:])]
    columns = zip(prior, *family, strict=True)
    mean = [sum(w * f for w, f in zip(weights, column, strict=True)) / sum(weights) for column in columns]
    return mean, 1.0 - weights[0] / sum(weights)


@dataclass
class Landscape:
    """One landscape: its parent (-1: none), fresh evidence, and its memories, of which the last moves.

    `trials` are the bids at each edge that `win_probs` rests on, where prices are hardly ever seen.
    """

    parent: int
    memories: list[Memory]
    fresh: Told
    win_probs: list[float] = field(default_factory=list)
    trials: list[float] = field(default_factory=list)

    def refresh(
        self,
        prior: list[float],
        family: Sequence[Sequence[float]],
        strength: float,
        score_half_life: float,
        estimate: Estimate,
    ) -> None:
        """Take in what is fresh, and mix the memories' estimates by likelihood."""
        if self.fresh.total() > 0:
            for memory in self.memories:
                memory.take(self.fresh, strength, score_half_life)
        longest = max(self.memories[:-1], key=lambda memory: memory.half_life).told
        self.win_probs, self.trials = prior, [0.0] * len(prior)
        if longest.total() == 0:
            return
        for memory in self.memories:
            memory.estimate(prior, family, estimate)
        scores = [score for memory in self.memories for score in memory.scores]
        self.win_probs = mixed([one for memory in self.memories for one in memory.estimates], scores)
        if sum(longest.exact) <= SEEN_ENOUGH * longest.total():
            self.trials = mixed([one for memory in self.memories for one in memory.trials()], scores)


def refresh_all(
    landscapes: Sequence[Landscape],
    root: list[float],
    family: Sequence[Sequence[float]],
    strength: float,
    score_half_life: float,
    estimate: Estimate,
) -> None:
    """Refresh every landscape after its parent; parents have higher positions."""
    for landscape in reversed(landscapes):
        prior = landscapes[landscape.parent].win_probs if landscape.parent >= 0 else root
        landscape.refresh(prior, family, strength, score_half_life, estimate)


def published(win_probs: Sequence[float]) -> list[float]:
    """In the steps in which landscapes are published."""
    return [math.floor(chance * PUBLISHED_STEPS + 0.5) / PUBLISHED_STEPS for chance in win_probs]
