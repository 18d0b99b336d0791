"""Compiled follow graph: edges in doubly linked lists by either end, and a hash table that finds an edge by both.

Nodes are viewers' rows. A *watched* node is a creator whose circle is kept: nodes that follow a fan of theirs or are
followed by one. Every edge that comes or goes tells the pairs (creator, node) whose closeness it decides.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

NONE = -1
FOLLOWING, FOLLOWERS = 0, 1  # columns of `heads`, `degrees` and `ends`; `links` has next and previous of each
USED, GIVEN_BACK, COUNT = 0, 1, 2  # places in `counters`


class Edges(NamedTuple):
    """Up to E edges between up to N nodes. Writers take turns, readers too.

    Attributes:
        ends: i4[E, 2], who follows, who is followed.
        links: i4[E, 4], next and previous edge of who follows, next and previous edge of who is followed; -1: none. The
            first column of an edge that was taken away is the next one of these.
        heads: i4[N, 2], first edge on which the node follows, first on which it is followed; -1: none.
        degrees: i4[N, 2], how many there are of each.
        slots: i4[S], hash table of edges; S a power of two of at least 2 E; -1: free.
        watched: u1[N], 1 for creators whose circle is kept.
        fan_of: i4[N], how many watched creators the node follows.
        counters: i8[3], edge places ever used, first of those that were given back (-1: none), edges.
    """

    ends: np.ndarray
    links: np.ndarray
    heads: np.ndarray
    degrees: np.ndarray
    slots: np.ndarray
    watched: np.ndarray
    fan_of: np.ndarray
    counters: np.ndarray


@njit(cache=True, nogil=True)
def slot_of_edge(follower: int, followed: int, size: int) -> int:
    """First slot to look at; both numbers are below 2**31, so no product leaves 64 bits."""
    mixed = (np.uint64(follower) * np.uint64(0x9E3779B1)) ^ (np.uint64(followed) * np.uint64(0x85EBCA77))
    mixed = (mixed ^ (mixed >> np.uint64(32))) & np.uint64(0xFFFFFFFF)
    mixed *= np.uint64(0xC2B2AE3D)
    return np.int64((mixed ^ (mixed >> np.uint64(32))) & np.uint64(size - 1))


@njit(cache=True, nogil=True)
def find_slot(edges: Edges, follower: int, followed: int) -> int:
    """The slot of an edge, or the free one where it would go."""
    size = edges.slots.shape[0]
    slot = slot_of_edge(follower, followed, size)
    edge = edges.slots[slot]
    while edge != NONE and (edges.ends[edge, 0] != follower or edges.ends[edge, 1] != followed):
        slot = (slot + 1) & (size - 1)
        edge = edges.slots[slot]
    return slot


@njit(cache=True, nogil=True)
def _link(edges: Edges, edge: int, side: int) -> None:
    node = edges.ends[edge, side]
    head = edges.heads[node, side]
    edges.links[edge, 2 * side] = head
    edges.links[edge, 2 * side + 1] = NONE
    if head != NONE:
        edges.links[head, 2 * side + 1] = edge
    edges.heads[node, side] = edge
    edges.degrees[node, side] += 1


@njit(cache=True, nogil=True)
def _unlink(edges: Edges, edge: int, side: int) -> None:
    node = edges.ends[edge, side]
    after = edges.links[edge, 2 * side]
    before = edges.links[edge, 2 * side + 1]
    if after != NONE:
        edges.links[after, 2 * side + 1] = before
    if before != NONE:
        edges.links[before, 2 * side] = after
    else:
        edges.heads[node, side] = after
    edges.degrees[node, side] -= 1


@njit(cache=True, nogil=True)
def _free_slot(edges: Edges, slot: int) -> None:
    """Empty a slot, and move up those behind it that could no longer be found (Knuth 6.4, algorithm R)."""
    size = edges.slots.shape[0]
    hole = slot
    slot = (slot + 1) & (size - 1)
    while edges.slots[slot] != NONE:
        edge = edges.slots[slot]
        home = slot_of_edge(edges.ends[edge, 0], edges.ends[edge, 1], size)
        if ((slot - home) & (size - 1)) >= ((slot - hole) & (size - 1)):
            edges.slots[hole] = edge
            hole = slot
        slot = (slot + 1) & (size - 1)
    edges.slots[hole] = NONE


@njit(cache=True, nogil=True)
def copy_side(edges: Edges, node: int, side: int, out_nodes: np.ndarray) -> int:
    """Write whom a node follows, or who follows it (i4[>= its degree]); how many."""
    n = 0
    edge = edges.heads[node, side]
    while edge != NONE:
        out_nodes[n] = edges.ends[edge, 1 - side]
        n += 1
        edge = edges.links[edge, 2 * side]
    return n


@njit(cache=True, nogil=True)
def _tell_creators_of(
    edges: Edges, fan: int, node: int, out_creators: np.ndarray, out_nodes: np.ndarray, n: int
) -> int:
    """Append a pair of `node` and each watched creator whom `fan` follows; the new end."""
    left = edges.fan_of[fan]
    edge = edges.heads[fan, FOLLOWING]
    while left > 0:
        creator = edges.ends[edge, 1]
        if edges.watched[creator]:
            out_creators[n] = creator
            out_nodes[n] = node
            n += 1
            left -= 1
        edge = edges.links[edge, 0]
    return n


@njit(cache=True, nogil=True)
def _tell(edges: Edges, follower: int, followed: int, out_creators: np.ndarray, out_nodes: np.ndarray, n: int) -> int:
    """Append the pairs that an edge decides; the new end, or -1 where there may be no room.

    The follower is close to the creators whom the followed is a fan of; the followed, to those whom the follower is a
    fan of; and where the edge makes a fan, everybody next to the fan is close to the creator.
    """
    neighbours = np.int64(edges.degrees[follower, FOLLOWING]) + edges.degrees[follower, FOLLOWERS]
    room = np.int64(edges.fan_of[followed]) + edges.fan_of[follower]
    if edges.watched[followed]:
        room += neighbours
    if n + room > out_creators.shape[0]:
        return -1
    n = _tell_creators_of(edges, followed, follower, out_creators, out_nodes, n)
    n = _tell_creators_of(edges, follower, followed, out_creators, out_nodes, n)
    if edges.watched[followed]:
        out_creators[n : n + neighbours] = followed
        n += copy_side(edges, follower, FOLLOWING, out_nodes[n:])
        n += copy_side(edges, follower, FOLLOWERS, out_nodes[n:])
    return n


@njit(cache=True, nogil=True)
def add_edges(
    edges: Edges,
    followers: np.ndarray,
    followed: np.ndarray,
    start: int,
    out_creators: np.ndarray,
    out_nodes: np.ndarray,
) -> tuple[int, int]:
    """Add edges (i8[n], i8[n]) from the `start`-th on, and tell the pairs that they decide (i4[m], i4[m]).

    There must be free edge places for all of them. Stops early where the pairs have no room left.

    Returns:
        (position of the first edge that was not looked at, number of pairs).
    """
    n = 0
    for i in range(start, followers.shape[0]):
        slot = find_slot(edges, followers[i], followed[i])
        if edges.slots[slot] != NONE:
            continue
        given_back = edges.counters[GIVEN_BACK]
        edge = given_back if given_back != NONE else edges.counters[USED]
        after = np.int64(edges.links[edge, 0])
        edges.ends[edge, 0] = followers[i]
        edges.ends[edge, 1] = followed[i]
        _link(edges, edge, FOLLOWING)
        _link(edges, edge, FOLLOWERS)
        edges.fan_of[followers[i]] += edges.watched[followed[i]]
        told = _tell(edges, followers[i], followed[i], out_creators, out_nodes, n)
        if told < 0:
            _unlink(edges, edge, FOLLOWING)
            _unlink(edges, edge, FOLLOWERS)
            edges.fan_of[followers[i]] -= edges.watched[followed[i]]
            edges.links[edge, 0] = after
            return i, n
        n = told
        edges.slots[slot] = edge
        edges.counters[COUNT] += 1
        if given_back != NONE:
            edges.counters[GIVEN_BACK] = after
        else:
            edges.counters[USED] += 1
    return followers.shape[0], n


@njit(cache=True, nogil=True)
def remove_edges(
    edges: Edges,
    followers: np.ndarray,
    followed: np.ndarray,
    start: int,
    out_creators: np.ndarray,
    out_nodes: np.ndarray,
) -> tuple[int, int]:
    """Take edges away, as `add_edges` adds them; those that are not there change nothing."""
    n = 0
    for i in range(start, followers.shape[0]):
        slot = find_slot(edges, followers[i], followed[i])
        edge = np.int64(edges.slots[slot])
        if edge == NONE:
            continue
        told = _tell(edges, followers[i], followed[i], out_creators, out_nodes, n)
        if told < 0:
            return i, n
        n = told
        _free_slot(edges, slot)
        _unlink(edges, edge, FOLLOWING)
        _unlink(edges, edge, FOLLOWERS)
        edges.fan_of[followers[i]] -= edges.watched[followed[i]]
        edges.links[edge, 0] = edges.counters[GIVEN_BACK]
        edges.counters[GIVEN_BACK] = edge
        edges.counters[COUNT] -= 1
    return followers.shape[0], n


@njit(cache=True, nogil=True)
def fill_slots(edges: Edges) -> None:
    """Enter every edge into empty `slots`: after the table grew."""
    for node in range(edges.heads.shape[0]):
        edge = edges.heads[node, FOLLOWING]
        while edge != NONE:
            edges.slots[find_slot(edges, edges.ends[edge, 0], edges.ends[edge, 1])] = edge
            edge = edges.links[edge, 0]


@njit(cache=True, nogil=True)
def are_close(edges: Edges, creator: int, nodes: np.ndarray, out_close: np.ndarray) -> None:
    """For each of n nodes (i8[n]), whether it follows a fan of the creator or is followed by one (b1[n])."""
    for i in range(nodes.shape[0]):
        out_close[i] = False
        for side in range(2):
            edge = edges.heads[nodes[i], side]
            while edge != NONE and not out_close[i]:
                fan = edges.ends[edge, 1 - side]
                out_close[i] = edges.slots[find_slot(edges, fan, creator)] != NONE
                edge = edges.links[edge, 2 * side]


@njit(cache=True, nogil=True)
def mark_circle(edges: Edges, fans: np.ndarray, out_marks: np.ndarray) -> None:
    """Mark (b1[N]) whoever one of n fans (i4[n]) follows or is followed by."""
    for i in range(fans.shape[0]):
        for side in range(2):
            edge = edges.heads[fans[i], side]
            while edge != NONE:
                out_marks[edges.ends[edge, 1 - side]] = True
                edge = edges.links[edge, 2 * side]
