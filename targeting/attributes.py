"""What is known of a viewer: dimensions with one code each, and interests of which a viewer has several."""

from __future__ import annotations

from enum import IntEnum


class Dimension(IntEnum):
    """A dimension's column; the number in `protos/campaigns.proto` is one higher."""

    REGION = 0
    AGE_BAND = 1
    GENDER = 2
    OS = 3
    NETWORK = 4
    DEVICE_TIER = 5
    CONTENT_CATEGORY = 6
    PLACEMENT = 7


CARDINALITIES = (512, 8, 4, 4, 6, 6, 64, 16)
"""Codes of each dimension are 0 to this, exclusive; 0 is "unknown"."""

DIMENSION_COUNT = len(CARDINALITIES)
STORED_DIMENSION_COUNT = 6
"""The first six belong to the viewer; content category and placement come with the request."""

INTEREST_COUNT = 64
