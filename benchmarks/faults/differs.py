"""What the auditor raises."""

from __future__ import annotations


class Differs(Exception):
    """The code under test did something else than it promises."""
