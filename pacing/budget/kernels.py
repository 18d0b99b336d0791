"""The compiled book of holds: placing bids against leases, closing them, sweeping silent ones.

Money of a lease moves between four places, and their sum changes only when the lease is opened, or money is taken
back: `free_micros` (may be bid), `held_micros` (bid and undecided), `billed_micros` (accepted as billable) and, where
notices may also reach other servers, `doubtful_micros`: of bids that lapsed here, and of which nobody here knows
whether they were billed elsewhere. That money is not bid again on this lease.
"""

from __future__ import annotations

import numpy as np
from numba import njit

HOLD = np.dtype(
    [
        ("hold_seq", "<u8"),
        ("lease_id", "<u8"),
        ("bid_micros", "<i8"),
        ("price_micros", "<i8"),  # what WIN told (-1: nothing), then what was billed
        ("win_until_ms", "<i8"),  # monotonic
        ("billing_until_ms", "<i8"),  # monotonic
        ("slot", "<i4"),
        ("way", "<i2"),
        ("state", "u1"),
        ("pending", "u1"),  # billable claims on their way into the ledger; keeps the hold from being freed
        ("reserved", "<u8"),
    ]
)
"""One hold, at hold_seq modulo the ring's size. Closed holds stay there as tombstones until overwritten."""

OFFERED, WON, BILLED, LOST, LAPSED = 1, 2, 3, 4, 5
MAX_PENDING = 255

LEASE = np.dtype(
    [
        ("lease_id", "<u8"),
        ("free_micros", "<i8"),
        ("held_micros", "<i8"),
        ("billed_micros", "<i8"),
        ("end_ms", "<i8"),  # monotonic
        ("day_end_at_ms", "<i8"),  # wall clock
        ("live_holds", "<i4"),
        ("state", "<i4"),
        ("doubtful_micros", "<i8"),  # of bids that lapsed while another server may have billed them
        ("is_shared", "<i8"),  # 1: notices about its bids may reach other servers
    ]
)
"""One lease in its holder's book, [slot, way]."""

LEASE_NONE, LEASE_OPEN, LEASE_DRAINING = 0, 1, 2
WAYS = 16
"""Leases that one slot may have at a time: one that bids use, the others waiting for their last holds."""

SLOT = np.dtype(
    [
        ("way", "<i4"),  # of the lease that bids use; -1: none
        ("is_open", "<i4"),  # 0: no new leases
        ("asked_micros", "<i8"),  # bids since the last survey, refused ones included
        ("refused_micros", "<i8"),  # refused for want of money since the slot was last attended to
        ("largest_bid_micros", "<i8"),  # since then
        ("peak_micros", "<i8"),  # most asked between two surveys, fading
        ("least_refused_micros", "<i8"),  # smallest bid refused for want of money since then
        ("reserved", "<i8"),
    ]
)
"""What one campaign's bidding asks of its leases."""

NEXT_SEQ, SEQ_BOUND, OFFERED_FROM, WON_FROM = 0, 1, 2, 3
"""Cells of the cursor u8[4]: the next sequence; the bound that is durable; from where holds may be offered; won."""

CLAIM = np.dtype(
    [
        ("lease_id", "<u8"),
        ("hold_seq", "<u8"),
        ("price_micros", "<i8"),
        ("kind", "u1"),
        ("status", "u1"),  # RowStatus; 0: not decided yet
        ("route", "u1"),
        ("reserved", "u1", (5,)),
    ]
)
"""One reported row, as far as holds care."""

ROUTE_NONE, ROUTE_HELD, ROUTE_UNKNOWN = 0, 1, 2
"""Where an undecided claim goes: nowhere else; into the ledger, its hold pinned; to who knows holds of others."""

REFUSED_BUDGET, REFUSED_FULL = -1, -2
MAX_TRIES = 3
MAX_SKIPPED = 64

_ACCEPTED, _DUPLICATE, _EXPIRED, _CONFLICT, _INVALID = 1, 2, 3, 4, 6
_WIN, _BILLABLE, _LOSS = 1, 2, 3


@njit(cache=True, nogil=True)
def _close(holds, leases, i, state):
    """Close ring entry i: its money is free again, or in doubt."""
    slot, way, bid = holds[i]["slot"], holds[i]["way"], holds[i]["bid_micros"]
    leases[slot, way]["held_micros"] -= bid
    if state == LAPSED and leases[slot, way]["is_shared"] != 0:
        leases[slot, way]["doubtful_micros"] += bid
    else:
        leases[slot, way]["free_micros"] += bid
    leases[slot, way]["live_holds"] -= 1
    holds[i]["state"] = state


@njit(cache=True, nogil=True)
def _lapse_if_due(holds, leases, i, now_ms):
    """Close ring entry i if it is past its deadline and no claim on it is under way; whether it is live then."""
    state = holds[i]["state"]
    if state != OFFERED and state != WON:
        return False
    if holds[i]["pending"] > 0:
        return True
    until_ms = holds[i]["win_until_ms"] if state == OFFERED else holds[i]["billing_until_ms"]
    if now_ms <= until_ms:
        return True
    _close(holds, leases, i, LAPSED)
    return False


@njit(cache=True, nogil=True)
def _next_place(holds, leases, cursor, now_ms):
    """Ring entry for the next hold; passes over entries that are live for long, or -1 when there are too many."""
    mask = np.uint64(holds.shape[0] - 1)
    for _ in range(min(MAX_SKIPPED, holds.shape[0])):
        if cursor[NEXT_SEQ] >= cursor[SEQ_BOUND]:
            return -1
        i = np.int64(cursor[NEXT_SEQ] & mask)
        if not _lapse_if_due(holds, leases, i, now_ms):
            return i
        cursor[NEXT_SEQ] += np.uint64(1)
    return -1


@njit(cache=True, nogil=True)
def _try_hold(holds, leases, slots, cursor, slot, bid, clock):
    """Hold `bid` on the slot's lease; the ring entry, REFUSED_BUDGET or REFUSED_FULL."""
    now_ms = clock[0]
    slots[slot]["asked_micros"] += bid
    slots[slot]["largest_bid_micros"] = max(slots[slot]["largest_bid_micros"], bid)
    way = slots[slot]["way"]
    if (
        way < 0
        or bid > leases[slot, way]["free_micros"]
        or now_ms >= leases[slot, way]["end_ms"]
        or clock[1] >= leases[slot, way]["day_end_at_ms"]
    ):
        least = slots[slot]["least_refused_micros"]
        slots[slot]["least_refused_micros"] = min(least, bid) if slots[slot]["refused_micros"] > 0 else bid
        slots[slot]["refused_micros"] += bid
        return REFUSED_BUDGET
    i = _next_place(holds, leases, cursor, now_ms)
    if i < 0:
        return REFUSED_FULL
    leases[slot, way]["free_micros"] -= bid
    leases[slot, way]["held_micros"] += bid
    leases[slot, way]["live_holds"] += 1
    holds[i]["hold_seq"] = cursor[NEXT_SEQ]
    holds[i]["lease_id"] = leases[slot, way]["lease_id"]
    holds[i]["bid_micros"] = bid
    holds[i]["price_micros"] = -1
    holds[i]["win_until_ms"] = now_ms + clock[2]
    holds[i]["billing_until_ms"] = now_ms + clock[3]
    holds[i]["slot"] = slot
    holds[i]["way"] = way
    holds[i]["state"] = OFFERED
    holds[i]["pending"] = 0
    cursor[NEXT_SEQ] += np.uint64(1)
    return i


@njit(cache=True, nogil=True)
def place_holds(holds, leases, slots, cursor, candidates, bids_micros, clock, out_choice, out_lease_ids, out_hold_seqs):
    """Hold up to `wanted` bids per viewer, candidates in rank order, walking down when one is refused.

    Each wanted bid tries at most three candidates; a candidate is tried once per viewer.

    Args:
        holds: HOLD[ring], a power of two long.
        leases: LEASE[slots, WAYS].
        slots: SLOT[slots].
        cursor: u8[4].
        candidates: i4[n, r], slot of each ranked candidate; negative: no more.
        bids_micros: i8[n, r], positive.
        clock: i8[4]: now on the monotonic clock, now on the wall, win_notice_ms, billing_ms.
        out_choice: i1[n, wanted], index of the candidate; REFUSED_BUDGET (also when there was none) or REFUSED_FULL.
        out_lease_ids, out_hold_seqs: u8[n, wanted], 0 where refused.
    """
    for i in range(candidates.shape[0]):
        r = 0
        for w in range(out_choice.shape[1]):
            out_choice[i, w] = REFUSED_BUDGET
            out_lease_ids[i, w] = 0
            out_hold_seqs[i, w] = 0
            tries = 0
            while tries < MAX_TRIES and r < candidates.shape[1] and candidates[i, r] >= 0:
                entry = _try_hold(holds, leases, slots, cursor, candidates[i, r], bids_micros[i, r], clock)
                tries += 1
                r += 1
                if entry >= 0:
                    out_choice[i, w] = r - 1
                    out_lease_ids[i, w] = holds[entry]["lease_id"]
                    out_hold_seqs[i, w] = holds[entry]["hold_seq"]
                    break
                if entry == REFUSED_FULL:
                    out_choice[i, w] = REFUSED_FULL
                    break


@njit(cache=True, nogil=True)
def _win(holds, leases, i, claim, now_ms):
    state, told = holds[i]["state"], holds[i]["price_micros"]
    if state == LOST:
        return _CONFLICT
    if state == OFFERED and now_ms > holds[i]["win_until_ms"] and holds[i]["pending"] == 0:
        _close(holds, leases, i, LAPSED)
        return _EXPIRED
    if state == LAPSED:
        return _EXPIRED
    if state == WON and claim["price_micros"] > 0 and told > 0 and claim["price_micros"] != told:
        return _CONFLICT
    if state == OFFERED:
        holds[i]["state"] = WON
        holds[i]["price_micros"] = claim["price_micros"]
        return _ACCEPTED
    return _DUPLICATE


@njit(cache=True, nogil=True)
def _lose(holds, leases, i):
    state = holds[i]["state"]
    if state == BILLED or holds[i]["pending"] > 0:
        return _CONFLICT
    if state == LOST:
        return _DUPLICATE
    if state == LAPSED:
        slot, way, bid = holds[i]["slot"], holds[i]["way"], holds[i]["bid_micros"]
        if leases[slot, way]["is_shared"] != 0 and leases[slot, way]["lease_id"] == holds[i]["lease_id"]:
            leases[slot, way]["doubtful_micros"] -= bid
            leases[slot, way]["free_micros"] += bid
        holds[i]["state"] = LOST
    else:
        _close(holds, leases, i, LOST)
    return _ACCEPTED


@njit(cache=True, nogil=True)
def _bill(holds, leases, i, claim, now_ms):
    """Status of a billable claim on ring entry i; 0 when it must become durable first."""
    state, told = holds[i]["state"], holds[i]["price_micros"]
    if state == BILLED:
        return _DUPLICATE if claim["price_micros"] == told else _CONFLICT
    if claim["price_micros"] < 0 or claim["price_micros"] > holds[i]["bid_micros"]:
        return _INVALID
    if state == LOST:
        return _CONFLICT
    if state == LAPSED or not _lapse_if_due(holds, leases, i, now_ms):
        return _EXPIRED
    if state == WON and told > 0 and claim["price_micros"] > told:
        return _CONFLICT
    if holds[i]["pending"] == MAX_PENDING:
        return _CONFLICT
    holds[i]["pending"] += 1
    return 0


@njit(cache=True, nogil=True)
def classify(holds, leases, claims, now_ms):
    """Apply reported rows to the holds, in order.

    WIN extends a hold and LOSS frees it, at once. A billable claim on a live hold only pins the hold (`pending`): it
    gets status 0 and ROUTE_HELD, must be made durable, and then goes to `conclude`. Claims on holds that are not in the
    ring get status 0 and ROUTE_UNKNOWN; other kinds than these three are left alone.

    Args:
        holds: HOLD[ring].
        leases: LEASE[slots, WAYS].
        claims: CLAIM[n]; status and route are written.
        now_ms: monotonic.
    """
    mask = np.uint64(holds.shape[0] - 1)
    for n in range(claims.shape[0]):
        claim = claims[n]
        kind = claim["kind"]
        claims[n]["status"] = 0
        claims[n]["route"] = ROUTE_NONE
        if kind < _WIN or kind > _LOSS:
            continue
        i = np.int64(claim["hold_seq"] & mask)
        if (
            holds[i]["state"] == 0
            or holds[i]["hold_seq"] != claim["hold_seq"]
            or holds[i]["lease_id"] != claim["lease_id"]
        ):
            claims[n]["route"] = ROUTE_UNKNOWN
        elif kind == _WIN:
            claims[n]["status"] = _win(holds, leases, i, claim, now_ms)
        elif kind == _LOSS:
            claims[n]["status"] = _lose(holds, leases, i)
        else:
            claims[n]["status"] = _bill(holds, leases, i, claim, now_ms)
            claims[n]["route"] = ROUTE_HELD


@njit(cache=True, nogil=True)
def conclude(holds, leases, claims, charged_micros, now_ms):
    """Finish the billable claims that `classify` pinned.

    Args:
        holds: HOLD[ring].
        leases: LEASE[slots, WAYS].
        claims: CLAIM[n]; those with status 0 and ROUTE_HELD are concluded.
        charged_micros: i8[n], the amount that the ledger has for the hold; negative: it could not be made durable.
        now_ms: monotonic.
    """
    mask = np.uint64(holds.shape[0] - 1)
    for n in range(claims.shape[0]):
        if claims[n]["status"] != 0 or claims[n]["route"] != ROUTE_HELD:
            continue
        i = np.int64(claims[n]["hold_seq"] & mask)
        holds[i]["pending"] -= 1
        if holds[i]["state"] == BILLED:
            continue
        if charged_micros[n] < 0:
            _lapse_if_due(holds, leases, i, now_ms)
            continue
        slot, way = holds[i]["slot"], holds[i]["way"]
        _close(holds, leases, i, BILLED)
        holds[i]["price_micros"] = charged_micros[n]
        leases[slot, way]["free_micros"] -= charged_micros[n]
        leases[slot, way]["billed_micros"] += charged_micros[n]


@njit(cache=True, nogil=True)
def close_responses(holds, leases, first_seqs, counts):
    """Lose every hold of the given runs that is still only offered; holds that are gone are passed over.

    Args:
        holds: HOLD[ring].
        leases: LEASE[slots, WAYS].
        first_seqs: u8[k].
        counts: u4[k].
    """
    mask = np.uint64(holds.shape[0] - 1)
    for k in range(first_seqs.shape[0]):
        for j in range(min(np.int64(counts[k]), holds.shape[0])):
            seq = first_seqs[k] + np.uint64(j)
            i = np.int64(seq & mask)
            if holds[i]["hold_seq"] == seq and holds[i]["state"] == OFFERED and holds[i]["pending"] == 0:
                _close(holds, leases, i, LOST)


@njit(cache=True, nogil=True)
def sweep(holds, leases, cursor, now_ms):
    """Close every hold past its deadline. Holds fall due in the order of their sequences, so only due ones are visited.

    Args:
        holds: HOLD[ring].
        leases: LEASE[slots, WAYS].
        cursor: u8[4]; the two sweeping cells move.
        now_ms: monotonic.
    """
    size = np.uint64(holds.shape[0])
    oldest = cursor[NEXT_SEQ] - size if cursor[NEXT_SEQ] > size else np.uint64(0)
    for cell in (OFFERED_FROM, WON_FROM):
        seq = max(cursor[cell], oldest)
        while seq < cursor[NEXT_SEQ]:
            i = np.int64(seq & (size - np.uint64(1)))
            if holds[i]["hold_seq"] == seq and holds[i]["state"] != 0:
                until_ms = holds[i]["win_until_ms"] if cell == OFFERED_FROM else holds[i]["billing_until_ms"]
                if now_ms <= until_ms:
                    break
                _lapse_if_due(holds, leases, i, now_ms)
            seq += np.uint64(1)
        cursor[cell] = seq
