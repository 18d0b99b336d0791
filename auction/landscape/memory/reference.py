"""What the refresh of landscapes means, one landscape and one memory at a time. Used by tests only."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

SURE = 1e-6
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
    """One landscape as one length of memory sees it."""

    half_life: float
    told: Told
    win_probs: list[float]
    score: float = 0.0

    def take(self, fresh: Told, score_half_life: float) -> None:
        """Score what was foretold, then remember what came."""
        count = fresh.total()
        self.score = self.score * 0.5 ** (count / score_half_life) + log_likelihood(fresh, self.win_probs)
        self.told = self.told.faded(0.5 ** (count / self.half_life), fresh)


def log_likelihood(told: Told, win_probs: Sequence[float]) -> float:
    """Of evidence under F at each edge."""
    edges = [0.0, *win_probs, 1.0]
    terms = [(weight, high - low) for weight, (low, high) in zip(told.exact, pairwise(edges), strict=True)]
    terms += zip(told.wins, win_probs, strict=True)
    terms += [(weight, 1.0 - chance) for weight, chance in zip(told.losses, win_probs, strict=True)]
    return sum(weight * math.log(max(chance, SURE)) for weight, chance in terms)


def blended(told: Told, prior: Sequence[float], family: Sequence[Sequence[float]]) -> list[float]:
    """The mean of the prior, which counts as much as the whole family beforehand, and of all members of the family,
    each as likely as it makes what was told."""
    logs = [log_likelihood(told, prior) + math.log(len(family)), *(log_likelihood(told, member) for member in family)]
    weights = [math.exp(one - max(logs)) for one in logs]
    weights = [weights[0], *(w if w > NEGLIGIBLE else 0.0 for w in weights[1:])]
    columns = zip(prior, *family, strict=True)
    return [sum(w * f for w, f in zip(weights, column, strict=True)) / sum(weights) for column in columns]


@dataclass
class Landscape:
    """One landscape: its parent (-1: none), fresh evidence, and its memories.

    `trials` are the bids at each edge that `win_probs` rests on, where prices are hardly ever seen.
    """

    parent: int
    memories: list[Memory]
    fresh: Told
    win_probs: list[float] = field(default_factory=list)
    trials: list[float] = field(default_factory=list)

    def refresh(
        self, prior: list[float], family: Sequence[Sequence[float]], score_half_life: float, estimate: Estimate
    ) -> None:
        """Take in what is fresh, and mix the memories' estimates by likelihood."""
        if self.fresh.total() > 0:
            for memory in self.memories:
                memory.take(self.fresh, score_half_life)
        longest = max(self.memories, key=lambda memory: memory.half_life).told
        self.trials = [0.0] * len(prior)
        if longest.total() == 0:
            for memory in self.memories:
                memory.win_probs = prior
            self.win_probs = prior
            return
        for memory in self.memories:
            base = blended(memory.told, prior, family)
            memory.win_probs = estimate(memory.told.exact, memory.told.wins, memory.told.losses, base)
        best = max(memory.score for memory in self.memories)
        weights = [math.exp(memory.score - best) for memory in self.memories]
        columns = zip(*(memory.win_probs for memory in self.memories), strict=True)
        self.win_probs = [sum(w * f for w, f in zip(weights, column, strict=True)) / sum(weights) for column in columns]
        if sum(longest.exact) <= SEEN_ENOUGH * longest.total():
            for w, memory in zip(weights, self.memories, strict=True):
                for k, count in enumerate(zip(memory.told.wins, memory.told.losses, strict=True)):
                    self.trials[k] += w * sum(count) / sum(weights)


def refresh_all(
    landscapes: Sequence[Landscape],
    root: list[float],
    family: Sequence[Sequence[float]],
    score_half_life: float,
    estimate: Estimate,
) -> None:
    """Refresh every landscape after its parent; parents have higher positions."""
    for landscape in reversed(landscapes):
        prior = landscapes[landscape.parent].win_probs if landscape.parent >= 0 else root
        landscape.refresh(prior, family, score_half_life, estimate)


def published(win_probs: Sequence[float]) -> list[float]:
    """In the steps in which landscapes are published."""
    return [math.floor(chance * PUBLISHED_STEPS + 0.5) / PUBLISHED_STEPS for chance in win_probs]
