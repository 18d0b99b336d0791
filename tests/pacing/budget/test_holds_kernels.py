"""The compiled book of holds does what its plain reference does."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pacing.budget import kernels
from pacing.budget.holds import HoldBook
from pacing.budget.reference import PlainBook, PlainLease
from pacing.facts import OutcomeKind, RowStatus

pytestmark = pytest.mark.kernels

FIRST = (7 << 48) + 1
WIN_MS, BILLING_MS = 20, 60
SLOTS = 3
LONG_MS = 10**9


def outputs(n: int, wanted: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.full((n, wanted), 9, np.int8), np.full((n, wanted), 9, np.uint64), np.full((n, wanted), 9, np.uint64)


def claim(kind: int, lease_id: int, seq: int, told: int) -> np.ndarray:
    claims = np.zeros(1, kernels.CLAIM)
    claims["kind"], claims["lease_id"], claims["hold_seq"], claims["price_micros"] = kind, lease_id, seq, told
    return claims


class BookMachine(RuleBasedStateMachine):
    """Random bids, reports, time and leases, on both books."""

    is_shared = False

    def __init__(self) -> None:
        super().__init__()
        self.now_ms = 1_000
        self.book = HoldBook(4096, FIRST, FIRST + 2**20, WIN_MS, BILLING_MS, self.is_shared)
        self.plain = PlainBook(FIRST, WIN_MS, BILLING_MS, self.is_shared)
        self.next_lease = 100
        self.pinned: list[tuple[np.ndarray, int]] = []
        for slot in range(SLOTS):
            assert self.book.add_slot() == slot
            self.book.open_slot(slot, True)

    @rule(slot=st.integers(0, SLOTS - 1), amount=st.integers(0, 300), lasts_ms=st.integers(0, 200))
    def open_lease(self, slot: int, amount: int, lasts_ms: int) -> None:
        self.book.take_idle(slot)
        if self.book.attend(slot).ways_free == 0:
            return
        end_ms = self.now_ms + lasts_ms
        self.book.open_lease(slot, self.next_lease, amount, end_ms, LONG_MS)
        self.plain.leases[slot] = PlainLease(self.next_lease, amount, end_ms, LONG_MS)
        self.next_lease += 1

    @rule(
        rows=st.lists(
            st.lists(st.tuples(st.integers(-1, SLOTS - 1), st.integers(1, 90)), min_size=5, max_size=5), max_size=4
        ),
        wanted=st.integers(1, 3),
    )
    def place(self, rows: list[list[tuple[int, int]]], wanted: int) -> None:
        n = len(rows)
        slots = np.array([[slot for slot, _ in row] for row in rows], np.int32).reshape(n, 5)
        bids = np.array([[bid for _, bid in row] for row in rows], np.int64).reshape(n, 5)
        choice, lease_ids, seqs = outputs(n, wanted)
        before = self.plain.next_seq
        run = self.book.place(slots, bids, self.now_ms, self.now_ms, choice, lease_ids, seqs)
        expected = [self.plain.place(s, b, wanted, self.now_ms, self.now_ms) for s, b in zip(slots, bids, strict=True)]
        found = np.stack([choice.astype(np.int64), lease_ids.astype(np.int64), seqs.astype(np.int64)], axis=2)
        assert found.tolist() == [[list(answer) for answer in row] for row in expected]
        assert run == (before, self.plain.next_seq - before)

    def any_hold(self, pick: int) -> tuple[int, int]:
        seq = FIRST + pick % (self.plain.next_seq - FIRST)
        return seq, self.plain.holds[seq].lease.lease_id

    @precondition(lambda self: self.plain.holds)
    @rule(
        pick=st.integers(0, 10**6),
        kind=st.sampled_from([OutcomeKind.WIN, OutcomeKind.BILLABLE, OutcomeKind.LOSS]),
        told=st.integers(0, 95),
    )
    def report(self, pick: int, kind: OutcomeKind, told: int) -> None:
        seq, lease_id = self.any_hold(pick)
        claims = claim(kind, lease_id, seq, told)
        self.book.classify(claims, self.now_ms)
        expected = self.plain.report(kind, seq, told, self.now_ms)
        assert claims["status"][0] == expected
        if expected == 0:
            assert claims["route"][0] == kernels.ROUTE_HELD
            self.pinned.append((claims, told))

    @precondition(lambda self: self.pinned)
    @rule(is_durable=st.booleans())
    def conclude(self, is_durable: bool) -> None:
        claims, told = self.pinned.pop(0)
        charged = told if is_durable else -1
        self.book.conclude(claims, np.array([charged]), self.now_ms)
        self.plain.conclude(int(claims["hold_seq"][0]), charged, self.now_ms)

    @precondition(lambda self: self.plain.holds)
    @rule(pick=st.integers(0, 10**6), count=st.integers(0, 6))
    def close_run(self, pick: int, count: int) -> None:
        seq, _ = self.any_hold(pick)
        self.book.close_responses(np.array([seq], np.uint64), np.array([count], np.uint32))
        self.plain.close_run(seq, count)

    @rule(ms=st.integers(0, 70))
    def wait(self, ms: int) -> None:
        self.now_ms += ms
        self.book.sweep(self.now_ms)
        self.plain.sweep(self.now_ms)

    @rule(ms=st.integers(0, 70))
    def wait_unswept(self, ms: int) -> None:
        self.now_ms += ms

    @invariant()
    def same_money(self) -> None:
        for slot, lease in self.plain.leases.items():
            ours = {int(x["lease_id"]): x for x in self.book.leases_of(slot)}
            if lease.lease_id in ours:
                found = ours[lease.lease_id]
                got = [int(found[f"{where}_micros"]) for where in ("free", "held", "billed", "doubtful")]
                assert got == [lease.free, lease.held, lease.billed, lease.doubtful]
                assert found["live_holds"] == len(lease.live)


BookMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestBook = BookMachine.TestCase


class SharedBookMachine(BookMachine):
    """The same where other servers may take notices."""

    is_shared = True


SharedBookMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestSharedBook = SharedBookMachine.TestCase


def book_with_lease(capacity: int, amount: int, bound: int = 2**20) -> HoldBook:
    book = HoldBook(capacity, FIRST, FIRST + bound, WIN_MS, BILLING_MS)
    book.open_slot(book.add_slot(), True)
    book.open_lease(0, 5, amount, LONG_MS, LONG_MS)
    return book


def place_many(book: HoldBook, n: int, now_ms: int, bid: int = 1) -> tuple[np.ndarray, np.ndarray]:
    choice, lease_ids, seqs = outputs(n, 1)
    book.place(np.zeros((n, 1), np.int32), np.full((n, 1), bid), now_ms, now_ms, choice, lease_ids, seqs)
    return choice[:, 0], seqs[:, 0]


def test_no_viewers_and_no_rows() -> None:
    book = book_with_lease(16, 100)
    assert book.place(np.zeros((0, 3), np.int32), np.zeros((0, 3), np.int64), 0, 0, *outputs(0, 2)) == (FIRST, 0)
    book.classify(np.zeros(0, kernels.CLAIM), 0)
    book.close_responses(np.zeros(0, np.uint64), np.zeros(0, np.uint32))
    assert book.next_seq == FIRST


def test_full_ring_refuses_until_holds_lapse() -> None:
    book = book_with_lease(16, 100)
    choice, _ = place_many(book, 20, now_ms=0)
    assert choice.tolist() == [0] * 16 + [kernels.REFUSED_FULL] * 4
    assert place_many(book, 1, now_ms=WIN_MS)[0].tolist() == [kernels.REFUSED_FULL]
    assert place_many(book, 1, now_ms=WIN_MS + 1)[0].tolist() == [0], "a lapsed hold makes room without a sweep"


def test_long_lived_holds_are_passed_over() -> None:
    book = book_with_lease(16, 100)
    _, seqs = place_many(book, 16, now_ms=0)
    won = np.concatenate([claim(OutcomeKind.WIN, 5, int(seq), 1) for seq in seqs[:3]])
    book.classify(won, 0)
    assert won["status"].tolist() == [RowStatus.ACCEPTED] * 3
    choice, again = place_many(book, 13, now_ms=WIN_MS + 1)
    assert choice.tolist() == [0] * 13
    assert again[0] == seqs[0] + 16 + 3, "the three won holds keep their places"
    lost = claim(OutcomeKind.LOSS, 5, int(seqs[0]), 0)
    book.classify(lost, WIN_MS + 1)
    assert lost["status"][0] == RowStatus.ACCEPTED


def test_sequences_stop_at_their_durable_bound() -> None:
    book = book_with_lease(16, 100, bound=2)
    assert place_many(book, 3, now_ms=0)[0].tolist() == [0, 0, kernels.REFUSED_FULL]
    book.allow_until(FIRST + 3)
    assert place_many(book, 2, now_ms=0)[0].tolist() == [0, kernels.REFUSED_FULL]


def test_forgotten_and_foreign_holds_are_unknown() -> None:
    book = book_with_lease(16, 100)
    _, seqs = place_many(book, 1, now_ms=0)
    for lease_id, seq in ((6, int(seqs[0])), (5, int(seqs[0]) + 16), (5, 3)):
        claims = claim(OutcomeKind.BILLABLE, lease_id, seq, 1)
        book.classify(claims, 0)
        assert (claims["status"][0], claims["route"][0]) == (0, kernels.ROUTE_UNKNOWN)


def test_other_kinds_are_left_alone() -> None:
    book = book_with_lease(16, 100)
    claims = claim(OutcomeKind.FOLLOW, 5, FIRST, 0)
    book.classify(claims, 0)
    assert (claims["status"][0], claims["route"][0]) == (0, kernels.ROUTE_NONE)


@pytest.mark.parametrize("asked", [0, 1, 40])
def test_survey_lists_slots_that_need_attention(asked: int) -> None:
    book = book_with_lease(64, 100)
    book.open_slot(book.add_slot(), True)
    place_many(book, asked, now_ms=0)
    low = asked > 20  # less free than twice what was asked
    assert book.survey(0, 10) == ([0] if low else [])
    assert book.survey(LONG_MS - 10, 10) == [0], "its lease ends"


def test_peak_rises_at_once_and_fades() -> None:
    book = book_with_lease(64, 1_000)
    place_many(book, 1, now_ms=0, bid=800)
    book.survey(0, 0)
    peaks = [book.attend(0).peak_micros]
    while peaks[-1]:
        book.survey(0, 0)
        peaks.append(book.attend(0).peak_micros)
    assert peaks[0] == 800 and len(peaks) < 80
    assert all(a > b for a, b in pairwise(peaks))


def test_a_wrapped_ring_sweeps_what_is_left() -> None:
    book = book_with_lease(16, 100)
    for round_ in range(10):
        _, seqs = place_many(book, 7, now_ms=round_)
        book.close_responses(seqs[:1], np.array([7], np.uint32))
    place_many(book, 5, now_ms=20)
    book.sweep(20 + WIN_MS)
    assert book.leases_of(0)["held_micros"].tolist() == [5]
    book.sweep(21 + WIN_MS)
    assert book.leases_of(0)["held_micros"].tolist() == [0]
    assert book.leases_of(0)["free_micros"].tolist() == [100]
