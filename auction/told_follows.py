"""What the ledger says of who follows whom, in the end: the last word of each pair."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pacing.facts import OutcomeKind, Verdict
from targeting.graph.follows import FollowGraph

_TOLD = np.dtype([("viewer_id", "<u8"), ("creator_id", "<u8"), ("follows", "?"), ("was_put", "?")])
_UNSORTED = 65_536


class ToldFollows:
    """Passes follows and their ends on to the graph, which lives in memory only, and keeps the last word of each pair.

    One thread at a time.
    """

    def __init__(self, graph: FollowGraph) -> None:
        self._graph = graph
        self._told = np.zeros(0, _TOLD)
        self._parts: list[np.ndarray] = []

    def follow(self, rows: np.ndarray, judgements: np.ndarray) -> None:
        """Take in judged OUTCOME[n]: fresh fans are in their creator's segment at once, whoever brought them."""
        gained = (rows["kind"] == OutcomeKind.FOLLOW) & (judgements["verdict"] != Verdict.REPEAT)
        chosen = gained | (rows["kind"] == OutcomeKind.UNFOLLOW)
        if not chosen.any():
            return
        told = np.zeros(int(chosen.sum()), _TOLD)
        told["viewer_id"], told["creator_id"] = rows["viewer_id"][chosen], rows["creator_id"][chosen]
        told["follows"] = told["was_put"] = gained[chosen]
        last = _last_words(told)
        self._apply(last)
        self._parts.append(last)
        if sum(map(len, self._parts)) > _UNSORTED:
            self._settle()

    def _apply(self, told: np.ndarray) -> None:
        put, left = told[told["was_put"]], told[~told["follows"]]
        if len(put):
            self._graph.put(put["viewer_id"], put["creator_id"])
        if len(left):
            self._graph.remove(left["viewer_id"], left["creator_id"])

    def _settle(self) -> None:
        self._told = _last_words(np.concatenate([self._told, *self._parts]))
        self._parts = []

    def state(self) -> dict[str, np.ndarray]:
        """Everything told, as arrays."""
        self._settle()
        return {name: self._told[name] for name in _TOLD.names or ()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take up what `state` gave, into a graph that knows nothing of it.

        Raises:
            ValueError, KeyError: it is no such state; nothing changed.
        """
        told = np.zeros(len(state["viewer_id"]), _TOLD)
        for name in _TOLD.names or ():
            told[name] = state[name]
        self._told, self._parts = told, []
        self._apply(told)


def _last_words(told: np.ndarray) -> np.ndarray:
    """Of each pair the last row, by pair; `was_put` where any row was."""
    if not len(told):
        return told
    order = np.lexsort((np.arange(len(told)), told["creator_id"], told["viewer_id"]))
    told = told[order]
    begins = np.ones(len(told), np.bool_)
    begins[1:] = (told["viewer_id"][1:] != told["viewer_id"][:-1]) | (told["creator_id"][1:] != told["creator_id"][:-1])
    starts = np.flatnonzero(begins)
    last = told[np.append(starts[1:], len(told)) - 1]
    last["was_put"] = np.logical_or.reduceat(told["was_put"], starts)
    return last
