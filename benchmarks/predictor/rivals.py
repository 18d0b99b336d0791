"""Two other learners on the same stream: the FTRL-proximal of Vowpal Wabbit and that of river.

McMahan et al., "Ad Click Prediction: a View from the Trenches", KDD 2013. Both are of the extra `learners`, and are
imported only when they are asked. Each predicts a row before it learns it, as the shipped learner does, and is told the
same sixteen hashes.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.predictor.stream import Stream

VOWPAL_WABBIT, RIVER = "vowpal_wabbit", "river"
MODULES = {VOWPAL_WABBIT: "vowpalwabbit", RIVER: "river"}
ALPHAS = (0.05, 0.1, 0.2)
"""Learning rates that Vowpal Wabbit is tried with; the one that did best on the stream itself counts."""
ALPHA = 0.1
"""The one that does best on most streams: for what is run once."""
BETA = 1.0
_TABLE_BITS = 22  # 32 times the slots of the shipped learner


def installed() -> list[str]:
    """Which of the two can be asked."""
    return [name for name, module in MODULES.items() if importlib.util.find_spec(module) is not None]


class VowpalWabbit:
    """Reads one stream, in its own text format, as often as it is asked to."""

    def __init__(self, features: np.ndarray, labels: np.ndarray, folder: Path) -> None:
        """Write rows of hashes u4[n, 16] and labels b1[n] to `folder`."""
        self._examples, self._answers = folder / "examples.txt", folder / "answers.txt"
        with self._examples.open("w", encoding="ascii") as file:
            for happened, row in zip(labels.tolist(), features.tolist(), strict=True):
                file.write(f"{1 if happened else -1} |f {' '.join(map(str, row))}\n")

    def learn(self, alpha: float) -> None:
        """Learn the stream once, and write what was predicted of each row before it was learned."""
        from vowpalwabbit import Workspace

        flags = f"--ftrl --ftrl_alpha {alpha} --ftrl_beta {BETA} -b {_TABLE_BITS} --hash all --noconstant"
        link = "--loss_function logistic --link logistic --quiet"
        Workspace(f"{flags} {link} -d {self._examples} -p {self._answers}").finish()

    def predictions(self) -> np.ndarray:
        """What the last `learn` predicted, f8[n]."""
        return np.loadtxt(self._answers, dtype=np.float64)


def vowpal_wabbit(features: np.ndarray, labels: np.ndarray, alpha: float) -> np.ndarray:
    """What Vowpal Wabbit predicted of each row before it learned it, f8[n]."""
    with TemporaryDirectory() as folder:
        learner = VowpalWabbit(features, labels, Path(folder))
        learner.learn(alpha)
        return learner.predictions()


def best_vowpal_wabbit(
    features: np.ndarray, labels: np.ndarray, loss: Callable[[np.ndarray], float]
) -> tuple[float, np.ndarray]:
    """The learning rate of `ALPHAS` with the least loss on this very stream, and what it predicted, f8[n]."""
    tried = []
    with TemporaryDirectory() as folder:
        learner = VowpalWabbit(features, labels, Path(folder))
        for alpha in ALPHAS:
            learner.learn(alpha)
            predicted = learner.predictions()
            tried.append((loss(predicted), alpha, predicted))
    _, alpha, predicted = min(tried, key=lambda one: one[0])
    return alpha, predicted


def river(features: np.ndarray, labels: np.ndarray, alpha: float) -> np.ndarray:
    """What river predicted of each row before it learned it, f8[n]."""
    from river import linear_model, optim

    optimizer = optim.FTRLProximal(alpha=alpha, beta=BETA, l1=0.0, l2=0.0)
    learner = linear_model.LogisticRegression(optimizer=optimizer, intercept_lr=0.0)
    predicted = np.empty(len(labels))
    for k, (happened, row) in enumerate(zip(labels.tolist(), features.tolist(), strict=True)):
        example = dict.fromkeys(row, 1.0)
        predicted[k] = learner.predict_proba_one(example)[True]
        learner.learn_one(example, happened)
    return predicted


def vowpal_wabbit_delayed(stream: Stream, alpha: float) -> np.ndarray:
    """The same where nothing is done about delay: every impression is a negative at once, and its event another row
    when it comes. What was predicted of each impression, f8[n]."""
    arrivals = stream.at_ms + stream.delays_ms
    came = np.flatnonzero(stream.labels & (arrivals <= stream.at_ms[-1]))
    rows = np.r_[np.arange(len(stream)), came]
    order = np.argsort(np.r_[stream.at_ms, arrivals[came]], kind="stable")
    is_event = np.arange(len(rows)) >= len(stream)
    predicted = vowpal_wabbit(stream.features[rows[order]], is_event[order], alpha)
    return predicted[~is_event[order]]
