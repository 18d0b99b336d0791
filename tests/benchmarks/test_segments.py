"""`bench segments`, tiny: both sides agree, figures are ratios of both, and a wrong probe is noticed."""

from __future__ import annotations

import numpy as np
import pytest
from pyroaring import BitMap

from benchmarks import segments
from benchmarks.output import progress
from benchmarks.pairs import time_pair
from targeting.segments.probe.copies import SegmentProbe

TINY = 3_000


def test_every_shape_is_compared_and_timed(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(2 * len(segments.SHAPES), "segments") as bar:
        results = segments.measure((TINY,), segments.SHAPES, (16,), 0.0, bar)
    figures = results.summed_up()
    assert len(results.probes) == len(results.algebra) == len(segments.SHAPES)
    for key in ("probe_to_pyroaring_min", "dense_count_to_pyroaring_min", "algebra_of_pyroaring_max"):
        assert isinstance(figures[key], float) and figures[key] > 0
    assert figures["probe_to_pyroaring_min"] == min(
        value
        for key, value in figures.items()
        if key.startswith("probe_") and key.endswith("_16_to_pyroaring") and "raw" not in key
    )


@pytest.mark.parametrize("shape", segments.SHAPES, ids=lambda shape: shape.name)
def test_shapes_have_about_their_share(shape: segments.Shape) -> None:
    rows = shape.draw(200_000, np.random.default_rng(1))
    assert (np.diff(rows.astype(np.int64)) > 0).all() and rows[-1] < 200_000
    assert 0.3 * shape.share < len(rows) / 200_000 < 2 * shape.share


def test_a_wrong_probe_is_noticed() -> None:
    batches = segments._Batches.drawn(TINY, 64)
    members = BitMap(range(0, TINY, 2))
    segments._check_probe(SegmentProbe(members), batches, members)
    with pytest.raises(AssertionError, match="of the batch"):
        segments._check_probe(SegmentProbe(BitMap(range(1, TINY, 2))), batches, members)


def test_pairs_are_timed_in_turn() -> None:
    order: list[str] = []
    pair = time_pair(lambda: order.append("ours"), lambda: order.append("theirs"), 0.0)
    assert pair.ours_ns > 0 and pair.theirs_ns > 0 and pair.ratio > 0
    assert abs(order.count("ours") - order.count("theirs")) < max(map(order.count, ("ours", "theirs")))
