"""`fanbid bench lookalike` on a made-up graph, and the reading of edge lists."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from benchmarks.lookalike import command
from benchmarks.lookalike.graphs import read_graph
from benchmarks.lookalike.judge import SIZES, Case, recall


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    command.configure(parser)
    return command.main(parser.parse_args(list(arguments)))


def test_a_run_on_a_made_up_graph_says_what_each_method_found(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(command, "_MADE_UP", (500, 8))
    monkeypatch.setattr(command, "QUICK_CASES", 12)
    assert run("--made-up", "--quick", "--json", str(tmp_path / "figures.json")) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    for prefix in ("", "random_"):
        assert figures[f"{prefix}creators"] >= 5
        for name in ("knn", "activity", "fanbid", "fanbid_reciprocal"):
            assert 0.0 < figures[f"{prefix}recall_{name}"] <= 1.0
        ratio = figures[f"{prefix}recall_fanbid"] / figures[f"{prefix}recall_activity"]
        assert figures[f"{prefix}recall_to_activity"] == pytest.approx(ratio)
    printed = capsys.readouterr().out
    assert "recent activity alone" in printed and "user-kNN" in printed


def test_claims_fail_where_the_figures_do_not_hold() -> None:
    good = {"recall_to_als": 1.8, "recall_to_activity": 1.2, "random_recall_to_als": 1.1, "random_recall_to_knn": 1.0}
    assert all(command.claims(good).values())
    assert not all(command.claims(good | {"recall_to_activity": 1.1}).values())


def test_recall_counts_those_held_out_among_the_best_but_the_seeds() -> None:
    case = Case(creator=0, seeds=np.array([1, 2]), held_out=np.array([3, 4]))
    scores = np.array([9.0, 8.0, 7.0, 6.0, 1.0, 5.0, 4.0, 3.0])
    found = recall([case], lambda creator, seeds: scores, 8, 1)
    assert dict(zip(SIZES, found.mean.tolist(), strict=True)) == {0.5: 0.5, 1.0: 0.5, 2.0: 0.5, 4.0: 1, 8.0: 1, 16.0: 1}
    assert found.pooled == 0.5


FORMS = {
    "spaces.txt": "# comment\n1 2 100\n2 3 50\n1 2 200\n2 2 60\n",
    "konect.tsv": "% sym signed\n1 2 1 100\n3 1 -1 10\n2 3 1 50\n",
    "dates.csv": "follower,followed,date\n1,2,2001-05-02\n2,3,2001/05/01\n",
}


@pytest.mark.parametrize("name", FORMS)
def test_edge_lists_in_their_forms(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(FORMS[name])
    links = read_graph(path)
    assert links.followers.tolist() == [1, 0] and links.followed.tolist() == [2, 1]


def test_a_matlab_matrix_of_three_columns(tmp_path: Path) -> None:
    savemat(tmp_path / "trust.mat", {"trust": np.array([[1, 2, 5], [2, 3, 4]], np.uint16)})
    assert read_graph(tmp_path / "trust.mat").followers.tolist() == [1, 0]


def test_what_is_no_graph_is_refused_by_name_and_line(tmp_path: Path) -> None:
    path = tmp_path / "bad.txt"
    path.write_text("1 2 3\n1 2\n")
    with pytest.raises(ValueError, match="line 2: '1 2'"):
        read_graph(path)
    savemat(tmp_path / "untimed.mat", {"trust": np.array([[1, 2]])})
    with pytest.raises(ValueError, match="no matrix with three columns"):
        read_graph(tmp_path / "untimed.mat")
    with pytest.raises(ValueError, match="give the path of a graph"):
        run("--quick")
