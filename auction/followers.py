"""Follows the judged ledger for everybody who learns from it, and keeps what they learned across restarts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from auction.attribution import AttributionJudge
from auction.campaigns.report import ReportBook
from auction.learning import Learner
from auction.progress import Progress
from pacing.clocks import Clock
from pacing.facts import OutcomeKind, Verdict
from pacing.ledger.log import Ledger
from targeting.graph.follows import FollowGraph

BATCH_ROWS = 20_000
_BOOK_FILE = "report.npz"
_LEARNER_FILE = "learner.npz"
_PROGRESS_FILE = "progress.json"


class Followers:
    """Report book, learner, progress and follow graph, fed from the judged rows in order. One thread at a time.

    The learner's file says where it stands. The others are caught up from their own positions, so a crash between two
    files costs nothing but a few rows read again.
    """

    def __init__(
        self,
        ledger: Ledger,
        book: ReportBook,
        learner: Learner,
        progress: Progress,
        follows: FollowGraph,
        clock: Clock,
        folder: Path | None,
    ) -> None:
        self._ledger = ledger
        self._book = book
        self._learner = learner
        self._progress = progress
        self._follows = follows
        self._clock = clock
        self._folder = folder
        self._learned = 0
        self._position = 0

    def load(self) -> None:
        """Take up what `save` wrote; what is missing or unreadable is read from the ledger again."""
        if self._folder is None:
            return
        self._book.load(self._folder / _BOOK_FILE)
        try:
            self._learned = self._learner.load(self._folder / _LEARNER_FILE)
        except (OSError, ValueError, KeyError):
            self._learned = 0
        try:
            saved = json.loads((self._folder / _PROGRESS_FILE).read_text(encoding="utf-8"))
            self._progress.restore(saved["progress"])
            self._position = int(saved["position"])
        except (OSError, ValueError, KeyError, TypeError):
            self._position = 0
        self._restore_follows()

    def _restore_follows(self) -> None:
        """Take up the follow edges of the rows that are counted already: the graph itself lives in memory only."""
        after = 0
        while after < self._position:
            rows, judgements = self._ledger.read_judged(after, BATCH_ROWS)
            if not len(rows):
                return
            counted = rows["sequence"] <= self._position
            self._follow(rows[counted], judgements[counted])
            after = int(rows["sequence"][-1])

    def save(self) -> None:
        """Write what everybody learned; each file whole or not at all."""
        if self._folder is None:
            return
        self._book.save(self._folder / _BOOK_FILE)
        self._learner.save(self._folder / _LEARNER_FILE, self._learned)
        part = self._folder / f"{_PROGRESS_FILE}.part"
        part.write_text(json.dumps({"position": self._position, "progress": self._progress.state()}), encoding="utf-8")
        part.replace(self._folder / _PROGRESS_FILE)

    def tick(self) -> None:
        """Take in all rows that were judged since the last time."""
        while True:
            after = min(self._position, self._learned, self._book.ledger_sequence)
            judged_sequence = self._ledger.judged_sequence
            rows, judgements = self._ledger.read_judged(after, BATCH_ROWS)
            if not len(rows):
                self._book.caught_up(judged_sequence)
                break
            self._book.follow(rows, judgements)
            self._learn(rows, judgements)
            self._progress_on(rows, judgements)
        self._learner.tick(self._clock.wall_ms())

    def _learn(self, rows: np.ndarray, judgements: np.ndarray) -> None:
        fresh = rows["sequence"] > self._learned
        if fresh.any():
            self._learner.learn(rows[fresh], judgements[fresh], self._clock.wall_ms())
            self._learned = int(rows["sequence"][-1])

    def _progress_on(self, rows: np.ndarray, judgements: np.ndarray) -> None:
        fresh = rows["sequence"] > self._position
        if fresh.any():
            self._progress.follow(rows[fresh], judgements[fresh])
            self._follow(rows[fresh], judgements[fresh])
            self._position = int(rows["sequence"][-1])

    def _follow(self, rows: np.ndarray, judgements: np.ndarray) -> None:
        """Fresh fans are in their creator's segment from the next snapshot on, whoever brought them."""
        told = judgements["verdict"] != Verdict.REPEAT
        gained = rows[(rows["kind"] == OutcomeKind.FOLLOW) & told]
        if len(gained):
            self._follows.put(gained["viewer_id"], gained["creator_id"])
        left = rows[rows["kind"] == OutcomeKind.UNFOLLOW]
        if len(left):
            self._follows.remove(left["viewer_id"], left["creator_id"])


def restore_attribution(judge: AttributionJudge, ledger: Ledger) -> None:
    """Bring a new judge to where the ledger was judged."""
    after = 0
    while True:
        rows, judgements = ledger.read_judged(after, BATCH_ROWS)
        if not len(rows):
            return
        judge.replay(rows, judgements)
        after = int(rows["sequence"][-1])
