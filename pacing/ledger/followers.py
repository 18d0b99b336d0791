"""Followers of the ledger: the judges, who give every outcome its verdict, and those who read outcomes with their
verdicts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from pacing.facts import JUDGEMENT
from pacing.ledger.log import Ledger


class Judge(Protocol):
    """Decides about rows in ledger order, each row once per process."""

    def judge(self, rows: np.ndarray, judgements: np.ndarray) -> np.ndarray:
        """Judge OUTCOME[n]; `judgements`, JUDGEMENT[n], is what earlier judges said. Answers JUDGEMENT[n]; changes no
        argument."""


class JudgeFollower:
    """Puts outcomes to the judges in ledger order and stores their verdicts, durably, before anybody may read them.

    Any thread may call `step`; one at a time runs. A judge that raises is asked again about the same rows at the next
    step, while those before it are not: judges may change their state while they judge.
    """

    def __init__(
        self,
        ledger: Ledger,
        judges: Sequence[Judge],
        batch_rows: int = 4_096,
        on_judged: Callable[[int], None] | None = None,
    ) -> None:
        """Begin where the ledger's verdicts end.

        Args:
            judges: the settle judge first.
            on_judged: called with the judged sequence after each batch, before the next one begins.
        """
        self._ledger = ledger
        self._judges = tuple(judges)
        self._batch_rows = batch_rows
        self._on_judged = on_judged
        self._lock = threading.Lock()
        self._rows: np.ndarray | None = None
        self._judgements = np.zeros(0, JUDGEMENT)
        self._judged_to = 0
        self._next_judge = 0

    def step(self) -> int:
        """Judge one batch; answers how many ledger rows that was, the ledger's own included. 0: nothing to do.

        Raises:
            LedgerError: the ledger cannot be read or written; nothing is lost, the next step goes on from here.
        """
        with self._lock:
            before = self._ledger.judged_sequence
            if self._rows is None and not self._begin(before):
                return 0
            rows = self._rows
            assert rows is not None
            while self._next_judge < len(self._judges):
                self._judgements = self._judges[self._next_judge].judge(rows, self._judgements)
                self._next_judge += 1
            self._ledger.append_judgements(self._judged_to, rows, self._judgements)
            self._rows = None
            if self._on_judged is not None:
                self._on_judged(self._judged_to)
            return self._judged_to - before

    def catch_up(self) -> int:
        """Step until nothing is left that was in the ledger when this began; answers how many rows that was."""
        until, count = self._ledger.last_sequence, 0
        while self._ledger.judged_sequence < until:
            count += self.step()
        return count

    def _begin(self, before: int) -> bool:
        last = self._ledger.last_sequence
        if last <= before:
            return False
        rows = self._ledger.read(before, self._batch_rows)
        rows = rows[rows["sequence"] <= last]
        # A full batch may be followed by more outcomes; else everything up to `last` has been seen.
        self._judged_to = int(rows["sequence"][-1]) if len(rows) == self._batch_rows else last
        self._judgements = np.zeros(len(rows), JUDGEMENT)
        self._judgements["sequence"] = rows["sequence"]
        self._next_judge = 0
        self._rows = rows
        return True


class Follower:
    """Hands judged outcomes to a function, in ledger order, from a position that the ledger keeps under a name.

    At least once: after a crash, rows behind the last saved position come again. Use by one thread at a time.
    """

    def __init__(
        self, ledger: Ledger, name: str, follow: Callable[[np.ndarray, np.ndarray], None], batch_rows: int = 4_096
    ) -> None:
        """Go on from the saved position.

        Args:
            follow: is given OUTCOME[n] and JUDGEMENT[n]; when it raises, the same rows come again.
        """
        self._ledger = ledger
        self._name = name
        self._follow = follow
        self._batch_rows = batch_rows
        self.position = ledger.position(name)

    def step(self) -> int:
        """Hand over one batch and save the position; answers how many rows that was."""
        rows, judgements = self._ledger.read_judged(self.position, self._batch_rows)
        if not len(rows):
            return 0
        self._follow(rows, judgements)
        self.position = int(rows["sequence"][-1])
        self._ledger.save_position(self._name, self.position)
        return len(rows)
