"""One seed: every learner on the same stream, and the shipped one as a server runs it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from auction.predictor.features import VIEWER_FEATURES
from auction.predictor.kernels import hash_feature
from auction.predictor.predictor import Predictor
from benchmarks.predictor.rivals import ALPHA, RIVER, VOWPAL_WABBIT, best_vowpal_wabbit, river, vowpal_wabbit_delayed
from benchmarks.predictor.scores import (
    bias,
    calibration_error,
    cost_error,
    excess_log_loss,
    first_rows,
    log_loss,
    settled_rows,
)
from benchmarks.predictor.served import serve_stream, told_every_ms
from benchmarks.predictor.stream import Stream, draw_stream
from pacing.facts import Goal

SHIPPED = "fanbid"
FIRST_IMPRESSIONS = 1_000
"""Of a new campaign: what its first fans are bought with."""
FIRST_FANS = (1, 5, 20, 51)
"""How many fans a new campaign has when what the next will cost is judged: from each to the next."""
_ALONE_SALT = 63


def run_part(part: str, seed: int, rows: int, rivals: list[str]) -> dict[str, float]:
    """Figures of one of `PARTS` on one stream, by the names of the documentation less what is made of several seeds."""
    return PARTS[part](draw_stream(seed, rows), rivals)


def _settled(stream: Stream, rivals: list[str]) -> dict[str, float]:
    """Every label known at once: what the learners alone are worth."""
    judged = settled_rows(stream)
    labels, truth = stream.labels[judged], stream.truth[judged]

    def loss(predicted: np.ndarray) -> float:
        return log_loss(predicted[judged], labels)

    predicted = {SHIPPED: Predictor().train(int(Goal.FANS), stream.features, stream.labels)}
    alpha = ALPHA
    if VOWPAL_WABBIT in rivals:
        alpha, predicted[VOWPAL_WABBIT] = best_vowpal_wabbit(stream.features, stream.labels, loss)
    if RIVER in rivals:
        predicted[RIVER] = river(stream.features, stream.labels, alpha)
    found = {"settled.truth_log_loss": log_loss(truth, labels), "settled.base_log_loss": _base_loss(labels)}
    for name, p in predicted.items():
        found[f"settled.{name}_log_loss"] = loss(p)
        found[f"settled.{name}_bias"] = bias(p[judged], truth)
        if name != SHIPPED:
            found[f"settled.{name}_less_fanbid_log_loss"] = loss(p) - found[f"settled.{SHIPPED}_log_loss"]
    return found


def _base_loss(labels: np.ndarray) -> float:
    """Of the mean rate, known in hindsight, for every row."""
    return log_loss(np.full(len(labels), labels.mean()), labels)


def _delayed(stream: Stream, rivals: list[str]) -> dict[str, float]:
    """Events come when they come: the predictions that bids would have been made with."""
    judged = settled_rows(stream)
    labels, truth = stream.labels[judged], stream.truth[judged]
    served = serve_stream(stream)
    p = served[judged]
    found = {"delayed.fanbid_log_loss": log_loss(p, labels), "delayed.fanbid_bias": bias(p, truth)}
    for name, segments in stream.segments.items():
        found[f"delayed.calibration_error.{name}"] = calibration_error(p, truth, segments[judged])
    if VOWPAL_WABBIT in rivals:
        naive = vowpal_wabbit_delayed(stream, ALPHA)[judged]
        found["delayed.vowpal_wabbit_log_loss"] = log_loss(naive, labels)
        found["delayed.vowpal_wabbit_bias"] = bias(naive, truth)
    alone = serve_stream(stream, alone_features(stream))
    return found | _new_campaigns(stream, {"pooled": served, "alone": alone, "cold": serve_cold(stream)})


def serve_cold(stream: Stream) -> np.ndarray:
    """What is predicted of new campaigns, f8[n], where each has a learner to itself, which never saw anything else;
    0 of the others."""
    predicted = np.zeros(len(stream))
    for which in np.flatnonzero(stream.campaigns.is_new).tolist():
        mine = stream.campaign == which
        if mine.any():
            predicted[mine] = serve_stream(stream.of_campaign(which), step_ms=told_every_ms(stream))
    return predicted


def alone_features(stream: Stream) -> np.ndarray:
    """The stream's hashes u4[n, 16] as if nothing that was learned of other campaigns told about the new ones: all
    their hashes but the viewer's own are changed to some that nobody else has."""
    features = stream.features.copy()
    campaigns = stream.campaigns
    for which in np.flatnonzero(campaigns.is_new).tolist():
        mine = np.flatnonzero(stream.campaign == which)
        features[mine, VIEWER_FEATURES:] ^= np.uint32(hash_feature(_ALONE_SALT, campaigns.ids[which]))
    return features


def _new_campaigns(stream: Stream, predictions: dict[str, np.ndarray]) -> dict[str, float]:
    """The first impressions of campaigns that start within the stream, by whether their creators were seen before."""
    campaigns = stream.campaigns
    first = first_rows(stream.campaign, len(campaigns.ids), FIRST_IMPRESSIONS)
    found = {}
    for group, is_known in (("known_creator", True), ("new_creator", False)):
        wanted = campaigns.is_new & (campaigns.is_known == is_known)
        mine = first & wanted[stream.campaign]
        truth, campaign = stream.truth[mine], stream.campaign[mine]
        for name, predicted in predictions.items():
            p = predicted[mine]
            found[f"new.{group}.{name}_excess_log_loss"] = excess_log_loss(p, truth)
            found[f"new.{group}.{name}_bias"] = bias(p, truth)
            found[f"new.{group}.{name}_campaign_error"] = calibration_error(p, truth, campaign)
        mine = wanted[stream.campaign]
        columns = (stream.truth[mine], stream.labels[mine], stream.campaign[mine])
        for name, predicted in predictions.items():
            found[f"new.{group}.{name}_cost_error"] = cost_error(predicted[mine], *columns, FIRST_FANS)
        cold = found[f"new.{group}.cold_cost_error"]
        found[f"new.{group}.cost_error_ratio"] = found[f"new.{group}.pooled_cost_error"] / cold if cold > 0 else 1.0
        gain = found[f"new.{group}.alone_excess_log_loss"] - found[f"new.{group}.pooled_excess_log_loss"]
        found[f"new.{group}.pooled_gain_log_loss"] = gain
    return found


PARTS: dict[str, Callable[[Stream, list[str]], dict[str, float]]] = {"settled": _settled, "delayed": _delayed}
"""Each is a piece of work of its own."""
