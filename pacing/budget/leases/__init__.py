"""Passes over the leases of all slots."""
