"""What is told of a creator's lookalike: with noise, so that no lookalike is made to find out about a viewer."""

from __future__ import annotations

import threading
from secrets import token_bytes
from typing import Protocol

import numpy as np

from auction.bid.keyring import KeyRing
from pacing.clocks import MS_PER_DAY, Clock
from protos import audience_pb2
from targeting.reach.noise import DRAW_BYTES, SCALE, digest_of_ids, keyed, noisy
from targeting.viewers import ViewerTable

LEAST_HELD_OUT = 600
"""Held-out seeds from which on a creator is told how many were found: the noise is 10 points of 100 at most, 19 times
in 20. With fewer it says too little."""
_WITHIN = round(6 * SCALE)
"""A lookalike that has so many fewer than were wanted is told as one that has them all; noise does so once in 800."""
_SEED_BYTES = 16
_COUNTS = 3
_WHOLE_PERCENT = 2
_LEAST_ZEROS = 2


class FigureStores(Protocol):
    """Where viewers live, and the server's secret."""

    viewers: ViewerTable
    clock: Clock
    keys: KeyRing


class LookalikeFigures:
    """Says what is told of lookalikes that are creators' lists. Any thread may call.

    Who makes up seeds could set each but one viewer's part in a figure, and read that viewer's from it. So:

    - Which seeds are held out is drawn by a hash of all seeds under a key of the server's: the same for the same
      seeds, and nobody can choose seeds so that one viewer is among the held-out ones.
    - Three numbers are told: held-out seeds that were found, those that activity finds, and members. Each has Laplace
      noise of its own and is rounded then (to whole percent; to two digits and hundreds). The noise is a hash of the
      seeds, the size, whose followers they are, and the day, under a key that is drawn when the process starts; within
      a day the same question has the same answer, so a viewer who comes or goes meanwhile does not show under noise
      that stays. After a start the noise is another one; starts are the operator's.

    *Guaranteed:* a fact of one viewer that moves a number by 1 (whether the viewer, held out, is found or is among
    the most active; is there to be a member) is told (1/20)-differentially privately by each number (see
    `targeting.reach.noise`), 3/20 a lookalike. A creator makes 40 in any 24 hours at most (see `OwnLists.spend`).

    *Not guaranteed:* whom a viewer follows also moves, a little, how all others are ranked; no bound on that is
    proved. That fewer than MIN_MEMBERS were found is told as it is, and `seeds` is what the creator put.
    """

    def __init__(self, stores: FigureStores) -> None:
        self._stores = stores
        self._noise_key = token_bytes(32)  # kept nowhere: noise that outlives the answers would show who came meanwhile
        self._lock = threading.Lock()
        self._day = -1
        self._answers: dict[bytes, tuple[int, ...]] = {}

    def held_out_draw(self, seeds: np.ndarray) -> int:
        """What draws the held-out ones of these seeds (integers [s], rows): nobody without the key can tell it."""
        keys = self._stores.keys.current
        key = keys.keys[keys.active_id]
        return int.from_bytes(keyed(key, b"lookalike draw", self._digest_of(seeds), _SEED_BYTES), "big")

    def told(
        self, exact: audience_pb2.PutLookalikeResponse, seeds: np.ndarray, size: int, creator_id: int
    ) -> audience_pb2.PutLookalikeResponse:
        """The figures as a creator is told them; `held_out` is 0 where they are too few to tell anything.

        Args:
            exact: what they are.
            seeds: integers [s], rows.
            size: how many were wanted.
            creator_id: whose followers the seeds are; 0: nobody's.
        """
        held_out = exact.held_out
        found, active = (round(share * held_out) for share in (exact.recall, exact.activity_recall))
        found, active, members = self._noisy((found, active, exact.members), seeds, size, creator_id)
        told = audience_pb2.PutLookalikeResponse(
            members=size if members >= size - _WITHIN else two_digits(members), seeds=exact.seeds, learned=exact.learned
        )
        if held_out >= LEAST_HELD_OUT:
            told.held_out = held_out
            told.recall, told.activity_recall = (
                round(min(count / held_out, 1.0), _WHOLE_PERCENT) for count in (found, active)
            )
        return told

    def _noisy(self, counts: tuple[int, ...], seeds: np.ndarray, size: int, creator_id: int) -> tuple[int, ...]:
        """The counts with noise on them, as they were first told today."""
        day = self._stores.clock.wall_ms() // MS_PER_DAY
        of = f"{day} {size} {creator_id} ".encode() + self._digest_of(seeds)
        question = keyed(self._noise_key, b"lookalike noise", of, _COUNTS * DRAW_BYTES)
        draws = (question[i * DRAW_BYTES : (i + 1) * DRAW_BYTES] for i in range(_COUNTS))
        with self._lock:
            if day != self._day:
                self._day, self._answers = day, {}
            fresh = tuple(noisy(count, draw).count for count, draw in zip(counts, draws, strict=True))
            return self._answers.setdefault(question, fresh)

    def _digest_of(self, seeds: np.ndarray) -> bytes:
        return digest_of_ids(self._stores.viewers.ids[seeds])


def two_digits(members: int) -> int:
    """Rounded to its two leading digits, and to hundreds at least."""
    return round(members, -max(len(str(members)) - 2, _LEAST_ZEROS))
