"""Sequences of several ledgers side by side: which owner's ledger a row is in, and up to where each one was read.

A row of another owner's ledger carries `owner_id << OWNER_SHIFT | sequence` here, in `sequence` and in
`billed_sequence`; a row of this server's own ledger keeps its sequence, so its owner reads as OWN.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from pacing.facts import OWNER_SHIFT, SEQUENCE_MASK

OWN = 0


def qualified(owner_id: int, sequence: int) -> int:
    """The sequence of a row in the ledger of `owner_id` (OWN: this server's) as it is told where ledgers meet."""
    return owner_id << OWNER_SHIFT | sequence


def owners_of(sequences: np.ndarray) -> np.ndarray:
    """The owners, u8[n], of qualified sequences u8[n]."""
    return sequences >> np.uint64(OWNER_SHIFT)


def as_seen_from(owner_id: int, teller_id: int, sequences: np.ndarray) -> np.ndarray:
    """Sequences u8[n] that the owner `teller_id` names, 0 for none, as the owner `owner_id` names them."""
    owners = owners_of(sequences)
    told = np.where((owners == OWN) & (sequences > 0), np.uint64(qualified(teller_id, 0)) | sequences, sequences)
    return np.where(owners_of(told) == owner_id, told & np.uint64(SEQUENCE_MASK), told)


class Positions:
    """Up to where somebody has read each ledger, by sequences of that ledger. What was not begun is at 0."""

    def __init__(self, read_to: Mapping[int, int] | None = None) -> None:
        self._read_to = dict(read_to or {})

    def __getitem__(self, owner_id: int) -> int:
        return self._read_to.get(owner_id, 0)

    def __setitem__(self, owner_id: int, sequence: int) -> None:
        self._read_to[owner_id] = sequence

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Positions) and self.begun() == other.begun()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Positions({self.begun()})"

    def begun(self) -> dict[int, int]:
        """By owner, the positions that are not 0."""
        return {owner_id: sequence for owner_id, sequence in sorted(self._read_to.items()) if sequence}

    def named(self, own_id: int) -> dict[int, int]:
        """`begun`, with the own ledger under its owner's id."""
        return dict(sorted((owner_id or own_id, sequence) for owner_id, sequence in self.begun().items()))

    def fresh(self, sequences: np.ndarray) -> np.ndarray:
        """Which of these qualified sequences (u8[n]) lie behind the positions, b1[n]."""
        owners = owners_of(sequences)
        mask = np.zeros(len(sequences), np.bool_)
        for owner_id in np.unique(owners).tolist():
            mask |= (owners == owner_id) & (sequences > qualified(owner_id, self[owner_id]))
        return mask

    def advance(self, sequences: np.ndarray) -> None:
        """Note that all up to these qualified sequences (u8[n]) was read; never goes back."""
        owners = owners_of(sequences)
        for owner_id in np.unique(owners).tolist():
            last = int(sequences[owners == owner_id].max()) & SEQUENCE_MASK
            self[owner_id] = max(self[owner_id], last)

    def packed(self) -> np.ndarray:
        """As u8[n, 2] of owner and sequence."""
        return np.array(list(self.begun().items()), np.uint64).reshape(-1, 2)

    @classmethod
    def unpacked(cls, table: np.ndarray) -> Positions:
        """What `packed` saw.

        Raises:
            ValueError: another shape.
        """
        if table.ndim != 2 or table.shape[1] != 2:
            raise ValueError(f"positions: shape {table.shape}, not (n, 2)")
        return cls(dict(table.tolist()))


def least(several: Iterable[Positions], owner_id: int) -> int:
    """Up to where everybody has read the ledger of `owner_id`."""
    return min(positions[owner_id] for positions in several)
