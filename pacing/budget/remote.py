"""The contract of a budget store that several servers share, beyond that of every budget store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np

from pacing.budget.account import Account
from pacing.budget.store import BudgetStore, Epoch, LeaseState

MARKS_KEPT = 61
"""Marks are a minute apart, at least: the oldest one is an hour back from the newest, in time that the owner was up."""

NO_ACCOUNT = 5
"""In place of a verdict: the store has no account to charge the claim to."""


class RemoteStore(BudgetStore, Protocol):
    """A budget store that other servers use too."""

    def accounts(self, campaign_ids: Iterable[int]) -> dict[int, Account]:
        """The present accounts of campaigns; unknown ones are left out."""

    def settle_again(self, claims: np.ndarray) -> np.ndarray:
        """Tell SETTLEMENT[n] again that were charged, in the order of their rows, without a gap; those that the store
        lost are charged now, whatever the caps, and the others are not, however long ago they were."""

    def restate(self, leases: Sequence[LeaseState]) -> None:
        """Say what is left of leases, in case their grants, or what was given back of them, are lost."""

    def decide(self, claims: np.ndarray) -> np.ndarray:
        """As `settle`, but NO_ACCOUNT for claims on campaigns that have none here. An owner asks in the order of its
        rows."""

    def mark(self, judged_sequence: int) -> None:
        """Note how far this owner's ledger is judged now."""

    def marked_sequence(self) -> int:
        """The oldest of this owner's last MARKS_KEPT marks, as far as the store has them; 0 where it has fewer."""

    def last_mark_at_ms(self) -> int:
        """When anybody set the newest mark that the store has, on its clock; 0: it has none."""

    def replication_ids(self) -> frozenset[str]:
        """Of what keeps the store; another set means that it may lack its last writes."""

    def epochs(self, creator_ids: Iterable[int]) -> dict[int, Epoch]:
        """In which epoch the keys of each creator are."""

    def reopen(self, account: Account) -> bool:
        """Open an account anew, with its caps, if the store has lost it; answers whether it had. Nothing was charged to
        it that is not told again: an epoch begins, in which every owner that ever joined is behind."""

    def reopened(self) -> dict[int, int]:
        """Creators of whose accounts one was opened anew lately, or is just being, or who were listed otherwise; each
        with a note, another one whenever there is something new."""

    def list_reopened(self, notes: Mapping[int, int]) -> None:
        """List creators, for a while, as ones in whose epoch something is to be told again, with a note each."""

    def settled_again(self, creator_id: int, epoch_number: int) -> int:
        """Say that this owner has, in an epoch, told again all that may be lost; answers the present epoch."""
