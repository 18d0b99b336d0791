"""Charges explained and checked: from the ledger's records back to the bids that they came from."""
