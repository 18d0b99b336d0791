"""Compiled passes over the leases of all slots: which need attention, and what of their money nobody billed."""

from __future__ import annotations

from numba import njit

from pacing.budget.kernels import LEASE_DRAINING, LEASE_NONE


@njit(cache=True, nogil=True)
def survey(leases, slots, now_ms, renew_ms, out_slots):
    """Note what bidding asked since the last survey, and list the slots that need attention.

    A slot needs attention when its lease is over or will be within `renew_ms`, when it runs low, when a bid was
    refused, or when one of its other leases has money to give back.

    Args:
        leases: LEASE[slots, WAYS].
        slots: SLOT[slots]; the peak fades or rises. The other counts stay until the slot is attended to.
        now_ms: monotonic.
        renew_ms: how long before its end a lease is renewed.
        out_slots: i4[slots], filled from the start.

    Returns:
        how many of out_slots were filled.
    """
    found = 0
    for s in range(slots.shape[0]):
        asked = slots[s]["asked_micros"]
        faded = slots[s]["peak_micros"] - slots[s]["peak_micros"] // 8 - (1 if slots[s]["peak_micros"] > 0 else 0)
        slots[s]["peak_micros"] = max(asked, faded)
        slots[s]["asked_micros"] = 0
        way = slots[s]["way"]
        needs = slots[s]["refused_micros"] > 0
        if way >= 0:
            low = leases[s, way]["free_micros"] < 2 * slots[s]["peak_micros"]
            ending = leases[s, way]["end_ms"] - now_ms <= renew_ms
            needs = needs or low or ending
        for w in range(leases.shape[1]):
            if leases[s, w]["state"] == LEASE_DRAINING and (
                leases[s, w]["free_micros"] > 0 or leases[s, w]["live_holds"] == 0
            ):
                needs = True
        if needs:
            out_slots[found] = s
            found += 1
    return found


@njit(cache=True, nogil=True)
def sum_idle(leases, slots, day_ends_at_ms, out):
    """Add up the money of slots that nobody billed: free, held by bids, or doubtful.

    Args:
        leases: LEASE[slots, WAYS].
        slots: i8[n].
        day_ends_at_ms: i8[n], which day counts in the first column.
        out: i8[n, 3], filled with what is idle in leases of that day, in all leases, and what is held by bids.
    """
    for i in range(slots.shape[0]):
        of_day = in_all = held = 0
        for w in range(leases.shape[1]):
            lease = leases[slots[i], w]
            if lease["state"] != LEASE_NONE:
                idle = lease["free_micros"] + lease["held_micros"] + lease["doubtful_micros"]
                in_all += idle
                held += lease["held_micros"]
                if lease["day_end_at_ms"] == day_ends_at_ms[i]:
                    of_day += idle
        out[i, 0], out[i, 1], out[i, 2] = of_day, in_all, held
