"""A ledger for tests whose disk can be full."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pacing.ledger.errors import LedgerUnavailable
from pacing.ledger.log import Ledger


class FaultyLedger(Ledger):
    """While `is_full`, nothing can be written."""

    is_full = False

    @contextmanager
    def _transaction(self) -> Iterator[dict[str, Any]]:
        if self.is_full:
            raise LedgerUnavailable("no space left")
        with super()._transaction() as marks:
            yield marks
