"""`bench similar`, tiny: both sides find the same, and creators with a shared audience are found."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from benchmarks import similar
from benchmarks.output import progress
from targeting.graph.similar.lists import FollowsCopy, Similar

SIZE = (4_000, 400, 20_000)


@pytest.fixture(scope="module")
def graph() -> similar.Graph:
    return similar.make_graph(*SIZE)


def sparse_lists(graph: similar.Graph) -> dict[int, tuple[Similar, ...]]:
    n = len(graph.ids)
    follows = csr_matrix((np.ones(len(graph.followers), np.int32), (graph.followers, graph.followed)), (n, n))
    return dict(similar.by_sparse(graph, follows, follows.T.tocsr()))


def test_both_sides_find_the_shared_audiences(graph: similar.Graph) -> None:
    found = sparse_lists(graph)
    assert found == dict(FollowsCopy(graph.followers, graph.followed, graph.ids).find_similar(graph.asked))
    together = {(creator, one.row) for creator, listed in found.items() for one in listed}
    groups = {(row - SIZE[0]) // similar.GROUP for row in graph.asked[: similar.ASKED // 2]}
    in_one = {(a, b) for a, b in together if (a - SIZE[0]) // similar.GROUP == (b - SIZE[0]) // similar.GROUP}
    assert len(in_one) > 0.9 * len(groups) * similar.GROUP * (similar.GROUP - 1)


def test_figures_count_what_was_found_and_whether_it_is_equal(
    graph: similar.Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(similar, "REPEATS", 1)
    with progress(2, "similar") as bar:
        timed = similar.time_both(graph, bar)
    figures = similar.figures_of(graph, timed)
    assert figures["equal"] is True and figures["similar_found"] == sum(map(len, sparse_lists(graph).values()))
    assert figures["follows"] == len(graph.followers) and figures["creators_asked"] == similar.ASKED
    monkeypatch.setattr(similar, "by_sparse", lambda *_: iter([(graph.asked[0], ())]))
    with progress(2, "similar") as bar:
        assert not similar.time_both(graph, bar).equal


def test_a_difference_is_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(similar, "REPEATS", 1)
    monkeypatch.setattr(similar, "QUICK_SIZES", (SIZE,))
    args = Namespace(quick=True, json=tmp_path / "similar.json")
    assert similar.main(args) == 0
    told = json.loads(args.json.read_text())
    assert (
        told["equal_20k"] is True
        and told["similar_to_sparse_20k"] > 0
        and "similar creators" in capsys.readouterr().out
    )
    monkeypatch.setattr(similar, "by_sparse", lambda *_: iter(()))
    assert similar.main(args) == 1
