"""What a server saw of campaigns that another one paces, gathered by shard and packed for the way."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pacing.facts import FEEDBACK

SUPPLY = np.dtype([("campaign_id", "<u8"), ("eligible", "<i8"), ("expected_events", "<f8")])
"""Viewers that a campaign could have bid for, and the sum of their probabilities."""

CAMPAIGN_ROWS = 256
"""Auctions of one campaign in one message, at most: more of them would hardly say more."""
ROUND_ROWS = 16_384
"""Auctions in all messages of one round, at most: about 1.2 MB."""

_FORMAT_VERSION = 1
_HEAD = struct.Struct("<IIIQ")  # version, rows of supply, rows of feedback, itemsize of these


@dataclass(frozen=True, slots=True)
class Message:
    """What one server saw of one shard: SUPPLY[c], no campaign twice, and FEEDBACK[n]."""

    supply: npt.NDArray[np.void]
    feedback: npt.NDArray[np.void]

    def to_bytes(self) -> bytes:
        """The bytes that `from_bytes` reads."""
        head = _HEAD.pack(_FORMAT_VERSION, len(self.supply), len(self.feedback), FEEDBACK.itemsize)
        return head + self.supply.tobytes() + self.feedback.tobytes()

    @classmethod
    def from_bytes(cls, packed: bytes) -> Message:
        """Read what `to_bytes` made.

        Raises:
            ValueError: it is no such message, or one of another version.
        """
        if len(packed) < _HEAD.size:
            raise ValueError(f"{len(packed)} bytes: cut short")
        version, campaigns, rows, itemsize = _HEAD.unpack_from(packed)
        if version != _FORMAT_VERSION or itemsize != FEEDBACK.itemsize:
            raise ValueError(f"format version {version}, {itemsize} bytes a row: of another server's version")
        if len(packed) != _HEAD.size + campaigns * SUPPLY.itemsize + rows * itemsize:
            raise ValueError(f"{len(packed)} bytes: not as long as {campaigns} campaigns and {rows} auctions are")
        supply = np.frombuffer(packed, SUPPLY, campaigns, _HEAD.size)
        return cls(supply, np.frombuffer(packed, FEEDBACK, rows, _HEAD.size + supply.nbytes))


class Observations:
    """Gathers what is to be told. Counts of supply are all kept; of auctions, a fair sample where there are too many.

    Not for several threads at once.
    """

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._supply: dict[int, tuple[int, float]] = {}
        self._feedback: list[npt.NDArray[np.void]] = []
        self._rows = 0

    def add_supply(
        self, campaign_ids: npt.NDArray[np.uint64], eligible: npt.NDArray[np.int64], expected: npt.NDArray[np.float64]
    ) -> None:
        """Count viewers; campaigns without any are left out."""
        some = eligible > 0
        columns = (campaign_ids[some].tolist(), eligible[some].tolist(), expected[some].tolist())
        for campaign_id, viewers, events in zip(*columns, strict=True):
            viewers_before, events_before = self._supply.get(campaign_id, (0, 0.0))
            self._supply[campaign_id] = viewers_before + viewers, events_before + events

    def add_feedback(self, feedback: npt.NDArray[np.void]) -> None:
        """Keep FEEDBACK[n]."""
        if len(feedback):
            self._feedback.append(feedback)
            self._rows += len(feedback)
            if self._rows > 2 * ROUND_ROWS:  # nobody came for them: Redis is away
                self._feedback = [self._sample(np.concatenate(self._feedback))]
                self._rows = len(self._feedback[0])

    def take(self) -> Message:
        """All that was gathered, and begin anew."""
        supply = np.array([(key, *counts) for key, counts in self._supply.items()], SUPPLY)
        rows = np.concatenate(self._feedback) if self._feedback else np.zeros(0, FEEDBACK)
        self._supply, self._feedback, self._rows = {}, [], 0
        return Message(supply, self._sample(rows))

    def _sample(self, rows: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
        """At most CAMPAIGN_ROWS of each campaign, at most ROUND_ROWS in all, drawn without favour, in their order."""
        ids, inverse, counts = np.unique(rows["campaign_id"], return_inverse=True, return_counts=True)
        if len(ids) and counts.max() > CAMPAIGN_ROWS:
            shuffled = self._random.permutation(len(rows))
            grouped = shuffled[np.argsort(inverse[shuffled], kind="stable")]
            rank = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
            rows = rows[np.sort(grouped[rank < CAMPAIGN_ROWS])]
        if len(rows) > ROUND_ROWS:
            rows = rows[np.sort(self._random.choice(len(rows), ROUND_ROWS, replace=False))]
        return rows


def by_shard(message: Message, shard_of_supply: np.ndarray, shard_of_feedback: np.ndarray) -> dict[int, Message]:
    """A message cut into one for each shard that has anything in it."""
    shards = np.union1d(shard_of_supply, shard_of_feedback)
    return {
        int(shard): Message(message.supply[shard_of_supply == shard], message.feedback[shard_of_feedback == shard])
        for shard in shards.tolist()
    }
