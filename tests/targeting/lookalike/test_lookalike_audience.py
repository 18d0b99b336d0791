"""Lookalike audiences on a made-up graph: who is in them, and that their quality is what it says."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.lookalike.graphs import made_up_graph
from targeting.lookalike.audience import accounts_most_follow, best_rows, expand, measure, ranked_scores
from targeting.lookalike.links import Links, links_from_times, window_of_times
from targeting.lookalike.picture import Picture
from targeting.lookalike.ranker import Ranker, train_ranker


@pytest.fixture(scope="module")
def links() -> Links:
    return made_up_graph(600, 8, 1)


@pytest.fixture(scope="module")
def picture(links: Links) -> Picture:
    return Picture(links, links.end)


@pytest.fixture(scope="module")
def ranker(links: Links) -> Ranker:
    return train_ranker(links)


def popular(picture: Picture) -> tuple[int, np.ndarray]:
    creator = int(np.argmax(picture.followers.degrees))
    return creator, picture.followers.of(creator)


@pytest.mark.parametrize("size", [1, 40, 600])
def test_seeds_and_the_creator_are_never_in_it_and_the_size_is_kept(
    picture: Picture, ranker: Ranker, size: int
) -> None:
    creator, seeds = popular(picture)
    rows = expand(picture, ranker, seeds, size, creator).rows
    others = picture.is_known.copy()
    others[seeds] = others[creator] = False
    assert len(rows) == min(size, int(others.sum())) and others[rows].all()
    assert len(np.unique(rows)) == len(rows)
    assert not np.isin(rows, [creator, *seeds.tolist()]).any()


def test_best_first_and_the_same_again(picture: Picture, ranker: Ranker) -> None:
    creator, seeds = popular(picture)
    first = expand(picture, ranker, seeds, 50, creator)
    scores = ranked_scores(picture, ranker, seeds, creator, 50)
    assert (np.diff(scores[first.rows]) <= 0).all() and scores[first.rows[-1]] >= np.sort(scores)[-50]
    again = expand(picture, ranker, seeds, 50, creator)
    assert np.array_equal(again.rows, first.rows) and again.quality == first.quality


def test_quality_is_counted_on_seeds_that_the_choice_did_not_know(picture: Picture, ranker: Ranker) -> None:
    creator, seeds = popular(picture)
    quality = measure(picture, ranker, seeds, picture.accounts, creator, 1)
    assert quality.held_out == round(0.2 * len(seeds))
    known = picture.is_known[seeds].mean()
    assert abs(quality.recall - known) < 0.2 and quality.recall == quality.activity_recall  # everybody is in both
    small = measure(picture, ranker, seeds, 60, creator, 1)
    assert 0.0 <= small.recall <= 1.0 and small.lift is not None


def test_a_list_of_one_circle_finds_that_circle_even_where_nothing_was_learned() -> None:
    random = np.random.default_rng(2)
    circles = np.repeat([0, 1], 100)
    follower = np.repeat(np.arange(200), 10)
    followed = 200 + circles[follower] * 30 + random.integers(30, size=len(follower))
    links = links_from_times(260, follower, followed, random.integers(6, size=len(follower)))
    picture = Picture(links, links.end)
    found = expand(picture, None, np.arange(40), 60)
    assert (found.rows < 100).mean() > 0.9
    assert found.quality.lift is not None and found.quality.lift > 1.2


class Backwards(Ranker):
    """Learned the opposite of what is so."""

    def scores(self, features: np.ndarray) -> np.ndarray:
        return -super().scores(features)


def test_what_was_learned_ranks_unless_what_needs_no_learning_finds_clearly_more(
    picture: Picture, ranker: Ranker
) -> None:
    creator, seeds = popular(picture)
    wrong = Backwards(ranker.line, ranker.forest, ranker.reciprocal)
    plain, found = expand(picture, None, seeds, 60, creator), expand(picture, wrong, seeds, 60, creator)
    assert np.array_equal(found.rows, plain.rows) and found.quality == plain.quality and found.learned
    assert measure(picture, wrong, seeds, 60, creator, 1).recall < plain.quality.recall
    learned = expand(picture, ranker, seeds, 60, creator)
    assert learned.learned and not plain.learned and learned.quality == measure(picture, ranker, seeds, 60, creator, 1)


def test_what_most_seeds_follow_does_not_tell_the_others(picture: Picture) -> None:
    creator, seeds = popular(picture)
    assert creator in accounts_most_follow(picture, seeds)


def test_what_cannot_be_done_is_refused(picture: Picture, ranker: Ranker) -> None:
    with pytest.raises(ValueError, match="seeds: 3 known viewers; must be 10"):
        expand(picture, ranker, np.arange(3), 10)
    with pytest.raises(ValueError, match=r"size 0: not in 1\.\."):
        expand(picture, ranker, np.arange(20), 0)
    with pytest.raises(ValueError, match="a ranker needs"):
        train_ranker(links_from_times(4, np.array([0, 1, 2]), np.array([3, 3, 3]), np.array([0, 1, 2])))
    with pytest.raises(ValueError, match=r"followed: rows 0\.\.9"):
        links_from_times(4, np.array([0, 1]), np.array([0, 9]), np.array([0, 1]))


def test_windows_hold_about_as_many_follows_and_never_part_those_of_one_time() -> None:
    assert window_of_times(np.array([30, 10, 10, 20])).tolist() == [2, 0, 0, 1]
    windows = window_of_times(np.repeat(np.arange(1000), 3))
    assert windows.max() == 39 and np.bincount(windows).min() >= 70
    assert (windows.reshape(-1, 3) == windows.reshape(-1, 3)[:, :1]).all()


def test_best_rows_prefers_the_lower_row_of_equals() -> None:
    scores = np.array([1.0, 3.0, -np.inf, 3.0, 3.0, 2.0])
    assert best_rows(scores, 2).tolist() == [1, 3]
    assert best_rows(scores, 9).tolist() == [1, 3, 4, 5, 0]
