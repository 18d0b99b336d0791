"""Transactions and files are made whole or not at all, also where SQLite has undone one before anybody asked."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from pacing.durable import transaction, whole_file


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


def test_a_file_takes_the_place_of_the_old_one_when_all_of_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "x.state"
    path.write_bytes(b"old")
    with whole_file(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new" and [found.name for found in tmp_path.iterdir()] == ["x.state"]


def test_what_fails_half_way_leaves_the_old_file_and_is_no_obstacle_later(tmp_path: Path) -> None:
    path = tmp_path / "x.state"
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match="half way"), whole_file(path) as file:
        file.write(b"a longer one")
        raise ValueError("half way")
    assert path.read_bytes() == b"old"
    with whole_file(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"), whole_file(tmp_path / "nowhere" / "x"):
        pass
