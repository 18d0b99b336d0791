"""Derives each billed bid again from its own record: whose it is, what it was worth, and what was to be bid for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from auction.bid.token import TokenKeys, verify_batch
from auction.landscape.archive import RetainedLandscapes
from auction.landscape.kernels import shade_batch
from pacing.budget.audit import Difference, earliest, first_where
from pacing.facts import FIRST_DERIVABLE_VERSION, AuctionType, OutcomeKind, worth_micros
from pacing.money import MAX_PRICE_MICROS


def values_micros(decisions: np.ndarray) -> np.ndarray:
    """What DECISION[n] were priced at, f8[n]: their worth, at most the highest price."""
    return np.minimum(worth_micros(decisions), float(MAX_PRICE_MICROS))


@dataclass(slots=True)
class BidCounts:
    """How far billed bids could be derived again.

    Attributes:
        derived: as many follow from their record.
        not_retained: first-price bids whose landscape is not kept any more, or never was, such as the few that a
            machine makes which slept for hours, before its next snapshot.
        older: bids of a version of this program that did not record p as it was used.
    """

    derived: int = 0
    not_retained: int = 0
    older: int = 0


class BidAudit:
    """Checks rows in ledger order, and counts what it could not derive."""

    def __init__(self, keys: TokenKeys, landscapes: RetainedLandscapes) -> None:
        self._keys = keys
        self._landscapes = landscapes
        self.counts = BidCounts()

    def follow(self, rows: np.ndarray) -> Difference | None:
        """Check OUTCOME[n]; the first difference, or None."""
        tokened = rows[rows["has_token"] == 1]
        billed = rows[rows["kind"] == OutcomeKind.BILLABLE]
        bare = billed["has_token"] != 1
        return earliest(
            first_where(billed, bare, "has_token", billed["has_token"], 1),
            self._check_decisions(tokened),
            _check_amounts(billed),
            self._check_bids(billed),
        )

    def _check_decisions(self, rows: np.ndarray) -> Difference | None:
        """A signed decision is what the server that made it signed, and the row is about that decision."""
        decisions = np.ascontiguousarray(rows["decision"])
        forged = ~verify_batch(decisions, self._keys)
        macs = np.array([mac.tobytes().hex() for mac in decisions["mac"]], object)
        found = [first_where(rows, forged, "mac", macs, "another one: the decision is not what was signed")]
        for name in ("viewer_id", "creator_id"):
            found.append(first_where(rows, rows[name] != decisions[name], name, rows[name], decisions[name]))
        return earliest(*found)

    def _check_bids(self, rows: np.ndarray) -> Difference | None:
        decisions = rows["decision"]
        is_older = decisions["version"] < FIRST_DERIVABLE_VERSION
        self.counts.older += int(is_older.sum())
        is_first = decisions["at"] == AuctionType.FIRST_PRICE
        strange = ~is_first & (decisions["at"] != AuctionType.SECOND_PRICE)
        second = rows[~is_older & (decisions["at"] == AuctionType.SECOND_PRICE)]
        bids = np.floor(values_micros(second["decision"])).astype(np.int64)
        self.counts.derived += len(second)
        return earliest(
            first_where(rows, strange, "at", decisions["at"], "1 or 2"),
            _different_bids(second, bids),
            self._check_shaded(rows[~is_older & is_first]),
        )

    def _check_shaded(self, rows: np.ndarray) -> Difference | None:
        """First-price bids, by the landscape that their snapshot had."""
        versions, places = np.unique(rows["decision"]["snapshot_version"], return_inverse=True)
        by_address: dict[bytes | None, list[int]] = {}
        for place, address in enumerate(self._landscapes.addresses_of(versions)):
            by_address.setdefault(address, []).append(place)
        found = []
        for address, members in by_address.items():
            part = rows[np.isin(places.reshape(-1), members)]
            if address is None:
                self.counts.not_retained += len(part)
                continue
            found.append(self._check_shaded_in(part, address))
        return earliest(*found)

    def _check_shaded_in(self, rows: np.ndarray, address: bytes) -> Difference | None:
        decisions = rows["decision"]
        try:
            landscape = self._landscapes.load(address)
        except FileNotFoundError:  # forgotten by the server since the archive was opened
            self.counts.not_retained += len(rows)
            return None
        except ValueError as error:
            return Difference(int(rows["sequence"][0]), "landscape", str(error), address.hex()[:16])
        leaves = decisions["landscape_idx"].astype(np.int32)
        strange = decisions["landscape_idx"] >= len(landscape.win_probs)
        if strange.any():
            return first_where(rows, strange, "landscape_idx", leaves, f"below {len(landscape.win_probs)}")
        kept = landscape.win_probs[leaves].any(axis=1)
        self.counts.not_retained += int((~kept).sum())
        rows, decisions, leaves = rows[kept], decisions[kept], leaves[kept]
        bids = np.zeros(len(rows), np.int64)
        floors = np.ascontiguousarray(decisions["floor_micros"])
        shade_batch(values_micros(decisions), floors, leaves, landscape, bids)
        self.counts.derived += len(rows)
        return _different_bids(rows, bids)


def _check_amounts(rows: np.ndarray) -> Difference | None:
    """What was charged lies between the bid's floor and the bid."""
    amounts, decisions = rows["price_micros"], rows["decision"]
    bids, floors = decisions["bid_micros"], decisions["floor_micros"]
    least = np.maximum(floors, 0)
    return earliest(
        first_where(rows, amounts > bids, "price_micros", amounts, _bounds("at most the bid", bids)),
        first_where(rows, amounts < least, "price_micros", amounts, _bounds("at least the floor", least)),
    )


def _bounds(text: str, amounts: np.ndarray) -> np.ndarray:
    return np.array([f"{text}, {amount}" for amount in amounts.tolist()], object)


def _different_bids(rows: np.ndarray, derived: np.ndarray) -> Difference | None:
    recorded = rows["decision"]["bid_micros"]
    return first_where(rows, recorded != derived, "bid_micros", recorded, derived)
