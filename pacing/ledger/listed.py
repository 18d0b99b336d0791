"""A campaign's statement where several servers share budgets: the charges of all, in the order of one server's list.

A server lists what it was told and what it copied; `fanbid ledger show` reads the same from its folder.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from pacing.facts import OUTCOME, SEQUENCE_MASK
from pacing.ledger.arrivals import ArrivalReads, ArrivalsFile
from pacing.ledger.copies import CopyFile, copy_path
from pacing.ledger.owners import OWN, owners_of, qualified
from pacing.ledger.reading import LedgerReads
from pacing.ledger.statement import Rows, StatementPage, explained, statement_page

PEERS_FOLDER = "peers"
"""In a server's data folder: what other servers judged."""
ARRIVALS_FILE = "charges.sqlite"
"""In there: the list of charges."""
_LIST_BITS = 16
"""Places in a list of charges end with the id of the owner whose list it is: no other server takes one for its own."""


class ListedCharges:
    """The charges of all owners, as one of them lists them."""

    def __init__(self, owner_id: int, ledger: Rows, copy_of: Callable[[int], Rows], arrivals: ArrivalReads) -> None:
        """List the charges of an owner's own ledger and of its copies.

        Args:
            copy_of: the copy of another owner's rows.
            arrivals: the order.
        """
        self._owner_id = owner_id
        self._ledger = ledger
        self._copy_of = copy_of
        self._arrivals = arrivals

    def statement(self, campaign_id: int, after: int, limit: int, at_place: int) -> tuple[StatementPage, np.ndarray]:
        """A page of a campaign's charges, in the order in which they came to be known to this owner, and the same as
        EXPLAINED[n]. Rows are called by their owners, own ones too: the same at every server.

        Args:
            after: `next_after` of the page before; 0: from the start.
            at_place: the `ledger_sequence` of an earlier page; 0: as it is.

        Raises:
            ValueError: a place is of another server's list, or out of range.
            LedgerDamaged: a ledger, copy or list cannot be read.
        """
        page = statement_page(
            self._arrivals, campaign_id, self._number("after", after), limit, self._number("ledger_sequence", at_place)
        )
        lines = explained(self, page.charges)
        rows = self._arrivals.rows_of(page.charges["sequence"])
        own = owners_of(rows) == OWN
        lines["sequence"] = np.where(own, rows | np.uint64(qualified(self._owner_id, 0)), rows)
        listed = StatementPage(
            page.charges,
            self._place(page.next_after) if page.next_after else 0,
            self._place(page.ledger_sequence),
            page.charged_micros,
            page.over_delivered_micros,
        )
        return listed, lines

    def rows_at(self, sequences: np.ndarray) -> np.ndarray:
        """The rows of the charges with these numbers of arrival (u8[n], ascending), OUTCOME[n] as their ledgers have
        them."""
        wanted = self._arrivals.rows_of(sequences)
        rows = np.zeros(len(wanted), OUTCOME)
        owner_ids = owners_of(wanted)
        for owner_id in np.unique(owner_ids).tolist():
            ledger = self._ledger if owner_id == OWN else self._copy_of(owner_id)
            mine = owner_ids == owner_id
            rows[mine] = ledger.rows_at(wanted[mine] & np.uint64(SEQUENCE_MASK))
        return rows

    def _place(self, number: int) -> int:
        return number << _LIST_BITS | self._owner_id

    def _number(self, field: str, place: int) -> int:
        """The number of arrival of a place in this list; 0 stays 0.

        Raises:
            ValueError: it is a place in another server's list.
        """
        list_id = place & (1 << _LIST_BITS) - 1
        if place and list_id != self._owner_id:
            raise ValueError(
                f"{field} {place}: a place in the list of server {list_id}; this is server {self._owner_id}, whose "
                "order of charges is another; must come from a page of this one"
            )
        return place >> _LIST_BITS


class ListedFiles(ListedCharges):
    """The list that lies in a server's folder, read only, whether or not the server is writing on.

    Attributes:
        true_at: by owner's id, the row up to which its ledger is in the list.
    """

    def __init__(self, folder: Path, owner_id: int, ledger: LedgerReads) -> None:
        """Open the list in the data folder of an owner, whose ledger is open already.

        Raises:
            FileNotFoundError: there is no list.
            LedgerDamaged: it cannot be read.
        """
        self._peers = folder / PEERS_FOLDER
        self._copies: dict[int, CopyFile] = {}
        self._list = ArrivalsFile(self._peers / ARRIVALS_FILE)
        super().__init__(owner_id, ledger, self._opened, self._list)
        self.true_at = self._list.positions.named(owner_id)

    def _opened(self, origin_id: int) -> CopyFile:
        copy = self._copies.get(origin_id)
        if copy is None:
            copy = self._copies[origin_id] = CopyFile(copy_path(self._peers, origin_id))
        return copy

    def close(self) -> None:
        """Close the list and the copies, not the ledger."""
        for copy in self._copies.values():
            copy.close()
        self._list.close()
