"""A bid request, checked: from wire columns to the arrays that scoring reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from auction.bid.wire import Columns, decode
from pacing.facts import AuctionType
from pacing.money import MAX_PRICE_MICROS
from targeting.attributes import CARDINALITIES, DIMENSION_COUNT, STORED_DIMENSION_COUNT, Dimension
from targeting.content import LEVELS, check_tag, tag_segment
from targeting.segments.affinities import check_affinities

MAX_VIEWERS = 1_000
MAX_ID_BYTES = 64
MAX_BIDS_PER_VIEWER = 3
MAX_BLOCKED_CREATORS = 64
MAX_CONTENT_TAGS = 32
MAX_AFFINITY_TAGS = 256
MAX_AFFINITIES = 20_000

_ATTRIBUTE_COLUMNS = ("regions", "age_bands", "genders", "os", "networks", "device_tiers")
_PARTS = (("viewers", "Viewers"), ("predictions", "Predictions"), ("affinities", "Affinities"))
assert len(_ATTRIBUTE_COLUMNS) == STORED_DIMENSION_COUNT


Brought = tuple[tuple[str, np.ndarray], ...]
"""Segments by name, and the viewers (i8[k], positions in the request) who count as members for this request."""
NOTHING_BROUGHT: Brought = ()


@dataclass(frozen=True, slots=True)
class BidBatch:
    """One checked request for n viewers.

    Attributes:
        dims: i4[n, DIMENSION_COUNT], the viewers' attribute codes; -1: not sent, take what the engine knows.
        interest_masks: u8[n], or None when not sent.
        floors_micros: i8[n], inclusive.
        prediction_ptr: i4[n + 1], each viewer's range in the two arrays that follow.
        prediction_campaign_ids: u8[m].
        probabilities: f4[m].
        brought: what viewers like, by the request.
    """

    request_id: str
    at: int
    placement: int
    max_bids_per_viewer: int
    viewer_ids: np.ndarray
    dims: np.ndarray
    interest_masks: np.ndarray | None
    floors_micros: np.ndarray
    blocked_creator_ids: np.ndarray
    prediction_ptr: np.ndarray
    prediction_campaign_ids: np.ndarray
    probabilities: np.ndarray
    brought: Brought = NOTHING_BROUGHT

    @property
    def size(self) -> int:
        """How many viewers."""
        return len(self.viewer_ids)


def _check_range(field: str, value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        raise ValueError(f"{field} {value}: not in {low}..{high}")
    return value


def _check_column(field: str, values: np.ndarray, n: int, low: int, high: int) -> np.ndarray:
    """A column of n values within low..high, or an empty one."""
    if len(values) not in (0, n):
        raise ValueError(f"{field}: {len(values)} values for {n} viewers; must be 0 or {n}")
    if len(values):
        worst = int(values.min()) if int(values.min()) < low else int(values.max())
        _check_range(f"{field}[{int(np.argmax(values == worst))}]", worst, low, high)
    return values


def check_viewer_attributes(viewers: Columns, n: int) -> tuple[np.ndarray, np.ndarray | None]:
    """The attribute columns of a `Viewers` message as one matrix.

    Returns:
        (i4[n, DIMENSION_COUNT] with -1 where a column was not sent, u8[n] interest masks or None).

    Raises:
        ValueError: a column's length or a code is out of range.
    """
    dims = np.full((n, DIMENSION_COUNT), -1, np.int32)
    for d, name in enumerate(_ATTRIBUTE_COLUMNS):
        column = _check_column(f"viewers.{name}", viewers[name], n, 0, CARDINALITIES[d] - 1)
        if len(column):
            dims[:, d] = column
    masks = viewers["interest_masks"]
    if len(masks) not in (0, n):
        raise ValueError(f"viewers.interest_masks: {len(masks)} values for {n} viewers; must be 0 or {n}")
    return dims, masks if len(masks) else None


def check_viewer_ids(ids: np.ndarray, limit: int) -> np.ndarray:
    """The ids, 1 to `limit` of them, none twice.

    Raises:
        ValueError: too few, too many, or a duplicate.
    """
    _check_range("viewers.ids count", len(ids), 1, limit)
    ordered = np.sort(ids)
    repeated = ordered[1:] == ordered[:-1]
    if repeated.any():
        raise ValueError(f"viewers.ids {int(ordered[1:][repeated][0])}: given twice; each viewer must be given once")
    return ids


def _check_predictions(predictions: Columns, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    viewer_idx = predictions["viewer_idx"]
    campaign_ids, probabilities = predictions["campaign_ids"], predictions["probabilities"]
    if not len(viewer_idx) == len(campaign_ids) == len(probabilities):
        raise ValueError(
            f"predictions: {len(viewer_idx)} viewer_idx, {len(campaign_ids)} campaign_ids, "
            f"{len(probabilities)} probabilities; must be equally many"
        )
    if len(viewer_idx):
        _check_range("predictions.viewer_idx", int(viewer_idx.max()), 0, n - 1)
        if (viewer_idx[1:] < viewer_idx[:-1]).any():
            raise ValueError("predictions.viewer_idx: must ascend")
        _check_pairs(viewer_idx, campaign_ids)
        bad = ~((probabilities >= 0) & (probabilities <= 1))
        if bad.any():
            k = int(np.argmax(bad))
            raise ValueError(f"predictions.probabilities[{k}] {probabilities[k]}: not in 0..1")
    ptr = np.searchsorted(viewer_idx, np.arange(n + 1)).astype(np.int32)
    return ptr, campaign_ids, probabilities


def _check_pairs(viewer_idx: np.ndarray, campaign_ids: np.ndarray) -> None:
    """Refuse two predictions for one viewer and campaign; most requests have one a viewer, which costs nothing here."""
    if not (viewer_idx[1:] == viewer_idx[:-1]).any():
        return
    order = np.lexsort((campaign_ids, viewer_idx))
    viewer_idx, campaign_ids = viewer_idx[order], campaign_ids[order]
    repeated = (viewer_idx[1:] == viewer_idx[:-1]) & (campaign_ids[1:] == campaign_ids[:-1])
    if repeated.any():
        k = int(np.argmax(repeated))
        raise ValueError(
            f"predictions.campaign_ids {campaign_ids[k]}: given twice for viewer_idx {viewer_idx[k]}; at most once"
        )


def _check_content(plain: Any, affinities: Columns, n: int) -> Brought:
    """What the tags of the video that is watched, and the affinities of the request, add to the viewers."""
    if not len(plain.content_tags) and not len(affinities["viewer_idx"]):
        return NOTHING_BROUGHT
    _check_range("content_tags count", len(plain.content_tags), 0, MAX_CONTENT_TAGS)
    _check_range("affinities.tags count", len(affinities.plain.tags), 0, MAX_AFFINITY_TAGS)
    _check_range("affinities.viewer_idx count", len(affinities["viewer_idx"]), 0, MAX_AFFINITIES)
    watched, tags = [check_tag(t) for t in plain.content_tags], [check_tag(t) for t in affinities.plain.tags]
    viewer_idx, tag_idx = affinities["viewer_idx"], affinities["tag_idx"]
    levels = check_affinities(len(tags), len(viewer_idx), tag_idx, affinities["weights"])
    if len(viewer_idx):
        _check_range("affinities.viewer_idx", int(viewer_idx.max()), 0, n - 1)
    everybody = np.arange(n, dtype=np.int64)
    columns = [(tag_segment(tag, LEVELS), everybody) for tag in watched]
    for key in np.unique(tag_idx.astype(np.int64) * (LEVELS + 1) + levels).tolist():
        tag, level = divmod(key, LEVELS + 1)
        if level:
            who = viewer_idx[(tag_idx == tag) & (levels == level)].astype(np.int64)
            columns.append((tag_segment(tags[tag], level), who))
    return tuple(columns)


def parse_bid_request(raw: bytes, currency: str) -> BidBatch:
    """Decode and check the bytes of a BidRequest.

    Raises:
        ValueError: malformed bytes, or a field out of range; the text names field, value and range.
    """
    message, parts = decode("BidRequest", raw, _PARTS)
    plain, viewers = message.plain, parts["viewers"]
    id_bytes = len(plain.id.encode())
    if not 1 <= id_bytes <= MAX_ID_BYTES:
        raise ValueError(f"id: {id_bytes} bytes; must be 1..{MAX_ID_BYTES}")
    if plain.at not in (AuctionType.FIRST_PRICE, AuctionType.SECOND_PRICE):
        raise ValueError(f"at {plain.at}: must be 1 (first price) or 2 (second price)")
    if plain.cur not in ("", currency):
        raise ValueError(f"cur {plain.cur[:8]!r}: this deployment trades in {currency}")
    _check_range("placement", plain.placement, 0, CARDINALITIES[Dimension.PLACEMENT] - 1)
    _check_range("content_category", plain.content_category, 0, CARDINALITIES[Dimension.CONTENT_CATEGORY] - 1)
    _check_range("bidfloor_micros", plain.bidfloor_micros, 0, MAX_PRICE_MICROS)
    _check_range("max_bids_per_viewer", plain.max_bids_per_viewer, 0, MAX_BIDS_PER_VIEWER)
    blocked = message["blocked_creator_ids"]
    _check_range("blocked_creator_ids count", len(blocked), 0, MAX_BLOCKED_CREATORS)
    ids = check_viewer_ids(viewers["ids"], MAX_VIEWERS)
    n = len(ids)
    dims, masks = check_viewer_attributes(viewers, n)
    dims[:, Dimension.CONTENT_CATEGORY] = plain.content_category
    dims[:, Dimension.PLACEMENT] = plain.placement
    floors = _check_column("viewers.bidfloors_micros", viewers["bidfloors_micros"], n, 0, MAX_PRICE_MICROS)
    floors_micros = np.full(n, plain.bidfloor_micros, np.int64)
    if len(floors):
        np.maximum(floors_micros, floors, out=floors_micros)
    ptr, campaign_ids, probabilities = _check_predictions(parts["predictions"], n)
    return BidBatch(
        request_id=plain.id,
        at=plain.at,
        placement=plain.placement,
        max_bids_per_viewer=plain.max_bids_per_viewer or 1,
        viewer_ids=ids,
        dims=dims,
        interest_masks=masks,
        floors_micros=floors_micros,
        blocked_creator_ids=blocked,
        prediction_ptr=ptr,
        prediction_campaign_ids=campaign_ids,
        probabilities=probabilities,
        brought=_check_content(plain, parts["affinities"], n),
    )
