"""Examples learned per second, predicting each first: the shipped learner, and the others on the same rows."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from auction.predictor.predictor import Predictor
from benchmarks.output import progress
from benchmarks.predictor.rivals import ALPHA, RIVER, VOWPAL_WABBIT, VowpalWabbit, river
from benchmarks.predictor.stream import draw_stream
from pacing.facts import Goal

_RIVER_ROWS = 20_000


def time_learners(rows: int, rivals: list[str], rounds: int) -> dict[str, float]:
    """Rows per wall second of each learner's fastest round, as whatever else runs can only add to a time.

    Vowpal Wabbit reads its own text format from a file in memory's cache; parsing is in its time, writing the file is
    not. The shipped learner gets arrays of hashes, as it does from the ledger; river gets dictionaries.
    """
    stream = draw_stream(0, rows)
    features, labels = stream.features, stream.labels
    some = slice(0, min(len(stream), _RIVER_ROWS))
    with TemporaryDirectory() as folder:
        sides: dict[str, tuple[int, Callable[[], object]]] = {
            "fanbid": (len(stream), lambda: Predictor().train(int(Goal.FANS), features, labels))
        }
        if VOWPAL_WABBIT in rivals:
            reader = VowpalWabbit(features, labels, Path(folder))
            sides[VOWPAL_WABBIT] = (len(stream), lambda: reader.learn(ALPHA))
        if RIVER in rivals:
            sides[RIVER] = (len(labels[some]), lambda: river(features[some], labels[some], ALPHA))
        fastest: dict[str, float] = {}
        with progress(rounds * len(sides), "timing") as bar:
            for name, (count, learn) in [*sides.items()] * rounds:
                started_s = time.perf_counter()
                learn()
                rate = count / (time.perf_counter() - started_s)
                fastest[name] = max(fastest.get(name, rate), rate)
                bar.advance(1, name)
    return {f"{name}_examples_per_s": rate for name, rate in fastest.items()}
