"""A transaction is made whole or not at all, also where SQLite has undone it before anybody asked."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest

from pacing.durable import transaction


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.execute("CREATE TABLE rows (number INTEGER PRIMARY KEY)")
    yield db
    db.close()


def numbers_in(db: sqlite3.Connection) -> list[int]:
    assert not db.in_transaction
    return [number for (number,) in db.execute("SELECT number FROM rows ORDER BY number")]


def test_what_was_done_inside_is_there(db: sqlite3.Connection) -> None:
    with transaction(db):
        db.executemany("INSERT INTO rows VALUES (?)", [(1,), (2,)])
    assert numbers_in(db) == [1, 2]


def test_nothing_of_it_is_there_when_the_block_raises(db: sqlite3.Connection) -> None:
    with pytest.raises(KeyboardInterrupt), transaction(db):
        db.execute("INSERT INTO rows VALUES (1)")
        raise KeyboardInterrupt
    assert numbers_in(db) == []


def test_an_error_that_undid_it_itself_comes_out_as_it_is(db: sqlite3.Connection) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"), transaction(db):
        db.execute("INSERT INTO rows VALUES (1)")
        db.execute("INSERT OR ROLLBACK INTO rows VALUES (1)")
    assert numbers_in(db) == []
