"""The journal: what was accepted comes back, what a crash cut short is dropped, what is damaged is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as limits
from hypothesis import strategies as st

from auction.audience.journal import MAX_BODY_BYTES, Journal

RECORDS = [(1, b"first"), (2, b""), (255, bytes(300)), (1, b"last one")]


def written(path: Path, records: list[tuple[int, bytes]]) -> list[int]:
    """Write a journal; where each record ends."""
    journal = Journal(path)
    ends = []
    for kind, body in records:
        journal.append(kind, body)
        ends.append(journal.size_bytes)
    journal.close()
    return ends


def read(path: Path) -> list[tuple[int, bytes]]:
    journal = Journal(path)
    try:
        return list(journal.records())
    finally:
        journal.close()


@limits(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=50)), max_size=4), max_size=4))
def test_records_come_back_in_order_over_restarts(tmp_path: Path, sessions: list[list[tuple[int, bytes]]]) -> None:
    path = tmp_path / "journal"
    path.unlink(missing_ok=True)
    for session in sessions:
        written(path, session)
    assert read(path) == [record for session in sessions for record in session]


def test_a_tail_cut_at_any_byte_is_dropped_and_writing_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    ends = written(path, RECORDS)
    whole = path.read_bytes()
    for size in range(ends[-2], ends[-1]):
        path.write_bytes(whole[:size])
        assert read(path) == RECORDS[:-1]
        assert path.stat().st_size == ends[-2]
        written(path, [(7, b"after")])
        assert read(path) == [*RECORDS[:-1], (7, b"after")]


@pytest.mark.parametrize("zeros", [1, 8, 13, 14, 5_000])
def test_a_tail_of_zeros_is_dropped(tmp_path: Path, zeros: int) -> None:
    path = tmp_path / "journal"
    ends = written(path, RECORDS)
    path.write_bytes(path.read_bytes() + bytes(zeros))
    assert read(path) == RECORDS
    assert path.stat().st_size == ends[-1]


def test_a_last_record_whose_body_never_came_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    ends = written(path, RECORDS)
    path.write_bytes(path.read_bytes()[: -len(b"last one")] + bytes(len(b"last one")))
    assert read(path) == RECORDS[:-1]
    assert path.stat().st_size == ends[-2]


def test_any_damage_in_the_middle_is_named_and_nothing_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    ends = written(path, [(1, b"first"), (2, b"second"), (3, b"third")])
    whole = path.read_bytes()
    for place in range(ends[1]):
        damaged = whole[:place] + bytes([whole[place] ^ 0x80]) + whole[place + 1 :]
        path.write_bytes(damaged)
        start = 0 if place < ends[0] else ends[0]
        with pytest.raises(ValueError, match=f"the record at byte {start} is damaged"):
            Journal(path)
        assert path.read_bytes() == damaged


def test_a_record_that_is_too_long_is_refused(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    with pytest.raises(ValueError, match=f"{MAX_BODY_BYTES + 1} bytes; at most {MAX_BODY_BYTES}"):
        journal.append(1, bytes(MAX_BODY_BYTES + 1))
    assert journal.size_bytes == 0
    journal.close()


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    written(path, RECORDS)
    assert path.stat().st_mode & 0o077 == 0
