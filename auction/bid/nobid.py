"""Why a viewer got no bid: the reasons of `protos/bidding.proto`, as kernels use them. 0 to 99 are OpenRTB 2.6's."""

from __future__ import annotations

NBR_BID = 0
NBR_NO_CAMPAIGN = 500
NBR_NOT_TARGETED = 501
NBR_BELOW_FLOOR = 502
NBR_BUDGET = 503
NBR_FREQUENCY_CAP = 504
NBR_PACED_OUT = 505
NBR_HOLDS_FULL = 506
NBR_BLOCKED_CREATOR = 507
NBR_NO_ADS = 508
