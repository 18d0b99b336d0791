"""Compiled refresh of landscapes: fade old evidence, weigh several memories by how well they foretold, estimate,
explore, envelope."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from auction.landscape.exploration.kernels import draw_win_probs
from auction.landscape.kernels import NO_EVIDENCE, SURE, build_envelope, estimate_win_probs
from auction.landscape.level.kernels import average_levels, move_evidence, move_level, spread_level, weigh_levels

NEGLIGIBLE = 1e-4
SEEN_ENOUGH = 0.01
PUBLISHED_STEPS = 4096.0
FAMILY_SURENESS = 4.0
LARGEST_EXPONENT = 700.0
EXPECTED, BIN_BY_BIN = 0, 1
ESTIMATES = 2
_DRAWS_APART = 97


class Evidence(NamedTuple):
    """What was told, for L landscapes, B bins and M memories of different length, the last of which moves with prices.

    Attributes:
        parents: i4[L], each above its own index; -1: the root leans on `root_win_probs`.
        root_win_probs: f8[B].
        half_lives: f8[M], auctions after which evidence counts half.
        exact: f8[M, L, B + 1]; wins, losses: f8[M, L, B], faded.
        told: f8[L], auctions ever told of, up to the last refresh.
        fresh_exact, fresh_wins, fresh_losses: the same without the M axis, since the last refresh; not faded.
        fresh: f8[L], how many those are.
        family_win_probs: f8[J, B], F of each member of the family of smooth distributions.
        family_log_masses: f8[B + 1, J], logarithm of the probability that a price lies in each bin.
        family_log_wins, family_log_losses: f8[B, J], of F and of 1 - F at each edge.
        scores: f8[M, L, 2], faded log-likelihood of what came after each memory's two estimates.
        win_probs: f8[M, L, 2, B], each memory's estimates: what `blend_family` expects, and bin by bin.
        level_variance: of the walk of the price level, in bins squared, an auction.
        level_jumps: probability that the level jumps to anywhere in reach, an auction.
        level_probs: f8[L, 2 D + 1], that the level is -D..D bins above where the last memory's evidence has it.
        shapes: f8[L, B], F where the last memory's evidence has it.
    """

    parents: np.ndarray
    root_win_probs: np.ndarray
    half_lives: np.ndarray
    family_win_probs: np.ndarray
    family_log_masses: np.ndarray
    family_log_wins: np.ndarray
    family_log_losses: np.ndarray
    exact: np.ndarray
    wins: np.ndarray
    losses: np.ndarray
    told: np.ndarray
    fresh_exact: np.ndarray
    fresh_wins: np.ndarray
    fresh_losses: np.ndarray
    fresh: np.ndarray
    scores: np.ndarray
    win_probs: np.ndarray
    level_variance: float
    level_jumps: float
    level_probs: np.ndarray
    shapes: np.ndarray


@njit(cache=True, nogil=True)
def log_likelihood(exact: np.ndarray, wins: np.ndarray, losses: np.ndarray, win_probs: np.ndarray) -> float:
    """Of evidence (f8[B + 1], f8[B], f8[B]) under F at each edge (f8[B]); no bin is held impossible."""
    bins = wins.shape[0]
    total = 0.0
    below = 0.0
    for k in range(bins):
        if exact[k] > 0.0:
            total += exact[k] * math.log(max(win_probs[k] - below, SURE))
        if wins[k] > 0.0:
            total += wins[k] * math.log(max(win_probs[k], SURE))
        if losses[k] > 0.0:
            total += losses[k] * math.log(max(1.0 - win_probs[k], SURE))
        below = win_probs[k]
    if exact[bins] > 0.0:
        total += exact[bins] * math.log(max(1.0 - below, SURE))
    return total


@njit(cache=True, nogil=True)
def follow_level(evidence: Evidence, row: int, count: float) -> None:
    """Move what the last memory of one landscape holds to where `count` fresh auctions have the level of prices."""
    fresh_exact = evidence.fresh_exact[row]
    fresh_wins = evidence.fresh_wins[row]
    fresh_losses = evidence.fresh_losses[row]
    level_probs = evidence.level_probs[row]
    spread_level(level_probs, evidence.level_variance * count, 1.0 - (1.0 - evidence.level_jumps) ** count)
    by = weigh_levels(fresh_exact, fresh_wins, fresh_losses, evidence.shapes[row], level_probs)
    move_level(level_probs, by)
    move_evidence(evidence.exact[-1, row], evidence.wins[-1, row], evidence.losses[-1, row], by)


@njit(cache=True, nogil=True)
def score_memories(evidence: Evidence, row: int, count: float, strength: float, score_half_life: float) -> None:
    """Score all estimates of one landscape on its fresh evidence, `count` auctions, in place.

    What comes first, none has foretold. Until more comes, the estimates bin by bin are to the expected ones as that
    evidence is to the strength of what is expected.
    """
    fresh_exact = evidence.fresh_exact[row]
    fresh_wins = evidence.fresh_wins[row]
    fresh_losses = evidence.fresh_losses[row]
    foretold_any = evidence.told[row] > NO_EVIDENCE
    for m in range(evidence.half_lives.shape[0]):
        for e in range(ESTIMATES):
            if foretold_any:
                foretold = log_likelihood(fresh_exact, fresh_wins, fresh_losses, evidence.win_probs[m, row, e])
                evidence.scores[m, row, e] = evidence.scores[m, row, e] * 0.5 ** (count / score_half_life) + foretold
            else:
                evidence.scores[m, row, e] = math.log(count / strength) if e == BIN_BY_BIN else 0.0
    if foretold_any:
        follow_level(evidence, row, count)


@njit(cache=True, nogil=True)
def take_fresh(evidence: Evidence, row: int, strength: float, score_half_life: float) -> None:
    """Score the memories of one landscape on its fresh evidence, then merge it, in place."""
    fresh_exact = evidence.fresh_exact[row]
    fresh_wins = evidence.fresh_wins[row]
    fresh_losses = evidence.fresh_losses[row]
    count = evidence.fresh[row]
    if count <= NO_EVIDENCE:
        return
    score_memories(evidence, row, count, strength, score_half_life)
    for m in range(evidence.half_lives.shape[0]):
        keep = 0.5 ** (count / evidence.half_lives[m])
        for k in range(fresh_exact.shape[0]):
            evidence.exact[m, row, k] = evidence.exact[m, row, k] * keep + fresh_exact[k]
        for k in range(fresh_wins.shape[0]):
            evidence.wins[m, row, k] = evidence.wins[m, row, k] * keep + fresh_wins[k]
            evidence.losses[m, row, k] = evidence.losses[m, row, k] * keep + fresh_losses[k]
    fresh_exact[:] = 0.0
    fresh_wins[:] = 0.0
    fresh_losses[:] = 0.0
    evidence.told[row] += count
    evidence.fresh[row] = 0.0


@njit(cache=True, nogil=True)
def blend_family(evidence: Evidence, m: int, row: int, prior: np.ndarray, out_base: np.ndarray) -> float:
    """What one memory of one landscape is expected to look like before its evidence is taken bin by bin, to f8[B]; the
    share of the family in it.

    The mean of the prior (which has half of the weight beforehand) and of all members of the family, each as likely as
    it makes the evidence.
    """
    exact = evidence.exact[m, row]
    wins = evidence.wins[m, row]
    losses = evidence.losses[m, row]
    bins = wins.shape[0]
    members = evidence.family_win_probs.shape[0]
    likelihoods = np.zeros(members, np.float64)
    for k in range(bins + 1):
        if exact[k] > 0.0:
            for j in range(members):
                likelihoods[j] += exact[k] * evidence.family_log_masses[k, j]
        if k < bins and wins[k] > 0.0:
            for j in range(members):
                likelihoods[j] += wins[k] * evidence.family_log_wins[k, j]
        if k < bins and losses[k] > 0.0:
            for j in range(members):
                likelihoods[j] += losses[k] * evidence.family_log_losses[k, j]
    of_prior = log_likelihood(exact, wins, losses, prior) + math.log(members)
    best = of_prior
    for j in range(members):
        best = max(best, likelihoods[j])
    weight = math.exp(of_prior - best)
    total = weight
    for k in range(bins):
        out_base[k] = weight * prior[k]
    for j in range(members):
        weight = math.exp(likelihoods[j] - best)
        if weight > NEGLIGIBLE:
            total += weight
            for k in range(bins):
                out_base[k] += weight * evidence.family_win_probs[j, k]
    for k in range(bins):
        out_base[k] = min(out_base[k] / total, 1.0)
    return 1.0 - math.exp(of_prior - best) / total


@njit(cache=True, nogil=True)
def estimate_memories(
    evidence: Evidence, row: int, prior: np.ndarray, strength: float, rounds: int, out_family: np.ndarray
) -> None:
    """Both estimates of one landscape under every memory, in place; to f8[M], the share of the family in the first."""
    memories = evidence.half_lives.shape[0]
    bins = prior.shape[0]
    found = np.empty((ESTIMATES, bins), np.float64)
    for m in range(memories):
        out_family[m] = blend_family(evidence, m, row, prior, found[EXPECTED])
        estimate_win_probs(
            evidence.exact[m, row],
            evidence.wins[m, row],
            evidence.losses[m, row],
            found[EXPECTED],
            strength,
            rounds,
            found[BIN_BY_BIN],
        )
        if m < memories - 1:
            evidence.win_probs[m, row] = found
            continue
        scores = evidence.scores[m, row]
        expected = 1.0 / (1.0 + math.exp(min(scores[BIN_BY_BIN] - scores[EXPECTED], LARGEST_EXPONENT)))
        for k in range(bins):
            evidence.shapes[row, k] = expected * found[EXPECTED, k] + (1.0 - expected) * found[BIN_BY_BIN, k]
        for e in range(ESTIMATES):
            average_levels(found[e], evidence.level_probs[row], evidence.win_probs[m, row, e])


@njit(cache=True, nogil=True)
def mix_memories(evidence: Evidence, row: int, family: np.ndarray, out: np.ndarray, out_trials: np.ndarray) -> None:
    """Mix all estimates of one landscape by likelihood, to f8[B].

    `out_trials` (f8[B]) is how many bids at each edge the mixture rests on, by weight: for an estimate bin by bin those
    made there, for the family (f8[M], its share in what is expected) as many everywhere, since all of them tell of its
    few parameters. 0 where prices
    are seen in more than a few auctions, which teach about other bids too.
    """
    bins = out.shape[0]
    memories = evidence.half_lives.shape[0]
    best = evidence.scores[:, row].max()
    total = 0.0
    out[:] = 0.0
    out_trials[:] = 0.0
    for m in range(memories):
        wins = evidence.wins[m, row]
        losses = evidence.losses[m, row]
        each = FAMILY_SURENESS * family[m] * (wins.sum() + losses.sum())
        for e in range(ESTIMATES):
            weight = math.exp(evidence.scores[m, row, e] - best)
            total += weight
            estimate = evidence.win_probs[m, row, e]
            for k in range(bins):
                out[k] += weight * estimate[k]
                own = wins[k] + losses[k]
                out_trials[k] += weight * (each + (1.0 - family[m]) * own if e == EXPECTED else own)
    longest = evidence.half_lives[:-1].argmax()
    exact = evidence.exact[longest, row].sum()
    held = exact + evidence.wins[longest, row].sum() + evidence.losses[longest, row].sum()
    few_seen = exact <= SEEN_ENOUGH * held
    for k in range(bins):
        out[k] = min(out[k] / total, 1.0)
        out_trials[k] = out_trials[k] / total if few_seen else 0.0


@njit(cache=True, nogil=True)
def refresh_landscapes(
    evidence: Evidence,
    edges_micros: np.ndarray,
    strength: float,
    score_half_life: float,
    rounds: int,
    normals: np.ndarray,
    uniforms: np.ndarray,
    spread: float,
    out_win_probs: np.ndarray,
    out_counts: np.ndarray,
    out_from_micros: np.ndarray,
    out_bids_micros: np.ndarray,
) -> None:
    """Bring all L landscapes up to date, parents first, and build the envelopes of the first `len(out_counts)`, which
    are nobody's parents.

    Args:
        evidence: updated in place; fresh evidence is merged and cleared.
        edges_micros: i8[B].
        strength: auctions that a parent's word counts for.
        score_half_life: auctions after which how well a memory foretold counts half.
        rounds: of the self-consistency iteration.
        normals, uniforms: f8[B], draws for the exploration of those first.
        spread: of the exploration, in standard deviations.
        out_win_probs: f8[L, B]; of those first, as they are published: after exploration, in steps that compress well.
        out_counts: i4[S], S <= L.
        out_from_micros, out_bids_micros: f8[S, B + 1], i8[S, B + 1].
    """
    rows = evidence.parents.shape[0]
    trials = np.empty(edges_micros.shape[0], np.float64)
    family = np.empty(evidence.half_lives.shape[0], np.float64)
    ignorant = np.full(rows + 1, -1, np.int64)  # of the leaves of each row, one that nothing was told of: all are alike
    for step in range(rows):
        row = rows - 1 - step
        take_fresh(evidence, row, strength, score_half_life)
        parent = evidence.parents[row]
        prior = out_win_probs[parent] if parent >= 0 else evidence.root_win_probs
        is_told_of = evidence.told[row] > NO_EVIDENCE
        if row < out_counts.shape[0] and not is_told_of and ignorant[parent] >= 0:
            twin = ignorant[parent]
            out_win_probs[row] = out_win_probs[twin]
            pieces = out_counts[twin]
            out_counts[row] = pieces
            out_from_micros[row, :pieces] = out_from_micros[twin, :pieces]
            out_bids_micros[row, :pieces] = out_bids_micros[twin, :pieces]
            continue
        if is_told_of:
            estimate_memories(evidence, row, prior, strength, rounds, family)
            mix_memories(evidence, row, family, out_win_probs[row], trials)
        else:
            out_win_probs[row] = prior
            trials[:] = 0.0
        if row < out_counts.shape[0]:
            if trials.sum() > NO_EVIDENCE:
                draw_win_probs(trials, normals, uniforms, _DRAWS_APART * row, spread, out_win_probs[row])
            out_win_probs[row] = np.floor(out_win_probs[row] * PUBLISHED_STEPS + 0.5) / PUBLISHED_STEPS
            out_counts[row] = build_envelope(
                edges_micros, out_win_probs[row], out_from_micros[row], out_bids_micros[row]
            )
            if not is_told_of:
                ignorant[parent] = row
