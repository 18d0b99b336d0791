"""Decided auctions as the controller takes them in: summed up by campaign at once, and binned by how dear they were."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pacing.control import kernels
from pacing.control.shades.kernels import sum_shades
from pacing.control.state import CampaignState
from pacing.facts import AuctionType

Auctions = tuple[npt.NDArray[np.generic], ...]
"""Columns of decided auctions: row, first price, won, probability, multiplier, bid, paid, told."""


def sum_up(state: CampaignState, feedback: npt.NDArray[np.void]) -> Auctions:
    """Add FEEDBACK[n] to the sums of its campaigns since these were solved; rows of strangers are dropped."""
    auctions = (
        state.rows(feedback["campaign_id"]),
        (feedback["at"] == AuctionType.FIRST_PRICE).astype(np.uint8),
        np.ascontiguousarray(feedback["won"]),
        np.ascontiguousarray(feedback["probability"]),
        np.ascontiguousarray(feedback["alpha_micros"]),
        feedback["bid_micros"].astype(np.float64),
        feedback["price_micros"].astype(np.float64),
        feedback["min_bid_to_win_micros"].astype(np.float64),
    )
    row, first, won, probability, _, bid, paid, told = auctions
    kernels.sum_auctions(row, first, won, probability, bid, paid, told, state.tick_sums)
    return auctions


def add_to_shapes(state: CampaignState, auctions: Auctions) -> None:
    """Add auctions to the histograms and shades of their campaigns, on the scales that these have now."""
    row, first, won, probability, alpha, bid, paid, told = auctions
    kernels.bin_auctions(row, first, won, probability, bid, paid, told, state.log_level, state.log_price, state.mass)
    sum_shades(row, first, probability, alpha, bid, state.log_level, state.log_price, state.shade)
