"""What can be wrong with a ledger."""

from __future__ import annotations


class LedgerError(Exception):
    """The ledger cannot be used as asked."""


class LedgerInUse(LedgerError):
    """Another process has the ledger open."""


class LedgerDamaged(LedgerError):
    """What is stored is not what was acknowledged: rows are missing or altered. Nothing is repaired by guessing."""


class LedgerUnavailable(LedgerError):
    """Rows could not be made durable, and are not in the ledger."""
