"""Follows the judged ledger for everybody who learns from it, and keeps what they learned across restarts."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from auction.attribution import AttributionJudge
from auction.campaigns.report import ReportBook
from auction.learning import Learner, read_learned
from auction.progress import Progress
from auction.saved_state import read_state, write_state
from auction.shared.judged import PeerRows
from auction.told_follows import ToldFollows
from auction.told_visits import ToldVisits
from pacing.clocks import Clock
from pacing.ledger.errors import LedgerDamaged
from pacing.ledger.log import Ledger
from pacing.ledger.merged import Batch
from pacing.ledger.owners import OWN, Positions, least
from targeting.graph.follows import FollowGraph
from targeting.visits import Visits

logger = logging.getLogger(__name__)

BATCH_ROWS = 20_000
PEER_ROWS = 2_500
"""Rows of each other server that are taken in at a time: between two of these, everything else has its turn."""
UNKNOWN_WAIT_MS = 60_000
_BOOK_FILE = "report.npz"
_LEARNER_FILE = "learner.npz"
_PROGRESS_FILE = "progress.json"
_FOLLOWS_FILE, _FOLLOWS_KIND = "follows.state", "told follows 2"
_VISITS_FILE, _VISITS_KIND = "visits.state", "told visits 1"
_ATTRIBUTION_FILE, _ATTRIBUTION_KIND = "attribution.state", "attribution 2"

Source = Callable[[Positions, int], Batch]
"""source(after, limit): judged rows behind some positions, up to `limit` of a ledger, by time."""


class ReadAhead:
    """The largest files that `Followers.save` wrote: a thread reads and checks them while the rest of a server opens.

    Attributes:
        attribution, learned: what they hold; the latter may come to nothing by ValueError or OSError.
    """

    def __init__(self, folder: Path) -> None:
        """Begin."""
        reader = ThreadPoolExecutor(1, "read-ahead")
        self.attribution = reader.submit(read_state, folder / _ATTRIBUTION_FILE, _ATTRIBUTION_KIND)
        self.learned = reader.submit(read_learned, folder / _LEARNER_FILE)
        reader.shutdown(wait=False)


class Followers:
    """Report book, learner, progress, follow graph and list of charges, fed from the judged rows of this server's
    ledger and of those of its peers. One thread at a time.

    Each knows up to where it has read every ledger, and passes over what comes again, so a crash between two files
    costs nothing but a few rows read again.
    """

    def __init__(
        self,
        ledger: Ledger,
        book: ReportBook,
        learner: Learner,
        progress: Progress,
        follows: FollowGraph,
        visits: Visits,
        attribution: AttributionJudge,
        clock: Clock,
        folder: Path | None,
        peers: PeerRows | None = None,
        ahead: ReadAhead | None = None,
    ) -> None:
        """Follow from nothing; `ahead` goes with `folder`, and `load` takes up what it read there."""
        self._ledger = ledger
        self._book = book
        self._learner = learner
        self._progress = progress
        self._follows = ToldFollows(follows)
        self._visits = ToldVisits(visits, clock)
        self._attribution = attribution
        self._clock = clock
        self._folder = folder
        self._peers = peers
        self._ahead = ahead
        self._attributed = Positions()
        self._learned = Positions()
        self._counted = Positions()  # by progress and follow graph
        self._unknown_since_ms: int | None = None
        self._given_up: set[int] = set()
        self._is_damaged = False

    def load(self) -> None:
        """Bring the judge of attribution to where everything was judged, and take up what `save` wrote; what is
        missing or unreadable is read from the ledgers again."""
        ahead, self._ahead = self._ahead, None
        if self._folder is None or ahead is None:
            self._restore_attribution(None)
            return
        self._restore_attribution(ahead.attribution.result())
        self._book.load(self._folder / _BOOK_FILE)
        try:
            self._learned = self._learner.restore(ahead.learned.result())
        except (OSError, ValueError):
            self._learned = Positions()
        self._load_counted(self._folder)

    def _load_counted(self, folder: Path) -> None:
        """Take up progress and follow graph, which are counted together."""
        try:
            saved = json.loads((folder / _PROGRESS_FILE).read_text(encoding="utf-8"))
            positions = Positions.unpacked(np.array(saved["positions"], np.uint64).reshape(-1, 2))
            self._progress.restore(saved["progress"])
            self._counted = positions
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
            self._counted = Positions()
        self._restore_told(self._follows, folder / _FOLLOWS_FILE, _FOLLOWS_KIND)
        self._restore_told(self._visits, folder / _VISITS_FILE, _VISITS_KIND)

    def _source(self) -> Source:
        if self._peers is not None:
            return self._peers.read_with_own
        return lambda after, limit: self._ledger.read_judged(after[OWN], limit)

    def _restore_attribution(self, saved: Mapping[str, np.ndarray] | None) -> None:
        """Bring the judge of attribution to where everything was judged: from what was saved, if it is of this very
        ledger, and by the rows that were judged since."""
        if saved is not None:
            positions = Positions.unpacked(saved["positions"])
            if self._ledger.judged_head_at(positions[OWN]) == saved["head"].tobytes():
                self._attribution.restore(saved)
                self._attributed = positions
        for rows, judgements in _all(self._source(), self._attributed):
            self._attribution.replay(rows, judgements)
            self._attributed.advance(rows["sequence"])

    def _save_attribution(self, folder: Path) -> None:
        """Write down what the judge remembers, and how far each ledger was judged when it did."""
        sequence, head = self._ledger.judged_end
        positions = Positions(self._attributed.begun() | {OWN: sequence})
        state = {"positions": positions.packed(), "head": np.frombuffer(head, np.uint8)}
        write_state(folder / _ATTRIBUTION_FILE, _ATTRIBUTION_KIND, {**self._attribution.state(), **state})

    def _restore_told(self, told: ToldFollows | ToldVisits, path: Path, kind: str) -> None:
        """Take up what was told by the rows that are counted already: follows and visits live in memory only."""
        saved = read_state(path, kind)
        after = Positions()
        if saved is not None:
            positions = Positions.unpacked(saved["positions"])
            if positions[OWN] <= self._ledger.judged_sequence:
                told.restore(saved)
                after = positions
        for rows, judgements in _all(self._source(), after):
            counted = ~self._counted.fresh(rows["sequence"])
            told.follow(rows[counted], judgements[counted])

    def save(self) -> None:
        """Write what everybody learned; each file whole or not at all."""
        if self._folder is None:
            return
        self._book.save(self._folder / _BOOK_FILE)
        self._learner.save(self._folder / _LEARNER_FILE, self._learned)
        part = self._folder / f"{_PROGRESS_FILE}.part"
        state = {"positions": self._counted.packed().tolist(), "progress": self._progress.state()}
        part.write_text(json.dumps(state), encoding="utf-8")
        part.replace(self._folder / _PROGRESS_FILE)
        positions = self._counted.packed()
        write_state(self._folder / _FOLLOWS_FILE, _FOLLOWS_KIND, {"positions": positions, **self._follows.state()})
        write_state(self._folder / _VISITS_FILE, _VISITS_KIND, {"positions": positions, **self._visits.state()})
        self._save_attribution(self._folder)

    def tick(self) -> None:
        """Take in all rows of this server's ledger that were judged since the last time."""
        while True:
            judged_sequence = self._ledger.judged_sequence
            rows, judgements = self._ledger.read_judged(least(self._read_to(), OWN), BATCH_ROWS)
            if not len(rows):
                self._book.caught_up(judged_sequence)
                break
            self._take(rows, judgements)
        self._learner.tick(self._clock.wall_ms())

    def take_peers(self) -> int:
        """Take in some rows that other servers judged; answers how many there were."""
        if self._peers is None:
            return 0
        everybody = [*self._read_to(), self._attributed]
        after = Positions({origin_id: least(everybody, origin_id) for origin_id in self._peers.origins()})
        try:
            rows, judgements = self._peers.read(after, PEER_ROWS)
        except LedgerDamaged as damage:
            # Judging goes on: nothing that others told may stop what is told here.
            if not self._is_damaged:
                logger.error("%s; without that file this server fetches the rows again at its next start", damage)
            self._is_damaged = True
            return 0
        if not len(rows) or self._waits_for_campaigns(rows, judgements):
            return 0
        fresh = self._attributed.fresh(rows["sequence"])
        self._attribution.replay(rows[fresh], judgements[fresh])
        self._attributed.advance(rows["sequence"])
        self._take(rows, judgements)
        return len(rows)

    def _read_to(self) -> list[Positions]:
        read_to = [self._book.positions, self._learned, self._counted]
        return read_to if self._peers is None else [*read_to, self._peers.arrivals.positions]

    def _waits_for_campaigns(self, rows: np.ndarray, judgements: np.ndarray) -> bool:
        """Whether to leave rows for later, as a campaign of theirs has not reached this server yet. Not for ever."""
        unknown = self._book.unknown_campaigns(rows, judgements) - self._given_up
        if not unknown:
            self._unknown_since_ms = None
            return False
        now_ms = self._clock.monotonic_ms()
        if self._unknown_since_ms is None:
            self._unknown_since_ms = now_ms
        if now_ms - self._unknown_since_ms < UNKNOWN_WAIT_MS:
            return True
        logger.error("other servers sold for campaigns %s, unknown here: not in this server's reports", sorted(unknown))
        self._given_up |= unknown
        self._unknown_since_ms = None
        return False

    def _take(self, rows: np.ndarray, judgements: np.ndarray) -> None:
        self._book.follow(rows, judgements)
        self._learn(rows, judgements)
        self._progress_on(rows, judgements)
        if self._peers is not None:
            self._peers.arrivals.follow(rows, judgements)

    def _learn(self, rows: np.ndarray, judgements: np.ndarray) -> None:
        fresh = self._learned.fresh(rows["sequence"])
        if fresh.any():
            self._learner.learn(rows[fresh], judgements[fresh], self._clock.wall_ms())
            self._learned.advance(rows["sequence"])

    def _progress_on(self, rows: np.ndarray, judgements: np.ndarray) -> None:
        fresh = self._counted.fresh(rows["sequence"])
        if fresh.any():
            self._progress.follow(rows[fresh], judgements[fresh])
            self._follows.follow(rows[fresh], judgements[fresh])
            self._visits.follow(rows[fresh], judgements[fresh])
            self._counted.advance(rows["sequence"])


def _all(source: Source, since: Positions) -> Iterator[Batch]:
    """Everything that was judged behind some positions."""
    after = Positions(since.begun())
    while True:
        rows, judgements = source(after, BATCH_ROWS)
        if not len(rows):
            return
        yield rows, judgements
        after.advance(rows["sequence"])
